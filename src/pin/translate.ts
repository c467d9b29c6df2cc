/** A PIN block from one key to another: with a check of the block on the way, or without a look at it. */

import { type Key, operationsOf, requireKey } from '../backend/key.js'
import { type CallOptions, readOptions } from '../base/arguments.js'
import { withWiped } from '../base/bytes.js'
import { requireUse } from '../key/usage.js'
import { blockBytesOf } from '../primitives/algorithms.js'
import { type Pan, requirePan } from '../primitives/pan.js'
import { readBlock } from './formats/format.js'
import type { PinBlockFormat } from './formats/formats.js'
import { requireFormatKey, requireTranslation } from './policy.js'

/** What {@link translatePinBlock} takes. */
export interface TranslatePinBlockInput {
  /** The PIN block enciphered under `from`: as long as its format's, 8 bytes for format 0. */
  readonly block: Uint8Array
  /** The PAN of the block, before and after: a translation does not change it. */
  readonly pan: Pan
  readonly fromFormat: PinBlockFormat
  readonly toFormat: PinBlockFormat
  /** A `pin-encryption` key bound with `hostDecipher: true`. */
  readonly from: Key
  /** A `pin-encryption` key; it may live in another backend. */
  readonly to: Key
}

/**
 * Translates a PIN block from one key to another and checks it on the way: control, length and filler for this PAN,
 * not the digits (a verdict on digits under chosen PANs gives the PIN away). The clear block stands in host memory
 * for the moment of the check and is wiped. Result: 8 bytes.
 *
 * Errors: `ERR_PIN_BLOCK`, `ERR_HOST_DECIPHER` (`from` was bound without `hostDecipher`),
 * `ERR_TRANSLATION_REFUSED`, `ERR_KEY_USAGE`, `ERR_KEY_ALGORITHM`, `ERR_ARGUMENT`, `ERR_ABORTED`, and what the backends report.
 * Sources: ISO 9564-1:2017, 9.4; PCI PIN v3.1, 3-3.
 *
 * @example
 * ```ts
 * const stored = await translatePinBlock({ block, pan, fromFormat: 0, toFormat: 0, from: zpk, to: storage })
 * ```
 */
export async function translatePinBlock(
  input: TranslatePinBlockInput,
  options?: CallOptions,
): Promise<Uint8Array> {
  const names = ['block', 'pan', 'fromFormat', 'toFormat', 'from', 'to'] as const
  const { block, pan, fromFormat, toFormat, from, to } = readOptions(input, 'translatePinBlock', names)
  requireKey(from, 'from')
  requireKey(to, 'to')
  const rows = requireTranslation(fromFormat, toFormat)
  // Before anything is deciphered: whether `to` can take the block must not depend on what the block holds.
  requireFormatKey(from, 'decipher', rows.from)
  requireFormatKey(to, 'encipher', rows.to)
  requirePan(pan)
  return translateChecked(
    { block: readBlock(block, rows.from), pan, fromFormat, toFormat, from, to },
    options,
  )
}

/** {@link translatePinBlock} on values that have been checked. */
export async function translateChecked(
  { block, pan, fromFormat, toFormat, from, to }: TranslatePinBlockInput,
  options: CallOptions | undefined,
): Promise<Uint8Array> {
  const rows = requireTranslation(fromFormat, toFormat)
  return withWiped(await operationsOf(from).decipher(block, options), clear => {
    // Same format, same PAN: the block that was checked is the block that would be built.
    rows.from.check({ block: clear, pan })
    return operationsOf(to).encipher(clear, options)
  })
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
 * `ERR_KEY_USAGE`, `ERR_ARGUMENT`, `ERR_ABORTED`, and what the backend reports.
 *
 * @example
 * ```ts
 * const out = await reencipherPinBlock({ block, from: zpk, to: storage })
 * ```
 */
export async function reencipherPinBlock(
  input: ReencipherPinBlockInput,
  options?: CallOptions,
): Promise<Uint8Array> {
  const { block, from, to } = readOptions(input, 'reencipherPinBlock', ['block', 'from', 'to'])
  requireKey(from, 'from')
  requireKey(to, 'to')
  requireUse(from, 'pin-block', 'decipher')
  requireUse(to, 'pin-block', 'encipher')
  const enciphered = readBlock(block, { bytes: blockBytesOf(from.algorithm) })
  return reencipherChecked({ block: enciphered, from, to }, options)
}

/** {@link reencipherPinBlock} on values that have been checked. */
export function reencipherChecked(
  { block, from, to }: ReencipherPinBlockInput,
  options: CallOptions | undefined,
): Promise<Uint8Array> {
  return operationsOf(from).reencipher(to, block, options)
}
