/**
 * The JOSE header of the one JWE profile spoken here: `ECDH-ES` (direct), `A256GCM`, P-256. It says who the message is
 * for and how the content key comes about; anything that would change how it is read is refused.
 */

import {
  base64urlBytes,
  bufferOf,
  decodeBase64url,
  encodeBase64url,
  isBase64url,
  secretBytes,
} from '../base/bytes.js'
import { member, parseJsonObject } from '../base/json.js'
import { CONTENT_KEY_BYTES } from '../primitives/a256gcm.js'
import { otherInfo } from '../primitives/concat-kdf.js'
import { jwkOfPoint, pointOfJwk, pointOfText } from '../primitives/p256.js'

const ALG = 'ECDH-ES'
const ENC = 'A256GCM'
/** Longest decoded `apu` or `apv`: two of them fit the header, and OtherInfo within the port's 1024 bytes. */
export const MAX_PARTY_BYTES = 256

/** `zip`: compression tells the length of secrets. `crit`: we understand no extension (RFC 7516, 4.1.13). */
const REFUSED: readonly string[] = ['zip', 'crit']

/** The public facts of a JWE's header: all it says besides algorithm and ephemeral key. */
export interface JweHeader {
  /** The recipient's key, as the sender names it. */
  readonly kid: string | undefined
  /** PartyUInfo, decoded: about the sender. Not authenticated by ECDH-ES. At most 256 bytes. */
  readonly apu: Uint8Array | undefined
  /** PartyVInfo, decoded: about the recipient. At most 256 bytes. */
  readonly apv: Uint8Array | undefined
  readonly typ: string | undefined
  readonly cty: string | undefined
}

/** A header that has passed every check, and the sender's ephemeral key: a 65-byte point on P-256. */
export interface ParsedHeader {
  readonly header: JweHeader
  readonly ephemeralPublicKey: Uint8Array
}

/** What {@link buildHeader} writes. */
interface HeaderFields {
  readonly kid: string
  readonly ephemeralPublicKey: Uint8Array
  readonly apu?: Uint8Array | undefined
  readonly apv?: Uint8Array | undefined
}

/**
 * Parses the protected header segment, or returns undefined where it is not canonical base64url of a strict JSON
 * object, of 2,048 characters at most, with `alg` `ECDH-ES`, `enc` `A256GCM`, and an `epk` on P-256 without a private member.
 *
 * `zip` and every `crit` are refused; `kid`, `typ`, `cty`, `apu`, `apv` must be strings where present; other members
 * are ignored (RFC 7516, 4). Sources: RFC 7516, 4; RFC 7518, 4.6.1; RFC 8725, 3.4 (on-curve check).
 *
 * @example
 * ```ts
 * parseHeader('eyJhbGciOiJub25lIn0') // undefined
 * ```
 */
export function parseHeader(segment: string): ParsedHeader | undefined {
  if (segment.length > MAX_HEADER_CHARACTERS || !isBase64url(segment)) return undefined
  // In a place for the next one, too: a header is public, and read at once.
  SCRATCH.write(segment, 'base64url')
  const length = base64urlBytes(segment)
  const plain = PLAIN.exec(SCRATCH.toString('latin1', 0, length))
  return plain === null ? parseMembers(SCRATCH.subarray(0, length)) : plainHeader(plain)
}

/**
 * A header as {@link buildHeader} writes it and D1's published sample has it: these members in this order, no space, and nothing in the
 * kid that JSON writes in two ways. What fits this has one reading; it is found in a tenth of the time that {@link parseMembers}
 * takes, which reads all others. A test holds the two against each other.
 */
const PLAIN =
  /^\{"alg":"ECDH-ES","enc":"A256GCM","kid":"([ !#-[\]-~]*)","epk":\{"kty":"EC","crv":"P-256","x":"([\w-]{43})","y":"([\w-]{43})"\}\}$/

function plainHeader([, kid, x = '', y = '']: RegExpExecArray): ParsedHeader | undefined {
  const ephemeralPublicKey = pointOfText(x, y)
  if (ephemeralPublicKey === undefined) return undefined
  return {
    header: { kid, apu: undefined, apv: undefined, typ: undefined, cty: undefined },
    ephemeralPublicKey,
  }
}

