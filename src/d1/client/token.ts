/**
 * D1's access token: fetched when one is needed, kept until shortly before it expires, shared by all calls.
 *
 *     get ── fresh? ── yes ──▶ the token
 *            └ no ──▶ the flight under way, or a new one ──▶ assertion ─▶ POST /oauth2/token ─▶ the token
 *
 * One flight at a time. A caller who aborts leaves the flight to the others; it is bounded by a deadline of its own. A
 * flight that failed is not remembered as an answer: the next caller starts another, after a pause that grows with the
 * failures, so that a wrong key does not become a flood.
 */

import { randomUUID } from 'node:crypto'
import { Deadline } from '../../base/deadline.js'
import { DEFAULTS } from '../../base/defaults.js'
import { member } from '../../base/json.js'
import { TOKEN_PATH } from '../contract.js'
import { type JsonAnswer, noAnswer, type RequestFacts } from './answer.js'
import { type AssertionSigner, makeAssertion } from './assertion.js'
import { backoffMs, withRetries } from './exchange.js'
import { type D1Request, sendOnce, type Transport, timedOut } from './transport.js'

/** Most of a token's remaining life that is given away, so that it does not expire on its way. */
const MARGIN_SECONDS = DEFAULTS.client.tokenMarginSeconds.value
const GRANT_TYPE = 'urn:ietf:params:oauth:grant-type:jwt-bearer'

/** What a {@link TokenSource} is made of. */
interface TokenSourceOptions {
  readonly transport: Transport
  /** Without a slash at the end; `/oauth2/token` is appended. */
  readonly authBase: string
  readonly signer: AssertionSigner
  /** `iss` and `sub` of the assertion. */
  readonly issuer: string
  readonly audience: string | undefined
  readonly lifetimeSeconds: number | undefined
}

interface CachedToken {
  readonly value: string
  /** On the clock that does not jump. */
  readonly freshUntil: number
}

/** See the head of this file. The token is in private fields only. */
export class TokenSource {
  readonly #options: TokenSourceOptions
  #cached: CachedToken | undefined
  #flight: Promise<string> | undefined
  #failures = 0
  #notBefore = 0

  constructor(options: TokenSourceOptions) {
    this.#options = options
  }

  /** By which D1 knows who asks. */
  get signerKid(): string {
    return this.#options.signer.kid
  }

  /** The token that is there and still good; undefined: the next {@link TokenSource.get} waits for one. */
  get kept(): string | undefined {
    const { clock } = this.#options.transport
    return this.#cached !== undefined && clock.elapsed() < this.#cached.freshUntil
      ? this.#cached.value
      : undefined
  }

