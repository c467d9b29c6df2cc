/**
 * Characters to bytes and back, for data set fields: packed decimal, ASCII, EBCDIC. Characters come and go as ASCII
 * bytes, so that a PAN never has to be a string. Everything returns undefined where it does not fit; the caller
 * names the field.
 */
import { ownCopy, wipe } from '../../base/bytes.js'
import type { FieldEncoding, ValueForm } from './profile.js'

/**
 * EBCDIC, the invariant character set: the 82 characters that stand at the same place in all Latin code pages (037,
 * 273, 500, 1047 …). Each row is a run of characters and the code of the first.
 */
const EBCDIC_RUNS: readonly (readonly [string, number])[] = [
  [' ', 0x40],
  ['.<(+', 0x4b],
  ['&', 0x50],
  ['*);', 0x5c],
  ['-/', 0x60],
  [',%_>?', 0x6b],
  [':', 0x7a],
  [`'="`, 0x7d],
  ['abcdefghi', 0x81],
  ['jklmnopqr', 0x91],
  ['stuvwxyz', 0xa2],
  ['ABCDEFGHI', 0xc1],
  ['JKLMNOPQR', 0xd1],
  ['STUVWXYZ', 0xe2],
  ['0123456789', 0xf0],
]

const TO_EBCDIC = new Map<number, number>()
for (const [run, first] of EBCDIC_RUNS) {
  for (let i = 0; i < run.length; i++) TO_EBCDIC.set(run.charCodeAt(i), first + i)
}
const FROM_EBCDIC: ReadonlyMap<number, number> = new Map([...TO_EBCDIC].map(([ascii, code]) => [code, ascii]))

interface Alphabet {
  readonly bits: 4 | 8
  /** The unit for an ASCII character, and the ASCII character of a unit; undefined where there is none. */
  readonly encode: (character: number) => number | undefined
  readonly decode: (unit: number) => number | undefined
}

const printable = (code: number): number | undefined => (code >= 0x20 && code <= 0x7e ? code : undefined)

const ALPHABETS: Readonly<Record<Exclude<FieldEncoding, 'binary'>, Alphabet>> = {
  bcd: {
    bits: 4,
    encode: character => (character >= 0x30 && character <= 0x39 ? character - 0x30 : undefined),
    decode: unit => (unit <= 9 ? unit + 0x30 : undefined),
  },
  ascii: { bits: 8, encode: printable, decode: printable },
  ebcdic: {
    bits: 8,
    encode: character => TO_EBCDIC.get(character),
    decode: unit => FROM_EBCDIC.get(unit),
  },
}

/** How many characters a form holds. */
export function capacityOf(form: { readonly length: number; readonly encoding: FieldEncoding }): number {
  return form.encoding === 'bcd' ? 2 * form.length : form.length
}

/** Bytes of ASCII characters in their form, in memory of its own; undefined where they do not fit. */
export function encodeCharacters(form: ValueForm, characters: Uint8Array): Uint8Array | undefined {
  const { encoding } = form
  if (encoding === 'binary') return encodeBinary(form, characters)
  const alphabet = ALPHABETS[encoding]
  const units = new Uint8Array(characters.length)
  let fits = true
  for (const [i, character] of characters.entries()) {
    const unit = alphabet.encode(character)
    if (unit === undefined) fits = false
    else units[i] = unit
  }
  const placed = fits ? place(form, units) : undefined
  wipe(units)
  if (placed === undefined || alphabet.bits === 8) return placed
  const packed = packNibbles(placed)
  wipe(placed)
  return packed
}

/** Two nibbles to a byte, the first on the left; an even number of them. In memory of its own. */
export function packNibbles(nibbles: Uint8Array): Uint8Array {
  const packed = new Uint8Array(nibbles.length / 2)
  const view = new DataView(packed.buffer)
  for (const [i, nibble] of nibbles.entries()) view.setUint8(i >> 1, (view.getUint8(i >> 1) << 4) | nibble)
  return packed
}

function unpackNibbles(bytes: Uint8Array): Uint8Array {
  const nibbles = new Uint8Array(2 * bytes.length)
  for (const [i, byte] of bytes.entries()) nibbles.set([byte >> 4, byte & 15], 2 * i)
  return nibbles
}

/** Bytes in a binary field. */
export function encodeBinary(form: ValueForm, bytes: Uint8Array): Uint8Array | undefined {
  return place(form, bytes)
}

/** An unsigned number, big-endian, over the whole of a binary field. */
export function encodeNumber(length: number, value: number): Uint8Array | undefined {
  const bytes = new Uint8Array(length)
  let rest = value
  for (let i = length - 1; i >= 0; i--) {
    bytes[i] = rest % 256
    rest = Math.floor(rest / 256)
  }
  return rest === 0 ? bytes : undefined
}

/** The number in a binary field of a data set; undefined where it is above `max`. */
export function decodeNumber(bytes: Uint8Array, max: number): number | undefined {
  let value = 0
  for (const byte of bytes) {
    value = value * 256 + byte
    if (value > max) return undefined
  }
  return value
}

/** Units of a form with the value in its place and the pad around it. */
function place(form: ValueForm, units: Uint8Array): Uint8Array | undefined {
  const capacity = capacityOf(form)
  if (form.align === 'exact' ? units.length !== capacity : units.length > capacity) return undefined
  const placed = new Uint8Array(capacity).fill(padUnit(form))
  placed.set(units, form.align === 'right' ? capacity - units.length : 0)
  return placed
}

function padUnit({ pad }: ValueForm): number {
  return pad === undefined ? 0 : Number.parseInt(pad, 16)
}

/**
 * The ASCII characters in a field, its pad taken away. With `count` the value has that many characters and the rest
 * must be pad. Without it, a pad that could be part of the value (a zero before digits) cannot be told from it, and
 * stays. Undefined where the field does not hold characters of its encoding in this form. Not for binary fields.
 */
export function decodeCharacters(form: ValueForm, bytes: Uint8Array, count?: number): Uint8Array | undefined {
  if (form.encoding === 'binary') return undefined
  const alphabet = ALPHABETS[form.encoding]
  const units = alphabet.bits === 8 ? ownCopy(bytes) : unpackNibbles(bytes)
  const pad = padUnit(form)
  const length = count ?? (form.align === 'exact' ? units.length : unpadded(units, form, pad, alphabet))
  const start = form.align === 'right' ? units.length - length : 0
  if (start < 0 || length > units.length) return undefined
  const characters = new Uint8Array(length)
  for (const [i, unit] of units.entries()) {
    const inside = i >= start && i < start + length
    const character = inside ? alphabet.decode(unit) : undefined
    if (inside ? character === undefined : unit !== pad || form.align === 'exact') return undefined
    if (character !== undefined) characters[i - start] = character
  }
  return characters
}

/** How many units are value, not pad. */
function unpadded(units: Uint8Array, { align }: ValueForm, pad: number, alphabet: Alphabet): number {
  if (alphabet.decode(pad) !== undefined && !isBlank(pad, alphabet)) return units.length
  let length = units.length
  while (length > 0 && units[align === 'right' ? units.length - length : length - 1] === pad) length--
  return length
}

/** A space is padding by convention, although it is a character. */
function isBlank(unit: number, alphabet: Alphabet): boolean {
  return alphabet.decode(unit) === 0x20
}
