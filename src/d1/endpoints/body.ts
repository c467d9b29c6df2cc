/** Bodies: read within a bound, as JSON or form; and the answers that are written. */
import { concatBytes, secretBytes } from '../../base/bytes.js'
import { whenAborted } from '../../base/deadline.js'
import type { AnswerStatus, ErrorStatus } from '../contract.js'
import type { Operation } from './audit.js'
import { Refusal } from './refusal.js'

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
 * have come), and when the signal fires. What has not been read by then is left to the server.
 */
export async function readBody(
  request: Pick<AskedRequest, 'headers' | 'body'>,
  rule: BodyRule,
  signal: AbortSignal,
): Promise<Uint8Array> {
  requireHeaders(request.headers, rule)
  if (request.body === null) return secretBytes(0)
  const reader = readerOf(request.body)
  // Ends a read that is waiting. Not waited for: a source that hangs would hang here as well.
  const stop = (): void => {
    reader.cancel().catch(() => {})
  }
  const release = whenAborted(signal, stop)
  try {
    return await readAll(reader, rule.maxBytes, signal)
  } catch (error) {
    stop()
    throw error instanceof Refusal ? error : new Refusal('body-broken', { cause: error })
  } finally {
    release()
  }
}

async function readAll(reader: BodyReader, maxBytes: number, signal: AbortSignal): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let length = 0
  for (;;) {
    signal.throwIfAborted()
    const { done, value } = await reader.read()
    // The end may be that of the signal.
    signal.throwIfAborted()
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

/* What goes out: the contract's bodies and nothing beside. Error texts are the status in words, whatever the reason. */

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
