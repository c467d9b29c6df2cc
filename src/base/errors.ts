/**
 * Every error this library raises on purpose: one closed union of codes, a class per family.
 *
 * Branch on `code`, which is the same string in ESM and CommonJS; `instanceof` holds within one module system.
 * No message, stack or `cause` here carries a PIN, PAN, PIN block, key, shared secret or content key:
 * messages are built from constants, kids, field names and lengths only.
 */
import { inspect } from 'node:util'

/** The closed union of error codes. A new code is a minor release, a removed or repurposed one a major. */
export type ErrorCode =
  | 'ERR_ARGUMENT'
  | 'ERR_PIN'
  | 'ERR_PAN'
  | 'ERR_DISPOSED'
  | 'ERR_LENGTH'
  | 'ERR_ENCODING'
  | 'ERR_POINT'
  | 'ERR_PIN_BLOCK'
  | 'ERR_PIN_POLICY'
  | 'ERR_TRANSLATION_REFUSED'
  | 'ERR_KEY_NOT_FOUND'
  | 'ERR_KEY_AMBIGUOUS'
  | 'ERR_KEY_CHECK_VALUE'
  | 'ERR_KEY_USAGE'
  | 'ERR_KEY_ALGORITHM'
  | 'ERR_KEY_MATERIAL'
  | 'ERR_KEY_WEAK'
  | 'ERR_KEY_ATTRIBUTES'
  | 'ERR_KEY_FOREIGN'
  | 'ERR_KEY_PERIOD'
  | 'ERR_KEY_BLOCK'
  | 'ERR_KEY_LIMIT'
  | 'ERR_HOST_DECIPHER'
  | 'ERR_JWE'
  | 'ERR_JWE_RECIPIENT'
  | 'ERR_PROFILE'
  | 'ERR_DATA_SET'
  | 'ERR_CHANGE_COUNTER'
  | 'ERR_PRW_MAC'
  | 'ERR_D1_MESSAGE'
  | 'ERR_D1_REQUEST'
  | 'ERR_D1_RESPONSE'
  | 'ERR_D1_UNREACHABLE'
  | 'ERR_ABORTED'
  | 'ERR_BACKEND_CLOSED'
  | 'ERR_BACKEND_SEALED'
  | 'ERR_BACKEND_BUSY'
  | 'ERR_BACKEND_FAILED'
  | 'ERR_UNSUPPORTED'
  | 'ERR_UNSUPPORTED_BY_TOKEN'
  | 'ERR_PKCS11_UNAVAILABLE'
  | 'ERR_PKCS11_MODULE'
  | 'ERR_PKCS11_TOKEN'
  | 'ERR_PKCS11_LOGIN'
  | 'ERR_PKCS11_CALL'
  | 'ERR_PKCS11_SELF_TEST'

/** What every error of this library has besides `message`: a stable `code`, and whether trying again can help. */
export interface CodedError extends Error {
  readonly code: ErrorCode
  /** True where the same call may succeed later without a change by the caller (a busy pool, a lost session). */
  readonly retryable: boolean
}

/** Marks our errors for {@link isIssuerPinError}: a registered symbol is one value across copies of the library. */
const BRAND: symbol = Symbol.for('issuer-pin-crypto.error')

/** Base class of the library's errors, {@link ArgumentError} apart (which is a `TypeError`). */
export class IssuerPinError extends Error implements CodedError {
  override readonly name: string = 'IssuerPinError'
  readonly code: ErrorCode
  readonly retryable: boolean

  static {
    Object.defineProperty(IssuerPinError.prototype, BRAND, { value: true })
  }

  constructor(code: ErrorCode, message: string, options?: { retryable?: boolean; cause?: unknown }) {
    super(message, options?.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.retryable = options?.retryable ?? false
  }
}

/** `ERR_ARGUMENT`: a mistake of the calling program (wrong type, missing or unknown option). */
export class ArgumentError extends TypeError implements CodedError {
  override readonly name: string = 'ArgumentError'
  readonly code = 'ERR_ARGUMENT' as const
  readonly retryable = false

