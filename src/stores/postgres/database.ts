/**
 * PostgreSQL through a pool. A call takes a connection, runs one transaction and gives the connection back.
 *
 * Time is bounded here, not only by the pool's settings: a call that waits for a connection and is told "too late" never
 * gets to send its statement. A connection whose call failed, for whatever reason, is closed rather than used again.
 */
import { throwIfAborted } from '../../base/arguments.js'
import { Deadline } from '../../base/deadline.js'
import { AbortedError } from '../../base/errors.js'
import { storeClosed } from '../records.js'
import type { SqlDatabase, SqlDialect, SqlResult, SqlRow, SqlSession, SqlStatement } from '../sql/database.js'
import { busy, databaseError } from './errors.js'
import type { PostgresClient, PostgresPool } from './pool.js'
import { beginning, commit, type PostgresDurability } from './transaction.js'

/** How a {@link PostgresDatabase} is made. */
export interface PostgresSettings {
  readonly pool: PostgresPool
  /** False: the pool is the caller's, who closes it. */
  readonly ownsPool: boolean
  readonly prefix: string
  readonly timeoutMs: number
  readonly durability: PostgresDurability
}

/**
 * The server that runs the statement: its cluster, its WAL timeline, its start. Each alone is not enough: a copy into a
 * fresh cluster keeps the timeline, a base backup that is started as it is keeps the cluster too, and a promotion keeps
 * cluster and process. On a standby it is an error, as is every write there.
 *
 * Source: PostgreSQL 15 documentation, 9.27 (pg_control_system, pg_walfile_name, pg_postmaster_start_time).
 */
const INSTANCE =
  "((SELECT system_identifier::text FROM pg_control_system()) || '/' || " +
  "left(pg_walfile_name(pg_current_wal_lsn()), 8) || '/' || " +
  'extract(epoch FROM pg_postmaster_start_time())::text)'

/** Without a listener, a connection that breaks while idle would end the process; it is the pool that replaces it. */
const ignore = (): void => {}

export class PostgresDatabase implements SqlDatabase {
  readonly dialect: SqlDialect
  readonly #settings: PostgresSettings
  readonly #underWay = new Set<Promise<unknown>>()
  #closed: Promise<void> | undefined

  constructor(settings: PostgresSettings) {
    this.dialect = {
      prefix: settings.prefix,
      blob: 'bytea',
      locked: ' FOR SHARE',
      instance: INSTANCE,
      commitsReplays: settings.durability === 'replicated',
    }
    this.#settings = settings
    settings.pool.on('error', ignore)
  }

  read(statement: SqlStatement, signal?: AbortSignal): Promise<readonly SqlRow[]> {
    const { timeoutMs } = this.#settings
    return this.#withClient(timeoutMs, signal, async client => {
      await client.query(beginning(this.#settings, 'READ ONLY'))
      const { rows } = await client.query(statement.sql, [...statement.values])
      await client.query('COMMIT')
      return rows
    })
  }

  write(statements: readonly SqlStatement[]): Promise<readonly SqlResult[]> {
    const { timeoutMs, durability } = this.#settings
    return this.#withClient(timeoutMs, undefined, async client => {
      await client.query(beginning(this.#settings, 'READ WRITE'))
      const results: SqlResult[] = []
      for (const { sql, values, otherwise } of statements) {
        if (otherwise === true && results.at(-1)?.count !== 0) {
          results.push({ rows: [], count: 0 })
          continue
        }
        const { rows, rowCount } = await client.query(sql, [...values])
        results.push({ rows, count: rowCount ?? 0 })
      }
      await commit(client, durability)
      return results
    })
  }

  /** Runs several statements on one connection, within this time. */
  session<T>(milliseconds: number, work: (session: SqlSession) => Promise<T>): Promise<T> {
    return this.#withClient(milliseconds, undefined, client =>
      work({
        exec: async sql => void (await client.query(sql)),
        get: async (sql, values) => (await client.query(sql, [...values])).rows[0],
        run: async (sql, values) => (await client.query(sql, [...values])).rowCount ?? 0,
      }),
    )
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    const { pool, ownsPool } = this.#settings
    await Promise.allSettled(this.#underWay)
    if (ownsPool) await pool.end()
    else pool.removeListener('error', ignore)
  }

  async #withClient<T>(
    milliseconds: number,
    signal: AbortSignal | undefined,
    work: (client: PostgresClient) => Promise<T>,
  ): Promise<T> {
    if (this.#closed !== undefined) throw storeClosed()
    throwIfAborted(signal)
    const call = this.#call(milliseconds, signal, work)
    this.#underWay.add(call)
    try {
      return await call
    } catch (error) {
      throw databaseError(error)
    } finally {
      this.#underWay.delete(call)
    }
  }

  async #call<T>(
    milliseconds: number,
    signal: AbortSignal | undefined,
    work: (client: PostgresClient) => Promise<T>,
  ): Promise<T> {
    using deadline = new Deadline({
      ms: milliseconds,
      expired: () => busy(`no answer within ${milliseconds} ms`),
      outer: signal && { signal, error: reason => new AbortedError(reason) },
    })
    const client = await this.#connect(deadline)
    client.on('error', ignore)
    let done = false
    try {
      const result = await deadline.race(work(client))
      done = true
      return result
    } finally {
      client.removeListener('error', ignore)
      client.release(!done)
    }
  }

  /** A connection that comes too late goes back unused. */
  async #connect(deadline: Deadline): Promise<PostgresClient> {
    const connecting = this.#settings.pool.connect()
    try {
      return await deadline.race(connecting)
    } catch (error) {
      connecting.then(client => client.release(), ignore)
      throw error
    }
  }
}
