/**
 * Registering many cards: several at a time, each on its own. Nothing that was done is lost, whatever ends the run:
 * the result says for every card that was begun what became of it.
 */

import { setMaxListeners } from 'node:events'
import { type CallOptions, readOptions, requireCallback, requireSignal } from '../../base/arguments.js'
import { whenAborted } from '../../base/deadline.js'
import { DEFAULTS } from '../../base/defaults.js'
import { ArgumentError } from '../../base/errors.js'
import { type RegisterCard, requireIdentifier } from './card-fields.js'

const MAX_CONCURRENCY = 64

/** One card of a run. */
export interface BulkItem {
  readonly cardId: string
  readonly card: RegisterCard
  readonly correlationId?: string
}

/** What became of a card. */
export type BulkOutcome = {
  /** Position of the item in what was given, from 0. */
  readonly index: number
  /** Undefined where it was not found to be one, or holds the PAN. */
  readonly cardId: string | undefined
} & ({ readonly ok: true; readonly status: number } | { readonly ok: false; readonly error: unknown })

/** How far a run is, told after every card. */
export interface BulkProgress {
  /** The card that has just ended. */
  readonly outcome: BulkOutcome
  /** Cards that have ended, and how many of them failed. */
  readonly done: number
  readonly failed: number
  /** Cards in all, where an array was given. */
  readonly total: number | undefined
}

/** Options of `registerMany`. */
export interface BulkOptions extends CallOptions {
  /** Cards under way at a time: 1 to 64, 8 where absent. */
  readonly concurrency?: number
  /** Told after every card, in the order in which they end. If it throws, the run takes in no more cards. */
  readonly onProgress?: (progress: BulkProgress) => void
  /** For all cards of the run. */
  readonly userId?: string
}

/** The result of a run. */
export interface BulkResult {
  /** One for every item that the source gave, by index. An item that has none was not taken from it. */
  readonly outcomes: readonly BulkOutcome[]
  /** True: the run ended while the source was making one more item, which, if it comes at all, is not begun. */
  readonly pulling: boolean
  /** `failed`: the source of the items or `onProgress` threw `error`. */
  readonly ended: 'complete' | 'aborted' | 'failed'
  readonly error?: unknown
}

/** Where the items come from; an array, too, is read one by one. */
type Source = AsyncIterator<BulkItem> | Iterator<BulkItem>

/** A card under way. That there is one says that its cardId was found to be sound. */
interface BegunCard {
  readonly cardId: string
  readonly answer: Promise<{ readonly status: number }>
}

/** Begins one card; throws where the item is unsound, and then nothing of it is shown. */
export type BeginCard = (item: BulkItem, call: RunCall) => BegunCard

/** What all cards of a run have in common. */
interface RunCall {
  readonly signal: AbortSignal
  readonly userId?: string
}

/**
 * Registers cards from an array, a generator or an asynchronous source (rows of a database). It resolves also when it is
 * aborted: cards under way then end with `ERR_ABORTED` (D1 may have them), the others are not begun. A failing card is an
 * outcome, not an end; to stop after too many of them, abort from `onProgress`.
 *
 * Errors: `ERR_ARGUMENT` for the options, or for items that cannot be iterated; `ERR_D1_MESSAGE` for `userId`. Nothing else
 * rejects, and nothing is taken from the source before these are known to be sound.
 *
 * @example
 * ```ts
 * const { outcomes, ended } = await d1.cards.registerMany(rows(), {
 *   concurrency: 16,
 *   onProgress: ({ done, failed }) => console.log(done, failed),
 * })
 * const again = outcomes.filter(outcome => !outcome.ok)
 * ```
 */
export async function registerAll(
  begin: BeginCard,
  items: Iterable<BulkItem> | AsyncIterable<BulkItem>,
  options: BulkOptions,
): Promise<BulkResult> {
  const { signal, concurrency, onProgress, userId } = readBulkOptions(options)
  const source = iteratorOf(items)
  const total = Array.isArray(items) ? items.length : undefined
  // The calls of many cards may listen to it, each with a listener of its own.
  const stop = new AbortController()
  setMaxListeners(0, stop.signal)
  const onAbort = (): void => stop.abort(signal?.reason)
  if (signal?.aborted === true) onAbort()
  const release = signal && whenAborted(signal, onAbort)

  const call = { signal: stop.signal, ...(userId !== undefined && { userId }) }
  const run = new BulkRun({ source, begin, call, total, onProgress })
  await Promise.all(Array.from({ length: concurrency }, () => run.work()))
  release?.()
  // Lets a generator close what it has open. A source that is stuck is not waited for.
  void close(source).catch(() => {})
  return run.result()
}

