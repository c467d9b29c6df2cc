/**
 * What the stores are given, checked and copied: what was checked is what is stored, and what is handed out is nobody
 * else's. Whoever writes a store of their own finds the same checks in `issuer-pin-crypto/testing`: what its contract
 * refuses, they refuse.
 */

import { readOptions, readOwn, requireKid, throwIfAborted } from '../base/arguments.js'
import { snapshot } from '../base/bytes.js'
import { ArgumentError, BackendError, ChangeCounterError, requireOurs } from '../base/errors.js'
import { INTDATAG, ISSUER_ID, PCC, PIN_BLOCK_TYPES, type PinBlockType, PRW_DATA_SET } from '../d1/contract.js'
import type {
  BlockRequest,
  Card,
  CardAsFound,
  CardRef,
  CardState,
  ForgetRequests,
  PrwEvidence,
  StoredPinBlock,
  StoredPrw,
} from '../d1/endpoints/interfaces.js'
import { BLOCK_LENGTHS } from '../pin/formats/formats.js'
import { requirePan } from '../primitives/pan.js'
import { requireCardId } from '../seccos/counter/state.js'
import type { ClaimRecord } from '../seccos/counter/store.js'
import type { Provenance } from '../seccos/profile/profile.js'
import type { BlockEntry, BlockPage, BulkResult, CardEntry, Replacement, ResealPage } from './issuer-store.js'

const PRINTABLE = /^[\x20-\x7e]{1,512}$/
const MARK = /^[\x20-\x7e]{1,64}$/
const CLAIM_KEY = /^[\x20-\x7e]{1,80}$/
/** The whole of an entry: a part of one would match where it should not. */
const CLAIM_TEXT = /^\{"tag":"[0-9a-f]{64}",[\x20-\x7e]{1,1024}\}$/
const MAX_PAGE = 8192
const DIGEST_BYTES = 32

const STATES: Readonly<Record<CardState, true>> = {
  active: true,
  'pin-change-forbidden': true,
  'not-active': true,
}
const SET_PIN_TYPES = Object.fromEntries(PIN_BLOCK_TYPES.map(type => [type, true])) as Record<
  PinBlockType,
  true
>
const PROVENANCES: Readonly<Record<Provenance, true>> = { 'scheme-confirmed': true, illustrative: true }

type SeccosFields = Readonly<Record<string, string | Uint8Array>>

/**
 * Throws `ERR_ARGUMENT` unless the value is an issuer's identifier as D1 has them: exactly 10 characters.
 *
 * Source: Outbound PIN Management API 1.0, path parameter `issuerId`.
 *
 * @example
 * ```ts
 * requireIssuerId('is_tbank01')
 * ```
 */
export function requireIssuerId(issuerId: unknown): asserts issuerId is string {
  if (typeof issuerId !== 'string' || !ISSUER_ID.test.test(issuerId)) {
    throw new ArgumentError(`issuerId must be ${ISSUER_ID.shape}`)
  }
}

/**
 * The identifiers of a card, checked. Other members (`operation` of a query) are left out. Errors: `ERR_ARGUMENT`.
 *
 * @example
 * ```ts
 * const ref = readRef({ issuerId: 'is_tbank01', cardId })
 * ```
 */
export function readRef(card: CardRef): CardRef {
  const { issuerId, cardId } = readOwn(card, 'the store', ['issuerId', 'cardId'])
  requireIssuerId(issuerId)
  requireCardId(cardId)
  return { issuerId, cardId }
}

/**
 * Throws `ERR_ARGUMENT` unless the value is a {@link CardState}.
 *
 * @example
 * ```ts
 * requireState('active')
 * ```
 */
export function requireState(state: unknown): asserts state is CardState {
  requireOneOf(state, STATES, 'state')
}

/**
 * A copy of a card; `ERR_ARGUMENT` for a member that would not be kept, or is not what it should be.
 *
 * @example
 * ```ts
 * const { state, setPinTypes, seccos } = readCard({ state: 'active', pan, setPinTypes: ['ISO0'] })
 * ```
 */
export function readCard(record: Card): Card {
  const { state, pan, setPinTypes, seccos } = readOptions(record, 'a card', [
    'state',
    'pan',
    'setPinTypes',
    'seccos',
    'revision',
    'foundAt',
  ])
  requireState(state)
  requirePan(pan)
  if (!Array.isArray(setPinTypes)) throw new ArgumentError('setPinTypes must be a list')
  const types = Array.from(setPinTypes, (type: unknown): PinBlockType => {
    requireOneOf(type, SET_PIN_TYPES, 'setPinTypes')
    return type
  })
  return { state, pan, setPinTypes: types, ...(seccos !== undefined && { seccos: readSeccos(seccos) }) }
}

