/**
 * What a token object must be to pass as a key: its attributes by one table, its check value by one method.
 */
import { createHash } from 'node:crypto'
import { bufferOf, equalBytes, secretBytes, wipe } from '../../../base/bytes.js'
import { BackendError, KeyError } from '../../../base/errors.js'
import {
  CHECK_VALUE_BYTES,
  type CheckValue,
  type CheckValueMethod,
  checkValueOf,
  type SymmetricMethod,
  zeroBlockBytes,
} from '../../../key/check-value.js'
import { type KeyPeriod, periodOfDates } from '../../../key/period.js'
import { unfit } from '../../../key/usage.js'
import {
  blockBytesOf,
  isCipher,
  isTdea,
  KEY_BYTES,
  type KeyAlgorithm,
} from '../../../primitives/algorithms.js'
import type { BlockCipher } from '../../../primitives/iso9797.js'
import { cmac, macBytes } from '../../../primitives/mac.js'
import type { ObjectHandle, Station } from '../binding/binding.js'
import { CKA, CKK, constantName } from '../binding/constants.js'
import { Pkcs11Error } from '../binding/errors.js'
import { ecb, encrypt, SHA256_HMAC, sign } from '../mechanisms/cipher.js'
import { derivationMeans, encipherByDeriving } from '../mechanisms/derivation.js'
import { readAttribute, readFlag, readNumber } from '../mechanisms/objects.js'
import { MAC_MEANS, type Plan, type Rights } from '../mechanisms/plan.js'
import { P256_PARAMS, type RoleBit, roleAttribute } from '../mechanisms/templates.js'
import type { Role } from './roles.js'

/*
 * What is asked of an object before it counts as the key of a kid: a known type, attributes that keep it inside and as it
 * is, and no rights but those of its role. What is not shown is not taken for granted.
 */

/** More than any kid has: private, public, certificates, twins from an unfinished rotation. */
export const MAX_OBJECTS = 16

/** What a key may show although it should not, where the opener of the backend accepts it by name. */
export type Acceptance = 'public' | 'modifiable' | 'copyable' | 'wrappable' | 'hidden-roles'
export const ACCEPTANCES: readonly Acceptance[] = [
  'public',
  'modifiable',
  'copyable',
  'wrappable',
  'hidden-roles',
]

/** What is accepted, and what is known of this token. */
export interface Policy {
  readonly accept: readonly Acceptance[]
  /** Role attributes the token does not have at all. */
  readonly lacks: readonly RoleBit[]
  /** What its users can do, as the probe has tried. */
  readonly rights: Rights
}

interface AttributeRule {
  readonly attribute: keyof typeof CKA
  readonly must: boolean
  /** The name by which something else is accepted; without one nothing else is. */
  readonly accept?: Acceptance
  readonly danger: string
}

/**
 * The table by which every key is judged. What a token does not show is unknown, and unknown is not allowed: an attribute
 * is right only where it is shown to be right.
 */
export const KEY_RULES: readonly AttributeRule[] = [
  { attribute: 'SENSITIVE', must: true, danger: 'its value can be read' },
  { attribute: 'EXTRACTABLE', must: false, danger: 'it can be wrapped and taken away' },
  { attribute: 'PRIVATE', must: true, accept: 'public', danger: 'it can be used without a login' },
  { attribute: 'MODIFIABLE', must: false, accept: 'modifiable', danger: 'its rights can be widened' },
]

