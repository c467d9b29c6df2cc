/** Deciphering a PIN block: the one verb that hands out a clear PIN. */

import { type Key, operationsOf, requireKey } from '../backend/key.js'
import { type CallOptions, readOptions } from '../base/arguments.js'
import { withWiped } from '../base/bytes.js'
import { type Pan, requirePan } from '../primitives/pan.js'
import type { Pin } from '../primitives/pin.js'
import { readBlock } from './formats/format.js'
import { FORMATS, requireFormat, type SupportedFormat } from './formats/formats.js'
import { requireFormatKey } from './policy.js'

/** What {@link decipherPin} takes. */
export interface DecipherPinInput {
  /** The enciphered PIN block: as long as the format's, 8 bytes for format 0. */
  readonly block: Uint8Array
  readonly pan: Pan
  readonly format: SupportedFormat
  /** A `pin-encryption` key bound with `hostDecipher: true`. */
  readonly key: Key
}

/**
 * Deciphers a PIN block and hands out the clear PIN, which then stands in host memory: dispose of it.
 *
 * A wrong key, a damaged block and a wrong PAN are one error, `ERR_PIN_BLOCK`, as far as format 0 can notice them: the
 * block holds only the 12 PAN digits before the check digit, so a PAN that differs elsewhere is not wrong to it, and a
 * short PIN leaves a few of the 12 unbound. Others: `ERR_ARGUMENT`,
 * `ERR_HOST_DECIPHER` (the key was bound without `hostDecipher`), `ERR_KEY_USAGE`, `ERR_KEY_ALGORITHM`, `ERR_ABORTED`, and what the
 * backend reports. Source: ISO 9564-1:2017, 9.3.2 (format 0).
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
  requireFormatKey(key, 'decipher', FORMATS[format])
  requirePan(pan)
  return decipherChecked({ block: readBlock(block, FORMATS[format]), pan, format, key }, options)
}

/** {@link decipherPin} on values that have been checked. */
export async function decipherChecked(
  { block, pan, format, key }: DecipherPinInput,
  options: CallOptions | undefined,
): Promise<Pin> {
  return withWiped(await operationsOf(key).decipher(block, options), clear =>
    FORMATS[format].parse({ block: clear, pan }),
  )
}
