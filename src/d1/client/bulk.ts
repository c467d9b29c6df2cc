/**
 * Registering many cards: several at a time, each on its own. Nothing that was done is lost, whatever ends the run:
 * the result says for every card that was begun what became of it.
 */
import { setMaxListeners } from 'node:events'
import { type CallOptions, readOptions, requireSignal } from '../../base/arguments.js'
import { ArgumentError, D1MessageError } from '../../base/errors.js'
import type { RegisterCard } from './card-fields.js'
import type { CardCallOptions, D1Cards } from './cards.js'

const DEFAULT_CONCURRENCY = 8
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
  /** Undefined where it was not found to be sound: it might be a PAN. */
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
  /** One for every card that was begun, by index. A card that has none was not begun. */
  readonly outcomes: readonly BulkOutcome[]
  /** `failed`: the source of the items or `onProgress` threw `error`. */
  readonly ended: 'complete' | 'aborted' | 'failed'
  readonly error?: unknown
}

/** Where the items come from; an array, too, is read one by one. */
type Source = AsyncIterator<BulkItem> | Iterator<BulkItem>

/**
 * Registers cards from an array, a generator or an asynchronous source (rows of a database). It resolves also when it is
 * aborted: cards under way then end with `ERR_ABORTED` (D1 may have them), the others are not begun. A failing card is an
 * outcome, not an end; to stop after too many of them, abort from `onProgress`.
 *
 * Errors: `ERR_ARGUMENT` for the options, or for items that cannot be iterated. Nothing else rejects.
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
  register: D1Cards['register'],
  items: Iterable<BulkItem> | AsyncIterable<BulkItem>,
  options: BulkOptions = {},
): Promise<BulkResult> {
  const { signal, concurrency, onProgress, userId } = readBulkOptions(options)
  const source = iteratorOf(items)
  const total = Array.isArray(items) ? items.length : undefined
  // One listener on the caller's signal, however many cards are under way.
  const stop = new AbortController()
  setMaxListeners(0, stop.signal)
  const onAbort = (): void => stop.abort(signal?.reason)
  if (signal?.aborted === true) onAbort()
  signal?.addEventListener('abort', onAbort, { once: true })

  const call: CardCallOptions = { signal: stop.signal, ...(userId !== undefined && { userId }) }
  const run = new BulkRun(stop.signal, total, onProgress)
  await run.takeIn(source, concurrency, (index, item) => registerOne(register, index, item, call))
  signal?.removeEventListener('abort', onAbort)
  // Lets a generator close what it has open. A source that is stuck is not waited for.
  void close(source).catch(() => {})
  return run.result()
}

/** The state of one run. */
class BulkRun {
  readonly #signal: AbortSignal
  readonly #total: number | undefined
  readonly #onProgress: BulkOptions['onProgress'] | undefined
  readonly #outcomes: BulkOutcome[] = []
  readonly #running = new Set<Promise<void>>()
  #failed = 0
  #thrown: { readonly error: unknown } | undefined

  constructor(
    signal: AbortSignal,
    total: number | undefined,
    onProgress: BulkOptions['onProgress'] | undefined,
  ) {
    this.#signal = signal
    this.#total = total
    this.#onProgress = onProgress
  }

  /** Begins cards until the source or the run ends, and waits for those that were begun. */
  async takeIn(
    source: Source,
    concurrency: number,
    begin: (index: number, item: BulkItem) => Promise<BulkOutcome>,
  ): Promise<void> {
    try {
      for (let index = 0; this.#thrown === undefined && !this.#signal.aborted; ) {
        if (this.#running.size >= concurrency) {
          await Promise.race(this.#running)
          continue
        }
        const next = await nextOrAbort(source, this.#signal)
        if (next === undefined || next.done === true) break
        const card = begin(index++, next.value).then(outcome => {
          this.#running.delete(card)
          this.#end(outcome)
        })
        this.#running.add(card)
      }
    } catch (error) {
      this.#thrown = { error }
    }
    await Promise.all(this.#running)
  }

  #end(outcome: BulkOutcome): void {
    const done = this.#outcomes.push(outcome)
    if (!outcome.ok) this.#failed++
    if (this.#thrown !== undefined) return
    try {
      this.#onProgress?.({ outcome, done, failed: this.#failed, total: this.#total })
    } catch (error) {
      this.#thrown = { error }
    }
  }

  result(): BulkResult {
    const outcomes = this.#outcomes.sort((a, b) => a.index - b.index)
    if (this.#thrown !== undefined) return { outcomes, ended: 'failed', error: this.#thrown.error }
    return { outcomes, ended: this.#signal.aborted ? 'aborted' : 'complete' }
  }
}

async function registerOne(
  register: D1Cards['register'],
  index: number,
  item: BulkItem,
  call: CardCallOptions,
): Promise<BulkOutcome> {
  try {
    const { cardId, card, correlationId } = readOptions(item, 'an item', ['cardId', 'card', 'correlationId'])
    const options = correlationId === undefined ? call : { ...call, correlationId }
    const { status } = await register(cardId, card, options)
    return { index, cardId, ok: true, status }
  } catch (error) {
    const unsound =
      error instanceof ArgumentError || (error instanceof D1MessageError && error.field === 'cardId')
    return { index, cardId: unsound ? undefined : item.cardId, ok: false, error }
  }
}

/** The next item, or undefined once the signal has fired. */
function nextOrAbort(source: Source, signal: AbortSignal): Promise<IteratorResult<BulkItem> | undefined> {
  return new Promise((resolve, reject) => {
    const next = source.next()
    const stop = (): void => resolve(undefined)
    signal.addEventListener('abort', stop, { once: true })
    Promise.resolve(next)
      .then(resolve, reject)
      .finally(() => signal.removeEventListener('abort', stop))
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
    concurrency = DEFAULT_CONCURRENCY,
    onProgress,
    userId,
  } = readOptions(options, 'registerMany', names)
  requireSignal(signal === undefined ? undefined : { signal })
  if (!Number.isInteger(concurrency) || concurrency < 1 || concurrency > MAX_CONCURRENCY) {
    throw new ArgumentError(`concurrency must be 1 to ${MAX_CONCURRENCY}`)
  }
  if (onProgress !== undefined && typeof onProgress !== 'function') {
    throw new ArgumentError('onProgress must be a function')
  }
  return { signal, concurrency, onProgress, userId }
}
