/** The issuer store in an SQLite file, and its migrations. */
import { readOptions, throwIfAborted } from '../../base/arguments.js'
import { BackendError } from '../../base/errors.js'
import type { IssuerStore } from '../issuer-store.js'
import type { PanSealer } from '../pan-sealer.js'
import { storeClosed } from '../records.js'
import { requirePanSealer } from '../sql/cards.js'
import {
  type MigrationPlan,
  migrate,
  type SqlDatabase,
  type SqlDialect,
  type SqlResult,
  type SqlRow,
  type SqlSession,
  type SqlStatement,
  type SqlValue,
} from '../sql/database.js'
import { SqlIssuerStore } from '../sql/issuer-store.js'
import {
  BUSY_TIMEOUT_MS,
  DURABLE,
  FileWatch,
  guard,
  openFile,
  requireFile,
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
    mark TEXT NOT NULL
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
`

/** Number 1 first. Never changed once released. */
export const SQLITE_MIGRATIONS: readonly string[] = [ISSUER_TABLES]

/*
 * An issuer's stores in one SQLite file: for a service whose processes share a machine (not over a network file system,
 * where SQLite's locks do not hold). No call waits for the network, and each write is on disk when it resolves.
 */

/** Options of {@link openSqliteIssuerStore}. */
export interface SqliteIssuerStoreOptions {
  /** The database file; it is created where it is not there. */
  readonly path: string
  readonly driver: SqliteDriver
  readonly panSealer: PanSealer
}

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

/**
 * Opens an issuer's stores on a SQLite file, and brings its tables up to date. Close them when done
 * (`await using store = …`, or `await store.close()`).
 *
 * Errors: `ERR_ARGUMENT`; `ERR_UNSUPPORTED` (the driver is not there; the file is of a later version of this library);
 * `ERR_BACKEND_FAILED` (the file does not open, or cannot be written durably, as `:memory:`); `ERR_BACKEND_BUSY`,
 * retryable, also later, where another process holds the file for more than two seconds. Later: see {@link IssuerStore}.
 *
 * @example
 * ```ts
 * using sealer = panSealer({ keys: [{ kid: 'PAN-1', key: panKey }] })
 * await using store = await openSqliteIssuerStore({
 *   path: '/var/lib/issuer/issuer.db', driver: 'better-sqlite3', panSealer: sealer,
 * })
 * const counter = new ChangeCounter({ store: store.counters('is_tbank01'), … })
 * const issuer = { cards: store.cards, pins: store.pins, … } // of issuerEndpoints
 * ```
 */
export async function openSqliteIssuerStore(options: SqliteIssuerStoreOptions): Promise<IssuerStore> {
  const { path, driver, panSealer } = readOptions(options, 'openSqliteIssuerStore', [
    'path',
    'driver',
    'panSealer',
  ])
  requireFile(path, driver)
  requirePanSealer(panSealer)
  const database = new SqliteConnection(await openFile(path, driver), path)
  try {
    await database.exec(`${DURABLE} PRAGMA foreign_keys = ON;`)
    const mode = await database.get('PRAGMA journal_mode', [])
    if (mode?.['journal_mode'] !== 'wal') {
      throw new BackendError('ERR_BACKEND_FAILED', 'the database has no write-ahead log: it is not in a file')
    }
    await migrate(database, PLAN)
  } catch (error) {
    // What kept it from opening is what counts.
    await database.close().catch(() => {})
    throw error
  }
  return new SqlIssuerStore(database, panSealer)
}

/** Nothing is ever under way here when a call comes: the driver is synchronous. */
class SqliteConnection implements SqlDatabase, SqlSession {
  readonly dialect: SqlDialect = {
    prefix: 'issuer_pin_',
    blob: 'BLOB',
    locked: '',
    instance: undefined,
    commitsReplays: false,
  }
  readonly #database: SqliteDatabase
  readonly #watch: FileWatch
  readonly #statements = new Map<string, SqliteStatement>()
  #closed = false
  #writes = 0

  constructor(database: SqliteDatabase, path: string) {
    this.#database = database
    this.#watch = new FileWatch(path)
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

  async read(statement: SqlStatement, signal?: AbortSignal): Promise<readonly SqlRow[]> {
    throwIfAborted(signal)
    return this.#step(statement).rows
  }

  async write(statements: readonly SqlStatement[]): Promise<readonly SqlResult[]> {
    this.#step({ sql: 'BEGIN IMMEDIATE', values: [] })
    try {
      const results: SqlResult[] = []
      for (const statement of statements) {
        const isLeftOut = statement.otherwise === true && results.at(-1)?.count !== 0
        results.push(isLeftOut ? NOTHING : this.#step(statement))
      }
      this.#step({ sql: 'COMMIT', values: [] })
      this.#watch.check()
      this.#truncateLog()
      return results
    } catch (error) {
      if (!this.#closed) this.#rollBack()
      throw error
    }
  }

  /** What failed may have ended the transaction, or come after it: the first error is the one to know. */
  #rollBack(): void {
    try {
      this.#database.exec('ROLLBACK')
    } catch {}
  }

  /** The log holds what was replaced, until it is truncated; where others read or write it meanwhile, next time. */
  #truncateLog(): void {
    this.#writes++
    if (this.#writes % WRITES_OF_A_LOG !== 0) return
    try {
      this.#database.exec(TRUNCATE_LOG)
    } catch {}
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    guard(() => this.#database.close())
  }

  #step({ sql, values }: SqlStatement): SqlResult {
    if (this.#closed) throw storeClosed()
    return guard(() => {
      const statement = this.#statements.get(sql) ?? this.#database.prepare(sql)
      this.#statements.set(sql, statement)
      if (!READS.test(sql)) return { rows: [], count: Number(statement.run(named(values)).changes) }
      return { rows: statement.all(named(values)).map(row => ({ ...Object(row) })), count: 0 }
    })
  }
}

const WRITES_OF_A_LOG = 1000
/** It does not wait for a reader: the write is done, and whoever made it waits for this. */
const TRUNCATE_LOG = `PRAGMA busy_timeout = 0; PRAGMA wal_checkpoint(TRUNCATE); PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS};`
const NOTHING: SqlResult = { rows: [], count: 0 }
const READS = /^(SELECT|PRAGMA) /

/** The values of `$1`, `$2`, … by name, as both drivers take them. */
function named(values: readonly SqlValue[]): Record<string, SqlValue> {
  return Object.fromEntries(values.map((value, i) => [String(i + 1), value]))
}
