/**
 * Vendors' own retail MAC mechanisms (ISO/IEC 9797-1 algorithm 3). PKCS#11 has none, and the same vendor number means
 * different things: 0x80000135 is Utimaco's retail MAC and, with a length parameter, ProtectServer's. So a mechanism
 * is chosen by the vendor's name, and used only after the known answer of ISO 9797-1. `CKM_DES3_MAC` is not here: it
 * is algorithm 1.
 */
import type { Mechanism } from '../binding/binding.js'

/** Vendors whose retail MAC mechanism is known. Numbers are from their published headers; none was tried on hardware. */
export type RetailMacVendor = 'utimaco' | 'protectserver' | 'luna' | 'unbound'

export interface RetailMacProfile {
  readonly name: RetailMacVendor
  readonly mechanism: Mechanism
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
