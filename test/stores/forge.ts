/**
 * Forgeries: what a writer of the database without the key may try with the rows of cards, on any database. Each is made
 * by SQL past the store, looked at through the store, and undone.
 */
import { createHash } from 'node:crypto'
import { expect } from 'vitest'
import { resealRows } from '../../src/d1.js'
import { type ChangeCounter, Pan, TryCounter } from '../../src/index.js'
import type { IssuerStore } from '../../src/sqlite.js'
import { failure } from '../support/errors.js'
import { blockOf, counterOn, ISSUER, prwOf } from './store-fixtures.js'

type Row = Record<string, unknown>

/** SQL past the store; values are `$1`, `$2`, … */
export type Sql = (text: string, values?: readonly unknown[]) => Promise<readonly Row[]>

/** The database under test, sealed. */
export interface Forgery {
  readonly store: IssuerStore
  readonly sql: Sql
  /** Before the name of a table. */
  readonly prefix: string
}

const RECORD = { state: 'active', pan: Pan.from('9999990123456789'), setPinTypes: ['ISO0'] } as const
const [A, B, C, D] = ['card-a', 'card-b', 'card-c', 'card-d'].map(cardId => ({ issuerId: ISSUER, cardId }))
const CARDS = [A, B, C, D].flatMap(card => card ?? [])
/** `tries`: rows of the table of counters, too. */
const TABLES = ['cards', 'pins', 'counters', 'tries', 'seals'] as const
type Table = (typeof TABLES)[number]
type Snapshot = Readonly<Record<Table, ReadonlyMap<string, Row>>>
const NAMES = new Set(['issuer_id', 'card_id', 'key'])

const digestOf = (text: string): Uint8Array => Uint8Array.from(createHash('sha256').update(text).digest())
const requestOf = (text: string, jweKid = 'JWE-1') => ({ digest: digestOf(text), jweKid, acceptedAt: 1 })
const plain = (value: unknown): string =>
  value instanceof Uint8Array ? Buffer.from(value).toString('hex') : String(value)

function triesOn(store: IssuerStore): TryCounter {
  const products = { classic: { limit: 99, afterSuccess: 'reset' } } as const
  return new TryCounter({ store: store.counters(ISSUER), products })
}

async function setSeccosPin(
  store: IssuerStore,
  counter: ChangeCounter,
  card: (typeof CARDS)[number],
  mark: number,
) {
  const { pcc, intdatag } = await counter.issue({ cardId: card.cardId })
  const fingerprint = new Uint8Array(32).fill(mark)
  await counter.accept({
    request: { cardId: card.cardId, pcc, intdatag, fingerprint },
    store: ({ sequence }) => store.pins.storePrw(card, prwOf(sequence, mark)),
  })
}

/** Two cards with PRWs, two with blocks; each with a counter, and tries. */
async function setPins(store: IssuerStore, round: number): Promise<void> {
  const counter = counterOn(store)
  for (const [i, card] of CARDS.entries()) {
    await store.cards.put(card, { ...RECORD, state: round === 1 ? 'active' : 'not-active' })
    await setSeccosPin(store, counter, card, 10 * round + i)
    for (let tries = 0; tries <= i; tries++)
      await triesOn(store).begin({ cardId: card.cardId, product: 'classic' })
    if (i >= 2) await store.pins.acceptBlock(card, blockOf(10 * round + i), requestOf(`${round}/${i}`))
  }
}

