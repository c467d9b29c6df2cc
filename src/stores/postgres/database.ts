/**
 * PostgreSQL through a pool. A call takes a connection, runs one statement and gives the connection back; by itself a
 * statement is a transaction, committed when its answer comes.
 *
 * Time is bounded here, not only by the pool's settings: a call that waits for a connection and is told "too late" never
 * gets to send its statement. A connection whose call failed, for whatever reason, is closed rather than used again.
 */
import { throwIfAborted } from '../../base/arguments.js'
import { storeClosed } from '../records.js'
import type { SqlDatabase, SqlRow, SqlSession, SqlValue } from '../sql/database.js'
import { Deadline } from './deadline.js'
import { databaseError } from './errors.js'
import type { PostgresClient, PostgresPool, PostgresResult } from './pool.js'

/** How a {@link PostgresDatabase} is made. */
export interface PostgresSettings {
  readonly pool: PostgresPool
  /** False: the pool is the caller's, who closes it. */
  readonly ownsPool: boolean
  readonly prefix: string
  readonly timeoutMs: number
}

/** Without a listener, a connection that breaks while idle would end the process; it is the pool that replaces it. */
const ignore = (): void => {}

export class PostgresDatabase implements SqlDatabase {
  readonly prefix: string
  readonly #settings: PostgresSettings
  readonly #underWay = new Set<Promise<unknown>>()
  #closed: Promise<void> | undefined

  constructor(settings: PostgresSettings) {
    this.prefix = settings.prefix
    this.#settings = settings
    settings.pool.on('error', ignore)
  }

  async get(sql: string, values: readonly SqlValue[], signal?: AbortSignal): Promise<SqlRow | undefined> {
    const { rows } = await this.#query(sql, values, signal)
    return rows[0]
  }

  async run(sql: string, values: readonly SqlValue[]): Promise<number> {
    const { rowCount } = await this.#query(sql, values)
    return rowCount ?? 0
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

  #query(sql: string, values: readonly SqlValue[], signal?: AbortSignal): Promise<PostgresResult> {
    return this.#withClient(this.#settings.timeoutMs, signal, client => client.query(sql, [...values]))
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
    using deadline = new Deadline(milliseconds, signal)
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
