/**
 * ISO 9564-1 format 1 (clause 9.3.3 in the 2017 edition): a PIN without a PAN, for where the PAN is not known.
 *
 *     PIN field   1 N P P P P p p p p p p p p R R     N = 4…C, P digit, p digit or R, R random 0…F
 *     PIN block = PIN field
 *
 * The filler makes two blocks of one PIN differ; it is not checked, for it can be anything. Nothing binds such a block to a
 * card: the translation table lets it become one that is bound (0, 3, 4), and never the other way.
 */
import { FIELD_BYTES, type FieldRule, type FormatRow, readers, writers } from './format.js'

const FIELD: FieldRule = { control: 1, filler: [0x0, 0xf], account: false }

/** The row of format 1. */
export const format1: FormatRow = {
  bytes: FIELD_BYTES,
  algorithms: ['tdea-2key', 'tdea-3key'],
  bound: false,
  ...writers(FIELD),
  ...readers(FIELD, FIELD_BYTES),
}
