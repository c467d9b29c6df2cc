/** Stores that keep PINs and requests wrongly, in one thing each, by the rule that says so. */
import { setImmediate as turn } from 'node:timers/promises'
import type {
  BlockAcceptance,
  BlockRequest,
  CardRef,
  StoredPinBlock,
  StoredPrw,
} from '../../../src/d1/endpoints/interfaces.js'
import type { CardPinStore } from '../../../src/stores/issuer-store.js'
import { cardChanged } from '../../../src/stores/records.js'
import { blockOf, CARD, OTHER_ISSUER } from '../../../src/testing/store-contract-cards.js'
import { callOf, type Faults, inOne, inOther, lenient, type Plant } from '../../support/faulty-store.js'
import { keyOf, plain } from './cards.js'

type Accept = CardPinStore['acceptBlock']

const refOf = ({ issuerId, cardId }: CardRef): CardRef => ({ issuerId, cardId })
const hexOf = ({ digest }: BlockRequest): string => Buffer.from(digest).toString('hex')

const readingBlock =
  (change: (pin: StoredPinBlock) => StoredPinBlock): Plant =>
  ({ pins }) => ({
    pins: {
      readBlock: async (...call) => {
        const pin = await pins.readBlock(...call)
        return pin && change(pin)
      },
    },
  })

/** What was read first is read ever after, by whoever writes what. */
const readingOnce: Plant = ({ pins }) => {
  let first: StoredPinBlock | undefined
  return {
    pins: {
      readBlock: async (...call) => {
        first ??= await pins.readBlock(...call)
        return first
      },
    },
  }
}

const readingPrw =
  (change: (prw: StoredPrw) => object): Plant =>
  ({ pins }) => ({
    pins: {
      readPrw: async (...call) => {
        const prw = await pins.readPrw(...call)
        return prw && { ...prw, ...change(prw) }
      },
    },
  })

/** What becomes of a request: the answer is told by `told`, after `also` was done. */
const accepting =
  (
    told: (answer: BlockAcceptance, isSame: boolean) => BlockAcceptance,
    also: (
      pins: CardPinStore,
      answer: BlockAcceptance,
      call: Parameters<Accept>,
    ) => Promise<unknown> = async () => {},
  ): Plant =>
  ({ pins }) => {
    return {
      pins: {
        acceptBlock: async (...call) => {
          const [card, pin] = call
          const answer = await pins.acceptBlock(...call)
          await also(pins, answer, call)
          const now = await pins.readBlock(card)
          return told(answer, now?.block.join() === pin.block.join())
        },
      },
    }
  }

const asItIs = (answer: BlockAcceptance): BlockAcceptance => answer

/** What this handle wrote last is what it reads. */
const readsItsOwn: Plant = ({ pins }) => {
  const blocks = new Map<string, StoredPinBlock>()
  return {
    pins: {
      storeBlock: async (card, pin) => {
        blocks.set(keyOf(card), structuredClone(pin))
        await pins.storeBlock(card, pin)
      },
      readBlock: async (card, options) => blocks.get(keyOf(card)) ?? pins.readBlock(card, options),
    },
  }
}

/** The PIN that is there when a PIN of the other kind is stored is read besides. */
const besides =
  (kind: 'block' | 'prw'): Plant =>
  ({ pins }) => {
    const blocks = new Map<string, StoredPinBlock | undefined>()
    const prws = new Map<string, StoredPrw | undefined>()
    const keep = async (card: CardRef): Promise<void> => {
      if (kind === 'block') blocks.set(keyOf(card), (await pins.readBlock(card)) ?? blocks.get(keyOf(card)))
      else prws.set(keyOf(card), (await pins.readPrw(card)) ?? prws.get(keyOf(card)))
    }
    return {
      pins: {
        storeBlock: async (card, pin) => {
          await keep(card)
          await pins.storeBlock(card, pin)
        },
        acceptBlock: async (card, ...rest) => {
          await keep(card)
          return pins.acceptBlock(card, ...rest)
        },
        storePrw: async (card, ...rest) => {
          await keep(card)
          await pins.storePrw(card, ...rest)
        },
        readBlock: async (card, options) => (await pins.readBlock(card, options)) ?? blocks.get(keyOf(card)),
        readPrw: async (card, options) => (await pins.readPrw(card, options)) ?? prws.get(keyOf(card)),
      },
    }
  }

