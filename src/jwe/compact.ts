/**
 * The compact form of a JWE with direct key agreement (RFC 7516, 7.1), pure:
 *
 *     protected header . (no encrypted key) . IV       . ciphertext . tag
 *     ≤ 2048 characters                       16          any         22 characters of base64url; 8192 in all
 */

import { createCipheriv, createDecipheriv } from 'node:crypto'
import { base64urlBytes, bufferOf, encodeBase64url, isBase64url, secretBytes, wipe } from '../base/bytes.js'
import { type ParsedHeader, parseHeader } from './header.js'

/** Longest JWE, in characters: the bound of D1's `encryptedPinBlock` and `encryptedData`. */
export const MAX_JWE_CHARACTERS = 8192
export const IV_BYTES = 12
const TAG_BYTES = 16

const SHAPE = /^([\w-]{1,2048})\.\.([\w-]{16})\.([\w-]*)\.([\w-]{22})$/
/** The four dots, the IV and the tag. */
const FIXED_CHARACTERS = 4 + 16 + 22

/** A JWE taken apart. `aad` is the ASCII of the protected header segment (RFC 7516, 5.1, step 14). */
interface CompactJwe extends ParsedHeader, SealedContent {}

/** What the content encryption takes and gives. */
interface SealedContent {
  readonly aad: Uint8Array
  readonly iv: Uint8Array
  readonly ciphertext: Uint8Array
  readonly tag: Uint8Array
}

/**
 * Takes a JWE apart, or returns undefined for whatever is not exactly this form: more than 8192 characters (refused
 * before any work), a number of segments other than five, an encrypted key, base64url that is not canonical, an IV
 * that is not 12 or a tag that is not 16 bytes, or a header that {@link parseHeader} refuses.
 *
 * Source: RFC 7516, 5.2, steps 1 to 5 and 10; RFC 7518, 4.6 and 5.3.
 *
 * @example
 * ```ts
 * parseCompact('a.b.c') // undefined
 * ```
 */
export function parseCompact(jwe: string): CompactJwe | undefined {
  if (jwe.length > MAX_JWE_CHARACTERS) return undefined
  const [, protectedHeader, iv = '', ciphertext = '', tag = ''] = SHAPE.exec(jwe) ?? []
  if (protectedHeader === undefined || !isBase64url(ciphertext) || !isBase64url(tag)) return undefined
  const parsed = parseHeader(protectedHeader)
  if (parsed === undefined) return undefined
  // One piece of memory for all four parts: to make one costs more than to fill it.
  const ivAt = protectedHeader.length
  const tagAt = ivAt + IV_BYTES
  const ciphertextAt = tagAt + TAG_BYTES
  const memory = secretBytes(ciphertextAt + base64urlBytes(ciphertext))
  const buffer = bufferOf(memory)
  buffer.write(protectedHeader, 'latin1')
  buffer.write(iv, ivAt, 'base64url')
  buffer.write(tag, tagAt, 'base64url')
  buffer.write(ciphertext, ciphertextAt, 'base64url')
  return {
    header: parsed.header,
    ephemeralPublicKey: parsed.ephemeralPublicKey,
    aad: memory.subarray(0, ivAt),
    iv: memory.subarray(ivAt, tagAt),
    tag: memory.subarray(tagAt, ciphertextAt),
    ciphertext: memory.subarray(ciphertextAt),
  }
}

/** Puts the segments together; the inverse of {@link parseCompact}. */
export function buildCompact(protectedHeader: string, content: Omit<SealedContent, 'aad'>): string {
  const { iv, ciphertext, tag } = content
  return `${protectedHeader}..${encodeBase64url(iv)}.${encodeBase64url(ciphertext)}.${encodeBase64url(tag)}`
}

/** Characters of the JWE that this header and a plaintext of so many bytes give. */
export function compactLength(protectedHeader: string, plaintextBytes: number): number {
  return protectedHeader.length + FIXED_CHARACTERS + Math.ceil((plaintextBytes * 4) / 3)
}

/* Content encryption `A256GCM` (RFC 7518, 5.3): AES-256-GCM with a 96-bit IV and a 128-bit tag, by node:crypto. */

const AES_256_GCM = 'aes-256-gcm'
const OPTIONS = { authTagLength: TAG_BYTES }

/** What {@link encryptContent} takes beside the 32-byte key. An `iv` is 12 bytes, and new under each key. */
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
  return { aad, iv, ciphertext, tag: cipher.getAuthTag() }
}

/** Decrypts into memory of its own, which the caller wipes; undefined, and nothing of the content, for a wrong tag. */
export function decryptContent(key: Uint8Array, content: SealedContent): Uint8Array | undefined {
  const decipher = createDecipheriv(AES_256_GCM, key, content.iv, OPTIONS)
    .setAAD(content.aad)
    .setAuthTag(content.tag)
  const plaintext = updateCleanly(decipher, content.ciphertext)
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
    out.set(piece, at)
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
