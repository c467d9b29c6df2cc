import { describe, expect, test } from 'vitest'
import {
  type BeginCard,
  type BulkItem,
  type BulkOptions,
  type BulkProgress,
  registerAll,
} from '../../../src/d1/client/bulk.js'
import { AbortedError, D1MessageError, Pan } from '../../../src/index.js'
import { everythingShown, failure } from '../../support/errors.js'
import { settle } from './times.js'

const CLEAR_PAN = '4000001234567899'
const CARD = { pan: Pan.from(CLEAR_PAN), exp: '1229', consumerId: 'c', cardProductId: 'p' }
const item = (i: number): BulkItem => ({ cardId: `card-${i}`, card: CARD })
const items = (count: number): BulkItem[] => Array.from({ length: count }, (_, i) => item(i))

const all = (begin: BeginCard, source: Parameters<typeof registerAll>[1], options: BulkOptions = {}) =>
  registerAll(begin, source, options)

/** Begins cards that are sound; each takes a turn of the event loop, is counted while it is under way, and ends with the signal. */
function slow(ms = 1) {
  const seen = { most: 0, now: 0, calls: [] as { item: BulkItem; call: object }[] }
  const answer = async ({ cardId }: BulkItem, signal: AbortSignal) => {
    seen.most = Math.max(seen.most, ++seen.now)
    try {
      await new Promise<void>((resolve, reject) => {
        const stop = () => reject(new AbortedError(signal.reason))
        if (signal.aborted) stop()
        signal.addEventListener('abort', stop)
        setTimeout(resolve, ms)
      })
    } finally {
      seen.now--
    }
    if (cardId.endsWith('7')) throw new D1MessageError('consumerId', 'is missing')
    return { status: 200 }
  }
  const register: BeginCard = (one, call) => {
    seen.calls.push({ item: one, call })
    return { cardId: one.cardId, answer: answer(one, call.signal) }
  }
  return { register, seen }
}

test('all cards, so many at a time; a failing card does not stop the others; progress after each', async () => {
  const { register, seen } = slow()
  const progress: BulkProgress[] = []
  const { outcomes, ended } = await all(register, items(50), {
    concurrency: 5,
    userId: 'me',
    onProgress: event => progress.push(event),
  })
  expect(ended).toBe('complete')
  expect(seen.most).toBe(5)
  expect(outcomes.map(({ index }) => index)).toEqual(items(50).map((_, i) => i))
  expect(outcomes.filter(({ ok }) => !ok).map(({ cardId }) => cardId)).toEqual(
    [7, 17, 27, 37, 47].map(i => `card-${i}`),
  )
  expect(progress.map(({ done }) => done)).toEqual(items(50).map((_, i) => i + 1))
  expect(progress.at(-1)).toMatchObject({ done: 50, failed: 5, total: 50 })
  // Each is told with itself: whoever stops after so many failures stops at that one.
  expect(progress.map(({ failed }) => failed)).toEqual(
    progress.map((_, i) => progress.slice(0, i + 1).filter(({ outcome }) => !outcome.ok).length),
  )
  expect(seen.calls[0]?.call).toMatchObject({ userId: 'me' })
})

test('outcomes stand in the order of the items, however the cards end', async () => {
  const register: BeginCard = ({ cardId }) => {
    const answer = new Promise<{ status: number }>(resolve =>
      setTimeout(() => resolve({ status: 200 }), cardId === 'card-0' ? 20 : 1),
    )
    return { cardId, answer }
  }
  const ends: number[] = []
  const onProgress = ({ outcome }: BulkProgress) => void ends.push(outcome.index)
  const { outcomes } = await all(register, items(4), { onProgress })
  expect(ends.at(-1)).toBe(0)
  expect(outcomes.map(({ index }) => index)).toEqual([0, 1, 2, 3])
})

