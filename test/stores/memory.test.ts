/** The memory store keeps the contract; wrapped stores with one planted fault each do not. */
import { describe, expect, test } from 'vitest'
import { type IssuerStore, memoryIssuerStore } from '../../src/d1.js'
import { Pan } from '../../src/index.js'
import { inBatches } from '../../src/stores/records.js'
import { type IssuerStoreHarness, issuerStoreContract } from '../../src/testing.js'
import { failure } from '../support/errors.js'

const memory: IssuerStoreHarness = {
  durable: false,
  open: async () => {
    const store = memoryIssuerStore()
    return { one: store, other: store }
  },
}

describe('contract: memory', () => {
  test.each(issuerStoreContract(memory))('$name', ({ run }) => run())
})

/** Which case found each planted fault, by the beginning of its name. */
type Planted = readonly [name: string, found: string, plant: (store: IssuerStore) => Partial<IssuerStore>]

const PLANTED: readonly Planted[] = [
  [
    'storePrw ignores the sequence',
    'a PRW does not write over one of a higher sequence',
    ({ pins }) => {
      let first = 1000
      return {
        pins: {
          ...pins,
          readPrw: async card => {
            const prw = await pins.readPrw(card)
            return prw && { ...prw, sequence: Number(prw.pcc) }
          },
          storePrw: (card, prw) => pins.storePrw(card, { ...prw, sequence: first++ }),
        },
      }
    },
  ],
  [
    'storeBlock leaves the PRW',
    'a block and a PRW take each other',
    ({ pins }) => {
      const prws = new Map<string, Awaited<ReturnType<typeof pins.readPrw>>>()
      return {
        pins: {
          ...pins,
          storePrw: async (card, prw) => {
            await pins.storePrw(card, prw)
            prws.set(JSON.stringify(card), await pins.readPrw(card))
          },
          readPrw: async card => (await pins.readPrw(card)) ?? prws.get(JSON.stringify(card)),
        },
      }
    },
  ],
  [
    'storePrw leaves the block',
    'a block and a PRW take each other',
    ({ pins }) => {
      const blocks = new Map<string, Awaited<ReturnType<typeof pins.readBlock>>>()
      return {
        pins: {
          ...pins,
          storeBlock: async (card, block) => {
            await pins.storeBlock(card, block)
            blocks.set(JSON.stringify(card), await pins.readBlock(card))
          },
          readBlock: async (card, options) =>
            (await pins.readBlock(card, options)) ?? blocks.get(JSON.stringify(card)),
        },
      }
    },
  ],
  [
    'a PRW is refused where the sequence is the same',
    'a PRW does not write over one of a higher sequence',
    ({ pins }) => ({
      pins: {
        ...pins,
        storePrw: async (card, prw) => {
          if ((await pins.readPrw(card))?.sequence !== prw.sequence) await pins.storePrw(card, prw)
        },
      },
    }),
  ],
  [
    'storeBlock forgets the sequence',
    'a PRW that comes late does not write over the block',
    ({ cards, pins }) => ({
      pins: {
        ...pins,
        storeBlock: async (card, block) => {
          const found = await cards.find(card)
          if (found !== undefined && (await pins.readPrw(card)) !== undefined) {
            await cards.remove(card)
            await cards.put(card, found)
          }
          await pins.storeBlock(card, block)
        },
      },
    }),
  ],
  [
    'a PIN is stored for a card that is not there',
    'a PIN cannot be stored for a card that is not there',
    ({ cards, pins }) => ({
      pins: {
        ...pins,
        storeBlock: async (card, block) => {
          const found = await cards.find(card)
          if (found === undefined) return
          await pins.storeBlock(card, block)
        },
      },
    }),
  ],
  [
    'setState of an unknown card is taken',
    'the state of a card that is not there cannot change',
    ({ cards }) => ({
      cards: { ...cards, setState: (card, state) => cards.setState(card, state).catch(() => {}) },
    }),
  ],
  [
    'cards are told apart by their id alone',
    'two issuers may have cards of one id',
    ({ cards }) => ({
      cards: {
        ...cards,
        find: async (card, options) =>
          (await cards.find(card, options)) && cards.find({ ...card, issuerId: 'is_tbank01' }),
      },
    }),
  ],
  [
    'the fields of a card become text',
    'a card is found as it was put',
    ({ cards }) => ({
      cards: {
        ...cards,
        find: async (card, options) => {
          const found = await cards.find(card, options)
          const fields = found?.seccos?.fields
          if (found === undefined || fields === undefined) return found
          const text = Object.entries(fields).map(([id, value]) => [id, String(value)])
          return { ...found, seccos: { ...found.seccos, fields: Object.fromEntries(text) } }
        },
      },
    }),
  ],
  [
    'another card’s PAN is found',
    'a card is found as it was put',
    ({ cards }) => {
      const pan = Pan.from('4532015112830366')
      const other = <T extends { pan: Pan }>(found: T | undefined) => found && { ...found, pan }
      return { cards: { ...cards, find: async (card, options) => other(await cards.find(card, options)) } }
    },
  ],
  [
    'a removed card leaves its PIN',
    'a removed card takes its PIN with it',
    ({ cards, pins }) => {
      const kept = new Map<string, Awaited<ReturnType<typeof pins.readBlock>>>()
      return {
        cards: {
          ...cards,
          remove: async card => {
            kept.set(JSON.stringify(card), await pins.readBlock(card))
            await cards.remove(card)
          },
        },
        pins: {
          ...pins,
          readBlock: async (card, options) =>
            (await pins.readBlock(card, options)) ?? kept.get(JSON.stringify(card)),
        },
      }
    },
  ],
  [
    'all issuers share one counter',
    'the counters of two issuers do not meet',
    ({ counters }) => ({ counters: () => counters('is_tbank01') }),
  ],
  [
    'compareAndSet does not compare',
    'two replicas race for one intdatag',
    ({ counters }) => ({
      counters: issuerId => {
        const counter = counters(issuerId)
        return {
          ...counter,
          compareAndSet: async (key, expected, value, options) => {
            const isPlain = expected !== undefined && options?.instance === undefined
            if (!isPlain) return counter.compareAndSet(key, expected, value, options)
            for (;;) {
              const now = await counter.read(key)
              if (await counter.compareAndSet(key, now?.version, value, options)) return true
            }
          },
        }
      },
    }),
  ],
  [
    'purge deletes nothing',
    'change counter: purge deletes what has expired',
    ({ counters }) => ({ counters: issuerId => ({ ...counters(issuerId), purge: async () => 0 }) }),
  ],
  [
    'close leaves the store open',
    'after close every call is refused',
    () => ({ close: async () => {}, [Symbol.asyncDispose]: async () => {} }),
  ],
  [
    'a block is stored, and then refused because the store closed',
    'close waits for what has begun',
    ({ pins, counters }) => ({
      pins: {
        ...pins,
        storeBlock: async (card, pin) => {
          await pins.storeBlock(card, pin)
          await counters(card.issuerId).read('card/x')
        },
      },
    }),
  ],
  [
    'of several records the first is written, whatever becomes of the others',
    'change counter: several records are written together, or none of them',
    ({ counters }) => ({
      counters: issuerId => {
        const counter = counters(issuerId)
        return {
          ...counter,
          compareAndSetAll: async writes => {
            const done: boolean[] = []
            for (const { key, expected, value, ...options } of writes)
              done.push(await counter.compareAndSet(key, expected, value, options))
            return done.every(Boolean)
          },
        }
      },
    }),
  ],
  [
    'a try is counted only where nobody else tries',
    'of many tries at once as many count as the limit says',
    ({ counters }) => ({
      counters: issuerId => {
        const counter = counters(issuerId)
        return {
          ...counter,
          compareAndSet: async (key, expected, value, options) =>
            (await counter.compareAndSet(key, expected, value, options)) || key.startsWith('tries/'),
        }
      },
    }),
  ],
  [
    'a request is stored as often as it comes',
    'a request stores its block once',
    ({ pins }) => ({
      pins: {
        ...pins,
        acceptBlock: async (card, pin) => {
          await pins.storeBlock(card, pin)
          return { outcome: 'stored' }
        },
      },
    }),
  ],
  [
    'a request that was for another card is taken for a repeated one',
    'a request that was for one card changes no other',
    ({ pins }) => ({
      pins: {
        ...pins,
        acceptBlock: async (...call) => {
          const accepted = await pins.acceptBlock(...call)
          return accepted.outcome === 'misdirected' ? { outcome: 'replayed', current: false } : accepted
        },
      },
    }),
  ],
  [
    'requests are forgotten with their card',
    'a request is remembered longer than its card',
    ({ cards, pins }) => ({
      cards: {
        ...cards,
        remove: async card => {
          await cards.remove(card)
          await pins.forgetRequests({ issuerIds: [card.issuerId], jweKids: ['JWE-NONE'] })
        },
      },
    }),
  ],
  [
    'the requests of every issuer are forgotten',
    'requests are forgotten when their key is gone',
    ({ pins }) => ({
      pins: {
        ...pins,
        forgetRequests: which => pins.forgetRequests({ ...which, issuerIds: ['is_tbank01', 'is_tbank02'] }),
      },
    }),
  ],
  [
    'a request is known for as long as its PIN is the card’s',
    'whether a request is known',
    ({ pins }) => {
      let last: Uint8Array | undefined
      return {
        pins: {
          ...pins,
          acceptBlock: async (card, pin, request) => {
            last = request.digest
            return pins.acceptBlock(card, pin, request)
          },
          knowsRequest: async (digest, options) =>
            (await pins.knowsRequest(digest, options)) && last?.join() === digest.join(),
        },
      }
    },
  ],
  [
    'a block is replaced whoever has written since',
    'a block is replaced only where nobody wrote since it was listed',
    ({ pins }) => ({
      pins: {
        ...pins,
        replaceBlocks: async list => {
          for (const { card, pin } of list) await pins.storeBlock(card, pin)
          return list.map(() => true)
        },
      },
    }),
  ],
  [
    'each page of blocks is the first',
    'blocks are listed by their key in pages',
    ({ pins }) => ({ pins: { ...pins, listBlocks: ({ kid, limit }) => pins.listBlocks({ kid, limit }) } }),
  ],
  [
    'what comes too late is stored',
    'what comes when its time is over is not written',
    ({ pins }) => ({
      pins: {
        ...pins,
        storeBlock: ({ issuerId, cardId }, pin) => pins.storeBlock({ issuerId, cardId }, pin),
      },
    }),
  ],
  [
    'a card may have changed since it was found',
    'a card that changed since it was found takes no PIN',
    ({ pins }) => ({
      pins: { ...pins, storePrw: ({ revision: _, ...card }, prw, claim) => pins.storePrw(card, prw, claim) },
    }),
  ],
  [
    'of many blocks none has a card that may have changed',
    'many cards and blocks are stored in batches',
    ({ pins }) => ({
      pins: {
        ...pins,
        storeBlocks: (blocks, options) =>
          pins.storeBlocks(Array.isArray(blocks) ? blocks.map(withoutRevision) : blocks, options),
      },
    }),
  ],
  [
    'a PRW is stored without its claim',
    'a PRW ends its claim in the write that stores it',
    ({ pins }) => ({ pins: { ...pins, storePrw: (card, prw) => pins.storePrw(card, prw) } }),
  ],
  [
    'a block that comes by another way leaves what is open',
    'a block that comes by another way ends what is open',
    ({ pins }) => {
      let requests = 0
      return {
        pins: {
          ...pins,
          storeBlock: async (card, pin) => {
            const digest = new Uint8Array(32).fill(0xff)
            digest[0] = requests % 256
            digest[1] = requests++ / 256
            await pins.acceptBlock(card, pin, { digest, jweKid: 'JWE-1', acceptedAt: 1 })
          },
        },
      }
    },
  ],
  [
    'a counter lists its keys when the store is closed',
    'after close every call is refused',
    ({ counters }) => ({
      counters: issuerId => {
        const counter = counters(issuerId)
        return { ...counter, keys: page => counter.keys(page).catch(() => []) }
      },
    }),
  ],
  [
    'many cards are said to be stored when the store is closed',
    'after close every call is refused',
    ({ cards }) => ({
      cards: {
        ...cards,
        putMany: async function* (list) {
          for await (const { card } of cards.putMany(list)) yield { card, outcome: 'stored' }
        },
      },
    }),
  ],
  [
    'the signal is ignored',
    'a signal that has fired stops a reading call',
    ({ pins }) => ({ pins: { ...pins, readBlock: card => pins.readBlock(card, {}) } }),
  ],
]

