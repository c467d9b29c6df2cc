/** From Node's requests and responses to the Web's and back: for node:http, node:https, node:http2 and what is built on them. */

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2'
import { type Duplex, finished } from 'node:stream'
import { TLSSocket } from 'node:tls'
import { readOptions } from '../../base/arguments.js'
import { bufferOf } from '../../base/bytes.js'
import { DEFAULTS } from '../../base/defaults.js'
import { ArgumentError } from '../../base/errors.js'
import type { EndpointHandler } from './endpoints.js'
import { connectionOf } from './peer.js'

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
 * Errors: `ERR_ARGUMENT` (no handler, an option that is none).
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

  function listen(incoming: NodeRequest, outgoing: NodeResponse, next?: () => void): void {
    // What stood before this listener took its time, and the client was told «Bad request» meanwhile.
    if (ended.has(incoming.socket)) return
    const target = ownTarget(incoming, takes)
    if (target === undefined && next !== undefined) {
      next()
      return
    }
    track(incoming.socket, outgoing)
    const gone = new AbortController()
    const answer = (): Promise<Response> =>
      handler(
        requestOf(incoming, target ?? targetOf(incoming.url), gone.signal),
        connectionOf(incoming, { listener }),
      )
    respond(answer, { incoming, outgoing, gone }).catch(() => outgoing.destroy())
  }
  return Object.assign(listen, {
    takes: (incoming: NodeRequest) => ownTarget(incoming, takes) !== undefined,
  })
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
export function answerClientError(_error: Error, socket: Duplex): void {
  // Before TLS is there, nothing can be said, and what is tried waits as long as the other side likes.
  if (!socket.writable || (socket instanceof TLSSocket && isConnecting(socket)) || isAnswering(socket)) {
    socket.destroy()
    return
  }
  ended.add(socket)
  const body = '{"error":"Bad request"}'
  const head = [
    'HTTP/1.1 400 Bad Request',
    'Content-Type: application/json',
    'Cache-Control: no-store',
    `Content-Length: ${body.length}`,
    'Connection: close',
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`)
  // The other side may keep its half open for ever.
  setTimeout(() => socket.destroy(), LINGER_MS).unref()
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
  readonly gone: AbortController
}

async function respond(answer: () => Promise<Response>, exchange: Exchange): Promise<void> {
  const { incoming, outgoing, gone } = exchange
  outgoing.once('close', () => {
    // A response of HTTP/2 says that it is finished where its stream was reset, too.
    const finished = isHttp2(outgoing) ? outgoing.writableEnded : outgoing.writableFinished
    if (!finished) gone.abort()
  })
  const response = await answer()
  // A string, a character a byte. Of a Buffer, Node puts the head before a «100 Continue» that waits behind the answer to
  // an earlier request, and that then stands in the place of the body.
  const body = bufferOf(new Uint8Array(await response.arrayBuffer())).toString('latin1')
  const headers: Record<string, string> = Object.fromEntries(response.headers)
  if (response.status !== 204) headers['content-length'] = String(body.length)
  if (isHttp2(outgoing)) {
    // A stream ends by itself; there is no connection to close.
    outgoing.writeHead(response.status, headers).end(body, 'latin1')
    return
  }
  if (incoming.complete) {
    outgoing.writeHead(response.status, headers).end(body, 'latin1')
    return
  }
  outgoing.writeHead(response.status, { ...headers, connection: 'close' }).write(body, 'latin1')
  await lastOf(incoming)
  outgoing.end()
}

function isHttp2(outgoing: NodeResponse): outgoing is Http2ServerResponse {
  return 'stream' in outgoing
}

/** Every header is handed on, a repeated one as a list: which of two counts is not for this code to say. */
function requestOf(incoming: NodeRequest, target: Target, signal: AbortSignal): Request {
  const { method = '', rawHeaders } = incoming
  const headers = new Headers()
  for (const [i, name] of rawHeaders.entries()) {
    // The pseudo-headers of HTTP/2 are what is in the request line before it.
    if (i % 2 === 0 && !name.startsWith(':')) headers.append(name, rawHeaders[i + 1] ?? '')
  }
  const bodiless = method === 'GET' || method === 'HEAD'
  return new Request(urlOf(target), {
    method: NOT_OF_THE_WEB.has(method) ? REFUSED_METHOD : method,
    headers,
    signal,
    ...(!bodiless && { body: bodyOf(incoming), duplex: 'half' }),
  })
}

/** What a request asks for: the path as it stands there, and whether a query follows. */
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

/**
 * The URL of a path that stays as it is (no dot segments, no backslash, no other host). What a query says is nobody's
 * business here; that there is one is.
 */
function urlOf({ path, hasQuery }: Target): string {
  const url = ORIGIN + path
  const sound = path.startsWith('/') && !path.includes('#') && new URL(url).href === url
  return (sound ? url : ORIGIN + REFUSED_PATH) + (hasQuery ? '?' : '')
}

/**
 * The body, one chunk at a time. Unlike `Readable.toWeb`, cancelling it leaves the connection alone: the answer has yet
 * to go out on it.
 */
function bodyOf(incoming: NodeRequest): ReadableStream<Uint8Array> {
  let stop = (): void => {}
  let started = false
  function start(controller: ReadableStreamDefaultController<Uint8Array>): void {
    started = true
    const take = (chunk: Buffer): void => {
      incoming.pause()
      controller.enqueue(chunk)
    }
    const close = (): void => controller.close()
    incoming.pause()
    incoming.on('data', take).once('end', close)
    incoming.once('error', error => controller.error(error))
    stop = () => {
      incoming.off('data', take).off('end', close)
    }
  }
  return new ReadableStream(
    {
      pull(controller) {
        // Somebody else has read it, or it broke off before anybody could.
        if (incoming.readableEnded || incoming.destroyed) return controller.close()
        if (!started) start(controller)
        incoming.resume()
      },
      cancel() {
        stop()
      },
    },
    { highWaterMark: 0 },
  )
}

/** Lets the rest of a request go by, for a moment. */
function lastOf(incoming: NodeRequest): Promise<void> {
  return new Promise(resolve => {
    const timer = setTimeout(resolve, LINGER_MS)
    finished(incoming as IncomingMessage, () => {
      clearTimeout(timer)
      resolve()
    })
    incoming.resume()
  })
}
