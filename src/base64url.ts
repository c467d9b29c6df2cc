/** Base64url as RFC 7515, 2 wants it: no padding, no white space, and one text only for each sequence of bytes. */
import { ownCopy } from './bytes.js'

/** Unpadded base64url of the bytes. */
export function encodeBase64url(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64url')
}

/**
 * The bytes of canonical base64url, in memory of their own, or undefined for any other text: padding, white space,
 * the characters of plain base64, an impossible length, bits after the last byte that are not zero.
 *
 * Source: RFC 7515, 2 and appendix C; RFC 4648, 3.5 and 5.
 *
 * @example
 * ```ts
 * decodeBase64url('AQ') // 01
 * decodeBase64url('AR') // undefined: a second spelling of the same byte
 * ```
 */
export function decodeBase64url(text: string): Uint8Array<ArrayBuffer> | undefined {
  // Node's decoder skips what it does not know; whatever it skipped is missing when the bytes are encoded again.
  const bytes = Buffer.from(text, 'base64url')
  return bytes.toString('base64url') === text ? ownCopy(bytes) : undefined
}
