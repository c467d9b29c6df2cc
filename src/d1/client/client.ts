import { cardOperations, type D1Cards } from './cards.js'
import { type D1ClientOptions, readClientOptions } from './options.js'
import { TokenSource } from './token.js'

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
 * `ERR_D1_MESSAGE`, and what the signer raises. Errors of this function: `ERR_ARGUMENT`, `ERR_JWE_RECIPIENT`.
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
 * await d1.cards.register('card-0001', { pan, exp: '1229', consumerId: 'consumer-1', cardProductId: 'debit' })
 * ```
 */
export function d1Client(options: D1ClientOptions): D1Client {
  const { urls, issuerId, recipient, transport, audit, ...identity } = readClientOptions(options)
  const tokens = new TokenSource({ transport, authBase: urls.auth, ...identity })
  const cardsUrl = `${urls.api}/v2/issuers/${issuerId}/cards`
  return Object.freeze({ cards: cardOperations({ transport, tokens, cardsUrl, issuerId, audit }, recipient) })
}
