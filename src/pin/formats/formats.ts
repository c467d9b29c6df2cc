/**
 * The PIN block formats as a table. The verbs, inspectors, stores and messages take block length, keys and functions from the
 * row, so that a format is added here and in a file of its own, and nowhere else.
 */
import { deepFreeze, ownMembers } from '../../base/arguments.js'
import { ArgumentError } from '../../base/errors.js'
import type { FormatRow } from './format.js'
import { format0 } from './format0.js'
import { format1 } from './format1.js'
import { format2 } from './format2.js'
import { format3 } from './format3.js'
import { format4 } from './format4.js'

/** ISO 9564-1 PIN block formats. */
export type PinBlockFormat = 0 | 1 | 2 | 3 | 4

/** The formats the verbs of this release build and parse; format 2 is built and read, and enciphered by none of its keys. */
export type SupportedFormat = PinBlockFormat

/** The table of formats. Frozen. */
export const FORMATS: Readonly<Record<SupportedFormat, FormatRow>> = deepFreeze(
  ownMembers({ 0: format0, 1: format1, 2: format2, 3: format3, 4: format4 }),
)

const SUPPORTED: readonly string[] = Object.keys(FORMATS)

/** Throws `ERR_ARGUMENT` unless this release builds and parses the format. There is no default format. */
export function requireFormat(format: unknown, name: string): asserts format is SupportedFormat {
  if (typeof format !== 'number' || !Object.hasOwn(FORMATS, format)) {
    throw new ArgumentError(`${name} must be one of the PIN block formats ${SUPPORTED.join(', ')}`)
  }
}

/** The lengths that PIN blocks have, in bytes. */
export const BLOCK_LENGTHS: readonly number[] = [...new Set(Object.values(FORMATS).map(({ bytes }) => bytes))]
