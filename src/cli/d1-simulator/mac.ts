/** The two MACs that the illustrative profiles use, written out. */
import { aes, des, xor } from './tdea.js'

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
