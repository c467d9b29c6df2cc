/**
 * Rows that cannot be forged: a database whose cards are sealed. One seal a card, over all that is kept of it (the card,
 * its PIN, its change counter, its tries) and a number that grows with every write: a row that was made, changed, copied from another
 * card or brought back does not match it. A statement says which card it is about; with it, the rows are verified before
 * anything is read from them or written over them.
 *
 * A seal is made before the transaction that writes it, so that no lock is held while a token computes: what is to be
 * written is rehearsed in a transaction that is rolled back, its outcome sealed, and then written if the card's seal is
 * still the one before. Otherwise somebody else was first, and it begins again.
 *
 * What remains: whoever brings back *all* rows of a card with their seal, or the whole database, is not noticed; nor who
 * deletes all of them (the card is not there then), or the record of a Set PIN request. See `docs/databases.md`.
 */
import { createHash } from 'node:crypto'
import { ownCopy, requireBytes, toHex, utf8Bytes } from '../../base/bytes.js'
import { BackendError } from '../../base/errors.js'
import type { CardRef } from '../../d1/endpoints/interfaces.js'
import type { ResealPage, RowSeals, SealCount } from '../issuer-store.js'
import { type RowSealer, wrongSeal } from '../row-sealer.js'
import { CARD_RECORDS } from './counter.js'
import {
  byCard,
  type PlainDatabase,
  type SqlDatabase,
  type SqlDialect,
  type SqlResult,
  type SqlRow,
  type SqlStatement,
  type SqlValue,
} from './database.js'

/** Lost races of one call: each means that somebody else's write went through. */
const MAX_ATTEMPTS = 50

/** What is kept of a card, and its seal. */
interface Group {
  readonly ref: CardRef
  /** Of card, PIN, counter and tries: SHA-256 in hex, or nothing. */
  readonly digests: readonly string[]
  /** 0 where there is no seal yet. */
  readonly sequence: number
  readonly seal: Uint8Array | undefined
  /** As the row names it, for counting. */
  readonly kid: string
}

/** A {@link SqlDatabase} of sealed cards, over one that knows nothing of seals. */
export class SealedDatabase implements SqlDatabase, RowSeals {
  readonly dialect: SqlDialect
  readonly sealer: RowSealer
  readonly #database: PlainDatabase
  /** The last write of each card under way: in one process nobody races. */
  readonly #turns = new Map<string, Promise<unknown>>()

  constructor(database: PlainDatabase, sealer: RowSealer) {
    this.dialect = database.dialect
    this.sealer = sealer
    this.#database = database
  }

  async read(statement: SqlStatement, signal?: AbortSignal): Promise<readonly SqlRow[]> {
    const { card } = statement
    if (card === undefined) return this.#database.read(statement, signal)
    const [rows = [], ...found] = await this.#database.readTogether(
      [statement, ...this.#looking(card)],
      signal,
    )
    await this.#verify(groupOf(card, found))
    return rows
  }

