/** Histories of a card's ledger against the model, in memory and in SQLite, sealed and not (PostgreSQL: `native-test`). */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { memoryIssuerStore } from '../../src/d1.js'
import { softwareBackend } from '../../src/software.js'
import {
  type IssuerStore,
  openSqliteIssuerStore,
  panSealer,
  type RowSealer,
  rowSealer,
} from '../../src/sqlite.js'
import { AVAILABLE } from './drivers.js'
import { expectHistories, expectHistoriesOn, type World } from './history.js'
import { SEAL_KEY } from './store-fixtures.js'

const folder = mkdtempSync(join(tmpdir(), 'history-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
/** Another one each day finds more than one that never changes; a failure prints it. */
const seed = Number(process.env['HISTORY_SEED'] ?? Math.floor(Date.now() / 86_400_000))

test('in memory', async () => {
  const store = memoryIssuerStore()
  await expectHistories({ handles: [store, store], reopen: async () => [store, store] }, { runs: 150, seed })
})

test('the model notices a store that is wrong', async () => {
  const store = memoryIssuerStore()
  // Writes each PRW, whatever its sequence, and none of the second one's.
  const pins = { ...store.pins, storePrw: async () => {} }
  const wrong = { ...store, pins } as unknown as IssuerStore
  const other = Object.assign(Object.create(store), wrong)
  const world: World = { handles: [other, other], reopen: async () => [other, other] }
  await expect(expectHistories(world, { runs: 100, seed: 1 })).rejects.toMatchObject({
    cause: expect.objectContaining({ message: expect.stringContaining('prw') }),
  })
})

test.each(AVAILABLE.flatMap(driver => [[driver, 'unsealed'] as const, [driver, 'sealed'] as const]))(
  'in SQLite: %s, %s',
  async (driver, how) => {
    const material = '1A'.repeat(16)
    const backend = await softwareBackend({
      keys: [{ kid: 'R', usage: 'cmac', algorithm: 'aes-128', material }],
    })
    const rows: RowSealer = rowSealer({ keys: [await backend.bind({ kid: 'R', usage: 'cmac' })] })
    const path = join(folder, `${driver.replace(':', '-')}-${how}.db`)
    const open = (): Promise<IssuerStore> =>
      openSqliteIssuerStore({
        path,
        driver,
        executor: 'inline',
        panSealer: panSealer({ keys: [{ kid: 'PAN-1', key: SEAL_KEY }] }),
        ...(how === 'sealed' && { rowSealer: rows }),
      })
    await expectHistoriesOn(open, { runs: how === 'sealed' ? 8 : 20, seed })
    await backend.close()
  },
)
