/** node:crypto ciphers for the MAC algorithms, beside the backends on purpose: weak vector keys must pass here. */
import { createCipheriv } from 'node:crypto'
import { concatBytes } from '../../src/base/bytes.js'
import { type BlockCipher, splitRetailKey } from '../../src/primitives/iso9797.js'
import type { MacCiphers } from '../../src/primitives/mac.js'

export function nodeCipher(key: Uint8Array, family: 'tdea' | 'aes'): BlockCipher {
  const name =
    family === 'aes' ? `aes-${8 * key.length}-cbc` : key.length === 16 ? 'des-ede-cbc' : 'des-ede3-cbc'
  return {
    blockBytes: family === 'aes' ? 16 : 8,
    encipherCbc: (iv, data) => {
      const cipher = createCipheriv(name, key, iv).setAutoPadding(false)
      return concatBytes(cipher.update(data), cipher.final())
    },
  }
}

/** Both ciphers of a key; an 8-byte DES key is TDEA under K‖K‖K. */
export function nodeCiphers(key: Uint8Array, family: 'tdea' | 'aes' = 'tdea'): MacCiphers {
  if (family === 'aes') return { last: nodeCipher(key, 'aes') }
  const { chain, last } = splitRetailKey(key.length === 8 ? concatBytes(key, key, key) : key)
  return { chain: nodeCipher(chain, 'tdea'), last: nodeCipher(last, 'tdea') }
}
