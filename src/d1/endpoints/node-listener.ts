/** From Node's requests and responses to the Web's and back: for node:http, node:https, node:http2 and what is built on them. */

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2'
import { type Duplex, finished } from 'node:stream'
import { TLSSocket } from 'node:tls'
import { readOptions } from '../../base/arguments.js'
import { bufferOf, utf8Bytes } from '../../base/bytes.js'
import { afterUnheld, Ending, systemClock } from '../../base/deadline.js'
import { DEFAULTS } from '../../base/defaults.js'
import { ArgumentError } from '../../base/errors.js'
import { DIRECT, type EndpointHandler } from './endpoints.js'
import {
  type AskedRequest,
  type BodyReader,
  type BodySource,
  type HeaderView,
  PATH_CHARACTERS,
  refused,
  type Written,
  written,
} from './http.js'
import { type Connection, connectionOf } from './peer.js'
import { Refusal } from './refusal.js'

/** A request of `node:http`, `node:https`, or of `node:http2` by its compatibility API. */
export type NodeRequest = IncomingMessage | Http2ServerRequest
/** The response to it. */
export type NodeResponse = ServerResponse | Http2ServerResponse

/** A listener of `http.createServer`, `https.createServer`, `http2.createSecureServer`, Express, Connect. */
export interface NodeListener {
  /** `next` (Express, Connect): takes the requests whose paths are not the handler's. Without it they are answered 404. */
  (incoming: NodeRequest, outgoing: NodeResponse, next?: () => void): void
  /** Whether a request is for the handler, by its path: for frameworks that ask before (Fastify's `onRequest`). */
  takes(incoming: NodeRequest): boolean
}

/** Options of {@link nodeListener}. */
export interface NodeListenerOptions {
  /**
   * A name for the listener, where trust hangs on it: connections that come in here are those of the proxy whose `from`
   * names it. Only for a listener that nobody but the proxy reaches, such as a Unix socket.
   */
  readonly listener?: string
}

/** The host does not matter to the endpoints, so the one that a client names is not asked. */
const ORIGIN = 'https://issuer.invalid'
/** A path that the endpoints refuse, in place of one that parsing a URL would rewrite into another. */
const REFUSED_PATH = '/%'
/** Methods that a Request cannot have; the endpoints refuse this one like any other that they do not know. */
const NOT_OF_THE_WEB: ReadonlySet<string> = new Set(['CONNECT', 'TRACE', 'TRACK'])
const REFUSED_METHOD = 'REFUSED'
/** How long what is still coming is let in after an early answer, so that the client gets to read that answer. */
const LINGER_MS = DEFAULTS.endpoints.lingerMs.value

/** The answers that are under way on a connection; several where requests are sent without waiting. */
const underWay = new WeakMap<Duplex, Set<NodeResponse>>()
/** Connections whose last answer was {@link answerClientError}'s. */
const ended = new WeakSet<Duplex>()

/**
 * Mounts a handler. It takes the handler's own paths; others go to `next`, where there is one. Nothing before it may read
 * the body (mount it before body parsers). The connection is closed after a request whose body was not read to its end.
 * Under a mount path (Express) the paths may begin after it or with it.
 *
 * Set the server's own limits as well: `maxHeaderSize`, `headersTimeout`, `requestTimeout`, `maxConnections`; and
 * {@link answerClientError} for what is no HTTP.
 *
 * Errors: `ERR_ARGUMENT` (no handler, an option of another kind).
 *
 * @example
 * ```ts
 * const listener = nodeListener(handler)
 * https.createServer(tls, listener).on('clientError', answerClientError).listen(8443)
 * express().use(listener)
 * ```
 */