/** A header of any form: strict JSON. */
export function parseMembers(bytes: Uint8Array): ParsedHeader | undefined {
  const members = parseJsonObject(bytes)
  if (members === undefined) return undefined
  if (member(members, 'alg') !== ALG || member(members, 'enc') !== ENC) return undefined
  if (REFUSED.some(name => Object.hasOwn(members, name))) return undefined
  const ephemeralPublicKey = ephemeralPoint(member(members, 'epk'))
  const header = {
    kid: member(members, 'kid'),
    apu: partyInfo(member(members, 'apu')),
    apv: partyInfo(member(members, 'apv')),
    typ: member(members, 'typ'),
    cty: member(members, 'cty'),
  }
  return ephemeralPublicKey !== undefined && isHeader(header) ? { header, ephemeralPublicKey } : undefined
}

/** The longest header of a JWE that is opened. */
const MAX_HEADER_CHARACTERS = 2048
const SCRATCH = bufferOf(secretBytes(base64urlBytes('A'.repeat(MAX_HEADER_CHARACTERS))))

/** Builds the protected header segment, members in the order of D1's published sample; equal fields, equal text. */
export function buildHeader({ kid, ephemeralPublicKey, apu, apv }: HeaderFields): string {
  const { x, y } = jwkOfPoint(ephemeralPublicKey)
  // Written by hand, for it takes half as long: all but the kid is base64url or constant.
  const epk = `{"kty":"EC","crv":"P-256","x":"${x}","y":"${y}"}`
  const parties = [apu && `,"apu":"${encodeBase64url(apu)}"`, apv && `,"apv":"${encodeBase64url(apv)}"`]
  const json = `{"alg":"${ALG}","enc":"${ENC}","kid":${JSON.stringify(kid)},"epk":${epk}${parties.join('')}}`
  // There is room for the longest: a kid of 128 characters of three bytes, and both parties of 256 bytes. A caller has checked these:
  // what has no room would be cut off without a word.
  return SCRATCH.toString('base64url', 0, SCRATCH.write(json))
}

/** OtherInfo of the content key (RFC 7518, 4.6.2): with direct agreement, AlgorithmID is the `enc` value. */
export function contentKeyInfo({ apu, apv }: Pick<JweHeader, 'apu' | 'apv'>): Uint8Array {
  if (apu === undefined && apv === undefined) return PLAIN_INFO
  return infoOf({ apu, apv })
}

function infoOf({ apu, apv }: Pick<JweHeader, 'apu' | 'apv'>): Uint8Array {
  return otherInfo({
    algorithmId: ENC,
    keyBits: CONTENT_KEY_BYTES * 8,
    partyUInfo: apu,
    partyVInfo: apv,
  })
}

/** OtherInfo of nearly every message: D1 is not known to use `apu` and `apv`. It is read, never written. */
const PLAIN_INFO: Uint8Array = infoOf({ apu: undefined, apv: undefined })

function ephemeralPoint(epk: unknown): Uint8Array | undefined {
  // A private key in a public place: whoever made this message, its content is already known to others.
  if (typeof epk === 'object' && epk !== null && Object.hasOwn(epk, 'd')) return undefined
  return pointOfJwk(epk)
}

/** The decoded value, undefined where absent, null where it is not acceptable. */
function partyInfo(value: unknown): Uint8Array | undefined | null {
  if (value === undefined) return undefined
  if (typeof value !== 'string') return null
  const bytes = decodeBase64url(value)
  return bytes !== undefined && bytes.length <= MAX_PARTY_BYTES ? bytes : null
}

function isHeader(header: { readonly [Name in keyof JweHeader]: unknown }): header is JweHeader {
  const { kid, apu, apv, typ, cty } = header
  return apu !== null && apv !== null && [kid, typ, cty].every(isOptionalString)
}

function isOptionalString(value: unknown): boolean {
  return value === undefined || typeof value === 'string'
}
