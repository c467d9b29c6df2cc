/** Sealing: the sender's side of ECDH-ES. No key of ours is involved, so no backend is. */
import { createECDH, type ECDH, randomFillSync } from 'node:crypto'
import {
  type CallOptions,
  readOptions,
  requireKid,
  requireSignal,
  throwIfAborted,
} from '../base/arguments.js'
import {
  bufferOf,
  clearRegisters,
  isPlainBytes,
  requireBytes,
  secretBytes,
  snapshot,
  wipe,
  withWiped,
} from '../base/bytes.js'
import { systemClock } from '../base/deadline.js'
import { DEFAULTS } from '../base/defaults.js'
import { ArgumentError, InputError } from '../base/errors.js'
import { forgetScalar } from '../key/material.js'
import { CONTENT_KEY_BYTES, encryptContent, IV_BYTES } from '../primitives/a256gcm.js'
import { concatKdf } from '../primitives/concat-kdf.js'
import { buildCompact, compactLength, MAX_JWE_CHARACTERS } from './compact.js'
import { buildHeader, contentKeyInfo, MAX_PARTY_BYTES } from './header.js'
import { type P256Recipient, type PublicJwkLike, pointOfRecipient, readRecipient } from './recipient.js'

const CURVE = 'prime256v1'
const AHEAD_MS = DEFAULTS.keys.ephemeralAheadMs.value

/** What {@link sealJwe} takes. */
export interface SealRequest {
  /** The content; it stays the caller's, who wipes it. At most 5936 bytes, fewer with a longer header. */
  readonly plaintext: Uint8Array
  /** The recipient's public key; {@link importRecipient} for one that is used more than once. */
  readonly recipient: PublicJwkLike | P256Recipient
  /** What the header calls the recipient's key, 1 to 128 characters; the JWK's own kid where absent. */
  readonly kid?: string
  /** PartyUInfo, at most 256 bytes: about the sender. D1 is not known to use it. */
  readonly apu?: Uint8Array
  /** PartyVInfo, at most 256 bytes: about the recipient. D1 is not known to use it. */
  readonly apv?: Uint8Array
}

/**
 * Seals bytes to a recipient's P-256 key: a compact JWE of at most 8192 ASCII characters, `ECDH-ES` (direct) and
 * `A256GCM`, under an ephemeral key made for this message alone.
 *
 * A JWE says who can read it, not who wrote it: the recipient must know the sender by other means (mTLS, a token).
 * The work is done before the promise is returned; the ephemeral key, Z and the content key are wiped on every path.
 *
 * Errors: `ERR_ARGUMENT` (also where neither the request nor the JWK has a kid), `ERR_JWE_RECIPIENT` (a public key
 * that cannot be used), `ERR_LENGTH` (the JWE would be too long; `apu` or `apv` is), `ERR_ABORTED`.
 * Source: RFC 7516, 5.1; RFC 7518, 4.6 and 5.3.
 *
 * @example
 * ```ts
 * const plaintext = new TextEncoder().encode('{"pan":"1234567891234567","exp":"1223"}')
 * const jwe = await sealJwe({ plaintext, recipient: { kty: 'EC', crv: 'P-256', x, y, kid: 'D1-2026' } })
 * ```
 */
export async function sealJwe(request: SealRequest, options?: CallOptions): Promise<string> {
  const checked = readRequest(request)
  throwIfAborted(requireSignal(options))
  // Nobody else's code runs from here on until it is sealed: it is read where it is.
  if (isPlainBytes(checked.plaintext)) return sealChecked(checked)
  return withWiped(snapshot(checked.plaintext, 'plaintext'), plaintext =>
    sealChecked({ ...checked, plaintext }),
  )
}

/** What {@link sealChecked} takes: a recipient that has been imported, the kid that the header gets. */
export interface CheckedSeal {
  readonly plaintext: Uint8Array
  readonly recipient: P256Recipient
  readonly kid: string
  readonly apu: Uint8Array | undefined
  readonly apv: Uint8Array | undefined
}

/** The inner door of {@link sealJwe}: reads the plaintext where it is, and leaves it to the caller to wipe. */
export function sealChecked({ plaintext, recipient, kid, apu, apv }: CheckedSeal): string {
  const { keys, point } = takeEphemeral()
  let z: Uint8Array | undefined
  try {
    const header = buildHeader({ kid, ephemeralPublicKey: point, apu, apv })
    requireJweLength(compactLength(header, plaintext.length))
    z = keys.computeSecret(pointOfRecipient(recipient))
    concatKdf(z, contentKeyInfo({ apu, apv }), CONTENT_KEY_BYTES, takeContentKey)
    const iv = freshIv()
    return buildCompact(header, encryptContent(contentKey, { aad: headerBytes(header), iv, plaintext }))
  } finally {
    wipe(z, contentKey)
    replaceEphemeral(keys)
  }
}

