/** The token objects of a new key: what they are for, generated or imported, all of them or none. */

import { requireKid } from '../../../base/arguments.js'
import { secretBytes, wipe } from '../../../base/bytes.js'
import { ArgumentError, BackendError, KeyError } from '../../../base/errors.js'
import type { CheckValue } from '../../../key/check-value.js'
import { type KeyMaterial, publicPoint } from '../../../key/material.js'
import { readPeriod, tokenDates } from '../../../key/period.js'
import { isKeyUsage, type KeyMode, type KeyUsage, USAGES } from '../../../key/usage.js'
import {
  isCipher,
  isKeyAlgorithm,
  isTdea,
  KEY_BYTES,
  type KeyAlgorithm,
  type MacAlgorithm,
} from '../../../primitives/algorithms.js'
import { splitRetailKey } from '../../../primitives/iso9797.js'
import { readMode } from '../../checks.js'
import type { Mechanism, ObjectHandle, Station, Template } from '../binding/binding.js'
import { CKA, CKK, CKM, CKR } from '../binding/constants.js'
import { Pkcs11Error, quietly } from '../binding/errors.js'
import { derivationMeans, derivationMechanism } from '../mechanisms/derivation.js'
import { derOfPoint } from '../mechanisms/p256.js'
import { MAC_MEANS, type Plan, requireMeans } from '../mechanisms/plan.js'
import {
  asThreeKeys,
  type KeyName,
  makeWith,
  privateKey,
  publicKey,
  type Refusals,
  secretKey,
} from '../mechanisms/templates.js'
import {
  chainId,
  chainLabel,
  derivesFor,
  enciphersFor,
  type KeyPurpose,
  macsOf,
  newKeyBits,
  pairBits,
} from './roles.js'

/** What a new key is called and for. */
export interface NewKey {
  /** The kid: 1 to 128 characters, becomes CKA_LABEL. */
  readonly kid: string
  readonly usage: KeyUsage
  /** The widest mode of use the key can be bound in; the usage's first where absent. A key in mode E gets no CKA_DECRYPT. */
  readonly mode?: KeyMode
  readonly algorithm: KeyAlgorithm
  /** The MACs a PRW key is for. Needed for TDEA PRW keys; an AES one is for CMAC. */
  readonly macs?: readonly MacAlgorithm[]
  /** `pin-encryption`: adds CKA_DECRYPT, for keys that are bound with `hostDecipher`. */
  readonly hostDecipher?: boolean
  /** `pin-encryption`: adds CKA_WRAP and CKA_UNWRAP, for translation inside the token (`translateInToken`). */
  readonly translation?: boolean
  /** When the key is for new data; kept as whole days, CKA_START_DATE and CKA_END_DATE (the last day included). */
  readonly validFrom?: Date
  readonly validTo?: Date
  /**
   * MAC and PRW keys of a cipher: others are derived from it (`deriveKeys`), and it computes nothing by itself. It gets
   * CKA_DERIVE, or CKA_ENCRYPT where keys are derived through the host.
   */
  readonly derives?: boolean
  /** PRW keys of a cipher: enciphers messages, too, for PRWs by encipherment (CKA_ENCRYPT). Then `macs` may be empty. */
  readonly enciphers?: boolean
}

/** A key to import. */
export interface ImportedKey extends NewKey {
  /** 16 or 24 bytes TDEA, 16/24/32 bytes AES, 32 bytes HMAC, a 32-byte scalar or private JWK for P-256. Not kept. */
  readonly material: KeyMaterial
  /** Expected check value; the key is deleted again where the token's differs. */
  readonly kcv?: string | CheckValue
}