export function nodeListener(handler: EndpointHandler, options: NodeListenerOptions = {}): NodeListener {
  const { listener } = readOptions(options, 'nodeListener', ['listener'])
  if (typeof handler !== 'function') throw new ArgumentError('nodeListener takes a handler')
  if (listener !== undefined && (typeof listener !== 'string' || listener === '')) {
    throw new ArgumentError('listener must be a name')
  }
  const takes = (path: string): boolean => handler.takes?.(path) ?? true
  const answerTo = DIRECT.get(handler) ?? throughTheWeb(handler)

  function listen(incoming: NodeRequest, outgoing: NodeResponse, next?: () => void): void {
    // What stood before this listener took its time, and the client was told «Bad request» meanwhile.
    if (ended.has(incoming.socket)) return
    const target = ownTarget(incoming, takes)
    const fault = faultOf(incoming, target !== undefined || next === undefined)
    if (target === undefined && next !== undefined && fault === undefined) {
      next()
      return
    }
    track(incoming.socket, outgoing)
    const gone = new Ending()
    if (fault !== undefined) {
      const connection = connectionOf(incoming, { listener })
      respond(() => unreadable(handler, connection, { code: fault }), { incoming, outgoing, gone }).catch(
        () => outgoing.destroy(),
      )
      return
    }
    const asked = new NodeAsked(incoming, target ?? targetOf(incoming.url), gone)
    const answer = (): Promise<Written> => answerTo(asked, connectionOf(incoming, { listener }))
    respond(answer, { incoming, outgoing, gone }).catch(() => outgoing.destroy())
  }
  return Object.assign(listen, {
    takes: (incoming: NodeRequest) => ownTarget(incoming, takes) !== undefined,
  })
}

/** Of more headers than that, Node may have dropped the last ones: one that counts, or the second of two. */
const MAX_HEADERS = 64

/**
 * What the event says of a request that is no sound HTTP: of HTTP/1.1 without a Host, or with two (RFC 9112, 3.2: 400, whatever
 * its path); of our own, with more headers than anybody sends.
 */
function faultOf(incoming: NodeRequest, isOwn: boolean): string | undefined {
  if (!hasOneHost(incoming)) return 'HOST_HEADER'
  return isOwn && incoming.rawHeaders.length > 2 * MAX_HEADERS ? 'HEADERS_COUNT' : undefined
}

function hasOneHost({ httpVersionMajor, httpVersionMinor, rawHeaders }: NodeRequest): boolean {
  if (httpVersionMajor !== 1) return true
  let hosts = 0
  for (let i = 0; i < rawHeaders.length; i += 2)
    if (rawHeaders[i]?.length === 4 && rawHeaders[i]?.toLowerCase() === 'host') hosts++
  return hosts === 1 || (hosts === 0 && httpVersionMinor === 0)
}

/** The answer to what is no sound HTTP, once its event is recorded. */
export async function unreadable(
  handler: EndpointHandler,
  connection: Connection,
  error: unknown,
): Promise<Written> {
  const status = (await handler.unreadable?.(connection, error)) ?? 400
  return written(undefined, refused(undefined, new Refusal(status === 400 ? 'not-http' : 'audit-failed')))
}

/**
 * Answers what Node cannot parse as HTTP (a broken request line, a header with line breaks, headers that are too long
 * or too slow) with the contract's 400, and closes the connection. For the server's event `clientError`.
 *
 * Where {@link nodeListener} has an answer under way on the connection, it closes it without a word: a 400 would stand
 * behind that answer, or be taken for it, and a PIN that is stored for one that is not.
 *
 * @example
 * ```ts
 * server.on('clientError', answerClientError)
 * ```
 */
