import { createHash } from 'node:crypto'
import type { JWTPayload } from 'jose'

/** D1 has one token at a time, its replicas a few. */
const MAX_TOKENS = 64

/**
 * The claims of tokens that have been verified, so that a token which comes with every request costs one verification.
 * Kept under the SHA-256 of the token until it expires, and `longest` milliseconds at most: for so long a key that is
 * withdrawn still counts.
 */
export class TokenMemory {
  readonly #known = new Map<string, { readonly claims: JWTPayload; readonly until: number }>()
  readonly #longest: number

  constructor(longest: number) {
    this.#longest = longest
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
    const until = Math.min(1000 * Number(claims.exp), now + this.#longest)
    this.#known.set(nameOf(token), { claims, until })
    for (const oldest of this.#known.keys()) {
      if (this.#known.size <= MAX_TOKENS) return
      this.#known.delete(oldest)
    }
  }
}

function nameOf(token: string): string {
  return createHash('sha256').update(token).digest('base64')
}
