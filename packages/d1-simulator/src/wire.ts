/** D1's end of the connection: requests as a sound client sends them, and bytes as no sound client would. */
import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import https from 'node:https'
import tls from 'node:tls'
import forge from 'node-forge'
import { NoAnswer, NotRun } from './problems.js'
import type { Setup } from './setup.js'

/** What came back. */
export interface Reply {
  readonly status: number
  /** Names in lower case; what is there twice, joined. */
  readonly headers: Readonly<Record<string, string>>
  readonly text: string
}

export interface Ask {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Buffer
}

/**
 * Who a connection is made as: D1, nobody, somebody with a certificate of another authority, or another caller of the
 * same.
 */
export type Identity = 'd1' | 'nobody' | 'stranger' | 'other'

export interface Raw {
  readonly identity?: Identity
  /** Send this every 50 ms after the text, until the other side ends it. */
  readonly drip?: string
  readonly withinMs?: number
}

const DRIP_MS = 50
const HOUR_MS = 3_600_000

/** Connections of one run. */
export class Wire {
  readonly #setup: Setup
  readonly #agent: https.Agent
  #stranger: { readonly cert: string; readonly key: string } | undefined

  constructor(setup: Setup) {
    this.#setup = setup
    this.#agent = new https.Agent({ keepAlive: true, ...setup.tls, minVersion: 'TLSv1.2' })
  }

  close(): void {
    this.#agent.destroy()
  }

