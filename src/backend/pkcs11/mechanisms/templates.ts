/**
 * Attribute templates, every attribute spelled out: what a template leaves out a token fills in, and SoftHSM fills in
 * "not sensitive" and "may do everything".
 */
import { asciiBytes, copyInto, secretBytes } from '../../../base/bytes.js'
import type { AttributeValue, Template } from '../binding/binding.js'
import { CKA, CKK, CKO, CKR } from '../binding/constants.js'
import { Pkcs11Error } from '../binding/errors.js'

/** OID 1.2.840.10045.3.1.7 (prime256v1), DER: the value of CKA_EC_PARAMS. */
export const P256_PARAMS: Uint8Array = Uint8Array.of(
  0x06,
  0x08,
  0x2a,
  0x86,
  0x48,
  0xce,
  0x3d,
  0x03,
  0x01,
  0x07,
)

/** The attributes that say what a key may do. */
export type RoleBit =
  | 'ENCRYPT'
  | 'DECRYPT'
  | 'WRAP'
  | 'UNWRAP'
  | 'SIGN'
  | 'SIGN_RECOVER'
  | 'VERIFY'
  | 'VERIFY_RECOVER'
  | 'DERIVE'

export const ROLE_BITS: readonly RoleBit[] = [
  'ENCRYPT',
  'DECRYPT',
  'WRAP',
  'UNWRAP',
  'SIGN',
  'SIGN_RECOVER',
  'VERIFY',
  'VERIFY_RECOVER',
  'DERIVE',
]

/** The attribute number of a role bit. */
export function roleAttribute(bit: RoleBit): number {
  return CKA[bit]
}

type Attribute = readonly [number, AttributeValue]

/** Role bits of symmetric keys. */
export const SECRET_BITS: readonly RoleBit[] = [
  'ENCRYPT',
  'DECRYPT',
  'SIGN',
  'VERIFY',
  'WRAP',
  'UNWRAP',
  'DERIVE',
]
export const PRIVATE_BITS: readonly RoleBit[] = ['DECRYPT', 'SIGN', 'SIGN_RECOVER', 'UNWRAP', 'DERIVE']
const PUBLIC_BITS: readonly RoleBit[] = ['ENCRYPT', 'VERIFY', 'VERIFY_RECOVER', 'WRAP', 'DERIVE']

function bits(of: readonly RoleBit[], set: readonly RoleBit[]): Attribute[] {
  return ROLE_BITS.filter(bit => of.includes(bit)).map(bit => [roleAttribute(bit), set.includes(bit)])
}

/** What a long-term key is called in the token. */
export interface KeyName {
  readonly label: string
  readonly id: Uint8Array
  /** CKA_START_DATE and CKA_END_DATE. */
  readonly dates?: { readonly start?: string; readonly end?: string }
}

function storage(name: KeyName | undefined): Attribute[] {
  if (name === undefined) return [[CKA.TOKEN, false]]
  return [
    [CKA.TOKEN, true],
    [CKA.MODIFIABLE, false],
    [CKA.COPYABLE, false],
    [CKA.DESTROYABLE, true],
    [CKA.LABEL, name.label],
    [CKA.ID, name.id],
    ...(name.dates?.start === undefined ? [] : ([[CKA.START_DATE, asciiBytes(name.dates.start)]] as const)),
    ...(name.dates?.end === undefined ? [] : ([[CKA.END_DATE, asciiBytes(name.dates.end)]] as const)),
  ]
}

/** What keys for translation carry: whatever they unwrap is this, and they wrap nothing else. */
const TRANSLATED: Template = [
  [CKA.CLASS, CKO.SECRET_KEY],
  [CKA.KEY_TYPE, CKK.GENERIC_SECRET],
  [CKA.TOKEN, false],
  [CKA.PRIVATE, true],
  [CKA.SENSITIVE, true],
  // The token itself wraps it again.
  [CKA.EXTRACTABLE, true],
  ...bits(SECRET_BITS, []),
]

