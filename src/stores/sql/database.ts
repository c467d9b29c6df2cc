/**
 * What the stores need of a database that speaks SQL, and all that SQLite and PostgreSQL must have in common. The
 * statements above are the same for both; their values are bound as `$1`, `$2`, … What differs between the two is named
 * by a {@link SqlDialect}.
 *
 * A driver turns what its database reports into our errors: a statement that names a card which is not there
 * (foreign key) is `noSuchCard`, what may succeed later is `ERR_BACKEND_BUSY`.
 */

/** What is bound, and what comes back. */
export type SqlValue = string | number | null | Uint8Array

/** A row, by column. */
export type SqlRow = Readonly<Record<string, unknown>>

/** A statement with its values. */
export interface SqlStatement {
  readonly sql: string
  readonly values: readonly SqlValue[]
  /** Runs only where the statement before it in the transaction wrote nothing. */
  readonly otherwise?: true
}

/** What came of a statement. */
export interface SqlResult {
  readonly rows: readonly SqlRow[]
  /** How many rows were written. */
  readonly count: number
}

/** Runs statements on one connection. */
export interface SqlSession {
  /** Runs one or more statements that are constant text. */
  exec(sql: string): Promise<void>
  /** The first row, or undefined. */
  get(sql: string, values: readonly SqlValue[]): Promise<SqlRow | undefined>
  /** How many rows were written. */
  run(sql: string, values: readonly SqlValue[]): Promise<number>
}

/** In what the databases differ. */
export interface SqlDialect {
  /** Before the name of each table. */
  readonly prefix: string
  /** The type of bytes. */
  readonly blob: 'BLOB' | 'bytea'
  /** Behind a SELECT: nobody changes these rows before the transaction ends. */
  readonly locked: '' | ' FOR SHARE'
  /** An expression that names the server which runs the statement; undefined where there is one file and no server. */
  readonly instance: string | undefined
  /** See `ChangeCounterStore.commitsReplays`. */
  readonly commitsReplays: boolean
}

/** A database that is open. */
export interface SqlDatabase {
  readonly dialect: SqlDialect
  /** The rows; `ERR_ABORTED` once the signal has fired. */
  read(statement: SqlStatement, signal?: AbortSignal): Promise<readonly SqlRow[]>
  /** Runs all of them in one transaction, or none. Resolved means durable. */
  write(statements: readonly SqlStatement[]): Promise<readonly SqlResult[]>
  /** Waits for what is under way, and closes. */
  close(): Promise<void>
}

/** The first row, or undefined. */
export async function readRow(
  database: SqlDatabase,
  statement: SqlStatement,
  signal?: AbortSignal,
): Promise<SqlRow | undefined> {
  const [row] = await database.read(statement, signal)
  return row
}

/** Runs one statement in a transaction of its own, and says how many rows were written. */
export async function writeRows(
  database: SqlDatabase,
  sql: string,
  values: readonly SqlValue[],
): Promise<number> {
  const [result] = await database.write([{ sql, values }])
  return result?.count ?? 0
}
