/**
 * ISO 9564-1 format 0, written out.
 *
 *     PIN field   0  L  P P P P …  F F          XOR
 *     PAN field   0  0  0  0  the 12 digits before the check digit
 */
import { randomBytes } from 'node:crypto'
import { tdea, xor } from './ciphers.js'

function panField(pan: string): Buffer {
  return Buffer.from(`0000${pan.slice(-13, -1).padStart(12, '0')}`, 'hex')
}

/** Whether a block of one card is a block of the other. */
export function haveOneBlock(pan: string, other: string): boolean {
  return panField(pan).equals(panField(other))
}

/** The clear block of a PIN: 8 bytes. */
export function clearBlock(pin: string, pan: string): Buffer {
  return xor(pinField(`0${pin.length.toString(16)}${pin}`), panField(pan))
}

function pinField(head: string): Buffer {
  return Buffer.from(head.padEnd(16, 'f'), 'hex')
}

function lengthIn(field: string): number {
  return Number.parseInt(field.charAt(1), 16)
}

/** The PIN in a clear block, or undefined where it is no format 0 block of this PAN. */
export function pinOf(block: Buffer, pan: string): string | undefined {
  const field = xor(block, panField(pan)).toString('hex')
  const length = lengthIn(field)
  const [digits, filler] = [field.slice(2, 2 + length), field.slice(2 + length)]
  const sound = field.length === 16 && field[0] === '0' && length >= 4 && length <= 12
  return sound && /^\d+$/.test(digits) && /^f*$/.test(filler) ? digits : undefined
}

/** True where every check of format 0 but that of the digits passes: what a translation may let through. */
function passes(block: Buffer, pan: string): boolean {
  const field = xor(block, panField(pan)).toString('hex')
  return /^0[4-9a-c]/.test(field) && /^f*$/.test(field.slice(2 + lengthIn(field)))
}

/** What the makers of wrong blocks know. */
export interface BlockInput {
  readonly pin: string
  readonly pan: string
  readonly zpk: Buffer
}

/** Enciphered blocks that hold no PIN of the card; none passes as format 0 by accident. */
export const WRONG_BLOCKS: Readonly<Record<string, (input: BlockInput) => Buffer>> = {
  'a block under another key': input =>
    unfit(input, pin => tdea('encipher', randomBytes(16), clearBlock(pin, input.pan))),
  'a block of another PAN': input => tdea('encipher', input.zpk, clearBlock(input.pin, otherPan(input.pan))),
  'a clear block': input => unfit(input, pin => clearBlock(pin, input.pan)),
  'a block of format 1': input => inField(input, `1${input.pin.length.toString(16)}${input.pin}`),
  'a block of format 3': input => inField(input, `3${input.pin.length.toString(16)}${input.pin}`),
  'a PIN of 3 digits': input => inField(input, `03${input.pin.slice(0, 3)}`),
  'a PIN of 13 digits': input => inField(input, `0d${'1234567890123'}`),
  'a filler that is none': input =>
    tdea(
      'encipher',
      input.zpk,
      xor(Buffer.from(`04${'1234'}${'f'.repeat(8)}0f`, 'hex'), panField(input.pan)),
    ),
}

function inField({ pan, zpk }: BlockInput, head: string): Buffer {
  return tdea('encipher', zpk, xor(pinField(head), panField(pan)))
}

/** A PAN whose last digits of the 12 differ: there the filler stands, whatever the length of the PIN. */
function otherPan(pan: string): string {
  const flipped = (digit: string): string => String((Number(digit) + 5) % 10)
  return pan.slice(0, -4) + pan.slice(-4).replaceAll(/\d/g, flipped)
}

/** Repeats until what the issuer will find under its key is not format 0: one try in 60,000 is by chance. */
function unfit(input: BlockInput, make: (pin: string) => Buffer): Buffer {
  for (let pin = input.pin; ; pin = nextPin(pin)) {
    const block = make(pin)
    if (!passes(tdea('decipher', input.zpk, block), input.pan)) return block
  }
}

/** Another PIN of the same length. */
export function nextPin(pin: string): string {
  return ((BigInt(pin) + 1n) % 10n ** BigInt(pin.length)).toString().padStart(pin.length, '0')
}