/** The block of a translation on its way: the template of {@link secretKey} that goes with {@link TRANSLATED}. */
export function translatedBlocks(): Template {
  return TRANSLATED
}

/** What a key-encryption key unwraps: a secret key that does not leave the token. */
export const UNWRAPPED_KEYS: Template = [
  [CKA.CLASS, CKO.SECRET_KEY],
  [CKA.PRIVATE, true],
  [CKA.SENSITIVE, true],
  [CKA.EXTRACTABLE, false],
]

function restrictions(
  can: readonly RoleBit[],
  mechanisms: readonly number[] | undefined,
  unwraps: Template,
): Attribute[] {
  return [
    [CKA.WRAP_WITH_TRUSTED, true],
    ...(mechanisms === undefined ? [] : ([[CKA.ALLOWED_MECHANISMS, mechanisms]] as const)),
    ...(can.includes('UNWRAP') ? ([[CKA.UNWRAP_TEMPLATE, unwraps]] as const) : []),
    ...(can.includes('WRAP') ? ([[CKA.WRAP_TEMPLATE, TRANSLATED]] as const) : []),
  ]
}

/** What may be left out of a template where a token does not take it; the least missed first. */
const DISPENSABLE: readonly number[] = [
  CKA.DESTROYABLE,
  CKA.ALLOWED_MECHANISMS,
  CKA.COPYABLE,
  CKA.WRAP_WITH_TRUSTED,
  CKA.UNWRAP_TEMPLATE,
  CKA.WRAP_TEMPLATE,
  CKA.SIGN_RECOVER,
  CKA.VERIFY_RECOVER,
]

/** How tokens say that they do not take an attribute: NSS says "general error" of one it keeps for session keys only. */
const NOT_TAKEN: readonly number[] = [
  CKR.GENERAL_ERROR,
  CKR.ATTRIBUTE_READ_ONLY,
  CKR.ATTRIBUTE_TYPE_INVALID,
  CKR.ATTRIBUTE_VALUE_INVALID,
  CKR.TEMPLATE_INCONSISTENT,
]

/** What is known of refusals, and where to note what was left out. */
export interface Refusals {
  /** Attributes that the probe saw refused. */
  readonly known?: readonly number[]
  readonly leftOut?: Set<number>
}

/**
 * Has an object made with every attribute stated; where the token refuses the template, without one that can be done
 * without; where it takes more than one, without those that the probe saw refused, or without two; at last without one
 * more each time. What was left out is noted, and shows when the key is judged: never silently in what it may do. Errors: those of `make`, the
 * first one where nothing helps.
 */
export function makeWith<T, All extends readonly [Template, ...Template[]]>(
  templates: All,
  make: (...templates: All) => T,
  { known = [], leftOut }: Refusals = {},
): T {
  const stated = DISPENSABLE.filter(type => templates.some(template => template.some(([is]) => is === type)))
  const seen = stated.filter(type => known.includes(type))
  // A link that breaks over a template within a template breaks whatever is asked for; so it is not tried to find out.
  const never = seen.filter(type => type === CKA.UNWRAP_TEMPLATE || type === CKA.WRAP_TEMPLATE)
  const ways = [
    [],
    ...stated.map(type => [type]),
    ...(seen.length > 1 ? [seen] : []),
    ...stated.flatMap((one, at) => stated.slice(at + 1).map(other => [one, other])),
    ...stated.slice(1).map((_, at) => stated.slice(0, at + 2)),
  ]
  let first: unknown
  for (const way of ways) {
    const without = [...new Set([...way, ...never])]
    try {
      const fewer = templates.map(template => template.filter(([type]) => !without.includes(type)))
      const made = make(...(fewer as readonly Template[] as All))
      for (const type of without) leftOut?.add(type)
      return made
    } catch (error) {
      first ??= error
      if (!(error instanceof Pkcs11Error) || !NOT_TAKEN.includes(error.returnValue)) throw error
    }
  }
  throw first
}

