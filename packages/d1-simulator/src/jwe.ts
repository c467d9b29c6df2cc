/** D1's JWEs by jose, and wrong ones by hand (RFC 7516; RFC 7518, 4.6). */
import { createCipheriv, createECDH, createHash, randomBytes } from 'node:crypto'
import { CompactEncrypt, compactDecrypt, decodeProtectedHeader, importJWK, type JWK } from 'jose'
import { Mismatch } from './problems.js'

/** A P-256 key by its name; with `d` where it is private. */
export interface P256Jwk {
  readonly kty: 'EC'
  readonly crv: 'P-256'
  readonly x: string
  readonly y: string
  readonly d?: string
  readonly kid: string
}

/** The longest `encryptedPinBlock`. */
export const MAX_JWE = 8192

/** Seals as D1 does: ECDH-ES, A256GCM, the recipient's kid. `header` replaces parameters that jose supports. */
export async function seal(content: object | string, to: P256Jwk, header: object = {}): Promise<string> {
  const text = typeof content === 'string' ? content : JSON.stringify(content)
  return new CompactEncrypt(new TextEncoder().encode(text))
    .setProtectedHeader({ alg: 'ECDH-ES', enc: 'A256GCM', kid: to.kid, ...header })
    .encrypt(await importJWK(publicHalf(to), 'ECDH-ES'))
}

/** Another character of base64url. */
export function otherCharacter(character: string): string {
  return 'AB'.charAt(Number(character === 'A'))
}

/** The public members alone. */
export function publicHalf({ kty, crv, x, y, kid }: P256Jwk): P256Jwk {
  return { kty, crv, x, y, kid }
}

/**
 * Opens what the issuer sealed to D1. Throws a {@link Mismatch} unless header and form are D1's: ECDH-ES, A256GCM, the
 * kid of D1's key, an ephemeral P-256 public key, nothing compressed, an empty encrypted key.
 */
export async function openAnswer(jwe: string, own: P256Jwk): Promise<{ plaintext: string; epk: string }> {
  const header = readHeader(jwe)
  const { alg, enc, kid, epk, zip, crit } = header
  if (alg !== 'ECDH-ES') throw new Mismatch('a JWE whose alg is not ECDH-ES')
  if (enc !== 'A256GCM') throw new Mismatch('a JWE whose enc is not A256GCM')
  if (kid !== own.kid) throw new Mismatch("a JWE whose kid is not that of D1's key")
  if (zip !== undefined || crit !== undefined) throw new Mismatch('a JWE with zip or crit')
  const { kty, crv, x, y, ...more } = (epk ?? {}) as Record<string, unknown>
  if (kty !== 'EC' || crv !== 'P-256' || !isCoordinate(x) || !isCoordinate(y)) {
    throw new Mismatch('a JWE whose epk is not a P-256 key')
  }
  if ('d' in more) throw new Mismatch('a JWE whose epk has its private part')
  if (jwe.split('.')[1] !== '') throw new Mismatch('a JWE with an encrypted key')
  try {
    const { plaintext } = await compactDecrypt(jwe, await importJWK({ ...own } as JWK, 'ECDH-ES'))
    return { plaintext: new TextDecoder('utf-8', { fatal: true }).decode(plaintext), epk: `${x}.${y}` }
  } catch {
    // What jose says may quote what is inside.
    throw new Mismatch("a JWE that does not open with D1's key")
  }
}

function readHeader(jwe: string): Record<string, unknown> {
  if (!/^[\w-]+\.[\w-]*\.[\w-]+\.[\w-]+\.[\w-]+$/.test(jwe)) throw new Mismatch('no JWE in compact form')
  try {
    return { ...decodeProtectedHeader(jwe) }
  } catch {
    throw new Mismatch('a JWE whose header does not read')
  }
}

function isCoordinate(text: unknown): text is string {
  return typeof text === 'string' && /^[\w-]{43}$/.test(text)
}

/** The header of a JWE, as far as it is made here. */
export interface Header {
  readonly epk: Readonly<Record<string, unknown>>
  readonly [name: string]: unknown
}

/** A new key's public half, and what it agrees on with another's. */
interface NewKey {
  readonly jwk: Omit<P256Jwk, 'd' | 'kid'>
  readonly agree: (other: P256Jwk) => Buffer
}

/** By its point: a `KeyObject` that was generated may stand still for ever when it is exported as a JWK (Node 20). */
export function newKey(): NewKey {
  const own = createECDH('prime256v1')
  const point = own.generateKeys()
  const [x, y] = [base64url(point.subarray(1, 33)), base64url(point.subarray(33))]
  const coordinate = (text: string): Buffer => Buffer.from(text, 'base64url')
  return {
    jwk: { kty: 'EC', crv: 'P-256', x, y },
    agree: other =>
      own.computeSecret(Buffer.concat([Buffer.of(4), coordinate(other.x), coordinate(other.y)])),
  }
}

/** What {@link craft} can be told. */
export interface Craft {
  /** The header in place of D1's; undefined takes a parameter away. */
  readonly header?: (sound: Header) => Readonly<Record<string, unknown>>
  /** The plaintext in place of the content's JSON. */
  readonly plaintext?: (json: Buffer) => Buffer
  /** Z in place of the agreement with the recipient's key. */
  readonly z?: Buffer
}

/**
 * A JWE made by hand: sound in itself (key agreement, KDF and tag are right for its header), with a header that jose
 * would not write. What is wrong with it is what it was told alone.
 */
export function craft(content: object, to: P256Jwk, change: Craft = {}): string {
  const own = newKey()
  const sound = { alg: 'ECDH-ES', enc: 'A256GCM', kid: to.kid, epk: own.jwk }
  const header = change.header?.(sound) ?? sound
  const key = concatKdf(change.z ?? own.agree(to))
  const protectedHeader = base64url(JSON.stringify(header))
  const iv = randomBytes(12)
  const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(Buffer.from(protectedHeader))
  const json = Buffer.from(JSON.stringify(content))
  const ciphertext = Buffer.concat([cipher.update(change.plaintext?.(json) ?? json), cipher.final()])
  return [protectedHeader, '', ...[iv, ciphertext, cipher.getAuthTag()].map(base64url)].join('.')
}

/** NIST SP 800-56A Concat KDF with SHA-256 for A256GCM, PartyUInfo and PartyVInfo empty: one round. */
function concatKdf(z: Buffer): Buffer {
  const number = (value: number): Buffer => {
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32BE(value)
    return bytes
  }
  const parts = [number(1), z, number(7), Buffer.from('A256GCM'), number(0), number(0), number(256)]
  return createHash('sha256').update(Buffer.concat(parts)).digest()
}

function base64url(bytes: string | Buffer): string {
  return Buffer.from(bytes).toString('base64url')
}
