/**
 * The forms in which a PIN enters a PRW computation: one table, each form of one length, so that what is MACed has
 * one reading.
 *
 *     iso9564-format-0   0 N P P P P … F F  XOR  0 0 0 0 A … A      8 bytes, needs the PAN   (ISO 9564-1, 9.3.2)
 *     iso9564-format-2   2 N P P P P … F F                         8 bytes                  (ISO 9564-1, 9.3.4)
 *     digits-bcd         P P P P … F F F F                         8 bytes: the digits, then F
 *     digits-ascii       3P 3P 3P 3P … 00 00                       12 bytes: the digits in ASCII, then zero bytes
 */

import { fromHex, toHex, wipe } from '../../base/bytes.js'
import { ArgumentError, DataSetError, InputError } from '../../base/errors.js'
import { buildFormat0 } from '../../pin/formats/format0.js'
import type { Pan } from '../../primitives/pan.js'
import { asciiDigits, type Pin, pinDigits } from '../../primitives/pin.js'
import { packNibbles } from './encoding.js'
import type { PinForm, TextForm } from './profile.js'

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

/** The text forms of PRW and MAC. Reading is strict: one text per value, so that no two texts mean one PRW. */

interface TextRule {
  readonly show: (bytes: Uint8Array) => string
  readonly read: (text: string) => Uint8Array | undefined
  readonly characters: (bytes: number) => number
}

function hexRule(pattern: RegExp, show: (bytes: Uint8Array) => string): TextRule {
  return {
    show,
    read: text => (pattern.test(text) ? fromHex(text, 'value') : undefined),
    characters: bytes => 2 * bytes,
  }
}

function base64Rule(encoding: 'base64' | 'base64url'): TextRule {
  const show = (bytes: Uint8Array): string => Buffer.from(bytes).toString(encoding)
  return {
    show,
    read: text => {
      const bytes = Uint8Array.from(Buffer.from(text, encoding))
      return show(bytes) === text ? bytes : undefined
    },
    characters: bytes => (encoding === 'base64' ? 4 * Math.ceil(bytes / 3) : Math.ceil((8 * bytes) / 6)),
  }
}

const TEXT_FORMS: Readonly<Record<TextForm, TextRule>> = {
  'hex-upper': hexRule(/^[0-9A-F]*$/, toHex),
  'hex-lower': hexRule(/^[0-9a-f]*$/, bytes => toHex(bytes).toLowerCase()),
  base64: base64Rule('base64'),
  base64url: base64Rule('base64url'),
}

/** The names of the forms. */
export const TEXT_FORM_NAMES: readonly TextForm[] = Object.keys(TEXT_FORMS) as TextForm[]

/** Characters that so many bytes take. */
export function textLength(form: TextForm, bytes: number): number {
  return TEXT_FORMS[form].characters(bytes)
}

/** The text of a value. */
export function showText(form: TextForm, bytes: Uint8Array): string {
  return TEXT_FORMS[form].show(bytes)
}

/** The value of a text; `ERR_ENCODING` unless it is exactly `bytes` long and in this form. `name` goes into messages. */
export function readText(form: TextForm, bytes: number, text: string, name: string): Uint8Array {
  if (typeof text !== 'string') throw new ArgumentError(`${name} must be a string`)
  const value = text.length === textLength(form, bytes) ? TEXT_FORMS[form].read(text) : undefined
  if (value?.length === bytes) return value
  throw new InputError(
    'ERR_ENCODING',
    `${name} must be ${bytes} bytes as ${textLength(form, bytes)} characters ${form}`,
  )
}
