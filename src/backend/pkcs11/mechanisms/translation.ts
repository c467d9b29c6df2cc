/**
 * Re-encipherment inside the token: blocks are unwrapped under one key into a generic secret, sensitive, and wrapped
 * under the other; the clear blocks never reach the host. As a DES key the token would set the parity bits, and so
 * change the PIN blocks; that a generic secret keeps them is proven by the probe.
 */

import { randomBytes } from 'node:crypto'
import { secretBytes } from '../../../base/bytes.js'
import { BackendError, KeyError } from '../../../base/errors.js'
import type { ObjectHandle, Station } from '../binding/binding.js'
import { Pkcs11Error } from '../binding/errors.js'
import { DES3_ECB, withObject } from './cipher.js'
import { readableSecret, translatedBlocks } from './templates.js'

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
    result.set(translated, at)
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
