/**
 * ISO/IEC 9797-1 MAC algorithms 1 and 3 over a cipher that is handed in, so that the software backend and the
 * composed path of a token run the same lines.
 *
 *     algorithm 1    H0 = IV,  Hi = E_K(Mi ^ Hi-1),  MAC = Hn                                  (CBC-MAC; here TDEA)
 *     algorithm 3    Hi = DES_K1(Mi ^ Hi-1),         MAC = DES_K1(DES⁻¹_K2(Hn))              (retail MAC, X9.19)
 *
 * With X = Mn ^ Hn-1, the end of algorithm 3 is DES_K1(DES⁻¹_K2(DES_K1(X))), which is TDEA under K1‖K2 of X; and
 * DES under K1 is TDEA under K1‖K1‖K1. So algorithm 3 is two TDEA-CBC calls, and single DES, which OpenSSL 3 and
 * many tokens refuse, is not needed. With a 24-byte key the last step enciphers under K3 (X9.19's 3-key variant).
 */
import { concatBytes, ownCopy, requireBytes, wipe } from '../base/bytes.js'
import { InputError } from '../base/errors.js'

/** A block cipher under a key that stays with whoever made this object; plain CBC, no padding. */
export interface BlockCipher {
  readonly blockBytes: 8 | 16
  /** CBC encryption of a positive multiple of `blockBytes`. The output belongs to the caller, who wipes it. */
  encipherCbc(iv: Uint8Array, data: Uint8Array): Uint8Array
  /** Where it can be had for less: only the last block of it, in memory of its own. */
  cbcLast?(iv: Uint8Array, data: Uint8Array): Uint8Array
  /** Where it can be had in one: {@link retailMac} with this cipher as the last; undefined where `chain` is of another kind. */
  retailLast?(chain: BlockCipher, iv: Uint8Array, padded: Uint8Array): Uint8Array | undefined
}

/** The two ciphers of algorithm 3. */
export interface RetailCiphers {
  /** TDEA under K1‖K1‖K1, which is DES under K1: for all blocks but the last. */
  readonly chain: BlockCipher
  /** TDEA under K1‖K2 (or K1‖K2‖K3): for the last block. */
  readonly last: BlockCipher
}

/**
 * MAC algorithm 1: the last block of the CBC encryption; `padded` is a positive multiple of the block length and
 * `iv` one block. The result is one block, in memory of its own.
 *
 * Errors: `ERR_LENGTH`. Source: ISO/IEC 9797-1:2011, 7.1 (MAC algorithm 1); ISO 16609.
 *
 * @example
 * ```ts
 * cbcMac(cipher, new Uint8Array(8), padMessage(2, message, 8)) // 8 bytes with TDEA
 * ```
 */
export function cbcMac(cipher: BlockCipher, iv: Uint8Array, padded: Uint8Array): Uint8Array {
  requireBlocks(cipher.blockBytes, iv, padded)
  return lastBlock(cipher, iv, padded)
}

/**
 * MAC algorithm 3, the retail MAC: `padded` is a positive multiple of 8 bytes, `iv` is 8 bytes, the result 8 bytes in
 * memory of its own. A message of one block needs the `last` cipher only.
 *
 * Errors: `ERR_LENGTH`; what the ciphers throw. Source: ISO/IEC 9797-1:2011, 7.3 (MAC algorithm 3); ANSI X9.19.
 *
 * @example
 * ```ts
 * retailMac({ chain, last }, new Uint8Array(8), padMessage(2, message, 8))
 * ```
 */
export function retailMac(ciphers: RetailCiphers, iv: Uint8Array, padded: Uint8Array): Uint8Array {
  const { blockBytes } = ciphers.last
  requireBlocks(blockBytes, iv, padded)
  if (ciphers.last.retailLast !== undefined) {
    const whole = ciphers.last.retailLast(ciphers.chain, iv, padded)
    if (whole !== undefined) return whole
  }
  const head = padded.subarray(0, -blockBytes)
  const tail = padded.subarray(-blockBytes)
  if (head.length === 0) return lastBlock(ciphers.last, iv, tail)
  const state = lastBlock(ciphers.chain, iv, head)
  try {
    return lastBlock(ciphers.last, state, tail)
  } finally {
    wipe(state)
  }
}

/**
 * Splits a TDEA key for algorithm 3: `chain` is 24 bytes K1‖K1‖K1, `last` a copy of the key (16 bytes K1‖K2, or 24
 * bytes K1‖K2‖K3). Both are in memory of their own, which the caller wipes.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_LENGTH`. Source: ISO/IEC 9797-1:2011, 7.3; NIST SP 800-67 Rev. 2, 3 (EDE of one key).
 *
 * @example
 * ```ts
 * const { chain, last } = splitRetailKey(material)
 * ```
 */
export function splitRetailKey(material: Uint8Array): { chain: Uint8Array; last: Uint8Array } {
  requireBytes(material, 'material')
  if (material.length !== 16 && material.length !== 24) {
    throw new InputError('ERR_LENGTH', `a TDEA key has 16 or 24 bytes, not ${material.length}`)
  }
  const first = material.subarray(0, 8)
  return { chain: concatBytes(first, first, first), last: ownCopy(material) }
}

/** The last block of the CBC encryption, alone in its memory; the rest of the cipher text is wiped. */
function lastBlock(cipher: BlockCipher, iv: Uint8Array, data: Uint8Array): Uint8Array {
  if (cipher.cbcLast !== undefined) return cipher.cbcLast(iv, data)
  const enciphered = cipher.encipherCbc(iv, data)
  const block = ownCopy(enciphered.subarray(-cipher.blockBytes))
  wipe(enciphered)
  return block
}

function requireBlocks(blockBytes: number, iv: Uint8Array, padded: Uint8Array): void {
  if (iv.length !== blockBytes) {
    throw new InputError('ERR_LENGTH', `iv: ${iv.length} bytes, expected ${blockBytes}`)
  }
  if (padded.length === 0 || padded.length % blockBytes !== 0) {
    throw new InputError('ERR_LENGTH', `padded: ${padded.length} bytes, expected a multiple of ${blockBytes}`)
  }
}
