/**
 * One connection to the file, and its tables. The driver is synchronous: a call blocks the thread it is in, which is a
 * thread of its own (see `threads.ts`) unless the program wants it otherwise.
 */

import { ownCopy, wipe } from '../../base/bytes.js'
import { afterUnheld, systemClock } from '../../base/deadline.js'
import { DEFAULTS } from '../../base/defaults.js'
import { BackendError } from '../../base/errors.js'
import { storeClosed } from '../records.js'
import {
  type MigrationPlan,
  migrate,
  type SqlResult,
  type SqlRow,
  type SqlSession,
  type SqlStatement,
  type SqlValue,
} from '../sql/database.js'
import {
  BUSY_TIMEOUT_MS,
  DURABLE,
  type FileWatch,
  guard,
  type OpenFile,
  openFile,
  type SqliteDatabase,
  type SqliteDriver,
  type SqliteStatement,
} from './driver.js'

/** Version 1. */
const ISSUER_TABLES = `
  CREATE TABLE issuer_pin_cards (
    issuer_id TEXT NOT NULL,
    card_id TEXT NOT NULL,
    state TEXT NOT NULL,
    pan BLOB NOT NULL,
    set_pin_types TEXT NOT NULL,
    seccos TEXT,
    revision TEXT NOT NULL,
    PRIMARY KEY (issuer_id, card_id)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE issuer_pin_pins (
    issuer_id TEXT NOT NULL,
    card_id TEXT NOT NULL,
    block BLOB,
    kid TEXT,
    prw TEXT,
    request BLOB,
    sequence INTEGER NOT NULL DEFAULT 0,
    version TEXT NOT NULL,
    PRIMARY KEY (issuer_id, card_id),
    FOREIGN KEY (issuer_id, card_id) REFERENCES issuer_pin_cards ON DELETE CASCADE,
    CHECK ((block IS NULL) = (kid IS NULL) AND (block IS NULL) <> (prw IS NULL))
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX issuer_pin_pins_kid ON issuer_pin_pins (kid, issuer_id, card_id) WHERE kid IS NOT NULL;
  CREATE TABLE issuer_pin_requests (
    digest BLOB PRIMARY KEY NOT NULL,
    issuer_id TEXT NOT NULL,
    card_id TEXT NOT NULL,
    jwe_kid TEXT NOT NULL,
    accepted_at INTEGER NOT NULL,
    repeats INTEGER NOT NULL DEFAULT 0,
    mark TEXT NOT NULL,
    seal BLOB
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE issuer_pin_counters (
    issuer_id TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    value TEXT NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (issuer_id, key)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX issuer_pin_counters_expiry
    ON issuer_pin_counters (issuer_id, expires_at) WHERE expires_at IS NOT NULL;
  CREATE TABLE issuer_pin_seals (
    issuer_id TEXT NOT NULL,
    card_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    seal BLOB NOT NULL,
    kid TEXT NOT NULL,
    PRIMARY KEY (issuer_id, card_id)
  ) STRICT, WITHOUT ROWID;
`

/** Number 1 first. Never changed once released. */
const SQLITE_MIGRATIONS: readonly string[] = [ISSUER_TABLES]

const PLAN: MigrationPlan = {
  // Takes the write lock at once: a lock that is upgraded later can be lost to another process.
  begin: 'BEGIN IMMEDIATE',
  findVersions: "SELECT 1 AS yes FROM sqlite_schema WHERE type = 'table' AND name = 'issuer_pin_versions'",
  makeVersions: `CREATE TABLE issuer_pin_versions (
    version INTEGER PRIMARY KEY NOT NULL, applied_at INTEGER NOT NULL
  ) STRICT`,
  versions: 'issuer_pin_versions',
  migrations: SQLITE_MIGRATIONS,
}

/** What a connection is for: one writes, and brings the tables up to date; the other reads while that one waits. */
export type SqliteRole = 'writer' | 'reader'

/** Which file, and by what. */
export interface SqliteFile {
  readonly path: string
  readonly driver: SqliteDriver
}

/** What became of one of several transactions. */
type Written = { readonly results: readonly SqlResult[] } | { readonly error: unknown }

/**
 * Opens the file for its role. It waits for another process as long as a write does, also where the file has no
 * write-ahead log yet: SQLite itself does not always wait there.
 */
export async function openConnection(file: SqliteFile, role: SqliteRole): Promise<SqliteConnection> {
  const connection = new SqliteConnection(await openFile(file.path, file.driver))
  try {
    const until = systemClock.elapsed() + BUSY_TIMEOUT_MS
    await retryWhileBusy(until, () => connection.exec('PRAGMA busy_timeout = 0; PRAGMA journal_mode = WAL'))
    await connection.exec(`${DURABLE} PRAGMA foreign_keys = ON`)
    if (role === 'reader') {
      await connection.exec('PRAGMA query_only = ON')
      return connection
    }
    const mode = await connection.get('PRAGMA journal_mode', [])
    if (mode?.['journal_mode'] !== 'wal') {
      throw new BackendError('ERR_BACKEND_FAILED', 'the database has no write-ahead log: it is not in a file')
    }
    await migrate(connection, PLAN)
    connection.begin()
    return connection
  } catch (error) {
    // What kept it from opening is what counts.
    await Promise.allSettled([connection.close()])
    throw error
  }
}

async function retryWhileBusy(until: number, step: () => Promise<void>): Promise<void> {
  for (;;) {
    try {
      return await step()
    } catch (error) {
      const isBusy = error instanceof BackendError && error.code === 'ERR_BACKEND_BUSY'
      if (!isBusy || systemClock.elapsed() >= until) throw error
      await new Promise<void>(resolve => systemClock.after(RETRY_MS, resolve))
    }
  }
}