function readSeccos(seccos: NonNullable<Card['seccos']>): NonNullable<Card['seccos']> {
  const own: { readonly pcc?: unknown; readonly fields?: SeccosFields } = seccos
  const { pcc, fields } = readOptions(own, 'seccos of a card', ['pcc', 'fields'])
  if (pcc !== undefined) {
    throw new ArgumentError(
      'seccos of a card takes no pcc: the change counter is the one source of it (firstPcc)',
    )
  }
  return fields === undefined ? {} : { fields: readFields(fields) }
}

function readFields(fields: SeccosFields): SeccosFields {
  if (typeof fields !== 'object' || fields === null) throw new ArgumentError('fields must be an object')
  return Object.fromEntries(
    Object.entries(fields).map(([id, value]) => [
      id,
      typeof value === 'string' ? value : snapshot(value, 'a field that is no string'),
    ]),
  )
}

/**
 * A copy of a PIN block at rest: as long as one of a PIN block format is, and the kid it is under. Errors: `ERR_ARGUMENT`.
 *
 * @example
 * ```ts
 * const copy = readPinBlock({ block: storedBlock, kid: 'STORE-1' })
 * ```
 */
export function readPinBlock(pin: StoredPinBlock): StoredPinBlock {
  const { block, kid } = readOwn(pin, 'storeBlock', ['block', 'kid'])
  const copy = snapshot(block, 'block')
  if (!BLOCK_LENGTHS.includes(copy.length)) {
    throw new ArgumentError(`block must be ${BLOCK_LENGTHS.join(' or ')} bytes`)
  }
  requireKid(kid)
  return { block: copy, kid }
}

/** A copy of what is remembered of a Set PIN request: 32 bytes, a kid, a time. `ERR_ARGUMENT`. */
export function readBlockRequest(request: BlockRequest): BlockRequest {
  const { digest, jweKid, acceptedAt } = readOwn(request, 'acceptBlock', ['digest', 'jweKid', 'acceptedAt'])
  const copy = readDigest(digest)
  requireKid(jweKid)
  requireTime(acceptedAt, 'acceptedAt')
  return { digest: copy, jweKid, acceptedAt }
}

/** A copy of the digest of a request: 32 bytes. `ERR_ARGUMENT`. */
export function readDigest(digest: Uint8Array): Uint8Array {
  const copy = snapshot(digest, 'digest')
  if (copy.length !== DIGEST_BYTES) throw new ArgumentError(`digest must be ${DIGEST_BYTES} bytes`)
  return copy
}

/** A copy of what is to be forgotten; `ERR_ARGUMENT`. */
export function readForgetRequests(which: ForgetRequests): ForgetRequests {
  const { issuerIds, jweKids, acceptedBefore } = readOptions(which, 'forgetRequests', [
    'issuerIds',
    'jweKids',
    'acceptedBefore',
  ])
  if (!Array.isArray(issuerIds) || !Array.isArray(jweKids)) {
    throw new ArgumentError('forgetRequests: issuerIds and jweKids must be lists')
  }
  const read = { issuerIds: [...issuerIds], jweKids: [...jweKids] }
  for (const issuerId of read.issuerIds) requireIssuerId(issuerId)
  for (const kid of read.jweKids) requireKid(kid)
  // An empty list would forget every request, while the keys that open them are most likely still there.
  if (read.jweKids.length === 0) throw new ArgumentError('forgetRequests: jweKids must name at least one key')
  if (acceptedBefore === undefined) return read
  requireTime(acceptedBefore, 'acceptedBefore')
  return { ...read, acceptedBefore }
}

function requireTime(time: unknown, name: string): asserts time is number {
  if (!Number.isSafeInteger(time)) throw new ArgumentError(`${name} must be milliseconds since 1970`)
}

const PRW_MEMBERS = [
  'prwValue',
  'prwKid',
  'prwDataSet',
  'pcc',
  'intdatag',
  'sequence',
  'profile',
  'provenance',
  'evidence',
] as const

/**
 * A copy of a PRW at rest, its members checked. Errors: `ERR_ARGUMENT`.
 *
 * @example
 * ```ts
 * const { prwValue, sequence } = readPrw({
 *   prwValue: '0123456789ABCDEF', prwKid: 'PRW-1', prwDataSet: '00'.repeat(123), pcc: '0001', sequence: 1,
 *   profile: { name: 'example', version: '1' }, provenance: 'illustrative',
 * })
 * ```
 */
