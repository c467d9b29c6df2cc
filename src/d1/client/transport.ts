/** One attempt of one request: exchange, time limit, and the errors of both in the library's words. */

import { type Clock, Deadline } from '../../base/deadline.js'
import { D1ClientError, type D1Delivery, isIssuerPinError } from '../../base/errors.js'
import { type JsonAnswer, type RequestFacts, readAnswer } from './answer.js'
import { type D1Fetch, exchange, networkFailure, type RetryPolicy } from './exchange.js'

/** How this client talks to D1, whatever it says. */
export interface Transport {
  readonly fetch: D1Fetch
  readonly clock: Clock
  /** 0 ≤ x < 1, for jitter only. */
  readonly random: () => number
  /** Longest time for one attempt: connection, TLS, answer. */
  readonly attemptMs: number
  /** Longest time for a call: token, attempts, pauses. */
  readonly totalMs: number
  readonly retry: RetryPolicy
  readonly retryableErrorCodes: ReadonlyMap<string, boolean>
}

/** One request, as it is sent. */
export interface D1Request {
  readonly method: 'POST' | 'PUT'
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | undefined
}

/**
 * Sends the request once. Errors: `ERR_D1_REQUEST`, `ERR_D1_RESPONSE`, `ERR_D1_UNREACHABLE`, or the reason of the
 * deadline it runs under.
 */
export async function sendOnce(
  transport: Transport,
  request: D1Request,
  facts: RequestFacts,
  outer: Deadline,
): Promise<JsonAnswer> {
  const { clock, attemptMs, retryableErrorCodes } = transport
  let status: number | undefined
  using deadline = new Deadline({
    clock,
    ms: attemptMs,
    expired: () => timedOut(facts, attemptMs, deliveryBy(status), status),
    outer: { signal: outer.signal, error: reason => reason },
  })
  try {
    const { method, url, headers, body } = request
    const init = { method, headers: { ...headers }, ...(body !== undefined && { body }) }
    const answer = await exchange(transport.fetch, url, init, deadline, arrived => {
      status = arrived
    })
    return readAnswer(answer, facts, { now: clock.now(), retryableErrorCodes })
  } catch (error) {
    // The deadline's own reasons are coded: they win every race against what the abort makes of a fetch.
    throw isIssuerPinError(error) ? error : unreachable(error, facts, status)
  }
}

/** `ERR_D1_UNREACHABLE` for an answer that did not come in time. */
export function timedOut(
  facts: RequestFacts,
  ms: number,
  delivery: D1Delivery,
  status?: number,
): D1ClientError {
  const what = status === undefined ? 'no answer' : 'no whole answer'
  return new D1ClientError('ERR_D1_UNREACHABLE', `${what} within ${ms} ms`, {
    ...facts,
    status: shownStatus(status),
    delivery,
    retryable: true,
  })
}

/** A status says that D1 has had the request, also where the rest of the answer does not come. */
function deliveryBy(status: number | undefined): D1Delivery {
  return status === undefined ? 'unknown' : 'answered'
}

function shownStatus(status: number | undefined): number | undefined {
  return Number.isInteger(status) ? status : undefined
}

function unreachable(error: unknown, facts: RequestFacts, status: number | undefined): D1ClientError {
  const { reason, delivery, retryable } = networkFailure(error)
  const problem =
    status === undefined ? 'cannot be reached' : `the answer with status ${shownStatus(status)} broke off`
  return new D1ClientError('ERR_D1_UNREACHABLE', `${problem}: ${reason}`, {
    ...facts,
    status: shownStatus(status),
    delivery: status === undefined ? delivery : 'answered',
    retryable,
  })
}
