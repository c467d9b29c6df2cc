/** Rows that cannot be forged, in PostgreSQL. */
import { readFile } from 'node:fs/promises'
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Backend, Key } from '../../src/index.js'
import { openPostgresIssuerStore, panSealer, rowSealer } from '../../src/postgres.js'
import { softwareBackend } from '../../src/software.js'
import { issuerStoreContract } from '../../src/testing.js'
import { expectForgeriesNoticed, expectRequestsSealed, type Forgery } from '../../test/stores/forge.js'
import { expectHistoriesOn } from '../../test/stores/history.js'
import { SEAL_KEY } from '../../test/stores/store-fixtures.js'
import { describePostgres } from '../postgres.js'

describePostgres('sealed rows: PostgreSQL', server => {
  const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: SEAL_KEY }] })
  let backend: Backend
  let key: Key
  let schemas = 0
  beforeAll(async () => {
    const material = '1A'.repeat(16)
    backend = await softwareBackend({
      keys: [{ kid: 'ROWS-1', usage: 'cmac', algorithm: 'aes-128', material }],
    })
    key = await backend.bind({ kid: 'ROWS-1', usage: 'cmac' })
  })
  afterAll(() => backend.close())
  const open = (schema: string) => {
    const { connectionString } = server
    return openPostgresIssuerStore({
      connectionString,
      schema,
      panSealer: sealer,
      rowSealer: rowSealer({ keys: [key] }),
      max: 4,
      timeoutMs: 30_000,
    })
  }

  const contract = issuerStoreContract({
    durable: true,
    open: async () => {
      const schema = `sealed_${++schemas}`
      const [one, other] = [await open(schema), await open(schema)]
      const stored = () => readFile('/dev/null')
      return { one, other, reopen: () => open(schema), stored }
    },
    // The whole of it runs on SQLite: the statements are the same, transactions and types are not.
  }).filter(
    ({ name }) =>
      /at once|replica|same moment|block|request/.test(name) && !name.startsWith('change counter'),
  )
  test.each(contract)('$name', ({ run }) => run())

  test('histories of many steps and epochs: each is what the model says', async () => {
    const schema = `sealed_${++schemas}`
    await expectHistoriesOn(() => open(schema), { runs: 4, seed: Number(process.env['HISTORY_SEED'] ?? 1) })
  })

  test('every forged, copied, older or missing row is noticed, and so is the record of a request', async () => {
    const schema = `sealed_${++schemas}`
    await using store = await open(schema)
    const client = new pg.Client({ connectionString: server.connectionString })
    await client.connect()
    try {
      const sql: Forgery['sql'] = async (text, values = []) => (await client.query(text, [...values])).rows
      const forgery = { store, sql, prefix: `${schema}.` }
      const noticed = await expectForgeriesNoticed(forgery)
      for (const table of ['cards', 'pins', 'counters', 'seals'])
        expect(noticed.filter(what => what.startsWith(table)).length).toBeGreaterThan(6)
      await expectRequestsSealed(forgery)
    } finally {
      await client.end()
    }
  })
})
