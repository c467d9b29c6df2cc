/**
 * The one place where the rules common to all backends are enforced: argument shapes, key ownership and usage, host
 * decipherment, abort, closing. A driver behind it cannot forget them, and cannot apply them differently.
 */
import { requireOptions } from '../arguments.js'
import { requireBytes, wipe } from '../bytes.js'
import { AbortedError, ArgumentError, BackendError, InputError, KeyError } from '../errors.js'
import { methodOf, readCheckValue, requireCheckValue, requireCheckValueShape } from '../key/check-value.js'
import { Key } from '../key/key.js'
import { isP256Point } from '../key/p256.js'
import { requireKey } from '../key/require.js'
import { isKeyAlgorithm, isKeyUsage, type KeyOperation, type KeyUsage, USAGES } from '../key/usage.js'
import { MAC_PADDINGS } from '../mac/algorithm.js'
import type {
  Backend,
  BindSpec,
  CallOptions,
  Capabilities,
  ContentKeyRequest,
  Health,
  MacRequest,
} from './backend.js'
import type { BackendDriver, MaybePromise } from './driver.js'

/** Longest input of one call: 8192 PIN blocks, and far more than any message that is MACed here. */
export const MAX_INPUT_BYTES = 65_536
const TDEA_BLOCK_BYTES = 8
const MAX_KID_CHARACTERS = 128
const MAX_OTHER_INFO_BYTES = 1024
const CONTENT_KEY_BYTES: readonly number[] = [16, 24, 32, 64]

/** Puts the common checks in front of a driver. `Ref` stays between the two. */
export function openBackend<Ref>(driver: BackendDriver<Ref>): Backend {
  return new BackendFront(driver)
}

class BackendFront<Ref> implements Backend {
  readonly name: string
  readonly #driver: BackendDriver<Ref>
  readonly #refs = new WeakMap<Key, { readonly ref: Ref }>()
  readonly #usageOfKid = new Map<string, KeyUsage>()
  #inFlight = 0
  #drained: (() => void) | undefined
  #closing: Promise<void> | undefined

  constructor(driver: BackendDriver<Ref>) {
    this.name = driver.name
    this.#driver = driver
  }

