/** The key algorithms, their lengths, and which cipher they are keys of. */
import { deepFreeze } from '../base/arguments.js'

/** The key algorithms this library knows. Lengths: TDEA 16 or 24 bytes with parity bits, AES 16, 24 or 32 bytes. */
export type KeyAlgorithm = 'tdea-2key' | 'tdea-3key' | 'aes-128' | 'aes-192' | 'aes-256' | 'ec-p256'

/** Length in bytes of the key material of each algorithm (for `ec-p256`, of the private scalar). */
export const KEY_BYTES: Readonly<Record<KeyAlgorithm, number>> = deepFreeze({
  'tdea-2key': 16,
  'tdea-3key': 24,
  'aes-128': 16,
  'aes-192': 24,
  'aes-256': 32,
  'ec-p256': 32,
})

/** True for a member of {@link KeyAlgorithm}. */
export function isKeyAlgorithm(value: unknown): value is KeyAlgorithm {
  return typeof value === 'string' && Object.hasOwn(KEY_BYTES, value)
}

/** Length of a block of the key's cipher: 8 bytes TDEA, 16 AES. */
export function blockBytesOf(algorithm: KeyAlgorithm): 8 | 16 {
  return isTdea(algorithm) ? 8 : 16
}

/** True for the TDEA algorithms. */
export function isTdea(algorithm: KeyAlgorithm): boolean {
  return algorithm === 'tdea-2key' || algorithm === 'tdea-3key'
}
