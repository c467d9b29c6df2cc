/**
 * A change counter store in one SQLite file: durable, shared by the processes of one machine (not over a network file
 * system, where SQLite's locks do not hold). Every step is one statement, so SQLite itself makes it atomic.
 *
 * It is one counter, for one issuer. Cards, PINs and the counters of several issuers: `openSqliteIssuerStore`, which
 * also takes over such a file.
 */
import { requireOptions } from '../../base/arguments.js'
import type { ChangeCounterStore, StoredRecord } from '../../seccos/counter/store.js'
import { storeClosed } from '../records.js'
import {
  DURABLE,
  guard,
  openFile,
  requireFile,
  type SqliteDatabase,
  type SqliteDriver,
  type SqliteStatement,
} from './driver.js'
import { COUNTER_TABLE } from './migrations.js'

/** Options of {@link openSqliteStore}. */
export interface SqliteStoreOptions {
  /** The database file; it is created where it is not there. */
  readonly path: string
  readonly driver: SqliteDriver
}

/** A store that holds a file open. */
export interface SqliteStore extends ChangeCounterStore, Disposable {
  /** Closes the file; later calls are `ERR_BACKEND_CLOSED`. */
  close(): void
}

/**
 * Opens a store on a SQLite file. Close it when done (`using store = …`, or `store.close()`).
 *
 * Errors: `ERR_ARGUMENT`; `ERR_UNSUPPORTED` (the driver is not there: install `better-sqlite3`, or use a Node that has
 * `node:sqlite`); `ERR_BACKEND_FAILED` (the file does not open, or is one of `openSqliteIssuerStore`). Later:
 * `ERR_BACKEND_BUSY`, retryable, where another process holds the file for more than two seconds; `ERR_BACKEND_FAILED`
 * for what else SQLite reports; `ERR_BACKEND_CLOSED` after `close()`.
 *
 * @example
 * ```ts
 * using store = await openSqliteStore({ path: '/var/lib/issuer/pcc.db', driver: 'better-sqlite3' })
 * ```
 */
export async function openSqliteStore(options: SqliteStoreOptions): Promise<SqliteStore> {
  requireOptions(options, 'openSqliteStore', ['path', 'driver'])
  const { path, driver } = options
  requireFile(path, driver)
  const database = await openFile(path, driver)
  try {
    return sqliteStore(database)
  } catch (error) {
    guard(() => database.close())
    throw error
  }
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
    database.exec(DURABLE + COUNTER_TABLE)
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
    guard(() => this.#database.close())
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #run<T>(step: () => T): T {
    if (this.#closed) throw storeClosed()
    return guard(step)
  }
}
