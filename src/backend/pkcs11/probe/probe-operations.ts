/**
 * The probe's steps for MACs and for key pairs: what a mechanism computes is compared with what is known, before a
 * key is trusted to it.
 */
import { createECDH } from 'node:crypto'
import { secretBytes, toHex, wipe } from '../../../base/bytes.js'
import { concatKdf } from '../../../primitives/concat-kdf.js'
import { retailMac } from '../../../primitives/iso9797.js'
import { cmac } from '../../../primitives/mac.js'
import { es256PublicKey, jwkOfPoint, SIGNATURE_BYTES, verifyEs256 } from '../../../primitives/p256.js'
import type { Mechanism, ObjectHandle, Station } from '../binding/binding.js'
import { CKA, CKK, CKM, constantName } from '../binding/constants.js'
import { type PairBits, pairBits } from '../keys/roles.js'
import { cbcCipher, cmacMechanism, SHA256_HMAC, sign, wrongAnswer } from '../mechanisms/cipher.js'
import { type DerivationWay, derivationMechanism, encipherByDeriving } from '../mechanisms/derivation.js'
import { deriveContentKey, digestOf, pointOf, signDigest } from '../mechanisms/p256.js'
import type { KeyAgreementMeans, MacMeans, Means, Plan, RetailMacProfile } from '../mechanisms/plan.js'
import { makeWith, privateKey, publicKey, secretKey } from '../mechanisms/templates.js'
import {
  KNOWN,
  type KnownCipher,
  macKey,
  NO_KNOWN_ANSWER,
  type Probe,
  type ProbeOptions,
  requireAnswer,
  type TestKeys,
  tdeaKey,
} from './known-answers.js'

/** Algorithm 3: a vendor's mechanism after its known answer, else composed, else the reason why not. */
export function planRetailMac(
  on: Probe,
  keys: TestKeys,
  cbc: Means<true>,
  { retailMac: vendor, composedMac }: ProbeOptions,
): Means<MacMeans> {
  if (vendor !== undefined) return planVendorMac(on, keys, vendor)
  if (!composedMac) {
    return {
      ok: false,
      reason:
        'PKCS#11 has no mechanism for it; name the vendor in retailMac, or opt in to composing it with composedMac',
    }
  }
  if (!cbc.ok) return cbc
  if (!keys.known) return NO_KNOWN_ANSWER
  return on('composed retail MAC', station => {
    const { key, chain: chainKey, message, mac } = KNOWN.retail
    const last = cbcCipher(station, tdeaKey(station, keys, key, ['ENCRYPT']), 'tdea-2key')
    const chain = cbcCipher(station, tdeaKey(station, keys, chainKey, ['ENCRYPT']), 'tdea-3key')
    requireAnswer('the composed retail MAC', retailMac({ chain, last }, secretBytes(8), message), mac)
    return { way: 'cbc', plan: 'composed' } as const
  })
}

function planVendorMac(on: Probe, keys: TestKeys, { name, mechanism }: RetailMacProfile): Means<MacMeans> {
  if (!keys.known) return NO_KNOWN_ANSWER
  const { key: value, message, mac } = KNOWN.retail
  const found = on(`retail MAC (${name})`, station => {
    const key = tdeaKey(station, keys, value, ['SIGN'])
    const answer = sign(station, mechanism, key, message, mac.length)
    requireAnswer(`the retail MAC by ${name}'s mechanism`, answer, mac.subarray(0, answer.length))
    return answer.length
  })
  if (!found.ok) return found
  if (found.by === mac.length) return { ok: true, by: { way: 'sign', mechanism } }
  return { ok: false, reason: `the mechanism of ${name} gives ${found.by} bytes, and all 8 are needed` }
}

