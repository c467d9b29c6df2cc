/**
 * One call of the card API: token, request, attempts, under one deadline. A refused token is replaced once a call: D1 has
 * not looked at a request that it answers with 401, so that it is sent again whatever the method.
 */
import { AbortedError, D1ClientError, type D1Delivery } from '../../base/errors.js'
import type { JsonObject } from '../messages/fields.js'
import type { JsonAnswer } from './answer.js'
import {
  type ClientAuditEvent,
  type ClientEnd,
  type ClientFacts,
  type ClientOperation,
  clientAuditEvent,
} from './audit.js'
import { Deadline } from './deadline.js'
import { withRetries } from './retry.js'
import type { TokenSource } from './token.js'
import { type D1Request, sendOnce, type Transport, timedOut } from './transport.js'

interface Operation {
  readonly method: D1Request['method']
  readonly suffix: string
  readonly repeatable: boolean
}

/** One row an operation. The colon of the last three is our reading of the published navigation. */
const OPERATIONS: Readonly<Record<ClientOperation, Operation>> = {
  create: { method: 'POST', suffix: '', repeatable: false },
  register: { method: 'PUT', suffix: '', repeatable: true },
  renew: { method: 'POST', suffix: '/operations:renew', repeatable: false },
  replace: { method: 'POST', suffix: '/operations:replace', repeatable: false },
  delete: { method: 'POST', suffix: '/operations:delete', repeatable: false },
}

/** A call whose parts have been checked. */
export interface CardCall {
  readonly operation: ClientOperation
  readonly cardId?: string
  readonly body: JsonObject | undefined
  readonly signal: AbortSignal | undefined
  readonly correlationId: string
  readonly userId: string | undefined
  /** Of the key that the PAN was sealed to. */
  readonly recipientKid?: string | undefined
}

/** What the calls of one client share. */
export interface CardsContext {
  readonly transport: Transport
  readonly tokens: TokenSource
  /** `…/v2/issuers/{issuerId}/cards` */
  readonly cardsUrl: string
  readonly issuerId: string
  readonly audit: AuditEmitter | undefined
}

/** Hands an event to the hook; see `auditor`. */
export type AuditEmitter = (makeEvent: () => ClientAuditEvent, cause: unknown) => void

/** Runs the call, and tells the audit hook what became of it. Errors: see `d1Client`. */
export async function callCards(context: CardsContext, call: CardCall): Promise<JsonAnswer> {
  const { clock } = context.transport
  const { operation, cardId, correlationId, recipientKid } = call
  const { issuerId, tokens, audit } = context
  const { signerKid } = tokens
  const facts: ClientFacts = {
    ...{ operation, issuerId, cardId, correlationId, recipientKid, signerKid },
    requests: 0,
    tokenFetched: false,
  }
  const started = clock.elapsed()
  const tell = (end: ClientEnd, cause?: unknown): void => {
    const durationMs = clock.elapsed() - started
    audit?.(() => clientAuditEvent(facts, end, durationMs), cause)
  }
  try {
    const answer = await attemptCall(context, call, facts)
    tell({ answer })
    return answer
  } catch (error) {
    tell({ error }, error)
    throw error
  }
}

async function attemptCall(context: CardsContext, call: CardCall, told: ClientFacts): Promise<JsonAnswer> {
  const { transport, tokens } = context
  const { clock, totalMs, retry: policy, random } = transport
  const { operation, signal, correlationId } = call
  const facts = { operation, correlationId }
  let last: { readonly attempt: number; readonly delivery: D1Delivery } = { attempt: 1, delivery: 'not-sent' }
  const deadline = new Deadline({
    clock,
    ms: totalMs,
    expired: () => timedOut({ ...facts, attempt: last.attempt }, totalMs, last.delivery),
    outer: signal && { signal, error: reason => new AbortedError(reason) },
  })
  let mayRefresh = true
  const send = async (attempt: number): Promise<JsonAnswer> => {
    told.tokenFetched ||= tokens.kept === undefined
    const token = await deadline.race(tokens.get())
    told.requests++
    last = { attempt, delivery: 'unknown' }
    try {
      return await sendOnce(transport, requestOf(context, call, token), { ...facts, attempt }, deadline)
    } catch (error) {
      if (!mayRefresh || !(error instanceof D1ClientError) || error.status !== 401) throw error
      mayRefresh = false
      tokens.refuse(token)
      return send(attempt)
    }
  }
  try {
    const { repeatable } = OPERATIONS[operation]
    return await withRetries({ operation, repeatable, policy, random, deadline }, send)
  } finally {
    deadline.end()
  }
}

function requestOf({ cardsUrl }: CardsContext, call: CardCall, token: string): D1Request {
  const { operation, cardId, body, correlationId, userId } = call
  const { method, suffix } = OPERATIONS[operation]
  const headers = {
    authorization: `Bearer ${token}`,
    accept: 'application/json',
    'x-correlation-id': correlationId,
    ...(body !== undefined && { 'content-type': 'application/json' }),
    ...(userId !== undefined && { 'x-user-id': userId }),
  }
  const card = cardId === undefined ? '' : `/${cardId}`
  return { method, url: cardsUrl + card + suffix, headers, body: body && JSON.stringify(body) }
}
