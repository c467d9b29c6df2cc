/**
 * What the stores need of a database that speaks SQL, and all that SQLite and PostgreSQL must have in common. The
 * statements above are the same for both: each is atomic by itself, and its values are bound as `$1`, `$2`, …
 *
 * A driver turns what its database reports into our errors: a statement that names a card which is not there
 * (foreign key) is {@link noSuchCard}, what may succeed later is `ERR_BACKEND_BUSY`.
 */

/** What is bound, and what comes back. */
export type SqlValue = string | number | null | Uint8Array

/** A row, by column. */
export type SqlRow = Readonly<Record<string, unknown>>

/** Runs statements on one connection. */
export interface SqlSession {
  /** Runs one or more statements that are constant text. */
  exec(sql: string): Promise<void>
  /** The first row, or undefined. */
  get(sql: string, values: readonly SqlValue[]): Promise<SqlRow | undefined>
  /** How many rows were written. */
  run(sql: string, values: readonly SqlValue[]): Promise<number>
}

/** A database that is open. */
export interface SqlDatabase {
  /** Before the name of each table. */
  readonly prefix: string
  /** The first row, or undefined; `ERR_ABORTED` once the signal has fired. */
  get(sql: string, values: readonly SqlValue[], signal?: AbortSignal): Promise<SqlRow | undefined>
  /** How many rows were written. Resolved means durable. */
  run(sql: string, values: readonly SqlValue[]): Promise<number>
  /** Waits for what is under way, and closes. */
  close(): Promise<void>
}
