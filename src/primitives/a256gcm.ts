/**
 * Content encryption `A256GCM` (RFC 7518, 5.3): AES-256-GCM with a 96-bit IV and a 128-bit tag, by node:crypto; for the verbs
 * that seal and open, and for a backend that opens a content in the job that agrees on its key.
 */
import { createCipheriv, createDecipheriv } from 'node:crypto'
import { clearRegisters, copyInto, secretBytes, wipe } from '../base/bytes.js'

export const IV_BYTES = 12
export const TAG_BYTES = 16
/** Length of the content key. */
export const CONTENT_KEY_BYTES = 32

/** What the content encryption gives, and its inverse takes. */
export interface SealedContent {
  /** The ASCII of the protected header segment (RFC 7516, 5.1, step 14). */
  readonly aad: Uint8Array
  readonly iv: Uint8Array
  readonly ciphertext: Uint8Array
  readonly tag: Uint8Array
}

const AES_256_GCM = 'aes-256-gcm'
const OPTIONS = { authTagLength: TAG_BYTES }

/** What {@link encryptContent} takes besides the 32-byte key. An `iv` is 12 bytes, and new under each key. */
interface ClearContent {
  readonly aad: Uint8Array
  readonly iv: Uint8Array
  readonly plaintext: Uint8Array
}

/** Encrypts; ciphertext as long as the plaintext, tag of 16 bytes. */
export function encryptContent(key: Uint8Array, { aad, iv, plaintext }: ClearContent): SealedContent {
  const cipher = createCipheriv(AES_256_GCM, key, iv, OPTIONS).setAAD(aad)
  const ciphertext = cipher.update(plaintext)
  cipher.final()
  clearRegisters()
  return { aad, iv, ciphertext, tag: cipher.getAuthTag() }
}

/** Decrypts into memory of its own, which the caller wipes; undefined, and nothing of the content, for a wrong tag. */
export function decryptContent(key: Uint8Array, content: SealedContent): Uint8Array | undefined {
  const decipher = createDecipheriv(AES_256_GCM, key, content.iv, OPTIONS)
    .setAAD(content.aad)
    .setAuthTag(content.tag)
  const plaintext = updateCleanly(decipher, content.ciphertext)
  clearRegisters()
  try {
    decipher.final()
    return plaintext
  } catch {
    // The tag is wrong, which is the only way final() fails here.
    wipe(plaintext)
    return undefined
  }
}

const AES_BLOCK = 16
/** From here on no small object of Node's own is of the size that was freed. */
const LARGE = 128

/**
 * What `update` gives, without what it leaves: Node's ciphers compute into memory that is larger than the result, copy the
 * result, and free that memory as it is; the allocator overwrites the first 16 bytes. So a short content goes through
 * block by block, and after a long one a second cipher asks for the same memory and writes there what is no secret.
 */
function updateCleanly(cipher: ReturnType<typeof createDecipheriv>, data: Uint8Array): Uint8Array {
  const out = secretBytes(data.length)
  const step = data.length < LARGE ? AES_BLOCK : data.length
  for (let at = 0; at < data.length; at += step) {
    const piece = cipher.update(data.subarray(at, at + step))
    copyInto(out, piece, at)
    wipe(piece)
  }
  if (step > AES_BLOCK) overwriteFreed(data.length)
  return out
}

let overwriting: ReturnType<typeof createCipheriv> | undefined

function overwriteFreed(length: number): void {
  overwriting ??= createCipheriv('aes-256-ctr', secretBytes(32), secretBytes(AES_BLOCK))
  overwriting.update(secretBytes(length))
}
