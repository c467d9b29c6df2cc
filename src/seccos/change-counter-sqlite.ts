/**
 * A change counter store in one SQLite file: durable, shared by the processes of one machine (not over a network file
 * system, where SQLite's locks do not hold). Every step is one statement, so SQLite itself makes it atomic.
 *
 * The driver is the program's: Node's own `node:sqlite` (Node 22.13 and later), or the package `better-sqlite3`, an
 * optional peer dependency. Neither is loaded before {@link openSqliteStore} is called.
 */
import { requireOptions } from '../arguments.js'
import { ArgumentError, BackendError } from '../errors.js'
import type { ChangeCounterStore, StoredRecord } from './change-counter-store.js'

/** What both drivers have, and all that is used of them. */
export interface SqliteDatabase {
  exec(sql: string): unknown
  prepare(sql: string): SqliteStatement
  close(): unknown
}

/** A prepared statement of either driver. */
export interface SqliteStatement {
  run(...parameters: (string | number | null)[]): { readonly changes: number | bigint }
  get(...parameters: (string | number | null)[]): unknown
}

/** Who speaks SQLite. */
export type SqliteDriver = 'node:sqlite' | 'better-sqlite3'

/** Options of {@link openSqliteStore}. */
export interface SqliteStoreOptions {
  /** The database file; it is created where it is not there. */
  readonly path: string
  readonly driver: SqliteDriver
}

/** A store that holds a file open. */
export interface SqliteStore extends ChangeCounterStore, Disposable {
  close(): void
}

/** How each driver is loaded: the module, and its member that opens a file. */
const DRIVERS: Readonly<Record<SqliteDriver, 'DatabaseSync' | 'default'>> = {
  'node:sqlite': 'DatabaseSync',
  'better-sqlite3': 'default',
}

/** How long a statement waits for another process's write, in milliseconds. It blocks the thread meanwhile. */
const BUSY_TIMEOUT_MS = 2000

// WAL lets readers go on while one writes; FULL makes a committed write survive a power failure in WAL mode too.
const SETUP = `
  PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS};
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = FULL;
  CREATE TABLE IF NOT EXISTS issuer_pin_change_counter (
    key TEXT PRIMARY KEY NOT NULL,
    version INTEGER NOT NULL,
    value TEXT NOT NULL,
    expires_at INTEGER
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS issuer_pin_change_counter_expiry
    ON issuer_pin_change_counter (expires_at) WHERE expires_at IS NOT NULL;
`

/**
 * Opens a store on a SQLite file. Close it when done (`using store = …`, or `store.close()`).
 *
 * Errors: `ERR_ARGUMENT`; `ERR_UNSUPPORTED` (the driver is not there: install `better-sqlite3`, or use a Node that has
 * `node:sqlite`); `ERR_BACKEND_FAILED` (the file does not open). Later: `ERR_BACKEND_BUSY`, retryable, where another
 * process holds the file for more than two seconds; `ERR_BACKEND_FAILED` for what else SQLite reports;
 * `ERR_BACKEND_CLOSED` after `close()`.
 *
 * @example
 * ```ts
 * using store = await openSqliteStore({ path: '/var/lib/issuer/pcc.db', driver: 'better-sqlite3' })
 * ```
 */
export async function openSqliteStore(options: SqliteStoreOptions): Promise<SqliteStore> {
  requireOptions(options, 'openSqliteStore', ['path', 'driver'])
  const { path, driver } = options
  if (typeof path !== 'string' || path === '') throw new ArgumentError('path must name a file')
  if (typeof driver !== 'string' || !Object.hasOwn(DRIVERS, driver)) {
    throw new ArgumentError(`driver must be one of ${Object.keys(DRIVERS).join(', ')}`)
  }
  const Database = await loadDriver(driver)
  return guard(() => sqliteStore(new Database(path)))
}

/**
 * A store on a database that is open already, by either driver or anything with the same methods. The store's
 * `close()` closes it.
 *
 * Errors: `ERR_BACKEND_FAILED`, `ERR_BACKEND_BUSY` as {@link openSqliteStore}.
 *
 * @example
 * ```ts
 * const store = sqliteStore(new DatabaseSync('/var/lib/issuer/pcc.db'))
 * ```
 */