/** A secret key that does not leave the token: a token object where it has a name, else a session object. */
export function secretKey(options: {
  keyType: number
  can: readonly RoleBit[]
  name?: KeyName
  value?: Uint8Array
  /** CKA_VALUE_LEN, for keys the token makes and whose type does not fix it. */
  length?: number
  /** CKA_ALLOWED_MECHANISMS of a long-term key. */
  mechanisms?: readonly number[]
  /** What it unwraps, where it does: blocks on their way where absent, or keys. */
  unwraps?: 'keys'
}): Template {
  const { keyType, can, name, value, length, mechanisms, unwraps } = options
  const template = unwraps === 'keys' ? UNWRAPPED_KEYS : TRANSLATED
  return [
    [CKA.CLASS, CKO.SECRET_KEY],
    [CKA.KEY_TYPE, keyType],
    ...storage(name),
    [CKA.PRIVATE, true],
    [CKA.SENSITIVE, true],
    [CKA.EXTRACTABLE, false],
    ...bits(SECRET_BITS, can),
    ...(name === undefined ? [] : restrictions(can, mechanisms, template)),
    [CKA.VALUE_LEN, length],
    [CKA.VALUE, value],
  ]
}

/** A derived secret that the host may read: only for what the caller gets anyway, or opted in by name. */
export function readableSecret(length: number | undefined): Template {
  return [
    [CKA.CLASS, CKO.SECRET_KEY],
    [CKA.KEY_TYPE, CKK.GENERIC_SECRET],
    [CKA.TOKEN, false],
    [CKA.PRIVATE, true],
    [CKA.SENSITIVE, false],
    [CKA.EXTRACTABLE, true],
    ...bits(SECRET_BITS, []),
    [CKA.VALUE_LEN, length],
  ]
}

/** A P-256 private key. With `value` (32 bytes) an import, without it one half of a pair. */
export function privateKey(options: {
  can: readonly RoleBit[]
  name?: KeyName
  value?: Uint8Array
  mechanisms?: readonly number[]
}): Template {
  const { can, name, value, mechanisms } = options
  return [
    [CKA.CLASS, CKO.PRIVATE_KEY],
    [CKA.KEY_TYPE, CKK.EC],
    ...storage(name),
    [CKA.PRIVATE, true],
    [CKA.SENSITIVE, true],
    [CKA.EXTRACTABLE, false],
    ...bits(PRIVATE_BITS, can),
    ...(name === undefined ? [] : restrictions(can, mechanisms, TRANSLATED)),
    ...(value === undefined ? [] : ([[CKA.EC_PARAMS, P256_PARAMS]] as const)),
    [CKA.VALUE, value],
  ]
}

/** Its public half. With `point` (DER) an import. */
export function publicKey(options: {
  can: readonly RoleBit[]
  name?: KeyName
  point?: Uint8Array
  /** CKA_PRIVATE: some tokens want it true of public keys, too. */
  isPrivate: boolean
}): Template {
  const { can, name, point, isPrivate } = options
  return [
    [CKA.CLASS, CKO.PUBLIC_KEY],
    [CKA.KEY_TYPE, CKK.EC],
    ...storage(name),
    [CKA.PRIVATE, isPrivate],
    ...bits(PUBLIC_BITS, can),
    [CKA.EC_PARAMS, P256_PARAMS],
    [CKA.EC_POINT, point],
  ]
}

/** K1‖K2‖K1 of a two-key bundle; a copy of a three-key one. The caller wipes it. */
export function asThreeKeys(value: Uint8Array): Uint8Array {
  const bytes = secretBytes(24)
  copyInto(bytes, value)
  if (value.length === 16) copyInto(bytes, value.subarray(0, 8), 16)
  return bytes
}
