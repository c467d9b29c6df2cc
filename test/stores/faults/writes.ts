/** Stores that write many at once, or over what has changed, wrongly, in one thing each, by the rule that says so. */
import { setImmediate as turn } from 'node:timers/promises'
import type { CallOptions } from '../../../src/base/arguments.js'
import type { CardAsFound, CardRef } from '../../../src/d1/endpoints/interfaces.js'
import { Pan } from '../../../src/index.js'
import type {
  BlockEntry,
  BulkResult,
  CardEntry,
  CardPinStore,
  CardStore,
} from '../../../src/stores/issuer-store.js'
import { cardChanged, claimEnded, noSuchCard } from '../../../src/stores/records.js'
import { blockOf, CARD, OTHER_ISSUER, OTHER_PAN, PLAIN } from '../../../src/testing/store-contract-cards.js'
import { callOf, type Faults, inOther, lenient, type Plant } from '../../support/faulty-store.js'
import { keyOf, plain } from './cards.js'

const unfound = ({ revision: _, ...card }: CardAsFound): CardAsFound => card
const endless = ({ notAfter: _, ...card }: CardAsFound): CardAsFound => card

/** One way to store a PIN, to which the card is given changed. */
const storing =
  (name: 'storeBlock' | 'storePrw' | 'acceptBlock', change: (card: CardAsFound) => CardAsFound): Plant =>
  good => {
    const call = callOf(good.pins, name)
    return {
      pins: {
        [name]: (card: CardAsFound, ...rest: readonly unknown[]) => call(card && change(card), ...rest),
      },
    }
  }

/** The revision is the same after this call: what was found before it is good still. */
const keepingRevision =
  (name: 'put' | 'setState' | 'remove'): Plant =>
  ({ cards, pins }) => {
    const good = new Map<string, string | undefined>()
    const inFact = async (card: CardAsFound): Promise<CardAsFound> => {
      if (card.revision === undefined || good.get(keyOf(card)) !== card.revision) return card
      return { ...card, revision: (await cards.find(card))?.revision ?? card.revision }
    }
    const call = callOf(cards, name)
    return {
      cards: {
        [name]: async (card: CardRef, ...rest: readonly unknown[]) => {
          const was = await cards.find(card)
          await call(card, ...rest)
          if (was !== undefined) good.set(keyOf(card), was.revision)
        },
      },
      pins: {
        storeBlock: async (card, pin) => pins.storeBlock(await inFact(card), pin),
        storePrw: async (card, ...rest) => pins.storePrw(await inFact(card), ...rest),
        acceptBlock: async (card, ...rest) => pins.acceptBlock(await inFact(card), ...rest),
      },
    }
  }

/** Each result of many is changed, or left out. */
const resultsOf =
  (
    name: 'putMany' | 'storeBlocks',
    change: (result: BulkResult, at: number) => readonly BulkResult[],
  ): Plant =>
  ({ cards, pins }) => {
    async function* changed(results: AsyncIterable<BulkResult>): AsyncGenerator<BulkResult> {
      let at = 0
      for await (const result of results) {
        yield* change(result, at)
        at++
      }
    }
    return name === 'putMany'
      ? { cards: { putMany: (...call) => changed(cards.putMany(...call)) } }
      : { pins: { storeBlocks: (...call) => changed(pins.storeBlocks(...call)) } }
  }

type Many<E> = (entries: Iterable<E> | AsyncIterable<E>, options?: CallOptions) => AsyncIterable<BulkResult>

/** All that comes is gathered first, of each what `kept` makes of it, and stored then. */
const late = <E>(store: Many<E>, kept: (entry: E) => E): Many<E> =>
  async function* (entries, options) {
    const all: E[] = []
    for await (const entry of entries) all.push(kept(entry))
    yield* store(all, options)
  }
const cardsLate =
  (kept: (entry: CardEntry) => CardEntry): Plant =>
  ({ cards }) => ({ cards: { putMany: late(cards.putMany, kept) } })
const blocksLate =
  (kept: (entry: BlockEntry) => BlockEntry): Plant =>
  ({ pins }) => ({ pins: { storeBlocks: late(pins.storeBlocks, kept) } })

