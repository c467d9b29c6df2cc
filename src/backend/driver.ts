/**
 * What somebody implements to add a backend: {@link BackendDriver}, plain data in and plain data out.
 * `openBackend` (front.ts) puts the common checks in front of it, so a driver sees only sound arguments.
 */
import type { CheckValue, CheckValueMethod } from '../key/check-value.js'
import type { KeyPeriod } from '../key/period.js'
import type { KeyMode, KeyUsage } from '../key/usage.js'
import type { PinComparison, PinVerification } from '../pin/formats/verification.js'
import type { SealedContent } from '../primitives/a256gcm.js'
import type { Encipherment, KeyAlgorithm, MacAlgorithm, MacPadding } from '../primitives/algorithms.js'
import type { P256PublicJwk } from '../primitives/p256.js'
import type { KeyParity } from '../primitives/tdea.js'

/** What `mac` needs besides the key and the message. */
export interface MacRequest {
  /** A MAC, or the encipherment that a PRW may be; the latter for PRW keys only. */
  readonly algorithm: MacAlgorithm | Encipherment
  /** As the algorithm takes it; of an encipherment, 1 or 2. */
  readonly padding: MacPadding
  /** First chaining value of the ISO/IEC 9797-1 algorithms and of CBC, one cipher block; zero where absent. */
  readonly iv?: Uint8Array | undefined
  /** The key is derived from the named one, step by step, and used for this one message. Neither leaves the backend. */
  readonly derivation?: readonly KeyDerivation[] | undefined
}

/** One step of a key derivation; cipher and length of the key stay as they are. */
export type KeyDerivation =
  /** The leftmost bytes of the data, whole blocks, enciphered by ECB: as many as the key has. EMV Book 2, A1.4. */
  | { readonly method: 'encipher'; readonly data: Uint8Array }
  /** The key XOR the data, as long as the key: a variant, a control mask. */
  | { readonly method: 'xor'; readonly data: Uint8Array }
  /** NIST SP 800-108r1, 4.1, with CMAC: blocks CMAC(counter ‖ data), counted from 1. */
  | { readonly method: 'cmac-counter'; readonly counterBytes: 1 | 2 | 4; readonly data: Uint8Array }

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
  /**
   * Where a key is derived from another: `inside` where neither leaves the token, `host` where the derived one is in host
   * memory meanwhile. One that cannot do every step says so when it is asked.
   */
  readonly derivation: 'inside' | 'host' | 'none'
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
  /** Backends that recover by themselves: where they are in that. */
  readonly state?: 'open' | 'degraded' | 'recovering' | 'closed'
  /** What was looked at, in words for an operator. No secret. */
  readonly detail: string
}

/** A result now, or a promise of it: a driver in this thread need not pay for promises. */
export type MaybePromise<T> = T | Promise<T>

/** What the front asks a driver to find. Shapes are checked; whether it matches the key is the driver's to say. */
export interface KeyQuery {
  readonly kid: string
  readonly usage: KeyUsage
  /** A key that is wanted in a narrower mode than its usage's first must not be able to do more than that mode. */
  readonly mode: KeyMode
  readonly algorithm: KeyAlgorithm | undefined
  readonly hostDecipher: boolean
  /** The method by which the caller's expected check value was made; undefined: the algorithm's usual one. */
  readonly checkValueMethod: CheckValueMethod | undefined
  /** The expected check value itself, where there is one: it decides between two keys by one name. */
  readonly expected?: string | CheckValue | undefined
}

/** A key as a driver found it. `Ref` is the driver's own way to reach it again. */
export interface FoundKey<Ref> extends KeyPeriod {
  readonly ref: Ref
  readonly algorithm: KeyAlgorithm
  readonly checkValue: CheckValue
  readonly parity: KeyParity
  /** P-256 keys: the public half. Without it a key for signing is not bound. */
  readonly publicJwk?: P256PublicJwk
  /** What else the key is known by where it lives. */
  readonly identity?: KeyIdentity
}

/** How one key is recognised under two kids. */
export interface KeyIdentity {
  /** Names that one key has and no other: an object handle, a unique identifier. */
  readonly names: readonly string[]
  /** A name that a key should have for itself (CKA_ID): counts unless the check values say that there are two keys. */
  readonly id?: string
  /** Check values by further methods, so that two keys are compared by one that both have. */
  readonly checkValues: readonly CheckValue[]
  /**
   * True where the backend has held the keys themselves against each other: two names are then two keys, whatever their check
   * values say. Three bytes agree by chance among a few thousand keys.
   */
  readonly compared?: boolean
}

/**
 * The inside of a backend. Arguments have been validated, and byte inputs are the front's own copies, which it wipes
 * when the driver is done. Errors are coded (an uncoded one becomes `ERR_BACKEND_FAILED`); outputs have the exact length
 * due and belong to the front. Calls that wait for something honour `signal` until the key is in use.
 */
