/**
 * One MAC computation for everybody who holds a cipher: the software backend, the composed path of a token, the
 * prober. What is native in a token does not pass here.
 */
import { requireBytes, secretBytes, withWiped } from '../base/bytes.js'
import { ArgumentError, BackendError } from '../base/errors.js'
import { cmac } from './cmac.js'
import { type BlockCipher, cbcMac, retailMac } from './iso9797.js'
import { blockBytesOf, type KeyAlgorithm } from './key-algorithm.js'
import type { Encipherment, MacAlgorithm, MacPadding } from './mac-algorithm.js'
import { padMessage } from './padding.js'

/** The ciphers of one key. */
export interface MacCiphers {
  /** The cipher under the key itself. Algorithm 1 and CMAC use it alone, algorithm 3 for the last block. */
  readonly last: BlockCipher
  /** TDEA under K1‖K1‖K1. Needed by algorithm 3 only. */
  readonly chain?: BlockCipher
}

/** What {@link computeMac} computes: `MacRequest` of the port. */
export interface MacComputation {
  readonly algorithm: MacAlgorithm | Encipherment
  readonly padding: MacPadding
  /** One cipher block; zero where absent. Not for CMAC and ECB. */
  readonly iv?: Uint8Array
}

/** The first chaining value where none is given. Read, never written. */
const ZERO_IV: Readonly<Record<BlockCipher['blockBytes'], Uint8Array>> = {
  8: secretBytes(8),
  16: secretBytes(16),
}

type Compute = (ciphers: MacCiphers, iv: Uint8Array, message: Uint8Array, padding: MacPadding) => Uint8Array

const COMPUTE: Readonly<Record<MacAlgorithm | Encipherment, Compute>> = {
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

/** Full length in bytes of a MAC under a key: one block of its cipher. */
export function macBytes(algorithm: KeyAlgorithm): 8 | 16 {
  return blockBytesOf(algorithm)
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

function withPadded(
  padding: MacPadding,
  message: Uint8Array,
  blockBytes: number,
  use: (padded: Uint8Array) => Uint8Array,
): Uint8Array {
  return withWiped(padMessage(padding, message, blockBytes), use)
}

/** ECB out of CBC: each block by itself, with a zero chaining value. In memory of its own. */
export function encipherEcb(cipher: BlockCipher, data: Uint8Array): Uint8Array<ArrayBuffer> {
  const zero = secretBytes(cipher.blockBytes)
  const out = secretBytes(data.length)
  for (let at = 0; at < data.length; at += cipher.blockBytes) {
    withWiped(cipher.encipherCbc(zero, data.subarray(at, at + cipher.blockBytes)), block =>
      out.set(block, at),
    )
  }
  return out
}
