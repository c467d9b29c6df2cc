/** The token endpoint's answer, read strictly: what is in it goes into a header of every request that follows. */
import { member } from '../../base/json.js'
import { type JsonAnswer, noAnswer, type RequestFacts } from './answer.js'

/** A token, and how long it lives. */
export interface AccessToken {
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
 * Reads `access_token`, `token_type` (Bearer, in any case) and `expires_in` (a number, or the same as a string, as D1's
 * own outbound API has it; 1 to 86,400 seconds). Other members are ignored.
 *
 * Errors: `ERR_D1_RESPONSE`, which names the member and does not show it. Source: RFC 6749, 5.1; D1 OAuth API 1.0.
 */
export function readToken({ status, body }: JsonAnswer, facts: RequestFacts): AccessToken {
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
