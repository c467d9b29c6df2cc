import type { CallOptions } from '../backend/backend.js'
import { ArgumentError } from '../errors.js'
import type { Key } from '../key/key.js'
import type { Pan } from '../pin/pan.js'
import { reencipherPinBlock, translatePinBlock } from '../pin/translate.js'

/**
 * How a PIN block moves between D1's key and the issuer's:
 * - `checked`: deciphered in host memory, checked against the PAN, enciphered again. Needs a source key bound with
 *   `hostDecipher`. The default, because a block that is stored unchecked fails only when somebody types the PIN.
 * - `reencipher`: not looked at; inside the token where it can, so that no clear block ever reaches the host.
 */
export type Translation = 'checked' | 'reencipher'

/** Moves a format 0 block from one key to the other by the wanted way. */
export async function translateStored(
  input: { block: Uint8Array; pan: Pan; from: Key; to: Key; translation: Translation | undefined },
  options: CallOptions | undefined,
): Promise<Uint8Array> {
  const { block, pan, from, to } = input
  const translation = input.translation ?? 'checked'
  if (translation === 'reencipher') return reencipherPinBlock({ block, from, to }, options)
  if (translation !== 'checked') throw new ArgumentError("translation must be 'checked' or 'reencipher'")
  return translatePinBlock({ block, pan, fromFormat: 0, toFormat: 0, from, to }, options)
}
