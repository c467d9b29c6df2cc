/**
 * The end of a key's cryptoperiod: every stored PIN block moves from one storage key to another, every PAN to another
 * sealing key, while the service runs. A block is replaced only if nobody wrote since it was listed, so that a Set PIN
 * that is acknowledged meanwhile stays. Nothing is remembered between two runs: what is left is what names the old key.
 *
 * Source: PCI PIN v3.1, 20 and 21 (keys are changed at the end of their cryptoperiod); NIST SP 800-57 part 1, 5.3.
 */
import { type Key, operationsOf, requireKey } from '../backend/key.js'
import {
  type CallOptions,
  readOptions,
  requireCallback,
  requireSignal,
  throwIfAborted,
} from '../base/arguments.js'
import { concatBytes, ownCopy, wipe } from '../base/bytes.js'
import { ArgumentError, KeyError } from '../base/errors.js'
import type { CardRef } from '../d1/endpoints/interfaces.js'
import { requireUse } from '../key/usage.js'
import { usualFormat } from '../pin/policy.js'
import { translatePinBlocks } from '../pin/translate.js'
import { isTdea } from '../primitives/algorithms.js'
import type { Pan } from '../primitives/pan.js'
import type { IssuerStore, ListedBlock } from './issuer-store.js'

const MAX_BATCH = 8192
/** What {@link translatePinBlocks} takes. */
const MAX_TRANSLATED = 4096

/** How far a rotation is. */
export interface RotationProgress {
  /** Moved by this call so far. */
  readonly moved: number
  /** Written by somebody else between list and replacement: they are looked at again. */
  readonly changed: number
}

/** What a rotation came to. */
export interface RotationResult extends RotationProgress {
  /** Blocks that are still under the old key. Only at 0 may it go. */
  readonly left: number
}

/** What {@link rotateStorageKey} takes. */
export interface RotateStorageKeyInput {
  readonly store: Pick<IssuerStore, 'pins'>
  /** The key that ends. In another backend than `to` it must be bound with `hostDecipher`. */
  readonly from: Key
  readonly to: Key
  /** Where one of the keys is an AES key: the PAN of a card, which the blocks of format 4 are bound to. */
  readonly panOf?: (card: CardRef, options: CallOptions) => Pan | Promise<Pan>
  /** Blocks of one call to the backend and one transaction: 1 to 8192; 500 where absent. */
  readonly batch?: number
  /** Called after each batch. */
  readonly onProgress?: (progress: RotationProgress) => void
}

/**
 * Moves every stored block from one storage key to another, in batches of one call to the backend. Every replica must
 * accept both keys before, and store under `to` already, or blocks of theirs come back under `from` (they are counted as
 * `left`). With an AES key, `panOf` says each card's PAN, and blocks move between formats 0 and 4 through host memory, which
 * `from` must allow. After a crash or an abort, run it again: it goes on with what is left.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_KEY_USAGE`, `ERR_HOST_DECIPHER` (two backends, or one that does not re-encipher inside,
 * and `from` without `hostDecipher`), `ERR_ABORTED` (between two batches), and what backend and store report.
 *
 * @example
 * ```ts
 * const store = memoryIssuerStore()
 * const from = await hsm.bind({ kid: 'STORE-1', usage: 'pin-encryption' })
 * const to = await hsm.bind({ kid: 'STORE-2', usage: 'pin-encryption' })
 * const { left } = await rotateStorageKey({ store, from, to })
 * ```
 */
