/**
 * One exchange with D1 as a fetch sees it, and what may be sent again: by operation, status and Retry-After.
 */
import { readOwn } from '../../base/arguments.js'
import { concatBytes } from '../../base/bytes.js'
import type { Deadline } from '../../base/deadline.js'
import { D1ClientError, type D1Delivery } from '../../base/errors.js'

/*
 * One HTTP exchange: a request, a status, a body of bounded size; and what a failure of the network means: whether the
 * request may have reached D1, and whether trying again can help. Redirects are not followed: D1 has none, and a token or a
 * card must not go where a redirect points.
 */

/** Longest response body that is read: D1's longest member has 8192 characters. */
export const MAX_RESPONSE_BYTES = 65_536

/** What a {@link D1Fetch} is given besides the URL. */
export interface FetchInit {
  readonly method: string
  readonly headers: Record<string, string>
  readonly body?: string
  /** A redirect comes back as it is, and is then refused: with `error`, an operator could not tell it from an outage. */
  readonly redirect: 'manual'
  readonly signal: AbortSignal
}

/** What is read of a response; the platform's `Response` is one. */
export interface FetchResponse {
  readonly status: number
  readonly headers: {
    /** The value of a header, by its name in any case. */
    get(name: string): string | null
  }
  readonly body: AsyncIterable<Uint8Array> | null
}

/**
 * How requests are sent: the part of `fetch` that is used here. The platform's own fits, undici's with an Agent that
 * holds the client certificate, and `mtlsFetch`. It must obey `signal`; a call ends in time even where it does not.
 *
 * @example
 * ```ts
 * import { Agent, fetch } from 'undici'
 * const dispatcher = new Agent({ connect: { cert, key: privateKeyPem, ca } })
 * const client = d1Client({ fetch: (url, init) => fetch(url, { ...init, dispatcher }), … })
 * ```
 */
export type D1Fetch = (url: string, init: FetchInit) => Promise<FetchResponse>

/** What came back. */
export interface Answer {
  readonly status: number
  readonly retryAfter: string | null
  /** Undefined where it was longer than {@link MAX_RESPONSE_BYTES}; the rest was not read then. */
  readonly body: Uint8Array | undefined
}

/**
 * Sends one request and reads the answer, until the deadline. Rejects with what `fetch` or the stream raises; `onStatus`
 * hears before that how far it came.
 */
export async function exchange(
  fetch: D1Fetch,
  url: string,
  init: Omit<FetchInit, 'redirect' | 'signal'>,
  deadline: Deadline,
  onStatus: (status: number) => void,
): Promise<Answer> {
  const { signal } = deadline
  const send = async (): Promise<FetchResponse> => fetch(url, { ...init, redirect: 'manual', signal })
  const response = await deadline.race(send())
  onStatus(response.status)
  const retryAfter = response.headers.get('retry-after')
  return { status: response.status, retryAfter, body: await readBody(response.body, deadline) }
}

