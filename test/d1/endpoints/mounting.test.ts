/** The handler alone in four frameworks, behind real TLS sockets: every request is its own. */
import https from 'node:https'
import net from 'node:net'
import { createAdaptorServer } from '@hono/node-server'
import express from 'express'
import fastify from 'fastify'
import { Hono } from 'hono'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { answerClientError, type EndpointHandler, nodeListener } from '../../../src/d1.js'
import { expectContract } from './support/contract.js'
import { serverTls, Wire } from './support/wire.js'
import { counterPath, JSON_TYPE, NEW_PIN, PANS, PIN, pinPath, World } from './support/world.js'

type Mount = (handler: EndpointHandler) => https.Server | Promise<https.Server>

const MOUNTS: Readonly<Record<string, Mount>> = {
  'node:https': handler => https.createServer(serverTls, nodeListener(handler)),
  'Express 5': handler =>
    https.createServer(serverTls, express().disable('x-powered-by').use(nodeListener(handler))),
  'Fastify 5': async handler => {
    const listener = nodeListener(handler)
    const app = fastify({ https: serverTls }).addHook('onRequest', (request, reply) => {
      reply.hijack()
      listener(request.raw, reply.raw)
    })
    await app.ready()
    return app.server as unknown as https.Server
  },
  'Hono 4': handler => {
    const { fetch } = new Hono().all('*', context => handler(context.req.raw))
    const createServer = https.createServer as never
    return createAdaptorServer({ fetch, createServer, serverOptions: serverTls }) as https.Server
  },
}

/** A chunk for each hundred characters, all of them written at once (RFC 9112, 7.1). */
const inPieces = (text: string): string =>
  [...(text.match(/.{1,100}/gs) ?? []), ''].map(part => `${part.length.toString(16)}\r\n${part}\r\n`).join('')

const BIG = JSON.stringify({ type: 'ISO0', encryptedPinBlock: 'x'.repeat(1_000_000) })

describe.each(Object.entries(MOUNTS))('mounted in %s', (name, mount) => {
  let world: World
  let wire: Wire
  let headers: Record<string, string>

  beforeAll(async () => {
    world = await World.open()
    wire = await new Wire(await mount(world.handler())).open()
    headers = await world.authorized(JSON_TYPE)
  })
  afterAll(async () => {
    await wire?.close()
    await world?.[Symbol.asyncDispose]()
  })
  beforeEach(() => {
    world.events.length = 0
  })

  async function pinOf(): Promise<string> {
    const reply = await wire.ask(pinPath('card-2'), { headers })
    expect(reply.status).toBe(200)
    expectContract('getPIN', reply)
    return world.d1.readPin(reply.body as never, PANS.second)
  }

  test('a PIN is shown, set, and shown again', async () => {
    expect(await pinOf()).toBe(PIN)
    const body = await world.iso0(NEW_PIN, PANS.second)
    const reply = await wire.ask(pinPath('card-2'), { method: 'PUT', headers, body })
    expect(reply.status).toBe(204)
    expect(reply.text).toBe('')
    // @hono/node-server names a media type for the body that is not there.
    if (name !== 'Hono 4') expectContract('SetPIN', reply)
    expect(await pinOf()).toBe(NEW_PIN)
  })

  test('a counter is issued, and its Set PIN accepted', async () => {
    const counter = await wire.ask(counterPath('card-1'), { headers })
    expectContract('getPINChangeCounter', counter)
    const body = await world.d1.seal('3DES_SECCOS', world.seccosContent(counter.body as never))
    expect(await wire.ask(pinPath('card-1'), { method: 'PUT', headers, body })).toMatchObject({ status: 204 })
    expect(world.last).toMatchObject({ operation: 'SetPIN', pinType: '3DES_SECCOS', replayed: false })
  })

  test('a Set PIN in pieces that come together is read to its last one', async () => {
    const body = inPieces(await world.iso0())
    // A token that is not known yet takes a turn of the loop to verify: the whole body is there before anybody reads it.
    const { authorization } = await world.authorized()
    const lines = [
      'Transfer-Encoding: chunked',
      'Content-Type: application/json',
      `Authorization: ${authorization}`,
    ]
    expect(await wire.send(`PUT ${pinPath('iso0-only')}`, lines, body)).toMatchObject({ status: 204 })
    expect(world.last).toMatchObject({ replayed: false })
  })

  test.each([
    ['stated', () => ({ body: BIG })],
    ['in chunks', () => ({ body: BIG, chunked: true })],
  ])(
    'a body that is too big, its length %s: refused, and the next request is served',
    async (_what, make) => {
      const { body, chunked = false } = make() as { body: string; chunked?: boolean }
      const lengths = chunked ? ['Transfer-Encoding: chunked'] : [`Content-Length: ${body.length}`]
      const sent = chunked ? `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n` : body
      const lines = [
        ...lengths,
        'Content-Type: application/json',
        `Authorization: ${headers['authorization']}`,
      ]
      const reply = await wire.send(`PUT ${pinPath('card-2')}`, lines, sent)
      expect(reply).toMatchObject({ status: 400, body: { error: 'Bad request' } })
      expect(world.last).toMatchObject({ refusal: { reason: 'body-size' } })
      expect(await pinOf()).toBe(NEW_PIN)
    },
  )

  test.each([
    ['a path that is none', 'GET', '/cms/api/v1/issuers/is_tbank01/cards', 404],
    ['a slash at the end', 'GET', `${pinPath('card-2')}/`, 404],
    ['an escape', 'GET', pinPath('card%2D2'), 400],
    ['another method', 'DELETE', pinPath('card-2'), 400],
    ['a method of no framework', 'PROPFIND', pinPath('card-2'), 400],
  ])('%s: %s %s is answered by the endpoints', async (_what, method, path, status) => {
    const reply = await wire.ask(path, { method, headers })
    expect(reply.status).toBe(status)
    expect(reply.body).toEqual({ error: status === 404 ? 'Not found' : 'Bad request' })
    expect(reply.headers['x-powered-by']).toBeUndefined()
    expect(world.events).toHaveLength(1)
  })

  test('a query is ignored', async () => {
    const reply = await wire.ask(`${pinPath('card-2')}?all=1`, { headers })
    expect(reply.status).toBe(200)
    expect(world.last).toMatchObject({ queryIgnored: true })
  })

  test('no token: 401, whoever the client certificate names', async () => {
    expect(await wire.ask(pinPath('card-2'))).toMatchObject({ status: 401 })
  })
})