const RETRY_MS = DEFAULTS.stores.sqliteRetryMs.value

/** Nothing is ever under way here when a call comes: the driver is synchronous. */
export class SqliteConnection implements SqlSession {
  readonly #database: SqliteDatabase
  readonly #watch: FileWatch
  readonly #statements = new Map<string, SqliteStatement>()
  #closed = false
  #writes = 0
  /** Ends the wait of what is in the log to be truncated; undefined where nothing waits. */
  #cancel: (() => void) | undefined

  constructor({ database, watch }: OpenFile) {
    this.#database = database
    this.#watch = watch
  }

  /** See {@link FileWatch.begin}. */
  begin(): void {
    this.#watch.begin()
  }

  async exec(sql: string): Promise<void> {
    guard(() => this.#database.exec(sql))
  }

  async get(sql: string, values: readonly SqlValue[]): Promise<SqlRow | undefined> {
    return this.#step({ sql, values }).rows[0]
  }

  async run(sql: string, values: readonly SqlValue[]): Promise<number> {
    return this.#step({ sql, values }).count
  }

  /** The rows of each, all of one moment. */
  read(statements: readonly SqlStatement[]): readonly (readonly SqlRow[])[] {
    if (statements.length === 1) return statements.map(statement => this.#step(statement).rows)
    this.#step({ sql: 'BEGIN', values: [] })
    try {
      return statements.map(statement => this.#step(statement).rows)
    } finally {
      this.#rollBack()
    }
  }

  /**
   * Runs several transactions, each done or not done, and commits what was done of them at once: one wait for the disk.
   * Throws where nothing of any was done, or it is unknown.
   */
  write(transactions: readonly (readonly SqlStatement[])[]): readonly Written[] {
    this.#step({ sql: 'BEGIN IMMEDIATE', values: [] })
    try {
      const written = transactions.map(statements => this.#transaction(statements))
      this.#step({ sql: 'COMMIT', values: [] })
      this.#watch.check()
      this.#logWritten()
      return written
    } catch (error) {
      this.#rollBack()
      throw error
    }
  }

  #transaction(statements: readonly SqlStatement[]): Written {
    this.#step({ sql: 'SAVEPOINT one', values: [] })
    const results: SqlResult[] = []
    let written: Written = { results }
    try {
      for (const statement of statements) {
        const result = this.#step(statement)
        const isExpected = (statement.expect ?? result.count) === result.count
        results.push(isExpected ? result : { ...result, unexpected: true })
        if (!isExpected) break
      }
    } catch (error) {
      written = { error }
    }
    // A fault that ended the whole transaction took the savepoint along: then this throws, for all of them.
    if ('error' in written || results.at(-1)?.unexpected === true) {
      this.#step({ sql: 'ROLLBACK TO one', values: [] })
    }
    this.#step({ sql: 'RELEASE one', values: [] })
    return written
  }

  /** What failed may have ended the transaction, or come after it: the first error is the one to know. */
  #rollBack(): void {
    this.#quietly(() => this.#database.exec('ROLLBACK'))
  }

  /** The log holds what was replaced, until it is truncated: after so many writes or so long, whatever comes first. */
  #logWritten(): void {
    this.#writes++
    if (this.#writes % WRITES_OF_A_LOG === 0) this.#truncateLog()
    else this.#cancel ??= afterUnheld(LOG_MS, () => this.#truncateLog())
  }

  /** It waits for nobody: the write is done, and whoever made it waits for this. Where others read meanwhile, again later. */
  #truncateLog(): void {
    this.#cancel?.()
    this.#cancel = undefined
    let isDone = false
    this.#quietly(() => {
      this.#database.exec('PRAGMA busy_timeout = 0')
      const { rows } = this.#step({ sql: 'PRAGMA wal_checkpoint(TRUNCATE)', values: [] })
      isDone = rows[0]?.['busy'] === 0
    })
    this.#quietly(() => this.#database.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`))
    if (!isDone) this.#cancel = afterUnheld(LOG_MS, () => this.#truncateLog())
  }

  #quietly(step: () => unknown): void {
    try {
      step()
    } catch {}
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#cancel?.()
    guard(() => this.#database.close())
  }

  #step({ sql, values }: SqlStatement): SqlResult {
    if (this.#closed) throw storeClosed()
    return guard(() => {
      const statement = this.#statements.get(sql) ?? this.#database.prepare(sql)
      this.#statements.set(sql, statement)
      if (!READS.test(sql)) return { rows: [], count: Number(statement.run(named(values)).changes) }
      return { rows: statement.all(named(values)).map(row => ownRow(row)), count: 0 }
    })
  }
}

const WRITES_OF_A_LOG = 1000
const LOG_MS = DEFAULTS.stores.sqliteLogMs.value
const READS = /^(SELECT|PRAGMA) /

/** Bytes in memory of their own: a driver's may be a slice of what it uses again. */
function ownRow(row: unknown): SqlRow {
  const entries = Object.entries(Object(row)).map(([column, value]) => {
    if (!(value instanceof Uint8Array)) return [column, value]
    const own = ownCopy(value)
    wipe(value)
    return [column, own]
  })
  return Object.fromEntries(entries)
}

/** The values of `$1`, `$2`, … by name, as both drivers take them. */
function named(values: readonly SqlValue[]): Record<string, SqlValue> {
  return Object.fromEntries(values.map((value, i) => [String(i + 1), value]))
}
