/** Enciphering PINs into PIN blocks, one or thousands in one call. */

import { type Key, operationsOf, requireKey } from '../backend/key.js'
import { type CallOptions, readOptions, requireAll } from '../base/arguments.js'
import { secretBytes, wipe } from '../base/bytes.js'
import { ArgumentError, InputError } from '../base/errors.js'
import type { Pan } from '../primitives/pan.js'
import { type Pin, requirePin } from '../primitives/pin.js'
import type { FormatRow } from './formats/format.js'
import { BLOCK_LENGTHS, FORMATS, requireFormat, type SupportedFormat } from './formats/formats.js'
import { requireFormatKey } from './policy.js'

const NAMES: readonly string[] = ['pin', 'pan', 'format', 'key']
const ENTRY: readonly string[] = ['pin', 'pan']

/** PINs of one call: as many blocks as the port takes. */
const MAX_PINS = 8192

/** What {@link encipherPin} takes. */
export interface EncipherPinInput {
  readonly pin: Pin
  readonly pan: Pan
  readonly format: SupportedFormat
  /** A `pin-encryption` key. */
  readonly key: Key
}

/**
 * Builds a PIN block and enciphers it: 8 bytes under TDEA (formats 0, 1 and 3), 16 under AES (format 4). The filler of formats
 * 1, 3 and 4 is random, from `node:crypto`.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_DISPOSED` (the Pin), `ERR_KEY_USAGE`, `ERR_KEY_ALGORITHM` (a key of another cipher than
 * the format's), `ERR_ABORTED`, and what the backend reports.
 * Source: ISO 9564-1:2017, 9.3 and 9.4.
 *
 * @example
 * ```ts
 * const block = await encipherPin({ pin, pan, format: 0, key: zpk }) // Uint8Array(8)
 * ```
 */
export function encipherPin(input: EncipherPinInput, options?: CallOptions): Promise<Uint8Array> {
  try {
    // Not `readOptions`: one call in ten would be spent there. Each member is read once here, too.
    requireAll(input, 'encipherPin', NAMES)
    const { pin, pan, format, key } = input
    requireKey(key, 'key')
    requireFormat(format, 'format')
    const row = FORMATS[format]
    requireFormatKey(key, 'encipher', row)
    return encipherOne(key, row, pin, pan, options)
  } catch (error) {
    return Promise.reject(error)
  }
}

/** What {@link encipherPins} takes: up to 8192 PINs for one call under one key. */
export interface EncipherPinsInput {
  readonly pins: readonly { readonly pin: Pin; readonly pan: Pan }[]
  readonly format: SupportedFormat
  readonly key: Key
}

/**
 * {@link encipherPin} for 1 to 8192 PINs in one call of the backend: the blocks, one after the other, in the order given.
 *
 * Errors: as {@link encipherPin}; `ERR_LENGTH` for none or more than 8192. One bad entry fails the whole call.
 *
 * @example
 * ```ts
 * const blocks = await encipherPins({ pins: [{ pin, pan }, …], format: 0, key: zpk })
 * const second = blocks.subarray(8, 16) // of 8 bytes each, in format 0
 * ```
 */
export async function encipherPins(input: EncipherPinsInput, options?: CallOptions): Promise<Uint8Array> {
  const { pins, format, key } = readOptions(input, 'encipherPins', ['pins', 'format', 'key'])
  requireKey(key, 'key')
  requireFormat(format, 'format')
  const row = FORMATS[format]
  requireFormatKey(key, 'encipher', row)
  const count = countOf(pins)
  if (batch.busy || row.panField !== undefined) {
    return encipherClear(key, fill(pins, row, roomFor(row, count)), options)
  }
  batch.busy = true
  try {
    batch.memory ??= secretBytes(MAX_PINS * Math.max(...BLOCK_LENGTHS))
    const blocks = batch.memory.subarray(0, row.bytes * count)
    return encipherClear(key, fill(pins, row, { blocks, fields: NO_FIELDS }), options)
  } finally {
    batch.busy = false
  }
}

