/**
 * What keeps the service standing when too much comes at once, or what it leans on hangs: the Set PINs of one card one
 * after the other, so many operations at once and no more, and so many per card and caller in a minute.
 */

import { readOptions } from '../../base/arguments.js'
import { systemClock } from '../../base/deadline.js'
import { DEFAULTS } from '../../base/defaults.js'
import { ArgumentError } from '../../base/errors.js'
import type { PinOperation } from '../contract.js'
import type { CardRef } from './interfaces.js'
import { Refusal } from './refusal.js'

/** Tasks under one key that may wait or run at once. D1 has no use for more; what hangs must not pile up. */
const MAX_TASKS = DEFAULTS.endpoints.waitingPerCard.value

interface Queue {
  tail: Promise<unknown>
  tasks: number
}

/**
 * Runs tasks under the same key one after the other, in the order in which they came, and tasks under different keys
 * side by side. A key is remembered for as long as it has tasks, and no longer. Within one process: replicas are kept
 * apart by the issuer's database, and by the change counter.
 *
 * @example
 * ```ts
 * await mutex.run(cardId, signal, () => store(pin))
 * ```
 */
export class KeyedMutex {
  readonly #queues = new Map<string, Queue>()

  /** Keys that have tasks. */
  get size(): number {
    return this.#queues.size
  }

  /**
   * Runs `task` when all earlier ones of the key have settled. A task whose signal has fired by then is not run: it
   * rejects with the signal's reason. Refuses (`card-busy`) where the queue is full.
   */
  run<T>(key: string, signal: AbortSignal, task: () => Promise<T>): Promise<T> {
    const queue = this.#queues.get(key) ?? { tail: Promise.resolve(), tasks: 0 }
    if (queue.tasks >= MAX_TASKS) return Promise.reject(new Refusal('card-busy'))
    this.#queues.set(key, queue)
    queue.tasks++
    const result = queue.tail.then(() => {
      signal.throwIfAborted()
      return task()
    })
    const leave = (): void => {
      queue.tasks--
      if (queue.tasks === 0) this.#queues.delete(key)
    }
    queue.tail = result.then(leave, leave)
    return result
  }
}

/**
 * Lets so many tasks in at once, and refuses (`service-busy`) the next at once instead of having it wait: D1 repeats
 * what it did not get. A place is free again when the task has settled, not when its caller was answered: what hangs
 * keeps its place, and so cannot pile up.
 */
export class Gate {
  readonly #places: number
  #taken = 0

  constructor(places: number) {
    this.#places = places
  }

  /** Places that are taken. */
  get taken(): number {
    return this.#taken
  }

  /** Takes a place. Refuses (`service-busy`) where there is none. */
  enter(): Place {
    if (this.#taken >= this.#places) throw new Refusal('service-busy')
    this.#taken++
    return new Place(() => {
      this.#taken--
    })
  }

  async run<T>(task: () => Promise<T>): Promise<T> {
    using place = this.enter()
    return await place.keep(task())
  }
}

/** A place at a gate: free again when it has been left, and everything that was to keep it has settled. */
export class Place implements Disposable {
  readonly #free: () => void
  #holders = 1

  constructor(free: () => void) {
    this.#free = free
  }

  /** The same promise; the place is kept until it has settled. */
  keep<T>(work: Promise<T>): Promise<T> {
    this.#holders++
    const leave = (): void => this[Symbol.dispose]()
    work.then(leave, leave)
    return work
  }

