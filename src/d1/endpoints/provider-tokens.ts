/** Bearer tokens of the issuer's identity provider, judged by its key set. */
import {
  createLocalJWKSet,
  createRemoteJWKSet,
  customFetch,
  type FetchImplementation,
  type JSONWebKeySet,
  type JWTPayload,
  jwtVerify,
} from 'jose'
import { requireOptions } from '../../base/arguments.js'
import { ArgumentError } from '../../base/errors.js'
import type { TokenVerifier } from './interfaces.js'
import { judgeToken, TokenMemory } from './token-verdict.js'

/** Signature algorithms of identity providers. No HMAC: a provider's public key must never serve as a shared secret. */
const ALGORITHMS = ['ES256', 'ES384', 'ES512', 'PS256', 'PS384', 'PS512', 'RS256', 'RS384', 'RS512', 'EdDSA']

/** Options of {@link providerTokens}. */
export interface ProviderTokensOptions {
  /** The provider's key set: its https URL, or the set itself. */
  readonly jwks: URL | JSONWebKeySet
  /** Those that the provider signs with; any of ES256, PS256, RS256, their longer forms, and EdDSA. */
  readonly algorithms: readonly string[]
  /** `iss`, as the provider writes it. */
  readonly issuer: string
  /** `aud`: what the provider calls this API. */
  readonly audience: string
  /** `typ` of the header, such as `at+jwt`; not looked at where absent. */
  readonly type?: string
  /**
   * Whether these claims are D1's. Required, because a provider gives tokens for one audience to many clients: look at
   * `client_id`, `azp` or `scope`. Asked for every request.
   */
  readonly allow: (claims: JWTPayload) => boolean
  /** Milliseconds after which fetching the key set has failed; 5000 where absent. */
  readonly fetchTimeoutMs?: number
  /** Fetches the key set, where the platform's own fetch does not get there (a proxy, a CA of one's own). */
  readonly fetch?: FetchImplementation
  /** Milliseconds since 1970; `Date.now` where absent. */
  readonly now?: () => number
}

const NAMES = ['jwks', 'algorithms', 'issuer', 'audience', 'type', 'allow', 'fetchTimeoutMs', 'fetch', 'now']
const CLOCK_TOLERANCE = 5
/** The set itself is kept ten times as long. */
const REMEMBERED_MS = 60_000

/**
 * Verifies bearer tokens of the issuer's own identity provider by its key set. The set is fetched when it is first
 * needed and kept for ten minutes; an unknown kid has it fetched again, twice a minute at most. A token that was verified
 * is not verified again for a minute. A set out of reach is a failure (500), not a verdict (401).
 *
 * Errors: `ERR_ARGUMENT`. Source: RFC 7517, 5; RFC 8725.
 *
 * @example
 * ```ts
 * const tokens = providerTokens({
 *   jwks: new URL('https://idp.bank.example/jwks'), algorithms: ['ES256'],
 *   issuer: 'https://idp.bank.example', audience: 'pin-api', allow: claims => claims['client_id'] === 'd1',
 * })
 * ```
 */
export function providerTokens(options: ProviderTokensOptions): TokenVerifier {
  requireProvider(options)
  const { algorithms, issuer, audience, type, allow, now = Date.now } = options
  const keys = keySet(options)
  const memory = new TokenMemory(REMEMBERED_MS)

  async function claimsOf(token: string, at: number): Promise<JWTPayload> {
    const { payload } = await jwtVerify(token, keys, {
      algorithms: [...algorithms],
      issuer,
      audience,
      requiredClaims: ['exp'],
      clockTolerance: CLOCK_TOLERANCE,
      currentDate: new Date(at),
      ...(type !== undefined && { typ: type }),
    })
    return payload
  }

  return {
    verify: token => {
      const at = now()
      return judgeToken(token, { memory, now: at, verify: () => claimsOf(token, at), allow })
    },
  }
}

function keySet({ jwks, fetchTimeoutMs = 5000, fetch }: ProviderTokensOptions) {
  if (!(jwks instanceof URL)) return createLocalJWKSet(jwks)
  return createRemoteJWKSet(jwks, {
    timeoutDuration: fetchTimeoutMs,
    ...(fetch !== undefined && { [customFetch]: fetch }),
  })
}

function requireProvider(options: ProviderTokensOptions): void {
  requireOptions(options, 'providerTokens', NAMES)
  const { jwks, algorithms, issuer, audience, allow } = options
  if (jwks instanceof URL ? jwks.protocol !== 'https:' : !Array.isArray(jwks?.keys)) {
    throw new ArgumentError('providerTokens: jwks must be an https URL or a key set')
  }
  if (
    !Array.isArray(algorithms) ||
    algorithms.length === 0 ||
    algorithms.some(name => !ALGORITHMS.includes(name))
  ) {
    throw new ArgumentError(`providerTokens: algorithms must be some of ${ALGORITHMS.join(', ')}`)
  }
  for (const text of [issuer, audience]) {
    if (typeof text !== 'string' || text === '') {
      throw new ArgumentError('providerTokens: issuer and audience must be given')
    }
  }
  if (typeof allow !== 'function') throw new ArgumentError('providerTokens: allow must be a function')
}
