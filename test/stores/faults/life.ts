/** Stores that keep counters, close or come back wrongly, in one thing each, by the rule that says so. */
import { setImmediate as turn } from 'node:timers/promises'
import { BackendError } from '../../../src/base/errors.js'
import { memoryStore } from '../../../src/seccos/counter/store.js'
import type { CardStore } from '../../../src/stores/issuer-store.js'
import { memoryIssuerStore } from '../../../src/stores/memory.js'
import { blockOf, CARD, OTHER_ISSUER } from '../../../src/testing/store-contract-cards.js'
import {
  afterRestart,
  type Fault,
  type Faults,
  inOne,
  inOther,
  lenient,
  lenientCounter,
  type Plant,
  type Wrong,
} from '../../support/faulty-store.js'
import { plain } from './cards.js'
import { blockWithoutEnd } from './writes.js'

/** What is read first of a record is read for ever, as the last version of it. */
const readsTheFirst: Plant = () => ({
  counter: ({ read }) => {
    const first = new Map<string, string>()
    return {
      read: async key => {
        const record = await read(key)
        if (record === undefined) return undefined
        const value = first.get(key) ?? record.value
        first.set(key, value)
        return { ...record, value }
      },
    }
  },
})

/** The next PCC of a record is the first one for ever. */
const countsNothing: Plant = () => ({
  counter: ({ compareAndSet }) => ({
    compareAndSet: (key, expected, value, options) => {
      const written = key.startsWith('card/') ? JSON.stringify({ ...JSON.parse(value), pcc: 1 }) : value
      return compareAndSet(key, expected, written, options)
    },
  }),
})

/** Records of tries are written by these rules. */
const ofTries = (key: string): boolean => key.startsWith('tries/')

/** Tries begin anew with a call of the cards, until one is counted. */
function triesAnew(calls: (anew: () => void) => Partial<CardStore>): Wrong {
  let isAnew = false
  const cards = calls(() => {
    isAnew = true
  })
  return {
    cards,
    counter: ({ read, compareAndSet }) => ({
      read: async key => {
        const record = await read(key)
        return record && isAnew && ofTries(key) ? { ...record, value: '0' } : record
      },
      compareAndSet: (...write) => {
        isAnew = false
        return compareAndSet(...write)
      },
    }),
  }
}

/** Every call that is refused once the store is closed, but those that give many results. */
const CALLS = [
  ['cards', ['find', 'put', 'setState', 'remove', 'reseal']],
  [
    'pins',
    [
      'readBlock',
      'readPrw',
      'storeBlock',
      'storePrw',
      'acceptBlock',
      'knowsRequest',
      'forgetRequests',
      'listBlocks',
      'countBlocks',
      'replaceBlocks',
    ],
  ],
] as const
const COUNTER_CALLS = ['read', 'compareAndSet', 'compareAndSetAll', 'purge', 'keys'] as const

/** The PAN of this card is shown besides, where it is stored. */
const shows = (form: (pan: string) => Uint8Array, { issuerId } = CARD): Fault => ({
  stored: (dump, pans) => {
    const pan = pans.get(issuerId)
    return pan === undefined ? dump : Buffer.concat([dump, form(pan)])
  },
})
const asHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

