/**
 * The three PIN operations: Get PIN, Get PIN Change Counter, Set PIN; and the steps that they share.
 *
 * Set PIN: the body is read and validated before the card's turn comes, so that a slow sender holds nobody up; all else
 * happens in turn. What has reached the issuer's store is seen to its end, even where the client is gone or the time is
 * over; in the latter case the answer is 500 before it is known what became of it, and D1 repeats its request.
 *
 * The same request again is answered with 204 again, and nothing is stored twice. ISO0: the message itself has nothing by
 * which to tell, so that the store keeps the SHA-256 of its JWE with the block; for another card it is the one 400.
 * 3DES_SECCOS: the change counter knows the request.
 */

import { hash } from 'node:crypto'
import type { Key } from '../../backend/key.js'
import { type CallOptions, callWith } from '../../base/arguments.js'
import { ownCopy, wipe } from '../../base/bytes.js'
import { DEFAULTS } from '../../base/defaults.js'
import { ArgumentError, isIssuerPinError } from '../../base/errors.js'
import { type PinPolicy, requirePolicy } from '../../pin/pin-policy.js'
import { type Pan, requirePan } from '../../primitives/pan.js'
import type { KeyRole } from '../audit.js'
import { CARD_ID, ISSUER_ID_CHARACTERS, type PinBlockType, type PinOperation } from '../contract.js'
import { answerGetPin, changeCounterResponse } from '../messages/get-pin.js'
import { type PinMessage, readPinMessage } from '../messages/pin-block.js'
import { openIso0Checked, type StoredBlock } from '../messages/set-pin.js'
import { openSeccosChecked } from '../messages/set-pin-seccos.js'
import { auditKey, type Facts } from './audit.js'
import { type Answer, type AskedRequest, JSON_BODY, type Matched, readBody } from './http.js'
import type { BlockAcceptance, Card, CardAsFound, CardRef, CardState } from './interfaces.js'
import type { Connection } from './peer.js'
import {
  COUNTER_FAULTS,
  GET_PIN_FAULTS,
  judged,
  POLICY_REASONS,
  Refusal,
  type RefusalReason,
  SET_PIN_FAULTS,
  supplied,
  withDeadline,
} from './refusal.js'
import type { ServedIssuer, Service } from './service.js'

/** A request, matched to an operation. */
export interface Call {
  readonly service: Service
  readonly request: AskedRequest
  /** The other end, where it is known. */
  readonly connection: Connection | undefined
  readonly matched: Matched
  /** Fires when the client is gone or the time is over. */
  readonly signal: AbortSignal
  /** When that is, by the service's clock that never jumps. */
  readonly endsAt: number
  readonly facts: Facts
}

/** A call that is authorised, for an issuer that is known and a card that may be. */
export interface PinCall extends Call {
  readonly operation: PinOperation
  readonly issuer: ServedIssuer
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
  const { service, request, connection, matched, signal, endsAt, facts } = call
  const { issuerId, cardId } = matched
  if (issuerId.length !== ISSUER_ID_CHARACTERS) throw new Refusal('issuer-id')
  const issuer = service.issuers.get(issuerId)
  if (issuer === undefined) throw new Refusal('issuer-unknown')
  facts.issuerId = issuerId
  if (speaksFor?.has(issuerId) === false) throw new Refusal('caller-issuer')
  if (!CARD_ID.test(cardId)) throw new Refusal('card-id')
  facts.cardId = cardId
  const card = { issuerId, cardId }
  const options = callWith(signal)
  // Written out, as elsewhere on a request's way: to spread eight members takes microseconds.
  return { service, request, connection, matched, signal, endsAt, facts, operation, issuer, card, options }
}

/** A card, and until when something may be written for it. */
interface FoundCard extends Card {
  readonly notAfter?: number
}

