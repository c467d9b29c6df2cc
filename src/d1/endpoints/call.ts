/** One request for a PIN operation on its way, and the steps that all of them share. */
import { type CallOptions, callWith } from '../../base/arguments.js'
import { type Pan, requirePan } from '../../primitives/pan.js'
import { CARD_ID, ISSUER_ID_CHARACTERS, type PinOperation } from '../contract.js'
import type { Facts } from './audit.js'
import type { AskedRequest } from './body.js'
import type { Card, CardRef, CardState } from './interfaces.js'
import type { Issuer } from './options.js'
import type { Connection } from './peer.js'
import { Refusal, type RefusalReason, supplied } from './refusal.js'
import type { Matched } from './routes.js'
import type { Service } from './service.js'

/** A request, matched to an operation. */
export interface Call {
  readonly service: Service
  readonly request: AskedRequest
  /** The other end, where it is known. */
  readonly connection: Connection | undefined
  readonly matched: Matched
  /** Fires when the client is gone or the time is over. */
  readonly signal: AbortSignal
  readonly facts: Facts
}

/** A call that is authorised, for an issuer that is known and a card that may be. */
export interface PinCall extends Call {
  readonly operation: PinOperation
  readonly issuer: Issuer
  readonly card: CardRef
  readonly options: CallOptions
}

/** What each state refuses; undefined: nothing. */
const CARD_STATES: Readonly<Record<CardState, Readonly<Record<PinOperation, RefusalReason | undefined>>>> = {
  active: { getPIN: undefined, SetPIN: undefined, getPINChangeCounter: undefined },
  'pin-change-forbidden': {
    getPIN: undefined,
    SetPIN: 'pin-change-forbidden',
    getPINChangeCounter: 'pin-change-forbidden',
  },
  'not-active': {
    getPIN: 'card-not-active',
    SetPIN: 'card-not-active',
    getPINChangeCounter: 'card-not-active',
  },
}

/** Looks at the ids of the path. `speaksFor`: the issuers that the caller may ask for; undefined: all. */
export function pinCall(
  call: Call,
  operation: PinOperation,
  speaksFor: ReadonlySet<string> | undefined,
): PinCall {
  const { service, matched, signal, facts } = call
  const { issuerId, cardId } = matched
  if (issuerId.length !== ISSUER_ID_CHARACTERS) throw new Refusal('issuer-id')
  const issuer = service.issuers.get(issuerId)
  if (issuer === undefined) throw new Refusal('issuer-unknown')
  facts.issuerId = issuerId
  if (speaksFor?.has(issuerId) === false) throw new Refusal('caller-issuer')
  if (!CARD_ID.test(cardId)) throw new Refusal('card-id')
  facts.cardId = cardId
  return { ...call, operation, issuer, card: { issuerId, cardId }, options: callWith(signal) }
}

/** The card, where it is known and its state allows the operation. */
export async function findCard(call: PinCall): Promise<Card> {
  const { issuer, card: ref, operation, facts, options } = call
  const card = await supplied('directory-failed', async () => {
    const found = await issuer.cards.find({ ...ref, operation }, options)
    return found && checked(found)
  })
  if (card === undefined) throw new Refusal('card-unknown')
  facts.cardKnown = !namesPan(ref.cardId, card.pan)
  const reason = CARD_STATES[card.state][operation]
  if (reason !== undefined) throw new Refusal(reason)
  return card
}

/** Whether a card is named by its PAN, against the contract: then its name is in no event. */
function namesPan(cardId: string, pan: Pan): boolean {
  return /[0-9]{12}/.test(cardId) && cardId.includes(pan.reveal())
}

/** The directory's card, each member read once. A state that is misspelt must not be one that allows everything. */
function checked({ state, pan, setPinTypes, seccos, revision }: Card): Card {
  requirePan(pan)
  if (!Object.hasOwn(CARD_STATES, state)) throw new TypeError('the card has a state that is not one')
  const more = { ...(seccos !== undefined && { seccos }), ...(revision !== undefined && { revision }) }
  return { state, pan, setPinTypes, ...more }
}
