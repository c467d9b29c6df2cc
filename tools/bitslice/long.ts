/**
 * `npm run bitslice:long [blocks]`: random blocks (ten million if not told otherwise) under random keys of both lengths, in
 * calls of random length, enciphered, deciphered and re-enciphered, against OpenSSL. Exit 1 at the first difference.
 */
import { createCipheriv, randomBytes, randomInt } from 'node:crypto'
import { bitsliceMemory } from '../../src/backend/software/bitslice-memory.js'
import { BitsliceTdea } from '../../src/backend/software/engine-bitslice.js'

const total = Number(process.argv[2] ?? 10_000_000)
const BLOCKS_A_KEY = 10_000

function openssl(key: Uint8Array, data: Uint8Array): Buffer {
  const name = key.length === 16 ? 'des-ede-ecb' : 'des-ede3-ecb'
  return createCipheriv(name, key, null).setAutoPadding(false).update(data)
}

function require(same: boolean, what: string): void {
  if (same) return
  console.error(`different: ${what}`)
  process.exit(1)
}

let done = 0
let calls = 0
for (let keys = 0; done < total; keys++) {
  const [key, next] = [randomBytes(keys % 2 === 0 ? 16 : 24), randomBytes(24)]
  const [cipher, other] = [key, next].map(bytes => new BitsliceTdea(bitsliceMemory(), bytes))
  if (cipher === undefined || other === undefined) throw new Error('there are two')
  for (let left = Math.min(BLOCKS_A_KEY, total - done); left > 0; ) {
    const blocks = Math.min(left, randomInt(1, randomInt(2, 5000)))
    const data = randomBytes(8 * blocks)
    const enciphered = cipher.encipher(data)
    const what = `${blocks} blocks under a ${key.length}-byte key`
    require(openssl(key, data).equals(enciphered), `encipher, ${what}`)
    require(data.equals(cipher.decipher(enciphered)), `decipher, ${what}`)
    require(openssl(next, data).equals(cipher.reencipher(other, enciphered) ?? data), `reencipher, ${what}`)
    left -= blocks
    done += blocks
    calls++
  }
  cipher.close()
  other.close()
}
console.log(`${done} blocks in ${calls} calls: enciphered, deciphered and re-enciphered as OpenSSL does it`)
