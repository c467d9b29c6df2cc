/**
 * One call of the card API: token, request, attempts, under one deadline. A refused token is replaced once a call: D1 has
 * not looked at a request that it answers with 401, so that it is sent again whatever the method.
 */
import { AbortedError, D1ClientError, type D1Delivery } from '../../errors.js'
import type { JsonObject } from '../fields.js'
import type { JsonAnswer } from './answer.js'
import { Deadline } from './deadline.js'
import { withRetries } from './retry.js'
import type { TokenSource } from './token.js'
import { type D1Request, sendOnce, type Transport, timedOut } from './transport.js'

/** One row an operation. The colon of the last three is our reading of the published navigation. */
const OPERATIONS = {
  create: { method: 'POST', suffix: '', repeatable: false },
  register: { method: 'PUT', suffix: '', repeatable: true },
  renew: { method: 'POST', suffix: '/operations:renew', repeatable: false },
  replace: { method: 'POST', suffix: '/operations:replace', repeatable: false },
  delete: { method: 'POST', suffix: '/operations:delete', repeatable: false },
} as const

/** A call whose parts have been checked. */
export interface CardCall {
  readonly operation: keyof typeof OPERATIONS
  readonly cardId?: string
  readonly body: JsonObject | undefined
  readonly signal: AbortSignal | undefined
  readonly correlationId: string
  readonly userId: string | undefined
}

/** What the calls of one client share. */
export interface CardsContext {
  readonly transport: Transport
  readonly tokens: TokenSource
  /** `…/v2/issuers/{issuerId}/cards` */
  readonly cardsUrl: string
}

/** Runs the call. Errors: see `d1Client`. */
export async function callCards(context: CardsContext, call: CardCall): Promise<JsonAnswer> {
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
    const token = await deadline.race(tokens.get())
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
