/**
 * ISO 9564-1 format 4 (clause 9.4 in the 2017 edition): 16 bytes, for AES, with the PAN between two encipherments.
 *
 *     PIN field   4 N P P P P p p p p p p p p A A  R R R R R R R R R R R R R R R R
 *                                                     N = 4…C, P digit, p digit or A, R random 0…F
 *     PAN field   M A A A A A A A A A A A A a a a  a a a a 0 0 0 0 0 0 0 0 0 0 0 0
 *                                                     M = PAN length - 12, A digit, a digit or 0; a PAN of fewer than
 *                                                     12 digits has M = 0 and zeros before it
 *     PIN block = E(E(PIN field) XOR PAN field)
 *
 * Under another PAN the deciphered field is noise: that its 2 + 14 fixed nibbles are right by chance happens once in 2^40 and
 * more. The random 8 bytes are not checked.
 */
import { randomFillSync } from 'node:crypto'
import { type Pan, panDigits, requirePan } from '../../primitives/pan.js'
import { pinDigits } from '../../primitives/pin.js'
import {
  FIELD_BYTES,
  type FieldRule,
  type FillRandom,
  type FormatRow,
  readers,
  writeField,
} from './format.js'

const BLOCK_BYTES = 16
const FIELD: FieldRule = { control: 4, filler: [0xa, 0xa], account: false }
/** A shorter PAN is padded to it, and M counts the digits beyond it. */
const LEAST_PAN = 12

/** The row of format 4. */
export const format4: FormatRow = {
  bytes: BLOCK_BYTES,
  algorithms: ['aes-128', 'aes-192', 'aes-256'],
  bound: true,
  write: (digits, pan, to, at) => writePinField(digits, pan, to, at),
  writePin: (pin, pan, to, at) => writePinField(pinDigits(pin), pan, to, at),
  panField: (pan, to, at) => {
    requirePan(pan)
    writePanField(panDigits(pan), to, at)
  },
  ...readers(FIELD, BLOCK_BYTES),
}

/** The PIN field; `random` fills its second half. */
export function writePinField(
  digits: Uint8Array,
  pan: Pan,
  to: Uint8Array,
  at: number,
  random: FillRandom = randomFillSync,
): void {
  writeField(FIELD, digits, pan, to, at)
  random(to.subarray(at + FIELD_BYTES, at + BLOCK_BYTES))
}

/** The PAN field of 1 to 19 digit values. */
export function writePanField(digits: Uint8Array, to: Uint8Array, at: number): void {
  const length = Math.max(digits.length, LEAST_PAN)
  const padding = length - digits.length
  const nibbleAt = (i: number): number => {
    if (i === 0) return length - LEAST_PAN
    return digits[i - 1 - padding] ?? 0
  }
  for (let i = 0; i < BLOCK_BYTES; i++) to[at + i] = (nibbleAt(2 * i) << 4) | nibbleAt(2 * i + 1)
}
