/** Key check values: a KCV is a value and the method that made it, for two methods give two values for one key. */
import { createHash } from 'node:crypto'
import { readOwn } from '../base/arguments.js'
import { asciiBytes, equalBytes, fromHex, toHex } from '../base/bytes.js'
import { ArgumentError, BackendError, KeyError } from '../base/errors.js'
import { isTdea, type KeyAlgorithm } from '../primitives/algorithms.js'
import type { P256PublicJwk } from '../primitives/p256.js'

/**
 * - `encrypt-zero`: leftmost bytes of the key's cipher over one zero block (ANSI X9.24-1, the TDEA method).
 * - `cmac`: leftmost bytes of CMAC over one zero block (ANSI X9.24-1, the AES method).
 * - `hmac`: leftmost bytes of HMAC-SHA-256 over 16 zero bytes. No standard names one for HMAC keys: this is X9.24-1's way with
 *   CMAC, and both sides must use it.
 * - `jwk-thumbprint`: SHA-256 thumbprint of the public key (RFC 7638), base64url; EC keys have no KCV of their own.
 */
export type CheckValueMethod = 'encrypt-zero' | 'cmac' | 'hmac' | 'jwk-thumbprint'

/** The methods for symmetric keys. */
export type SymmetricMethod = Exclude<CheckValueMethod, 'jwk-thumbprint'>

/** A key check value: upper-case hex of the leftmost bytes, 2 to 8 for TDEA, 2 to 16 for AES and HMAC; a base64url thumbprint for EC keys. */
export interface CheckValue {
  readonly method: CheckValueMethod
  readonly value: string
}

/** Bytes that are shown of a symmetric KCV where the caller expects none longer. */
export const CHECK_VALUE_BYTES: Readonly<Record<SymmetricMethod, number>> = {
  'encrypt-zero': 3,
  cmac: 5,
  hmac: 5,
}

/** Bytes that the check value of a MAC is computed over: the zero block of the key's cipher, for HMAC 16. */
export function zeroBlockBytes(algorithm: KeyAlgorithm): 8 | 16 {
  return isTdea(algorithm) ? 8 : 16
}

/** The method a bare KCV string means for a key of this algorithm. */
export function defaultMethod(algorithm: KeyAlgorithm): CheckValueMethod {
  if (algorithm === 'ec-p256') return 'jwk-thumbprint'
  if (algorithm === 'hmac-sha256') return 'hmac'
  return algorithm.startsWith('aes') ? 'cmac' : 'encrypt-zero'
}

const SHAPES: Readonly<Record<CheckValueMethod, RegExp>> = {
  'encrypt-zero': /^(?:[0-9A-Fa-f]{2}){2,16}$/,
  cmac: /^(?:[0-9A-Fa-f]{2}){2,16}$/,
  hmac: /^(?:[0-9A-Fa-f]{2}){2,16}$/,
  'jwk-thumbprint': /^[A-Za-z0-9_-]{43}$/,
}

/**
 * A caller's check value, read once; `ERR_ARGUMENT` unless it is one by some method, which is all that can be said
 * before the key is found.
 */
export function snapshotCheckValue(given: unknown): string | CheckValue {
  if (typeof given === 'string' && Object.values(SHAPES).some(shape => shape.test(given))) return given
  if (typeof given === 'object' && given !== null) {
    const { method, value } = readOwn<Partial<Record<keyof CheckValue, unknown>>>(given, 'kcv', [
      'method',
      'value',
    ])
    if (isMethod(method) && typeof value === 'string' && SHAPES[method].test(value)) return { method, value }
  }
  throw new ArgumentError(
    'kcv must be 4 to 32 hex digits, a 43-character thumbprint, or { method, value } of these',
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
  const own = algorithm === 'ec-p256' || algorithm === 'hmac-sha256'
  const fits = own ? method === defaultMethod(algorithm) : method === 'encrypt-zero' || method === 'cmac'
  const tooLong = algorithm !== 'ec-p256' && value.length > 2 * zeroBlockBytes(algorithm)
  if (!fits || tooLong || !SHAPES[method].test(value))
    throw new ArgumentError(`kcv has the wrong shape for method ${method} of a key that is ${algorithm}`)
  return { method, value: method === 'jwk-thumbprint' ? value : value.toUpperCase() }
}

/**
 * The leftmost bytes of a computed check block, as a {@link CheckValue}: as many as are usual, or as the caller expects
 * where those are more, so that all of them are compared.
 */
export function checkValueOf(
  method: SymmetricMethod,
  block: Uint8Array,
  expected?: string | CheckValue,
): CheckValue {
  const value = typeof expected === 'object' ? expected.value : (expected ?? '')
  const bytes = Math.max(CHECK_VALUE_BYTES[method], Math.ceil(value.length / 2))
  return { method, value: toHex(block.subarray(0, bytes)) }
}

/**
 * Compares in constant time all that is expected; a shorter expectation compares with the left part. Throws
 * `ERR_KEY_CHECK_VALUE` where the values differ, `ERR_UNSUPPORTED_BY_TOKEN` where they cannot be compared: another method, or
 * fewer bytes than are expected. The message shows neither value.
 */
export function requireCheckValue(kid: string, expected: CheckValue, actual: CheckValue): void {
  if (expected.method !== actual.method) {
    throw new BackendError(
      'ERR_UNSUPPORTED_BY_TOKEN',
      `key ${kid}: its check value is made by ${actual.method}, not ${expected.method}`,
    )
  }
  if (expected.value.length > actual.value.length) {
    const known = `${actual.value.length} digits of its check value are known here`
    throw new BackendError('ERR_UNSUPPORTED_BY_TOKEN', `key ${kid}: ${known}, not ${expected.value.length}`)
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
