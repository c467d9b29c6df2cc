import { AssertionError } from 'node:assert'
import { randomBytes } from 'node:crypto'
import { inspect } from 'node:util'
import fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import { ChangeCounter } from '../../src/seccos/counter/counter.js'
import {
  type AcceptRequest,
  type ChangeCounterOptions,
  requestFingerprint,
} from '../../src/seccos/counter/state.js'
import { type ChangeCounterStore, memoryStore, type RecordWrite } from '../../src/seccos/counter/store.js'
import { softwareBackend } from '../../src/software.js'
import { changeCounterStoreContract } from '../../src/testing/change-counter-contract.js'

const backend = { randomBytes: async (length: number) => Uint8Array.from(randomBytes(length)) }
const nothing = async (): Promise<void> => undefined
const fingerprint = (n: number): Uint8Array => new Uint8Array(32).fill(n)

/** A store that can be looked into, and that lets a test act between read and write. */
class WatchedStore implements ChangeCounterStore {
  readonly inner = memoryStore()
  readonly written = new Map<string, string>()
  beforeWrite: ((key: string) => Promise<void>) | undefined
  read(key: string) {
    return this.inner.read(key)
  }
  async compareAndSet(
    key: string,
    expected: string | undefined,
    value: string,
    options?: { expiresAt?: number; instance?: string },
  ) {
    const hook = this.beforeWrite
    this.beforeWrite = undefined
    await hook?.(key)
    const done = await this.inner.compareAndSet(key, expected, value, options)
    if (done) this.written.set(key, value)
    return done
  }
  purge(now: number, options?: { limit?: number }) {
    return this.inner.purge(now, options)
  }
  keys(page: Parameters<ChangeCounterStore['keys']>[0]) {
    return this.inner.keys(page)
  }
}

function setUp(more: Partial<ChangeCounterOptions> = {}) {
  const store = new WatchedStore()
  const clock = { now: 1_000_000 }
  const counter = new ChangeCounter({
    store,
    backend,
    firstPcc: '0001',
    rule: 'increment-on-accept',
    wrap: 'refuse',
    ttlSeconds: 300,
    now: () => clock.now,
    ...more,
  })
  const issue = async (cardId = 'card-1'): Promise<AcceptRequest> => {
    const { pcc, intdatag } = await counter.issue({ cardId })
    return { cardId, pcc, intdatag, fingerprint: fingerprint(1) }
  }
  return { store, clock, counter, issue }
}

const refused = (reason: string) => ({ code: 'ERR_CHANGE_COUNTER', reason, retryable: false })

describe('options', () => {
  const good: ChangeCounterOptions = {
    store: memoryStore(),
    backend,
    firstPcc: '0001',
    rule: 'increment-on-accept',
    wrap: 'refuse',
    ttlSeconds: 300,
  }
  test.each([
    ['none', undefined],
    ['no store', { ...good, store: undefined }],
    ['half a store', { ...good, store: { read: nothing, compareAndSet: nothing } }],
    ['no backend', { ...good, backend: {} }],
    ['no first PCC', { ...good, firstPcc: undefined }],
    ['a short first PCC', { ...good, firstPcc: '1' }],
    ['no rule', { ...good, rule: undefined }],
    ['an inherited rule', { ...good, rule: 'toString' }],
    ['no wrap', { ...good, wrap: undefined }],
    ['another wrap', { ...good, wrap: 'wrap' }],
    ['no time to live', { ...good, ttlSeconds: undefined }],
    ['no time at all', { ...good, ttlSeconds: 0 }],
    ['half a second', { ...good, ttlSeconds: 0.5 }],
    ['two days', { ...good, ttlSeconds: 172_800 }],
    ['a clock that is none', { ...good, now: 5 }],
    ['a misspelt option', { ...good, ttl: 300 }],
  ])('%s', (_, options) => {
    expect(() => new ChangeCounter(options as never)).toThrow(
      expect.objectContaining({ code: 'ERR_ARGUMENT' }),
    )
  })

  test('a first PCC by card, which must be four digits', async () => {
    const { counter } = setUp({ firstPcc: async cardId => (cardId === 'a' ? '0815' : '815') })
    expect(await counter.issue({ cardId: 'a' })).toMatchObject({ pcc: '0815' })
    await expect(counter.issue({ cardId: 'b' })).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
  })

  test('the clock is the system clock where none is given', async () => {
    const before = Date.now()
    const { expiresAt } = await new ChangeCounter(good).issue({ cardId: 'card-1' })
    const issued = expiresAt - 300_000
    expect(issued).toBeGreaterThanOrEqual(before)
    expect(issued).toBeLessThanOrEqual(Date.now())
  })
})

describe('arguments', () => {
  const { counter } = setUp()
  const request = { cardId: 'card-1', intdatag: 'A'.repeat(20), pcc: '0001', fingerprint: fingerprint(1) }
  test.each([
    ['no request', undefined],
    ['a cardId with a slash', { ...request, cardId: 'card/1' }],
    ['an empty cardId', { ...request, cardId: '' }],
    ['49 characters of cardId', { ...request, cardId: 'c'.repeat(49) }],
    ['a cardId with a line break', { ...request, cardId: 'card-1\n' }],
    ['a short fingerprint', { ...request, fingerprint: new Uint8Array(31) }],
    ['a fingerprint in hex', { ...request, fingerprint: '00'.repeat(32) }],
    ['a number for a pcc', { ...request, pcc: 1 }],
    ['no intdatag', { ...request, intdatag: undefined }],
  ])('%s', async (_, given) => {
    await expect(counter.check(given as never)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
    await expect(counter.accept({ request: given as never, store: nothing })).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
    })
  })
  test('no store function, a cardId to issue that is none', async () => {
    await expect(counter.accept({ request, store: undefined as never })).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
    })
    await expect(counter.issue({ cardId: 'card 1' })).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
  })
})