export function answerClientError(_error: Error, socket: Duplex, status: 400 | 500 = 400): void {
  // Before TLS is there, nothing can be said, and what is tried waits as long as the other side likes.
  if (!socket.writable || (socket instanceof TLSSocket && isConnecting(socket)) || isAnswering(socket)) {
    socket.destroy()
    return
  }
  ended.add(socket)
  const words = status === 400 ? 'Bad request' : 'Internal server error'
  const body = `{"error":"${words}"}`
  const head = [
    `HTTP/1.1 ${status} ${status === 400 ? 'Bad Request' : words}`,
    'Content-Type: application/json',
    'Cache-Control: no-store',
    `Content-Length: ${body.length}`,
    'Connection: close',
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`)
  // The other side may keep its half open for ever.
  afterUnheld(LINGER_MS, () => socket.destroy())
}

/** Node keeps this on server sockets too; the types do not say so. */
function isConnecting(socket: TLSSocket): boolean {
  return Reflect.get(socket, 'secureConnecting') === true
}

function track(socket: Duplex | undefined, outgoing: NodeResponse): void {
  // A request that was not sent but made up, as frameworks do for tests, may have none.
  if (socket === undefined) return
  const answers = underWay.get(socket) ?? new Set()
  underWay.set(socket, answers.add(outgoing))
  outgoing.once('close', () => answers.delete(outgoing))
}

/** A request that has come as a whole is acted upon; one that broke off is not, unless it was answered before its end. */
function isAnswering(socket: Duplex): boolean {
  return [...(underWay.get(socket) ?? [])].some(({ headersSent, req }) => headersSent || req.complete)
}

interface Exchange {
  readonly incoming: NodeRequest
  readonly outgoing: NodeResponse
  readonly gone: Ending
}

async function respond(answer: () => Promise<Written>, exchange: Exchange): Promise<void> {
  const { incoming, outgoing, gone } = exchange
  outgoing.once('close', () => {
    // A response of HTTP/2 says that it is finished where its stream was reset, too.
    const finished = isHttp2(outgoing) ? outgoing.writableEnded : outgoing.writableFinished
    if (!finished) gone.end()
  })
  const { status, headers: given, text } = await answer()
  const headers: Record<string, string> = { ...given }
  // A string, a character a byte. Of a Buffer, Node puts the head before a «100 Continue» that waits behind the answer to
  // an earlier request, and that is then in the place of the body.
  const body = text === undefined ? '' : bytesOf(text)
  if (status !== 204) headers['content-length'] = String(body.length)
  if (isHttp2(outgoing)) {
    // A stream ends by itself; there is no connection to close.
    outgoing.writeHead(status, headers).end(body, 'latin1')
    return
  }
  if (incoming.complete) {
    outgoing.writeHead(status, headers).end(body, 'latin1')
    return
  }
  outgoing.writeHead(status, { ...headers, connection: 'close' }).write(body, 'latin1')
  await lastOf(incoming)
  outgoing.end()
}

const ASCII = /^[ -~]*$/

/** A text as UTF-8, a character a byte: what is ASCII, as nearly every answer, is that already. */
function bytesOf(text: string): string {
  return ASCII.test(text) ? text : bufferOf(utf8Bytes(text)).toString('latin1')
}

function isHttp2(outgoing: NodeResponse): outgoing is Http2ServerResponse {
  return 'stream' in outgoing
}

/** A handler that knows the platform's `Request` and `Response` only: somebody's own, or one around ours. */
function throughTheWeb(
  handler: EndpointHandler,
): (asked: NodeAsked, connection: Connection) => Promise<Written> {
  return async (asked, connection) => {
    const response = await handler(asked.toRequest(), connection)
    return {
      status: response.status,
      headers: Object.fromEntries(response.headers),
      text: await response.text(),
    }
  }
}

/** A request of Node's as the endpoints ask for it: nothing is made of it that nobody asks for. */
class NodeAsked implements AskedRequest {
  readonly method: string
  readonly url: string
  readonly gone: Ending
  readonly #incoming: NodeRequest
  #headers: Map<string, string> | undefined

  constructor(incoming: NodeRequest, target: Target, gone: Ending) {
    const { method = '' } = incoming
    this.#incoming = incoming
    this.method = method
    this.url = urlOf(target)
    this.gone = gone
  }

  get signal(): AbortSignal {
    return this.gone.signal
  }

  get headers(): HeaderView {
    this.#headers ??= headersOf(this.#incoming)
    const headers = this.#headers
    return {
      get: name => headers.get(name.toLowerCase()) ?? null,
      has: name => headers.has(name.toLowerCase()),
    }
  }

  get body(): BodySource {
    return { getReader: () => new NodeBody(this.#incoming) }
  }

  toRequest(): Request {
    const { method, url, signal } = this
    this.#headers ??= headersOf(this.#incoming)
    return new Request(url, {
      method: NOT_OF_THE_WEB.has(method) ? REFUSED_METHOD : method,
      headers: [...this.#headers],
      signal,
      ...(!this.#isBodiless() && { body: streamOf(new NodeBody(this.#incoming)), duplex: 'half' }),
    })
  }

  #isBodiless(): boolean {
    return this.method === 'GET' || this.method === 'HEAD'
  }
}

/**
 * Every header is handed on, a repeated one as a list: which of two counts is not for this code to say. Node has taken away
 * the blanks and tabs around a value; a blank of another kind (U+00A0) is part of it.
 */
function headersOf({ rawHeaders }: NodeRequest): Map<string, string> {
  const headers = new Map<string, string>()
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const [name = '', value = ''] = [rawHeaders[i]?.toLowerCase(), rawHeaders[i + 1]]
    // The pseudo-headers of HTTP/2 are what is in the request line before it.
    if (name.startsWith(':')) continue
    const before = headers.get(name)
    headers.set(name, before === undefined ? value : `${before}, ${value}`)
  }
  return headers
}

/** What a request asks for: the path as it is written, and whether a query follows. */
interface Target {
  readonly path: string
  readonly hasQuery: boolean
}

/** The path of a request target, in origin form or in absolute form (RFC 9112, 3.2.1 and 3.2.2). */
function targetOf(target = ''): Target {
  const [, rest = target] = /^https?:\/\/[^/?#]*(.*)$/i.exec(target) ?? []
  const query = rest.indexOf('?')
  return { path: query < 0 ? rest : rest.slice(0, query), hasQuery: query >= 0 }
}

/** The target, where its path is the handler's; Express takes the path of a mount away, and keeps the whole besides. */
function ownTarget(incoming: NodeRequest, takes: (path: string) => boolean): Target | undefined {
  const target = targetOf(incoming.url)
  if (takes(target.path)) return target
  const whole: unknown = Reflect.get(incoming, 'originalUrl')
  if (typeof whole !== 'string' || whole === incoming.url) return undefined
  const original = targetOf(whole)
  return takes(original.path) ? original : undefined
}

/** `.` or `..` as a segment: a parser of URLs makes another path of it. */
const DOTS = /\/\.{1,2}(?:\/|$)/

/**
 * The URL of a path that stays as it is (no dot segments, no other host; what else a path may not hold the routes say). What a
 * query says is nobody's business here; that there is one is.
 */
function urlOf({ path, hasQuery }: Target): string {
  const sound = path.startsWith('/') && PATH_CHARACTERS.test(path) && !DOTS.test(path)
  return ORIGIN + (sound ? path : REFUSED_PATH) + (hasQuery ? '?' : '')
}

/**
 * The body, one chunk at a time. To stop reading leaves the connection alone: the answer has yet to go out on it.
 */
class NodeBody implements BodyReader {
  readonly #incoming: NodeRequest
  #started = false
  #failed: { readonly error: unknown } | undefined
  #waiting: { resolve: (chunk: Chunk) => void; reject: (error: unknown) => void } | undefined

  constructor(incoming: NodeRequest) {
    this.#incoming = incoming
  }

  read(): Promise<Chunk> {
    const incoming = this.#incoming
    if (this.#failed !== undefined) return Promise.reject(this.#failed.error)
    // Somebody else has read it, or it broke off before anybody could.
    if (incoming.readableEnded || incoming.destroyed) return Promise.resolve(END)
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject }
      if (!this.#started) this.#start()
      incoming.resume()
    })
  }

  async cancel(): Promise<void> {
    this.#incoming.off('data', this.#take).off('end', this.#end)
    this.#end()
  }

  #start(): void {
    this.#started = true
    this.#incoming.on('data', this.#take).once('end', this.#end)
    this.#incoming.once('error', error => {
      this.#failed = { error }
      this.#waiting?.reject(error)
    })
  }

  readonly #take = (value: Buffer): void => {
    this.#incoming.pause()
    this.#waiting?.resolve({ done: false, value })
    this.#waiting = undefined
  }

  readonly #end = (): void => {
    this.#waiting?.resolve(END)
    this.#waiting = undefined
  }
}

type Chunk = { readonly done: boolean; readonly value?: Uint8Array }
const END: Chunk = { done: true }

/** The same as a stream of the Web's. */
function streamOf(body: NodeBody): ReadableStream<Uint8Array> {
  return new ReadableStream(
    {
      async pull(controller) {
        const { value } = await body.read()
        if (value === undefined) controller.close()
        else controller.enqueue(value)
      },
      cancel: () => body.cancel(),
    },
    { highWaterMark: 0 },
  )
}

/** Lets the rest of a request go by, for a moment. */
function lastOf(incoming: NodeRequest): Promise<void> {
  return new Promise(resolve => {
    const cancel = systemClock.after(LINGER_MS, resolve)
    finished(incoming as IncomingMessage, () => {
      cancel()
      resolve()
    })
    incoming.resume()
  })
}
