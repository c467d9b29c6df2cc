/**
 * What a server of Node's must be told besides its listener, in one call: limits, an event for each request that its parser
 * refuses, an answer to every `Expect`, and places for connections that speak TLS which those that never do cannot take.
 */
import type { IncomingMessage, Server } from 'node:http'
import type { Http2SecureServer, Http2ServerResponse, Http2Session } from 'node:http2'
import type { Duplex } from 'node:stream'
import type { TLSSocket, Server as TlsServer } from 'node:tls'
import { readOptions } from '../../base/arguments.js'
import { afterUnheld, onIdle } from '../../base/deadline.js'
import { DEFAULTS } from '../../base/defaults.js'
import { ArgumentError } from '../../base/errors.js'
import type { EndpointHandler } from './endpoints.js'
import { answerClientError, unreadable } from './node-listener.js'
import { readCount, readTimeout } from './options.js'
import { connectionOf } from './peer.js'

/**
 * Limits for `http.createServer` and `https.createServer`, to be spread into their options: what Node leaves open by default,
 * or open for too long. Times in milliseconds.
 *
 * @example
 * ```ts
 * const server = https.createServer({ ...tls, ...serverLimits }, nodeListener(handler))
 * ```
 */
export const serverLimits: {
  readonly handshakeTimeout: number
  readonly headersTimeout: number
  readonly requestTimeout: number
  readonly keepAliveTimeout: number
  readonly connectionsCheckingInterval: number
  readonly maxHeaderSize: number
} = Object.freeze({
  // Before TLS is there, nothing else counts the time.
  handshakeTimeout: 10_000,
  // From the connection, or the first byte of a request, to the end of its headers: also ends what sends nothing.
  headersTimeout: 5000,
  // And to the end of its body. The endpoints' bodyTimeoutMs (10 s) answers before that; this one ends.
  requestTimeout: 15_000,
  keepAliveTimeout: 5000,
  connectionsCheckingInterval: 1000,
  maxHeaderSize: 16_384,
})

/** What {@link watchServer} takes. */
export interface WatchServerInput<S extends WatchedServer = WatchedServer> {
  readonly server: S
  /** What answers D1 there. */
  readonly handler: EndpointHandler
  /** Connections that speak TLS (all, on a server without it): 1024 where absent. One more is closed. */
  readonly maxConnections?: number
  /**
   * Connections whose TLS handshake is not done: 256 where absent. One more takes the place of the one that has waited
   * longest. They take no place of those above.
   */
  readonly maxHandshakes?: number
  /** A session of HTTP/2 on which nothing moves for so long is closed: 60,000 ms where absent. */
  readonly idleSessionMs?: number
}

/** A server of `node:http`, `node:https` or `node:http2`. */
export type WatchedServer = Server | Http2SecureServer

/**
 * Watches over a server that answers D1, alone or beside an application. What the parser refuses (two lengths, a broken
 * request line, headers that are too long or too slow) is answered with the contract's 400 and is one audit event
 * (`not-http`); it takes the place of other listeners for `clientError`. So is a CONNECT, unless the application has a
 * listener for it, and, by {@link nodeListener}, a request without a Host or with two. A request with an `Expect` that nobody
 * knows goes the way of all others: Node would answer 417, which the contract does not have.
 *
 * Errors: `ERR_ARGUMENT`.
 *
 * @example
 * ```ts
 * const server = https.createServer({ ...tls, ...serverLimits }, nodeListener(handler))
 * watchServer({ server, handler }).listen(8443)
 * ```
 */
