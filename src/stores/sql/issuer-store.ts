/** The stores of an issuer over any {@link SqlDatabase}. */
import type { ChangeCounterStore } from '../../seccos/counter/store.js'
import type { IssuerStore, RowSeals } from '../issuer-store.js'
import type { PanSealer } from '../pan-sealer.js'
import { requireIssuerId } from '../records.js'
import type { RowSealer } from '../row-sealer.js'
import { SqlCards } from './cards.js'
import { SqlCounterStore } from './counter.js'
import type { SqlDatabase } from './database.js'
import { SqlPins } from './pins.js'
import { SealedDatabase } from './sealed.js'

/** The stores on a database whose tables are there (see `migrate`). Closing them closes the database. */
export class SqlIssuerStore implements IssuerStore {
  readonly cards: SqlCards
  readonly pins: SqlPins
  readonly seals?: RowSeals
  readonly #database: SqlDatabase

  constructor(plain: SqlDatabase, sealer: PanSealer, rowSealer?: RowSealer) {
    const database = rowSealer === undefined ? plain : new SealedDatabase(plain, rowSealer)
    if (database instanceof SealedDatabase) this.seals = database
    this.#database = database
    this.cards = new SqlCards(database, sealer)
    this.pins = new SqlPins(database)
  }

  readonly counters = (issuerId: string): ChangeCounterStore => {
    requireIssuerId(issuerId)
    return new SqlCounterStore(this.#database, issuerId)
  }

  close(): Promise<void> {
    return this.#database.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}