  /** One request; {@link NoAnswer} where none comes in time. Redirects are not followed. */
  ask(
    url: string,
    { method = 'GET', headers = {}, body }: Ask = {},
    more: tls.SecureContextOptions = {},
  ): Promise<Reply> {
    const { requestMs } = this.#setup.timeouts
    const length = body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) }
    const fresh = Object.keys(more).length > 0 && { agent: new https.Agent({ ...this.#setup.tls, ...more }) }
    return new Promise((resolve, reject) => {
      const options = { agent: this.#agent, ...fresh, method, headers: { ...headers, ...length } }
      const request = https.request(url, options, response => {
        const chunks: Buffer[] = []
        response.on('data', chunk => chunks.push(chunk))
        response.once('error', error => reject(noAnswer(error)))
        response.once('end', () => {
          const { statusCode: status = 0, headersDistinct } = response
          const lines = Object.entries(headersDistinct).flatMap(([name, values = []]) =>
            values.map(value => [name, value] as const),
          )
          resolve({ status, headers: joined(lines), text: Buffer.concat(chunks).toString() })
        })
      })
      const timer = setTimeout(() => request.destroy(new NoAnswer('TIMEOUT')), requestMs)
      request.once('close', () => clearTimeout(timer))
      request.once('error', error => reject(noAnswer(error)))
      request.end(body)
    })
  }

  /**
   * Sends text as it is, a character a byte, on a connection of its own, and waits until the other side ends it. The
   * first answer in what came, {@link NoAnswer} where there is none.
   */
  async raw(text: string, { identity = 'd1', drip, withinMs }: Raw = {}): Promise<Reply> {
    const milliseconds = withinMs ?? this.#setup.timeouts.requestMs
    const socket = this.connect(identity)
    const chunks: Buffer[] = []
    let reason = 'closed'
    let dripping: NodeJS.Timeout | undefined
    const timer = setTimeout(() => {
      reason = 'TIMEOUT'
      socket.destroy()
    }, milliseconds)
    socket.on('data', chunk => chunks.push(chunk))
    socket.on('error', error => {
      reason = noAnswer(error).reason
    })
    socket.once('end', () => socket.destroy())
    socket.once('secureConnect', () => {
      socket.write(Buffer.from(text, 'latin1'))
      if (drip !== undefined) dripping = setInterval(() => socket.write(drip), DRIP_MS)
    })
    await new Promise(resolve => socket.once('close', resolve))
    clearTimeout(timer)
    clearInterval(dripping)
    if (reason === 'TIMEOUT') throw new NoAnswer(reason)
    const reply = parseReply(Buffer.concat(chunks).toString('latin1'))
    if (reply === undefined) throw new NoAnswer(reason)
    return reply
  }

  /** A socket to the issuer. */
  connect(identity: Identity, more: tls.SecureContextOptions = {}): tls.TLSSocket {
    const { url, tls: own } = this.#setup
    const { hostname, port } = new URL(url)
    const host = hostname.replace(/^\[|\]$/g, '')
    const names = /[^\d.:]/.test(host) ? { servername: host } : {}
    return tls.connect({
      host,
      port: Number(port || 443),
      ca: own.ca,
      ...names,
      minVersion: 'TLSv1.2',
      ...this.#credentials(identity),
      ...more,
    })
  }

  #credentials(identity: Identity): { readonly cert?: string; readonly key?: string } {
    const { cert, key } = this.#setup.tls
    if (identity === 'nobody') return {}
    if (identity === 'd1') return { cert, key }
    if (identity === 'other') {
      const { other } = this.#setup
      if (other === undefined) throw new NotRun("there is no other caller's certificate")
      return other.tls
    }
    this.#stranger ??= selfSigned(new X509Certificate(cert))
    return this.#stranger
  }
}

/** A certificate with the names of D1's, signed by itself. */
function selfSigned(like: X509Certificate): { readonly cert: string; readonly key: string } {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const key = privateKey.export({ type: 'pkcs1', format: 'pem' }).toString()
  const signer = forge.pki.privateKeyFromPem(key)
  const certificate = forge.pki.createCertificate()
  certificate.publicKey = forge.pki.setRsaPublicKey(signer.n, signer.e)
  certificate.serialNumber = '01'
  certificate.validity.notBefore = new Date(Date.now() - HOUR_MS)
  certificate.validity.notAfter = new Date(Date.now() + HOUR_MS)
  const name = [{ name: 'commonName', value: `${like.subject}`.replace(/^.*CN=([^\n]*).*$/s, '$1') }]
  certificate.setSubject(name)
  certificate.setIssuer(name)
  certificate.setExtensions([{ name: 'extKeyUsage', clientAuth: true }])
  certificate.sign(signer, forge.md.sha256.create())
  return { cert: forge.pki.certificateToPem(certificate), key }
}

function noAnswer(error: NodeJS.ErrnoException): NoAnswer {
  if (error instanceof NoAnswer) return error
  return new NoAnswer(String(error.code))
}

function joined(pairs: readonly (readonly [string, string])[]): Record<string, string> {
  const headers: Record<string, string> = {}
  for (const [given, value] of pairs) {
    const name = given.toLowerCase()
    headers[name] = Object.hasOwn(headers, name) ? `${headers[name]}, ${value}` : value
  }
  return headers
}

/** The first answer in what came over a socket. */
function parseReply(received: string): Reply | undefined {
  const [head = '', ...rest] = received.split('\r\n\r\n')
  const [line = '', ...lines] = head.split('\r\n')
  const [, status] = /^HTTP\/1\.[01] (\d{3})/.exec(line) ?? []
  if (status === undefined) return undefined
  const headers = joined(
    lines.map(text => [text.slice(0, text.indexOf(':')), text.slice(text.indexOf(':') + 1).trim()] as const),
  )
  const body = rest.join('\r\n\r\n')
  const isChunked = /\bchunked$/i.test(headers['transfer-encoding'] ?? '')
  const text = isChunked ? unchunked(body) : body.slice(0, Number(headers['content-length'] ?? 1_000_000))
  return text === undefined ? undefined : { status: Number(status), headers, text }
}

/** A body in chunks (RFC 9112, 7.1), put together; undefined where it breaks off. */
function unchunked(body: string): string | undefined {
  let text = ''
  for (let rest = body; ; ) {
    const [line, size = ''] = /^([0-9A-Fa-f]{1,6})(?:[ \t]*;[^\r\n]*)?\r\n/.exec(rest) ?? []
    if (line === undefined) return undefined
    const length = Number.parseInt(size, 16)
    const end = line.length + length
    if (length === 0) return text
    if (rest.slice(end, end + 2) !== '\r\n') return undefined
    text += rest.slice(line.length, end)
    rest = rest.slice(end + 2)
  }
}
