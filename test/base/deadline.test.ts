/** The one clock and the one deadline: what ends a wait, with which error, and what is left behind. */
import { getEventListeners } from 'node:events'
import { describe, expect, test, vi } from 'vitest'
import { afterUnheld, Deadline, delay, Ending, systemClock, whenAborted } from '../../src/base/deadline.js'
import { ManualClock, settle } from '../d1/client/times.js'

const EXPIRED = new Error('expired')
const never = new Promise<never>(() => {})

function deadline(ms: number, signal?: AbortSignal, patient = false) {
  const clock = new ManualClock()
  const outer = signal && { signal, error: (reason: unknown) => new Error(`outer: ${reason}`), patient }
  return { clock, it: new Deadline({ clock, ms, expired: () => EXPIRED, outer }) }
}

describe('a deadline', () => {
  test('ends a wait when its time is over', async () => {
    const { clock, it } = deadline(100)
    const wait = it.race(never)
    const pause = it.pause(1000)
    await clock.advance(99)
    expect([it.signal.aborted, it.remaining()]).toEqual([false, 1])
    await Promise.all([
      expect(wait).rejects.toBe(EXPIRED),
      expect(pause).rejects.toBe(EXPIRED),
      clock.advance(1),
    ])
    expect(clock.pending()).toEqual([])
    await expect(it.race(never)).rejects.toBe(EXPIRED)
    await expect(it.pause(1)).rejects.toBe(EXPIRED)
    expect(clock.pending()).toEqual([])
  })

  test('ends it with the outer signal, also one that fired before', async () => {
    const controller = new AbortController()
    const { it } = deadline(100, controller.signal)
    const wait = it.race(never)
    controller.abort('enough')
    await expect(wait).rejects.toThrow('outer: enough')
    await expect(deadline(100, controller.signal).it.race(never)).rejects.toThrow('outer: enough')
  })

  test('lets work through, and says nothing about work that fails too late', async () => {
    const { clock, it } = deadline(100)
    expect(await it.race(Promise.resolve(7))).toBe(7)
    await expect(it.race(Promise.reject(new Error('own')))).rejects.toThrow('own')
    let fail = (_error: Error): void => {}
    const late = it.race(
      new Promise((_resolve, reject) => {
        fail = reject
      }),
    )
    await Promise.all([expect(late).rejects.toBe(EXPIRED), clock.advance(100)])
    fail(new Error('too late'))
    await settle()
  })

  test('leaves neither timer nor listener behind when it ends', async () => {
    const { signal } = new AbortController()
    const { clock, it } = deadline(100, signal)
    it[Symbol.dispose]()
    expect(clock.pending()).toEqual([])
    expect(getEventListeners(signal, 'abort')).toEqual([])
    const pause = it.pause(50)
    await clock.advance(50)
    await pause
    expect(it.signal.aborted).toBe(false)
    expect(getEventListeners(it.signal, 'abort')).toEqual([])
  })

  test('with a patient outer signal leaves the verdict to the work', async () => {
    const controller = new AbortController()
    const { clock, it } = deadline(100, controller.signal, true)
    controller.abort('gone')
    expect(it.signal.reason).toEqual(new Error('outer: gone'))
    expect(await it.race(Promise.resolve(7))).toBe(7)
    const pause = it.pause(10)
    await clock.advance(10)
    await pause
    it[Symbol.dispose]()
    expect(clock.pending()).toEqual([])
  })

  test('ends with the time also where a patient outer signal came first, and with that signal’s error', async () => {
    const controller = new AbortController()
    const { clock, it } = deadline(100, controller.signal, true)
    const waits = [it.race(never), it.pause(200)]
    controller.abort('gone')
    const ends = waits.map(wait => expect(wait).rejects.toThrow('outer: gone'))
    await clock.advance(100)
    await Promise.all(ends)
    expect(clock.pending()).toEqual([])
  })

  test('runs on the clock of the platform where none is given', async () => {
    vi.useFakeTimers()
    try {
      using it = new Deadline({ ms: 50, expired: () => EXPIRED })
      const wait = expect(it.race(never)).rejects.toBe(EXPIRED)
      vi.advanceTimersByTime(49)
      expect(it.signal.aborted).toBe(false)
      vi.advanceTimersByTime(1)
      await wait
    } finally {
      vi.useRealTimers()
    }
  })
})

