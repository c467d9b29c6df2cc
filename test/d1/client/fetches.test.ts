import { createPrivateKey, X509Certificate } from 'node:crypto'
import { createServer, IncomingMessage, type RequestListener } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { fetch as undiciFetch } from 'undici-types'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type D1ClientOptions, type D1Fetch, d1Client, type FetchInit, mtlsFetch } from '../../../src/d1.js'
import { failure } from '../../support/errors.js'
import { testCa } from './certificates.js'
import { ISSUER_ID, startD1, type TestD1 } from './d1-server.js'
import { fastClock, until } from './times.js'

const CARD = { consumerId: 'consumer-1', cardProductId: 'debit' }

let d1: TestD1
beforeAll(async () => {
  d1 = await startD1()
})
afterAll(() => d1.close())
beforeEach(() => d1.reset())

const init = (): FetchInit => ({
  method: 'POST',
  headers: {},
  redirect: 'manual',
  signal: new AbortController().signal,
})

describe('mtlsFetch', () => {
  test('refuses what it cannot use, and shows no key', async () => {
    const other = testCa('Third CA').issue('x', 'clientAuth')
    const { cert, key } = d1.client
    const line = key.split('\n')[1] ?? ''
    for (const options of [
      undefined,
      {},
      { cert },
      { key },
      { cert, key: other.key },
      { cert, key: 'no PEM' },
      { cert: 7, key },
      { cert, key, ca: 'no PEM' },
      { cert, key, ca: [7] },
      { cert, key, ca: key },
      { cert, key, ca: new X509Certificate(d1.ca).raw },
      { cert, key, passphrase: 7 },
      { cert, key, minVersion: 'TLSv1.1' },
      { cert, key, maxSockets: 0 },
      { cert, key, maxSockets: 257 },
      { cert, key, maxSockets: 1.5 },
      { cert, key, rejectUnauthorized: false },
    ]) {
      await failure(() => mtlsFetch(options as never), 'ERR_ARGUMENT', [line])
    }
  })

  test('takes bytes, several CAs and TLS 1.3; gives status, headers and body', async () => {
    const { cert, key } = d1.client
    using fetch = mtlsFetch({
      cert: Buffer.from(cert),
      key: new Uint8Array(Buffer.from(key)),
      ca: [testCa('Unrelated').ca, d1.ca],
      minVersion: 'TLSv1.3',
      maxSockets: 1,
    })
    d1.cardReplies.push({ status: 418, body: '{}', headers: { 'retry-after': '3' } })
    // Somebody has looked at all there is: Node then has an answer for all messages in the place of theirs.
    Reflect.get(IncomingMessage.prototype, 'headersDistinct')
    const response = await fetch(`${d1.urls.api}/x`, init())
    const { headers, status } = response
    const shown = ['Retry-After', 'content-type', 'nothing'].map(name => headers.get(name))
    expect([status, ...shown]).toEqual([418, '3', 'application/json', null])
    const chunks: Uint8Array[] = []
    for await (const chunk of response.body ?? []) chunks.push(chunk)
    expect(Buffer.concat(chunks).toString()).toBe('{}')
  })

  test('an encrypted key with its passphrase', async () => {
    const { cert, key } = d1.client
    const passphrase = 'pass phrase'
    const pem = createPrivateKey(key).export({
      type: 'pkcs8',
      format: 'pem',
      cipher: 'aes-256-cbc',
      passphrase,
    })
    mtlsFetch({ cert, key: pem.toString(), passphrase }).close()
    await failure(() => mtlsFetch({ cert, key: pem.toString(), passphrase: 'wrong' }), 'ERR_ARGUMENT', [
      passphrase,
    ])
  })

  test('speaks https only', async () => {
    using fetch = mtlsFetch({ ...d1.client, ca: d1.ca })
    await expect(fetch('http://localhost:1/', init())).rejects.toThrow('https:')
  })

  test('verifies the server whatever the environment says', async () => {
    process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0'
    try {
      using fetch = mtlsFetch({ ...d1.client, ca: testCa('Unrelated').ca })
      await expect(fetch(`${d1.urls.api}/x`, init())).rejects.toMatchObject({
        code: expect.stringMatching(/^(UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO)/),
      })
    } finally {
      delete process.env['NODE_TLS_REJECT_UNAUTHORIZED']
    }
  })

  test('TLS 1.2 at least, TLS 1.3 where that is asked for', async () => {
    const ca = testCa('Old CA')
    const server = createTlsServer(
      { ...ca.issue('localhost', 'serverAuth'), maxVersion: 'TLSv1.2' },
      (_request, response) => void response.end(),
    )
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    const url = `https://localhost:${(server.address() as AddressInfo).port}/`
    using usual = mtlsFetch({ ...d1.client, ca: ca.ca })
    using strict = mtlsFetch({ ...d1.client, ca: ca.ca, minVersion: 'TLSv1.3' })
    expect((await usual(url, init())).status).toBe(200)
    await expect(strict(url, init())).rejects.toMatchObject({
      code: expect.stringMatching(/^(ERR_SSL_|EPROTO)/),
    })
    server.closeAllConnections()
    server.close()
  })

  test('an abort closes the connection', async () => {
    using fetch = mtlsFetch({ ...d1.client, ca: d1.ca })
    const controller = new AbortController()
    let closed = false
    d1.cardReplies.push(response => {
      response.on('close', () => {
        closed = true
      })
      controller.abort()
    })
    const call = fetch(`${d1.urls.api}/x`, { ...init(), signal: controller.signal })
    await expect(call).rejects.toThrow('aborted')
    await until(() => closed)
  })

  test('keeps connections, and closes them', async () => {
    const ports = new Set<number | undefined>()
    const fetch = mtlsFetch({ ...d1.client, ca: d1.ca })
    for (let i = 0; i < 3; i++) {
      d1.cardReplies.push((response, request) => {
        ports.add(request.socket.remotePort)
        response.end()
      })
      const response = await fetch(`${d1.urls.api}/x`, init())
      for await (const _ of response.body ?? []);
    }
    expect(ports.size).toBe(1)
    const hanging = fetch(`${d1.urls.api}/x`, init())
    d1.cardReplies.push(() => fetch.close())
    await expect(hanging).rejects.toThrow()
  })
})

