import { createHash } from 'node:crypto'
import { ArgumentError } from '../errors.js'

/**
 * The fingerprint of a request by its members: 32 bytes, SHA-256 over names and values with their lengths, sorted by
 * name. Two requests have one fingerprint only if every member is the same, in whatever order they came.
 *
 * Take all decrypted members, and nothing of the JWE around them: a repeated request may be enciphered anew.
 *
 * Errors: `ERR_ARGUMENT`.
 *
 * @example
 * ```ts
 * const fingerprint = requestFingerprint({ intdatag, prwDataSet, prwValue, prwKid, macValue, macKid })
 * ```
 */
export function requestFingerprint(members: Readonly<Record<string, string>>): Uint8Array {
  if (typeof members !== 'object' || members === null) throw new ArgumentError('members must be an object')
  const hash = createHash('sha256')
  for (const [name, value] of Object.entries(members).sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (typeof value !== 'string') throw new ArgumentError(`${name} must be a string`)
    // A lone surrogate has no UTF-8 form of its own: two texts would have one fingerprint.
    if (/\p{Cs}/u.test(name + value)) throw new ArgumentError('members must be well-formed text')
    for (const text of [name, value]) {
      const bytes = Buffer.from(text, 'utf8')
      const length = Buffer.alloc(4)
      length.writeUInt32BE(bytes.length)
      hash.update(length).update(bytes)
    }
  }
  return Uint8Array.from(hash.digest())
}
