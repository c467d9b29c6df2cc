/**
 * NIST P-256 public points: the checks that stand before any backend, so that no token and no engine ever sees a
 * point off the curve (the invalid-curve attack), and our error does not depend on how a token reports one.
 * Public values only: variable-time arithmetic is in order here.
 */

import { bufferOf, encodeBase64url, isBase64url, secretBytes } from '../base/bytes.js'

/** The public half of a P-256 key, coordinates as unpadded base64url of 32 bytes (RFC 7518, 6.2.1). */
export interface P256PublicJwk {
  readonly kty: 'EC'
  readonly crv: 'P-256'
  readonly x: string
  readonly y: string
  readonly kid?: string
}

/** Length of one coordinate, and of the shared secret Z. */
export const COORDINATE_BYTES = 32
/** Length of an uncompressed point (SEC 1, 2.3.3): 04, x, y. */
export const POINT_BYTES: number = 1 + 2 * COORDINATE_BYTES

// Domain parameters: NIST SP 800-186, 3.2.1.3. The cofactor is 1, so a point on the curve is in the group.
const P = 0xffffffff00000001000000000000000000000000ffffffffffffffffffffffffn
const B = 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604bn

/** The form byte of an uncompressed point (SEC 1, 2.3.3). */
const UNCOMPRESSED = 0x04
/** One coordinate in base64url. */
const COORDINATE_CHARACTERS = 43

function coordinate(bytes: Uint8Array, at: number): bigint {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, COORDINATE_BYTES)
  return (
    (view.getBigUint64(0) << 192n) |
    (view.getBigUint64(8) << 128n) |
    (view.getBigUint64(16) << 64n) |
    view.getBigUint64(24)
  )
}

/** The last point that was found to be on the curve: a message's is asked for once by the verb and once by the port. */
const lastGood = bufferOf(secretBytes(POINT_BYTES))

/** True for the 65-byte uncompressed encoding of a point on P-256 (SP 800-56A Rev. 3, 5.6.2.3.3). */
export function isP256Point(point: Uint8Array): boolean {
  if (point.length !== POINT_BYTES || point[0] !== UNCOMPRESSED) return false
  if (lastGood.equals(point)) return true
  const x = coordinate(point, 1)
  const y = coordinate(point, 1 + COORDINATE_BYTES)
  if (x >= P || y >= P) return false
  if ((y * y - (x * x * x - 3n * x + B)) % P !== 0n) return false
  lastGood.set(point)
  return true
}

/**
 * The 65-byte point of a public JWK (RFC 7518, 6.2.1), or undefined for another key type or curve, coordinates that
 * are not canonical base64url of 32 bytes, or a point off the curve. Reads own members only.
 */
export function pointOfJwk(jwk: unknown): Uint8Array<ArrayBuffer> | undefined {
  if (typeof jwk !== 'object' || jwk === null) return undefined
  const read = (name: string): unknown => (Object.hasOwn(jwk, name) ? Reflect.get(jwk, name) : undefined)
  const x = read('x')
  const y = read('y')
  if (read('kty') !== 'EC' || read('crv') !== 'P-256') return undefined
  if (typeof x !== 'string' || typeof y !== 'string') return undefined
  if (x.length !== COORDINATE_CHARACTERS || y.length !== COORDINATE_CHARACTERS) return undefined
  if (!isBase64url(x) || !isBase64url(y)) return undefined
  const point = secretBytes(POINT_BYTES)
  point[0] = UNCOMPRESSED
  const buffer = bufferOf(point)
  buffer.write(x, 1, 'base64url')
  buffer.write(y, 1 + COORDINATE_BYTES, 'base64url')
  return isP256Point(point) ? point : undefined
}

/** The public JWK of a 65-byte point that has been checked. */
export function jwkOfPoint(point: Uint8Array): P256PublicJwk {
  const part = (at: number): string => encodeBase64url(point.subarray(at, at + COORDINATE_BYTES))
  return { kty: 'EC', crv: 'P-256', x: part(1), y: part(1 + COORDINATE_BYTES) }
}