  async write(statements: readonly SqlStatement[]): Promise<readonly SqlResult[]> {
    const cards = cardsOf(statements)
    if (cards.length === 0) return this.#database.write(statements)
    const names = cards.map(nameOf)
    const before = names.map(name => this.#turns.get(name))
    const turn = Promise.allSettled(before).then(() => this.#write(statements, cards))
    const ended = turn.catch(() => undefined)
    for (const name of names) this.#turns.set(name, ended)
    try {
      return await turn
    } finally {
      for (const name of names) if (this.#turns.get(name) === ended) this.#turns.delete(name)
    }
  }

  async #write(
    statements: readonly SqlStatement[],
    cards: readonly CardRef[],
  ): Promise<readonly SqlResult[]> {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const before = await this.#groups(cards)
      await Promise.all(before.map(group => this.#verify(group)))
      const rehearsed = await this.#database.write([
        ...statements,
        ...cards.flatMap(card => this.#looking(card)),
        NEVER_MEANT,
      ])
      // A statement wrote another number of rows than it expects: nothing is done, and that is the outcome.
      if (rehearsed.length <= statements.length) return rehearsed
      const after = rehearsed.slice(statements.length).map(({ rows }) => rows)
      const changed = before.flatMap((group, i) => {
        const { digests } = groupOf(group.ref, after.slice(ROWS * i, ROWS * i + ROWS))
        return digests.join() === group.digests.join() ? [] : { ...group, digests }
      })
      const sealing = await Promise.all(changed.map(group => this.#sealing(group)))
      const results = await this.#database.write([
        ...sealing,
        ...statements.map((statement, i) => meant(statement, rehearsed[i])),
      ])
      if (results.at(-1)?.unexpected !== true) return results.slice(sealing.length)
    }
    throw new BackendError('ERR_BACKEND_BUSY', 'the rows of the card are busy', { retryable: true })
  }

  close(): Promise<void> {
    return this.#database.close()
  }

  /** See {@link RowSeals.reseal}. */
  async reseal({ after, limit }: ResealPage): Promise<readonly CardRef[]> {
    const { prefix } = this.dialect
    const of = (table: string, id: string, more: string): string =>
      `SELECT * FROM (SELECT issuer_id, ${id} AS card_id FROM ${prefix}${table} ` +
      `WHERE (issuer_id, ${id}) > ($1, $2)${more} ORDER BY issuer_id, ${id} LIMIT $3) AS ${table}`
    const rows = await this.#database.read({
      sql:
        `${of('cards', 'card_id', '')} UNION ${of('seals', 'card_id', '')} UNION ` +
        `${of('counters', 'substr(key, 6)', " AND key >= 'card/' AND key < 'card0'")} UNION ` +
        `${of('counters', 'substr(key, 7)', " AND key >= 'tries/' AND key < 'tries0'")} ` +
        'ORDER BY issuer_id, card_id LIMIT $3',
      values: [after?.issuerId ?? '', after?.cardId ?? '', limit],
    })
    const page = rows.map(row => ({ issuerId: String(row['issuer_id']), cardId: String(row['card_id']) }))
    const groups = page.length === 0 ? [] : await this.#groups(page)
    const sealing = await Promise.all(
      groups.map(async group => {
        await this.#verify(group)
        if (group.seal !== undefined && this.sealer.isCurrent(group.seal)) return undefined
        return this.#sealing(group)
      }),
    )
    // Each by itself: one that somebody else wrote meanwhile is sealed already, and keeps no other from it.
    await Promise.all(sealing.flatMap(one => (one === undefined ? [] : this.#database.write([one]))))
    return page
  }

  /** See {@link RowSeals.resealRequests}. */
  async resealRequests({
    after = '',
    limit,
  }: {
    after?: string
    limit: number
  }): Promise<string | undefined> {
    const table = `${this.dialect.prefix}requests`
    const rows = await this.#database.read({
      sql:
        'SELECT digest, issuer_id, card_id, jwe_kid, accepted_at, mark, seal ' +
        `FROM ${table} WHERE digest > $1 ORDER BY digest LIMIT $2`,
      values: [Uint8Array.from(Buffer.from(after, 'hex')), limit],
    })
    const statements: SqlStatement[] = []
    for (const row of rows) {
      await verifyRequest(this.sealer, row)
      if (row['seal'] instanceof Uint8Array && this.sealer.isCurrent(row['seal'])) continue
      const seal = await this.sealer.seal(requestMessage(row))
      statements.push({
        sql: `UPDATE ${table} SET seal = $2 WHERE digest = $1 AND mark = $3`,
        values: [bytesOf(row['digest']), seal, String(row['mark'])],
      })
    }
    if (statements.length > 0) await this.#database.write(statements)
    const last = rows.at(-1)
    return last && toHex(bytesOf(last['digest']))
  }

  /** See {@link RowSeals.count}. */
  async count(): Promise<readonly SealCount[]> {
    const sql = `SELECT kid, COUNT(*) AS cards FROM ${this.dialect.prefix}seals GROUP BY kid ORDER BY kid`
    const rows = await this.#database.read({ sql, values: [] })
    return rows.map(({ kid, cards }) => ({ kid: String(kid), cards: Number(cards) }))
  }

  async #groups(cards: readonly CardRef[]): Promise<readonly Group[]> {
    const found = await this.#database.readTogether(cards.flatMap(card => this.#looking(card)))
    return cards.map((card, i) => groupOf(card, found.slice(ROWS * i, ROWS * i + ROWS)))
  }

