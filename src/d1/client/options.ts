/** The options of the client, read once and checked. */
import { randomInt } from 'node:crypto'
import { readOptions } from '../../base/arguments.js'
import { ArgumentError } from '../../base/errors.js'
import { type P256Recipient, type PublicJwkLike, readRecipient } from '../../jwe/recipient.js'
import { auditor } from '../audit.js'
import { type AssertionSigner, requireLifetime, requireSigner } from './assertion.js'
import type { ClientAuditHook } from './audit.js'
import type { AuditEmitter } from './card-call.js'
import { type Clock, systemClock } from './clock.js'
import { baseUrls, type D1BaseUrls, type D1Environment } from './environment.js'
import type { D1Fetch } from './exchange.js'
import { requireText } from './identifiers.js'
import { isPlainCode } from './network.js'
import type { Transport } from './transport.js'

/** What `d1Client` takes. */
export interface D1ClientOptions {
  /** One of D1's, or base URLs of your own: https, and http to a loopback host with `allowInsecureLoopback`. */
  readonly environment: D1Environment | D1BaseUrls
  /** 10 characters, as given by D1. */
  readonly issuerId: string
  /** `iss` and `sub` of the assertion in place of the issuerId, for an aggregator. */
  readonly aggregatorId?: string
  /** Signs the assertions: `softwareSigner`, or a key in a token behind the same interface. */
  readonly signer: AssertionSigner
  /** `aud` of the assertion; left out where absent. */
  readonly audience?: string
  /** Lifetime of an assertion: 1 to 900 seconds, 300 where absent. */
  readonly assertionLifetimeSeconds?: number
  /** D1's public P-256 key with its kid; `register` needs it. */
  readonly d1PublicJwk?: PublicJwkLike | P256Recipient
  /** How requests are sent; the platform's `fetch` where absent, which has no client certificate. See `mtlsFetch`. */
  readonly fetch?: D1Fetch
  /** One attempt: 100 ms to 5 min, 15 s where absent. */
  readonly attemptTimeoutMs?: number
  /** A whole call, waiting for the token and pauses included: 100 ms to 10 min, 60 s where absent. */
  readonly totalTimeoutMs?: number
  /** Attempts in all where repeating is safe: 1 to 10, 3 where absent. */
  readonly maxAttempts?: number
  /** Longest `Retry-After` that is waited for: 0 to 600 s, 30 where absent. */
  readonly maxRetryAfterSeconds?: number
  /** What D1's documentation says in its column «retryable»; goes before the table by status. */
  readonly retryableErrorCodes?: Readonly<Record<string, boolean>>
  /** Allows http to a loopback host in `environment`, for tests: tokens and cards then travel in clear. */
  readonly allowInsecureLoopback?: boolean
  /** Takes one event for each call; registering many cards is a call for each. */
  readonly audit?: ClientAuditHook
  /** For tests. */
  readonly clock?: Clock
  /** 0 ≤ x < 1, for jitter; for tests. */
  readonly random?: () => number
}

const NAMES = [
  'environment',
  'issuerId',
  'aggregatorId',
  'signer',
  'audience',
  'assertionLifetimeSeconds',
  'd1PublicJwk',
  'fetch',
  'attemptTimeoutMs',
  'totalTimeoutMs',
  'maxAttempts',
  'maxRetryAfterSeconds',
  'retryableErrorCodes',
  'allowInsecureLoopback',
  'audit',
  'clock',
  'random',
] as const

const NUMBERS = {
  attemptTimeoutMs: { min: 100, max: 300_000, absent: 15_000 },
  totalTimeoutMs: { min: 100, max: 600_000, absent: 60_000 },
  maxAttempts: { min: 1, max: 10, absent: 3 },
  maxRetryAfterSeconds: { min: 0, max: 600, absent: 30 },
} as const

const BACKOFF = { baseMs: 200, capMs: 5000 }

