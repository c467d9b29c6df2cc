/** The issuer store in PostgreSQL, and its migrations. */

import { readOptions } from '../../base/arguments.js'
import { DEFAULTS } from '../../base/defaults.js'
import { ArgumentError, BackendError } from '../../base/errors.js'
import type { RateLimiter, RatesOptions } from '../../d1/endpoints/bounds.js'
import type { IssuerStore } from '../issuer-store.js'
import type { PanSealer } from '../pan-sealer.js'
import { type RowSealer, requireRowSealer } from '../row-sealer.js'
import { requirePanSealer } from '../sql/cards.js'
import { type MigrationPlan, migrate, readRow } from '../sql/database.js'
import { SqlIssuerStore } from '../sql/issuer-store.js'
import { PostgresDatabase, type PostgresDurability } from './database.js'
import { databaseBusy } from './errors.js'
import {
  CONNECTION,
  makePool,
  type PostgresConnection,
  type PostgresPool,
  requireConnection,
  requirePool,
  requireVerifiedTls,
} from './pool.js'
import { postgresRates } from './rates.js'

/** Of the advisory lock, with a hash of the schema: any number that other programs do not take. */
const LOCK = 0x495043

/**
 * Version 1. `COLLATE "C"`: identifiers are compared byte by byte, and no upgrade of the operating system's collations
 * can spoil the indexes.
 */
const ISSUER_TABLES = (schema: string): string => `
  CREATE TABLE ${schema}.cards (
    issuer_id text COLLATE "C" NOT NULL,
    card_id text COLLATE "C" NOT NULL,
    state text NOT NULL,
    pan bytea NOT NULL,
    set_pin_types text NOT NULL,
    seccos text,
    revision text COLLATE "C" NOT NULL,
    PRIMARY KEY (issuer_id, card_id)
  );
  CREATE TABLE ${schema}.pins (
    issuer_id text COLLATE "C" NOT NULL,
    card_id text COLLATE "C" NOT NULL,
    block bytea,
    kid text COLLATE "C",
    prw text,
    request bytea,
    sequence bigint NOT NULL DEFAULT 0,
    version text COLLATE "C" NOT NULL,
    PRIMARY KEY (issuer_id, card_id),
    FOREIGN KEY (issuer_id, card_id) REFERENCES ${schema}.cards ON DELETE CASCADE,
    CHECK ((block IS NULL) = (kid IS NULL) AND (block IS NULL) <> (prw IS NULL))
  );
  CREATE INDEX pins_kid ON ${schema}.pins (kid, issuer_id, card_id) WHERE kid IS NOT NULL;
  CREATE TABLE ${schema}.requests (
    digest bytea PRIMARY KEY,
    issuer_id text COLLATE "C" NOT NULL,
    card_id text COLLATE "C" NOT NULL,
    jwe_kid text NOT NULL,
    accepted_at bigint NOT NULL,
    repeats bigint NOT NULL DEFAULT 0,
    mark text NOT NULL,
    seal bytea
  );
  CREATE TABLE ${schema}.counters (
    issuer_id text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    value text NOT NULL,
    expires_at bigint,
    PRIMARY KEY (issuer_id, key)
  );
  CREATE INDEX counters_expiry ON ${schema}.counters (issuer_id, expires_at) WHERE expires_at IS NOT NULL;
  CREATE TABLE ${schema}.seals (
    issuer_id text COLLATE "C" NOT NULL,
    card_id text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    seal bytea NOT NULL,
    kid text COLLATE "C" NOT NULL,
    PRIMARY KEY (issuer_id, card_id)
  );
  CREATE UNLOGGED TABLE ${schema}.rates (
    key text COLLATE "C" PRIMARY KEY,
    tokens float8 NOT NULL,
    at float8 NOT NULL
  );
`

/** The migrations of a schema whose name has been checked. The lock lasts as long as the transaction. */
export function postgresPlan(name: string, timeoutMs: number): MigrationPlan {
  const schema = `"${name}"`
  return {
    begin: `
      BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE;
      SET LOCAL search_path = '';
      SET LOCAL statement_timeout = ${timeoutMs};
      SET LOCAL lock_timeout = ${timeoutMs};
      SET LOCAL idle_in_transaction_session_timeout = ${timeoutMs};
      SELECT pg_advisory_xact_lock(${LOCK}, hashtext('${name}'));`,
    findVersions: `SELECT 1 AS yes FROM pg_tables WHERE schemaname = '${name}' AND tablename = 'versions'`,
    // A role that may use the schema need not be one that may create schemas: PostgreSQL asks before it looks.
    makeVersions: `
      DO $$ BEGIN
        IF to_regnamespace('${schema}') IS NULL THEN CREATE SCHEMA ${schema}; END IF;
      END $$;
      CREATE TABLE ${schema}.versions (version integer PRIMARY KEY, applied_at bigint NOT NULL);`,
    versions: `${schema}.versions`,
    migrations: [ISSUER_TABLES(schema)],
  }
}