/** Every forgery of one column or one row that the tables admit is noticed, by whoever reads, writes, or verifies all there is. */
export async function expectForgeriesNoticed({ store, sql, prefix }: Forgery): Promise<readonly string[]> {
  const before: Partial<Record<Table, string>> = { counters: 'card/', tries: 'tries/' }
  const idOf = (table: Table): string => (before[table] === undefined ? 'card_id' : 'key')
  const keyOf = (table: Table, cardId: string): string => (before[table] ?? '') + cardId
  const nameOf = (table: Table): string => prefix + (table === 'tries' ? 'counters' : table)
  const snapshot = async (): Promise<Snapshot> => {
    const tables = {} as Record<Table, Map<string, Row>>
    for (const table of TABLES) {
      const rows = await sql(`SELECT * FROM ${nameOf(table)} WHERE issuer_id = $1`, [ISSUER])
      const start = before[table] ?? ''
      const own = rows.filter(row => String(row[idOf(table)]).startsWith(start))
      tables[table] = new Map(own.map(row => [String(row[idOf(table)]).slice(start.length), row]))
    }
    return tables
  }
  const write = async (table: Table, cardId: string, row: Row | undefined): Promise<void> => {
    const where = [ISSUER, keyOf(table, cardId)]
    if (row === undefined) {
      await sql(`DELETE FROM ${nameOf(table)} WHERE issuer_id = $1 AND ${idOf(table)} = $2`, where)
      return
    }
    const columns = Object.keys(row).filter(column => !NAMES.has(column))
    const values = columns.map(column => row[column])
    const sets = columns.map((column, i) => `${column} = $${i + 3}`).join(', ')
    const places = columns.map((_, i) => `$${i + 3}`).join(', ')
    await sql(
      `INSERT INTO ${nameOf(table)} (issuer_id, ${idOf(table)}, ${columns.join(', ')}) VALUES ($1, $2, ${places}) ` +
        `ON CONFLICT (issuer_id, ${idOf(table)}) DO UPDATE SET ${sets}`,
      [...where, ...values],
    )
  }

  await setPins(store, 1)
  const old = await snapshot()
  await setPins(store, 2)
  const now = await snapshot()
  const noticed: string[] = []

  const look = async (cardId: string, what: string): Promise<void> => {
    const card = { issuerId: ISSUER, cardId }
    const calls = [
      () => store.cards.find(card),
      () => store.pins.readBlock(card),
      () => store.pins.readPrw(card),
      () => counterOn(store).issue({ cardId }),
      () => triesOn(store).begin({ cardId, product: 'classic' }),
      () => triesOn(store).left({ cardId, product: 'classic' }),
      () => store.pins.storeBlock(card, blockOf(99)),
      () => store.pins.acceptBlock(card, blockOf(99), requestOf('new')),
      () => store.pins.replaceBlocks([{ card, pin: blockOf(99), version: 'any' }]),
      () => store.pins.storePrw(card, prwOf(99)),
      () => store.cards.setState(card, 'active'),
      // Sealed under the key of now as it is: a run over the whole database is to look at it all the same.
      () => resealRows({ store }),
    ]
    for (const call of calls) {
      const { message } = await failure(call, 'ERR_BACKEND_FAILED').catch(() => expect.unreachable(what))
      expect([what, message]).toEqual([what, expect.stringContaining('seal')])
    }
    noticed.push(what)
  }
  const forge = async (table: Table, cardId: string, row: Row | undefined, what: string): Promise<void> => {
    // A PIN refers to its card, and goes with it.
    const restored = table === 'cards' && row === undefined ? (['cards', 'pins'] as const) : [table]
    await write(table, cardId, row)
    await look(cardId, what)
    for (const name of restored) await write(name, cardId, now[name].get(cardId))
  }

  for (const table of TABLES) {
    for (const [cardId, other] of [
      ['card-a', 'card-b'],
      ['card-c', 'card-d'],
    ] as const) {
      const row = now[table].get(cardId) ?? expect.unreachable()
      const sources = { 'brought back': old[table].get(cardId), copied: now[table].get(other) }
      for (const [how, source] of Object.entries(sources)) {
        const from = source ?? expect.unreachable()
        await forge(table, cardId, from, `${table} of ${cardId}: the row ${how}`)
        for (const column of Object.keys(row)) {
          if (NAMES.has(column) || plain(row[column]) === plain(from[column])) continue
          await forge(
            table,
            cardId,
            { ...row, [column]: from[column] },
            `${table}.${column} of ${cardId}: ${how}`,
          )
        }
      }
      // What is alike in all rows: a counter that a purge would take, a seal that is counted under another key.
      const alike = { counters: { expires_at: 1 }, tries: { expires_at: 1 }, seals: { kid: 'ROWS-9' } }
      for (const [name, change] of Object.entries(alike)) {
        if (name === table)
          await forge(table, cardId, { ...row, ...change }, `${table} of ${cardId}: changed`)
      }
      await forge(table, cardId, undefined, `${table} of ${cardId}: the row deleted`)
    }
  }
  // Undone, everything reads.
  for (const card of CARDS) expect((await store.cards.find(card))?.state).toBe('not-active')

  // What remains, and is said: all rows of a card, with their seal.
  for (const table of TABLES) await write(table, 'card-a', old[table].get('card-a'))
  expect((await store.cards.find(CARDS[0] ?? expect.unreachable()))?.state).toBe('active')
  return noticed
}

