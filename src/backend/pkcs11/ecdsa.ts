/**
 * ECDSA with the private key in the token: `CKM_ECDSA` over a SHA-256 digest that the host makes, for this is the
 * mechanism that tokens with EC keys have in common. It answers r ‖ s, each as long as the order of the curve, which is
 * what JWS wants. Source: PKCS#11 v3.1, 6.3 (EC signatures; ECDSA without hashing).
 */
import { createHash } from 'node:crypto'
import type { Mechanism, ObjectHandle } from './binding.js'
import { type Station, sign } from './cipher.js'
import { CKM } from './constants.js'

const ECDSA: Mechanism = { mechanism: CKM.ECDSA }

/** Room for a DER signature too: a token that gives one is found out by its answer, not by an overflow. */
const ROOM_BYTES = 72

/** SHA-256 of the message. */
export function digestOf(message: Uint8Array): Uint8Array {
  return createHash('sha256').update(message).digest()
}

/** The token's signature over a digest of 32 bytes, as it gives it: the front verifies it. */
export function signDigest(
  station: Station,
  privateKey: ObjectHandle,
  digest: Uint8Array,
): Uint8Array<ArrayBuffer> {
  return sign(station, ECDSA, privateKey, digest, ROOM_BYTES)
}