export function watchServer<S extends WatchedServer>(input: WatchServerInput<S>): S {
  const { server, handler, maxConnections, maxHandshakes, idleSessionMs } = readOptions(
    input,
    'watchServer',
    ['server', 'handler', 'maxConnections', 'maxHandshakes', 'idleSessionMs'],
  )
  const idleMs = readTimeout(idleSessionMs ?? DEFAULTS.endpoints.idleSessionMs.value, 'idleSessionMs')
  const connections = readCount(maxConnections ?? 1024, 'maxConnections')
  const handshakes = readCount(maxHandshakes ?? 256, 'maxHandshakes')
  if (typeof handler !== 'function') throw new ArgumentError('watchServer takes a handler')
  if (typeof Object(server).on !== 'function') throw new ArgumentError('watchServer takes a server')
  const plain: NodeJS.EventEmitter & { maxHeadersCount?: number | null; requireHostHeader?: boolean } = server
  // Node would drop the others in silence; `maxHeaderSize` bounds them, and the listener refuses.
  plain.maxHeadersCount = 0
  // Node would answer 400 itself, without a body and unseen; the listener does it with both.
  plain.requireHostHeader = false
  const noted = new WeakSet<Duplex>()
  plain.removeAllListeners('clientError')
  plain.on('clientError', (error: Error, socket: Duplex) => {
    if (!isRefusedByTheParser(error) || handler.unreadable === undefined) {
      answerClientError(error, socket)
      return
    }
    // What comes behind it on the connection is refused with it.
    if (noted.has(socket)) return
    noted.add(socket)
    // Recorded first, where that is asked for; the socket is not read meanwhile.
    handler.unreadable(connectionOf({ socket }), error).then(
      status => answerClientError(error, socket, status),
      () => socket.destroy(),
    )
  })
  plain.on('checkExpectation', (incoming: IncomingMessage, outgoing: unknown) => {
    plain.emit('request', incoming, outgoing)
  })
  plain.on('connect', (incoming: IncomingMessage, other: Duplex | Http2ServerResponse) => {
    // An application that makes tunnels of its own has said so.
    if (plain.listenerCount('connect') > 1) return
    // Node has taken its own listener off: a connection that breaks now would end the process.
    other.on('error', () => {})
    const refusal = unreadable(handler, connectionOf(incoming), { code: 'METHOD_CONNECT' })
    refusal.then(
      ({ status, headers, text = '' }) => {
        if ('stream' in other) other.writeHead(status, headers).end(text)
        else answerClientError(new Error('CONNECT'), other, status === 400 ? 400 : 500)
      },
      () => other.destroy(),
    )
  })
  plain.on('session', (session: Http2Session) => {
    // Node's limits of time are those of HTTP/1.1: a session that says nothing would keep its place for ever.
    onIdle(session, idleMs, () => {
      session.close()
      afterUnheld(idleMs, () => session.destroy())
    })
  })
  plain.on('sessionError', (error: Error, session: Http2Session) => {
    const { socket } = session
    // What keeps it from being recorded has no answer to go into.
    void Promise.allSettled([handler.unreadable?.(connectionOf({ socket }), error)])
  })
  if (isTls(server)) keepPlaces(server, connections, handshakes)
  else server.maxConnections = connections
  return server
}

/** llhttp's codes, and Node's own about requests; what else comes here is a connection that broke. */
function isRefusedByTheParser(error: unknown): boolean {
  const code: unknown = Reflect.get(Object(error), 'code')
  return typeof code === 'string' && /^(?:HPE_|ERR_HTTP_)/.test(code)
}

function isTls(server: WatchedServer): boolean {
  return 'setSecureContext' in server
}

/**
 * A connection is raw until its handshake is done, and `secureConnection` gives another object for it: the two have the
 * other side's address and port in common.
 */
function keepPlaces(server: WatchedServer, connections: number, handshakes: number): void {
  const tls: NodeJS.EventEmitter & Pick<TlsServer, 'maxConnections'> = server
  const waiting = new Map<string, Duplex>()
  let speaking = 0
  // Node counts both kinds alike: it may not refuse before we do.
  tls.maxConnections = connections + handshakes + 1
  tls.on('connection', (socket: Duplex) => {
    const name = nameOf(socket)
    waiting.set(name, socket)
    socket.once('close', () => {
      if (waiting.get(name) === socket) waiting.delete(name)
    })
    for (const [oldest, silent] of waiting) {
      if (waiting.size <= handshakes) break
      waiting.delete(oldest)
      silent.destroy()
    }
  })
  tls.on('secureConnection', (socket: TLSSocket) => {
    waiting.delete(nameOf(socket))
    speaking++
    socket.once('close', () => {
      speaking--
    })
    if (speaking > connections) socket.destroy()
  })
}

function nameOf(socket: object): string {
  return `${Reflect.get(socket, 'remoteAddress')} ${Reflect.get(socket, 'remotePort')}`
}
