/** SQLite off the main thread: what waits there, waits there alone. */
import { getEventListeners, once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
import { MessageChannel, type MessagePort } from 'node:worker_threads'
import { afterAll, describe, expect, test, vi } from 'vitest'
import { BackendError, Pan } from '../../src/index.js'
import { panSealer } from '../../src/sqlite.js'
import { openConnection, SqliteConnection } from '../../src/stores/sqlite/connection.js'
import { openFile } from '../../src/stores/sqlite/driver.js'
import { openSqlite } from '../../src/stores/sqlite/issuer-store.js'
import {
  openThreads,
  type StartedThread,
  serveSqlite,
  startFrom,
  startThread,
  threadFile,
  threadOf,
} from '../../src/stores/sqlite/threads.js'
import { failure } from '../support/errors.js'
import { AVAILABLE } from './drivers.js'
import { blockOf, ISSUER, SEAL_KEY, StoreChild } from './store-fixtures.js'
import { openHere, START } from './threads.js'

const folder = mkdtempSync(join(tmpdir(), 'sqlite-threads-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
let files = 0
const newPath = (): string => join(folder, `${++files}.db`)
const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: SEAL_KEY }] })
/** All values of all statements of a message, whatever groups they come in. */
const valuesOf = (part: unknown): unknown[] =>
  Array.isArray(part)
    ? part.flatMap(valuesOf)
    : typeof part === 'object' && part !== null && !(part instanceof Uint8Array)
      ? Object.values(part).flatMap(valuesOf)
      : [part]
const CARD = { issuerId: ISSUER, cardId: 'card-0001' }
const RECORD = { state: 'active', pan: Pan.from('9999990123456789'), setPinTypes: ['ISO0'] } as const

/** The thread's end in this very thread: what it does can be looked at. */
function inThisThread(look: (port: MessagePort) => void = () => {}): () => StartedThread {
  return () => {
    const { port1, port2 } = new MessageChannel()
    look(port2)
    serveSqlite(port2)
    return threadOf(port1, () => port1.close())
  }
}

test('a bundle that left the file of the threads behind is told so; the file is found where it is', () => {
  expect(() => threadFile('file:///nowhere/bundle.js')).toThrow('sqlite-host.mjs is not beside the program')
  expect(() => startFrom(() => threadFile('file:///nowhere/bundle.js'))()).toThrow(
    expect.objectContaining({ code: 'ERR_UNSUPPORTED' }),
  )
})

test('its own file is beside the source where setup has built it, and is asked for there', async () => {
  if (existsSync(new URL('../../src/stores/sqlite/sqlite-host.mjs', import.meta.url))) {
    const thread = startThread()
    await thread.end()
  } else expect(() => startThread()).toThrow(expect.objectContaining({ code: 'ERR_UNSUPPORTED' }))
})

