/** The issuer store in an SQLite file. */
import { readOptions } from '../../base/arguments.js'
import { ArgumentError } from '../../base/errors.js'
import type { IssuerStore } from '../issuer-store.js'
import type { PanSealer } from '../pan-sealer.js'
import { type RowSealer, requireRowSealer } from '../row-sealer.js'
import { requirePanSealer } from '../sql/cards.js'
import { SqlIssuerStore } from '../sql/issuer-store.js'
import { requireFile, type SqliteDriver } from './driver.js'
import { openInline, openThreads, type StartThread, startThread } from './threads.js'

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
  /** Seals the rows of each card; see {@link RowSealer}. Once it is used, always: rows that are written without it do not match. */
  readonly rowSealer?: RowSealer
  /**
   * `threads` where absent: one thread writes and one reads, so that neither another process that holds the file nor a slow
   * disk stops the event loop. `inline`: in the calling thread, for a script or a test.
   */
  readonly executor?: SqliteExecutor
}

/** Where the driver, which blocks its thread, does its work. */
export type SqliteExecutor = 'threads' | 'inline'

/**
 * Opens an issuer's stores on a SQLite file, and brings its tables up to date. Close them when done
 * (`await using store = …`, or `await store.close()`).
 *
 * Errors: `ERR_ARGUMENT`; `ERR_UNSUPPORTED` (the driver is not there; the file is of a later version of this library;
 * the file that the threads run is not beside a bundle); `ERR_BACKEND_FAILED` (the file does not open, or cannot be written durably, as `:memory:`); `ERR_BACKEND_BUSY`,
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
export function openSqliteIssuerStore(options: SqliteIssuerStoreOptions): Promise<IssuerStore> {
  return openSqlite(options, startThread)
}

/** {@link openSqliteIssuerStore}, its threads started by this. */
export async function openSqlite(
  options: SqliteIssuerStoreOptions,
  start: StartThread,
): Promise<IssuerStore> {
  const names = ['path', 'driver', 'panSealer', 'rowSealer', 'executor'] as const
  const given = readOptions(options, 'openSqliteIssuerStore', names)
  const { path, driver, panSealer, rowSealer, executor = 'threads' } = given
  requireFile(path, driver)
  requirePanSealer(panSealer)
  if (rowSealer !== undefined) requireRowSealer(rowSealer)
  if (executor !== 'threads' && executor !== 'inline') {
    throw new ArgumentError('executor must be threads or inline')
  }
  const file = { path, driver }
  const database = executor === 'inline' ? await openInline(file) : await openThreads(file, start)
  return new SqlIssuerStore(database, panSealer, rowSealer)
}
