/** The stores of an issuer over any {@link SqlDatabase}: the statements, and nothing of SQLite or PostgreSQL. */
import { type CallOptions, requireSignal } from '../../base/arguments.js'
import { requireBytes, toHex } from '../../base/bytes.js'
import { ArgumentError, BackendError } from '../../base/errors.js'
import type { Card, CardRef, CardState, StoredPinBlock, StoredPrw } from '../../d1/endpoints/interfaces.js'
import type { ChangeCounterStore } from '../../seccos/counter/store.js'
import type { CardPinStore, CardStore, IssuerStore } from '../issuer-store.js'
import type { PanSealer } from '../pan-sealer.js'
import {
  noSuchCard,
  readCard,
  readPinBlock,
  readPrw,
  readRef,
  requireIssuerId,
  requireState,
} from '../records.js'
import { SqlCounterStore } from './counter.js'
import type { SqlDatabase, SqlRow, SqlValue } from './database.js'
import { blockOf, cardOf, prwOf, showSeccos } from './rows.js'

const MAX_SEALED_BYTES = 4096

/** Throws `ERR_ARGUMENT` unless the value is a {@link PanSealer}. */
export function requirePanSealer(sealer: unknown): asserts sealer is PanSealer {
  const { seal, open } = Object(sealer)
  if (typeof seal === 'function' && typeof open === 'function') return
  throw new ArgumentError('panSealer must be a PanSealer: PANs are not stored in the clear')
}

/** The stores on a database whose tables are there (see `migrate`). Closing them closes the database. */
export class SqlIssuerStore implements IssuerStore {
  readonly #database: SqlDatabase
  readonly #sealer: PanSealer
  readonly #cards: string
  readonly #pins: string

  constructor(database: SqlDatabase, sealer: PanSealer) {
    this.#database = database
    this.#sealer = sealer
    this.#cards = `${database.prefix}cards`
    this.#pins = `${database.prefix}pins`
  }

  readonly cards: CardStore = {
    find: async (card: CardRef, options?: CallOptions) => {
      const ref = readRef(card)
      const row = await this.#get(
        `SELECT state, pan, set_pin_types, seccos FROM ${this.#cards} WHERE issuer_id = $1 AND card_id = $2`,
        ref,
        options,
      )
      return row && cardOf(row, ref, this.#sealer)
    },
    put: async (card: CardRef, record: Card) => {
      const ref = readRef(card)
      const { state, pan, setPinTypes, seccos } = readCard(record)
      const sealed = await this.#sealer.seal(pan, ref)
      requireSealed(sealed, pan.reveal())
      await this.#run(
        `INSERT INTO ${this.#cards} (issuer_id, card_id, state, pan, set_pin_types, seccos) ` +
          'VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (issuer_id, card_id) DO UPDATE SET state = excluded.state, ' +
          'pan = excluded.pan, set_pin_types = excluded.set_pin_types, seccos = excluded.seccos',
        ref,
        [state, sealed, JSON.stringify(setPinTypes), showSeccos(seccos)],
      )
    },
    setState: async (card: CardRef, state: CardState) => {
      requireState(state)
      const statement = `UPDATE ${this.#cards} SET state = $3 WHERE issuer_id = $1 AND card_id = $2`
      if ((await this.#run(statement, readRef(card), [state])) === 0) throw noSuchCard()
    },
    remove: async (card: CardRef) => {
      await this.#run(`DELETE FROM ${this.#cards} WHERE issuer_id = $1 AND card_id = $2`, readRef(card))
    },
  }

  readonly pins: CardPinStore = {
    readBlock: async (card: CardRef, options?: CallOptions) => {
      const row = await this.#get(
        `SELECT block, kid FROM ${this.#pins} WHERE issuer_id = $1 AND card_id = $2 AND block IS NOT NULL`,
        readRef(card),
        options,
      )
      return row && blockOf(row)
    },
    readPrw: async (card: CardRef, options?: CallOptions) => {
      const row = await this.#get(
        `SELECT prw FROM ${this.#pins} WHERE issuer_id = $1 AND card_id = $2 AND prw IS NOT NULL`,
        readRef(card),
        options,
      )
      return row && prwOf(row)
    },
    storeBlock: async (card: CardRef, pin: StoredPinBlock) => {
      const { block, kid } = readPinBlock(pin)
      // The sequence stays: a PRW that comes late is older than this block.
      await this.#run(
        `INSERT INTO ${this.#pins} (issuer_id, card_id, block, kid) VALUES ($1, $2, $3, $4) ` +
          'ON CONFLICT (issuer_id, card_id) DO UPDATE SET block = excluded.block, kid = excluded.kid, prw = NULL',
        readRef(card),
        [block, kid],
      )
    },
    // To come with the transaction of `SqlDatabase`.
    acceptBlock: () => Promise.reject(new BackendError('ERR_UNSUPPORTED', 'acceptBlock is not there yet')),
    forgetRequests: () => Promise.reject(new BackendError('ERR_UNSUPPORTED', 'acceptBlock is not there yet')),
    storePrw: async (card: CardRef, given: StoredPrw) => {
      const prw = readPrw(given)
      await this.#run(
        `INSERT INTO ${this.#pins} AS known (issuer_id, card_id, prw, sequence) VALUES ($1, $2, $3, $4) ` +
          'ON CONFLICT (issuer_id, card_id) DO UPDATE SET block = NULL, kid = NULL, prw = excluded.prw, ' +
          'sequence = excluded.sequence WHERE known.sequence < excluded.sequence ' +
          // The same PRW again: D1 repeats a request. Once a block has taken its place, it is an older PIN.
          'OR (known.sequence = excluded.sequence AND known.prw IS NOT NULL)',
        readRef(card),
        [JSON.stringify(prw), prw.sequence],
      )
    },
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

  #get(sql: string, { issuerId, cardId }: CardRef, options?: CallOptions): Promise<SqlRow | undefined> {
    return this.#database.get(sql, [issuerId, cardId], requireSignal(options))
  }

  #run(sql: string, { issuerId, cardId }: CardRef, values: readonly SqlValue[] = []): Promise<number> {
    return this.#database.run(sql, [issuerId, cardId, ...values])
  }
}

/** The sealer may be anybody's: what it makes is looked at before it is written. */
function requireSealed(sealed: unknown, digits: string): asserts sealed is Uint8Array {
  requireBytes(sealed, 'what panSealer made')
  const text = `${Buffer.from(sealed).toString('latin1')} ${toHex(sealed)}`
  if (sealed.length > 0 && sealed.length <= MAX_SEALED_BYTES && !text.includes(digits)) return
  throw new BackendError('ERR_BACKEND_FAILED', 'panSealer gave back what is not a sealed PAN')
}