describe("the platform's fetch, in clear to a loopback host that is allowed by name", () => {
  const servers: ReturnType<typeof createServer>[] = []
  afterEach(() => {
    for (const server of servers.splice(0)) {
      server.closeAllConnections()
      server.close()
    }
  })

  async function plain(listener: RequestListener): Promise<D1ClientOptions> {
    const server = createServer((request, response) => {
      if (request.url !== '/authz/oauth2/token') return listener(request, response)
      response.end('{"access_token":"t","token_type":"Bearer","expires_in":900}')
    })
    servers.push(server)
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    return {
      environment: { api: `${origin}/banking`, auth: `${origin}/authz` },
      allowInsecureLoopback: true,
      issuerId: ISSUER_ID,
      signer: d1.signer,
    }
  }

  test('works', async () => {
    const options = await plain((request, response) => {
      response.end(JSON.stringify({ authorization: request.headers.authorization }))
    })
    const answer = await d1Client(options).cards.create({ card: CARD })
    expect(answer).toMatchObject({ status: 200, body: { authorization: 'Bearer t' } })
  })

  test('an empty body, and null for one', async () => {
    const options = await plain((_request, response) => response.writeHead(204).end())
    expect(await d1Client(options).cards.delete({ cardId: 'card-1' })).toMatchObject({
      status: 204,
      body: undefined,
    })
  })

  test.each([301, 302, 303, 307, 308])('%i is not followed', async status => {
    const seen: (string | undefined)[] = []
    const options = await plain((request, response) => {
      seen.push(request.url)
      response.writeHead(status, { location: '/elsewhere' }).end()
    })
    const error = await failure(() => d1Client(options).cards.create({ card: CARD }), 'ERR_D1_RESPONSE')
    expect(error).toMatchObject({ status, retryable: false })
    expect(seen).toHaveLength(1)
  })

  test('an endless compressed body ends at its bound', async () => {
    const { gzipSync } = await import('node:zlib')
    const bomb = gzipSync(Buffer.alloc(50_000_000, 0x20))
    const options = await plain((_request, response) => {
      response.writeHead(200, { 'content-encoding': 'gzip' }).end(bomb)
    })
    const before = process.memoryUsage().arrayBuffers
    const error = await failure(() => d1Client(options).cards.create({ card: CARD }), 'ERR_D1_RESPONSE')
    expect(error.message).toContain('more than 65536 bytes')
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(20_000_000)
  })
})