/** Checks what a new key is for. Errors: `ERR_ARGUMENT`, `ERR_KEY_ALGORITHM`. */
export function readPurpose(key: NewKey): KeyPurpose {
  const {
    kid,
    usage,
    mode: widest,
    algorithm,
    hostDecipher = false,
    translation = false,
    derives = false,
    enciphers = false,
  } = key
  requireKid(kid)
  if (!isKeyUsage(usage)) throw new ArgumentError(`key ${kid}: unknown usage`)
  const mode = readMode(usage, widest)
  if (!isKeyAlgorithm(algorithm)) throw new ArgumentError(`key ${kid}: unknown algorithm`)
  if (!USAGES[usage].algorithms.includes(algorithm)) {
    throw new KeyError('ERR_KEY_ALGORITHM', `key ${kid}: ${usage} does not admit ${algorithm}`, kid)
  }
  for (const [name, value] of Object.entries({ hostDecipher, translation })) {
    if (typeof value !== 'boolean') throw new ArgumentError(`${name} must be a boolean`)
    // Of a KBPK it is what `bind` asks; the object is the same with it and without.
    if (value && usage === 'key-block-protection' && name === 'hostDecipher') continue
    if (value && usage !== 'pin-encryption') throw new ArgumentError(`${name} is for pin-encryption keys`)
  }
  if (translation && !isTdea(algorithm)) {
    throw new ArgumentError('translation is for TDEA keys: format 4 is not translated inside a token')
  }
  if (hostDecipher && mode === 'E' && usage === 'pin-encryption')
    throw new ArgumentError('a key in mode E deciphers nothing: hostDecipher is no use')
  const dates = tokenDates(readPeriod(key))
  if (typeof derives !== 'boolean') throw new ArgumentError('derives must be a boolean')
  if (derives && !(derivesFor(usage) && isCipher(algorithm))) {
    throw new ArgumentError('derives is for MAC and PRW keys of a cipher')
  }
  if (typeof enciphers !== 'boolean') throw new ArgumentError('enciphers must be a boolean')
  if (enciphers && !(enciphersFor(usage) && isCipher(algorithm) && !derives)) {
    throw new ArgumentError(
      'enciphers is for PRW keys of a cipher, and not for those that others are derived from',
    )
  }
  const macs = derives ? macsOf(usage, algorithm) : readMacs(key)
  return { usage, mode, algorithm, macs, hostDecipher, translation, derives, enciphers, dates }
}

function readMacs({ kid, usage, algorithm, macs, enciphers }: NewKey): readonly MacAlgorithm[] {
  const possible = macsOf(usage, algorithm)
  if (macs === undefined) {
    if (possible.length <= 1) return possible
    throw new ArgumentError(`key ${kid}: macs must say which of ${possible.join(', ')} it is for`)
  }
  const chosen: readonly MacAlgorithm[] = Array.isArray(macs) ? [...macs] : []
  if ((chosen.length === 0 && enciphers !== true) || !chosen.every(mac => possible.includes(mac))) {
    throw new ArgumentError(`key ${kid}: macs must be among ${possible.join(', ') || 'none'}`)
  }
  return chosen
}

/** Whether a retail MAC under this key is composed, and so takes an object with K1 beside it. */
export function needsChain(plan: Plan, { usage, algorithm, macs, derives }: KeyPurpose): boolean {
  // That of a derived key is derived.
  if (derives) return false
  if (!macsOf(usage, algorithm).includes('iso9797-1-alg3') || !macs.includes('iso9797-1-alg3')) return false
  return requireMeans(plan.retailMac, 'iso9797-1-alg3').way === 'cbc'
}

/** The objects of a key, the key itself first. */
export type KeyObjects = [ObjectHandle, ...ObjectHandle[]]

/** Where keys are made, and where what a token does not take is noted. */
export type Making = Station & { readonly refusals: Refusals }