function withoutRevision<T extends { card: object } | null>(item: T): T {
  return item && { ...item, card: { ...item.card, revision: undefined } }
}

/** What is wrong by one of two instances alone: the first is as it should be. */
const PLANTED_IN_ONE: readonly Planted[] = [
  [
    'tries count for themselves',
    'of many tries at once as many count as the limit says',
    ({ counters }) => {
      const own = memoryIssuerStore()
      return {
        counters: issuerId => {
          const [shared, apart] = [counters(issuerId), own.counters(issuerId)]
          const counter = (key: string) => (key.startsWith('tries/') ? apart : shared)
          return {
            ...shared,
            read: key => counter(key).read(key),
            compareAndSet: (key, ...write) => counter(key).compareAndSet(key, ...write),
          }
        },
      }
    },
  ],
  ...PLANTED.filter(([name]) => name === 'a block that comes by another way leaves what is open'),
]

function faultyStore(store: IssuerStore, plant: Planted[2]): IssuerStore {
  const { cards, pins, counters } = store
  const close = () => store.close()
  return { cards, pins, counters, close, [Symbol.asyncDispose]: close, ...plant(store) }
}

/** The cases that fail, each as long as what is looked for. */
async function failing(open: IssuerStoreHarness['open'], found: string): Promise<string[]> {
  const failed: string[] = []
  for (const { name, run } of issuerStoreContract({ durable: false, open })) {
    await run().catch(() => failed.push(name.slice(0, found.length)))
  }
  return failed
}