export async function rotateStorageKey(
  input: RotateStorageKeyInput,
  options?: CallOptions,
): Promise<RotationResult> {
  const names = ['store', 'from', 'to', 'batch', 'panOf', 'onProgress'] as const
  const { store, from, to, batch = 500, panOf, onProgress } = readOptions(input, 'rotateStorageKey', names)
  if (typeof store?.pins?.replaceBlocks !== 'function')
    throw new ArgumentError('store must be an IssuerStore')
  requireKey(from, 'from')
  requireKey(to, 'to')
  requireUse(from, 'pin-block', 'decipher')
  requireUse(to, 'pin-block', 'encipher')
  if (from.kid === to.kid)
    throw new ArgumentError('from and to must have two kids: a block names its key by it')
  requireBatch(batch)
  requireCallback(onProgress, 'onProgress')
  const isAes = !isTdea(from.algorithm) || !isTdea(to.algorithm)
  if (isAes !== (typeof panOf === 'function')) {
    const problem = isAes
      ? 'an AES key takes panOf: its blocks are bound to the PAN'
      : 'panOf is for AES keys'
    throw new ArgumentError(problem)
  }
  const limit = isAes ? Math.min(batch, MAX_TRANSLATED) : batch
  const signal = requireSignal(options)
  const { pins } = store
  let progress: RotationProgress = { moved: 0, changed: 0 }
  for (;;) {
    const before = progress
    let after: CardRef | undefined
    for (;;) {
      throwIfAborted(signal)
      const page = { kid: from.kid, limit, ...(after !== undefined && { after }) }
      const listed = await pins.listBlocks(page, options)
      after = listed.at(-1)?.card
      if (after === undefined) break
      const next = await reencipherAll(listed, { from, to, panOf }, options)
      const replaced = next.length === 0 ? [] : await pins.replaceBlocks(next)
      const moved = replaced.filter(Boolean).length
      progress = { moved: progress.moved + moved, changed: progress.changed + next.length - moved }
      onProgress?.(progress)
    }
    const left = (await pins.countBlocks(options)).find(({ kid }) => kid === from.kid)?.blocks ?? 0
    // A pass that moved nothing will not move more: somebody stores under the old key all the time.
    if (left === 0 || progress.moved === before.moved) return { ...progress, left }
  }
}

interface Keys {
  readonly from: Key
  readonly to: Key
  readonly panOf: RotateStorageKeyInput['panOf']
}

async function reencipherAll(
  listed: readonly ListedBlock[],
  { from, to, panOf }: Keys,
  options: CallOptions | undefined,
) {
  if (panOf !== undefined) return translateAll(listed, { from, to, panOf }, options)
  const moved = await reencipher(concatBytes(...listed.map(({ block }) => block)), { from, to }, options)
  let offset = 0
  return listed.map(({ card, block: { length }, version }) => {
    const block = ownCopy(moved.subarray(offset, offset + length))
    offset += length
    return { card, pin: { block, kid: to.kid }, version }
  })
}

/** With the PANs, through host memory. A block that is not one for its card's PAN stays where it is, and is counted as left. */
async function translateAll(
  listed: readonly ListedBlock[],
  { from, to, panOf }: Keys & { readonly panOf: NonNullable<RotateStorageKeyInput['panOf']> },
  options: CallOptions = {},
) {
  const blocks: { block: Uint8Array; pan: Pan }[] = []
  for (const { card, block } of listed) blocks.push({ block, pan: await panOf(card, options) })
  const way = { from, to, fromFormat: usualFormat(from), toFormat: usualFormat(to) }
  const moved = await translatePinBlocks({ blocks, ...way }, options)
  return listed.flatMap(({ card, version }, i) => {
    const result = moved[i]
    return result?.ok ? [{ card, pin: { block: result.block, kid: to.kid }, version }] : []
  })
}

/** Inside the backend where both keys are there; through host memory, if `from` allows it, where they are not. */
async function reencipher(
  blocks: Uint8Array,
  { from, to }: { readonly from: Key; readonly to: Key },
  options: CallOptions | undefined,
): Promise<Uint8Array> {
  try {
    return await operationsOf(from).reencipher(to, blocks, options)
  } catch (error) {
    if (!(error instanceof KeyError && error.code === 'ERR_KEY_FOREIGN')) throw error
  }
  const clear = await operationsOf(from).decipher(blocks, options)
  try {
    return await operationsOf(to).encipher(clear, options)
  } finally {
    wipe(clear)
  }
}

/** What {@link resealPans} takes. */
export interface ResealPansInput {
  /** Opened with a `panSealer` whose first key is the new one, and which still has the old one. */
  readonly store: Pick<IssuerStore, 'cards'>
  /** Cards of one transaction: 1 to 8192; 500 where absent. */
  readonly batch?: number
  /** Go on behind this card: the last one that `onProgress` named before an interruption. */
  readonly after?: CardRef
  /** Called after each batch with the cards so far, and the last of them. */
  readonly onProgress?: (cards: number, last: CardRef) => void
}

