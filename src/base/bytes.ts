/**
 * Bytes: where secret memory is born, and strict hex, base64url, comparison and wiping. V8 keeps a typed array of up to 64
 * bytes on its own heap and leaves copies behind when it moves one; nobody wipes those. So everything in `src` that may
 * hold a secret is made by {@link secretBytes} or by what is built on it here (an architecture test sees to it). Making it
 * costs ten times what a small array on the heap costs: what is done a million times a second uses a scratch area again.
 */

import { randomFillSync, timingSafeEqual } from 'node:crypto'
import { types } from 'node:util'
import { ArgumentError, InputError } from './errors.js'

const HEX = /^(?:[0-9a-fA-F]{2})*$/

/** Upper-case hex of the bytes. */
export function toHex(bytes: Uint8Array): string {
  return bufferOf(bytes).toString('hex').toUpperCase()
}

/**
 * Zeroed memory off V8's heap, never a slice of a pool: wiping it wipes all there is. The one maker of memory for secrets.
 *
 * @example
 * ```ts
 * const block = secretBytes(8)
 * ```
 */
export function secretBytes(length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new ArrayBuffer(length))
}

/** {@link secretBytes} that two threads see at once. Whoever is done with it wipes it. */
export function sharedBytes(length: number): Uint8Array<SharedArrayBuffer> {
  return new Uint8Array(new SharedArrayBuffer(length))
}

/**
 * Zeroed memory of its own for a result that is no secret, such as an enciphered PIN block: where V8 likes to have it, for
 * a tenth of the price of {@link secretBytes}. Who may ask for it is in a table of an architecture test.
 */
export function publicBytes(length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(length)
}

/** Room that {@link publicRoom} gives out, and how much of it is taken. */
const ROOM_BYTES = 32 * 1024
const room = { bytes: secretBytes(ROOM_BYTES), taken: 0 }

/**
 * Zeroed memory for what is no secret and goes to no caller, such as the parts of a message that somebody sent: a piece of a
 * larger one, given out once, for a tenth of the price of {@link secretBytes}. Who may ask for it is in the table of {@link publicBytes}.
 */
export function publicRoom(length: number): Uint8Array<ArrayBuffer> {
  if (length > ROOM_BYTES) return secretBytes(length)
  if (length > ROOM_BYTES - room.taken) {
    room.bytes = secretBytes(ROOM_BYTES)
    room.taken = 0
  }
  room.taken += length
  return room.bytes.subarray(room.taken - length, room.taken)
}

/** Bytes of an even-length hex string, either case; `ERR_ENCODING` for anything else. `name` goes into the message. */
export function fromHex(hex: string, name: string): Uint8Array<ArrayBuffer> {
  if (typeof hex !== 'string') throw new ArgumentError(`${name} must be a string`)
  if (!HEX.test(hex)) throw new InputError('ERR_ENCODING', `${name} must be an even number of hex digits`)
  const bytes = secretBytes(hex.length / 2)
  for (let i = 0; i < bytes.length; i++) {
    bytes[i] = (hexDigit(hex.charCodeAt(2 * i)) << 4) | hexDigit(hex.charCodeAt(2 * i + 1))
  }
  return bytes
}

/** The value of a hex digit: bit 6 tells a letter of either case from a numeral. */
function hexDigit(code: number): number {
  return (code & 0xf) + (code >> 6) * 9
}

/** The UTF-8 form of a text, in memory of its own. */
export function utf8Bytes(text: string): Uint8Array<ArrayBuffer> {
  const bytes = secretBytes(Buffer.byteLength(text, 'utf8'))
  writeText(bytes, text, 'utf8')
  return bytes
}

/** One byte a character (Latin-1), for text that is ASCII or a byte string; in memory of its own. */
export function asciiBytes(text: string): Uint8Array<ArrayBuffer> {
  const bytes = secretBytes(text.length)
  writeText(bytes, text, 'latin1')
  return bytes
}

/** A copy in memory of its own (never a slice of Node's buffer pool), so that wiping it wipes all there is. */
export function ownCopy(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  // None, or its buffer was taken away.
  if (bytes.length === 0) return snapshot(bytes, 'what is copied')
  const copy = secretBytes(bytes.length)
  copyInto(copy, bytes)
  return copy
}

/** So many bytes are copied one by one in about the time of a call of `set` and of {@link clearRegisters}. */
const ONE_BY_ONE = 64