/** Has the token make the objects of a key; the key itself comes first. */
export function generateObjects(
  { binding, session, refusals }: Making,
  plan: Plan,
  purpose: KeyPurpose,
  name: KeyName,
): KeyObjects {
  const { algorithm } = purpose
  if (algorithm === 'ec-p256') {
    const can = pairBits(purpose.usage)
    const pair = makeWith(
      [
        publicKey({ name, can: can.public, isPrivate: plan.publicKeysPrivate }),
        privateKey({ name, can: can.private, mechanisms: allowedMechanisms(plan, purpose) }),
      ],
      (open, own) => binding.C_GenerateKeyPair(session, { mechanism: CKM.EC_KEY_PAIR_GEN }, open, own),
      refusals,
    )
    return [pair.privateKey, pair.publicKey]
  }
  const { mechanism, keyType, length } = GENERATE[algorithm]
  if (algorithm === 'tdea-2key') {
    const { twoKeyType } = requireMeans(plan.tdea, 'TDEA')
    if (twoKeyType !== CKK.DES2) {
      throw new BackendError(
        'ERR_UNSUPPORTED_BY_TOKEN',
        'this token does not generate two-key bundles: it has no CKK_DES2; use tdea-3key, or import',
      )
    }
  }
  const can = newKeyBits(plan, purpose)
  const mechanisms = allowedMechanisms(plan, purpose)
  const template = secretKey({
    keyType,
    can,
    name,
    mechanisms,
    ...unwrapsOf(purpose),
    ...(length !== undefined && { length }),
  })
  return [makeWith([template], all => binding.C_GenerateKey(session, mechanism, all), refusals)]
}

/** Brings the objects of a clear key in; nothing stays behind where one of them fails. The key itself comes first. */
export function importObjects(
  station: Making,
  plan: Plan,
  purpose: KeyPurpose,
  name: KeyName,
  material: Uint8Array,
): KeyObjects {
  const { algorithm } = purpose
  if (algorithm === 'ec-p256') return importPair(station, plan, purpose, name, material)
  const can = newKeyBits(plan, purpose)
  const composed = needsChain(plan, purpose)
  const isTripled = algorithm === 'tdea-2key' && requireMeans(plan.tdea, 'TDEA').twoKeyType !== CKK.DES2
  let threeKeys: Uint8Array | undefined
  let chain: ReturnType<typeof splitRetailKey> | undefined
  try {
    if (isTripled) threeKeys = asThreeKeys(material)
    if (composed) chain = splitRetailKey(material)
    const keyType = threeKeys === undefined ? GENERATE[algorithm].keyType : CKK.DES3
    const value = threeKeys ?? material
    const mechanisms = allowedMechanisms(plan, purpose)
    const template = secretKey({ keyType, can, name, value, mechanisms, ...unwrapsOf(purpose) })
    const objects: KeyObjects = [created(station, template)]
    if (chain !== undefined) {
      const chainName = { label: chainLabel(name.label), id: chainId(name.id) }
      const template = secretKey({
        keyType: CKK.DES3,
        can: ['ENCRYPT'],
        name: chainName,
        value: chain.chain,
        mechanisms: CIPHERS.tdea,
      })
      addOrUndo(station, objects, template)
    }
    return objects
  } finally {
    wipe(threeKeys, chain?.chain, chain?.last)
  }
}

/** What a key of this purpose unwraps. */
function unwrapsOf({ usage }: KeyPurpose): { unwraps?: 'keys' } {
  return usage === 'key-encryption' ? { unwraps: 'keys' } : {}
}

/** Whether a token combines secrets by `CKM_XOR_BASE_AND_DATA`, found out by trying it on two of its own. */
export function xorsInside(station: Station): boolean {
  const base: ObjectHandle[] = []
  try {
    base.push(partOf(station, secretBytes(16)))
    base.push(xored(station, base[0] as ObjectHandle, secretBytes(16)))
    return true
  } catch (error) {
    if (error instanceof Pkcs11Error) return false
    throw error
  } finally {
    undo(station, base)
  }
}

/** The first component as a secret that stays inside. */
export function partOf({ binding, session }: Station, part: Uint8Array): ObjectHandle {
  const template = secretKey({ keyType: CKK.GENERIC_SECRET, can: ['DERIVE'], value: part })
  return makeWith([template], all => binding.C_CreateObject(session, all))
}

/** The secret XOR a further component: inside, and neither leaves. */
export function xored({ binding, session }: Station, base: ObjectHandle, part: Uint8Array): ObjectHandle {
  const template = secretKey({ keyType: CKK.GENERIC_SECRET, can: ['DERIVE'], length: part.length })
  const mechanism = { mechanism: CKM.XOR_BASE_AND_DATA, parameter: { derivationData: part } }
  return makeWith([template], all => binding.C_DeriveKey(session, mechanism, base, all))
}

