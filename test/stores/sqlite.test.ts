/** The issuer's stores in a SQLite file, by each driver that is there (see `drivers.ts`). */
import { existsSync, rmSync } from 'node:fs'
import {
  chmod,
  copyFile,
  mkdtemp,
  open as openHandle,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { systemClock } from '../../src/base/deadline.js'
import { ArgumentError, Pan } from '../../src/index.js'
import { type IssuerStore, openSqliteIssuerStore, type PanSealer, panSealer } from '../../src/sqlite.js'
import { storeClosed } from '../../src/stores/records.js'
import type { PlainDatabase } from '../../src/stores/sql/database.js'
import { SqlIssuerStore } from '../../src/stores/sql/issuer-store.js'
import { openConnection, SqliteConnection } from '../../src/stores/sqlite/connection.js'
import { guard, openFile, type SqliteDatabase } from '../../src/stores/sqlite/driver.js'
import { openInline } from '../../src/stores/sqlite/threads.js'
import { issuerStoreContract } from '../../src/testing.js'
import { failure } from '../support/errors.js'
import { AVAILABLE, MISSING } from './drivers.js'
import {
  blockOf,
  counterOn,
  expectWritten,
  ISSUER,
  killWriter,
  prwOf,
  raceTwoProcesses,
  SEAL_KEY,
  StoreChild,
} from './store-fixtures.js'
import { endKeptThreads, openHere, openOnKeptThreads } from './threads.js'

const PAN = '9999990123456789'
const CARD = { issuerId: ISSUER, cardId: 'card-0001' }
const RECORD = { state: 'active', pan: Pan.from(PAN), setPinTypes: ['ISO0'] } as const
const EXECUTORS = ['inline', 'threads'] as const
const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: SEAL_KEY }] })

