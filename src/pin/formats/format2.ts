/**
 * ISO 9564-1 format 2 (clause 9.3.4 in the 2017 edition): the PIN as a chip takes it, offline.
 *
 *     PIN field   2 N P P P P p p p p p p p p F F     N = 4…C, P digit, p digit or F
 *     PIN block = PIN field
 *
 * One PIN has one block, and nothing binds it to a card: it goes to the chip in a script message, under the chip's own session
 * key, and nowhere else. No key of this library enciphers it (docs/decisions/0081), and no translation ends in it.
 */
import { FIELD_BYTES, type FieldRule, type FormatRow, readers, writers } from './format.js'

const FIELD: FieldRule = { control: 2, filler: [0xf, 0xf], account: false }

/** The row of format 2. */
export const format2: FormatRow = {
  bytes: FIELD_BYTES,
  algorithms: [],
  bound: false,
  ...writers(FIELD),
  ...readers(FIELD, FIELD_BYTES),
}
