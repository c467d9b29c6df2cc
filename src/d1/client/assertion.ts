/** The JWT with which an issuer asks D1 for a token (RFC 7523): three segments of base64url, signed with ES256. */
import { randomUUID } from 'node:crypto'
import {
  type CallOptions,
  readOptions,
  requireKid,
  requireSignal,
  throwIfAborted,
} from '../../base/arguments.js'
import { encodeBase64url, snapshot } from '../../base/bytes.js'
import { ArgumentError, BackendError } from '../../base/errors.js'
import { requireText } from './identifiers.js'

/** What signs an assertion: a software key, or a key in a token. */
export interface AssertionSigner {
  /** By which D1 finds the public key; it goes into the header. */
  readonly kid: string
  /** ECDSA on P-256 with SHA-256 over the input: 64 bytes, r then s, 32 bytes each (RFC 7518, 3.4). No DER. */
  sign(signingInput: Uint8Array, options?: CallOptions): Promise<Uint8Array>
}

/** What {@link makeAssertion} takes. */
export interface AssertionRequest {
  readonly signer: AssertionSigner
  /** `iss` and `sub`: the issuerId, or an aggregator's aggregatorId. */
  readonly issuer: string
  /** `aud`; left out where absent, as D1 allows. */
  readonly audience?: string
  /** 1 to 900 seconds; 300 where absent. At 900, D1 refuses as soon as our clock is ahead of its own. */
  readonly lifetimeSeconds?: number
  /** Milliseconds since 1970; the platform's clock where absent. */
  readonly now?: number
}

const SIGNATURE_BYTES = 64
const DEFAULT_LIFETIME_SECONDS = 300
/** D1's rule: `exp` at most 15 minutes from now. */
const MAX_LIFETIME_SECONDS = 900

/**
 * A signed assertion: header `alg` ES256, `kid`, `typ` JWT; claims `iss`, `sub`, `iat`, `exp`, a random `jti`, and `aud`
 * where given. It is a credential until it expires: it goes to D1's token endpoint and nowhere else.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_BACKEND_FAILED` (the signer did not return 64 bytes), `ERR_ABORTED`, and what the signer
 * raises. Source: RFC 7523, 2.1 and 3; RFC 7515, 5.1; D1, Get OAuth 2.0 access token.
 *
 * @example
 * ```ts
 * const assertion = await makeAssertion({ signer, issuer: 'is_mybank1' })
 * ```
 */
export async function makeAssertion(request: AssertionRequest, options?: CallOptions): Promise<string> {
  const { signer, kid, issuer, audience, lifetimeSeconds, now } = readRequest(request)
  const signal = requireSignal(options)
  throwIfAborted(signal)
  const iat = Math.floor(now / 1000)
  const header = { alg: 'ES256', kid, typ: 'JWT' }
  const claims = {
    iss: issuer,
    sub: issuer,
    aud: audience,
    iat,
    exp: iat + lifetimeSeconds,
    jti: randomUUID(),
  }
  const signingInput = `${segment(header)}.${segment(claims)}`
  const input = new TextEncoder().encode(signingInput)
  const signature = snapshot(await signer.sign(input, signal && { signal }), 'the signature')
  if (signature.length !== SIGNATURE_BYTES) {
    throw new BackendError(
      'ERR_BACKEND_FAILED',
      `the signer returned ${signature.length} bytes in place of 64: r then s, 32 bytes each, not DER`,
    )
  }
  return `${signingInput}.${encodeBase64url(signature)}`
}

/** Throws `ERR_ARGUMENT` unless the value has a kid and a `sign`. */
export function requireSigner(value: unknown): asserts value is AssertionSigner {
  if (typeof value !== 'object' || value === null || typeof Reflect.get(value, 'sign') !== 'function') {
    throw new ArgumentError('signer must be { kid, sign }: softwareSigner, or one of your own')
  }
  requireKid(Reflect.get(value, 'kid'))
}

/** Throws `ERR_ARGUMENT` unless the value is a lifetime that D1 accepts. */
export function requireLifetime(seconds: number): void {
  if (!Number.isInteger(seconds) || seconds < 1 || seconds > MAX_LIFETIME_SECONDS) {
    throw new ArgumentError(`lifetimeSeconds must be 1 to ${MAX_LIFETIME_SECONDS}`)
  }
}

function readRequest(request: AssertionRequest) {
  const names = ['signer', 'issuer', 'audience', 'lifetimeSeconds', 'now'] as const
  const given = readOptions(request, 'makeAssertion', names)
  const { signer, issuer, audience, lifetimeSeconds = DEFAULT_LIFETIME_SECONDS, now = Date.now() } = given
  requireSigner(signer)
  requireText('issuer', issuer)
  if (audience !== undefined) requireText('audience', audience)
  requireLifetime(lifetimeSeconds)
  if (!Number.isFinite(now)) throw new ArgumentError('now must be milliseconds since 1970')
  return { signer, kid: signer.kid, issuer, audience, lifetimeSeconds, now }
}

function segment(object: object): string {
  return encodeBase64url(Buffer.from(JSON.stringify(object)))
}
