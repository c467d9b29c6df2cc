/**
 * One MAC computation for everybody who holds a cipher: the software backend, the composed path of a token, the
 * prober; CMAC (NIST SP 800-38B, 6) among it.
 *
 *     L  = E_K(0),   K1 = 2·L,   K2 = 2·K1                    doubling in GF(2^b), reduced by R_b
 *     M* = last block ^ K1 where it is full, else (last block ‖ 80 00 …) ^ K2
 *     T  = last block of CBC-E_K(M1 … Mn-1 ‖ M*), IV zero
 */
import { concatBytes, copyInto, ownCopy, requireBytes, secretBytes, wipe, withWiped } from '../base/bytes.js'
import { ArgumentError, BackendError } from '../base/errors.js'
import {
  blockBytesOf,
  type Encipherment,
  type KeyAlgorithm,
  type MacAlgorithm,
  type MacPadding,
} from './algorithms.js'
import { type BlockCipher, cbcMac, padMessage, retailMac, withPadded } from './iso9797.js'

/** The low byte of R_b for each block length (SP 800-38B, 5.3). */
const REDUCTION: Readonly<Record<BlockCipher['blockBytes'], number>> = { 8: 0x1b, 16: 0x87 }

/** The first chaining value where none is given. Read, never written. */
const ZERO_IV: Readonly<Record<BlockCipher['blockBytes'], Uint8Array>> = {
  8: secretBytes(8),
  16: secretBytes(16),
}

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
  const padded = padMessage(complete ? 1 : 2, message, blockBytes)
  const subkey = cmacSubkey(cipher, complete)
  try {
    xorInto(padded.subarray(-blockBytes), subkey)
    return cbcMac(cipher, ZERO_IV[blockBytes], padded)
  } finally {
    wipe(subkey, padded)
  }
}

/** The subkey for a last block that is full (K1), or one that is padded (K2): SP 800-38B, 6.1. The caller wipes it. */
export function cmacSubkey(cipher: BlockCipher, complete: boolean): Uint8Array<ArrayBuffer> {
  const { blockBytes } = cipher
  const subkey = withWiped(cipher.encipherCbc(ZERO_IV[blockBytes], ZERO_IV[blockBytes]), ownCopy)
  const view = viewOf(subkey)
  /** In place, from the right, without a branch on the secret top bit. */
  const double = (): void => {
    let carry = 0
    for (let i = blockBytes - 1; i >= 0; i--) {
      const byte = view.getUint8(i)
      view.setUint8(i, (byte << 1) | carry)
      carry = byte >> 7
    }
    const low = blockBytes - 1
    view.setUint8(low, view.getUint8(low) ^ (REDUCTION[blockBytes] & -carry))
  }
  double()
  if (!complete) double()
  return subkey
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

/** What {@link cmacCounter} counts over. */
interface CmacCounter {
  readonly counterBytes: 1 | 2 | 4
  readonly data: Uint8Array
  readonly blockBytes: 8 | 16
  /** Bytes that are needed; what comes out is whole blocks. */
  readonly length: number
}

/** NIST SP 800-108r1, 4.1, with CMAC as PRF: the blocks CMAC(counter ‖ data), counted from 1, in memory of their own. */
export function cmacCounter(
  { counterBytes, data, blockBytes, length }: CmacCounter,
  prf: (input: Uint8Array) => Uint8Array,
): Uint8Array<ArrayBuffer> {
  const blocks: Uint8Array[] = []
  try {
    for (let i = 1; (i - 1) * blockBytes < length; i++) {
      const counter = secretBytes(counterBytes)
      counter[counterBytes - 1] = i
      blocks.push(withWiped(concatBytes(counter, data), prf))
    }
    return concatBytes(...blocks)
  } finally {
    wipe(...blocks)
  }
}

/*
 * One MAC computation for everybody who holds a cipher: the software backend, the composed path of a token, the
 * prober. What is native in a token does not pass here.
 */

/** The ciphers of one key. */
export interface MacCiphers {
  /** The cipher under the key itself. Algorithm 1 and CMAC use it alone, algorithm 3 for the last block. */
  readonly last: BlockCipher
  /** TDEA under K1‖K1‖K1. Needed by algorithm 3 only. */
  readonly chain?: BlockCipher | undefined
}

/** What {@link computeMac} computes: `MacRequest` of the port, where a cipher computes it. */
export interface MacComputation {
  readonly algorithm: Exclude<MacAlgorithm, 'hmac-sha256'> | Encipherment
  readonly padding: MacPadding
  /** One cipher block; zero where absent. Not for CMAC and ECB. */
  readonly iv?: Uint8Array | undefined
}

type Compute = (ciphers: MacCiphers, iv: Uint8Array, message: Uint8Array, padding: MacPadding) => Uint8Array

const COMPUTE: Readonly<Record<MacComputation['algorithm'], Compute>> = {
  'encipher-cbc': ({ last }, iv, message, padding) =>
    withPadded(padding, message, last.blockBytes, padded => last.encipherCbc(iv, padded)),
  'encipher-ecb': ({ last }, _iv, message, padding) =>
    withPadded(padding, message, last.blockBytes, padded => encipherEcb(last, padded)),
  'iso9797-1-alg1': ({ last }, iv, message, padding) =>
    withPadded(padding, message, last.blockBytes, padded => cbcMac(last, iv, padded)),
  'iso9797-1-alg3': ({ chain, last }, iv, message, padding) => {
    if (chain === undefined) {
      throw new BackendError('ERR_UNSUPPORTED', 'the retail MAC needs the cipher under K1 alone')
    }
    return withPadded(padding, message, last.blockBytes, padded => retailMac({ chain, last }, iv, padded))
  },
  cmac: ({ last }, _iv, message) => cmac(last, message),
}

/** Full length in bytes of a MAC under a key: one block of its cipher, or of HMAC's hash. */
export function macBytes(algorithm: KeyAlgorithm): 8 | 16 | 32 {
  return algorithm === 'hmac-sha256' ? 32 : blockBytesOf(algorithm)
}

/**
 * The full-length MAC of a message: one cipher block, in memory of its own. Padded copies, chaining values and
 * subkeys are wiped on every path.
 *
 * Errors: `ERR_ARGUMENT` (not an algorithm, or a padding it does not take), `ERR_LENGTH` (iv), `ERR_UNSUPPORTED`
 * (algorithm 3 without a `chain` cipher). Sources: ISO/IEC 9797-1:2011; NIST SP 800-38B.
 *
 * @example
 * ```ts
 * const mac = computeMac({ algorithm: 'iso9797-1-alg3', padding: 2 }, { chain, last }, message) // 8 bytes
 * ```
 */
export function computeMac(request: MacComputation, ciphers: MacCiphers, message: Uint8Array): Uint8Array {
  requireBytes(message, 'message')
  if (!Object.hasOwn(COMPUTE, request.algorithm)) throw new ArgumentError('MAC algorithm is not known')
  const iv = request.iv ?? ZERO_IV[ciphers.last.blockBytes]
  return COMPUTE[request.algorithm](ciphers, iv, message, request.padding)
}

/** ECB out of CBC: each block by itself, with a zero chaining value. In memory of its own. */
export function encipherEcb(cipher: BlockCipher, data: Uint8Array): Uint8Array<ArrayBuffer> {
  const zero = secretBytes(cipher.blockBytes)
  const out = secretBytes(data.length)
  for (let at = 0; at < data.length; at += cipher.blockBytes) {
    withWiped(cipher.encipherCbc(zero, data.subarray(at, at + cipher.blockBytes)), block =>
      copyInto(out, block, at),
    )
  }
  return out
}
