/** The change counter of an issuer over any {@link SqlDatabase}: records by key, each written by compare-and-set. */
import type { CardRef } from '../../d1/endpoints/interfaces.js'
import type {
  ChangeCounterStore,
  KeyPage,
  RecordWrite,
  StoredRecord,
  WriteOptions,
} from '../../seccos/counter/store.js'
import { readRow, type SqlDatabase, type SqlStatement, type SqlValue, writeRows } from './database.js'

/** How `ChangeCounter` and `TryCounter` name the record of a card, before its id. */
export const CARD_RECORDS = ['card/', 'tries/'] as const

/** The store of one issuer's change counter: a key belongs to its issuer, and each step is one statement. */
export class SqlCounterStore implements ChangeCounterStore {
  readonly commitsReplays: boolean
  readonly instance?: () => Promise<string>
  readonly #database: SqlDatabase
  readonly #issuerId: string
  readonly #table: string

  constructor(database: SqlDatabase, issuerId: string) {
    const { prefix, instance, commitsReplays } = database.dialect
    this.#database = database
    this.#issuerId = issuerId
    this.#table = `${prefix}counters`
    this.commitsReplays = commitsReplays
    if (instance === undefined) return
    this.instance = async () => {
      const row = await readRow(database, { sql: `SELECT ${instance} AS instance`, values: [] })
      return String(row?.['instance'])
    }
  }

  /** Whether these records are kept in that database, for that issuer. */
  static isIn(store: unknown, database: SqlDatabase, issuerId: string): boolean {
    return (
      typeof store === 'object' &&
      store !== null &&
      #database in store &&
      store.#database === database &&
      store.#issuerId === issuerId
    )
  }

  async read(key: string): Promise<StoredRecord | undefined> {
    const { instance } = this.#database.dialect
    const named = instance === undefined ? '' : `, ${instance} AS instance`
    const row = await readRow(this.#database, {
      sql: `SELECT value, CAST(version AS TEXT) AS version${named} FROM ${this.#table} WHERE issuer_id = $1 AND key = $2`,
      values: [this.#issuerId, key],
      ...this.#card(key),
    })
    if (row === undefined) return undefined
    const record = { value: String(row['value']), version: String(row['version']) }
    return instance === undefined ? record : { ...record, instance: String(row['instance']) }
  }

  compareAndSet(
    key: string,
    expected: string | undefined,
    value: string,
    options: WriteOptions = {},
  ): Promise<boolean> {
    return this.compareAndSetAll([{ ...options, key, expected, value }])
  }

  async compareAndSetAll(writes: readonly RecordWrite[]): Promise<boolean> {
    // In an order that is the same for everybody: see `byCard`.
    const ordered = writes.toSorted((a, b) => (a.key < b.key ? -1 : 1))
    const statements = ordered.flatMap(write => this.#writing(write) ?? [])
    // Only a store with instances can be asked for one.
    if (statements.length < writes.length) return false
    const results = await this.#database.write(statements)
    return results.at(-1)?.unexpected !== true
  }

  /** Writes the record, or nothing of the transaction; undefined where it asks for an instance, and there is no such thing. */
  #writing({ key, expected, value, expiresAt, instance: asked }: RecordWrite): SqlStatement | undefined {
    const values: SqlValue[] = [this.#issuerId, key, value, expiresAt ?? null]
    // A version is compared as text: what is no number is then simply another one.
    const conditions = ['issuer_id = $1', 'key = $2']
    if (expected !== undefined) conditions.push(`CAST(version AS TEXT) = $${values.push(expected)}`)
    if (asked !== undefined) {
      const { instance } = this.#database.dialect
      if (instance === undefined) return undefined
      // In the statement that writes: the one before may have reached another server.
      conditions.push(`${instance} = $${values.push(asked)}`)
    }
    const sql =
      expected === undefined
        ? `INSERT INTO ${this.#table} (issuer_id, key, version, value, expires_at) ` +
          'SELECT CAST($1 AS text), CAST($2 AS text), 1, CAST($3 AS text), CAST($4 AS bigint) ' +
          `WHERE ${conditions[2] ?? 'true'} ON CONFLICT (issuer_id, key) DO NOTHING`
        : `UPDATE ${this.#table} SET version = version + 1, value = $3, expires_at = $4 WHERE ${conditions.join(' AND ')}`
    return { sql, values, expect: 1, mayBeLate: true, ...this.#card(key) }
  }

  /** The record of a card is sealed with it; what is kept by another key decides nothing. */
  #card(key: string): { readonly card?: CardRef } {
    const name = CARD_RECORDS.find(prefix => key.startsWith(prefix))
    return name === undefined ? {} : { card: { issuerId: this.#issuerId, cardId: key.slice(name.length) } }
  }

  async purge(now: number, options: { readonly limit?: number } = {}): Promise<number> {
    const { limit = Number.MAX_SAFE_INTEGER } = options
    const due = 'issuer_id = $1 AND expires_at <= $2'
    const values = [this.#issuerId, now, limit]
    const keys = `SELECT key FROM ${this.#table} WHERE ${due} LIMIT $3`
    const all = `DELETE FROM ${this.#table} WHERE`
    if (this.#database.sealer === undefined) {
      return writeRows(this.#database, `${all} key IN (${keys}) AND ${due}`, values)
    }
    // What belongs to a sealed card goes one by one, its seal with it.
    const rows = await this.#database.read({ sql: keys, values })
    const ordered = rows.toSorted((a, b) => (String(a['key']) < String(b['key']) ? -1 : 1))
    const statements = ordered.map(({ key }) => ({
      sql: `${all} ${due} AND key = $3`,
      values: [this.#issuerId, now, String(key)],
      ...this.#card(String(key)),
    }))
    if (statements.length === 0) return 0
    return (await this.#database.write(statements)).reduce((sum, { count }) => sum + count, 0)
  }

  /** Which of these keys there are. */
  async present(keys: readonly string[]): Promise<ReadonlySet<string>> {
    const places = keys.map((_, i) => `$${i + 2}`).join(', ')
    const sql = `SELECT key FROM ${this.#table} WHERE issuer_id = $1 AND key IN (${places})`
    const rows = await this.#database.read({ sql, values: [this.#issuerId, ...keys] })
    return new Set(rows.map(({ key }) => String(key)))
  }

  async keys({ prefix, after = '', limit }: KeyPage): Promise<readonly string[]> {
    const rows = await this.#database.read({
      sql:
        `SELECT key FROM ${this.#table} WHERE issuer_id = $1 AND key > $2 AND key >= $3 ` +
        'AND substr(key, 1, length($3)) = $3 ORDER BY key LIMIT $4',
      values: [this.#issuerId, after, prefix, limit],
    })
    return rows.map(({ key }) => String(key))
  }
}
