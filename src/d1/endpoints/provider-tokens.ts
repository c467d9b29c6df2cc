/** Bearer tokens of the issuer's identity provider, judged by its key set. */

import {
  createLocalJWKSet,
  errors,
  type FetchImplementation,
  type FlattenedJWSInput,
  type JSONWebKeySet,
  type JWSHeaderParameters,
  type JWTPayload,
  type JWTVerifyOptions,
  jwtVerify,
} from 'jose'
import { readOptions } from '../../base/arguments.js'
import { systemClock } from '../../base/deadline.js'
import { DEFAULTS } from '../../base/defaults.js'
import { ArgumentError, BackendError } from '../../base/errors.js'
import { isJsonObject, parseJsonObject } from '../../base/json.js'
import type { TokenFacts, TokenVerifier } from './interfaces.js'
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
  /**
   * `typ` of the header: `at+jwt` (RFC 9068) where absent. `any-type`: not looked at; then a token that the provider gives
   * for something else, an ID token say, may pass for an access token.
   */
  readonly type?: string
  /** Seconds since its `iat` after which a token is refused, whatever its `exp`: 3600 where absent, 86,400 at most. */
  readonly maxAgeSeconds?: number
  /**
   * Whether these claims are D1's. Required, because a provider gives tokens for one audience to many clients: look at
   * `client_id`, `azp` or `scope`. Asked for every request, with what else is known of it.
   */
  readonly allow: (claims: JWTPayload, facts: TokenFacts) => boolean
  /** Milliseconds after which fetching the key set has failed; 5000 where absent. */
  readonly fetchTimeoutMs?: number
  /** Milliseconds for which a set is used on after it should have been fetched anew: 3,600,000 where absent. */
  readonly staleMs?: number
  /** Fetches the key set, where the platform's own fetch does not get there (a proxy, a CA of one's own). */
  readonly fetch?: FetchImplementation
  /** Milliseconds since 1970; `Date.now` where absent. */
  readonly now?: () => number
}

const NAMES = [
  'jwks',
  'algorithms',
  'issuer',
  'audience',
  'type',
  'maxAgeSeconds',
  'allow',
  'fetchTimeoutMs',
  'staleMs',
  'fetch',
  'now',
] as const
const CLOCK_TOLERANCE = DEFAULTS.tokens.clockToleranceSeconds.value
/** The set itself is kept ten times as long. */
const REMEMBERED_MS = DEFAULTS.tokens.verdictMs.value
const FRESH_MS = DEFAULTS.tokens.keysFreshMs.value
/** An unknown kid has the set fetched again, twice a minute at most. */
const COOLDOWN_MS = DEFAULTS.tokens.keysCooldownMs.value
const FIRST_BACK_OFF_MS = DEFAULTS.tokens.keysFirstBackoffMs.value
const LONGEST_BACK_OFF_MS = DEFAULTS.tokens.keysLongestBackoffMs.value
const MAX_SET_CHARACTERS = 262_144

/**
 * Verifies bearer tokens of the issuer's own identity provider by its key set. The set is fetched when it is first
 * needed and kept for ten minutes; an unknown kid has it fetched again, twice a minute at most. While the provider is
 * away the set that is here is used on, for an hour, and asked for again by one request at a time, ever less often. A
 * token without a kid is tried with every key of its algorithm. A token that was verified is not verified again for a
 * minute. No set at all is a failure (500), not a verdict (401).
 *
 * Errors: `ERR_ARGUMENT`. Source: RFC 7517, 5; RFC 8725; RFC 9068.
 *
 * @example
 * ```ts
 * const tokens = providerTokens({
 *   jwks: new URL('https://idp.bank.example/jwks'), algorithms: ['ES256'],
 *   issuer: 'https://idp.bank.example', audience: 'pin-api', allow: claims => claims['client_id'] === 'd1',
 * })
 * ```
 */
