/** The record of a change counter: its states, its steps, and what a caller may ask of it. */
import { createHash } from 'node:crypto'
import type { Backend } from '../../backend/backend.js'
import { type CallOptions, isWord, ownMembers, readOptions, readOwn } from '../../base/arguments.js'
import {
  bufferOf,
  ownCopy,
  requireBytes,
  secretBytes,
  toHex,
  utf8Bytes,
  withWiped,
} from '../../base/bytes.js'
import { ArgumentError, BackendError, ChangeCounterError } from '../../base/errors.js'
import type { ChangeCounterStore, ClaimRecord } from './store.js'

/** When the PCC moves on: with the claim of an accepted Set PIN, or with each issue. */
export type PccRule = 'increment-on-accept' | 'increment-on-issue'

/** What comes after 9999. `refuse`: nothing, the card needs an operator. */
export type PccWrap = 'refuse' | 'wrap-to-0000' | 'wrap-to-0001'

/** At which step each rule moves the PCC. */
const PCC_RULES: Readonly<Record<PccRule, 'claim' | 'issue'>> = {
  'increment-on-accept': 'claim',
  'increment-on-issue': 'issue',
}

/** The value after 9999; null: none. */
const PCC_WRAPS: Readonly<Record<PccWrap, number | null>> = {
  refuse: null,
  'wrap-to-0000': 0,
  'wrap-to-0001': 1,
}

const LAST_PCC = 9999
/** Acceptances of one epoch; 2^21 epochs fit above them. */
const EPOCH = 2 ** 32
/** Issued and not used: one more, and the oldest of them is superseded. */
export const MAX_OPEN = 8
/** The end of what was seen to be expired: a clock that goes back does not get there. */
const OVER = 0
/** Issued, whatever became of it. Beyond, superseded and expired ones are forgotten first, then spent ones. */
const MAX_ENTRIES = 16

/** An intdatag that was issued. Its SHA-256 stands for it: the store holds nothing that could be used. */
export type Issued = {
  readonly tag: string
  readonly pcc: number
  readonly expiresAt: number
  /** Of the database that issued it, where it has one. */
  readonly instance?: string
} & (Unclaimed | Claimed)

/** Open, or superseded, which may have been after a claim. */
interface Unclaimed extends Partial<Pick<Claimed, 'fingerprint' | 'sequence'>> {
  readonly state: 'open' | 'superseded'
}

interface Claimed {
  readonly state: 'claimed' | 'spent'
  /** Of the request that claimed it, in hex. */
  readonly fingerprint: string
  /** Which acceptance of this card it was, counted from 1, in its epoch. */
  readonly sequence: number
}

/** The record of a card. */
export interface CardState {
  /** The PCC of the next issue; null where the card has no further one. */
  readonly pcc: number | null
  /**
   * Acceptances so far, in the lower 32 bits. Unlike the PCC it never wraps. Above them the epoch: it grows where the
   * record is found on another instance than the one that wrote it, for acceptances may have been lost with that.
   */
  readonly sequence: number
  /** Of the database that wrote the record, where it has one. */
  readonly instance?: string
  /** Oldest first. */
  readonly issued: readonly Issued[]
}

export interface PccPolicy {
  readonly rule: PccRule
  readonly wrap: PccWrap
}

/** A Set PIN as the counter sees it. */
export interface ClaimRequest {
  readonly tag: string
  readonly pcc: number
  readonly fingerprint: string
}

/** What a claim comes to: the next record, or none where the request was accepted before. */
interface Claim {
  readonly next?: CardState
  /** As the record has it from here on. */
  readonly entry: Issued
  readonly sequence: number
  /** True: stored and confirmed before. There is nothing left to do. */
  readonly replayed: boolean
}

/** The name under which an intdatag is kept. */
export function tagOf(intdatag: string): string {
  return createHash('sha256').update(intdatag).digest('hex')
}

/** The record as this instance goes on with it: in a new epoch where another one wrote it. */
export function enterInstance(state: CardState, instance: string | undefined): CardState {
  if (state.instance === instance) return state
  const { instance: _, ...rest } = state
  const entered = { ...rest, sequence: nextEpoch(state.sequence) }
  return instance === undefined ? entered : { ...entered, instance }
}

function nextEpoch(sequence: number): number {
  const next = (Math.floor(sequence / EPOCH) + 1) * EPOCH + (sequence % EPOCH)
  if (!Number.isSafeInteger(next)) throw new ChangeCounterError('exhausted')
  return next
}

