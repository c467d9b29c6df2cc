/** Single operations on one session, each an Init and the call that ends it, with nothing in between that can fail. */
import { secretBytes, wipe } from '../../../base/bytes.js'
import type { BlockCipher } from '../../../primitives/iso9797.js'
import { isTdea, type KeyAlgorithm } from '../../../primitives/key-algorithm.js'
import type { Mechanism, ObjectHandle, Station } from '../binding/binding.js'
import { CKM } from '../binding/constants.js'

export const DES3_ECB: Mechanism = { mechanism: CKM.DES3_ECB }
export const AES_ECB: Mechanism = { mechanism: CKM.AES_ECB }
const DES3_CMAC: Mechanism = { mechanism: CKM.DES3_CMAC }
const AES_CMAC: Mechanism = { mechanism: CKM.AES_CMAC }

/** The CMAC mechanism for keys of this algorithm. */
export function cmacMechanism(algorithm: KeyAlgorithm): Mechanism {
  return isTdea(algorithm) ? DES3_CMAC : AES_CMAC
}

/** Encryption without padding: as long as the data. */
export function encrypt(
  { binding, session }: Station,
  mechanism: Mechanism,
  key: ObjectHandle,
  data: Uint8Array,
): Uint8Array<ArrayBuffer> {
  binding.C_EncryptInit(session, mechanism, key)
  return binding.C_Encrypt(session, data, data.length)
}

/** Decryption without padding: as long as the data. */
export function decrypt(
  { binding, session }: Station,
  mechanism: Mechanism,
  key: ObjectHandle,
  data: Uint8Array,
): Uint8Array<ArrayBuffer> {
  binding.C_DecryptInit(session, mechanism, key)
  return binding.C_Decrypt(session, data, data.length)
}

/** A MAC of `length` bytes. Always by signing: `C_Verify` refuses truncated MACs, and some tokens lack it. */
export function sign(
  { binding, session }: Station,
  mechanism: Mechanism,
  key: ObjectHandle,
  data: Uint8Array,
  length: number,
): Uint8Array<ArrayBuffer> {
  binding.C_SignInit(session, mechanism, key)
  return binding.C_Sign(session, data, length)
}

/** The cipher under a token key, for the MAC code that is composed of CBC calls. */
export function cbcCipher(station: Station, key: ObjectHandle, algorithm: KeyAlgorithm): BlockCipher {
  const tdea = isTdea(algorithm)
  return {
    blockBytes: tdea ? 8 : 16,
    encipherCbc: (iv, data) =>
      encrypt(station, { mechanism: tdea ? CKM.DES3_CBC : CKM.AES_CBC, parameter: iv }, key, data),
  }
}

/**
 * Uses a session object and destroys it on every path. Where that fails its error goes out, whatever `use` did: it is
 * no data error, so the session is closed, and the object goes with it.
 */
export function withObject(
  { binding, session }: Station,
  object: ObjectHandle,
  use: (object: ObjectHandle) => Uint8Array<ArrayBuffer>,
): Uint8Array<ArrayBuffer> {
  let result: Uint8Array<ArrayBuffer> | undefined
  try {
    result = use(object)
  } finally {
    try {
      binding.C_DestroyObject(session, object)
    } catch (error) {
      wipe(result)
      // biome-ignore lint/correctness/noUnsafeFinally: an object that stays behind is the graver failure
      throw error
    }
  }
  return result
}

/** Two blocks of 8 bytes, bit by bit. */
export function xorBlocks(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const out = secretBytes(8)
  const read = (block: Uint8Array): bigint =>
    new DataView(block.buffer, block.byteOffset, block.byteLength).getBigUint64(0)
  new DataView(out.buffer).setBigUint64(0, read(a) ^ read(b))
  return out
}
