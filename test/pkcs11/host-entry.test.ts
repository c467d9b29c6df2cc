/** The file that a worker thread or a child process runs, here in this thread: what it listens on, and what ends it. */
import { Duplex } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, test, vi } from 'vitest'

afterEach(() => {
  for (const name of ['host', 'channels', 'remote', 'inline']) vi.doUnmock(`${ROOM}${name}.js`)
  vi.doUnmock('node:worker_threads')
  vi.doUnmock('node:net')
  vi.restoreAllMocks()
  vi.resetModules()
})

const ROOM = '../../src/backend/pkcs11/executor/'
const ENTRY = `${ROOM}host-entry.js`

/** What it hands over, and to whom, each part by its name. */
async function handedOver(threads: object): Promise<readonly unknown[]> {
  const served: unknown[][] = []
  vi.doMock(`${ROOM}host.js`, () => ({ serve: (...given: unknown[]) => served.push(given) }))
  vi.doMock(`${ROOM}channels.js`, () => ({
    portChannel: (port: unknown, kill: unknown) => ({ port, kill }),
    streamChannel: (stream: unknown, end: unknown, kill: unknown) => ({ stream, end, kill }),
    startFrom: (entry: unknown) => ({ entry }),
  }))
  vi.doMock(`${ROOM}remote.js`, () => ({ openRemote: (...given: unknown[]) => ({ remote: given }) }))
  const real = await vi.importActual<object>('node:worker_threads')
  vi.doMock('node:worker_threads', () => ({ ...real, ...threads }))
  await import(ENTRY)
  const [only = expect.fail(), ...more] = served
  expect(more).toEqual([])
  return only
}

test('in a thread: it serves its parent, and ends with the port', async () => {
  const { MessageChannel } = await import('node:worker_threads')
  const { port1, port2 } = new MessageChannel()
  const threads = await vi.importActual<object>('node:worker_threads')
  vi.doMock('node:worker_threads', () => ({ ...threads, isMainThread: false, parentPort: port1 }))
  const answer = new Promise<unknown>(resolve => port2.once('message', resolve))
  await import(ENTRY)
  port2.postMessage({ id: 1, call: 'keepAlive' })
  expect(await answer).toMatchObject({ id: 1, error: { code: 'ERR_BACKEND_FAILED' } })
  const open = new Promise<unknown>(resolve => port2.once('message', resolve))
  const settings = { module: '/absent.so', binding: 'koffi', login: {} }
  port2.postMessage({
    id: 2,
    call: 'open',
    host: { settings, hasPin: false, known: undefined, alone: false },
  })
  expect(await open).toMatchObject({ id: 2, error: { code: 'ERR_PKCS11_MODULE' } })
  const ended = new Promise<void>(resolve => port1.once('close', resolve))
  port2.close()
  await ended
})

test('in a process: it serves descriptor 3, a Ctrl-C is not for it, and it ends with the descriptor', async () => {
  const given: unknown[] = []
  class Descriptor extends Duplex {
    constructor(options: object) {
      super()
      given.push(options)
      made.push(this)
    }
    override _read(): void {}
    override _write(_chunk: unknown, _encoding: string, done: () => void): void {
      done()
    }
  }
  const made: Descriptor[] = []
  const net = await vi.importActual<object>('node:net')
  vi.doMock('node:net', () => ({ ...net, Socket: Descriptor }))
  const exits: unknown[] = []
  vi.spyOn(process, 'exit').mockImplementation(code => exits.push(code) as never)
  const before = process.listeners('SIGINT')
  await import(ENTRY)
  const [added = expect.fail(), ...more] = process.listeners('SIGINT').filter(one => !before.includes(one))
  expect(more).toEqual([])
  process.removeListener('SIGINT', added)
  expect(added('SIGINT')).toBeUndefined()
  expect(given).toEqual([{ fd: 3, readable: true, writable: true }])
  made[0]?.destroy()
  await vi.waitFor(() => expect(exits).toEqual([0]), 60_000)
})

test('in a thread: whoever kills it closes the port', async () => {
  let closed = 0
  const port = { close: () => closed++ }
  const [channel] = await handedOver({ isMainThread: false, parentPort: port })
  const { kill } = channel as { kill: () => void }
  kill()
  expect(closed).toBe(1)
})

test('in a process: it opens the module in threads that run this very file', async () => {
  class Descriptor {}
  const net = await vi.importActual<object>('node:net')
  vi.doMock('node:net', () => ({ ...net, Socket: Descriptor }))
  const before = process.listeners('SIGINT')
  const [, open] = await handedOver({})
  for (const added of process.listeners('SIGINT').filter(one => !before.includes(one)))
    process.removeListener('SIGINT', added)
  const settings = { module: '/absent.so', binding: 'koffi' }
  const { remote } = (open as (...given: unknown[]) => { remote: unknown[] })(settings, { known: 'known' })
  expect(remote).toEqual([settings, expect.any(Function), 'known', { entry: expect.any(Function) }])
  const { entry } = remote[3] as { entry: () => string }
  expect(entry()).toBe(fileURLToPath(new URL(`${ROOM}host-entry.ts`, import.meta.url)))
})
