/**
 * Which PINs an issuer takes, as data: lengths, weak PINs by rule, a list of its own, and not the PIN before. Precedents: payShield's
 * excluded PIN table, IBM's weak PIN table. A PIN is judged by all rules, whatever the first ones say, in one pass over numbers: how
 * long it takes tells the length of the PIN and nothing else.
 */
import { readOptions } from '../base/arguments.js'
import { copyInto, secretBytes, wipe } from '../base/bytes.js'
import { ArgumentError, PinPolicyError, type PinPolicyReason } from '../base/errors.js'
import { type Pin, pinDigits, requirePin } from '../primitives/pin.js'

/**
 * - `repeats`: one digit only (1111).
 * - `runs`: each digit one more, or each one less, than the one before; 0 comes after 9 (1234, 7890, 4321).
 * - `pairs`: two digits over and over (1212), or each digit twice (1122), or the first half backwards (1221).
 * - `dates`: in 4 digits DDMM, MMDD or a year from 1900 to 2099; in 6 DDMMYY, MMDDYY or YYMMDD; in 8 DDMMYYYY, MMDDYYYY or YYYYMMDD
 *   of these years. Every month has 31 days.
 */
export type WeakPinRule = 'repeats' | 'runs' | 'pairs' | 'dates'

/** What {@link pinPolicy} takes: the rules of one card product. */
export interface PinPolicyOptions {
  /** 4 to 12 digits; D1's app sends 4 to 8. */
  readonly minLength: number
  readonly maxLength: number
  readonly refuse: readonly WeakPinRule[]
  /** PINs of the issuer's own list, at most 10,000. */
  readonly list?: readonly string[]
  /** True: the PIN before is refused where it is known. */
  readonly notBefore?: boolean
}

/** A policy that has been read. Made by {@link pinPolicy}. */
export interface PinPolicy {
  readonly minLength: number
  readonly maxLength: number
  readonly refuse: readonly WeakPinRule[]
  readonly notBefore: boolean
}

/** What {@link judgePin} takes. */
export interface JudgePinInput {
  readonly pin: Pin
  readonly policy: PinPolicy
  /** The PIN before; looked at where the policy says `notBefore`. */
  readonly before?: Pin | undefined
}

/** A verdict on a PIN, and why it is not taken: the first reason in the order of the rules. */
export type PinVerdict =
  | { readonly accepted: true }
  | { readonly accepted: false; readonly reason: PinPolicyReason }

const RULES: readonly WeakPinRule[] = ['repeats', 'runs', 'pairs', 'dates']
const MAX_DIGITS = 12
const MAX_LIST = 10_000
/** The lists, as 13 bytes an entry: length, then digits. Not among the members, for it says which PINs nobody has. */
const LISTS = new WeakMap<PinPolicy, Uint8Array>()
const ENTRY = MAX_DIGITS + 1

/**
 * Reads the PIN policy of a card product.
 *
 * Errors: `ERR_ARGUMENT`.
 *
 * @example
 * ```ts
 * const policy = pinPolicy({ minLength: 4, maxLength: 6, refuse: ['repeats', 'runs', 'pairs', 'dates'], list: ['2580'] })
 * ```
 */
export function pinPolicy(options: PinPolicyOptions): PinPolicy {
  const names = ['minLength', 'maxLength', 'refuse', 'list', 'notBefore'] as const
  const {
    minLength,
    maxLength,
    refuse,
    list = [],
    notBefore = false,
  } = readOptions(options, 'pinPolicy', names)
  const isLength = (value: unknown): boolean =>
    Number.isInteger(value) && minLength >= 4 && maxLength <= MAX_DIGITS
  if (!isLength(minLength) || !isLength(maxLength) || minLength > maxLength)
    throw new ArgumentError('minLength and maxLength must be 4 to 12, the first not above the second')
  if (!Array.isArray(refuse) || !refuse.every(rule => RULES.includes(rule)))
    throw new ArgumentError(`refuse must be a list of ${RULES.join(', ')}`)
  if (typeof notBefore !== 'boolean') throw new ArgumentError('notBefore must be a boolean')
  if (!Array.isArray(list) || list.length > MAX_LIST || !list.every(isListed))
    throw new ArgumentError(`list must be at most ${MAX_LIST} PINs of 4 to 12 digits`)
  const table = secretBytes(ENTRY * list.length)
  for (const [i, pin] of list.entries()) {
    table[i * ENTRY] = pin.length
    for (let at = 0; at < pin.length; at++) table[i * ENTRY + 1 + at] = Number(pin.charAt(at))
  }
  const policy: PinPolicy = Object.freeze({
    minLength,
    maxLength,
    refuse: Object.freeze([...refuse]),
    notBefore,
  })
  LISTS.set(policy, table)
  return policy
}

/** A number that reads as a PIN is none: it has no digits to hold a PIN against, and would refuse nothing. */
function isListed(entry: unknown): entry is string {
  return typeof entry === 'string' && /^[0-9]{4,12}$/.test(entry)
}

