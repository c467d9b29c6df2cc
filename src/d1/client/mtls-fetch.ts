/** `fetch` with a client certificate, over node:https: the platform's own has no option for one. */
import { X509Certificate } from 'node:crypto'
import { Agent, request } from 'node:https'
import { createSecureContext, type SecureContext } from 'node:tls'
import { readOptions } from '../../base/arguments.js'
import { ArgumentError } from '../../base/errors.js'
import { type D1Fetch, type FetchInit, type FetchResponse, networkFailure } from './exchange.js'

/** PEM text or its bytes. */
export type Pem = string | Uint8Array

/** What {@link mtlsFetch} takes. */
export interface MtlsOptions {
  /** The client certificate, then its chain. */
  readonly cert: Pem
  /** Its private key. */
  readonly key: Pem
  /** Of the key, where it is encrypted. */
  readonly passphrase?: string
  /** Who may certify the server; Node's own list where absent. */
  readonly ca?: Pem | readonly Pem[]
  /** `TLSv1.2` where absent. */
  readonly minVersion?: 'TLSv1.2' | 'TLSv1.3'
  /** Connections at a time to one host: 1 to 256, 64 where absent. Requests beyond wait, within their time limit. */
  readonly maxSockets?: number
}

/** A {@link D1Fetch} with connections of its own. */
export interface MtlsFetch extends D1Fetch, Disposable {
  /** Closes its connections, those in use as well. Idle ones do not keep the process alive. */
  close(): void
}

const NAMES = ['cert', 'key', 'passphrase', 'ca', 'minVersion', 'maxSockets'] as const
const MAX_SOCKETS = 256
const DEFAULT_SOCKETS = 64
/**
 * How long a connection may be idle before it is closed. Short, because a request on a connection that the server is just
 * closing fails with an unknown outcome, and a POST is then not repeated. Servers commonly wait for 5 seconds or more.
 */
const IDLE_MS = 4000

/**
 * Makes a `fetch` that has a client certificate. The server's certificate
 * is always verified, whatever `NODE_TLS_REJECT_UNAUTHORIZED` says. HTTP/1.1 with connections kept alive; no redirects,
 * no decompression, no proxy. The key is handed to OpenSSL and not kept.
 *
 * Errors: `ERR_ARGUMENT` (certificate, key or CA cannot be used, with OpenSSL's code; another option). What it rejects
 * with is Node's own error; `d1Client` makes `ERR_D1_UNREACHABLE` of it. Source: RFC 8446, 4.4.2 (client certificate).
 *
 * @example
 * ```ts
 * using fetch = mtlsFetch({ cert: await readFile('issuer.crt'), key: await readFile('issuer.key') })
 * const d1 = d1Client({ environment: 'production', fetch, … })
 * ```
 */
export function mtlsFetch(options: MtlsOptions): MtlsFetch {
  const given = readOptions(options, 'mtlsFetch', NAMES)
  const { maxSockets = DEFAULT_SOCKETS } = given
  if (!Number.isInteger(maxSockets) || maxSockets < 1 || maxSockets > MAX_SOCKETS) {
    throw new ArgumentError(`maxSockets must be 1 to ${MAX_SOCKETS}`)
  }
  // With a context, the key is not among the agent's options, which util.inspect shows.
  const secureContext = contextOf(given)
  const agent = new Agent({
    secureContext,
    rejectUnauthorized: true,
    keepAlive: true,
    timeout: IDLE_MS,
    maxSockets,
    maxFreeSockets: maxSockets,
  })
  const close = (): void => agent.destroy()
  return Object.assign((url: string, init: FetchInit) => send(agent, url, init), {
    close,
    [Symbol.dispose]: close,
  })
}

function send(agent: Agent, url: string, init: FetchInit): Promise<FetchResponse> {
  const { method, headers, signal } = init
  const body = Buffer.from(init.body ?? '')
  return new Promise((resolve, reject) => {
    // The agent takes nothing but https.
    const outgoing = request(
      url,
      { agent, method, headers: { ...headers, 'content-length': String(body.length) }, signal },
      incoming =>
        resolve({
          status: Number(incoming.statusCode),
          headers: { get: name => incoming.headersDistinct[name.toLowerCase()]?.join(', ') ?? null },
          body: incoming,
        }),
    )
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}

function contextOf({ cert, key, passphrase, ca, minVersion = 'TLSv1.2' }: MtlsOptions): SecureContext {
  if (minVersion !== 'TLSv1.2' && minVersion !== 'TLSv1.3') {
    throw new ArgumentError("minVersion must be 'TLSv1.2' or 'TLSv1.3'")
  }
  if (passphrase !== undefined && typeof passphrase !== 'string') {
    throw new ArgumentError('passphrase must be a string')
  }
  const authorities = (Array.isArray(ca) ? ca : [ca]).filter(pem => pem !== undefined)
  const material = {
    cert: pemOf(cert, 'cert'),
    key: pemOf(key, 'key'),
    ...(ca !== undefined && { ca: authorities.map(certificateOf) }),
    ...(passphrase !== undefined && { passphrase }),
  }
  try {
    return createSecureContext({ ...material, minVersion })
  } catch (error) {
    throw unusable('cert and key', error)
  }
}

/** OpenSSL passes over a CA that is no certificate, and then trusts nobody: said here, it is found at once. */
function certificateOf(pem: unknown): Buffer {
  const bytes = pemOf(pem, 'ca')
  try {
    new X509Certificate(bytes)
  } catch (error) {
    throw unusable('ca', error)
  }
  return bytes
}

function pemOf(pem: unknown, name: string): Buffer {
  if (typeof pem === 'string' || pem instanceof Uint8Array) {
    const bytes = Buffer.from(pem)
    if (bytes.includes('-----BEGIN ')) return bytes
  }
  throw new ArgumentError(`${name} must be PEM`)
}

/** OpenSSL's code says what is wrong; its message is not repeated. */
function unusable(what: string, error: unknown): ArgumentError {
  return new ArgumentError(`${what} cannot be used: ${networkFailure(error).reason}`)
}
