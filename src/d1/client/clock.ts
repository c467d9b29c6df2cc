/** Time as the client sees it, so that a test can own it. */

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
