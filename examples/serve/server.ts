/** HTTPS with client certificates, the server's limits, and a clean end. */
import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import https from 'node:https'
import type { AddressInfo, Server } from 'node:net'
import {
  type EndpointHandler,
  healthEndpoints,
  nodeListener,
  type ReadinessCheck,
  serverLimits,
  watchServer,
} from 'issuer-pin-crypto/d1'
import type { Folder } from './folder.js'

/** How long what is under way may take to end. Longer than the endpoints' own limit would be of no use. */
const GRACE_MS = 30_000
const MAX_CONNECTIONS = 2000

export interface RunningServer {
  /** Origin, for a client on this machine. */
  readonly url: string
  /** Where health has a port of its own. */
  readonly healthUrl?: string
  /** Stops accepting, waits for what is under way (a bound), ends the rest. */
  stop(): Promise<void>
}

/** Where `/livez` and `/readyz` are: on a port of their own, on D1's port, or nowhere. */
export type HealthPlace = number | 'd1-port' | undefined

export interface ServerOptions {
  readonly folder: Folder
  readonly host: string
  readonly port: number
  readonly health: HealthPlace
  readonly checks: Readonly<Record<string, ReadinessCheck>>
}

/** Listens. Rejects where the address is taken or not to be had. */
export async function startServer(
  handler: EndpointHandler,
  { folder, host, port, health, checks }: ServerOptions,
): Promise<RunningServer> {
  let stopping = false
  const listener = nodeListener(handler)
  const healthListener = nodeListener(healthEndpoints({ checks }))
  const respond = (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    outgoing.shouldKeepAlive &&= !stopping
    if (health === 'd1-port' && healthListener.takes(incoming)) healthListener(incoming, outgoing)
    else listener(incoming, outgoing)
  }
  const server = https.createServer(
    {
      key: folder.read('server.key'),
      cert: folder.read('server.pem'),
      // Whom it certifies gets a connection; who may call is for the endpoints to say.
      ca: folder.read('ca.pem'),
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: 'TLSv1.2',
      ...serverLimits,
    },
    respond,
  )
  watchServer({ server, handler, maxConnections: MAX_CONNECTIONS })
  // Plain HTTP, for this machine alone: whoever asks shows no certificate.
  const healthServer =
    typeof health === 'number' ? http.createServer({ ...serverLimits }, healthListener) : undefined
  await listen(server, port, host)
  if (healthServer !== undefined && typeof health === 'number') {
    try {
      await listen(healthServer, health, '127.0.0.1')
    } catch (error) {
      server.close()
      throw error
    }
  }
  const name = ['127.0.0.1', '0.0.0.0', '::', '::1'].includes(host) ? 'localhost' : host

  async function stop(): Promise<void> {
    stopping = true
    const closed = new Promise<void>(resolve => server.close(() => resolve()))
    const idle = setInterval(() => server.closeIdleConnections(), 100)
    const bound = setTimeout(() => server.closeAllConnections(), GRACE_MS)
    await closed
    clearInterval(idle)
    clearTimeout(bound)
    // A request is seen to its end even where its connection is gone: a PIN may be on its way into the store.
    await handler.settled?.()
    healthServer?.closeAllConnections()
    healthServer?.close()
  }
  return {
    url: `https://${name}:${portOf(server)}`,
    ...(healthServer !== undefined && { healthUrl: `http://127.0.0.1:${portOf(healthServer)}` }),
    stop,
  }
}

function listen(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port
}
