/** Runs where a driver is there: `better-sqlite3` from the package's dependencies, or Node's own `node:sqlite`. */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ChangeCounter } from '../../src/seccos/counter/counter.js'
import { openSqliteStore, type SqliteDatabase, type SqliteStore, sqliteStore } from '../../src/sqlite.js'
import { changeCounterStoreContract } from '../../src/testing/change-counter-contract.js'
import { AVAILABLE, MISSING } from './drivers.js'

describe('without a database', () => {
  test.each([
    ['no options', undefined],
    ['no path', { driver: 'better-sqlite3' }],
    ['an empty path', { driver: 'better-sqlite3', path: '' }],
    ['no driver', { path: 'x.db' }],
    ['another driver', { path: 'x.db', driver: 'sqlite3' }],
    ['an inherited driver', { path: 'x.db', driver: 'valueOf' }],
    ['a misspelt option', { path: 'x.db', driver: 'better-sqlite3', file: 'y.db' }],
  ])('%s', async (_, options) => {
    await expect(openSqliteStore(options as never)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
  })

  test.each(MISSING)('a driver that is not there: %s', async missing => {
    await expect(openSqliteStore({ path: 'x.db', driver: missing })).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED',
    })
  })

  /** A driver that answers every statement with this error. */
  const failing = (error: Error): SqliteDatabase => {
    const fail = (): never => {
      throw error
    }
    return { exec: () => undefined, prepare: () => ({ run: fail, get: fail }), close: () => undefined }
  }
  test.each([
    [
      'better-sqlite3, busy',
      Object.assign(new Error('database is locked'), { code: 'SQLITE_BUSY_SNAPSHOT' }),
      'ERR_BACKEND_BUSY',
      true,
    ],
    [
      'node:sqlite, busy',
      Object.assign(new Error('database is locked'), { code: 'ERR_SQLITE_ERROR', errcode: 261 }),
      'ERR_BACKEND_BUSY',
      true,
    ],
    [
      'better-sqlite3, full',
      Object.assign(new Error('disk full'), { code: 'SQLITE_FULL' }),
      'ERR_BACKEND_FAILED',
      false,
    ],
    [
      'node:sqlite, corrupt',
      Object.assign(new Error('malformed'), { code: 'ERR_SQLITE_ERROR', errcode: 11 }),
      'ERR_BACKEND_FAILED',
      false,
    ],
    [
      'better-sqlite3, compiled for another Node',
      Object.assign(new Error('did not self-register'), { code: 'ERR_DLOPEN_FAILED' }),
      'ERR_UNSUPPORTED',
      false,
    ],
    [
      'better-sqlite3, not compiled',
      Object.assign(new Error('Could not locate the bindings file'), { tries: [] }),
      'ERR_UNSUPPORTED',
      false,
    ],
  ])('%s', async (_, error, code, retryable) => {
    const store = sqliteStore(failing(error))
    for (const call of [
      () => store.read('k'),
      () => store.compareAndSet('k', undefined, 'v'),
      () => store.compareAndSet('k', '1', 'v'),
      () => store.purge(0),
    ]) {
      const refused = await call().then(
        () => undefined,
        (reason: unknown) => reason,
      )
      expect(refused).toMatchObject({ code, retryable })
      expect(refused).not.toHaveProperty('cause')
      expect(refused).not.toHaveProperty('message', expect.stringContaining(error.message))
    }
  })
  test('SQLite says what failed by a name or a number, and nothing else of it goes out', async () => {
    const full = Object.assign(new Error('disk full at /secret'), { code: 'SQLITE_FULL' })
    await expect(sqliteStore(failing(full)).read('k')).rejects.toThrow('the database failed (SQLITE_FULL)')
    const corrupt = Object.assign(new Error('malformed'), { code: 'ERR_SQLITE_ERROR', errcode: 11 })
    await expect(sqliteStore(failing(corrupt)).read('k')).rejects.toThrow(
      'the database failed (SQLite result code 11)',
    )
  })
  test('a database that cannot be set up', () => {
    const broken: SqliteDatabase = {
      ...failing(new Error('x')),
      exec: () => {
        throw new Error('read-only')
      },
    }
    expect(() => sqliteStore(broken)).toThrow(expect.objectContaining({ code: 'ERR_BACKEND_FAILED' }))
  })
})

