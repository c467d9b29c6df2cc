/**
 * PostgreSQL as the stores use it: each call one transaction that states isolation, times and kind of commit
 * itself.
 */
import { throwIfAborted } from '../../base/arguments.js'
import { Deadline } from '../../base/deadline.js'
import { AbortedError } from '../../base/errors.js'
import { storeClosed } from '../records.js'
import type {
  PlainDatabase,
  SqlDialect,
  SqlResult,
  SqlRow,
  SqlSession,
  SqlStatement,
} from '../sql/database.js'
import { databaseBusy, databaseError } from './errors.js'
import type { PostgresClient, PostgresPool } from './pool.js'

/** How a {@link PostgresDatabase} is made. */
interface PostgresSettings {
  readonly pool: PostgresPool
  /** For what must not wait behind the calls; the same one where the pool is the caller's. */
  readonly reserve: PostgresPool
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
/**
 * The pool takes its own listener off before it hands a connection over, and whoever asked for it goes on a turn later: what
 * breaks in between, as where a server says that it is ready and in the same packet that it ends, must find one, too.
 */
const guard = (client: PostgresClient): unknown => client.on('error', ignore)
const unguard = (_error: unknown, client: PostgresClient): unknown => client.removeListener('error', ignore)

export class PostgresDatabase implements PlainDatabase {
  readonly dialect: SqlDialect
  readonly #settings: PostgresSettings
  readonly #underWay = new Set<Promise<unknown>>()
  /** Connections that nobody waits for any more. */
  readonly #late = new Set<Promise<unknown>>()
  #closed: Promise<void> | undefined

  constructor(settings: PostgresSettings) {
    this.dialect = {
      prefix: settings.prefix,
      blob: 'bytea',
      locked: ' FOR NO KEY UPDATE',
      instance: INSTANCE,
      now: 'CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)',
      lists: true,
      commitsReplays: settings.durability === 'replicated',
    }
    this.#settings = settings
    for (const pool of this.#pools()) {
      pool.on('error', ignore)
      pool.on('acquire', guard)
      pool.on('release', unguard)
    }
  }

