/**
 * The record of one card, and the steps it can take. Pure: a step is given the record and returns the next one, or
 * throws `ERR_CHANGE_COUNTER`, and then there is no next one. See `change-counter.ts` for what the steps mean.
 */
import { createHash } from 'node:crypto'
import { BackendError, ChangeCounterError } from '../../base/errors.js'

/** When the PCC moves on: with the claim of an accepted Set PIN, or with each issue. */
export type PccRule = 'increment-on-accept' | 'increment-on-issue'

/** What comes after 9999. `refuse`: nothing, the card needs an operator. */
export type PccWrap = 'refuse' | 'wrap-to-0000' | 'wrap-to-0001'

/** At which step each rule moves the PCC. */
export const PCC_RULES: Readonly<Record<PccRule, 'claim' | 'issue'>> = {
  'increment-on-accept': 'claim',
  'increment-on-issue': 'issue',
}

/** The value after 9999; null: none. */
export const PCC_WRAPS: Readonly<Record<PccWrap, number | null>> = {
  refuse: null,
  'wrap-to-0000': 0,
  'wrap-to-0001': 1,
}

const LAST_PCC = 9999
/** Issued and not used: one more, and the oldest of them is superseded. */
export const MAX_OPEN = 8
/** Issued, whatever became of it. Beyond, superseded and expired ones are forgotten first, then spent ones. */
const MAX_ENTRIES = 16

/** An intdatag that was issued. Its SHA-256 stands for it: the store holds nothing that could be used. */
export type Issued = {
  readonly tag: string
  readonly pcc: number
  readonly expiresAt: number
} & (Unclaimed | Claimed)

/** Open, or superseded, which may have been after a claim. */
interface Unclaimed extends Partial<Pick<Claimed, 'fingerprint' | 'sequence'>> {
  readonly state: 'open' | 'superseded'
}

interface Claimed {
  readonly state: 'claimed' | 'spent'
  /** Of the request that claimed it, in hex. */
  readonly fingerprint: string
  /** Which acceptance of this card it was, counted from 1. */
  readonly sequence: number
}

/** The record of a card. */
export interface CardState {
  /** The PCC of the next issue; null where the card has no further one. */
  readonly pcc: number | null
  /** Acceptances so far. Unlike the PCC it never wraps. */
  readonly sequence: number
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
export interface Claim {
  readonly next?: CardState
  readonly sequence: number
  /** True: stored and confirmed before. There is nothing left to do. */
  readonly replayed: boolean
}

/** The name under which an intdatag is kept. */
export function tagOf(intdatag: string): string {
  return createHash('sha256').update(intdatag).digest('hex')
}

/** Opens an intdatag under the card's PCC. `exhausted` where there is none. */
export function issueStep(
  state: CardState,
  entry: { readonly tag: string; readonly expiresAt: number; readonly now: number },
  policy: PccPolicy,
): { readonly next: CardState; readonly pcc: number } {
  const { pcc } = state
  if (pcc === null) throw new ChangeCounterError('exhausted')
  const opened: Issued = { tag: entry.tag, pcc, expiresAt: entry.expiresAt, state: 'open' }
  const issued = forget(supersedeOldest([...state.issued, opened], entry.now), entry.now)
  return { next: { ...state, pcc: movedAt('issue', pcc, policy), issued }, pcc }
}

/**
 * Claims an intdatag for one request: from here on it belongs to that fingerprint, the PCC has moved, and whatever
 * else was open for the card is superseded. The same request again is let through. Throws `unknown` where the card
 * has no such intdatag.
 */
export function claimStep(state: CardState, request: ClaimRequest, now: number, policy: PccPolicy): Claim {
  const entry = state.issued.find(candidate => candidate.tag === request.tag)
  if (entry === undefined) throw new ChangeCounterError('unknown')
  if (entry.pcc !== request.pcc) throw new ChangeCounterError('pcc')
  if (entry.state === 'superseded') throw new ChangeCounterError('superseded')
  if (entry.state === 'claimed' || entry.state === 'spent') {
    if (entry.fingerprint !== request.fingerprint) throw new ChangeCounterError('spent')
    return { sequence: entry.sequence, replayed: entry.state === 'spent' }
  }
  if (entry.expiresAt <= now) throw new ChangeCounterError('expired')
  const sequence = state.sequence + 1
  const issued = state.issued.map((other): Issued => {
    if (other === entry) return { ...entry, state: 'claimed', fingerprint: request.fingerprint, sequence }
    return other.state === 'open' || other.state === 'claimed' ? { ...other, state: 'superseded' } : other
  })
  const pcc = state.pcc === null ? null : movedAt('claim', state.pcc, policy)
  return { next: { pcc, sequence, issued }, sequence, replayed: false }
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
    const { v, pcc, sequence, issued } = JSON.parse(text)
    if (
      v === 1 &&
      (pcc === null || Number.isInteger(pcc)) &&
      Number.isInteger(sequence) &&
      Array.isArray(issued)
    ) {
      return { pcc, sequence, issued }
    }
  } catch {
    // Whatever is wrong with it, it is not a record.
  }
  throw new BackendError('ERR_BACKEND_FAILED', 'the record of the change counter does not read')
}
