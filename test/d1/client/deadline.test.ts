import { describe, expect, test } from 'vitest'
import { Deadline } from '../../../src/d1/client/deadline.js'
import { ManualClock, settle } from './times.js'

const EXPIRED = new Error('expired')
const never = new Promise<never>(() => {})

function deadline(ms: number, signal?: AbortSignal) {
  const clock = new ManualClock()
  const outer = signal && { signal, error: (reason: unknown) => new Error(`outer: ${reason}`) }
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
    it.end()
    expect(clock.pending()).toEqual([])
    const pause = it.pause(50)
    await clock.advance(50)
    await pause
    expect(it.signal.aborted).toBe(false)
  })
})
