/**
 * The handle of a key: the public facts for whoever holds it, and the port's operations for the library's own verbs. A key
 * does what its usage says and gives no way back to its backend: nobody binds, widens or closes by way of a key.
 */
import { type CallOptions, readOwn } from '../base/arguments.js'
import { ArgumentError, redactInspect } from '../base/errors.js'
import type { CheckValue } from '../key/check-value.js'
import { type KeyPeriod, notePeriod } from '../key/period.js'
import type { PinValueRule } from '../key/pin-value.js'
import { type KeyMode, type KeyUsage, usualMode } from '../key/usage.js'
import type { PinComparison, PinVerification } from '../pin/formats/verification.js'
import type { SealedContent } from '../primitives/a256gcm.js'
import type { KeyAlgorithm } from '../primitives/algorithms.js'
import type { P256PublicJwk } from '../primitives/p256.js'
import type { KeyParity } from '../primitives/tdea.js'
import type { ContentKeyRequest, MacRequest, MaybePromise } from './driver.js'

/** The public facts of a key. */
export interface KeyFacts extends KeyPeriod {
  /** Key identifier: 1 to 128 characters; D1's `kid`, a token's label. */
  readonly kid: string
  readonly usage: KeyUsage
  /** What of its usage the key was bound for. */
  readonly mode: KeyMode
  readonly algorithm: KeyAlgorithm
  readonly checkValue: CheckValue
  readonly parity: KeyParity
  /** True where the caller allowed, at bind, that blocks under this key are deciphered in host memory. */
  readonly hostDecipher: boolean
  /** For `visa-pvv` and `ibm-3624` keys, where it was given at bind. */
  readonly pinValue?: PinValueRule | undefined
  /** For `jwe-key-agreement` and `jwt-signing` keys: the public key to hand to the other side. */
  readonly publicJwk?: P256PublicJwk | undefined
}

/** How blocks may be re-enciphered. */
export interface ReencipherRule {
  /** Inside the token or not at all, whatever the keys allow. */
  readonly inside?: boolean
}

/**
 * The port, seen from one key: each call is one whole operation, refused with `ERR_KEY_USAGE` where it is not the key's.
 * Reached through {@link operationsOf}, by the verbs and the contract only.
 */
export interface KeyOperations {
  /** ECB encipherment of n ≥ 1 blocks of the key's cipher (8 bytes TDEA, 16 AES). At most 65,536 bytes. */
  encipher(blocks: Uint8Array, options?: CallOptions): Promise<Uint8Array>

  /** The inverse of {@link encipher}. The key must be bound with `hostDecipher`: `ERR_HOST_DECIPHER`. */
  decipher(blocks: Uint8Array, options?: CallOptions): Promise<Uint8Array>

  /**
   * {@link decipher} under this key XOR a mask as long as the key, for key block versions A and C.
   * `ERR_UNSUPPORTED_BY_TOKEN` where the backend has no such thing.
   */
  decipherVariant(mask: Uint8Array, blocks: Uint8Array, options?: CallOptions): Promise<Uint8Array>

  /**
   * Encipherment of n ≥ 1 blocks with a field between, for PIN block format 4: E(E(block) XOR field), block by block; as many
   * fields as blocks. One operation.
   */
  encipherBound(blocks: Uint8Array, fields: Uint8Array, options?: CallOptions): Promise<Uint8Array>

  /** The inverse of {@link encipherBound}. The key must be bound with `hostDecipher`: `ERR_HOST_DECIPHER`. */
  decipherBound(blocks: Uint8Array, fields: Uint8Array, options?: CallOptions): Promise<Uint8Array>

  /**
   * Deciphers under this key and enciphers under `to`, a key of the same backend, as one operation; no look at what the
   * blocks hold. Where the token cannot do it inside, this key must be bound with `hostDecipher`; with `inside: true` that does
   * not help: `ERR_HOST_DECIPHER`.
   */
  reencipher(to: Key, blocks: Uint8Array, options?: CallOptions, rule?: ReencipherRule): Promise<Uint8Array>

  /**
   * Whether the PIN of a block under this key is the one that `kept` says under `to`, a key of the same backend, as one operation:
   * neither a clear block nor a digit comes out. This key must be bound with `hostDecipher`, and so must `to` where blocks are under it:
   * `ERR_HOST_DECIPHER`. A block of another length than its format's is `ERR_LENGTH`.
   */
  verifyPin(to: Key, request: PinVerification, options?: CallOptions): Promise<PinComparison>