/** CMAC with TDEA (`tdea-2key`) or AES (`aes-128`). */
export function planCmac(
  on: Probe,
  keys: TestKeys,
  algorithm: 'tdea-2key' | 'aes-128',
  cbc: Means<true> | undefined,
  { composedMac }: ProbeOptions,
): Means<MacMeans> {
  const mechanism = cmacMechanism(algorithm)
  const name = constantName('CKM', CKM, mechanism.mechanism)
  const { key: value, message, mac } = ANSWERS[algorithm]
  const native = on(name, station => {
    const key = macKey(station, keys, algorithm, value, 'SIGN')
    const answer = sign(station, mechanism, key, message, mac.length)
    requireAnswer(name, answer, keys.known ? mac : answer.slice(0, mac.length))
    return { way: 'sign', mechanism } as const
  })
  if (native.ok || !composedMac || !keys.known || cbc?.ok === false) return native
  return on(`composed CMAC with ${algorithm}`, station => {
    const cipher = cbcCipher(station, macKey(station, keys, algorithm, value, 'ENCRYPT'), algorithm)
    requireAnswer('the composed CMAC', cmac(cipher, message), mac)
    return { way: 'cbc', plan: 'composed' } as const
  })
}

/** HMAC-SHA-256 by CKM_SHA256_HMAC, with a generic secret as key. */
export function planHmac(on: Probe, keys: TestKeys): Means<Mechanism> {
  return on('CKM_SHA256_HMAC', ({ binding, session }) => {
    const { key: value, message, mac } = KNOWN.hmac
    const { length } = value
    const keyType = CKK.GENERIC_SECRET
    const key = keys.known
      ? binding.C_CreateObject(session, secretKey({ keyType, can: ['SIGN'], value }))
      : binding.C_GenerateKey(
          session,
          { mechanism: CKM.GENERIC_SECRET_KEY_GEN },
          secretKey({ keyType, can: ['SIGN'], length }),
        )
    const answer = sign({ binding, session }, SHA256_HMAC, key, message, mac.length)
    requireAnswer('HMAC-SHA-256', answer, keys.known ? mac : answer.slice(0, mac.length))
    return SHA256_HMAC
  })
}

/** Derived keys: inside after a known answer for each cipher; through the host where the token takes session keys. */
export function planDerivation(
  on: Probe,
  keys: TestKeys,
  { deriveKeys: way }: ProbeOptions,
): Plan['derivation'] {
  const both = (means: Means<DerivationWay>): Plan['derivation'] => ({ tdea: means, aes: means })
  if (way === undefined) return both({ ok: false, reason: 'it was not asked for with deriveKeys' })
  if (!keys.known) return both(NO_KNOWN_ANSWER)
  if (way === 'through-host') return both({ ok: true, by: way })
  const derives = (algorithm: 'tdea-2key' | 'aes-128', { key: value, plain, cipher }: KnownCipher) =>
    on(constantName('CKM', CKM, derivationMechanism(algorithm)), station => {
      const base = macKey(station, keys, algorithm, value, 'DERIVE')
      const answer = encipherByDeriving(station, algorithm, base, plain)
      requireAnswer('the derivation of a key', answer, cipher)
      return way
    })
  return { tdea: derives('tdea-2key', KNOWN.tdea2), aes: derives('aes-128', KNOWN.aes) }
}

const ANSWERS: Readonly<Record<'tdea-2key' | 'aes-128', (typeof KNOWN)['cmacTdea']>> = {
  'tdea-2key': KNOWN.cmacTdea,
  'aes-128': KNOWN.cmacAes,
}

/* The probe's steps for P-256: key agreement and signatures, with key pairs the token generates: this needs no import. */

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
      throw wrongAnswer('makes ECDSA signatures that do not verify')
    })
    if (new Set(commitments).size < commitments.length) throw wrongAnswer('signs twice with one ECDSA nonce')
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
    (open, own) => binding.C_GenerateKeyPair(session, { mechanism: CKM.EC_KEY_PAIR_GEN }, open, own),
  )
  const point = pointOf(binding.C_GetAttributeValue(session, pair.publicKey, CKA.EC_POINT))
  if (point === undefined) throw wrongAnswer('generates P-256 keys off the curve')
  return { privateKey: pair.privateKey, point }
}
