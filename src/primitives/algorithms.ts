/**
 * The algorithms by name: of keys, with their lengths and ciphers, and of MACs, with the paddings that each takes.
 */
import { deepFreeze } from '../base/arguments.js'

/**
 * The key algorithms this library knows. Lengths: TDEA 16 or 24 bytes with parity bits, AES 16, 24 or 32 bytes, HMAC-SHA-256
 * 32 bytes (a shorter key is the same one with zero bytes behind it: FIPS 198-1, 4, step 3).
 */
export type KeyAlgorithm =
  | 'tdea-2key'
  | 'tdea-3key'
  | 'aes-128'
  | 'aes-192'
  | 'aes-256'
  | 'hmac-sha256'
  | 'ec-p256'

/** Length in bytes of the key material of each algorithm (for `ec-p256`, of the private scalar). */
export const KEY_BYTES: Readonly<Record<KeyAlgorithm, number>> = deepFreeze({
  'tdea-2key': 16,
  'tdea-3key': 24,
  'aes-128': 16,
  'aes-192': 24,
  'aes-256': 32,
  'hmac-sha256': 32,
  'ec-p256': 32,
})

/** True for a member of {@link KeyAlgorithm}. */
export function isKeyAlgorithm(value: unknown): value is KeyAlgorithm {
  return typeof value === 'string' && Object.hasOwn(KEY_BYTES, value)
}

/** True for the algorithms that are block ciphers. */
export function isCipher(algorithm: KeyAlgorithm): boolean {
  return isTdea(algorithm) || algorithm.startsWith('aes')
}

/** Length of a block of the key's cipher: 8 bytes TDEA, 16 AES. */
export function blockBytesOf(algorithm: KeyAlgorithm): 8 | 16 {
  return isTdea(algorithm) ? 8 : 16
}

/** True for the TDEA algorithms. */
export function isTdea(algorithm: KeyAlgorithm): boolean {
  return algorithm === 'tdea-2key' || algorithm === 'tdea-3key'
}

/* The names of MAC algorithms and padding methods, used by the port, the usage table and the profiles. */

/**
 * - `iso9797-1-alg1`: CBC-MAC with TDEA (ISO/IEC 9797-1 MAC algorithm 1), 8 bytes.
 * - `iso9797-1-alg3`: retail MAC (ISO/IEC 9797-1 MAC algorithm 3, ANSI X9.19), 8 bytes.
 * - `cmac`: CMAC with the key's cipher (NIST SP 800-38B; ISO/IEC 9797-1 MAC algorithm 5), 8 bytes TDEA, 16 bytes AES.
 * - `hmac-sha256`: HMAC with SHA-256 (FIPS 198-1; ISO/IEC 9797-2 MAC algorithm 2), 32 bytes.
 */
export type MacAlgorithm = 'iso9797-1-alg1' | 'iso9797-1-alg3' | 'cmac' | 'hmac-sha256'

/** Encipherment of a whole message, which some PRWs are: ECB or CBC with the key's cipher. As long as the padded message. */
export type Encipherment = 'encipher-ecb' | 'encipher-cbc'

/** True for an {@link Encipherment}. */
export function isEncipherment(algorithm: unknown): algorithm is Encipherment {
  return algorithm === 'encipher-ecb' || algorithm === 'encipher-cbc'
}

/**
 * ISO/IEC 9797-1 padding: 1 zero-fill, 2 append 80 then zeros, 3 length block in front then zero-fill.
 * CMAC and HMAC pad by themselves: `'none'`, and only there.
 */
export type MacPadding = 1 | 2 | 3 | 'none'

/** How a MAC is computed. Nothing here has a default. */
export interface MacParameters {
  readonly algorithm: MacAlgorithm
  readonly padding: MacPadding
}

/** The padding methods each algorithm takes. */
export const MAC_PADDINGS: Readonly<Record<MacAlgorithm, readonly MacPadding[]>> = deepFreeze({
  'iso9797-1-alg1': [1, 2, 3],
  'iso9797-1-alg3': [1, 2, 3],
  cmac: ['none'],
  'hmac-sha256': ['none'],
})
