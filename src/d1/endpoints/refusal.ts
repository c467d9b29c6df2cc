/**
 * Everything a request can be refused for, and what the outside sees of it: a status, and at one place an errorCode.
 * Reasons that belong to the inside of a message share one entry, so that no answer tells them apart.
 */
import { type Clock, Deadline, type Ending } from '../../base/deadline.js'
import { type ErrorCode, isIssuerPinError } from '../../base/errors.js'
import type { CounterErrorCode, ErrorStatus } from '../contract.js'

/** Why a request was refused, for the issuer's operator. */
export type RefusalReason =
  | 'path'
  | 'method'
  | 'route'
  | 'issuer-id'
  | 'issuer-unknown'
  | 'card-id'
  | 'card-unknown'
  | 'connection'
  | 'certificate-missing'
  | 'certificate-stated'
  | 'caller-unknown'
  | 'caller-issuer'
  | 'token-missing'
  | 'token-invalid'
  | 'token-binding'
  | 'content-type'
  | 'content-encoding'
  | 'body-size'
  | 'body-timeout'
  | 'body-broken'
  | 'not-http'
  | 'message'
  | 'client-gone'
  | 'client-credentials'
  | 'client-locked'
  | 'token-method'
  | 'token-request'
  | 'grant-type'
  | 'scope'
  | 'card-not-active'
  | 'pin-change-forbidden'
  | 'counter-exhausted'
  | 'pin-type'
  | 'pin-not-available'
  | 'pin-refused'
  | 'pin-refused-bad-request'
  | 'card-busy'
  | 'service-busy'
  | 'rate'
  | 'rate-failed'
  | 'audit-failed'
  | 'directory-failed'
  | 'store-failed'
  | 'storage-key-unknown'
  | 'd1-key-failed'
  | 'verifier-failed'
  | 'token-issuer-failed'
  | 'service-failed'
  | 'timeout'
  | 'omitted'

/** What the outside sees. */
interface RefusalRule {
  readonly status: ErrorStatus
  /** For Get PIN Change Counter. */
  readonly errorCode?: CounterErrorCode
  /** For the token endpoint: RFC 6749, 5.2. */
  readonly oauthError?: string
}

const BAD_REQUEST: RefusalRule = { status: 400 }
const UNAUTHORIZED: RefusalRule = { status: 401 }
const NOT_FOUND: RefusalRule = { status: 404 }
const CHANGE_FORBIDDEN: RefusalRule = { status: 403, errorCode: 'PIN_CHANGE_FORBIDDEN' }
const FAILED: RefusalRule = { status: 500 }

/**
 * The table. A wrong method on a path that exists is 400 («unsupported»), because 404 would say that the card is
 * unknown. A body that comes too slowly is 400: what has come is not a request.
 */
const REFUSALS: Readonly<Record<RefusalReason, RefusalRule>> = {
  path: BAD_REQUEST,
  method: BAD_REQUEST,
  route: NOT_FOUND,
  'issuer-id': BAD_REQUEST,
  'issuer-unknown': NOT_FOUND,
  'card-id': BAD_REQUEST,
  'card-unknown': NOT_FOUND,
  connection: UNAUTHORIZED,
  'certificate-missing': UNAUTHORIZED,
  'certificate-stated': UNAUTHORIZED,
  'caller-unknown': UNAUTHORIZED,
  'caller-issuer': { status: 403 },
  'token-missing': UNAUTHORIZED,
  'token-invalid': UNAUTHORIZED,
  'token-binding': UNAUTHORIZED,
  'content-type': BAD_REQUEST,
  'content-encoding': BAD_REQUEST,
  'body-size': BAD_REQUEST,
  'body-timeout': BAD_REQUEST,
  'body-broken': BAD_REQUEST,
  'not-http': BAD_REQUEST,
  message: BAD_REQUEST,
  'client-gone': BAD_REQUEST,
  'client-credentials': { status: 401, oauthError: 'invalid_client' },
  'client-locked': { status: 401, oauthError: 'invalid_client' },
  'token-method': { status: 400, oauthError: 'invalid_request' },
  'token-request': BAD_REQUEST,
  'grant-type': { status: 400, oauthError: 'unsupported_grant_type' },
  scope: { status: 400, oauthError: 'invalid_scope' },
  'card-not-active': { status: 403, errorCode: 'CARD_NOT_ACTIVE' },
  'pin-change-forbidden': CHANGE_FORBIDDEN,
  'counter-exhausted': CHANGE_FORBIDDEN,
  'pin-type': CHANGE_FORBIDDEN,
  'pin-not-available': { status: 403 },
  'pin-refused': { status: 403 },
  'pin-refused-bad-request': BAD_REQUEST,
  'card-busy': FAILED,
  'service-busy': FAILED,
  rate: CHANGE_FORBIDDEN,
  'rate-failed': FAILED,
  'audit-failed': FAILED,
  'directory-failed': FAILED,
  'store-failed': FAILED,
  'storage-key-unknown': FAILED,
  'd1-key-failed': FAILED,
  'verifier-failed': FAILED,
  'token-issuer-failed': FAILED,
  'service-failed': FAILED,
  timeout: FAILED,
  // Of one event in place of many; it has the status of theirs.
  omitted: BAD_REQUEST,
}