export function readPrw(prw: StoredPrw): StoredPrw {
  const { prwValue, prwKid, prwDataSet, pcc, intdatag, sequence, profile, provenance, evidence } = readOwn(
    prw,
    'storePrw',
    PRW_MEMBERS,
  )
  const { name, version } = readOwn(profile ?? {}, 'profile', ['name', 'version'])
  requireText(prwValue, PRINTABLE, 'prwValue must be 1 to 512 printable characters')
  requireKid(prwKid)
  requireText(prwDataSet, PRW_DATA_SET.test, `prwDataSet must be ${PRW_DATA_SET.shape}`)
  requireText(pcc, PCC, 'pcc must be four digits')
  if (!Number.isSafeInteger(sequence) || sequence < 1)
    throw new ArgumentError('sequence must be a whole number from 1')
  if (typeof name !== 'string' || typeof version !== 'string') {
    throw new ArgumentError('profile must have a name and a version')
  }
  requireOneOf(provenance, PROVENANCES, 'provenance')
  if (intdatag !== undefined) requireText(intdatag, INTDATAG, 'intdatag must be 20 printable characters')
  return {
    prwValue,
    prwKid,
    prwDataSet,
    pcc,
    ...(intdatag !== undefined && { intdatag }),
    sequence,
    profile: { name, version },
    provenance,
    ...(evidence !== undefined && { evidence: readEvidence(evidence) }),
  }
}

function readEvidence(evidence: PrwEvidence): PrwEvidence {
  const { macValue, macKid, intdatag } = readOwn(evidence, 'evidence', ['macValue', 'macKid', 'intdatag'])
  requireText(macValue, PRINTABLE, 'macValue must be 1 to 512 printable characters')
  requireKid(macKid)
  requireText(intdatag, INTDATAG, 'intdatag must be 20 printable characters')
  return { macValue, macKid, intdatag }
}

/**
 * The error that a PIN or a state is refused with where its card is not in the store: `ERR_BACKEND_FAILED`.
 *
 * @example
 * ```ts
 * export const orFail = (rows: number): void => {
 *   if (rows === 0) throw noSuchCard()
 * }
 * ```
 */
export function noSuchCard(): BackendError {
  return new BackendError('ERR_BACKEND_FAILED', 'the store holds no such card')
}

/**
 * The error that every call is refused with after `close()`: `ERR_BACKEND_CLOSED`.
 *
 * @example
 * ```ts
 * export const whenClosed = (): Promise<never> => Promise.reject(storeClosed())
 * ```
 */
export function storeClosed(): BackendError {
  return new BackendError('ERR_BACKEND_CLOSED', 'the store is closed')
}

function requireOneOf<T extends string>(
  value: unknown,
  table: Readonly<Record<T, true>>,
  name: string,
): asserts value is T {
  if (typeof value === 'string' && Object.hasOwn(table, value)) return
  throw new ArgumentError(`${name} must be of ${Object.keys(table).join(', ')}`)
}

function requireText(value: unknown, pattern: RegExp, problem: string): void {
  if (typeof value !== 'string' || !pattern.test(value)) throw new ArgumentError(problem)
}

/** The error that a write is refused with where its card is not as it was found: `ERR_BACKEND_BUSY`, retryable. */
export function cardChanged(): BackendError {
  return new BackendError('ERR_BACKEND_BUSY', 'the card changed meanwhile', { retryable: true })
}

/** The error that a write is refused with where it comes after its time: `ERR_BACKEND_BUSY`, retryable. */
export function tooLate(): BackendError {
  return new BackendError('ERR_BACKEND_BUSY', 'the write came when its time was over', { retryable: true })
}

/** The error that a PRW is refused with where its claim has ended: `ERR_CHANGE_COUNTER`. */
export function claimEnded(): ChangeCounterError {
  return new ChangeCounterError('expired')
}

/** The identifiers of a card, with its revision and an end where they are given. `ERR_ARGUMENT`. */
export function readAsFound(card: CardAsFound): CardAsFound {
  const ref = readRef(card)
  const { revision, notAfter } = readOwn(card, 'the store', ['revision', 'notAfter'])
  if (revision !== undefined) requireText(revision, MARK, 'revision must be 1 to 64 printable characters')
  if (notAfter !== undefined) requireTime(notAfter, 'notAfter')
  return { ...ref, ...(revision !== undefined && { revision }), ...(notAfter !== undefined && { notAfter }) }
}

/** A copy of a claim; `ERR_ARGUMENT`. */
export function readClaim(claim: ClaimRecord | undefined): ClaimRecord | undefined {
  if (claim === undefined) return undefined
  const { key, claimed, spent, keptBy } = readOwn(claim, 'storePrw', ['key', 'claimed', 'spent', 'keptBy'])
  requireText(key, CLAIM_KEY, 'the key of a claim must be 1 to 80 printable characters')
  for (const text of [claimed, spent]) requireText(text, CLAIM_TEXT, 'a claim must be the JSON of its entry')
  return { key, claimed, spent, ...(keptBy !== undefined && { keptBy }) }
}

