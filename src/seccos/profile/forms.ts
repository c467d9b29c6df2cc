/**
 * Forms: how a PIN becomes bytes before a PRW is computed over it, and how a PRW or MAC becomes text. Each form has one
 * length and one reading.
 *
 *     iso9564-format-0       0 N P P P P … F F  XOR  0 0 0 0 A … A    8 bytes, needs the PAN   (ISO 9564-1, 9.3.2)
 *     { iso9564: 1 }         1 N P P P P … f f                        8 bytes                  (ISO 9564-1, 9.3.3)
 *     iso9564-format-2       2 N P P P P … F F                        8 bytes                  (ISO 9564-1, 9.3.4)
 *     { iso9564: 3 }         3 N P P P P … f f  XOR  0 0 0 0 A … A    8 bytes, needs the PAN   (ISO 9564-1, 9.3.5)
 *     { iso9564: 4 }         4 N P P P P … A A  and 8 bytes f         16 bytes: the PIN field  (ISO 9564-1, 9.3.6)
 *     digits-bcd             P P P P … F F F F                        8 bytes: the digits, then F
 *     digits-ascii           3P 3P 3P 3P … 00 00                      12 bytes: the digits in ASCII, then zero bytes
 *     { digits, length, … }  the digits in a form of the profile's own
 *
 * f, where ISO 9564-1 wants random digits, is one digit or comes from the PRW's random number: what nobody keeps, no PIN
 * could ever be verified with.
 */

import {
  asciiBytes,
  bufferOf,
  copyInto,
  fromHex,
  ownCopy,
  secretBytes,
  toHex,
  wipe,
  withWiped,
  writeText,
} from '../../base/bytes.js'
import { ArgumentError, DataSetError, InputError } from '../../base/errors.js'
import { buildFormat0 } from '../../pin/formats/format0.js'
import { type Pan, panDigits } from '../../primitives/pan.js'
import { asciiDigits, type Pin, pinDigits } from '../../primitives/pin.js'
import { encodeCharacters, packNibbles, toEbcdic, unpackNibbles } from './encoding.js'
import type { PinForm, TextForm } from './profile.js'

/** What a PIN form is made of. */
interface PinParts {
  readonly pin: Pin
  readonly pan: Pan | undefined
  readonly random: Uint8Array | undefined
}

type NamedForm = Extract<PinForm, string>

const NAMED: Readonly<Record<NamedForm, { bytes: number; build: (parts: PinParts) => Uint8Array }>> = {
  'iso9564-format-0': {
    bytes: 8,
    build: ({ pin, pan }) => {
      if (pan === undefined) throw new DataSetError('pan', 'is needed for the PIN block')
      return buildFormat0({ pin, pan })
    },
  },
  'iso9564-format-2': { bytes: 8, build: ({ pin }) => pinField(2, pin, FILL_F) },
  'digits-bcd': {
    bytes: 8,
    build: ({ pin }) =>
      withDigits(pin, digits => characters({ digits: 'bcd', length: 8, ...FILLED_F }, digits)),
  },
  'digits-ascii': {
    bytes: 12,
    build: ({ pin }) =>
      withDigits(pin, digits => characters({ digits: 'ascii', length: 12, ...FILLED_0 }, digits)),
  },
}
const FILL_F = secretBytes(16).fill(0xf)
const FILLED_F = { align: 'left', pad: 'F' } as const
const FILLED_0 = { align: 'left', pad: '00' } as const

function withDigits<T>(pin: Pin, use: (digits: Uint8Array) => T): T {
  return withWiped(asciiDigits(pinDigits(pin)), use)
}

function characters({ digits, ...form }: Extract<PinForm, { digits: string }>, pin: Uint8Array): Uint8Array {
  const bytes = encodeCharacters({ ...form, encoding: digits }, pin)
  if (bytes === undefined) throw new DataSetError('pin', `does not fit ${form.length} bytes ${digits}`)
  return bytes
}

/** Control nibble, length, digits, and the rest of 16 nibbles out of the filler. */
function pinField(control: number, pin: Pin, filler: Uint8Array): Uint8Array {
  const digits = pinDigits(pin)
  const nibbles = secretBytes(16)
  copyInto(nibbles, filler.subarray(0, 16))
  nibbles.set([control, digits.length])
  copyInto(nibbles, digits, 2)
  return withWiped(nibbles, packNibbles)
}