describe.each(AVAILABLE)('%s', driver => {
  let folder = ''
  let files = 0
  const open: SqliteStore[] = []
  const newFile = (): string => join(folder, `${++files}.db`)
  const openFile = async (path: string): Promise<SqliteStore> => {
    const store = await openSqliteStore({ path, driver })
    open.push(store)
    return store
  }
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'pcc-'))
  })
  afterAll(async () => {
    for (const store of open) store.close()
    await rm(folder, { recursive: true, force: true })
  })

  const contract = changeCounterStoreContract({
    open: async () => {
      const path = newFile()
      return [await openFile(path), await openFile(path)]
    },
  })
  test.each(contract)('$name', ({ run }) => run())

  test('a path that is no file', async () => {
    await expect(openSqliteStore({ path: join(folder, 'none', 'x.db'), driver })).rejects.toMatchObject({
      code: 'ERR_BACKEND_FAILED',
    })
  })

  test('what was written is there for the next process', async () => {
    const path = newFile()
    using first = await openSqliteStore({ path, driver })
    await first.compareAndSet('card/a', undefined, 'kept')
    first.close()
    await expect(first.read('card/a')).rejects.toMatchObject({ code: 'ERR_BACKEND_CLOSED' })
    expect(await (await openFile(path)).read('card/a')).toMatchObject({ value: 'kept' })
  })

  const counterOn = (store: SqliteStore): ChangeCounter =>
    new ChangeCounter({
      store,
      backend: { randomBytes: async length => Uint8Array.from(randomBytes(length)) },
      firstPcc: '0001',
      rule: 'increment-on-accept',
      wrap: 'refuse',
      ttlSeconds: 3600,
    })

  const child = (...args: string[]): ChildProcess => {
    const script = fileURLToPath(new URL('./sqlite-child.ts', import.meta.url))
    return spawn(process.execPath, ['--import', 'tsx', script, driver, ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
  }
  const linesOf = async (process: ChildProcess): Promise<unknown[]> => {
    const lines = text(process.stdout ?? expect.unreachable())
    await once(process, 'exit')
    return (await lines)
      .trim()
      .split('\n')
      .map(line => JSON.parse(line))
  }

  test('two processes race for each intdatag of a file: one wins, the other is told', {
    timeout: 60_000,
  }, async () => {
    const path = newFile()
    const counter = counterOn(await openFile(path))
    const cards: string[] = []
    for (let i = 0; i < 40; i++) {
      const { pcc, intdatag } = await counter.issue(`card-${i}`)
      cards.push(`card-${i}:${pcc}:${intdatag}`)
    }
    const start = String(Date.now() + 2500)
    const [one, two] = await Promise.all([
      linesOf(child(path, 'race', start, '1', ...cards)),
      linesOf(child(path, 'race', start, '2', ...cards)),
    ])
    for (let i = 0; i < 40; i++) {
      const verdicts = [one[i + 1], two[i + 1]] as { cardId: string; won: unknown }[]
      expect(verdicts.map(({ won }) => won).toSorted()).toEqual(['spent', true])
      expect(await counter.issue(`card-${i}`)).toMatchObject({ pcc: '0002' })
    }
  })

  test('two processes issue for one card at once: nothing is lost', { timeout: 60_000 }, async () => {
    const path = newFile()
    const counter = counterOn(await openFile(path))
    const start = String(Date.now() + 2500)
    const outputs = await Promise.all(
      ['a', 'b'].map(() => linesOf(child(path, 'issue', start, '4', 'card-1'))),
    )
    const issued = outputs.flatMap(lines => lines.slice(1)) as { pcc: string; intdatag: string }[]
    expect(new Set(issued.map(({ intdatag }) => intdatag)).size).toBe(8)
    for (const { pcc, intdatag } of issued) {
      const request = { cardId: 'card-1', pcc, intdatag, fingerprint: new Uint8Array(32) }
      expect(await counter.check(request)).toEqual({ replayed: false })
    }
  })

  const killed = async (where: string, path: string) => {
    const process = child(path, where, 'card-1')
    const [, issued] = (await linesOf(process)) as [string, { pcc: string; intdatag: string }]
    expect(process.signalCode).toBe('SIGKILL')
    return {
      cardId: 'card-1',
      pcc: issued.pcc,
      intdatag: issued.intdatag,
      fingerprint: new Uint8Array(32).fill(1),
    }
  }

  test('killed between issue and accept: the Set PIN is still accepted, once', {
    timeout: 60_000,
  }, async () => {
    const path = newFile()
    const request = await killed('die-after-issue', path)
    const counter = counterOn(await openFile(path))
    const stored: number[] = []
    expect(await counter.accept(request, async ({ sequence }) => void stored.push(sequence))).toEqual({
      sequence: 1,
      replayed: false,
    })
    const other = { ...request, fingerprint: new Uint8Array(32).fill(2) }
    await expect(counter.accept(other, () => expect.unreachable())).rejects.toMatchObject({ reason: 'spent' })
    expect(stored).toEqual([1])
  })

  test('killed while storing: the same request is stored after all, another one is not', {
    timeout: 60_000,
  }, async () => {
    const path = newFile()
    const request = await killed('die-in-store', path)
    const counter = counterOn(await openFile(path))
    const other = { ...request, fingerprint: new Uint8Array(32).fill(2) }
    await expect(counter.accept(other, () => expect.unreachable())).rejects.toMatchObject({ reason: 'spent' })
    const stored: number[] = []
    expect(await counter.accept(request, async ({ sequence }) => void stored.push(sequence))).toEqual({
      sequence: 1,
      replayed: false,
    })
    expect(stored).toEqual([1])
    expect(await counter.issue('card-1')).toMatchObject({ pcc: '0002' })
  })

  test('killed after the confirmation: the repeated request changes nothing', {
    timeout: 60_000,
  }, async () => {
    const path = newFile()
    const request = await killed('die-after-store', path)
    const counter = counterOn(await openFile(path))
    expect(await counter.accept(request, () => expect.unreachable())).toEqual({ sequence: 1, replayed: true })
  })
})