/** The card, where it is known and its state allows the operation. */
async function findCard(call: PinCall): Promise<FoundCard> {
  const { service, issuer, card: ref, operation, facts, options, endsAt } = call
  const card = await supplied('directory-failed', async () => {
    const { issuerId, cardId } = ref
    const found = await issuer.cards.find({ issuerId, cardId, operation }, options)
    return found && checked(found)
  })
  if (card === undefined) throw new Refusal('card-unknown')
  facts.cardKnown = !namesPan(ref.cardId, card.pan)
  const reason = CARD_STATES[card.state][operation]
  if (reason !== undefined) throw new Refusal(reason)
  if (card.foundAt === undefined) return card
  // What is left of the time, on the clock of the database: no two clocks need agree.
  return { ...card, notAfter: Math.floor(card.foundAt + Math.max(0, endsAt - service.clock.elapsed())) }
}

/** Whether a card is named by its PAN, in whatever groups, against the contract: then its name is in no event. */
function namesPan(cardId: string, pan: Pan): boolean {
  const digits = cardId.replaceAll(/[_-]/g, '')
  return /[0-9]{12}/.test(digits) && digits.includes(pan.reveal())
}

/** The directory's card, each member read once. A state that is misspelt must not be one that allows everything. */
function checked({ state, pan, setPinTypes, seccos, revision, foundAt }: Card): Card {
  requirePan(pan)
  if (!Object.hasOwn(CARD_STATES, state)) throw new TypeError('the card has a state that is not one')
  if (foundAt !== undefined && !Number.isFinite(foundAt)) throw new TypeError('foundAt is no time')
  const more = { ...(seccos !== undefined && { seccos }), ...(revision !== undefined && { revision }) }
  return { state, pan, setPinTypes, ...more, ...(foundAt !== undefined && { foundAt }) }
}

/** getPIN: the stored block, under the key shared with D1, in a JWE to D1. */
export async function getPin(call: PinCall): Promise<Answer> {
  const { issuer, card: ref, options, facts } = call
  const { pan } = await findCard(call)
  const { iso0, pins } = issuer
  if (iso0 === undefined) throw new Refusal('pin-not-available')
  const stored = await supplied('store-failed', () => pins.readBlock(ref, options))
  if (stored === undefined) throw new Refusal('pin-not-available')
  const from = iso0.storage.find(key => key.kid === stored.kid)
  if (from === undefined) throw new Refusal('storage-key-unknown')
  const { d1Zpk, translation } = iso0
  const recipient = await supplied('d1-key-failed', iso0.recipient)
  const source = { pin: undefined, block: stored.block, from, translation }
  const input = { pan, to: d1Zpk[0], recipient, source }
  const body = await judged(GET_PIN_FAULTS, () => answerGetPin(input, options))
  facts.keys.push(auditKey('storage', from), auditKey('d1-zpk', d1Zpk[0]), {
    role: 'd1-public',
    kid: recipient.kid,
  })
  return { status: 200, body }
}

/** getPINChangeCounter: the card's PCC and a fresh intdatag. */
export async function getPinChangeCounter(call: PinCall): Promise<Answer> {
  const { issuer, card: ref, options } = call
  const { setPinTypes } = await findCard(call)
  const { seccos } = issuer
  if (seccos === undefined || !setPinTypes.includes('3DES_SECCOS')) throw new Refusal('pin-type')
  const { cardId } = ref
  const body = await judged(COUNTER_FAULTS, () =>
    changeCounterResponse({ counter: seccos.counter, cardId }, options),
  )
  return { status: 200, body }
}

type Setter = (call: PinCall, card: FoundCard, message: PinMessage) => Promise<void>

/** How often a Set PIN begins again where another one of the card came first, and how long after it began. */
const AGAIN = 2
const AGAIN_WITHIN_MS = DEFAULTS.endpoints.againWithinMs.value

const SETTERS: Readonly<Record<PinBlockType, Setter>> = { ISO0: setIso0, '3DES_SECCOS': setSeccos }

/** SetPIN. */
export async function setPin(call: PinCall): Promise<Answer> {
  const { service, request, signal, facts, card: ref } = call
  const { clock, bodyTimeoutMs: milliseconds } = service
  const bytes = await withDeadline({ clock, milliseconds, reason: 'body-timeout', parent: signal }, inTime =>
    readBody(request, JSON_BODY, inTime),
  )
  const message = await judged(SET_PIN_FAULTS, async () => readPinMessage(bytes))
  const { type } = message
  facts.pinType = type
  await service.setPins.run(`${ref.issuerId}/${ref.cardId}`, signal, () => setOnCard(call, message))
  return { status: 204 }
}