/** Errors: `ERR_KEY_ALGORITHM`, `ERR_KEY_MATERIAL`. `stated`: what a CKA_ID of ours says. */
export function algorithmOf(
  { binding, session }: Station,
  kid: string,
  object: ObjectHandle,
  stated: KeyAlgorithm | undefined,
): KeyAlgorithm {
  const keyType = readNumber(binding, session, object, CKA.KEY_TYPE)
  switch (keyType) {
    case CKK.DES2:
      return 'tdea-2key'
    case CKK.DES3:
      // A two-key bundle as K1‖K2‖K1, made here for a token that has no CKK_DES2.
      return stated === 'tdea-2key' ? 'tdea-2key' : 'tdea-3key'
    case CKK.AES: {
      const length = readNumber(binding, session, object, CKA.VALUE_LEN)
      if (length === 16) return 'aes-128'
      if (length === 24) return 'aes-192'
      if (length === 32) return 'aes-256'
      // openCryptoki does not say it of imported keys; SoftHSM says 0 of those that it has unwrapped.
      if ((length === undefined || length === 0) && stated?.startsWith('aes')) return stated
      throw new KeyError('ERR_KEY_MATERIAL', `key ${kid}: an AES key of ${length ?? 'unknown'} bytes`, kid)
    }
    case CKK.GENERIC_SECRET: {
      const length = readNumber(binding, session, object, CKA.VALUE_LEN)
      if (length === KEY_BYTES['hmac-sha256']) return 'hmac-sha256'
      if ((length === undefined || length === 0) && stated === 'hmac-sha256') return stated
      throw new KeyError('ERR_KEY_MATERIAL', `key ${kid}: an HMAC key of ${length ?? 'unknown'} bytes`, kid)
    }
    case CKK.EC: {
      const parameters = readAttribute(binding, session, object, CKA.EC_PARAMS)
      if (parameters !== undefined && equalBytes(parameters, P256_PARAMS)) return 'ec-p256'
      throw new KeyError('ERR_KEY_ALGORITHM', `key ${kid} is an EC key, but not on P-256`, kid)
    }
    default: {
      const type = keyType === undefined ? 'without a key type' : constantName('CKK', CKK, keyType)
      throw new KeyError('ERR_KEY_ALGORITHM', `key ${kid} is ${type}: not an algorithm of this library`, kid)
    }
  }
}

/** Refuses a key that could leave the token, be used without login, or be given wider rights: `ERR_KEY_ATTRIBUTES`. */
export function requireInside(station: Station, kid: string, object: ObjectHandle, policy: Policy): void {
  const { binding, session } = station
  for (const { attribute, must, accept, danger } of KEY_RULES) {
    const shown = readFlag(binding, session, object, CKA[attribute])
    const honoured = attribute !== 'MODIFIABLE' || !policy.rights.modifyWidens
    if ((shown === must && honoured) || (accept !== undefined && policy.accept.includes(accept))) continue
    const state = shown === must ? `${must}, but this token does not honour it` : `not shown to be ${must}`
    throw attributesError(kid, `CKA_${attribute} is ${state}, so ${danger}: ${cure(accept)}`)
  }
  const { copyWidens, copyOfUncopyableWidens, wrapsOut } = policy.rights
  // Where copies are accepted that can be given any right, they can be given that one as well.
  const isTakenAway = copyWidens && policy.accept.includes('copyable')
  if (wrapsOut && !isTakenAway && !policy.accept.includes('wrappable')) {
    throw attributesError(
      kid,
      "a user of this token can wrap it and take it away, whatever CKA_EXTRACTABLE says: use another token, or accept it by name (accept: ['wrappable'])",
    )
  }
  if (!copyWidens || policy.accept.includes('copyable')) return
  const copyable = readFlag(binding, session, object, CKA.COPYABLE)
  if (copyable === false && !copyOfUncopyableWidens) return
  throw attributesError(
    kid,
    `a user of this token can copy it and give the copy wider rights: ${cure('copyable')}`,
  )
}

function cure(accept: Acceptance | undefined): string {
  return accept === undefined
    ? 'make the key anew'
    : `make the key anew, or accept it by name (accept: ['${accept}'])`
}

/** Refuses a private key that wants the PIN at each use (as PIV's for signing does): it is fetched once and not kept. */
export function requireOneLogin({ binding, session }: Station, kid: string, object: ObjectHandle): void {
  if (readFlag(binding, session, object, CKA.ALWAYS_AUTHENTICATE) !== true) return
  throw attributesError(kid, 'CKA_ALWAYS_AUTHENTICATE is true: make the key anew without it')
}

/** The role bits of a key; `ERR_KEY_USAGE` where they do not fit. One that the token does not show counts as there. */
export function requireRole(
  { binding, session }: Station,
  kid: string,
  object: ObjectHandle,
  { needs, allows }: Role,
  { of, what, policy }: { readonly of: readonly RoleBit[]; readonly what: string; readonly policy: Policy },
): ReadonlySet<RoleBit> {
  const can = new Set<RoleBit>()
  const hidden: RoleBit[] = []
  for (const bit of of) {
    const shown = readFlag(binding, session, object, roleAttribute(bit))
    if (shown === true) can.add(bit)
    if (shown === undefined && !policy.lacks.includes(bit)) hidden.push(bit)
  }
  if (!needs.some(bit => can.has(bit))) {
    throw unfit(kid, `${what} needs ${needs.map(bit => `CKA_${bit}`).join(' or ')}, which it does not have`)
  }
  const fits = (bit: RoleBit): boolean => needs.includes(bit) || allows.includes(bit)
  for (const bit of can) {
    if (fits(bit)) continue
    throw unfit(kid, `CKA_${bit} is set, which ${what} does not need: make the key anew without it`)
  }
  const foreign = policy.accept.includes('hidden-roles') ? undefined : hidden.find(bit => !fits(bit))
  if (foreign === undefined) return can
  throw unfit(
    kid,
    `the token does not show whether CKA_${foreign} is set, which ${what} does not need: name the vendor, or accept it by name (accept: ['hidden-roles'])`,
  )
}

