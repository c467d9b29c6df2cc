/** The card operations of the Inbound Card API 2.0: what they take, what of it is checked, what they give. */
import { randomUUID } from 'node:crypto'
import { type CallOptions, readOptions, requireSignal, throwIfAborted } from '../../base/arguments.js'
import { ArgumentError } from '../../base/errors.js'
import type { P256Recipient } from '../../jwe/recipient.js'
import { requirePan } from '../../primitives/pan.js'
import type { JsonObject } from '../messages/fields.js'
import { type BulkItem, type BulkOptions, type BulkResult, registerAll } from './bulk.js'
import { type CardCall, type CardsContext, callCards } from './card-call.js'
import { refuseClearPan, sealCardDetails } from './card-details.js'
import {
  type CardFields,
  type OpenBody,
  type RegisterCard,
  readCardBody,
  readOpenBody,
  readRegisterBody,
} from './card-fields.js'
import { requireIdentifier } from './identifiers.js'

/** Options of every card operation. */
export interface CardCallOptions extends CallOptions {
  /** 1 to 64 letters, digits, `_` or `-`, never derived from personal data: D1 logs it in clear. Random where absent. */
  readonly correlationId?: string
  /** Who asked for it, for D1's records: 1 to 15 letters, digits, `_` or `-`. */
  readonly userId?: string
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
 * The card operations. Beside the errors of `d1Client`: `ERR_D1_MESSAGE` with the `field` that is wrong, and
 * `ERR_ARGUMENT`, both before anything is sent.
 */
export interface D1Cards {
  /** Creates a card; D1 allocates the PAN. POST. */
  create(card: CardFields, options?: CardCallOptions): Promise<CardAnswer>
  /** Registers an existing card; PAN and expiry date travel in a JWE. `cardId` must not be derived from the PAN. PUT. */
  register(cardId: string, card: RegisterCard, options?: CardCallOptions): Promise<CardAnswer>
  /** Renews a card. Without `encryptedData` (`sealCardDetails`), D1 asks the issuer for the credentials. POST. */
  renew(cardId: string, body?: OpenBody, options?: CardCallOptions): Promise<CardAnswer>
  /** Replaces a card; as {@link D1Cards.renew}. POST. */
  replace(cardId: string, body?: OpenBody, options?: CardCallOptions): Promise<CardAnswer>
  /** Deletes a card. POST. */
  delete(cardId: string, body?: OpenBody, options?: CardCallOptions): Promise<CardAnswer>
  /** Registers many cards, several at a time; a card that fails does not stop the others. See `bulk.ts`. */
  registerMany(
    items: Iterable<BulkItem> | AsyncIterable<BulkItem>,
    options?: BulkOptions,
  ): Promise<BulkResult>
}

type CallFacts = Pick<CardCall, 'signal' | 'correlationId' | 'userId'>

/** The card operations over a context, which they hold in a closure, out of sight. */
export function cardOperations(context: CardsContext, recipient: P256Recipient | undefined): D1Cards {
  const run = async (call: CardCall): Promise<CardAnswer> => {
    const { status, body } = await callCards(context, call)
    return { status, correlationId: call.correlationId, body }
  }
  const onCard =
    (operation: 'renew' | 'replace' | 'delete'): D1Cards['renew'] =>
    async (cardId, body, options) => {
      requireIdentifier('cardId', cardId)
      const sent = body === undefined ? undefined : readOpenBody(body)
      return run({ operation, cardId, body: sent, ...readCallOptions(options) })
    }
  const create: D1Cards['create'] = async (card, options) =>
    run({ operation: 'create', body: readCardBody(card), ...readCallOptions(options) })
  const register: D1Cards['register'] = async (cardId, card, options) => {
    if (recipient === undefined) throw new ArgumentError('register needs the client option d1PublicJwk')
    const facts = readCallOptions(options)
    const body = await registrationBody(cardId, card, facts, recipient)
    return run({ operation: 'register', cardId, body, recipientKid: recipient.kid, ...facts })
  }
  return Object.freeze({
    create,
    register,
    renew: onCard('renew'),
    replace: onCard('replace'),
    delete: onCard('delete'),
    registerMany: (items: Iterable<BulkItem> | AsyncIterable<BulkItem>, options?: BulkOptions) =>
      registerAll(register, items, options),
  })
}

/**
 * The body of a registration. The PAN is looked for in everything that goes out in clear, first in the cardId: what
 * fails later may then name the card.
 */
async function registrationBody(
  cardId: string,
  card: RegisterCard,
  { correlationId, userId = '' }: CallFacts,
  recipient: P256Recipient,
): Promise<JsonObject> {
  requireIdentifier('cardId', cardId)
  if (typeof card !== 'object' || card === null) throw new ArgumentError('the card must be an object')
  const { pan, exp, ...rest } = card
  requirePan(pan)
  refuseClearPan(pan, [['cardId', cardId]])
  const body = readRegisterBody(rest)
  refuseClearPan(pan, [
    ['x-correlation-id', correlationId],
    ['x-user-id', userId],
    ['body', Object.keys(body).join()],
    ...Object.entries(body).map(([name, value]) => [name, JSON.stringify(value)] as const),
  ])
  return { ...body, encryptedData: await sealCardDetails({ pan, exp, d1PublicJwk: recipient }) }
}

function readCallOptions(options: CardCallOptions = {}): CallFacts {
  const names = ['signal', 'correlationId', 'userId'] as const
  const { signal, correlationId = randomUUID(), userId } = readOptions(options, 'options', names)
  throwIfAborted(requireSignal(signal === undefined ? undefined : { signal }))
  requireIdentifier('x-correlation-id', correlationId)
  if (userId !== undefined) requireIdentifier('x-user-id', userId)
  return { signal, correlationId, userId }
}
