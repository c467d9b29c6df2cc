/**
 * An issuer's stores in PostgreSQL: for a service of several replicas. Any of them may take any call; what must happen
 * once is decided by the database.
 */
import { readOptions } from '../../base/arguments.js'
import { ArgumentError } from '../../base/errors.js'
import type { IssuerStore } from '../issuer-store.js'
import type { PanSealer } from '../pan-sealer.js'
import { requirePanSealer, SqlIssuerStore } from '../sql/issuer-store.js'
import { migrate } from '../sql/migrate.js'
import { PostgresDatabase } from './database.js'
import { postgresPlan } from './migrations.js'
import { CONNECTION, makePool, type PostgresConnection, type PostgresPool, requirePool } from './pool.js'

/**
 * Options of {@link openPostgresIssuerStore}. Without `pool` the store makes one by the package `pg` and closes it; what
 * is not said of the connection, `pg` takes from the environment (`PGHOST`, `PGPASSWORD`, …).
 */
export interface PostgresIssuerStoreOptions extends PostgresConnection {
  /** In place of a connection: a pool that the caller closes. Its sessions must have a `statement_timeout`. */
  readonly pool?: PostgresPool
  /** Where the tables stand; `issuer_pin` where absent. 1 to 63 of `a`–`z`, `0`–`9`, `_`; not first a digit or `pg_`. */
  readonly schema?: string
  readonly panSealer: PanSealer
  /** How long a call may take in all, in milliseconds: 100 to 60,000; 5000 where absent. */
  readonly timeoutMs?: number
}

const OPTIONS: readonly (keyof PostgresIssuerStoreOptions)[] = [
  ...CONNECTION,
  'pool',
  'schema',
  'panSealer',
  'timeoutMs',
]
const SCHEMA = /^(?!pg_)[a-z_][a-z0-9_]{0,62}$/
/** Another replica's migration is waited for longer than a call may take. */
const MIGRATION_TIMEOUT_MS = 60_000

/** What the sessions of a caller's pool must not have, and what to do about it. */
const REFUSED: readonly { readonly setting: string; readonly value: string; readonly advice: string }[] = [
  { setting: 'statement_timeout', value: '0', advice: 'give the pool a statement_timeout' },
  { setting: 'synchronous_commit', value: 'off', advice: 'a commit must be on disk: set it to on' },
  { setting: 'fsync', value: 'off', advice: 'a commit must be on disk: switch it on in the server' },
]

/**
 * Opens an issuer's stores in a PostgreSQL database (tested with 15), and brings the tables up to date; replicas may start
 * at once. Where the tables are there, the role needs no more than USAGE of the schema and SELECT, INSERT, UPDATE and
 * DELETE. Close them when done (`await using store = …`, or `await store.close()`).
 *
 * Errors: `ERR_ARGUMENT` (also for a pool whose sessions have no `statement_timeout`, or commit without waiting for the
 * disk); `ERR_UNSUPPORTED` (no package `pg`; the tables are of a later version of this library); `ERR_BACKEND_BUSY`,
 * retryable (out of reach, starting up, too late); `ERR_BACKEND_FAILED` with the SQLSTATE (no such role or database, not
 * allowed). No error has a `cause`: PostgreSQL quotes values. Later: see {@link IssuerStore}.
 *
 * @example
 * ```ts
 * await using store = await openPostgresIssuerStore({
 *   host: 'db.internal', database: 'issuer', user: 'pin', password: readFromVault, ssl: true,
 *   panSealer: panSealer({ keys: [{ kid: 'PAN-1', key: panKey }] }),
 * })
 * ```
 */
export async function openPostgresIssuerStore(options: PostgresIssuerStoreOptions): Promise<IssuerStore> {
  const given = readOptions(options, 'openPostgresIssuerStore', OPTIONS)
  const { schema = 'issuer_pin', panSealer, timeoutMs = 5000 } = given
  requirePanSealer(panSealer)
  if (typeof schema !== 'string' || !SCHEMA.test(schema)) {
    throw new ArgumentError('schema must be 1 to 63 of a–z, 0–9 and _, not first a digit or pg_')
  }
  if (!Number.isInteger(timeoutMs) || timeoutMs < 100 || timeoutMs > 60_000) {
    throw new ArgumentError('timeoutMs must be a whole number from 100 to 60000')
  }
  const database = new PostgresDatabase({
    ...(await choosePool(given, timeoutMs)),
    prefix: `"${schema}".`,
    timeoutMs,
  })
  try {
    await requireDurable(database)
    await database.session(MIGRATION_TIMEOUT_MS, session =>
      migrate(session, postgresPlan(schema, MIGRATION_TIMEOUT_MS)),
    )
  } catch (error) {
    await database.close()
    throw error
  }
  return new SqlIssuerStore(database, panSealer)
}

/** The caller's pool, or one of the store's own. */
async function choosePool(
  given: PostgresIssuerStoreOptions,
  timeoutMs: number,
): Promise<{ readonly pool: PostgresPool; readonly ownsPool: boolean }> {
  const stated = CONNECTION.filter(name => given[name] !== undefined)
  if (given.pool === undefined) {
    const connection = Object.fromEntries(stated.map(name => [name, given[name]]))
    return { pool: await makePool(connection, timeoutMs), ownsPool: true }
  }
  requirePool(given.pool)
  if (stated.length > 0) throw new ArgumentError(`a pool has its connection already: ${stated.join(', ')}`)
  return { pool: given.pool, ownsPool: false }
}

async function requireDurable(database: PostgresDatabase): Promise<void> {
  const columns = REFUSED.map(({ setting }) => `current_setting('${setting}') AS ${setting}`)
  const row = await database.get(`SELECT ${columns.join(', ')}`, [])
  for (const { setting, value, advice } of REFUSED) {
    if (row?.[setting] === value) throw new ArgumentError(`${setting} is ${value} in this session: ${advice}`)
  }
}
