/** Content encryption `A256GCM` (RFC 7518, 5.3): AES-256-GCM with a 96-bit IV and a 128-bit tag, by node:crypto. */
import { createCipheriv, createDecipheriv } from 'node:crypto'
import { ownCopy, wipe } from '../bytes.js'
import { type SealedContent, TAG_BYTES } from './compact.js'

const AES_256_GCM = 'aes-256-gcm'
const OPTIONS = { authTagLength: TAG_BYTES }

/** What {@link encryptContent} takes beside the 32-byte key. An `iv` is 12 bytes, and new under each key. */
export interface ClearContent {
  readonly aad: Uint8Array
  readonly iv: Uint8Array
  readonly plaintext: Uint8Array
}

/** Encrypts; ciphertext as long as the plaintext, tag of 16 bytes. */
export function encryptContent(key: Uint8Array, { aad, iv, plaintext }: ClearContent): SealedContent {
  const cipher = createCipheriv(AES_256_GCM, key, iv, OPTIONS).setAAD(aad)
  const ciphertext = cipher.update(plaintext)
  cipher.final()
  return { aad, iv, ciphertext, tag: cipher.getAuthTag() }
}

/** Decrypts into memory of its own, which the caller wipes; undefined, and nothing of the content, for a wrong tag. */
export function decryptContent(key: Uint8Array, content: SealedContent): Uint8Array | undefined {
  const decipher = createDecipheriv(AES_256_GCM, key, content.iv, OPTIONS)
    .setAAD(content.aad)
    .setAuthTag(content.tag)
  const unverified = decipher.update(content.ciphertext)
  try {
    decipher.final()
    return ownCopy(unverified)
  } catch {
    // The tag is wrong, which is the only way final() fails here.
    return undefined
  } finally {
    wipe(unverified)
  }
}