/*
 * An issuer's stores in PostgreSQL: for a service of several replicas. Any of them may take any call; what must happen
 * once is decided by the database.
 */

/**
 * Options of {@link openPostgresIssuerStore}. Without `pool` the store makes one by the package `pg` and closes it; what
 * is not said of the connection, `pg` takes from the environment (`PGHOST`, `PGPASSWORD`, …).
 */
export interface PostgresIssuerStoreOptions extends PostgresConnection {
  /** In place of a connection: a pool that the caller closes. TLS is the caller's then, too. */
  readonly pool?: PostgresPool
  /** The schema of the tables; `issuer_pin` where absent. 1 to 63 of `a`–`z`, `0`–`9`, `_`; not first a digit or `pg_`. */
  readonly schema?: string
  readonly panSealer: PanSealer
  /** Seals the rows of each card; see {@link RowSealer}. Once it is used, always: rows that are written without it do not match. */
  readonly rowSealer?: RowSealer
  /** How long a call may take in all, in milliseconds: 100 to 60,000; 5000 where absent. */
  readonly timeoutMs?: number
  /**
   * `local` where absent: a write that resolved is on the disk of this server, and a standby that is promoted may not have
   * it. `replicated`: a synchronous standby has it as well, or the call rejects.
   */
  readonly durability?: PostgresDurability
  /** True: a server on another host need not show a certificate that verifies. What goes there can be read and changed. */
  readonly allowUnverifiedTls?: boolean
}

/** Whether standbys were seen to be synchronous, or this role may only see that they are configured to be. */
export type StandbyEvidence = 'verified' | 'configured'

/** The stores in PostgreSQL. */
export interface PostgresIssuerStore extends IssuerStore {
  /** For `durability: 'replicated'`: what was seen when the store was opened. The role needs pg_read_all_stats to see more. */
  readonly standbys?: StandbyEvidence
  /**
   * Rates per card and caller that all replicas count together, for the `rates` of `issuerEndpoints`: token buckets by the
   * server's clock, in a table that is not logged; by default as `memoryRates`. `ERR_ARGUMENT`.
   */
  rates(options?: RatesOptions): RateLimiter
}

const OPTIONS: readonly (keyof PostgresIssuerStoreOptions)[] = [
  ...CONNECTION,
  'pool',
  'schema',
  'panSealer',
  'rowSealer',
  'timeoutMs',
  'durability',
  'allowUnverifiedTls',
]
const SCHEMA = /^(?!pg_)[a-z_][a-z0-9_]{0,62}$/
/** Another replica's migration is waited for longer than a call may take. */
const MIGRATION_TIMEOUT_MS = DEFAULTS.stores.migrationTimeoutMs.value