interface BulkRunOptions {
  readonly source: Source
  readonly begin: BeginCard
  readonly call: RunCall
  readonly total: number | undefined
  readonly onProgress: BulkOptions['onProgress'] | undefined
}

/** The state of one run: several workers take items from one source, one after the other. */
class BulkRun {
  readonly #options: BulkRunOptions
  readonly #outcomes: BulkOutcome[] = []
  /** The worker that asks the source waits for nobody; the others wait for it. */
  #turn: Promise<unknown> = Promise.resolve()
  #taken = 0
  #failed = 0
  #exhausted = false
  #pulling = false
  #thrown: { readonly error: unknown } | undefined

  constructor(options: BulkRunOptions) {
    this.#options = options
  }

  /** Takes an item, registers its card, tells of it, and so on until the source or the run ends. */
  async work(): Promise<void> {
    for (;;) {
      const turn = this.#turn.then(() => this.#take())
      this.#turn = turn
      const taken = await turn
      if (taken === undefined) return
      this.#end(await this.#register(taken.item, taken.index))
    }
  }

  async #take(): Promise<{ readonly index: number; readonly item: BulkItem } | undefined> {
    const { source, call } = this.#options
    const { signal } = call
    if (this.#exhausted || this.#thrown !== undefined || signal.aborted) return undefined
    try {
      this.#pulling = true
      const next = await nextOrAbort(source, signal)
      if (next === undefined) return undefined
      this.#pulling = false
      this.#exhausted = next.done === true
      return next.done === true ? undefined : { index: this.#taken++, item: next.value }
    } catch (error) {
      this.#pulling = false
      this.#thrown = { error }
      return undefined
    }
  }

  async #register(item: BulkItem, index: number): Promise<BulkOutcome> {
    let cardId: string | undefined
    try {
      const begun = this.#options.begin(item, this.#options.call)
      cardId = begun.cardId
      const { status } = await begun.answer
      return { index, cardId, ok: true, status }
    } catch (error) {
      return { index, cardId, ok: false, error }
    }
  }

  #end(outcome: BulkOutcome): void {
    const { onProgress, total } = this.#options
    const done = this.#outcomes.push(outcome)
    if (!outcome.ok) this.#failed++
    if (this.#thrown !== undefined) return
    try {
      onProgress?.({ outcome, done, failed: this.#failed, total })
    } catch (error) {
      this.#thrown = { error }
    }
  }

  result(): BulkResult {
    const outcomes = this.#outcomes.sort((a, b) => a.index - b.index)
    const common = { outcomes, pulling: this.#pulling }
    if (this.#thrown !== undefined) return { ...common, ended: 'failed', error: this.#thrown.error }
    return { ...common, ended: this.#options.call.signal.aborted ? 'aborted' : 'complete' }
  }
}

/** The next item, or undefined where the signal fires before the source has given it. */
async function nextOrAbort(
  source: Source,
  signal: AbortSignal,
): Promise<IteratorResult<BulkItem> | undefined> {
  const next = source.next()
  // A source that gives at once has given, whatever the signal does meanwhile.
  if (!('then' in next)) return next
  return new Promise((resolve, reject) => {
    const stop = (): void => resolve(undefined)
    next.then(resolve, reject).finally(whenAborted(signal, stop))
  })
}

async function close(source: Source): Promise<void> {
  await source.return?.()
}

function iteratorOf(items: Iterable<BulkItem> | AsyncIterable<BulkItem>): Source {
  if (typeof items === 'object' && items !== null) {
    if (Symbol.asyncIterator in items) return items[Symbol.asyncIterator]()
    if (Symbol.iterator in items) return items[Symbol.iterator]()
  }
  throw new ArgumentError('registerMany takes an array or an iterable of { cardId, card }')
}

function readBulkOptions(options: BulkOptions) {
  const names = ['signal', 'concurrency', 'onProgress', 'userId'] as const
  const {
    signal,
    concurrency = DEFAULTS.client.concurrency.value,
    onProgress,
    userId,
  } = readOptions(options, 'registerMany', names)
  requireSignal(signal === undefined ? undefined : { signal })
  if (!Number.isInteger(concurrency) || concurrency < 1 || concurrency > MAX_CONCURRENCY) {
    throw new ArgumentError(`concurrency must be 1 to ${MAX_CONCURRENCY}`)
  }
  requireCallback(onProgress, 'onProgress')
  if (userId !== undefined) requireIdentifier('x-user-id', userId)
  return { signal, concurrency, onProgress, userId }
}
