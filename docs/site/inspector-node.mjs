/** The little of Node that the inspectors use, for a browser: comparing, filling at random, views of bytes, type tests. */
const HEX = /^[0-9a-f]{2}$/i

export function timingSafeEqual(a, b) {
  let difference = a.length ^ b.length
  for (let i = 0; i < a.length; i++) difference |= a[i] ^ b[i]
  return difference === 0
}

/** What inspectors import along, and never call. */
const absent = name => () => {
  throw new Error(`${name} is not in this page`)
}
export const createHash = absent('createHash')
export const createPrivateKey = absent('createPrivateKey')
export const createPublicKey = absent('createPublicKey')
export const sign = absent('sign')
export const verify = absent('verify')

export const randomFillSync = bytes => crypto.getRandomValues(bytes)

export const inspect = Object.assign(() => '', { custom: Symbol.for('nodejs.util.inspect.custom') })

export const types = {
  isProxy: () => false,
  isUint8Array: value => value instanceof Uint8Array,
  isSharedArrayBuffer: value => typeof SharedArrayBuffer === 'function' && value instanceof SharedArrayBuffer,
}

/** `Buffer.from`, for the encodings that the library reads and writes. */
export class Buffer extends Uint8Array {
  static from(value, encoding, length) {
    if (typeof value !== 'string') return new Buffer(value, encoding, length)
    const bytes = DECODERS[encoding ?? 'utf8'](value)
    return new Buffer(bytes.buffer, 0, bytes.length)
  }
  equals(other) {
    return timingSafeEqual(this, other)
  }
  write(text, ...where) {
    const encoding = where.at(-1)
    const offset = where.length > 1 ? where[0] : 0
    const bytes = DECODERS[encoding](text).subarray(0, this.length - offset)
    this.set(bytes, offset)
    return bytes.length
  }
  toString(encoding) {
    if (encoding === 'hex') return Array.from(this, byte => byte.toString(16).padStart(2, '0')).join('')
    const binary = Array.from(this, byte => String.fromCharCode(byte)).join('')
    if (encoding === 'latin1') return binary
    if (encoding === 'base64url')
      return btoa(binary).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '')
    return new TextDecoder().decode(this)
  }
}

const fromBinary = text => Uint8Array.from(text, character => character.charCodeAt(0))

const DECODERS = {
  hex: text =>
    Uint8Array.from(
      (text.match(/../g) ?? []).filter(pair => HEX.test(pair)),
      pair => Number.parseInt(pair, 16),
    ),
  utf8: text => new TextEncoder().encode(text),
  latin1: fromBinary,
  base64url: text => fromBinary(atob(text.replaceAll('-', '+').replaceAll('_', '/'))),
}
