/**
 * One slip in a run of a contract's rule: a call that is refused where nothing is wrong is taken, or refused by a code that says
 * something else, or an answer is another. A rule that still holds then did not look at that call.
 */
import { IssuerPinError } from '../../src/base/errors.js'
import { isIssuerPinError } from '../../src/index.js'

/**
 * What becomes of a call: the one that is refused is taken, or refused by another code, or the one that is answered is answered
 * otherwise.
 */
export type SlipKind = 'taken' | 'other code' | 'other answer'

export interface Slip {
  readonly kind: SlipKind
  /** Which of the calls of its kind, from 0. */
  readonly at: number
}

/** Counts what is called and, where a slip is due, changes what comes of it. */
export class Slips {
  readonly seen: Record<SlipKind, number> = { taken: 0, 'other code': 0, 'other answer': 0 }
  readonly #slip: Slip | undefined
  #calls = 0
  /** The name of the call that was changed. */
  slipped: string | undefined

  constructor(slip?: Slip) {
    this.#slip = slip
  }

  /** The call, or what it slips into. */
  around<T>(name: string, call: () => T, taken: () => unknown): T {
    this.#calls++
    let answer: T
    try {
      answer = call()
    } catch (error) {
      return this.#refused(name, error, taken) as T
    }
    if (!(answer instanceof Promise)) return this.#answered(name, answer) as T
    return answer.then(
      value => this.#answered(name, value),
      (error: unknown) => this.#refused(name, error, taken),
    ) as T
  }

  #refused(name: string, error: unknown, taken: () => unknown): unknown {
    if (!isIssuerPinError(error)) throw error
    // A code by which neither a backend nor a store refuses anything.
    if (this.#isDue('other code', `${name}, ${error.code}`))
      throw new IssuerPinError('ERR_D1_MESSAGE', error.message)
    if (!this.#isDue('taken', name)) throw error
    return taken()
  }

  #answered(name: string, value: unknown): unknown {
    const due = othersThan(value).filter(({ what }) => this.#isDue('other answer', `${name}${what}`))
    return due.length === 0 ? value : due[0]?.value
  }

  #isDue(kind: SlipKind, name: string): boolean {
    const due = this.#slip?.kind === kind && this.#slip.at === this.seen[kind]
    this.seen[kind]++
    if (due) this.slipped = name
    return due
  }

  /**
   * How much a rule asked: it is a change of the contract where that changes. Calls are counted by themselves, because one that
   * answers nothing (`undefined`, where a record must be gone) is neither refused nor answered otherwise.
   */
  told(rule: string): string {
    return `${this.#calls} called, ${this.seen.taken} refused, ${this.seen['other answer']} answered: ${rule}`
  }
}

interface Other {
  /** What of the answer is another; nothing for the whole. */
  readonly what: string
  readonly value: unknown
}

const whole = (value: unknown): readonly Other[] => [{ what: '', value }]

/** Other answers of the same kind: of a record each field by itself, and of a list one with less. */
function othersThan(value: unknown): readonly Other[] {
  if (value instanceof Uint8Array) return value.length === 0 ? [] : whole(flipped(value))
  if (typeof value === 'boolean') return whole(!value)
  if (typeof value === 'number') return whole(value + 1)
  if (value === 'equal') return whole('different')
  if (value === 'different' || value === 'malformed') return whole('equal')
  if (typeof value === 'string') return whole(`${value}x`)
  if (Array.isArray(value))
    return value.length === 0 ? [] : [{ what: ', one less', value: value.slice(0, -1) }]
  if (typeof value !== 'object' || value === null || !isPlain(value)) return []
  return Object.entries(value).flatMap(([field, of]) =>
    othersThan(of).map(({ what, value: other }) => ({
      what: `.${field}${what}`,
      value: { ...value, [field]: other },
    })),
  )
}

const isPlain = (value: object): boolean =>
  Object.getPrototypeOf(value) === Object.prototype || Object.getPrototypeOf(value) === null

/** A copy whose last byte is another, in memory of its own. */
function flipped(bytes: Uint8Array): Uint8Array {
  const other = new Uint8Array(bytes.length)
  other.set(bytes)
  other[other.length - 1] = (other.at(-1) ?? 0) ^ 0x11
  return other
}

/** Rules that make calls at once: how many of them are refused may be a matter of turns. */
export const AT_ONCE = /at once|in flight|concurrent|race|replica|while|what has begun|hung|many/

/** The positions of calls that are tried: the first ones, one in the middle, the last. */
export function positions(count: number, first: number): readonly number[] {
  const all = Array.from({ length: count }, (_, i) => i)
  return all.filter(i => i < first || i === Math.floor(count / 2) || i === count - 1)
}