export function sqliteStore(database: SqliteDatabase): SqliteStore {
  return guard(() => new SqliteFile(database))
}

class SqliteFile implements SqliteStore {
  readonly #database: SqliteDatabase
  readonly #read: SqliteStatement
  readonly #create: SqliteStatement
  readonly #replace: SqliteStatement
  readonly #purge: SqliteStatement
  #closed = false

  constructor(database: SqliteDatabase) {
    this.#database = database
    database.exec(SETUP)
    const table = 'issuer_pin_change_counter'
    this.#read = database.prepare(
      `SELECT value, CAST(version AS TEXT) AS version FROM ${table} WHERE key = ?`,
    )
    this.#create = database.prepare(
      `INSERT INTO ${table} (key, version, value, expires_at) VALUES (?, 1, ?, ?) ON CONFLICT (key) DO NOTHING`,
    )
    this.#replace = database.prepare(
      `UPDATE ${table} SET version = version + 1, value = ?, expires_at = ? WHERE key = ? AND CAST(version AS TEXT) = ?`,
    )
    this.#purge = database.prepare(`DELETE FROM ${table} WHERE expires_at <= ?`)
  }

  async read(key: string): Promise<StoredRecord | undefined> {
    const row = this.#run(() => this.#read.get(key))
    if (typeof row !== 'object' || row === null || !('value' in row) || !('version' in row)) return undefined
    return { value: String(row.value), version: String(row.version) }
  }

  async compareAndSet(
    key: string,
    expected: string | undefined,
    value: string,
    options?: { readonly expiresAt?: number },
  ): Promise<boolean> {
    const expiresAt = options?.expiresAt ?? null
    const { changes } = this.#run(() =>
      expected === undefined
        ? this.#create.run(key, value, expiresAt)
        : this.#replace.run(value, expiresAt, key, expected),
    )
    return Number(changes) === 1
  }

  async purge(now: number): Promise<number> {
    return Number(this.#run(() => this.#purge.run(now)).changes)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#database.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #run<T>(step: () => T): T {
    if (this.#closed) throw new BackendError('ERR_BACKEND_CLOSED', 'the store is closed')
    return guard(step)
  }
}

type DatabaseClass = new (path: string) => SqliteDatabase

async function loadDriver(driver: SqliteDriver): Promise<DatabaseClass> {
  let loaded: object
  try {
    // Not a literal: a bundler must leave it alone, and the compiler needs no types of a package that may be absent.
    const specifier: string = driver
    loaded = await import(specifier)
  } catch (error) {
    throw new BackendError('ERR_UNSUPPORTED', `${driver} is not available here`, { cause: error })
  }
  const found: unknown = Reflect.get(loaded, DRIVERS[driver])
  if (isDatabaseClass(found)) return found
  throw new BackendError('ERR_UNSUPPORTED', `${driver} is not what it should be`)
}

function isDatabaseClass(value: unknown): value is DatabaseClass {
  return typeof value === 'function'
}

/** SQLite's errors name files, tables and codes, no values: parameters are bound, and do not come back in messages. */
function guard<T>(step: () => T): T {
  try {
    return step()
  } catch (error) {
    if (error instanceof BackendError) throw error
    if (isBusy(error)) {
      throw new BackendError('ERR_BACKEND_BUSY', 'the database is busy', { retryable: true, cause: error })
    }
    throw new BackendError('ERR_BACKEND_FAILED', 'the database failed', { cause: error })
  }
}

/** SQLITE_BUSY is 5: better-sqlite3 gives its name, `node:sqlite` its number. Extended codes have it in the low byte. */
function isBusy(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  const code: unknown = Reflect.get(error, 'code')
  const number: unknown = Reflect.get(error, 'errcode')
  return (
    (typeof code === 'string' && code.startsWith('SQLITE_BUSY')) ||
    (typeof number === 'number' && (number & 0xff) === 5)
  )
}
