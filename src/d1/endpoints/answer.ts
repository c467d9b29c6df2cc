/** What goes out: the contract's bodies and nothing beside. Error texts are the status in words, whatever the reason. */
import type { AnswerStatus, ErrorStatus } from '../contract.js'
import type { Operation } from './audit.js'
import type { Refusal } from './refusal.js'

/** An answer before it is a Response. */
export interface Answer {
  readonly status: AnswerStatus
  /** JSON. */
  readonly body?: object
}

const TEXTS: Readonly<Record<ErrorStatus, string>> = {
  400: 'Bad request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not found',
  500: 'Internal server error',
}

/** The error names that RFC 6749, 5.2, has for what has no name of its own in the table of refusals. */
const OAUTH_ERRORS: Readonly<Record<ErrorStatus, string>> = {
  400: 'invalid_request',
  401: 'invalid_client',
  403: 'unauthorized_client',
  404: 'invalid_request',
  500: 'server_error',
}

/** A 401 must say how to authenticate (RFC 9110, 11.6.1). */
const CHALLENGES: Readonly<Record<'bearer' | 'basic', string>> = {
  bearer: 'Bearer',
  basic: 'Basic realm="oauth2", charset="UTF-8"',
}

/** The answer to a request that is refused. */
export function refused(operation: Operation | undefined, { rule }: Refusal): Answer {
  const { status } = rule
  if (operation === 'getToken' || (operation === undefined && rule.oauthError !== undefined))
    return { status, body: { error: rule.oauthError ?? OAUTH_ERRORS[status] } }
  const error = TEXTS[status]
  const withCode = operation === 'getPINChangeCounter' && rule.errorCode !== undefined
  return { status, body: withCode ? { errorCode: rule.errorCode, error } : { error } }
}

/** The Response. Nothing of it may be cached, not even a refusal: each is about one card, now. */
export function responseOf(operation: Operation | undefined, { status, body }: Answer): Response {
  const isToken = operation === 'getToken'
  const headers = {
    'cache-control': 'no-store',
    ...(isToken && { pragma: 'no-cache' }),
    ...(status === 401 && { 'www-authenticate': isToken ? CHALLENGES.basic : CHALLENGES.bearer }),
    ...(body !== undefined && { 'content-type': 'application/json' }),
  }
  return new Response(body === undefined ? null : JSON.stringify(body), { status, headers })
}