  /** All columns, whatever they are: one that comes with a later version is sealed as well. */
  #looking({ issuerId, cardId }: CardRef): readonly SqlStatement[] {
    const { prefix } = this.dialect
    const of = (table: string): SqlStatement => ({
      sql: `SELECT * FROM ${prefix}${table} WHERE issuer_id = $1 AND card_id = $2`,
      values: [issuerId, cardId],
    })
    const counted = CARD_RECORDS.map(name => ({
      sql: `SELECT * FROM ${prefix}counters WHERE issuer_id = $1 AND key = $2`,
      values: [issuerId, name + cardId],
    }))
    return [of('cards'), of('pins'), ...counted, of('seals')]
  }

  async #verify(group: Group): Promise<void> {
    const { seal } = group
    if (seal === undefined) {
      if (this.sealer.acceptUnsealed || group.digests.every(digest => digest === '')) return
      throw wrongSeal('the rows of the card have no seal, and do')
    }
    const isRight = kidOf(seal) === group.kid && (await this.sealer.verify(messageOf(group), seal))
    if (!isRight) throw wrongSeal('the rows of the card do')
  }

  async #sealing(group: Group): Promise<SqlStatement> {
    const { ref, sequence } = group
    const seal = await this.sealer.seal(messageOf({ ...group, sequence: sequence + 1 }))
    const values: SqlValue[] = [ref.issuerId, ref.cardId, sequence + 1, seal, kidOf(seal)]
    const table = `${this.dialect.prefix}seals`
    const sql =
      sequence === 0
        ? `INSERT INTO ${table} (issuer_id, card_id, sequence, seal, kid) VALUES ($1, $2, $3, $4, $5) ` +
          'ON CONFLICT (issuer_id, card_id) DO NOTHING'
        : `UPDATE ${table} SET sequence = $3, seal = $4, kid = $5 ` +
          `WHERE issuer_id = $1 AND card_id = $2 AND sequence = $${values.push(sequence)}`
    return { sql, values, expect: 1 }
  }
}

/** What is looked at of a card: its row, its PIN, its records of the counter's store, its seal. */
const ROWS = 3 + CARD_RECORDS.length

/** Ends a rehearsal: its transaction is rolled back. */
const NEVER_MEANT: SqlStatement = { sql: 'SELECT 1 AS yes', values: [], expect: -1 }

/** The statement, to come out as it was rehearsed. */
function meant(statement: SqlStatement, rehearsed: SqlResult | undefined): SqlStatement {
  if (rehearsed === undefined || statement.sql.startsWith('SELECT')) return statement
  return { ...statement, expect: rehearsed.count }
}

/** Each card once, in an order that is the same for everybody: two that write several do not wait for each other. */
function cardsOf(statements: readonly SqlStatement[]): readonly CardRef[] {
  const cards = new Map(statements.flatMap(({ card }) => (card ? [[nameOf(card), card] as const] : [])))
  return byCard([...cards.values()], card => card)
}

function nameOf({ issuerId, cardId }: CardRef): string {
  return `${issuerId}/${cardId}`
}

function groupOf(ref: CardRef, found: readonly (readonly SqlRow[])[]): Group {
  const row = found[ROWS - 1]?.[0]
  return {
    ref,
    digests: found.slice(0, ROWS - 1).map(rows => digestOf(rows[0])),
    sequence: Number(row?.['sequence'] ?? 0),
    seal: row && bytesOf(row['seal']),
    kid: String(row?.['kid']),
  }
}

/** Of the names and values of all columns. */
function digestOf(row: SqlRow | undefined): string {
  if (row === undefined) return ''
  const columns = Object.entries(row)
    .map(([name, value]) => [name, value instanceof Uint8Array ? { hex: toHex(value) } : shown(value)])
    .sort(([a], [b]) => (String(a) < String(b) ? -1 : 1))
  return createHash('sha256').update(JSON.stringify(columns)).digest('hex')
}

/** A driver gives large numbers as text. */
function shown(value: unknown): string | null {
  return value === null ? null : String(value)
}

function messageOf({ ref: { issuerId, cardId }, sequence, digests }: Group): Uint8Array {
  return utf8Bytes(JSON.stringify(['issuer-pin-crypto rows', issuerId, cardId, sequence, ...digests]))
}

function bytesOf(value: unknown): Uint8Array {
  requireBytes(value, 'a column')
  return ownCopy(value)
}

/** The kid that a seal names. */
function kidOf(seal: Uint8Array): string {
  return Buffer.from(seal.subarray(2, 2 + Number(seal[1]))).toString()
}

/** What the seal of a Set PIN request is over. */
export function requestMessage(row: SqlRow): Uint8Array {
  const { digest, issuer_id, card_id, jwe_kid, accepted_at, mark } = row
  const values = [issuer_id, card_id, jwe_kid, accepted_at, mark].map(shown)
  return utf8Bytes(JSON.stringify(['issuer-pin-crypto request', toHex(bytesOf(digest)), ...values]))
}

/** Throws unless the record of a request is as it was written: a forged one would have a request taken for a repeated one. */
export async function verifyRequest(sealer: RowSealer, row: SqlRow): Promise<void> {
  const { seal } = row
  if (!(seal instanceof Uint8Array)) {
    if (sealer.acceptUnsealed) return
    throw wrongSeal('the record of the request has no seal, and does')
  }
  if (!(await sealer.verify(requestMessage(row), seal))) throw wrongSeal('the record of the request does')
}
