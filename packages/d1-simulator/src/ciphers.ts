/**
 * The simulator's own ciphers (DES and TDEA of whole blocks by node-forge, AES by node:crypto), and the two MACs that the
 * illustrative profiles use, written out over them.
 */
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

/**
 * ISO/IEC 9797-1 MAC algorithm 3 with padding method 2 and IV zero under a 16-byte key: DES-CBC under K1, and for the
 * last state DES⁻¹ under K2 and DES under K1. 8 bytes.
 */
export function retailMac(key: Buffer, message: Buffer): Buffer {
  const [k1, k2] = [key.subarray(0, 8), key.subarray(8, 16)]
  const padded = padTo(8, Buffer.concat([message, Buffer.of(0x80)]))
  let state: Buffer = Buffer.alloc(8)
  for (const block of blocksOf(8, padded)) state = des('encipher', k1, xor(state, block))
  return des('encipher', k1, des('decipher', k2, state))
}

/** AES-CMAC (NIST SP 800-38B). 16 bytes. */
export function aesCmac(key: Buffer, message: Buffer): Buffer {
  const k1 = double(aes(key, Buffer.alloc(16)))
  const whole = message.length > 0 && message.length % 16 === 0
  const padded = whole ? message : padTo(16, Buffer.concat([message, Buffer.of(0x80)]))
  const last = padded.subarray(-16)
  let state: Buffer = Buffer.alloc(16)
  for (const block of blocksOf(16, padded.subarray(0, -16))) state = aes(key, xor(state, block))
  return aes(key, xor(state, xor(last, whole ? k1 : double(k1))))
}

/** Doubling in GF(2^128). */
function double(block: Buffer): Buffer {
  const value = BigInt(`0x${block.toString('hex')}`) << 1n
  const reduced = value >> 128n === 1n ? (value & ((1n << 128n) - 1n)) ^ 0x87n : value
  return Buffer.from(reduced.toString(16).padStart(32, '0'), 'hex')
}

function padTo(size: number, bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((size - (bytes.length % size)) % size)])
}

function blocksOf(size: number, bytes: Buffer): Buffer[] {
  return Array.from({ length: bytes.length / size }, (_, i) => bytes.subarray(i * size, (i + 1) * size))
}