/**
 * Copies bytes into memory that has room for them, from a place on. What copies sixteen bytes or more at a time leaves them
 * in the processor's registers, and V8 writes all registers into its memory when it throws away optimised code: so a few bytes
 * go one by one, and after more the registers are written over. An architecture test lets nothing in `src` copy what may be a
 * secret by `set`, `copy` or `copyWithin`.
 */
export function copyInto(memory: Uint8Array, bytes: Uint8Array, at = 0): void {
  const { length } = bytes
  // A place that is negative, a fraction or NaN: V8 would leave out what is there, or write elsewhere, and say nothing.
  if (at >>> 0 !== at || length > memory.length - at) throw new ArgumentError('there is no room for the copy')
  copyPlain(memory, bytes, length, at)
}

function copyPlain(memory: Uint8Array, bytes: Uint8Array, length: number, at: number): void {
  if (length > ONE_BY_ONE) {
    setBytes.call(memory, bytes, at)
    clearRegisters()
  } else for (let i = 0; i < length; i++) memory[at + i] = bytes[i] as number
}

/** The built-in one, whatever a subclass says. */
const { set: setBytes } = Uint8Array.prototype
/** Each length is copied through registers of its own: see `memmove` of glibc, from 16 bytes on. */
const ZEROS = [16, 40, 72, 200].map(length => [secretBytes(length), secretBytes(length)] as const)

/**
 * Writes zeros over what native code has left of a secret in the processor's registers, by copies of zeros as long as use each of
 * them. For after a call that computes or copies secrets of 16 bytes and more natively: Z, a content key, a plaintext.
 */
export function clearRegisters(): void {
  for (const [memory, zeros] of ZEROS) setBytes.call(memory, zeros)
}

/**
 * Writes into memory the bytes that a text stands for, as many as there is room for, and says how many. Node reads texts through
 * registers that, with AVX-512, no copy of zeros reaches: the same call for a public text of the same length goes through
 * the same ones. A text that is not ASCII is read in another way, which was not looked at.
 */
export function writeText(
  memory: Uint8Array,
  text: string,
  encoding: 'latin1' | 'utf8' | 'base64' | 'base64url',
): number {
  const written = bufferOf(memory).write(text, encoding)
  const { length } = text
  overwritten.write(PUBLIC_TEXT.slice(0, length < 256 ? length : 256 + (length % 64)), encoding)
  clearRegisters()
  return written
}

/** As long as it takes: texts are read 64 characters at a time, and what is left over in its own way. */
const PUBLIC_TEXT = 'A'.repeat(320)
const overwritten = bufferOf(secretBytes(PUBLIC_TEXT.length))

/** XORs a mask into memory that is as long. */
export function xorInto(memory: Uint8Array, mask: Uint8Array): void {
  for (let i = 0; i < memory.length; i++) memory[i] = (memory[i] as number) ^ (mask[i] as number)
}

/** What OpenSSL's generator makes at once. */
const RANDOM_BLOCK = 16

/**
 * Random bytes that are to be a secret (`node:crypto`), in memory of their own. They are drawn by whole blocks: of a block that is
 * not used up OpenSSL's generator keeps the part that it gave out, until it is asked again.
 */
export function randomSecret(length: number): Uint8Array<ArrayBuffer> {
  const blocks = randomFillSync(secretBytes(RANDOM_BLOCK * Math.ceil(length / RANDOM_BLOCK)))
  clearRegisters()
  return blocks.length === length ? blocks : withWiped(blocks, all => ownCopy(all.subarray(0, length)))
}

/** The parts, one after the other, in memory of its own. */
export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = secretBytes(parts.reduce((length, part) => length + part.length, 0))
  let offset = 0
  for (const part of parts) {
    copyInto(whole, part, offset)
    offset += part.length
  }
  return whole
}

/** Byte by byte the XOR of two of one length, in memory of its own. */
export function xorBytes(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const out = ownCopy(a)
  xorInto(out, b)
  return out
}

/** Node's view of the same memory: nothing is copied. */
export function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/**
 * Hands bytes to `use` and wipes them when it is done, whatever comes of it: now, or when the promise that it gave is
 * settled. The bytes are given up: `use` must not keep them, and must not return them.
 *
 * @example
 * ```ts
 * const mac = withWiped(padMessage(2, message, 8), padded => cbcMac(cipher, iv, padded))
 * ```
 */
