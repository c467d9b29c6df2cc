/**
 * Single operations on one session, each an Init and the call that ends it, with nothing in between that can fail;
 * moving a block from key to key inside the token among them.
 */
import { randomBytes } from 'node:crypto'
import {
  concatBytes,
  copyInto,
  ownCopy,
  secretBytes,
  wipe,
  withWiped,
  xorBytes,
} from '../../../base/bytes.js'
import { BackendError, KeyError } from '../../../base/errors.js'
import { isTdea, type KeyAlgorithm } from '../../../primitives/algorithms.js'
import type { BlockCipher } from '../../../primitives/iso9797.js'
import type { Mechanism, ObjectHandle, Station } from '../binding/binding.js'
import { CKM } from '../binding/constants.js'
import { Pkcs11Error } from '../binding/errors.js'
import { readableSecret, translatedBlocks } from './templates.js'

export const DES3_ECB: Mechanism = { mechanism: CKM.DES3_ECB }
export const AES_ECB: Mechanism = { mechanism: CKM.AES_ECB }
/** With the key of HMAC, a generic secret; 32 bytes come out. */
export const SHA256_HMAC: Mechanism = { mechanism: CKM.SHA256_HMAC }
const AES_BLOCK = 16
const DES3_CMAC: Mechanism = { mechanism: CKM.DES3_CMAC }
const AES_CMAC: Mechanism = { mechanism: CKM.AES_CMAC }

/** The CMAC mechanism for keys of this algorithm. */
export function cmacMechanism(algorithm: KeyAlgorithm): Mechanism {
  return isTdea(algorithm) ? DES3_CMAC : AES_CMAC
}

/** Encryption without padding: as long as the data; into memory as long as that, where it is given. */
export function encrypt(
  { binding, session }: Station,
  mechanism: Mechanism,
  key: ObjectHandle,
  data: Uint8Array,
  into?: Uint8Array<ArrayBuffer>,
): Uint8Array<ArrayBuffer> {
  binding.C_EncryptInit(session, mechanism, key)
  const answer = asLong(data, 'C_Encrypt', binding.C_Encrypt(session, data, data.length, into))
  if (into === undefined || answer === into) return answer
  copyInto(into, answer)
  wipe(answer)
  return into
}

/** Decryption without padding: as long as the data. */
export function decrypt(
  { binding, session }: Station,
  mechanism: Mechanism,
  key: ObjectHandle,
  data: Uint8Array,
): Uint8Array<ArrayBuffer> {
  binding.C_DecryptInit(session, mechanism, key)
  return asLong(data, 'C_Decrypt', binding.C_Decrypt(session, data, data.length))
}

/** Part of an answer is not an answer: what follows would be somebody else's block, or nobody's. */
function asLong<Bytes extends Uint8Array>(data: Uint8Array, name: string, answer: Bytes): Bytes {
  if (answer.length === data.length) return answer
  wipe(answer)
  throw wrongAnswer(`answers ${name} of ${data.length} bytes with ${answer.length}`)
}

