/** `fetch` with a client certificate, over node:https: the platform's own has no option for one. */

import { createPrivateKey, X509Certificate } from 'node:crypto'
import { type ClientRequest, request as httpRequest } from 'node:http'
import { Agent, type AgentOptions, request } from 'node:https'
import type { Duplex } from 'node:stream'
import { connect, createSecureContext, type SecureContext } from 'node:tls'
import { readOptions } from '../../base/arguments.js'
import { bufferOf, ownCopy, utf8Bytes, wipe, withWiped } from '../../base/bytes.js'
import { systemClock } from '../../base/deadline.js'
import { DEFAULTS } from '../../base/defaults.js'
import { ArgumentError } from '../../base/errors.js'
import { type D1Fetch, type FetchInit, type FetchResponse, networkFailure } from './exchange.js'

/** PEM text or its bytes. */
export type Pem = string | Uint8Array

/** A client certificate with its private key: in PEM, or both in one PKCS#12 file. */
export interface MtlsIdentity {
  /** The client certificate, then its chain. */
  readonly cert?: Pem
  /** Its private key. */
  readonly key?: Pem
  /** PKCS#12 (RFC 7292) with certificate, key and chain, in place of `cert` and `key`. */
  readonly pfx?: Uint8Array
  /** Of the key or of the PKCS#12 file, where it is encrypted. */
  readonly passphrase?: string
}

/** Where connections to D1 go through. */
export interface EgressProxy {
  /** `http://host:port`: it is asked for a tunnel (CONNECT), through which TLS goes end to end. */
  readonly url: string
  /** `Proxy-Authorization`, where it wants one. Secret. */
  readonly authorization?: string
}

/** What {@link mtlsFetch} takes. */
export interface MtlsOptions extends MtlsIdentity {
  /** Who may certify the server; Node's own list where absent. */
  readonly ca?: Pem | readonly Pem[]
  /** `TLSv1.2` where absent. */
  readonly minVersion?: 'TLSv1.2' | 'TLSv1.3'
  /** Connections at a time to one host: 1 to 256, 64 where absent. Requests beyond wait, within their time limit. */
  readonly maxSockets?: number
  readonly proxy?: EgressProxy
  /**
   * Hears of each certificate that has expired or will within 30 days, once a day: the client's, those of its chain (of PEM; those in a
   * PKCS#12 file are OpenSSL's alone), and, where none of `ca` lasts longer, the last of them. A process warning where absent.
   */
  readonly onExpiry?: (certificate: ExpiringCertificate) => void
}

/** A certificate whose time is over, or will be soon. */
export interface ExpiringCertificate {
  /** `client`: our own. `chain`: what certifies it. `ca`: who may certify D1. */
  readonly role: 'client' | 'chain' | 'ca'
  readonly expired: boolean
  readonly validTo: Date
  /** SHA-256, as openssl writes it. */
  readonly fingerprint256: string
}

/** A {@link D1Fetch} with connections of its own. */
export interface MtlsFetch extends D1Fetch, Disposable {
  /**
   * Closes its connections, those in use as well. Requests that wait for one are not sent any more, and none is begun
   * afterwards. Idle connections do not keep the process alive.
   */
  close(): void
  /**
   * Another client certificate for the requests from now on; those on their way end with the old one. Errors: as
   * {@link mtlsFetch}, and the old one is then kept.
   */
  renew(identity: MtlsIdentity): void
}

const IDENTITY = ['cert', 'key', 'pfx', 'passphrase'] as const
const NAMES = [...IDENTITY, 'ca', 'minVersion', 'maxSockets', 'proxy', 'onExpiry'] as const
const MAX_SOCKETS = 256
const DAY_MS = 86_400_000