/** Each block of many is given changed. */
const blocksAs =
  (change: (card: CardAsFound) => CardAsFound): Plant =>
  ({ pins }) => {
    type Entries = Parameters<CardPinStore['storeBlocks']>[0]
    async function* changed(entries: Entries) {
      for await (const entry of entries) yield entry && { ...entry, card: change(entry.card) }
    }
    return {
      pins: {
        storeBlocks: (entries, options) =>
          pins.storeBlocks(
            typeof entries === 'object' && entries && Symbol.iterator in entries ? changed(entries) : entries,
            options,
          ),
      },
    }
  }

/** A block that comes by another way, as if a request had brought it: it ends nothing that is open. */
export const blockWithoutEnd: Plant = ({ pins }) => {
  let requests = 0
  return {
    pins: {
      storeBlock: async (card, pin) => {
        const digest = new Uint8Array(32).fill(0xff)
        digest[0] = requests % 256
        digest[1] = requests++ / 256
        await pins.acceptBlock(card, pin, { digest, jweKid: 'JWE-1', acceptedAt: 1 })
      },
    },
  }
}

/** Of many blocks only these end what is open. */
const endingFor =
  (is: (card: CardRef, at: number) => boolean): Plant =>
  good => {
    const { storeBlock } = blockWithoutEnd(good).pins ?? {}
    return {
      pins: {
        storeBlocks: async function* (entries) {
          let at = 0
          for await (const { card, pin } of entries) {
            await (is(card, at) ? good.pins.storeBlock : storeBlock)?.(card, pin)
            at++
            yield { card, outcome: 'stored' }
          }
        },
      },
    }
  }

const refusedAs =
  (
    code: 'ERR_ARGUMENT' | 'ERR_BACKEND_FAILED' | 'ERR_BACKEND_BUSY',
  ): ((result: BulkResult) => readonly BulkResult[]) =>
  result =>
    result.outcome === 'refused' && Reflect.get(result.error, 'code') === code
      ? [{ card: result.card, outcome: 'stored' }]
      : [result]

/** What is no list is an empty one. */
const orNothing = <T extends object>(entries: T): T | never[] =>
  Symbol.iterator in Object(entries) || Symbol.asyncIterator in Object(entries) ? entries : []

const replacing =
  (replace: (pins: CardPinStore) => CardPinStore['replaceBlocks']): Plant =>
  ({ pins }) => ({
    pins: { replaceBlocks: replace(pins) },
  })

const listing =
  (list: (pins: CardPinStore) => CardPinStore['listBlocks']): Plant =>
  ({ pins }) => ({
    pins: { listBlocks: list(pins) },
  })

const resealing =
  (reseal: (cards: CardStore) => CardStore['reseal']): Plant =>
  ({ cards }) => ({
    cards: { reseal: reseal(cards) },
  })

