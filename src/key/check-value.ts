/** Key check values: a KCV is a value and the method that made it, for two methods give two values for one key. */
import { createHash } from 'node:crypto'
import { asciiBytes, equalBytes, fromHex, toHex } from '../base/bytes.js'
import { ArgumentError, KeyError } from '../base/errors.js'
import type { KeyAlgorithm } from '../primitives/key-algorithm.js'
import type { P256PublicJwk } from '../primitives/p256.js'

/**
 * - `encrypt-zero`: leftmost bytes of the key's cipher over one zero block (ANSI X9.24-1, the TDEA method).
 * - `cmac`: leftmost bytes of CMAC over one zero block (ANSI X9.24-1, the AES method).
 * - `jwk-thumbprint`: SHA-256 thumbprint of the public key (RFC 7638), base64url; EC keys have no KCV of their own.
 */
export type CheckValueMethod = 'encrypt-zero' | 'cmac' | 'jwk-thumbprint'

/** A key check value: upper-case hex (6 digits TDEA, 6 to 10 digits AES), or a base64url thumbprint for EC keys. */
export interface CheckValue {
  readonly method: CheckValueMethod
  readonly value: string
}

/** Bytes a token or engine computes for a symmetric KCV; comparisons use what the caller gave, 3 bytes at least. */
export const CHECK_VALUE_BYTES: Readonly<Record<'encrypt-zero' | 'cmac', number>> = {
  'encrypt-zero': 3,
  cmac: 5,
}

/** The method a bare KCV string means for a key of this algorithm. */
export function defaultMethod(algorithm: KeyAlgorithm): CheckValueMethod {
  if (algorithm === 'ec-p256') return 'jwk-thumbprint'
  return algorithm.startsWith('aes') ? 'cmac' : 'encrypt-zero'
}

const SHAPES: Readonly<Record<CheckValueMethod, RegExp>> = {
  'encrypt-zero': /^[0-9A-Fa-f]{6}$/,
  cmac: /^(?:[0-9A-Fa-f]{6}|[0-9A-Fa-f]{8}|[0-9A-Fa-f]{10})$/,
  'jwk-thumbprint': /^[A-Za-z0-9_-]{43}$/,
}

/**
 * A caller's check value, read once; `ERR_ARGUMENT` unless it is one by some method, which is all that can be said
 * before the key is found.
 */
export function snapshotCheckValue(given: unknown): string | CheckValue {
  if (typeof given === 'string' && Object.values(SHAPES).some(shape => shape.test(given))) return given
  if (typeof given === 'object' && given !== null && 'method' in given && 'value' in given) {
    const { method, value } = given
    if (isMethod(method) && typeof value === 'string' && SHAPES[method].test(value)) return { method, value }
  }
  throw new ArgumentError(
    'kcv must be 6 to 10 hex digits, a 43-character thumbprint, or { method, value } of these',
  )
}

function isMethod(value: unknown): value is CheckValueMethod {
  return typeof value === 'string' && Object.hasOwn(SHAPES, value)
}

/** The method a caller named, or undefined where a bare string leaves it to the algorithm. */
export function methodOf(given: string | CheckValue | undefined): CheckValueMethod | undefined {
  return typeof given === 'object' ? given.method : undefined
}

/** The caller's expectation for a key of this algorithm; `ERR_ARGUMENT` where its shape does not fit the method. */
export function readCheckValue(given: string | CheckValue, algorithm: KeyAlgorithm): CheckValue {
  const { method, value } =
    typeof given === 'string' ? { method: defaultMethod(algorithm), value: given } : given
  if (!SHAPES[method].test(value)) throw new ArgumentError(`kcv has the wrong shape for method ${method}`)
  return { method, value: method === 'jwk-thumbprint' ? value : value.toUpperCase() }
}

/** The leftmost bytes of a computed check block, as a {@link CheckValue}. */
export function checkValueOf(method: 'encrypt-zero' | 'cmac', block: Uint8Array): CheckValue {
  return { method, value: toHex(block.subarray(0, CHECK_VALUE_BYTES[method])) }
}

/**
 * Compares in constant time; a shorter expectation compares with the left part. Throws `ERR_KEY_CHECK_VALUE` where
 * the values differ or the methods cannot be compared. The message shows neither value.
 */
export function requireCheckValue(kid: string, expected: CheckValue, actual: CheckValue): void {
  if (expected.method !== actual.method) {
    throw new KeyError(
      'ERR_KEY_CHECK_VALUE',
      `key ${kid}: its check value is made by ${actual.method}, not ${expected.method}`,
      kid,
    )
  }
  const read = expected.method === 'jwk-thumbprint' ? asciiBytes : (text: string) => fromHex(text, 'kcv')
  const want = read(expected.value)
  const have = read(actual.value).subarray(0, want.length)
  if (!equalBytes(want, have)) {
    throw new KeyError('ERR_KEY_CHECK_VALUE', `key ${kid}: the check value does not match`, kid)
  }
}

/** SHA-256 thumbprint of a public key: members in lexicographic order, no white space (RFC 7638, 3). */
export function thumbprintOf({ crv, kty, x, y }: P256PublicJwk): CheckValue {
  const value = createHash('sha256').update(JSON.stringify({ crv, kty, x, y })).digest('base64url')
  return { method: 'jwk-thumbprint', value }
}
