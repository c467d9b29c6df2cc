/**
 * What is used of the package `pg`, an optional peer dependency that is loaded only when a store makes its own pool. The
 * types are ours: a program without `pg` compiles, and anything with the same methods serves.
 */
import type { ConnectionOptions } from 'node:tls'
import { ArgumentError } from '../../base/errors.js'
import { loadDriver } from '../load-driver.js'
import type { SqlRow } from '../sql/database.js'

/** What a statement comes back with. */
export interface PostgresResult {
  readonly rows: readonly SqlRow[]
  readonly rowCount: number | null
}

/** A connection that was taken from a pool. */
export interface PostgresClient {
  /** Runs one statement, its values bound as `$1`, `$2`, … */
  query(sql: string, values?: unknown[]): Promise<PostgresResult>
  /** Gives it back; true: it is closed instead. */
  release(destroy?: boolean): void
  /** As of Node's EventEmitter. */
  on(event: 'error', listener: (error: Error) => void): unknown
  /** As of Node's EventEmitter. */
  removeListener(event: 'error', listener: (error: Error) => void): unknown
}

/** `Pool` of the package `pg` (8.13 or later), or anything with the same methods. */
export interface PostgresPool {
  /** Takes a connection. */
  connect(): Promise<PostgresClient>
  /** Closes all of them. */
  end(): Promise<void>
  /** As of Node's EventEmitter. */
  on(event: 'error', listener: (error: Error) => void): unknown
  /** As of Node's EventEmitter. */
  removeListener(event: 'error', listener: (error: Error) => void): unknown
}

/** Where the database is, and who asks: options of `pg`, handed on as they are. */
export interface PostgresConnection {
  readonly connectionString?: string
  /** A name, an address, or the folder of a Unix socket. */
  readonly host?: string
  readonly port?: number
  readonly database?: string
  readonly user?: string
  /** Or a function that fetches it, for each new connection. */
  readonly password?: string | (() => string | Promise<string>)
  readonly ssl?: boolean | ConnectionOptions
  /** Connections at most; 10 where absent. */
  readonly max?: number
  readonly application_name?: string
}

/** The members of a {@link PostgresConnection}. */
export const CONNECTION: readonly (keyof PostgresConnection)[] = [
  'connectionString',
  'host',
  'port',
  'database',
  'user',
  'password',
  'ssl',
  'max',
  'application_name',
]

/**
 * A pool whose every wait has an end, and whose commits are on disk. The server is told the times too, so that it does
 * not go on with what nobody waits for. `ERR_UNSUPPORTED` (no `pg`).
 */
export async function makePool(connection: PostgresConnection, timeoutMs: number): Promise<PostgresPool> {
  const Pool = await loadDriver<new (options: object) => PostgresPool>('pg', 'Pool')
  return new Pool({
    application_name: 'issuer-pin-crypto',
    ...connection,
    connectionTimeoutMillis: timeoutMs,
    statement_timeout: timeoutMs,
    idle_in_transaction_session_timeout: timeoutMs,
    keepAlive: true,
    options: '-c synchronous_commit=on',
  })
}

/** Throws `ERR_ARGUMENT` unless the value has the methods of a pool. */
export function requirePool(pool: unknown): asserts pool is PostgresPool {
  const { connect, end, on, removeListener } = Object(pool)
  if ([connect, end, on, removeListener].every(method => typeof method === 'function')) return
  throw new ArgumentError('pool must be a Pool of pg')
}
