/**
 * What is known of the other end of a connection, and whose certificate a request comes with: the connection's own, or
 * the one that a trusted proxy states where TLS ends there. A statement counts on connections that are recognised as the
 * proxy's, and nowhere else: anybody can send a header.
 *
 * - `client-cert`: RFC 9440, one byte sequence (RFC 8941, 3.3.5).
 * - `x-forwarded-client-cert`: Envoy's; of several elements the last, which the proxy in front of us wrote.
 * - two headers with names of their own: nginx's `$ssl_client_escaped_cert` and `$ssl_client_verify`.
 */
import { createHash, X509Certificate } from 'node:crypto'
import type { Duplex } from 'node:stream'
import { readOptions } from '../../base/arguments.js'
import { ArgumentError } from '../../base/errors.js'
import type { HeaderView } from './http.js'

/** A connection, as the endpoints see it. A field that is not known is one that does not help a caller. */
export interface Connection {
  /** TLS ends here. */
  readonly encrypted: boolean
  /** TLS asked for a client certificate, and verified it. */
  readonly authorized: boolean
  /** The client's. */
  readonly certificate?: X509Certificate
  /** The address of the other side; a Unix socket has none. */
  readonly address?: string
  /** The name that the listener was given: what trust hangs on where the connection itself says nothing. */
  readonly listener?: string
}

/** A certificate that a request comes with. */
export interface PeerCertificate {
  /** SHA-256 of its DER encoding: 64 lower-case hex digits. */
  readonly sha256: string
  /** Absent where a proxy states the hash alone. */
  readonly x509?: X509Certificate
  /** Its validity, in milliseconds since 1970. */
  readonly validFrom: number
  readonly validTo: number
}

/** nginx's two headers, or another proxy's of that kind. Names as they are sent, in any case. */
export interface EscapedPemHeaders {
  /** The certificate as PEM, in percent encoding: `$ssl_client_escaped_cert`. */
  readonly certificate: string
  /** What came of verifying it: `$ssl_client_verify`. It must be `SUCCESS`, to the letter. */
  readonly verify: string
}

/** A proxy at which TLS ends. */
export interface TrustedProxy {
  /**
   * How its connections are recognised: by its own client certificate (SHA-256 of the DER, hex); by the name of a
   * listener that nobody else can reach, such as a Unix socket (see `nodeListener`); or `loopback`: whatever process of
   * this machine connects over TCP is trusted.
   */
  readonly from: { readonly sha256: readonly string[] } | { readonly listener: string } | 'loopback'
  readonly header: 'client-cert' | 'x-forwarded-client-cert' | EscapedPemHeaders
}

/** What a request's certificate comes to; `stated`: by a trusted proxy. */
export type Presented =
  | { readonly certificate: PeerCertificate; readonly stated: boolean }
  | { readonly problem: 'connection' | 'certificate-missing' | 'certificate-stated' }

const facts = new WeakMap<object, Connection>()

/**
 * What is known of the connection of a Node request (`node:http`, `node:https`, `node:http2`), for handlers that are not
 * mounted with `nodeListener`. The option `listener`: see {@link Connection}.
 *
 * Errors: none, `ERR_ARGUMENT` where there is no request.
 *
 * @example
 * ```ts
 * server.on('request', incoming => console.log(connectionOf(incoming).address)) // Hono 4: connectionOf(c.env.incoming)
 * ```
 */
export function connectionOf(
  incoming: { readonly socket?: Duplex | null },
  options: { readonly listener?: string | undefined } = {},
): Connection {
  const { listener } = readOptions(options, 'connectionOf', ['listener'])
  if (typeof incoming !== 'object' || incoming === null)
    throw new ArgumentError('connectionOf takes a request')
  const { socket } = incoming
  // A request that a framework made up for a test has no connection, or a pretended one.
  if (typeof socket !== 'object' || socket === null) return { encrypted: false, authorized: false }
  const known = facts.get(socket) ?? lookAt(socket)
  // Asking for the certificate takes longer than all else here; it does not change while the connection lasts.
  facts.set(socket, known)
  return listener === undefined ? known : { ...known, listener }
}

function lookAt(socket: Duplex): Connection {
  const encrypted = Reflect.get(socket, 'encrypted') === true
  const address: unknown = Reflect.get(socket, 'remoteAddress')
  const ask: unknown = Reflect.get(socket, 'getPeerX509Certificate')
  const certificate: unknown = encrypted && typeof ask === 'function' ? ask.call(socket) : undefined
  return {
    encrypted,
    authorized: encrypted && Reflect.get(socket, 'authorized') === true,
    ...(certificate instanceof X509Certificate && { certificate }),
    ...(typeof address === 'string' && { address }),
  }
}