/** The role bits that the token shows to be set. */
export function shownBits(
  { binding, session }: Station,
  object: ObjectHandle,
  of: readonly RoleBit[],
): ReadonlySet<RoleBit> {
  return new Set(of.filter(bit => readFlag(binding, session, object, roleAttribute(bit)) === true))
}

/** What the token says of a key's past. Not all tokens say the truth: the vendor's row knows better. */
export function originOf(
  { binding, session }: Station,
  object: ObjectHandle,
): 'generated' | 'brought-in' | 'unknown' {
  const never = readFlag(binding, session, object, CKA.NEVER_EXTRACTABLE)
  const always = readFlag(binding, session, object, CKA.ALWAYS_SENSITIVE)
  if (never === true && always === true) return 'generated'
  return never === undefined || always === undefined ? 'unknown' : 'brought-in'
}

/** When the token says that the key is for new data; nothing where it shows no dates. */
export function periodOf(
  { binding, session }: Station,
  object: ObjectHandle,
  { hidesDates }: Pick<Plan, 'hidesDates'>,
): KeyPeriod {
  if (hidesDates) return periodOfDates(undefined, undefined)
  const read = (type: number): string | undefined => {
    const value = readAttribute(binding, session, object, type)
    return value === undefined ? undefined : bufferOf(value).toString('latin1')
  }
  return periodOfDates(read(CKA.START_DATE), read(CKA.END_DATE))
}

export function attributesError(kid: string, problem: string): KeyError {
  return new KeyError('ERR_KEY_ATTRIBUTES', `key ${kid}: ${problem}`, kid)
}

export function ambiguous(kid: string): KeyError {
  return new KeyError(
    'ERR_KEY_AMBIGUOUS',
    `there are two keys labelled ${kid}: delete one, or name the CKA_ID in the keys option`,
    kid,
  )
}

/* Key check values of token keys: computed by the token where the key's role bits let it, else as the token states. */

/** A symmetric token key, as far as its check value needs it. */
interface CheckedKey {
  readonly kid: string
  readonly object: ObjectHandle
  readonly algorithm: KeyAlgorithm
  readonly can: ReadonlySet<RoleBit>
}

/** What a token gives of a key's check value by one method: the part that is shown, and a print of all of it. */
export interface Checked {
  readonly value: CheckValue
  /** Method, number of bytes, and their SHA-256: all of them say more than three do, and are nobody's business. */
  readonly print: string
}

/**
 * The check value by the method the caller expects, or by the algorithm's usual one, or, where nothing is expected
 * and the token cannot make that, by the other: a MAC key may not encipher, so its zero block stays unseen unless
 * the token keeps CKA_CHECK_VALUE. `ERR_UNSUPPORTED_BY_TOKEN` where there is no way.
 */
export function tokenCheckValue(
  station: Station,
  plan: Plan,
  key: CheckedKey,
  expected: CheckValueMethod | undefined,
  expectedValue?: string | CheckValue,
): Checked {
  const usual = usualMethods(key.algorithm)
  const methods = expected === undefined ? usual : usual.filter(method => method === expected)
  for (const method of methods) {
    const checked = MAKE[method](station, plan, key, expectedValue)
    if (checked !== undefined) return checked
  }
  throw new BackendError(
    'ERR_UNSUPPORTED_BY_TOKEN',
    `key ${key.kid}: the token makes no check value by ${expected ?? usual.join(' or ')} for it`,
  )
}

/** The check values by every method that the token makes for this key; what it refuses for it, it does not make. */
export function tokenCheckValues(station: Station, plan: Plan, key: CheckedKey): readonly Checked[] {
  return usualMethods(key.algorithm).flatMap(method => {
    try {
      return MAKE[method](station, plan, key, undefined) ?? []
    } catch (error) {
      if (error instanceof Pkcs11Error && error.kind === 'configuration') return []
      throw error
    }
  })
}

