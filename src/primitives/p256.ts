/**
 * P-256: points checked before any backend sees them (invalid-curve attack), and ES256 signatures. Public values,
 * but for the one private key.
 */
import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto'
import {
  bufferOf,
  concatBytes,
  encodeBase64url,
  endsOnByte,
  equalBytes,
  fromHex,
  isBase64url,
  ownCopy,
  publicRoom,
  secretBytes,
  wipe,
} from '../base/bytes.js'

/*
 * NIST P-256 public points: the checks that come before any backend, so that no token and no engine ever sees a
 * point off the curve (the invalid-curve attack), and our error does not depend on how a token reports one.
 * Public values only: variable-time arithmetic is in order here.
 */

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

/** Where a point is turned into numbers: public, and read at once. */
const limbs = new BigUint64Array(secretBytes(2 * COORDINATE_BYTES).buffer)
const limbBytes = new Uint8Array(limbs.buffer)
limbs[0] = 1n
const isLittleEndian = limbBytes[0] === 1

/** x and y of an uncompressed point. To ask a DataView for each of their words takes longer than all the arithmetic. */
function coordinatesOf(point: Uint8Array): readonly [x: bigint, y: bigint] {
  limbBytes.set(point.subarray(1))
  // So that the least of the numbers comes first, each in the order of this machine's bytes.
  if (isLittleEndian) limbBytes.reverse()
  else limbs.reverse()
  const number = (at: number): bigint =>
    ((((limbs[at + 3] as bigint) << 64n) | (limbs[at + 2] as bigint)) << 128n) |
    ((limbs[at + 1] as bigint) << 64n) |
    (limbs[at] as bigint)
  return [number(4), number(0)]
}

/** The last point that was found to be on the curve: a message's is asked for once by the verb and once by the port. */
const lastGood = bufferOf(secretBytes(POINT_BYTES))

/** True for the 65-byte uncompressed encoding of a point on P-256 (SP 800-56A Rev. 3, 5.6.2.3.3). */
export function isP256Point(point: Uint8Array): boolean {
  if (point.length !== POINT_BYTES || point[0] !== UNCOMPRESSED) return false
  if (lastGood.equals(point)) return true
  const [x, y] = coordinatesOf(point)
  if (x >= P || y >= P) return false
  if ((y * y - (x * x - 3n) * x - B) % P !== 0n) return false
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
  return isBase64url(x) && isBase64url(y) ? pointOfText(x, y) : undefined
}

/** The point of two coordinates of 43 characters of base64url; undefined as {@link pointOfJwk} says. */
export function pointOfText(x: string, y: string): Uint8Array<ArrayBuffer> | undefined {
  if (!endsOnByte(x) || !endsOnByte(y)) return undefined
  const point = pointOfChecked({ x, y })
  return isP256Point(point) ? point : undefined
}

/** The 65-byte point of the coordinates of a public JWK: 43 characters of base64url each, which the caller has checked. */
export function pointOfChecked({ x, y }: Pick<P256PublicJwk, 'x' | 'y'>): Uint8Array<ArrayBuffer> {
  const point = publicRoom(POINT_BYTES)
  point[0] = UNCOMPRESSED
  const buffer = bufferOf(point)
  buffer.write(x, 1, 'base64url')
  buffer.write(y, 1 + COORDINATE_BYTES, 'base64url')
  return point
}

/** The public JWK of a 65-byte point that has been checked. */
export function jwkOfPoint(point: Uint8Array): P256PublicJwk {
  const part = (at: number): string => encodeBase64url(point.subarray(at, at + COORDINATE_BYTES))
  return { kty: 'EC', crv: 'P-256', x: part(1), y: part(1 + COORDINATE_BYTES) }
}

/* ES256: ECDSA on P-256 with SHA-256, the signature as r ‖ s, 32 bytes each, big-endian (RFC 7518, 3.4). No DER. */

/** Length of a signature: r, then s. */
export const SIGNATURE_BYTES = 64

const dsaEncoding = 'ieee-p1363'

/** A signature by a key in host memory. */
export function signEs256(key: KeyObject, message: Uint8Array): Uint8Array<ArrayBuffer> {
  return ownCopy(sign('sha256', message, { key, dsaEncoding }))
}

/** True for a signature over the message under this key; so r and s are then in 1 to n − 1 (FIPS 186-5, 6.4.2). */
export function verifyEs256(key: KeyObject, message: Uint8Array, signature: Uint8Array): boolean {
  return signature.length === SIGNATURE_BYTES && verify('sha256', message, { key, dsaEncoding }, signature)
}

/** The key that {@link verifyEs256} takes; throws an error of `node:crypto` for what is no public P-256 key. */
export function es256PublicKey({ kty, crv, x, y }: P256PublicJwk): KeyObject {
  return createPublicKey({ key: { kty, crv, x, y }, format: 'jwk' })
}

// ECPrivateKey (RFC 5915) before and after the 32 bytes of the scalar: version 1, then the curve prime256v1.
const BEFORE: Uint8Array = fromHex('30310201010420', 'ECPrivateKey')
const AFTER: Uint8Array = fromHex('A00A06082A8648CE3D030107', 'ECPrivateKey')

/** The scalar of an ECPrivateKey, in memory of its own; undefined for another curve, and for one that is spelled out. */
export function scalarOfDer(der: Uint8Array): Uint8Array<ArrayBuffer> | undefined {
  const end = BEFORE.length + COORDINATE_BYTES
  // All but the length: behind the curve may come the public point.
  const isOfP256 =
    der[0] === BEFORE[0] &&
    equalBytes(der.subarray(2, BEFORE.length), BEFORE.subarray(2)) &&
    equalBytes(der.subarray(end, end + AFTER.length), AFTER)
  return isOfP256 ? ownCopy(der.subarray(BEFORE.length, end)) : undefined
}

/** The key that {@link signEs256} takes, of a 32-byte scalar that has been checked: DER, for a JWK could not be wiped. */
export function es256PrivateKey(scalar: Uint8Array): KeyObject {
  const der = concatBytes(BEFORE, scalar, AFTER)
  try {
    return createPrivateKey({ key: bufferOf(der), format: 'der', type: 'sec1' })
  } finally {
    wipe(der)
  }
}