export function withWiped<B extends Uint8Array, T>(bytes: B, use: (bytes: B) => T): T {
  let waiting = false
  try {
    const result = use(bytes)
    if (!(result instanceof Promise)) return result
    waiting = true
    return result.finally(() => wipe(bytes)) as T
  } finally {
    if (!waiting) wipe(bytes)
  }
}

/** The built-in one: `Buffer` has its own, ten times slower on a few bytes. */
const { fill } = Uint8Array.prototype
/** So many bytes are overwritten in the time of the call alone. */
const SMALL = 16

/**
 * Overwrites buffers with zeros. Tolerates `undefined`, so that a `finally` can name what may not exist yet, and one that
 * was transferred to another thread: nothing of it is left here, and `fill` would throw.
 */
export function wipe(...buffers: readonly (Uint8Array | undefined)[]): void {
  for (const buffer of buffers) if (buffer !== undefined) wipeOne(buffer)
}

function wipeOne(buffer: Uint8Array): void {
  const { length } = buffer
  if (length > SMALL) fill.call(buffer, 0)
  else for (let i = 0; i < length; i++) buffer[i] = 0
}

/** As many arguments as 8 KiB of a stack have room for. SoftHSM goes 2 KiB deep below the call, and that is 1 to 2 KiB below a session's use. */
const STACK = Array.from({ length: 1024 }, () => 0)
const ignore = (): void => {}

/**
 * Writes zeros over what calls that have returned left below on the stack of this thread. A module that computes in this
 * process keeps what it made last in a local variable (SoftHSM by OpenSSL's `DES_ecb3_encrypt`, both ways), and nothing else
 * need go as deep while the thread waits. Koffi calls on a stack of its own, which this does not reach. Arguments are written one beside the other, without a gap, whatever V8 has made
 * of the code; frames of a recursion have gaps once it is optimised.
 */
export function overwriteStack(): void {
  try {
    Reflect.apply(ignore, undefined, STACK)
  } catch {
    // So near the end of the stack there is no room: whatever the caller has to do matters more.
  }
  // What the module copied last is in them.
  clearRegisters()
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
    const copy = secretBytes(lengthOf.call(value))
    // It throws where the buffer was taken away.
    if (copy.length === 0) setBytes.call(copy, value)
    copyPlain(copy, value, copy.length, 0)
    return copy
  } catch {
    throw new ArgumentError(`${name} must be a Uint8Array whose buffer is still attached`)
  }
}
/** Answers `length` from the array itself, whatever a subclass says. */
const lengthOf = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), 'length')
  ?.get as (this: Uint8Array) => number

/**
 * True for a `Uint8Array` that is still attached, holds a byte or more, has no length of its own (which could tell the truth
 * once, and run whatever code), and is of no subclass but `Buffer`, which means the same by all that is read here.
 */
export function isPlainBytes(value: unknown): value is Uint8Array {
  if (!types.isUint8Array(value)) return false
  const prototype = Object.getPrototypeOf(value)
  if (prototype !== Uint8Array.prototype && prototype !== Buffer.prototype) return false
  return !Object.hasOwn(value, 'length') && value.length > 0
}

/* Base64url as RFC 7515, 2 wants it: no padding, no white space, and one text only for each sequence of bytes. */

const BASE64URL = /^[\w-]*$/
/** By the characters after the last group of four: what the final one may be, so that no bit is left over; one is too few. */
const FINAL: readonly (string | undefined)[] = ['', undefined, 'AQgw', 'AEIMQUYcgkosw048']

/** Unpadded base64url of the bytes. */
export function encodeBase64url(bytes: Uint8Array): string {
  return bufferOf(bytes).toString('base64url')
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
  // Node's decoder skips what it does not know, so the text is judged first.
  if (!isBase64url(text)) return undefined
  const bytes = secretBytes(base64urlBytes(text))
  writeText(bytes, text, 'base64url')
  return bytes
}

/** True for canonical base64url, as {@link decodeBase64url} takes it. */
export function isBase64url(text: string): boolean {
  return BASE64URL.test(text) && endsOnByte(text)
}

/** True for characters of base64url, which the caller has looked at, of a whole number of bytes: no bit is left over. */
export function endsOnByte(text: string): boolean {
  const { length } = text
  return length % 4 === 0 || FINAL[length % 4]?.includes(text.charAt(length - 1)) === true
}

/** How many bytes canonical base64url stands for. */
export function base64urlBytes(text: string): number {
  return Math.floor((text.length * 3) / 4)
}
