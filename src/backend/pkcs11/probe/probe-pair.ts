/** The probe's steps for P-256: key agreement and signatures, with key pairs the token generates: this needs no import. */

import { createECDH } from 'node:crypto'
import { toHex, wipe } from '../../../base/bytes.js'
import { BackendError } from '../../../base/errors.js'
import { concatKdf } from '../../../primitives/concat-kdf.js'
import { es256PublicKey, SIGNATURE_BYTES, verifyEs256 } from '../../../primitives/es256.js'
import { jwkOfPoint } from '../../../primitives/p256.js'
import type { ObjectHandle, Station } from '../binding/binding.js'
import { CKA, CKM } from '../binding/constants.js'
import { type PairBits, pairBits } from '../keys/roles.js'
import { deriveContentKey, digestOf, pointOf, signDigest } from '../mechanisms/p256.js'
import type { KeyAgreementMeans, Means } from '../mechanisms/plan.js'
import { makeWith, privateKey, publicKey } from '../mechanisms/templates.js'
import { KNOWN, requireAnswer } from './known-answers.js'
import type { Probe, ProbeOptions } from './test-keys.js'

const AGREEMENT_NAMES: Readonly<Record<KeyAgreementMeans, string>> = {
  'token-kdf': 'ECDH1_DERIVE with the KDF of SP 800-56C',
  'token-digest-key': 'ECDH1_DERIVE and C_DigestKey',
  'token-extract': 'ECDH1_DERIVE into a readable secret',
}

/** Against the host's own ECDH and KDF. */
export function planAgreement(on: Probe, options: ProbeOptions): Means<KeyAgreementMeans> {
  const candidates: KeyAgreementMeans[] = ['token-kdf', 'token-digest-key']
  if (options.extractSharedSecret) candidates.push('token-extract')
  const reasons: string[] = []
  for (const candidate of candidates) {
    const means = on(AGREEMENT_NAMES[candidate], station => {
      probeAgreement(station, candidate, options)
      return candidate
    })
    if (means.ok) return means
    reasons.push(`${AGREEMENT_NAMES[candidate]}: ${means.reason}`)
  }
  return { ok: false, reason: reasons.join('; ') }
}

function probeAgreement(station: Station, means: KeyAgreementMeans, options: ProbeOptions): void {
  const pair = generatePair(station, pairBits('jwe-key-agreement'), options)
  const ours = createECDH('prime256v1')
  const point = ours.generateKeys()
  const z = ours.computeSecret(pair.point)
  // 64 bytes take two rounds of the KDF.
  const agreement = { point, otherInfo: KNOWN.retail.message, length: 64 }
  const expected = concatKdf(z, agreement.otherInfo, agreement.length)
  try {
    requireAnswer('ECDH-ES', deriveContentKey(station, means, pair.privateKey, agreement), expected)
  } finally {
    wipe(z, expected)
  }
}

/** Verified here. Two messages, for two signatures with one nonce would give the key to whoever sees both. */
export function planSigning(on: Probe, options: ProbeOptions): Means<true> {
  return on('CKM_ECDSA', station => {
    const { privateKey, point } = generatePair(station, pairBits('jwt-signing'), options)
    const verifier = es256PublicKey(jwkOfPoint(point))
    const commitments = [KNOWN.retail.message, KNOWN.cmacAes.message].map(message => {
      const signature = signDigest(station, privateKey, digestOf(message))
      if (verifyEs256(verifier, message, signature)) return toHex(signature.subarray(0, SIGNATURE_BYTES / 2))
      throw untrusted('makes ECDSA signatures that do not verify')
    })
    if (new Set(commitments).size < commitments.length) throw untrusted('signs twice with one ECDSA nonce')
    return true
  })
}

/** A session key pair of the token's making. */
function generatePair(
  { binding, session }: Station,
  can: PairBits,
  { publicKeysPrivate: isPrivate }: ProbeOptions,
): { privateKey: ObjectHandle; point: Uint8Array } {
  const pair = makeWith(
    [publicKey({ can: can.public, isPrivate }), privateKey({ can: can.private })],
    (open, own) =>
      binding.C_GenerateKeyPair(session, { mechanism: CKM.EC_KEY_PAIR_GEN }, open ?? [], own ?? []),
  )
  const point = pointOf(binding.C_GetAttributeValue(session, pair.publicKey, CKA.EC_POINT))
  if (point === undefined) throw untrusted('generates P-256 keys off the curve')
  return { privateKey: pair.privateKey, point }
}

function untrusted(what: string): BackendError {
  return new BackendError('ERR_PKCS11_SELF_TEST', `the token ${what}; do not use it`)
}
