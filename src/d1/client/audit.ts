/**
 * The audit event of a call to D1: one for each call, whatever became of it and however many requests it took. What is
 * refused before anything is sent (a field, an option) goes nowhere, and has no event.
 */
import { AbortedError, D1ClientError, type D1Delivery, isIssuerPinError } from '../../base/errors.js'
import {
  type AuditKey,
  type AuditRefusal,
  type D1Event,
  maskPans,
  nameOfError,
  shownCardId,
  textOf,
} from '../audit.js'
import type { JsonAnswer } from './answer.js'

/** The card operations. */
export type ClientOperation = 'create' | 'register' | 'renew' | 'replace' | 'delete'

/** What a call failed of; `token-…`: the token could not be had, and the card API was not asked. */
export type ClientFailure =
  | 'refused'
  | 'response'
  | 'unreachable'
  | 'token-refused'
  | 'token-response'
  | 'token-unreachable'
  | 'signer-failed'
  | 'aborted'

/** What became of a call. `status`: of D1's last answer, the token endpoint's where it did not get further. */
export interface ClientAuditEvent extends D1Event<ClientFailure> {
  readonly operation: ClientOperation
  readonly issuerId: string
  readonly correlationId: string
  /** D1's `errorCode`. */
  readonly errorCode?: string
  /** Of a call that failed: whether D1 may have the request. */
  readonly delivery?: D1Delivery
  /** Requests for the card that were sent; 0 where the token could not be had. */
  readonly requests: number
  /** True: a token had to be fetched, by this call or by another that it waited for. */
  readonly tokenFetched: boolean
  /** The signer's key where a token was fetched, and D1's public key where a PAN was sealed to it. */
  readonly keys: readonly AuditKey[]
}

/**
 * Takes the events of a client. `cause` is what the call rejects with. It is called before the call ends and not waited
 * for; what it throws changes nothing, and the process is warned once.
 */
export type ClientAuditHook = (event: ClientAuditEvent, cause?: unknown) => void | Promise<void>

/** What becomes known of a call on its way. */
export interface ClientFacts {
  readonly operation: ClientOperation
  readonly issuerId: string
  readonly cardId: string | undefined
  readonly correlationId: string
  readonly recipientKid: string | undefined
  readonly signerKid: string
  requests: number
  tokenFetched: boolean
}

/** How it ended. */
export type ClientEnd = { readonly answer: JsonAnswer } | { readonly error: unknown }

/** The event of a call that has come to its end. */
export function clientAuditEvent(facts: ClientFacts, end: ClientEnd, durationMs: number): ClientAuditEvent {
  const { operation, issuerId, correlationId, requests, tokenFetched } = facts
  const error = 'error' in end ? end.error : undefined
  const status = 'answer' in end ? end.answer.status : statusOf(error)
  return {
    operation,
    outcome: 'answer' in end ? 'success' : isRefusal(error) ? 'refused' : 'failed',
    ...(status !== undefined && { status }),
    issuerId,
    // A registration was searched for the PAN; a card that D1 knows has a proper name.
    ...shownCardId(facts.cardId, 'answer' in end || operation === 'register'),
    correlationId: maskPans(correlationId),
    requests,
    tokenFetched,
    ...('error' in end && failureOf(error)),
    keys: keysOf(facts),
    durationMs,
  }
}

function keysOf({ tokenFetched, signerKid, recipientKid }: ClientFacts): readonly AuditKey[] {
  const keys: AuditKey[] = []
  if (tokenFetched) keys.push({ role: 'assertion', kid: signerKid })
  if (recipientKid !== undefined) keys.push({ role: 'd1-public', kid: recipientKid })
  return keys
}

function statusOf(error: unknown): number | undefined {
  return error instanceof D1ClientError ? error.status : undefined
}

function isRefusal(error: unknown): boolean {
  const status = statusOf(error)
  return status !== undefined && status >= 400 && status <= 499
}

/** What is told of a failure: codes and names. A signer is somebody else's, and its message may hold anything. */
function failureOf(error: unknown): Pick<ClientAuditEvent, 'refusal' | 'errorCode' | 'delivery'> {
  if (error instanceof D1ClientError) {
    const { code, operation, errorCode, delivery } = error
    const answered = code === 'ERR_D1_REQUEST' ? 'refused' : 'response'
    const reason = code === 'ERR_D1_UNREACHABLE' ? 'unreachable' : answered
    return {
      refusal: { reason: operation === 'token' ? `token-${reason}` : reason, code },
      ...(errorCode !== undefined && { errorCode }),
      delivery,
    }
  }
  const reason = error instanceof AbortedError ? 'aborted' : 'signer-failed'
  const code = nameOfError(error)
  const detail = isIssuerPinError(error)
    ? (textOf(error, 'returnValueName') ?? textOf(error, 'kid'))
    : undefined
  const refusal: AuditRefusal<ClientFailure> = {
    reason,
    ...(code !== undefined && { code }),
    ...(detail !== undefined && { detail }),
  }
  return { refusal }
}
