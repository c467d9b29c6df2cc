/**
 * The port: everything the verbs need from a place where keys live, and nothing about which place it is.
 *
 * The contract, which `issuer-pin-crypto/testing` executes against any backend:
 *
 * 1. One call is one whole operation under one key. A backend may run it in another thread or process and may put
 *    concurrent calls together, but no two operations ever interleave inside a token session.
 * 2. Inputs are read before the call returns its promise; the caller may wipe or reuse its buffers at once. Outputs
 *    are `Uint8Array`s in memory of their own, which belong to the caller.
 * 3. Every failure is a rejected promise with a {@link CodedError}; the same mistake has the same code everywhere.
 *    There are no partial results.
 * 4. The usage of a key decides which operations accept it (`key/usage.ts`): `ERR_KEY_USAGE` otherwise.
 * 5. `options.signal` ends an operation that has not reached the key yet, with `ERR_ABORTED`. A native call that
 *    has begun cannot be interrupted; its result is then wiped, not returned.
 * 6. `close()` stops intake at once (`ERR_BACKEND_CLOSED`), waits for what is in flight, then releases keys and
 *    sessions. Calling it again returns the same promise.
 */
import type { CheckValue } from '../key/check-value.js'
import type { KeyUsage } from '../key/usage.js'
import type { KeyAlgorithm } from '../primitives/key-algorithm.js'
import type { MacAlgorithm, MacParameters } from '../primitives/mac-algorithm.js'
import type { Key } from './key.js'

/** Options of every asynchronous call. */
export interface CallOptions {
  readonly signal?: AbortSignal
}

/** Which key is wanted, and what the caller knows about it. Everything stated is checked. */
export interface BindSpec {
  /** Key identifier, 1 to 128 characters: D1's `kid`, the label of a token object. */
  readonly kid: string
  readonly usage: KeyUsage
  readonly algorithm?: KeyAlgorithm
  /** Expected key check value: hex by the algorithm's usual method, or `{ method, value }`. */
  readonly kcv?: string | CheckValue
  /**
   * For `pin-encryption` keys: allows blocks under this key to be deciphered in host memory. Without it,
   * deciphering is refused with `ERR_HOST_DECIPHER`, in the software backend too.
   */
  readonly hostDecipher?: boolean
}

/** What `mac` needs beside the key and the message. */
export interface MacRequest extends MacParameters {
  /** First chaining value of the ISO/IEC 9797-1 algorithms, one cipher block; zero where absent. Not for CMAC. */
  readonly iv?: Uint8Array
}

/** What `deriveContentKey` needs beside the key. */
export interface ContentKeyRequest {
  /** The sender's ephemeral P-256 point, uncompressed: 65 bytes. */
  readonly ephemeralPublicKey: Uint8Array
  /** OtherInfo of the Concat KDF (NIST SP 800-56A Rev. 3, 5.8.2.1; RFC 7518, 4.6.2). At most 1024 bytes. */
  readonly otherInfo: Uint8Array
  /** Length of the derived key in bytes: 16, 24, 32 or 64. */
  readonly length: number
}

/** How a MAC is made: by one mechanism, out of several calls (opt-in), or not at all. */
export type MacPlan = 'native' | 'composed' | 'none'

/** What a backend can do and how it does it, as found when it was opened. */
export interface Capabilities {
  /** `software`, `pkcs11`, or the name of somebody's own backend. */
  readonly backend: string
  /** Who computes TDEA: `node:crypto`, `node-forge`, or the token's own description. */
  readonly tdea: string
  readonly macs: Readonly<Record<MacAlgorithm, MacPlan>>
  /** Where Z of a key agreement lives: host memory, or inside the token. `none`: no key agreement. */
  readonly keyAgreement: 'host' | 'token-digest-key' | 'token-kdf' | 'token-extract' | 'none'
  /** ES256 signatures: made by the backend's own ECDSA, or not at all. */
  readonly signing: 'native' | 'none'
  /** `inside`: PIN blocks are re-enciphered without leaving the token. `host`: only with `hostDecipher` keys. */
  readonly reencipher: 'inside' | 'host'
  readonly random: string
  /** Reasons and remarks for an operator: what is missing and why. */
  readonly notes: readonly string[]
}

/** The answer of `health()`. */
export interface Health {
  readonly ok: boolean
  /** What was looked at, in words for an operator. No secret. */
  readonly detail: string
}

/**
 * A place where keys live. The contract stands at the head of `src/backend/backend.ts`; `issuer-pin-crypto/testing`
 * executes it.
 */
export interface Backend extends AsyncDisposable {
  readonly name: string

  /**
   * Finds a key and checks everything the spec states about it.
   *
   * Errors: `ERR_KEY_NOT_FOUND`, `ERR_KEY_AMBIGUOUS` (two keys by that kid), `ERR_KEY_USAGE`, `ERR_KEY_ALGORITHM`,
   * `ERR_KEY_CHECK_VALUE`, `ERR_KEY_WEAK`, `ERR_KEY_MATERIAL`, `ERR_KEY_ATTRIBUTES` (a token key that could leave
   * the token or do more than its usage).
   */
  bind(spec: BindSpec, options?: CallOptions): Promise<Key>

  /** TDEA ECB encipherment of n ≥ 1 blocks of 8 bytes under a `pin-encryption` key. At most 65,536 bytes. */
  encipherBlocks(key: Key, blocks: Uint8Array, options?: CallOptions): Promise<Uint8Array>

  /** The inverse of {@link encipherBlocks}. The key must be bound with `hostDecipher`: `ERR_HOST_DECIPHER`. */
  decipherBlocks(key: Key, blocks: Uint8Array, options?: CallOptions): Promise<Uint8Array>

  /**
   * Deciphers under `from` and enciphers under `to`, both of this backend, as one operation; no look at what the
   * blocks hold. Where the token cannot do it inside, `from` must be bound with `hostDecipher`.
   */
  reencipherBlocks(from: Key, to: Key, blocks: Uint8Array, options?: CallOptions): Promise<Uint8Array>

  /** The full-length MAC over a message of at most 65,536 bytes. Truncation and comparison belong to the caller. */
  mac(key: Key, request: MacRequest, message: Uint8Array, options?: CallOptions): Promise<Uint8Array>

  /** ECDH with the key's private half, then the Concat KDF with SHA-256, as one operation. Z is not returned. */
  deriveContentKey(key: Key, request: ContentKeyRequest, options?: CallOptions): Promise<Uint8Array>

  /**
   * An ES256 signature over a message of at most 65,536 bytes: ECDSA on P-256 with SHA-256, 64 bytes, r then s, 32 bytes
   * each, big-endian (RFC 7518, 3.4); no DER. It has been verified under `key.publicJwk`: a signature made wrongly could
   * give the key away, and is wiped (`ERR_BACKEND_FAILED`).
   */
  sign(key: Key, message: Uint8Array, options?: CallOptions): Promise<Uint8Array>

  /** 1 to 65,536 random bytes from the backend's generator. */
  randomBytes(length: number, options?: CallOptions): Promise<Uint8Array>

  /** What was found when the backend was opened. Nothing is asked of the token. */
  capabilities(): Capabilities

  /** Computes a known answer where the keys live. Not well is `ok: false`, not an error. */
  health(options?: CallOptions): Promise<Health>

  /** Takes no more, waits for what is in flight, then releases keys and sessions. Again: the same promise. */
  close(): Promise<void>
}