test('items from a generator and from an asynchronous source; a correlation id of their own', async () => {
  const { register, seen } = slow()
  function* some() {
    yield item(1)
    yield { ...item(2), correlationId: 'corr-2' }
  }
  async function* later() {
    yield* some()
  }
  for (const source of [some(), later()]) {
    const { outcomes, ended } = await all(register, source)
    expect(ended).toBe('complete')
    expect(outcomes).toEqual([
      { index: 0, cardId: 'card-1', ok: true, status: 200 },
      { index: 1, cardId: 'card-2', ok: true, status: 200 },
    ])
  }
  expect(seen.calls.map(call => call.item.correlationId)).toEqual([undefined, 'corr-2', undefined, 'corr-2'])
})

test('a source is asked for one item at a time, however many wait for one', async () => {
  const { register } = slow()
  const seen = { asked: 0, most: 0, given: 0 }
  const source: AsyncIterable<BulkItem> = {
    [Symbol.asyncIterator]: () => ({
      next: async () => {
        seen.most = Math.max(seen.most, ++seen.asked)
        await settle()
        seen.asked--
        return seen.given < 20
          ? { done: false, value: item(100 + seen.given++) }
          : { done: true, value: undefined }
      },
    }),
  }
  const { outcomes } = await all(register, source, { concurrency: 8 })
  expect(seen.most).toBe(1)
  expect(outcomes.map(({ index, cardId }) => [index, cardId])).toEqual(
    Array.from({ length: 20 }, (_, i) => [i, `card-${100 + i}`]),
  )
})

describe('an abort', () => {
  test('ends what is under way, begins nothing more, and loses nothing', async () => {
    const { register, seen } = slow(20)
    const controller = new AbortController()
    const { outcomes, ended } = await all(register, items(100), {
      concurrency: 4,
      signal: controller.signal,
      onProgress: ({ done }) => {
        if (done === 8) controller.abort('enough')
      },
    })
    expect(ended).toBe('aborted')
    expect(outcomes).toHaveLength(seen.calls.length)
    const aborted = outcomes.filter(outcome => !outcome.ok && outcome.error instanceof AbortedError)
    expect(outcomes.length - aborted.length).toBeGreaterThanOrEqual(8)
    expect(outcomes.length).toBeLessThanOrEqual(8 + 4)
    const causes = aborted.map(outcome => !outcome.ok && (outcome.error as Error).cause)
    expect(new Set(causes)).toEqual(new Set(['enough']))
  })

  test('before anything: nothing is begun', async () => {
    const { register, seen } = slow()
    const { outcomes, ended } = await all(register, items(3), { signal: AbortSignal.abort() })
    expect([outcomes, ended, seen.calls]).toEqual([[], 'aborted', []])
  })

  test('while the source is silent', async () => {
    const { register } = slow()
    const controller = new AbortController()
    async function* stuck() {
      yield item(1)
      await new Promise(() => {})
    }
    const run = all(register, stuck(), {
      signal: controller.signal,
      onProgress: () => setTimeout(() => controller.abort()),
    })
    expect(await run).toMatchObject({
      ended: 'aborted',
      outcomes: [{ cardId: 'card-1', ok: true }],
      pulling: true,
    })
  })

  test('lets a generator clean up', async () => {
    const { register } = slow()
    const controller = new AbortController()
    let closed = false
    function* endless() {
      try {
        for (let i = 0; ; i++) yield item(i)
      } finally {
        closed = true
      }
    }
    await all(register, endless(), {
      signal: controller.signal,
      onProgress: () => controller.abort(),
    })
    expect(closed).toBe(true)
  })

  test('does not flood a signal with listeners', async () => {
    const warnings: string[] = []
    const onWarning = (warning: Error): void => void warnings.push(warning.message)
    process.on('warning', onWarning)
    const { register } = slow()
    await all(register, items(64), { concurrency: 64, signal: new AbortController().signal })
    await settle()
    process.off('warning', onWarning)
    expect(warnings).toEqual([])
  })
})

