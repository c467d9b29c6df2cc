/**
 * Attribute templates, every attribute spelled out: what a template leaves out a token fills in, and SoftHSM fills in
 * "not sensitive" and "may do everything".
 */
import type { AttributeValue, Template } from '../binding/binding.js'
import { CKA, CKK, CKO } from '../binding/constants.js'

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
const SECRET_BITS: readonly RoleBit[] = ['ENCRYPT', 'DECRYPT', 'SIGN', 'VERIFY', 'WRAP', 'UNWRAP', 'DERIVE']
const PRIVATE_BITS: readonly RoleBit[] = ['DECRYPT', 'SIGN', 'SIGN_RECOVER', 'UNWRAP', 'DERIVE']
const PUBLIC_BITS: readonly RoleBit[] = ['ENCRYPT', 'VERIFY', 'VERIFY_RECOVER', 'WRAP', 'DERIVE']

function bits(of: readonly RoleBit[], set: readonly RoleBit[]): Attribute[] {
  return ROLE_BITS.filter(bit => of.includes(bit)).map(bit => [roleAttribute(bit), set.includes(bit)])
}

/** What a long-term key is called in the token. */
export interface KeyName {
  readonly label: string
  readonly id: Uint8Array
}

function storage(name: KeyName | undefined): Attribute[] {
  if (name === undefined) return [[CKA.TOKEN, false]]
  return [
    [CKA.TOKEN, true],
    [CKA.MODIFIABLE, false],
    [CKA.LABEL, name.label],
    [CKA.ID, name.id],
  ]
}

/** A secret key that does not leave the token: a token object where it has a name, else a session object. */
export function secretKey(options: {
  keyType: number
  can: readonly RoleBit[]
  name?: KeyName
  value?: Uint8Array
  /** CKA_VALUE_LEN, for keys the token makes and whose type does not fix it. */
  length?: number
  /** Only for the block of an in-token translation, which the token itself wraps again. */
  extractable?: true
}): Template {
  const { keyType, can, name, value, length, extractable } = options
  return [
    [CKA.CLASS, CKO.SECRET_KEY],
    [CKA.KEY_TYPE, keyType],
    ...storage(name),
    [CKA.PRIVATE, true],
    [CKA.SENSITIVE, true],
    [CKA.EXTRACTABLE, extractable ?? false],
    ...bits(SECRET_BITS, can),
    [CKA.VALUE_LEN, length],
    [CKA.VALUE, value],
  ]
}

/** A derived secret that the host may read: only for what the caller gets anyway, or opted in by name. */
export function readableSecret(length: number): Template {
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
}): Template {
  const { can, name, value } = options
  return [
    [CKA.CLASS, CKO.PRIVATE_KEY],
    [CKA.KEY_TYPE, CKK.EC],
    ...storage(name),
    [CKA.PRIVATE, true],
    [CKA.SENSITIVE, true],
    [CKA.EXTRACTABLE, false],
    ...bits(PRIVATE_BITS, can),
    ...(value === undefined ? [] : ([[CKA.EC_PARAMS, P256_PARAMS]] as const)),
    [CKA.VALUE, value],
  ]
}

/** Its public half. With `point` (DER) an import. */
export function publicKey(options: {
  can: readonly RoleBit[]
  name?: KeyName
  point?: Uint8Array
}): Template {
  const { can, name, point } = options
  return [
    [CKA.CLASS, CKO.PUBLIC_KEY],
    [CKA.KEY_TYPE, CKK.EC],
    ...storage(name),
    [CKA.PRIVATE, false],
    ...bits(PUBLIC_BITS, can),
    [CKA.EC_PARAMS, P256_PARAMS],
    [CKA.EC_POINT, point],
  ]
}

/** K1‖K2‖K1 of a two-key bundle; a copy of a three-key one. The caller wipes it. */
export function asThreeKeys(value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(new ArrayBuffer(24))
  bytes.set(value)
  if (value.length === 16) bytes.set(value.subarray(0, 8), 16)
  return bytes
}
