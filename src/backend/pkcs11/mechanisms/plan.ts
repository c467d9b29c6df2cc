/**
 * How this token does each operation: found out by the probe, followed by the operations, shown by capabilities();
 * and what is known of vendors, as data.
 */
import { BackendError } from '../../../base/errors.js'
import { isTdea, type KeyAlgorithm, type MacAlgorithm } from '../../../primitives/algorithms.js'
import type { MacPlan } from '../../driver.js'
import type { Mechanism } from '../binding/binding.js'
import type { RoleBit } from './templates.js'

/* How this token does each operation: found out by the probe, followed by the operations, shown by capabilities(). */

/** A way to do something, or the reason why there is none: which mechanism is missing, or what must be opted in. */
export type Means<By> =
  | { readonly ok: true; readonly by: By }
  | { readonly ok: false; readonly reason: string }

/** A MAC by one mechanism, or out of CBC calls on the host's side. */
export type MacMeans =
  | { readonly way: 'sign'; readonly mechanism: Mechanism }
  | { readonly way: 'cbc'; readonly plan: Exclude<MacPlan, 'none'> }

/** Where Z is while a content key is derived; the values of `Capabilities.keyAgreement`. */
export type KeyAgreementMeans = 'token-kdf' | 'token-digest-key' | 'token-extract'

/** What a token lets its users do with a key, as the probe has tried it on keys of its own. */
export interface Rights {
  /** A copy of a key that cannot be modified can be given wider rights. */
  readonly copyWidens: boolean
  /** The same where CKA_COPYABLE is false. */
  readonly copyOfUncopyableWidens: boolean
  /** A key that says it cannot be modified can be given wider rights. */
  readonly modifyWidens: boolean
  /** A key that says it is not extractable can be wrapped, and so taken away. */
  readonly wrapsOut: boolean
  /** CKA_CHECK_VALUE is whatever the maker of a key states: it proves nothing. */
  readonly statesAnyCheckValue: boolean
}

export interface Plan {
  /** TDEA ECB, and by which key type a two-key bundle is held: CKK_DES2, or CKK_DES3 as K1‖K2‖K1. */
  readonly tdea: Means<{ readonly twoKeyType: number }>
  /** AES, ECB and CBC: what PIN block format 4 is made of. */
  readonly aes: Means<true>
  readonly cbcMac: Means<MacMeans>
  readonly retailMac: Means<MacMeans>
  readonly cmacTdea: Means<MacMeans>
  readonly cmacAes: Means<MacMeans>
  /** HMAC-SHA-256, by its mechanism or not at all. */
  readonly hmac: Means<Mechanism>
  readonly keyAgreement: Means<KeyAgreementMeans>
  /** `CKM_ECDSA` with P-256. */
  readonly signing: Means<true>
  /** Re-encipherment inside the token, so many bytes at a time; `closed`: it binds what is unwrapped to a template. */
  readonly translation: Means<{ readonly chunkBytes: number; readonly closed: boolean }>
  /** How a key is derived from another of its kind for one message. */
  readonly derivation: Readonly<Record<'tdea' | 'aes', Means<'inside' | 'through-host'>>>
  readonly rights: Rights
  /** Attributes that this token did not take for a test key. */
  readonly refused: readonly number[]
  /** CKA_PRIVATE of public keys, which some tokens want true. */
  readonly publicKeysPrivate: boolean
  /** CKA_START_DATE and CKA_END_DATE of a private object cannot be read (see {@link hidesDates}). */
  readonly hidesDates: boolean
  readonly random: Means<true>
  /** Nothing was tried: a key is used only with a check value that was stated and that it shows. */
  readonly trusts: boolean
  readonly notes: readonly string[]
}

/** Where the plan says how each MAC algorithm is made. */
export const MAC_MEANS: Readonly<
  Record<MacAlgorithm, (plan: Plan, algorithm: KeyAlgorithm) => Means<MacMeans>>
> = {
  'iso9797-1-alg1': plan => plan.cbcMac,
  'iso9797-1-alg3': plan => plan.retailMac,
  cmac: (plan, algorithm) => (isTdea(algorithm) ? plan.cmacTdea : plan.cmacAes),
  'hmac-sha256': ({ hmac }) => (hmac.ok ? { ok: true, by: { way: 'sign', mechanism: hmac.by } } : hmac),
}

