/** Repeated, delayed, duplicated, misdirected: a short run of each store, whose seed differs from run to run and is shown. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type IssuerStore, openSqliteIssuerStore, panSealer } from '../../../src/sqlite.js'
import { memoryIssuerStore } from '../../../src/stores/memory.js'
import { AVAILABLE } from '../../stores/drivers.js'
import { SEAL_KEY } from '../../stores/store-fixtures.js'
import { runRepeats, showRepeats } from './support/repeats.js'

const seed = Date.now() % 2 ** 31
let folder = ''
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ipc-repeats-'))
})
afterAll(() => rm(folder, { recursive: true }))

test.each([1, seed])('memory: 0 PINs lost or resurrected (seed %i)', async run => {
  await using store = memoryIssuerStore()
  const result = await runRepeats({ seed: run, steps: 300, stores: [store, store] })
  expect(result.wrong, showRepeats('memory', result)).toEqual([])
  for (const name of ['accepted', 'refused', 'failed', 'misdirected', 'hung', 'others'] as const) {
    expect(result[name], name).toBeGreaterThan(0)
  }
})

test.each(AVAILABLE)('SQLite by %s, two handles: 0 PINs lost or resurrected', async driver => {
  const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: SEAL_KEY }] })
  const path = join(folder, `${driver.replace(':', '-')}.db`)
  const open = () => openSqliteIssuerStore({ path, driver, panSealer: sealer, executor: 'inline' })
  await using one = await open()
  await using other = await open()
  const result = await runRepeats({ seed, steps: 150, stores: [one, other] })
  expect(result.wrong, showRepeats(driver, result)).toEqual([])
})

test('the oracle notices where the revision of a card says nothing of its PIN', async () => {
  const found: string[] = []
  for (let run = 1; run <= 20 && found.length === 0; run++) {
    await using store = memoryIssuerStore()
    const blind: IssuerStore = {
      ...store,
      pins: store.pins,
      counters: issuerId => store.counters(issuerId),
      close: () => store.close(),
      [Symbol.asyncDispose]: () => store.close(),
      cards: {
        ...store.cards,
        find: async (card, options) => {
          const { revision: _, ...rest } = (await store.cards.find(card, options)) ?? expect.fail('no card')
          return rest
        },
      },
    }
    found.push(...(await runRepeats({ seed: run, steps: 300, stores: [blind, blind] })).wrong)
  }
  expect(found.join()).toMatch(/lost|resurrected/)
})
