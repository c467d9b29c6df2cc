/**
 * Which PIN block formats there are for which keys, and which translations are allowed (PCI PIN v3.1, 3-3):
 * tables.
 */
import type { Key } from '../backend/key.js'
import { deepFreeze } from '../base/arguments.js'
import { ArgumentError, KeyError, TranslationError } from '../base/errors.js'
import { requireUse } from '../key/usage.js'
import { isTdea } from '../primitives/algorithms.js'
import type { FormatRow } from './formats/format.js'
import { FORMATS, type PinBlockFormat } from './formats/formats.js'

/*
 * Which translations between PIN block formats are allowed, as data.
 *
 * Source: PCI PIN Security Requirements v3.1, 3-3, and ISO 9564-1:2017, 9.4: blocks bound to the PAN (0, 3, 4) stay
 * bound to it; a block without a PAN (1) may gain one and none may lose it; format 2 is for an offline PIN on its
 * way to a chip and is no target here.
 */

/** Allowed target formats of a translation, by source format. */
export const TRANSLATIONS: Readonly<Record<PinBlockFormat, readonly PinBlockFormat[]>> = deepFreeze({
  0: [0, 3, 4],
  1: [0, 3, 4],
  2: [],
  3: [0, 3, 4],
  4: [0, 3, 4],
})

/** The rows of both formats; `ERR_TRANSLATION_REFUSED` where the table does not allow the translation, `ERR_ARGUMENT` for no format. */
export function requireTranslation(
  from: PinBlockFormat,
  to: PinBlockFormat,
): { readonly from: FormatRow; readonly to: FormatRow } {
  if (!isPinBlockFormat(from) || !isPinBlockFormat(to)) {
    throw new ArgumentError('fromFormat and toFormat must be PIN block formats 0 to 4')
  }
  if (!TRANSLATIONS[from].includes(to)) {
    throw new TranslationError(
      'ERR_TRANSLATION_REFUSED',
      `a format ${from} block must not become format ${to}`,
    )
  }
  return { from: FORMATS[from], to: FORMATS[to] }
}

function isPinBlockFormat(format: unknown): format is PinBlockFormat {
  return typeof format === 'number' && Object.hasOwn(TRANSLATIONS, format)
}

/** The format of PIN blocks under a key where nobody says which: 4 under AES, 0 under TDEA. */
export function usualFormat({ algorithm }: Key): 0 | 4 {
  return isTdea(algorithm) ? 0 : 4
}

/* Whether a key is one for PIN blocks of a format: the one check that every PIN verb makes of its keys. */

/** Throws `ERR_KEY_USAGE` unless the key is for this, `ERR_KEY_ALGORITHM` unless its cipher is the format's. */
export function requireFormatKey(key: Key, action: 'encipher' | 'decipher', { algorithms }: FormatRow): void {
  requireUse(key, 'pin-block', action)
  if (algorithms.includes(key.algorithm)) return
  const problem =
    algorithms.length === 0
      ? 'format 2 is for a PIN on its way into a chip: no key of this library enciphers it'
      : `key ${key.kid} is ${key.algorithm}: the format takes ${algorithms.join(', ')}`
  throw new KeyError('ERR_KEY_ALGORITHM', problem, key.kid)
}
