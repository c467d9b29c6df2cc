/** The client to D1: its options, read once and checked, and what they are made into. */

import { randomInt } from 'node:crypto'
import { readOptions } from '../../base/arguments.js'
import { type Clock, systemClock } from '../../base/deadline.js'
import { DEFAULTS } from '../../base/defaults.js'
import { ArgumentError } from '../../base/errors.js'
import { type P256Recipient, type PublicJwkLike, readRecipient } from '../../jwe/recipient.js'
import { auditor } from '../audit.js'
import { type AssertionSigner, requireLifetime, requireSigner } from './assertion.js'
import type { ClientAuditHook } from './audit.js'
import { type AuditEmitter, cardOperations, type D1Cards, type RecipientSource } from './cards.js'
import { baseUrls, type D1BaseUrls, type D1Environment, requireText } from './environment.js'
import { type D1Fetch, isPlainCode } from './exchange.js'
import { TokenSource } from './token.js'
import type { Transport } from './transport.js'

/** The issuer's side of D1's inbound API. */
export interface D1Client {
  readonly cards: D1Cards
}

/**
 * A client to D1 for one issuer: it gets tokens with signed assertions, keeps them, and calls the card API.
 *
 * - **Token**: one at a time for all calls, fetched when needed, replaced a minute before it expires, and once a call
 *   when D1 refuses it with 401.
 * - **Repeating**: `register` (PUT) after a network failure, a timeout, 408, 429 and 5xx; the others (POST) only when the
 *   request was certainly not sent (connection refused, name not found). `Retry-After` is obeyed up to a bound.
 * - **Bounds**: a time for each attempt, a time for the call, 64 KiB for an answer. Redirects are refused.
 * - **mTLS**: D1 wants a client certificate. Give a `fetch` that has one: {@link mtlsFetch}, or undici's with an Agent.
 * - **Audit**: one event a call (`audit`), with `otelAttributes` for OpenTelemetry; no secret is in it.
 * - **Abort**: `{ signal }` ends waiting at once. A request on its way may be processed by D1 all the same.
 *
 * Errors of every operation: `ERR_D1_REQUEST` (refused: `status`, `errorCode`, `retryable`), `ERR_D1_RESPONSE` (an
 * answer outside the contract), `ERR_D1_UNREACHABLE` (`delivery` says whether D1 may have the request); all with
 * `operation` (`token` where the token could not be had), `correlationId` and `attempt`. `ERR_ABORTED`, `ERR_ARGUMENT`,
 * `ERR_D1_MESSAGE`, and what the signer, or a function in `d1PublicJwk`, raises. Errors of this function: `ERR_ARGUMENT`, `ERR_JWE_RECIPIENT`.
 *
 * What is `retryable` is a table by status (`answer.ts`). D1's documentation has a column per `errorCode`, of which
 * little is public (a 400 without code: no); give what you know of it as `retryableErrorCodes`.
 *
 * Tokens, assertions and JWEs are strings while they are in use: they cannot be wiped, and appear in no error.
 *
 * Source: Inbound Card API 2.0; D1 OAuth API 1.0; RFC 7523; RFC 6750.
 *
 * @example
 * ```ts
 * const d1 = d1Client({
 *   environment: 'staging',
 *   issuerId: 'is_mybank1',
 *   signer: softwareSigner({ kid: 'ISSUER-SIGN-2026', privateKey: createPrivateKey(signingPem) }),
 *   fetch: mtlsFetch({ cert, key: privateKeyPem }),
 *   d1PublicJwk,
 * })
 * await d1.cards.register({
 *   cardId: 'card-0001',
 *   card: { pan, exp: '1229', consumerId: 'consumer-1', cardProductId: 'debit' },
 * })
 * ```
 */
export function d1Client(options: D1ClientOptions): D1Client {
  const { urls, issuerId, recipient, transport, audit, ...identity } = readClientOptions(options)
  const tokens = new TokenSource({ transport, authBase: urls.auth, ...identity })
  const cardsUrl = `${urls.api}/v2/issuers/${issuerId}/cards`
  return Object.freeze({ cards: cardOperations({ transport, tokens, cardsUrl, issuerId, audit }, recipient) })
}

/**
 * Gives D1's public key of the moment, with its kid; asked for each registration, so that the key can be replaced without a
 * restart. What it takes from a file or a URL is for it to keep.
 */
export type D1KeySource = () => PublicJwkLike | P256Recipient | Promise<PublicJwkLike | P256Recipient>

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
  readonly d1PublicJwk?: PublicJwkLike | P256Recipient | D1KeySource
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
  attemptTimeoutMs: { min: 100, max: 300_000, absent: DEFAULTS.client.attemptTimeoutMs.value },
  totalTimeoutMs: { min: 100, max: 600_000, absent: DEFAULTS.client.totalTimeoutMs.value },
  maxAttempts: { min: 1, max: 10, absent: DEFAULTS.client.maxAttempts.value },
  maxRetryAfterSeconds: { min: 0, max: 600, absent: DEFAULTS.client.maxRetryAfterSeconds.value },
} as const

const BACKOFF = {
  baseMs: DEFAULTS.client.firstBackoffMs.value,
  capMs: DEFAULTS.client.longestBackoffMs.value,
}

/** The options as the client uses them. */
interface ReadClientOptions {
  readonly urls: D1BaseUrls
  readonly issuerId: string
  /** `iss` and `sub`. */
  readonly issuer: string
  readonly signer: AssertionSigner
  readonly audience: string | undefined
  readonly lifetimeSeconds: number | undefined
  readonly recipient: RecipientSource | undefined
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

/** A key that does not change is checked here; one that may is checked when it is another object than before. */
function recipientOf(source: D1ClientOptions['d1PublicJwk']): RecipientSource | undefined {
  if (source === undefined) return undefined
  if (typeof source !== 'function') {
    const recipient = recipientWithKid(source)
    return async () => recipient
  }
  let last: { readonly given: PublicJwkLike | P256Recipient; readonly recipient: P256Recipient } | undefined
  return async () => {
    const given = await source()
    if (last?.given !== given) last = { given, recipient: recipientWithKid(given) }
    return last.recipient
  }
}

function recipientWithKid(jwk: PublicJwkLike | P256Recipient): P256Recipient {
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
