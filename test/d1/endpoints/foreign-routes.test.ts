/** Mounted beside an application, by the lines of docs/guides/mounting.md: the listener takes its own paths, and the application keeps all others. */
import 'reflect-metadata'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import http from 'node:http'
import http2 from 'node:http2'
import { type AddressInfo, connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { createAdaptorServer, type HttpBindings } from '@hono/node-server'
import { Controller, Get, Module } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import express from 'express'
import fastify from 'fastify'
import { Hono } from 'hono'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import {
  connectionOf,
  type EndpointHandler,
  nodeListener,
  serverLimits,
  watchServer,
} from '../../../src/d1.js'
import { certificates, serverTls } from './support/wire.js'
import { JSON_TYPE, NEW_PIN, PANS, pinPath, TOKEN_PATH, World } from './support/world.js'

type Mount = (handler: EndpointHandler) => http.Server | Promise<http.Server>

/** A NestJS application, with its decorators called by hand: the tests are compiled without them. */
class Health {
  health(): string {
    return 'application'
  }
}
Get('healthz')(Health.prototype, 'health', Object.getOwnPropertyDescriptor(Health.prototype, 'health') ?? {})
Controller()(Health)
class Application {}
Module({ controllers: [Health] })(Application)

/** Each with a route of the application's at /healthz, and a 404 of its own. */
const MOUNTS: Readonly<Record<string, Mount>> = {
  'node:http': handler => {
    const { createServer } = http
    const listener = nodeListener(handler)
    const app: http.RequestListener = (request, response) => {
      const found = request.url === '/healthz'
      response.writeHead(found ? 200 : 404).end(found ? 'application' : 'not the application’s')
    }
    return createServer(serverLimits, (request, response) =>
      listener(request, response, () => app(request, response)),
    )
  },
  'Express 5': handler => {
    const app = express()
    const listener = nodeListener(handler)
    app.use(listener)
    app.get('/healthz', (_, response) => void response.send('application'))
    return http.createServer(
      app.use((_, response) => void response.status(404).send('not the application’s')),
    )
  },
  'Express 5, under the first part of the path': handler => {
    const app = express().use('/cms', nodeListener(handler)).use('/authz', nodeListener(handler))
    app.get('/healthz', (_, response) => void response.send('application'))
    return http.createServer(
      app.use((_, response) => void response.status(404).send('not the application’s')),
    )
  },
  'Fastify 5': async handler => {
    const listener = nodeListener(handler)
    const app = fastify()
    app.addHook('onRequest', (request, reply, next) => {
      if (!listener.takes(request.raw)) return next()
      reply.hijack()
      listener(request.raw, reply.raw)
    })
    app.get('/healthz', () => 'application')
    app.setNotFoundHandler((_, reply) => void reply.status(404).send('not the application’s'))
    await app.ready()
    return app.server
  },
  'Hono 4': handler => {
    const app = new Hono<{ Bindings: HttpBindings }>()
    app.use((context, next) =>
      handler.takes?.(context.req.path)
        ? handler(context.req.raw, connectionOf(context.env.incoming))
        : next(),
    )
    app.get('/healthz', context => context.text('application'))
    app.notFound(context => context.text('not the application’s', 404))
    return createAdaptorServer(app) as http.Server
  },
  'NestJS (on Express)': async handler => {
    const app = await NestFactory.create(Application, { logger: false })
    const listener = nodeListener(handler)
    // Before `init` or `listen`, which put the body parsers in.
    app.use(listener)
    await app.init()
    app.use((_: unknown, response: express.Response) => {
      response.status(404).send('not the application’s')
    })
    return app.getHttpServer()
  },
}

describe('the guide', () => {
  /** Without what a formatter adds or leaves out. */
  const bare = (code: string): string => code.replaceAll(/[\s;]/g, '').replaceAll(',)', ')')
  const read = (path: string): string => readFileSync(new URL(path, import.meta.url), 'utf8')
  const guide = read('../../../docs/guides/mounting.md')
  const lines = Array.from(
    guide.matchAll(/^\| ([^|`]+) \| `([^`]{10,})`/gm),
    ([, place = '', line = '']): [string, string] => [place, line],
  )

  test('has a line for each framework', () => {
    expect(lines.map(([place]) => place.split(/[ ,]/)[0])).toEqual([
      'node:http',
      'Express',
      'NestJS',
      'Fastify',
      'Hono',
    ])
  })

  test.each(lines)('%s: the line is one that is run here', (_place, line) => {
    expect(bare(read('foreign-routes.test.ts'))).toContain(bare(line))
  })
})

/** Each alone, and below a path of its own. */
const PLACES = Object.entries(MOUNTS).flatMap(([name, mount]): [string, string, Mount][] => [
  [name, '', mount],
  ...(name.includes('under') ? [] : ([[name, '/bank', mount]] as [string, string, Mount][])),
])

describe.each(PLACES)('in %s, below «%s»', (name, prefix, mount) => {
  let world: World
  let server: http.Server
  let origin: string
  beforeAll(async () => {
    world = await World.open()
    const { [`is_tbank01`]: issuer } = world.options().issuers
    const authorization = 'anyone-who-reaches-it'
    const handler = world.handler({
      issuers: { is_tbank01: issuer },
      authorization,
      tokenEndpoint: undefined,
      prefix,
    })
    server = watchServer({ server: await mount(handler), handler }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  afterAll(async () => {
    server.closeAllConnections()
    await new Promise(resolve => server.close(resolve))
    await world[Symbol.asyncDispose]()
  })
  beforeEach(() => {
    world.events.length = 0
  })

  test('the application’s routes are the application’s, without an event', async () => {
    for (const [path, status, text] of [
      ['/healthz', 200, 'application'],
      ['/', 404, 'not the application’s'],
      ['/cms', 404, 'not the application’s'],
      ['/cms/api/v2/issuers', 404, 'not the application’s'],
      ['/x/cms/api/v1/issuers/is_tbank01', 404, 'not the application’s'],
      [TOKEN_PATH, 404, 'not the application’s'],
    ] as const) {
      const response = await fetch(origin + path)
      const body = await response.text()
      // NestJS answers 404 itself, before what stands behind it.
      const ours = name.startsWith('NestJS') && status === 404 ? body : text
      expect([path, response.status, body]).toEqual([path, status, ours])
    }
    expect(world.events).toEqual([])
  })

  test('a PIN is set and shown, and what is below the endpoints’ paths is answered by them', async () => {
    const body = await world.iso0(NEW_PIN, PANS.second)
    const put = await fetch(origin + prefix + pinPath('card-2'), { method: 'PUT', headers: JSON_TYPE, body })
    expect(put.status).toBe(204)
    const got = await fetch(`${origin}${prefix}${pinPath('card-2')}?x=1`)
    expect(got.status).toBe(200)
    expect(await world.d1.readPin((await got.json()) as never, PANS.second)).toBe(NEW_PIN)
    expect(world.last).toMatchObject({ address: '127.0.0.1', queryIgnored: true })
    const none = await fetch(`${origin}${prefix}/cms/api/v1/issuers/is_tbank01/x`)
    expect([none.status, await none.json()]).toEqual([404, { error: 'Not found' }])
    expect(world.events).toHaveLength(3)
  })

  /** What a connection answers to these bytes; `half`: it is closed behind them. */
  async function raw(bytes: string, how: 'keep' | 'reset' = 'keep'): Promise<string> {
    const socket = connect(Number(new URL(origin).port), '127.0.0.1')
    socket.on('error', () => {})
    socket.write(bytes)
    if (how === 'keep') return text(socket)
    await once(socket, 'connect')
    // It has reached the handler before the connection goes.
    while (world.begun === 0) await new Promise(next => setImmediate(next))
    socket.resetAndDestroy()
    return ''
  }
  const head = (line: string, ...headers: string[]): string =>
    `${[line, 'Host: x', ...headers].join('\r\n')}\r\n\r\n`
  const put = (): string => `PUT ${prefix}${pinPath('card-2')} HTTP/1.1`

  test.each([
    ['two lengths (CL and TE)', ['Content-Length: 5', 'Transfer-Encoding: chunked'], /^HPE_/],
    ['two different lengths', ['Content-Length: 5', 'Content-Length: 6'], /^HPE_/],
    ['a header without a name', [': x'], /^HPE_/],
    ['headers that are too long', [`X: ${'x'.repeat(70_000)}`], 'HPE_HEADER_OVERFLOW'],
  ] as const)('%s: the contract’s 400, and one event', async (_what, headers, code) => {
    const answer = await raw(head(put(), ...headers))
    expect(answer).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n[\s\S]*\{"error":"Bad request"\}$/)
    expect(world.events).toHaveLength(1)
    expect(world.last).toMatchObject({ status: 400, outcome: 'refused', address: '127.0.0.1' })
    expect(world.last.refusal).toEqual({ reason: 'not-http', detail: expect.stringMatching(code) })
  })

  test.each([
    ['a CONNECT', () => head('CONNECT elsewhere.test:443 HTTP/1.1'), 'METHOD_CONNECT'],
    ['no Host', () => `${put()}\r\nConnection: close\r\n\r\n`, 'HOST_HEADER'],
    ['two Hosts', () => head(put(), 'Host: elsewhere.test', 'Connection: close'), 'HOST_HEADER'],
  ] as const)('%s: the contract’s 400, and one event', async (what, bytes, detail) => {
    // Hono makes a Request of it before its application, and ours, see it: without a Host 400, of two the first.
    if (name.startsWith('Hono') && what.includes('Host')) return
    const answer = await raw(bytes())
    expect(answer).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n[\s\S]*\{"error":"Bad request"\}$/)
    expect(world.events.map(({ refusal, address }) => [refusal, address])).toEqual([
      [{ reason: 'not-http', detail }, '127.0.0.1'],
    ])
  })

  test('an Expect that nobody knows goes the way of all others, the application’s too', async () => {
    const answer = await raw(
      head(`GET ${prefix}${pinPath('card-2')} HTTP/1.1`, 'Expect: 200-ok', 'Connection: close'),
    )
    expect(answer).toMatch(/^HTTP\/1\.1 200 /)
    expect(world.events).toHaveLength(1)
    const theirs = await raw(head('GET /healthz HTTP/1.1', 'Expect: 200-ok', 'Connection: close'))
    expect(theirs).toMatch(/^HTTP\/1\.1 200 [\s\S]*application/)
    expect(world.events).toHaveLength(1)
  })

  test('a body that breaks off is an event', async () => {
    world.begun = 0
    await raw(`${head(put(), 'Content-Type: application/json', 'Content-Length: 500')}{"type"`, 'reset')
    while (world.events.length === 0) await new Promise(next => setImmediate(next))
    expect(world.last).toMatchObject({ operation: 'SetPIN', status: 400, outcome: 'refused' })
    expect(['client-gone', 'body-broken']).toContain(world.last.refusal?.reason)
  })
})

describe.each(['', '/bank'])('over HTTP/2, below «%s»', prefix => {
  let world: World
  let server: http2.Http2SecureServer
  let client: http2.ClientHttp2Session
  beforeAll(async () => {
    world = await World.open()
    const listener = nodeListener(world.handler({ prefix }))
    server = http2.createSecureServer(serverTls, (incoming, outgoing) =>
      listener(incoming, outgoing, () => outgoing.writeHead(200).end('application')),
    )
    server.listen(0, 'localhost')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    client = http2.connect(`https://localhost:${port}`, { ca: certificates.ca, ...certificates.client })
  })
  afterAll(async () => {
    client.destroy()
    await new Promise(resolve => server.close(resolve))
    await world[Symbol.asyncDispose]()
  })

  async function ask(headers: http2.OutgoingHttpHeaders, body?: string) {
    const stream = client.request(headers, { endStream: body === undefined })
    if (body !== undefined) stream.end(body)
    let answered: http2.IncomingHttpHeaders = {}
    stream.once('response', found => {
      answered = found
    })
    const chunks: Buffer[] = []
    for await (const chunk of stream) chunks.push(chunk)
    return { status: Number(answered[':status']), headers: answered, text: Buffer.concat(chunks).toString() }
  }

  test('a PIN is set and shown, with one event each, and foreign paths are left alone', async () => {
    const authorization = { ...(await world.authorized(JSON_TYPE)) }
    const path = prefix + pinPath('card-2')
    const body = await world.iso0(NEW_PIN, PANS.second)
    const put = await ask({ ':method': 'PUT', ':path': path, ...authorization }, body)
    expect(put).toMatchObject({ status: 204, text: '' })
    const got = await ask({ ':path': `${path}?x`, ...authorization })
    expect(got.status).toBe(200)
    expect(got.headers).toMatchObject({ 'content-type': 'application/json', 'cache-control': 'no-store' })
    expect(await world.d1.readPin(JSON.parse(got.text), PANS.second)).toBe(NEW_PIN)
    expect(world.events.map(({ operation, status }) => [operation, status])).toEqual([
      ['SetPIN', 204],
      ['getPIN', 200],
    ])
    expect(await ask({ ':path': '/healthz' })).toMatchObject({ status: 200, text: 'application' })
    expect(world.events).toHaveLength(2)
  })

  test('what is too big, or of another method, is refused, and the connection serves on', async () => {
    const authorization = { ...(await world.authorized(JSON_TYPE)) }
    const path = prefix + pinPath('card-2')
    const big = JSON.stringify({ type: 'ISO0', encryptedPinBlock: 'x'.repeat(200_000) })
    expect((await ask({ ':method': 'PUT', ':path': path, ...authorization }, big)).status).toBe(400)
    expect((await ask({ ':method': 'DELETE', ':path': path, ...authorization })).status).toBe(400)
    expect((await ask({ ':path': path })).status).toBe(401)
    expect((await ask({ ':path': path, ...authorization })).status).toBe(200)
  })

  test('a client that resets its stream is told to the handler', async () => {
    let begun = (): void => {}
    const started = new Promise<void>(resolve => {
      begun = resolve
    })
    const gone = new Promise<void>(resolve => {
      const listener = nodeListener(request => {
        request.signal.addEventListener('abort', () => resolve())
        begun()
        return new Promise(() => {})
      })
      server.removeAllListeners('request').on('request', (incoming, outgoing) => listener(incoming, outgoing))
    })
    const stream = client.request({ ':path': pinPath('card-1') })
    stream.on('error', () => {})
    await started
    stream.close(http2.constants.NGHTTP2_CANCEL)
    await gone
  })
})

describe('what is given in place of a handler or a request', () => {
  test('is refused at once', () => {
    expect(() => nodeListener(undefined as never)).toThrow('takes a handler')
    expect(() => nodeListener(async () => new Response(), { listener: '' })).toThrow(
      'listener must be a name',
    )
    expect(() => nodeListener(async () => new Response(), { x: 1 } as never)).toThrow('unknown option')
    expect(() => connectionOf(undefined as never)).toThrow('connectionOf takes a request')
    expect(connectionOf({ socket: null })).toEqual({ encrypted: false, authorized: false })
    expect(connectionOf({})).toEqual({ encrypted: false, authorized: false })
  })
})
