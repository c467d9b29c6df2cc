/**
 * ECDH-ES with the private key in the token, by the way the plan names:
 *
 *     token-kdf          C_DeriveKey with the one-step KDF inside; only the derived key comes out
 *     token-digest-key   C_DeriveKey gives Z, sensitive and not extractable; H(counter ‖ Z ‖ OtherInfo) by C_DigestKey
 *     token-extract      Z is read by the host and wiped; opted in by name
 *
 * Z is a session object and is destroyed on every path. Sources: RFC 7518, 4.6.2; NIST SP 800-56C Rev. 2, 4.1;
 * PKCS#11 v3.1, 6.3.21 (ECDH1_DERIVE), 5.13.4 (C_DigestKey).
 */
import { wipe } from '../../base/bytes.js'
import { concatKdf } from '../../primitives/concat-kdf.js'
import { COORDINATE_BYTES } from '../../primitives/p256.js'
import type { Mechanism, ObjectHandle } from './binding.js'
import { type Station, withObject } from './cipher.js'
import { CKA, CKD, CKK, CKM } from './constants.js'
import type { KeyAgreementMeans } from './plan.js'
import { readableSecret, secretKey } from './templates.js'

/** Plain data: a point on the curve (65 bytes), OtherInfo, the length of the content key. */
export interface Agreement {
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
  const derived = new Uint8Array(new ArrayBuffer(length))
  try {
    for (let at = 0, counter = 1; at < length; at += HASH_BYTES, counter++) {
      binding.C_DigestInit(session, SHA256)
      binding.C_DigestUpdate(session, Uint8Array.of(0, 0, 0, counter))
      binding.C_DigestKey(session, z)
      if (otherInfo.length > 0) binding.C_DigestUpdate(session, otherInfo)
      const digest = binding.C_DigestFinal(session, HASH_BYTES)
      derived.set(digest.subarray(0, length - at), at)
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
  const copy = new Uint8Array(new ArrayBuffer(value.length))
  copy.set(value)
  wipe(value)
  return copy
}