describe('issue', () => {
  test('20 unambiguous characters, 100 bits, no two alike, all of them used', async () => {
    const { counter } = setUp()
    const seen = new Map<string, number>()
    const tags = new Set<string>()
    for (let i = 0; i < 400; i++) {
      const { intdatag } = await counter.issue({ cardId: 'card-1' })
      expect(intdatag).toMatch(/^[0-9A-HJKMNP-TV-Z]{20}$/)
      tags.add(intdatag)
      for (const character of intdatag) seen.set(character, (seen.get(character) ?? 0) + 1)
    }
    expect(tags.size).toBe(400)
    expect(seen.size).toBe(32)
    // 8000 draws of 32: 250 each. Six standard deviations are 94.
    for (const count of seen.values()) expect(Math.abs(count - 250)).toBeLessThan(94)
  })

  test('every character has the same number of byte values', async () => {
    const counts = new Map<string, number>()
    for (let start = 0; start < 256; start += 16) {
      const bytes = Uint8Array.from({ length: 20 }, (_, i) => start + (i % 16))
      const { counter } = setUp({ backend: { randomBytes: async () => bytes.slice() } })
      const { intdatag } = await counter.issue({ cardId: 'card-1' })
      for (const character of intdatag.slice(0, 16)) counts.set(character, (counts.get(character) ?? 0) + 1)
    }
    expect([...counts.values()]).toEqual(Array.from({ length: 32 }, () => 8))
  })

  test('the random numbers are the backend’s, and wiped', async () => {
    const given: Uint8Array[] = []
    await using software = await softwareBackend({ keys: [] })
    const { counter } = setUp({
      backend: {
        randomBytes: async length => {
          given.push(await software.randomBytes(length))
          return given.at(-1) ?? expect.unreachable()
        },
      },
    })
    await counter.issue({ cardId: 'card-1' })
    expect(given).toHaveLength(1)
    expect(given[0]).toEqual(new Uint8Array(20))
  })

  test('a backend that gives less, or the same again, is not believed', async () => {
    const short = setUp({ backend: { randomBytes: async () => new Uint8Array(19) } })
    await expect(short.counter.issue({ cardId: 'card-1' })).rejects.toMatchObject({
      code: 'ERR_BACKEND_FAILED',
    })
    const stuck = setUp({ backend: { randomBytes: async () => new Uint8Array(20) } })
    await stuck.counter.issue({ cardId: 'card-1' })
    await expect(stuck.counter.issue({ cardId: 'card-2' })).rejects.toMatchObject({
      code: 'ERR_BACKEND_FAILED',
    })
  })

  test('a store that can is given index and record in one step; a lost race writes neither, and begins again', async () => {
    const inner = memoryStore()
    const steps: number[] = []
    let first = true
    const store: ChangeCounterStore = {
      read: key => inner.read(key),
      compareAndSet: (...write) => inner.compareAndSet(...write),
      compareAndSetAll: async writes => {
        steps.push(writes.length)
        // Another replica comes first, once.
        if (first) {
          first = false
          await setUp({ store: inner }).counter.issue({ cardId: 'card-1' })
        }
        return (await inner.compareAndSetAll?.(writes)) ?? false
      },
      purge: now => inner.purge(now),
      keys: page => inner.keys(page),
    }
    const { counter } = setUp({ store })
    const { intdatag, pcc } = await counter.issue({ cardId: 'card-1' })
    expect(steps).toEqual([2, 2])
    expect(await inner.keys({ prefix: 'tag/', limit: 9 })).toHaveLength(2)
    const request = { cardId: 'card-1', intdatag, pcc, fingerprint: new Uint8Array(32) }
    expect(await counter.check(request)).toEqual({ replayed: false })
    await expect(counter.check({ ...request, cardId: 'card-2' })).rejects.toMatchObject({
      reason: 'other-card',
    })
    const stuck = setUp({ store, backend: { randomBytes: async () => new Uint8Array(20) } })
    await stuck.counter.issue({ cardId: 'card-1' })
    await expect(stuck.counter.issue({ cardId: 'card-2' })).rejects.toMatchObject({
      code: 'ERR_BACKEND_FAILED',
    })
    expect(await inner.read('card/card-2')).toBeUndefined()
  })

  test('an aborted issue leaves no open intdatag', async () => {
    const { counter, store } = setUp()
    const abort = new AbortController()
    store.beforeWrite = async () => abort.abort()
    await expect(counter.issue({ cardId: 'card-1' }, { signal: abort.signal })).rejects.toMatchObject({
      code: 'ERR_ABORTED',
    })
    expect(await store.read('card/card-1')).toBeUndefined()
  })

  test('two at once for one card: both are good, with one PCC, until one is accepted', async () => {
    const { counter } = setUp()
    const [a, b] = await Promise.all([
      counter.issue({ cardId: 'card-1' }),
      counter.issue({ cardId: 'card-1' }),
    ])
    expect([a.pcc, b.pcc]).toEqual(['0001', '0001'])
    const request = (issued: typeof a) => ({ cardId: 'card-1', ...issued, fingerprint: fingerprint(1) })
    expect(await counter.check(request(a))).toEqual({ replayed: false })
    await counter.accept({ request: request(b), store: nothing })
    await expect(counter.accept({ request: request(a), store: nothing })).rejects.toMatchObject(
      refused('superseded'),
    )
  })

  test('the ninth open one supersedes the first', async () => {
    const { counter, issue } = setUp()
    const issued = []
    for (let i = 0; i < 9; i++) issued.push(await issue())
    const verdicts = await Promise.allSettled(issued.map(request => counter.check(request)))
    expect(verdicts.map(({ status }) => status)).toEqual([
      'rejected',
      ...Array.from({ length: 8 }, () => 'fulfilled'),
    ])
    expect(verdicts[0]).toMatchObject({ reason: refused('superseded') })
  })

  test('a record does not grow without end, and remembers what was spent', async () => {
    const { counter, issue, store } = setUp()
    const spent = await issue()
    await counter.accept({ request: spent, store: nothing })
    for (let i = 0; i < 50; i++) await issue()
    expect(store.written.get('card/card-1')?.length).toBeLessThan(4096)
    expect(await counter.check(spent)).toEqual({ replayed: true })
    for (let i = 0; i < 20; i++) await counter.accept({ request: await issue(), store: nothing })
    expect(store.written.get('card/card-1')?.length).toBeLessThan(8192)
    await expect(counter.check(spent)).rejects.toMatchObject(refused('unknown'))
  })
})

