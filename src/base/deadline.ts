/**
 * Time, so that a test can own it, and bounded waits: everything that is awaited under a deadline ends with it, whether or
 * not the awaited thing does. One clock and one deadline for the client, the endpoints and the stores.
 */

/** Two clocks and a timer. */
export interface Clock {
  /** Milliseconds since 1970: for `iat`, `exp`, dates and the date form of `Retry-After`. It may jump. */
  now(): number
  /** Milliseconds on a clock that never jumps: for lifetimes, timeouts, durations and backoff. */
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

/**
 * As `systemClock.after`, by a timer that does not keep the process alive: for what need not happen any more when all else has
 * ended.
 */
export function afterUnheld(ms: number, callback: () => void): () => void {
  const timer = setTimeout(callback, ms)
  timer.unref()
  return () => clearTimeout(timer)
}

/** Calls when nothing has moved for so many milliseconds on what counts that itself: a socket, a session of HTTP/2. */
export function onIdle(
  source: { setTimeout(ms: number, callback: () => void): unknown },
  ms: number,
  callback: () => void,
): void {
  source.setTimeout(ms, callback)
}

/** Who waits for a signal, and the one listener for all of them. */
interface Waiting {
  readonly callbacks: Set<() => void>
  readonly listener: () => void
}
const waitingFor = new WeakMap<AbortSignal, Waiting>()

/**
 * Calls back once when the signal fires; returns what ends that. One listener a signal, however many wait for it: a signal
 * for a whole service is given to hundreds of calls, and Node warns of a leak from the eleventh listener on.
 */
export function whenAborted(signal: AbortSignal, callback: () => void): () => void {
  let waiting = waitingFor.get(signal)
  if (waiting === undefined) {
    const callbacks = new Set<() => void>()
    const listener = (): void => {
      for (const call of callbacks) call()
    }
    waiting = { callbacks, listener }
    waitingFor.set(signal, waiting)
    signal.addEventListener('abort', listener, { once: true })
  }
  const { callbacks, listener } = waiting
  // A function of its own, so that the same callback can wait twice.
  const entry = (): void => callback()
  callbacks.add(entry)
  return () => {
    if (!callbacks.delete(entry) || callbacks.size > 0) return
    signal.removeEventListener('abort', listener)
    waitingFor.delete(signal)
  }
}

/** Resolves so many milliseconds later, or as soon as the signal fires; leaves neither timer nor listener behind. */
export function delay(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise(resolve => {
    const end = (): void => {
      cancel()
      release()
      resolve()
    }
    const cancel = clock.after(ms, end)
    const release = whenAborted(signal, end)
  })
}

/**
 * What ends once, and tells who asked to be told: for each request of a service, where making a signal, listening to it and
 * letting it go again would cost more than routing the request.
 */
export class Ending {
  readonly #callbacks = new Set<() => void>()
  #controller: AbortController | undefined
  #hasEnded = false
  #reason: unknown

  get aborted(): boolean {
    return this.#hasEnded
  }

  /** What the end was told with, if with anything: undefined where a signal has an error that says no more. */
  get reason(): unknown {
    return this.#reason
  }

  /** As a signal, made when somebody asks for it. */
  get signal(): AbortSignal {
    this.#controller ??= new AbortController()
    if (this.#hasEnded) this.#controller.abort(this.#reason)
    return this.#controller.signal
  }

  /** Once: what it is told with first counts. */
  end(reason?: unknown): void {
    if (this.#hasEnded) return
    this.#hasEnded = true
    this.#reason = reason
    this.#controller?.abort(reason)
    for (const call of this.#callbacks) call()
    this.#callbacks.clear()
  }

  /** Calls back once at the end; returns what ends that. Not called where the end has been. */
  when(callback: () => void): () => void {
    this.#callbacks.add(callback)
    return () => this.#callbacks.delete(callback)
  }

  /** Throws the reason, where the end has been. */
  throwIfEnded(): void {
    if (this.#hasEnded) throw this.#reason
  }
}

/** A signal that ends the work early, and the error that stands for its reason. */
interface OuterSignal {
  readonly signal: AbortSignal | Ending
  readonly error: (reason: unknown) => unknown
  /**
   * True where the outer signal fires the deadline's, but ends no wait: the work says what has become of it, until its
   * time is over.
   */
  readonly patient?: boolean
}

/** What a {@link Deadline} is made of. */
interface DeadlineOptions {
  /** The platform's where absent. */
  readonly clock?: Clock
  readonly ms: number
  /** The error for the end of the time. */
  readonly expired: () => Error
  readonly outer?: OuterSignal | undefined
}

/** Ends waits at a point in time, or with an outer signal. Dispose of it when nothing waits any more. */
export class Deadline implements Disposable {
  readonly #ending = new Ending()
  /** The waits are over: with the signal, but for a patient outer one. A list of their own costs a tenth of a second signal. */
  #isOver = false
  readonly #waits = new Set<() => void>()
  readonly #clock: Clock
  readonly #endsAt: number
  readonly #releases: (() => void)[] = []

  constructor({ clock = systemClock, ms, expired, outer }: DeadlineOptions) {
    this.#clock = clock
    this.#endsAt = clock.elapsed() + ms
    const end = (): void => {
      this.#ending.end(expired())
      this.#endWaits()
    }
    // The timer last: something that is no signal throws, and would leave it running.
    if (outer !== undefined) this.#follow(outer)
    this.#releases.push(clock.after(ms, end))
  }

  #follow({ signal, error, patient }: OuterSignal): void {
    const stop = (): void => {
      this.#ending.end(error(signal.reason))
      if (patient !== true) this.#endWaits()
    }
    if (signal.aborted) stop()
    this.#releases.push(signal instanceof Ending ? signal.when(stop) : whenAborted(signal, stop))
  }

  /** Aborted when the time is over or the outer signal has fired; its reason is the error to throw. */
  get signal(): AbortSignal {
    return this.#ending.signal
  }

  /** The same for whoever needs no signal: to make one and to listen to it costs as much as half of a request's routing. */
  get ending(): Ending {
    return this.#ending
  }

  remaining(): number {
    return this.#endsAt - this.#clock.elapsed()
  }

  /**
   * The result of the work, or a rejection with the signal's reason, whichever comes first. The work goes on, and its
   * failure is nobody's any more.
   */
  race<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const stop = (): void => reject(this.#ending.reason)
      if (this.#isOver) stop()
      this.#waits.add(stop)
      const release = (): boolean => this.#waits.delete(stop)
      work.then(
        value => {
          release()
          resolve(value)
        },
        error => {
          release()
          reject(error)
        },
      )
    })
  }

  /** Waits so long; rejects as {@link Deadline.race} does. */
  async pause(ms: number): Promise<void> {
    if (!this.#isOver) {
      await new Promise<void>(resolve => {
        const end = (): void => {
          cancel()
          this.#waits.delete(end)
          resolve()
        }
        const cancel = this.#clock.after(ms, end)
        this.#waits.add(end)
      })
    }
    if (this.#isOver) throw this.#ending.reason
  }

  #endWaits(): void {
    this.#isOver = true
    for (const end of this.#waits) end()
  }

  [Symbol.dispose](): void {
    for (const release of this.#releases) release()
  }
}
