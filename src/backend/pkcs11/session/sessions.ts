/**
 * Sessions and who may use them. A session holds at most one active operation and its objects, so:
 *
 * - it is lent to one user at a time, the last one used first (few stay open, and those stay warm);
 * - it comes back only after success, after an error that is about the data, or after an error of our own, which is
 *   never raised between the halves of an operation; after anything else it is closed and not reused, for a failed
 *   call can leave an operation active;
 * - how many there are, how many callers wait and for how long is bounded.
 *
 * The login does not hang on these sessions: an anchor session holds it for the life of the backend.
 */
import { AbortedError, BackendError, isIssuerPinError } from '../../../base/errors.js'
import type { MaybePromise } from '../../driver.js'
import type { SessionHandle, SessionSource } from '../binding/binding.js'
import { CKR } from '../binding/constants.js'
import { Pkcs11Error, quietly } from '../binding/errors.js'

/** Bounds of a {@link SessionPool}. */
export interface SessionLimits {
  /** Sessions open at a time, the anchor apart. */
  readonly max: number
  /** Callers that may wait; the next one gets `ERR_BACKEND_BUSY` at once. */
  readonly queue: number
  /** How long a caller waits before `ERR_BACKEND_BUSY`, in milliseconds. */
  readonly waitMs: number
}

interface Waiter {
  readonly take: (session: SessionHandle) => void
  readonly fail: (error: unknown) => void
}

export class SessionPool {
  readonly #source: SessionSource
  readonly #limits: SessionLimits
  readonly #idle: SessionHandle[] = []
  readonly #waiting = new Set<Waiter>()
  #open = 0
  #max: number

  constructor(source: SessionSource, limits: SessionLimits) {
    this.#source = source
    this.#limits = limits
    this.#max = limits.max
  }

  /** Sessions that exist now, lent or idle. */
  get size(): number {
    return this.#open
  }

  /** True where the next {@link withSession} will not wait. */
  get ready(): boolean {
    return this.#idle.length > 0 || this.#open < this.#max
  }

  /**
   * Lends a session to `use` for as long as it runs. Where one is free this is synchronous, and so is the result of
   * a synchronous `use`. `signal` counts while waiting.
   *
   * Errors: `ERR_BACKEND_BUSY` (retryable), `ERR_ABORTED`, those of `C_OpenSession` and of `use`.
   */
  withSession<T>(
    use: (session: SessionHandle) => MaybePromise<T>,
    signal?: AbortSignal | undefined,
  ): MaybePromise<T> {
    const session = this.#take()
    if (session !== undefined) return this.#lend(session, use)
    return this.#wait(signal).then(waitedFor => this.#lend(waitedFor, use))
  }

  /** Closes what is idle. Call it when nothing is lent. */
  close(): void {
    for (const session of this.#idle.splice(0)) this.#discard(session)
  }

  #lend<T>(session: SessionHandle, use: (session: SessionHandle) => MaybePromise<T>): MaybePromise<T> {
    let result: MaybePromise<T>
    try {
      result = use(session)
    } catch (error) {
      this.#giveBackAfter(error, session)
      throw error
    }
    if (!(result instanceof Promise)) {
      this.#giveBack(session)
      return result
    }
    return result.then(
      value => {
        this.#giveBack(session)
        return value
      },
      (error: unknown) => {
        this.#giveBackAfter(error, session)
        throw error
      },
    )
  }

  #take(): SessionHandle | undefined {
    const idle = this.#idle.pop()
    if (idle !== undefined || this.#open >= this.#max) return idle
    try {
      const session = this.#source.open()
      this.#open++
      return session
    } catch (error) {
      // The token has fewer sessions than we thought: stay at what there is.
      if (!isSessionCount(error) || this.#open === 0) throw error
      this.#max = this.#open
      return undefined
    }
  }

  #wait(signal: AbortSignal | undefined): Promise<SessionHandle> {
    if (this.#waiting.size >= this.#limits.queue) {
      throw busy(`${this.#waiting.size} callers wait for a session already`)
    }
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', abort)
        this.#waiting.delete(waiter)
      }
      const waiter: Waiter = {
        take: session => {
          settle()
          resolve(session)
        },
        fail: error => {
          settle()
          reject(error)
        },
      }
      const abort = (): void => waiter.fail(new AbortedError(signal?.reason))
      const timer = setTimeout(
        () => waiter.fail(busy(`no session came free within ${this.#limits.waitMs} ms`)),
        this.#limits.waitMs,
      )
      signal?.addEventListener('abort', abort)
      this.#waiting.add(waiter)
    })
  }

  #giveBack(session: SessionHandle): void {
    const [next] = this.#waiting
    if (next === undefined) this.#idle.push(session)
    else next.take(session)
  }

  #giveBackAfter(error: unknown, session: SessionHandle): void {
    if (leavesSessionGood(error)) {
      this.#giveBack(session)
      return
    }
    this.#discard(session)
    // What ended one session by itself (an idle time-out, a reconnect) has mostly ended the others.
    if (error instanceof Pkcs11Error && error.kind === 'session') this.close()
    this.#serveNext()
  }

  /** A session has gone and somebody may be waiting for it. */
  #serveNext(): void {
    const [next] = this.#waiting
    if (next === undefined) return
    try {
      const session = this.#take()
      if (session !== undefined) next.take(session)
    } catch (error) {
      next.fail(error)
      this.#serveNext()
    }
  }

  #discard(session: SessionHandle): void {
    this.#open--
    quietly(() => this.#source.close(session))
  }
}

/** Functions that are an operation, or the end of one: after a data error there is nothing left to clean up. */
const WHOLE: readonly string[] = [
  'C_Encrypt',
  'C_Decrypt',
  'C_Sign',
  'C_DeriveKey',
  'C_WrapKey',
  'C_UnwrapKey',
]

function leavesSessionGood(error: unknown): boolean {
  if (error instanceof Pkcs11Error) return error.kind === 'data' && WHOLE.includes(error.functionName)
  return isIssuerPinError(error) && error.code !== 'ERR_BACKEND_FAILED'
}

function isSessionCount(error: unknown): boolean {
  return error instanceof Pkcs11Error && error.returnValue === CKR.SESSION_COUNT
}

function busy(message: string): BackendError {
  return new BackendError('ERR_BACKEND_BUSY', message, { retryable: true })
}