/**
 * Two replicas that set a PIN of one card at once: the one that comes second decides anew, on the card as it is now. Not
 * so what comes late, or where the other side no longer waits: that may be older than what is stored.
 */
async function setOnCard(call: PinCall, message: PinMessage): Promise<void> {
  const { service, signal, facts } = call
  const { type } = message
  const until = service.clock.elapsed() + AGAIN_WITHIN_MS
  let card = await findCard(call)
  for (let again = AGAIN; ; again--) {
    if (!card.setPinTypes.includes(type)) throw new Refusal('pin-type')
    try {
      return await SETTERS[type](call, card, message)
    } catch (error) {
      if (again === 0 || !isBusy(error) || signal.aborted || service.clock.elapsed() > until) throw error
      const now = await findCard(call)
      if (now.revision === card.revision) throw error
      card = now
      facts.keys.length = 0
    }
  }
}

function isBusy(error: unknown): boolean {
  const cause = error instanceof Refusal && error.reason === 'store-failed' ? error.cause : undefined
  return isIssuerPinError(cause) && cause.code === 'ERR_BACKEND_BUSY'
}

async function setIso0(call: PinCall, card: FoundCard, message: PinMessage): Promise<void> {
  const { pan } = card
  const { issuer, card: ref, options, facts } = call
  const { iso0, jweKeys, pins } = issuer
  if (iso0 === undefined) throw new Refusal('pin-type')
  const { d1Zpk, translation } = iso0
  const [storage] = iso0.storage
  const judgement = await judgementOf(call, iso0)
  const { pinPolicy } = iso0
  const { policy, before } = judgement
  const faults =
    pinPolicy === undefined
      ? SET_PIN_FAULTS
      : { ...SET_PIN_FAULTS, ERR_PIN_POLICY: POLICY_REASONS[pinPolicy.status] }
  const opened = await judged(faults, () =>
    openIso0Checked(
      { message, jweKeys, from: d1Zpk, pan, to: storage, translation, policy, before },
      options,
    ),
  )
  const { block, kid, zpkKid, jweKid, unchanged } = opened
  note(call, 'jwe', jweKeys, jweKid)
  note(call, 'd1-zpk', d1Zpk, zpkKid)
  note(call, 'storage', [storage], kid)
  // Of ASCII, or the JWE had not opened.
  const digest = hash('sha256', message.encryptedPinBlock, 'buffer')
  const request = { digest: ownCopy(digest), jweKid, acceptedAt: Date.parse(facts.time) }
  // The PIN before is what a request brings that is repeated, too: only its record tells, and a new request is to leave none.
  if (unchanged && pinPolicy !== undefined && !(await isKnown(call, request.digest))) {
    wipe(block)
    facts.replayed = false
    throw new Refusal(POLICY_REASONS[pinPolicy.status], { detail: 'before' })
  }
  const acceptance = await supplied('store-failed', () =>
    pins.acceptBlock(asFound(ref, card), { block, kid }, request),
  )
  noteAcceptance(acceptance, facts)
  const { seccos } = issuer
  // A PIN that is newer than what is open for the card: its intdatags must not set an older one over it.
  const isNew = facts.replayed === false || facts.replayedIsCurrent === true
  if (seccos !== undefined && isNew && card.setPinTypes.includes('3DES_SECCOS')) {
    await supplied('store-failed', () => seccos.counter.supersede({ cardId: ref.cardId }))
  }
}

/** Whether the request was accepted before. A store that cannot say so is no store for this policy, which a function may give late. */
function isKnown({ issuer: { pins }, options }: PinCall, digest: Uint8Array): Promise<boolean> {
  return supplied('store-failed', async () => {
    const known: unknown = await pins.knowsRequest?.(digest, options)
    if (typeof known !== 'boolean') throw new ArgumentError('knowsRequest must answer true or false')
    return known
  })
}

