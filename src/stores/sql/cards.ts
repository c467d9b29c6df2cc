/** Cards over any {@link SqlDatabase}: each with its PAN sealed, and a revision by which a later write can tell a change. */
import { randomBytes } from 'node:crypto'
import { type CallOptions, requireSignal, throwIfAborted } from '../../base/arguments.js'
import { bufferOf, ownCopy, requireBytes, toHex } from '../../base/bytes.js'
import { ArgumentError, BackendError } from '../../base/errors.js'
import type { Card, CardRef, CardState } from '../../d1/endpoints/interfaces.js'
import type { BulkResult, CardEntry, CardStore, ResealPage } from '../issuer-store.js'
import type { PanSealer } from '../pan-sealer.js'
import {
  inBatches,
  noSuchCard,
  outcomeOf,
  readCard,
  readCardEntry,
  readPage,
  readRef,
  requireState,
} from '../records.js'
import {
  byCard,
  cardOf,
  isAtOnce,
  type OpenDatabase,
  readRow,
  type SqlDatabase,
  type SqlStatement,
  showSeccos,
  writeRows,
} from './database.js'

const MAX_SEALED_BYTES = 4096

/** Throws `ERR_ARGUMENT` unless the value is a {@link PanSealer}. */
export function requirePanSealer(sealer: unknown): asserts sealer is PanSealer {
  const { seal, open } = Object(sealer)
  if (typeof seal === 'function' && typeof open === 'function') return
  throw new ArgumentError('panSealer must be a PanSealer: PANs are not stored in the clear')
}

/** The cards of a database whose tables are there. */
export class SqlCards implements CardStore {
  readonly #database: OpenDatabase
  readonly #sealer: PanSealer
  readonly #table: string

  constructor(database: OpenDatabase, sealer: PanSealer) {
    this.#database = database
    this.#sealer = sealer
    this.#table = `${database.dialect.prefix}cards`
  }

