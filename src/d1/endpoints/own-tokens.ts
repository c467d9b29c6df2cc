/** Bearer tokens that the issuer makes itself, for D1 to fetch and to show. */

import { randomUUID, webcrypto } from 'node:crypto'
import {
  type CryptoKey,
  errors,
  importJWK,
  type JWK,
  type JWTHeaderParameters,
  type JWTPayload,
  jwtVerify,
  SignJWT,
} from 'jose'
import { readOptions, readOwn } from '../../base/arguments.js'
import { systemClock } from '../../base/deadline.js'
import { DEFAULTS } from '../../base/defaults.js'
import { ArgumentError } from '../../base/errors.js'
import type { IssuedToken, TokenGrant, TokenIssuer, TokenVerdict, TokenVerifier } from './interfaces.js'
import { judgeToken, TokenMemory } from './token-verdict.js'

/** How own tokens are signed. HS256: by who also verifies. ES256: where others verify with the public half. */
export type OwnTokenAlgorithm = 'HS256' | 'ES256'

/** Options of {@link ownTokens}. */
export interface OwnTokensOptions {
  readonly algorithm: OwnTokenAlgorithm
  /**
   * Private JWKs, each with a `kid`: `{ kty: 'oct', kid, k }` of 32 bytes or more, or `{ kty: 'EC', crv: 'P-256', kid,
   * x, y, d }`. The first signs, all verify. To replace a key: add the new one last everywhere, put it first
   * everywhere, and after one lifetime take the old one away.
   */
  readonly keys: readonly JWK[]
  /** `iss`: who issues, say the URL of the token endpoint. */
  readonly issuer: string
  /** `aud`: what the tokens are for, say the URL of the PIN API. */
  readonly audience: string
  /** Whole seconds, 60 to 3600. D1's example is 900. */
  readonly lifetimeSeconds: number
  /** Milliseconds since 1970; `Date.now` where absent. */
  readonly now?: () => number
}

/** Issues and verifies. */
export interface OwnTokens extends TokenIssuer, TokenVerifier {}

/** RFC 9068: an access token does not pass for another kind of JWT, nor the other way round. */
const TYPE = 'at+jwt'
/** Seconds by which the clocks of replicas may differ. */
const CLOCK_TOLERANCE = DEFAULTS.tokens.clockToleranceSeconds.value
const MIN_SECRET_BYTES = 32
const THUMBPRINT = /^[A-Za-z0-9_-]{43}$/

interface OwnKey {
  readonly kid: string
  readonly signing: CryptoKey
  readonly verifying: CryptoKey
}

/**
 * Short-lived bearer tokens (JWT, RFC 9068) that the issuer's own token endpoint hands out and its PIN endpoints verify:
 * one pinned algorithm, a known `kid`, issuer, audience, type and lifetime, each of which is checked.
 *
 * Errors: `ERR_ARGUMENT` (options, or a key that is not for the algorithm).
 * Source: Get Authorization Token (D1 OAuth API 1.0); RFC 7519; RFC 8725 for what is pinned.
 *
 * @example
 * ```ts
 * const tokens = await ownTokens({
 *   algorithm: 'HS256', keys: [{ kty: 'oct', kid: '2026-1', k }],
 *   issuer: 'https://pin.bank.example/authz/d1/v1', audience: 'https://pin.bank.example', lifetimeSeconds: 900,
 * })
 * const callers = [{ name: 'd1', issuers: ['is_tbank01'], tokenSubjects: ['d1'] }]
 * issuerEndpoints({ authorization: { callers, tokens }, tokenEndpoint: { tokens, clients }, … })
 * ```
 */
export async function ownTokens(options: OwnTokensOptions): Promise<OwnTokens> {
  const own = readOwnTokens(options)
  const { algorithm, issuer, audience, lifetimeSeconds, now = systemClock.now } = own
  const keys = await Promise.all(own.keys.map(jwk => readKey(algorithm, jwk)))
  const byKid = new Map(keys.map(key => [key.kid, key.verifying]))
  const [first] = keys
  if (first === undefined || byKid.size !== keys.length) {
    throw new ArgumentError('ownTokens: keys must name at least one key, and each kid once')
  }

  async function issue(grant: TokenGrant): Promise<IssuedToken> {
    const { subject, scopes, confirmation } = readGrant(grant)
    const { kid, signing } = first as OwnKey
    const issuedAt = Math.floor(now() / 1000)
    const expires = issuedAt + lifetimeSeconds
    const scope = scopes.length === 0 ? {} : { scope: scopes.join(' ') }
    const cnf = confirmation === undefined ? {} : { cnf: { 'x5t#S256': confirmation } }
    const token = await new SignJWT({ client_id: subject, ...scope, ...cnf })
      .setProtectedHeader({ alg: algorithm, kid, typ: TYPE })
      .setIssuer(issuer)
      .setAudience(audience)
      .setSubject(subject)
      .setIssuedAt(issuedAt)
      .setExpirationTime(expires)
      .setJti(randomUUID())
      .sign(signing)
    return { token, expiresInSeconds: lifetimeSeconds, expiresAt: 1000 * expires }
  }

  function keyOf({ kid }: JWTHeaderParameters): CryptoKey {
    const key = byKid.get(kid ?? '')
    if (key === undefined) throw new errors.JWKSNoMatchingKey()
    return key
  }

  const memory = new TokenMemory(1000 * lifetimeSeconds)

  async function claimsOf(token: string, at: number): Promise<JWTPayload> {
    const { payload } = await jwtVerify(token, keyOf, {
      algorithms: [algorithm],
      typ: TYPE,
      issuer,
      audience,
      requiredClaims: ['sub', 'exp', 'iat'],
      maxTokenAge: lifetimeSeconds,
      clockTolerance: CLOCK_TOLERANCE,
      currentDate: new Date(at),
    })
    return payload
  }

  function verify(token: string): Promise<TokenVerdict> {
    const at = now()
    return judgeToken(token, { memory, now: at, verify: () => claimsOf(token, at), allow: () => true })
  }

  return { issue, verify }
}