/** Opens an intdatag under the card's PCC. `exhausted` where there is none. */
export function issueStep(
  state: CardState,
  entry: { readonly tag: string; readonly expiresAt: number; readonly now: number },
  policy: PccPolicy,
): { readonly next: CardState; readonly pcc: number } {
  const { pcc } = state
  if (pcc === null) throw new ChangeCounterError('exhausted')
  const { tag, expiresAt } = entry
  const { instance } = state
  const opened: Issued = { tag, pcc, expiresAt, state: 'open', ...(instance !== undefined && { instance }) }
  const known = expireStep(state, entry.now) ?? state
  const issued = forget(supersedeOldest([...known.issued, opened], entry.now), entry.now)
  return { next: { ...state, pcc: movedAt('issue', pcc, policy), issued }, pcc }
}

/**
 * What has expired by now has expired for good: its end is put where no clock goes back to. Undefined where there is
 * nothing of the kind that is not marked already.
 */
export function expireStep(state: CardState, now: number): CardState | undefined {
  const isDue = (entry: Issued): boolean =>
    (entry.state === 'open' || entry.state === 'claimed') &&
    entry.expiresAt <= now &&
    entry.expiresAt !== OVER
  if (!state.issued.some(isDue)) return undefined
  return {
    ...state,
    issued: state.issued.map(entry => (isDue(entry) ? { ...entry, expiresAt: OVER } : entry)),
  }
}

/**
 * Claims an intdatag for one request: from here on it belongs to that fingerprint, the PCC has moved, and whatever
 * else was open for the card is superseded. The same request again is let through, until the intdatag expires. Throws
 * `unknown` where the card has no such intdatag, `failover` for one that is open here and was issued by another
 * instance: it may have been accepted there.
 */
export function claimStep(state: CardState, request: ClaimRequest, now: number, policy: PccPolicy): Claim {
  const entry = state.issued.find(candidate => candidate.tag === request.tag)
  if (entry === undefined) throw new ChangeCounterError('unknown')
  if (entry.pcc !== request.pcc) throw new ChangeCounterError('pcc')
  if (entry.state === 'superseded') throw new ChangeCounterError('superseded')
  if (entry.state === 'claimed' || entry.state === 'spent') {
    if (entry.fingerprint !== request.fingerprint) throw new ChangeCounterError('spent')
    // A claim that was never confirmed does not stay open for ever.
    if (entry.state === 'claimed' && entry.expiresAt <= now) throw new ChangeCounterError('expired')
    return { entry, sequence: entry.sequence, replayed: entry.state === 'spent' }
  }
  if (entry.expiresAt <= now) throw new ChangeCounterError('expired')
  if (entry.instance !== state.instance) throw new ChangeCounterError('failover')
  const sequence = state.sequence + 1
  const claimed: Issued = { ...entry, state: 'claimed', fingerprint: request.fingerprint, sequence }
  const issued = state.issued.map((other): Issued => {
    if (other.tag === entry.tag) return claimed
    return other.state === 'open' || other.state === 'claimed' ? { ...other, state: 'superseded' } : other
  })
  const pcc = state.pcc === null ? null : movedAt('claim', state.pcc, policy)
  return { next: { ...state, pcc, sequence, issued }, entry: claimed, sequence, replayed: false }
}

/** The texts by which a store ends a claim: those of its entry, exactly as {@link showState} writes them. */
export function claimRecord(key: string, entry: Issued, keptBy: ChangeCounterStore): ClaimRecord {
  return { key, claimed: JSON.stringify(entry), spent: JSON.stringify({ ...entry, state: 'spent' }), keptBy }
}

/**
 * Ends whatever is open or claimed, and begins a new epoch; the PCC moves on by `skip`. For an operator, after a backup
 * was restored or a card's data came into doubt.
 */
export function supersedeStep(state: CardState, skip: number, { wrap }: PccPolicy): CardState {
  let { pcc } = state
  for (let i = 0; i < skip && pcc !== null; i++) pcc = after(pcc, wrap)
  const issued = state.issued.map(
    (entry): Issued =>
      entry.state === 'open' || entry.state === 'claimed' ? { ...entry, state: 'superseded' } : entry,
  )
  return { ...state, pcc, sequence: nextEpoch(state.sequence), issued }
}

/** Gives a card whose PCC is exhausted a new one; undefined where it is not. */
export function restartStep(state: CardState, pcc: number, policy: PccPolicy): CardState | undefined {
  return state.pcc === null ? { ...supersedeStep(state, 0, policy), pcc } : undefined
}