/** Which codes of this library are the sender's fault, by operation. Any other, and any foreign error, is ours: 500. */
type Faults = Readonly<Partial<Record<ErrorCode, RefusalReason>>>

/** Get PIN takes nothing from the sender but ids: a stored block that does not read is our trouble. */
export const GET_PIN_FAULTS: Faults = {}

export const SET_PIN_FAULTS: Faults = {
  ERR_D1_MESSAGE: 'message',
  ERR_JWE: 'message',
  ERR_PIN_BLOCK: 'message',
  ERR_DATA_SET: 'message',
  ERR_ENCODING: 'message',
  ERR_CHANGE_COUNTER: 'message',
  ERR_PRW_MAC: 'message',
}

/** How a PIN is refused that the issuer's policy does not take. */
export const POLICY_REASONS: Readonly<Record<400 | 403, RefusalReason>> = {
  400: 'pin-refused-bad-request',
  403: 'pin-refused',
}

/** The counter refuses to issue for one reason only. */
export const COUNTER_FAULTS: Faults = { ERR_CHANGE_COUNTER: 'counter-exhausted' }

/** A request that is refused. Internal: what leaves the endpoints is an answer and an audit event. */
export class Refusal extends Error {
  override readonly name: string = 'Refusal'
  readonly reason: RefusalReason
  /** A word more for the operator; made here, or checked to be one. */
  readonly detail: string | undefined

  constructor(reason: RefusalReason, more?: { readonly cause?: unknown; readonly detail?: string }) {
    super(reason, { cause: more?.cause })
    this.reason = reason
    this.detail = more?.detail
  }

  get rule(): RefusalRule {
    return REFUSALS[this.reason]
  }
}

/** Runs a verb of this library, and makes a refusal of what it throws. */
export async function judged<T>(faults: Faults, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw error instanceof Refusal ? error : new Refusal(reasonOf(faults, error), { cause: error })
  }
}

/** Runs what the issuer supplied, and makes one refusal of whatever it throws: its codes are not for us to judge. */
export async function supplied<T>(reason: RefusalReason, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw new Refusal(reason, { cause: error })
  }
}

function reasonOf(faults: Faults, error: unknown): RefusalReason {
  return (isIssuerPinError(error) && faults[error.code]) || 'service-failed'
}

/** How long, by which clock, what it is called when it is over, and who else may end it. */
interface RefusalDeadline {
  readonly clock: Clock
  readonly milliseconds: number
  readonly reason: RefusalReason
  /** The client's signal, or that of an outer deadline. */
  readonly parent: AbortSignal | Ending
}

/**
 * Runs `work` with what ends at the deadline, or with the parent. At the deadline the result is a refusal at
 * once, whatever `work` does about it. The parent's end leaves the verdict to `work`: what has been begun (a PIN being
 * stored) is seen to its end, and reported as what it was. Leaves no timer and no listener behind.
 */
export async function withDeadline<T>(
  { clock, milliseconds: ms, reason, parent }: RefusalDeadline,
  work: (end: Ending) => Promise<T>,
): Promise<T> {
  const expired = (): Refusal => new Refusal(reason)
  const outer = { signal: parent, error: asRefusal, patient: true }
  using deadline = new Deadline({ clock, ms, expired, outer })
  const { ending } = deadline
  try {
    return await deadline.race(work(ending))
  } catch (error) {
    const { aborted, reason: told } = ending
    if (!aborted || error === told) throw error
    // What surfaces after the end (ERR_ABORTED, a database's cancellation) is most often the end showing itself.
    throw new Refusal((told as Refusal).reason, { cause: error instanceof Refusal ? error.cause : error })
  }
}

function asRefusal(reason: unknown): Refusal {
  return reason instanceof Refusal ? reason : new Refusal('client-gone')
}