function usualMethods(algorithm: KeyAlgorithm): readonly SymmetricMethod[] {
  if (isTdea(algorithm)) return USUAL.tdea
  return isCipher(algorithm) ? USUAL.aes : USUAL.hmac
}

const USUAL: Readonly<Record<'tdea' | 'aes' | 'hmac', readonly SymmetricMethod[]>> = {
  hmac: ['hmac'],
  tdea: ['encrypt-zero', 'cmac'],
  aes: ['cmac', 'encrypt-zero'],
}

type Make = (
  station: Station,
  plan: Plan,
  key: CheckedKey,
  expected: string | CheckValue | undefined,
) => Checked | undefined

const MAKE: Readonly<Record<SymmetricMethod, Make>> = {
  'encrypt-zero': (station, plan, { object, algorithm, can }, expected) => {
    if (can.has('ENCRYPT')) {
      return shown('encrypt-zero', encrypt(station, ecb(algorithm), object, zeroBlock(algorithm)), expected)
    }
    if (derivesInside(plan, { algorithm, can })) {
      const block = encipherByDeriving(station, algorithm, object, zeroBlock(algorithm))
      return shown('encrypt-zero', block, expected)
    }
    // Whoever may make keys in such a token could give one of their own the check value of another.
    if (plan.rights.statesAnyCheckValue) return undefined
    const stated = readAttribute(station.binding, station.session, object, CKA.CHECK_VALUE)
    return stated?.length === CHECK_VALUE_BYTES['encrypt-zero']
      ? shown('encrypt-zero', stated, undefined)
      : undefined
  },
  cmac: (station, plan, { object, algorithm, can }, expected) => {
    const zero = zeroBlock(algorithm)
    if (can.has('ENCRYPT'))
      return shown('cmac', cmac(ofSingleBlocks(station, object, algorithm), zero), expected)
    if (derivesInside(plan, { algorithm, can })) {
      const encipherCbc = (_iv: Uint8Array, block: Uint8Array) =>
        encipherByDeriving(station, algorithm, object, block)
      return shown('cmac', cmac({ blockBytes: blockBytesOf(algorithm), encipherCbc }, zero), expected)
    }
    const means = MAC_MEANS.cmac(plan, algorithm)
    if (!means.ok || means.by.way !== 'sign' || !can.has('SIGN')) return undefined
    return shown('cmac', sign(station, means.by.mechanism, object, zero, zero.length), expected)
  },
  hmac: (station, plan, { object, algorithm }, expected) => {
    if (!plan.hmac.ok) return undefined
    const tag = sign(station, SHA256_HMAC, object, zeroBlock(algorithm), macBytes(algorithm))
    return shown('hmac', tag, expected)
  },
}

/** The part of a block that is shown; the rest of it is nobody's business. */
function shown(
  method: SymmetricMethod,
  block: Uint8Array,
  expected: string | CheckValue | undefined,
): Checked {
  const value = checkValueOf(method, block, expected)
  const print = `${method} ${block.length} ${createHash('sha256').update(block).digest('hex')}`
  wipe(block)
  return { value, print }
}

/** Whether the prints of two keys tell them apart: what both show by one method, and in as many bytes, differs. */
export function tellsApart(one: readonly string[], other: readonly string[]): boolean {
  const bare = (print: string): string => print.slice(0, print.lastIndexOf(' '))
  return one.some(print => other.some(its => bare(its) === bare(print) && its !== print))
}

/** A key of which others are derived and that does nothing else shows its zero block as a derived secret. */
function derivesInside(plan: Plan, { algorithm, can }: Pick<CheckedKey, 'algorithm' | 'can'>): boolean {
  const means = derivationMeans(plan, algorithm)
  return means.ok && means.by === 'inside' && can.has('DERIVE')
}

/** CBC of one block after a zero IV is ECB, and the CMAC of one block takes no more. */
function ofSingleBlocks(station: Station, object: ObjectHandle, algorithm: KeyAlgorithm): BlockCipher {
  return {
    blockBytes: blockBytesOf(algorithm),
    encipherCbc: (_iv, block) => encrypt(station, ecb(algorithm), object, block),
  }
}

function zeroBlock(algorithm: KeyAlgorithm): Uint8Array {
  return secretBytes(zeroBlockBytes(algorithm))
}