describe('nothing is lost when', () => {
  test('the source fails', async () => {
    const { register } = slow()
    function* broken() {
      yield item(1)
      yield item(2)
      throw new Error('the database is gone')
    }
    const result = await all(register, broken())
    expect(result).toMatchObject({
      ended: 'failed',
      error: new Error('the database is gone'),
      pulling: false,
    })
    expect(result.outcomes.map(({ ok }) => ok)).toEqual([true, true])
  })

  test('the source fails to close', async () => {
    const { register } = slow()
    const source: Iterable<BulkItem> = {
      [Symbol.iterator]: () => ({
        next: () => ({ done: true, value: undefined }),
        return: () => {
          throw new Error('cannot close')
        },
      }),
    }
    expect(await all(register, source)).toEqual({ ended: 'complete', outcomes: [], pulling: false })
  })

  test('onProgress throws: no more cards, no more calls of it', async () => {
    const { register, seen } = slow()
    let told = 0
    const result = await all(register, items(100), {
      concurrency: 4,
      onProgress: () => {
        told++
        throw new Error('no terminal')
      },
    })
    expect(result).toMatchObject({ ended: 'failed', error: new Error('no terminal') })
    expect(told).toBe(1)
    expect(result.outcomes).toHaveLength(seen.calls.length)
    expect(seen.calls.length).toBeLessThan(10)
  })
})

describe('an item that is refused', () => {
  test('is an outcome without a cardId, for it may be a PAN; the others go on', async () => {
    const { register } = slow()
    const begin: BeginCard = (one, call) => {
      if (one.cardId === CLEAR_PAN) throw new D1MessageError('cardId', 'holds the PAN in clear')
      return register(one, call)
    }
    const result = await all(begin, [{ cardId: CLEAR_PAN, card: CARD }, item(1)])
    expect(result.outcomes.map(({ ok }) => ok)).toEqual([false, true])
    expect(result.outcomes[0]).toMatchObject({ cardId: undefined, error: { code: 'ERR_D1_MESSAGE' } })
    expect(everythingShown(result)).not.toContain(CLEAR_PAN)
  })
})

test('what an array has given has an outcome, whenever the run is aborted', async () => {
  const controller = new AbortController()
  const given: number[] = []
  function* counted() {
    for (let i = 0; i < 100; i++) {
      given.push(i)
      if (i === 10) controller.abort()
      yield item(i)
    }
  }
  const { outcomes, ended, pulling } = await all(slow().register, counted(), { signal: controller.signal })
  expect([ended, pulling]).toEqual(['aborted', false])
  expect(outcomes.map(({ index }) => index)).toEqual(given)
})

test('a user id that is none is refused before the source is asked for anything', async () => {
  const { register, seen } = slow()
  let asked = 0
  function* source() {
    asked++
    yield item(1)
  }
  const options = { userId: CLEAR_PAN }
  const error = await failure(() => all(register, source(), options), 'ERR_D1_MESSAGE', [CLEAR_PAN])
  expect(error).toMatchObject({ field: 'x-user-id' })
  expect([asked, seen.calls]).toEqual([0, []])
})

test.each<[string, unknown, unknown]>([
  ['no items', undefined, {}],
  ['text', 'cards', {}],
  ['an object', {}, {}],
  ['no concurrency', [], { concurrency: 0 }],
  ['too much of it', [], { concurrency: 65 }],
  ['half of it', [], { concurrency: 1.5 }],
  ['an onProgress that is none', [], { onProgress: 'x' }],
  ['a signal that is none', [], { signal: {} }],
  ['a signal of null', [], { signal: null }],
  ['a misspelt option', [], { concurency: 1 }],
  ['options of null', [], null],
])('%s: ERR_ARGUMENT', async (_name, given, options) => {
  await failure(() => all(slow().register, given as never, options as never), 'ERR_ARGUMENT')
})
