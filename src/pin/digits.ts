/** Decimal digits in wipeable memory: what a PIN and a PAN have in common. */
import { ArgumentError } from '../errors.js'

/**
 * Digit values 0–9 from a string or from ASCII bytes, or undefined where the length is out of bounds or anything
 * but the ten ASCII digits occurs (Unicode digits are not PIN digits).
 */
export function readDigits(
  value: string | Uint8Array,
  name: string,
  bounds: { min: number; max: number },
): Uint8Array<ArrayBuffer> | undefined {
  const isText = typeof value === 'string'
  if (!isText && !(value instanceof Uint8Array)) {
    throw new ArgumentError(`${name} must be a string or a Uint8Array of ASCII digits`)
  }
  if (value.length < bounds.min || value.length > bounds.max) return undefined
  const digits = new Uint8Array(value.length)
  const codeAt = isText ? (i: number) => value.charCodeAt(i) : byteReader(value)
  let bad = 0
  for (let i = 0; i < digits.length; i++) {
    const digit = codeAt(i) - 0x30
    bad |= digit < 0 || digit > 9 ? 1 : 0
    digits[i] = digit
  }
  if (bad === 0) return digits
  digits.fill(0)
  return undefined
}

function byteReader(bytes: Uint8Array): (i: number) => number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return i => view.getUint8(i)
}

/** ASCII bytes of digit values, in memory of its own. */
export function asciiDigits(digits: Uint8Array): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(digits, digit => digit + 0x30)
}