/** PRWs are stored as they come, with a sequence of the database's own: what else decides is `mayStore`. */
const deciding =
  (mayStore: (now: StoredPrw | undefined, prw: StoredPrw) => boolean): Plant =>
  ({ pins }) => {
    let order = 1000
    const readPrw: CardPinStore['readPrw'] = async (...call) => {
      const prw = await pins.readPrw(...call)
      return prw && { ...prw, sequence: Number(prw.pcc) }
    }
    return {
      pins: {
        readPrw,
        storePrw: async (card, prw) => {
          if (!mayStore(await readPrw(card), prw)) return
          await turn()
          order++
          await pins.storePrw(card, { ...prw, sequence: order })
        },
      },
    }
  }

/** The block is stored, and whatever was known of sequences is forgotten. */
const forgettingSequence: Plant = ({ cards, pins }) => {
  const forget = async (card: CardRef): Promise<void> => {
    const was = await cards.find(card)
    if (was === undefined || (await pins.readPrw(card)) === undefined) return
    await cards.remove(card)
    await cards.put(card, plain(was))
  }
  return {
    pins: {
      storeBlock: async (card, pin) => {
        await forget(card)
        await pins.storeBlock(refOf(card), pin)
      },
      acceptBlock: async (card, pin, request) => {
        if (!(await pins.knowsRequest(request.digest))) await forget(card)
        return pins.acceptBlock(refOf(card), pin, request)
      },
    },
  }
}

/** Once their time is looked at all requests of these issuers are forgotten, too. */
const forgettingBesides =
  (issuerIds: readonly string[]): Plant =>
  ({ pins }) => ({
    pins: {
      forgetRequests: async which => {
        const count = await pins.forgetRequests(which)
        if (which.acceptedBefore !== undefined)
          await pins.forgetRequests({ issuerIds, jweKids: ['JWE-NONE'] })
        return count
      },
    },
  })

/** Kinds of wrong PINs and requests, each of which is taken. */
const taking =
  (
    name: 'storeBlock' | 'storePrw' | 'acceptBlock' | 'forgetRequests',
    is: (given: { readonly [member: string]: unknown }) => boolean,
  ): Plant =>
  good => {
    const call = callOf(good.pins, name)
    const at = { forgetRequests: 0, storeBlock: 1, storePrw: 1, acceptBlock: 2 }[name]
    const taken = async (...given: readonly unknown[]) => (is(Object(given[at])) ? undefined : call(...given))
    return { pins: { [name]: taken as () => Promise<never> } }
  }

const lengthOf = (value: unknown): number => (value instanceof Uint8Array ? value.length : -1)
const isNobody = (given: object): boolean => Object.keys(given).length === 0

/** Looks at no sequence but at those that it wrote itself. */
const knowingOwn: Plant = ({ cards, pins }) => {
  let last = -1
  return {
    pins: {
      storePrw: async (card, prw) => {
        if (prw.sequence < last) return
        last = prw.sequence
        const was = await cards.find(card)
        await cards.remove(card)
        if (was) await cards.put(card, plain(was))
        await pins.storePrw(card, prw)
      },
    },
  }
}

