/**
 * The PIN change counter of D1's Get PIN Change Counter and the Set PIN that follows it.
 *
 * **Issue.** Each issue gives the card's current PCC and a fresh intdatag: 20 characters from 32, 100 random bits of
 * the backend. Several may be open for one card, all with its PCC: a GET that is repeated because its answer was lost,
 * or asked twice at once, must not make the first answer worthless. The first to be accepted supersedes the others.
 *
 * **Accept** has two phases, because a crash can come between the decision and the issuer's own storage:
 *
 *     open ──claim──▶ claimed ──store()──▶ confirm ──▶ spent
 *       └──────────another claim, or too many open──▶ superseded
 *
 * The claim is one compare-and-set on the card's record. It binds the intdatag to the fingerprint of the request, moves
 * the PCC and supersedes what else is open: of two different requests one is refused, whatever they race for. Then the
 * issuer's `store` runs, then the claim is confirmed. The same request again is let through at every point: after a
 * crash `store` runs again (it must therefore be idempotent), after the confirmation nothing runs (`replayed`).
 *
 * The claim, not the confirmation, moves the PCC: a value that may have been stored is never issued again. If `store`
 * fails for good and D1 does not repeat the request, the card has skipped a value and keeps its old PIN.
 *
 * A `store` that hangs may finish after a later request was accepted. So `store` is given `sequence`, which grows with
 * every acceptance of a card: write the PRW only over one with a lower or the same sequence. It may also finish after the
 * claim has ended, and D1 was told so. So it is given `claim`, too: a store that keeps the counter's records confirms the
 * claim in the write of the PRW, or stores nothing.
 *
 * **Failover.** Where the store names the server that answers (its *instance*), each intdatag belongs to the one that
 * issued it, and the compare-and-set writes on that one only. A server that was restored, promoted or restarted may have
 * lost acceptances: what is open there and was issued elsewhere is refused (`failover`), which costs the cardholder one
 * retry. For the same reason `sequence` begins a new epoch there: a number that was lost is not given out again.
 *
 * **Clock.** What was found expired, in a look or in any write of the card, stays so: a clock that goes back revives
 * nothing. A claim ends with the time of its intdatag, too.
 *
 * **Refusals** (`ERR_CHANGE_COUNTER` with a `reason`) leave the record as it is. The reason is for the operator; the
 * outside gets one answer. Call {@link ChangeCounter.check} before and `accept` after the MAC has been verified.
 *
 * The store holds SHA-256 values of intdatags and fingerprints: reading it gives nobody an intdatag to use.
 */

import {
  type CallOptions,
  readOptions,
  requireCallback,
  requireSignal,
  throwIfAborted,
} from '../../base/arguments.js'
import { systemClock } from '../../base/deadline.js'
import { DEFAULTS } from '../../base/defaults.js'
import { ArgumentError, BackendError, ChangeCounterError } from '../../base/errors.js'
import {
  type AcceptRequest,
  type CardState,
  type ChangeCounterOptions,
  type ClaimRequest,
  claimRecord,
  claimStep,
  confirmStep,
  enterInstance,
  expireStep,
  type Issued,
  issueStep,
  newIntdatag,
  type PccPolicy,
  readCounterOptions,
  readPcc,
  readRequest,
  readState,
  readTag,
  readWhole,
  requireCardId,
  restartStep,
  showState,
  supersedeStep,
  tagOf,
} from './state.js'
import type { ChangeCounterStore, ClaimRecord, RecordWrite } from './store.js'

/** How long after its expiry an intdatag is still known to belong to a card, for the operator's reason. */
const RETENTION_MS = DEFAULTS.counter.retentionMs.value
const CARD_PREFIX = 'card/'
const PAGE = 500
const SKIP = [0, 9999] as const
/** Lost races of one call. Each means that somebody else's write went through. */
const MAX_ATTEMPTS = 100

/** What Get PIN Change Counter answers with. */
export interface IssuedCounter {
  readonly pcc: string
  readonly intdatag: string
  /** Milliseconds since 1970. */
  readonly expiresAt: number
}

/** A card whose open intdatags end. */
export interface SupersedeInput {
  readonly cardId: string
  /** By how much its PCC moves on: 0 to 9999; 0 where absent. */
  readonly skip?: number
}

