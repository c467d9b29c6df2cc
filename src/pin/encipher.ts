import type { CallOptions } from '../backend/backend.js'
import { wipe } from '../bytes.js'
import { ArgumentError } from '../errors.js'
import type { Key } from '../key/key.js'
import { requireKey } from '../key/require.js'
import { buildFormat0 } from './format0.js'
import type { Pan } from './pan.js'
import type { Pin } from './pin.js'
import { requireFormat, type SupportedFormat } from './policy.js'

/** What {@link encipherPin} takes. */
export interface EncipherPinInput {
  readonly pin: Pin
  readonly pan: Pan
  readonly format: SupportedFormat
  /** A `pin-encryption` key. */
  readonly key: Key
}

/**
 * Builds a PIN block and enciphers it: 8 bytes, TDEA in ECB mode over the one block.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_DISPOSED` (the Pin), `ERR_KEY_USAGE`, `ERR_ABORTED`, and what the backend reports.
 * Source: ISO 9564-1:2017, 9.3.2 (format 0).
 *
 * @example
 * ```ts
 * const block = await encipherPin({ pin, pan, format: 0, key: zpk }) // Uint8Array(8)
 * ```
 */
export async function encipherPin(input: EncipherPinInput, options?: CallOptions): Promise<Uint8Array> {
  requireInput(input)
  const { pin, pan, format, key } = input
  requireKey(key, 'key')
  requireFormat(format, 'format')
  const clear = buildFormat0(pin, pan)
  try {
    return await key.backend.encipherBlocks(key, clear, options)
  } finally {
    wipe(clear)
  }
}

/** What {@link encipherPins} takes: up to 8192 PINs for one call under one key. */
export interface EncipherPinsInput {
  readonly pins: readonly { readonly pin: Pin; readonly pan: Pan }[]
  readonly format: SupportedFormat
  readonly key: Key
}

/**
 * {@link encipherPin} for 1 to 8192 PINs in one call of the backend: the blocks, 8 bytes each, in the order given.
 *
 * Errors: as {@link encipherPin}; `ERR_LENGTH` for none or more than 8192. One bad entry fails the whole call.
 *
 * @example
 * ```ts
 * const blocks = await encipherPins({ pins: [{ pin, pan }, …], format: 0, key: zpk })
 * const second = blocks.subarray(8, 16)
 * ```
 */
export async function encipherPins(input: EncipherPinsInput, options?: CallOptions): Promise<Uint8Array> {
  requireInput(input)
  const { pins, format, key } = input
  requireKey(key, 'key')
  requireFormat(format, 'format')
  if (!Array.isArray(pins)) throw new ArgumentError('pins must be an array')
  const clear = new Uint8Array(8 * pins.length)
  try {
    for (const [i, entry] of pins.entries()) {
      const block = buildFormat0(entry?.pin, entry?.pan)
      clear.set(block, 8 * i)
      wipe(block)
    }
    return await key.backend.encipherBlocks(key, clear, options)
  } finally {
    wipe(clear)
  }
}

function requireInput(input: unknown): void {
  if (typeof input !== 'object' || input === null)
    throw new ArgumentError('the verb takes an object of inputs')
}