/** Marks a claim as stored; undefined where it is already. `superseded` where a later request was accepted. */
export function confirmStep(state: CardState, request: ClaimRequest): CardState | undefined {
  const entry = state.issued.find(candidate => candidate.tag === request.tag)
  if (entry?.fingerprint !== request.fingerprint) throw new ChangeCounterError('unknown')
  if (entry.state === 'superseded') throw new ChangeCounterError('superseded')
  if (entry.state !== 'claimed') return undefined
  const spent: Issued = { ...entry, state: 'spent' }
  return { ...state, issued: state.issued.map(other => (other === entry ? spent : other)) }
}

function movedAt(step: 'claim' | 'issue', pcc: number, { rule, wrap }: PccPolicy): number | null {
  if (PCC_RULES[rule] !== step) return pcc
  return after(pcc, wrap)
}

function after(pcc: number, wrap: PccWrap): number | null {
  return pcc === LAST_PCC ? PCC_WRAPS[wrap] : pcc + 1
}

function isOpen({ state, expiresAt }: Issued, now: number): boolean {
  return state === 'open' && expiresAt > now
}

function supersedeOldest(issued: readonly Issued[], now: number): readonly Issued[] {
  if (issued.filter(entry => isOpen(entry, now)).length <= MAX_OPEN) return issued
  const oldest = issued.find(entry => isOpen(entry, now))
  return issued.map(entry => (entry === oldest ? { ...entry, state: 'superseded' } : entry))
}

function forget(issued: readonly Issued[], now: number): readonly Issued[] {
  if (issued.length <= MAX_ENTRIES) return issued
  const dead = issued.find(
    entry => entry.state === 'superseded' || (entry.state === 'open' && !isOpen(entry, now)),
  )
  const victim = dead ?? issued.find(entry => entry.state === 'spent')
  return issued.filter(entry => entry !== victim)
}

/** The record as text. */
export function showState(state: CardState): string {
  return JSON.stringify({ v: 1, ...state })
}

/** The record of a text; `ERR_BACKEND_FAILED` where another program, or a later version, wrote it. */
export function readState(text: string): CardState {
  try {
    const { v, ...state } = ownMembers(JSON.parse(text))
    if (v === 1 && isState(state)) return state
  } catch {
    // Whatever is wrong with it, it is not a record.
  }
  throw new BackendError('ERR_BACKEND_FAILED', 'the record of the change counter does not read')
}

const HASH = /^[0-9a-fA-F]{64}$/
const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && Number(value) >= 0
const isPcc = (value: unknown): boolean => isCount(value) && Number(value) <= LAST_PCC
const isHash = (value: unknown): boolean => typeof value === 'string' && HASH.test(value)
const isInstance = (value: unknown): boolean => typeof value === 'string' && value.length <= 128
const isAbsentOr =
  (check: Check): Check =>
  value =>
    value === undefined || check(value)

type Check = (value: unknown) => boolean

const STATE = shapeOf<keyof CardState>({
  pcc: value => value === null || isPcc(value),
  sequence: isCount,
  instance: isAbsentOr(isInstance),
  issued: value =>
    Array.isArray(value) &&
    value.every(isIssued) &&
    new Set(value.map(({ tag }) => tag)).size === value.length,
})

const ISSUED = shapeOf<keyof Issued>({
  tag: isHash,
  pcc: isPcc,
  expiresAt: isCount,
  instance: isAbsentOr(isInstance),
  state: value => ['open', 'superseded', 'claimed', 'spent'].includes(String(value)),
  fingerprint: isAbsentOr(isHash),
  sequence: isAbsentOr(value => isCount(value) && value !== 0),
})

function isState(value: unknown): value is CardState {
  return hasShape(value, STATE)
}

/** A claim without the request it belongs to would be anybody's. */
function isIssued(value: unknown): boolean {
  if (!hasShape(value, ISSUED)) return false
  const { state, fingerprint, sequence } = Object(value)
  const isClaim = state === 'claimed' || state === 'spent'
  return !isClaim || (fingerprint !== undefined && sequence !== undefined)
}

/** What an object's members must be. A list beside the table: walking a table costs twice as much, for each entry of each record read. */
interface Shape {
  readonly has: (name: string) => boolean
  readonly checks: readonly (readonly [name: string, check: Check])[]
}

function shapeOf<Name extends string>(table: Readonly<Record<Name, Check>>): Shape {
  return { has: name => Object.hasOwn(table, name), checks: Object.entries<Check>(table) }
}