export const WRITE_FAULTS: Faults = {
  'a card that changed since it was found takes no PIN': {
    'it takes a block': storing('storeBlock', unfound),
    'it takes a PRW': storing('storePrw', unfound),
    'it takes the block of a request': storing('acceptBlock', unfound),
    'another state is no change': keepingRevision('setState'),
    'to be put again is no change': keepingRevision('put'),
    'to come back is no change': keepingRevision('remove'),
    'what was refused is remembered': ({ pins }) => {
      const refused = new Set<string>()
      return {
        pins: {
          acceptBlock: async (card, pin, request) => {
            const name = request.digest.join()
            if (refused.has(name)) return { outcome: 'replayed', current: false }
            return pins.acceptBlock(card, pin, request).catch(error => {
              refused.add(name)
              throw error
            })
          },
          forgetRequests: which => {
            refused.clear()
            return pins.forgetRequests(which)
          },
        },
      }
    },
  },

  'of a card that is blocked while PINs are stored': {
    'one is stored after it was': ({ pins }) => ({
      pins: {
        storeBlock: async (card: CardAsFound, pin) => {
          if (card.revision !== undefined) await turn()
          await pins.storeBlock(unfound(card), pin)
        },
      },
    }),
    'one is refused as one of no card': ({ pins }) => ({
      pins: {
        storeBlock: (...call) =>
          pins.storeBlock(...call).catch(() => {
            throw noSuchCard()
          }),
      },
    }),
  },

  'a list of blocks ends what was issued': {
    'of the first card alone': endingFor((_, at) => at === 0),
    'of the last card alone': endingFor((_, at) => at === 2),
    'of one issuer alone': endingFor(({ issuerId }) => issuerId === OTHER_ISSUER.issuerId),
    'of all but the second card': endingFor((_, at) => at !== 1),
    'of none': endingFor(() => false),
  },

  'many that come in one object': {
    'cards are read late': cardsLate(entry => entry),
    'what stands of a card is read late': cardsLate(({ card, ...rest }) => ({
      ...rest,
      card: { ...card },
    })),
    'whose card it is is read late': cardsLate(({ record, ...rest }) => ({
      ...rest,
      record: { ...record },
    })),
    'blocks are read late': blocksLate(entry => entry),
    'what stands of a block is read late': blocksLate(({ card, ...rest }) => ({
      ...rest,
      card: { ...card },
    })),
    'whose block it is is read late': blocksLate(({ pin, ...rest }) => ({
      ...rest,
      pin: { ...pin, block: Uint8Array.from(pin.block) },
    })),
    'the bytes of a block are read late': blocksLate(({ card, pin }) => ({
      card: { ...card },
      pin: { ...pin },
    })),
    'a card that is refused is named late': ({ cards }) => ({
      cards: {
        putMany: async function* (entries, options) {
          const came: CardRef[] = []
          async function* passed() {
            for await (const entry of entries) {
              came.push(entry.card)
              yield entry
            }
          }
          for await (const result of cards.putMany(passed(), options))
            yield result.outcome === 'refused' ? { ...result, card: came[0] ?? result.card } : result
        },
      },
    }),
  },

  'many cards and blocks are stored in batches': {
    'a card has no result': resultsOf('putMany', (result, at) => (at === 5 ? [] : [result])),
    'a block has no result': resultsOf('storeBlocks', (result, at) => (at === 5 ? [] : [result])),
    'a card that is refused has a result of none': resultsOf('putMany', refusedAs('ERR_ARGUMENT')),
    'a block without a card has a result of none': resultsOf('storeBlocks', refusedAs('ERR_BACKEND_FAILED')),
    'a block that is none has a result of none': resultsOf('storeBlocks', refusedAs('ERR_ARGUMENT')),
    'a block of a card that changed has a result of none': resultsOf(
      'storeBlocks',
      refusedAs('ERR_BACKEND_BUSY'),
    ),
    'one that is refused stops the others': ({ cards }) => ({
      cards: {
        putMany: async function* (...call) {
          for await (const result of cards.putMany(...call)) {
            yield result
            if (result.outcome === 'refused') return
          }
        },
      },
    }),
    'an error has no code': resultsOf('storeBlocks', result => [
      result.outcome === 'refused' ? { ...result, error: new Error('refused') } : result,
    ]),
    'the last card is not stored': ({ cards }) => ({
      cards: {
        putMany: async function* (...call) {
          let last: CardRef | undefined
          for await (const result of cards.putMany(...call)) {
            last = result.card
            yield result
          }
          if (last) await cards.remove(last)
        },
      },
    }),
    'of one card the first block stays': ({ pins }) => ({
      pins: {
        storeBlocks: async function* (entries, options) {
          const seen = new Set<string>()
          for await (const result of pins.storeBlocks(entries, options)) {
            if (result.outcome === 'stored' && seen.has(keyOf(result.card)))
              await pins.storeBlock(result.card, blockOf(0))
            if (result.outcome === 'stored') seen.add(keyOf(result.card))
            yield result
          }
        },
      },
    }),
    'of the second batch each card has one block': ({ pins }) => ({
      pins: {
        storeBlocks: async function* (...call) {
          let at = 0
          for await (const result of pins.storeBlocks(...call)) {
            at++
            if (at > 200 && result.outcome === 'stored') await pins.storeBlock(result.card, blockOf(0))
            yield result
          }
        },
      },
    }),
    'the signal is not looked at': ({ cards }) => ({ cards: { putMany: entries => cards.putMany(entries) } }),
    'no list is an empty one, of cards': ({ cards }) => ({
      cards: { putMany: (entries, options) => cards.putMany(orNothing(entries), options) },
    }),
    'no list is an empty one, of blocks': ({ pins }) => ({
      pins: { storeBlocks: (entries, options) => pins.storeBlocks(orNothing(entries), options) },
    }),
    'none of them has a card that may have changed': blocksAs(unfound),
    'none of them comes too late': blocksAs(endless),
    'what is nothing stops the others': ({ pins }) => ({
      pins: {
        storeBlocks: async function* (...call) {
          for await (const result of pins.storeBlocks(...call)) {
            yield result
            if (result.card === undefined) return
          }
        },
      },
    }),
    'a source of cards that breaks is a refusal': ({ cards }) => ({
      cards: {
        putMany: async function* (...call) {
          try {
            yield* cards.putMany(...call)
          } catch (error) {
            if (Reflect.get(Object(error), 'code') !== undefined) throw error
            yield { card: CARD, outcome: 'refused', error: noSuchCard() }
          }
        },
      },
    }),
    'a source of blocks that breaks is a refusal': ({ pins }) => ({
      pins: {
        storeBlocks: async function* (...call) {
          try {
            yield* pins.storeBlocks(...call)
          } catch (error) {
            if (Reflect.get(Object(error), 'code') !== undefined) throw error
            yield { card: CARD, outcome: 'refused', error: noSuchCard() }
          }
        },
      },
    }),
  },

  'blocks are listed by their key in pages': {
    'each page is the first': listing(
      pins =>
        ({ kid, limit }) =>
          pins.listBlocks({ kid, limit }),
    ),
    'a page is one too long': listing(
      pins => page => pins.listBlocks(page.limit === 2 ? { ...page, limit: 3 } : page),
    ),
    'a page begins with the last of the one before': listing(
      pins =>
        ({ after, ...page }) =>
          pins.listBlocks(after ? { ...page, after: { ...after, cardId: after.cardId.slice(0, -1) } } : page),
    ),
    'the key is not looked at': listing(
      pins => async page =>
        page.kid === 'PEK-9' ? pins.listBlocks({ ...page, kid: 'PEK-1' }) : pins.listBlocks(page),
    ),
    'they come in another order': listing(pins => async page => (await pins.listBlocks(page)).toReversed()),
    'the block is another one’s': listing(
      pins => async page =>
        (await pins.listBlocks(page)).map(listed => ({ ...listed, block: blockOf(0).block })),
    ),
    'they are counted under one key': ({ pins }) => ({
      pins: {
        countBlocks: async (...call) => {
          const counts = await pins.countBlocks(...call)
          const blocks = counts.reduce((sum, count) => sum + count.blocks, 0)
          return counts.slice(0, 1).map(({ kid }) => ({ kid, blocks }))
        },
      },
    }),
    'a key is counted that has none any more': ({ pins }) => ({
      pins: {
        countBlocks: async (...call) => [...(await pins.countBlocks(...call)), { kid: 'PEK-OLD', blocks: 0 }],
      },
    }),
    'a page may be of any kind': lenient('pins', 'listBlocks', 'ERR_ARGUMENT'),
    'a page may be of nothing': listing(
      pins => async page => (page.limit === 0 ? [] : pins.listBlocks(page)),
    ),
    'a page may be of no key': listing(pins => async page => (page.kid === '' ? [] : pins.listBlocks(page))),
    'a page may be long': listing(
      pins => page => pins.listBlocks({ ...page, limit: Math.min(page.limit, 8192) }),
    ),
  },

  'a block is replaced only where nobody wrote since it was listed': {
    'it is replaced whoever wrote': replacing(pins => async list => {
      for (const { card, pin } of list) await pins.storeBlock(card, pin)
      return list.map(() => true)
    }),
    'it is replaced where the block is the same still': ({ pins }) => {
      const listed = new Map<string, string>()
      return {
        pins: {
          listBlocks: async page => {
            const blocks = await pins.listBlocks(page)
            for (const { version, block } of blocks) listed.set(version, block.join())
            return blocks
          },
          replaceBlocks: async list =>
            Promise.all(
              list.map(async replacement => {
                const [done = false] = await pins.replaceBlocks([replacement])
                const now = await pins.readBlock(replacement.card)
                if (done || now?.block.join() !== listed.get(replacement.version)) return done
                await pins.storeBlock(replacement.card, replacement.pin)
                return true
              }),
            ),
        },
      }
    },
    'it is replaced, and said not to be': replacing(pins => async list => {
      await pins.replaceBlocks(list)
      return list.map(() => false)
    }),
    'it stays, and is said to be replaced': replacing(
      pins => async list => (await pins.replaceBlocks(list)).map(() => true),
    ),
    'a request’s PIN is an old one then': replacing(pins => async list => {
      const done = await pins.replaceBlocks(list)
      for (const [i, { card, pin }] of list.entries()) if (done[i]) await pins.storeBlock(card, pin)
      return done
    }),
    'a version is good for two writes': ({ pins }) => {
      const used = new Map<string, number>()
      return {
        pins: {
          replaceBlocks: async list => {
            const done = await pins.replaceBlocks(list)
            return Promise.all(
              list.map(async ({ card, pin, version }, i) => {
                const before = used.get(version) ?? 0
                if (done[i]) used.set(version, before + 1)
                if (done[i] || before !== 1) return done[i] === true
                await pins.storeBlock(card, pin)
                used.set(version, 2)
                return true
              }),
            )
          },
        },
      }
    },
    'the answers come in the order of the cards': replacing(pins => async list => {
      const inOrder = list.toSorted((a, b) => (keyOf(a.card) < keyOf(b.card) ? -1 : 1))
      return pins.replaceBlocks(inOrder)
    }),
    'one that is not stops the others': replacing(pins => async list => {
      const done: boolean[] = []
      for (const replacement of list) {
        const before = done.every(Boolean)
        done.push(before && (await pins.replaceBlocks([replacement])).every(Boolean))
      }
      return done
    }),
  },

  'a write that hung does not come over a newer PIN': {
    'a PRW does': storing('storePrw', unfound),
    'a block does': storing('storeBlock', unfound),
    'the block of a request does': storing('acceptBlock', unfound),
    'a PRW is refused because of another': ({ cards, pins }) => ({
      pins: {
        storePrw: async (card, ...rest) => {
          const now = await cards.find(card)
          if (card.revision !== undefined && card.revision !== now?.revision) throw cardChanged()
          await pins.storePrw(card, ...rest)
        },
      },
    }),
    'a repeated request changes the revision': ({ cards, pins }) => ({
      pins: {
        acceptBlock: async (card, ...rest) => {
          const answer = await pins.acceptBlock(card, ...rest)
          const was = await cards.find(card)
          if (answer.outcome === 'replayed' && was) await cards.put(card, plain(was))
          return answer
        },
      },
    }),
    'of two PRWs the first counts': ({ pins }) => ({
      pins: {
        storePrw: async (card, prw, claim) => {
          if ((await pins.readPrw(card)) === undefined) await pins.storePrw(card, prw, claim)
        },
      },
    }),
  },

  'a request that two replicas bring at once is a repeated one': {
    'the card has changed before': ({ cards, pins }) => ({
      pins: {
        acceptBlock: async (card, ...rest) => {
          const now = await cards.find(card)
          if (now && card.revision !== undefined && card.revision !== now.revision) throw cardChanged()
          return pins.acceptBlock(card, ...rest)
        },
      },
    }),
    'both store it': ({ pins }) => ({
      pins: {
        acceptBlock: (...call) => pins.acceptBlock(...call).then(() => ({ outcome: 'stored' }) as const),
      },
    }),
    'its PIN is an old one': inOther(({ pins }) => ({
      pins: {
        acceptBlock: (...call) =>
          pins
            .acceptBlock(...call)
            .then(answer => (answer.outcome === 'replayed' ? { ...answer, current: false } : answer)),
      },
    })),
    'one of another card is a repeated one, too': ({ pins }) => ({
      pins: {
        acceptBlock: (...call) =>
          pins
            .acceptBlock(...call)
            .then(answer =>
              answer.outcome === 'misdirected' ? { outcome: 'replayed', current: true } : answer,
            ),
      },
    }),
    'one of another card gives its block to the first': ({ pins }) => ({
      pins: {
        acceptBlock: async (card, pin, request) => {
          const answer = await pins.acceptBlock(card, pin, request)
          if (answer.outcome === 'misdirected') await pins.storeBlock(CARD, pin)
          return answer
        },
      },
    }),
    'no card is needed for it': ({ pins }) => {
      const known = new Set<string>()
      return {
        pins: {
          acceptBlock: async (card, pin, request) => {
            const name = request.digest.join()
            const isKnown = known.has(name)
            known.add(name)
            return pins.acceptBlock(card, pin, request).catch(error => {
              if (!isKnown) throw error
              return { outcome: 'misdirected' } as const
            })
          },
        },
      }
    },
  },

  'what comes when its time is over is not written': {
    'a block is': storing('storeBlock', endless),
    'a PRW is': storing('storePrw', endless),
    'the block of a request is': storing('acceptBlock', endless),
    'it is by the revision': storing('storeBlock', card => (card.revision ? endless(card) : card)),
    'what has a time is never written': storing('storePrw', card =>
      card.notAfter ? { ...card, notAfter: 1 } : card,
    ),
    'a repeated request has a time': ({ pins }) => ({
      pins: {
        acceptBlock: async (card, pin, request) => {
          if (card.notAfter !== undefined && card.notAfter <= Date.now()) throw cardChanged()
          return pins.acceptBlock(card, pin, request)
        },
      },
    }),
    'a repeated request’s PIN is an old one then': ({ pins }) => ({
      pins: {
        acceptBlock: async (card, pin, request) => {
          const answer = await pins.acceptBlock(card, pin, request)
          const isLate = card.notAfter !== undefined && card.revision === undefined
          return answer.outcome === 'replayed' && isLate ? { ...answer, current: false } : answer
        },
      },
    }),
    'what has a time is not written, and said to be': ({ pins }) => ({
      pins: {
        storePrw: async (card, ...rest) => {
          if (card.notAfter === undefined || card.notAfter <= Date.now()) await pins.storePrw(card, ...rest)
        },
      },
    }),
    'half a millisecond is a time': ({ pins }) => ({
      pins: {
        storeBlock: async (card: CardAsFound, pin) =>
          card.notAfter === 0.5 ? undefined : pins.storeBlock(card, pin),
      },
    }),
    'what is refused changes the revision': ({ cards, pins }) => ({
      pins: {
        storeBlock: (card, pin) =>
          pins.storeBlock(card, pin).catch(async error => {
            const was = await cards.find(card)
            if (was) await cards.put(card, plain(was))
            throw error
          }),
      },
    }),
    'what is refused is written': ({ pins }) => ({
      pins: {
        storePrw: (card, ...rest) =>
          pins.storePrw(card, ...rest).catch(async error => {
            await pins.storePrw(endless(unfound(card)), ...rest)
            throw error
          }),
      },
    }),
  },

  'a PRW ends its claim in the write that stores it': {
    'its claim is not ended': ({ pins }) => ({ pins: { storePrw: (card, prw) => pins.storePrw(card, prw) } }),
    'it is stored before its claim is looked at': ({ pins }) => ({
      pins: {
        storePrw: async (card, prw, claim) => {
          await pins.storePrw(card, prw)
          await pins.storePrw(card, prw, claim)
        },
      },
    }),
    'a claim that has ended is refused as anything else is': ({ pins }) => ({
      pins: {
        storePrw: (...call) =>
          pins.storePrw(...call).catch(error => {
            throw Reflect.get(Object(error), 'code') === 'ERR_CHANGE_COUNTER' ? cardChanged() : error
          }),
      },
    }),
    'a claim that has ended is no error': lenient('pins', 'storePrw', 'ERR_CHANGE_COUNTER'),
    'its claim ends where the card has changed, too': ({ cards, pins }) => ({
      pins: {
        storePrw: async (card, prw, claim) => {
          const was = await cards.find(card)
          if (claim && card.revision !== undefined && was?.revision !== card.revision)
            await pins.storePrw(unfound(card), prw, claim)
          await pins.storePrw(card, prw, claim)
        },
      },
    }),
    'a counter that is kept elsewhere has lost its claim': ({ pins }) => ({
      pins: {
        storePrw: async (card, prw, claim) => {
          if (claim?.key === 'card/elsewhere' && claim.keptBy === undefined) throw claimEnded()
          await pins.storePrw(card, prw, claim)
        },
      },
    }),
    'who reads the record before its claim ends may write over it': ({ pins }) => {
      let spent: string | undefined
      return {
        pins: {
          storePrw: async (card, prw, claim) => {
            await pins.storePrw(card, prw, claim)
            spent = claim?.key
          },
        },
        counter: ({ read, compareAndSet }) => ({
          compareAndSet: async (key, expected, value, options) => {
            if (await compareAndSet(key, expected, value, options)) return true
            if (spent !== key) return false
            spent = undefined
            return compareAndSet(key, (await read(key))?.version, value, options)
          },
        }),
      }
    },
    'it is not stored where the counter is kept elsewhere': ({ pins }) => ({
      pins: {
        storePrw: async (card, prw, claim) => {
          if (claim?.key !== 'card/elsewhere' || claim.keptBy) await pins.storePrw(card, prw, claim)
        },
      },
    }),
    'it is not stored where the counter is another issuer’s': good => ({
      pins: {
        storePrw: async (card, prw, claim) => {
          const isOthers = claim?.keptBy && claim.keptBy !== good.counters(card.issuerId)
          if (!isOthers) await good.pins.storePrw(card, prw, claim)
        },
      },
    }),
    'it is refused where its record was lost, and stored': ({ pins }) => ({
      pins: {
        storePrw: (card, prw, claim) =>
          pins.storePrw(card, prw, claim).catch(async error => {
            if (claim?.keptBy && claim.key === 'card/elsewhere') await pins.storePrw(card, prw)
            throw error
          }),
      },
    }),
    'another issuer’s counter has lost its claim': good => ({
      pins: {
        storePrw: async (card, prw, claim) => {
          const keptBy = claim?.keptBy && good.counters(card.issuerId)
          await good.pins.storePrw(card, prw, claim && keptBy ? { ...claim, keptBy } : claim)
        },
      },
    }),
    'a claim whose record was lost is none': ({ pins }) => ({
      pins: {
        storePrw: (card, prw, claim) => {
          const { keptBy: _, ...others } = claim ?? {}
          return pins.storePrw(card, prw, claim && (others as typeof claim))
        },
      },
    }),
    'what is no claim is taken': lenient('pins', 'storePrw', 'ERR_ARGUMENT'),
  },

  'a clock that goes back revives neither an intdatag nor a claim': {
    'a purge deletes what has no end': () => ({
      counter: ({ keys, purge, read }) => {
        const purged = new Set<string>()
        return {
          purge: async (...call) => {
            for (const key of await keys({ prefix: '', limit: 99 })) purged.add(key)
            return purge(...call)
          },
          read: async key => (purged.has(key) ? undefined : read(key)),
        }
      },
    }),
    'an end is written only with what comes next': inOther(() => ({
      counter: ({ compareAndSet }) => ({
        compareAndSet: async (key, expected, value, options) =>
          expected === undefined ? compareAndSet(key, expected, value, options) : true,
      }),
    })),
  },

  'a block that comes by another way ends what is open': {
    'it ends nothing': blockWithoutEnd,
    'another handle’s ends nothing': inOther(blockWithoutEnd),
    'one of many ends nothing': endingFor(() => false),
    'of many the last ends what is open': endingFor((_, at) => at === 1),
    'a card that has nothing open has a record then': good => ({
      pins: {
        storeBlocks: async function* (...call) {
          for await (const result of good.pins.storeBlocks(...call)) {
            const { issuerId, cardId } = result.card
            await good.counters(issuerId).compareAndSet(`card/${cardId}`, undefined, '{}')
            yield result
          }
        },
      },
    }),
  },

  'cards are passed in pages to be sealed anew': {
    'a page is longer than it says': resealing(
      cards => page => cards.reseal(page.limit === 2 ? { ...page, limit: 3 } : page),
    ),
    'each page is the first': resealing(
      cards =>
        ({ limit }, options) =>
          cards.reseal({ limit }, options),
    ),
    'cards come in another order': resealing(
      cards =>
        async (...call) =>
          (await cards.reseal(...call)).toReversed(),
    ),
    'the revision changes': resealing(cards => async (...call) => {
      const refs = await cards.reseal(...call)
      for (const ref of refs) {
        const was = await cards.find(ref)
        if (was) await cards.put(ref, plain(was))
      }
      return refs
    }),
    'a card gets another’s PAN': resealing(cards => async (...call) => {
      const refs = await cards.reseal(...call)
      for (const ref of refs.slice(1)) await cards.put(ref, { ...PLAIN, pan: Pan.from(OTHER_PAN) })
      return refs
    }),
    'a page may be of nothing': lenient('cards', 'reseal', 'ERR_ARGUMENT'),
    'the signal is not looked at': resealing(cards => page => cards.reseal(page)),
  },
}
