/**
 * The one place where the rules common to all backends are enforced: argument shapes, key ownership and usage, host
 * decipherment, abort, closing. A driver behind it cannot forget them, and cannot apply them differently.
 */

import type { KeyObject } from 'node:crypto'
import { types } from 'node:util'
import { deepFreeze } from '../base/arguments.js'
import { ownCopy, wipe } from '../base/bytes.js'
import { ArgumentError, BackendError, isIssuerPinError, KeyError } from '../base/errors.js'
import { methodOf, readCheckValue, requireCheckValue } from '../key/check-value.js'
import { type KeyOperation, type KeyUsage, USAGES } from '../key/usage.js'
import { es256PublicKey, SIGNATURE_BYTES, verifyEs256 } from '../primitives/es256.js'
import { isTdea } from '../primitives/key-algorithm.js'
import type {
  Backend,
  BindSpec,
  CallOptions,
  Capabilities,
  ContentKeyRequest,
  Health,
  MacRequest,
} from './backend.js'
import {
  MAX_INPUT_BYTES,
  type ReadSpec,
  readBlocks,
  readContentKeyRequest,
  readMacRequest,
  readMessage,
  readSpec,
  requireHostDecipher,
  requireLength,
  requireSignal,
  throwIfAborted,
} from './checks.js'
import type { BackendDriver, FoundKey, MaybePromise } from './driver.js'
import { Key, requireKey } from './key.js'

/**
 * A {@link Backend} out of a driver: puts the checks that are common to all backends in front of it. `Ref`, the driver's
 * own name for a key, stays between the two. For those who write a backend; `backendContract` of
 * `issuer-pin-crypto/testing` says whether it holds.
 *
 * Errors: `ERR_ARGUMENT` (not a driver).
 *
 * @example
 * ```ts
 * const backend = openBackend(driver)
 * const key = await backend.bind({ kid: 'ZPK-D1', usage: 'pin-encryption', kcv: '08D7B4' })
 * ```
 */
export function openBackend<Ref>(driver: BackendDriver<Ref>): Backend {
  if (typeof driver?.capabilities !== 'function') throw new ArgumentError('openBackend takes a BackendDriver')
  return new BackendFront(driver)
}

/** What the front knows of a key it has bound. */
interface Bound<Ref> {
  readonly ref: Ref
  /** Keys for signing: what their signatures are verified under. */
  readonly publicKey: KeyObject | undefined
}

class BackendFront<Ref> implements Backend {
  readonly name: string
  readonly #driver: BackendDriver<Ref>
  readonly #capabilities: Capabilities
  readonly #bound = new WeakMap<Key, Bound<Ref>>()
  readonly #usageOfKid = new Map<string, KeyUsage>()
  /** By public key: the same P-256 key under two kids is still one key. */
  readonly #usageOfPoint = new Map<string, KeyUsage>()
  #inFlight = 0
  #drained: (() => void) | undefined
  #closing: Promise<void> | undefined

  constructor(driver: BackendDriver<Ref>) {
    this.name = driver.name
    this.#driver = driver
    this.#capabilities = deepFreeze(structuredClone(driver.capabilities()))
  }

  async bind(spec: BindSpec, options?: CallOptions): Promise<Key> {
    const wanted = readSpec(spec)
    const { kid, usage, algorithm, hostDecipher, kcv } = wanted
    this.#requireOneUsage(kid, usage)
    const query = { kid, usage, algorithm, hostDecipher, checkValueMethod: methodOf(kcv) }
    const found = await this.#run(options, { run: signal => this.#driver.find(query, signal) })
    requireMatch(wanted, found)
    const { ref, checkValue, parity, publicJwk } = found
    const publicKey = USAGES[usage].operations.includes('sign') ? readPublicKey(found) : undefined
    // Once more: another bind of this kid may have come first while the driver was looking.
    this.#requireOneUsage(kid, usage, publicJwk?.x)
    const facts = { kid, usage, hostDecipher, algorithm: found.algorithm, checkValue, parity }
    const key = new Key(publicJwk === undefined ? facts : { ...facts, publicJwk }, this)
    this.#usageOfKid.set(kid, usage)
    if (publicJwk !== undefined) this.#usageOfPoint.set(publicJwk.x, usage)
    this.#bound.set(key, { ref, publicKey })
    return key
  }

  async encipherBlocks(key: Key, blocks: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    const { ref } = this.#admit(key, 'encipher')
    const input = readBlocks(blocks)
    const run: Job<Uint8Array>['run'] = signal => this.#driver.encipher(ref, input, signal)
    return this.#run(options, { run, input, outputBytes: input.length })
  }

  async decipherBlocks(key: Key, blocks: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    const { ref } = this.#admit(key, 'decipher')
    const input = readBlocks(blocks)
    requireHostDecipher(key)
    const run: Job<Uint8Array>['run'] = signal => this.#driver.decipher(ref, input, signal)
    return this.#run(options, { run, input, outputBytes: input.length })
  }

