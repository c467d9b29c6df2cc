/**
 * P-256 with the private key in the token: key agreement, signatures, and the proof that it belongs to a public point.
 * ECDH-ES is done by the way the plan names:
 *
 *     token-kdf          C_DeriveKey with the one-step KDF inside; only the derived key comes out
 *     token-digest-key   C_DeriveKey gives Z, sensitive and not extractable; H(counter ‖ Z ‖ OtherInfo) by C_DigestKey
 *     token-extract      Z is read by the host and wiped; opted in by name
 *
 * Z is a session object and is destroyed on every path. Sources: RFC 7518, 4.6.2; NIST SP 800-56C Rev. 2, 4.1;
 * PKCS#11 v3.1, 6.3.21 (ECDH1_DERIVE), 5.13.4 (C_DigestKey).
 */

import { createECDH, createHash } from 'node:crypto'
import { copyInto, equalBytes, ownCopy, secretBytes, wipe, withWiped } from '../../../base/bytes.js'
import { type KeyUsage, USAGES } from '../../../key/usage.js'
import { concatKdf } from '../../../primitives/concat-kdf.js'
import {
  COORDINATE_BYTES,
  es256PublicKey,
  isP256Point,
  jwkOfPoint,
  POINT_BYTES,
  verifyEs256,
} from '../../../primitives/p256.js'
import type { Mechanism, ObjectHandle, Station } from '../binding/binding.js'
import { CKA, CKD, CKK, CKM } from '../binding/constants.js'
import { sign, withObject } from './cipher.js'
import type { KeyAgreementMeans, Plan } from './plan.js'
import { readableSecret, secretKey } from './templates.js'

/** Plain data: a point on the curve (65 bytes), OtherInfo, the length of the content key. */
interface Agreement {
  readonly point: Uint8Array
  readonly otherInfo: Uint8Array
  readonly length: number
}

const SHA256: Mechanism = { mechanism: CKM.SHA256 }
const HASH_BYTES = 32

/** The content key, in memory of its own. The point has been checked to be on the curve. */
export function deriveContentKey(
  station: Station,
  means: KeyAgreementMeans,
  privateKey: ObjectHandle,
  agreement: Agreement,
): Uint8Array<ArrayBuffer> {
  return DERIVE[means](station, privateKey, agreement)
}

type Derive = (station: Station, privateKey: ObjectHandle, agreement: Agreement) => Uint8Array<ArrayBuffer>

const DERIVE: Readonly<Record<KeyAgreementMeans, Derive>> = {
  'token-kdf': (station, privateKey, { point, otherInfo, length }) => {
    const { binding, session } = station
    const parameter = {
      kdf: CKD.SHA256_KDF_SP800,
      publicData: point,
      ...(otherInfo.length > 0 && { sharedData: otherInfo }),
    }
    const derived = binding.C_DeriveKey(
      session,
      { mechanism: CKM.ECDH1_DERIVE, parameter },
      privateKey,
      readableSecret(length),
    )
    return withObject(station, derived, object => readValue(station, object))
  },

  'token-digest-key': (station, privateKey, { point, otherInfo, length }) => {
    const z = agree(station, privateKey, point, secretKey(Z_INSIDE))
    return withObject(station, z, object => digestKey(station, object, otherInfo, length))
  },

  'token-extract': (station, privateKey, { point, otherInfo, length }) => {
    const z = agree(station, privateKey, point, readableSecret(COORDINATE_BYTES))
    return withObject(station, z, object => {
      const value = readValue(station, object)
      try {
        return concatKdf(value, otherInfo, length)
      } finally {
        wipe(value)
      }
    })
  },
}

const Z_INSIDE = { keyType: CKK.GENERIC_SECRET, can: [], length: COORDINATE_BYTES } as const

function agree(
  { binding, session }: Station,
  privateKey: ObjectHandle,
  point: Uint8Array,
  template: ReturnType<typeof secretKey>,
): ObjectHandle {
  const parameter = { kdf: CKD.NULL, publicData: point }
  return binding.C_DeriveKey(session, { mechanism: CKM.ECDH1_DERIVE, parameter }, privateKey, template)
}

function digestKey(
  { binding, session }: Station,
  z: ObjectHandle,
  otherInfo: Uint8Array,
  length: number,
): Uint8Array<ArrayBuffer> {
  const derived = secretBytes(length)
  try {
    for (let at = 0, counter = 1; at < length; at += HASH_BYTES, counter++) {
      binding.C_DigestInit(session, SHA256)
      binding.C_DigestUpdate(session, Uint8Array.of(0, 0, 0, counter))
      binding.C_DigestKey(session, z)
      if (otherInfo.length > 0) binding.C_DigestUpdate(session, otherInfo)
      const digest = binding.C_DigestFinal(session, HASH_BYTES)
      copyInto(derived, digest.subarray(0, length - at), at)
      wipe(digest)
    }
    return derived
  } catch (error) {
    wipe(derived)
    throw error
  }
}

/** A copy in memory of its own; the binding's buffer is wiped. */
function readValue({ binding, session }: Station, object: ObjectHandle): Uint8Array<ArrayBuffer> {
  const value = binding.C_GetAttributeValue(session, object, CKA.VALUE)
  return withWiped(value, ownCopy)
}

/*
 * `CKM_ECDSA` over a SHA-256 digest that the host makes: the mechanism that tokens with EC keys have in common. It answers
 * r ‖ s, each as long as the order of the curve, which is what JWS wants (PKCS#11 v3.1, 6.3: ECDSA without hashing).
 */

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

/** A point as CKA_EC_POINT has it: a DER octet string. */
export function derOfPoint(point: Uint8Array): Uint8Array {
  return Uint8Array.of(0x04, point.length, ...point)
}

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
  if (USAGES[usage].purpose === 'signature') return !signing.ok || signsFor(station, privateKey, point)
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