describe('a fetch that misbehaves', () => {
  const client = (fetch: D1Fetch, clock = fastClock(1)) =>
    d1Client({
      environment: 'staging',
      issuerId: ISSUER_ID,
      signer: d1.signer,
      clock,
      attemptTimeoutMs: 5000,
      maxAttempts: 1,
      fetch: async (url, init_) =>
        url.endsWith('/oauth2/token')
          ? new Response('{"access_token":"t","token_type":"Bearer","expires_in":900}')
          : fetch(url, init_),
    })
  const body = (bytes: AsyncIterable<Uint8Array>) => async () => ({
    status: 200,
    headers: { get: () => null },
    body: bytes,
  })
  async function* endless(chunk: number) {
    for (;;) {
      await new Promise(resolve => setImmediate(resolve))
      yield new Uint8Array(chunk)
    }
  }

  test.each<[string, D1Fetch, 'ERR_D1_UNREACHABLE' | 'ERR_D1_RESPONSE', RegExp]>([
    [
      'throws',
      () => {
        throw new RangeError('SECRET')
      },
      'ERR_D1_UNREACHABLE',
      /RangeError$/,
    ],
    ['rejects with nothing', () => Promise.reject(), 'ERR_D1_UNREACHABLE', /Unknown$/],
    ['ignores the signal', () => new Promise(() => {}), 'ERR_D1_UNREACHABLE', /5000 ms$/],
    ['dribbles nothing for ever', body(endless(0)), 'ERR_D1_UNREACHABLE', /5000 ms$/],
    ['pours for ever', body(endless(4096)), 'ERR_D1_RESPONSE', /65536/],
    [
      'has a status that is none',
      async () => ({ ...(await body(endless(0))()), status: Number.NaN, body: null }),
      'ERR_D1_RESPONSE',
      /none/,
    ],
    [
      'has an informational status',
      async () => ({ ...(await body(endless(0))()), status: 101, body: null }),
      'ERR_D1_RESPONSE',
      /none/,
    ],
    [
      'has an opaque redirect',
      async () => ({ ...(await body(endless(0))()), status: 0, body: null }),
      'ERR_D1_RESPONSE',
      /none/,
    ],
  ])('%s', async (_name, fetch, code, message) => {
    // Where the time is not to end it has all that it may take.
    const clock = fastClock(/ms/.test(message.source) ? 50 : 1)
    const error = await failure(() => client(fetch, clock).cards.create({ card: CARD }), code, ['SECRET'])
    expect(error.message).toMatch(message)
  })

  test('streams that can, and cannot, be closed early', async () => {
    let closed = 0
    const source = (return_?: () => Promise<never>): AsyncIterable<Uint8Array> => ({
      [Symbol.asyncIterator]: () => ({
        next: async () => ({ done: false, value: new Uint8Array(65_537) }),
        ...(return_ && { return: return_ }),
      }),
    })
    const failing = source(() => {
      closed++
      return Promise.reject(new Error('SECRET'))
    })
    for (const stream of [source(), failing]) {
      await failure(() => client(body(stream)).cards.create({ card: CARD }), 'ERR_D1_RESPONSE', ['SECRET'])
    }
    expect(closed).toBe(1)
  })
})

test("the platform's fetch and undici's fit the type", () => {
  const platform: D1Fetch = globalThis.fetch
  const undici =
    (given: typeof undiciFetch): D1Fetch =>
    (url, options) =>
      given(url, options)
  expect([typeof platform, typeof undici]).toEqual(['function', 'function'])
})
