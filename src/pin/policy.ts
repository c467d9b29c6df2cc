/**
 * Which PIN block formats this library builds, and which translations are allowed, as data.
 *
 * Source: PCI PIN Security Requirements v3.1, 3-3, and ISO 9564-1:2017, 9.4: blocks bound to the PAN (0, 3, 4) stay
 * bound to it; a block without a PAN (1) may gain one and none may lose it; format 2 is for an offline PIN on its
 * way to a chip and is no target here.
 */

import { deepFreeze } from '../base/arguments.js'
import { ArgumentError, TranslationError } from '../base/errors.js'

/** ISO 9564-1 PIN block formats. */
export type PinBlockFormat = 0 | 1 | 2 | 3 | 4

/** The formats the verbs of this release build and parse. */
export type SupportedFormat = 0

const SUPPORTED: readonly PinBlockFormat[] = [0]

/** Allowed target formats of a translation, by source format. */
export const TRANSLATIONS: Readonly<Record<PinBlockFormat, readonly PinBlockFormat[]>> = deepFreeze({
  0: [0, 3, 4],
  1: [0, 3, 4],
  2: [],
  3: [0, 3, 4],
  4: [0, 3, 4],
})

/** Throws `ERR_ARGUMENT` unless this release builds and parses the format. There is no default format. */
export function requireFormat(format: unknown, name: string): asserts format is SupportedFormat {
  if (!SUPPORTED.includes(format as PinBlockFormat)) {
    throw new ArgumentError(`${name} must be one of the PIN block formats ${SUPPORTED.join(', ')}`)
  }
}

/** Throws `ERR_TRANSLATION_REFUSED` where the table does not allow the translation, `ERR_ARGUMENT` for no format. */
export function requireTranslation(from: PinBlockFormat, to: PinBlockFormat): void {
  if (!isPinBlockFormat(from) || !isPinBlockFormat(to)) {
    throw new ArgumentError('fromFormat and toFormat must be PIN block formats 0 to 4')
  }
  if (!TRANSLATIONS[from].includes(to)) {
    throw new TranslationError(
      'ERR_TRANSLATION_REFUSED',
      `a format ${from} block must not become format ${to}`,
    )
  }
  requireFormat(from, 'fromFormat')
  requireFormat(to, 'toFormat')
}

function isPinBlockFormat(format: unknown): format is PinBlockFormat {
  return typeof format === 'number' && Object.hasOwn(TRANSLATIONS, format)
}
