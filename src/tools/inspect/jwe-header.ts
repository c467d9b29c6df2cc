/** A JWE for people: what its header says, and nothing of what it encloses. */
import { decodeBase64url } from '../../base/bytes.js'
import { ArgumentError } from '../../base/errors.js'
import { member, parseJsonObject } from '../../base/json.js'
import { isP256Point, pointOfJwk } from '../../primitives/p256.js'
import { HIDDEN, renderTable, showText } from './table.js'

/** Longest text that is looked at: D1's limit on a JWE. */
const MAX_CHARACTERS = 8192

/** What each header parameter is for, and where it is defined. */
const PARAMETERS: ReadonlyMap<string, string> = mapOf({
  alg: 'key agreement; D1: ECDH-ES (RFC 7518, 4.6)',
  enc: 'content encryption; D1: A256GCM (RFC 7518, 5.3)',
  kid: "the recipient's key (RFC 7516, 4.1.6)",
  apu: 'about the sender, enters the key derivation (RFC 7518, 4.6.1.2)',
  apv: 'about the recipient, enters the key derivation (RFC 7518, 4.6.1.3)',
  typ: 'type of the whole (RFC 7516, 4.1.11)',
  cty: 'type of the content (RFC 7516, 4.1.12)',
  zip: 'compression: REFUSED here (RFC 7516, 4.1.3)',
  crit: 'extensions that must be understood: REFUSED here (RFC 7516, 4.1.13)',
})
const KEY_PARAMETERS: ReadonlyMap<string, string> = mapOf({
  kty: 'key type; EC',
  crv: 'curve; P-256',
  x: 'x coordinate, 32 bytes',
  y: 'y coordinate, 32 bytes',
})

/** The five segments of a JWE in compact form (RFC 7516, 7.1). */
const SEGMENTS: readonly (readonly [string, string])[] = [
  ['protected header', 'see above'],
  ['encrypted key', 'empty with ECDH-ES'],
  ['iv', '12 bytes with A256GCM'],
  ['ciphertext', 'as long as the plaintext'],
  ['tag', '16 bytes'],
]

/**
 * The protected header of a JWE in compact form as a table: parameter, value, meaning; then the lengths of the
 * segments. For people; the text is not a format. It says what stands there, not whether the JWE is to be accepted;
 * the ciphertext is not shown, nor a private member of a key. Values are cut and escaped.
 *
 * Errors: `ERR_ARGUMENT` (not a string). Whatever else is wrong stands in the text.
 *
 * @example
 * ```ts
 * console.log(inspectJweHeader(encryptedPinBlock))
 * ```
 */
export function inspectJweHeader(jwe: string): string {
  if (typeof jwe !== 'string') throw new ArgumentError('jwe must be a string')
  if (jwe.length > MAX_CHARACTERS)
    return `not a JWE of D1: ${jwe.length} characters, at most ${MAX_CHARACTERS}`
  const segments = jwe.split('.')
  if (segments.length !== SEGMENTS.length)
    return `not a JWE in compact form: ${segments.length} segments, not 5`
  const bytes = segments.map(decodeBase64url)
  const [header] = bytes
  const members = header && parseJsonObject(header)
  const top =
    members === undefined
      ? 'JWE: the protected header is NOT canonical base64url of a strict JSON object'
      : `JWE, protected header\n${renderTable(['parameter', 'value', 'meaning'], headerRows(members))}`
  const lengths = SEGMENTS.map(([name, meaning], i) => [name, lengthOf(bytes[i]), meaning])
  return `${top}\n\n${renderTable(['segment', 'length', 'meaning'], lengths)}`
}

/** By a name that somebody else has chosen, a map can be asked and an object cannot. */
function mapOf(members: Readonly<Record<string, string>>): ReadonlyMap<string, string> {
  return new Map(Object.entries(members))
}

function headerRows(members: Record<string, unknown>): string[][] {
  return Object.keys(members).flatMap(name => {
    const value = member(members, name)
    if (name === 'epk') return keyRows(value)
    return [[nameOf(name), show(value), PARAMETERS.get(name) ?? 'not used here']]
  })
}

function keyRows(epk: unknown): string[][] {
  const point = pointOfJwk(epk)
  const verdict = point !== undefined && isP256Point(point) ? 'a point on P-256' : 'NOT a point on P-256'
  const rows = [['epk', '', `ephemeral public key: ${verdict} (RFC 7518, 4.6.1.1)`]]
  if (typeof epk !== 'object' || epk === null) return rows
  for (const name of Object.keys(epk)) {
    const value = KEY_PARAMETERS.has(name) ? show(Reflect.get(epk, name)) : HIDDEN
    rows.push([`  ${nameOf(name)}`, value, KEY_PARAMETERS.get(name) ?? 'must NOT be here: not shown'])
  }
  return rows
}

function nameOf(name: string): string {
  return showText(name).slice(1, -1)
}

function show(value: unknown): string {
  return showText(typeof value === 'string' ? value : JSON.stringify(value))
}

function lengthOf(bytes: Uint8Array | undefined): string {
  return bytes === undefined ? 'NOT base64url' : `${bytes.length} bytes`
}
