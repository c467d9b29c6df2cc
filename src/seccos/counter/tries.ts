/**
 * How often a PIN may be tried: counted before the comparison, in a store that every replica shares, so that neither a crash nor a
 * second replica gives a try back. A verification without it is an oracle: 10,000 calls find any PIN of four digits.
 *
 * The count is a record of the issuer's {@link ChangeCounterStore}, under a key of its own, written by compare-and-set: of many that
 * try at once each counts, and none passes the limit. Once the limit is reached nothing is written, so a blocked card costs a read.
 */
import { readOptions } from '../../base/arguments.js'
import { ArgumentError, BackendError } from '../../base/errors.js'
import { CARD_ID } from './state.js'
import type { ChangeCounterStore } from './store.js'

/** What a card product allows. */
export interface TryRule {
  /** Tries until the card is blocked: 1 to 99. */
  readonly limit: number
  /** What a right PIN does: the count begins anew, or stays, so that only {@link TryCounter.unblock} gives tries back. */
  readonly afterSuccess: 'reset' | 'keep'
}

/** What a {@link TryCounter} says while it works, for an audit. No PIN, no PAN. */
export interface TryEvent {
  readonly event: 'counted' | 'blocked' | 'reset' | 'unblocked'
  readonly cardId: string
  readonly product: string
  /** Tries that are left after it. */
  readonly left: number
}

/** What {@link TryCounter} takes. */
export interface TryCounterOptions {
  /** The store of one issuer: `store.counters(issuerId)`. */
  readonly store: ChangeCounterStore
  /** The rule of each card product by its name, 1 to 64 of them. */
  readonly products: Readonly<Record<string, TryRule>>
  /** Hears of every step. What it throws is lost: a listener decides nothing. */
  readonly onEvent?: (event: TryEvent) => void
}

/** Whose tries are counted, by which counter. */
export interface TriesOf {
  readonly counter: TryCounter
  /** 1 to 48 characters, as D1 names cards. */
  readonly cardId: string
  /** The name of its card product. */
  readonly product: string
}

/** A try that was counted: how many are left, and what ends it; or none, for the card is blocked. */
export type CountedTry =
  | { readonly blocked: true }
  | {
      readonly blocked: false
      readonly left: number
      /** To be called where the PIN was right. */
      readonly succeed: () => Promise<number>
    }

const NAMES = ['store', 'products', 'onEvent'] as const
const PREFIX = 'tries/'
/** Each of those who come at once counts or finds the limit reached: nobody loses more often than the limit. */
const MAX_ATTEMPTS = 200

/**
 * The durable try counter of one issuer's cards.
 *
 * Errors of its constructor: `ERR_ARGUMENT`. Source: PCI PIN and EMV know it as the PIN try counter; every issuer API has one.
 *
 * @example
 * ```ts
 * const counter = new TryCounter({
 *   store: memoryStore(),
 *   products: { classic: { limit: 3, afterSuccess: 'reset' } },
 * })
 * ```
 */
export class TryCounter {
  readonly #store: ChangeCounterStore
  readonly #products: ReadonlyMap<string, TryRule>
  readonly #onEvent: ((event: TryEvent) => void) | undefined

  constructor(options: TryCounterOptions) {
    const { store, products, onEvent } = readOptions(options, 'TryCounter', NAMES)
    if (typeof store?.compareAndSet !== 'function' || typeof store.read !== 'function')
      throw new ArgumentError('store must be a ChangeCounterStore')
    if (typeof products !== 'object' || products === null)
      throw new ArgumentError('products must be an object')
    if (onEvent !== undefined && typeof onEvent !== 'function')
      throw new ArgumentError('onEvent must be a function')
    const rules = Object.entries(products).map(([name, rule]) => [name, readRule(name, rule)] as const)
    if (rules.length < 1 || rules.length > 64) throw new ArgumentError('products must be 1 to 64 rules')
    this.#store = store
    this.#products = new Map(rules)
    this.#onEvent = onEvent
  }

