/** What a TDEA engine of the software backend is, and what one has to refuse. */
import { BackendError } from '../../base/errors.js'

/** TDEA under one key, for as long as the key is bound. Data lengths are multiples of 8. */
export interface TdeaCipher {
  readonly blockBytes: 8
  /** Whole blocks, each by itself (ECB). */
  encipher(blocks: Uint8Array): Uint8Array
  /** Where it can be had for less: {@link encipher} into memory as long as the blocks. */
  encipherInto?(blocks: Uint8Array, out: Uint8Array): void
  /** The other way. */
  decipher(blocks: Uint8Array): Uint8Array
  /** Whole blocks in one chain from the IV (CBC). */
  encipherCbc(iv: Uint8Array, data: Uint8Array): Uint8Array
  /** Where it can be had: deciphers here and enciphers under `to` in one pass; undefined where `to` is not of its kind. */
  reencipher?(to: TdeaCipher, blocks: Uint8Array): Uint8Array | undefined
  /** The same into memory as long as the blocks; false where `to` is not of its kind, and nothing was written. */
  reencipherInto?(to: TdeaCipher, blocks: Uint8Array, out: Uint8Array): boolean
  /** Where it can be had for less than {@link encipherCbc}: only its last block, in memory of its own. */
  cbcLast?(iv: Uint8Array, data: Uint8Array): Uint8Array
  /** Where it can be had in one: a retail MAC, this cipher being the last one's; undefined for a `chain` of another kind. */
  retailLast?(chain: object, iv: Uint8Array, padded: Uint8Array): Uint8Array | undefined
  /** Where it can be had: the last blocks of the CBC encryptions of many messages, one after the other. */
  cbcMacs?(iv: Uint8Array, messages: readonly Uint8Array[]): Uint8Array
  /** Drops the key schedule and wipes the key bytes. */
  close(): void
}

/** An implementation of TDEA. */
export interface TdeaEngine {
  readonly name: 'node:crypto' | 'node-forge' | 'bitslice'
  /** A cipher under 16 (K1, K2) or 24 (K1, K2, K3) bytes, which are copied. */
  open(key: Uint8Array): TdeaCipher
}

/** Throws `ERR_BACKEND_FAILED` for part of a block: a context that lives on would shift the next caller's blocks by it. */
export function requireWholeBlocks(data: Uint8Array): void {
  if (data.length > 0 && data.length % 8 === 0) return
  throw new BackendError('ERR_BACKEND_FAILED', 'the cipher was given part of a block')
}
