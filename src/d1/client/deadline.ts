/**
 * Time as the client sees it, so that a test can own it, and a bounded wait: everything that is awaited under a deadline
 * ends with it, whether or not the awaited thing does.
 */

/** Two clocks and a timer. */
export interface Clock {
  /** Milliseconds since 1970: for `iat`, `exp` and the date form of `Retry-After`. It may jump. */
  now(): number
  /** Milliseconds on a clock that never jumps: for lifetimes, timeouts and backoff. */
  elapsed(): number
  /** Calls back once, so many milliseconds later; returns what cancels it. */
  after(ms: number, callback: () => void): () => void
}

/** The clocks of the platform. A pending timer keeps the process alive: a call is being waited for. */
export const systemClock: Clock = {
  now: () => Date.now(),
  elapsed: () => performance.now(),
  after(ms, callback) {
    const timer = setTimeout(callback, ms)
    return () => clearTimeout(timer)
  },
}

/** A signal that ends a wait early, and the error that stands for its reason. */
export interface OuterSignal {
  readonly signal: AbortSignal
  readonly error: (reason: unknown) => unknown
}

/** What a {@link Deadline} is made of. */
export interface DeadlineOptions {
  readonly clock: Clock
  readonly ms: number
  /** The error for the end of the time. */
  readonly expired: () => Error
  readonly outer?: OuterSignal | undefined
}

/** Ends waits at a point in time, or with an outer signal. Call {@link Deadline.end} when nothing waits any more. */
export class Deadline {
  readonly #controller = new AbortController()
  readonly #clock: Clock
  readonly #endsAt: number
  readonly #releases: (() => void)[]

  constructor({ clock, ms, expired, outer }: DeadlineOptions) {
    this.#clock = clock
    this.#endsAt = clock.elapsed() + ms
    this.#releases = [clock.after(ms, () => this.#controller.abort(expired()))]
    if (outer !== undefined) this.#follow(outer)
  }

  #follow({ signal, error }: OuterSignal): void {
    const stop = (): void => this.#controller.abort(error(signal.reason))
    if (signal.aborted) stop()
    signal.addEventListener('abort', stop, { once: true })
    this.#releases.push(() => signal.removeEventListener('abort', stop))
  }

  /** Aborted when the time is over or the outer signal has fired; its reason is the error to throw. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  remaining(): number {
    return this.#endsAt - this.#clock.elapsed()
  }

  /** The result of the work, or a rejection with the signal's reason, whichever comes first. */
  race<T>(work: Promise<T>): Promise<T> {
    const { signal } = this
    return new Promise((resolve, reject) => {
      const stop = (): void => reject(signal.reason)
      if (signal.aborted) stop()
      signal.addEventListener('abort', stop, { once: true })
      work.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop))
    })
  }

  /** Waits so long. */
  async pause(ms: number): Promise<void> {
    if (this.signal.aborted) throw this.signal.reason
    const over = new Promise<void>(resolve => {
      const cancel = this.#clock.after(ms, resolve)
      // Stays on the signal after the pause, and does nothing then: the signal does not outlive the call.
      this.signal.addEventListener('abort', cancel, { once: true })
    })
    await this.race(over)
  }

  end(): void {
    for (const release of this.#releases) release()
  }
}
