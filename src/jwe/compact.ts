/**
 * The compact form of a JWE with direct key agreement (RFC 7516, 7.1), pure:
 *
 *     protected header . (no encrypted key) . IV       . ciphertext . tag
 *     ≤ 2048 characters                       16          any         22 characters of base64url; 8192 in all
 */

import { base64urlBytes, bufferOf, encodeBase64url, endsOnByte, publicRoom } from '../base/bytes.js'
import { IV_BYTES, type SealedContent, TAG_BYTES } from '../primitives/a256gcm.js'
import { type ParsedHeader, parseHeader } from './header.js'

/** Longest JWE, in characters: the bound of D1's `encryptedPinBlock` and `encryptedData`. */
export const MAX_JWE_CHARACTERS = 8192

const SHAPE = /^([\w-]{1,2048})\.\.([\w-]{16})\.([\w-]*)\.([\w-]{22})$/
/** The four dots, the IV and the tag. */
const FIXED_CHARACTERS = 4 + 16 + 22

/** A JWE taken apart. `aad` is the ASCII of the protected header segment (RFC 7516, 5.1, step 14). */
interface CompactJwe extends ParsedHeader, SealedContent {}

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
  if (protectedHeader === undefined || !endsOnByte(ciphertext) || !endsOnByte(tag)) return undefined
  const parsed = parseHeader(protectedHeader)
  if (parsed === undefined) return undefined
  // One piece of memory for all four parts: to make one costs more than to fill it.
  const ivAt = protectedHeader.length
  const tagAt = ivAt + IV_BYTES
  const ciphertextAt = tagAt + TAG_BYTES
  const memory = publicRoom(ciphertextAt + base64urlBytes(ciphertext))
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