/** What {@link ChangeCounter.supersedeAll} may be told. */
export interface SupersedeAllInput extends Pick<SupersedeInput, 'skip'> {
  /** Called after each page with the cards so far. */
  readonly onProgress?: (cards: number) => void
}

/** What {@link ChangeCounter.purge} may be told. */
export interface PurgeInput {
  /** Records of one statement: 1 to 100,000; 1000 where absent. */
  readonly batch?: number
  /** After so many milliseconds no further batch begins: 1 to 3,600,000; 60,000 where absent. */
  readonly budgetMs?: number
  /** Called after each batch with what was deleted so far. */
  readonly onProgress?: (deleted: number) => void
}

/** What the issuer's `store` is told. */
export interface Acceptance {
  /** Grows with every acceptance of the card. Store it with the PRW; never write over a higher one. */
  readonly sequence: number
  /** How the record of the card holds the claim: for a store that ends it in the write of the PRW. */
  readonly claim: ClaimRecord
}

/** What became of a request that was not refused. */
export interface Accepted extends Pick<Acceptance, 'sequence'> {
  /** True: this very request was accepted and stored before, and nothing was done. */
  readonly replayed: boolean
}

/**
 * Issues `{ pcc, intdatag }` for a card and accepts exactly one matching Set PIN. See the head of this file.
 *
 * @example
 * ```ts
 * const counter = new ChangeCounter({
 *   store, backend: hsm, firstPcc: '0001', rule: 'increment-on-accept', wrap: 'refuse', ttlSeconds: 300,
 * })
 * const { pcc, intdatag } = await counter.issue({ cardId })
 * // … the Set PIN arrives, its MAC is verified …
 * await counter.accept({
 *   request: { cardId, intdatag, pcc, fingerprint },
 *   store: ({ sequence }) => cards.storePrw(cardId, prw, sequence),
 * })
 * ```
 */
export class ChangeCounter {
  readonly #options: ChangeCounterOptions
  readonly #policy: PccPolicy

  /** Errors: `ERR_ARGUMENT`. */
  constructor(options: ChangeCounterOptions) {
    this.#options = readCounterOptions(options)
    this.#policy = { rule: this.#options.rule, wrap: this.#options.wrap }
  }