describe('options', () => {
  test.each([
    ['no options', undefined],
    ['no path', { driver: 'better-sqlite3', panSealer: sealer }],
    ['an empty path', { path: '', driver: 'better-sqlite3', panSealer: sealer }],
    ['another driver', { path: 'x.db', driver: 'sqlite3', panSealer: sealer }],
    ['no PAN sealer', { path: 'x.db', driver: 'better-sqlite3' }],
    ['a PAN sealer that cannot open', { path: 'x.db', driver: 'better-sqlite3', panSealer: { seal() {} } }],
    ['another executor', { path: 'x.db', driver: 'better-sqlite3', panSealer: sealer, executor: 'process' }],
    ['a misspelt option', { path: 'x.db', driver: 'better-sqlite3', sealer }],
  ])('%s', async (_, options) => {
    await expect(openSqliteIssuerStore(options as never)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
  })

  test.each(MISSING)('a driver that is not there: %s', async driver => {
    await expect(openHere({ path: join(tmpdir(), 'x.db'), driver, panSealer: sealer })).rejects.toMatchObject(
      {
        code: 'ERR_UNSUPPORTED',
      },
    )
  })
})

test.each([
  [{ errcode: 261 }, 'ERR_BACKEND_BUSY', 'the database is busy'],
  [{ code: 'SQLITE_BUSY_SNAPSHOT' }, 'ERR_BACKEND_BUSY', 'the database is busy'],
  [{ errcode: 787 }, 'ERR_BACKEND_FAILED', 'the store holds no such card'],
  [{ errcode: 10 }, 'ERR_BACKEND_FAILED', 'the database failed (SQLite result code 10)'],
  [{ code: 'SQLITE_FULL' }, 'ERR_BACKEND_FAILED', 'the database failed (SQLITE_FULL)'],
  [{ code: 'canary 4711' }, 'ERR_BACKEND_FAILED', 'the database failed'],
])('a fault of either driver: %o', async (reported, code, message) => {
  const failing = async () =>
    guard(() => {
      throw Object.assign(new Error('canary'), reported)
    })
  expect(await failure(failing, code as 'ERR_BACKEND_BUSY')).toMatchObject({ code, message })
})

// Each write waits for the disk, which may be slow.
test('an addon that was compiled for another Node says so', async () => {
  for (const reported of [{ code: 'ERR_DLOPEN_FAILED' }, { tries: ['build/better_sqlite3.node'] }]) {
    const loading = async () =>
      guard(() => {
        throw Object.assign(new Error('canary'), reported)
      })
    const { message } = await failure(loading, 'ERR_UNSUPPORTED')
    expect(message).toBe('better-sqlite3 is not compiled for this Node')
  }
})

describe.each(AVAILABLE.flatMap(driver => EXECUTORS.map(executor => [driver, executor] as const)))(
  '%s, %s',
  (driver, executor) => {
    let folder = ''
    let files = 0
    const newFile = (): string => join(folder, `${++files}.db`)
    const open = (path: string, more: { panSealer?: PanSealer } = {}) =>
      openOnKeptThreads({ path, driver, panSealer: sealer, executor, ...more })
    /** Runs statements on a file, past the store. */
    const onFile = async <T>(path: string, use: (database: SqliteDatabase) => T | Promise<T>): Promise<T> => {
      const { database } = await openFile(path, driver)
      try {
        return await use(database)
      } finally {
        database.close()
      }
    }
    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), 'issuer-store-'))
    })
    afterAll(async () => {
      await endKeptThreads()
      await rm(folder, { recursive: true, force: true })
    })

    const contract = issuerStoreContract({
      durable: true,
      open: async () => {
        const path = newFile()
        const stored = async () =>
          Buffer.concat([await readFile(path), await readFile(`${path}-wal`).catch(() => Buffer.alloc(0))])
        return { one: await open(path), other: await open(path), reopen: () => open(path), stored }
      },
    })
    test.each(contract)('$name', ({ run }) => run())

    test('a path that is no file, and a database that is in no file', async () => {
      await failure(() => open(join(folder, 'none', 'x.db')), 'ERR_BACKEND_FAILED')
      for (const path of [
        ':memory:',
        ':Memory:',
        'file:x.db',
        'FILE::memory:',
        ' x.db',
        'x.db ',
        'x.db\n',
        'x\0.db',
        '\u00a0x',
      ]) {
        await failure(() => open(path), 'ERR_ARGUMENT')
      }
    })

    test('without a write-ahead log nothing is opened: a database in memory has none', async () => {
      // The inner door looks at no path: it makes a file of this name, for SQLite to take it for memory.
      const left = join(process.cwd(), ':memory:')
      rmSync(left, { force: true })
      const { message } = await failure(
        () => openConnection({ path: ':memory:', driver }, 'writer'),
        'ERR_BACKEND_FAILED',
      ).finally(() => rmSync(left, { force: true }))
      expect(message).toContain('it is not in a file')
    })

    test('of several transactions of one commit, one that fails takes no other along', async () => {
      const connection = await openConnection({ path: newFile(), driver }, 'writer')
      const insert = (kid: string) => ({
        sql: 'INSERT INTO several (kid) VALUES ($1)',
        values: [kid],
      })
      connection.write([[{ sql: 'CREATE TABLE several (kid TEXT PRIMARY KEY)', values: [] }]])
      const [one, two, three] = connection.write([[insert('a')], [insert('b'), insert('a')], [insert('c')]])
      expect(one).toMatchObject({ results: [{ count: 1 }] })
      expect(two).toMatchObject({ error: { code: 'ERR_BACKEND_FAILED' } })
      expect(three).toMatchObject({ results: [{ count: 1 }] })
      const rows = connection.read([{ sql: 'SELECT kid FROM several ORDER BY kid', values: [] }])
      expect(rows).toEqual([[{ kid: 'a' }, { kid: 'c' }]])
      await connection.close()
    })

    test('a transaction that fails in the calling thread is an error, and one on a closed connection is told so', async () => {
      const database = await openInline({ path: newFile(), driver })
      const orphan = {
        sql: "INSERT INTO issuer_pin_pins (issuer_id, card_id, prw, version) VALUES ('i', 'c', 'p', 'v')",
      }
      const { message } = await failure(
        () => database.write([{ ...orphan, values: [] }]),
        'ERR_BACKEND_FAILED',
      )
      expect(message).toBe('the store holds no such card')
      await database.close()
      await database.close()
      await failure(() => database.write([]), 'ERR_BACKEND_CLOSED')
      await failure(() => database.read({ sql: 'SELECT 1', values: [] }), 'ERR_BACKEND_CLOSED')
    })

    test('of many blocks: those that are stored end the intdatags before them, though why others are not cannot be read', async () => {
      const inline = await openInline({ path: newFile(), driver })
      const broken: PlainDatabase = {
        ...inline,
        read: async (statement, signal) => {
          if (statement.sql.startsWith('SELECT revision,')) throw storeClosed()
          return inline.read(statement, signal)
        },
      }
      await using store = new SqlIssuerStore(broken, sealer)
      await store.cards.put(CARD, RECORD)
      const counter = counterOn(store)
      const { cardId } = CARD
      const issued = await counter.issue({ cardId })
      const blocks = [
        { card: CARD, pin: blockOf(1) },
        { card: { issuerId: ISSUER, cardId: 'nobody' }, pin: blockOf(1) },
      ]
      await failure(() => store.pins.storeBlocks(blocks)[Symbol.asyncIterator]().next(), 'ERR_BACKEND_CLOSED')
      expect(await store.pins.readBlock(CARD)).toEqual(blockOf(1))
      const request = { ...issued, cardId, fingerprint: new Uint8Array(32) }
      await expect(counter.check(request)).rejects.toMatchObject({ reason: 'superseded' })
    })

    test('a file that is no database', async () => {
      await failure(() => open(new URL(import.meta.url).pathname), 'ERR_BACKEND_FAILED')
    })

    test('every commit is on disk: WAL with synchronous FULL', async () => {
      const path = newFile()
      await using store = await open(path)
      await store.cards.put(CARD, RECORD)
      const mode = await onFile(path, database => database.prepare('PRAGMA journal_mode').all()[0])
      expect(mode).toMatchObject({ journal_mode: 'wal' })
      // The other settings are a connection's own: as the store's own connections say.
      for (const role of ['writer', 'reader'] as const) {
        const connection = await openConnection({ path, driver }, role)
        const asked = ['synchronous', 'fullfsync', 'checkpoint_fullfsync', 'secure_delete', 'foreign_keys']
        const settings = await Promise.all(asked.map(name => connection.get(`PRAGMA ${name}`, [])))
        expect(settings).toMatchObject([
          { synchronous: 2 },
          { fullfsync: 1 },
          { checkpoint_fullfsync: 1 },
          { secure_delete: 1 },
          { foreign_keys: 1 },
        ])
        expect(await connection.get('PRAGMA busy_timeout', [])).toEqual({ timeout: 2000 })
        await connection.close()
      }
    })

    test('a file is made for its owner alone, with what SQLite puts beside it; one that others may read is refused', async () => {
      const path = newFile()
      await using store = await open(path)
      await store.cards.put(CARD, RECORD)
      for (const file of [path, `${path}-wal`, `${path}-shm`])
        expect((await stat(file)).mode & 0o777).toBe(0o600)
      const shared = newFile()
      await writeFile(shared, '')
      await chmod(shared, 0o640)
      const { message } = await failure(() => open(shared), 'ERR_BACKEND_FAILED')
      expect(message).toContain('chmod 600')
      await chmod(shared, 0o600)
      await (await open(shared)).close()
      // What lies beside it holds rows, too.
      for (const beside of ['-wal', '-shm']) {
        const left = newFile()
        await (await open(left)).close()
        await writeFile(`${left}${beside}`, '')
        await chmod(`${left}${beside}`, 0o640)
        const refused = await failure(() => open(left), 'ERR_BACKEND_FAILED')
        expect(refused.message).toContain('chmod 600')
      }
    })

    test.each([
      ['is deleted', (path: string) => rm(path)],
      ['is replaced', (path: string) => rename(`${path}.other`, path)],
      ['loses its log', (path: string) => rm(`${path}-wal`)],
    ])('a file that %s under an open store: no write is acknowledged any more', async (_, lose) => {
      const path = newFile()
      await using store = await open(path)
      await store.cards.put(CARD, RECORD)
      await copyFile(path, `${path}.other`)
      await lose(path)
      const error = await failure(() => store.pins.storeBlock(CARD, blockOf(1)), 'ERR_BACKEND_FAILED')
      expect(error.message).toContain('deleted or replaced')
      await failure(() => store.pins.storeBlock(CARD, blockOf(1)), 'ERR_BACKEND_FAILED')
    })

    test('a log that is replaced before the first write: nothing is acknowledged', async () => {
      const path = newFile()
      await (await open(path)).close()
      await using store = await open(path)
      await rm(`${path}-wal`)
      // As another process would make it.
      await writeFile(`${path}-wal`, '', { mode: 0o600 })
      const error = await failure(() => store.cards.put(CARD, RECORD), 'ERR_BACKEND_FAILED')
      expect(error.message).toContain('deleted or replaced')
    })

    test('a link to the file serves; one to nothing is refused, and one that leads elsewhere meanwhile is noticed', async () => {
      const [path, other, link] = [newFile(), newFile(), newFile()]
      await symlink(path, link)
      await failure(() => open(link), 'ERR_BACKEND_FAILED')
      expect(existsSync(path)).toBe(false)
      for (const file of [path, other]) await (await open(file)).close()
      await chmod(path, 0o644)
      await failure(() => open(link), 'ERR_BACKEND_FAILED')
      await chmod(path, 0o600)
      await using store = await open(link)
      await store.cards.put(CARD, RECORD)
      await symlink(other, `${link}.new`)
      await rename(`${link}.new`, link)
      const error = await failure(() => store.pins.storeBlock(CARD, blockOf(1)), 'ERR_BACKEND_FAILED')
      expect(error.message).toContain('deleted or replaced')
    })

    test('a read of several of which one fails leaves no transaction behind: the next ones read', async () => {
      const path = newFile()
      const writer = await openConnection({ path, driver }, 'writer')
      const reader = await openConnection({ path, driver }, 'reader')
      const right = { sql: 'SELECT 1 AS one', values: [] }
      const wrong = { sql: 'SELECT one FROM nowhere', values: [] }
      for (const connection of [reader, writer]) {
        for (const statements of [
          [wrong, right],
          [right, wrong],
        ]) {
          await failure(() => connection.read(statements), 'ERR_BACKEND_FAILED')
          expect(connection.read([right, right])).toEqual([[{ one: 1 }], [{ one: 1 }]])
        }
      }
      await Promise.all([reader.close(), writer.close()])
    })

    test('what was replaced is out of the log a minute later, too, and where somebody reads it then, another minute later', async () => {
      const path = newFile()
      const connection = await openConnection({ path, driver }, 'writer')
      const reader = await openConnection({ path, driver }, 'reader')
      const logSize = async () => (await stat(`${path}-wal`)).size
      vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
      try {
        const insert = { sql: "INSERT INTO issuer_pin_counters VALUES ('i', $1, 1, 'x', NULL)" }
        for (const key of ['a', 'b']) connection.write([[{ ...insert, values: [key] }]])
        vi.advanceTimersByTime(59_999)
        expect(await logSize()).toBeGreaterThan(0)
        await reader.exec('BEGIN; SELECT * FROM issuer_pin_counters')
        vi.advanceTimersByTime(1)
        expect(await logSize()).toBeGreaterThan(0)
        expect(await connection.get('PRAGMA busy_timeout', [])).toEqual({ timeout: 2000 })
        await reader.exec('COMMIT')
        vi.advanceTimersByTime(60_000)
        expect(await logSize()).toBe(0)
        connection.write([[{ ...insert, values: ['c'] }]])
        await connection.close()
        expect(vi.getTimerCount()).toBe(0)
      } finally {
        vi.useRealTimers()
      }
      await reader.close()
    })

    test('a store that is closed leaves one file: whoever copies it has all that was written', async () => {
      const path = newFile()
      const store = await open(path)
      await store.cards.put(CARD, RECORD)
      await store.pins.storeBlock(CARD, blockOf(1))
      await store.close()
      expect([path, `${path}-wal`, `${path}-shm`].filter(file => existsSync(file))).toEqual([path])
      await copyFile(path, `${path}.copy`)
      await chmod(`${path}.copy`, 0o600)
      await using copy = await open(`${path}.copy`)
      expect(await copy.pins.readBlock(CARD)).toEqual(blockOf(1))
    })

    test('a key that has gone: its requests go in batches, and those of others stay', async () => {
      const path = newFile()
      await using store = await open(path)
      await onFile(path, database => {
        const columns = '(digest, issuer_id, card_id, jwe_kid, accepted_at, mark)'
        for (const kid of ['JWE-OLD', 'JWE-NEW']) {
          database.exec(
            `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500) ` +
              `INSERT INTO issuer_pin_requests ${columns} ` +
              `SELECT randomblob(32), '${ISSUER}', 'card', '${kid}', 1, 'mark' FROM n`,
          )
        }
      })
      const which = { issuerIds: [ISSUER], jweKids: ['JWE-NEW'] }
      expect(await store.pins.forgetRequests(which)).toBe(2500)
      expect(await store.pins.forgetRequests(which)).toBe(0)
      const elapsed = vi.spyOn(systemClock, 'elapsed').mockReturnValueOnce(0).mockReturnValue(60_000)
      expect(await store.pins.forgetRequests({ ...which, acceptedBefore: 2 })).toBe(1000)
      elapsed.mockRestore()
      expect(await store.pins.forgetRequests({ ...which, acceptedBefore: 2 })).toBe(1500)
    })

    test('what was replaced is not left in the file, nor in the log once that is truncated', async () => {
      const path = newFile()
      await using store = await open(path)
      await store.cards.put(CARD, RECORD)
      const old = { block: Uint8Array.from(Buffer.from('OLDBLOCK')), kid: 'PEK-STORE' }
      await store.pins.storeBlock(CARD, old)
      const holdsOld = async () => {
        const files = await Promise.all([path, `${path}-wal`].map(file => readFile(file)))
        return files.some(file => file.includes('OLDBLOCK'))
      }
      expect(await holdsOld()).toBe(true)
      // The thousandth write truncates the log.
      for (let i = 0; i < 998; i++) await store.pins.storeBlock(CARD, blockOf(i))
      expect(await holdsOld()).toBe(false)
      expect((await stat(`${path}-wal`)).size).toBe(0)
    })

    /** A connection, and what it has the database do: a statement in `refuses` fails. */
    const recorded = async (path: string, refuses: (sql: string) => boolean = () => false) => {
      await (await openConnection({ path, driver }, 'writer')).close()
      const { database, watch } = await openFile(path, driver)
      const asked: string[] = []
      const ask = (sql: string) => {
        asked.push(sql)
        if (refuses(sql)) throw Object.assign(new Error('full'), { code: 'SQLITE_FULL', errcode: 13 })
      }
      const connection = new SqliteConnection({
        watch,
        database: {
          exec: sql => {
            ask(sql)
            return database.exec(sql)
          },
          prepare: sql => {
            const statement = database.prepare(sql)
            return {
              run: (...values) => {
                ask(sql)
                return statement.run(...values)
              },
              all: (...values) => {
                ask(sql)
                return statement.all(...values)
              },
            }
          },
          close: () => database.close(),
        },
      })
      // The log is there when something was read.
      await connection.get('SELECT count(*) FROM issuer_pin_counters', [])
      connection.begin()
      return { connection, asked, watch }
    }
    const inserting = (key: string) => [
      { sql: "INSERT INTO issuer_pin_counters VALUES ('i', $1, 1, 'x', NULL)", values: [key] },
    ]

    test('what is read together is of one moment, though another process writes in between', async () => {
      const path = newFile()
      const other = await openConnection({ path, driver }, 'writer')
      let isBetween = false
      const { connection } = await recorded(path, sql => {
        if (sql.includes('AS second') && !isBetween) {
          isBetween = true
          other.write([inserting('between')])
        }
        return false
      })
      const counted = (as: string) => ({
        sql: `SELECT count(*) AS ${as} FROM issuer_pin_counters`,
        values: [],
      })
      expect(connection.read([counted('first'), counted('second')])).toEqual([
        [{ first: 0 }],
        [{ second: 0 }],
      ])
      expect(isBetween).toBe(true)
      expect(connection.read([counted('later')])).toEqual([[{ later: 1 }]])
      await Promise.all([connection.close(), other.close()])
    })

    test('a commit that fails leaves no transaction open: the next one goes through', async () => {
      let isFull = true
      const { connection } = await recorded(newFile(), sql => isFull && sql === 'COMMIT')
      expect(() => connection.write([inserting('a')])).toThrow()
      isFull = false
      connection.write([inserting('b')])
      const rows = connection.read([{ sql: 'SELECT 1 AS one FROM issuer_pin_counters', values: [] }])
      await connection.close()
      expect(rows).toHaveLength(1)
    })

    test('the file is looked at once what was written is committed, and not before', async () => {
      const steps: string[] = []
      const { connection, asked, watch } = await recorded(newFile())
      vi.spyOn(watch, 'check').mockImplementation(() => void steps.push(asked.at(-1) ?? 'nothing'))
      connection.write([inserting('a')])
      await connection.close()
      expect(steps).toEqual(['COMMIT'])
    })

    test('the log is truncated by one wait at a time, which waits for nobody, and none is left once it is done', async () => {
      vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
      try {
        const { connection, asked } = await recorded(newFile())
        connection.write([inserting('first')])
        expect(vi.getTimerCount()).toBe(1)
        vi.advanceTimersByTime(60_000)
        expect(asked.slice(-3)).toEqual([
          'PRAGMA busy_timeout = 0',
          'PRAGMA wal_checkpoint(TRUNCATE)',
          'PRAGMA busy_timeout = 2000',
        ])
        expect(vi.getTimerCount()).toBe(0)
        // After that there is a wait again, and the thousandth write, which truncates the log itself, ends it.
        for (let i = 2; i < 1000; i++) connection.write([[]])
        expect(vi.getTimerCount()).toBe(1)
        connection.write([[]])
        expect(asked.at(-2)).toBe('PRAGMA wal_checkpoint(TRUNCATE)')
        expect(vi.getTimerCount()).toBe(0)
        connection.write([[]])
        expect(vi.getTimerCount()).toBe(1)
        await connection.close()
        expect(vi.getTimerCount()).toBe(0)
      } finally {
        vi.useRealTimers()
      }
    })

    test('whoever reads cannot write', async () => {
      const path = newFile()
      await (await open(path)).close()
      const reader = await openConnection({ path, driver }, 'reader')
      await failure(() => reader.exec('DELETE FROM issuer_pin_counters'), 'ERR_BACKEND_FAILED')
      await reader.close()
    })

    test.runIf(existsSync('/proc/self/fd'))(
      'a connection that is refused is closed before that is said',
      async () => {
        const path = newFile()
        await (await open(path)).close()
        await onFile(path, database => database.exec('INSERT INTO issuer_pin_versions VALUES (999, 0)'))
        await failure(() => openConnection({ path, driver }, 'writer'), 'ERR_UNSUPPORTED')
        const targets = await Promise.all(
          (await readdir('/proc/self/fd')).map(fd => readlink(`/proc/self/fd/${fd}`).catch(() => '')),
        )
        expect(targets.filter(target => target.startsWith(path))).toEqual([])
      },
    )

    test.runIf(existsSync('/proc/self/fd'))(
      'what is refused is closed: no file stays open (as /proc shows it)',
      async () => {
        const path = newFile()
        await writeFile(path, 'this is no database, and long enough for its head to be read'.repeat(20))
        const openOnes = async (): Promise<number> => {
          const targets = (await readdir('/proc/self/fd')).map(fd =>
            readlink(`/proc/self/fd/${fd}`).catch(() => ''),
          )
          return (await Promise.all(targets)).filter(target => target.startsWith(path)).length
        }
        const held = await openHandle(path)
        expect(await openOnes(), 'one that is open is seen').toBe(1)
        await held.close()
        for (let i = 0; i < 5; i++) await failure(() => open(path), 'ERR_BACKEND_FAILED')
        // A thread closes its own end after it has said why it refuses.
        await vi.waitFor(async () => expect(await openOnes()).toBe(0), 60_000)
      },
    )

    describe('versions', () => {
      const versionsOf = (path: string) =>
        onFile(
          path,
          database =>
            database.prepare('SELECT count(*) AS n, max(version) AS last FROM issuer_pin_versions').all()[0],
        )

      test('a new file gets every version, and opening it again adds none', async () => {
        const path = newFile()
        for (let i = 0; i < 2; i++) {
          await using store = await open(path)
          await store.cards.put(CARD, RECORD)
          expect(await versionsOf(path)).toMatchObject({ n: 1, last: 1 })
        }
      })

      test('a file of a later version is refused', async () => {
        const path = newFile()
        await (await open(path)).close()
        await onFile(path, database =>
          database.exec('INSERT INTO issuer_pin_versions (version, applied_at) VALUES (2, 0)'),
        )
        const { message } = await failure(() => open(path), 'ERR_UNSUPPORTED')
        expect(message).toBe(
          'the database is of version 2, and this library knows versions up to 1: update it',
        )
      })

      test('a migration that fails leaves nothing behind', async () => {
        const path = newFile()
        await onFile(path, database => database.exec('CREATE TABLE issuer_pin_pins (other TEXT)'))
        await failure(() => open(path), 'ERR_BACKEND_FAILED')
        const tables = await onFile(
          path,
          database =>
            database
              .prepare("SELECT group_concat(name) AS names FROM sqlite_schema WHERE type = 'table'")
              .all()[0],
        )
        expect(tables).toMatchObject({ names: 'issuer_pin_pins' })
      })

      test('processes that open a new file at once all succeed', async () => {
        const path = newFile()
        const children = Array.from({ length: 4 }, () => new StoreChild({ path, driver }, 'open'))
        for (const child of children) expect(await child.next()).toBe('ready')
        for (const child of children) child.go()
        for (const child of children) expect(await child.rest()).toEqual(['open'])
        expect(await versionsOf(path)).toMatchObject({ n: 1, last: 1 })
      })
    })

    describe('processes', () => {
      test('two race for each intdatag: one is accepted, the other refused', async () => {
        const path = newFile()
        await using store = await open(path)
        await raceTwoProcesses(store, { path, driver }, 25)
      })

      test('what a process acknowledged before it was killed is there', async () => {
        const path = newFile()
        const last = await killWriter({ path, driver }, 40)
        await using store = await open(path)
        await expectWritten(store, last)
      })
    })

    test('a file that another process holds is busy, and may be tried again', async () => {
      const path = newFile()
      await using store = await open(path)
      await onFile(path, async database => {
        database.exec('BEGIN IMMEDIATE')
        const error = await failure(() => store.cards.put(CARD, RECORD), 'ERR_BACKEND_BUSY', [PAN])
        expect(error.retryable).toBe(true)
        expect(await store.cards.find(CARD)).toBeUndefined()
        database.exec('COMMIT')
      })
      await store.cards.put(CARD, RECORD)
      expect((await store.cards.find(CARD))?.pan.reveal()).toBe(PAN)
    })

    test.each([
      ['a state', 'issuer_pin_cards SET state', 'open'],
      ['types that are no JSON', 'issuer_pin_cards SET set_pin_types', 'ISO0'],
      ['types that are no list', 'issuer_pin_cards SET set_pin_types', '{}'],
      ['SECCOS', 'issuer_pin_cards SET seccos', '{"fields":{"psn":{"hex":"0"}}}'],
      ['a PRW', 'issuer_pin_pins SET prw', '{"prwValue":"4711"}'],
      ['a PRW that is no JSON', 'issuer_pin_pins SET prw', PAN],
    ])('%s that another program wrote does not read', async (_, column, text) => {
      const path = newFile()
      await using store = await open(path)
      await store.cards.put(CARD, RECORD)
      await store.pins.storePrw(CARD, prwOf(1))
      await onFile(path, database => database.prepare(`UPDATE ${column} = ?`).run(text))
      const read = () => (column.includes('pins') ? store.pins.readPrw(CARD) : store.cards.find(CARD))
      await failure(read, 'ERR_BACKEND_FAILED', [text])
    })

    test('a block that another program wrote does not read', async () => {
      const path = newFile()
      await using store = await open(path)
      await store.cards.put(CARD, RECORD)
      await store.pins.storeBlock(CARD, blockOf(1))
      await onFile(path, database =>
        database.prepare('UPDATE issuer_pin_pins SET block = ?').run(new Uint8Array(7)),
      )
      await failure(() => store.pins.readBlock(CARD, {}), 'ERR_BACKEND_FAILED')
    })

    describe('the PAN sealer', () => {
      const openWith = (part: object): Promise<IssuerStore> =>
        open(newFile(), {
          panSealer: { seal: sealer.seal.bind(sealer), open: sealer.open.bind(sealer), ...part },
        })

      test.each([
        ['the digits', () => Buffer.from(PAN)],
        ['packed digits', () => Buffer.from(PAN, 'hex')],
        ['digits inside', () => Buffer.from(`sealed(${PAN})`)],
        ['nothing', () => new Uint8Array(0)],
        ['too much', () => new Uint8Array(4097)],
      ])('that gives back %s is refused', async (_, seal) => {
        await using store = await openWith({ seal })
        await failure(() => store.cards.put(CARD, RECORD), 'ERR_BACKEND_FAILED', [PAN])
        expect(await store.cards.find(CARD)).toBeUndefined()
      })

      test('that gives back a string is refused', async () => {
        await using store = await openWith({ seal: () => PAN })
        await failure(() => store.cards.put(CARD, RECORD), 'ERR_ARGUMENT', [PAN])
      })

      test('that opens to no Pan is refused', async () => {
        await using store = await openWith({ open: () => PAN })
        await store.cards.put(CARD, RECORD)
        await failure(() => store.cards.find(CARD), 'ERR_BACKEND_FAILED', [PAN])
      })

      test('may take its time, and its errors come through', async () => {
        const vault = new ArgumentError('the vault is sealed')
        let sealed = true
        await using store = await openWith({
          seal: async (pan: Pan, card: typeof CARD) => sealer.seal(pan, card),
          open: async (bytes: Uint8Array, card: typeof CARD) => {
            if (sealed) throw vault
            return sealer.open(bytes, card)
          },
        })
        await store.cards.put(CARD, RECORD)
        await expect(store.cards.find(CARD)).rejects.toBe(vault)
        sealed = false
        expect((await store.cards.find(CARD))?.pan.reveal()).toBe(PAN)
      })

      test('without the right key the card is not found as another', async () => {
        const path = newFile()
        await (await open(path)).cards.put(CARD, RECORD)
        const other = panSealer({ keys: [{ kid: 'PAN-2', key: SEAL_KEY }] })
        await using store = await open(path, { panSealer: other })
        await failure(() => store.cards.find(CARD), 'ERR_KEY_NOT_FOUND', [PAN])
      })
    })
  },
)
