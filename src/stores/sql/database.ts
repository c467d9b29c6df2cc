/**
 * What the stores need of a database that speaks SQL, and all that SQLite and PostgreSQL must have in common. The
 * statements above are the same for both; their values are bound as `$1`, `$2`, … What differs between the two is named
 * by a {@link SqlDialect}.
 *
 * A driver turns what its database reports into our errors: a statement that names a card which is not there
 * (foreign key) is `noSuchCard`, what may succeed later is `ERR_BACKEND_BUSY`.
 */

import { fromHex, snapshot, toHex } from '../../base/bytes.js'
import { systemClock } from '../../base/deadline.js'
import { BackendError } from '../../base/errors.js'
import { importOptional } from '../../base/optional.js'
import type { Card, CardRef, StoredPinBlock, StoredPrw } from '../../d1/endpoints/interfaces.js'
import type { PanSealer } from '../pan-sealer.js'
import { readCard, readPinBlock, readPrw, storeClosed } from '../records.js'
import type { RowSealer } from '../row-sealer.js'

/** What is bound, and what comes back. A list only where the {@link SqlDialect} has them. */
export type SqlValue =
  | string
  | number
  | null
  | Uint8Array
  | readonly (string | number | null)[]
  | readonly Uint8Array[]

/** A row, by column. */
export type SqlRow = Readonly<Record<string, unknown>>

/** A statement with its values. */
export interface SqlStatement {
  readonly sql: string
  readonly values: readonly SqlValue[]
  /** Where it writes another number of rows, the transaction is rolled back, and its results end here. */
  readonly expect?: number
  /** Alone, it may be done when nobody waits for it any more: it compares a version, or decides nothing. */
  readonly mayBeLate?: true
  /** The card whose rows it reads or writes; see `sealed.ts`. */
  readonly card?: CardRef
}

/** What came of a statement. */
export interface SqlResult {
  readonly rows: readonly SqlRow[]
  /** How many rows were written. */
  readonly count: number
  /** It wrote another number of rows than expected: nothing of the transaction was done. */
  readonly unexpected?: true
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
  /** Behind a SELECT: nobody else changes these rows, or reads them so, before the transaction ends. */
  readonly locked: '' | ' FOR NO KEY UPDATE'
  /** An expression that names the server which runs the statement; undefined where there is one file and no server. */
  readonly instance: string | undefined
  /** An expression: the database's own clock at this moment, in whole milliseconds since 1970. */
  readonly now: string
  /** Whether a list can be bound, and taken apart by `unnest`. */
  readonly lists: boolean
  /** Whether a statement that writes can stand within another one, which goes on with what it has written (`RETURNING`). */
  readonly nested: boolean
  /** See `ChangeCounterStore.commitsReplays`. */
  readonly commitsReplays: boolean
}

/** A database that is open. */
export interface SqlDatabase {
  readonly dialect: SqlDialect
  /** Where rows are sealed. */
  readonly sealer?: RowSealer
  /** The rows; `ERR_ABORTED` once the signal has fired. */
  read(statement: SqlStatement, signal?: AbortSignal): Promise<readonly SqlRow[]>
  /** Runs all of them in one transaction, or none. Resolved means durable. */
  write(statements: readonly SqlStatement[]): Promise<readonly SqlResult[]>
  /** Waits for what is under way, and closes. */
  close(): Promise<void>
}

/** One that knows nothing of seals: what is read together has none checked, so nothing but the seals asks for it. */
export interface PlainDatabase extends SqlDatabase {
  /** The rows of each, all of one moment. */
  readTogether(
    statements: readonly SqlStatement[],
    signal?: AbortSignal,
  ): Promise<readonly (readonly SqlRow[])[]>
}

/**
 * A database in use: closing it waits for what has begun, to its last step, and refuses what comes after. A call of several
 * steps has the database for as long as it takes: what was stored is not told as a failure because it closed in between.
 */
export class OpenDatabase implements SqlDatabase {
  readonly dialect: SqlDialect
  readonly sealer?: RowSealer
  readonly #database: SqlDatabase
  readonly #underWay = new Set<Promise<unknown>>()
  #closed: Promise<void> | undefined

  constructor(database: SqlDatabase) {
    this.dialect = database.dialect
    if (database.sealer !== undefined) this.sealer = database.sealer
    this.#database = database
  }