  static {
    Object.defineProperty(ArgumentError.prototype, BRAND, { value: true })
  }
}

/** `ERR_PIN`, `ERR_PAN`, `ERR_LENGTH`, `ERR_ENCODING`, `ERR_POINT`, `ERR_DISPOSED`: a value of the right type that is out of bounds. */
export class InputError extends IssuerPinError {
  override readonly name: string = 'InputError'
}

/**
 * `ERR_PIN_BLOCK`: a PIN block that does not parse. One message whatever was wrong, because telling a bad
 * control nibble from a bad filler or digit is an oracle for the PIN.
 */
export class PinBlockError extends IssuerPinError {
  override readonly name: string = 'PinBlockError'
  constructor() {
    super('ERR_PIN_BLOCK', 'the PIN block is not valid')
  }
}

/** Why a PIN is not taken. For the issuer's audit; who chose the PIN is told that it is not taken, and no more. */
export type PinPolicyReason = 'length' | 'repeats' | 'runs' | 'pairs' | 'dates' | 'list' | 'before'

/** `ERR_PIN_POLICY`: a PIN that the issuer's policy does not take. */
export class PinPolicyError extends IssuerPinError {
  override readonly name: string = 'PinPolicyError'
  readonly reason: PinPolicyReason
  constructor(reason: PinPolicyReason) {
    super('ERR_PIN_POLICY', "the PIN is not one that the issuer's policy takes")
    this.reason = reason
  }
}

/** `ERR_TRANSLATION_REFUSED`: a PIN block translation that the policy table does not allow. */
export class TranslationError extends IssuerPinError {
  override readonly name: string = 'TranslationError'
}

/** `ERR_KEY_…` and `ERR_HOST_DECIPHER`: a key that cannot be bound, or that does not admit the operation. */
export class KeyError extends IssuerPinError {
  override readonly name: string = 'KeyError'
  /** The kid the caller asked for. A kid is an identifier, never a secret. */
  readonly kid: string | undefined

  constructor(code: ErrorCode, message: string, kid?: string, options?: { retryable?: boolean }) {
    super(code, message, options)
    this.kid = kid
  }
}

/**
 * `ERR_KEY_BLOCK`: a key block that is not read. `entry` names what is wrong: a field of the header, or `block` where it does
 * not open, which has one message whatever was wrong: MAC, length or padding (one answer, so that it is no oracle).
 */
export class KeyBlockError extends IssuerPinError {
  override readonly name: string = 'KeyBlockError'
  readonly entry: string

  constructor(entry: string, problem: string) {
    super('ERR_KEY_BLOCK', `key block: ${entry} ${problem}`)
    this.entry = entry
  }
}

/** `ERR_JWE`: a JWE that does not open (one message for every reason); `ERR_JWE_RECIPIENT`: an unusable public key. */
export class JweError extends IssuerPinError {
  override readonly name: string = 'JweError'
}

/** `ERR_D1_MESSAGE`: a D1 message that breaks its contract. `field` names the member, never its value. */
export class D1MessageError extends IssuerPinError {
  override readonly name: string = 'D1MessageError'
  readonly field: string

  constructor(field: string, problem: string) {
    super('ERR_D1_MESSAGE', `D1 message: ${field} ${problem}`)
    this.field = field
  }
}

/** What is known of a request to D1 that failed: it never left, it may have been processed, or D1 answered it. */
export type D1Delivery = 'not-sent' | 'unknown' | 'answered'

/** The facts of a {@link D1ClientError}. */
export interface D1Failure {
  readonly operation: string
  readonly attempt: number
  readonly delivery: D1Delivery
  readonly retryable: boolean
  readonly correlationId: string
  readonly status?: number | undefined
  readonly errorCode?: string | undefined
  readonly retryAfterSeconds?: number | undefined
  readonly text?: string | undefined
}

/**
 * A call to D1 that failed. `ERR_D1_REQUEST`: D1 refused it, with `status` and perhaps `errorCode`.
 * `ERR_D1_RESPONSE`: D1 answered with what is not in its contract. `ERR_D1_UNREACHABLE`: no answer (network, TLS, time).
 */
export class D1ClientError extends IssuerPinError {
  override readonly name: string = 'D1ClientError'
  /** `token`, or what was asked: `create`, `register`, … */
  readonly operation: string
  /** Which attempt failed, from 1. After a repeated PUT, a refusal may mean that an earlier attempt had succeeded. */
  readonly attempt: number
  readonly delivery: D1Delivery
  /** The `x-correlation-id` that was sent: what to tell D1's support. */
  readonly correlationId: string
  readonly status: number | undefined
  /** D1's `errorCode`, or the OAuth2 `error` of the token endpoint. */
  readonly errorCode: string | undefined
  /** What D1 asked for by `Retry-After`. */
  readonly retryAfterSeconds: number | undefined
  readonly #text: string | undefined

