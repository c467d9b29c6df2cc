/**
 * Which role bits a key has in a token: what each usage needs, what else it may have, and what makes it too wide.
 * A key that could do more than its usage is refused, for whoever reaches the token could make it do so.
 *
 * The bits alone do not tell all usages apart (PRW generate and PRW verify both sign), so keys made here carry
 * their usage and algorithm in the first bytes of CKA_ID, which cannot be changed afterwards:
 *
 *     CKA_ID   'P0' 'B' '2' ‖ 12 random bytes      key usage and mode of use by X9.143, then the algorithm: 2 and 3
 *                                                  TDEA of so many keys, A, B, C AES-128, -192, -256, H HMAC with
 *                                                  SHA-256, E P-256
 *
 * For keys from elsewhere the bits decide, and the usage they are bound for is the operator's word.
 */
import { randomBytes } from 'node:crypto'
import { concatBytes, equalBytes } from '../../../base/bytes.js'
import { isKeyMode, isKeyUsage, type KeyMode, type KeyUsage, USAGES } from '../../../key/usage.js'
import {
  isCipher,
  isKeyAlgorithm,
  isTdea,
  type KeyAlgorithm,
  type MacAlgorithm,
} from '../../../primitives/algorithms.js'
import { derivationMeans } from '../mechanisms/derivation.js'
import { MAC_MEANS, type Plan, requireMeans } from '../mechanisms/plan.js'
import type { RoleBit } from '../mechanisms/templates.js'

/** What a usage asks of a key's role bits: at least one of `needs`, none outside `needs` and `allows`. */
export interface Role {
  readonly needs: readonly RoleBit[]
  readonly allows: readonly RoleBit[]
}

/** The role bits a key may have that is bound for a usage, given how this token does its operations. */
export function roleOf(plan: Plan, usage: KeyUsage, mode: KeyMode, algorithm: KeyAlgorithm): Role {
  if (usage === 'pin-encryption') {
    // What the token's other users could do counts: a key in mode E opens nothing and is moved from by nobody.
    // Format 4 mixes the PAN in between two encipherments, which no unwrapping does.
    const translates = plan.translation.ok && isTdea(algorithm)
    if (mode === 'E') return { needs: ['ENCRYPT'], allows: translates ? ['WRAP'] : [] }
    if (mode === 'D') return { needs: ['DECRYPT'], allows: translates ? ['UNWRAP'] : [] }
    return { needs: ['ENCRYPT'], allows: translates ? ['DECRYPT', 'WRAP', 'UNWRAP'] : ['DECRYPT'] }
  }
  if (enciphersInside(usage)) return { needs: ['ENCRYPT'], allows: [] }
  if (algorithm === 'ec-p256') return { needs: pairBits(usage).private, allows: [] }
  // Its check value is a CMAC: it unwraps, and enciphers nothing for anybody.
  if (usage === 'key-encryption') {
    return { needs: ['UNWRAP'], allows: [...macBits(plan, 'cmac', algorithm), 'VERIFY'] }
  }
  const macs = macsOf(usage, algorithm).flatMap(mac => macBits(plan, mac, algorithm))
  const enciphers: readonly RoleBit[] = enciphersFor(usage) && isCipher(algorithm) ? ['ENCRYPT'] : []
  const needs = [...macs, ...enciphers, ...masterBits(plan, usage, algorithm)]
  return { needs, allows: needs.includes('SIGN') ? ['VERIFY'] : [] }
}

/** True for the usages whose keys may encipher a message: a PRW may be an encipherment, a MAC never is. */
export function enciphersFor(usage: KeyUsage): boolean {
  return USAGES[usage].purpose === 'prw'
}

/** True for the usages whose keys may be derived from: those that compute MACs and PRWs. */
export function derivesFor(usage: KeyUsage): boolean {
  return ['mac', 'prw'].includes(USAGES[usage].purpose)
}

/** What a key needs from which others are derived, where that was opted in. */
function masterBits(plan: Plan, usage: KeyUsage, algorithm: KeyAlgorithm): readonly RoleBit[] {
  if (!derivesFor(usage) || !isCipher(algorithm)) return []
  const means = derivationMeans(plan, algorithm)
  if (!means.ok) return []
  return means.by === 'inside' ? ['DERIVE'] : ['ENCRYPT']
}

/** Keys whose values are made out of one encipherment. */
function enciphersInside(usage: KeyUsage): boolean {
  return usage === 'visa-pvv' || usage === 'ibm-3624'
}

/** The role bits of the two halves of a P-256 key. */
export interface PairBits {
  readonly private: readonly RoleBit[]
  readonly public: readonly RoleBit[]
}

const AGREEMENT_BITS: PairBits = { private: ['DERIVE'], public: [] }
// The public half verifies nothing here, but other tools may want the token to.
const SIGNING_BITS: PairBits = { private: ['SIGN'], public: ['VERIFY'] }

/** What the halves of a new P-256 key get; the private one of any may have nothing else. */
export function pairBits(usage: KeyUsage): PairBits {
  return USAGES[usage].purpose === 'signature' ? SIGNING_BITS : AGREEMENT_BITS
}

/** What a new key is for, beside its usage. */
export interface KeyPurpose {
  readonly usage: KeyUsage
  readonly mode: KeyMode
  readonly algorithm: KeyAlgorithm
  /** The MACs a PRW key computes; the other usages imply theirs. */
  readonly macs: readonly MacAlgorithm[]
  /** `pin-encryption` only. */
  readonly hostDecipher: boolean
  /** `pin-encryption` only: may be used for re-encipherment inside the token. */
  readonly translation: boolean
  /** CKA_START_DATE and CKA_END_DATE, `YYYYMMDD`. */
  readonly dates?: { readonly start?: string; readonly end?: string }
  /** MAC and PRW keys: others are derived from it, and it computes nothing itself. */
  readonly derives: boolean
  /** PRW keys: enciphers a message, too. */
  readonly enciphers: boolean
}