/** The policy of the card's product, and the block before where the policy asks for it. */
async function judgementOf(
  { issuer, card: ref, options }: PinCall,
  { pinPolicy, storage }: NonNullable<PinCall['issuer']['iso0']>,
): Promise<{ readonly policy?: PinPolicy; readonly before?: StoredBlock }> {
  if (pinPolicy === undefined) return {}
  const given = pinPolicy.policy
  const policy = await supplied('service-failed', async () => {
    const found = typeof given === 'function' ? await given(ref) : given
    requirePolicy(found)
    return found
  })
  if (!policy.notBefore) return { policy }
  const stored = await supplied('store-failed', () => issuer.pins.readBlock(ref, options))
  if (stored === undefined) return { policy }
  const key = storage.find(({ kid }) => kid === stored.kid)
  if (key === undefined) throw new Refusal('storage-key-unknown')
  return { policy, before: { block: stored.block, key } }
}

/** The card as the directory found it: what is stored is stored for that one, or not at all. */
function asFound(ref: CardRef, { revision, notAfter }: FoundCard): CardAsFound {
  return { ...ref, ...(revision !== undefined && { revision }), ...(notAfter !== undefined && { notAfter }) }
}

/** What the store made of it; any other answer than the three is no answer. */
function noteAcceptance(acceptance: BlockAcceptance, facts: Facts): void {
  switch (acceptance?.outcome) {
    case 'stored':
      facts.replayed = false
      return
    case 'replayed':
      facts.replayed = true
      facts.replayedIsCurrent = acceptance.current
      return
    case 'misdirected':
      throw new Refusal('message', { detail: 'misdirected' })
    default:
      throw new Refusal('store-failed', { detail: 'no-outcome' })
  }
}

async function setSeccos(call: PinCall, card: FoundCard, message: PinMessage): Promise<void> {
  const { pan, seccos: more } = card
  const { issuer, card: ref, options, facts } = call
  const { seccos, jweKeys, pins } = issuer
  if (seccos === undefined) throw new Refusal('pin-type')
  const { cardId, issuerId } = ref
  const { counter, macKeys } = seccos
  // Of the PCC the counter alone knows: one that a card's record states would be old after the next Set PIN.
  const fields = more?.fields === undefined ? {} : { fields: more.fields }
  const opened = await judged(SET_PIN_FAULTS, () =>
    openSeccosChecked({ ...fields, ...seccos, message, cardId, issuerId, jweKeys, pan }, options),
  )
  const { prwValue, prwKid, prwDataSet, pcc, intdatag, profile, provenance, macValue, macKid } = opened
  note(call, 'jwe', jweKeys, opened.jweKid)
  note(call, 'prw-mac', macKeys, opened.macKid)
  let stored = false
  const accepted = counter.accept(
    {
      request: opened.acceptance,
      store: ({ sequence, claim }) =>
        supplied('store-failed', async () => {
          const prw = {
            prwValue,
            prwKid,
            prwDataSet,
            pcc,
            ...(intdatag !== undefined && { intdatag }),
            profile,
            provenance,
            sequence,
            evidence: { macValue, macKid, intdatag: opened.acceptance.intdatag },
          }
          await pins.storePrw(asFound(ref, card), prw, claim)
          stored = true
        }),
    },
    options,
  )
  // What was stored, and then superseded before it was confirmed, is not said to be refused: it may be the PIN for a moment.
  const { replayed } = await judged(SET_PIN_FAULTS, () => accepted).catch(error => {
    throw stored && error instanceof Refusal && error.reason === 'message'
      ? new Refusal('store-failed', { cause: error.cause, detail: 'superseded' })
      : error
  })
  facts.replayed = replayed
}

/** Puts the key that was used, by its kid, into the audit event. */
function note({ facts }: PinCall, role: KeyRole, keys: readonly Key[], kid: string): void {
  facts.keys.push(...keys.filter(key => key.kid === kid).map(key => auditKey(role, key)))
}