const NAMES = ['algorithm', 'keys', 'issuer', 'audience', 'lifetimeSeconds', 'now'] as const

function readOwnTokens(options: OwnTokensOptions): OwnTokensOptions {
  const own = readOptions(options, 'ownTokens', NAMES)
  const { algorithm, keys, issuer, audience, lifetimeSeconds, now } = own
  if (algorithm !== 'HS256' && algorithm !== 'ES256') {
    throw new ArgumentError('ownTokens: algorithm must be HS256 or ES256')
  }
  if (!Array.isArray(keys)) throw new ArgumentError('ownTokens: keys must be an array of private JWKs')
  for (const text of [issuer, audience]) {
    if (typeof text !== 'string' || text === '') {
      throw new ArgumentError('ownTokens: issuer and audience must be given')
    }
  }
  if (!Number.isInteger(lifetimeSeconds) || lifetimeSeconds < 60 || lifetimeSeconds > 3600) {
    throw new ArgumentError('ownTokens: lifetimeSeconds must be a whole number from 60 to 3600')
  }
  if (now !== undefined && typeof now !== 'function') {
    throw new ArgumentError('ownTokens: now must be a function')
  }
  return own
}

/** Refused here: what would be said of a grant of another shape further down may quote it. */
function readGrant(
  grant: TokenGrant,
): Omit<TokenGrant, 'confirmation'> & { readonly confirmation: string | undefined } {
  const { subject, scopes, confirmation } = readOptions(grant, 'issue', ['subject', 'scopes', 'confirmation'])
  if (typeof subject !== 'string') throw new ArgumentError('issue: subject must be a string')
  if (!Array.isArray(scopes) || scopes.some(scope => typeof scope !== 'string')) {
    throw new ArgumentError('issue: scopes must be an array of strings')
  }
  if (confirmation === undefined) return { subject, scopes, confirmation }
  if (typeof confirmation !== 'string' || !THUMBPRINT.test(confirmation)) {
    throw new ArgumentError('issue: confirmation must be a SHA-256 in base64url')
  }
  return { subject, scopes, confirmation }
}

const JWK_MEMBERS = ['kid', 'kty', 'crv', 'x', 'y', 'd', 'k'] as const

/** A JWK as jose takes it. What is said of an unfit one may quote it, and goes no further. */
async function readKey(algorithm: OwnTokenAlgorithm, jwk: JWK): Promise<OwnKey> {
  const { kid, kty, crv, x, y, d, k } = readOwn<JWK>(jwk ?? {}, 'ownTokens', JWK_MEMBERS)
  if (typeof kid !== 'string' || kid === '') throw new ArgumentError('ownTokens: each key must have a kid')
  const unfit = new ArgumentError(`ownTokens: a key is not a private JWK for ${algorithm}`)
  try {
    if (algorithm === 'HS256') {
      const key = await importSecret({ kty, k } as JWK)
      return { kid, signing: key, verifying: key }
    }
    if (kty !== 'EC' || typeof d !== 'string') throw unfit
    const point = { kty, crv, x, y } as JWK
    const [signing, verifying] = [
      await importJWK({ ...point, d }, algorithm),
      await importJWK(point, algorithm),
    ]
    return { kid, signing: signing as CryptoKey, verifying: verifying as CryptoKey }
  } catch {
    throw unfit
  }
}

/** Imported once: jose would import the bytes anew for every token, which takes longer than to verify it. */
async function importSecret(jwk: JWK): Promise<CryptoKey> {
  const bytes = await importJWK(jwk, 'HS256')
  if (!(bytes instanceof Uint8Array) || bytes.length < MIN_SECRET_BYTES) throw new ArgumentError('too short')
  const hmac = { name: 'HMAC', hash: 'SHA-256' }
  return webcrypto.subtle.importKey('raw', bytes, hmac, false, ['sign', 'verify'])
}