describe('refusals leave the counter as it is', () => {
  const cases: readonly [
    reason: string,
    what: string,
    make: (set: ReturnType<typeof setUp>) => Promise<AcceptRequest>,
  ][] = [
    [
      'unknown',
      'a card that has none',
      async () => ({ cardId: 'card-9', intdatag: 'A'.repeat(20), pcc: '0001', fingerprint: fingerprint(1) }),
    ],
    [
      'unknown',
      'an intdatag nobody issued',
      async ({ issue }) => ({ ...(await issue()), intdatag: 'A'.repeat(20) }),
    ],
    [
      'unknown',
      'an intdatag in lower case',
      async ({ issue }) => {
        const request = await issue()
        return { ...request, intdatag: `${request.intdatag.slice(0, 19)}u` }
      },
    ],
    [
      'unknown',
      'an intdatag too short',
      async ({ issue }) => ({ ...(await issue()), intdatag: 'TOO-SHORT-INTDATAG' }),
    ],
    [
      'unknown',
      'an intdatag of other characters',
      async ({ issue }) => ({ ...(await issue()), intdatag: 'ä'.repeat(20) }),
    ],
    [
      'other-card',
      'an intdatag of another card',
      async ({ issue }) => ({ ...(await issue('card-2')), cardId: 'card-1' }),
    ],
    [
      'other-card',
      'an intdatag of another card, of one that has its own',
      async ({ issue }) => {
        const other = await issue('card-2')
        await issue('card-1')
        return { ...other, cardId: 'card-1' }
      },
    ],
    ['pcc', 'the next pcc', async ({ issue }) => ({ ...(await issue()), pcc: '0002' })],
    ['pcc', 'a pcc that is none', async ({ issue }) => ({ ...(await issue()), pcc: '1' })],
    [
      'expired',
      'the very millisecond',
      async ({ issue, clock }) => {
        const request = await issue()
        clock.now += 300_000
        return request
      },
    ],
    [
      'spent',
      'another request with the intdatag',
      async ({ issue, counter }) => {
        const request = await issue()
        await counter.accept({ request, store: nothing })
        return { ...request, fingerprint: fingerprint(2) }
      },
    ],
    [
      'spent',
      'another request while the first is being stored',
      async ({ issue, counter }) => {
        const request = await issue()
        await counter
          .accept({ request, store: () => Promise.reject(new Error('down')) })
          .catch(() => undefined)
        return { ...request, fingerprint: fingerprint(2) }
      },
    ],
    [
      'superseded',
      'an earlier one after a later was accepted',
      async ({ issue, counter }) => {
        const request = await issue()
        await counter.accept({ request: await issue(), store: nothing })
        return request
      },
    ],
  ]
  test.each(cases)('%s: %s', async (reason, _, make) => {
    const set = setUp()
    const request = await make(set)
    const before = new Map(set.store.written)
    const stored: unknown[] = []
    await expect(set.counter.check(request)).rejects.toMatchObject(refused(reason))
    const error = await set.counter
      .accept({ request, store: async () => void stored.push(1) })
      .catch((thrown: unknown) => thrown)
    expect(error).toMatchObject(refused(reason))
    expect(inspect(error)).not.toContain(request.intdatag.slice(0, 12))
    expect(stored).toEqual([])
    // What was found expired is marked so, and nothing else.
    const marked = [...before].map(([key, value]) => [
      key,
      value.replace(/"expiresAt":[0-9]+/, '"expiresAt":0'),
    ])
    expect(set.store.written).toEqual(reason === 'expired' ? new Map(marked as never) : before)
  })

  test('a clock that goes back revives nothing that was seen to be expired', async () => {
    const looks: readonly ((set: ReturnType<typeof setUp>, request: AcceptRequest) => Promise<unknown>)[] = [
      ({ counter }, request) => counter.check(request).catch(() => undefined),
      ({ counter }, request) => counter.accept({ request, store: nothing }).catch(() => undefined),
      ({ counter }, { cardId }) => counter.issue({ cardId }),
    ]
    for (const claimed of [false, true]) {
      for (const look of looks) {
        const set = setUp()
        const request = await set.issue()
        if (claimed) {
          await set.counter
            .accept({ request, store: () => Promise.reject(new Error('down')) })
            .catch(() => undefined)
        }
        const then = set.clock.now
        set.clock.now += 301_000
        await look(set, request)
        set.clock.now = then
        await expect(set.counter.check(request)).rejects.toMatchObject(refused('expired'))
        await expect(set.counter.accept({ request, store: nothing })).rejects.toMatchObject(
          refused('expired'),
        )
      }
    }
  })
})

