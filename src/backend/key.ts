import { ArgumentError, redactInspect } from '../base/errors.js'
import type { CheckValue } from '../key/check-value.js'
import type { KeyUsage } from '../key/usage.js'
import type { KeyAlgorithm } from '../primitives/key-algorithm.js'
import type { P256PublicJwk } from '../primitives/p256.js'
import type { KeyParity } from '../primitives/tdea.js'
import type { Backend } from './backend.js'

/** The public facts of a key. */
export interface KeyFacts {
  /** Key identifier: 1 to 128 characters; D1's `kid`, a token's label. */
  readonly kid: string
  readonly usage: KeyUsage
  readonly algorithm: KeyAlgorithm
  readonly checkValue: CheckValue
  readonly parity: KeyParity
  /** True where the caller allowed, at bind, that blocks under this key are deciphered in host memory. */
  readonly hostDecipher: boolean
  /** For `jwe-key-agreement` and `jwt-signing` keys: the public key to hand to the other side. */
  readonly publicJwk?: P256PublicJwk
}

/** Whether a value is a key that a backend made: a look-alike, or `Object.create(Key.prototype)`, is none. */
export let isKey: (value: unknown) => value is Key

/**
 * An opaque, typed handle of a key: what it is called, what it is for, where it lives; never key bytes. Made by
 * {@link Backend.bind} only; a look-alike is refused with `ERR_ARGUMENT`, a key of another backend with
 * `ERR_KEY_FOREIGN`.
 *
 * @example
 * ```ts
 * const zpk: Key = await backend.bind({ kid: 'ZPK-D1', usage: 'pin-encryption', kcv: '08D7B4' })
 * console.log(`${zpk}`) // Key ZPK-D1 (pin-encryption, tdea-2key, KCV 08D7B4)
 * ```
 */
export class Key implements KeyFacts {
  readonly kid: string
  readonly usage: KeyUsage
  readonly algorithm: KeyAlgorithm
  readonly checkValue: CheckValue
  readonly parity: KeyParity
  readonly hostDecipher: boolean
  declare readonly publicJwk?: P256PublicJwk
  readonly #backend: Backend

  static {
    isKey = (value): value is Key => typeof value === 'object' && value !== null && #backend in value
    redactInspect(Key.prototype, function (this: Key) {
      return `[${this.toString()}]`
    })
  }

  /** For `backend/front.ts`. */
  constructor(facts: KeyFacts, backend: Backend) {
    this.kid = facts.kid
    this.usage = facts.usage
    this.algorithm = facts.algorithm
    this.checkValue = Object.freeze({ ...facts.checkValue })
    this.parity = facts.parity
    this.hostDecipher = facts.hostDecipher
    if (facts.publicJwk !== undefined) this.publicJwk = Object.freeze({ ...facts.publicJwk })
    this.#backend = backend
    Object.freeze(this)
  }

  /** The backend that holds the key; the verbs call it. */
  get backend(): Backend {
    return this.#backend
  }

  /** The public facts in one line. */
  toString(): string {
    return `Key ${this.kid} (${this.usage}, ${this.algorithm}, KCV ${this.checkValue.value})`
  }
}

/** Throws `ERR_ARGUMENT` unless the value is a {@link Key}. Whose key it is, and what for, the backend checks. */
export function requireKey(value: unknown, name: string): asserts value is Key {
  if (!isKey(value))
    throw new ArgumentError(`${name} must be a Key, bound by a backend of this copy of the library`)
}

/** More than any rotation needs; a bound, so that a list of absurd length is refused before it is copied. */
const MAX_KEYS = 64

/**
 * One key or several as a list of 1 to 64, no two by one kid (which of them was meant would be a guess);
 * `ERR_ARGUMENT` for anything else.
 */
export function requireKeys(value: unknown, name: string): readonly Key[] {
  const given: readonly unknown[] = Array.isArray(value) ? value : [value]
  if (given.length === 0 || given.length > MAX_KEYS)
    throw new ArgumentError(`${name} must be 1 to ${MAX_KEYS} keys`)
  const keys = [...given]
  const kids = new Set<string>()
  return keys.map(key => {
    requireKey(key, name)
    if (kids.has(key.kid)) throw new ArgumentError(`${name}: two keys by the kid ${key.kid}`)
    kids.add(key.kid)
    return key
  })
}