  /**
   * Gives the card's PCC with a fresh intdatag. Nine or more open ones supersede the oldest.
   *
   * Errors: `ERR_CHANGE_COUNTER` (`exhausted`), `ERR_ARGUMENT`, `ERR_ABORTED`, `ERR_BACKEND_BUSY`, and what backend and
   * store report.
   */
  async issue(input: { readonly cardId: string }, options?: CallOptions): Promise<IssuedCounter> {
    const { cardId } = readOptions(input, 'issue', ['cardId'])
    requireCardId(cardId)
    const signal = requireSignal(options)
    const { backend, store, ttlSeconds } = this.#options
    const intdatag = await newIntdatag(backend, options)
    const now = this.#now()
    const expiresAt = now + 1000 * ttlSeconds
    const tag = tagOf(intdatag)
    const index: RecordWrite = {
      key: tagKey(tag),
      expected: undefined,
      value: cardId,
      expiresAt: expiresAt + RETENTION_MS,
    }
    const isTogether = store.compareAndSetAll !== undefined
    // Else the index goes first: an entry without it would be usable, and no worse; an index without entry is nothing.
    if (!isTogether && !(await writeOne(store, index))) throw repeated()
    const decide: Decide<number> = async state => {
      throwIfAborted(signal)
      const step = issueStep(state ?? (await this.#firstState(cardId)), { tag, expiresAt, now }, this.#policy)
      return { next: step.next, result: step.pcc }
    }
    const pcc = await update(store, cardId, decide, isTogether ? index : undefined)
    return { pcc: showPcc(pcc), intdatag, expiresAt }
  }

  /**
   * Says, without claiming anything, whether a request would be accepted now: by its answer, or by the error. What it
   * finds expired it marks so.
   *
   * Errors: as {@link ChangeCounter.accept} (`ERR_CHANGE_COUNTER` with its `reason`).
   */
  async check(request: AcceptRequest): Promise<{ readonly replayed: boolean }> {
    const { cardId, claim } = readRequest(request)
    const { replayed } = await this.#decide(cardId, claim)
    return { replayed }
  }

  /**
   * Accepts a Set PIN: claims the intdatag, runs `store`, confirms. What `store` throws is thrown on unchanged, and the
   * same request may be repeated. `store` must be idempotent, and heed `sequence`.
   *
   * Errors: `ERR_CHANGE_COUNTER` with `reason` `unknown`, `other-card`, `pcc`, `expired`, `spent` (by another request)
   * `superseded` (another request of the card was accepted, or too many were opened) or `failover` (another instance of
   * the database issued it); `ERR_ARGUMENT`; `ERR_ABORTED` (before the claim only); `ERR_BACKEND_BUSY`; and what the store reports.
   */
  async accept(
    input: {
      readonly request: AcceptRequest
      readonly store: (acceptance: Acceptance) => Promise<void>
    },
    options?: CallOptions,
  ): Promise<Accepted> {
    const { request, store } = readOptions(input, 'accept', ['request', 'store'])
    const signal = requireSignal(options)
    const { cardId, claim } = readRequest(request)
    if (typeof store !== 'function') throw new ArgumentError('store must be a function')
    const { sequence, replayed, entry } = await this.#decide(cardId, claim, { signal })
    if (replayed) return { sequence, replayed }
    await store({ sequence, claim: claimRecord(cardKey(cardId), entry, this.#options.store) })
    await this.#update(cardId, state => {
      if (state === undefined) throw new ChangeCounterError('unknown')
      return { next: confirmStep(state, claim), result: undefined }
    })
    return { sequence, replayed }
  }

  /**
   * The PCC that was issued with an intdatag, four digits: for profiles whose data set does not hold it. It says nothing
   * about whether the intdatag may still be used; {@link ChangeCounter.check} does.
   *
   * Errors: `ERR_CHANGE_COUNTER` with `reason` `unknown` or `other-card`; `ERR_ARGUMENT`; and what the store reports.
   *
   * @example
   * ```ts
   * const pcc = await counter.pccOf({ cardId, intdatag })
   * ```
   */
  async pccOf(issued: Pick<AcceptRequest, 'cardId' | 'intdatag'>): Promise<string> {
    const { cardId, tag } = readTag(issued)
    return this.#orOtherCard({ cardId, tag }, () =>
      this.#update(cardId, state => {
        const entry = state?.issued.find(candidate => candidate.tag === tag)
        if (entry === undefined) throw new ChangeCounterError('unknown')
        return { next: undefined, result: showPcc(entry.pcc) }
      }),
    )
  }

  /**
   * Ends whatever is open or claimed for a card, and begins a new epoch of its sequence: an operator's, where the card's
   * counter is in doubt. False: the card has no record.
   *
   * Errors: `ERR_ARGUMENT`, `ERR_BACKEND_BUSY`, and what the store reports.
   *
   * @example
   * ```ts
   * await counter.supersede({ cardId })
   * ```
   */
  async supersede(input: SupersedeInput): Promise<boolean> {
    const { cardId, skip = 0 } = readOptions(input, 'supersede', ['cardId', 'skip'])
    requireCardId(cardId)
    return this.#supersede(cardId, readWhole(skip, 'skip', SKIP))
  }

