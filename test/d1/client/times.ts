import { expect } from 'vitest'
import type { Clock } from '../../../src/d1.js'

/** A clock on which time runs so many times faster: pauses and timeouts keep their proportions. */
export function fastClock(speed: number): Clock {
  return {
    now: () => Date.now(),
    elapsed: () => performance.now() * speed,
    after(ms, callback) {
      const timer = setTimeout(callback, ms / speed)
      return () => clearTimeout(timer)
    },
  }
}

/** Pauses up to so long are passed over; what is longer is how long something may take, and takes as long on any machine. */
const LONGEST_PAUSE_MS = 5000

/**
 * A clock for tests that are not about deadlines: pauses are over at once, and a deadline of ten seconds is ten seconds, which
 * a machine with much else to do may need.
 */
export function patientClock(): Clock {
  const clock = fastClock(1)
  return { ...clock, after: (ms, callback) => clock.after(ms <= LONGEST_PAUSE_MS ? ms / 50 : ms, callback) }
}

/** Moves the clock over each pause that a call waits for, until it has ended; over no deadline, however long the call takes. */
export async function passing<T>(clock: ManualClock, call: Promise<T>): Promise<T> {
  const state = { ended: false }
  const end = (): void => {
    state.ended = true
  }
  call.then(end, end)
  while (!state.ended) {
    await settle()
    const [next] = clock.pending()
    if (next !== undefined && next <= LONGEST_PAUSE_MS) await clock.advance(next)
  }
  return call
}

/** A clock that stands still until it is told to move. */
export class ManualClock implements Clock {
  #at = 0
  #timers: { readonly at: number; readonly callback: () => void }[] = []

  now(): number {
    return 1_700_000_000_000 + this.#at
  }

  elapsed(): number {
    return this.#at
  }

  after(ms: number, callback: () => void): () => void {
    const timer = { at: this.#at + ms, callback }
    this.#timers.push(timer)
    return () => {
      this.#timers = this.#timers.filter(other => other !== timer)
    }
  }

  /** How long the timers that are set have to go, shortest first. */
  pending(): readonly number[] {
    return this.#timers.map(({ at }) => at - this.#at).sort((a, b) => a - b)
  }

  /** Moves on, and lets everything happen that then happens. */
  async advance(ms: number): Promise<void> {
    this.#at += ms
    const due = this.#timers.filter(({ at }) => at <= this.#at)
    this.#timers = this.#timers.filter(({ at }) => at > this.#at)
    for (const { callback } of due) callback()
    await settle()
  }
}

/** Lets promises and what they start run until nothing more happens by itself. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await new Promise(resolve => setImmediate(resolve))
}

/** Waits until a condition holds. */
export async function until(condition: () => boolean): Promise<void> {
  const end = Date.now() + 50_000
  while (!condition()) {
    if (Date.now() > end) expect.fail('the condition did not come about')
    await new Promise(resolve => setTimeout(resolve, 2))
  }
}