export const PIN_FAULTS: Faults = {
  'a card without a PIN has none to read': {
    'who is no card has a block': ({ cards, pins }) => ({
      pins: {
        readBlock: async (card, options) =>
          (await cards.find(card)) === undefined ? blockOf(0) : pins.readBlock(card, options),
      },
    }),
    'a new card has a block': ({ cards, pins }) => ({
      pins: {
        readBlock: async (card, options) =>
          (await pins.readBlock(card, options)) ?? ((await cards.find(card)) && blockOf(0)),
      },
    }),
  },

  'a PIN cannot be stored for a card that is not there': {
    'it is taken and not stored, as a block': lenient('pins', 'storeBlock', 'ERR_BACKEND_FAILED'),
    'it is taken and not stored, as a PRW': lenient('pins', 'storePrw', 'ERR_BACKEND_FAILED'),
    'it is where another issuer has the card': ({ cards, pins }) => ({
      pins: {
        storeBlock: async (card, pin) => {
          if (await cards.find({ ...card, issuerId: OTHER_ISSUER.issuerId }))
            if ((await cards.find(card)) === undefined) return
          await pins.storeBlock(card, pin)
        },
      },
    }),
    'it is refused, and read from then on': ({ pins }) => {
      let late: StoredPinBlock | undefined
      return {
        pins: {
          storeBlock: (card, pin) =>
            pins.storeBlock(card, pin).catch(error => {
              late = pin
              throw error
            }),
          readBlock: async (...call) => (await pins.readBlock(...call)) ?? late,
        },
      }
    },
    'it is refused, and there when the card is': ({ cards, pins }) => {
      let late: StoredPinBlock | undefined
      return {
        pins: {
          storeBlock: (card, pin) =>
            pins.storeBlock(card, pin).catch(error => {
              late = pin
              throw error
            }),
          readBlock: async (card, options) =>
            (await pins.readBlock(card, options)) ?? ((await cards.find(card)) && late),
        },
      }
    },
    'nor later, when the card is there': ({ pins }) => {
      let wasRefused = false
      return {
        pins: {
          storeBlock: async (...call) => {
            if (wasRefused) return
            await pins.storeBlock(...call).catch(error => {
              wasRefused = true
              throw error
            })
          },
        },
      }
    },
  },

  'a block is read as it was stored': {
    'a kid is ASCII': readingBlock(({ block, kid }) => ({ block, kid: kid.replace(/[^ -~]/gu, '?') })),
    'a kid has no quotes': readingBlock(({ block, kid }) => ({ block, kid: kid.replaceAll('"', '') })),
    'a block is 8 bytes': readingBlock(({ block, kid }) => ({ block: block.slice(0, 8), kid })),
    'a block is a Buffer': readingBlock(({ block, kid }) => ({ block: Buffer.from(block), kid })),
    'a member is added': readingBlock(pin => ({ ...pin, more: 'ignored' })),
    'the same block again is refused': ({ pins }) => ({
      pins: {
        storeBlock: async (card, pin) => {
          if ((await pins.readBlock(card))?.block.join() === pin.block.join()) throw cardChanged()
          await pins.storeBlock(card, pin)
        },
      },
    }),
    'the first one stays': ({ pins }) => ({
      pins: {
        storeBlock: async (card, pin) =>
          void ((await pins.readBlock(card)) ?? (await pins.storeBlock(card, pin))),
      },
    }),
    'another handle does not see it': inOther(readingOnce),
  },

  'what was stored is a copy': {
    'what is stored is what was given': ({ pins }) => {
      let given: StoredPinBlock | undefined
      return {
        pins: {
          storeBlock: async (card, pin) => {
            given = pin
            await pins.storeBlock(card, pin)
          },
          readBlock: async () => given && structuredClone(given),
        },
      }
    },
    'what is read is what is stored': readingOnce,
  },

  'a PRW is read as it was stored': {
    'what proves it is lost': readingPrw(() => ({ evidence: undefined })),
    'what does not prove it is undefined': readingPrw(({ evidence }) => ({ evidence })),
    'its intdatag is lost': ({ pins }) => ({
      pins: {
        readPrw: async (...call) => {
          const prw = await pins.readPrw(...call)
          const { intdatag: _, ...others } = prw ?? {}
          return prw && (others as StoredPrw)
        },
      },
    }),
    'its profile has no quotes': readingPrw(({ profile: { name, version } }) => ({
      profile: { name: name.replaceAll('"', ''), version },
    })),
    'its data set is in lower case': readingPrw(({ prwDataSet }) => ({
      prwDataSet: prwDataSet.toLowerCase(),
    })),
    'its PCC is a number': readingPrw(({ pcc }) => ({ pcc: String(Number(pcc)) })),
    'its sequence has 32 bits': readingPrw(({ sequence }) => ({ sequence: sequence % 2 ** 32 })),
    'a member is added': readingPrw(() => ({ more: 'ignored' })),
  },

  'a block and a PRW take each other’s place': {
    'a block leaves the PRW': besides('prw'),
    'a PRW leaves the block': besides('block'),
    'a PRW leaves no PIN': ({ cards, pins }) => ({
      pins: {
        storePrw: async (card, prw) => {
          const was = await cards.find(card)
          await pins.storePrw(card, prw)
          await cards.remove(card)
          if (was) await cards.put(card, plain(was))
        },
      },
    }),
    'a block does not come over a PRW': ({ pins }) => ({
      pins: {
        storeBlock: async (card, pin) =>
          void ((await pins.readPrw(card)) ?? (await pins.storeBlock(card, pin))),
      },
    }),
  },

  'a PRW does not write over one of a higher sequence': {
    'the last one counts': deciding(() => true),
    'an instance knows only of what it wrote itself': { handles: { one: knowingOwn, other: knowingOwn } },
    'sequences are compared as text': deciding(
      (now, { sequence }) => !now || String(sequence) >= String(now.sequence),
    ),
    'one of the same sequence is refused': ({ pins }) => ({
      pins: {
        storePrw: async (card, prw) => {
          if ((await pins.readPrw(card))?.sequence !== prw.sequence) await pins.storePrw(card, prw)
        },
      },
    }),
  },

  'a PRW that comes late does not write over the block': {
    'a block forgets the sequence': forgettingSequence,
    'the same PRW comes over it': ({ cards, pins }) => {
      let highest = 0
      return {
        pins: {
          storePrw: async (card, prw, claim) => {
            const was = prw.sequence === highest ? await cards.find(card) : undefined
            highest = Math.max(highest, prw.sequence)
            // Who comes back has no sequence.
            if (was !== undefined) await cards.remove(card)
            if (was !== undefined) await cards.put(card, plain(was))
            await pins.storePrw(card, prw, claim)
          },
        },
      }
    },
    'none comes over it': ({ pins }) => ({
      pins: {
        storePrw: async (card, prw) =>
          void ((await pins.readBlock(card)) ?? (await pins.storePrw(card, prw))),
      },
    }),
  },

  'what is no PIN is refused': {
    'a block that is no object is taken': taking('storeBlock', isNobody),
    'a block of 7 bytes is taken': taking('storeBlock', ({ block }) => lengthOf(block) === 7),
    'a block of 15 bytes is taken': taking('storeBlock', ({ block }) => lengthOf(block) === 15),
    'a block as hex is taken': taking('storeBlock', ({ block }) => typeof block === 'string'),
    'a block without a kid is taken': taking('storeBlock', given => !('kid' in given) && !isNobody(given)),
    'a kid with a line feed is taken': taking('storeBlock', ({ kid }) => kid === 'a\nb'),
    'a PRW that is no object is taken': taking('storePrw', isNobody),
    'no value is taken': taking('storePrw', ({ prwValue }) => prwValue === ''),
    'a value with a NUL is taken': taking('storePrw', ({ prwValue }) => prwValue === 'a\0'),
    'no kid is taken': taking('storePrw', given => !isNobody(given) && given['prwKid'] === undefined),
    'a short data set is taken': taking('storePrw', ({ prwDataSet }) => prwDataSet === '00'),
    'a PCC of five digits is taken': taking('storePrw', ({ pcc }) => pcc === '00001'),
    'a sequence as text is taken': taking('storePrw', ({ sequence }) => sequence === '2'),
    'a broken sequence is taken': taking('storePrw', ({ sequence }) => sequence === 1.5),
    'a negative sequence is taken': taking('storePrw', ({ sequence }) => sequence === -1),
    'a sequence of nothing is taken': taking('storePrw', ({ sequence }) => sequence === 0),
    'no profile is taken': taking('storePrw', given => !isNobody(given) && given['profile'] === undefined),
    'a profile without a version is taken': taking(
      'storePrw',
      ({ profile }) => JSON.stringify(profile) === '{"name":"x"}',
    ),
    'an unknown provenance is taken': taking('storePrw', ({ provenance }) => provenance === 'public'),
    'a short intdatag is taken': taking('storePrw', ({ intdatag }) => String(intdatag).length === 19),
    'what was there goes': ({ cards, pins }) => ({
      pins: {
        storeBlock: (card, pin) =>
          pins.storeBlock(card, pin).catch(async error => {
            const was = await cards.find(card)
            await cards.remove(card)
            if (was) await cards.put(card, plain(was))
            throw error
          }),
      },
    }),
  },

  'of many blocks stored at once, one is there, whole': {
    'none is': ({ pins }) => {
      let writers = 0
      return {
        pins: {
          storeBlock: async (card, pin) => {
            writers++
            await turn()
            if (writers === 1) await pins.storeBlock(card, pin)
          },
        },
      }
    },
    'it has the kid of another': ({ pins }) => {
      let kid: string | undefined
      return {
        pins: {
          storeBlock: async (card, pin) => {
            kid ??= pin.kid
            await pins.storeBlock(card, { block: pin.block, kid })
          },
        },
      }
    },
    'each handle has its own': inOne(readsItsOwn),
  },

  'of many PRWs stored at once, the one of the highest sequence is there': {
    'the sequence is looked at before the write': deciding(
      (now, { sequence }) => !now || sequence >= now.sequence,
    ),
  },

  'blocks and PRWs stored at once leave one PIN': {
    'two are there': ({ pins }) => {
      let last: StoredPinBlock | undefined
      return {
        pins: {
          storeBlock: (card, pin) => {
            last = pin
            return pins.storeBlock(card, pin)
          },
          readBlock: async () => last,
        },
      }
    },
    'none is there': ({ pins }) => {
      let writers = 0
      const alone = async (write: () => Promise<void>): Promise<void> => {
        writers++
        await turn()
        if (writers === 1) await write()
      }
      return {
        pins: {
          storeBlock: (...call) => alone(() => pins.storeBlock(...call)),
          storePrw: (...call) => alone(() => pins.storePrw(...call)),
        },
      }
    },
    'each handle has its own': inOther(({ pins }) => {
      let last: StoredPrw | undefined
      return {
        pins: {
          storePrw: async (card, prw) => {
            last = prw
            await pins.storePrw(card, { ...prw, sequence: 1 }).catch(() => {})
          },
          readPrw: async () => last,
          readBlock: async (...call) => (last ? undefined : pins.readBlock(...call)),
        },
      }
    }),
  },

  'a card that is removed while PINs are stored': {
    'it is removed, and said not to be': ({ cards, pins }) => ({
      cards: {
        remove: async card => {
          const pin = await pins.readBlock(card)
          await cards.remove(card)
          if (pin) throw cardChanged()
        },
      },
    }),
    'the PIN that was stored last is there still': ({ cards, pins }) => {
      let last: StoredPinBlock | undefined
      return {
        cards: {
          put: async (...call) => {
            last = undefined
            await cards.put(...call)
          },
        },
        pins: {
          storeBlock: async (card, pin) => {
            await pins.storeBlock(card, pin)
            last = pin
          },
          readBlock: async (...call) => (await pins.readBlock(...call)) ?? last,
        },
      }
    },
  },
}

