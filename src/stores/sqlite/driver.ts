/**
 * SQLite by either driver: Node's own `node:sqlite` (Node 22.13 and later), or the package `better-sqlite3`, an
 * optional peer dependency. Both are synchronous: a call blocks the thread, and nothing is under way between calls.
 */

import { closeSync, openSync, realpathSync, statSync } from 'node:fs'
import { DEFAULTS } from '../../base/defaults.js'
import { ArgumentError, BackendError, isIssuerPinError } from '../../base/errors.js'
import { noSuchCard } from '../records.js'
import { loadDriver, type SqlValue } from '../sql/database.js'

/** What both drivers have, and all that is used of them. */
export interface SqliteDatabase {
  /** Runs statements without results. */
  exec(sql: string): unknown
  /** Prepares one statement. */
  prepare(sql: string): SqliteStatement
  /** Closes the file. */
  close(): unknown
}

/** A prepared statement of either driver. Values are bound by place, or by name as one object. */
export interface SqliteStatement {
  /** Runs it, and says how many rows it changed. */
  run(...parameters: (SqlValue | Record<string, SqlValue>)[]): { readonly changes: number | bigint }
  /** All rows. */
  all(...parameters: (SqlValue | Record<string, SqlValue>)[]): readonly unknown[]
}

/** Who speaks SQLite. */
export type SqliteDriver = 'node:sqlite' | 'better-sqlite3'

/** How each driver is loaded: the module, and its member that opens a file. */
const DRIVERS: Readonly<Record<SqliteDriver, 'DatabaseSync' | 'default'>> = {
  'node:sqlite': 'DatabaseSync',
  'better-sqlite3': 'default',
}

/**
 * What SQLite or a driver takes for something other than the name of this very file: better-sqlite3 trims a path, and
 * would open another file than the one whose mode was looked at.
 */
const NO_FILE = /^(:|file:|\s)|\s$|\p{Cc}/iu
const OWNER_ONLY = 0o600
const OTHERS = 0o077

/** How long a statement waits for another process's write, in milliseconds. It blocks the thread meanwhile. */
export const BUSY_TIMEOUT_MS: number = DEFAULTS.stores.sqliteBusyMs.value

/**
 * WAL lets readers go on while one writes; FULL makes a committed write survive a power failure in WAL mode too. On macOS
 * that takes `fullfsync`: its fsync leaves the drive's cache alone. Elsewhere it changes nothing. `secure_delete`: what is
 * replaced or deleted is overwritten with zeros; the log keeps it until it is truncated (see `FileWatch`).
 */
export const DURABLE: string = `
  PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS};
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = FULL;
  PRAGMA fullfsync = ON;
  PRAGMA checkpoint_fullfsync = ON;
  PRAGMA secure_delete = ON;
`

/** Throws `ERR_ARGUMENT` unless path and driver can be used. */
export function requireFile(path: unknown, driver: unknown): asserts driver is SqliteDriver {
  if (typeof path !== 'string' || path === '' || NO_FILE.test(path)) {
    throw new ArgumentError(
      'path must name a file: not :memory:, no URI, no blank at either end, no control character',
    )
  }
  if (typeof driver !== 'string' || !Object.hasOwn(DRIVERS, driver)) {
    throw new ArgumentError(`driver must be one of ${Object.keys(DRIVERS).join(', ')}`)
  }
}

/** A file that is open, and who notices that it is no longer the one at its path. */
export interface OpenFile {
  readonly database: SqliteDatabase
  readonly watch: FileWatch
}

/**
 * Opens a file, which is created where it is not there, for its owner alone: what SQLite puts beside it has the same
 * mode. `ERR_UNSUPPORTED`, `ERR_BACKEND_FAILED` (also for a file that others may read or write, and a link to nothing: SQLite
 * would make a file there for everybody).
 */
export async function openFile(path: string, driver: SqliteDriver): Promise<OpenFile> {
  const Database = await loadDriver<new (path: string) => SqliteDatabase>(driver, DRIVERS[driver])
  return guard(() => {
    makeFile(path)
    // SQLite puts its log beside the file itself, wherever a link to it is. Looked at first: what comes between is noticed.
    const file = realpathSync(path)
    const watch = new FileWatch(path, `${file}-wal`)
    for (const name of [file, `${file}-wal`, `${file}-shm`]) requireOwnFile(name)
    return { database: new Database(path), watch }
  })
}

