/** What D1's answers mean: success with a JSON object, a refusal with its code, or something that is no answer of D1. */
import { D1ClientError, type D1Failure } from '../../base/errors.js'
import { member, parseJsonObject } from '../../base/json.js'
import type { JsonObject } from '../messages/pin-block.js'
import { type Answer, isPlainCode, MAX_RESPONSE_BYTES } from './exchange.js'

/** A success: the status, and the body where there was one. */
export interface JsonAnswer {
  readonly status: number
  readonly body: JsonObject | undefined
}

/** What an error has in common with all others of its request. */
export type RequestFacts = Pick<D1Failure, 'operation' | 'attempt' | 'correlationId'>

/**
 * Statuses after which the same request may succeed. D1 documents a «retryable» column per `errorCode`, of which
 * little is public (a 400 without code: no). Feed what you know of it as `retryableErrorCodes`, which goes before this table.
 */
const RETRYABLE: readonly { readonly from: number; readonly to: number; readonly source: string }[] = [
  { from: 408, to: 408, source: 'RFC 9110, 15.5.9: the request did not arrive in time' },
  { from: 429, to: 429, source: 'RFC 6585, 4: too many requests' },
  { from: 500, to: 599, source: 'RFC 9110, 15.6: the server failed' },
]

const MAX_TEXT = 512
const FIFTY_YEARS_MS = 50 * 365.25 * 86_400_000
const DELTA_SECONDS = /^\d{1,9}$/
const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ')
const DAY = '(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)'
const MONTH = `(?<month>${MONTHS.join('|')})`
const TIME = '(?<hour>[01]\\d|2[0-3]):(?<minute>[0-5]\\d):(?<second>[0-5]\\d|60)'
/** The three forms of a date (RFC 9110, 5.6.7): IMF-fixdate, RFC 850, asctime. `Date.parse` reads much that is not a date. */
const DATES: readonly RegExp[] = [
  new RegExp(`^${DAY}, (?<day>\\d{2}) ${MONTH} (?<year>\\d{4}) ${TIME} GMT$`),
  new RegExp(
    `^(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday), (?<day>\\d{2})-${MONTH}-(?<year>\\d{2}) ${TIME} GMT$`,
  ),
  new RegExp(`^${DAY} ${MONTH} (?<day>[ \\d]\\d) ${TIME} (?<year>\\d{4})$`),
]

/**
 * The answer as a success, or its error: `ERR_D1_REQUEST` (status 400 to 599), `ERR_D1_RESPONSE` (a redirect, another
 * status, a body that is no JSON object or too long). Source: Inbound Card API 2.0, errors `{ errorCode, error }`.
 */
export function readAnswer(
  answer: Answer,
  facts: RequestFacts,
  policy: { readonly now: number; readonly retryableErrorCodes: ReadonlyMap<string, boolean> },
): JsonAnswer {
  const { status, body } = answer
  if (status >= 400 && status <= 599) throw refusal(answer, facts, policy)
  if (!(status >= 200 && status <= 299)) {
    throw noAnswer(
      status >= 300 && status <= 399 ? 'redirects are refused' : 'a status that is none',
      facts,
      status,
    )
  }
  if (body === undefined) throw noAnswer(`more than ${MAX_RESPONSE_BYTES} bytes came back`, facts, status)
  if (body.length === 0) return { status, body: undefined }
  const object = parseJsonObject(body)
  if (object === undefined) throw noAnswer('something else than a JSON object came back', facts, status)
  return { status, body: object }
}

/** `ERR_D1_RESPONSE`. What D1 did is not known from it; trying again brings the same. */
export function noAnswer(problem: string, facts: RequestFacts, status: number): D1ClientError {
  const shown = Number.isInteger(status) ? status : undefined
  return new D1ClientError('ERR_D1_RESPONSE', `${problem} (status ${shown})`, {
    ...facts,
    status: shown,
    delivery: 'answered',
    retryable: false,
  })
}

function refusal(
  { status, retryAfter, body }: Answer,
  facts: RequestFacts,
  policy: { readonly now: number; readonly retryableErrorCodes: ReadonlyMap<string, boolean> },
): D1ClientError {
  // A gateway's page in place of D1's JSON changes nothing: the status has said it.
  const object = (body && parseJsonObject(body)) ?? {}
  const error = member(object, 'error')
  // The token endpoint speaks OAuth2 (RFC 6749, 5.2): its `error` is the code.
  const codes = [member(object, 'errorCode'), facts.operation === 'token' ? error : undefined]
  const errorCode = codes.find(isPlainCode)
  const byCode = errorCode === undefined ? undefined : policy.retryableErrorCodes.get(errorCode)
  const problem = errorCode === undefined ? `status ${status}` : `status ${status}, ${errorCode}`
  return new D1ClientError('ERR_D1_REQUEST', `refused with ${problem}`, {
    ...facts,
    status,
    errorCode,
    delivery: 'answered',
    retryable: byCode ?? RETRYABLE.some(({ from, to }) => status >= from && status <= to),
    retryAfterSeconds: retryAfterSeconds(retryAfter, policy.now),
    // Control characters would forge lines in a log.
    text: typeof error === 'string' ? error.slice(0, MAX_TEXT).replace(/\p{Cc}/gu, ' ') : undefined,
  })
}

/** Seconds by a `Retry-After` header, in seconds or as a date (RFC 9110, 10.2.3); undefined for anything else. */
export function retryAfterSeconds(header: string | null, now: number): number | undefined {
  if (header === null) return undefined
  if (DELTA_SECONDS.test(header)) return Number(header)
  const date = httpDate(header, now)
  return date === undefined ? undefined : Math.max(0, Math.ceil((date - now) / 1000))
}

/** Milliseconds since 1970; undefined for what is no date. */
function httpDate(text: string, now: number): number | undefined {
  const parts = DATES.map(form => form.exec(text)?.groups).find(groups => groups !== undefined)
  if (parts === undefined) return undefined
  const { year = '', month = '', day = '', hour, minute, second } = parts
  const at = (fullYear: number): number =>
    Date.UTC(fullYear, MONTHS.indexOf(month), Number(day), Number(hour), Number(minute), Number(second))
  if (new Date(at(2000)).getUTCMonth() !== MONTHS.indexOf(month)) return undefined
  if (year.length === 4) return at(Number(year))
  // Two digits: a date that seems to be more than 50 years ahead is the most recent one in the past.
  const century = Math.floor(new Date(now).getUTCFullYear() / 100) * 100
  const date = at(century + Number(year))
  return date > now + FIFTY_YEARS_MS ? at(century - 100 + Number(year)) : date
}
