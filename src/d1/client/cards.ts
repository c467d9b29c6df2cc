/**
 * The card operations of the Inbound Card API 2.0: what they take, what of it is checked, what they give; and one call of
 * them: token, request, attempts, under one deadline. A refused token is replaced once a call: D1 has not looked at a
 * request that it answers with 401, so it is sent again whatever the method.
 */

import { randomUUID } from 'node:crypto'
import { type CallOptions, readOptions, requireSignal, throwIfAborted } from '../../base/arguments.js'
import { Deadline } from '../../base/deadline.js'
import { AbortedError, ArgumentError, D1ClientError, type D1Delivery } from '../../base/errors.js'
import type { P256Recipient } from '../../jwe/recipient.js'
import { requirePan } from '../../primitives/pan.js'
import type { JsonObject } from '../messages/pin-block.js'
import type { JsonAnswer } from './answer.js'
import {
  type ClientAuditEvent,
  type ClientEnd,
  type ClientFacts,
  type ClientOperation,
  clientAuditEvent,
} from './audit.js'
import { type BulkItem, type BulkOptions, type BulkResult, registerAll } from './bulk.js'
import {
  type CardFields,
  type OpenBody,
  type RegisterCard,
  readCardBody,
  readOpenBody,
  readRegisterBody,
  refuseClearPan,
  requireIdentifier,
  sealCardDetails,
} from './card-fields.js'
import { withRetries } from './exchange.js'
import type { TokenSource } from './token.js'
import { type D1Request, sendOnce, type Transport, timedOut } from './transport.js'

/** Options of every card operation. */
export interface CardCallOptions extends CallOptions {
  /** 1 to 64 letters, digits, `_` or `-`, never derived from personal data: D1 logs it in clear. Random where absent. */
  readonly correlationId?: string
  /** Who asked for it, for D1's records: 1 to 15 letters, digits, `_` or `-`. */
  readonly userId?: string
}

/** What `create` takes. */
export interface CreateCard {
  readonly card: CardFields
}

/** What `register` takes. */
export interface RegisterCardRequest {
  /** 1 to 48 letters, digits, `_` or `-`; not derived from the PAN. */
  readonly cardId: string
  readonly card: RegisterCard
}

/** What `renew`, `replace` and `delete` take. */
export interface ChangeCard {
  readonly cardId: string
  readonly body?: OpenBody
}

/** D1's answer to an operation that succeeded. */
export interface CardAnswer {
  readonly status: number
  /** What was sent as `x-correlation-id`. */
  readonly correlationId: string
  /** The JSON object that came back; undefined for an empty body. */
  readonly body: JsonObject | undefined
}

/**
 * The card operations. Besides the errors of `d1Client`: `ERR_D1_MESSAGE` with the `field` that is wrong, and
 * `ERR_ARGUMENT`, both before anything is sent.
 */
export interface D1Cards {
  /** Creates a card; D1 allocates the PAN. POST. */
  create(request: CreateCard, options?: CardCallOptions): Promise<CardAnswer>
  /** Registers an existing card; PAN and expiry date travel in a JWE. `cardId` must not be derived from the PAN. PUT. */
  register(request: RegisterCardRequest, options?: CardCallOptions): Promise<CardAnswer>
  /** Renews a card. Without `encryptedData` (`sealCardDetails`), D1 asks the issuer for the credentials. POST. */
  renew(request: ChangeCard, options?: CardCallOptions): Promise<CardAnswer>
  /** Replaces a card; as {@link D1Cards.renew}. POST. */
  replace(request: ChangeCard, options?: CardCallOptions): Promise<CardAnswer>
  /** Deletes a card. POST. */
  delete(request: ChangeCard, options?: CardCallOptions): Promise<CardAnswer>
  /** Registers many cards, several at a time; a card that fails does not stop the others. See `bulk.ts`. */
  registerMany(
    items: Iterable<BulkItem> | AsyncIterable<BulkItem>,
    options?: BulkOptions,
  ): Promise<BulkResult>
}

type CallFacts = Pick<CardCall, 'signal' | 'correlationId' | 'userId'>

/** Gives D1's public key, to which PANs are sealed. */
export type RecipientSource = () => Promise<P256Recipient>

