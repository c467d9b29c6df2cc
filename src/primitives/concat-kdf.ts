/**
 * The Concat KDF of ECDH-ES: pure byte work, shared by sealing and by backends whose Z is in host memory.
 *
 *     OtherInfo = AlgorithmID ‖ PartyUInfo ‖ PartyVInfo ‖ SuppPubInfo     SuppPrivInfo is empty
 *                 the first three each as a 32-bit big-endian length and that many bytes;
 *                 SuppPubInfo is the length of the derived key in bits, 32-bit big-endian
 *     key       = leftmost bytes of  H(1 ‖ Z ‖ OtherInfo) ‖ H(2 ‖ Z ‖ OtherInfo) ‖ …     H = SHA-256
 */
import { hash } from 'node:crypto'
import {
  asciiBytes,
  clearRegisters,
  concatBytes,
  copyInto,
  requireBytes,
  secretBytes,
  wipe,
} from '../base/bytes.js'
import { ArgumentError } from '../base/errors.js'

const HASH_BYTES = 32
/** The counter is 32 bits (SP 800-56C, 4.1); nothing derived here comes near this, so a larger length is a mistake. */
const MAX_DERIVED_BYTES = 255 * HASH_BYTES

/** What {@link otherInfo} binds the derived key to. */
export interface OtherInfoFields {
  /** For direct agreement the `enc` value, for key wrapping the `alg` value; ASCII. */
  readonly algorithmId: string
  /** The decoded `apu`; empty where absent. */
  readonly partyUInfo?: Uint8Array | undefined
  /** The decoded `apv`; empty where absent. */
  readonly partyVInfo?: Uint8Array | undefined
  /** Length of the derived key in bits. */
  readonly keyBits: number
}

function uint32(value: number): Uint8Array {
  const bytes = secretBytes(4)
  new DataView(bytes.buffer).setUint32(0, value)
  return bytes
}

const NOTHING: Uint8Array = secretBytes(0)
/** Of its four bytes the lengths that are derived here need one. */
const COUNTER_BYTES = 4
/** Where Z meets OtherInfo: enough for both, and wiped after each use. Nothing else runs between. */
const scratch: Uint8Array = secretBytes(2048)

/**
 * Builds OtherInfo: 16 bytes plus the lengths of its three variable parts.
 *
 * Errors: `ERR_ARGUMENT`. Source: RFC 7518, 4.6.2; NIST SP 800-56A Rev. 3, 5.8.2.1.1 (concatenation format).
 *
 * @example
 * ```ts
 * otherInfo({ algorithmId: 'A256GCM', keyBits: 256 }) // 00000007 'A256GCM' 00000000 00000000 00000100
 * ```
 */
export function otherInfo(fields: OtherInfoFields): Uint8Array<ArrayBuffer> {
  const { algorithmId, partyUInfo = NOTHING, partyVInfo = NOTHING, keyBits } = fields
  if (typeof algorithmId !== 'string') throw new ArgumentError('algorithmId must be a string')
  requireBytes(partyUInfo, 'partyUInfo')
  requireBytes(partyVInfo, 'partyVInfo')
  if (!Number.isInteger(keyBits)) throw new ArgumentError('keyBits must be a whole number')
  const id = asciiBytes(algorithmId)
  return concatBytes(
    uint32(id.length),
    id,
    uint32(partyUInfo.length),
    partyUInfo,
    uint32(partyVInfo.length),
    partyVInfo,
    uint32(keyBits),
  )
}

/**
 * Derives `length` bytes from the shared secret Z, in memory of their own, or in what `memory` gives; the caller wipes it, and Z.
 *
 * Errors: `ERR_ARGUMENT` (not bytes; a length that is not 1 to 8160).
 * Source: NIST SP 800-56C Rev. 2, 4.1 with SHA-256; RFC 7518, 4.6.2.
 *
 * @example
 * ```ts
 * const contentKey = concatKdf(z, otherInfo({ algorithmId: 'A256GCM', keyBits: 256 }), 32)
 * ```
 */
export function concatKdf(
  z: Uint8Array,
  info: Uint8Array,
  length: number,
  memory: (length: number) => Uint8Array<ArrayBuffer> = secretBytes,
): Uint8Array<ArrayBuffer> {
  requireBytes(z, 'z')
  requireBytes(info, 'info')
  if (!Number.isInteger(length) || length < 1 || length > MAX_DERIVED_BYTES) {
    throw new ArgumentError(`length must be 1 to ${MAX_DERIVED_BYTES} bytes`)
  }
  const derived = memory(length)
  const bytes = COUNTER_BYTES + z.length + info.length
  const message = bytes <= scratch.length ? scratch.subarray(0, bytes) : secretBytes(bytes)
  try {
    copyInto(message, z, COUNTER_BYTES)
    copyInto(message, info, COUNTER_BYTES + z.length)
    for (let at = 0, counter = 1; at < length; at += HASH_BYTES, counter++) {
      message[COUNTER_BYTES - 1] = counter
      // In one call: a Hash object keeps its digest until it is collected.
      const digest = hash('sha256', message, 'buffer')
      copyInto(derived, digest.subarray(0, length - at), at)
      wipe(digest)
    }
    clearRegisters()
    return derived
  } finally {
    wipe(message)
  }
}
