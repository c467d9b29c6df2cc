/**
 * Characters to bytes and back, for data set fields: packed decimal, ASCII, EBCDIC. Characters come and go as ASCII
 * bytes, so that a PAN never has to be a string. Everything returns undefined where it does not fit; the caller
 * names the field.
 */
import { asciiBytes, copyInto, ownCopy, secretBytes, wipe } from '../../base/bytes.js'
import type { FieldEncoding, Part, ValueForm } from './profile.js'

/**
 * EBCDIC, the invariant character set: the 82 characters that have the same place in all Latin code pages (037,
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

/** What code page 273 (Germany, Austria) has besides: each character at its own place. */
const GERMAN_RUNS: readonly (readonly [string, number])[] = [
  ['!', 0x4f],
  ['~', 0x59],
  ['$', 0x5b],
  ['^', 0x5f],
  ['[', 0x63],
  ['`', 0x79],
  ['#', 0x7b],
  ['@', 0xb5],
  ['|', 0xbb],
  ['{', 0x43],
  ['}', 0xdc],
  ['\\', 0xec],
  [']', 0xfc],
]

interface Alphabet {
  readonly bits: 4 | 8
  /** The unit for an ASCII character, and the ASCII character of a unit; undefined where there is none. */
  readonly encode: (character: number) => number | undefined
  readonly decode: (unit: number) => number | undefined
}

const printable = (code: number): number | undefined => (code >= 0x20 && code <= 0x7e ? code : undefined)

function alphabetOf(...runs: readonly (readonly [string, number])[]): Alphabet {
  const to = new Map<number, number>()
  for (const [run, first] of runs) {
    for (let i = 0; i < run.length; i++) to.set(run.charCodeAt(i), first + i)
  }
  const from = new Map([...to].map(([character, code]) => [code, character]))
  return { bits: 8, encode: character => to.get(character), decode: unit => from.get(unit) }
}

const ALPHABETS: Readonly<Record<Exclude<FieldEncoding, 'binary' | 'binary-le'>, Alphabet>> = {
  bcd: {
    bits: 4,
    encode: character => (character >= 0x30 && character <= 0x39 ? character - 0x30 : undefined),
    decode: unit => (unit <= 9 ? unit + 0x30 : undefined),
  },
  ascii: { bits: 8, encode: printable, decode: printable },
  ebcdic: alphabetOf(...EBCDIC_RUNS),
  'ebcdic-273': alphabetOf(...EBCDIC_RUNS, ...GERMAN_RUNS),
}

/** True for the encodings that are bytes or numbers, not characters. */
export function isBinary(encoding: FieldEncoding): encoding is 'binary' | 'binary-le' {
  return encoding === 'binary' || encoding === 'binary-le'
}

/** The printable ASCII characters that an encoding lacks. */
export function lackingIn(encoding: FieldEncoding): string {
  if (isBinary(encoding)) return ''
  const { encode } = ALPHABETS[encoding]
  const all = Array.from({ length: 0x5f }, (_, i) => 0x20 + i)
  return String.fromCharCode(...all.filter(character => encode(character) === undefined))
}

/** True where each of the characters is in the encoding: whether they fit is another question. */
export function hasAll(encoding: FieldEncoding, characters: Uint8Array): boolean {
  if (isBinary(encoding)) return true
  const { encode } = ALPHABETS[encoding]
  return characters.every(character => encode(character) !== undefined)
}

/** The units of the characters, one byte each; undefined where the encoding lacks one. In memory of its own. */
function unitsOf({ encode }: Alphabet, characters: Uint8Array): Uint8Array | undefined {
  const units = secretBytes(characters.length)
  for (const [i, character] of characters.entries()) {
    const unit = encode(character)
    if (unit === undefined) {
      wipe(units)
      return undefined
    }
    units[i] = unit
  }
  return units
}

/** Text of printable ASCII characters in EBCDIC, its invariant set; undefined where that lacks one. */
export function toEbcdic(text: string): Uint8Array | undefined {
  return unitsOf(ALPHABETS.ebcdic, asciiBytes(text))
}