/** Headers that proxies state certificates in; one of them on a connection that is no proxy's is noted. */
const WELL_KNOWN: readonly string[] = [
  'client-cert',
  'x-forwarded-client-cert',
  'x-ssl-client-cert',
  'x-ssl-client-verify',
  'x-client-cert',
  'x-amzn-mtls-clientcert',
  'x-amzn-mtls-clientcert-leaf',
]
const MAX_HEADER = 16_384
const MAX_KEPT = 64

/** Reads certificates off requests; made once, from the proxies that are trusted. */
export class Peers {
  readonly #proxies: readonly TrustedProxy[]
  readonly #headers: ReadonlySet<string>
  /** To parse a certificate takes as long as half a JWE; a proxy states the same few. */
  readonly #kept = new Map<string, PeerCertificate>()
  readonly #own = new WeakMap<X509Certificate, PeerCertificate>()

  /** Throws `ERR_ARGUMENT` unless each proxy is one. */
  constructor(proxies: readonly TrustedProxy[] = []) {
    if (!Array.isArray(proxies)) throw new ArgumentError('proxies must be a list')
    this.#proxies = proxies.map(readProxy)
    const names = this.#proxies.flatMap(({ header }) =>
      typeof header === 'string' ? [header] : [header.certificate, header.verify],
    )
    this.#headers = new Set([...WELL_KNOWN, ...names])
  }

  /** The proxy that a connection is recognised as. */
  proxyOf(connection: Connection | undefined): TrustedProxy | undefined {
    return this.#proxies.find(({ from }) => {
      if (connection === undefined) return false
      if (from === 'loopback') return isLoopback(connection.address)
      if ('listener' in from) return connection.listener === from.listener
      const { authorized, certificate } = connection
      return authorized && certificate !== undefined && from.sha256.includes(this.#of(certificate).sha256)
    })
  }

  /** True where the headers state a certificate: on a connection that is no proxy's, nobody believes them. */
  states(headers: HeaderView): boolean {
    for (const name of this.#headers) if (headers.has(name)) return true
    return false
  }

  /** The certificate that a request comes with. */
  presented(
    connection: Connection | undefined,
    proxy: TrustedProxy | undefined,
    headers: HeaderView,
  ): Presented {
    if (proxy !== undefined) {
      const stated = this.#stated(proxy, headers)
      return 'problem' in stated ? stated : { certificate: stated, stated: true }
    }
    if (connection?.encrypted !== true) return { problem: 'connection' }
    const { authorized, certificate } = connection
    if (!authorized || certificate === undefined) return { problem: 'certificate-missing' }
    return { certificate: this.#of(certificate), stated: false }
  }

  #of(x509: X509Certificate): PeerCertificate {
    const known = this.#own.get(x509) ?? describe(x509)
    this.#own.set(x509, known)
    return known
  }

  #stated({ header }: TrustedProxy, headers: HeaderView): PeerCertificate | { problem: StatedProblem } {
    const name = typeof header === 'string' ? header : header.certificate
    const text = headers.get(name)
    if (text === null || text === '') return { problem: 'certificate-missing' }
    // Node sends «NONE» where nobody asked and «FAILED:…» where it did not verify; twice is joined by a comma.
    if (typeof header !== 'string' && headers.get(header.verify) !== 'SUCCESS') {
      return { problem: 'certificate-stated' }
    }
    if (text.length > MAX_HEADER) return { problem: 'certificate-stated' }
    const key = `${name}:${text}`
    const known = this.#kept.get(key)
    if (known !== undefined) return known
    const read = READERS[typeof header === 'string' ? header : 'escaped'](text)
    if (read === undefined) return { problem: 'certificate-stated' }
    this.#kept.set(key, read)
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= MAX_KEPT) break
      this.#kept.delete(oldest)
    }
    return read
  }
}

type StatedProblem = 'certificate-missing' | 'certificate-stated'

/** Whether an address is this machine's own: 127.0.0.0/8, ::1, and the former mapped into the latter's family. */
function isLoopback(address: string | undefined): boolean {
  return address === '::1' || /^(?:::ffff:)?127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(address ?? '')
}

/** A certificate's facts; `ERR_OSSL…` never: it has been parsed. */
function describe(x509: X509Certificate): PeerCertificate {
  return {
    sha256: createHash('sha256').update(x509.raw).digest('hex'),
    x509,
    validFrom: Date.parse(x509.validFrom),
    validTo: Date.parse(x509.validTo),
  }
}

const READERS: Readonly<
  Record<'client-cert' | 'x-forwarded-client-cert' | 'escaped', (text: string) => PeerCertificate | undefined>
> = { 'client-cert': readClientCert, 'x-forwarded-client-cert': readXfcc, escaped: readEscaped }

