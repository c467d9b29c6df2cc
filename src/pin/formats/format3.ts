/**
 * ISO 9564-1 format 3 (clause 9.3.5 in the 2017 edition): format 0 with a filler that differs from block to block.
 *
 *     PIN field   3 N P P P P p p p p p p p p R R     N = 4…C, P digit, p digit or R, R random A…F
 *     PAN field   0 0 0 0 A A A A A A A A A A A A     the 12 rightmost PAN digits before the check digit,
 *                                                     zeros before them where the PAN has fewer
 *     PIN block = PIN field XOR PAN field
 */
import { FIELD_BYTES, type FieldRule, type FormatRow, readers, writers } from './format.js'

const FIELD: FieldRule = { control: 3, filler: [0xa, 0xf], account: true }

/** The row of format 3. */
export const format3: FormatRow = {
  bytes: FIELD_BYTES,
  algorithms: ['tdea-2key', 'tdea-3key'],
  bound: true,
  ...writers(FIELD),
  ...readers(FIELD, FIELD_BYTES),
}
