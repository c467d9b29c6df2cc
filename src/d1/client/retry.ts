/**
 * When a request is sent again: where that is safe, where it can help, and not at once.
 *
 * | the request | is repeated after |
 * |---|---|
 * | may be repeated (PUT, and the token request, which changes nothing) | every failure that is `retryable` |
 * | may not (POST: create, renew, replace, delete) | a `retryable` failure before the request was sent (`not-sent`) |
 *
 * A 401 is another matter: see `cards.ts`.
 */

import type { Deadline } from '../../base/deadline.js'
import { D1ClientError } from '../../base/errors.js'

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
export interface Repetition {
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