describe('a planted fault is found', () => {
  test.each(PLANTED)('%s: %s', async (_, found, plant) => {
    const open = async () => {
      const faulty = faultyStore(memoryIssuerStore(), plant)
      return { one: faulty, other: faulty }
    }
    expect(await failing(open, found)).toContain(found)
  })

  test.each(PLANTED_IN_ONE)('%s, by one of two instances: %s', async (_, found, plant) => {
    const open = async () => {
      const store = memoryIssuerStore()
      return { one: store, other: faultyStore(store, plant) }
    }
    expect(await failing(open, found)).toContain(found)
  })
})

test('a harness that says durable and cannot open again is told so', async () => {
  const cases = issuerStoreContract({ ...memory, durable: true })
  const [restart] = cases.filter(({ name }) => name.startsWith('everything is there again'))
  await expect(restart?.run()).rejects.toThrow('the harness says durable')
})

test('what is done for many ends between two batches, once nobody wants it any more', async () => {
  const controller = new AbortController()
  const worked: number[] = []
  const results = inBatches(Array(450).keys(), controller.signal, async batch => {
    worked.push(batch.length)
    controller.abort()
    return batch
  })
  const all = async () => {
    for await (const result of results) expect(result).toBeLessThan(200)
  }
  await failure(all, 'ERR_ABORTED')
  expect(worked).toEqual([200])
})