/** A token that computes wrongly: nothing it says is used before it has been tried anew. `ERR_PKCS11_SELF_TEST`. */
export function wrongAnswer(what: string): BackendError {
  return new BackendError('ERR_PKCS11_SELF_TEST', `the token ${what}; do not use it`)
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
export function withObject<Bytes extends Uint8Array>(
  { binding, session }: Station,
  object: ObjectHandle,
  use: (object: ObjectHandle) => Bytes,
): Bytes {
  let result: Bytes | undefined
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

/** ECB with the key's cipher. */
export function ecb(algorithm: KeyAlgorithm): Mechanism {
  return isTdea(algorithm) ? DES3_ECB : AES_ECB
}

/**
 * E(E(block) XOR field) under an AES key. One block is one call: CBC over block and field after a zero IV ends in it. More take
 * two calls, whatever their number.
 */
export function encryptBound(
  station: Station,
  key: ObjectHandle,
  blocks: Uint8Array,
  fields: Uint8Array,
): Uint8Array<ArrayBuffer> {
  if (blocks.length === AES_BLOCK) {
    const cbc: Mechanism = { mechanism: CKM.AES_CBC, parameter: secretBytes(AES_BLOCK) }
    return withWiped(concatBytes(blocks, fields), both =>
      withWiped(encrypt(station, cbc, key, both), chain => ownCopy(chain.subarray(AES_BLOCK))),
    )
  }
  return withWiped(encrypt(station, AES_ECB, key, blocks), once =>
    withWiped(xorBytes(once, fields), mixed => encrypt(station, AES_ECB, key, mixed)),
  )
}

/** The inverse of {@link encryptBound}: two calls, whatever the number of blocks. */
export function decryptBound(
  station: Station,
  key: ObjectHandle,
  blocks: Uint8Array,
  fields: Uint8Array,
): Uint8Array<ArrayBuffer> {
  return withWiped(decrypt(station, AES_ECB, key, blocks), once =>
    withWiped(xorBytes(once, fields), mixed => decrypt(station, AES_ECB, key, mixed)),
  )
}

/*
 * Re-encipherment inside the token: blocks are unwrapped under one key into a generic secret, sensitive, and wrapped
 * under the other; the clear blocks never reach the host. As a DES key the token would set the parity bits, and so
 * change the PIN blocks; that a generic secret keeps them is proven by the probe.
 */

/** How many bytes to try as one secret, the most first; one block is what must work. */
export const CHUNK_BYTES: readonly number[] = [1024, 256, 32, 8]

/**
 * Whether whoever may use the token can unwrap blocks under a key into a secret that is readable, which is deciphering
 * them. Tried with random bytes, so that what comes out is nobody's PIN block.
 */
export function opensToAnybody({ binding, session }: Station, from: ObjectHandle): boolean {
  let readable: ObjectHandle
  try {
    readable = binding.C_UnwrapKey(session, DES3_ECB, from, randomBytes(8), readableSecret(undefined))
  } catch (error) {
    if (error instanceof Pkcs11Error && error.kind === 'configuration') return false
    throw error
  }
  binding.C_DestroyObject(session, readable)
  return true
}

/** Refuses a key that opens what it should only translate: `ERR_KEY_ATTRIBUTES`. */
export function requireClosed(station: Station, kid: string, from: ObjectHandle): void {
  if (!opensToAnybody(station, from)) return
  throw new KeyError(
    'ERR_KEY_ATTRIBUTES',
    `key ${kid}: it unwraps blocks into secrets that can be read, for its CKA_UNWRAP_TEMPLATE is missing: make it anew with translation`,
    kid,
  )
}

/** `chunkBytes` at a time: a call for each block costs a token several round trips a block. */
export function translateInside(
  station: Station,
  keys: { readonly from: ObjectHandle; readonly to: ObjectHandle },
  blocks: Uint8Array,
  chunkBytes: number,
): Uint8Array<ArrayBuffer> {
  const result = secretBytes(blocks.length)
  for (let at = 0; at < blocks.length; at += chunkBytes) {
    const chunk = blocks.subarray(at, at + chunkBytes)
    const translated = translateChunk(station, keys, chunk)
    if (translated.length !== chunk.length) {
      throw new BackendError('ERR_BACKEND_FAILED', 'the token translated blocks into another number of bytes')
    }
    copyInto(result, translated, at)
  }
  return result
}

/** One secret's worth of blocks. */
export function translateChunk(
  station: Station,
  { from, to }: { readonly from: ObjectHandle; readonly to: ObjectHandle },
  chunk: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const { binding, session } = station
  const secret = binding.C_UnwrapKey(session, DES3_ECB, from, chunk, translatedBlocks())
  return withObject(station, secret, object => binding.C_WrapKey(session, DES3_ECB, to, object, chunk.length))
}
