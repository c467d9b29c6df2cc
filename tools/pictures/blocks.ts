/**
 * The PIN block formats by their nibbles, of one PIN and one PAN. The nibbles are what the formats build: those that differ between
 * two blocks of the same PIN and PAN are random, and a PAN field is what differs between this PAN and one of zeros.
 */
import { Pan, Pin } from '../../src/index.js'
import { buildBlock, type FormatRow } from '../../src/pin/formats/format.js'
import { FORMATS } from '../../src/pin/formats/formats.js'
import { drawing, type Kind, label } from './kit.js'

const PIN = '4711'
const PAN = '9999990123456789'
const ZEROS = '0'.repeat(PAN.length)
/** Blocks that are compared: a random nibble of ten or six values stays the same in all of them once in 10^15. */
const SAMPLES = 20

interface Nibble {
  readonly text: string
  readonly kind: Kind
}
interface Row {
  readonly name: string
  readonly nibbles: readonly Nibble[]
}

const nibblesOf = (bytes: Uint8Array): readonly number[] =>
  Array.from(bytes).flatMap(byte => [byte >> 4, byte & 15])
const shown = (nibble: number): string => nibble.toString(16).toUpperCase()

function built(row: FormatRow, pan: string): readonly number[] {
  using pin = Pin.from(PIN)
  return nibblesOf(buildBlock(row, pin, Pan.from(pan)))
}

/** The PIN field: control, length, digits, filler; random filler as a dot. */
function pinField(row: FormatRow): readonly Nibble[] {
  const samples = Array.from({ length: SAMPLES }, () => built(row, ZEROS))
  return (samples[0] ?? []).map((nibble, i) => {
    if (samples.some(other => other[i] !== nibble)) return { text: '·', kind: 'key' }
    const kind: Kind = i < 2 ? 'plain' : i < 2 + PIN.length ? 'pin' : 'ring'
    return { text: shown(nibble), kind }
  })
}

/** What the PAN adds; nothing where a format is bound to none. */
function panField(row: FormatRow): readonly Nibble[] | undefined {
  if (row.panField !== undefined) {
    const field = new Uint8Array(row.bytes)
    row.panField(Pan.from(PAN), field, 0)
    return nibblesOf(field).map(nibble => ({ text: shown(nibble), kind: 'pan' }))
  }
  if (!row.bound) return undefined
  // Of a format without a random filler, for only there two blocks differ by the PAN alone.
  const [ours, zeros] = [built(FORMATS[0], PAN), built(FORMATS[0], ZEROS)]
  return ours.map((nibble, i) => ({ text: shown(nibble ^ (zeros[i] ?? 0)), kind: 'pan' }))
}

const JOINED: Readonly<Record<number, string>> = {
  0: 'PIN field XOR PAN field, enciphered (TDEA)',
  1: 'enciphered (TDEA); bound to no card',
  2: 'for the chip’s own check, never between two hosts',
  3: 'as 0, with a random filler',
  4: 'enciphered, XOR PAN field, enciphered again (AES)',
}

const CELL = 25
const LEFT = 128
const ROW = 34

/** The drawing. */
export function pinBlocks(): string {
  const parts = [
    label({ x: 24, y: 34, text: `PIN ${PIN}, PAN ${PAN}, in five formats`, classes: 'h' }),
    label({
      x: 24,
      y: 56,
      text: 'Red: the PIN. Blue: the PAN. Yellow: random. White: a filler that is fixed.',
      classes: 'm',
    }),
  ]
  let y = 92
  let most = 0
  for (const [format, row] of Object.entries(FORMATS)) {
    const pan = panField(row)
    const rows: Row[] = [
      { name: pan === undefined ? 'block' : 'PIN field', nibbles: pinField(row) },
      ...(pan === undefined ? [] : [{ name: 'PAN field', nibbles: pan }]),
    ]
    parts.push(
      label({ x: 24, y, text: `Format ${format}`, classes: 'h' }),
      label({ x: LEFT, y, text: `${JOINED[Number(format)]}`, classes: 'm' }),
    )
    for (const { name, nibbles } of rows) {
      y += 12
      parts.push(label({ x: LEFT - 12, y: y + 18, text: name, classes: 'end m' }))
      for (const [i, { text, kind }] of nibbles.entries()) {
        const x = LEFT + i * CELL
        parts.push(
          `<rect class="${kind}" x="${x}" y="${y}" width="${CELL - 2}" height="${ROW - 8}" rx="4"/>`,
          label({ x: x + CELL / 2 - 1, y: y + 18, text, classes: 'mid c' }),
        )
      }
      most = Math.max(most, nibbles.length)
      y += ROW - 8
    }
    y += 34
  }
  return drawing({
    width: LEFT + most * CELL + 20,
    height: y - 16,
    title: 'The PIN block formats',
    description: Object.entries(FORMATS)
      .map(([format, row]) => {
        const text = (field: readonly Nibble[]): string => field.map(nibble => nibble.text).join('')
        const pan = panField(row)
        return `Format ${format}: ${text(pinField(row))}${pan === undefined ? '' : ` and ${text(pan)}`}, ${JOINED[Number(format)]}`
      })
      .join('; '),
    parts,
  })
}
