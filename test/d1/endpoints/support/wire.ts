/** A real HTTPS server that requires client certificates, and the client that D1 would be. */
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import tls from 'node:tls'
import { expect } from 'vitest'
import { answerClientError, type EndpointHandler, nodeListener } from '../../../../src/d1.js'
import { type Certificates, type Credentials, makeCertificates } from './certificates.js'

export type TlsVersion = 'TLSv1.2' | 'TLSv1.3'

export const certificates: Certificates = makeCertificates()

export interface Reply {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly text: string
  /** Parsed, where there is a body. */
  readonly body: unknown
}

export interface Ask {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array
}

/** What the server is opened with: its certificate, and the client certificates that it requires. */
export const serverTls = {
  ...certificates.server,
  ca: certificates.ca,
  requestCert: true,
  rejectUnauthorized: true,
} as const

export class Wire {
  readonly server: https.Server
  readonly #version: TlsVersion
  #agent: https.Agent | undefined

  /** A handler, or a server that it is mounted in already. */
  constructor(handler: EndpointHandler | https.Server, version: TlsVersion = 'TLSv1.3') {
    this.#version = version
    if (typeof handler !== 'function') {
      this.server = handler
      return
    }
    const listener = nodeListener(handler)
    this.server = https
      .createServer({ ...serverTls, minVersion: version, maxVersion: version }, listener)
      .on('checkExpectation', listener)
      .on('clientError', answerClientError)
  }

  async open(): Promise<this> {
    await new Promise<void>(resolve => this.server.listen(0, '127.0.0.1', resolve))
    this.#agent = new https.Agent({ keepAlive: true, ...this.#tls(certificates.client) })
    return this
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port
  }

  async close(): Promise<void> {
    this.#agent?.destroy()
    this.server.closeAllConnections()
    await new Promise(resolve => this.server.close(resolve))
  }

  #tls(credentials: Partial<Credentials>) {
    return {
      ca: certificates.ca,
      ...credentials,
      host: '127.0.0.1',
      minVersion: this.#version,
      maxVersion: this.#version,
    }
  }

  /** One request as a well-made client sends it. */
  ask(path: string, { method = 'GET', headers, body }: Ask = {}): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const length = body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }
      const request = https.request(
        {
          host: '127.0.0.1',
          port: this.port,
          agent: this.#agent,
          method,
          path,
          headers: { ...headers, ...length },
        },
        response => {
          const chunks: Buffer[] = []
          response.on('data', chunk => chunks.push(chunk)).once('error', reject)
          response.once('end', () => {
            expect(response.httpVersion).toBe('1.1')
            const text = Buffer.concat(chunks).toString()
            const { statusCode: status = 0, headers } = response
            resolve({ status, headers, text, body: text === '' ? undefined : JSON.parse(text) })
          })
        },
      )
      request.once('error', reject)
      request.end(body)
    })
  }

  /** A socket, to send whatever one likes. */
  connect(credentials: Partial<Credentials> = certificates.client): tls.TLSSocket {
    return tls.connect({ port: this.port, ...this.#tls(credentials) })
  }

  /** Sends text as it is (a character a byte) and gives everything that comes back until the other side closes. */
  async raw(text: string, credentials?: Partial<Credentials>): Promise<string> {
    const socket = this.connect(credentials)
    const chunks: Buffer[] = []
    socket.on('data', chunk => chunks.push(chunk)).on('error', () => {})
    socket.once('secureConnect', () => socket.write(Buffer.from(text, 'latin1')))
    await new Promise(resolve => socket.once('close', resolve))
    return Buffer.concat(chunks).toString('latin1')
  }

  /** One request, put together by hand, on a connection of its own. */
  async send(line: string, headers: readonly string[] = [], body = ''): Promise<Reply> {
    const head = [`${line} HTTP/1.1`, 'Host: issuer.test', 'Connection: close', ...headers]
    return parseReply(await this.raw(`${head.join('\r\n')}\r\n\r\n${body}`))
  }
}

/** The reply in what came over a socket. There is exactly one, of the length that it states. */
export function parseReply(received: string): Reply {
  const [head = '', ...rest] = received.split('\r\n\r\n')
  const [line = '', ...lines] = head.split('\r\n')
  const [, status] = /^HTTP\/1\.1 (\d{3}) /.exec(line) ?? expect.fail(`no reply: ${received}`)
  const headers = Object.fromEntries(
    lines.map(text => [text.slice(0, text.indexOf(':')).toLowerCase(), text.slice(text.indexOf(':') + 2)]),
  )
  const text = rest.join('\r\n\r\n')
  expect(text).toHaveLength(Number(headers['content-length'] ?? 0))
  return { status: Number(status), headers, text, body: text === '' ? undefined : JSON.parse(text) }
}