/**
 * Makes a `fetch` that has a client certificate. The server's certificate is always verified, whatever
 * `NODE_TLS_REJECT_UNAUTHORIZED` says. HTTP/1.1 with connections kept alive; no redirects, no decompression; a proxy only
 * where one is given, whatever the environment says. The key is handed to OpenSSL and not kept.
 *
 * Errors: `ERR_ARGUMENT` (certificate, key or CA cannot be used, with OpenSSL's code; a key that is not the certificate's;
 * another option). What it rejects with is Node's own error, or, after `close`, one with the code `FETCH_CLOSED`; `d1Client` makes
 * `ERR_D1_UNREACHABLE` of it. Source: RFC 8446, 4.4.2 (client certificate); RFC 9110, 9.3.6 (CONNECT).
 *
 * @example
 * ```ts
 * using fetch = mtlsFetch({ cert: await readFile('issuer.crt'), key: await readFile('issuer.key') })
 * const d1 = d1Client({ environment: 'production', fetch, … })
 * ```
 */
export function mtlsFetch(options: MtlsOptions): MtlsFetch {
  const given = readOptions(options, 'mtlsFetch', NAMES)
  const { maxSockets = DEFAULTS.client.maxSockets.value, onExpiry } = given
  if (!Number.isInteger(maxSockets) || maxSockets < 1 || maxSockets > MAX_SOCKETS) {
    throw new ArgumentError(`maxSockets must be 1 to ${MAX_SOCKETS}`)
  }
  if (onExpiry !== undefined && typeof onExpiry !== 'function') {
    throw new ArgumentError('onExpiry must be a function')
  }
  const connections = new Connections({ ...given, maxSockets })
  const close = (): void => connections.close()
  return Object.assign((url: string, init: FetchInit) => connections.send(url, init), {
    close,
    renew: (identity: MtlsIdentity) => connections.renew(readOptions(identity, 'renew', IDENTITY)),
    [Symbol.dispose]: close,
  })
}

/** The connections of one {@link MtlsFetch}: an agent for each identity, of which the last takes requests. */
class Connections {
  readonly #common: Shared & { readonly maxSockets: number }
  readonly #proxy: ProxyAddress | undefined
  readonly #underWay = new Set<ClientRequest>()
  readonly #tunnels: Tunnels = { asked: new Set(), ended: false }
  #agent: Agent
  #expiry: ExpiryWatch
  #closed = false

