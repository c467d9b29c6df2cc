/**
 * Content encryption `A256GCM` (RFC 7518, 5.3): AES-256-GCM with a 96-bit IV and a 128-bit tag, by node:crypto; for the verbs
 * that seal and open, and for a backend that opens a content in the job that agrees on its key.
 */
import { createCipheriv, createDecipheriv } from 'node:crypto'
import { clearRegisters, wipe } from '../base/bytes.js'
import { updateCleanly } from './cleanly.js'

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
  const plaintext = updateCleanly(decipher, content.ciphertext, 1)
  try {
    decipher.final()
    return plaintext
  } catch {
    // The tag is wrong, which is the only way final() fails here.
    wipe(plaintext)
    return undefined
  }
}
