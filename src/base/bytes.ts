/** Byte helpers shared by all layers: strict hex, constant-time comparison, wiping. Nothing here knows a format. */

import { timingSafeEqual } from 'node:crypto'
import { types } from 'node:util'
import { ArgumentError, InputError } from './errors.js'

const HEX = /^(?:[0-9a-fA-F]{2})*$/

/** Upper-case hex of the bytes. */
export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex').toUpperCase()
}

/** Bytes of an even-length hex string, either case; `ERR_ENCODING` for anything else. `name` goes into the message. */
export function fromHex(hex: string, name: string): Uint8Array<ArrayBuffer> {
  if (typeof hex !== 'string') throw new ArgumentError(`${name} must be a string`)
  if (!HEX.test(hex)) throw new InputError('ERR_ENCODING', `${name} must be an even number of hex digits`)
  const bytes = new Uint8Array(hex.length / 2)
  for (let i = 0; i < bytes.length; i++) bytes[i] = Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16)
  return bytes
}

/**
 * A copy in memory of its own (never a slice of Node's buffer pool), so that wiping it wipes all there is. The buffer is
 * made first: V8 keeps small arrays on its own heap, and moves those that native code uses, leaving a copy behind.
 */
export function ownCopy(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(new ArrayBuffer(bytes.length))
  copy.set(bytes)
  return copy
}

/** The parts, one after the other, in memory of its own. */
export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(new ArrayBuffer(parts.reduce((length, part) => length + part.length, 0)))
  let offset = 0
  for (const part of parts) {
    whole.set(part, offset)
    offset += part.length
  }
  return whole
}

/** The built-in one: `Buffer` has its own, ten times slower on a few bytes. */
const { fill } = Uint8Array.prototype

/**
 * Overwrites buffers with zeros. Tolerates `undefined`, so that a `finally` can name what may not exist yet, and one that
 * was transferred to another thread: nothing of it is left here, and `fill` would throw.
 */
export function wipe(...buffers: readonly (Uint8Array | undefined)[]): void {
  for (const buffer of buffers) if (buffer !== undefined && buffer.length > 0) fill.call(buffer, 0)
}

/** Compares in time that depends on the lengths only. Different lengths are unequal. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b)
}

/** Throws `ERR_ARGUMENT` unless the value is a `Uint8Array` (a `Buffer` is one), of whatever realm. */
export function requireBytes(value: unknown, name: string): asserts value is Uint8Array {
  if (!types.isUint8Array(value)) throw new ArgumentError(`${name} must be a Uint8Array`)
}

/**
 * A plain copy of a caller's bytes, by their true length (a subclass may claim another), so that what is checked is
 * what is used. `ERR_ARGUMENT` for anything but a `Uint8Array`, and for one whose buffer was taken away.
 */
export function snapshot(value: unknown, name: string): Uint8Array<ArrayBuffer> {
  requireBytes(value, name)
  try {
    return new Uint8Array(value)
  } catch {
    throw new ArgumentError(`${name} must be a Uint8Array whose buffer is still attached`)
  }
}

/** Base64url as RFC 7515, 2 wants it: no padding, no white space, and one text only for each sequence of bytes. */

/** Unpadded base64url of the bytes. */
export function encodeBase64url(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64url')
}

/**
 * The bytes of canonical base64url, in memory of their own, or undefined for any other text: padding, white space,
 * the characters of plain base64, an impossible length, bits after the last byte that are not zero.
 *
 * Source: RFC 7515, 2 and appendix C; RFC 4648, 3.5 and 5.
 *
 * @example
 * ```ts
 * decodeBase64url('AQ') // 01
 * decodeBase64url('AR') // undefined: a second spelling of the same byte
 * ```
 */
export function decodeBase64url(text: string): Uint8Array<ArrayBuffer> | undefined {
  // Node's decoder skips what it does not know; whatever it skipped is missing when the bytes are encoded again.
  const bytes = Buffer.from(text, 'base64url')
  return bytes.toString('base64url') === text ? ownCopy(bytes) : undefined
}