  constructor(code: ErrorCode, problem: string, failure: D1Failure) {
    super(code, `D1 ${failure.operation}: ${problem}`, { retryable: failure.retryable })
    this.operation = failure.operation
    this.attempt = failure.attempt
    this.delivery = failure.delivery
    this.correlationId = failure.correlationId
    this.status = failure.status
    this.errorCode = failure.errorCode
    this.retryAfterSeconds = failure.retryAfterSeconds
    this.#text = failure.text
  }

  /** D1's own words, at most 512 characters, which may quote what was sent. Not part of the message, for that reason. */
  revealText(): string | undefined {
    return this.#text
  }
}

/** `ERR_PROFILE`: a SECCOS profile that does not hold. `path` is the JSON pointer (RFC 6901) of the offending entry. */
export class ProfileError extends IssuerPinError {
  override readonly name: string = 'ProfileError'
  readonly path: string

  constructor(path: string, problem: string) {
    super('ERR_PROFILE', `SECCOS profile: ${path === '' ? 'the profile' : path} ${problem}`)
    this.path = path
  }
}

/** `ERR_DATA_SET`: a value that a SECCOS data set cannot hold, or does not. `field` is its id, never its value. */
export class DataSetError extends IssuerPinError {
  override readonly name: string = 'DataSetError'
  readonly field: string

  constructor(field: string, problem: string) {
    super('ERR_DATA_SET', `data set: ${field} ${problem}`)
    this.field = field
  }
}

/** Why a change counter refused, for the issuer's operator. To the outside there is one answer for all of them. */
export type ChangeCounterReason =
  | 'unknown'
  | 'other-card'
  | 'pcc'
  | 'expired'
  | 'spent'
  | 'superseded'
  | 'failover'
  | 'exhausted'

/** `ERR_CHANGE_COUNTER`: the PIN change counter refuses. `reason` is for the issuer's operator only. */
export class ChangeCounterError extends IssuerPinError {
  override readonly name: string = 'ChangeCounterError'
  readonly reason: ChangeCounterReason

  constructor(reason: ChangeCounterReason) {
    super('ERR_CHANGE_COUNTER', `the PIN change counter refuses: ${reason}`)
    this.reason = reason
  }
}

/** `ERR_PRW_MAC`: the MAC of a Set PIN request (3DES_SECCOS) is wrong. Nothing of the request may be stored. */
export class PrwMacError extends IssuerPinError {
  override readonly name: string = 'PrwMacError'
  constructor() {
    super('ERR_PRW_MAC', 'the MAC over the PRW is wrong')
  }
}

/** `ERR_ABORTED`: the caller's `AbortSignal` fired before the operation reached the backend. `cause` is its reason. */
export class AbortedError extends IssuerPinError {
  override readonly name: string = 'AbortError'
  constructor(reason: unknown) {
    super('ERR_ABORTED', 'the operation was aborted', { cause: reason })
  }
}

/** `ERR_BACKEND_…` and `ERR_UNSUPPORTED`: the backend is closed, busy, failed, or cannot do what was asked. */
export class BackendError extends IssuerPinError {
  override readonly name: string = 'BackendError'
}

/**
 * True for any error raised by this library, whichever module system or copy of it raised the error.
 *
 * @example
 * ```ts
 * if (isIssuerPinError(error) && error.retryable) console.log('later:', error.code)
 * ```
 */
export function isIssuerPinError(value: unknown): value is CodedError {
  return value instanceof Error && BRAND in value
}

/**
 * Gives a class the fixed text by which its instances show themselves in `util.inspect` (and so in console output,
 * assertion diffs and error reports), whatever they hold.
 */
export function redactInspect(prototype: object, show: (this: never) => string): void {
  Object.defineProperty(prototype, inspect.custom, { value: show, enumerable: false })
}

/**
 * Lets an error of ours pass, or one with this code, which says that something cannot be done, and throws any other on: what nobody foresaw is not taken for
 * an answer.
 *
 * @example
 * ```ts
 * catch (error) {
 *   requireOurs(error)
 *   return undefined
 * }
 * ```
 */
export function requireOurs(error: unknown, code?: ErrorCode): asserts error is CodedError {
  if (!isIssuerPinError(error) || (code !== undefined && error.code !== code)) throw error
}