  async bind(spec: BindSpec, options?: CallOptions): Promise<Key> {
    const { kid, usage, algorithm, kcv } = requireSpec(spec)
    const hostDecipher = spec.hostDecipher ?? false
    const known = this.#usageOfKid.get(kid)
    if (known !== undefined && known !== usage) {
      throw new KeyError('ERR_KEY_USAGE', `key ${kid} is bound for ${known}; a key has one usage`, kid)
    }
    const found = await this.#run(options, signal =>
      this.#driver.find({ kid, usage, algorithm, hostDecipher, checkValueMethod: methodOf(kcv) }, signal),
    )
    if (algorithm !== undefined && found.algorithm !== algorithm) {
      throw new KeyError('ERR_KEY_ALGORITHM', `key ${kid} is ${found.algorithm}, not ${algorithm}`, kid)
    }
    if (!USAGES[usage].algorithms.includes(found.algorithm)) {
      throw new KeyError('ERR_KEY_ALGORITHM', `key ${kid}: ${usage} does not admit ${found.algorithm}`, kid)
    }
    if (kcv !== undefined) requireCheckValue(kid, readCheckValue(kcv, found.algorithm), found.checkValue)
    const { ref, ...facts } = found
    const key = new Key({ kid, usage, hostDecipher, ...facts }, this)
    this.#usageOfKid.set(kid, usage)
    this.#refs.set(key, { ref })
    return key
  }

  async encipherBlocks(key: Key, blocks: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    const ref = this.#admit(key, 'encipher')
    requireBlocks(blocks)
    return this.#run(options, signal => this.#driver.encipher(ref, blocks, signal))
  }

  async decipherBlocks(key: Key, blocks: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    const ref = this.#admit(key, 'decipher')
    requireBlocks(blocks)
    requireHostDecipher(key)
    return this.#run(options, signal => this.#driver.decipher(ref, blocks, signal))
  }

  async reencipherBlocks(from: Key, to: Key, blocks: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    const fromRef = this.#admit(from, 'reencipher')
    const toRef = this.#admit(to, 'reencipher')
    requireBlocks(blocks)
    if (this.#driver.capabilities().reencipher === 'host') requireHostDecipher(from)
    return this.#run(options, signal => this.#driver.reencipher(fromRef, toRef, blocks, signal))
  }

  async mac(key: Key, request: MacRequest, message: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    const ref = this.#admit(key, 'mac')
    requireMacRequest(key, request)
    requireBytes(message, 'message')
    requireLength('message', message.length, 0, MAX_INPUT_BYTES)
    return this.#run(options, signal => this.#driver.mac(ref, request, message, signal))
  }

  async deriveContentKey(key: Key, request: ContentKeyRequest, options?: CallOptions): Promise<Uint8Array> {
    const ref = this.#admit(key, 'deriveContentKey')
    requireContentKeyRequest(request)
    return this.#run(options, signal => this.#driver.deriveContentKey(ref, request, signal))
  }

  async randomBytes(length: number, options?: CallOptions): Promise<Uint8Array> {
    if (!Number.isInteger(length)) throw new ArgumentError('length must be a whole number')
    requireLength('randomBytes', length, 1, MAX_INPUT_BYTES)
    return this.#run(options, signal => this.#driver.randomBytes(length, signal))
  }

  capabilities(): Capabilities {
    return this.#driver.capabilities()
  }

  async health(options?: CallOptions): Promise<Health> {
    return this.#run(options, signal => this.#driver.health(signal))
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
    await this.#driver.close()
  }

  /**
   * Counts the operation in and out, so that `close` never pulls a session from under a call in flight. A driver that
   * answers at once is not made to wait for a promise.
   */
  #run<T>(
    options: CallOptions | undefined,
    operation: (signal: AbortSignal | undefined) => MaybePromise<T>,
  ): MaybePromise<T> {
    if (this.#closing !== undefined) throw new BackendError('ERR_BACKEND_CLOSED', 'the backend is closed')
    const signal = requireSignal(options)
    throwIfAborted(signal)
    this.#inFlight++
    let waiting = false
    try {
      const result = operation(signal)
      if (!(result instanceof Promise)) return deliver(result, signal)
      waiting = true
      return this.#settle(result, signal)
    } finally {
      if (!waiting) this.#leave()
    }
  }

  async #settle<T>(pending: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    try {
      return deliver(await pending, signal)
    } finally {
      this.#leave()
    }
  }

  #leave(): void {
    this.#inFlight--
    if (this.#inFlight === 0) this.#drained?.()
  }

  #admit(key: Key, operation: KeyOperation): Ref {
    requireKey(key, 'key')
    const bound = this.#refs.get(key)
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
    return bound.ref
  }
}

function requireSpec(spec: BindSpec): BindSpec {
  requireOptions(spec, 'bind', ['kid', 'usage', 'algorithm', 'kcv', 'hostDecipher'])
  requireKid(spec.kid)
  if (!isKeyUsage(spec.usage))
    throw new ArgumentError(`usage must be one of ${Object.keys(USAGES).join(', ')}`)
  if (spec.algorithm !== undefined && !isKeyAlgorithm(spec.algorithm)) {
    throw new ArgumentError('algorithm is not one this library knows')
  }
  if (spec.kcv !== undefined) requireCheckValueShape(spec.kcv)
  if (spec.hostDecipher !== undefined && typeof spec.hostDecipher !== 'boolean') {
    throw new ArgumentError('hostDecipher must be a boolean')
  }
  return spec
}

/** True for a kid: 1 to 128 characters of well-formed Unicode, none of them a control character. */
export function isKid(kid: unknown): kid is string {
  return (
    typeof kid === 'string' &&
    kid.length >= 1 &&
    kid.length <= MAX_KID_CHARACTERS &&
    !/[\p{Cc}\p{Cs}]/u.test(kid)
  )
}

/** Throws `ERR_ARGUMENT` unless the value is a kid. */
export function requireKid(kid: unknown): asserts kid is string {
  if (!isKid(kid)) throw new ArgumentError('kid must be 1 to 128 characters without control characters')
}