/** A page; `ERR_ARGUMENT`. */
export function readPage(page: ResealPage, what: string): ResealPage {
  const { after, limit } = readOwn(page, what, ['after', 'limit'])
  if (!Number.isInteger(limit) || limit < 1 || limit > MAX_PAGE) {
    throw new ArgumentError(`${what}: limit must be a whole number from 1 to ${MAX_PAGE}`)
  }
  return after === undefined ? { limit } : { limit, after: readRef(after) }
}

/** A page of blocks; `ERR_ARGUMENT`. */
export function readBlockPage(page: BlockPage): BlockPage {
  const read = readPage(page, 'listBlocks')
  const { kid } = readOwn(page, 'listBlocks', ['kid'])
  requireKid(kid)
  return { ...read, kid }
}

/** A replacement; `ERR_ARGUMENT`. */
export function readReplacement(replacement: Replacement): Replacement {
  const { card, pin, version } = readOwn(replacement, 'replaceBlocks', ['card', 'pin', 'version'])
  requireText(version, MARK, 'version must be 1 to 64 printable characters')
  return { card: readRef(card), pin: readPinBlock(pin), version }
}

const BATCH = 200

/** One of many as it came: what was read of it, or what is wrong with it, which is its own result and stops none of the others. */
export type Taken<T> =
  | { readonly card: CardRef; readonly read: T }
  | { readonly card: CardRef; readonly error: Error }

/**
 * Works through what comes in batches, and gives their results one by one. Each entry is read when it comes: a source may
 * give one object again and again, another card in it each time. `ERR_ARGUMENT` for what is no list of any kind;
 * `ERR_ABORTED` between two batches.
 */
export async function* inBatches<E extends CardEntry | BlockEntry, T extends { readonly card: CardRef }>(
  entries: Iterable<E> | AsyncIterable<E>,
  signal: AbortSignal | undefined,
  read: (entry: E) => T,
  work: (batch: readonly Taken<T>[]) => Promise<readonly BulkResult[]>,
): AsyncGenerator<BulkResult, void, undefined> {
  const { [Symbol.iterator]: iterates, [Symbol.asyncIterator]: iteratesLater } = Object(entries)
  if (typeof iterates !== 'function' && typeof iteratesLater !== 'function') {
    throw new ArgumentError('many are taken from an array, or anything else that can be iterated')
  }
  let batch: Taken<T>[] = []
  for await (const entry of entries) {
    batch.push(takenOf(entry, read))
    if (batch.length < BATCH) continue
    throwIfAborted(signal)
    yield* await work(batch)
    batch = []
  }
  throwIfAborted(signal)
  if (batch.length > 0) yield* await work(batch)
}

function takenOf<E extends CardEntry | BlockEntry, T extends { readonly card: CardRef }>(
  entry: E,
  read: (entry: E) => T,
): Taken<T> {
  try {
    const taken = read(entry)
    return { card: taken.card, read: taken }
  } catch (error) {
    requireOurs(error)
    return { card: shownCard(entry), error }
  }
}

/** The card of an entry that is refused: as it came, whatever that is, but for what would change with the object. */
function shownCard(entry: CardEntry | BlockEntry): CardRef {
  const { card } = Object(entry)
  return typeof card === 'object' && card !== null ? { ...card } : card
}

/** What is put, of one of many, copied; `ERR_ARGUMENT`. */
export function readCardEntry(entry: CardEntry): CardEntry {
  const { card, record } = readOwn(entry, 'putMany', ['card', 'record'])
  return { card: readRef(card), record: readCard(record) }
}

/** What is stored, of one of many, copied; `ERR_ARGUMENT`. */
export function readBlockEntry(entry: BlockEntry): BlockEntry {
  const { card, pin } = readOwn(entry, 'storeBlocks', ['card', 'pin'])
  return { card: readAsFound(card), pin: readPinBlock(pin) }
}

/** What becomes of one of many: what is wrong with it is its own result, too, where only the work shows it. */
export async function outcomeOf<T>(
  taken: Taken<T>,
  work: (read: T) => Promise<unknown>,
): Promise<BulkResult> {
  const { card } = taken
  if ('error' in taken) return { card, outcome: 'refused', error: taken.error }
  try {
    await work(taken.read)
    return { card, outcome: 'stored' }
  } catch (error) {
    requireOurs(error)
    return { card, outcome: 'refused', error }
  }
}