/** RFC 9440, 2.2: the DER encoding as one byte sequence, without parameters. Two headers are one with a comma. */
function readClientCert(text: string): PeerCertificate | undefined {
  const [, base64] = /^:([A-Za-z0-9+/]+={0,2}):$/.exec(text.trim()) ?? []
  return base64 === undefined ? undefined : parsed(Buffer.from(base64, 'base64'))
}

const PEM = /^-----BEGIN CERTIFICATE-----\r?\n[A-Za-z0-9+/=\r\n]+-----END CERTIFICATE-----\s*$/

/** One PEM block in percent encoding. */
function readEscaped(text: string): PeerCertificate | undefined {
  try {
    const pem = decodeURIComponent(text)
    return PEM.test(pem) ? parsed(pem) : undefined
  } catch {
    return undefined
  }
}

/** `key=value` pairs by `;`, elements by `,`; a value may be quoted, with `\"` inside. */
const XFCC_PAIR = /([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^",;]*)([;,]|$)/y

function readXfcc(text: string): PeerCertificate | undefined {
  const last = lastElement(text)
  const cert = last?.get('cert')
  const hash = last?.get('hash')?.toLowerCase()
  if (hash !== undefined && !SHA256_HEX.test(hash)) return undefined
  if (cert === undefined) {
    return hash === undefined ? undefined : { sha256: hash, validFrom: 0, validTo: Number.POSITIVE_INFINITY }
  }
  const read = readEscaped(cert)
  return read !== undefined && (hash === undefined || hash === read.sha256) ? read : undefined
}

/** The pairs of the last element, names in small letters; undefined where the whole does not parse, or a name is twice. */
function lastElement(text: string): ReadonlyMap<string, string> | undefined {
  let element = new Map<string, string>()
  XFCC_PAIR.lastIndex = 0
  for (;;) {
    const found = XFCC_PAIR.exec(text)
    if (found === null) return undefined
    const [, name = '', value = '', end] = found
    const key = name.toLowerCase()
    // DNS and URI may be there several times; of what is decided by there is one.
    if ((key === 'cert' || key === 'hash') && element.has(key)) return undefined
    element.set(key, value.startsWith('"') ? value.slice(1, -1).replaceAll(/\\(.)/g, '$1') : value)
    if (end === '') return element
    if (end === ',') {
      while (text[XFCC_PAIR.lastIndex] === ' ') XFCC_PAIR.lastIndex++
      element = new Map()
    }
  }
}

function parsed(encoded: Buffer | string): PeerCertificate | undefined {
  try {
    const x509 = new X509Certificate(encoded)
    // What follows the certificate is not part of it, and must not make a second text for the same one.
    return typeof encoded === 'string' || x509.raw.equals(encoded) ? describe(x509) : undefined
  } catch {
    return undefined
  }
}

const SHA256_HEX = /^[0-9a-f]{64}$/
const HEADER_NAME = /^[a-z0-9-]{1,64}$/

/** SHA-256 values of certificates as 64 lower-case hex digits; colons, as openssl writes them, are left out. */
export function readFingerprints(list: unknown, what: string): readonly string[] {
  if (!Array.isArray(list) || list.length === 0) throw new ArgumentError(`${what} must name at least one`)
  return Array.from(list, (text: unknown) => {
    const hex = typeof text === 'string' ? text.replaceAll(':', '').toLowerCase() : ''
    if (SHA256_HEX.test(hex)) return hex
    throw new ArgumentError(`${what} must be SHA-256 values of certificates: 64 hex digits`)
  })
}

function readProxy(proxy: TrustedProxy): TrustedProxy {
  const { from, header } = readOptions(proxy, 'a proxy', ['from', 'header'])
  return { from: readFrom(from), header: readHeader(header) }
}

function readFrom(from: TrustedProxy['from']): TrustedProxy['from'] {
  if (from === 'loopback') return from
  const { sha256, listener } = readOptions<{ sha256?: readonly string[]; listener?: string }>(
    from,
    "from of a proxy other than 'loopback'",
    ['sha256', 'listener'],
  )
  if (sha256 !== undefined && listener === undefined) {
    return { sha256: readFingerprints(sha256, 'sha256 of a proxy') }
  }
  if (sha256 === undefined && typeof listener === 'string' && listener !== '') return { listener }
  throw new ArgumentError('from of a proxy must have either sha256 or listener')
}

function readHeader(header: TrustedProxy['header']): TrustedProxy['header'] {
  if (header === 'client-cert' || header === 'x-forwarded-client-cert') return header
  const { certificate, verify } = readOptions(header, 'header of a proxy', ['certificate', 'verify'])
  const lower = [certificate, verify].map(name => (typeof name === 'string' ? name.toLowerCase() : ''))
  const [first = '', second = ''] = lower
  if (lower.some(name => !HEADER_NAME.test(name)) || first === second) {
    throw new ArgumentError('header of a proxy must name two headers: certificate and verify')
  }
  return { certificate: first, verify: second }
}