  /**
   * Counts a try, before anything is compared. For verbs; who verifies by other means calls it and `succeed` too.
   *
   * Errors: `ERR_ARGUMENT` (no card id, a product without a rule), `ERR_BACKEND_FAILED` (what is stored is no count), and what the
   * store reports: then nothing may be compared.
   */
  async begin(card: Omit<TriesOf, 'counter'>): Promise<CountedTry> {
    const { key, rule, cardId, product } = this.#read(card)
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const { count, version } = await this.#count(key)
      if (count >= rule.limit) {
        this.#tell({ event: 'blocked', cardId, product, left: 0 })
        return { blocked: true }
      }
      if (!(await this.#store.compareAndSet(key, version, String(count + 1)))) continue
      const left = rule.limit - count - 1
      this.#tell({ event: 'counted', cardId, product, left })
      return { blocked: false, left, succeed: () => this.#succeed(card, count + 1) }
    }
    throw new BackendError('ERR_BACKEND_BUSY', 'the try counter is being written by too many at once', {
      retryable: true,
    })
  }

  /** How many tries the card has left. Errors: `ERR_ARGUMENT`, `ERR_BACKEND_FAILED`, and what the store reports. */
  async left(card: Omit<TriesOf, 'counter'>): Promise<number> {
    const { key, rule } = this.#read(card)
    return Math.max(0, rule.limit - (await this.#count(key)).count)
  }

  /**
   * Gives a card all its tries back: for the issuer's staff, or after a new PIN was set.
   *
   * Errors: `ERR_ARGUMENT`, `ERR_BACKEND_FAILED`, `ERR_BACKEND_BUSY`, and what the store reports.
   */
  async unblock(card: Omit<TriesOf, 'counter'>): Promise<void> {
    const { key, rule, cardId, product } = this.#read(card)
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const { count, version } = await this.#count(key)
      if (count > 0 && !(await this.#store.compareAndSet(key, version, '0'))) continue
      this.#tell({ event: 'unblocked', cardId, product, left: rule.limit })
      return
    }
    throw new BackendError('ERR_BACKEND_BUSY', 'the try counter is being written by too many at once', {
      retryable: true,
    })
  }

  /** Begins anew, unless somebody counted since: their tries are not given back, nor is a card unblocked by the way. */
  async #succeed(card: Omit<TriesOf, 'counter'>, counted: number): Promise<number> {
    const { key, rule, cardId, product } = this.#read(card)
    const { count, version } = await this.#count(key)
    if (rule.afterSuccess === 'keep' || count !== counted) return Math.max(0, rule.limit - count)
    if (!(await this.#store.compareAndSet(key, version, '0'))) return Math.max(0, rule.limit - count)
    this.#tell({ event: 'reset', cardId, product, left: rule.limit })
    return rule.limit
  }

  async #count(key: string): Promise<{ readonly count: number; readonly version: string | undefined }> {
    const record = await this.#store.read(key)
    if (record === undefined) return { count: 0, version: undefined }
    // What is no count must not pass for none.
    if (!/^[0-9]{1,2}$/.test(record.value))
      throw new BackendError('ERR_BACKEND_FAILED', 'the stored try count is not one')
    return { count: Number(record.value), version: record.version }
  }

  #read(card: Omit<TriesOf, 'counter'> & { readonly counter?: TryCounter }) {
    const { cardId, product } = readOptions(card, 'tries', ['counter', 'cardId', 'product'])
    if (typeof cardId !== 'string' || !CARD_ID.test(cardId))
      throw new ArgumentError('cardId must be 1 to 48 letters, digits, - and _')
    const rule = this.#products.get(product)
    if (rule === undefined) throw new ArgumentError('product must be one that the try counter has a rule for')
    return { key: PREFIX + cardId, rule, cardId, product }
  }

  #tell(event: TryEvent): void {
    try {
      this.#onEvent?.(event)
    } catch {
      // An audit that fails must not give a try back.
    }
  }
}

function readRule(name: string, rule: TryRule): TryRule {
  const { limit, afterSuccess } = readOptions(rule, `the rule of ${name}`, ['limit', 'afterSuccess'])
  if (!Number.isInteger(limit) || limit < 1 || limit > 99) throw new ArgumentError('limit must be 1 to 99')
  if (afterSuccess !== 'reset' && afterSuccess !== 'keep')
    throw new ArgumentError("afterSuccess must be 'reset' or 'keep'")
  return { limit, afterSuccess }
}

/** A verdict, and what became of the tries. */
export interface TriedVerdict {
  readonly verified: boolean
  /** True: nothing was compared, for the card had no try left. */
  readonly blocked: boolean
  /** Tries that are left; undefined where none are counted here. */
  readonly triesLeft: number | undefined
}

/** The counter, the card and the product that a verb was given; `ERR_ARGUMENT`. */
export function readTries(tries: unknown): TriesOf {
  const { counter, cardId, product } = readOptions(tries as TriesOf, 'tries', [
    'counter',
    'cardId',
    'product',
  ])
  if (!(counter instanceof TryCounter)) throw new ArgumentError('tries.counter must be a TryCounter')
  return { counter, cardId, product }
}

/** Counts, compares, and ends the try: in this order, whatever happens in between. */
export async function withTry(
  tries: TriesOf | undefined,
  compare: () => Promise<boolean>,
): Promise<TriedVerdict> {
  if (tries === undefined) return { verified: await compare(), blocked: false, triesLeft: undefined }
  const { counter, ...card } = tries
  const counted = await counter.begin(card)
  if (counted.blocked) return { verified: false, blocked: true, triesLeft: 0 }
  const verified = await compare()
  return { verified, blocked: false, triesLeft: verified ? await counted.succeed() : counted.left }
}
