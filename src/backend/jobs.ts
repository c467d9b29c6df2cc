/**
 * One operation as the front runs it: counted in and out, so that closing never pulls a session from under a call in flight, and its
 * answer looked at before it goes to the caller.
 */
import { types } from 'node:util'
import { type CallOptions, requireSignal, throwIfAborted } from '../base/arguments.js'
import { ownCopy, wipe } from '../base/bytes.js'
import { BackendError, isIssuerPinError } from '../base/errors.js'
import type { MaybePromise } from './driver.js'
/** Asks the opener, who refuses by throwing; `ended` where somebody records what becomes of it. */
export type Admission = (() => void) & { readonly ended?: (error?: unknown) => void }

/** What to run, and what is known of its result. */
export interface Job<T> {
  readonly run: (signal: AbortSignal | undefined) => MaybePromise<T>
  /** The front's own copy of a secret input, wiped when the driver is done. */
  readonly input?: Uint8Array | undefined
  /** Further copies to be wiped then: chaining value, derivation data. */
  readonly more?: readonly (Uint8Array | undefined)[] | undefined
  /** Where the result is bytes: how many they must be. */
  readonly outputBytes?: number | undefined
  /** Throws where the opener refuses the operation; asked last before it begins. */
  readonly admit?: Admission | undefined
  /** Memory made for the result, where there is some: it may be the result. */
  readonly own?: Uint8Array | undefined
  /** Where bytes of that length can still be wrong, and this shows. */
  readonly isRight?: ((result: Uint8Array) => boolean) | undefined
}

/** What a job may have and need not, as own members: nobody's `Object.prototype` fills in what is absent. */
export const NO_MORE: Omit<Job<unknown>, 'run'> = {
  input: undefined,
  more: undefined,
  outputBytes: undefined,
  own: undefined,
  admit: undefined,
  isRight: undefined,
}

/** The operations of one backend, from its opening to its closing. */
export class Jobs {
  #inFlight = 0
  #drained: (() => void) | undefined
  #closing: Promise<void> | undefined

  /** How many have begun and not ended: at work, or waiting for a session. */
  get inFlight(): number {
    return this.#inFlight
  }

  /** A driver that answers at once is not made to wait for a promise. */
  run<T>(options: CallOptions | undefined, job: Job<T>): MaybePromise<T> {
    const signal = this.#admit(options, job)
    let waiting = false
    try {
      const result = job.run(signal)
      if (types.isUint8Array(result) || !isThenable(result)) return ended(deliver(result, job, signal), job)
      waiting = true
      return this.#settle(result, job, signal)
    } catch (error) {
      throw failed(error, job)
    } finally {
      if (!waiting) this.#leave(job)
    }
  }

  /** The signal of a call that may begin. */
  begin(options: CallOptions | undefined, admit: (() => void) | undefined): AbortSignal | undefined {
    this.requireOpen()
    const signal = requireSignal(options)
    throwIfAborted(signal)
    admit?.()
    // Whoever was asked, for the options or whether it may begin, may have closed the backend: its keys are wiped by now.
    this.requireOpen()
    throwIfAborted(signal)
    return signal
  }

  /** Throws `ERR_BACKEND_CLOSED` from when closing has begun. */
  requireOpen(): void {
    if (this.#closing !== undefined) throw new BackendError('ERR_BACKEND_CLOSED', 'the backend is closed')
  }

  /** What has begun and goes on: in flight from here on. */
  follow<T>(pending: PromiseLike<T>, job: Omit<Job<T>, 'run'>, signal: AbortSignal | undefined): Promise<T> {
    this.#inFlight++
    return this.#settle(pending, job, signal)
  }

  /** {@link begin}, and counted; else the input, which was copied for the call, is wiped. */
  #admit(options: CallOptions | undefined, job: Job<unknown>): AbortSignal | undefined {
    try {
      const signal = this.begin(options, job.admit)
      this.#inFlight++
      return signal
    } catch (error) {
      wipe(job.input, ...(job.more ?? []))
      job.admit?.ended?.(error)
      throw error
    }
  }

  /** Counts in what waits for the end of this turn. */
  enter(): void {
    this.#inFlight++
  }

  /** Counts it out. */
  leave(): void {
    this.#inFlight--
    if (this.#inFlight === 0) this.#drained?.()
  }

  /** Takes no more, waits for what is in flight, then calls `finish`. Again: the same promise. */
  close(finish: () => MaybePromise<void>): Promise<void> {
    this.#closing ??= this.#drainAndFinish(finish)
    return this.#closing
  }

  async #drainAndFinish(finish: () => MaybePromise<void>): Promise<void> {
    if (this.#inFlight > 0) {
      await new Promise<void>(resolve => {
        this.#drained = resolve
      })
    }
    try {
      await finish()
    } catch (error) {
      throw coded(error)
    }
  }

  async #settle<T>(
    pending: PromiseLike<T>,
    job: Omit<Job<T>, 'run'>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    try {
      return ended(deliver(await pending, job, signal), job)
    } catch (error) {
      throw failed(error, job)
    } finally {
      this.#leave(job)
    }
  }

  #leave(job: Pick<Job<unknown>, 'input' | 'more'>): void {
    wipe(job.input, ...(job.more ?? []))
    this.leave()
  }
}

/** The result, where it is right: told to whoever records. */
function ended<T>(result: T, { admit }: Pick<Job<T>, 'admit'>): T {
  admit?.ended?.()
  return result
}

export function failed(error: unknown, { admit }: Pick<Job<unknown>, 'admit'>): Error {
  const own = coded(error)
  admit?.ended?.(own)
  return own
}

/** A promise of whatever realm or library. */
export function isThenable<T>(result: MaybePromise<T>): result is Promise<T> {
  return (
    typeof result === 'object' && result !== null && 'then' in result && typeof result.then === 'function'
  )
}

/** A driver's uncoded error is its bug; what it says is not passed on, for it may quote what it was given. */
export function coded(error: unknown): Error {
  if (isIssuerPinError(error)) return error
  return new BackendError(
    'ERR_BACKEND_FAILED',
    'the backend failed with an error that is not of its contract',
  )
}

/**
 * The result as it goes to the caller: plain bytes in memory of their own, as many as were due. One that comes after
 * the caller has lost interest is wiped, not returned.
 */
function deliver<T>(
  result: T,
  { outputBytes, own, isRight }: Omit<Job<T>, 'run'>,
  signal: AbortSignal | undefined,
): T {
  if (outputBytes === undefined) {
    throwIfAborted(signal)
    return result
  }
  if (!types.isUint8Array(result)) {
    throw new BackendError('ERR_BACKEND_FAILED', 'the backend answered with something other than bytes')
  }
  if (signal?.aborted === true || result.length !== outputBytes) wipe(result)
  throwIfAborted(signal)
  if (result.length !== outputBytes) {
    throw new BackendError('ERR_BACKEND_FAILED', 'the backend answered with another number of bytes')
  }
  if (isRight?.(result) === false) {
    wipe(result)
    throw new BackendError('ERR_BACKEND_FAILED', 'what the backend computed does not verify; it was wiped')
  }
  return (result === own ? result : ownMemory(result)) as T
}

/**
 * What shares no memory with anything goes to the caller as it is. To ask for the buffer of an array that V8 keeps on its
 * heap costs more than to copy it; drivers make theirs elsewhere, because they hold secrets.
 */
function ownMemory(bytes: Uint8Array): Uint8Array {
  if (bytes.constructor === Uint8Array && bytes.length === bytes.buffer.byteLength) return bytes
  const copy = ownCopy(bytes)
  wipe(bytes)
  return copy
}