const STORED: BlockAcceptance = { outcome: 'stored' }

export const REQUEST_FAULTS: Faults = {
  'a request stores its block once': {
    'it stores it as often as it comes': ({ pins }) => ({
      pins: {
        acceptBlock: async (card, pin) => {
          await pins.storeBlock(card, pin)
          return STORED
        },
      },
    }),
    'it is stored once more, and not said so': accepting(asItIs, async (pins, answer, [card, pin]) => {
      if (answer.outcome === 'replayed') await pins.storeBlock(card, pin)
    }),
    'its PIN is never the card’s still': accepting(answer =>
      answer.outcome === 'replayed' ? { outcome: 'replayed', current: false } : answer,
    ),
    'its PIN is always the card’s still': accepting(answer =>
      answer.outcome === 'replayed' ? { outcome: 'replayed', current: true } : answer,
    ),
    'another handle does not know it': inOther(({ pins }) => ({
      pins: {
        acceptBlock: (card, pin, request) =>
          pins.acceptBlock(card, pin, { ...request, digest: request.digest.map(byte => ~byte) }),
      },
    })),
    'the second request is a repeated one': ({ pins }) => ({
      pins: {
        acceptBlock: (card, pin, request) =>
          pins.acceptBlock(card, pin, { ...request, digest: new Uint8Array(32) }),
      },
    }),
  },

  'a request that was for one card changes no other': {
    'it is taken for a repeated one': accepting(answer =>
      answer.outcome === 'misdirected' ? { outcome: 'replayed', current: false } : answer,
    ),
    'it is another issuer’s own': ({ pins }) => ({
      pins: {
        acceptBlock: (card, pin, request) => {
          const digest = request.digest.map((byte, i) => (i === 0 ? Number(card.issuerId.at(-1)) : byte))
          return pins.acceptBlock(card, pin, { ...request, digest })
        },
      },
    }),
    'it stores its block all the same': accepting(asItIs, async (pins, answer, [card, pin]) => {
      if (answer.outcome === 'misdirected') await pins.storeBlock(card, pin)
    }),
    'its own card’s PIN goes': accepting(asItIs, async (pins, answer) => {
      if (answer.outcome === 'misdirected') await pins.storeBlock(CARD, blockOf(1))
    }),
  },

  'a block or a PRW that comes by another way': {
    'whether its PIN is the card’s is told by the block': accepting((answer, isSame) =>
      answer.outcome === 'replayed' ? { outcome: 'replayed', current: isSame } : answer,
    ),
    'a PRW leaves its PIN the card’s': good => {
      let last: string | undefined
      return {
        pins: {
          storeBlock: (...call) => {
            last = undefined
            return good.pins.storeBlock(...call)
          },
          acceptBlock: async (card, pin, request) => {
            const answer = await good.pins.acceptBlock(card, pin, request)
            if (answer.outcome === 'stored') last = hexOf(request)
            return answer.outcome === 'replayed' ? { ...answer, current: last === hexOf(request) } : answer
          },
        },
      }
    },
    'it comes over a PRW once more': accepting(asItIs, async (pins, answer, [card, pin]) => {
      if (answer.outcome === 'replayed' && (await pins.readPrw(card))) await pins.storeBlock(card, pin)
    }),
    'a request’s block leaves the PRW': ({ pins }) => {
      let kept: StoredPrw | undefined
      return {
        pins: {
          acceptBlock: async (card, ...rest) => {
            kept = await pins.readPrw(card)
            return pins.acceptBlock(card, ...rest)
          },
          readPrw: async (...call) => (await pins.readPrw(...call)) ?? kept,
        },
      }
    },
    'a request’s block does not come over a PRW': ({ pins }) => ({
      pins: {
        acceptBlock: async (card, ...rest) =>
          (await pins.readPrw(card)) ? STORED : pins.acceptBlock(card, ...rest),
      },
    }),
    'a request’s block forgets the sequence': forgettingSequence,
  },

  'whether a request is known': {
    'every one is': ({ pins }) => ({
      pins: { knowsRequest: (...call) => pins.knowsRequest(...call).then(() => true) },
    }),
    'one is that was asked for': ({ pins }) => {
      const asked = new Set<string>()
      return {
        pins: {
          knowsRequest: async (digest, options) => {
            const isKnown = await pins.knowsRequest(digest, options)
            const wasAsked = asked.has(digest.join())
            asked.add(digest.join())
            return isKnown || wasAsked
          },
        },
      }
    },
    'none is': ({ pins }) => ({
      pins: { knowsRequest: (...call) => pins.knowsRequest(...call).then(() => false) },
    }),
    'another handle does not know it': inOther(({ pins }) => ({
      pins: { knowsRequest: (...call) => pins.knowsRequest(...call).then(() => false) },
    })),
    'any is, once one is': ({ pins }) => {
      let isAny = false
      return {
        pins: {
          acceptBlock: (...call) => {
            isAny = true
            return pins.acceptBlock(...call)
          },
          knowsRequest: (...call) => pins.knowsRequest(...call).then(() => isAny),
        },
      }
    },
    'one is as long as its PIN is the card’s': ({ pins }) => {
      let last: string | undefined
      return {
        pins: {
          acceptBlock: (card, pin, request) => {
            last = request.digest.join()
            return pins.acceptBlock(card, pin, request)
          },
          knowsRequest: async (digest, options) =>
            (await pins.knowsRequest(digest, options)) && last === digest.join(),
        },
      }
    },
    'one is as long as there is its card': ({ cards, pins }) => ({
      pins: {
        knowsRequest: async (...call) =>
          (await pins.knowsRequest(...call)) && (await cards.find(CARD)) !== undefined,
      },
    }),
    'a digest of 31 bytes is taken': lenient('pins', 'knowsRequest', 'ERR_ARGUMENT'),
    'the signal is not looked at': ({ pins }) => ({
      pins: { knowsRequest: digest => pins.knowsRequest(digest) },
    }),
  },

  'a request is remembered longer than its card': {
    'it is forgotten with it': ({ cards, pins }) => ({
      cards: {
        remove: async card => {
          await cards.remove(card)
          await pins.forgetRequests({ issuerIds: [card.issuerId], jweKids: ['JWE-NONE'] })
        },
      },
    }),
    'where there is no card, nothing is said': lenient('pins', 'acceptBlock', 'ERR_BACKEND_FAILED'),
    'it is remembered where it was refused': ({ pins }) => {
      const refused = new Set<string>()
      return {
        pins: {
          acceptBlock: async (card, pin, request) => {
            if (refused.has(hexOf(request))) return { outcome: 'replayed', current: false }
            return pins.acceptBlock(card, pin, request).catch(error => {
              refused.add(hexOf(request))
              throw error
            })
          },
        },
      }
    },
    'it stores its block for the card that came back': accepting(
      asItIs,
      async (pins, answer, [card, pin]) => {
        if (answer.outcome === 'replayed') await pins.storeBlock(card, pin)
      },
    ),
  },

  'of many at once with one request, one stores': {
    'whether it is known is looked at before the write': ({ pins }) => ({
      pins: {
        acceptBlock: async (card, pin, request) => {
          if (await pins.knowsRequest(request.digest)) return pins.acceptBlock(card, pin, request)
          await turn()
          await pins.acceptBlock(card, pin, request)
          return STORED
        },
      },
    }),
    'one says so, and others do': accepting(asItIs, async (pins, answer, [card, pin]) => {
      if (answer.outcome === 'misdirected') await pins.storeBlock(card, pin)
    }),
  },

  'requests are forgotten when their key is gone or their time is over': {
    'those of every issuer are': ({ pins }) => ({
      pins: {
        forgetRequests: which =>
          pins.forgetRequests({ ...which, issuerIds: [CARD.issuerId, OTHER_ISSUER.issuerId] }),
      },
    }),
    'their time is not looked at': ({ pins }) => ({
      pins: { forgetRequests: ({ acceptedBefore: _, ...which }) => pins.forgetRequests(which) },
    }),
    'their time is over a millisecond early': ({ pins }) => ({
      pins: {
        forgetRequests: ({ acceptedBefore, ...which }) =>
          pins.forgetRequests(acceptedBefore ? { ...which, acceptedBefore: acceptedBefore + 1 } : which),
      },
    }),
    'their key is not looked at': ({ pins }) => ({
      pins: {
        forgetRequests: which => pins.forgetRequests({ ...which, jweKids: ['JWE-0', 'JWE-1', 'JWE-2'] }),
      },
    }),
    'nobody says how many': ({ pins }) => ({
      pins: { forgetRequests: which => pins.forgetRequests(which).then(count => count * 2) },
    }),
    'their blocks go along': ({ cards, pins }) => ({
      pins: {
        forgetRequests: async which => {
          const count = await pins.forgetRequests(which)
          const was = await cards.find(CARD)
          await cards.remove(CARD)
          if (was) await cards.put(CARD, plain(was))
          return count
        },
      },
    }),
    'where no issuer is named those of every one are': ({ pins }) => ({
      pins: {
        forgetRequests: ({ issuerIds, ...which }) =>
          pins.forgetRequests({ ...which, issuerIds: issuerIds.length > 0 ? issuerIds : [CARD.issuerId] }),
      },
    }),
    'more are than it says': forgettingBesides([CARD.issuerId]),
    'those of another issuer are, and not counted': forgettingBesides([OTHER_ISSUER.issuerId]),
    'nothing is forgotten': () => ({
      pins: { forgetRequests: async ({ issuerIds }) => issuerIds.length },
    }),
  },

  'something other than a request is refused': {
    'a digest of 31 bytes is taken': taking('acceptBlock', ({ digest }) => lengthOf(digest) === 31),
    'no kid is taken': taking('acceptBlock', ({ jweKid }) => jweKid === ''),
    'half a millisecond is taken': taking('acceptBlock', ({ acceptedAt }) => acceptedAt === 0.5),
    'an issuerId that is none is forgotten': taking(
      'forgetRequests',
      ({ issuerIds }) => String(issuerIds) === 'short',
    ),
    'no kid is every kid': taking(
      'forgetRequests',
      ({ jweKids }) => Array.isArray(jweKids) && jweKids.length === 0,
    ),
    'a kid that is none is taken': taking(
      'forgetRequests',
      ({ jweKids }) => Array.isArray(jweKids) && jweKids[0] === '',
    ),
    'an issuerId is a list': taking('forgetRequests', ({ issuerIds }) => typeof issuerIds === 'string'),
    'no time is any time': taking('forgetRequests', ({ acceptedBefore }) => Number.isNaN(acceptedBefore)),
    'a request that is none stores its block': ({ pins }) => ({
      pins: {
        acceptBlock: (card, pin, request) =>
          pins.acceptBlock(card, pin, request).catch(async error => {
            await pins.storeBlock(card, pin)
            throw error
          }),
      },
    }),
  },
}
