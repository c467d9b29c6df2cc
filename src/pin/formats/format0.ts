/**
 * ISO 9564-1 format 0 (clause 9.3.2 in the 2017 edition): pure building and parsing of the clear block.
 *
 *     PIN field   0 N P P P P p p p p p p p p F F     N = 4…C, P digit, p digit or F
 *     PAN field   0 0 0 0 A A A A A A A A A A A A     the 12 rightmost PAN digits before the check digit,
 *                                                 zeros before them where the PAN has fewer
 *     PIN block = PIN field XOR PAN field
 */

import { readOptions } from '../../base/arguments.js'
import type { Pan } from '../../primitives/pan.js'
import type { Pin } from '../../primitives/pin.js'
import { buildBlock, FIELD_BYTES, type FieldRule, type FormatRow, readers, writers } from './format.js'

const FIELD: FieldRule = { control: 0, filler: [0xf, 0xf], account: true }

/** The row of format 0. */
export const format0: FormatRow = {
  bytes: FIELD_BYTES,
  algorithms: ['tdea-2key', 'tdea-3key'],
  bound: true,
  ...writers(FIELD),
  ...readers(FIELD, FIELD_BYTES),
}

/** What {@link buildFormat0} takes. */
export interface BuildFormat0Input {
  readonly pin: Pin
  readonly pan: Pan
}

/** What {@link parseFormat0} and {@link checkFormat0} take. */
export interface ParseFormat0Input {
  /** The clear block: 8 bytes. */
  readonly block: Uint8Array
  readonly pan: Pan
}

/**
 * Builds the clear format 0 block: 8 bytes, in memory of its own, which the caller wipes.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_DISPOSED`. Source: ISO 9564-1:2017, 9.3.2 (format 0).
 *
 * @example
 * ```ts
 * buildFormat0({ pin: Pin.from('1234'), pan: Pan.from('5432101234567891') }) // 04 12 15 FE DC BA 98 76
 * ```
 */
export function buildFormat0(input: BuildFormat0Input): Uint8Array {
  const { pin, pan } = readOptions(input, 'buildFormat0', ['pin', 'pan'])
  return buildBlock(format0, pin, pan)
}

/**
 * Takes a clear format 0 block apart and returns the PIN.
 *
 * Control nibble, length, every filler nibble and every digit are checked; whichever fails, the error is the same.
 *
 * Errors: `ERR_ARGUMENT`; `ERR_PIN_BLOCK` for any block that is not format 0 for this PAN, or is not 8 bytes.
 * Source: ISO 9564-1:2017, 9.3.2 (format 0).
 *
 * @example
 * ```ts
 * using pin = parseFormat0({ block: clearBlock, pan: Pan.from('5432101234567891') })
 * ```
 */
export function parseFormat0(input: ParseFormat0Input): Pin {
  return format0.parse(readOptions(input, 'parseFormat0', ['block', 'pan']))
}

/**
 * Checks control nibble, length and filler of a clear format 0 block, and leaves the PIN digits unread, as a
 * translation does: a verdict on the digits, repeated under chosen PANs, would give the PIN away digit by digit.
 *
 * Takes 8 bytes. Errors: `ERR_ARGUMENT`, `ERR_PIN_BLOCK`. Source: ISO 9564-1:2017, 9.3.2 and 9.4 (translation).
 *
 * @example
 * ```ts
 * checkFormat0({ block: clearBlock, pan }) // throws, or is silent
 * ```
 */
export function checkFormat0(input: ParseFormat0Input): void {
  format0.check(readOptions(input, 'checkFormat0', ['block', 'pan']))
}