/** The card operations over a context, which they hold in a closure, out of sight. */
export function cardOperations(context: CardsContext, recipient: RecipientSource | undefined): D1Cards {
  const run = async (call: CardCall): Promise<CardAnswer> => {
    const { status, body } = await callCards(context, call)
    return { status, correlationId: call.correlationId, body }
  }
  const onCard =
    (operation: 'renew' | 'replace' | 'delete'): D1Cards['renew'] =>
    async (request, options) => {
      const { cardId, body } = readOptions(request, operation, ['cardId', 'body'])
      requireIdentifier('cardId', cardId)
      const sent = body === undefined ? undefined : readOpenBody(body)
      return run({ operation, cardId, body: sent, ...readCallOptions(options) })
    }
  const create: D1Cards['create'] = async (request, options) => {
    const { card } = readOptions(request, 'create', ['card'])
    return run({ operation: 'create', body: readCardBody(card), ...readCallOptions(options) })
  }
  const requireRecipient = (): RecipientSource => {
    if (recipient === undefined) throw new ArgumentError('register needs the client option d1PublicJwk')
    return recipient
  }
  const registerChecked = async (
    card: CheckedCard,
    options: CardCallOptions | undefined,
  ): Promise<CardAnswer> => {
    const facts = readCallOptions(options)
    // Before anything is waited for: a source of many cards may give one object again and again, with another card in it.
    const clear = clearBody(card, facts)
    const to = await keyInTime(context, requireRecipient(), facts)
    const { pan, exp } = card
    const body = { ...clear, encryptedData: await sealCardDetails({ pan, exp, d1PublicJwk: to }) }
    return run({ operation: 'register', cardId: card.cardId, body, recipientKid: to.kid, ...facts })
  }
  return Object.freeze({
    create,
    register: async (request: RegisterCardRequest, options?: CardCallOptions) => {
      requireRecipient()
      return registerChecked(checkCard(readOptions(request, 'register', ['cardId', 'card'])), options)
    },
    renew: onCard('renew'),
    replace: onCard('replace'),
    delete: onCard('delete'),
    registerMany: async (items: Iterable<BulkItem> | AsyncIterable<BulkItem>, options: BulkOptions = {}) => {
      requireRecipient()
      return registerAll(
        (item, run) => {
          const { correlationId, ...request } = readOptions(item, 'an item', [
            'cardId',
            'card',
            'correlationId',
          ])
          const card = checkCard(request)
          const call = { ...run, ...(correlationId !== undefined && { correlationId }) }
          return { cardId: card.cardId, answer: registerChecked(card, call) }
        },
        items,
        options,
      )
    },
  })
}

/** Whoever gives the key may be slow, or silent: that is no reason to hold a caller. */
async function keyInTime(
  { transport }: CardsContext,
  source: RecipientSource,
  { signal, correlationId }: CallFacts,
): Promise<P256Recipient> {
  const { clock, totalMs: ms } = transport
  const facts = { operation: 'register', attempt: 1, correlationId }
  using deadline = new Deadline({
    clock,
    ms,
    expired: () => timedOut(facts, ms, 'not-sent'),
    outer: signal && { signal, error: reason => new AbortedError(reason) },
  })
  return await deadline.race(source())
}

/** A card whose id was found to be one, and not to hold its PAN: what fails from here on may name the card. */
interface CheckedCard extends Pick<RegisterCard, 'pan' | 'exp'> {
  readonly cardId: string
  /** What goes out in clear; not looked at yet. */
  readonly rest: Omit<RegisterCard, 'pan' | 'exp'>
}

function checkCard({ cardId, card }: RegisterCardRequest): CheckedCard {
  requireIdentifier('cardId', cardId)
  if (typeof card !== 'object' || card === null) throw new ArgumentError('the card must be an object')
  const { pan, exp, ...rest } = card
  requirePan(pan)
  refuseClearPan(pan, [['cardId', cardId]])
  return { cardId, pan, exp, rest }
}

/** The body of a registration but for what is sealed. The PAN is looked for in everything that goes out in clear. */
function clearBody({ pan, rest }: CheckedCard, { correlationId, userId = '' }: CallFacts): JsonObject {
  const body = readRegisterBody(rest)
  refuseClearPan(pan, [
    ['x-correlation-id', correlationId],
    ['x-user-id', userId],
    ['body', Object.keys(body).join()],
    ...Object.entries(body).map(([name, value]) => [name, JSON.stringify(value)] as const),
  ])
  return body
}

function readCallOptions(options: CardCallOptions = {}): CallFacts {
  const names = ['signal', 'correlationId', 'userId'] as const
  const { signal, correlationId = randomUUID(), userId } = readOptions(options, 'options', names)
  throwIfAborted(requireSignal(signal === undefined ? undefined : { signal }))
  requireIdentifier('x-correlation-id', correlationId)
  if (userId !== undefined) requireIdentifier('x-user-id', userId)
  return { signal, correlationId, userId }
}

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
interface CardCall {
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
interface CardsContext {
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
async function callCards(context: CardsContext, call: CardCall): Promise<JsonAnswer> {
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
  using deadline = new Deadline({
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
  const { repeatable } = OPERATIONS[operation]
  return await withRetries({ operation, repeatable, policy, random, deadline }, send)
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
