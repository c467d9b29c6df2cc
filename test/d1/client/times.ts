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