describe('an ending', () => {
  test('tells who asked to be told, once, and ends a deadline as a signal does', async () => {
    const ending = new Ending()
    const [told, released] = [vi.fn(), vi.fn()]
    ending.when(told)
    ending.when(released)()
    const clock = new ManualClock()
    const outer = { signal: ending, error: () => new Error('gone'), patient: false }
    using it = new Deadline({ clock, ms: 100, expired: () => EXPIRED, outer })
    const wait = expect(it.race(never)).rejects.toThrow('gone')
    const { signal } = ending
    expect([signal.aborted, ending.aborted, ending.reason]).toEqual([false, false, undefined])
    ending.end()
    ending.end()
    await wait
    expect([told.mock.calls.length, released.mock.calls.length]).toEqual([1, 0])
    expect([signal.aborted, ending.aborted, ending.signal.aborted]).toEqual([true, true, true])
  })

  test('gives a signal that has fired to who asks for it late, and ends what begins late', async () => {
    const ending = new Ending()
    ending.end()
    expect(ending.signal.aborted).toBe(true)
    const outer = { signal: ending, error: () => new Error('gone'), patient: false }
    using it = new Deadline({ clock: new ManualClock(), ms: 100, expired: () => EXPIRED, outer })
    await expect(it.race(never)).rejects.toThrow('gone')
  })
})

describe('a delay', () => {
  test('ends with its time, or with the signal, or at once where the signal has fired', async () => {
    const clock = new ManualClock()
    const controller = new AbortController()
    const { signal } = controller
    const [short, long] = [vi.fn(), vi.fn()]
    void delay(clock, 10, signal).then(short)
    void delay(clock, 100, signal).then(long)
    await clock.advance(9)
    expect(short).not.toHaveBeenCalled()
    await clock.advance(1)
    expect([short.mock.calls.length, long.mock.calls.length]).toEqual([1, 0])
    controller.abort()
    await settle()
    expect(long).toHaveBeenCalledOnce()
    expect(clock.pending()).toEqual([])
    expect(getEventListeners(signal, 'abort')).toEqual([])
    await delay(clock, 100, signal)
    expect(clock.pending()).toEqual([])
  })
})

describe('the clock of the platform', () => {
  test('fires what is due, and nothing that was cancelled', () => {
    vi.useFakeTimers({ now: 1_700_000_000_000 })
    try {
      const [kept, cancelled] = [vi.fn(), vi.fn()]
      const started = systemClock.elapsed()
      systemClock.after(10, kept)
      systemClock.after(10, cancelled)()
      vi.advanceTimersByTime(20)
      expect(kept).toHaveBeenCalledOnce()
      expect(cancelled).not.toHaveBeenCalled()
      expect([systemClock.now(), systemClock.elapsed() - started]).toEqual([1_700_000_000_020, 20])
    } finally {
      vi.useRealTimers()
    }
  })
})

test('what somebody waits for keeps the process alive; what need not happen any more does not', () => {
  const timers = vi.spyOn(globalThis, 'setTimeout')
  try {
    for (const cancel of [systemClock.after, afterUnheld].map(wait =>
      wait(60_000, () => expect.unreachable()),
    ))
      cancel()
    expect(timers.mock.results.map(({ value }) => value.hasRef())).toEqual([true, false])
  } finally {
    timers.mockRestore()
  }
})

describe('many that wait for one signal', () => {
  test('have one listener between them, and none when they are done; each is called once', () => {
    const controller = new AbortController()
    const { signal } = controller
    const calls: number[] = []
    const both = () => calls.push(0)
    const releases = Array.from({ length: 50 }, (_, i) => whenAborted(signal, () => calls.push(i)))
    releases.push(whenAborted(signal, both), whenAborted(signal, both))
    expect(getEventListeners(signal, 'abort')).toHaveLength(1)
    for (const release of releases) release()
    expect(getEventListeners(signal, 'abort')).toHaveLength(0)
    for (const release of releases) release()

    whenAborted(signal, () => calls.push(1))
    const gone = whenAborted(signal, () => calls.push(2))
    whenAborted(signal, both)
    gone()
    controller.abort()
    expect(calls).toEqual([1, 0])
  })

  test('a signal that is none leaves no timer behind', () => {
    const clock = new ManualClock()
    const outer = { signal: undefined as never, error: () => EXPIRED }
    expect(() => new Deadline({ clock, ms: 10, expired: () => EXPIRED, outer })).toThrow(TypeError)
    expect(clock.pending()).toEqual([])
  })
})