  #pools(): ReadonlySet<PostgresPool> {
    return new Set([this.#settings.pool, this.#settings.reserve])
  }

  async read(statement: SqlStatement, signal?: AbortSignal): Promise<readonly SqlRow[]> {
    const [rows = []] = await this.#read([statement], 'READ COMMITTED', signal)
    return rows
  }

  readTogether(
    statements: readonly SqlStatement[],
    signal?: AbortSignal,
  ): Promise<readonly (readonly SqlRow[])[]> {
    return this.#read(statements, 'REPEATABLE READ', signal)
  }

  #read(
    statements: readonly SqlStatement[],
    isolation: Isolation,
    signal: AbortSignal | undefined,
  ): Promise<readonly (readonly SqlRow[])[]> {
    const { timeoutMs } = this.#settings
    const work = async (client: PostgresClient): Promise<readonly (readonly SqlRow[])[]> => {
      await client.query(beginning(this.#settings, 'READ ONLY', isolation))
      const found: (readonly SqlRow[])[] = []
      for (const { sql, values } of statements) found.push((await client.query(sql, [...values])).rows)
      await client.query('COMMIT')
      return found
    }
    return this.#withClient(timeoutMs, signal, client => onceMore(client, work))
  }

  write(statements: readonly SqlStatement[]): Promise<readonly SqlResult[]> {
    const writing = this.#write(statements)
    // With what it may have to end on the server: closing waits for that, too.
    this.#track(writing)
    return writing
  }

  async #write(statements: readonly SqlStatement[]): Promise<readonly SqlResult[]> {
    const { timeoutMs, durability } = this.#settings
    let committing: Transaction | undefined
    const work = async (client: PostgresClient): Promise<readonly SqlResult[]> => {
      const begun: unknown = await client.query(beginning(this.#settings, 'READ WRITE'))
      const results: SqlResult[] = []
      for (const { sql, values, otherwise, expect } of statements) {
        if (otherwise === true && results.at(-1)?.count !== 0) {
          results.push({ rows: [], count: 0 })
          continue
        }
        const { rows, rowCount } = await client.query(sql, [...values])
        const count = rowCount ?? 0
        if (expect !== undefined && expect !== count) {
          await client.query('ROLLBACK')
          return [...results, { rows, count, unexpected: true }]
        }
        results.push({ rows, count })
      }
      committing = transactionOf(begun)
      await commit(client, durability)
      committing = undefined
      return results
    }
    try {
      return await this.#withClient(timeoutMs, undefined, client => onceMore(client, work))
    } catch (error) {
      if (committing !== undefined) this.#endWait(committing)
      throw error
    }
  }

  /**
   * A server process that waits for a standby goes on waiting when nobody waits for it any more, with its connection and its
   * locks; no time limit of the server ends that, nor does it notice that the client is gone. With a standby that is away each
   * call would cost the server a connection, until it has none for whoever reads.
   */
  #endWait({ process, begun }: Transaction): void {
    const { reserve, timeoutMs } = this.#settings
    const ending = this.#call({ pool: reserve, milliseconds: timeoutMs }, client =>
      client.query(END_WAIT, [process, begun]),
    ).catch(ignore)
    this.#track(ending)
  }

  /** Closing waits for it. */
  #track(work: Promise<unknown>): void {
    const ended = work.then(ignore, ignore).then(() => void this.#underWay.delete(ended))
    this.#underWay.add(ended)
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
    // What is under way may end in something else: a wait of the server that nobody waits for any more is ended.
    while (this.#underWay.size > 0) await Promise.all(this.#underWay)
    if (this.#settings.ownsPool) {
      // Each, whatever becomes of the other: what stays open keeps the process alive.
      const ended = await Promise.allSettled([...this.#pools()].map(pool => pool.end()))
      for (const end of ended) if (end.status === 'rejected') throw databaseError(end.reason)
      return
    }
    // A connection that comes too late is the caller's pool's to deliver, and may break on the way: until then it is watched.
    void Promise.allSettled(this.#late).then(() => {
      for (const pool of this.#pools()) {
        pool.removeListener('error', ignore)
        pool.removeListener('acquire', guard)
        pool.removeListener('release', unguard)
      }
    })
  }

  async #withClient<T>(
    milliseconds: number,
    signal: AbortSignal | undefined,
    work: (client: PostgresClient) => Promise<T>,
  ): Promise<T> {
    if (this.#closed !== undefined) throw storeClosed()
    throwIfAborted(signal)
    const { pool } = this.#settings
    const call = this.#call({ pool, milliseconds, ...(signal !== undefined && { signal }) }, work)
    this.#track(call)
    try {
      return await call
    } catch (error) {
      throw databaseError(error)
    }
  }

  async #call<T>(
    { pool, milliseconds, signal }: CallSettings,
    work: (client: PostgresClient) => Promise<T>,
  ): Promise<T> {
    using deadline = new Deadline({
      ms: milliseconds,
      expired: () => databaseBusy(`no answer within ${milliseconds} ms`),
      outer: signal && { signal, error: reason => new AbortedError(reason) },
    })
    const client = await this.#connect(pool, deadline)
    // Of a pool that tells nothing of what it hands over.
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
  async #connect(pool: PostgresPool, deadline: Deadline): Promise<PostgresClient> {
    const connecting = pool.connect()
    try {
      return await deadline.race(connecting)
    } catch (error) {
      const late = connecting.then(client => client.release(), ignore)
      this.#late.add(late)
      void late.then(() => this.#late.delete(late))
      throw error
    }
  }
}

interface CallSettings {
  readonly pool: PostgresPool
  readonly milliseconds: number
  readonly signal?: AbortSignal
}

/**
 * What the server ends so that somebody else can go on, and has undone: it is done once more, in the time that is left. Whoever
 * writes a list of cards would otherwise hear of a failure that is nobody's.
 *
 * Source: PostgreSQL 15 documentation, 13.5 (serialization failure handling), appendix A.
 */
async function onceMore<T>(
  client: PostgresClient,
  transaction: (client: PostgresClient) => Promise<T>,
): Promise<T> {
  try {
    return await transaction(client)
  } catch (error) {
    const { code } = Object(error)
    if (code !== DEADLOCK && code !== SERIALIZATION_FAILURE) throw error
    await client.query('ROLLBACK')
    return transaction(client)
  }
}

const DEADLOCK = '40P01'
const SERIALIZATION_FAILURE = '40001'

/** Which process of the server has it, and when it began: a process goes on to others, and behind a pooler to other clients'. */
interface Transaction {
  readonly process: unknown
  readonly begun: unknown
}

/** Of one that has begun; of several statements `pg` gives a list of results. */
function transactionOf(beginning: unknown): Transaction | undefined {
  return Object([beginning].flat().at(-1)).rows?.[0]
}

/** Only where it waits for a standby: what it commits is on this server's disk, and unknown to whoever asked. */
const END_WAIT =
  'SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity ' +
  "WHERE pid = $1 AND extract(epoch FROM xact_start)::text = $2 AND usename = session_user AND wait_event = 'SyncRep'"

/*
 * What every transaction begins and ends with. Nothing is asked of the connection's startup, for a pooler refuses it or
 * drops it in silence, and nothing is set for a session, for the next transaction may be another client's: isolation,
 * times and the kind of commit are stated each time.
 *
 * Source: PostgreSQL 15 documentation, 20.5.1 (synchronous_commit), 27.2.8; PgBouncer 1.18, transaction pooling.
 */

/** What a resolved write means: on the disk of the server, or on that of a synchronous standby as well. */
export type PostgresDurability = 'local' | 'replicated'

/** What a transaction is told. */
interface TransactionSettings {
  readonly timeoutMs: number
  readonly durability: PostgresDurability
}

const COMMITS: Readonly<Record<PostgresDurability, string>> = {
  // Stronger than `on` stays as it is; what is weaker (`off`, and for a standby `remote_write`, `local`) does not.
  local:
    "CASE WHEN current_setting('synchronous_commit') = 'off' THEN 'on' ELSE current_setting('synchronous_commit') END",
  replicated:
    "CASE WHEN current_setting('synchronous_commit') = 'remote_apply' THEN 'remote_apply' ELSE 'on' END",
}

/** To read several rows of one moment takes more than to compare and set one. */
type Isolation = 'READ COMMITTED' | 'REPEATABLE READ'

const STANDBYS = "SELECT current_setting('synchronous_standby_names') AS standbys"

/**
 * One simple query: it begins, and sets what holds until the end. `search_path` first: nobody's function comes in. A role may
 * have been told to hear no warnings: that of a cancelled wait would be lost.
 */
function beginning(
  { timeoutMs, durability }: TransactionSettings,
  access: 'READ ONLY' | 'READ WRITE',
  isolation: Isolation = 'READ COMMITTED',
): string {
  return `BEGIN ISOLATION LEVEL ${isolation}, ${access};
    SET LOCAL search_path = '';
    SET LOCAL client_min_messages = warning;
    SET LOCAL array_nulls = on;
    SET LOCAL statement_timeout = ${timeoutMs};
    SET LOCAL lock_timeout = ${timeoutMs};
    SET LOCAL idle_in_transaction_session_timeout = ${timeoutMs};
    SELECT set_config('synchronous_commit', ${COMMITS[durability]}, true), pg_backend_pid() AS process,
      extract(epoch FROM now())::text AS begun`
}

/**
 * Commits. Where standbys are waited for: a wait that was cancelled is answered like a success, but for a notice; and one
 * that ended because the standbys were taken out of the settings, without a word. Either way nobody knows whether a
 * standby has it: `ERR_BACKEND_BUSY`, and whoever asks again gets a commit of their own.
 */
async function commit(client: PostgresClient, durability: PostgresDurability): Promise<void> {
  if (durability === 'local') return void (await client.query('COMMIT'))
  await requireStandbys(client)
  let warned = false
  const onNotice = (notice: Error): void => {
    warned ||= !isOfSomethingElse(notice)
  }
  client.on('notice', onNotice)
  try {
    await client.query('COMMIT')
  } finally {
    client.removeListener('notice', onNotice)
  }
  if (warned)
    throw databaseBusy('the wait for a standby was cancelled, and it is unknown whether it has the commit')
  await requireStandbys(client)
}

/**
 * Whether a notice is known to be of something else than the wait for a standby: of a trigger in PL/pgSQL that is deferred to the
 * commit, and says whatever it likes. The texts are in the server's language, and the code (01000, 57P01) is that of others, too:
 * what tells is where in the server it was raised. All others are unknown, those of a server that is built otherwise as well,
 * and the commit with them.
 *
 * Source: PostgreSQL 15, syncrep.c (SyncRepWaitForLSN), pl_exec.c; documentation, 55.8 (fields F and R of a notice).
 */
function isOfSomethingElse(notice: unknown): boolean {
  const { file, routine } = Object(notice)
  return file === 'pl_exec.c' && routine === 'exec_stmt_raise'
}

async function requireStandbys(client: PostgresClient): Promise<void> {
  const { rows } = await client.query(STANDBYS)
  if (rows[0]?.['standbys'] === '') throw databaseBusy('no synchronous standby is configured any more')
}