/** The record of a request is as it was written, or the request is an operator's matter. */
export async function expectRequestsSealed({ store, sql, prefix }: Forgery): Promise<void> {
  const [card, other] = [
    { issuerId: ISSUER, cardId: 'card-r' },
    { issuerId: ISSUER, cardId: 'card-s' },
  ]
  await store.cards.put(card, RECORD)
  await store.cards.put(other, RECORD)
  await store.pins.acceptBlock(card, blockOf(1), requestOf('r'))
  await store.pins.acceptBlock(other, blockOf(2), requestOf('s'))
  const again = () => store.pins.acceptBlock(card, blockOf(1), requestOf('r'))
  const isKnown = (name: string) => async () => store.pins.knowsRequest?.(requestOf(name).digest)
  expect(await again()).toEqual({ outcome: 'replayed', current: true })
  expect([await isKnown('r')(), await isKnown('none')()]).toEqual([true, false])
  const digest = requestOf('r').digest
  const [row] = await sql(`SELECT * FROM ${prefix}requests WHERE digest = $1`, [digest])
  const [foreign] = await sql(`SELECT * FROM ${prefix}requests WHERE digest = $1`, [requestOf('s').digest])
  for (const column of ['issuer_id', 'card_id', 'jwe_kid', 'accepted_at', 'mark', 'seal']) {
    const value = row?.[column]
    const forged =
      column === 'accepted_at'
        ? 2
        : column === 'jwe_kid'
          ? 'JWE-2'
          : column === 'issuer_id'
            ? 'is_tbank02'
            : foreign?.[column]
    for (const put of column === 'seal' ? [forged, null] : [forged]) {
      await sql(`UPDATE ${prefix}requests SET ${column} = $1 WHERE digest = $2`, [put, digest])
      for (const call of [again, isKnown('r'), () => resealRows({ store })]) {
        const { message } = await failure(call, 'ERR_BACKEND_FAILED')
        expect([column, message]).toEqual([column, expect.stringContaining('seal')])
      }
      await sql(`UPDATE ${prefix}requests SET ${column} = $1 WHERE digest = $2`, [value, digest])
    }
  }
  // A record that was made up would have a request that was never seen answered as done.
  await sql(
    `INSERT INTO ${prefix}requests (digest, issuer_id, card_id, jwe_kid, accepted_at, mark, seal) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
    [requestOf('new').digest, ISSUER, 'card-r', 'JWE-1', 1, 'made-up', row?.['seal']],
  )
  await failure(() => store.pins.acceptBlock(card, blockOf(3), requestOf('new')), 'ERR_BACKEND_FAILED')
  await failure(isKnown('new'), 'ERR_BACKEND_FAILED')
  expect(await store.pins.readBlock(card)).toEqual(blockOf(1))
  expect(await again()).toEqual({ outcome: 'replayed', current: true })
}