/** How many characters a form holds. */
export function capacityOf(form: { readonly length: number; readonly encoding: FieldEncoding }): number {
  return form.encoding === 'bcd' ? 2 * form.length : form.length
}

/** Bytes of ASCII characters in their form, in memory of its own; undefined where they do not fit. */
export function encodeCharacters(form: ValueForm, characters: Uint8Array): Uint8Array | undefined {
  const { encoding } = form
  if (isBinary(encoding)) return encodeBinary(form, characters)
  const alphabet = ALPHABETS[encoding]
  const units = unitsOf(alphabet, characters)
  if (units === undefined) return undefined
  const placed = place(form, units)
  wipe(units)
  if (placed === undefined || alphabet.bits === 8) return placed
  const packed = packNibbles(placed)
  wipe(placed)
  return packed
}

/** A part of a value, in memory of its own; undefined where more is skipped than there is. */
export function partOfValue(
  value: Uint8Array,
  { from, skip, take }: Part,
): Uint8Array<ArrayBuffer> | undefined {
  if (skip > value.length) return undefined
  const count = Math.min(take ?? value.length, value.length - skip)
  const start = from === 'left' ? skip : value.length - skip - count
  return ownCopy(value.subarray(start, start + count))
}

/** Two nibbles to a byte, the first on the left; an even number of them. In memory of its own. */
export function packNibbles(nibbles: Uint8Array): Uint8Array {
  const packed = secretBytes(nibbles.length / 2)
  const view = new DataView(packed.buffer)
  for (const [i, nibble] of nibbles.entries()) view.setUint8(i >> 1, (view.getUint8(i >> 1) << 4) | nibble)
  return packed
}

/** The nibbles of bytes, one byte each. In memory of its own. */
export function unpackNibbles(bytes: Uint8Array): Uint8Array {
  const nibbles = secretBytes(2 * bytes.length)
  for (const [i, byte] of bytes.entries()) [nibbles[2 * i], nibbles[2 * i + 1]] = [byte >> 4, byte & 15]
  return nibbles
}

/** Bytes in a binary field. */
export function encodeBinary(form: ValueForm, bytes: Uint8Array): Uint8Array | undefined {
  return place(form, bytes)
}

/** An unsigned number over the whole of a field: the high byte first, or for `binary-le` the low one. */
export function encodeNumber(
  { length, encoding }: Pick<ValueForm, 'length' | 'encoding'>,
  value: number,
): Uint8Array | undefined {
  const bytes = secretBytes(length)
  let rest = value
  for (let i = 0; i < length; i++) {
    bytes[encoding === 'binary-le' ? i : length - 1 - i] = rest % 256
    rest = Math.floor(rest / 256)
  }
  return rest === 0 ? bytes : undefined
}

/** The number in a binary field of a data set; undefined where it is above `max`. */
export function decodeNumber(encoding: FieldEncoding, bytes: Uint8Array, max: number): number | undefined {
  let value = 0
  for (const byte of encoding === 'binary-le' ? ownCopy(bytes).reverse() : bytes) {
    value = value * 256 + byte
    if (value > max) return undefined
  }
  return value
}

/** Units of a form with the value in its place and the pad around it. */
function place(form: ValueForm, units: Uint8Array): Uint8Array | undefined {
  const capacity = capacityOf(form)
  if (form.align === 'exact' ? units.length !== capacity : units.length > capacity) return undefined
  const placed = secretBytes(capacity).fill(padUnit(form))
  copyInto(placed, units, form.align === 'right' ? capacity - units.length : 0)
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
  if (isBinary(form.encoding)) return undefined
  const alphabet = ALPHABETS[form.encoding]
  const units = alphabet.bits === 8 ? ownCopy(bytes) : unpackNibbles(bytes)
  const pad = padUnit(form)
  const length = count ?? (form.align === 'exact' ? units.length : unpadded(units, form, pad, alphabet))
  const start = form.align === 'right' ? units.length - length : 0
  if (start < 0 || length > units.length) return undefined
  const characters = secretBytes(length)
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
