/**
 * The contract on the wire: its paths as a table, matched exactly; bodies, read within a bound as JSON or form; and the answers
 * that are written.
 */

import { concatBytes, secretBytes } from '../../base/bytes.js'
import type { Ending } from '../../base/deadline.js'
import { type AnswerStatus, COUNTER_PATH, type ErrorStatus, PIN_PATH, TOKEN_PATH } from '../contract.js'
import type { Operation } from './audit.js'
import { Refusal } from './refusal.js'

/** One operation of the contract: method and path, with the API it belongs to (each has its own prefix). */
interface Route {
  readonly operation: Operation
  readonly method: 'GET' | 'PUT' | 'POST'
  readonly api: 'pin' | 'token'
  readonly path: string
}

/** Outbound PIN Management API 1.0, and the token endpoint of Get Authorization Token. */
export const ROUTES: readonly Route[] = [
  { operation: 'getPIN', method: 'GET', api: 'pin', path: PIN_PATH },
  { operation: 'SetPIN', method: 'PUT', api: 'pin', path: PIN_PATH },
  { operation: 'getPINChangeCounter', method: 'GET', api: 'pin', path: COUNTER_PATH },
  { operation: 'getToken', method: 'POST', api: 'token', path: TOKEN_PATH },
]

/** What comes before the paths of each API; undefined: that API is not offered. */
interface Prefixes {
  readonly pin: string
  readonly token: string | undefined
}

/** A request that is for an operation; the ids have not been looked at. */
export interface Matched {
  readonly operation: Operation
  readonly issuerId: string
  readonly cardId: string
  /** There was a query string. */
  readonly hasQuery: boolean
}

/** Everything that a path of the contract is made of. No id needs an escape, so none is taken. */
export const PATH_CHARACTERS: RegExp = /^[A-Za-z0-9/._~-]*$/

/** What finds operations, and tells which paths are the endpoints' at all. */
export interface Router {
  /**
   * The operation of a request. A query string is no part of it: D1 may add parameters. Refuses with `path` what no client
   * of the contract sends (escapes, a fragment), with `route` a path that is not in the table, letter by letter, and with
   * `method` another method on one that is.
   */
  readonly find: (request: Pick<Request, 'url' | 'method'>) => Matched
  /** Whether a path, such as `/cms/api/v1/x`, is below one of the endpoints' own. */
  readonly takes: (path: string) => boolean
}

/** What all paths of the PIN API begin with. */
const PIN_ROOT = PIN_PATH.slice(0, PIN_PATH.indexOf('{'))

/** Makes the router for these prefixes. */
export function router(prefixes: Prefixes): Router {
  const rows = ROUTES.flatMap(route => {
    const prefix = prefixes[route.api]
    return prefix === undefined ? [] : [{ ...route, pattern: patternOf(prefix + route.path) }]
  })
  const { pin, token } = prefixes
  const root = pin + PIN_ROOT
  const tokenPath = token === undefined ? undefined : token + TOKEN_PATH
  return {
    takes: path => path.startsWith(root) || path === tokenPath,
    find: ({ url, method }) => {
      const path = pathOf(url)
      let known: Route | undefined
      for (const row of rows) {
        const groups = row.pattern.exec(path)
        if (groups === null) continue
        const [, issuerId = '', cardId = ''] = groups
        if (row.method === method) {
          return { operation: row.operation, issuerId, cardId, hasQuery: url.includes('?') }
        }
        known = row
      }
      if (known === undefined) throw new Refusal('route')
      throw new Refusal(known.api === 'token' ? 'token-method' : 'method')
    },
  }
}

/** The path of an absolute URL, as it is written. */
function pathOf(url: string): string {
  const query = url.indexOf('?')
  const end = query < 0 ? url.length : query
  const path = url.slice(url.indexOf('/', url.indexOf('://') + 3), end)
  if (!PATH_CHARACTERS.test(path)) throw new Refusal('path')
  return path
}

function patternOf(path: string): RegExp {
  const escaped = path.replaceAll(/[.~-]/g, String.raw`\$&`)
  return new RegExp(`^${escaped.replaceAll(/\{\w+\}/g, '([^/]+)')}$`)
}

/**
 * What the endpoints ask of a request. The platform's own `Request` has it; `nodeListener` makes one that costs a good deal
 * less.
 */
export interface AskedRequest {
  readonly method: string
  /** Absolute. */
  readonly url: string
  readonly headers: HeaderView
  /** Fires when the client is gone. */
  readonly signal: AbortSignal
  /** The same for less, where the request is none of the platform's. */
  readonly gone?: Ending
  readonly body: BodySource | null
}