/** The way, or `ERR_UNSUPPORTED_BY_TOKEN` with the reason why there is none. */
export function requireMeans<By>(means: Means<By>, what: string): By {
  if (means.ok) return means.by
  throw new BackendError('ERR_UNSUPPORTED_BY_TOKEN', `this token does not do ${what}: ${means.reason}`)
}

/** How a MAC shows in `capabilities()`. */
export function macPlan(...means: readonly Means<MacMeans>[]): MacPlan {
  const found = means.find(way => way.ok)
  if (found === undefined || !found.ok) return 'none'
  return found.by.way === 'sign' ? 'native' : found.by.plan
}

/*
 * Vendors as data: in what a token differs from the standard, or from its neighbours, that cannot be found out by trying,
 * or only at a price. A row is a default: what the caller says goes before it. Rows marked `documentation` come from the
 * vendor's published documents and headers and were not tried on hardware; `tried` means the software named here.
 *
 * Nothing in a row is trusted with cryptography: a vendor's retail MAC mechanism is used only after the known answer of
 * ISO 9797-1. The numbers of vendors collide, so a mechanism is never chosen by its number alone. `CKM_DES3_MAC` is not
 * here: it is algorithm 1.
 */

/** The vendors of the table. */
export type Vendor =
  | 'luna'
  | 'protectserver'
  | 'utimaco'
  | 'nshield'
  | 'cloudhsm'
  | 'yubihsm'
  | 'softhsm'
  | 'nss'
  | 'opencryptoki'
  | 'p11-kit'

/** Vendors whose retail MAC mechanism is known. */
export type RetailMacVendor = 'utimaco' | 'protectserver' | 'luna' | 'unbound'

export interface RetailMacProfile {
  readonly name: RetailMacVendor
  readonly mechanism: Mechanism
}

export interface VendorProfile {
  readonly source: 'tried' | 'documentation'
  /** CKA_PRIVATE of public keys. */
  readonly publicKeysPrivate: boolean
  /** Read-only sessions are refused. */
  readonly readWrite: boolean
  readonly login: 'auto' | 'always' | 'never'
  /** Sessions that a backend takes, where the device has few for all who use it. */
  readonly sessions: number | undefined
  /** Idle milliseconds after which the device ends a session, where that is soon. */
  readonly sessionEndsAfter: number | undefined
  /** Role attributes this token does not have: not shown means that there is none. */
  readonly lacks: readonly RoleBit[]
  /** What the token says of a key's past (CKA_LOCAL, CKA_NEVER_EXTRACTABLE) that is not so. */
  readonly claims: string | undefined
  /** CKA_UNWRAP_TEMPLATE and CKA_WRAP_TEMPLATE reach the token; where they do not, the link may break over them. */
  readonly nestedTemplates: boolean
  /** Its own retail MAC mechanism. */
  readonly retailMac: RetailMacVendor | undefined
  /** For an operator. */
  readonly remark: string | undefined
}

const STANDARD: VendorProfile = {
  source: 'documentation',
  publicKeysPrivate: false,
  readWrite: false,
  login: 'auto',
  sessions: undefined,
  sessionEndsAfter: undefined,
  lacks: [],
  claims: undefined,
  nestedTemplates: true,
  retailMac: undefined,
  remark: undefined,
}

