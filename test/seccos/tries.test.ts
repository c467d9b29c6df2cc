/** The try counter over a store: races, rules, what is stored, and listeners that fail. */
import { describe, expect, test } from 'vitest'
import {
  type ChangeCounterStore,
  memoryStore,
  TryCounter,
  type TryEvent,
  type TryRule,
} from '../../src/index.js'
import { failure } from '../support/errors.js'

const RULE: TryRule = { limit: 3, afterSuccess: 'reset' }
const CARD = { cardId: 'card-1', product: 'classic' }
const counterOn = (store: ChangeCounterStore, rule: TryRule = RULE) =>
  new TryCounter({ store, products: { classic: rule } })

/** A store that lets others go first at every step, so that all races happen. */
function yielding(inner: ChangeCounterStore): ChangeCounterStore {
  return {
    ...inner,
    read: async key => {
      await new Promise(setImmediate)
      return inner.read(key)
    },
    compareAndSet: async (...args) => {
      await new Promise(setImmediate)
      return inner.compareAndSet(...args)
    },
    purge: (...args) => inner.purge(...args),
    keys: page => inner.keys(page),
  }
}

test('a rule is what it was when the counter was made', async () => {
  const rule = { limit: 1, afterSuccess: 'keep' as 'keep' | 'reset' }
  const counter = counterOn(memoryStore(), rule)
  rule.limit = 99
  rule.afterSuccess = 'reset'
  const tried = await counter.begin(CARD)
  expect(tried).toMatchObject({ blocked: false, left: 0 })
  if (!tried.blocked) expect(await tried.succeed()).toBe(0)
  expect(await counter.begin(CARD)).toEqual({ blocked: true })
})

describe('counting', () => {
  test('64 at once on two counters: as many as the limit count, the others find the card blocked', async () => {
    const store = yielding(memoryStore())
    const counters = [counterOn(store), counterOn(store)]
    const tried = await Promise.all(
      Array.from({ length: 64 }, (_, i) => (counters[i % 2] ?? expect.unreachable()).begin(CARD)),
    )
    expect(tried.filter(({ blocked }) => !blocked)).toHaveLength(3)
    expect(tried.flatMap(one => (one.blocked ? [] : [one.left])).sort()).toEqual([0, 1, 2])
  })

  test('a right PIN gives back nothing that somebody else has used meanwhile, and unblocks nobody', async () => {
    const counter = counterOn(memoryStore())
    const first = await counter.begin(CARD)
    await counter.begin(CARD)
    if (first.blocked) throw new Error('blocked')
    expect(await first.succeed()).toBe(1)
    expect(await counter.left(CARD)).toBe(1)
    await counter.begin(CARD)
    expect(await first.succeed()).toBe(0)
    expect((await counter.begin(CARD)).blocked).toBe(true)
  })

  test('the last try may be the right one', async () => {
    const counter = counterOn(memoryStore(), { limit: 1, afterSuccess: 'reset' })
    const only = await counter.begin(CARD)
    if (only.blocked) throw new Error('blocked')
    expect(await only.succeed()).toBe(1)
  })

  test('with afterSuccess keep only unblock gives tries back; cards and products do not mix', async () => {
    const counter = new TryCounter({
      store: memoryStore(),
      products: { classic: { limit: 2, afterSuccess: 'keep' }, gold: { limit: 5, afterSuccess: 'reset' } },
    })
    const one = await counter.begin(CARD)
    if (one.blocked) throw new Error('blocked')
    expect(await one.succeed()).toBe(1)
    expect(await counter.left({ cardId: 'card-2', product: 'gold' })).toBe(5)
    await counter.unblock(CARD)
    expect(await counter.left(CARD)).toBe(2)
  })
})