describe.each(AVAILABLE)('%s', driver => {
  const file = () => ({ path: newPath(), driver })

  test('the program of a thread serves its parent, and does nothing where there is none', async () => {
    const { port1, port2 } = new MessageChannel()
    const load = async (parentPort: MessagePort | null): Promise<void> => {
      vi.resetModules()
      vi.doMock('node:worker_threads', () => ({ parentPort, Worker: class {} }))
      await import('../../src/stores/sqlite/host-entry.js')
      vi.doUnmock('node:worker_threads')
    }
    const ask = async (job: unknown): Promise<unknown> => {
      port1.postMessage(job)
      const [answer] = await once(port1, 'message')
      return answer
    }
    await load(null)
    await load(port2)
    expect(await ask({ read: [] })).toMatchObject({ error: { code: 'ERR_BACKEND_CLOSED' } })
    expect(await ask({ open: { path: newPath(), driver }, role: 'writer' })).toEqual({ value: undefined })
    // What is no error of ours says nothing of itself: it may quote a value.
    const message = 'the thread of the database failed'
    expect(await ask({ write: 'no list' })).toEqual({
      error: { code: 'ERR_BACKEND_FAILED', message, retryable: false },
    })
    expect(await ask({ write: [[{ sql: 'SELECT canary', values: [] }]] })).toMatchObject({
      value: [{ error: { code: 'ERR_BACKEND_FAILED' } }],
    })
    const reading = { sql: 'SELECT 1 AS yes', values: [] }
    expect(await ask({ read: [reading] })).toEqual({ value: [[{ yes: 1 }]] })
    expect(await ask({ close: true })).toEqual({ value: undefined })
    port1.close()
    vi.resetModules()
  })

  test('who gives up a read that is under way is released at once', async () => {
    const database = await openThreads(file(), inThisThread())
    const controller = new AbortController()
    const read = database.read({ sql: 'SELECT 1 AS yes', values: [] }, controller.signal)
    controller.abort()
    await failure(() => read, 'ERR_ABORTED')
    // One that is answered leaves nothing on a signal that goes on: that of a service is for all its reads.
    const { signal } = new AbortController()
    expect(await database.read({ sql: 'SELECT 1 AS yes', values: [] }, signal)).toEqual([{ yes: 1 }])
    await failure(() => database.read({ sql: 'SELECT no', values: [] }, signal), 'ERR_BACKEND_FAILED')
    expect(getEventListeners(signal, 'abort')).toEqual([])
    await database.close()
  })

  test('what is no other process is not waited for while the file is opened', async () => {
    const broken = new BackendError('ERR_BACKEND_FAILED', 'the disk is gone')
    const exec = vi.spyOn(SqliteConnection.prototype, 'exec').mockRejectedValue(broken)
    try {
      await expect(openConnection(file(), 'writer')).rejects.toBe(broken)
      expect(exec).toHaveBeenCalledTimes(1)
    } finally {
      exec.mockRestore()
    }
  })

  test('a write that waits for another process stops neither the event loop nor a read', async () => {
    const path = newPath()
    await using store = await openHere({ path, driver, panSealer: sealer })
    await store.cards.put(CARD, RECORD)
    const { database: other } = await openFile(path, driver)
    other.exec('BEGIN IMMEDIATE')
    let turns = 0
    let settled = false
    const write = failure(() => store.pins.storeBlock(CARD, blockOf(1)), 'ERR_BACKEND_BUSY').finally(() => {
      settled = true
    })
    // All of these are answered while the write waits, or this would not be false after them.
    for (let i = 0; i < 50; i++) {
      expect((await store.cards.find(CARD))?.state).toBe('active')
      await turn()
      turns++
    }
    expect([turns, settled]).toEqual([50, false])
    expect((await write).retryable).toBe(true)
    other.exec('COMMIT')
    other.close()
    await store.pins.storeBlock(CARD, blockOf(1))
    expect(await store.pins.readBlock(CARD)).toEqual(blockOf(1))
  })

  test('what waits is written together, and one that is refused takes none along', async () => {
    let jobs = 0
    const started = inThisThread(port =>
      port.on('message', job => {
        if ('write' in job) jobs++
      }),
    )
    await using store = await openSqlite({ path: newPath(), driver, panSealer: sealer }, started)
    const cards = Array.from({ length: 20 }, (_, i) => ({ issuerId: ISSUER, cardId: `card-${i}` }))
    await Promise.all(cards.map(card => store.cards.put(card, RECORD)))
    jobs = 0
    const outcomes = await Promise.allSettled(
      cards.map((card, i) => store.pins.storeBlock(i === 7 ? { ...card, cardId: 'none' } : card, blockOf(i))),
    )
    expect(outcomes.map(({ status }) => status === 'fulfilled')).toEqual(cards.map((_, i) => i !== 7))
    expect(jobs).toBe(2)
    for (const [i, card] of cards.entries())
      expect(await store.pins.readBlock(card)).toEqual(i === 7 ? undefined : blockOf(i))
  })

  test('more writes than go together are all written, in the order in which they were asked for', async () => {
    const database = await openThreads(file(), START)
    const insert = (i: number) => ({
      sql: "INSERT INTO issuer_pin_counters VALUES ('i', $1, 1, (SELECT count(*) FROM issuer_pin_counters), NULL)",
      values: [`key ${i}`],
    })
    const keys = Array.from({ length: 200 }, (_, i) => i)
    let written = 0
    for (const i of keys) void database.write([insert(i)]).then(() => written++)
    await expect.poll(() => written).toBe(200)
    const asked = { sql: 'SELECT key FROM issuer_pin_counters ORDER BY CAST(value AS INTEGER)', values: [] }
    expect(await database.read(asked)).toEqual(keys.map(i => ({ key: `key ${i}` })))
    await database.close()
  })

  test('one statement that fails undoes its own transaction, and the others stay', async () => {
    const database = await openThreads(file(), START)
    const put = (version: number) => ({
      sql: 'INSERT INTO issuer_pin_versions (version, applied_at) VALUES ($1, $2)',
      values: [version, 0],
    })
    const outcomes = await Promise.allSettled([
      database.write([put(10)]),
      database.write([put(11), put(10)]),
      database.write([put(12)]),
    ])
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
    const rows = await database.read({
      sql: 'SELECT version FROM issuer_pin_versions ORDER BY version',
      values: [],
    })
    expect(rows.map(({ version }) => version)).toEqual([1, 10, 12])
    await database.close()
  })

  test('bytes are handed over: the caller keeps its own, the thread wipes what it was given', async () => {
    const seen: Uint8Array[] = []
    const started = inThisThread(port =>
      port.on('message', job => {
        if ('write' in job) seen.push(...valuesOf(job.write).filter(value => value instanceof Uint8Array))
      }),
    )
    await using store = await openSqlite({ path: newPath(), driver, panSealer: sealer }, started)
    await store.cards.put(CARD, RECORD)
    const mine = blockOf(0x01020304)
    await store.pins.storeBlock(CARD, mine)
    expect(mine).toEqual(blockOf(0x01020304))
    expect(seen.length).toBeGreaterThan(0)
    // Wiped, or, once it went back, no longer there at all.
    for (const bytes of seen) expect(bytes.every(byte => byte === 0)).toBe(true)
    const read = await store.pins.readBlock(CARD)
    expect(read).toEqual(mine)
    expect(read?.block.byteLength).toBe(read?.block.buffer.byteLength)
  })

  test('what a read gives is with the caller alone: nothing of it stays with the driver, nor with the thread', async () => {
    const said: Uint8Array[] = []
    const inDriver: Uint8Array[] = []
    const started = inThisThread(port => {
      const post = port.postMessage.bind(port)
      vi.spyOn(port, 'postMessage').mockImplementation((answer, transfer) => {
        said.push(...valuesOf(answer).filter(value => value instanceof Uint8Array))
        post(answer, transfer as ArrayBuffer[])
      })
    })
    await using store = await openSqlite({ path: newPath(), driver, panSealer: sealer }, started)
    await store.cards.put(CARD, RECORD)
    await store.pins.storeBlock(CARD, blockOf(3))
    const { database, watch } = await openFile(newPath(), driver)
    database.exec('CREATE TABLE t (block BLOB)')
    database.prepare('INSERT INTO t VALUES (?)').run(blockOf(3).block)
    const connection = new SqliteConnection({
      watch,
      database: {
        exec: sql => database.exec(sql),
        close: () => database.close(),
        prepare: sql => {
          const statement = database.prepare(sql)
          return {
            run: (...given) => statement.run(...given),
            all: (...given) => {
              const rows = statement.all(...given)
              inDriver.push(...valuesOf(rows).filter(value => value instanceof Uint8Array))
              return rows
            },
          }
        },
      },
    })
    expect(connection.read([{ sql: 'SELECT block FROM t', values: [] }])).toEqual([
      [{ block: blockOf(3).block }],
    ])
    await connection.close()
    expect(await store.pins.readBlock(CARD)).toEqual(blockOf(3))
    expect(inDriver.map(bytes => [...bytes])).toEqual([Array(8).fill(0)])
    expect(said.map(({ byteLength }) => byteLength)).toEqual([0])
  })

  test('a thread that ends: what was under way may be tried again, and the next call has a new thread', async () => {
    const threads: StartedThread[] = []
    const start = () => {
      const thread = START()
      threads.push(thread)
      return thread
    }
    await using store = await openSqlite({ path: newPath(), driver, panSealer: sealer }, start)
    await store.cards.put(CARD, RECORD)
    const lost = failure(() => store.cards.find(CARD), 'ERR_BACKEND_BUSY')
    for (const thread of threads.splice(0)) thread.end()
    expect((await lost).retryable).toBe(true)
    await Promise.all([store.cards.find(CARD), store.cards.find(CARD)])
    await store.pins.storeBlock(CARD, blockOf(2))
    expect(await store.pins.readBlock(CARD)).toEqual(blockOf(2))
    expect(threads.length).toBe(2)
  })

  test('a thread that is told to have gone twice takes nothing from the one in its place', async () => {
    const threads: { readonly answer: (value: unknown) => void; readonly gone: () => void }[] = []
    const started = (): StartedThread => {
      let tell = (_: { readonly value: unknown }): void => {}
      let gone = (): void => {}
      threads.push({ answer: value => tell({ value }), gone: () => gone() })
      return {
        send: job => {
          if (!('read' in Object(job))) queueMicrotask(() => tell({ value: undefined }))
        },
        listen: (receive, ended) => {
          tell = receive
          gone = ended
        },
        hold: () => {},
        end: () => undefined,
      }
    }
    const database = await openThreads(file(), started)
    const [, first = expect.unreachable()] = threads
    const reading = { sql: 'SELECT 1 AS yes', values: [] }
    // A worker that fails has an error first, and its end later.
    first.gone()
    const read = database.read(reading)
    await turn()
    first.gone()
    const [, , next = expect.unreachable()] = threads
    next.answer([[{ yes: 1 }]])
    expect(await read).toEqual([{ yes: 1 }])
    await database.close()
  })

  test('a thread that does not open, or does not close, is ended, and is in nobody’s way', async () => {
    const ended: number[] = []
    const gone: (() => void)[] = []
    const error = { code: 'ERR_BACKEND_BUSY', message: 'busy', retryable: true }
    const started = (): StartedThread => {
      const number = gone.length
      let tell = (_: { readonly value: unknown } | { readonly error: typeof error }): void => {}
      return {
        send: job => {
          const [what = ''] = Object.keys(Object(job))
          // The second that reads does not open; the third does not close.
          const fails = (what === 'open' && number === 2) || (what === 'close' && number === 3)
          queueMicrotask(() =>
            tell(fails ? { error } : { value: what === 'read' ? [[{ yes: 1 }]] : undefined }),
          )
        },
        listen: (receive, go) => {
          tell = receive as typeof tell
          gone.push(go)
        },
        hold: () => {},
        end: () => ended.push(number),
      }
    }
    const database = await openThreads(file(), started)
    const reading = { sql: 'SELECT 1 AS yes', values: [] }
    gone[1]?.()
    await failure(() => database.read(reading), 'ERR_BACKEND_BUSY')
    expect(ended).toContain(2)
    expect(await database.read(reading)).toEqual([{ yes: 1 }])
    await failure(() => database.close(), 'ERR_BACKEND_BUSY')
    expect(new Set(ended)).toEqual(new Set([0, 1, 2, 3]))
  })

  test('the second closes once the first has closed: it is alone with the file then, and takes the log away', async () => {
    const steps: string[] = []
    let threads = 0
    const started = (): StartedThread => {
      const number = threads++
      let tell = (_: { readonly value: unknown }): void => {}
      return {
        send: async job => {
          const isClose = 'close' in Object(job)
          if (isClose) steps.push('asked')
          // However long it takes, the other one waits.
          for (let i = 0; i < 3; i++) await turn()
          if (isClose) steps.push('closed')
          tell({ value: undefined })
        },
        listen: receive => {
          tell = receive
        },
        hold: () => {},
        end: () => steps.push(`ended ${number}`),
      }
    }
    const database = await openThreads(file(), started)
    await database.close()
    expect(steps.map(step => step.replace(/ .*/, ''))).toEqual([
      ...['asked', 'closed', 'ended', 'ended'],
      ...['asked', 'closed', 'ended', 'ended'],
    ])
    expect(new Set(steps).size).toBe(4)
  })

  test('of writes that were under way together when their thread ended each is told so', async () => {
    const started = (): StartedThread => {
      let tell = (_: { readonly value: unknown }): void => {}
      let gone = (): void => {}
      return {
        send: job => queueMicrotask(() => ('write' in Object(job) ? gone() : tell({ value: undefined }))),
        listen: (receive, ended) => {
          tell = receive
          gone = ended
        },
        hold: () => {},
        end: () => undefined,
      }
    }
    const database = await openThreads(file(), started)
    // The first goes by itself, the others together.
    const lost = Array.from({ length: 4 }, () => failure(() => database.write([]), 'ERR_BACKEND_BUSY'))
    for (const error of await Promise.all(lost)) expect(error.retryable).toBe(true)
    await database.close()
  })

  test('a thread keeps the process from ending until the last of its answers is there', async () => {
    const threads: { held: boolean; readonly answer: (value: unknown) => void }[] = []
    const started = (): StartedThread => {
      let tell = (_: { readonly value: unknown }): void => {}
      const thread = { held: false, answer: (value: unknown) => tell({ value }) }
      threads.push(thread)
      return {
        send: job => {
          if (!('read' in Object(job))) queueMicrotask(() => tell({ value: undefined }))
        },
        listen: receive => {
          tell = receive
        },
        hold: held => {
          thread.held = held
        },
        end: () => undefined,
      }
    }
    const database = await openThreads(file(), started)
    const [, reader = expect.unreachable()] = threads
    expect(threads.map(({ held }) => held)).toEqual([false, false])
    const rows = Array.from({ length: 3 }, () => database.read({ sql: 'SELECT 1', values: [] }))
    await turn()
    const held = [reader.held]
    for (const _ of rows) {
      reader.answer([[]])
      held.push(reader.held)
    }
    expect(held).toEqual([true, true, true, false])
    await Promise.all(rows)
    await database.close()
  })

  test('a read whose caller gives up rejects at once; one that was given up before is not made', async () => {
    await using store = await openHere({ path: newPath(), driver, panSealer: sealer })
    const controller = new AbortController()
    const reading = failure(() => store.cards.find(CARD, { signal: controller.signal }), 'ERR_ABORTED')
    controller.abort()
    await reading
    await failure(() => store.cards.find(CARD, { signal: controller.signal }), 'ERR_ABORTED')
    expect(await store.cards.find(CARD, { signal: new AbortController().signal })).toBeUndefined()
  })

  test('close waits for what is under way; after it there is nothing', async () => {
    const store = await openHere({ path: newPath(), driver, panSealer: sealer })
    await store.cards.put(CARD, RECORD)
    const writing = store.cards.setState(CARD, 'not-active')
    const reading = store.cards.find({ ...CARD, cardId: 'none' })
    const closing = store.close()
    await Promise.all([writing, reading, closing, store.close()])
    await failure(() => store.cards.find(CARD), 'ERR_BACKEND_CLOSED')
    await failure(() => store.cards.put(CARD, RECORD), 'ERR_BACKEND_CLOSED')
  })

  test.each(['threads', 'inline'] as const)(
    'opening (%s) waits where the file has no write-ahead log yet and another process holds it',
    async executor => {
      const path = newPath()
      const { database: other } = await openFile(path, driver)
      other.exec('CREATE TABLE of_somebody (x)')
      other.exec('BEGIN EXCLUSIVE')
      const opening = openHere({ path, driver, panSealer: sealer, executor })
      await sleep(150)
      other.exec('COMMIT')
      other.close()
      await using store = await opening
      await store.cards.put(CARD, RECORD)
    },
  )

  test('a file that stays held is busy, and the threads are ended', async () => {
    const path = newPath()
    const { database: other } = await openFile(path, driver)
    other.exec('CREATE TABLE of_somebody (x)')
    other.exec('BEGIN EXCLUSIVE')
    const { retryable } = await failure(
      () => openHere({ path, driver, panSealer: sealer }),
      'ERR_BACKEND_BUSY',
    )
    expect(retryable).toBe(true)
    other.close()
  })

  test('a process with nothing under way ends by itself, and one with a write under way ends after it', async () => {
    const path = newPath()
    const child = new StoreChild({ path, driver }, 'last')
    expect(await child.rest()).toEqual(['ready'])
    expect(await child.exit).toEqual([0, null])
    await using store = await openHere({ path, driver, panSealer: sealer })
    expect((await store.cards.find(CARD))?.state).toBe('active')
  })
})