/** The signal of a call's options, or `ERR_ARGUMENT` where the options are not what they should be. */
export function requireSignal(options: CallOptions | undefined): AbortSignal | undefined {
  if (options === undefined) return undefined
  if (typeof options !== 'object') throw new ArgumentError('options must be an object')
  const signal: unknown = options?.signal
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new ArgumentError('options.signal must be an AbortSignal')
  }
  return signal
}

/** Throws `ERR_ABORTED` once the signal has fired. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw new AbortedError(signal.reason)
}

/** A result that comes after the caller has lost interest is wiped, not returned. */
function deliver<T>(result: T, signal: AbortSignal | undefined): T {
  if (signal?.aborted === true && result instanceof Uint8Array) wipe(result)
  throwIfAborted(signal)
  return result
}

function requireLength(what: string, length: number, min: number, max: number): void {
  if (length < min || length > max) {
    throw new InputError('ERR_LENGTH', `${what}: ${length} bytes, expected ${min} to ${max}`)
  }
}

function requireBlocks(blocks: Uint8Array): void {
  requireBytes(blocks, 'blocks')
  requireLength('blocks', blocks.length, TDEA_BLOCK_BYTES, MAX_INPUT_BYTES)
  if (blocks.length % TDEA_BLOCK_BYTES !== 0) {
    throw new InputError('ERR_LENGTH', `blocks: ${blocks.length} bytes, expected a multiple of 8`)
  }
}

function requireHostDecipher(key: Key): void {
  if (key.hostDecipher) return
  throw new KeyError(
    'ERR_HOST_DECIPHER',
    `key ${key.kid}: deciphering in host memory is not allowed; bind it with hostDecipher: true if it should be`,
    key.kid,
  )
}

function requireMacRequest(key: Key, request: MacRequest): void {
  if (typeof request !== 'object' || request === null)
    throw new ArgumentError('mac takes { algorithm, padding }')
  const { algorithm, padding, iv } = request
  if (typeof algorithm !== 'string' || !Object.hasOwn(MAC_PADDINGS, algorithm)) {
    throw new ArgumentError(`MAC algorithm must be one of ${Object.keys(MAC_PADDINGS).join(', ')}`)
  }
  if (!MAC_PADDINGS[algorithm].includes(padding)) {
    throw new ArgumentError(`padding for ${algorithm} must be one of ${MAC_PADDINGS[algorithm].join(', ')}`)
  }
  if (!USAGES[key.usage].macs.includes(algorithm)) {
    throw new KeyError(
      'ERR_KEY_USAGE',
      `key ${key.kid} is for ${key.usage}: ${algorithm} is refused`,
      key.kid,
    )
  }
  if (algorithm !== 'cmac' && !key.algorithm.startsWith('tdea')) {
    throw new KeyError('ERR_KEY_ALGORITHM', `key ${key.kid}: ${algorithm} takes a TDEA key`, key.kid)
  }
  if (iv === undefined) return
  requireBytes(iv, 'iv')
  if (algorithm === 'cmac') throw new ArgumentError('CMAC takes no iv')
  requireLength('iv', iv.length, TDEA_BLOCK_BYTES, TDEA_BLOCK_BYTES)
}

function requireContentKeyRequest(request: ContentKeyRequest): void {
  if (typeof request !== 'object' || request === null) {
    throw new ArgumentError('deriveContentKey takes { ephemeralPublicKey, otherInfo, length }')
  }
  requireBytes(request.ephemeralPublicKey, 'ephemeralPublicKey')
  requireBytes(request.otherInfo, 'otherInfo')
  requireLength('otherInfo', request.otherInfo.length, 0, MAX_OTHER_INFO_BYTES)
  if (!CONTENT_KEY_BYTES.includes(request.length)) {
    throw new ArgumentError(`length must be one of ${CONTENT_KEY_BYTES.join(', ')}`)
  }
  if (!isP256Point(request.ephemeralPublicKey)) {
    throw new InputError('ERR_POINT', 'ephemeralPublicKey is not an uncompressed point on P-256')
  }
}
