/**
 * How a PIN is verified under a key of its own: the part of the key's configuration that no caller of a verb chooses. Whoever may
 * choose the decimalisation table of a verification finds a PIN in fifteen tries, so the table is bound with the key, checked, and
 * the same for as long as the backend lives.
 */
import { readOptions } from '../base/arguments.js'
import { ArgumentError } from '../base/errors.js'
import type { KeyUsage } from './usage.js'

/** For a `visa-pvv` key: which of the issuer's PVV keys it is. */
export interface PvvRule {
  /** PIN verification key index: 0 to 9. It is a digit of what is enciphered. */
  readonly pvki: number
}

/** For an `ibm-3624` key: what is enciphered, and how digits are made of it. */
export interface Ibm3624Rule {
  /** Decimalisation table: 16 digits, one for each hex digit 0 to F; 8 different ones at least, none of them more than 4 times. */
  readonly decimalisation: string
  /** The part of the PAN that is enciphered: so many digits from this place on, counted from 0 at the left. */
  readonly validation: {
    readonly from: number
    readonly length: number
    /** What fills 16 places behind it: a hex digit. */
    readonly pad: string
  }
}

/** What a key for PIN verification values is configured with. */
export type PinValueRule = PvvRule | Ibm3624Rule

const PLACES = 16

/**
 * A copy of the rule of a key of this usage; `ERR_ARGUMENT` for a rule of another usage, and for a table that is open to the
 * decimalisation table attack. Source of the bounds: Thales payShield, decimalisation table validation.
 */
export function readPinValueRule(usage: KeyUsage, rule: unknown): PinValueRule | undefined {
  if (rule === undefined) return undefined
  if (usage === 'visa-pvv') {
    const { pvki } = readOptions(rule as PvvRule, 'pinValue of a visa-pvv key', ['pvki'])
    if (!Number.isInteger(pvki) || pvki < 0 || pvki > 9) throw new ArgumentError('pvki must be 0 to 9')
    return Object.freeze({ pvki })
  }
  if (usage !== 'ibm-3624') throw new ArgumentError('pinValue is for visa-pvv and ibm-3624 keys')
  const names = ['decimalisation', 'validation'] as const
  const { decimalisation, validation } = readOptions(
    rule as Ibm3624Rule,
    'pinValue of an ibm-3624 key',
    names,
  )
  requireSoundTable(decimalisation)
  const { from, length, pad } = readOptions(validation, 'validation', ['from', 'length', 'pad'])
  if (!Number.isInteger(from) || from < 0 || !Number.isInteger(length) || length < 10 || length > PLACES)
    throw new ArgumentError('validation takes a place from 0 on, and a length of 10 to 16 digits')
  if (typeof pad !== 'string' || !/^[0-9A-F]$/.test(pad))
    throw new ArgumentError('pad must be one hex digit, 0 to F')
  return Object.freeze({ decimalisation, validation: Object.freeze({ from, length, pad }) })
}

function requireSoundTable(table: unknown): asserts table is string {
  if (typeof table !== 'string' || !/^[0-9]{16}$/.test(table))
    throw new ArgumentError('decimalisation must be 16 digits, one for each hex digit')
  const counts = new Map<string, number>()
  for (const digit of table) counts.set(digit, (counts.get(digit) ?? 0) + 1)
  if (counts.size >= 8 && Math.max(...counts.values()) <= 4) return
  throw new ArgumentError(
    'decimalisation: fewer than 8 different digits, or one more than 4 times, gives PINs away',
  )
}