  /** The full-length MAC over a message of at most 65,536 bytes. Truncation and comparison belong to the caller. */
  mac(request: MacRequest, message: Uint8Array, options?: CallOptions): Promise<Uint8Array>

  /** ECDH with the key's private half, then the Concat KDF with SHA-256, as one operation. Z is not returned. */
  deriveContentKey(request: ContentKeyRequest, options?: CallOptions): Promise<Uint8Array>

  /**
   * {@link deriveContentKey} of 32 bytes, and the content that A256GCM opens with that key, which nobody else gets to see: at
   * most 8192 bytes. Undefined where the tag is wrong. Throws at once, or answers at once, where it can.
   */
  openContent(
    request: ContentKeyRequest,
    content: SealedContent,
    options?: CallOptions,
  ): MaybePromise<Uint8Array | undefined>

  /**
   * An ES256 signature over a message of at most 65,536 bytes: ECDSA on P-256 with SHA-256, 64 bytes, r then s, 32 bytes
   * each, big-endian (RFC 7518, 3.4); no DER. It has been verified under `key.publicJwk`: a signature made wrongly could
   * give the key away, and is wiped (`ERR_BACKEND_FAILED`).
   */
  sign(message: Uint8Array, options?: CallOptions): Promise<Uint8Array>

  /** 1 to 65,536 random bytes from the generator of the key's backend. */
  randomBytes(length: number, options?: CallOptions): Promise<Uint8Array>
}

/** The facts that a key need not have: own members of it all the same. */
const OPTIONAL = ['validFrom', 'validTo', 'pinValue', 'publicJwk'] as const

/** Known to this file only, because TypeScript's `private` ends where JavaScript begins. */
const MAKER = Symbol('Key')

/** Whether a value is a key that a backend made: a look-alike, or `Object.create(Key.prototype)`, is none. */
export let isKey: (value: unknown) => value is Key
/** For the verbs of this library: what can be done with the key. Not exported from the package. */
export let operationsOf: (key: Key) => KeyOperations
/** For `backend/front.ts`. Not exported from the package. */
export let makeKey: (facts: KeyFacts, operations: KeyOperations) => Key

/**
 * An opaque, typed handle of a key: what it is called and what it is for; never key bytes. Made by `Backend.bind` only; a
 * look-alike is refused with `ERR_ARGUMENT`.
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
  readonly mode: KeyMode
  readonly algorithm: KeyAlgorithm
  readonly checkValue: CheckValue
  readonly parity: KeyParity
  readonly hostDecipher: boolean
  readonly pinValue: PinValueRule | undefined
  readonly publicJwk: P256PublicJwk | undefined
  readonly validFrom: string | undefined
  readonly validTo: string | undefined
  readonly #operations: KeyOperations

  static {
    isKey = (value): value is Key => typeof value === 'object' && value !== null && #operations in value
    operationsOf = key => key.#operations
    makeKey = (facts, operations) => new Key(facts, operations, MAKER)
    redactInspect(Key.prototype, function (this: Key) {
      return `[${this.toString()}]`
    })
  }

  private constructor(facts: KeyFacts, operations: KeyOperations, maker: symbol) {
    if (maker !== MAKER) throw new ArgumentError('a Key is made by Backend.bind')
    this.kid = facts.kid
    this.usage = facts.usage
    this.mode = facts.mode
    this.algorithm = facts.algorithm
    this.checkValue = Object.freeze({ ...facts.checkValue })
    this.parity = facts.parity
    this.hostDecipher = facts.hostDecipher
    const { validFrom, validTo, pinValue, publicJwk } = readOwn(facts, 'the facts of a key', OPTIONAL)
    this.validFrom = validFrom
    this.validTo = validTo
    this.pinValue = pinValue
    this.publicJwk = publicJwk && Object.freeze({ ...publicJwk })
    this.#operations = operations
    Object.freeze(this)
    notePeriod(this)
  }

  /** The public facts in one line. */
  toString(): string {
    const mode = this.mode === usualMode(this.usage) ? '' : `, mode ${this.mode}`
    return `Key ${this.kid} (${this.usage}${mode}, ${this.algorithm}, KCV ${this.checkValue.value})`
  }
}

/** Throws `ERR_ARGUMENT` unless the value is a {@link Key}. What it is for, its operations check. */
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
  if (isKey(value)) return [value]
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