  /**
   * {@link ChangeCounter.supersede} for every card of the store, in pages: after a backup was restored, before the service
   * answers. An older counter would else give out again what was used since; `skip` moves each PCC on by so much.
   * Interrupted, it may simply be run again; a card then skips again.
   *
   * Errors: `ERR_ARGUMENT`, `ERR_ABORTED`, `ERR_BACKEND_BUSY`, and what the store reports.
   *
   * @example
   * ```ts
   * await counter.supersedeAll({ skip: 1, onProgress: cards => console.log(`${cards} cards`) })
   * ```
   */
  async supersedeAll(input: SupersedeAllInput = {}, options?: CallOptions): Promise<number> {
    const { skip = 0, onProgress } = readOptions(input, 'supersedeAll', ['skip', 'onProgress'])
    readWhole(skip, 'skip', SKIP)
    requireCallback(onProgress, 'onProgress')
    const signal = requireSignal(options)
    let [cards, after] = [0, CARD_PREFIX]
    for (;;) {
      throwIfAborted(signal)
      const keys = await this.#options.store.keys({ prefix: CARD_PREFIX, after, limit: PAGE })
      for (const key of keys) {
        throwIfAborted(signal)
        if (await this.#supersede(key.slice(CARD_PREFIX.length), skip)) cards++
      }
      onProgress?.(cards)
      if (keys.length < PAGE) return cards
      after = keys.at(-1) as string
    }
  }

  /**
   * Gives a card whose counter is exhausted (9999, `wrap: 'refuse'`) a new PCC: an operator's, once the scheme says how
   * the card goes on. Whatever was open is superseded; the sequence goes on in a new epoch.
   *
   * Errors: `ERR_ARGUMENT` (also for a card that is not exhausted), `ERR_CHANGE_COUNTER` (`unknown`: it has no record),
   * `ERR_BACKEND_BUSY`, and what the store reports.
   *
   * @example
   * ```ts
   * await counter.restart({ cardId, pcc: '0001' })
   * ```
   */
  async restart(input: { readonly cardId: string; readonly pcc: string }): Promise<void> {
    const { cardId, pcc } = readOptions(input, 'restart', ['cardId', 'pcc'])
    requireCardId(cardId)
    const from = readPcc(pcc, 'pcc must be')
    await this.#update(cardId, state => {
      if (state === undefined) throw new ChangeCounterError('unknown')
      const next = restartStep(state, from, this.#policy)
      if (next === undefined) throw new ArgumentError('restart is for a card whose counter is exhausted')
      return { next, result: undefined }
    })
  }

  /**
   * Deletes what the store keeps of long expired intdatags, in batches, and says how many. A store of this library does so
   * by itself; with one of your own, run it now and then. It ends early, and goes on next time, once `budgetMs` are over.
   *
   * Errors: `ERR_ARGUMENT`, `ERR_ABORTED`, and what the store reports, such as `ERR_BACKEND_BUSY`.
   *
   * @example
   * ```ts
   * await counter.purge({ batch: 1000, budgetMs: 10_000 })
   * ```
   */
  async purge(input: PurgeInput = {}, options?: CallOptions): Promise<number> {
    const read = readOptions(input, 'purge', ['batch', 'budgetMs', 'onProgress'])
    const { batch = 1000, budgetMs = DEFAULTS.stores.purgeBudgetMs.value, onProgress } = read
    readWhole(batch, 'batch', [1, 100_000])
    readWhole(budgetMs, 'budgetMs', [1, 3_600_000])
    requireCallback(onProgress, 'onProgress')
    const signal = requireSignal(options)
    const end = systemClock.elapsed() + budgetMs
    let deleted = 0
    for (;;) {
      throwIfAborted(signal)
      const count = await this.#options.store.purge(this.#now(), { limit: batch })
      deleted += count
      onProgress?.(deleted)
      if (count < batch || systemClock.elapsed() >= end) return deleted
    }
  }

  #supersede(cardId: string, skip: number): Promise<boolean> {
    return supersedeCard(this.#options.store, cardId, { skip, policy: this.#policy })
  }

  /** The claim; only looked at unless `write` is given. */
  async #decide(
    cardId: string,
    claim: ClaimRequest,
    write?: { readonly signal: AbortSignal | undefined },
  ): Promise<Decided> {
    const decided = await this.#orOtherCard({ cardId, tag: claim.tag }, () =>
      this.#update(cardId, (state): Decision => {
        throwIfAborted(write?.signal)
        if (state === undefined) throw new ChangeCounterError('unknown')
        const now = this.#now()
        try {
          const { next, ...result } = claimStep(state, claim, now, this.#policy)
          // What was read may be lost yet: a repeated request is called accepted after a commit of its own.
          const touched = result.replayed && this.#options.store.commitsReplays === true ? state : undefined
          return { next: write && (next ?? touched), result }
        } catch (error) {
          if (!(error instanceof ChangeCounterError && error.reason === 'expired')) throw error
          return { next: expireStep(state, now), result: error }
        }
      }),
    )
    if (decided instanceof ChangeCounterError) throw decided
    return decided
  }

  /** Where a card does not know an intdatag: says whether another one does. */
  async #orOtherCard<T>(
    { cardId, tag }: { readonly cardId: string; readonly tag: string },
    look: () => Promise<T>,
  ): Promise<T> {
    try {
      return await look()
    } catch (error) {
      if (!(error instanceof ChangeCounterError && error.reason === 'unknown')) throw error
      const owner = await this.#options.store.read(tagKey(tag))
      throw owner !== undefined && owner.value !== cardId ? new ChangeCounterError('other-card') : error
    }
  }

  #update<T>(cardId: string, decide: Decide<T>): Promise<T> {
    return update(this.#options.store, cardId, decide)
  }

  async #firstState(cardId: string): Promise<CardState> {
    const { firstPcc } = this.#options
    const pcc = typeof firstPcc === 'string' ? firstPcc : await firstPcc(cardId)
    return { pcc: readPcc(pcc, 'firstPcc must give'), sequence: 0, issued: [] }
  }

  #now(): number {
    const now = (this.#options.now ?? systemClock.now)()
    // With a clock that gives no number nothing would ever expire.
    if (!Number.isSafeInteger(now))
      throw new BackendError('ERR_BACKEND_FAILED', 'the clock gives no whole number')
    return now
  }
}