async function readBody(
  body: AsyncIterable<Uint8Array> | null,
  deadline: Deadline,
): Promise<Uint8Array | undefined> {
  const stream = (body ?? nothing())[Symbol.asyncIterator]()
  const chunks: Uint8Array[] = []
  let length = 0
  try {
    for (;;) {
      const { done, value } = await deadline.race(stream.next())
      if (done === true) return concatBytes(...chunks)
      length += value.length
      if (length > MAX_RESPONSE_BYTES) return undefined
      // A stream of empty pieces would fill the memory without a byte.
      if (value.length > 0) chunks.push(value)
    }
  } finally {
    // Closes the stream where it was not read to its end. Nobody waits for that, and it has nothing to say.
    void stream.return?.().catch(() => {})
  }
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

/** What is told about a failure. */
interface NetworkFailure {
  /** A code of the system, of OpenSSL or of undici, or the name of an error class. Never a message. */
  readonly reason: string
  readonly delivery: D1Delivery
  readonly retryable: boolean
}

/** By the code; the first row that fits counts. A request is sent when the TLS handshake is over, not before. */
const ROWS: readonly (Omit<NetworkFailure, 'reason'> & { readonly codes: RegExp })[] = [
  // Nobody there, no such name, no connection in time.
  {
    codes: /^(?:ECONNREFUSED|ENOTFOUND|EAI_AGAIN|UND_ERR_CONNECT_TIMEOUT)$/,
    delivery: 'not-sent',
    retryable: true,
  },
  // Closed by its owner: before there was a connection for the request, or after.
  { codes: /^FETCH_CLOSED_UNSENT$/, delivery: 'not-sent', retryable: false },
  { codes: /^FETCH_CLOSED$/, delivery: 'unknown', retryable: false },
  // The proxy on the way out made no tunnel.
  { codes: /^PROXY_STATUS_/, delivery: 'not-sent', retryable: true },
  // We refuse the server's certificate: in the handshake, and the next time too.
  {
    codes: /^(?:CERT_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|HOSTNAME_MISMATCH$|ERR_TLS_CERT_ALTNAME_)/,
    delivery: 'not-sent',
    retryable: false,
  },
  // TLS alerts. In TLS 1.3 a refused client certificate shows after the request was sent (RFC 8446, 4.4.2.4).
  { codes: /^(?:ERR_SSL_|EPROTO$)/, delivery: 'unknown', retryable: false },
]
const OTHERWISE = { delivery: 'unknown', retryable: true } as const

/** System calls that come before the request. */
const BEFORE: readonly unknown[] = ['connect', 'getaddrinfo']

const CODE = /^[A-Za-z][A-Za-z0-9_]{1,63}$/
/** No code has that many digits in a row; a PAN has. */
const LONG_NUMBER = /\d{6}/
const MAX_DEPTH = 5

/** True for an identifier of somebody else's that a message may show: short, plain, and no number. */
export function isPlainCode(value: unknown): value is string {
  return typeof value === 'string' && CODE.test(value) && !LONG_NUMBER.test(value)
}

/**
 * Classifies what `fetch` raised. The error itself goes no further: its message, or what hangs on it, may hold more
 * than an operator's log should.
 */
export function networkFailure(error: unknown): NetworkFailure {
  const failures = leaves(error, MAX_DEPTH).map(classify)
  // Several addresses were tried: as bad as the worst of them.
  const worst = failures.find(failure => failure.delivery === 'unknown') ?? failures[0]
  return worst ?? { reason: 'Unknown', ...OTHERWISE }
}

function classify(error: object): NetworkFailure {
  const code: unknown = Reflect.get(error, 'code')
  const name: unknown = Reflect.get(error, 'name')
  const reason = [code, name].find(isPlainCode) ?? 'Unknown'
  const { delivery, retryable } = ROWS.find(row => row.codes.test(reason)) ?? OTHERWISE
  return BEFORE.includes(Reflect.get(error, 'syscall'))
    ? { reason, delivery: 'not-sent', retryable: true }
    : { reason, delivery, retryable }
}

/** The errors at the bottom: fetch wraps them as `cause`, a connection by several addresses as `errors`. */
function leaves(error: unknown, depth: number): readonly object[] {
  if (typeof error !== 'object' || error === null) return []
  if (depth === 0) return [error]
  const { cause, errors } = readOwn<{ cause?: unknown; errors?: unknown }>(error, 'an error', [
    'cause',
    'errors',
  ])
  const below = [cause, ...(Array.isArray(errors) ? errors : [])].flatMap(inner => leaves(inner, depth - 1))
  return below.length > 0 ? below : [error]
}

/*
 * When a request is sent again: where that is safe, where it can help, and not at once.
 *
 * | the request | is repeated after |
 * |---|---|
 * | may be repeated (PUT, and the token request, which changes nothing) | every failure that is `retryable` |
 * | may not (POST: create, renew, replace, delete) | a `retryable` failure before the request was sent (`not-sent`) |
 *
 * A 401 is another matter: see `cards.ts`.
 */

/** How often, how soon. */
export interface RetryPolicy {
  /** Attempts in all, the first included. */
  readonly attempts: number
  /** Longest pause before the second attempt; it doubles with every further one. */
  readonly baseMs: number
  readonly capMs: number
  /** A `Retry-After` beyond this ends the call: the caller, who gets `retryAfterSeconds`, knows better what to do. */
  readonly maxRetryAfterSeconds: number
}

/** What {@link withRetries} needs to know of the request. */
interface Repetition {
  readonly operation: string
  readonly repeatable: boolean
  readonly policy: RetryPolicy
  readonly random: () => number
  readonly deadline: Deadline
}

/**
 * Runs `attempt` until it succeeds, fails for good, or the policy or the deadline ends it; rejects with the last error.
 * Failures of another operation (the token's, which has repeated its own) are not repeated here.
 */
export async function withRetries<T>(
  repetition: Repetition,
  attempt: (number: number) => Promise<T>,
): Promise<T> {
  const { policy, deadline } = repetition
  for (let number = 1; ; number++) {
    try {
      return await attempt(number)
    } catch (error) {
      const pause = number < policy.attempts ? pauseAfter(error, number, repetition) : undefined
      // A pause beyond the deadline would only replace this error by a less telling one.
      if (pause === undefined || pause >= deadline.remaining()) throw error
      await deadline.pause(pause)
    }
  }
}

/** Half of the pause is fixed, so that a failing server has some; half is random, so that clients do not march in step. */
export function backoffMs(failures: number, policy: RetryPolicy, random: () => number): number {
  const ceiling = Math.min(policy.capMs, policy.baseMs * 2 ** (failures - 1))
  return ceiling / 2 + (random() * ceiling) / 2
}

/** The pause before the next attempt in milliseconds; undefined where there is to be none. */
function pauseAfter(error: unknown, number: number, repetition: Repetition): number | undefined {
  const { operation, repeatable, policy, random } = repetition
  if (!(error instanceof D1ClientError) || error.operation !== operation || !error.retryable) return undefined
  if (!repeatable && error.delivery !== 'not-sent') return undefined
  const asked = error.retryAfterSeconds ?? 0
  if (asked > policy.maxRetryAfterSeconds) return undefined
  return asked * 1000 + backoffMs(number, policy, random)
}