describe('what goes wrong', () => {
  test('what is stored and is no count is an error, never no count', async () => {
    for (const value of ['', '-1', 'x', '100', '1.5']) {
      const store = memoryStore()
      await store.compareAndSet('tries/card-1', undefined, value)
      await failure(() => counterOn(store).begin(CARD), 'ERR_BACKEND_FAILED')
    }
  })

  test('a store that refuses every write: busy, and no try was given', async () => {
    const store = { ...yielding(memoryStore()), compareAndSet: async () => false }
    await failure(() => counterOn(store).begin(CARD), 'ERR_BACKEND_BUSY')
    const blocked = { ...store, read: async () => ({ value: '3', version: '1' }) }
    await failure(() => counterOn(blocked).unblock(CARD), 'ERR_BACKEND_BUSY')
  })

  test('a success whose write is too late changes nothing', async () => {
    const inner = memoryStore()
    let refuse = false
    const store = {
      ...yielding(inner),
      compareAndSet: async (...args: Parameters<ChangeCounterStore['compareAndSet']>) =>
        !refuse && inner.compareAndSet(...args),
    }
    const one = await counterOn(store).begin(CARD)
    refuse = true
    if (one.blocked) throw new Error('blocked')
    expect(await one.succeed()).toBe(2)
  })

  test('a listener hears of nothing that was not written', async () => {
    const inner = memoryStore()
    const heard: TryEvent['event'][] = []
    let refuse = false
    const counter = new TryCounter({
      store: {
        ...yielding(inner),
        compareAndSet: async (...args) => !refuse && inner.compareAndSet(...args),
      },
      products: { classic: RULE },
      onEvent: ({ event }) => void heard.push(event),
    })
    const one = await counter.begin(CARD)
    refuse = true
    if (one.blocked) throw new Error('blocked')
    await one.succeed()
    await failure(() => counter.begin(CARD), 'ERR_BACKEND_BUSY')
    await failure(() => counter.unblock(CARD), 'ERR_BACKEND_BUSY')
    expect(heard).toEqual(['counted'])
    refuse = false
    await one.succeed()
    await counter.unblock(CARD)
    expect(heard).toEqual(['counted', 'reset', 'unblocked'])
  })

  test('a listener hears of each try of a card that is blocked, and of no more tries', async () => {
    const heard: TryEvent[] = []
    const counter = new TryCounter({
      store: memoryStore(),
      products: { classic: { ...RULE, limit: 1 } },
      onEvent: event => void heard.push(event),
    })
    for (let i = 0; i < 3; i++) await counter.begin(CARD)
    expect(heard).toEqual([
      { event: 'counted', ...CARD, left: 0 },
      { event: 'blocked', ...CARD, left: 0 },
      { event: 'blocked', ...CARD, left: 0 },
    ])
  })

  test('a listener that throws decides nothing', async () => {
    const counter = new TryCounter({
      store: memoryStore(),
      products: { classic: RULE },
      onEvent: () => {
        throw new Error('the audit is down')
      },
    })
    expect((await counter.begin(CARD)).blocked).toBe(false)
  })

  test.each<[string, unknown]>([
    ['no store', { products: { classic: RULE } }],
    ['no products', { store: memoryStore(), products: {} }],
    ['a number for products', { store: memoryStore(), products: 3 }],
    ['a text for products', { store: memoryStore(), products: 'abc' }],
    ['null for products', { store: memoryStore(), products: null }],
    ['nothing for products', { store: memoryStore(), products: undefined }],
    ['a limit of zero', { store: memoryStore(), products: { classic: { ...RULE, limit: 0 } } }],
    ['no rule after success', { store: memoryStore(), products: { classic: { limit: 3 } } }],
    ['a listener that is none', { store: memoryStore(), products: { classic: RULE }, onEvent: 1 }],
  ])('%s: ERR_ARGUMENT', async (_name, options) => {
    await failure(() => new TryCounter(options as never), 'ERR_ARGUMENT')
  })

  test('rules of 64 products, and tries up to 99, are the most', async () => {
    const products = (count: number, limit: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, i) => [`p${i}`, { ...RULE, limit }]))
    const store = memoryStore()
    const counter = new TryCounter({ store, products: products(64, 99) })
    expect(await counter.left({ cardId: 'card-1', product: 'p63' })).toBe(99)
    for (const more of [products(65, 99), products(64, 100)])
      await failure(() => new TryCounter({ store, products: more }), 'ERR_ARGUMENT')
  })

  test.each([
    { cardId: '', product: 'classic' },
    { cardId: 'a b', product: 'classic' },
    { cardId: 'card-1', product: 'platinum' },
    { cardId: 'card-1', product: 'constructor' },
  ])('%j is no card with a rule', async card => {
    await failure(() => counterOn(memoryStore()).begin(card), 'ERR_ARGUMENT')
  })
})