describe('accept', () => {
  test('once, then the very same again, then nothing else', async () => {
    const { counter, issue } = setUp()
    const request = await issue()
    const stored: number[] = []
    const store = async ({ sequence }: { sequence: number }) => void stored.push(sequence)
    expect(await counter.accept({ request, store })).toEqual({ sequence: 1, replayed: false })
    expect(await counter.accept({ request, store })).toEqual({ sequence: 1, replayed: true })
    expect(await counter.check(request)).toEqual({ replayed: true })
    expect(stored).toEqual([1])
    expect(await counter.issue({ cardId: 'card-1' })).toMatchObject({ pcc: '0002' })
    expect(await counter.accept({ request, store })).toEqual({ sequence: 1, replayed: true })
  })

  test('a millisecond before it expires', async () => {
    const { counter, issue, clock } = setUp()
    const request = await issue()
    clock.now += 299_999
    expect(await counter.accept({ request, store: nothing })).toMatchObject({ replayed: false })
  })

  test('a store that fails: its error comes out, the same request may come again, until it expires', async () => {
    const { counter, issue, clock } = setUp()
    const request = await issue()
    const down = new Error('database down')
    await expect(counter.accept({ request, store: () => Promise.reject(down) })).rejects.toBe(down)
    clock.now += 299_999
    const stored: number[] = []
    expect(
      await counter.accept({ request, store: async ({ sequence }) => void stored.push(sequence) }),
    ).toEqual({
      sequence: 1,
      replayed: false,
    })
    expect(stored).toEqual([1])
    clock.now += 1_000_000
    expect(await counter.accept({ request, store: () => expect.unreachable() })).toMatchObject({
      replayed: true,
    })
    const late = await issue()
    await expect(counter.accept({ request: late, store: () => Promise.reject(down) })).rejects.toBe(down)
    clock.now += 300_000
    await expect(counter.accept({ request: late, store: () => expect.unreachable() })).rejects.toMatchObject(
      refused('expired'),
    )
  })

  test('a PCC whose storage is unclear is not issued again', async () => {
    const { counter, issue } = setUp()
    const request = await issue()
    await counter.accept({ request, store: () => Promise.reject(new Error('down')) }).catch(() => undefined)
    const next = await issue()
    expect(next.pcc).toBe('0002')
    expect(await counter.accept({ request: next, store: nothing })).toEqual({ sequence: 2, replayed: false })
    await expect(counter.accept({ request, store: () => expect.unreachable() })).rejects.toMatchObject(
      refused('superseded'),
    )
  })

  test('a store that is overtaken is told apart by its sequence, and its request refused', async () => {
    const { counter, issue } = setUp()
    const slow = await issue()
    const order: number[] = []
    const result = counter.accept({
      request: slow,
      store: async ({ sequence }) => {
        const later = await issue()
        await counter.accept({
          request: later,
          store: async acceptance => void order.push(acceptance.sequence),
        })
        order.push(sequence)
      },
    })
    await expect(result).rejects.toMatchObject(refused('superseded'))
    expect(order).toEqual([2, 1])
  })

  test('the same request twice at once: both succeed', async () => {
    const { counter, issue } = setUp()
    const request = await issue()
    const results = await Promise.all([
      counter.accept({ request, store: nothing }),
      counter.accept({ request, store: nothing }),
    ])
    for (const result of results) expect(result.sequence).toBe(1)
    expect(await counter.issue({ cardId: 'card-1' })).toMatchObject({ pcc: '0002' })
  })

  test('of different requests at once, one', async () => {
    const { counter, issue } = setUp()
    const request = await issue()
    const stored: number[] = []
    const results = await Promise.allSettled(
      Array.from({ length: 20 }, (_, n) =>
        counter.accept({
          request: { ...request, fingerprint: fingerprint(n) },
          store: async () => void stored.push(n),
        }),
      ),
    )
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
    expect(stored).toHaveLength(1)
    for (const result of results) {
      if (result.status === 'rejected') expect(result.reason).toMatchObject(refused('spent'))
    }
  })

  test('somebody else between reading and writing: decided again on what is there', async () => {
    const { counter, issue, store } = setUp()
    const request = await issue()
    store.beforeWrite = async () => {
      await counter.accept({ request: { ...request, fingerprint: fingerprint(9) }, store: nothing })
    }
    await expect(counter.accept({ request, store: () => expect.unreachable() })).rejects.toMatchObject(
      refused('spent'),
    )
  })

  test('an abort before the claim, and none after', async () => {
    const { counter, issue, store } = setUp()
    const request = await issue()
    const abort = new AbortController()
    const before = new Map(store.written)
    await expect(
      counter.accept({ request, store: nothing }, { signal: AbortSignal.abort() }),
    ).rejects.toMatchObject({
      code: 'ERR_ABORTED',
    })
    expect(store.written).toEqual(before)
    const result = await counter.accept(
      { request, store: async () => abort.abort() },
      { signal: abort.signal },
    )
    expect(result).toEqual({ sequence: 1, replayed: false })
  })

  test('a store under siege gives up, and says that trying again may help', async () => {
    const store = {
      ...parts(memoryStore()),
      read: async () => undefined,
      compareAndSet: async (key: string) => key.startsWith('tag/'),
      purge: async () => 0,
    }
    const { counter } = setUp({ store })
    await expect(counter.issue({ cardId: 'card-1' })).rejects.toMatchObject({
      code: 'ERR_BACKEND_BUSY',
      retryable: true,
    })
  })

  test.each(['', '{}', 'null', '{"v":2,"pcc":1,"sequence":1,"issued":[]}'])(
    'a record that is none: %j',
    async value => {
      const { counter, store } = setUp()
      await store.inner.compareAndSet('card/card-1', undefined, value)
      await expect(counter.issue({ cardId: 'card-1' })).rejects.toMatchObject({ code: 'ERR_BACKEND_FAILED' })
    },
  )
})

describe('how the PCC moves', () => {
  const walk = async (more: Partial<ChangeCounterOptions>) => {
    const { counter, issue } = setUp({ firstPcc: '9998', ...more })
    const seen: string[] = []
    for (let i = 0; i < 3; i++) {
      const request = await issue()
      seen.push(request.pcc)
      await counter.accept({ request, store: nothing })
    }
    return seen
  }
  test('increment-on-accept, wrapping to 0000 or 0001', async () => {
    expect(await walk({ wrap: 'wrap-to-0000' })).toEqual(['9998', '9999', '0000'])
    expect(await walk({ wrap: 'wrap-to-0001' })).toEqual(['9998', '9999', '0001'])
  })
  test('increment-on-issue, wrapping', async () => {
    expect(await walk({ rule: 'increment-on-issue', wrap: 'wrap-to-0000' })).toEqual(['9998', '9999', '0000'])
  })
  test.each(['increment-on-accept', 'increment-on-issue'] as const)('%s, refusing after 9999', async rule => {
    await expect(walk({ rule })).rejects.toMatchObject(refused('exhausted'))
  })
  test('refusing: what was accepted with 9999 can still be repeated', async () => {
    const { counter, issue } = setUp({ firstPcc: '9999' })
    const request = await issue()
    await counter.accept({ request, store: nothing })
    await expect(counter.issue({ cardId: 'card-1' })).rejects.toMatchObject(refused('exhausted'))
    expect(await counter.accept({ request, store: nothing })).toMatchObject({ replayed: true })
  })
  test('increment-on-issue: each issue has its own, an abandoned one is skipped', async () => {
    const { counter, issue } = setUp({ rule: 'increment-on-issue' })
    const [first, second] = [await issue(), await issue()]
    expect([first.pcc, second.pcc]).toEqual(['0001', '0002'])
    await counter.accept({ request: second, store: nothing })
    await expect(counter.accept({ request: first, store: nothing })).rejects.toMatchObject(
      refused('superseded'),
    )
    expect((await issue()).pcc).toBe('0003')
  })
})

