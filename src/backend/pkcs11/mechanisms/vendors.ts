/**
 * Vendors as data: in what a token differs from the standard, or from its neighbours, that cannot be found out by trying,
 * or only at a price. A row is a default: what the caller says goes before it. Rows marked `documentation` come from the
 * vendor's published documents and headers and were not tried on hardware; `tried` means the software named here.
 *
 * Nothing in a row is trusted with cryptography: a vendor's retail MAC mechanism is used only after the known answer of
 * ISO 9797-1. The numbers of vendors collide, so a mechanism is never chosen by its number alone. `CKM_DES3_MAC` is not
 * here: it is algorithm 1.
 */
import type { Mechanism } from '../binding/binding.js'
import type { RoleBit } from './templates.js'

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
  /** Role attributes this token does not have: not shown means that there is none. */
  readonly lacks: readonly RoleBit[]
  /** What the token says of a key's past (CKA_LOCAL, CKA_NEVER_EXTRACTABLE) that is not so. */
  readonly claims: string | undefined
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
  lacks: [],
  claims: undefined,
  retailMac: undefined,
  remark: undefined,
}

/** The table. */
export const VENDORS: Readonly<Record<Vendor, VendorProfile>> = {
  luna: {
    ...STANDARD,
    remark:
      'CKM_DES3_X919_MAC gives 4 bytes by its documentation, which the probe refuses; the Crypto User makes no session keys; with an HA slot use one backend',
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
    remark: 'keys of equal halves are refused, so no composed retail MAC',
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
    remark: 'no key agreement with the KDF of JOSE; no CMAC; 16 KB a call',
  },
  yubihsm: {
    ...STANDARD,
    remark:
      'no TDEA; 16 sessions that time out after 30 seconds: sessions.max 4 and keepAliveMs 10000; the link is lost with CKR_FUNCTION_FAILED',
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
      'any user can copy a key with wider rights: accept "copyable" by name; no EC in its software token',
  },
  'p11-kit': {
    ...STANDARD,
    source: 'tried',
    remark: 'only mechanisms without parameters reach the token behind it; rows of that token apply',
  },
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