/** Headers by name, in any case; what is repeated is one text with commas. */
export interface HeaderView {
  get(name: string): string | null
  has(name: string): boolean
}

/** A body that may be read once. */
export interface BodySource {
  getReader(): BodyReader
}

/** One chunk at a time. */
export interface BodyReader {
  read(): Promise<{ readonly done: boolean; readonly value?: unknown }>
  /** Nobody reads on: a read that waits ends. */
  cancel(): Promise<void>
}

/** What a body must be. */
interface BodyRule {
  readonly mediaType: string
  readonly maxBytes: number
}

/** Nothing was done to the body. */
const NO_CODING: ReadonlySet<string> = new Set(['', 'identity'])

/** Set PIN: twice the longest JWE. The token request: far more than its two members need. */
export const JSON_BODY: BodyRule = { mediaType: 'application/json', maxBytes: 16_384 }
export const FORM_BODY: BodyRule = { mediaType: 'application/x-www-form-urlencoded', maxBytes: 4096 }

/**
 * The bytes of a body, refused as soon as it is certain that they are too many (by its declared length, else when they
 * have come), and at the end of the time. What has not been read by then is left to the server.
 */
export async function readBody(
  request: Pick<AskedRequest, 'headers' | 'body'>,
  rule: BodyRule,
  end: Ending,
): Promise<Uint8Array> {
  requireHeaders(request.headers, rule)
  if (request.body === null) return secretBytes(0)
  const reader = readerOf(request.body)
  // Ends a read that is waiting. Not waited for: a source that hangs would hang here as well.
  const stop = (): void => void Promise.allSettled([cancelled(reader)])
  const release = end.when(stop)
  try {
    return await readAll(reader, rule.maxBytes, end)
  } catch (error) {
    stop()
    throw error instanceof Refusal ? error : new Refusal('body-broken', { cause: error })
  } finally {
    release()
  }
}

/** A foreign reader may also throw at once. */
async function cancelled(reader: BodyReader): Promise<void> {
  await reader.cancel()
}

async function readAll(reader: BodyReader, maxBytes: number, end: Ending): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let length = 0
  for (;;) {
    end.throwIfEnded()
    const { done, value } = await reader.read()
    // The end may be that of the time.
    end.throwIfEnded()
    if (done) return concatBytes(...chunks)
    if (!(value instanceof Uint8Array)) throw new Refusal('body-broken')
    length += value.length
    if (length > maxBytes) throw new Refusal('body-size')
    chunks.push(value)
  }
}

function requireHeaders(headers: HeaderView, { mediaType, maxBytes }: BodyRule): void {
  // Parameters decide nothing: JSON and forms are UTF-8 here, whatever a charset says (RFC 8259, 8.1 and 11).
  const [type = ''] = (headers.get('content-type') ?? '').split(';')
  if (type.trim().toLowerCase() !== mediaType) throw new Refusal('content-type')
  const codings = (headers.get('content-encoding') ?? '').toLowerCase().split(',')
  if (codings.some(coding => !NO_CODING.has(coding.trim()))) throw new Refusal('content-encoding')
  // Node takes what ends in `chunked`, and leaves the coding before it to us (RFC 9112, 6.1).
  if ((headers.get('transfer-encoding') ?? 'chunked').toLowerCase() !== 'chunked')
    throw new Refusal('content-encoding')
  // What is no number is left to the count of what comes.
  if (Number(headers.get('content-length') ?? 0) > maxBytes) throw new Refusal('body-size')
}

/** A body that a framework has read already, or is reading, cannot be read here. */
function readerOf(body: BodySource): BodyReader {
  try {
    return body.getReader()
  } catch (error) {
    throw new Refusal('body-broken', { cause: error })
  }
}

/* What goes out: the contract's bodies and nothing else. Error texts are the status in words, whatever the reason. */

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

/** An answer as it is written: what a `Response` is made of, and what Node's response takes. */
export interface Written {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  /** Undefined: there is no body. */
  readonly text: string | undefined
}

/** The answer in writing. Nothing of it may be cached, not even a refusal: each is about one card, now. */
export function written(operation: Operation | undefined, { status, body }: Answer): Written {
  const isToken = operation === 'getToken'
  const headers = {
    'cache-control': 'no-store',
    ...(isToken && { pragma: 'no-cache' }),
    ...(status === 401 && { 'www-authenticate': isToken ? CHALLENGES.basic : CHALLENGES.bearer }),
    ...(body !== undefined && { 'content-type': 'application/json' }),
  }
  return { status, headers, text: body === undefined ? undefined : JSON.stringify(body) }
}