describe('what the store sees', () => {
  test('no intdatag, no fingerprint’s source, nothing but hashes', async () => {
    const { counter, issue, store } = setUp()
    const request = await issue()
    await counter.accept({ request, store: nothing })
    const all = [...store.written].flat().join(' ')
    expect(all).not.toContain(request.intdatag)
    expect(all).toContain('card-1')
  })

  test('the index of an intdatag goes a week after its expiry, the record of the card stays', async () => {
    const { counter, issue, clock, store } = setUp()
    const request = await issue('card-2')
    clock.now += 300_000 + 7 * 86_400_000 - 1
    expect(await counter.purge()).toBe(0)
    await expect(counter.check({ ...request, cardId: 'card-1' })).rejects.toMatchObject(refused('other-card'))
    clock.now += 1
    expect(await counter.purge()).toBe(1)
    await expect(counter.check({ ...request, cardId: 'card-1' })).rejects.toMatchObject(refused('unknown'))
    await expect(counter.check(request)).rejects.toMatchObject(refused('expired'))
    expect(await store.read('card/card-2')).toBeDefined()
  })
})

test('whatever comes, at most one request is stored per PCC, in order', async () => {
  const command = fc.oneof(
    fc.record({ do: fc.constant('issue' as const) }),
    fc.record({ do: fc.constant('wait' as const) }),
    fc.record({
      do: fc.constant('accept' as const),
      which: fc.nat(20),
      fingerprint: fc.nat(2),
      fails: fc.boolean(),
    }),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(command, { maxLength: 40 }), async commands => {
      const { counter, issue, clock } = setUp()
      const issued: AcceptRequest[] = []
      const stored = new Map<string, Set<number>>()
      const sequences: number[] = []
      for (const step of commands) {
        if (step.do === 'issue') issued.push(await issue())
        else if (step.do === 'wait') clock.now += 100_000
        else {
          const request = issued[step.which % Math.max(1, issued.length)]
          if (request === undefined) continue
          const given = { ...request, fingerprint: fingerprint(step.fingerprint) }
          await counter
            .accept({
              request: given,
              store: async ({ sequence }) => {
                stored.set(request.pcc, (stored.get(request.pcc) ?? new Set()).add(step.fingerprint))
                sequences.push(sequence)
                if (step.fails) throw new Error('down')
              },
            })
            .catch(() => undefined)
        }
      }
      for (const fingerprints of stored.values()) expect(fingerprints.size).toBe(1)
      expect(sequences).toEqual(sequences.toSorted((a, b) => a - b))
    }),
    { numRuns: 200 },
  )
})

describe('requestFingerprint', () => {
  const members = { intdatag: 'A'.repeat(20), prwValue: '00', macKid: 'M' }
  test('does not depend on the order, and on everything else', () => {
    const { macKid, ...rest } = members
    expect(requestFingerprint({ macKid, ...rest })).toEqual(requestFingerprint(members))
    for (const other of [
      { ...members, macKid: 'N' },
      rest,
      { ...members, more: '' },
      { ...rest, macKidM: '' },
    ]) {
      expect(requestFingerprint(other)).not.toEqual(requestFingerprint(members))
    }
    // A value that looks like an end, another name and its value: the length of each tells them apart.
    const zeros = '\0'.repeat(4)
    expect(requestFingerprint({ a: `b${zeros}c${zeros}d` })).not.toEqual(
      requestFingerprint({ a: 'b', c: 'd' }),
    )
    expect(requestFingerprint(members)).toHaveLength(32)
  })
  test('takes strings only', () => {
    expect(() => requestFingerprint({ pcc: 1 } as never)).toThrow(
      expect.objectContaining({ code: 'ERR_ARGUMENT' }),
    )
    expect(() => requestFingerprint(null as never)).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }))
  })
})

