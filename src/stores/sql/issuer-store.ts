/** The stores of an issuer over any {@link SqlDatabase}. */
import type { ChangeCounterStore } from '../../seccos/counter/store.js'
import type { IssuerStore } from '../issuer-store.js'
import type { PanSealer } from '../pan-sealer.js'
import { requireIssuerId } from '../records.js'
import { SqlCards } from './cards.js'
import { SqlCounterStore } from './counter.js'
import type { SqlDatabase } from './database.js'
import { SqlPins } from './pins.js'

/** The stores on a database whose tables are there (see `migrate`). Closing them closes the database. */
export class SqlIssuerStore implements IssuerStore {
  readonly cards: SqlCards
  readonly pins: SqlPins
  readonly #database: SqlDatabase

  constructor(database: SqlDatabase, sealer: PanSealer) {
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