  /**
   * A token that is good for some time yet. The caller bounds its own wait.
   *
   * Errors: `ERR_D1_REQUEST`, `ERR_D1_RESPONSE`, `ERR_D1_UNREACHABLE`, each with `operation` `token`; what the signer
   * raises. Source: RFC 6749, 5; RFC 7523, 2.1; D1 OAuth API 1.0.
   */
  get(): Promise<string> {
    const { kept } = this
    if (kept !== undefined) return Promise.resolve(kept)
    if (this.#flight !== undefined) return this.#flight
    const flight = this.#fly()
    this.#flight = flight
    const landed = (): void => {
      this.#flight = undefined
    }
    flight.then(landed, landed)
    return flight
  }

  /** D1 has refused this token: the next {@link TokenSource.get} fetches another, unless somebody has already. */
  refuse(token: string): void {
    if (this.#cached?.value === token) this.#cached = undefined
  }

  async #fly(): Promise<string> {
    const { transport } = this.#options
    const { clock, totalMs, retry, random } = transport
    const correlationId = randomUUID()
    const facts = { operation: 'token', attempt: 1, correlationId }
    using deadline = new Deadline({ clock, ms: totalMs, expired: () => timedOut(facts, totalMs, 'unknown') })
    try {
      await deadline.pause(Math.max(0, this.#notBefore - clock.elapsed()))
      const repetition = { operation: 'token', repeatable: true, policy: retry, random, deadline }
      const token = await withRetries(repetition, attempt => this.#fetch({ ...facts, attempt }, deadline))
      this.#failures = 0
      this.#cached = token
      return token.value
    } catch (error) {
      this.#failures++
      this.#notBefore = clock.elapsed() + backoffMs(this.#failures, retry, random)
      throw error
    }
  }

  /** One attempt, with an assertion of its own: a `jti` counts once. */
  async #fetch(
    facts: { operation: string; attempt: number; correlationId: string },
    deadline: Deadline,
  ): Promise<CachedToken> {
    const { transport, authBase, signer, issuer, audience, lifetimeSeconds } = this.#options
    const { clock } = transport
    const assertion = await deadline.race(
      makeAssertion(
        {
          signer,
          issuer,
          now: clock.now(),
          ...(audience !== undefined && { audience }),
          ...(lifetimeSeconds !== undefined && { lifetimeSeconds }),
        },
        { signal: deadline.signal },
      ),
    )
    const request: D1Request = {
      method: 'POST',
      url: authBase + TOKEN_PATH,
      headers: {
        'content-type': 'application/x-www-form-urlencoded',
        accept: 'application/json',
        'x-correlation-id': facts.correlationId,
      },
      body: new URLSearchParams({ grant_type: GRANT_TYPE, assertion }).toString(),
    }
    // The life of a token is counted from before it was asked for, so never too long.
    const asked = clock.elapsed()
    const token = readToken(await sendOnce(transport, request, facts, deadline), facts)
    return { value: token.value, freshUntil: asked + freshMs(token) }
  }
}

/** A token of short life keeps half of it. */
function freshMs({ expiresInSeconds }: AccessToken): number {
  return (expiresInSeconds - Math.min(MARGIN_SECONDS, expiresInSeconds / 2)) * 1000
}

/** A token, and how long it lives. */
interface AccessToken {
  readonly value: string
  readonly expiresInSeconds: number
}

/** `b64token` (RFC 6750, 2.1): nothing that could end a header line. */
const TOKEN = /^[A-Za-z0-9._~+/-]+=*$/
const MAX_TOKEN_CHARACTERS = 8192
/** D1's tokens live 15 minutes. More than a day is no lifetime but a mistake. */
const MAX_LIFETIME_SECONDS = 86_400
const WHOLE_NUMBER = /^\d{1,5}$/

/**
 * Reads the token endpoint's answer, strictly, as it goes into a header of every request that follows: `access_token`, `token_type` (Bearer, in any case) and `expires_in` (a number, or the same as a string, as D1's
 * own outbound API has it; 1 to 86,400 seconds). Other members are ignored.
 *
 * Errors: `ERR_D1_RESPONSE`, which names the member and does not show it. Source: RFC 6749, 5.1; D1 OAuth API 1.0.
 */
function readToken({ status, body }: JsonAnswer, facts: RequestFacts): AccessToken {
  const wrong = (name: string) =>
    noAnswer(`${name} of the token answer is missing or malformed`, facts, status)
  const read = (name: string): unknown => (body === undefined ? undefined : member(body, name))
  const value = read('access_token')
  if (typeof value !== 'string' || value.length > MAX_TOKEN_CHARACTERS || !TOKEN.test(value)) {
    throw wrong('access_token')
  }
  const type = read('token_type')
  if (typeof type !== 'string' || type.toLowerCase() !== 'bearer') throw wrong('token_type')
  const given = read('expires_in')
  const seconds = typeof given === 'string' && WHOLE_NUMBER.test(given) ? Number(given) : given
  if (typeof seconds !== 'number' || !(seconds >= 1 && seconds <= MAX_LIFETIME_SECONDS))
    throw wrong('expires_in')
  return { value, expiresInSeconds: seconds }
}
