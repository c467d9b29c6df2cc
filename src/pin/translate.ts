/** A PIN block from one key to another: with a check of the block on the way, or without a look at it. */

import { type Key, operationsOf, requireKey } from '../backend/key.js'
import { type CallOptions, readOptions } from '../base/arguments.js'
import { concatBytes, isPlainBytes, ownCopy, snapshot, wipe, withWiped } from '../base/bytes.js'
import {
  ArgumentError,
  InputError,
  KeyError,
  PinBlockError,
  requireOurs,
  TranslationError,
} from '../base/errors.js'
import { type Pan, requirePan } from '../primitives/pan.js'
import { type BlockItem, decipherClear } from './decipher.js'
import { type Clear, encipherClear, roomFor } from './encipher.js'
import { type FormatRow, readBlock } from './formats/format.js'
import { FORMATS, type PinBlockFormat } from './formats/formats.js'
import { requireFormatKey, requireTranslation } from './policy.js'

/** Between which formats and keys a translation goes. */
export interface TranslationWay {
  readonly fromFormat: PinBlockFormat
  readonly toFormat: PinBlockFormat
  /** A `pin-encryption` key bound with `hostDecipher: true`; without it where `requireInToken` is true. */
  readonly from: Key
  /** A `pin-encryption` key; it may live in another backend, but for `requireInToken`. */
  readonly to: Key
  /**
   * Refuses to read the block in host memory (`ERR_HOST_DECIPHER`): only a format 0 block that stays one, from key to key of one
   * token, and unchecked.
   */
  readonly requireInToken?: boolean
}

/** What {@link translatePinBlock} takes. */
export interface TranslatePinBlockInput extends TranslationWay {
  /** The PIN block enciphered under `from`: as long as its format's, 8 bytes, 16 in format 4. */
  readonly block: Uint8Array
  /** The PAN of the block, before and after: a translation does not change it. */
  readonly pan: Pan
}

/**
 * Translates a PIN block from one key, and one format, to another, and checks it on the way: control, length and filler for this
 * PAN, not the digits (a verdict on digits under chosen PANs gives the PIN away). The clear block is in host memory for the
 * moment of the check and is wiped. Result: 8 bytes, 16 in format 4.
 *
 * Errors: `ERR_PIN_BLOCK`, `ERR_HOST_DECIPHER` (`from` was bound without `hostDecipher`, or `requireInToken` cannot be had),
 * `ERR_TRANSLATION_REFUSED`, `ERR_KEY_USAGE`, `ERR_KEY_ALGORITHM`, `ERR_ARGUMENT`, `ERR_ABORTED`, and what the backends report.
 * Sources: ISO 9564-1:2017, 9.4; PCI PIN v3.1, 3-3.
 *
 * @example
 * ```ts
 * const stored = await translatePinBlock({ block, pan, fromFormat: 0, toFormat: 4, from: zpk, to: storage })
 * ```
 */
export async function translatePinBlock(
  input: TranslatePinBlockInput,
  options?: CallOptions,
): Promise<Uint8Array> {
  const { block, pan, ...way } = readOptions(input, 'translatePinBlock', [...WAY, 'block', 'pan'])
  const checked = readWay(way)
  requirePan(pan)
  return translateOne(checked, { block: readBlock(block, checked.rows.from), pan, toPan: pan }, options)
}

/** {@link translatePinBlock} on values that have been checked, in host memory. */
export async function translateChecked(
  { block, pan, fromFormat, toFormat, from, to }: Omit<TranslatePinBlockInput, 'requireInToken'>,
  options: CallOptions | undefined,
): Promise<Uint8Array> {
  const way = { from, to, rows: requireTranslation(fromFormat, toFormat), inToken: false }
  return translateOne(way, { block, pan, toPan: pan }, options)
}

/** What {@link translatePinBlocks} takes: 1 to 4096 blocks, under one key, in one format. */
export interface TranslatePinBlocksInput extends TranslationWay {
  readonly blocks: readonly { readonly block: Uint8Array; readonly pan: Pan }[]
}

/** What became of one block of a batch: a block, or the one error for a bad one. */
export type TranslatedBlock =
  | { readonly ok: true; readonly block: Uint8Array }
  | { readonly ok: false; readonly error: PinBlockError }

/**
 * {@link translatePinBlock} for 1 to 4096 blocks in one call of the backend each way. Each block has its own result, in the order
 * given; a bad one fails alone, and its error does not tell which check it was.
 *
 * Errors: as {@link translatePinBlock}, for the whole batch; `ERR_LENGTH` for none or more than 4096. A block that is not one for its
 * PAN, or is too short, is `{ ok: false }` in the result, with `ERR_PIN_BLOCK`.
 *
 * @example
 * ```ts
 * for (const one of await translatePinBlocks({ blocks, fromFormat: 0, toFormat: 4, from: zpk, to: storage })) {
 *   if (one.ok) keep(one.block)
 * }
 * ```
 */
