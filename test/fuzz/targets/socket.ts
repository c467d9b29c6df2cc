/** The Node listener behind a real socket: raw bytes in, HTTP answers of the contract out, and a server that lives. */
import { createServer, type Server } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import fc from 'fast-check'
import { answerClientError, nodeListener } from '../../../src/d1.js'
import { bytesInput } from '../support/input.js'
import { BASIC, iso0Body, issuer, pinPath, refuseSecrets, TOKEN_PATH, token } from '../support/issuer.js'
import { check, type FuzzTarget, once } from '../target.js'
import { requireContract } from './handler.js'

const LIMITS = {
  headersTimeout: 1000,
  requestTimeout: 1000,
  connectionsCheckingInterval: 200,
  keepAliveTimeout: 50,
}
const server = once(async (): Promise<Server> => {
  const { handler } = await issuer()
  const listener = nodeListener(handler)
  const opened: Server = createServer(LIMITS, listener)
    .on('checkExpectation', listener)
    .on('clientError', answerClientError)
  await new Promise<void>(resolve => opened.listen(0, '127.0.0.1', resolve))
  return opened
})

const request = (line: string, headers: readonly string[], body = ''): string =>
  [line, 'Host: issuer.test', 'Connection: close', ...headers, '', body].join('\r\n')
const AUTH = `Authorization: Bearer ${token}`
const JSON_TYPE = 'Content-Type: application/json'
const PUT = `PUT ${pinPath('card-1')} HTTP/1.1`
const WHOLE = [
  request(`GET ${pinPath('card-1')} HTTP/1.1`, [AUTH]),
  request(`GET ${pinPath('card-1')}/changeCounter HTTP/1.0`, [AUTH]),
  request(PUT, [AUTH, JSON_TYPE, `Content-Length: ${iso0Body.length}`], iso0Body),
  request(
    PUT,
    [AUTH, JSON_TYPE, 'Transfer-Encoding: chunked'],
    `${iso0Body.length.toString(16)}\r\n${iso0Body}\r\n0\r\n\r\n`,
  ),
  request(
    `POST ${TOKEN_PATH} HTTP/1.1`,
    [`Authorization: ${BASIC}`, 'Content-Type: application/x-www-form-urlencoded', 'Content-Length: 29'],
    'grant_type=client_credentials',
  ),
  request(PUT, ['Expect: 100-continue', JSON_TYPE, 'Content-Length: 20000'], 'x'.repeat(20_000)),
  request(`OPTIONS * HTTP/1.1`, []),
  request(`CONNECT issuer.test:443 HTTP/1.1`, []),
  request(`GET http://elsewhere.test${pinPath('card-1')} HTTP/1.1`, [AUTH, 'Upgrade: websocket']),
]
const odd = fc.constantFrom(
  'Content-Length: 5',
  'Content-Length: 5\r\nContent-Length: 6',
  'Transfer-Encoding: chunked',
  'Transfer-Encoding: chunked, identity',
  'Transfer-Encoding : chunked',
  'X: y\r\n z',
  'X\0: y',
  'x-correlation-id: \u00e9',
  'Host: other.test',
  'Authorization: Basic Og==',
  `A: ${'b'.repeat(17_000)}`,
)
/** A request and another behind it, with a header that two readers may take for two things. */
const almost = fc
  .tuple(fc.constantFrom(...WHOLE), odd, fc.constantFrom('', ...WHOLE))
  .map(([first, header, second]) => bytesInput(first.replace('Connection: close', header) + second))

export const socket: FuzzTarget = {
  name: 'socket',
  share: 2,
  limitMs: 10_000,
  seeds: WHOLE.map(text => bytesInput(text)),
  structured: almost,
  async run(bytes) {
    const { port } = (await server()).address() as AddressInfo
    const received = await exchange(port, bytes)
    for (const answer of answersOf(received)) {
      const { status, headers, body } = answer
      if (status === 100) continue
      requireContract(status, headers, body)
    }
    refuseSecrets(received.replaceAll(/"access_token":"[^"]*"/g, ''))
  },
  async close() {
    const opened = await server()
    opened.closeAllConnections()
    await new Promise(resolve => opened.close(resolve))
  },
}

/** Everything that comes back until the server closes. The end of ours tells it that no more will come. */
function exchange(port: number, bytes: Uint8Array): Promise<string> {
  return new Promise(resolve => {
    const chunks: Buffer[] = []
    const opened: Socket = connect({ port, host: '127.0.0.1' }, () => opened.end(bytes))
    opened.on('data', chunk => chunks.push(chunk)).on('error', () => {})
    opened.once('close', () => resolve(Buffer.concat(chunks).toString('latin1')))
  })
}

interface Answer {
  readonly status: number
  readonly headers: { get(name: string): string | null }
  readonly body: string
}

/** HTTP/1.1 without Host: Node answers that itself, before any listener (RFC 9112, 3.2), and with no body. */
const WITHOUT_HOST = 'HTTP/1.1 400 Bad Request\r\n'

/** The answers in what came over the socket: each has a status line, and as much body as it says. */
function answersOf(received: string): Answer[] {
  const answers: Answer[] = []
  let rest = received
  while (rest !== '') {
    const end = rest.indexOf('\r\n\r\n')
    check(end >= 0, 'an answer breaks off in its head')
    const [line = '', ...lines] = rest.slice(0, end).split('\r\n')
    const [, status = ''] = /^HTTP\/1\.1 (\d{3}) [A-Za-z ]+$/.exec(line) ?? []
    check(status !== '', 'an answer begins with a status line')
    const headers = new Map(
      lines.map(text => [text.slice(0, text.indexOf(':')).toLowerCase(), text.slice(text.indexOf(':') + 2)]),
    )
    if (rest.startsWith(WITHOUT_HOST) && headers.get('transfer-encoding') === 'chunked') {
      const empty = '0\r\n\r\n'
      check(rest.startsWith(empty, end + 4), 'what Node answers itself is empty')
      rest = rest.slice(end + 4 + empty.length)
      continue
    }
    const length = Number(headers.get('content-length') ?? 0)
    const body = rest.slice(end + 4, end + 4 + length)
    check(
      body.length === length || headers.get('content-type') !== undefined,
      'a body of another length than is said',
    )
    // The answer to HEAD has a length and no body.
    const whole = body.startsWith('HTTP/1.1 ') || body.length < length ? '' : body
    answers.push({ status: Number(status), headers: { get: name => headers.get(name) ?? null }, body: whole })
    rest = rest.slice(end + 4 + whole.length)
  }
  return answers
}