/** The role bits a new symmetric key gets: those it needs, and no other. Errors: `ERR_UNSUPPORTED_BY_TOKEN`. */
export function newKeyBits(plan: Plan, purpose: KeyPurpose): readonly RoleBit[] {
  const { usage, mode, algorithm, macs, hostDecipher, translation, derives, enciphers } = purpose
  if (usage === 'key-encryption') return ['UNWRAP', ...macBits(plan, 'cmac', algorithm).slice(0, 1)]
  if (derives) {
    requireMeans(derivationMeans(plan, algorithm), 'the derivation of keys')
    return masterBits(plan, usage, algorithm)
  }
  if (enciphersInside(usage)) return ['ENCRYPT']
  if (usage !== 'pin-encryption') {
    const bits = macs.map(mac => {
      const by = requireMeans(MAC_MEANS[mac](plan, algorithm), `${mac} with ${algorithm}`)
      return by.way === 'cbc' ? 'ENCRYPT' : 'SIGN'
    })
    return [...new Set<RoleBit>(enciphers ? [...bits, 'ENCRYPT'] : bits)]
  }
  if (translation) requireMeans(plan.translation, 'translation inside the token')
  const bits: RoleBit[] = []
  if (mode !== 'D') bits.push('ENCRYPT')
  if (mode === 'D' || hostDecipher) bits.push('DECRYPT')
  if (translation && mode !== 'D') bits.push('WRAP')
  if (translation && mode !== 'E') bits.push('UNWRAP')
  return bits
}

/**
 * The bit a MAC algorithm needs: SIGN where the token has a mechanism for it, ENCRYPT where it is made by CBC calls.
 * Either where it cannot be made: such a key can be bound, and the operation says why it is not done.
 */
function macBits(plan: Plan, mac: MacAlgorithm, algorithm: KeyAlgorithm): readonly RoleBit[] {
  const means = MAC_MEANS[mac](plan, algorithm)
  if (!means.ok) return ['SIGN', 'ENCRYPT']
  return means.by.way === 'cbc' ? ['ENCRYPT'] : ['SIGN']
}

/** The MACs a key of this usage and algorithm can be for; for PRW usages the widest choice. */
export function macsOf(usage: KeyUsage, algorithm: KeyAlgorithm): readonly MacAlgorithm[] {
  return USAGES[usage].macs.filter(mac => {
    if (algorithm === 'hmac-sha256' || mac === 'hmac-sha256') return mac === algorithm
    return isTdea(algorithm) || mac === 'cmac'
  })
}

const ALGORITHM_CODES: Readonly<Record<KeyAlgorithm, string>> = {
  'tdea-2key': '2',
  'tdea-3key': '3',
  'aes-128': 'A',
  'aes-192': 'B',
  'aes-256': 'C',
  'hmac-sha256': 'H',
  'ec-p256': 'E',
}

const ID_BYTES = 16
const TAG_BYTES = 4

/** A fresh CKA_ID of 16 bytes that carries usage and algorithm. */
export function newKeyId(usage: KeyUsage, mode: KeyMode, algorithm: KeyAlgorithm): Uint8Array {
  const { x9143 } = USAGES[usage]
  const id = new Uint8Array(randomBytes(ID_BYTES))
  id.set(Buffer.from(`${x9143}${mode}${ALGORITHM_CODES[algorithm]}`, 'latin1'))
  return id
}

/** What a CKA_ID made by {@link newKeyId} says; undefined for any other. */
export function readKeyId(
  id: Uint8Array | undefined,
): { readonly usage: KeyUsage; readonly mode: KeyMode; readonly algorithm: KeyAlgorithm } | undefined {
  if (id?.length !== ID_BYTES) return undefined
  const tag = Buffer.from(id.subarray(0, TAG_BYTES)).toString('latin1')
  const mode = tag.slice(2, 3)
  const usage = Object.keys(USAGES)
    .filter(isKeyUsage)
    .find(name => tag.startsWith(USAGES[name].x9143) && USAGES[name].modes.some(known => known === mode))
  const algorithm = Object.keys(ALGORITHM_CODES)
    .filter(isKeyAlgorithm)
    .find(name => tag.endsWith(ALGORITHM_CODES[name]))
  return usage === undefined || algorithm === undefined || !isKeyMode(mode)
    ? undefined
    : { usage, mode, algorithm }
}

const CHAIN_MARK: Uint8Array = Uint8Array.of(0x4b, 0x31)

/** Label of the object that holds K1 of a composed retail MAC key. */
export function chainLabel(label: string): string {
  return `${label}/K1`
}

/** CKA_ID of that object: the key's, with `4B31` ("K1") behind it. Not the same, for NSS keeps one key per CKA_ID. */
export function chainId(id: Uint8Array): Uint8Array {
  return concatBytes(id, CHAIN_MARK)
}

/** Whether an object is the K1 of another key, by both its names: bound by itself it would be a single-DES key. */
export function isChain({
  label,
  id,
}: {
  readonly label: string | undefined
  readonly id: Uint8Array | undefined
}): boolean {
  if (label === undefined || id === undefined || readKeyId(id) !== undefined) return false
  return label.endsWith(chainLabel('')) && equalBytes(id.subarray(-CHAIN_MARK.length), CHAIN_MARK)
}