  [Symbol.dispose](): void {
    this.#holders--
    if (this.#holders === 0) this.#free()
  }
}

/** What a rate is asked for. */
export interface RateQuery extends CardRef {
  readonly operation: PinOperation
  /** The configured name of the caller; undefined where anyone may call. */
  readonly caller: string | undefined
}

/** Counts operations. A service of several replicas counts in its database, or per replica with a lower rate. */
export interface RateLimiter {
  /** Whether the operation may take place now. What rejects is answered with 500. */
  take(query: RateQuery, options: { readonly signal: AbortSignal }): boolean | Promise<boolean>
}

/** How many operations there may be, of a card and of a caller. */
export interface RatesOptions {
  /** Operations of one card a minute; as many may come at once. 600 where absent. */
  readonly perCardPerMinute?: number
  /** Operations of one caller a minute, over all cards; as many may come at once. 300,000 where absent. */
  readonly perCallerPerMinute?: number
}

/** Options of {@link memoryRates}. */
export interface MemoryRatesOptions extends RatesOptions {
  /** Milliseconds that only grow; `performance.now` where absent. */
  readonly now?: () => number
}

/** Cards and callers that are remembered. */
const MAX_BUCKETS = 100_000
const KEPT_BUCKETS = 90_000
const MINUTE = 60_000

/** Those that are full again by now, whatever their rate; where they are too few, those that came first. */
function forgetSome(buckets: Map<string, Bucket>, now: number): void {
  for (const [key, { at }] of buckets) if (now - at >= MINUTE) buckets.delete(key)
  for (const key of buckets.keys()) {
    if (buckets.size <= KEPT_BUCKETS) return
    buckets.delete(key)
  }
}

/** Both rates, as given or by default. Throws `ERR_ARGUMENT` unless they are whole numbers from 1. */
export function readRates(what: string, given: RatesOptions): Required<RatesOptions> {
  const {
    perCardPerMinute = DEFAULTS.endpoints.perCardPerMinute.value,
    perCallerPerMinute = DEFAULTS.endpoints.perCallerPerMinute.value,
  } = given
  for (const rate of [perCardPerMinute, perCallerPerMinute]) {
    if (Number.isSafeInteger(rate) && rate >= 1) continue
    throw new ArgumentError(`${what}: perCardPerMinute and perCallerPerMinute must be whole numbers from 1`)
  }
  return { perCardPerMinute, perCallerPerMinute }
}

interface Bucket {
  tokens: number
  at: number
}

/**
 * A {@link RateLimiter} in this process's memory: token buckets, one for each card and one for each caller. A card that is
 * refused costs its caller nothing.
 *
 * Errors: `ERR_ARGUMENT`.
 *
 * @example
 * ```ts
 * issuerEndpoints({ rates: memoryRates({ perCardPerMinute: 30 }), … })
 * ```
 */
export function memoryRates(options: MemoryRatesOptions = {}): RateLimiter {
  const { now, ...given } = readOptions(options, 'memoryRates', [
    'perCardPerMinute',
    'perCallerPerMinute',
    'now',
  ])
  const { perCardPerMinute, perCallerPerMinute } = readRates('memoryRates', given)
  if (now !== undefined && typeof now !== 'function')
    throw new ArgumentError('memoryRates: now must be a function')
  const clock = now ?? systemClock.elapsed
  // Apart, so that a caller who goes through many cards is not forgotten for it.
  const cards = new Map<string, Bucket>()
  const callers = new Map<string, Bucket>()

  function bucketOf(buckets: Map<string, Bucket>, key: string, rate: number): Bucket {
    const at = clock()
    const known = buckets.get(key)
    if (known !== undefined) {
      // In its place: a Map that has entries deleted and put back at each turn is made anew again and again.
      known.tokens = Math.min(rate, known.tokens + ((at - known.at) * rate) / MINUTE)
      known.at = at
      return known
    }
    const bucket = { tokens: rate, at }
    buckets.set(key, bucket)
    if (buckets.size > MAX_BUCKETS) forgetSome(buckets, at)
    return bucket
  }

  return {
    take: ({ issuerId, cardId, caller = '' }) => {
      const card = bucketOf(cards, `${issuerId}/${cardId}`, perCardPerMinute)
      const whole = bucketOf(callers, caller, perCallerPerMinute)
      if (card.tokens < 1 || whole.tokens < 1) return false
      card.tokens--
      whole.tokens--
      return true
    },
  }
}
