import type { CallOptions } from '../backend/backend.js'
import { requireBytes, wipe } from '../bytes.js'
import { ArgumentError, KeyError, PinBlockError } from '../errors.js'
import type { Key } from '../key/key.js'
import { requireKey } from '../key/require.js'
import { checkFormat0 } from './format0.js'
import { type Pan, requirePan } from './pan.js'
import { type PinBlockFormat, requireTranslation } from './policy.js'

/** What {@link translatePinBlock} takes. */
export interface TranslatePinBlockInput {
  /** The PIN block enciphered under `from`: 8 bytes. */
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
 * `ERR_TRANSLATION_REFUSED`, `ERR_KEY_USAGE`, `ERR_ARGUMENT`, `ERR_ABORTED`, and what the backends report.
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
  requireInput(input, 'translatePinBlock')
  const { block, pan, fromFormat, toFormat, from, to } = input
  requireKey(from, 'from')
  requireKey(to, 'to')
  requireTranslation(fromFormat, toFormat)
  requireBytes(block, 'block')
  requirePan(pan)
  if (block.length !== 8) throw new PinBlockError()
  const clear = await from.backend.decipherBlocks(from, block, options)
  try {
    // Same format, same PAN: the block that was checked is the block that would be built.
    checkFormat0(clear, pan)
    return await to.backend.encipherBlocks(to, clear, options)
  } finally {
    wipe(clear)
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
  requireInput(input, 'reencipherPinBlock')
  const { block, from, to } = input
  requireKey(from, 'from')
  requireKey(to, 'to')
  requireBytes(block, 'block')
  if (from.backend !== to.backend) {
    throw new KeyError('ERR_KEY_FOREIGN', `keys ${from.kid} and ${to.kid} live in two backends`, to.kid)
  }
  if (block.length !== 8) throw new PinBlockError()
  return from.backend.reencipherBlocks(from, to, block, options)
}

function requireInput(input: unknown, verb: string): void {
  if (typeof input !== 'object' || input === null)
    throw new ArgumentError(`${verb} takes an object of inputs`)
}
