/**
 * Checks on clear TDEA key material: degenerate bundles, weak and semi-weak components, parity.
 * Bit 0 of each byte is a parity bit (FIPS 46-3) and counts in no comparison.
 */

import { equalBytes, fromHex, secretBytes, wipe } from '../base/bytes.js'
import { KeyError } from '../base/errors.js'

/** DES key parity: every byte odd, not every byte odd, or not visible from here (a key inside a token, no TDEA key). */
export type KeyParity = 'odd' | 'mixed' | 'unknown'

const COMPONENT_BYTES = 8

/** The 4 weak and 12 semi-weak DES keys (NIST SP 800-67 Rev. 2, 3.3.2), parity adjusted. */
const WEAK_COMPONENTS: readonly Uint8Array[] = [
  '0101010101010101',
  'FEFEFEFEFEFEFEFE',
  'E0E0E0E0F1F1F1F1',
  '1F1F1F1F0E0E0E0E',
  '011F011F010E010E',
  '1F011F010E010E01',
  '01E001E001F101F1',
  'E001E001F101F101',
  '01FE01FE01FE01FE',
  'FE01FE01FE01FE01',
  '1FE01FE00EF10EF1',
  'E01FE01FF10EF10E',
  '1FFE1FFE0EFE0EFE',
  'FE1FFE1FFE0EFE0E',
  'E0FEE0FEF1FEF1FE',
  'FEE0FEE0FEF1FEF1',
].map(hex => withoutParity(fromHex(hex, 'weak key')))

/** A copy whose parity bits are zero. */
export function withoutParity(component: Uint8Array): Uint8Array<ArrayBuffer> {
  const bare = secretBytes(component.length)
  component.forEach((byte, i) => {
    bare[i] = byte & 0xfe
  })
  return bare
}

/**
 * Refuses TDEA material that is weaker than its length promises: K1 = K2 or K2 = K3 (either makes the bundle single
 * DES), or a weak or semi-weak component. K1 = K3 in 24 bytes is the 2-key bundle and is accepted.
 *
 * Errors: `ERR_KEY_WEAK`, naming the kid and not the component. Sources: NIST SP 800-67 Rev. 2, 3.1 and 3.3;
 * ISO 11568.
 */
export function requireStrongTdea(kid: string, material: Uint8Array): void {
  const components: Uint8Array[] = []
  for (let at = 0; at < material.length; at += COMPONENT_BYTES) {
    components.push(withoutParity(material.subarray(at, at + COMPONENT_BYTES)))
  }
  const degenerate = components.some((component, i) => {
    const next = components[i + 1]
    return next !== undefined && equalBytes(component, next)
  })
  const weak = components.some(component => WEAK_COMPONENTS.some(known => equalBytes(known, component)))
  wipe(...components)
  if (degenerate || weak) {
    throw new KeyError('ERR_KEY_WEAK', `key ${kid}: degenerate, weak or semi-weak TDEA key`, kid)
  }
}

/** Whether every byte has an odd number of one bits. A statement about the material, not a reason to refuse it. */
export function parityOf(material: Uint8Array): KeyParity {
  return material.every(hasOddParity) ? 'odd' : 'mixed'
}

function hasOddParity(byte: number): boolean {
  let bits = byte ^ (byte >> 4)
  bits ^= bits >> 2
  bits ^= bits >> 1
  return (bits & 1) === 1
}

/** Sets the lowest bit of every byte so that the byte has an odd number of one bits, in place (FIPS 46-3). */
export function adjustParity(material: Uint8Array): void {
  for (const [i, byte] of material.entries()) if (!hasOddParity(byte)) material[i] = byte ^ 1
}