/** Throws `ERR_ARGUMENT` unless the value is a policy that {@link pinPolicy} made. */
export function requirePolicy(value: unknown): asserts value is PinPolicy {
  if (typeof value === 'object' && value !== null && LISTS.has(value as PinPolicy)) return
  throw new ArgumentError('policy must be a PinPolicy, made by pinPolicy')
}

/**
 * Judges a PIN by a policy. The work is the same for every PIN of a length.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_DISPOSED`.
 *
 * @example
 * ```ts
 * const policy = pinPolicy({ minLength: 4, maxLength: 4, refuse: ['repeats'] })
 * judgePin({ pin: Pin.from('1111'), policy }) // { accepted: false, reason: 'repeats' }
 * ```
 */
export function judgePin(input: JudgePinInput): PinVerdict {
  const { pin, policy, before } = readOptions(input, 'judgePin', ['pin', 'policy', 'before'])
  requirePin(pin)
  requirePolicy(policy)
  if (before !== undefined) requirePin(before)
  const digits = pinDigits(pin)
  const { length } = digits
  const isOf = (rule: WeakPinRule, finds: (digits: Uint8Array) => number): number =>
    finds(digits) & (policy.refuse.includes(rule) ? 1 : 0)
  const found: Readonly<Record<PinPolicyReason, number>> = {
    length: length < policy.minLength || length > policy.maxLength ? 1 : 0,
    repeats: isOf('repeats', repeats),
    runs: isOf('runs', runs),
    pairs: isOf('pairs', pairs),
    dates: isOf('dates', dates),
    list: listed(digits, LISTS.get(policy) as Uint8Array),
    before: policy.notBefore && before !== undefined && pin.equals(before) ? 1 : 0,
  }
  const reason = REASONS.find(one => found[one] === 1)
  return reason === undefined ? { accepted: true } : { accepted: false, reason }
}

const REASONS: readonly PinPolicyReason[] = ['length', 'repeats', 'runs', 'pairs', 'dates', 'list', 'before']

/** Throws `ERR_PIN_POLICY`, with the reason beside the message, unless the PIN is taken. */
export function requireTaken(input: JudgePinInput): void {
  const verdict = judgePin(input)
  if (!verdict.accepted) throw new PinPolicyError(verdict.reason)
}

/** 1 for equal numbers below 2^30, else 0; no branch. */
function same(a: number, b: number): number {
  return (((a ^ b) - 1) >>> 31) & 1
}

/** 1 where a is at least `low` and at most `high`. */
function within(a: number, low: number, high: number): number {
  return 1 & ~((a - low) >>> 31) & ~((high - a) >>> 31)
}

function at(digits: Uint8Array, i: number): number {
  return digits[i] as number
}

/** 1 where every place from the second on is what the rule makes of the places. */
function every(digits: Uint8Array, from: number, holds: (i: number) => number): number {
  let all = 1
  for (let i = from; i < digits.length; i++) all &= holds(i)
  return all
}

function repeats(digits: Uint8Array): number {
  return every(digits, 1, i => same(at(digits, i), at(digits, 0)))
}

function runs(digits: Uint8Array): number {
  const step = (by: number): number =>
    every(digits, 1, i => same(at(digits, i), (at(digits, i - 1) + by) % 10))
  return step(1) | step(9)
}

function pairs(digits: Uint8Array): number {
  const { length } = digits
  const even = (length & 1) ^ 1
  const alternating = every(digits, 2, i => same(at(digits, i), at(digits, i - 2)))
  const doubled = every(digits, 1, i => same(at(digits, i), at(digits, i - 1)) | ((i & 1) ^ 1))
  const mirrored = every(digits, 0, i => same(at(digits, i), at(digits, length - 1 - i)))
  return even & (alternating | doubled | mirrored)
}

function dates(digits: Uint8Array): number {
  const two = (i: number): number => 10 * at(digits, i) + at(digits, i + 1)
  const year = (i: number): number => within(100 * two(i) + two(i + 2), 1900, 2099)
  const day = (i: number): number => within(two(i), 1, 31)
  const month = (i: number): number => within(two(i), 1, 12)
  const both = (i: number): number => (day(i) & month(i + 2)) | (month(i) & day(i + 2))
  switch (digits.length) {
    case 4:
      return both(0) | year(0)
    case 6:
      return both(0) | (month(2) & day(4))
    case 8:
      return (both(0) & year(4)) | (year(0) & month(4) & day(6))
    default:
      return 0
  }
}

/** Every entry is read to its end. */
function listed(digits: Uint8Array, table: Uint8Array): number {
  const own = secretBytes(ENTRY)
  own[0] = digits.length
  copyInto(own, digits, 1)
  let found = 0
  for (let entry = 0; entry < table.length; entry += ENTRY) {
    let differs = 0
    for (let i = 0; i < ENTRY; i++) differs |= at(table, entry + i) ^ at(own, i)
    found |= same(differs, 0)
  }
  wipe(own)
  return found
}