  constructor({
    ca,
    minVersion,
    onExpiry,
    proxy,
    maxSockets,
    ...identity
  }: MtlsOptions & { maxSockets: number }) {
    this.#common = {
      maxSockets,
      ca,
      minVersion,
      onExpiry,
    }
    this.#proxy = proxy === undefined ? undefined : readProxy(proxy)
    const { agent, expiry } = this.#open(identity)
    this.#agent = agent
    this.#expiry = expiry
  }

  #open(identity: MtlsIdentity): { readonly agent: Agent; readonly expiry: ExpiryWatch } {
    const { maxSockets, onExpiry } = this.#common
    // With a context, the key is not among the agent's options, which util.inspect shows.
    const { secureContext, watched } = readIdentity({ ...identity, ...this.#common })
    const settings: AgentOptions = {
      secureContext,
      rejectUnauthorized: true,
      keepAlive: true,
      timeout: DEFAULTS.client.idleMs.value,
      maxSockets,
      maxFreeSockets: maxSockets,
    }
    const expiry = new ExpiryWatch(watched, onExpiry)
    expiry.look()
    return {
      agent:
        this.#proxy === undefined
          ? new Agent(settings)
          : new TunnelAgent(settings, this.#proxy, this.#tunnels),
      expiry,
    }
  }

  renew(identity: MtlsIdentity): void {
    const { agent, expiry } = this.#open(identity)
    const old = this.#agent
    this.#agent = agent
    this.#expiry = expiry
    // What is on its way there is the last of it: its connections are not kept.
    old.maxFreeSockets = 0
    for (const socket of Object.values(old.freeSockets).flat()) socket?.destroy()
  }

  close(): void {
    this.#closed = true
    for (const outgoing of this.#underWay) outgoing.destroy(closed(outgoing.socket !== null))
    this.#agent.destroy()
  }

  send(url: string, init: FetchInit): Promise<FetchResponse> {
    if (this.#closed) return Promise.reject(closed(false))
    this.#expiry.look()
    const { method, headers, signal } = init
    const body = bufferOf(utf8Bytes(init.body ?? ''))
    return new Promise((resolve, reject) => {
      // The agent takes nothing but https.
      const options = {
        agent: this.#agent,
        method,
        headers: { ...headers, 'content-length': String(body.length) },
        signal,
        // Node keeps the signal itself from an agent.
        askedUntil: signal,
      }
      const outgoing = request(url, options, incoming =>
        resolve({
          status: Number(incoming.statusCode),
          headers: { get: name => headerOf(incoming.rawHeaders, name) },
          body: incoming,
        }),
      )
      this.#underWay.add(outgoing)
      outgoing.once('close', () => this.#underWay.delete(outgoing))
      outgoing.on('error', reject)
      outgoing.end(body)
    })
  }
}

/** `hasConnection`: what was begun on a connection may have arrived. */
function closed(hasConnection: boolean): Error {
  const code = hasConnection ? 'FETCH_CLOSED' : 'FETCH_CLOSED_UNSENT'
  return Object.assign(new Error('mtlsFetch is closed'), { code })
}

/** A certificate that the connections stand on. */
interface Watched {
  readonly role: ExpiringCertificate['role']
  readonly certificate: X509Certificate
}

/** Says so, once a day, where a certificate has expired or will soon. */
class ExpiryWatch {
  readonly #watched: readonly Watched[]
  readonly #tell: (certificate: ExpiringCertificate) => void
  #next = 0

  constructor(watched: readonly Watched[], tell: MtlsOptions['onExpiry']) {
    this.#watched = watched
    this.#tell = tell ?? warn
  }

  look(): void {
    const now = systemClock.now()
    if (now < this.#next) return
    this.#next = now + DAY_MS
    for (const { role, certificate } of this.#watched) {
      const at = expiryOf(certificate)
      if (at - now > DEFAULTS.client.expiryWarningDays.value * DAY_MS) continue
      const { fingerprint256 } = certificate
      this.#tell({ role, expired: at <= now, validTo: new Date(at), fingerprint256 })
    }
  }
}

function expiryOf({ validTo }: X509Certificate): number {
  return Date.parse(validTo)
}

const WHAT: Readonly<Record<ExpiringCertificate['role'], string>> = {
  client: 'the client certificate for D1',
  chain: 'a certificate in the chain of the client certificate for D1',
  ca: 'every CA certificate for D1 has expired or will: the last',
}

function warn({ role, expired, validTo, fingerprint256 }: ExpiringCertificate): void {
  const when = `${expired ? 'has expired: ' : 'expires '}${validTo.toISOString()}`
  process.emitWarning(`${WHAT[role]} ${when} (${fingerprint256})`, 'IssuerPinWarning')
}

interface ProxyAddress {
  readonly hostname: string
  readonly port: number
  readonly authorization: string | undefined
}

function readProxy(proxy: EgressProxy): ProxyAddress {
  const { url, authorization } = readOptions(proxy, 'proxy', ['url', 'authorization'])
  const address = typeof url === 'string' && URL.canParse(url) ? new URL(url) : undefined
  if (
    address === undefined ||
    address.protocol !== 'http:' ||
    address.username !== '' ||
    address.pathname !== '/'
  ) {
    throw new ArgumentError('proxy.url must be http://host:port, without user or path')
  }
  if (authorization !== undefined && !/^[\x20-\x7e]{1,4096}$/.test(authorization)) {
    throw new ArgumentError('proxy.authorization must be the text of a header')
  }
  const { hostname, port } = address
  return { hostname: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 80), authorization }
}

/** What a proxy was asked for and is not there yet, by the agents of before a renewal as well: none of them knows of it. */
interface Tunnels {
  readonly asked: Set<ClientRequest>
  ended: boolean
}

/** Connects through a proxy that is asked for a tunnel; TLS is spoken with D1, end to end. */
class TunnelAgent extends Agent {
  readonly #proxy: ProxyAddress
  readonly #tunnels: Tunnels

  constructor(settings: AgentOptions, proxy: ProxyAddress, tunnels: Tunnels) {
    super(settings)
    this.#proxy = proxy
    this.#tunnels = tunnels
  }

  override createConnection(
    options: AgentOptions & {
      readonly host?: string
      readonly port?: number | string
      readonly servername?: string
      /** The end of the request that wants the connection. */
      readonly askedUntil?: AbortSignal
    },
    done?: (error: Error | null, stream: Duplex) => void,
  ): Duplex | null | undefined {
    const { hostname, port, authorization } = this.#proxy
    const { host = '', port: targetPort = 443, askedUntil: signal } = options
    const target = `${host.includes(':') ? `[${host}]` : host}:${targetPort}`
    const fail = (error: Error): void => done?.(error, undefined as never)
    const tunnel = httpRequest({
      method: 'CONNECT',
      host: hostname,
      port,
      path: target,
      agent: false,
      ...(signal !== undefined && { signal }),
      headers: { host: target, ...(authorization !== undefined && { 'proxy-authorization': authorization }) },
    })
    tunnel.once('connect', ({ statusCode }, socket) => {
      if (statusCode === 200) {
        const { secureContext, servername } = options
        done?.(
          null,
          // The host is what the certificate must name where there is no server name: D1 by an address.
          connect({
            socket,
            host,
            secureContext,
            ...(servername && { servername }),
            rejectUnauthorized: true,
          }),
        )
        return
      }
      socket.destroy()
      fail(Object.assign(new Error('the proxy made no tunnel'), { code: `PROXY_STATUS_${statusCode}` }))
    })
    tunnel.once('error', error =>
      fail(this.#tunnels.ended ? closed(false) : Object.assign(error, { syscall: 'connect' })),
    )
    this.#tunnels.asked.add(tunnel)
    tunnel.once('close', () => this.#tunnels.asked.delete(tunnel))
    tunnel.end()
    return undefined
  }

  override destroy(): void {
    this.#tunnels.ended = true
    for (const tunnel of this.#tunnels.asked) tunnel.destroy()
    super.destroy()
  }
}

/** Each is there, if only as undefined: what was not given is not looked for on a prototype. */
type Shared = { readonly [Name in 'ca' | 'minVersion' | 'onExpiry']: MtlsOptions[Name] | undefined }
type Identity = MtlsIdentity & Pick<Shared, 'ca' | 'minVersion'>

function readIdentity(given: Identity): {
  readonly secureContext: SecureContext
  readonly watched: readonly Watched[]
} {
  const { cert, key, pfx, passphrase, ca, minVersion = 'TLSv1.2' } = given
  if (minVersion !== 'TLSv1.2' && minVersion !== 'TLSv1.3') {
    throw new ArgumentError("minVersion must be 'TLSv1.2' or 'TLSv1.3'")
  }
  if (passphrase !== undefined && typeof passphrase !== 'string') {
    throw new ArgumentError('passphrase must be a string')
  }
  const bundles = (ca === undefined ? [] : Array.isArray(ca) ? ca : [ca]).map(readBundle)
  const authorities = bundles.flatMap(({ certificates }) => certificates)
  const common = {
    ...(ca !== undefined && { ca: bundles.map(({ bytes }) => bytes) }),
    ...(passphrase !== undefined && { passphrase }),
    minVersion,
  }
  if (pfx !== undefined) {
    if (cert !== undefined || key !== undefined) throw new ArgumentError('pfx goes without cert and key')
    if (!(pfx instanceof Uint8Array)) throw new ArgumentError('pfx must be bytes')
    const secureContext = withWiped(bufferOf(ownCopy(pfx)), own => contextOf('pfx', { pfx: own, ...common }))
    return { secureContext, watched: watchedOf(ownCertificates(secureContext), authorities) }
  }
  // OpenSSL has copied what it needs when it has read it.
  return withWiped(pemOf(cert, 'cert'), certPem =>
    withWiped(pemOf(key, 'key'), keyPem => {
      const certificate = attempt('cert', () => new X509Certificate(certPem))
      const [, ...chain] = certificatesIn(certPem, 'cert')
      const privateKey = attempt('key', () =>
        createPrivateKey({ key: keyPem, ...(passphrase !== undefined && { passphrase }) }),
      )
      // OpenSSL takes an RSA certificate with an EC key, and then sends none.
      if (!certificate.checkPrivateKey(privateKey)) throw new ArgumentError("key is not the certificate's")
      const secureContext = contextOf('cert and key', { cert: certPem, key: keyPem, ...common })
      return { secureContext, watched: watchedOf([certificate, ...chain], authorities) }
    }),
  )
}

/** Of the authorities one that lasts is enough: a list that is being rotated has old ones in it. */
function watchedOf(
  certificates: readonly X509Certificate[],
  authorities: readonly X509Certificate[],
): readonly Watched[] {
  const last = [...authorities].sort((a, b) => expiryOf(b) - expiryOf(a)).slice(0, 1)
  return [
    ...certificates.map((certificate, i) => ({ role: i === 0 ? 'client' : 'chain', certificate }) as const),
    ...last.map(certificate => ({ role: 'ca', certificate }) as const),
  ]
}

function contextOf(what: string, material: Parameters<typeof createSecureContext>[0]): SecureContext {
  return attempt(what, () => createSecureContext(material))
}

/** The certificate of a PKCS#12 file, which only OpenSSL has read; none where Node does not give it. */
function ownCertificates({ context }: SecureContext): readonly X509Certificate[] {
  const der: unknown = context?.getCertificate?.()
  /* v8 ignore next -- every Node that is supported gives it, and it is not documented: the next one may not */
  return der instanceof Uint8Array ? [new X509Certificate(der)] : []
}

const BEGIN = '-----BEGIN '
/** What OpenSSL reads as a certificate. */
const LABELS = ['CERTIFICATE', 'X509 CERTIFICATE', 'TRUSTED CERTIFICATE']

/** OpenSSL passes over what is no certificate, and then trusts fewer than were meant, or nobody: found here at once. */
function readBundle(pem: unknown): {
  readonly bytes: Buffer
  readonly certificates: readonly X509Certificate[]
} {
  const bytes = pemOf(pem, 'ca')
  const certificates = certificatesIn(bytes, 'ca')
  if (certificates.length === 0 || certificates.length !== beginsIn(bytes).length) {
    throw new ArgumentError('ca must hold certificates and nothing else')
  }
  return { bytes, certificates }
}

/** Where something begins in a PEM file, and where it ends at the latest. */
function beginsIn(bytes: Buffer): readonly (readonly [from: number, to: number])[] {
  const places: number[] = []
  for (let at = bytes.indexOf(BEGIN); at >= 0; at = bytes.indexOf(BEGIN, at + 1)) places.push(at)
  return places.map((at, i) => [at, places[i + 1] ?? bytes.length])
}

/** The certificates of a PEM file, by its bytes: a private key may be in it as well, and becomes no text. */
function certificatesIn(bytes: Buffer, name: string): readonly X509Certificate[] {
  return beginsIn(bytes).flatMap(([from, to]) => {
    const part = bytes.subarray(from, to)
    const label = LABELS.find(text => part.indexOf(`${BEGIN}${text}-----`) === 0)
    const end = label === undefined ? -1 : part.indexOf(`-----END ${label}-----`)
    // Of what lies behind the end nothing is handed on.
    return end < 0
      ? []
      : [attempt(name, () => new X509Certificate(part.subarray(0, part.indexOf('-----', end + 5) + 5)))]
  })
}

/** A copy that the caller wipes: a key may be in it, in whichever of the files. */
function pemOf(pem: unknown, name: string): Buffer {
  if (typeof pem === 'string' || pem instanceof Uint8Array) {
    const bytes = bufferOf(typeof pem === 'string' ? utf8Bytes(pem) : ownCopy(pem))
    if (bytes.includes(BEGIN)) return bytes
    wipe(bytes)
  }
  throw new ArgumentError(`${name} must be PEM`)
}

/** OpenSSL's code says what is wrong; its message is not repeated. */
function attempt<T>(what: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw new ArgumentError(`${what} cannot be used: ${networkFailure(error).reason}`)
  }
}

/**
 * The values of a header, by the lines as they came. Node's `headersDistinct` is empty in every message as soon as anybody has read
 * it of their prototype, as whoever looks at all there is does.
 */
function headerOf(lines: readonly string[], name: string): string | null {
  const wanted = name.toLowerCase()
  const values = lines.filter((_, i) => i % 2 === 1 && lines[i - 1]?.toLowerCase() === wanted)
  return values.length === 0 ? null : values.join(', ')
}
