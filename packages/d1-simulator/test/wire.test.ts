/** A request by hand: what goes out, when it is over, and what counts as an answer. The connection is played, and no time passes. */
import { EventEmitter } from 'node:events'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Raw } from '../src/wire.js'
import { Wire } from '../src/wire.js'

const REQUEST_MS = 1000
const setup = { url: 'https://localhost:1', tls: {}, timeouts: { requestMs: REQUEST_MS, slowBodyMs: 1 } }

class PlayedSocket extends EventEmitter {
  readonly written: unknown[] = []
  isOpen = true
  write(data: unknown): void {
    expect(this.isOpen).toBe(true)
    this.written.push(data)
  }
  destroy(): void {
    if (this.isOpen) this.emit('close')
    this.isOpen = false
  }
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] })
})
afterEach(() => {
  expect(vi.getTimerCount(), 'timers that outlive a request').toBe(0)
  vi.useRealTimers()
})

function begin(text: string, how?: Raw) {
  const wire = new Wire(setup as never)
  const socket = new PlayedSocket()
  const connect = vi.spyOn(wire, 'connect').mockReturnValue(socket as never)
  const ended = wire.raw(text, how).then(
    reply => ({ reply }),
    (error: { name: string; reason: string }) => ({ failed: `${error.name}: ${error.reason}` }),
  )
  wire.close()
  return { socket, connect, ended }
}

const ANSWER = 'HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}'

describe('what goes out', () => {
  test('once the handshake is over, a character a byte, as who it is to be', async () => {
    const { socket, connect, ended } = begin('\x16é', { identity: 'other' })
    expect(connect).toHaveBeenCalledExactlyOnceWith('other')
    expect(socket.written).toEqual([])
    socket.emit('secureConnect')
    expect(socket.written).toEqual([Buffer.of(0x16, 0xe9)])
    // Nothing drips where nothing is to.
    vi.advanceTimersByTime(REQUEST_MS - 1)
    expect(socket.written).toHaveLength(1)
    socket.destroy()
    await ended
  })

  test('as D1, where nothing else is said', async () => {
    const { socket, connect, ended } = begin('x')
    expect(connect).toHaveBeenCalledExactlyOnceWith('d1')
    socket.destroy()
    await ended
  })

  test('drop by drop, until the other side ends it', async () => {
    const { socket, ended } = begin('{', { drip: ' ' })
    vi.advanceTimersByTime(200)
    expect(socket.written).toEqual([])
    socket.emit('secureConnect')
    vi.advanceTimersByTime(500)
    expect(socket.written).toEqual([Buffer.from('{'), ...new Array(10).fill(' ')])
    socket.emit('data', Buffer.from(ANSWER))
    socket.emit('end')
    expect(socket.isOpen).toBe(false)
    expect(await ended).toMatchObject({ reply: { status: 400 } })
  })
})

describe('when it is over', () => {
  test.each<[string, Raw, number]>([
    ['the time of a request', {}, REQUEST_MS],
    ['a time of its own that is shorter', { withinMs: 70 }, 70],
    ['a time of its own that is longer', { withinMs: 5000 }, 5000],
  ])('after %s, and not before; an answer whose connection stays open is none', async (_what, how, ms) => {
    const { socket, ended } = begin('x', how)
    socket.emit('secureConnect')
    socket.emit('data', Buffer.from(ANSWER))
    vi.advanceTimersByTime(ms - 1)
    expect(socket.isOpen).toBe(true)
    vi.advanceTimersByTime(1)
    expect(socket.isOpen).toBe(false)
    expect(await ended).toEqual({ failed: 'NoAnswer: TIMEOUT' })
  })

  test.each([
    ['a handshake that fails', '', 'ECONNRESET', { failed: 'NoAnswer: ECONNRESET' }],
    ['half an answer', 'HTTP/1.1 4', 'ECONNRESET', { failed: 'NoAnswer: ECONNRESET' }],
    ['an answer, and then a reset', ANSWER, 'EPIPE', { reply: { status: 400 } }],
  ])('with %s', async (_what, received, code, outcome) => {
    const { socket, ended } = begin('x')
    socket.emit('data', Buffer.from(received))
    socket.emit('error', Object.assign(new Error(), { code }))
    socket.destroy()
    expect(await ended).toMatchObject(outcome)
  })
})

test.each([
  ['nothing', ''],
  ['no HTTP', 'SSH-2.0-x\r\n\r\n'],
  ['another version', 'HTTP/2 200 OK\r\n\r\n'],
  ['a status of two digits', 'HTTP/1.1 20 OK\r\n\r\n'],
  ['chunks without the last one', `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n`],
  [
    'a chunk that is longer than it says',
    `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n`,
  ],
  ['a chunk without a size', `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n0\r\n\r\n`],
])('%s is no answer', async (_what, received) => {
  const { socket, ended } = begin('x')
  socket.emit('data', Buffer.from(received))
  socket.emit('end')
  expect(await ended).toEqual({ failed: 'NoAnswer: closed' })
})

test.each([
  [
    'as long as it says, and what follows is another answer',
    `HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 2\r\nx-a:  b:c \r\n\r\n{}HTTP/1.1 500 x`,
    { status: 200, headers: { 'x-a': '1, b:c', 'content-length': '2' }, text: '{}' },
  ],
  [
    'to the end of the connection, empty lines and all',
    'HTTP/1.0 404 Not Found\r\nX: 1\r\n\r\na\r\n\r\nb',
    { status: 404, headers: { x: '1' }, text: 'a\r\n\r\nb' },
  ],
  [
    'in chunks, whatever their lines say besides',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\nA;x=1\r\n0123456789\r\n01 \t; y\r\n\r\r\n0\r\nX-T: 1\r\n\r\n',
    { status: 200, headers: { 'transfer-encoding': 'gzip, Chunked' }, text: '0123456789\r' },
  ],
])('an answer is read %s', async (_what, received, reply) => {
  const { socket, ended } = begin('x')
  for (const byte of received) socket.emit('data', Buffer.from(byte))
  socket.emit('end')
  expect(await ended).toEqual({ reply })
})