describe('under a path of its own', () => {
  test('Express takes the path away before the handler sees it', async () => {
    await using world = await World.open()
    const app = express().use('/d1', nodeListener(world.handler()))
    const wire = await new Wire(https.createServer(serverTls, app)).open()
    const headers = await world.authorized()
    expect(await wire.ask(`/d1${pinPath('card-1')}`, { headers })).toMatchObject({ status: 200 })
    const elsewhere = await wire.raw(
      `GET ${pinPath('card-1')} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
    )
    expect(elsewhere).toMatch(/^HTTP\/1\.1 404 /)
    expect(world.events).toHaveLength(1)
    await wire.close()
  })

  test('elsewhere the handler is told', async () => {
    await using world = await World.open()
    const wire = await new Wire(world.handler({ prefix: '/d1' })).open()
    const headers = await world.authorized()
    expect(await wire.ask(`/d1${pinPath('card-1')}`, { headers })).toMatchObject({ status: 200 })
    await wire.close()
  })
})

test.each([
  ['nothing', ''],
  ['no TLS', 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'],
])('a connection on which %s is said is ended with the time for the handshake', async (_what, said) => {
  const listener = nodeListener(async () => new Response())
  const server = https.createServer({ ...serverTls, handshakeTimeout: 100 }, listener)
  const wire = await new Wire(server.on('clientError', answerClientError)).open()
  const socket = net.connect(wire.port, '127.0.0.1')
  socket.on('error', () => {}).resume()
  socket.write(said)
  await new Promise(resolve => socket.once('close', resolve))
  await wire.close()
})

test('what is no HTTP is answered with 400, and ended even where the other side does not', async () => {
  const listener = nodeListener(async () => new Response())
  const server = https.createServer(serverTls, listener).on('clientError', answerClientError)
  const wire = await new Wire(server).open()
  const closed = new Promise(resolve =>
    server.on('secureConnection', socket => socket.once('close', () => resolve(undefined))),
  )
  const socket = wire.connect()
  socket.allowHalfOpen = true
  let said = ''
  socket.on('error', () => {}).on('data', chunk => (said += chunk))
  socket.write('this is not HTTP\r\n\r\n')
  await closed
  expect(said).toMatch(/^HTTP\/1\.1 400 /)
  socket.destroy()
  await wire.close()
})

describe('what is no HTTP, behind a request that is', () => {
  const GARBAGE = 'GARBAGE\r\n\r\n'
  const WHOLE = 'PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}'
  const OPEN = 'PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n'

  /** A client that says each part when its time has come; everything that came back. */
  async function talk(
    listener: (...args: Parameters<ReturnType<typeof nodeListener>>) => void,
    ...parts: readonly (string | ((received: () => string) => unknown))[]
  ): Promise<string> {
    const server = https.createServer(serverTls, listener).on('clientError', answerClientError)
    const wire = await new Wire(server).open()
    const socket = wire.connect()
    const closed = new Promise(resolve => socket.once('close', resolve))
    let received = ''
    socket.on('error', () => {}).on('data', chunk => (received += chunk))
    for (const part of parts) {
      if (typeof part === 'string') await new Promise(resolve => socket.write(part, resolve))
      else await part(() => received)
    }
    await closed
    await wire.close()
    return received
  }

  /** A Set PIN that takes its time: it ends when the test says so. */
  function slow() {
    const [begun, finish, done] = [gate(), gate(), gate()]
    const listener = nodeListener(async request => {
      await request.arrayBuffer()
      begun.open()
      await finish.passed
      done.open()
      return new Response(null, { status: 204 })
    })
    return { listener, begun, finish, done }
  }

  function gate() {
    let open = (): void => {}
    const passed = new Promise<void>(resolve => {
      open = resolve
    })
    return { passed, open: () => open() }
  }

  test('a body of which no more is read is let in to its end: whoever sends it reads the answer', async () => {
    const refuse = nodeListener(async request => {
      const reader = request.body?.getReader()
      await reader?.read()
      await reader?.cancel()
      return new Response('{"error":"Bad request"}', { status: 400 })
    })
    const bodies: boolean[] = []
    const length = 4_000_000
    const received = await talk(
      (incoming, outgoing) => {
        outgoing.once('finish', () => bodies.push(incoming.complete))
        refuse(incoming, outgoing)
      },
      `PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: ${length}\r\n\r\n${'x'.repeat(length)}`,
    )
    expect(received).toMatch(/^HTTP\/1\.1 400 /)
    expect(bodies).toEqual([true])
  })

  test('after an early answer, a broken chunk gets no second one', async () => {
    const refuse = nodeListener(async () => new Response('{"error":"Unauthorized"}', { status: 401 }))
    const received = await talk(
      refuse,
      OPEN,
      answer => expect.poll(answer, { interval: 5 }).toContain('Unauthorized'),
      'ZZZ\r\n',
    )
    expect(received.match(/HTTP\/1\.1 \d{3}/g)).toEqual(['HTTP/1.1 401'])
    expect(received).toMatch(/\{"error":"Unauthorized"\}$/)
  })

  test('while a Set PIN is under way, no 400 is taken for its answer', async () => {
    const { listener, begun, finish, done } = slow()
    expect(await talk(listener, WHOLE, () => begun.passed, GARBAGE)).toBe('')
    finish.open()
    await done.passed
  })

  test.each([
    ['garbage', GARBAGE],
    ['a request with a broken chunk', `${OPEN}ZZZ\r\n`],
  ])('with a Set PIN in one piece with %s, no 400 is taken for its answer', async (_what, behind) => {
    const { listener, begun, finish } = slow()
    const received = talk(listener, WHOLE + behind)
    await begun.passed
    expect(await received).toBe('')
    finish.open()
  })

  test('a request that breaks off before it is whole gets its one 400', async () => {
    const { listener } = slow()
    const received = await talk(listener, `${OPEN}ZZZ\r\n`)
    expect(received.match(/HTTP\/1\.1 \d{3}/g)).toEqual(['HTTP/1.1 400'])
  })

  test('once the answer is out, it gets a 400 of its own', async () => {
    const { listener, finish } = slow()
    finish.open()
    const received = await talk(
      listener,
      WHOLE,
      answer => expect.poll(answer, { interval: 5 }).toContain('\r\n\r\n'),
      GARBAGE,
    )
    expect(received.match(/HTTP\/1\.1 \d{3}/g)).toEqual(['HTTP/1.1 204', 'HTTP/1.1 400'])
  })

  test('a request that reaches the listener after its 400 is not acted upon', async () => {
    let calls = 0
    const listener = nodeListener(async () => {
      calls++
      return new Response()
    })
    const late = gate()
    const received = await talk((incoming, outgoing) => {
      setImmediate(() => {
        listener(incoming, outgoing)
        late.open()
      })
    }, WHOLE + GARBAGE)
    await late.passed
    expect(received.match(/HTTP\/1\.1 \d{3}/g)).toEqual(['HTTP/1.1 400'])
    expect(calls).toBe(0)
  })
})

test('a handler of somebody’s own that does not want the body leaves the connection to its answer', async () => {
  const own = await new Wire(async request => {
    await request.body?.cancel()
    return Response.json({ read: false })
  }).open()
  const reply = await own.ask('/x', { method: 'PUT', body: BIG })
  expect(reply).toMatchObject({ status: 200, body: { read: false } })
  await own.close()
})

test('a body that breaks off between two reads fails the second', async () => {
  let began = (): void => undefined
  const reading = new Promise<void>(resolve => {
    began = resolve
  })
  let ended = (_: unknown): void => undefined
  const end = new Promise(resolve => {
    ended = resolve
  })
  const wire = await new Wire(async request => {
    const reader = request.body?.getReader() ?? expect.unreachable()
    await reader.read()
    const gone = new Promise(resolve => request.signal.addEventListener('abort', resolve))
    began()
    await gone
    ended(
      await reader.read().then(
        ({ done }) => ({ done }),
        error => error,
      ),
    )
    return new Response()
  }).open()
  const socket = wire.connect()
  socket.on('error', () => {})
  socket.write('PUT /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\n0123456789')
  await reading
  socket.destroy()
  expect(await end).toBeInstanceOf(Error)
  await wire.close()
})

describe('a handler of somebody’s own', () => {
  const asked: string[] = []
  const own = new Wire(async request => {
    asked.push(request.method)
    return new Response(JSON.stringify({ greeting: 'Grüße, 世界', method: request.method }))
  })
  beforeAll(() => own.open())
  afterAll(() => own.close())

  test('its text arrives as UTF-8; a method that the Web does not have reaches it as one that it refuses', async () => {
    expect((await own.ask('/x')).body).toEqual({ greeting: 'Grüße, 世界', method: 'GET' })
    for (const method of ['TRACE', 'PUT'])
      expect((await own.ask('/x', { method, body: 'x' })).body).toMatchObject({ greeting: 'Grüße, 世界' })
    expect(asked).not.toContain('TRACE')
    expect(asked).toHaveLength(3)
  })

  test('a body in pieces that come together reaches it as a whole', async () => {
    const echo = await new Wire(async request => {
      await new Promise(resolve => setImmediate(resolve))
      return Response.json({ text: await request.text() })
    }).open()
    const text = 'x'.repeat(950)
    const reply = await echo.send('PUT /x', ['Transfer-Encoding: chunked'], inPieces(text))
    expect(reply.body).toEqual({ text })
    await echo.close()
  })

  test('a request with two hosts is answered with 400, and it does not see it', async () => {
    const before = asked.length
    const socket = own.connect()
    let said = ''
    const closed = new Promise(resolve => socket.on('error', () => {}).once('close', resolve))
    socket.on('data', chunk => (said += chunk))
    socket.write('GET /x HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\nConnection: close\r\n\r\n')
    await closed
    expect(said).toMatch(/^HTTP\/1\.1 400 /)
    expect(asked).toHaveLength(before)
  })
})

test('behind a body parser, a Set PIN is refused, not waited for', async () => {
  await using world = await World.open()
  const app = express().use(express.json()).use(nodeListener(world.handler()))
  const wire = await new Wire(https.createServer(serverTls, app)).open()
  const headers = await world.authorized(JSON_TYPE)
  const reply = await wire.ask(pinPath('card-1'), { method: 'PUT', headers, body: await world.iso0() })
  expect(reply.status).toBe(400)
  expect(world.pins.writes).toBe(0)
  await wire.close()
})
