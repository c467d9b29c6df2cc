/**
 * The one place where the rules common to all backends are enforced: argument shapes, key ownership and usage, host
 * decipherment, abort, closing. A driver behind it cannot forget them, and cannot apply them differently.
 */
import { requireBytes, wipe } from '../bytes.js'
import { ArgumentError, BackendError, KeyError } from '../errors.js'
import { methodOf, readCheckValue, requireCheckValue } from '../key/check-value.js'
import { Key } from '../key/key.js'
import { requireKey } from '../key/require.js'
import { type KeyOperation, type KeyUsage, USAGES } from '../key/usage.js'
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
  requireBlocks,
  requireContentKeyRequest,
  requireHostDecipher,
  requireLength,
  requireMacRequest,
  requireSignal,
  requireSpec,
  throwIfAborted,
} from './checks.js'
import type { BackendDriver, MaybePromise } from './driver.js'

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

/** A result that comes after the caller has lost interest is wiped, not returned. */
function deliver<T>(result: T, signal: AbortSignal | undefined): T {
  if (signal?.aborted === true && result instanceof Uint8Array) wipe(result)
  throwIfAborted(signal)
  return result
}