/** The table. */
export const VENDORS: Readonly<Record<Vendor, VendorProfile>> = {
  luna: {
    ...STANDARD,
    remark:
      'CKM_DES3_X919_MAC gives 4 bytes by its documentation, which the probe refuses; the Crypto User (userType 0x80000001) makes no session keys: probe trust-bound-keys; with an HA slot use one backend; in FIPS configuration firmware from 7.7.0 until before 7.8.4 ends a TDEA key after 65,536 blocks, and 7.8.4 refuses to encipher with TDEA by some mechanisms: ask the vendor before you keep PIN keys there',
  },
  protectserver: {
    ...STANDARD,
    login: 'always',
    retailMac: 'protectserver',
    remark: 'CKF_LOGIN_REQUIRED may be absent although keys need a login (PTK 7.1); uncompressed points only',
  },
  utimaco: {
    ...STANDARD,
    retailMac: 'utimaco',
    remark:
      'keys of equal halves are refused unless the configuration allows weak DES keys, so no composed retail MAC; its own mechanism makes it',
  },
  nshield: {
    ...STANDARD,
    remark: 'the accelerator slot refuses a login: name the operator card set, or use login: never',
  },
  cloudhsm: {
    ...STANDARD,
    publicKeysPrivate: true,
    readWrite: true,
    lacks: ['SIGN_RECOVER', 'VERIFY_RECOVER'],
    remark:
      'a cluster in FIPS mode refuses TDEA (after 2023), so PIN keys need one in non-FIPS mode; TDEA keys of 192 bits only (two-key bundles as K1, K2, K1); no key agreement with the KDF of JOSE; no CMAC; HMAC of 16 KB at most; SDK 5 has no read-only sessions',
  },
  yubihsm: {
    ...STANDARD,
    // Of 16.
    sessions: 4,
    sessionEndsAfter: 30_000,
    remark: 'no TDEA by its object types; the link is lost with CKR_FUNCTION_FAILED',
  },
  softhsm: { ...STANDARD, source: 'tried' },
  nss: {
    ...STANDARD,
    source: 'tried',
    claims: 'an imported key may say that it is local; a generated one says that it is not',
    remark: 'any user can copy a key with wider rights: accept "copyable" by name',
  },
  opencryptoki: {
    ...STANDARD,
    source: 'tried',
    claims: 'an imported key says that it was never extractable',
    remark:
      'any user can copy a key with wider rights: accept "copyable" by name; no EC in its software token; finalised a second time in a process it closes a descriptor that is not its own (3.8.1): executor process',
  },
  'p11-kit': {
    ...STANDARD,
    source: 'tried',
    // 0.24.1: CKR_DEVICE_ERROR, and the connection is gone.
    nestedTemplates: false,
    remark:
      '0.24 (Debian 12) hands on only mechanisms without parameters, so neither a composed MAC nor a JWE; 0.25 (Debian 13) hands on CBC and ECDH as well; no templates within templates; rows of the token behind it apply',
  },
}

/**
 * SoftHSM keeps the dates of a private object and shows none of them: it answers CKR_GENERAL_ERROR, which elsewhere means
 * that the device is in trouble. So they are not asked for there, by whatever name the token goes.
 */
export function hidesDates({ manufacturer }: { readonly manufacturer: string }): boolean {
  return /^SoftHSM\b/.test(manufacturer)
}

/** Whether templates within templates may be tried: the client of p11-kit breaks over them, named as vendor or not. */
export function mayNestTemplates(vendor: Vendor | undefined, module: string): boolean {
  return vendorProfile(vendor).nestedTemplates && !/p11-kit-client[^/\\]*$/.test(module)
}

/** The row of a vendor; the standard's own for none. */
export function vendorProfile(vendor: Vendor | undefined): VendorProfile {
  return vendor === undefined ? STANDARD : VENDORS[vendor]
}

/** True for a name of the table. */
export function isVendor(name: unknown): name is Vendor {
  return typeof name === 'string' && Object.hasOwn(VENDORS, name)
}

const MECHANISMS: Readonly<Record<RetailMacVendor, Mechanism>> = {
  // CKM_DES3_RETAIL_MAC.
  utimaco: { mechanism: 0x8000_0135 },
  // CKM_DES3_X919_MAC_GENERAL; the parameter is the length of the MAC.
  protectserver: { mechanism: 0x8000_0135, parameter: 8 },
  // CKM_DES3_X919_MAC. Its documentation says 4 bytes, which the probe refuses.
  luna: { mechanism: 0x8000_0150 },
  unbound: { mechanism: 0x8000_7ea0 },
}

/** The vendor's profile, or undefined for another name. */
export function retailMacProfile(name: unknown): RetailMacProfile | undefined {
  const known = RETAIL_MAC_VENDORS.find(vendor => vendor === name)
  return known === undefined ? undefined : { name: known, mechanism: MECHANISMS[known] }
}

export const RETAIL_MAC_VENDORS: readonly RetailMacVendor[] = ['utimaco', 'protectserver', 'luna', 'unbound']
