/** The verdict on a token: what jose finds wrong with it, as opposed to what is wrong with the world; and those that were found good. */

import { hash } from 'node:crypto'
import { errors, type JWTPayload } from 'jose'
import { isBase64url } from '../../base/bytes.js'
import { systemClock } from '../../base/deadline.js'
import { DEFAULTS } from '../../base/defaults.js'
import { ArgumentError } from '../../base/errors.js'
import type { TokenVerdict } from './interfaces.js'

/** Codes of jose that mean: this token is not good. Others (a key set out of reach) mean that nobody can tell. */
const BAD_TOKEN: ReadonlySet<string> = new Set([
  'ERR_JWT_CLAIM_VALIDATION_FAILED',
  'ERR_JWT_EXPIRED',
  'ERR_JWT_INVALID',
  'ERR_JWS_INVALID',
  'ERR_JWS_SIGNATURE_VERIFICATION_FAILED',
  'ERR_JWKS_NO_MATCHING_KEY',
  'ERR_JWKS_MULTIPLE_MATCHING_KEYS',
  'ERR_JOSE_ALG_NOT_ALLOWED',
  'ERR_JOSE_NOT_SUPPORTED',
])

const EXPIRED = 'ERR_JWT_EXPIRED'

/** How a token is judged. */
interface Trial {
  readonly memory: TokenMemory
  /** Milliseconds since 1970. */
  readonly now: number
  /** Signature and claims, by jose. Not run for a token that is remembered. */
  readonly verify: () => Promise<JWTPayload>
  /** Whether the claims are those of somebody who may; asked each time. */
  readonly allow: (claims: JWTPayload) => boolean
}

/** The verdict, with jose's code for a token that is not good. What is no verdict is thrown on. */
export async function judgeToken(
  token: string,
  { memory, now, verify, allow }: Trial,
): Promise<TokenVerdict> {
  // Node's own error about another type would quote the value.
  if (typeof token !== 'string') throw new ArgumentError('token must be a string')
  if (memory.isOver(token)) return { verified: false, reason: EXPIRED }
  try {
    let claims = memory.recall(token, now)
    if (claims === undefined) {
      if (!isCanonical(token)) return { verified: false, reason: 'ERR_JWS_INVALID' }
      claims = await verify()
      memory.keep(token, claims, now)
    }
    // jose leaves `sub` as it is, whatever it is; it is to be a string (RFC 7519, 4.1.2) before anybody logs it.
    const subject: unknown = claims.sub
    if (subject !== undefined && typeof subject !== 'string') {
      return { verified: false, reason: 'ERR_JWT_CLAIM_VALIDATION_FAILED' }
    }
    const confirmation = confirmationIn(claims)
    if (confirmation === null) return { verified: false, reason: 'cnf-not-supported' }
    if (allow(claims) !== true) return { verified: false, reason: 'not-allowed' }
    return {
      verified: true,
      ...(subject !== undefined && { subject }),
      ...(typeof claims.jti === 'string' && { tokenId: claims.jti }),
      ...(confirmation !== undefined && { confirmation }),
    }
  } catch (error) {
    if (!(error instanceof errors.JOSEError && BAD_TOKEN.has(error.code))) throw error
    if (error.code === EXPIRED) memory.bury(token)
    return { verified: false, reason: error.code }
  }
}

/** The certificate that the claims bind the token to; null where they bind it to what is not known here (RFC 7800, 3). */
function confirmationIn(claims: JWTPayload): string | undefined | null {
  const cnf = Object.hasOwn(claims, 'cnf') ? claims['cnf'] : undefined
  if (cnf === undefined) return undefined
  if (typeof cnf !== 'object' || cnf === null) return null
  const [[name, value] = [], ...others] = Object.entries(cnf)
  return name === 'x5t#S256' && typeof value === 'string' && others.length === 0 ? value : null
}

/** One token has one text: jose overlooks bits after the last byte of a signature (RFC 7515, 2 and appendix C). */
function isCanonical(token: string): boolean {
  return token.split('.').every(isBase64url)
}

/** D1 has one token at a time, its replicas a few. */
const MAX_TOKENS = 64
/** Tokens that were good once and are over: each cost a signature. */
const MAX_OVER = 1024
/** As long as a token may be used after its end, for clocks that differ. */
const GRACE_MS = DEFAULTS.tokens.overMs.value

/**
 * The claims of tokens that have been verified, so that a token which comes with every request costs one verification.
 * Kept under the SHA-256 of the token until it expires, and `longest` milliseconds at most: for so long a key that is
 * withdrawn still counts. What was seen to be over, or was good once and must be over by the clock that never jumps, stays
 * over: a clock that goes back revives no token.
 */
export class TokenMemory {
  readonly #known = new Map<string, Remembered>()
  readonly #over = new Set<string>()
  readonly #longest: number
  readonly #elapsed: () => number

  constructor(longest: number, elapsed: () => number = () => systemClock.elapsed()) {
    this.#longest = longest
    this.#elapsed = elapsed
  }

  /** Whether a token is over for good, whatever the time is said to be. */
  isOver(token: string): boolean {
    const name = nameOf(token)
    const known = this.#known.get(name)
    if (known !== undefined && this.#elapsed() > known.endsAt) this.bury(token)
    return this.#over.has(name)
  }

  /** Notes that a token is over. */
  bury(token: string): void {
    const name = nameOf(token)
    this.#known.delete(name)
    forgetOldest(this.#over.add(name), MAX_OVER)
  }

  /** How many are kept. */
  get size(): number {
    return this.#known.size
  }

  /** The claims of a token that was verified and is good at this time. */
  recall(token: string, now: number): JWTPayload | undefined {
    const found = this.#known.get(nameOf(token))
    return found !== undefined && now < found.until ? found.claims : undefined
  }

  /** Keeps a token that was verified; the oldest gives way to it where there are too many. */
  keep(token: string, claims: JWTPayload, now: number): void {
    const end = 1000 * Number(claims.exp)
    const until = Math.min(end, now + this.#longest)
    const endsAt = this.#elapsed() + (end - now) + GRACE_MS
    this.#known.set(nameOf(token), { claims, until, endsAt })
    forgetOldest(this.#known, MAX_TOKENS)
  }
}

interface Remembered {
  readonly claims: JWTPayload
  readonly until: number
  /** By the clock that never jumps. */
  readonly endsAt: number
}

function forgetOldest(names: Map<string, unknown> | Set<string>, most: number): void {
  for (const oldest of names.keys()) {
    if (names.size <= most) return
    names.delete(oldest)
  }
}

function nameOf(token: string): string {
  return hash('sha256', token, 'base64')
}
