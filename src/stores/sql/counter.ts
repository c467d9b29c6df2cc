/** The change counter of an issuer over any {@link SqlDatabase}: records by key, each written by compare-and-set. */
import type { ChangeCounterStore, StoredRecord } from '../../seccos/counter/store.js'
import type { SqlDatabase } from './database.js'

/** The store of one issuer's change counter: a key belongs to its issuer, and each step is one statement. */
export class SqlCounterStore implements ChangeCounterStore {
  readonly #database: SqlDatabase
  readonly #issuerId: string
  readonly #table: string

  constructor(database: SqlDatabase, issuerId: string) {
    this.#database = database
    this.#issuerId = issuerId
    this.#table = `${database.prefix}counters`
  }

  async read(key: string): Promise<StoredRecord | undefined> {
    const row = await this.#database.get(
      `SELECT value, CAST(version AS TEXT) AS version FROM ${this.#table} WHERE issuer_id = $1 AND key = $2`,
      [this.#issuerId, key],
    )
    return row && { value: String(row['value']), version: String(row['version']) }
  }

  async compareAndSet(
    key: string,
    expected: string | undefined,
    value: string,
    options?: { readonly expiresAt?: number },
  ): Promise<boolean> {
    const record = [this.#issuerId, key, value, options?.expiresAt ?? null]
    // A version is compared as text: what is no number is then simply another one.
    const written =
      expected === undefined
        ? this.#database.run(
            `INSERT INTO ${this.#table} (issuer_id, key, version, value, expires_at) VALUES ($1, $2, 1, $3, $4) ` +
              'ON CONFLICT (issuer_id, key) DO NOTHING',
            record,
          )
        : this.#database.run(
            `UPDATE ${this.#table} SET version = version + 1, value = $3, expires_at = $4 ` +
              'WHERE issuer_id = $1 AND key = $2 AND CAST(version AS TEXT) = $5',
            [...record, expected],
          )
    return (await written) === 1
  }

  purge(now: number): Promise<number> {
    return this.#database.run(`DELETE FROM ${this.#table} WHERE issuer_id = $1 AND expires_at <= $2`, [
      this.#issuerId,
      now,
    ])
  }
}