export async function translatePinBlocks(
  input: TranslatePinBlocksInput,
  options?: CallOptions,
): Promise<TranslatedBlock[]> {
  const { blocks, ...way } = readOptions(input, 'translatePinBlocks', [...WAY, 'blocks'])
  const checked = readWay(way)
  if (!Array.isArray(blocks)) throw new ArgumentError('blocks must be an array')
  if (blocks.length < 1 || blocks.length > MAX_BLOCKS) {
    throw new InputError('ERR_LENGTH', `blocks: ${blocks.length}, expected 1 to ${MAX_BLOCKS}`)
  }
  const items = [...blocks].map((entry: TranslatePinBlocksInput['blocks'][number]) => {
    const { block, pan } = readOptions(entry, 'an entry of blocks', ['block', 'pan'])
    requirePan(pan)
    return { block: snapshot(block, 'block'), pan, toPan: pan }
  })
  return translateMany(checked, items, options)
}

/** What {@link rePanPinBlock} takes. */
export interface RePanPinBlockInput extends Omit<TranslationWay, 'requireInToken'> {
  readonly block: Uint8Array
  /** The PAN of the card that is replaced. */
  readonly pan: Pan
  /** The PAN of the card that replaces it. */
  readonly newPan: Pan
}

/**
 * Moves a PIN to another PAN: for the issuance of a replacement card that keeps its PIN, and for nothing else. A service that answers
 * others must not offer it: who may choose the PAN of a block can find out its PIN. That is why no other verb changes a PAN.
 *
 * Errors: as {@link translatePinBlock}: `ERR_PIN_BLOCK`, `ERR_TRANSLATION_REFUSED` (format 1 is bound to no PAN, so it cannot be
 * moved to another), `ERR_HOST_DECIPHER`, `ERR_KEY_USAGE`, `ERR_KEY_ALGORITHM`, `ERR_ARGUMENT`. Source: PCI PIN v3.1, 3-3 (card issuance).
 *
 * @example
 * ```ts
 * const block = await rePanPinBlock({ block: oldBlock, pan, newPan, fromFormat: 4, toFormat: 4, from: storage, to: storage })
 * ```
 */
export async function rePanPinBlock(input: RePanPinBlockInput, options?: CallOptions): Promise<Uint8Array> {
  const names = ['fromFormat', 'toFormat', 'from', 'to', 'block', 'pan', 'newPan'] as const
  const { block, pan, newPan, ...way } = readOptions(input, 'rePanPinBlock', names)
  const checked = readWay({ ...way, requireInToken: false })
  if (!checked.rows.from.bound) {
    const problem = 'a format 1 block is bound to no PAN, so it is not moved from one to another'
    throw new TranslationError('ERR_TRANSLATION_REFUSED', problem)
  }
  requirePan(pan)
  requirePan(newPan)
  const item = { block: readBlock(block, checked.rows.from), pan, toPan: newPan }
  return translateOne(checked, item, options)
}

const WAY = ['fromFormat', 'toFormat', 'from', 'to', 'requireInToken'] as const
/** 4096 blocks of 16 bytes are what the port takes in one call. */
const MAX_BLOCKS = 4096

interface ReadWay {
  readonly from: Key
  readonly to: Key
  readonly rows: { readonly from: FormatRow; readonly to: FormatRow }
  readonly inToken: boolean
}

interface Item extends BlockItem {
  /** Another than `pan` where a card is replaced. */
  readonly toPan: Pan
}

/** Before anything is deciphered: whether `to` can take the block must not depend on what the block holds. */
function readWay({ fromFormat, toFormat, from, to, requireInToken = false }: TranslationWay): ReadWay {
  requireKey(from, 'from')
  requireKey(to, 'to')
  const rows = requireTranslation(fromFormat, toFormat)
  requireFormatKey(from, 'decipher', rows.from)
  requireFormatKey(to, 'encipher', rows.to)
  if (typeof requireInToken !== 'boolean') throw new ArgumentError('requireInToken must be a boolean')
  // One PIN has one block in format 0, so the block that goes in is the one that comes out; others would be read and built anew.
  if (requireInToken && (fromFormat !== 0 || toFormat !== 0)) {
    const problem = `key ${from.kid}: format ${fromFormat} to format ${toFormat} is made in host memory, which requireInToken refuses`
    throw new KeyError('ERR_HOST_DECIPHER', problem, from.kid)
  }
  return { from, to, rows, inToken: requireInToken }
}

async function translateOne(way: ReadWay, item: Item, options: CallOptions | undefined): Promise<Uint8Array> {
  const [result] = (await translateMany(way, [item], options)) as [TranslatedBlock]
  if (result.ok) return result.block
  throw result.error
}