/** An object with these members and no others. */
function hasShape(value: unknown, { has, checks }: Shape): boolean {
  if (typeof value !== 'object' || value === null) return false
  const object: Readonly<Record<string, unknown>> = { ...value }
  for (const name of Object.keys(object)) if (!has(name)) return false
  for (const [name, check] of checks) if (!check(object[name])) return false
  return true
}

/* What a change counter is given: its options, its requests, and the random numbers of its intdatags. */

/** 32 characters that are not taken for one another (no I, L, O, U): five bits of a random byte select one. */
const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
const INTDATAG_CHARACTERS = 20
const FINGERPRINT_BYTES = 32

/** How D1 names a card; also an issuer's way to name one here. Never a PAN. */
export const CARD_ID: RegExp = /^[A-Za-z0-9_-]{1,48}$/
/** A PIN change counter: four digits. */
export const PCC: RegExp = /^[0-9]{4}$/
/** Which Get PIN Change Counter a Set PIN answers: 20 printable characters. */
export const INTDATAG: RegExp = /^[\x20-\x7e]{20}$/

/** Options of a {@link ChangeCounter}. What concerns the scheme has no default. */
export interface ChangeCounterOptions {
  readonly store: ChangeCounterStore
  /** Whose random numbers make the intdatags. */
  readonly backend: Pick<Backend, 'randomBytes'>
  /** The PCC of a card that has no record yet: four digits, or what a function says for it. */
  readonly firstPcc: string | ((cardId: string) => string | Promise<string>)
  readonly rule: PccRule
  /** What comes after 9999. */
  readonly wrap: PccWrap
  /** How long an intdatag may be used: whole seconds. */
  readonly ttlSeconds: number
  /** Milliseconds since 1970; `Date.now` where absent. */
  readonly now?: () => number
}

/** The Set PIN to be accepted. */
export interface AcceptRequest {
  readonly cardId: string
  readonly intdatag: string
  readonly pcc: string
  /** SHA-256 (or HMAC-SHA-256) of the request's decrypted content, 32 bytes; see `requestFingerprint`. */
  readonly fingerprint: Uint8Array
}

/** A fresh intdatag. */
export async function newIntdatag(
  backend: Pick<Backend, 'randomBytes'>,
  options?: CallOptions,
): Promise<string> {
  return withWiped(await backend.randomBytes(INTDATAG_CHARACTERS, options), random => {
    if (random.length !== INTDATAG_CHARACTERS) {
      throw new BackendError('ERR_BACKEND_FAILED', 'the backend gave another number of random bytes')
    }
    let intdatag = ''
    for (const byte of random) intdatag += ALPHABET.charAt(byte & 31)
    return intdatag
  })
}

/** A request as the counter works on it. */
interface ReadRequest {
  readonly cardId: string
  readonly claim: ClaimRequest
}

/** Requests that {@link fixedRequest} made, as they were read then. */
const READ = new WeakMap<AcceptRequest, ReadRequest>()

/** A request that is read now and never again, whatever becomes of its bytes: it is checked first and accepted later. */
export function fixedRequest(request: AcceptRequest): AcceptRequest {
  const kept = Object.freeze({ ...request })
  READ.set(kept, readRequest(kept))
  return kept
}

/** Shapes that no issued counter has are refused as what they are not: the outside can send anything here. */
export function readRequest(request: AcceptRequest): ReadRequest {
  const known = READ.get(request)
  if (known !== undefined) return known
  const names = ['cardId', 'intdatag', 'pcc', 'fingerprint'] as const
  const read = readOwn(request, 'the counter', names)
  const { cardId, intdatag, pcc, fingerprint } = read
  requireBytes(fingerprint, 'fingerprint')
  if (fingerprint.length !== FINGERPRINT_BYTES) {
    throw new ArgumentError(`fingerprint must be ${FINGERPRINT_BYTES} bytes`)
  }
  if (typeof pcc !== 'string') throw new ArgumentError('pcc must be a string')
  const tag = tagFor(cardId, intdatag)
  if (!PCC.test(pcc)) throw new ChangeCounterError('pcc')
  return { cardId, claim: { tag, pcc: Number(pcc), fingerprint: toHex(fingerprint) } }
}

/** The card and the name under which its intdatag is kept. */
export function readTag(issued: Pick<AcceptRequest, 'cardId' | 'intdatag'>): { cardId: string; tag: string } {
  const { cardId, intdatag } = readOwn(issued, 'the counter', ['cardId', 'intdatag'])
  return { cardId, tag: tagFor(cardId, intdatag) }
}

