/** From Node's requests and responses to the Web's and back: for node:http, node:https and what is built on them. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Duplex, finished } from 'node:stream'
import { TLSSocket } from 'node:tls'
import type { EndpointHandler } from './endpoints.js'

/** A listener of `http.createServer`, `https.createServer`, Express, Connect. */
export type NodeListener = (incoming: IncomingMessage, outgoing: ServerResponse) => void

/** The host does not matter to the endpoints, so the one that a client names is not asked. */
const ORIGIN = 'https://issuer.invalid'
/** A path that the endpoints refuse, in place of one that parsing a URL would rewrite into another. */
const REFUSED_PATH = '/%'
/** Methods that a Request cannot have; the endpoints refuse this one like any other that they do not know. */
const NOT_OF_THE_WEB: ReadonlySet<string> = new Set(['CONNECT', 'TRACE', 'TRACK'])
const REFUSED_METHOD = 'REFUSED'
/** How long what is still coming is let in after an early answer, so that the client gets to read that answer. */
const LINGER_MS = 500

/** The answers that are under way on a connection; several where requests are sent without waiting. */
const underWay = new WeakMap<Duplex, Set<ServerResponse>>()
/** Connections whose last answer was {@link answerClientError}'s. */
const ended = new WeakSet<Duplex>()

/**
 * Mounts a handler. Nothing before it may read the body (mount it before body parsers). The connection is closed after
 * a request whose body was not read to its end.
 *
 * Set the server's own limits as well: `maxHeaderSize`, `headersTimeout`, `requestTimeout`, `maxConnections`; and
 * {@link answerClientError} for what is no HTTP.
 *
 * @example
 * ```ts
 * const listener = nodeListener(handler)
 * https.createServer(tls, listener).on('clientError', answerClientError).listen(8443)
 * express().use(listener)
 * ```
 */
export function nodeListener(handler: EndpointHandler): NodeListener {
  return (incoming, outgoing) => {
    // What stood before this listener took its time, and the client was told «Bad request» meanwhile.
    if (ended.has(incoming.socket)) return
    track(incoming.socket, outgoing)
    respond(handler, incoming, outgoing).catch(() => outgoing.destroy())
  }
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

function track(socket: Duplex | undefined, outgoing: ServerResponse): void {
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

async function respond(
  handler: EndpointHandler,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
): Promise<void> {
  const gone = new AbortController()
  outgoing.once('close', () => {
    if (!outgoing.writableFinished) gone.abort()
  })
  const response = await handler(requestOf(incoming, gone.signal))
  // A string, a character a byte. Of a Buffer, Node puts the head before a «100 Continue» that waits behind the answer to
  // an earlier request, and that then stands in the place of the body.
  const body = Buffer.from(await response.arrayBuffer()).toString('latin1')
  const headers: Record<string, string> = Object.fromEntries(response.headers)
  if (response.status !== 204) headers['content-length'] = String(body.length)
  if (incoming.complete) {
    outgoing.writeHead(response.status, headers).end(body, 'latin1')
    return
  }
  outgoing.writeHead(response.status, { ...headers, connection: 'close' }).write(body, 'latin1')
  await lastOf(incoming)
  outgoing.end()
}

/** Every header is handed on, a repeated one as a list: which of two counts is not for this code to say. */
function requestOf(incoming: IncomingMessage, signal: AbortSignal): Request {
  const { method = '', rawHeaders } = incoming
  const headers = new Headers()
  for (const [i, name] of rawHeaders.entries()) {
    if (i % 2 === 0) headers.append(name, rawHeaders[i + 1] ?? '')
  }
  const bodiless = method === 'GET' || method === 'HEAD'
  return new Request(urlOf(incoming.url), {
    method: NOT_OF_THE_WEB.has(method) ? REFUSED_METHOD : method,
    headers,
    signal,
    ...(!bodiless && { body: bodyOf(incoming), duplex: 'half' }),
  })
}

/** The URL of a request target, if it is a path that stays as it is (no dot segments, no backslash, no other host). */
function urlOf(target = ''): string {
  const url = ORIGIN + target
  return target.startsWith('/') && new URL(url).href === url ? url : ORIGIN + REFUSED_PATH
}

/**
 * The body, one chunk at a time. Unlike `Readable.toWeb`, cancelling it leaves the connection alone: the answer has yet
 * to go out on it.
 */
function bodyOf(incoming: IncomingMessage): ReadableStream<Uint8Array> {
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
function lastOf(incoming: IncomingMessage): Promise<void> {
  return new Promise(resolve => {
    const timer = setTimeout(resolve, LINGER_MS)
    finished(incoming, () => {
      clearTimeout(timer)
      resolve()
    })
    incoming.resume()
  })
}
