/** The stores of an issuer over any {@link SqlDatabase}. */
import type { ChangeCounterStore } from '../../seccos/counter/store.js'
import type { IssuerStore, RowSeals } from '../issuer-store.js'
import type { PanSealer } from '../pan-sealer.js'
import { requireIssuerId } from '../records.js'
import type { RowSealer } from '../row-sealer.js'
import { SqlCards } from './cards.js'
import { SqlCounterStore } from './counter.js'
import { OpenDatabase, type PlainDatabase } from './database.js'
import { SqlPins } from './pins.js'
import { SealedDatabase } from './sealed.js'

/** The stores on a database whose tables are there (see `migrate`). Closing them closes the database. */
export class SqlIssuerStore implements IssuerStore {
  readonly cards: SqlCards
  readonly pins: SqlPins
  readonly seals?: RowSeals
  readonly #database: OpenDatabase

  constructor(plain: PlainDatabase, sealer: PanSealer, rowSealer?: RowSealer) {
    const sealed = rowSealer && new SealedDatabase(plain, rowSealer)
    const database = new OpenDatabase(sealed ?? plain)
    if (sealed !== undefined) {
      this.seals = {
        reseal: page => database.during(() => sealed.reseal(page)),
        resealRequests: page => database.during(() => sealed.resealRequests(page)),
        count: () => database.during(() => sealed.count()),
      }
    }
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
