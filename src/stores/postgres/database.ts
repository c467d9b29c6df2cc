/** PostgreSQL as the stores use it: each call has a connection for one transaction, and an end in time. */
import { createHash } from 'node:crypto'
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
import type { PgClient, PostgresClient, PostgresPool, PostgresResult } from './pool.js'

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
  /** What is known of the connections of a pool that is ours: undefined where somebody may stand between. */
  readonly #sessions = new WeakMap<PgClient, Direct | undefined>()
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
      nested: true,
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
    const work = async (client: PgClient): Promise<readonly (readonly SqlRow[])[]> => {
      const session = this.#sessions.get(client)
      const begin = beginning(this.#settings, { session, access: 'READ ONLY', isolation })
      // One statement is a transaction by itself. Of several, what is behind a BEGIN that failed reads, and nobody looks at it.
      const isOne = session !== undefined && statements.length === 1
      const answers = await send(client, isOne ? statements : [begin, ...statements, COMMIT], session)
      const rows = answers.map(answer => requireAnswer(answer).rows)
      return isOne ? rows : rows.slice(1, -1)
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
    /** What ends it on the server, where that may go on with it though nobody waits any more. */
    let ending: SqlStatement | undefined
    const work = async (client: PgClient, deadline: Deadline): Promise<readonly SqlResult[]> => {
      const session = this.#sessions.get(client)
      const isDirect = session !== undefined && durability === 'local'
      // By itself a transaction. Of one row or none: where the number is not the one expected, nothing was written.
      const isOne = isDirect && statements.length === 1 && statements[0]?.mayBeLate === true
      // Committed without a look at what came of it: if one of them fails, none is.
      const commits = isDirect && !isOne && statements.every(({ expect }) => expect === undefined)
      ending = session?.ending
      let atCommit = ending
      if (!isOne) {
        // Not with the others: where it fails there is no transaction, and what was sent behind it would be written all the same.
        const begun = await client.query(beginning(this.#settings, { session, access: 'READ WRITE' }).sql)
        atCommit ??= endOfWait(begun)
      }
      const end = commits ? [session.inTime(deadline.remaining()), COMMIT] : []
      const answers = await send(client, [...statements, ...end], session)
      if (answers.every(isAnswered)) ending = undefined
      const results: SqlResult[] = []
      for (const [i, answer] of answers.entries()) {
        const { rows, rowCount } = requireAnswer(answer)
        const count = rowCount ?? 0
        if (count !== (statements[i]?.expect ?? count)) {
          if (!isOne) await client.query('ROLLBACK')
          return [...results, { rows, count, unexpected: true }]
        }
        results.push({ rows, count })
      }
      if (isOne || commits) return results.slice(0, statements.length)
      ending = atCommit
      await commit(client, durability)
      ending = undefined
      return results
    }
    try {
      return await this.#withClient(timeoutMs, undefined, (client, deadline) =>
        onceMore(client, given => work(given, deadline)),
      )
    } catch (error) {
      if (ending !== undefined) this.#end(ending)
      throw error
    }
  }

  /**
   * A server process goes on when nobody waits for it any more: it would write later what was told as a failure, and keep its
   * connection and its locks for as long as it waits for a standby, which no time limit of the server ends. With a standby that is
   * away each call would cost the server a connection, until it has none for whoever reads.
   */
  #end({ sql, values }: SqlStatement): void {
    const { reserve, timeoutMs } = this.#settings
    const ending = this.#call({ pool: reserve, milliseconds: timeoutMs }, client =>
      client.query(sql, [...values]),
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
    work: (client: PgClient, deadline: Deadline) => Promise<T>,
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
    work: (client: PgClient, deadline: Deadline) => Promise<T>,
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
      const result = await deadline.race(this.#know(client).then(() => work(client, deadline)))
      done = true
      return result
    } finally {
      client.removeListener('error', ignore)
      client.release(!done)
      // `pg` waits for what is under way before it ends a connection that sends ahead. Nobody else does: neither is the place in
      // the pool to be waited for, nor is what still lies here to go out when the network is back.
      if (!done && this.#settings.ownsPool) client.connection?.stream.destroy()
    }
  }

  async #know(client: PgClient): Promise<void> {
    if (!this.#settings.ownsPool || client.processID === undefined || this.#sessions.has(client)) return
    this.#sessions.set(client, await sessionOf(client, this.#settings))
  }

  /** A connection that comes too late goes back unused. */
  async #connect(pool: PostgresPool, deadline: Deadline): Promise<PgClient> {
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

/*
 * A transaction as the server is told of it: what it begins and ends with, and how its statements get there.
 *
 * Nothing is asked of the connection's startup, for a pooler refuses it or drops it in silence. Where a pooler may stand between,
 * nothing is set for a session either, for the next transaction may be another client's: isolation, times and the kind of commit
 * are stated each time. Where none does, the session is told once.
 *
 * Source: PostgreSQL 15 documentation, 20.5.1 (synchronous_commit), 27.2.8, 55.2.1 (BackendKeyData); PgBouncer 1.18, transaction
 * pooling.
 */

/** What a resolved write means: on the disk of the server, or on that of a synchronous standby as well. */
export type PostgresDurability = 'local' | 'replicated'

/** What a transaction is told. */
interface TransactionSettings {
  readonly timeoutMs: number
  readonly durability: PostgresDurability
}

/** To read several rows of one moment takes more than to compare and set one. */
type Isolation = 'READ COMMITTED' | 'REPEATABLE READ'

/** A session that is ours for as long as the connection lasts, and has been told what holds for all that it does. */
interface Direct {
  /** Ends its process, and undoes what that has not committed. */
  readonly ending: SqlStatement
  /**
   * Fails, and the transaction with it, where so many milliseconds have gone by since it began, or another process has it: what
   * has been sent together with its COMMIT may have waited on the way, or for a lock.
   */
  inTime(milliseconds: number): SqlStatement
}

const ENDING = 'SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE pid = $1 '

const COMMITS: Readonly<Record<PostgresDurability, string>> = {
  // Stronger than `on` stays as it is; what is weaker (`off`, and for a standby `remote_write`, `local`) does not.
  local:
    "CASE WHEN current_setting('synchronous_commit') = 'off' THEN 'on' ELSE current_setting('synchronous_commit') END",
  replicated:
    "CASE WHEN current_setting('synchronous_commit') = 'remote_apply' THEN 'remote_apply' ELSE 'on' END",
}

/** The settings, as the list of a SELECT: a SET for each costs the server as much again as what is then done. */
function settings({ timeoutMs, durability }: TransactionSettings, isLocal: boolean): string {
  const values = [
    `'statement_timeout', '${timeoutMs}'`,
    `'lock_timeout', '${timeoutMs}'`,
    `'idle_in_transaction_session_timeout', '${timeoutMs}'`,
    // A role may have been told to hear no warnings: that of a wait that was cancelled would be lost.
    "'client_min_messages', 'warning'",
    "'array_nulls', 'on'",
    `'synchronous_commit', ${COMMITS[durability]}`,
  ]
  return values.map(value => `set_config(${value}, ${isLocal})`).join(', ')
}

/** What a transaction begins with: one simple query, with all that holds until its end where the session was not told. */
function beginning(
  told: TransactionSettings,
  { session, access, isolation = 'READ COMMITTED' }: Beginning,
): Sent {
  const begin = `BEGIN ISOLATION LEVEL ${isolation}, ${access}`
  if (session !== undefined) return { sql: begin }
  // `search_path` first: nobody's function comes in.
  const sql =
    `${begin}; SET LOCAL search_path = ''; SELECT ${settings(told, true)}, pg_backend_pid() AS process, ` +
    'extract(epoch FROM now())::text AS begun'
  return { sql }
}

interface Beginning {
  readonly session: Direct | undefined
  readonly access: 'READ ONLY' | 'READ WRITE'
  readonly isolation?: Isolation
}

/**
 * Ends a transaction, of which this is what its beginning came back with, where it waits for a standby: what it commits is on this
 * server's disk, and unknown to whoever asked. Behind a pooler its process goes on to other clients' transactions.
 */
function endOfWait(beginning: unknown): SqlStatement | undefined {
  // Of several statements `pg` gives a list of results.
  const { process, begun } = Object(Object([beginning].flat().at(-1)).rows?.[0])
  if (process === undefined) return undefined
  const sql = `${ENDING}AND extract(epoch FROM xact_start)::text = $2 AND usename = session_user AND wait_event = 'SyncRep'`
  return { sql, values: [process, begun] }
}

/**
 * Asks a new connection who answers. Where it is the process that the server named at the start, no pooler stands between, for a
 * pooler names one of its own: the session is ours, and is told here. Undefined otherwise. What the server's settings say of
 * commits holds for it as they were then.
 */
async function sessionOf(client: PgClient, told: TransactionSettings): Promise<Direct | undefined> {
  const [answer] = await Promise.allSettled([client.query(WHO_ANSWERS)])
  // A role that may not look is told as behind a pooler.
  if (answer.status === 'rejected' && Object(answer.reason).code === NOT_ALLOWED) return undefined
  const { process, begun } = Object(requireAnswer(answer).rows[0])
  if (typeof begun !== 'string' || process !== client.processID) return undefined
  await client.query(
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE; SET search_path = ''; " +
      `SELECT ${settings(told, false)}`,
  )
  const ending = `${ENDING}AND extract(epoch FROM backend_start)::text = $2`
  return {
    ending: { sql: ending, values: [process, begun] },
    inTime: milliseconds => ({ sql: IN_TIME, values: [milliseconds, process] }),
  }
}

const NOT_ALLOWED = '42501'

/** Divides by nothing where it is not. */
const IN_TIME =
  "SELECT 1 / CAST(clock_timestamp() < now() + $1 * interval '1 ms' AND pg_backend_pid() = $2 AS integer) AS in_time"

const WHO_ANSWERS =
  'SELECT pid AS process, CAST(extract(epoch FROM backend_start) AS pg_catalog.text) AS begun ' +
  'FROM pg_catalog.pg_stat_activity WHERE pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()'

/** What is sent to the server. */
type Sent = Pick<SqlStatement, 'sql'> & Partial<Pick<SqlStatement, 'values'>>

const COMMIT: Sent = { sql: 'COMMIT' }

type Answer = PromiseSettledResult<PostgresResult>

/** The result, or the error that it ended with. */
function requireAnswer(answer: Answer): PostgresResult {
  if (answer.status === 'rejected') throw answer.reason
  return answer.value
}

/** Whether the server has said how it ended; a connection that breaks has not. */
function isAnswered(answer: Answer): boolean {
  return answer.status === 'fulfilled' || Object(answer.reason).severity !== undefined
}

/**
 * One way to the server and back for all of them, where the connection can send before it has heard, and one for each up to the
 * first that fails where it cannot. What is behind that in a transaction does nothing, a COMMIT neither.
 */
async function send(
  client: PgClient,
  statements: readonly Sent[],
  session: Direct | undefined,
): Promise<readonly Answer[]> {
  const ask = ({ sql, values }: Sent): Promise<PostgresResult> => {
    if (values === undefined) return client.query(sql)
    const name = session && nameOf(sql, values)
    if (name === undefined) return client.query(sql, [...values])
    return client.query({ name, text: sql, values: [...values] })
  }
  if (client.pipeline !== true) {
    const answers: Answer[] = []
    for (const statement of statements) {
      const [answer] = await Promise.allSettled([ask(statement)])
      answers.push(answer)
      if (answer.status === 'rejected') break
    }
    return answers
  }
  // In one piece: to send is the dearest of it.
  const { stream } = client.connection ?? {}
  stream?.cork()
  const asked: Promise<PostgresResult>[] = []
  try {
    for (const statement of statements) asked.push(ask(statement))
  } finally {
    stream?.uncork()
  }
  return Promise.allSettled(asked)
}

/** There are some fifty; what varies with what is asked finds no room some time. */
const MOST_NAMES = 200
const NAMES = new Map<string, string>()

/**
 * By which the server keeps how it does this: of the text alone, so that whatever process knows it by this name knows the same.
 * None where the answer has whatever columns there are, which a later version adds to, nor for a list, which it would take to be
 * short.
 */
function nameOf(sql: string, values: SqlStatement['values']): string | undefined {
  const known = NAMES.get(sql)
  if (known !== undefined || NAMES.size === MOST_NAMES) return known
  if (sql.startsWith('SELECT *') || values.some(value => Array.isArray(value))) return undefined
  const name = `issuer_pin_${createHash('sha256').update(sql).digest('hex').slice(0, 32)}`
  NAMES.set(sql, name)
  return name
}

/**
 * What the server ends so that somebody else can go on, and has undone: it is done once more, in the time that is left. Whoever
 * writes a list of cards would otherwise hear of a failure that is nobody's.
 *
 * Source: PostgreSQL 15 documentation, 13.5 (serialization failure handling), appendix A.
 */
async function onceMore<T>(client: PgClient, transaction: (client: PgClient) => Promise<T>): Promise<T> {
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

const STANDBYS = "SELECT current_setting('synchronous_standby_names') AS standbys"

/**
 * Commits. Where standbys are waited for: a wait that was cancelled is answered like a success, but for a notice; and one
 * that ended because the standbys were taken out of the settings, without a word. Either way nobody knows whether a
 * standby has it: `ERR_BACKEND_BUSY`, and whoever asks again gets a commit of their own.
 */
async function commit(client: PgClient, durability: PostgresDurability): Promise<void> {
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

async function requireStandbys(client: PgClient): Promise<void> {
  const { rows } = await client.query(STANDBYS)
  if (rows[0]?.['standbys'] === '') throw databaseBusy('no synchronous standby is configured any more')
}
