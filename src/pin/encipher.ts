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
export function encipherPin(input: EncipherPinInput, options?: CallOptions): Promise<Uint8Array> {
  return encipherWiped(input, options, ({ pin, pan }) => buildFormat0(pin, pan))
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
export function encipherPins(input: EncipherPinsInput, options?: CallOptions): Promise<Uint8Array> {
  return encipherWiped(input, options, ({ pins }) => {
    if (!Array.isArray(pins)) throw new ArgumentError('pins must be an array')
    return concatBlocks(pins)
  })
}

function concatBlocks(pins: EncipherPinsInput['pins']): Uint8Array {
  const clear = new Uint8Array(8 * pins.length)
  try {
    for (const [i, entry] of pins.entries()) {
      const block = buildFormat0(entry?.pin, entry?.pan)
      clear.set(block, 8 * i)
      wipe(block)
    }
    return clear
  } catch (error) {
    wipe(clear)
    throw error
  }
}

/**
 * The clear blocks are wiped as soon as the backend has read them, which by its contract is before it returns its
 * promise: they do not stand in memory while a token works.
 */
function encipherWiped<Input extends { readonly format: SupportedFormat; readonly key: Key }>(
  input: Input,
  options: CallOptions | undefined,
  build: (input: Input) => Uint8Array,
): Promise<Uint8Array> {
  try {
    if (typeof input !== 'object' || input === null)
      throw new ArgumentError('the verb takes an object of inputs')
    const { format, key } = input
    requireKey(key, 'key')
    requireFormat(format, 'format')
    const clear = build(input)
    try {
      return key.backend.encipherBlocks(key, clear, options)
    } finally {
      wipe(clear)
    }
  } catch (error) {
    return Promise.reject(error)
  }
}