/** What a claim comes to; a refusal is handed out where something is to be written before it is thrown. */
interface Decision {
  readonly next: CardState | undefined
  readonly result: Decided | ChangeCounterError
}

interface Decided extends Accepted {
  readonly entry: Issued
}

type MaybeLater<T> = T | Promise<T>
type Decide<T> = (state: CardState | undefined) => MaybeLater<{ next: CardState | undefined; result: T }>

function repeated(): BackendError {
  return new BackendError('ERR_BACKEND_FAILED', 'the random generator repeats itself')
}

/** Reads, decides, writes; begins again where somebody else wrote in between. Without `next`, nothing is written. */
async function update<T>(
  store: ChangeCounterStore,
  cardId: string,
  decide: Decide<T>,
  /** The index of an intdatag, to be written with the card's record by a store that can. */
  index?: RecordWrite,
): Promise<T> {
  const key = cardKey(cardId)
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const record = await store.read(key)
    const state = record && enterInstance(readState(record.value), record.instance)
    const { next, result } = await decide(state)
    if (next === undefined) return result
    const instance = record === undefined ? await store.instance?.() : record.instance
    const write: RecordWrite = {
      key,
      expected: record?.version,
      value: showState(state === undefined ? stamped(next, instance) : next),
      ...(instance !== undefined && { instance }),
    }
    if (index === undefined) {
      if (await writeOne(store, write)) return result
      continue
    }
    if (await store.compareAndSetAll?.([index, write])) return result
    if ((await store.read(index.key)) !== undefined) throw repeated()
  }
  throw new BackendError('ERR_BACKEND_BUSY', 'the record of the card is busy', { retryable: true })
}

function writeOne(
  store: ChangeCounterStore,
  { key, expected, value, ...options }: RecordWrite,
): Promise<boolean> {
  return store.compareAndSet(key, expected, value, options)
}

/** Where nothing is skipped, what comes after 9999 does not matter. */
const NO_SKIP = { skip: 0, policy: { rule: 'increment-on-accept', wrap: 'refuse' } } as const

/**
 * {@link ChangeCounter.supersede} for whoever has the store of a counter, and not the counter: a store of PINs that is
 * given one by another way than D1's. False: the card has no record.
 */
export function supersedeCard(
  store: ChangeCounterStore,
  cardId: string,
  { skip, policy }: { readonly skip: number; readonly policy: PccPolicy } = NO_SKIP,
): Promise<boolean> {
  return update(store, cardId, state => ({
    next: state && supersedeStep(state, skip, policy),
    result: state !== undefined,
  }))
}

/** The key of a card's record in the store of its counter. */
export function cardKey(cardId: string): string {
  return `${CARD_PREFIX}${cardId}`
}

/** A record that is made now, and all that it opened, belong to the instance that is about to write it. */
function stamped(state: CardState, instance: string | undefined): CardState {
  if (instance === undefined) return state
  return { ...state, instance, issued: state.issued.map(entry => ({ ...entry, instance })) }
}

function tagKey(tag: string): string {
  return `tag/${tag}`
}

function showPcc(pcc: number): string {
  return String(pcc).padStart(4, '0')
}
