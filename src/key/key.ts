import type { Backend } from '../backend/backend.js'
import { redactInspect } from '../redact.js'
import type { CheckValue } from './check-value.js'
import type { KeyAlgorithm, KeyUsage } from './usage.js'

/** DES key parity: every byte odd, not every byte odd, or not visible from here (a key inside a token, no TDEA key). */
export type KeyParity = 'odd' | 'mixed' | 'unknown'

/** The public half of a P-256 key, coordinates as unpadded base64url of 32 bytes (RFC 7518, 6.2.1). */
export interface P256PublicJwk {
  readonly kty: 'EC'
  readonly crv: 'P-256'
  readonly x: string
  readonly y: string
  readonly kid?: string
}

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