describe('the store contract', () => {
  const open = async () => {
    const store = memoryStore()
    return [store, store] as const
  }
  test.each(changeCounterStoreContract({ open }))('memory: $name', ({ run }) => run())

  test('the suite notices a store that breaks it', async () => {
    const forgetful = async () => {
      const store = memoryStore()
      const compareAndSet: ChangeCounterStore['compareAndSet'] = async (key, _expected, value, options) => {
        const now = await store.read(key)
        return store.compareAndSet(key, now?.version, value, options)
      }
      const [read, purge, keys] = [store.read.bind(store), store.purge.bind(store), store.keys.bind(store)]
      const broken = { read, purge, keys, compareAndSet }
      return [broken, broken] as const
    }
    const verdicts = await Promise.allSettled(
      changeCounterStoreContract({ open: forgetful }).map(({ run }) => run()),
    )
    expect(verdicts.filter(({ status }) => status === 'rejected').length).toBeGreaterThanOrEqual(4)
  })

  test.each<[string, string, (store: ChangeCounterStore) => Partial<ChangeCounterStore>]>([
    [
      'a key that was never written is empty',
      'a key that was never written reads as undefined',
      store => ({ read: async key => (await store.read(key)) ?? { value: '', version: '0' } }),
    ],
    [
      'a version comes back with its value',
      'writing the same value again makes a new version',
      store => ({
        read: async key => byValue(await store.read(key)),
        compareAndSet: async (key, expected, ...write) => {
          const now = await store.read(key)
          return byValue(now)?.version === expected && store.compareAndSet(key, now?.version, ...write)
        },
      }),
    ],
    [
      'an empty text is nothing',
      'an empty text and 8 KiB are values',
      store => ({
        read: async key => {
          const record = await store.read(key)
          return record?.value === '' ? undefined : record
        },
      }),
    ],
    [
      'a version of what is not there creates it',
      'replacing what is not there is refused',
      store => ({
        compareAndSet: async (key, expected, ...write) =>
          store.compareAndSet(key, (await store.read(key)) && expected, ...write),
      }),
    ],
    [
      'a version that is no number is any version',
      'a version that never was is refused',
      store => ({
        compareAndSet: async (key, expected, ...write) => {
          const now = Number(expected) > 0 ? expected : (await store.read(key))?.version
          return store.compareAndSet(key, expected && now, ...write)
        },
      }),
    ],
    [
      'keys are apart by their letters alone',
      'keys are apart, case and all',
      store => ({
        read: key => store.read(key.toLowerCase()),
        compareAndSet: (key, ...write) => store.compareAndSet(key.toLowerCase(), ...write),
      }),
    ],
    [
      'keys are cut to their first 64 characters',
      'keys of 80 characters are kept whole',
      store => ({
        read: key => store.read(key.slice(0, 64)),
        compareAndSet: (key, ...write) => store.compareAndSet(key.slice(0, 64), ...write),
      }),
    ],
    [
      'an expiry stays',
      'a write without expiry clears an old one',
      store => {
        const ends = new Map<string, number | undefined>()
        return {
          compareAndSet: (key, expected, value, options) => {
            ends.set(key, options?.expiresAt ?? ends.get(key))
            return store.compareAndSet(key, expected, value, {
              ...options,
              expiresAt: ends.get(key),
            } as object)
          },
        }
      },
    ],
  ])('the suite notices where %s: %s', async (_, found, plant) => {
    const open = async () => {
      const store = parts(memoryStore())
      const faulty = { ...store, ...plant(store) }
      return [faulty, faulty] as const
    }
    const [rule] = changeCounterStoreContract({ open }).filter(({ name }) => name === found)
    await expect(rule?.run()).rejects.toThrow(AssertionError)
  })

  /** A store that does all there is to do, and says which server answers. */
  const whole = () => {
    const store = memoryStore({ instance: () => 'a/1' })
    const compareAndSetAll = async (writes: readonly RecordWrite[]): Promise<boolean> =>
      (await store.compareAndSetAll?.(writes)) === true
    return { ...parts(store), compareAndSetAll }
  }
  type Whole = ReturnType<typeof whole>
  const without = ({ instance: _, ...write }: RecordWrite): RecordWrite => write
  const writesWhatItRefuses = ({ read, compareAndSet }: Whole): Partial<Whole> => ({
    compareAndSet: async (key, expected, value, options) => {
      if (await compareAndSet(key, expected, value, options)) return true
      await compareAndSet(key, (await read(key))?.version, value)
      return false
    },
  })
  const TOGETHER = 'several records are written together, or none of them'
  const LISTED = 'keys are listed in pages, byte by byte, by their beginning'
  const INSTANCE = 'a write for another instance of the database is refused, and changes nothing'

  test.each<[string, string, (store: Whole) => Partial<Whole>]>([
    ...[
      'creating what is there is refused and changes nothing',
      'replacing what is not there is refused',
      'a version is good for one write',
      'a version that never was is refused',
      'of many that create at once, one does',
      INSTANCE,
    ].map((found): [string, string, typeof writesWhatItRefuses] => [
      'what is refused is written',
      found,
      writesWhatItRefuses,
    ]),
    [
      'what is refused is said to be written',
      'of many that replace one version at once, one does, and no count is lost',
      ({ compareAndSet }) => ({ compareAndSet: async (...write) => (await compareAndSet(...write)) || true }),
    ],
    ...[0, -1].map((at): [string, string, (store: Whole) => Partial<Whole>] => [
      `of several that are refused one is written (${at})`,
      TOGETHER,
      ({ compareAndSet, compareAndSetAll }) => ({
        compareAndSetAll: async writes => {
          const done = await compareAndSetAll(writes)
          const one = writes.at(at)
          if (!done && one !== undefined) await compareAndSet(one.key, one.expected, one.value)
          return done
        },
      }),
    ]),
    ...[0, -1].map((at): [string, string, (store: Whole) => Partial<Whole>] => [
      `of several that are refused what would be replaced is written, whatever version it is for (${at})`,
      TOGETHER,
      ({ read, compareAndSet, compareAndSetAll }) => ({
        compareAndSetAll: async writes => {
          const done = await compareAndSetAll(writes)
          const one = writes.at(at)
          if (!done && one?.expected !== undefined)
            await compareAndSet(one.key, (await read(one.key))?.version, one.value)
          return done
        },
      }),
    ]),
    [
      'of several that race the last one to be refused is written',
      TOGETHER,
      ({ read, compareAndSet, compareAndSetAll }) => ({
        compareAndSetAll: async writes => {
          const done = await compareAndSetAll(writes)
          const last = writes.at(-1)
          if (!done && last?.value.startsWith('racer-'))
            await compareAndSet(last.key, (await read(last.key))?.version, last.value)
          return done
        },
      }),
    ],
    [
      'several that are refused are said to be written',
      TOGETHER,
      ({ compareAndSetAll }) => ({
        compareAndSetAll: async writes => (await compareAndSetAll(writes)) || true,
      }),
    ],
    [
      'of several the last one keeps its value',
      TOGETHER,
      ({ read, compareAndSetAll }) => ({
        compareAndSetAll: async writes => {
          const last = writes.at(-1)
          const now = last && (await read(last.key))
          return compareAndSetAll(
            now && last ? [...writes.slice(0, -1), { ...last, value: now.value }] : writes,
          )
        },
      }),
    ],
    [
      'several are written whatever server answers',
      INSTANCE,
      ({ compareAndSetAll }) => ({ compareAndSetAll: writes => compareAndSetAll(writes.map(without)) }),
    ],
    [
      'what is there is replaced whatever server answers',
      INSTANCE,
      ({ compareAndSet }) => ({
        compareAndSet: (key, expected, value, options) =>
          compareAndSet(key, expected, value, expected === undefined ? options : undefined),
      }),
    ],
    [
      'a record does not say which server gave it',
      INSTANCE,
      ({ read }) => ({
        read: async key => {
          const record = await read(key)
          return record && { value: record.value, version: record.version }
        },
      }),
    ],
    [
      'keys come in no order',
      LISTED,
      ({ keys }) => ({ keys: async query => (await keys(query)).toReversed() }),
    ],
    ['a page begins anew', LISTED, ({ keys }) => ({ keys: ({ after: _, ...query }) => keys(query) })],
    [
      'a beginning that no key has is any',
      LISTED,
      ({ keys }) => ({
        keys: async query => {
          const found = await keys(query)
          return found.length === 0 ? keys({ ...query, prefix: '' }) : found
        },
      }),
    ],
    [
      'a purge deletes more than it says',
      'purge with a limit deletes no more than that',
      ({ purge }) => ({
        purge: async (at, options) => {
          const purged = await purge(at, options)
          await purge(at, { limit: 1 })
          return purged
        },
      }),
    ],
    [
      'a purge counts what was deleted before',
      'purge deletes what has expired, and only that',
      ({ purge }) => {
        let last = 0
        return {
          purge: async (...call) => {
            last = (await purge(...call)) || last
            return last
          },
        }
      },
    ],
    [
      'a purge deletes what has not expired',
      'purge deletes what has expired, and only that',
      ({ purge }) => ({
        purge: async (at, options) => {
          const purged = await purge(at, options)
          await purge(at + 1, options)
          return purged
        },
      }),
    ],
  ])('the suite notices where %s: %s', async (_, found, plant) => {
    const open = async () => {
      const store = whole()
      const faulty = { ...store, ...plant(store) }
      return [faulty, faulty] as const
    }
    const [rule] = changeCounterStoreContract({ open }).filter(({ name }) => name === found)
    await expect(rule?.run()).rejects.toThrow(AssertionError)
  })

  test('the suite notices two handles that do not see what the other has written: all cases but those with one', async () => {
    const apart = async () => [memoryStore(), memoryStore()] as const
    const cases = changeCounterStoreContract({ open: apart })
    const verdicts = await Promise.allSettled(cases.map(({ run }) => run()))
    const passed = cases.filter((_, i) => verdicts[i]?.status === 'fulfilled').map(({ name }) => name)
    expect(passed).toEqual([
      'a key that was never written reads as undefined',
      'an empty text and 8 KiB are values',
      'replacing what is not there is refused',
      'writing the same value again makes a new version',
      'a version that never was is refused',
      'keys are apart, case and all',
      'a write without expiry clears an old one',
    ])
  })
})

