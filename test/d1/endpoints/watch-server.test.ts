/** A server that is watched over, by real sockets: places for connections, and an event for what is no HTTP. */
import { EventEmitter, once } from 'node:events'
import http from 'node:http'
import http2 from 'node:http2'
import https from 'node:https'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import tls, { type TLSSocket } from 'node:tls'
import { describe, expect, test, vi } from 'vitest'
import { type EndpointHandler, nodeListener, serverLimits, watchServer } from '../../../src/d1.js'
import { certificates, serverTls } from './support/wire.js'
import { pinPath, World } from './support/world.js'

describe('watchServer', () => {
  const listening = async (server: https.Server): Promise<number> => {
    await once(server.listen(0, 'localhost'), 'listening')
    return (server.address() as AddressInfo).port
  }

  test('connections that never speak TLS take no place of those that do', async () => {
    await using world = await World.open()
    const handler = world.handler()
    const server = https.createServer({ ...serverTls, ...serverLimits }, nodeListener(handler))
    const port = await listening(watchServer({ server, handler, maxConnections: 4, maxHandshakes: 8 }))
    const headers = await world.authorized()
    const ask = () =>
      new Promise<number>((resolve, reject) => {
        const options = { host: 'localhost', port, path: pinPath('card-1'), headers, agent: false }
        https
          .get({ ...options, ca: certificates.ca, ...certificates.client }, response => {
            response.resume().once('close', () => resolve(response.statusCode ?? 0))
          })
          .once('error', reject)
      })
    const silent: Socket[] = []
    try {
      for (let i = 0; i < 40; i++) {
        const socket = connect(port, 'localhost').on('error', () => {})
        await once(socket, 'connect')
        silent.push(socket.resume())
      }
      for (let i = 0; i < 6; i++) expect(await ask()).toBe(200)
      // The oldest have made room.
      await Promise.all(silent.slice(0, 20).map(socket => socket.closed || once(socket, 'close')))
      expect(silent.at(-1)?.destroyed).toBe(false)
    } finally {
      for (const socket of silent) socket.destroy()
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    }
  })

  test('connections that have gone before they spoke TLS push out none that has not', async () => {
    const handler = Object.assign(async () => new Response(), {}) satisfies EndpointHandler
    const server = https.createServer({ ...serverTls }, nodeListener(handler))
    const port = await listening(watchServer({ server, handler, maxConnections: 4, maxHandshakes: 2 }))
    const arrive = async () => {
      const arrived = once(server, 'connection')
      const near = connect(port, 'localhost').on('error', () => {})
      const [far] = (await arrived) as [Socket]
      return { near: near.resume(), far }
    }
    const slow = await arrive()
    try {
      for (let i = 0; i < 6; i++) {
        const { near, far } = await arrive()
        const gone = once(far, 'close')
        near.destroy()
        await gone
      }
      expect([slow.far.destroyed, slow.near.destroyed]).toEqual([false, false])
    } finally {
      slow.near.destroy()
      await new Promise(resolve => server.close(resolve))
    }
  })

  test('of those that do not speak TLS the newest stay, and none that speaks it makes room for them', async () => {
    const handler = Object.assign(async () => new Response(), {}) satisfies EndpointHandler
    const server = https.createServer({ ...serverTls }, nodeListener(handler))
    const port = await listening(watchServer({ server, handler, maxConnections: 4, maxHandshakes: 3 }))
    const near: Socket[] = []
    const far: Socket[] = []
    const arrive = async () => {
      const arrived = once(server, 'connection')
      near.push(connect(port, 'localhost').on('error', () => {}))
      const [socket] = (await arrived) as [Socket]
      far.push(socket)
    }
    const secured = once(server, 'secureConnection')
    const speaking = tls.connect({ port, host: 'localhost', ca: certificates.ca, ...certificates.client })
    speaking.on('error', () => {})
    const [spoken] = (await secured) as [TLSSocket]
    try {
      for (let i = 0; i < 8; i++) await arrive()
      expect(far.map(({ destroyed }) => destroyed)).toEqual([
        true,
        true,
        true,
        true,
        true,
        false,
        false,
        false,
      ])
      expect(spoken.destroyed).toBe(false)
    } finally {
      for (const socket of [...near, speaking]) socket.destroy()
      await new Promise(resolve => server.close(resolve))
    }
  })

  test('one that speaks TLS is closed where there are too many', async () => {
    await using world = await World.open()
    const handler = world.handler()
    const server = https.createServer({ ...serverTls }, nodeListener(handler))
    const port = await listening(watchServer({ server, handler, maxConnections: 2 }))
    const open: TLSSocket[] = []
    try {
      for (let i = 0; i < 3; i++) {
        const socket = tls.connect({ port, host: 'localhost', ca: certificates.ca, ...certificates.client })
        socket.on('error', () => {})
        await once(socket, 'secureConnect')
        open.push(socket.resume())
      }
      await (open[2]?.closed || once(open[2] ?? expect.fail(), 'close'))
      expect(open[0]?.destroyed).toBe(false)
      // Whoever was one too many has taken no place with him: where one goes, there is room for one.
      const [left] = open.splice(1, 1)
      left?.destroy()
      await vi.waitFor(async () => {
        const socket = tls.connect({ port, host: 'localhost', ca: certificates.ca, ...certificates.client })
        open.push(socket)
        socket.on('error', () => {})
        socket.write(`GET ${pinPath('card-1')} HTTP/1.1\r\nHost: x\r\n\r\n`)
        const [answer] = await Promise.race([once(socket, 'data'), once(socket, 'close')])
        expect(String(answer)).toMatch(/^HTTP\/1\.1 /)
      }, 60_000)
    } finally {
      for (const socket of open) socket.destroy()
      await new Promise(resolve => server.close(resolve))
    }
  })

  test('over HTTP/2: what is no HTTP/2 is an event, too', async () => {
    await using world = await World.open()
    const handler = world.handler()
    const server = watchServer({
      server: http2.createSecureServer(serverTls, nodeListener(handler)),
      handler,
    })
    await once(server.listen(0, 'localhost'), 'listening')
    const { port } = server.address() as AddressInfo
    const socket = tls.connect({
      port,
      host: 'localhost',
      ALPNProtocols: ['h2'],
      ca: certificates.ca,
      ...certificates.client,
    })
    socket.on('error', () => {})
    await once(socket, 'secureConnect')
    socket.resume().write('GET / HTTP/1.1\r\n\r\n')
    await once(socket, 'close')
    server.close()
    expect(world.events.map(({ refusal }) => refusal?.reason)).toEqual(['not-http'])
  })

  test('over HTTP/2: a session on which nothing moves is closed, and one that does is served', async () => {
    await using world = await World.open()
    const handler = world.handler()
    const secure = http2.createSecureServer(serverTls, nodeListener(handler))
    const server = watchServer({ server: secure, handler, idleSessionMs: 1000 })
    await once(server.listen(0, 'localhost'), 'listening')
    const { port } = server.address() as AddressInfo
    const trust = { ca: certificates.ca, ...certificates.client }
    // One that never speaks HTTP/2, and one that has asked and then says no more.
    const silent = tls.connect({ port, host: 'localhost', ALPNProtocols: ['h2'], ...trust })
    silent.on('error', () => {}).resume()
    const headers = await world.authorized()
    const session = http2.connect(`https://localhost:${port}`, trust)
    session.on('error', () => {})
    const closed = [once(silent, 'close'), once(session, 'close')]
    const stream = session.request({ ':path': pinPath('card-1'), ...headers })
    const [answer] = await once(stream.resume(), 'response')
    expect(answer[':status']).toBe(200)
    await Promise.all(closed)
    await new Promise(resolve => server.close(resolve))
  })

  test('over HTTP/2: a stream that does not end keeps no session open', async () => {
    await using world = await World.open()
    const handler: EndpointHandler = () => new Promise(() => {})
    const secure = http2.createSecureServer(serverTls, nodeListener(handler))
    const server = watchServer({ server: secure, handler, idleSessionMs: 100 })
    await once(server.listen(0, 'localhost'), 'listening')
    const { port } = server.address() as AddressInfo
    const session = http2.connect(`https://localhost:${port}`, {
      ca: certificates.ca,
      ...certificates.client,
    })
    session.on('error', () => {})
    session
      .request({ ':path': pinPath('card-1'), ':method': 'PUT' }, { endStream: false })
      .on('error', () => {})
      .write('{')
    await once(session, 'close')
    await new Promise(resolve => server.close(resolve))
    expect(world.events).toEqual([])
  })

  test('over HTTP/2: a CONNECT is the contract’s 400, and an event', async () => {
    await using world = await World.open()
    const handler = world.handler()
    const secure = http2.createSecureServer(serverTls, nodeListener(handler))
    const server = watchServer({ server: secure, handler })
    await once(server.listen(0, 'localhost'), 'listening')
    const { port } = server.address() as AddressInfo
    const session = http2.connect(`https://localhost:${port}`, {
      ca: certificates.ca,
      ...certificates.client,
    })
    const stream = session.request({ ':method': 'CONNECT', ':authority': 'elsewhere.test:443' })
    const [headers] = await once(stream, 'response')
    expect([headers[':status'], await text(stream)]).toEqual([400, '{"error":"Bad request"}'])
    expect(world.last.refusal).toEqual({ reason: 'not-http', detail: 'METHOD_CONNECT' })
    session.destroy()
    await new Promise(resolve => server.close(resolve))
  })

  test('a CONNECT is the application’s where it has a listener for it', async () => {
    await using world = await World.open()
    const handler = world.handler()
    const server = watchServer({ server: http.createServer(nodeListener(handler)), handler })
    server.on('connect', (_incoming, socket) => socket.end('tunnel'))
    await once(server.listen(0, 'localhost'), 'listening')
    const socket = connect((server.address() as AddressInfo).port, 'localhost')
    socket.write('CONNECT elsewhere.test:443 HTTP/1.1\r\nHost: x\r\n\r\n')
    expect(await text(socket)).toBe('tunnel')
    expect(world.events).toEqual([])
    await new Promise(resolve => server.close(resolve))
  })

  test('a client that resets its connection after a CONNECT ends nothing but that', async () => {
    await using world = await World.open()
    const recorder = new EventEmitter()
    const unreadable = async (): Promise<400> => {
      recorder.emit('asked')
      await once(recorder, 'recorded')
      return 400
    }
    const handler = Object.assign(world.handler(), { unreadable })
    const server = watchServer({ server: http.createServer(nodeListener(handler)), handler })
    const sockets: Socket[] = []
    server.on('connection', socket => sockets.push(socket))
    await once(server.listen(0, 'localhost'), 'listening')
    const socket = connect((server.address() as AddressInfo).port, 'localhost').on('error', () => {})
    socket.write('CONNECT elsewhere.test:443 HTTP/1.1\r\nHost: x\r\n\r\n')
    await once(recorder, 'asked')
    // Not `once`: it would hear the error in the server's place.
    const closed = new Promise(resolve => sockets[0]?.once('close', resolve))
    socket.resetAndDestroy()
    await closed
    recorder.emit('recorded')
    await new Promise(resolve => server.close(resolve))
  })

  test('where the event cannot be recorded, and has to be, the answer is 500', async () => {
    await using world = await World.open()
    const audit = () => Promise.reject(new Error('disk full'))
    const handler = world.handler({ audit, auditRequired: true })
    const server = watchServer({ server: http.createServer(nodeListener(handler)), handler })
    await once(server.listen(0, 'localhost'), 'listening')
    const socket = connect((server.address() as AddressInfo).port, 'localhost')
    socket.write('no HTTP\r\n\r\n')
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 500 /)
    for (const line of [
      'CONNECT elsewhere.test:443 HTTP/1.1',
      'GET / HTTP/1.1\r\nConnection: close\r\nHost: y',
    ]) {
      const other = connect((server.address() as AddressInfo).port, 'localhost')
      other.write(`${line}\r\nHost: x\r\n\r\n`)
      expect(await text(other)).toMatch(/^HTTP\/1\.1 500 /)
    }
    server.close()
  })

  test('where the handler itself fails at what is no HTTP, the connection is closed without a word', async () => {
    await using world = await World.open()
    const unreadable = () => Promise.reject(new Error('canary'))
    const handler = Object.assign(world.handler(), { unreadable })
    const server = watchServer({ server: http.createServer(nodeListener(handler)), handler })
    await once(server.listen(0, 'localhost'), 'listening')
    const socket = connect((server.address() as AddressInfo).port, 'localhost').on('error', () => {})
    socket.write('no HTTP\r\n\r\n')
    expect(await text(socket).catch(() => '')).toBe('')
    const tunnel = connect((server.address() as AddressInfo).port, 'localhost').on('error', () => {})
    tunnel.write('CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n')
    expect(await text(tunnel).catch(() => '')).toBe('')
    const two = connect((server.address() as AddressInfo).port, 'localhost').on('error', () => {})
    two.write('GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n')
    expect(await text(two).catch(() => '')).toBe('')
    server.close()
  })

  test('refuses what is no server, handler or number', () => {
    const handler = async () => new Response()
    const server = http.createServer()
    expect(() => watchServer({ server: undefined as never, handler })).toThrow('takes a server')
    expect(() => watchServer({ server, handler: undefined as never })).toThrow('takes a handler')
    expect(() => watchServer({ server, handler, maxConnections: 0 })).toThrow('maxConnections')
    expect(() => watchServer({ server, handler, maxHandshakes: 0.5 })).toThrow('maxHandshakes')
    expect(watchServer({ server, handler }).maxConnections).toBe(1024)
  })

  test('with a handler of somebody’s own, what is no HTTP is answered all the same', async () => {
    const handler = async () => new Response()
    const server = watchServer({ server: http.createServer(nodeListener(handler)), handler })
    await once(server.listen(0, 'localhost'), 'listening')
    const socket = connect((server.address() as AddressInfo).port, 'localhost')
    socket.write('no HTTP\r\n\r\n')
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 400 /)
    server.close()
  })
})

test('settled: once nothing is under way', async () => {
  await using world = await World.open()
  const handler = world.handler()
  await handler.settled?.()
  let goOn = (): void => {}
  const hangs = new Promise<void>(resolve => {
    goOn = resolve
  })
  world.pins.before = () => hangs
  const answer = handler(
    new Request(`https://issuer.test${pinPath('card-1')}`, {
      method: 'PUT',
      headers: await world.authorized({ 'content-type': 'application/json' }),
      body: await world.iso0(),
    }),
  )
  let settled = false
  const end = handler.settled?.().then(() => {
    settled = true
  })
  await new Promise(resolve => setImmediate(resolve))
  expect(settled).toBe(false)
  goOn()
  expect((await answer).status).toBe(204)
  await end
})