type IsoForm = Extract<PinForm, { iso9564: number }>

function buildIso({ iso9564, filler }: IsoForm, parts: PinParts): Uint8Array {
  const fill = withFiller(filler, parts)
  if (iso9564 === 1) return withWiped(unpackNibbles(fill), nibbles => pinField(1, parts.pin, nibbles))
  if (iso9564 === 4) {
    const block = secretBytes(16)
    withWiped(pinField(4, parts.pin, secretBytes(16).fill(0xa)), field => copyInto(block, field))
    copyInto(block, fill, 8)
    return block
  }
  if (parts.pan === undefined) throw new DataSetError('pan', 'is needed for the PIN block')
  const nibbles = unpackNibbles(fill)
  if (nibbles.some(nibble => nibble < 0xa)) {
    throw new DataSetError('random', 'must have the hex digits A to F only, as PIN block format 3 has them')
  }
  const block = pinField(3, parts.pin, nibbles)
  const number = secretBytes(16)
  copyInto(number, panDigits(parts.pan).subarray(-13, -1), 16 - Math.min(12, panDigits(parts.pan).length - 1))
  withWiped(packNibbles(number), field => {
    for (const [i, byte] of field.entries()) block[i] = (block[i] as number) ^ byte
  })
  wipe(number)
  return block
}

/** Eight bytes of filler. */
function withFiller(filler: string, { random }: PinParts): Uint8Array {
  if (filler !== 'random') return fromHex(filler.repeat(16), 'filler')
  if (random === undefined) throw new DataSetError('random', 'is missing')
  return ownCopy(random.subarray(0, 8))
}

/** Length in bytes of a form. */
export function pinFormBytes(form: PinForm): number {
  if (typeof form === 'string') return NAMED[form].bytes
  if ('digits' in form) return form.length
  return form.iso9564 === 4 ? 16 : 8
}

/** The names of the forms that have one. */
export const PIN_FORM_NAMES: readonly NamedForm[] = Object.keys(NAMED) as NamedForm[]

/**
 * The PIN in a form, in memory of its own, which the caller wipes. `ERR_DATA_SET` where the PAN or the random number is
 * missing, or the PIN does not fit.
 */
export function encodePin(form: PinForm, parts: PinParts): Uint8Array {
  if (typeof form === 'string') return NAMED[form].build(parts)
  return 'digits' in form ? withDigits(parts.pin, pin => characters(form, pin)) : buildIso(form, parts)
}

/** True where a form has the PAN in it. */
export function needsPan(form: PinForm): boolean {
  return form === 'iso9564-format-0' || (typeof form === 'object' && 'iso9564' in form && form.iso9564 === 3)
}

/** True where a form is filled from the random number. */
export function needsRandom(form: PinForm): boolean {
  return typeof form === 'object' && 'iso9564' in form && form.filler === 'random'
}

/** One text form. Reading is strict: one text per value, so that no two texts mean one PRW. */
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
  const show = (bytes: Uint8Array): string => bufferOf(bytes).toString(encoding)
  return {
    show,
    read: text => {
      const room = secretBytes(text.length)
      const bytes = room.subarray(0, writeText(room, text, encoding))
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
  digits: {
    show: bytes => bufferOf(bytes).toString('latin1'),
    read: text => (/^[0-9]*$/.test(text) ? asciiBytes(text) : undefined),
    characters: bytes => bytes,
  },
  'hex-ebcdic': {
    show: bytes => toHex(toEbcdic(toHex(bytes)) as Uint8Array),
    read: text => {
      const hex = /^(?:C[1-6]|F[0-9])*$/.test(text) ? text.replaceAll(/C(.)|F(.)/g, fromEbcdicHex) : ''
      return hex.length === text.length / 2 ? fromHex(hex, 'value') : undefined
    },
    characters: bytes => 4 * bytes,
  },
}

/** One hex digit out of its EBCDIC character, itself two hex digits: C1 to C6 are A to F, F0 to F9 the numerals. */
function fromEbcdicHex(_: string, letter: string | undefined, numeral: string | undefined): string {
  return letter === undefined ? `${numeral}` : String.fromCharCode(0x40 + Number(letter))
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