/** The secret as the key that it is for, stored. */
export function keyOfSecret(
  { binding, session, refusals }: Making,
  plan: Plan,
  purpose: KeyPurpose,
  name: KeyName,
  base: ObjectHandle,
): KeyObjects {
  const { template, bytes } = stored(plan, purpose, name, 'derived')
  const mechanism = { mechanism: CKM.XOR_BASE_AND_DATA, parameter: { derivationData: secretBytes(bytes) } }
  return [makeWith([template], all => binding.C_DeriveKey(session, mechanism, base, all), refusals)]
}

/** How a wrapped key is come by: RFC 3394, or RFC 5649 (AES-KWP), for which tokens have two mechanisms. */
const UNWRAP: Readonly<Record<Wrapping, readonly number[]>> = {
  rfc3394: [CKM.AES_KEY_WRAP],
  rfc5649: [CKM.AES_KEY_WRAP_KWP, CKM.AES_KEY_WRAP_PAD],
}

/** The forms of a wrapped key that a token unwraps by itself. */
export type Wrapping = 'rfc3394' | 'rfc5649'

/** Has the token unwrap a key with another of its keys. */
export function unwrapObjects(
  { binding, session, refusals }: Making,
  plan: Plan,
  purpose: KeyPurpose,
  name: KeyName,
  { under, wrapped, wrapping }: { under: ObjectHandle; wrapped: Uint8Array; wrapping: Wrapping },
): KeyObjects {
  const { template } = stored(plan, purpose, name, 'unwrapped')
  let first: unknown
  for (const mechanism of UNWRAP[wrapping]) {
    try {
      return [
        makeWith(
          [template],
          all => binding.C_UnwrapKey(session, { mechanism }, under, wrapped, all),
          refusals,
        ),
      ]
    } catch (error) {
      if (!(error instanceof Pkcs11Error) || error.returnValue !== CKR.MECHANISM_INVALID) throw error
      first ??= error
    }
  }
  throw first
}

/** The template of a key that comes out of another one inside the token. */
function stored(
  plan: Plan,
  purpose: KeyPurpose,
  name: KeyName,
  how: 'derived' | 'unwrapped',
): { template: Template; bytes: number } {
  const { algorithm } = purpose
  if (algorithm === 'ec-p256' || needsChain(plan, purpose)) {
    const what =
      algorithm === 'ec-p256' ? 'a P-256 key' : 'a composed retail MAC key, which takes an object of K1'
    throw new BackendError('ERR_UNSUPPORTED_BY_TOKEN', `${what} is not made inside the token here: import it`)
  }
  if (algorithm === 'tdea-2key' && requireMeans(plan.tdea, 'TDEA').twoKeyType !== CKK.DES2)
    throw new BackendError(
      'ERR_UNSUPPORTED_BY_TOKEN',
      'this token keeps no two-key bundle by itself: import it',
    )
  const { keyType } = GENERATE[algorithm]
  const bytes = KEY_BYTES[algorithm]
  const template = secretKey({
    keyType,
    can: newKeyBits(plan, purpose),
    name,
    mechanisms: allowedMechanisms(plan, purpose),
    ...unwrapsOf(purpose),
    // An unwrapped key brings its length; a derived one is as long as it is told.
    ...(how === 'derived' && keyType === CKK.AES && { length: bytes }),
  })
  // SoftHSM sets what it unwraps attribute by attribute, and after this one it sets no more.
  const last = template.filter(([type]) => type === CKA.MODIFIABLE)
  return { template: [...template.filter(([type]) => type !== CKA.MODIFIABLE), ...last], bytes }
}

