/** Sealing: the sender's side of ECDH-ES. No key of ours is involved, so no backend is. */
import { createECDH, randomFillSync } from 'node:crypto'
import { requireOptions } from '../arguments.js'
import type { CallOptions } from '../backend/backend.js'
import { requireKid, requireSignal, throwIfAborted } from '../backend/checks.js'
import { requireBytes, wipe } from '../bytes.js'
import { ArgumentError, InputError } from '../errors.js'
import { asciiBytes, buildCompact, compactLength, IV_BYTES, MAX_JWE_CHARACTERS } from './compact.js'
import { concatKdf } from './concat-kdf.js'
import { encryptContent } from './content.js'
import { buildHeader, CONTENT_KEY_BYTES, contentKeyInfo, MAX_PARTY_BYTES } from './header.js'
import {
  importRecipient,
  isRecipient,
  type P256Recipient,
  type PublicJwkLike,
  pointOfRecipient,
  requireObject,
} from './recipient.js'

const CURVE = 'prime256v1'

/** A private scalar that is no secret, to put in the place of one that is. */
const ONE: Uint8Array = Uint8Array.from({ length: 32 }, (_, i) => (i === 31 ? 1 : 0))

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
  const { plaintext, recipient, kid, apu, apv } = requireRequest(request)
  throwIfAborted(requireSignal(options))
  const ephemeral = createECDH(CURVE)
  let z: Uint8Array | undefined
  let contentKey: Uint8Array | undefined
  try {
    const header = buildHeader({ kid, ephemeralPublicKey: ephemeral.generateKeys(), apu, apv })
    requireJweLength(compactLength(header, plaintext.length))
    z = ephemeral.computeSecret(pointOfRecipient(recipient))
    contentKey = concatKdf(z, contentKeyInfo({ apu, apv }), CONTENT_KEY_BYTES)
    const iv = randomFillSync(new Uint8Array(IV_BYTES))
    return buildCompact(header, encryptContent(contentKey, { aad: asciiBytes(header), iv, plaintext }))
  } finally {
    wipe(z, contentKey)
    // Replacing the ephemeral scalar makes OpenSSL cleanse it now; left alone, it lives until the object is collected.
    ephemeral.setPrivateKey(ONE)
  }
}

function requireRequest(request: SealRequest) {
  requireOptions(request, 'sealJwe', ['plaintext', 'recipient', 'kid', 'apu', 'apv'])
  const { plaintext, apu, apv } = request
  requireBytes(plaintext, 'plaintext')
  requirePartyInfo(apu, 'apu')
  requirePartyInfo(apv, 'apv')
  requireObject(request.recipient)
  const recipient = isRecipient(request.recipient) ? request.recipient : importRecipient(request.recipient)
  const kid = request.kid === undefined ? recipient.kid : request.kid
  if (kid === undefined) throw new ArgumentError('kid is needed: the recipient comes without one')
  requireKid(kid)
  return { plaintext, recipient, kid, apu, apv }
}

function requirePartyInfo(value: unknown, name: string): void {
  if (value === undefined) return
  requireBytes(value, name)
  if (value.length > MAX_PARTY_BYTES) {
    throw new InputError('ERR_LENGTH', `${name}: ${value.length} bytes, expected 0 to ${MAX_PARTY_BYTES}`)
  }
}

function requireJweLength(characters: number): void {
  if (characters > MAX_JWE_CHARACTERS) {
    throw new InputError(
      'ERR_LENGTH',
      `the JWE would be ${characters} characters, at most ${MAX_JWE_CHARACTERS}`,
    )
  }
}