/** The options as the client uses them. */
export interface ReadClientOptions {
  readonly urls: D1BaseUrls
  readonly issuerId: string
  /** `iss` and `sub`. */
  readonly issuer: string
  readonly signer: AssertionSigner
  readonly audience: string | undefined
  readonly lifetimeSeconds: number | undefined
  readonly recipient: P256Recipient | undefined
  readonly transport: Transport
  readonly audit: AuditEmitter | undefined
}

/** Reads and checks. Errors: `ERR_ARGUMENT`, `ERR_JWE_RECIPIENT`. */
export function readClientOptions(options: D1ClientOptions): ReadClientOptions {
  const given = readOptions(options, 'd1Client', NAMES)
  const { environment, issuerId, aggregatorId, signer, audience, assertionLifetimeSeconds } = given
  requireText('issuerId', issuerId)
  if (aggregatorId !== undefined) requireText('aggregatorId', aggregatorId)
  requireSigner(signer)
  if (audience !== undefined) requireText('audience', audience)
  if (assertionLifetimeSeconds !== undefined) requireLifetime(assertionLifetimeSeconds)
  const { allowInsecureLoopback, audit } = given
  if (allowInsecureLoopback !== undefined && typeof allowInsecureLoopback !== 'boolean') {
    throw new ArgumentError('allowInsecureLoopback must be a boolean')
  }
  if (audit !== undefined && typeof audit !== 'function') throw new ArgumentError('audit must be a function')
  return {
    urls: baseUrls(environment, { allowInsecureLoopback }),
    issuerId,
    issuer: aggregatorId ?? issuerId,
    signer,
    audience,
    lifetimeSeconds: assertionLifetimeSeconds,
    recipient: recipientOf(given.d1PublicJwk),
    transport: transportOf(given),
    audit: audit && auditor(audit, 'the D1 client'),
  }
}

function transportOf(given: D1ClientOptions): Transport {
  const { fetch = platformFetch, clock = systemClock, random = secureRandom } = given
  if (typeof fetch !== 'function') throw new ArgumentError('fetch must be a function')
  if (typeof random !== 'function') throw new ArgumentError('random must be a function')
  if (
    typeof clock?.now !== 'function' ||
    typeof clock.elapsed !== 'function' ||
    typeof clock.after !== 'function'
  ) {
    throw new ArgumentError('clock must be { now, elapsed, after }')
  }
  return {
    fetch,
    clock,
    random,
    attemptMs: numberOf(given, 'attemptTimeoutMs'),
    totalMs: numberOf(given, 'totalTimeoutMs'),
    retry: {
      attempts: numberOf(given, 'maxAttempts'),
      maxRetryAfterSeconds: numberOf(given, 'maxRetryAfterSeconds'),
      ...BACKOFF,
    },
    retryableErrorCodes: errorCodes(given.retryableErrorCodes),
  }
}

function numberOf(given: D1ClientOptions, name: keyof typeof NUMBERS): number {
  const { min, max, absent } = NUMBERS[name]
  const value = given[name] ?? absent
  if (Number.isInteger(value) && value >= min && value <= max) return value
  throw new ArgumentError(`${name} must be a whole number, ${min} to ${max}`)
}

function errorCodes(codes: unknown): ReadonlyMap<string, boolean> {
  if (codes === undefined) return new Map()
  const entries: [string, unknown][] =
    typeof codes === 'object' && codes !== null ? Object.entries(codes) : [['', '']]
  return new Map(
    entries.map(([code, retryable]) => {
      if (isPlainCode(code) && typeof retryable === 'boolean') return [code, retryable]
      throw new ArgumentError('retryableErrorCodes must map error codes to booleans')
    }),
  )
}

function recipientOf(jwk: PublicJwkLike | P256Recipient | undefined): P256Recipient | undefined {
  if (jwk === undefined) return undefined
  const recipient = readRecipient(jwk)
  if (recipient.kid === undefined) throw new ArgumentError('d1PublicJwk must have a kid')
  return recipient
}

/** Looked up at each call, so that what a program puts in its place is used. */
const platformFetch: D1Fetch = (url, init) => globalThis.fetch(url, init)

/** There is no secret in jitter; this is the one source of randomness here. */
function secureRandom(): number {
  return randomInt(2 ** 32) / 2 ** 32
}