/**
 * Opens an issuer's stores in a PostgreSQL database (tested with 15), and brings the tables up to date; replicas may start
 * at once. Where the tables are there, the role needs no more than USAGE of the schema and SELECT, INSERT, UPDATE and
 * DELETE. Close them when done (`await using store = …`, or `await store.close()`).
 *
 * Errors: `ERR_ARGUMENT` (also for a server that does not write to its disk, another host without verified TLS, or
 * `replicated` without a synchronous standby in the settings); `ERR_UNSUPPORTED` (no package `pg`; the tables are of a later version of this library); `ERR_BACKEND_BUSY`,
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
export async function openPostgresIssuerStore(
  options: PostgresIssuerStoreOptions,
): Promise<PostgresIssuerStore> {
  const given = readOptions(options, 'openPostgresIssuerStore', OPTIONS)
  const {
    schema = 'issuer_pin',
    panSealer,
    timeoutMs = DEFAULTS.stores.postgresTimeoutMs.value,
    durability = 'local',
  } = given
  const { allowUnverifiedTls = false } = given
  requirePanSealer(panSealer)
  if (given.rowSealer !== undefined) requireRowSealer(given.rowSealer)
  if (typeof schema !== 'string' || !SCHEMA.test(schema)) {
    throw new ArgumentError('schema must be 1 to 63 of a–z, 0–9 and _, not first a digit or pg_')
  }
  if (!Number.isInteger(timeoutMs) || timeoutMs < 100 || timeoutMs > 60_000) {
    throw new ArgumentError('timeoutMs must be a whole number from 100 to 60000')
  }
  if (durability !== 'local' && durability !== 'replicated') {
    throw new ArgumentError('durability must be local or replicated')
  }
  if (typeof allowUnverifiedTls !== 'boolean') throw new ArgumentError('allowUnverifiedTls must be a boolean')
  requireConnection(given)
  if (given.pool === undefined && !allowUnverifiedTls) requireVerifiedTls(given)
  const database = new PostgresDatabase({
    ...(await choosePool(given, timeoutMs)),
    prefix: `"${schema}".`,
    timeoutMs,
    durability,
  })
  try {
    const standbys = await requireDurable(database, durability)
    await database.session(MIGRATION_TIMEOUT_MS, session =>
      migrate(session, postgresPlan(schema, MIGRATION_TIMEOUT_MS)),
    )
    await requireRights(database, schema)
    const store = new SqlIssuerStore(database, panSealer, given.rowSealer)
    const rates = (rates: RatesOptions = {}): RateLimiter => postgresRates(database, rates)
    return Object.assign(store, { rates, ...(standbys !== undefined && { standbys }) })
  } catch (error) {
    await database.close()
    throw error
  }
}

/** The caller's pool, or one of the store's own. */
async function choosePool(
  given: PostgresIssuerStoreOptions,
  timeoutMs: number,
): Promise<{ readonly pool: PostgresPool; readonly reserve: PostgresPool; readonly ownsPool: boolean }> {
  const stated = CONNECTION.filter(name => given[name] !== undefined)
  if (given.pool === undefined) {
    const connection = Object.fromEntries(stated.map(name => [name, given[name]]))
    const reserve = await makePool({ ...connection, max: 1 }, timeoutMs)
    return { pool: await makePool(connection, timeoutMs), reserve, ownsPool: true }
  }
  requirePool(given.pool)
  if (stated.length > 0) throw new ArgumentError(`a pool has its connection already: ${stated.join(', ')}`)
  return { pool: given.pool, reserve: given.pool, ownsPool: false }
}

/** What the statements need, of each table: what is lacking is told now, and not by the first Set PIN. */
const RIGHTS = `SELECT string_agg(r.name || ' on ' || t.name, ', ' ORDER BY t.name, r.name) AS lacking
  FROM unnest(ARRAY['cards', 'pins', 'requests', 'counters', 'seals', 'rates']) AS t (name),
    unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS r (name)
  WHERE NOT has_table_privilege($1 || '.' || t.name, r.name)`

async function requireRights(database: PostgresDatabase, schema: string): Promise<void> {
  const row = await readRow(database, { sql: RIGHTS, values: [`"${schema}"`] })
  if (row?.['lacking'] === null) return
  throw new BackendError(
    'ERR_BACKEND_FAILED',
    `the role lacks ${row?.['lacking']}: GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ${schema} TO it`,
  )
}

/** The server's own part: what no session can set. */
const SERVER = `SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS pages,
  current_setting('synchronous_standby_names') AS standbys`
/** To a role that may not look, the states are null. */
const STANDBYS = `SELECT count(*) AS seen, count(sync_state) AS readable,
  count(*) FILTER (WHERE state = 'streaming' AND sync_state IN ('sync', 'quorum')) AS synchronous
  FROM pg_catalog.pg_stat_replication`

async function requireDurable(
  database: PostgresDatabase,
  durability: PostgresDurability,
): Promise<StandbyEvidence | undefined> {
  const server = await readRow(database, { sql: SERVER, values: [] })
  for (const [name, setting] of [
    ['fsync', server?.['fsync']],
    ['full_page_writes', server?.['pages']],
  ]) {
    if (setting === 'off') {
      throw new ArgumentError(`${name} is off: a commit must be on disk, switch it on in the server`)
    }
  }
  if (durability === 'local') return undefined
  if (server?.['standbys'] === '') {
    throw new ArgumentError(
      'synchronous_standby_names is empty: durability replicated needs a synchronous standby',
    )
  }
  const row = await readRow(database, { sql: STANDBYS, values: [] })
  const [seen, readable, synchronous = 0] = [row?.['seen'], row?.['readable'], row?.['synchronous']].map(
    Number,
  )
  if (synchronous > 0) return 'verified'
  if (seen === 0 || readable !== 0) throw databaseBusy('no synchronous standby is connected')
  return 'configured'
}