export function providerTokens(given: ProviderTokensOptions): TokenVerifier {
  const options = readProvider(given)
  const {
    algorithms,
    issuer,
    audience,
    type = 'at+jwt',
    maxAgeSeconds = DEFAULTS.tokens.maxAgeSeconds.value,
    allow,
    now = systemClock.now,
  } = options
  const keys = options.jwks instanceof URL ? new RemoteKeys(options, options.jwks, now) : undefined
  const local = options.jwks instanceof URL ? undefined : createLocalJWKSet(options.jwks)
  const memory = new TokenMemory(REMEMBERED_MS)

  async function claimsOf(token: string, at: number): Promise<JWTPayload> {
    const rules: JWTVerifyOptions = {
      algorithms: [...algorithms],
      issuer,
      audience,
      requiredClaims: ['exp', 'iat'],
      maxTokenAge: maxAgeSeconds,
      clockTolerance: CLOCK_TOLERANCE,
      currentDate: new Date(at),
      ...(type !== 'any-type' && { typ: type }),
    }
    if (local !== undefined) return verifyWith(token, local, rules)
    const remote = keys as RemoteKeys
    try {
      return await verifyWith(token, await remote.current(), rules)
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error
      const newer = await remote.newer()
      if (newer === undefined) throw error
      return verifyWith(token, newer, rules)
    }
  }

  return {
    verify: (token, facts) => {
      const at = now()
      const verify = (): Promise<JWTPayload> => claimsOf(token, at)
      return judgeToken(token, { memory, now: at, verify, allow: claims => allow(claims, facts) })
    },
  }
}

type KeySet = ReturnType<typeof createLocalJWKSet>

/** Verifies with the key that the header names; where it names none, with each that may be meant. */
async function verifyWith(token: string, set: KeySet, rules: JWTVerifyOptions): Promise<JWTPayload> {
  const get = (header?: JWSHeaderParameters, input?: FlattenedJWSInput) => set(header, input)
  try {
    return (await jwtVerify(token, get, rules)).payload
  } catch (error) {
    if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error
    for await (const key of error) {
      try {
        return (await jwtVerify(token, key, rules)).payload
      } catch (other) {
        if (!(other instanceof errors.JWSSignatureVerificationFailed)) throw other
      }
    }
    throw new errors.JWSSignatureVerificationFailed()
  }
}

/** A key set that is fetched: one request at a time, and less often the longer it fails. */
class RemoteKeys {
  readonly #options: ProviderTokensOptions
  readonly #url: URL
  readonly #now: () => number
  #set: KeySet | undefined
  #fetchedAt = 0
  #failures = 0
  #notBefore = 0
  #running: Promise<KeySet> | undefined

  constructor(options: ProviderTokensOptions, url: URL, now: () => number) {
    this.#options = options
    this.#url = url
    this.#now = now
  }

  /** The set to use now. One that is too old is used while a newer one is fetched; one that is far too old is not. */
  async current(): Promise<KeySet> {
    const set = this.#set
    const age = this.#age()
    if (set !== undefined && age < FRESH_MS) return set
    if (set === undefined || age >= FRESH_MS + (this.#options.staleMs ?? DEFAULTS.tokens.keysStaleMs.value))
      return this.#fetch()
    this.#fetch().catch(() => {})
    return set
  }

  /** A set that is newer than the one that has no such key; undefined where it is too soon to ask, or nobody answers. */
  async newer(): Promise<KeySet | undefined> {
    if (this.#running === undefined && this.#age() < COOLDOWN_MS) return undefined
    return this.#fetch().catch(() => undefined)
  }

  /** A set that was fetched later than now is as old as can be: the clock went back, and nobody knows how far. */
  #age(): number {
    const age = this.#now() - this.#fetchedAt
    return age < 0 ? Number.POSITIVE_INFINITY : age
  }

  #fetch(): Promise<KeySet> {
    if (this.#running !== undefined) return this.#running
    const wait = this.#notBefore - this.#now()
    if (wait > 0 && wait <= LONGEST_BACK_OFF_MS) {
      return Promise.reject(
        new BackendError('ERR_BACKEND_BUSY', 'the key set is out of reach', { retryable: true }),
      )
    }
    this.#running = this.#load().finally(() => {
      this.#running = undefined
    })
    return this.#running
  }