  async reencipherBlocks(from: Key, to: Key, blocks: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    const { ref: fromRef } = this.#admit(from, 'reencipher')
    const { ref: toRef } = this.#admit(to, 'reencipher')
    const input = readBlocks(blocks)
    // Inside the token too, a block must not move to where the host may open it from where it may not.
    if (this.#capabilities.reencipher !== 'inside' || to.hostDecipher) requireHostDecipher(from)
    const run: Job<Uint8Array>['run'] = signal => this.#driver.reencipher(fromRef, toRef, input, signal)
    return this.#run(options, { run, input, outputBytes: input.length })
  }

  async mac(key: Key, request: MacRequest, message: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    const { ref } = this.#admit(key, 'mac')
    const parameters = readMacRequest(key, request)
    const input = readMessage(message)
    const run: Job<Uint8Array>['run'] = signal => this.#driver.mac(ref, parameters, input, signal)
    return this.#run(options, { run, input, outputBytes: isTdea(key.algorithm) ? 8 : 16 })
  }

  async deriveContentKey(key: Key, request: ContentKeyRequest, options?: CallOptions): Promise<Uint8Array> {
    const { ref } = this.#admit(key, 'deriveContentKey')
    const parameters = readContentKeyRequest(request)
    const run: Job<Uint8Array>['run'] = signal => this.#driver.deriveContentKey(ref, parameters, signal)
    return this.#run(options, { run, outputBytes: parameters.length })
  }

  async sign(key: Key, message: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    const { ref, publicKey } = this.#admit(key, 'sign')
    const input = readMessage(message)
    // What is verified is a copy of our own: a driver may pass its on to another thread, or spoil it.
    const kept = ownCopy(input)
    const run: Job<Uint8Array>['run'] = signal => this.#driver.sign(ref, input, signal)
    const isRight = (signature: Uint8Array): boolean =>
      publicKey !== undefined && verifyEs256(publicKey, kept, signature)
    try {
      return await this.#run(options, { run, input, outputBytes: SIGNATURE_BYTES, isRight })
    } finally {
      wipe(kept)
    }
  }

  async randomBytes(length: number, options?: CallOptions): Promise<Uint8Array> {
    if (!Number.isInteger(length)) throw new ArgumentError('length must be a whole number')
    requireLength('randomBytes', length, 1, MAX_INPUT_BYTES)
    return this.#run(options, {
      run: signal => this.#driver.randomBytes(length, signal),
      outputBytes: length,
    })
  }

  capabilities(): Capabilities {
    return this.#capabilities
  }

  async health(options?: CallOptions): Promise<Health> {
    return this.#run(options, { run: signal => this.#driver.health(signal) })
  }

  close(): Promise<void> {
    this.#closing ??= this.#drainAndClose()
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #drainAndClose(): Promise<void> {
    if (this.#inFlight > 0) {
      await new Promise<void>(resolve => {
        this.#drained = resolve
      })
    }
    try {
      await this.#driver.close()
    } catch (error) {
      throw coded(error)
    }
  }

  /**
   * Counts the operation in and out, so that `close` never pulls a session from under a call in flight. A driver that
   * answers at once is not made to wait for a promise.
   */
  #run<T>(options: CallOptions | undefined, job: Job<T>): MaybePromise<T> {
    if (this.#closing !== undefined) throw new BackendError('ERR_BACKEND_CLOSED', 'the backend is closed')
    const signal = requireSignal(options)
    throwIfAborted(signal)
    this.#inFlight++
    let waiting = false
    try {
      const result = job.run(signal)
      if (types.isUint8Array(result) || !isThenable(result)) return deliver(result, job, signal)
      waiting = true
      return this.#settle(result, job, signal)
    } catch (error) {
      throw coded(error)
    } finally {
      if (!waiting) this.#leave(job)
    }
  }

  async #settle<T>(pending: PromiseLike<T>, job: Job<T>, signal: AbortSignal | undefined): Promise<T> {
    try {
      return deliver(await pending, job, signal)
    } catch (error) {
      throw coded(error)
    } finally {
      this.#leave(job)
    }
  }

  #leave(job: Job<unknown>): void {
    wipe(job.input)
    this.#inFlight--
    if (this.#inFlight === 0) this.#drained?.()
  }

  #requireOneUsage(kid: string, usage: KeyUsage, x?: string): void {
    for (const known of [
      this.#usageOfKid.get(kid),
      x === undefined ? undefined : this.#usageOfPoint.get(x),
    ]) {
      if (known === undefined || known === usage) continue
      throw new KeyError('ERR_KEY_USAGE', `key ${kid} is bound for ${known}; a key has one usage`, kid)
    }
  }

  #admit(key: Key, operation: KeyOperation): Bound<Ref> {
    requireKey(key, 'key')
    const bound = this.#bound.get(key)
    if (bound === undefined) {
      throw new KeyError('ERR_KEY_FOREIGN', `key ${key.kid} was not bound by this backend`, key.kid)
    }
    if (!USAGES[key.usage].operations.includes(operation)) {
      throw new KeyError(
        'ERR_KEY_USAGE',
        `key ${key.kid} is for ${key.usage}: ${operation} is refused`,
        key.kid,
      )
    }
    return bound
  }
}

/** Holds what was found against what was asked for. */
function requireMatch({ kid, usage, algorithm, kcv }: ReadSpec, found: FoundKey<unknown>): void {
  if (algorithm !== undefined && found.algorithm !== algorithm) {
    throw new KeyError('ERR_KEY_ALGORITHM', `key ${kid} is ${found.algorithm}, not ${algorithm}`, kid)
  }
  if (!USAGES[usage].algorithms.includes(found.algorithm)) {
    throw new KeyError('ERR_KEY_ALGORITHM', `key ${kid}: ${usage} does not admit ${found.algorithm}`, kid)
  }
  if (kcv !== undefined) requireCheckValue(kid, readCheckValue(kcv, found.algorithm), found.checkValue)
}

/** The public half of a key for signing; a driver that gives none could not be checked. */
function readPublicKey({ publicJwk }: FoundKey<unknown>): KeyObject {
  try {
    if (publicJwk !== undefined) return es256PublicKey(publicJwk)
  } catch {
    // It is no P-256 key; what OpenSSL calls that helps nobody.
  }
  throw new BackendError('ERR_BACKEND_FAILED', 'the backend gave no public key for a key that signs')
}

/** One operation as the front runs it, and what a driver's answer must be before it goes to the caller. */

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
  const copy = ownCopy(bytes)
  wipe(bytes)
  return copy
}
