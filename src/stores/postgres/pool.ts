/**
 * What is used of the package `pg`, an optional peer dependency that is loaded only when a store makes its own pool. The
 * types are ours: a program without `pg` compiles, and anything with the same methods serves.
 */
import type { ConnectionOptions } from 'node:tls'
import { ArgumentError } from '../../base/errors.js'
import { loadDriver, type SqlRow } from '../sql/database.js'

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
  on(event: 'error' | 'notice', listener: (error: Error) => void): unknown
  /** As of Node's EventEmitter. */
  removeListener(event: 'error' | 'notice', listener: (error: Error) => void): unknown
}

/** One that the server keeps by its name, for as long as the connection lasts. */
interface NamedStatement {
  readonly name: string
  readonly text: string
  readonly values: unknown[]
}

/** What `pg` has besides, where a pool is its own. */
export interface PgClient extends PostgresClient {
  /** True: what is asked is sent at once, before the answers to what was asked before (`pg` 8.23 or later). */
  readonly pipeline?: boolean
  /** The process that the server named when the connection was made. */
  readonly processID?: number | null
  /** Where it writes to. */
  readonly connection?: { readonly stream: { cork(): void; uncork(): void; destroy(): void } }
  query(sql: string | NamedStatement, values?: unknown[]): Promise<PostgresResult>
}

/** `Pool` of the package `pg` (8.13 or later), or anything with the same methods. */
export interface PostgresPool {
  /** Takes a connection. */
  connect(): Promise<PostgresClient>
  /** Closes all of them. */
  end(): Promise<void>
  /** As of Node's EventEmitter: a connection that is idle breaks. */
  on(event: 'error', listener: (error: Error) => void): unknown
  /** A connection is about to be handed over. */
  on(event: 'acquire', listener: (client: PostgresClient) => void): unknown
  /** A connection is back. */
  on(event: 'release', listener: (error: Error, client: PostgresClient) => void): unknown
  /** As of Node's EventEmitter. */
  removeListener(event: 'error', listener: (error: Error) => void): unknown
  /** As of Node's EventEmitter. */
  removeListener(event: 'acquire', listener: (client: PostgresClient) => void): unknown
  /** As of Node's EventEmitter. */
  removeListener(event: 'release', listener: (error: Error, client: PostgresClient) => void): unknown
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
  /** For a server on another host `true`, or what `node:tls` wants of a certificate authority of your own. */
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
 * A pool whose waits for a connection have an end. It asks nothing of the server at the start: see `database.ts`.
 * `ERR_UNSUPPORTED` (no `pg`).
 */
export async function makePool(connection: PostgresConnection, timeoutMs: number): Promise<PostgresPool> {
  const Pool = await loadDriver<new (options: object) => PostgresPool>('pg', 'Pool')
  const { ssl } = connection
  return new Pool({
    application_name: 'issuer-pin-crypto',
    ...connection,
    // Stated, so that no variable of the environment can switch it off.
    ...(ssl === true && { ssl: { rejectUnauthorized: true } }),
    ...(typeof ssl === 'object' && { ssl: { ...ssl, rejectUnauthorized: ssl.rejectUnauthorized ?? true } }),
    connectionTimeoutMillis: timeoutMs,
    // A transaction takes one or two ways to the server and back in place of one for each statement.
    pipeline: true,
    keepAlive: true,
  })
}

const TEXTS = ['connectionString', 'host', 'database', 'user', 'application_name'] as const
const MOST_CONNECTIONS = 10_000

/** Throws `ERR_ARGUMENT` for what `pg` would take for something else, or for nothing said. */
export function requireConnection(connection: PostgresConnection): void {
  for (const name of TEXTS) {
    const text: unknown = connection[name]
    if (text !== undefined && typeof text !== 'string') throw new ArgumentError(`${name} must be a string`)
  }
  const { port = 1, max = 1, password = '', ssl = false } = connection
  requireWhole(port, 'port', 65_535)
  requireWhole(max, 'max', MOST_CONNECTIONS)
  if (typeof password !== 'string' && typeof password !== 'function') {
    throw new ArgumentError('password must be a string, or a function that fetches it')
  }
  if (typeof ssl !== 'boolean' && (typeof ssl !== 'object' || ssl === null)) {
    throw new ArgumentError('ssl must be true, false, or options of node:tls')
  }
}

function requireWhole(value: unknown, name: string, most: number): void {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= most) return
  throw new ArgumentError(`${name} must be a whole number from 1 to ${most}`)
}

const LOCAL = /^(localhost|127\.[0-9.]+|::1|\[::1\]|\/.*|)$/i

/**
 * Throws `ERR_ARGUMENT` for a connection to another host whose TLS is not verified: passwords and rows would go to
 * whoever answers there. What a connection string says of TLS is what `pg` heeds first.
 */
export function requireVerifiedTls({ connectionString, host, ssl }: PostgresConnection): void {
  const said = readConnectionString(connectionString)
  // What is empty is nothing said, to `pg`, too; and what stands beside a connection string it does not heed.
  if (LOCAL.test((said === undefined ? host : said.host) || process.env['PGHOST'] || '')) return
  const isVerified = typeof ssl === 'object' ? ssl.rejectUnauthorized !== false : ssl === true
  // `pg` leaves it to the environment whether what a connection string asks for is done.
  const isHeeded = process.env['NODE_TLS_REJECT_UNAUTHORIZED'] !== '0'
  if (said?.tls === undefined ? isVerified : said.tls === 'verify-full' && isHeeded) return
  throw new ArgumentError(
    'the database is on another host, and its certificate would not be verified: give ssl: true (with a CA of your own ' +
      'ssl: { ca }), or sslmode=verify-full in the connection string; allowUnverifiedTls: true does without',
  )
}

/** Host and TLS of a connection string: nothing where there is none. */
function readConnectionString(
  text: string | undefined,
): { readonly host: string; readonly tls: string | undefined } | undefined {
  if (text === undefined || text === '') return undefined
  // A path alone is the folder of a socket.
  if (text.startsWith('/')) return { host: text, tls: undefined }
  // No host before the path is none: postgres://user@/database?host=/run/postgresql
  const url = [text, text.replace('@/', '@localhost/')].find(one => URL.canParse(one))
  if (url === undefined)
    throw new ArgumentError('connectionString does not read: it is like postgres://user@host:5432/database')
  const { protocol, hostname, pathname, searchParams } = new URL(url)
  // Of what is said twice `pg` takes the last.
  const last = (name: string): string | undefined => searchParams.getAll(name).at(-1)
  // What follows `socket:` is the host to `pg`, be it a path or not; it then heeds no `sslmode`, and `ssl` as a word of any kind.
  if (protocol === 'socket:')
    return { host: decoded(decodeURI, pathname), tls: last('ssl') === undefined ? undefined : 'unknown' }
  const tls = last('sslmode') ?? last('ssl')
  // Of no host at all `pg` asks PGHOST.
  return { host: last('host') || (url === text ? decoded(decodeURIComponent, hostname) : ''), tls }
}

/** Where it does not read it may be any host. */
function decoded(decode: (text: string) => string, text: string): string {
  try {
    return decode(text)
  } catch {
    return 'unknown'
  }
}

/** Throws `ERR_ARGUMENT` unless the value has the methods of a pool. */
export function requirePool(pool: unknown): asserts pool is PostgresPool {
  const { connect, end, on, removeListener } = Object(pool)
  if ([connect, end, on, removeListener].every(method => typeof method === 'function')) return
  throw new ArgumentError('pool must be a Pool of pg')
}
