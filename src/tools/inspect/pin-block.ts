/** A PIN block for people: its format and whether it is sound, no digit of the PIN. */
import { requireBytes } from '../../base/bytes.js'
import { ArgumentError, InputError } from '../../base/errors.js'
import { HIDDEN, hideBytes, renderTable } from './table.js'

/** What the control nibble says (ISO 9564-1:2017, 9.3 and 9.4). */
const FORMATS: readonly string[] = [
  'format 0: PIN field XOR PAN field',
  'format 1: PIN and transaction data',
  'format 2: PIN alone, for a chip card',
  'format 3: as format 0, filled at random',
  'format 4: PIN field of 16 bytes, enciphered with AES',
]
const BLOCK_BYTES: readonly number[] = [8, 16]

/**
 * A PIN block as a table: field, offset, bytes, meaning. For people; the text is not a format. Of a clear block it shows
 * the control nibble, and whether the length nibble is one: no digit, no filler, not the length. Of an enciphered
 * block it shows how long it is.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_LENGTH` (not 8 or 16 bytes). Source: ISO 9564-1:2017, 9.3.
 *
 * @example
 * ```ts
 * console.log(inspectPinBlock(block, { state: 'enciphered' }))
 * ```
 */
export function inspectPinBlock(
  block: Uint8Array,
  options: { readonly state: 'clear' | 'enciphered' },
): string {
  requireBytes(block, 'block')
  if (!BLOCK_BYTES.includes(block.length)) {
    throw new InputError('ERR_LENGTH', `block: ${block.length} bytes, expected 8 or 16`)
  }
  const state: unknown = options?.state
  if (state !== 'clear' && state !== 'enciphered')
    throw new ArgumentError('state must be clear or enciphered')
  const rows = state === 'clear' ? clearRows(block) : encipheredRows(block)
  return `PIN block, ${state}\n${renderTable(['field', 'offset', 'bytes', 'meaning'], rows)}`
}

function clearRows(block: Uint8Array): string[][] {
  const first = new DataView(block.buffer, block.byteOffset).getUint8(0)
  const control = first >> 4
  const length = first & 0xf
  const hidden = HIDDEN.slice(1)
  return [
    [
      'control',
      '0',
      `${control.toString(16).toUpperCase()}.`,
      FORMATS[control] ?? 'NOT a format of ISO 9564-1',
    ],
    ['length', '0', `.${hidden}`, length >= 4 && length <= 12 ? 'PIN length, 4 to 12' : 'NOT a PIN length'],
    ['body', '1', hideBytes(block.length - 1), 'PIN digits, filler and what the format adds: not shown'],
  ]
}

function encipheredRows(block: Uint8Array): string[][] {
  const cipher = block.length === 16 ? 'one AES block, or two TDEA blocks' : 'one TDEA block'
  return [['block', '0', hideBytes(block.length), `${block.length} bytes, ${cipher}: not shown`]]
}