describe('a database that fails over', () => {
  test.each(['increment-on-accept', 'increment-on-issue'] as const)(
    'takes no intdatag of the instance before, and goes on in a new epoch: %s',
    async rule => {
      let instance = 'one'
      const { counter, issue } = setUp({ store: memoryStore({ instance: () => instance }), rule })
      const first = await issue()
      expect(await counter.accept({ request: first, store: nothing })).toEqual({
        sequence: 1,
        replayed: false,
      })
      const open = await issue()
      instance = 'two'
      await expect(counter.check(open)).rejects.toMatchObject(refused('failover'))
      await expect(counter.accept({ request: open, store: nothing })).rejects.toMatchObject(
        refused('failover'),
      )
      expect(await counter.accept({ request: first, store: nothing })).toEqual({
        sequence: 1,
        replayed: true,
      })
      const next = await issue()
      expect(await counter.accept({ request: next, store: nothing })).toEqual({
        sequence: 2 ** 32 + 2,
        replayed: false,
      })
      // Back on the first one: it is another instance again.
      instance = 'one'
      await expect(counter.accept({ request: open, store: nothing })).rejects.toMatchObject(
        refused('superseded'),
      )
    },
  )

  test('between the look and the write: nothing is written, and what was looked at is looked at again', async () => {
    let instance = 'one'
    const store = memoryStore({ instance: () => instance })
    const watched = { ...parts(store), compareAndSet: store.compareAndSet.bind(store) }
    const { counter, issue } = setUp({ store: watched })
    const open = await issue()
    watched.compareAndSet = (...write) => {
      instance = 'two'
      return store.compareAndSet(...write)
    }
    await expect(counter.accept({ request: open, store: () => expect.unreachable() })).rejects.toMatchObject(
      refused('failover'),
    )
    // A card without a record: it is made on the instance that writes it.
    instance = 'one'
    const issued = await issue('card-2')
    instance = 'two'
    expect(await counter.accept({ request: issued, store: nothing })).toMatchObject({ replayed: false })
  })

  test('where a read may be lost yet, a repeated request is written before it is called one', async () => {
    const store = memoryStore()
    let writes = 0
    const counted: ChangeCounterStore = {
      ...parts(store),
      compareAndSet: (...write) => {
        writes++
        return store.compareAndSet(...write)
      },
      commitsReplays: true,
    }
    const { counter, issue } = setUp({ store: counted })
    const request = await issue()
    await counter.accept({ request, store: nothing })
    writes = 0
    expect(await counter.check(request)).toEqual({ replayed: true })
    expect(writes).toBe(0)
    expect(await counter.accept({ request, store: () => expect.unreachable() })).toEqual({
      sequence: 1,
      replayed: true,
    })
    expect(writes).toBe(1)
  })
})

