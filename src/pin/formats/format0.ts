/**
 * ISO 9564-1 format 0 (clause 9.3.2 in the 2017 edition): pure building and parsing of the clear block.
 *
 *     PIN field   0 N P P P P p p p p p p p p F F     N = 4…C, P digit, p digit or F
 *     PAN field   0 0 0 0 A A A A A A A A A A A A     the 12 rightmost PAN digits before the check digit
 *     PIN block = PIN field XOR PAN field
 */

import { readOptions } from '../../base/arguments.js'
import { ownCopy, requireBytes, secretBytes, wipe } from '../../base/bytes.js'
import { PinBlockError } from '../../base/errors.js'
import { type Pan, panDigits, requirePan } from '../../primitives/pan.js'
import { type Pin, pinDigits, pinOfDigits, requirePin } from '../../primitives/pin.js'
import { buildBlock, type FormatRow } from './format.js'

const BLOCK_BYTES = 8
/** Nibbles after control and length: up to 12 PIN digits, then filler. */
const BODY_NIBBLES = 14
const FILLER = 0xf

/** Where nibble `i` of the body meets a PAN digit: the account number starts two nibbles into the body. */
function accountNibble(pan: Uint8Array, i: number): number {
  // The check digit is left out; a 12-digit PAN has 11 digits before it and is padded with a zero on the left.
  return i < 2 ? 0 : (pan[pan.length - 1 - BODY_NIBBLES + i] ?? 0)
}

/** The row of format 0. */
export const format0: FormatRow = {
  bytes: BLOCK_BYTES,
  algorithms: ['tdea-2key', 'tdea-3key'],
  write: writeFormat0,
  parse: ({ block, pan }) => pinOfDigits(inspectFormat0(block, pan, { digitsMustBeDecimal: true })),
  check: ({ block, pan }) => wipe(inspectFormat0(block, pan, { digitsMustBeDecimal: false })),
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

function writeFormat0(pin: Pin, pan: Pan, to: Uint8Array, at: number): void {
  requirePin(pin)
  requirePan(pan)
  const digits = pinDigits(pin)
  const account = panDigits(pan)
  to[at] = digits.length
  for (let i = 0; i < BODY_NIBBLES; i += 2) {
    // Reads within bounds only: one outside makes all further reads of the loop slow.
    const high = (i < digits.length ? digits[i] : FILLER) ?? FILLER
    const low = (i + 1 < digits.length ? digits[i + 1] : FILLER) ?? FILLER
    to[at + 1 + (i >> 1)] = ((high ^ accountNibble(account, i)) << 4) | (low ^ accountNibble(account, i + 1))
  }
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

/** Reads all nibbles whatever they hold, gathers one verdict, and only then decides. */
function inspectFormat0(block: Uint8Array, pan: Pan, rule: { digitsMustBeDecimal: boolean }): Uint8Array {
  requireBytes(block, 'block')
  requirePan(pan)
  if (block.length !== BLOCK_BYTES) throw new PinBlockError()
  const account = panDigits(pan)
  const view = new DataView(block.buffer, block.byteOffset, BLOCK_BYTES)
  const first = view.getUint8(0)
  const length = first & 0xf
  const body = secretBytes(BODY_NIBBLES)
  // Bits other than zero mean a failed check. `x >> 31` is all ones for a negative x, else zero.
  let bad = (first >> 4) | ((length - 4) >> 31) | ((12 - length) >> 31)
  for (let i = 0; i < BODY_NIBBLES; i++) {
    const byte = view.getUint8(1 + (i >> 1))
    const nibble = ((i & 1) === 0 ? byte >> 4 : byte & 0xf) ^ accountNibble(account, i)
    const isPin = (i - length) >> 31
    const notDecimal = ((9 - nibble) >> 31) & (rule.digitsMustBeDecimal ? -1 : 0)
    bad |= (isPin & notDecimal) | (~isPin & (nibble ^ FILLER))
    body[i] = nibble
  }
  const digits = bad === 0 ? ownCopy(body.subarray(0, length)) : undefined
  wipe(body)
  if (digits === undefined) throw new PinBlockError()
  return digits
}
