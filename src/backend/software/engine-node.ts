/** TDEA by the OpenSSL that Node is built with. */
import { createCipheriv, createDecipheriv } from 'node:crypto'
import { clearRegisters, ownCopy, wipe } from '../../base/bytes.js'
import { chainCleanly, updateCleanly } from '../../primitives/cleanly.js'
import { requireWholeBlocks, type TdeaCipher, type TdeaEngine } from './tdea-engine.js'

/**
 * The two ECB contexts live as long as the key, so that one PIN block
 * does not pay for a key schedule; ECB without padding keeps no state between blocks.
 */
export const nodeEngine: TdeaEngine = { name: 'node:crypto', open: key => new NodeTdea(key) }

class NodeTdea implements TdeaCipher {
  readonly blockBytes = 8
  readonly #key: Uint8Array
  readonly #names: { ecb: string; cbc: string }
  readonly #encipher: ReturnType<typeof createCipheriv>
  readonly #decipher: ReturnType<typeof createDecipheriv>

  constructor(key: Uint8Array) {
    this.#key = ownCopy(key)
    this.#names =
      key.length === 16
        ? { ecb: 'des-ede-ecb', cbc: 'des-ede-cbc' }
        : { ecb: 'des-ede3-ecb', cbc: 'des-ede3-cbc' }
    this.#encipher = createCipheriv(this.#names.ecb, this.#key, null).setAutoPadding(false)
    this.#decipher = createDecipheriv(this.#names.ecb, this.#key, null).setAutoPadding(false)
  }

  encipher(blocks: Uint8Array): Uint8Array {
    requireWholeBlocks(blocks)
    return plain(this.#encipher.update(blocks))
  }

  decipher(blocks: Uint8Array): Uint8Array {
    requireWholeBlocks(blocks)
    // Two blocks at most: of those the allocator overwrites what the cipher frees.
    if (blocks.length > 16) return updateCleanly(this.#decipher, blocks, this.blockBytes)
    const out = plain(this.#decipher.update(blocks))
    if (blocks.length === 16) clearRegisters()
    return out
  }

  encipherCbc(iv: Uint8Array, data: Uint8Array): Uint8Array {
    requireWholeBlocks(data)
    const cipher = createCipheriv(this.#names.cbc, this.#key, iv).setAutoPadding(false)
    const out = chainCleanly(cipher, data, this.blockBytes)
    cipher.final()
    return out
  }

  close(): void {
    wipe(this.#key)
    // final() frees the OpenSSL context, which OpenSSL cleanses.
    this.#encipher.final()
    this.#decipher.final()
  }
}

/** The array without what Buffer adds: `update` makes memory for each result. */
function plain({ buffer, byteOffset, byteLength }: Uint8Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength)
}