/** Clear blocks, and the PAN fields that go with them: empty where the format has none. */
export interface Clear {
  readonly blocks: Uint8Array
  readonly fields: Uint8Array
}

const NO_FIELDS = secretBytes(0)

/** Memory for so many clear blocks of a format. */
export function roomFor({ bytes, panField }: FormatRow, count: number): Clear {
  return {
    blocks: secretBytes(bytes * count),
    fields: panField === undefined ? NO_FIELDS : secretBytes(bytes * count),
  }
}

/** However many there are later, once somebody's getter has run: so many are read, each once. */
function countOf(pins: EncipherPinsInput['pins']): number {
  if (!Array.isArray(pins)) throw new ArgumentError('pins must be an array')
  const { length } = pins
  if (Number.isInteger(length) && length >= 1 && length <= MAX_PINS) return length
  throw new InputError('ERR_LENGTH', `pins: ${length}, expected 1 to ${MAX_PINS}`)
}

/** Writes as many blocks as there is room for. */
function fill(pins: EncipherPinsInput['pins'], row: FormatRow, clear: Clear): Clear {
  const count = clear.blocks.length / row.bytes
  try {
    for (let i = 0; i < count; i++) {
      const entry: unknown = pins[i]
      requireAll(entry, 'an entry of pins', ENTRY)
      const { pin, pan } = entry as EncipherPinsInput['pins'][number]
      requirePin(pin)
      row.writePin(pin, pan, clear.blocks, i * row.bytes)
      row.panField?.(pan, clear.fields, i * row.bytes)
    }
    return clear
  } catch (error) {
    wipe(clear.blocks, clear.fields)
    throw error
  }
}

/** {@link encipherPin} on values that have been checked. */
export function encipherChecked(
  { pin, pan, format, key }: EncipherPinInput,
  options: CallOptions | undefined,
): Promise<Uint8Array> {
  return encipherOne(key, FORMATS[format], pin, pan, options)
}

/** Not of one object, which would be made for each of a million. */
function encipherOne(
  key: Key,
  row: FormatRow,
  pin: Pin,
  pan: Pan,
  options: CallOptions | undefined,
): Promise<Uint8Array> {
  if (scratch.busy || row.panField !== undefined) {
    return encipherClear(key, fill([{ pin, pan }], row, roomFor(row, 1)), options)
  }
  scratch.busy = true
  const clear = scratch.blocks[row.bytes]
  try {
    requirePin(pin)
    row.writePin(pin, pan, clear, 0)
    return operationsOf(key).encipher(clear, options)
  } finally {
    const words = scratch.words[row.bytes]
    for (let i = 0; i < words.length; i++) words[i] = 0
    scratch.busy = false
  }
}

/**
 * Where a single block is built: memory off V8's heap costs more than the cipher. It is busy until the backend has read
 * it, which is before `encipher` returns; a getter among the options that enciphers on its part gets memory of its own.
 */
const scratch = { ...scratchOf(secretBytes(8), secretBytes(16)), busy: false }

/** The same memory as bytes, and as words: to wipe two of these takes a tenth of the time of eight bytes. */
function scratchOf(eight: Uint8Array<ArrayBuffer>, sixteen: Uint8Array<ArrayBuffer>) {
  return {
    blocks: { 8: eight, 16: sixteen },
    words: { 8: new Int32Array(eight.buffer), 16: new Int32Array(sixteen.buffer) },
  }
}

/** The same for a batch, made when there is one: so much memory new for each is time for nothing, and work for the collector. */
const batch: { memory: Uint8Array | undefined; busy: boolean } = { memory: undefined, busy: false }

/** The backend has read the clear blocks when it returns its promise: they are not kept here while a token works. */
export function encipherClear(
  key: Key,
  { blocks, fields }: Clear,
  options: CallOptions | undefined,
): Promise<Uint8Array> {
  try {
    return fields.length === 0
      ? operationsOf(key).encipher(blocks, options)
      : operationsOf(key).encipherBound(blocks, fields, options)
  } finally {
    wipe(blocks, fields)
  }
}
