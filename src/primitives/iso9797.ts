/**
 * ISO/IEC 9797-1 on whole bytes and a cipher that is handed in: padding (6.3 in the 2011 edition), CBC-MAC and
 * retail MAC.
 *
 *     method 1   D  00 …                  nothing where D fills its blocks; one block of zeros for an empty D
 *     method 2   D  80  00 …              always at least one byte
 *     method 3   L  D  00 …               L: the length of D in bits, big-endian, one block; then as method 1
 */
import { concatBytes, copyInto, ownCopy, requireBytes, secretBytes, wipe, withWiped } from '../base/bytes.js'
import { ArgumentError, InputError } from '../base/errors.js'
import type { MacPadding } from './algorithms.js'

/** The padding methods that ISO/IEC 9797-1 numbers. CMAC pads by itself. */
export type Iso9797Padding = Exclude<MacPadding, 'none'>

/** What each method puts around the message: length block in front, how many {@link MARKER}s behind. */
const METHODS: Readonly<Record<Iso9797Padding, { lengthBlock: boolean; marker: 0 | 1 }>> = {
  1: { lengthBlock: false, marker: 0 },
  2: { lengthBlock: false, marker: 1 },
  3: { lengthBlock: true, marker: 0 },
}
const MARKER = 0x80

/**
 * Pads a message for a MAC: a positive multiple of `blockBytes`, in memory of its own, which the caller wipes; or in what
 * `memory` gives, zeros of the length that is asked for.
 *
 * Methods 1 and 3 do not say where the message ends: with method 1 a message and the same message with zero bytes
 * behind it have one MAC. The choice belongs to the scheme, so it is an argument and has no default.
 *
 * Errors: `ERR_ARGUMENT` (`none` is no method). Source: ISO/IEC 9797-1:2011, 6.3.2 to 6.3.4.
 *
 * @example
 * ```ts
 * padMessage(2, Uint8Array.of(0x12, 0x34), 8) // 12 34 80 00 00 00 00 00
 * ```
 */
export function padMessage(
  method: MacPadding,
  message: Uint8Array,
  blockBytes: number,
  memory: (length: number) => Uint8Array<ArrayBuffer> = secretBytes,
): Uint8Array<ArrayBuffer> {
  const padded = memory(paddedLength(method, message, blockBytes))
  writePadded(method, message, blockBytes, padded)
  return padded
}

/** Where a message of usual length is padded: to make memory for it takes longer than to MAC it. */
const scratch = { bytes: secretBytes(1024), busy: false }

/** Hands a padded message to `use`, which keeps nothing of it, and wipes it. Errors: as {@link padMessage}; what `use` throws. */
export function withPadded<T>(
  method: MacPadding,
  message: Uint8Array,
  blockBytes: number,
  use: (padded: Uint8Array) => T,
): T {
  const length = paddedLength(method, message, blockBytes)
  if (scratch.busy || length > scratch.bytes.length)
    return withWiped(padMessage(method, message, blockBytes), use)
  scratch.busy = true
  const padded = scratch.bytes.subarray(0, length)
  try {
    writePadded(method, message, blockBytes, padded)
    return use(padded)
  } finally {
    wipe(padded)
    scratch.busy = false
  }
}

function paddedLength(method: MacPadding, message: Uint8Array, blockBytes: number): number {
  requireBytes(message, 'message')
  if (!Number.isInteger(blockBytes) || blockBytes < 4 || blockBytes > 16) {
    throw new ArgumentError('blockBytes must be a whole number from 4 to 16')
  }
  const { lengthBlock, marker } = rowOf(method)
  const blocks = Math.max(1, Math.ceil((message.length + marker) / blockBytes))
  return (lengthBlock ? blockBytes : 0) + blocks * blockBytes
}

/** Into zeroed memory of the right length. */
function writePadded(method: MacPadding, message: Uint8Array, blockBytes: number, padded: Uint8Array): void {
  const { lengthBlock, marker } = rowOf(method)
  const front = lengthBlock ? blockBytes : 0
  copyInto(padded, message, front)
  if (marker > 0) padded[front + message.length] = MARKER
  if (lengthBlock) writeBitLength(padded.subarray(0, blockBytes), message.length)
}

function rowOf(method: MacPadding): (typeof METHODS)[Iso9797Padding] {
  if (!isNumbered(method)) throw new ArgumentError('padding must be 1, 2 or 3')
  return METHODS[method]
}

function isNumbered(padding: MacPadding): padding is Iso9797Padding {
  return Object.hasOwn(METHODS, padding)
}

function writeBitLength(block: Uint8Array, bytes: number): void {
  let bits = bytes * 8
  for (let i = block.length - 1; i >= 0; i--) {
    block[i] = bits % 256
    bits = Math.floor(bits / 256)
  }
}

/*
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
interface RetailCiphers {
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
  const whole = ciphers.last.retailLast?.(ciphers.chain, iv, padded)
  if (whole !== undefined) return whole
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