/** A P-256 key and its public half, which is computed here. */
function importPair(
  station: Making,
  plan: Plan,
  purpose: KeyPurpose,
  name: KeyName,
  scalar: Uint8Array,
): KeyObjects {
  const can = pairBits(purpose.usage)
  const point = publicPoint(name.label, scalar)
  const der = derOfPoint(point)
  const mechanisms = allowedMechanisms(plan, purpose)
  const own = privateKey({ name, can: can.private, value: scalar, mechanisms })
  const objects: KeyObjects = [created(station, own)]
  const isPrivate = plan.publicKeysPrivate
  addOrUndo(station, objects, publicKey({ name, can: can.public, point: der, isPrivate }))
  return objects
}

/** A further object of a key, or none of them. */
function addOrUndo(station: Making, objects: KeyObjects, template: Template): void {
  try {
    objects.push(created(station, template))
  } catch (error) {
    undo(station, objects)
    throw error
  }
}

function created({ binding, session, refusals }: Making, template: Template): ObjectHandle {
  return makeWith([template], all => binding.C_CreateObject(session, all), refusals)
}

/** Deletes objects again, as far as that goes. */
export function undo({ binding, session }: Station, objects: readonly ObjectHandle[]): void {
  for (const object of objects) quietly(() => binding.C_DestroyObject(session, object))
}

const CIPHERS = {
  tdea: [CKM.DES3_ECB, CKM.DES3_CBC],
  aes: [CKM.AES_ECB, CKM.AES_CBC],
} as const

/** CKA_ALLOWED_MECHANISMS of a new key: what its usage needs, its check value included. */
function allowedMechanisms(
  plan: Plan,
  { usage, algorithm, macs, derives, enciphers }: KeyPurpose,
): readonly number[] {
  if (derives) {
    const way = requireMeans(derivationMeans(plan, algorithm), 'the derivation of keys')
    return way === 'inside'
      ? [derivationMechanism(algorithm)]
      : isTdea(algorithm)
        ? CIPHERS.tdea
        : CIPHERS.aes
  }
  if (algorithm === 'ec-p256') {
    return [USAGES[usage].purpose === 'signature' ? CKM.ECDSA : CKM.ECDH1_DERIVE]
  }
  if (usage === 'key-encryption') {
    const { cmacAes } = plan
    const own = cmacAes.ok && cmacAes.by.way === 'sign' ? [cmacAes.by.mechanism.mechanism] : CIPHERS.aes
    return [CKM.AES_KEY_WRAP, CKM.AES_KEY_WRAP_PAD, CKM.AES_KEY_WRAP_KWP, ...own]
  }
  if (macs.length === 0 && !enciphers) return isTdea(algorithm) ? [CKM.DES3_ECB] : CIPHERS.aes
  const found = macs.flatMap((mac): readonly number[] => {
    const by = requireMeans(MAC_MEANS[mac](plan, algorithm), mac)
    if (by.way === 'sign') return [by.mechanism.mechanism]
    return isTdea(algorithm) ? CIPHERS.tdea : CIPHERS.aes
  })
  const ciphers = isTdea(algorithm) ? CIPHERS.tdea : CIPHERS.aes
  return [...new Set(enciphers ? [...found, ...ciphers] : found)]
}

const GENERATE: Readonly<
  Record<
    Exclude<KeyAlgorithm, 'ec-p256'>,
    { readonly mechanism: Mechanism; readonly keyType: number; readonly length: number | undefined }
  >
> = {
  'tdea-2key': { mechanism: { mechanism: CKM.DES2_KEY_GEN }, keyType: CKK.DES2, length: undefined },
  'tdea-3key': { mechanism: { mechanism: CKM.DES3_KEY_GEN }, keyType: CKK.DES3, length: undefined },
  'aes-128': { mechanism: { mechanism: CKM.AES_KEY_GEN }, keyType: CKK.AES, length: 16 },
  'aes-192': { mechanism: { mechanism: CKM.AES_KEY_GEN }, keyType: CKK.AES, length: 24 },
  'aes-256': { mechanism: { mechanism: CKM.AES_KEY_GEN }, keyType: CKK.AES, length: 32 },
  'hmac-sha256': {
    mechanism: { mechanism: CKM.GENERIC_SECRET_KEY_GEN },
    keyType: CKK.GENERIC_SECRET,
    length: 32,
  },
}