describe('an operator', () => {
  test('supersedes what a card has open', async () => {
    const { counter, issue } = setUp()
    const open = await issue()
    expect(await counter.supersede({ cardId: 'card-1', skip: 2 })).toBe(true)
    expect(await counter.supersede({ cardId: 'card-2' })).toBe(false)
    await expect(counter.accept({ request: open, store: nothing })).rejects.toMatchObject(
      refused('superseded'),
    )
    expect(await counter.issue({ cardId: 'card-1' })).toMatchObject({ pcc: '0003' })
  })

  test('supersedes all cards, in pages, and can be stopped', async () => {
    const { counter, issue, store } = setUp()
    const cards = Array.from({ length: 1001 }, (_, i) => `card-${i}`)
    const requests = await Promise.all(cards.map(card => issue(card)))
    const seen: number[] = []
    const controller = new AbortController()
    const stopped = counter.supersedeAll(
      {
        onProgress: count => {
          seen.push(count)
          controller.abort()
        },
      },
      { signal: controller.signal },
    )
    await expect(stopped).rejects.toMatchObject({ code: 'ERR_ABORTED' })
    expect(seen).toEqual([500])
    // In the middle of a page as well.
    const within = new AbortController()
    const writing = vi.spyOn(store, 'compareAndSet')
    writing.mockImplementationOnce((...write) => {
      within.abort()
      return store.compareAndSet(...write)
    })
    await expect(counter.supersedeAll({}, { signal: within.signal })).rejects.toMatchObject({
      code: 'ERR_ABORTED',
    })
    expect(writing.mock.calls.length).toBeLessThan(5)
    writing.mockRestore()
    expect(await counter.supersedeAll()).toBe(1001)
    for (const request of [requests[0], requests[500], requests[1000]]) {
      await expect(
        counter.accept({ request: request ?? expect.unreachable(), store: nothing }),
      ).rejects.toMatchObject(refused('superseded'))
    }
  })

  test('counts the cards that it superseded: none of an empty store, and none that has gone meanwhile', async () => {
    expect(await setUp().counter.supersedeAll()).toBe(0)
    const { counter, issue, store } = setUp()
    await issue('card-1')
    const listed = await store.keys({ prefix: 'card/', after: 'card/', limit: 2 })
    const [key = expect.unreachable()] = listed
    vi.spyOn(store, 'keys').mockResolvedValueOnce([key, `${key}-gone`])
    expect(await counter.supersedeAll()).toBe(1)
  })

  test('gives an exhausted card a new beginning, and no other', async () => {
    const { counter, issue } = setUp({ firstPcc: '9999' })
    await expect(counter.restart({ cardId: 'card-1', pcc: '0001' })).rejects.toMatchObject(refused('unknown'))
    await counter.accept({ request: await issue(), store: nothing })
    await expect(counter.issue({ cardId: 'card-1' })).rejects.toMatchObject(refused('exhausted'))
    await counter.restart({ cardId: 'card-1', pcc: '0001' })
    expect(await counter.accept({ request: await issue(), store: nothing })).toEqual({
      sequence: 2 ** 32 + 2,
      replayed: false,
    })
    await expect(counter.restart({ cardId: 'card-1', pcc: '0001' })).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
    })
  })

  test.each<[string, (counter: ChangeCounter) => Promise<unknown>]>([
    ['no card', counter => counter.supersede({} as never)],
    ['a skip below zero', counter => counter.supersede({ cardId: 'a', skip: -1 })],
    ['a skip of 10000', counter => counter.supersedeAll({ skip: 10_000 })],
    ['a PCC of five digits', counter => counter.restart({ cardId: 'a', pcc: '00001' })],
    ['a batch of nothing', counter => counter.purge({ batch: 0 })],
    ['a budget as text', counter => counter.purge({ budgetMs: '1' as never })],
    ['a misspelt option', counter => counter.purge({ bugdetMs: 1 } as never)],
    ['a card that is none', counter => counter.restart({ cardId: 'a b', pcc: '0001' })],
    ['what superseding tells to no function', counter => counter.supersedeAll({ onProgress: 1 as never })],
    ['what a purge tells to no function', counter => counter.purge({ onProgress: 1 as never })],
  ])('who says %s is told so, before the store is asked', async (_, call) => {
    const store = memoryStore()
    const asked = (['read', 'compareAndSet', 'purge', 'keys'] as const).map(name => vi.spyOn(store, name))
    await expect(call(setUp({ store }).counter)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
    for (const one of asked) expect(one).not.toHaveBeenCalled()
  })

  test('whose signal has fired supersedes and deletes nothing, whether or not there are cards', async () => {
    const store = memoryStore()
    const asked = (['keys', 'purge'] as const).map(name => vi.spyOn(store, name))
    const { counter } = setUp({ store })
    const options = { signal: AbortSignal.abort() }
    await expect(counter.supersedeAll({}, options)).rejects.toMatchObject({ code: 'ERR_ABORTED' })
    await expect(counter.purge({}, options)).rejects.toMatchObject({ code: 'ERR_ABORTED' })
    for (const one of asked) expect(one).not.toHaveBeenCalled()
  })
})

test('a purge goes in batches, says how far it is, ends with its time, and goes on next time', async () => {
  const { counter, issue, clock, store } = setUp()
  for (let i = 0; i < 7; i++) await issue(`card-${i}`)
  clock.now += 8 * 24 * 3600 * 1000
  const seen: number[] = []
  expect(await counter.purge({ batch: 3, onProgress: deleted => void seen.push(deleted) })).toBe(7)
  expect(seen).toEqual([3, 6, 7])
  for (let i = 0; i < 4; i++) await issue(`card-${i}`)
  clock.now += 8 * 24 * 3600 * 1000
  const controller = new AbortController()
  const stopped = counter.purge(
    { batch: 1, onProgress: () => controller.abort() },
    { signal: controller.signal },
  )
  await expect(stopped).rejects.toMatchObject({ code: 'ERR_ABORTED' })
  const asked = vi.spyOn(store, 'purge')
  expect(await counter.purge()).toBe(3)
  expect(asked.mock.calls.map(([, options]) => options?.limit)).toEqual([1000])
})

/** The methods of a store, as an object that can be changed. */
function byValue(record: Awaited<ReturnType<ChangeCounterStore['read']>>) {
  return record && { ...record, version: `of ${record.value}` }
}

function parts(store: ChangeCounterStore) {
  return {
    read: store.read.bind(store),
    compareAndSet: store.compareAndSet.bind(store),
    purge: store.purge.bind(store),
    keys: store.keys.bind(store),
    ...(store.instance !== undefined && { instance: store.instance.bind(store) }),
  }
}
