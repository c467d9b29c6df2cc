/** ES256: ECDSA on P-256 with SHA-256, the signature as r ‖ s, 32 bytes each, big-endian (RFC 7518, 3.4). No DER. */
import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto'
import { bufferOf, concatBytes, fromHex, ownCopy, wipe } from '../base/bytes.js'
import type { P256PublicJwk } from './p256.js'

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

/** The key that {@link signEs256} takes, of a 32-byte scalar that has been checked: DER, for a JWK could not be wiped. */
export function es256PrivateKey(scalar: Uint8Array): KeyObject {
  const der = concatBytes(BEFORE, scalar, AFTER)
  try {
    return createPrivateKey({ key: bufferOf(der), format: 'der', type: 'sec1' })
  } finally {
    wipe(der)
  }
}
