/** TDEA by node-forge, in JavaScript: for where nothing else works, and as an independent second opinion. */
import forge from 'node-forge'
import { asciiBytes, bufferOf, concatBytes, ownCopy, wipe } from '../../base/bytes.js'
import type { TdeaCipher, TdeaEngine } from './tdea-engine.js'

/** Its intermediate strings and key schedules are garbage collected, not wiped. */
export const forgeEngine: TdeaEngine = { name: 'node-forge', open: key => new ForgeTdea(key) }

class ForgeTdea implements TdeaCipher {
  readonly blockBytes = 8
  readonly #key: Uint8Array

  constructor(key: Uint8Array) {
    // node-forge takes three components; the 2-key bundle is K1, K2, K1.
    this.#key = key.length === 16 ? concatBytes(key, key.subarray(0, 8)) : ownCopy(key)
  }

  encipher(blocks: Uint8Array): Uint8Array {
    return run(forge.cipher.createCipher('3DES-ECB', binary(this.#key)), {}, blocks)
  }

  decipher(blocks: Uint8Array): Uint8Array {
    return run(forge.cipher.createDecipher('3DES-ECB', binary(this.#key)), {}, blocks)
  }

  encipherCbc(iv: Uint8Array, data: Uint8Array): Uint8Array {
    return run(forge.cipher.createCipher('3DES-CBC', binary(this.#key)), { iv: binary(iv) }, data)
  }

  close(): void {
    wipe(this.#key)
  }
}

/** Latin-1 string, the byte form node-forge works on. */
function binary(bytes: Uint8Array): string {
  return bufferOf(bytes).toString('latin1')
}

function run(cipher: forge.cipher.BlockCipher, start: { iv?: string }, data: Uint8Array): Uint8Array {
  cipher.start(start)
  cipher.update(forge.util.createBuffer(binary(data)))
  // A padding function that adds and removes nothing: the data are whole blocks. (The typings lack the argument.)
  const finish: (pad?: () => boolean) => boolean = cipher.finish
  finish.call(cipher, () => true)
  return asciiBytes(cipher.output.getBytes())
}