export const LIFE_FAULTS: Faults = {
  'the counters of two issuers do not meet': {
    'all issuers share one': ({ counters }) => ({ counters: () => counters(CARD.issuerId) }),
    'what one writes is written for the other': ({ counters }) => ({
      counter: ({ compareAndSet }, issuerId) => ({
        compareAndSet: async (key, expected, value, options) => {
          const done = await compareAndSet(key, expected, value, options)
          if (issuerId === CARD.issuerId) return done
          const ours = counters(CARD.issuerId)
          await ours.compareAndSet(key, (await ours.read(key))?.version, value, options)
          return done
        },
      }),
    }),
    'a purge counts those of all': ({ counters }) => ({
      counter: ({ purge }) => ({
        purge: async (...call) =>
          (await purge(...call)) +
          (await counters(OTHER_ISSUER.issuerId).keys({ prefix: '', limit: 9 })).length,
      }),
    }),
    'a purge deletes those of all': ({ counters }) => ({
      counter: ({ purge }) => ({
        purge: async (...call) => {
          await counters(OTHER_ISSUER.issuerId).purge(...call)
          return purge(...call)
        },
      }),
    }),
    'a version of one is good where the other has no record': () => ({
      counter: ({ read, compareAndSet }) => ({
        compareAndSet: async (key, expected, value, options) =>
          (await compareAndSet(key, expected, value, options)) ||
          ((await read(key)) === undefined && compareAndSet(key, undefined, value, options)),
      }),
    }),
    'what is refused is written where there is no record': () => ({
      counter: ({ read, compareAndSet }) => ({
        compareAndSet: async (key, expected, value, options) => {
          const done = await compareAndSet(key, expected, value, options)
          if (!done && (await read(key)) === undefined) await compareAndSet(key, undefined, value, options)
          return done
        },
      }),
    }),
  },

  'two calls of counters are one counter': {
    'each has a counter of its own': inOne(() => ({
      counters: issuerId => memoryIssuerStore().counters(issuerId),
    })),
  },

  'two replicas race for one intdatag': {
    'compareAndSet does not compare': () => ({
      counter: counter => ({
        compareAndSet: async (key, expected, value, options) => {
          const isPlain = expected !== undefined && options?.instance === undefined
          if (!isPlain) return counter.compareAndSet(key, expected, value, options)
          for (;;) {
            const now = await counter.read(key)
            if (await counter.compareAndSet(key, now?.version, value, options)) return true
          }
        },
      }),
    }),
    'the count is not kept': readsTheFirst,
    'the PRW is not stored': () => ({ pins: { storePrw: async () => {} } }),
    'the PRW of the first round stays': ({ pins }) => ({
      pins: {
        storePrw: async (card, prw, claim) =>
          void ((await pins.readPrw(card)) ?? (await pins.storePrw(card, prw, claim))),
      },
    }),
    'nobody is refused by the counter, but by the database': () => ({
      counter: ({ compareAndSet }) => ({
        compareAndSet: async (...call) => {
          if (await compareAndSet(...call)) return true
          throw new BackendError('ERR_BACKEND_BUSY', 'somebody else wrote')
        },
      }),
    }),
  },

  'replicas that issue and accept at once': {
    'the PCC of one goes back': inOther(readsTheFirst),
    'none is accepted': () => ({
      counter: ({ compareAndSet }) => ({
        compareAndSet: async (key, expected, value, options) =>
          !value.includes('"claimed"') && compareAndSet(key, expected, value, options),
      }),
    }),
    'what is accepted is not counted': countsNothing,
  },

  'of many tries at once as many count as the limit says': {
    'a try is counted only where nobody else tries': () => ({
      counter: ({ compareAndSet }) => ({
        compareAndSet: async (key, ...write) => (await compareAndSet(key, ...write)) || ofTries(key),
      }),
    }),
    'another handle counts for itself': inOther(({ counters }) => {
      const own = memoryStore()
      return {
        counters: issuerId => {
          const shared = counters(issuerId)
          return {
            ...shared,
            read: key => (ofTries(key) ? own : shared).read(key),
            compareAndSet: (key, ...write) => (ofTries(key) ? own : shared).compareAndSet(key, ...write),
          }
        },
      }
    }),
    'another handle sees none of them once they are over': inOther(() => ({
      counter: ({ read }) => ({
        read: async key => {
          const record = await read(key)
          return record?.value === '5' ? { ...record, value: '0' } : record
        },
      }),
    })),
    'all cards share one count': () => ({
      counter: ({ read, compareAndSet }) => {
        const shared = (key: string): string => (ofTries(key) ? 'tries/all' : key)
        return {
          read: key => read(shared(key)),
          compareAndSet: (key, ...write) => compareAndSet(shared(key), ...write),
        }
      },
    }),
    'a removed card takes them along': ({ cards }) =>
      triesAnew(anew => ({
        remove: async card => {
          if (await cards.find(card)) anew()
          await cards.remove(card)
        },
      })),
    'a card that is put anew has all of them': ({ cards }) => {
      let puts = 0
      return triesAnew(anew => ({
        put: async (card, record) => {
          puts++
          if (puts > 1 && (await cards.find(card)) === undefined) anew()
          await cards.put(card, record)
        },
      }))
    },
    'what is unblocked stays blocked': () => ({
      counter: ({ compareAndSet }) => ({
        compareAndSet: async (key, expected, value, options) =>
          (ofTries(key) && value === '0') || compareAndSet(key, expected, value, options),
      }),
    }),
    'a right PIN gives no try back': () => {
      let resets = 0
      return {
        counter: ({ compareAndSet }) => ({
          compareAndSet: async (key, expected, value, options) => {
            if (ofTries(key) && value === '0' && resets++ > 0) return false
            return compareAndSet(key, expected, value, options)
          },
        }),
      }
    },
  },

  // The contract of one counter has its faults in `test/seccos/change-counter.test.ts`; these show that it is asked.
  'change counter: purge deletes what has expired': {
    'it deletes nothing': () => ({ counter: () => ({ purge: async () => 0 }) }),
  },

  'change counter: several records are written together': {
    'the first is written, whatever becomes of the others': () => ({
      counter: ({ compareAndSet }) => ({
        compareAndSetAll: async writes => {
          const done: boolean[] = []
          for (const { key, expected, value, ...options } of writes)
            done.push(await compareAndSet(key, expected, value, options))
          return done.every(Boolean)
        },
      }),
    }),
  },

  'after close every call is refused': {
    ...Object.fromEntries(
      CALLS.flatMap(([part, names]) =>
        names.map(name => [`${name} is not`, inOne(lenient(part, name, 'ERR_BACKEND_CLOSED'))]),
      ),
    ),
    ...Object.fromEntries(
      COUNTER_CALLS.map(name => [
        `${name} of a counter is not`,
        inOne(lenientCounter(name, 'ERR_BACKEND_CLOSED')),
      ]),
    ),
    'many cards are said to be stored': inOne(({ cards }) => ({
      cards: {
        putMany: async function* (...call) {
          try {
            yield* cards.putMany(...call)
          } catch {
            yield { card: CARD, outcome: 'stored' }
          }
        },
      },
    })),
    'many blocks end without a word': inOne(({ pins }) => ({
      pins: {
        storeBlocks: async function* (list) {
          try {
            yield* pins.storeBlocks(list)
          } catch {}
        },
      },
    })),
    'the store is open still': inOne(() => ({ close: async () => {} })),
    'a second close fails': inOne(({ close }) => {
      let isClosed = false
      return {
        close: async () => {
          if (isClosed) throw new BackendError('ERR_BACKEND_CLOSED', 'the store is closed')
          isClosed = true
          await close()
        },
      }
    }),
    'to dispose of what is closed fails': inOne(({ cards }) => ({
      dispose: async () => void (await cards.find(CARD)),
    })),
    'a card that was put is found still': inOne(({ cards }) => {
      let kept: Parameters<typeof cards.put>[1] | undefined
      return {
        cards: {
          put: async (card, record) => {
            await cards.put(card, record)
            kept = record
          },
          find: (...call) =>
            cards.find(...call).catch(error => {
              if (kept === undefined) throw error
              return kept
            }),
        },
      }
    }),
    'it is refused by another code': inOne(({ pins }) => ({
      pins: {
        countBlocks: (...call) =>
          pins.countBlocks(...call).catch(() => {
            throw new BackendError('ERR_BACKEND_FAILED', 'the store is closed')
          }),
      },
    })),
  },

  'close waits for what has begun': {
    'a block is stored, and then refused': inOne(({ pins, counters }) => ({
      pins: {
        storeBlock: async (card, pin) => {
          await pins.storeBlock(card, pin)
          await turn()
          await counters(card.issuerId).read('card/x')
        },
      },
    })),
    'a block that a request brings is refused': inOne(({ pins }) => ({
      pins: {
        acceptBlock: async (...call) => {
          await turn()
          return pins.acceptBlock(...call)
        },
      },
    })),
    'a page of cards is refused': inOne(({ cards }) => ({
      cards: {
        reseal: async (...call) => {
          await turn()
          return cards.reseal(...call)
        },
      },
    })),
    'a call is over later': inOne(({ pins }) => ({
      pins: {
        storeBlock: async (...call) => {
          await pins.storeBlock(...call)
          for (let i = 0; i < 5; i++) await turn()
        },
      },
    })),
    'another block is stored': inOne(({ pins }) => ({
      pins: { storeBlock: card => pins.storeBlock(card, blockOf(0)) },
    })),
    'its last step is left out': inOne(blockWithoutEnd),
  },

  'everything is there again after closing and opening': {
    'cards are not': afterRestart(({ cards }) => ({
      cards: { find: (...call) => cards.find(...call).then(() => undefined) },
    })),
    'fields of cards are not': afterRestart(({ cards }) => ({
      cards: {
        find: async (...call) => {
          const card = await cards.find(...call)
          return card?.seccos ? { ...card, seccos: {} } : card
        },
      },
    })),
    'blocks are not': afterRestart(({ pins }) => ({
      pins: { readBlock: (...call) => pins.readBlock(...call).then(() => undefined) },
    })),
    'PRWs are not': afterRestart(({ pins }) => ({
      pins: { readPrw: (...call) => pins.readPrw(...call).then(() => undefined) },
    })),
    'sequences are not': afterRestart(({ cards, pins }) => ({
      pins: {
        storePrw: async (card, prw, claim) => {
          const was = await cards.find(card)
          await cards.remove(card)
          if (was) await cards.put(card, plain(was))
          await pins.storePrw(card, prw, claim)
        },
      },
    })),
    'what was issued is not': afterRestart(() => ({ counters: () => memoryStore() })),
    'the count of the counter is not': afterRestart(readsTheFirst),
    'what is accepted then is not counted': afterRestart(countsNothing),
  },

  'a handle goes on while another one closes': {
    'its cards go with it': inOne(({ cards, close }) => ({
      close: async () => {
        await cards.remove(CARD).catch(() => {})
        await close()
      },
    })),
    'what is stored then is lost': inOther(() => ({ pins: { storeBlock: async () => {} } })),
  },

  'no PAN stands in what is stored': {
    'it does as text': shows(pan => Buffer.from(pan)),
    'it does as the digits of bytes': shows(pan => Buffer.from(pan, 'hex')),
    'it does as base64': shows(pan => Buffer.from(Buffer.from(pan).toString('base64'))),
    'it does in a dump of bytes': shows(pan => Buffer.from(asHex(Buffer.from(pan)))),
    'it does in a dump of bytes in upper case': shows(pan =>
      Buffer.from(asHex(Buffer.from(Buffer.from(pan).toString('base64'))).toUpperCase()),
    ),
    'that of another issuer’s card does': shows(pan => Buffer.from(pan), OTHER_ISSUER),
    'the dump shows nothing at all': { stored: () => new Uint8Array(100) },
  },
}
