/** The names of MAC algorithms and padding methods, used by the port, the usage table and the profiles. */
import { deepFreeze } from '../base/arguments.js'

/**
 * - `iso9797-1-alg1`: CBC-MAC with TDEA (ISO/IEC 9797-1 MAC algorithm 1), 8 bytes.
 * - `iso9797-1-alg3`: retail MAC (ISO/IEC 9797-1 MAC algorithm 3, ANSI X9.19), 8 bytes.
 * - `cmac`: CMAC with the key's cipher (NIST SP 800-38B; ISO/IEC 9797-1 MAC algorithm 5), 8 bytes TDEA, 16 bytes AES.
 */
export type MacAlgorithm = 'iso9797-1-alg1' | 'iso9797-1-alg3' | 'cmac'

/** Encipherment of a whole message, which some PRWs are: ECB or CBC with the key's cipher. As long as the padded message. */
export type Encipherment = 'encipher-ecb' | 'encipher-cbc'

/** True for an {@link Encipherment}. */
export function isEncipherment(algorithm: unknown): algorithm is Encipherment {
  return algorithm === 'encipher-ecb' || algorithm === 'encipher-cbc'
}

/**
 * ISO/IEC 9797-1 padding: 1 zero-fill, 2 append 80 then zeros, 3 length block in front then zero-fill.
 * CMAC pads by itself: `'none'`, and only there.
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
})
