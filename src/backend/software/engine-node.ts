import { createCipheriv, createDecipheriv } from 'node:crypto'
import { ownCopy, wipe } from '../../bytes.js'
import type { TdeaCipher, TdeaEngine } from './engine.js'

/**
 * TDEA by the OpenSSL that Node is built with. The two ECB contexts live as long as the key, so that one PIN block
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
    return plain(this.#encipher.update(blocks))
  }

  decipher(blocks: Uint8Array): Uint8Array {
    return plain(this.#decipher.update(blocks))
  }

  encipherCbc(iv: Uint8Array, data: Uint8Array): Uint8Array {
    const cipher = createCipheriv(this.#names.cbc, this.#key, iv).setAutoPadding(false)
    const out = plain(cipher.update(data))
    cipher.final()
    return out
  }

  close(): void {
    // final() frees the OpenSSL context, which OpenSSL cleanses.
    this.#encipher.final()
    this.#decipher.final()
    wipe(this.#key)
  }
}

/** A plain Uint8Array in memory of its own; Node's buffer is wiped, for it may hold a clear block. */
function plain(buffer: Buffer): Uint8Array {
  const copy = ownCopy(buffer)
  wipe(buffer)
  return copy
}
