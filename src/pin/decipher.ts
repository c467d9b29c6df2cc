import type { CallOptions } from '../backend/backend.js'
import { requireBytes, wipe } from '../bytes.js'
import { ArgumentError, PinBlockError } from '../errors.js'
import type { Key } from '../key/key.js'
import { requireKey } from '../key/require.js'
import { parseFormat0 } from './format0.js'
import { type Pan, requirePan } from './pan.js'
import type { Pin } from './pin.js'
import { requireFormat, type SupportedFormat } from './policy.js'

/** What {@link decipherPin} takes. */
export interface DecipherPinInput {
  /** The enciphered PIN block: 8 bytes. */
  readonly block: Uint8Array
  readonly pan: Pan
  readonly format: SupportedFormat
  /** A `pin-encryption` key bound with `hostDecipher: true`. */
  readonly key: Key
}

/**
 * Deciphers a PIN block and hands out the clear PIN, which then stands in host memory: dispose of it.
 *
 * A wrong key, a wrong PAN and a damaged block are one error, `ERR_PIN_BLOCK`. Others: `ERR_ARGUMENT`,
 * `ERR_HOST_DECIPHER` (the key was bound without `hostDecipher`), `ERR_KEY_USAGE`, `ERR_ABORTED`, and what the
 * backend reports. Source: ISO 9564-1:2017, 9.3.2 (format 0).
 *
 * @example
 * ```ts
 * using pin = await decipherPin({ block, pan, format: 0, key: zpk })
 * ```
 */
export async function decipherPin(input: DecipherPinInput, options?: CallOptions): Promise<Pin> {
  if (typeof input !== 'object' || input === null)
    throw new ArgumentError('decipherPin takes an object of inputs')
  const { block, pan, format, key } = input
  requireKey(key, 'key')
  requireFormat(format, 'format')
  requireBytes(block, 'block')
  requirePan(pan)
  if (block.length !== 8) throw new PinBlockError()
  const clear = await key.backend.decipherBlocks(key, block, options)
  try {
    return parseFormat0(clear, pan)
  } finally {
    wipe(clear)
  }
}
