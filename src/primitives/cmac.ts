/**
 * CMAC over a cipher that is handed in (NIST SP 800-38B, 6).
 *
 *     L  = E_K(0),   K1 = 2·L,   K2 = 2·K1                    doubling in GF(2^b), reduced by R_b
 *     M* = last block ^ K1 where it is full, else (last block ‖ 80 00 …) ^ K2
 *     T  = last block of CBC-E_K(M1 … Mn-1 ‖ M*), IV zero
 */
import { secretBytes, wipe } from '../base/bytes.js'
import { type BlockCipher, cbcMac } from './iso9797.js'
import { padMessage } from './padding.js'

/** The low byte of R_b for each block length (SP 800-38B, 5.3). */
const REDUCTION: Readonly<Record<BlockCipher['blockBytes'], number>> = { 8: 0x1b, 16: 0x87 }

/**
 * The full CMAC of a message of any length, empty included: 8 bytes with TDEA, 16 with AES, in memory of its own.
 *
 * Errors: what the cipher throws. Source: NIST SP 800-38B, 6.1 and 6.2; ISO/IEC 9797-1:2011, 7.5 (MAC algorithm 5).
 *
 * @example
 * ```ts
 * const tag = cmac(aes, new TextEncoder().encode('message')) // 16 bytes
 * ```
 */
export function cmac(cipher: BlockCipher, message: Uint8Array): Uint8Array {
  const { blockBytes } = cipher
  const complete = message.length > 0 && message.length % blockBytes === 0
  const zero = secretBytes(blockBytes)
  const padded = padMessage(complete ? 1 : 2, message, blockBytes)
  const subkey = secretBytes(blockBytes)
  try {
    const base = cipher.encipherCbc(zero, zero)
    subkey.set(base)
    wipe(base)
    double(subkey)
    if (!complete) double(subkey)
    xorInto(padded.subarray(-blockBytes), subkey)
    return cbcMac(cipher, zero, padded)
  } finally {
    wipe(subkey, padded)
  }

  /** In place, from the right, without a branch on the secret top bit. */
  function double(block: Uint8Array): void {
    const view = viewOf(block)
    let carry = 0
    for (let i = blockBytes - 1; i >= 0; i--) {
      const byte = view.getUint8(i)
      view.setUint8(i, (byte << 1) | carry)
      carry = byte >> 7
    }
    const low = blockBytes - 1
    view.setUint8(low, view.getUint8(low) ^ (REDUCTION[blockBytes] & -carry))
  }
}

function xorInto(block: Uint8Array, mask: Uint8Array): void {
  const view = viewOf(block)
  mask.forEach((byte, i) => {
    view.setUint8(i, view.getUint8(i) ^ byte)
  })
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength)
}
