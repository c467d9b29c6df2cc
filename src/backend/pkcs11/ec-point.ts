/** Public points as tokens give them, and the proof that a private key belongs to one. */
import { createECDH } from 'node:crypto'
import { equalBytes, wipe } from '../../base/bytes.js'
import { type KeyUsage, USAGES } from '../../key/usage.js'
import { concatKdf } from '../../primitives/concat-kdf.js'
import { es256PublicKey, verifyEs256 } from '../../primitives/es256.js'
import { isP256Point, jwkOfPoint, POINT_BYTES } from '../../primitives/p256.js'
import { deriveContentKey } from './agreement.js'
import type { ObjectHandle } from './binding.js'
import type { Station } from './cipher.js'
import { digestOf, signDigest } from './ecdsa.js'
import type { KeyAgreementMeans, Plan } from './plan.js'

/**
 * The point of CKA_EC_POINT: by the standard a DER OCTET STRING (04 41 …), but some tokens give the bare point, and
 * openCryptoki has given the bare point with a stray 04 behind it.
 */
export function pointOf(value: Uint8Array | undefined): Uint8Array | undefined {
  if (value === undefined) return undefined
  const candidates = [
    value.length === POINT_BYTES + 2 && value[0] === 0x04 && value[1] === POINT_BYTES
      ? value.subarray(2)
      : undefined,
    value.length === POINT_BYTES + 1 && value[POINT_BYTES] === 0x04
      ? value.subarray(0, POINT_BYTES)
      : undefined,
    value,
  ]
  return candidates.find(candidate => candidate !== undefined && isP256Point(candidate))
}

/**
 * True where the token's private key is the one of this public key, proven by what the key is for; and where the token
 * cannot do that at all, so that nothing can be proven and nothing can go wrong.
 */
export function isPair(
  station: Station,
  { signing, keyAgreement }: Plan,
  usage: KeyUsage,
  privateKey: ObjectHandle,
  point: Uint8Array,
): boolean {
  if (USAGES[usage].operations.includes('sign')) return !signing.ok || signsFor(station, privateKey, point)
  return !keyAgreement.ok || agrees(station, keyAgreement.by, privateKey, point)
}

/** Signs in the token and verifies here. Without a dot, what is signed is no JWS signing input. */
function signsFor(station: Station, privateKey: ObjectHandle, point: Uint8Array): boolean {
  const signature = signDigest(station, privateKey, digestOf(PAIR_TEST))
  return verifyEs256(es256PublicKey(jwkOfPoint(point)), PAIR_TEST, signature)
}

/** Agrees on a key from both sides. */
function agrees(
  station: Station,
  means: KeyAgreementMeans,
  privateKey: ObjectHandle,
  point: Uint8Array,
): boolean {
  const ephemeral = createECDH('prime256v1')
  const agreement = { point: ephemeral.generateKeys(), otherInfo: PAIR_TEST, length: 32 }
  const z = ephemeral.computeSecret(point)
  const here = concatKdf(z, agreement.otherInfo, agreement.length)
  const inside = deriveContentKey(station, means, privateKey, agreement)
  try {
    return equalBytes(here, inside)
  } finally {
    wipe(z, here, inside)
  }
}

const PAIR_TEST: Uint8Array = new TextEncoder().encode('issuer-pin-crypto pair test')