  readonly find = async (card: CardRef, options?: CallOptions): Promise<Card | undefined> => {
    const ref = readRef(card)
    const columns = `state, pan, set_pin_types, seccos, revision, ${this.#database.dialect.now} AS found_at`
    const sql = `SELECT ${columns} FROM ${this.#table} WHERE issuer_id = $1 AND card_id = $2`
    const row = await readRow(
      this.#database,
      { sql, values: valuesOf(ref), card: ref },
      requireSignal(options),
    )
    return row && cardOf(row, ref, this.#sealer)
  }

  readonly put = async (card: CardRef, record: Card): Promise<void> => {
    await this.#database.write([this.#putting(await this.#row(card, record))])
  }

  readonly putMany = (
    entries: Iterable<CardEntry> | AsyncIterable<CardEntry>,
    options?: CallOptions,
  ): AsyncIterable<BulkResult> => {
    const signal = requireSignal(options)
    return inBatches(entries, signal, readCardEntry, async batch => {
      const results: BulkResult[] = []
      const rows: CardRow[] = []
      for (const taken of batch) {
        const work = async ({ card, record }: CardEntry): Promise<unknown> =>
          rows.push(await this.#row(card, record))
        results.push(await outcomeOf(taken, work))
      }
      const isOne = isAtOnce(this.#database, rows.map(refOf))
      const ordered = byCard(rows, refOf)
      await this.#database.write(isOne ? [this.#puttingAll(ordered)] : ordered.map(row => this.#putting(row)))
      return results
    })
  }

  readonly setState = async (card: CardRef, state: CardState): Promise<void> => {
    requireState(state)
    const sql = `UPDATE ${this.#table} SET state = $3, revision = $4 WHERE issuer_id = $1 AND card_id = $2`
    const ref = readRef(card)
    const values = [...valuesOf(ref), state, newMark()]
    if ((await writeRows(this.#database, sql, values, ref)) === 0) throw noSuchCard()
  }

  readonly remove = async (card: CardRef): Promise<void> => {
    const sql = `DELETE FROM ${this.#table} WHERE issuer_id = $1 AND card_id = $2`
    const ref = readRef(card)
    await writeRows(this.#database, sql, valuesOf(ref), ref)
  }

  readonly reseal = async (page: ResealPage, options?: CallOptions): Promise<readonly CardRef[]> => {
    const read = readPage(page, 'reseal')
    const signal = requireSignal(options)
    return this.#database.during(database => this.#resealPage(read, database, signal))
  }

  async #resealPage(
    { after, limit }: ResealPage,
    database: SqlDatabase,
    signal: AbortSignal | undefined,
  ): Promise<readonly CardRef[]> {
    const rows = await database.read(
      {
        sql:
          `SELECT issuer_id, card_id, pan FROM ${this.#table} WHERE (issuer_id, card_id) > ($1, $2) ` +
          'ORDER BY issuer_id, card_id LIMIT $3',
        values: [after?.issuerId ?? '', after?.cardId ?? '', limit],
      },
      signal,
    )
    const statements: (SqlStatement & { readonly card: CardRef })[] = []
    for (const { issuer_id, card_id, pan: sealed } of rows) {
      throwIfAborted(signal)
      requireBytes(sealed, 'pan')
      if (this.#sealer.isCurrent?.(sealed) === true) continue
      const ref = { issuerId: String(issuer_id), cardId: String(card_id) }
      const again = await this.#seal(await this.#sealer.open(sealed, ref), ref)
      // The PAN is the same: the revision stays. A card that was put meanwhile has another seal, and stays as it is.
      statements.push({
        sql: `UPDATE ${this.#table} SET pan = $3 WHERE issuer_id = $1 AND card_id = $2 AND pan = $4`,
        values: [...valuesOf(ref), again, ownCopy(sealed)],
        card: ref,
      })
    }
    if (statements.length > 0) await database.write(byCard(statements, ({ card }) => card))
    return rows.map(row => ({ issuerId: String(row['issuer_id']), cardId: String(row['card_id']) }))
  }

  async #row(card: CardRef, record: Card): Promise<CardRow> {
    const ref = readRef(card)
    const { state, pan, setPinTypes, seccos } = readCard(record)
    const sealed = await this.#seal(pan, ref)
    return [...valuesOf(ref), state, sealed, JSON.stringify(setPinTypes), showSeccos(seccos), newMark()]
  }

  #putting(row: CardRow): SqlStatement {
    return { sql: this.#insert('VALUES ($1, $2, $3, $4, $5, $6, $7)'), values: row, card: refOf(row) }
  }

  /** The same in one statement: each of many would wait for its own answer of the server. */
  #puttingAll(rows: readonly CardRow[]): SqlStatement {
    const types = ['text', 'text', 'text', 'bytea', 'text', 'text', 'text']
    const lists = types.map((type, i) => `CAST($${i + 1} AS ${type}[])`)
    return {
      sql: this.#insert(`SELECT * FROM unnest(${lists.join(', ')}) AS n`),
      values: [
        rows.map(row => row[0]),
        rows.map(row => row[1]),
        rows.map(row => row[2]),
        rows.map(row => row[3]),
        rows.map(row => row[4]),
        rows.map(row => row[5]),
        rows.map(row => row[6]),
      ],
    }
  }

  #insert(source: string): string {
    return (
      `INSERT INTO ${this.#table} (issuer_id, card_id, state, pan, set_pin_types, seccos, revision) ` +
      `${source} ON CONFLICT (issuer_id, card_id) DO UPDATE SET state = excluded.state, ` +
      'pan = excluded.pan, set_pin_types = excluded.set_pin_types, seccos = excluded.seccos, ' +
      'revision = excluded.revision'
    )
  }

  async #seal(pan: Card['pan'], ref: CardRef): Promise<Uint8Array> {
    const sealed = await this.#sealer.seal(pan, ref)
    requireSealed(sealed, pan.reveal())
    return sealed
  }
}

/** Issuer, card, state, sealed PAN, types, seccos, revision. */
type CardRow = readonly [string, string, string, Uint8Array, string, string | null, string]

function refOf([issuerId, cardId]: CardRow): CardRef {
  return { issuerId, cardId }
}

/** The identifiers of a card as the first two values of a statement. */
export function valuesOf({ issuerId, cardId }: CardRef): [string, string] {
  return [issuerId, cardId]
}

/** A name that no earlier write had: a row that comes back with the same content is another one. */
export function newMark(): string {
  return randomBytes(12).toString('base64url')
}

/** The sealer may be anybody's: what it makes is looked at before it is written. */
function requireSealed(sealed: unknown, digits: string): asserts sealed is Uint8Array {
  requireBytes(sealed, 'what panSealer made')
  const text = `${bufferOf(sealed).toString('latin1')} ${toHex(sealed)}`
  if (sealed.length > 0 && sealed.length <= MAX_SEALED_BYTES && !text.includes(digits)) return
  throw new BackendError('ERR_BACKEND_FAILED', 'panSealer gave back what is not a sealed PAN')
}
