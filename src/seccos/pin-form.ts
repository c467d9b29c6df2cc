/**
 * The forms in which a PIN enters a PRW computation: one table, each form of one length, so that what is MACed has
 * one reading.
 *
 *     iso9564-format-0   0 N P P P P … F F  XOR  0 0 0 0 A … A      8 bytes, needs the PAN   (ISO 9564-1, 9.3.2)
 *     iso9564-format-2   2 N P P P P … F F                         8 bytes                  (ISO 9564-1, 9.3.4)
 *     digits-bcd         P P P P … F F F F                         8 bytes: the digits, then F
 *     digits-ascii       3P 3P 3P 3P … 00 00                       12 bytes: the digits in ASCII, then zero bytes
 */
import { wipe } from '../bytes.js'
import { DataSetError } from '../errors.js'
import { asciiDigits } from '../pin/digits.js'
import { buildFormat0 } from '../pin/format0.js'
import type { Pan } from '../pin/pan.js'
import { type Pin, pinDigits } from '../pin/pin.js'
import { packNibbles } from './encoding.js'
import type { PinForm } from './profile.js'

interface PinFormRule {
  readonly bytes: number
  readonly build: (pin: Pin, pan: Pan | undefined) => Uint8Array
}

const PIN_FORMS: Readonly<Record<PinForm, PinFormRule>> = {
  'iso9564-format-0': {
    bytes: 8,
    build: (pin, pan) => {
      if (pan === undefined) throw new DataSetError('pan', 'is needed for the PIN block')
      return buildFormat0(pin, pan)
    },
  },
  'iso9564-format-2': {
    bytes: 8,
    build: pin => {
      const digits = pinDigits(pin)
      return pack([2, digits.length], digits)
    },
  },
  'digits-bcd': { bytes: 8, build: pin => pack([], pinDigits(pin)) },
  'digits-ascii': {
    bytes: 12,
    build: pin => {
      const characters = asciiDigits(pinDigits(pin))
      const bytes = new Uint8Array(12)
      bytes.set(characters)
      wipe(characters)
      return bytes
    },
  },
}

/** Nibbles into 8 bytes, filled with F. */
function pack(head: readonly number[], digits: Uint8Array): Uint8Array {
  const nibbles = new Uint8Array(16).fill(0xf)
  nibbles.set(head)
  nibbles.set(digits, head.length)
  const bytes = packNibbles(nibbles)
  wipe(nibbles)
  return bytes
}

/** Length in bytes of a form. */
export function pinFormBytes(form: PinForm): number {
  return PIN_FORMS[form].bytes
}

/** The names of the forms. */
export const PIN_FORM_NAMES: readonly PinForm[] = Object.keys(PIN_FORMS) as PinForm[]

/** The PIN in a form, in memory of its own, which the caller wipes. `ERR_DATA_SET` where the PAN is missing. */
export function encodePin(form: PinForm, pin: Pin, pan: Pan | undefined): Uint8Array {
  return PIN_FORMS[form].build(pin, pan)
}
