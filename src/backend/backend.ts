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
import type { CallOptions } from '../base/arguments.js'
import type { CheckValue } from '../key/check-value.js'
import type { PinValueRule } from '../key/pin-value.js'
import type { KeyMode, KeyOperation, KeyUsage } from '../key/usage.js'
import type { KeyAlgorithm } from '../primitives/algorithms.js'
import type { Capabilities, Health } from './driver.js'
import type { Key } from './key.js'

/** Which key is wanted, and what the caller knows about it. Everything stated is checked. */
export interface BindSpec {
  /** Key identifier, 1 to 128 characters: D1's `kid`, the label of a token object. */
  readonly kid: string
  readonly usage: KeyUsage
  /**
   * What of its usage the key is bound for, by X9.143's codes; the usage's first mode where absent (`B` for
   * `pin-encryption`). `E` for a key that enciphers PIN blocks and must never open one; `G` or `V` for one side of a MAC.
   */
  readonly mode?: KeyMode
  readonly algorithm?: KeyAlgorithm
  /**
   * Expected key check value: hex by the algorithm's usual method, or `{ method, value }`. All bytes that are given are
   * compared: 2 to 8 for TDEA, 2 to 16 for AES. Three bytes notice an accident; another key with the same ones is found in
   * seconds, so give the longest you know.
   */
  readonly kcv?: string | CheckValue
  /**
   * For `pin-encryption` keys: allows blocks under this key to be deciphered in host memory. Without it,
   * deciphering is refused with `ERR_HOST_DECIPHER`, in the software backend too.
   * For `key-block-protection` keys: allows key blocks to be sealed and opened in host memory, where the keys that protect
   * them, derived from this one, and the key inside are for that moment.
   */
  readonly hostDecipher?: boolean
  /**
   * From when and until when the key enciphers, generates and signs; refused outside of it with `ERR_KEY_PERIOD`.
   * Deciphering and verifying go on. Where the backend knows a period of the key too, the time that is in both counts; a
   * token may keep dates (CKA_START_DATE, CKA_END_DATE) and show none of them.
   */
  readonly validFrom?: Date
  readonly validTo?: Date
  /**
   * For `visa-pvv` and `ibm-3624` keys: what their values are made by; the verbs ask for it. A kid keeps the first that it was bound
   * with: `ERR_KEY_USAGE` for another one.
   */
  readonly pinValue?: PinValueRule
}

/** One use of a key, as the opener's `onOperation` hears of it before it happens. No secret, and nothing of the data. */
export interface KeyUse {
  readonly kid: string
  readonly usage: KeyUsage
  readonly mode: KeyMode
  readonly operation: KeyOperation
  /** How many cipher blocks are worked on, each a trial for whoever guesses; 1 for a MAC, an agreement, a signature. */
  readonly blocks: number
}

/** What whoever opens a backend decides once, for everybody who is handed it or a key of it. */
export interface OpenerOptions {
  /**
   * The key ring: which keys may be bound, and for how much at most. `bind` then refuses every other kid, another usage, a
   * wider mode and `hostDecipher` where it is not said here, with `ERR_BACKEND_SEALED`; what is said here of algorithm and
   * check value is checked at each `bind`. One entry a kid. Without it whoever holds the backend binds what it has, until
   * `seal()`.
   */
  readonly ring?: readonly BindSpec[]
  /**
   * Is asked before each operation under a key, and refuses it by throwing: a coded error is passed on, any other becomes
   * `ERR_BACKEND_FAILED`. It must answer at once and return nothing. `operationLimit` is one that bounds operations per key
   * and time.
   */
  readonly onOperation?: (use: KeyUse) => void
}

/**
 * A place where keys live, for whoever opened it: it binds keys and it is closed; what is done with a key goes through the
 * key. Its contract is what `backendContract` of `issuer-pin-crypto/testing` executes.
 */
export interface Backend extends AsyncDisposable {
  readonly name: string

  /**
   * Finds a key and checks everything the spec states about it.
   *
   * Errors: `ERR_KEY_NOT_FOUND`, `ERR_KEY_AMBIGUOUS` (two keys by that kid), `ERR_KEY_USAGE`, `ERR_KEY_ALGORITHM`,
   * `ERR_KEY_CHECK_VALUE`, `ERR_KEY_WEAK`, `ERR_KEY_MATERIAL`, `ERR_KEY_ATTRIBUTES` (a token key that could leave
   * the token or do more than its usage), `ERR_BACKEND_SEALED` (not in the ring, or wider than the ring has it).
   */
  bind(spec: BindSpec, options?: CallOptions): Promise<Key>

  /**
   * Lets a key go: it is refused from then on (`ERR_KEY_FOREIGN`), and `health()` looks for it no more. What it was bound
   * for stays the one usage of its kid. Binding a kid again replaces the key before in `health()` by itself.
   *
   * Errors: `ERR_ARGUMENT`, `ERR_KEY_FOREIGN`.
   */
  unbind(key: Key): void

  /**
   * Closes the key ring: from now on `bind` is refused with `ERR_BACKEND_SEALED`. For the opener, once all keys are bound: code
   * that is handed the backend, or parts of the program that were not meant to, then bind no key, and none more widely.
   */
  seal(): void

  /** 1 to 65,536 random bytes from the backend's generator. */
  randomBytes(length: number, options?: CallOptions): Promise<Uint8Array>

  /** What was found when the backend was opened. Nothing is asked of the token. */
  capabilities(): Capabilities

  /** Computes a known answer where the keys live. Not well is `ok: false`, not an error. */
  health(options?: CallOptions): Promise<Health>

  /** Takes no more, waits for what is in flight, then releases keys and sessions. Again: the same promise. */
  close(): Promise<void>
}
