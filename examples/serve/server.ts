/** HTTPS with client certificates, the server's limits, and a clean end. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import { answerClientError, type EndpointHandler, nodeListener } from 'issuer-pin-crypto/d1'
import type { Folder } from './folder.js'

/** How long what is under way may take to end. Longer than the endpoints' own limit would be of no use. */
const GRACE_MS = 30_000

/** What Node leaves open by default, or open for too long. */
const LIMITS = {
  // Before TLS is there, nothing else counts the time.
  handshakeTimeout: 10_000,
  // From the connection, or the first byte of a request, to the end of its headers: also ends what sends nothing.
  headersTimeout: 5000,
  // And to the end of its body. The endpoints' bodyTimeoutMs (10 s) answers before that; this one ends.
  requestTimeout: 15_000,
  keepAliveTimeout: 5000,
  connectionsCheckingInterval: 1000,
  maxHeaderSize: 16_384,
}
const MAX_HEADERS = 64
const MAX_CONNECTIONS = 2000

export interface RunningServer {
  /** Origin, for a client on this machine. */
  readonly url: string
  /** Stops accepting, waits for what is under way (a bound), ends the rest. */
  stop(): Promise<void>
}

/** Listens. Rejects where the address is taken or not to be had. */
export async function startServer(
  handler: EndpointHandler,
  { folder, host, port }: { readonly folder: Folder; readonly host: string; readonly port: number },
): Promise<RunningServer> {
  const underWay = new Set<Promise<unknown>>()
  let stopping = false
  // A request is seen to its end even where its connection is gone: a PIN may be on its way into the store.
  const listener = nodeListener((request, connection) => {
    const answer = handler(request, connection)
    underWay.add(answer)
    return answer.finally(() => underWay.delete(answer))
  })
  const respond = (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    outgoing.shouldKeepAlive &&= !stopping
    listener(incoming, outgoing)
  }
  const server = https.createServer(
    {
      key: folder.read('server.key'),
      cert: folder.read('server.pem'),
      // Whoever this CA certifies may call: it must certify D1 and nobody else.
      ca: folder.read('ca.pem'),
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: 'TLSv1.2',
      ...LIMITS,
    },
    respond,
  )
  server.maxHeadersCount = MAX_HEADERS
  server.maxConnections = MAX_CONNECTIONS
  server.on('clientError', answerClientError)
  // An `Expect` that is not 100-continue: Node would answer 417, which the contract does not have.
  server.on('checkExpectation', respond)
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      server.off('error', reject)
      resolve()
    })
  })
  const name = ['127.0.0.1', '0.0.0.0', '::', '::1'].includes(host) ? 'localhost' : host

  async function stop(): Promise<void> {
    stopping = true
    const closed = new Promise<void>(resolve => server.close(() => resolve()))
    const idle = setInterval(() => server.closeIdleConnections(), 100)
    const bound = setTimeout(() => server.closeAllConnections(), GRACE_MS)
    await closed
    clearInterval(idle)
    clearTimeout(bound)
    await Promise.allSettled(underWay)
  }
  return { url: `https://${name}:${(server.address() as AddressInfo).port}`, stop }
}