/**
 * Seals every PAN under the first key of the store's sealer, in batches, and says how many cards it passed; those that are
 * sealed under it already are not written. Once it is through, the old key may go from the sealer.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_KEY_NOT_FOUND` (a PAN is sealed under a key that is gone), `ERR_ABORTED` (between two
 * batches), and what sealer and store report.
 *
 * @example
 * ```ts
 * const store = memoryIssuerStore()
 * const cards = await resealPans({ store })
 * ```
 */
export async function resealPans(input: ResealPansInput, options?: CallOptions): Promise<number> {
  const names = ['store', 'batch', 'after', 'onProgress'] as const
  const { store, batch = 500, onProgress, ...from } = readOptions(input, 'resealPans', names)
  if (typeof store?.cards?.reseal !== 'function') throw new ArgumentError('store must be an IssuerStore')
  requireBatch(batch)
  requireCallback(onProgress, 'onProgress')
  const signal = requireSignal(options)
  let { after } = from
  for (let cards = 0; ; ) {
    throwIfAborted(signal)
    const page = { limit: batch, ...(after !== undefined && { after }) }
    const passed = await store.cards.reseal(page, options)
    after = passed.at(-1)
    if (after === undefined) return cards
    cards += passed.length
    onProgress?.(cards, after)
  }
}

/** What {@link resealRows} takes. */
export interface ResealRowsInput {
  /** Opened with a `rowSealer` whose first key is the new one, and which still has the old one. */
  readonly store: Pick<IssuerStore, 'seals'>
  /** Cards of one step: 1 to 8192; 500 where absent. */
  readonly batch?: number
  /** Go on behind this card: the last one that `onProgress` named before an interruption. */
  readonly after?: CardRef
  /** Called after each batch with the cards so far, and the last of them. */
  readonly onProgress?: (cards: number, last: CardRef) => void
}

/**
 * Verifies what is kept of every card, and seals it under the first key of the store's `rowSealer` where it is sealed under
 * another one, or, with `acceptUnsealed`, not yet. Says how many cards it passed. Run again, it verifies the whole database.
 *
 * Errors: `ERR_ARGUMENT` (also for a store without seals), `ERR_BACKEND_FAILED` (rows that do not match their seal),
 * `ERR_KEY_NOT_FOUND` (a seal under a key that is gone), `ERR_ABORTED` (between two batches), and what sealer and store report.
 *
 * @example
 * ```ts
 * const cards = await resealRows({ store: issuerStore })
 * const left = await issuerStore.seals?.count()
 * ```
 */
export async function resealRows(input: ResealRowsInput, options?: CallOptions): Promise<number> {
  const names = ['store', 'batch', 'after', 'onProgress'] as const
  const { store, batch = 500, onProgress, ...from } = readOptions(input, 'resealRows', names)
  const seals = store?.seals
  if (typeof seals?.reseal !== 'function') {
    throw new ArgumentError('store must be an IssuerStore that was opened with a rowSealer')
  }
  requireBatch(batch)
  requireCallback(onProgress, 'onProgress')
  const signal = requireSignal(options)
  let { after } = from
  let cards = 0
  for (;;) {
    throwIfAborted(signal)
    const passed = await seals.reseal({ limit: batch, ...(after !== undefined && { after }) })
    after = passed.at(-1)
    if (after === undefined) break
    cards += passed.length
    onProgress?.(cards, after)
  }
  let digest: string | undefined
  do {
    throwIfAborted(signal)
    digest = await seals.resealRequests({ limit: batch, ...(digest !== undefined && { after: digest }) })
  } while (digest !== undefined)
  return cards
}

function requireBatch(batch: unknown): void {
  if (typeof batch === 'number' && Number.isInteger(batch) && batch >= 1 && batch <= MAX_BATCH) return
  throw new ArgumentError(`batch must be a whole number from 1 to ${MAX_BATCH}`)
}