  async #load(): Promise<KeySet> {
    try {
      const set = createLocalJWKSet(await this.#ask())
      this.#set = set
      this.#fetchedAt = this.#now()
      this.#failures = 0
      return set
    } catch (error) {
      const wait = Math.min(LONGEST_BACK_OFF_MS, FIRST_BACK_OFF_MS * 2 ** this.#failures)
      this.#failures++
      this.#notBefore = this.#now() + wait
      throw error
    }
  }

  async #ask(): Promise<JSONWebKeySet> {
    const { fetch = globalThis.fetch, fetchTimeoutMs = DEFAULTS.tokens.keysFetchTimeoutMs.value } =
      this.#options
    const response = await fetch(this.#url.href, {
      headers: new Headers({ accept: 'application/json' }),
      method: 'GET',
      // A redirect would be somewhere that nobody configured.
      redirect: 'manual',
      signal: AbortSignal.timeout(fetchTimeoutMs),
    })
    if (response.status !== 200) throw unfit()
    const text = await response.text()
    const set = text.length > MAX_SET_CHARACTERS ? undefined : parseJsonObject(text)
    if (set === undefined || !isKeySet(set)) throw unfit()
    return set
  }
}

function unfit(): BackendError {
  return new BackendError('ERR_BACKEND_FAILED', 'the provider did not answer with a key set')
}

function isKeySet(set: Record<string, unknown>): set is Record<string, unknown> & JSONWebKeySet {
  const keys: unknown = Object.hasOwn(set, 'keys') ? set['keys'] : undefined
  return Array.isArray(keys) && keys.every(isJsonObject)
}

function readProvider(given: ProviderTokensOptions): ProviderTokensOptions {
  const options = readOptions(given, 'providerTokens', NAMES)
  const {
    issuer,
    audience,
    type,
    maxAgeSeconds = DEFAULTS.tokens.maxAgeSeconds.value,
    staleMs = DEFAULTS.tokens.keysStaleMs.value,
    allow,
    now,
    fetch,
  } = options
  // Both can be changed by whoever gave them.
  const jwks = options.jwks instanceof URL ? new URL(options.jwks) : options.jwks
  const algorithms = Array.isArray(options.algorithms) ? [...options.algorithms] : []
  if (jwks instanceof URL ? jwks.protocol !== 'https:' : !Array.isArray(jwks?.keys)) {
    throw new ArgumentError('providerTokens: jwks must be an https URL or a key set')
  }
  if (algorithms.length === 0 || algorithms.some(name => !ALGORITHMS.includes(name))) {
    throw new ArgumentError(`providerTokens: algorithms must be some of ${ALGORITHMS.join(', ')}`)
  }
  for (const text of [issuer, audience, type ?? 'at+jwt']) {
    if (typeof text !== 'string' || text === '') {
      throw new ArgumentError('providerTokens: issuer and audience must be given, and type must be a text')
    }
  }
  if (!Number.isInteger(maxAgeSeconds) || maxAgeSeconds < 1 || maxAgeSeconds > 86_400) {
    throw new ArgumentError('providerTokens: maxAgeSeconds must be a whole number from 1 to 86400')
  }
  if (!Number.isSafeInteger(staleMs) || staleMs < 0) {
    throw new ArgumentError('providerTokens: staleMs must be a whole number from 0')
  }
  if (typeof allow !== 'function') throw new ArgumentError('providerTokens: allow must be a function')
  for (const value of [now, fetch]) {
    if (value !== undefined && typeof value !== 'function') {
      throw new ArgumentError('providerTokens: now and fetch must be functions')
    }
  }
  return { ...options, jwks, algorithms }
}