/** Where the header is while it is authenticated: as long as a JWE may be, and public. */
const authenticated = bufferOf(secretBytes(MAX_JWE_CHARACTERS))

function headerBytes(header: string): Uint8Array {
  return authenticated.subarray(0, authenticated.write(header, 'latin1'))
}

/** Where a content's key is while it seals the content. */
const contentKey = secretBytes(CONTENT_KEY_BYTES)
const takeContentKey = (): Uint8Array<ArrayBuffer> => contentKey

/** An ephemeral key pair: the object that has its scalar, and its point. */
interface Ephemeral {
  readonly keys: ECDH
  readonly point: Uint8Array
}

let shared: ECDH | undefined
/** The pair that the object has by now, for the next message, and when it was made, by both clocks. */
let ahead: (Ephemeral & { readonly now: number; readonly elapsed: number }) | undefined

/**
 * The key pair of a message. It is the one that took the last one's place, where that is no older than {@link AHEAD_MS}, by
 * both clocks, for one of them stands still where the machine is put to sleep, or a picture of it is started twice. There is
 * one object a thread: OpenSSL needs 11 µs to set one up, and nothing else runs between taking a pair and replacing it.
 */
function takeEphemeral(): Ephemeral {
  const made = ahead
  ahead = undefined
  if (made !== undefined) {
    const age = [systemClock.now() - made.now, systemClock.elapsed() - made.elapsed]
    if (age.every(ms => ms >= 0 && ms < AHEAD_MS)) return made
  }
  shared ??= createECDH(CURVE)
  return { keys: shared, point: shared.generateKeys() }
}

/**
 * Overwrites the scalar of a message that is done with, by the next one: OpenSSL draws it into the same memory. To put a 1 there
 * takes 11 µs more, for that has its point multiplied, too. It lies there until the next message, and is used within a second or
 * never: meanwhile it tells nobody more than the state of the generator beside it, of which all scalars of minutes to come are made.
 */
function replaceEphemeral(keys: ECDH): void {
  try {
    ahead = { keys, point: keys.generateKeys(), now: systemClock.now(), elapsed: systemClock.elapsed() }
  } catch {
    // The message is whole. Whoever seals the next one is told.
    forgetScalar(keys)
  } finally {
    clearRegisters()
  }
}

/**
 * Random bytes for IVs to come, and how many of them are used up. An IV is public, and read where it is; asking for 12 bytes
 * takes 4 µs.
 */
const IVS = { bytes: secretBytes(IV_BYTES * 64), used: IV_BYTES * 64 }

function freshIv(): Uint8Array {
  if (IVS.used === IVS.bytes.length) {
    randomFillSync(IVS.bytes)
    IVS.used = 0
  }
  IVS.used += IV_BYTES
  return IVS.bytes.subarray(IVS.used - IV_BYTES, IVS.used)
}

function readRequest(request: SealRequest): CheckedSeal {
  const names = ['plaintext', 'recipient', 'kid', 'apu', 'apv'] as const
  const { plaintext, recipient: given, kid: asked, apu, apv } = readOptions(request, 'sealJwe', names)
  requireBytes(plaintext, 'plaintext')
  if (plaintext.length > MAX_JWE_CHARACTERS) throw tooLong(plaintext.length)
  const recipient = readRecipient(given)
  const kid = kidFor(recipient, asked)
  const party = { apu: readPartyInfo(apu, 'apu'), apv: readPartyInfo(apv, 'apv') }
  return { plaintext, recipient, kid, ...party }
}

/** What the header calls the recipient's key: as asked, else as the recipient says. Errors: `ERR_ARGUMENT`. */
export function kidFor(recipient: P256Recipient, asked: string | undefined): string {
  const kid = asked === undefined ? recipient.kid : asked
  if (kid === undefined) throw new ArgumentError('kid is needed: the recipient comes without one')
  requireKid(kid)
  return kid
}

function readPartyInfo(value: Uint8Array | undefined, name: string): Uint8Array | undefined {
  if (value === undefined) return undefined
  const copy = snapshot(value, name)
  if (copy.length <= MAX_PARTY_BYTES) return copy
  throw new InputError('ERR_LENGTH', `${name}: ${copy.length} bytes, expected 0 to ${MAX_PARTY_BYTES}`)
}

function requireJweLength(characters: number): void {
  if (characters > MAX_JWE_CHARACTERS) throw tooLong(characters)
}

function tooLong(characters: number): InputError {
  return new InputError(
    'ERR_LENGTH',
    `the JWE would be ${characters} characters or more, at most ${MAX_JWE_CHARACTERS}`,
  )
}
