/** HTTPS with client certificates, or a Unix socket behind nginx; the server's limits, and a clean end. */
import { lstatSync, rmSync } from 'node:fs'
import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import https from 'node:https'
import { type AddressInfo, connect, type ListenOptions, type Server } from 'node:net'
import {
  type EndpointHandler,
  healthEndpoints,
  nodeListener,
  type ReadinessCheck,
  serverLimits,
  type TrustedProxy,
  watchServer,
} from 'issuer-pin-crypto/d1'
import type { Folder } from './folder.js'
import { type Place, UsageError } from './options.js'

/** How long what is under way may take to end. Longer than the endpoints' own limit would be of no use. */
const GRACE_MS = 30_000
const MAX_CONNECTIONS = 2000

/** What nginx states, where it is in front (docs/guides/who-calls.md). It counts on the socket alone. */
export const NGINX = {
  from: { listener: 'nginx' },
  header: { certificate: 'X-SSL-Client-Cert', verify: 'X-SSL-Client-Verify' },
} as const satisfies TrustedProxy

export interface RunningServer {
  /** Origin, for a client on this machine. */
  readonly url: string
  /** Where health has a port of its own. */
  readonly healthUrl?: string
  /** Stops accepting, waits for what is under way (a bound), ends the rest. */
  stop(): Promise<void>
}

/** Where `/livez` and `/readyz` are: on a port of their own, where D1 is answered, or nowhere. */
export type HealthPlace = number | 'd1-port' | undefined

export interface ServerOptions {
  readonly folder: Folder
  readonly place: Place
  readonly health: HealthPlace
  readonly checks: Readonly<Record<string, ReadinessCheck>>
}

/** Listens. Rejects where the address is taken or not to be had. */
export async function startServer(
  handler: EndpointHandler,
  { folder, place, health, checks }: ServerOptions,
): Promise<RunningServer> {
  let stopping = false
  const listener = nodeListener(handler, 'socket' in place ? NGINX.from : {})
  const healthListener = nodeListener(healthEndpoints({ checks }))
  const respond = (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    outgoing.shouldKeepAlive &&= !stopping
    if (health === 'd1-port' && healthListener.takes(incoming)) healthListener(incoming, outgoing)
    else listener(incoming, outgoing)
  }
  const tls = {
    key: folder.read('server.key'),
    cert: folder.read('server.pem'),
    // Whom it certifies gets a connection; who may call is for the endpoints to say.
    ca: folder.read('ca.pem'),
    requestCert: true,
    rejectUnauthorized: true,
    minVersion: 'TLSv1.2',
  } as const
  const server =
    'socket' in place
      ? http.createServer({ ...serverLimits }, respond)
      : https.createServer({ ...tls, ...serverLimits }, respond)
  watchServer({ server, handler, maxConnections: MAX_CONNECTIONS })
  // Plain HTTP, for this machine alone: whoever asks shows no certificate.
  const healthServer =
    typeof health === 'number' ? http.createServer({ ...serverLimits }, healthListener) : undefined
  if ('socket' in place) await listenOnSocket(server, place.socket)
  else await listen(server, place)
  if (healthServer !== undefined && typeof health === 'number') {
    try {
      await listen(healthServer, { port: health, host: '127.0.0.1' })
    } catch (error) {
      server.close()
      throw error
    }
  }

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
    url: 'socket' in place ? place.url : `https://${nameOf(place.host)}:${portOf(server)}`,
    ...(healthServer !== undefined && { healthUrl: `http://127.0.0.1:${portOf(healthServer)}` }),
    stop,
  }
}

function listen(server: Server, where: ListenOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(where, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

/** On a socket whose file is gone when the server is closed. Throws {@link UsageError} where something else has the file. */
async function listenOnSocket(server: Server, path: string): Promise<void> {
  const there = lstatSync(path, { throwIfNoEntry: false })
  if (there !== undefined) {
    if (!there.isSocket()) throw new UsageError(`--socket: ${path} is there, and is no socket`)
    if (await answers(path)) throw new UsageError(`another process listens on ${path}; take another --socket`)
    // Of a process that was killed.
    rmSync(path)
  }
  // Who may write may connect: its owner and its group, from the moment at which it is there.
  const umask = process.umask(0o117)
  const listening = listen(server, { path })
  process.umask(umask)
  await listening
}

/** Only a socket that nobody listens on refuses; one that may not be asked, or is too busy, is somebody's. */
function answers(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(path, () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', error => resolve(Reflect.get(error, 'code') !== 'ECONNREFUSED'))
  })
}

/** A name of the server's certificate. */
function nameOf(host: string): string {
  return ['127.0.0.1', '0.0.0.0', '::', '::1'].includes(host) ? 'localhost' : host
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port
}
