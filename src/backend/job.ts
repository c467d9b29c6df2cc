/** One operation as the front runs it, and what a driver's answer must be before it goes to the caller. */
import { types } from 'node:util'
import { wipe } from '../bytes.js'
import { BackendError, isIssuerPinError } from '../errors.js'
import { throwIfAborted } from './checks.js'
import type { MaybePromise } from './driver.js'

/** What to run, and what is known of its result. */
export interface Job<T> {
  readonly run: (signal: AbortSignal | undefined) => MaybePromise<T>
  /** The front's own copy of a secret input, wiped when the driver is done. */
  readonly input?: Uint8Array
  /** Where the result is bytes: how many they must be. */
  readonly outputBytes?: number
  /** Where bytes of that length can still be wrong, and this shows. */
  readonly isRight?: (result: Uint8Array) => boolean
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
export function deliver<T>(result: T, { outputBytes, isRight }: Job<T>, signal: AbortSignal | undefined): T {
  if (outputBytes === undefined) {
    throwIfAborted(signal)
    return result
  }
  if (!types.isUint8Array(result)) {
    throw new BackendError('ERR_BACKEND_FAILED', 'the backend answered with something else than bytes')
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
  return ownMemory(result) as T
}

/** Small results are copied: that costs less than to find out whether they share memory with others. */
const SMALL = 256

function ownMemory(bytes: Uint8Array): Uint8Array {
  if (bytes.length > SMALL && bytes.constructor === Uint8Array && bytes.length === bytes.buffer.byteLength)
    return bytes
  const copy = new Uint8Array(bytes)
  wipe(bytes)
  return copy
}