export interface BackendDriver<Ref> {
  readonly name: string
  /**
   * True where `encipher`, `decipher`, `reencipher`, `mac` and `deriveContentKey` have read what they are given when they
   * return, write nothing into it and keep nothing of it: then the front does not copy blocks, messages and points.
   */
  readonly blocksAtOnce?: boolean
  /**
   * Finds exactly one key. Errors: `ERR_KEY_NOT_FOUND`, `ERR_KEY_AMBIGUOUS`, `ERR_KEY_USAGE` (the key is for
   * something else), `ERR_KEY_ALGORITHM`, `ERR_KEY_WEAK`, `ERR_KEY_MATERIAL`, `ERR_KEY_ATTRIBUTES`.
   * The front compares algorithm and check value afterwards.
   */
  find(query: KeyQuery, signal: AbortSignal | undefined): MaybePromise<FoundKey<Ref>>
  /** A key is bound no longer; what was kept for it may go. */
  release?(ref: Ref): void
  /** ECB over n ≥ 1 blocks of the key's cipher: 8 bytes TDEA, 16 AES. */
  encipher(ref: Ref, blocks: Uint8Array, signal: AbortSignal | undefined): MaybePromise<Uint8Array>
  /**
   * `encipher` into memory as long as the blocks, of which nothing is kept. For a driver that answers at once: it spares the
   * front all that is for operations in flight. Where it cannot this time it copies the blocks before it returns,
   * and gives a promise of the answer, which may be that memory.
   */
  encipherInto?(
    ref: Ref,
    blocks: Uint8Array,
    out: Uint8Array<ArrayBuffer>,
    signal: AbortSignal | undefined,
    // biome-ignore lint/suspicious/noConfusingVoidType: a driver that is done returns nothing
  ): void | Promise<Uint8Array>
  /** Its inverse. Called for keys that admit host decipherment only. */
  decipher(ref: Ref, blocks: Uint8Array, signal: AbortSignal | undefined): MaybePromise<Uint8Array>
  /** `decipher` under the key XOR a mask. Absent where keys do not give variants of themselves, as in a token. */
  decipherVariant?(
    ref: Ref,
    mask: Uint8Array,
    blocks: Uint8Array,
    signal: AbortSignal | undefined,
  ): MaybePromise<Uint8Array>
  /**
   * E(E(block) XOR field), block by block; as many fields as blocks. Where a driver has none, the front makes it of two calls of
   * `encipher`.
   */
  encipherBound?(
    ref: Ref,
    blocks: Uint8Array,
    fields: Uint8Array,
    signal: AbortSignal | undefined,
  ): MaybePromise<Uint8Array>
  /** Its inverse, made of two calls of `decipher` in the same way. */
  decipherBound?(
    ref: Ref,
    blocks: Uint8Array,
    fields: Uint8Array,
    signal: AbortSignal | undefined,
  ): MaybePromise<Uint8Array>
  /**
   * Keys of one block length. Called where `capabilities().reencipher` is `inside`, or where `from` admits host decipherment; with
   * `inside` it is done in the token or not at all (`ERR_HOST_DECIPHER`).
   */
  reencipher(
    from: Ref,
    to: Ref,
    blocks: Uint8Array,
    signal: AbortSignal | undefined,
    inside: boolean,
  ): MaybePromise<Uint8Array>
  /** `reencipher` in host memory, into memory as long as the blocks: as `encipherInto`, and only beside it. */
  reencipherInto?(from: Ref, to: Ref, blocks: Uint8Array, out: Uint8Array): void
  /**
   * Opens the block under the first key, and the kept one or the value it is compared with under the second, as one operation: the
   * steps are `verificationSteps`. Where a driver has none, the front makes it of calls of `decipher` and `encipher`.
   */
  verifyPin?(
    first: Ref,
    second: Ref,
    request: PinVerification,
    signal: AbortSignal | undefined,
  ): MaybePromise<PinComparison>
  /** The full-length MAC. */
  mac(
    ref: Ref,
    request: MacRequest,
    message: Uint8Array,
    signal: AbortSignal | undefined,
  ): MaybePromise<Uint8Array>
  /** ECDH and Concat KDF; the point has been checked to be on the curve. */
  deriveContentKey(
    ref: Ref,
    request: ContentKeyRequest,
    signal: AbortSignal | undefined,
  ): MaybePromise<Uint8Array>
  /**
   * `deriveContentKey`, 32 bytes, and what A256GCM opens with that key, in one operation: the content, or undefined where the tag
   * is wrong. All is read when it returns. Where a driver has none, the front derives the key and opens the content itself.
   */
  openContent?(
    ref: Ref,
    request: ContentKeyRequest,
    content: SealedContent,
    signal: AbortSignal | undefined,
  ): MaybePromise<Uint8Array | undefined>
  /** ES256: 64 bytes, r then s. The front verifies it. */
  sign(ref: Ref, message: Uint8Array, signal: AbortSignal | undefined): MaybePromise<Uint8Array>
  /** 1 to 65,536 random bytes. */
  randomBytes(length: number, signal: AbortSignal | undefined): MaybePromise<Uint8Array>
  /** What it can do; the same answer each time. */
  capabilities(): Capabilities
  /** Whether it works now. */
  health(signal: AbortSignal | undefined): MaybePromise<Health>
  /** Called once when closing begins: what does not end in time must be made to. */
  closing?(): void
  /** Called once, when nothing is in flight any more. */
  close(): MaybePromise<void>
}
