/**
 * Bulk writes that meet: of two that hold some of the same cards, in other orders, each gets its turn. A server that has
 * to end one of them (a deadlock) would have a list that failed half-way, for no fault of whoever wrote it.
 */
import { afterEach, describe, expect, test } from 'vitest'
import { Pan } from '../../src/index.js'
import { type IssuerStore, openPostgresIssuerStore, panSealer, rowSealer } from '../../src/postgres.js'
import { softwareBackend } from '../../src/software.js'
import { blockOf, ISSUER, SEAL_KEY } from '../../test/stores/store-fixtures.js'
import { describePostgres } from '../postgres.js'

const CARDS = 150
const ROUNDS = 12
const WHOLE = new Set(['stored'])
const RECORD = { state: 'active', pan: Pan.from('9999990123456789'), setPinTypes: ['ISO0'] } as const

describePostgres('bulk writes that meet', server => {
  const closing: { close(): Promise<void> }[] = []
  afterEach(async () => {
    for (const one of closing.splice(0)) await one.close()
  })
  const open = async (schema: string, isSealed: boolean): Promise<IssuerStore> => {
    const backend = await softwareBackend({
      keys: [{ kid: 'ROWS-1', usage: 'cmac', algorithm: 'aes-128', material: '1A'.repeat(16) }],
    })
    const key = await backend.bind({ kid: 'ROWS-1', usage: 'cmac' })
    const store = await openPostgresIssuerStore({
      connectionString: server.connectionString,
      schema,
      panSealer: panSealer({ keys: [{ kid: 'PAN-1', key: SEAL_KEY }] }),
      timeoutMs: 60_000,
      ...(isSealed && { rowSealer: rowSealer({ keys: [key] }) }),
    })
    closing.push(store, backend)
    return store
  }
  const deadlocks = async (): Promise<number> => {
    // What a process of the server has counted is there once it has told it.
    await server.query('SELECT pg_stat_force_next_flush()')
    const { rows } = await server.query(
      'SELECT deadlocks::int AS n FROM pg_stat_database WHERE datname = current_database()',
    )
    return Number(rows[0]?.n)
  }

  const names = Array.from({ length: CARDS }, (_, i) => `card-${String(i).padStart(4, '0')}`)
  const cardsOf = (list: readonly string[]) => list.map(cardId => ({ issuerId: ISSUER, cardId }))
  /** Each round in another order. */
  const orders = (round: number): readonly (readonly string[])[] => {
    const turned = [...names.slice(round * 7), ...names.slice(0, round * 7)]
    return [
      turned,
      turned.toReversed(),
      names.toSorted((a, b) => ((a.at(-1) ?? '') < (b.at(-1) ?? '') ? -1 : 1)),
    ]
  }
  const outcomes = async (results: AsyncIterable<{ outcome: string }>): Promise<ReadonlySet<string>> => {
    const found = new Set<string>()
    for await (const { outcome } of results) found.add(outcome)
    return found
  }

  describe.each([
    ['at once', false],
    ['one by one, sealed', true],
  ])('%s', (_, isSealed) => {
    test('cards, blocks and blocks that are replaced: no deadlock, and each list is taken whole', async () => {
      // Two processes' stores: what one store keeps apart itself (seals) is not what is tried.
      const schema = isSealed ? 'order_sealed' : 'order_at_once'
      const stores = [
        await open(schema, isSealed),
        await open(schema, isSealed),
        await open(schema, isSealed),
      ]
      const pins = stores[0]?.pins ?? expect.fail()
      const before = await deadlocks()
      const rounds = isSealed ? 2 : ROUNDS
      for (let round = 0; round < rounds; round++) {
        const put = await Promise.all(
          orders(round).map((list, i) =>
            outcomes(
              stores[i]?.cards.putMany(cardsOf(list).map(card => ({ card, record: RECORD }))) ??
                expect.fail(),
            ),
          ),
        )
        expect(put).toEqual([WHOLE, WHOLE, WHOLE])
        const stored = await Promise.all(
          orders(round).map((list, i) =>
            outcomes(
              stores[i]?.pins.storeBlocks(cardsOf(list).map(card => ({ card, pin: blockOf(1) }))) ??
                expect.fail(),
            ),
          ),
        )
        expect(stored).toEqual([WHOLE, WHOLE, WHOLE])
        const { kid } = blockOf(1)
        const listed = await pins.listBlocks({ kid, limit: CARDS })
        expect(listed).toHaveLength(CARDS)
        const replacing = listed.map(({ card, version }) => ({ card, pin: blockOf(2), version }))
        const replaced = await Promise.all([
          pins.replaceBlocks(replacing),
          stores[1]?.pins.replaceBlocks(replacing.toReversed()) ?? [],
          outcomes(
            stores[2]?.pins.storeBlocks(cardsOf(names).map(card => ({ card, pin: blockOf(3) }))) ??
              expect.fail(),
          ),
        ])
        expect(replaced[2]).toEqual(WHOLE)
        // Each is replaced by one of them at most; what was stored in between is another version.
        const twice = replaced[0].filter((done, i) => done && replaced[1].toReversed()[i] === true)
        expect(twice).toEqual([])
      }
      expect(await deadlocks()).toBe(before)
    })
  })
})