/** One call of the backend each way, however many there are; what has the wrong length does not get so far. */
async function translateMany(
  { from, to, rows, inToken }: ReadWay,
  items: readonly Item[],
  options: CallOptions | undefined,
): Promise<TranslatedBlock[]> {
  const results = new Array<TranslatedBlock | undefined>(items.length).fill(undefined)
  const whole = items
    .map((item, at) => ({ ...item, at }))
    .filter(({ block }) => block.length === rows.from.bytes)
  if (whole.length === 0) return results.map(orBad)
  const [out, good] = inToken
    ? [await reencipherInside({ from, to }, whole, options), whole]
    : await translateHere({ from, to, rows }, whole, options)
  for (const [i, { at }] of good.entries()) {
    results[at] = { ok: true, block: ownCopy(out.subarray(i * rows.to.bytes, (i + 1) * rows.to.bytes)) }
  }
  return results.map(orBad)
}

/** An error is made for those that have one: its stack takes longer than a block's two ciphers. */
function orBad(result: TranslatedBlock | undefined): TranslatedBlock {
  return result ?? { ok: false, error: new PinBlockError() }
}

function reencipherInside(
  { from, to }: Pick<ReadWay, 'from' | 'to'>,
  items: readonly Item[],
  options: CallOptions | undefined,
): Promise<Uint8Array> {
  const blocks = concatBytes(...items.map(({ block }) => block))
  return operationsOf(from).reencipher(to, blocks, options, { inside: true })
}

/** In host memory: the new blocks of the items that had sound ones, and which these are. */
async function translateHere<Of extends Item>(
  { from, to, rows }: Omit<ReadWay, 'inToken'>,
  items: readonly Of[],
  options: CallOptions | undefined,
): Promise<readonly [Uint8Array, readonly Of[]]> {
  const good: Of[] = []
  const room = roomFor(rows.to, items.length)
  try {
    await withWiped(await decipherClear(from, rows.from, items, options), opened => {
      for (const [i, item] of items.entries()) {
        const block = opened.subarray(i * rows.from.bytes, (i + 1) * rows.from.bytes)
        const at = good.length * rows.to.bytes
        if (rebuild(rows, { block, pan: item.pan }, item.toPan, room, at)) good.push(item)
      }
    })
    if (good.length === 0) return [room.blocks, good]
    const bytes = good.length * rows.to.bytes
    const clear = { blocks: room.blocks.subarray(0, bytes), fields: room.fields.subarray(0, bytes) }
    return [await encipherClear(to, clear, options), good]
  } finally {
    wipe(room.blocks, room.fields)
  }
}

/** Writes the block anew in the other format; false where it is not one for its PAN. The digits are handed on unread. */
function rebuild(rows: ReadWay['rows'], clear: BlockItem, toPan: Pan, room: Clear, at: number): boolean {
  let digits: Uint8Array | undefined
  try {
    digits = rows.from.nibbles(clear)
    rows.to.write(digits, toPan, room.blocks, at)
    rows.to.panField?.(toPan, room.fields, at)
    return true
  } catch (error) {
    requireOurs(error, 'ERR_PIN_BLOCK')
    return false
  } finally {
    wipe(digits)
  }
}

/** What {@link reencipherPinBlock} takes. */
export interface ReencipherPinBlockInput {
  /** The PIN block enciphered under `from`: 8 bytes. */
  readonly block: Uint8Array
  readonly from: Key
  /** A key of the same backend as `from`. */
  readonly to: Key
}

/**
 * Re-enciphers a PIN block without looking at it: same format, same PAN, and no check that it is a PIN block at all.
 * Where the token can (`capabilities().reencipher === 'inside'`), the clear block never reaches the host; elsewhere
 * `from` must be bound with `hostDecipher`. Result: 8 bytes.
 *
 * Errors: `ERR_PIN_BLOCK` (not 8 bytes), `ERR_HOST_DECIPHER`, `ERR_KEY_FOREIGN` (keys of two backends),
 * `ERR_KEY_USAGE`, `ERR_KEY_ALGORITHM` (AES: a format 4 block cannot be moved without its PAN), `ERR_ARGUMENT`, `ERR_ABORTED`,
 * and what the backend reports.
 *
 * @example
 * ```ts
 * const out = await reencipherPinBlock({ block, from: zpk, to: storage })
 * ```
 */
export function reencipherPinBlock(
  input: ReencipherPinBlockInput,
  options?: CallOptions,
): Promise<Uint8Array> {
  try {
    const { block, from, to } = readOptions(input, 'reencipherPinBlock', ['block', 'from', 'to'])
    requireKey(from, 'from')
    requireKey(to, 'to')
    // The block's second field is the PAN, between two encipherments: without it no AES block can be moved.
    requireFormatKey(from, 'decipher', FORMATS[0])
    requireFormatKey(to, 'encipher', FORMATS[0])
    // The port takes a copy wherever it has to; a copy here as well costs as much as the cipher.
    const given =
      isPlainBytes(block) && block.length === FORMATS[0].bytes ? block : readBlock(block, FORMATS[0])
    return reencipherChecked({ block: given, from, to }, options)
  } catch (error) {
    return Promise.reject(error)
  }
}

/** {@link reencipherPinBlock} on values that have been checked. */
export function reencipherChecked(
  { block, from, to }: ReencipherPinBlockInput,
  options: CallOptions | undefined,
): Promise<Uint8Array> {
  return operationsOf(from).reencipher(to, block, options)
}