  /** Runs all steps of one call. */
  async during<T>(work: (database: SqlDatabase) => Promise<T>): Promise<T> {
    if (this.#closed !== undefined) throw storeClosed()
    const call = work(this.#database)
    this.#underWay.add(call)
    try {
      return await call
    } finally {
      this.#underWay.delete(call)
    }
  }

  read(statement: SqlStatement, signal?: AbortSignal): Promise<readonly SqlRow[]> {
    return this.during(database => database.read(statement, signal))
  }

  write(statements: readonly SqlStatement[]): Promise<readonly SqlResult[]> {
    return this.during(database => database.write(statements))
  }

  close(): Promise<void> {
    this.#closed ??= Promise.allSettled(this.#underWay).then(() => this.#database.close())
    return this.#closed
  }
}

/** Whether a batch may be one statement: with lists, without seals, and with no card twice, whose order would count. */
export function isAtOnce({ dialect, sealer }: SqlDatabase, cards: readonly CardRef[]): boolean {
  const names = new Set(cards.map(({ issuerId, cardId }) => `${issuerId}/${cardId}`))
  return dialect.lists && sealer === undefined && names.size === cards.length
}

/**
 * In the order of their cards, in which everybody locks rows: of two that write several of the same cards one waits for the
 * other, and never each for the other. What is of one card keeps its order.
 */
export function byCard<T>(list: readonly T[], cardOf: (entry: T) => CardRef): readonly T[] {
  return list.toSorted((left, right) => {
    const [a, b] = [cardOf(left), cardOf(right)]
    return compared(a.issuerId, b.issuerId) || compared(a.cardId, b.cardId)
  })
}

function compared(a: string, b: string): number {
  return a === b ? 0 : a < b ? -1 : 1
}

/** The order of {@link byCard} in SQL, whatever the language of the database is. `row` has `issuer_id` and `card_id`. */
export function orderByCard(row: string): string {
  return `ORDER BY ${row}.issuer_id COLLATE "C", ${row}.card_id COLLATE "C"`
}

/** Locks the rows of these cards in that order: a statement that changes many takes them in an order of its own. */
export function lockInOrder(
  { dialect }: SqlDatabase,
  table: string,
  cards: readonly CardRef[],
): SqlStatement {
  return {
    sql:
      `SELECT 1 AS locked FROM ${table} AS c JOIN unnest(CAST($1 AS text[]), CAST($2 AS text[])) AS n (issuer_id, card_id) ` +
      `ON c.issuer_id = n.issuer_id AND c.card_id = n.card_id ${orderByCard('c')}${dialect.locked} OF c`,
    values: [cards.map(card => card.issuerId), cards.map(card => card.cardId)],
  }
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
  card?: CardRef,
): Promise<number> {
  const results = await database.write([{ sql, values, ...(card !== undefined && { card }) }])
  return results.reduce((sum, { count }) => sum + count, 0)
}

/* Cards and PRWs as they are in rows. What does not read was written by something else: `ERR_BACKEND_FAILED`. */

type Seccos = NonNullable<Card['seccos']>

/** `fields` apart, JSON as it is: a field that is text is written as text, one that is bytes as `{ "hex": "…" }`. */
export function showSeccos(seccos: Seccos | undefined): string | null {
  if (seccos === undefined) return null
  const { fields, ...rest } = seccos
  if (fields === undefined) return JSON.stringify(rest)
  const entries = Object.entries(fields).map(([id, value]) => [
    id,
    typeof value === 'string' ? value : { hex: toHex(value) },
  ])
  return JSON.stringify({ ...rest, fields: Object.fromEntries(entries) })
}

function parseSeccos(text: string): Seccos {
  const { fields, ...rest } = JSON.parse(text)
  if (fields === undefined) return rest
  const entries = Object.entries<string | { hex: string }>(fields).map(([id, value]) => [
    id,
    typeof value === 'string' ? value : fromHex(value.hex, 'a field'),
  ])
  return { ...rest, fields: Object.fromEntries(entries) }
}

/** The card of a row. The errors of the sealer come through as they are. */
export async function cardOf(row: SqlRow, ref: CardRef, sealer: PanSealer): Promise<Card> {
  const { state, set_pin_types: types, seccos, revision } = row
  const sealed = readable(() => snapshot(row['pan'], 'pan'))
  const pan = await sealer.open(sealed, ref)
  return readable(() => ({
    ...readCard({
      state: state as Card['state'],
      pan,
      setPinTypes: JSON.parse(String(types)),
      ...(seccos !== null && { seccos: parseSeccos(String(seccos)) }),
    }),
    revision: String(revision),
    foundAt: Number(row['found_at']),
  }))
}

/** The block of a row. */
export function blockOf({ block, kid }: SqlRow): StoredPinBlock {
  return readable(() => readPinBlock({ block, kid } as unknown as StoredPinBlock))
}

/** The PRW of a row. */
export function prwOf({ prw }: SqlRow): StoredPrw {
  return readable(() => readPrw(JSON.parse(String(prw))))
}

function readable<T>(read: () => T): T {
  try {
    return read()
  } catch {
    // No cause: what was read may be in its message.
    throw new BackendError('ERR_BACKEND_FAILED', 'a record of the store does not read')
  }
}

/*
 * Brings a database to the version this code knows. A migration is a list of statements; its number is its place. It is
 * never changed once released: what it made is in somebody's database.
 *
 * All that is missing runs in one transaction, under a lock that lets one process in at a time: of two replicas that
 * start at once the second finds nothing left to do. A role that may not create tables is enough once they are there.
 */

/** What one kind of database needs for it. */
export interface MigrationPlan {
  /** Opens the transaction and takes the lock. */
  readonly begin: string
  /** A row, where the table of versions is there. */
  readonly findVersions: string
  /** Makes the table of versions, and what holds it. */
  readonly makeVersions: string
  /** The name of that table: `version` (the number), `applied_at` (milliseconds since 1970). */
  readonly versions: string
  /** Number 1 first. */
  readonly migrations: readonly string[]
}

/**
 * Runs what is missing. Errors: `ERR_UNSUPPORTED` (the database is of a later version than this code); what the database
 * reports. Nothing of it is done then: where the connection goes on living, the transaction is rolled back.
 */
export async function migrate(session: SqlSession, plan: MigrationPlan): Promise<void> {
  await session.exec(plan.begin)
  try {
    await bringUpToDate(session, plan)
    await session.exec('COMMIT')
  } catch (error) {
    // It may have ended the transaction itself, or be gone: the first error is the one to know.
    await session.exec('ROLLBACK').catch(() => {})
    throw error
  }
}

async function bringUpToDate(session: SqlSession, plan: MigrationPlan): Promise<void> {
  const { findVersions, makeVersions, versions, migrations } = plan
  const isThere = (await session.get(findVersions, [])) !== undefined
  if (!isThere) await session.exec(makeVersions)
  const row = await session.get(`SELECT COALESCE(MAX(version), 0) AS version FROM ${versions}`, [])
  const found = Number(row?.['version'])
  if (found > migrations.length) {
    const known = `this library knows versions up to ${migrations.length}`
    throw new BackendError('ERR_UNSUPPORTED', `the database is of version ${found}, and ${known}: update it`)
  }
  for (const [i, statements] of migrations.entries()) {
    if (i < found) continue
    await session.exec(statements)
    await session.run(`INSERT INTO ${versions} (version, applied_at) VALUES ($1, $2)`, [
      i + 1,
      systemClock.now(),
    ])
  }
}

/* Database drivers are optional packages: each is loaded here, and only when a store is opened that needs it. */

/**
 * A class of a database driver, loaded when it is needed: a program that opens no database needs no driver.
 *
 * Errors: `ERR_UNSUPPORTED`.
 */
export async function loadDriver<T extends abstract new (...args: never) => object>(
  specifier: string,
  member: string,
): Promise<T> {
  let loaded: object
  try {
    loaded = await importOptional(specifier)
  } catch (error) {
    throw new BackendError('ERR_UNSUPPORTED', `${specifier} is not available here`, { cause: error })
  }
  const found: unknown = Reflect.get(loaded, member)
  if (isClass<T>(found)) return found
  throw new BackendError('ERR_UNSUPPORTED', `${specifier} is not what it should be`)
}

function isClass<T>(value: unknown): value is T {
  return typeof value === 'function'
}