/**
 * Made only where it is not there: to close a file that this process has open elsewhere would drop SQLite's locks on it, and
 * another process would then take the log for nobody's, and delete it.
 *
 * Source: SQLite, "How To Corrupt An SQLite Database File", 2.2 (POSIX advisory locks canceled by a separate thread).
 */
function makeFile(path: string): void {
  try {
    closeSync(openSync(path, 'wx', OWNER_ONLY))
  } catch (error) {
    if (Object(error).code !== 'EEXIST') throw error
  }
}

/** Windows has no such modes: access is the folder's there. */
function requireOwnFile(file: string): void {
  const found = statSync(file, { throwIfNoEntry: false })
  if (process.platform === 'win32' || found === undefined || (found.mode & OTHERS) === 0) return
  throw new BackendError(
    'ERR_BACKEND_FAILED',
    'others may read or write the database file: chmod 600, with -wal and -shm',
  )
}

/**
 * Notices that the file, or its write-ahead log, is no longer the one that is open: deleted, replaced, restored from a
 * backup. SQLite goes on writing into what has no name any more, and what it acknowledges is lost.
 */
export class FileWatch {
  readonly #path: string
  readonly #logPath: string
  readonly #file: string | undefined
  #log: string | undefined

  constructor(path: string, logPath: string) {
    this.#path = path
    this.#logPath = logPath
    this.#file = identityOf(path)
  }

  /** Once SQLite has its log open: from here on another one is not its own, though nothing was written yet. */
  begin(): void {
    this.#log = identityOf(this.#logPath)
  }

  /** After a commit, before it is acknowledged. `ERR_BACKEND_FAILED` where the file or its log is another one, or gone. */
  check(): void {
    const log = identityOf(this.#logPath)
    if (log !== undefined && log === this.#log && identityOf(this.#path) === this.#file) return
    throw new BackendError(
      'ERR_BACKEND_FAILED',
      'the database file or its -wal was deleted or replaced while it is open: what was written may be lost, start again',
    )
  }
}

function identityOf(path: string): string | undefined {
  const found = statSync(path, { throwIfNoEntry: false, bigint: true })
  return found && `${found.dev}/${found.ino}`
}

/** What the errors of both drivers may say of themselves: better-sqlite3 names the code, `node:sqlite` numbers it. */
interface Reported {
  readonly code?: unknown
  readonly errcode?: unknown
  /** Where `bindings` looked for the addon of better-sqlite3. */
  readonly tries?: unknown
}

interface Fault {
  readonly is: (reported: Reported) => boolean
  readonly error: () => BackendError
}

const FAULTS: readonly Fault[] = [
  {
    is: reported => hasCode(reported, 'SQLITE_BUSY', 5),
    error: () => new BackendError('ERR_BACKEND_BUSY', 'the database is busy', { retryable: true }),
  },
  { is: reported => hasCode(reported, 'SQLITE_CONSTRAINT_FOREIGNKEY', 787), error: noSuchCard },
  {
    is: ({ code, tries }) => code === 'ERR_DLOPEN_FAILED' || Array.isArray(tries),
    error: () => new BackendError('ERR_UNSUPPORTED', 'better-sqlite3 is not compiled for this Node'),
  },
]

const CODE = /^[A-Z][A-Z_]{2,40}$/

/** Runs a step of the driver. Its error is not passed on as `cause`, as with PostgreSQL: a driver may quote values. */
export function guard<T>(step: () => T): T {
  try {
    return step()
  } catch (error) {
    if (isIssuerPinError(error)) throw error
    const reported: Reported = Object(error)
    const fault = FAULTS.find(({ is }) => is(reported))
    throw fault?.error() ?? new BackendError('ERR_BACKEND_FAILED', `the database failed${nameOf(reported)}`)
  }
}

/** SQLite's or the system's own name or number of a fault: all that an operator needs, and all that is passed on. */
function nameOf({ code, errcode }: Reported): string {
  if (typeof errcode === 'number') return ` (SQLite result code ${errcode})`
  return typeof code === 'string' && CODE.test(code) ? ` (${code})` : ''
}

/** A code and its extended ones: they begin with its name, and have its number in the lower byte. */
function hasCode({ code, errcode }: Reported, name: string, number: number): boolean {
  if (typeof code === 'string' && code.startsWith(name)) return true
  return typeof errcode === 'number' && (errcode === number || (errcode & 0xff) === number)
}