function tagFor(cardId: string, intdatag: string): string {
  requireCardId(cardId)
  if (typeof intdatag !== 'string') throw new ArgumentError('intdatag must be a string')
  if (!INTDATAG.test(intdatag)) throw new ChangeCounterError('unknown')
  return tagOf(intdatag)
}

/** Throws `ERR_ARGUMENT` unless the value is a card identifier as D1 has them. It is not the PAN, nor made from it. */
export function requireCardId(cardId: unknown): asserts cardId is string {
  if (typeof cardId !== 'string' || !CARD_ID.test(cardId)) {
    throw new ArgumentError('cardId must be 1 to 48 letters, digits, _ and -')
  }
}

/** The options, read once: `ERR_ARGUMENT` unless they are complete and sound: nothing of the scheme's is guessed. */
export function readCounterOptions(options: ChangeCounterOptions): ChangeCounterOptions {
  const names = ['store', 'backend', 'firstPcc', 'rule', 'wrap', 'ttlSeconds', 'now'] as const
  const own = readOptions(options, 'ChangeCounter', names)
  const { store, backend, firstPcc, rule, wrap, ttlSeconds, now } = own
  const isFunction = (value: unknown): boolean => typeof value === 'function'
  if (![store?.read, store?.compareAndSet, store?.purge, store?.keys].every(isFunction)) {
    throw new ArgumentError('store must be a ChangeCounterStore')
  }
  if (!isFunction(backend?.randomBytes)) throw new ArgumentError('backend must have randomBytes')
  if (!isFunction(firstPcc) && !(typeof firstPcc === 'string' && PCC.test(firstPcc))) {
    throw new ArgumentError('firstPcc must be four digits or a function')
  }
  if (typeof rule !== 'string' || !Object.hasOwn(PCC_RULES, rule)) {
    throw new ArgumentError(`rule must be one of ${Object.keys(PCC_RULES).join(', ')}`)
  }
  if (typeof wrap !== 'string' || !Object.hasOwn(PCC_WRAPS, wrap)) {
    throw new ArgumentError(`wrap must be one of ${Object.keys(PCC_WRAPS).join(', ')}`)
  }
  if (!Number.isInteger(ttlSeconds) || ttlSeconds < 1 || ttlSeconds > 86_400) {
    throw new ArgumentError('ttlSeconds must be a whole number from 1 to 86400')
  }
  if (now !== undefined && !isFunction(now)) throw new ArgumentError('now must be a function')
  return own
}

/** The number of a PCC that the caller, or a function of the caller's, gave. */
export function readPcc(pcc: unknown, what: string): number {
  if (typeof pcc !== 'string' || !PCC.test(pcc)) throw new ArgumentError(`${what} four digits`)
  return Number(pcc)
}

/** A whole number within bounds. */
export function readWhole(value: unknown, name: string, [min, max]: readonly [number, number]): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value
  throw new ArgumentError(`${name} must be a whole number from ${min} to ${max}`)
}

/**
 * The fingerprint of a request by its members: 32 bytes, SHA-256 over names and values with their lengths, sorted by
 * name. Two requests have one fingerprint only if every member is the same, in whatever order they came.
 *
 * Take all decrypted members, and nothing of the JWE around them: a repeated request may be enciphered anew.
 *
 * Errors: `ERR_ARGUMENT`.
 *
 * @example
 * ```ts
 * const fingerprint = requestFingerprint({ intdatag, prwDataSet, prwValue, prwKid, macValue, macKid })
 * ```
 */
export function requestFingerprint(members: Readonly<Record<string, string>>): Uint8Array {
  if (typeof members !== 'object' || members === null) throw new ArgumentError('members must be an object')
  const hash = createHash('sha256')
  for (const [name, value] of Object.entries(members).sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (typeof value !== 'string')
      throw new ArgumentError(`${isWord(name) ? name : 'a member'} must be a string`)
    // A lone surrogate has no UTF-8 form of its own: two texts would have one fingerprint.
    if (/\p{Cs}/u.test(name) || /\p{Cs}/u.test(value))
      throw new ArgumentError('members must be well-formed text')
    for (const text of [name, value]) {
      withWiped(utf8Bytes(text), bytes => {
        const length = secretBytes(4)
        bufferOf(length).writeUInt32BE(bytes.length)
        hash.update(length).update(bytes)
      })
    }
  }
  return ownCopy(hash.digest())
}
