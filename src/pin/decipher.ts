/** Deciphering a PIN block: the one verb that hands out a clear PIN. */

import { type Key, operationsOf, requireKey } from '../backend/key.js'
import { type CallOptions, readOptions } from '../base/arguments.js'
import { copyInto, wipe, withWiped } from '../base/bytes.js'
import { type Pan, requirePan } from '../primitives/pan.js'
import type { Pin } from '../primitives/pin.js'
import { roomFor } from './encipher.js'
import { type FormatRow, readBlock } from './formats/format.js'
import { FORMATS, requireFormat, type SupportedFormat } from './formats/formats.js'
import { requireFormatKey } from './policy.js'

/** What {@link decipherPin} takes. */
export interface DecipherPinInput {
  /** The enciphered PIN block: 8 bytes, 16 in format 4. */
  readonly block: Uint8Array
  /** The card's PAN. Format 1 is not bound to it. */
  readonly pan: Pan
  readonly format: SupportedFormat
  /** A `pin-encryption` key bound with `hostDecipher: true`. */
  readonly key: Key
}

/**
 * Deciphers a PIN block and hands out the clear PIN, which is then in host memory: dispose of it.
 *
 * A wrong key, a damaged block and a wrong PAN are one error, `ERR_PIN_BLOCK`, as far as the format can notice them. Formats 0 and
 * 3 hold only the 12 PAN digits before the check digit, so a PAN that differs elsewhere is not wrong to them, and a short PIN
 * leaves a few of the 12 unbound. The filler of format 3 is random: one wrong digit that meets it stays unseen 252 times in 540, and the
 * PIN is the right one then; format 4 is bound to the whole PAN; format 1 to none. Others: `ERR_ARGUMENT`,
 * `ERR_HOST_DECIPHER` (the key was bound without `hostDecipher`), `ERR_KEY_USAGE`, `ERR_KEY_ALGORITHM`, `ERR_ABORTED`, and what the
 * backend reports. Source: ISO 9564-1:2017, 9.3 and 9.4.
 *
 * @example
 * ```ts
 * using pin = await decipherPin({ block, pan, format: 0, key: zpk })
 * ```
 */
export async function decipherPin(input: DecipherPinInput, options?: CallOptions): Promise<Pin> {
  const { block, pan, format, key } = readOptions(input, 'decipherPin', ['block', 'pan', 'format', 'key'])
  requireKey(key, 'key')
  requireFormat(format, 'format')
  const row = FORMATS[format]
  requireFormatKey(key, 'decipher', row)
  requirePan(pan)
  return decipherChecked({ block: readBlock(block, row), pan, format, key }, options)
}

/** {@link decipherPin} on values that have been checked. */
export async function decipherChecked(
  { block, pan, format, key }: DecipherPinInput,
  options: CallOptions | undefined,
): Promise<Pin> {
  const row = FORMATS[format]
  // What goes to the backend alone and as it is needs no memory of its own on the way.
  const clear = await (row.panField === undefined
    ? operationsOf(key).decipher(block, options)
    : decipherClear(key, row, [{ block, pan }], options))
  return withWiped(clear, one => row.parse({ block: one, pan }))
}

/** One enciphered block, of the length of its format, and the PAN it is for. */
export interface BlockItem {
  readonly block: Uint8Array
  readonly pan: Pan
}

/** The clear blocks of many, one after the other, by one call of the backend. The caller wipes them. */
export async function decipherClear(
  key: Key,
  row: FormatRow,
  items: readonly BlockItem[],
  options: CallOptions | undefined,
): Promise<Uint8Array> {
  const { blocks, fields } = roomFor(row, items.length)
  try {
    for (const [i, { block, pan }] of items.entries()) {
      copyInto(blocks, block, i * row.bytes)
      row.panField?.(pan, fields, i * row.bytes)
    }
    return await (fields.length === 0
      ? operationsOf(key).decipher(blocks, options)
      : operationsOf(key).decipherBound(blocks, fields, options))
  } finally {
    wipe(blocks, fields)
  }
}
