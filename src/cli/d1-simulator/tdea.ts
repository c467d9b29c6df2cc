/** DES and TDEA of whole blocks by node-forge, AES by node:crypto: the simulator's own ciphers. */
import { createCipheriv } from 'node:crypto'
import forge from 'node-forge'

type Direction = 'encipher' | 'decipher'

function ecb(algorithm: 'DES-ECB' | '3DES-ECB', direction: Direction, key: Buffer, blocks: Buffer): Buffer {
  const bytes = key.toString('latin1')
  const cipher =
    direction === 'encipher'
      ? forge.cipher.createCipher(algorithm, bytes)
      : forge.cipher.createDecipher(algorithm, bytes)
  cipher.start({})
  cipher.update(forge.util.createBuffer(blocks.toString('latin1')))
  // Without `finish` there is no padding.
  return Buffer.from(cipher.output.getBytes(), 'latin1').subarray(0, blocks.length)
}

/** Single DES of one block. */
export function des(direction: Direction, key: Buffer, block: Buffer): Buffer {
  return ecb('DES-ECB', direction, key, block)
}

/** TDEA in ECB; the key has 16 bytes (K1‖K2) or 24. */
export function tdea(direction: Direction, key: Buffer, blocks: Buffer): Buffer {
  return ecb(
    '3DES-ECB',
    direction,
    key.length === 16 ? Buffer.concat([key, key.subarray(0, 8)]) : key,
    blocks,
  )
}

/** AES of one block. */
export function aes(key: Buffer, block: Buffer): Buffer {
  const cipher = createCipheriv(`aes-${8 * key.length}-ecb`, key, null).setAutoPadding(false)
  return Buffer.concat([cipher.update(block), cipher.final()])
}

/** a XOR b, of one length. */
export function xor(a: Buffer, b: Buffer): Buffer {
  return Buffer.from(a.map((byte, i) => byte ^ b.readUInt8(i)))
}
