/** The contract of the issuer's stores on PostgreSQL, and what processes and crashes do to it. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type IssuerStore, openPostgresIssuerStore, panSealer } from '../../src/postgres.js'
import { issuerStoreContract } from '../../src/testing.js'
import { expectHistoriesOn } from '../../test/stores/history.js'
import {
  expectWritten,
  killWriter,
  raceTwoProcesses,
  SEAL_KEY,
  StoreChild,
} from '../../test/stores/store-fixtures.js'
import { describePostgres, type PostgresServer } from '../postgres.js'

const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: SEAL_KEY }] })

describePostgres('issuer stores: PostgreSQL', server => {
  let schemas = 0
  const newSchema = (): string => `contract_${++schemas}`
  const open = (schema: string): Promise<IssuerStore> => {
    const { connectionString } = server
    return openPostgresIssuerStore({ connectionString, schema, panSealer: sealer, max: 4 })
  }

  const contract = issuerStoreContract({
    durable: true,
    open: async () => {
      const schema = newSchema()
      const [one, other] = [await open(schema), await open(schema)]
      return { one, other, reopen: () => open(schema), stored: () => filesOf(server, schema) }
    },
  })
  test.each(contract)('$name', ({ run }) => run())

  test('histories of a card against the model', async () => {
    const schema = newSchema()
    await expectHistoriesOn(() => open(schema), { runs: 4, seed: Number(process.env['HISTORY_SEED'] ?? 1) })
  })

  describe('processes', () => {
    test('two race for each intdatag: one is accepted, the other refused', async () => {
      const schema = newSchema()
      await using store = await open(schema)
      await raceTwoProcesses(store, { connectionString: server.connectionString, schema }, 25)
    })

    test('what a process acknowledged before it was killed is there', async () => {
      const schema = newSchema()
      const last = await killWriter({ connectionString: server.connectionString, schema }, 40)
      await using store = await open(schema)
      await expectWritten(store, last)
    })

    test('what was acknowledged before the server crashed is there', async () => {
      const schema = newSchema()
      const child = new StoreChild({ connectionString: server.connectionString, schema }, 'write')
      expect(await child.next()).toBe('ready')
      child.go()
      while (Number(await child.next()) < 40) {
        // Each line is a write that was acknowledged.
      }
      // The writer loses its server and ends with an error, or is ended.
      await server.stop('SIGQUIT')
      child.kill()
      const last = Number((await child.rest()).at(-1) ?? 40)
      await server.start()
      await using store = await open(schema)
      await expectWritten(store, last)
    })

    test('that open a new database at once all succeed', async () => {
      const schema = newSchema()
      const { connectionString } = server
      const children = Array.from({ length: 4 }, () => new StoreChild({ connectionString, schema }, 'open'))
      for (const child of children) expect(await child.next()).toBe('ready')
      for (const child of children) child.go()
      for (const child of children) expect(await child.rest()).toEqual(['open'])
      const { rows } = await server.query(`SELECT version FROM ${schema}.versions`)
      expect(rows).toEqual([{ version: 1 }])
    })
  })
})

/** The files of the tables as they stand on the disk. */
async function filesOf(server: PostgresServer, schema: string): Promise<Uint8Array> {
  await server.query('CHECKPOINT')
  const { rows } = await server.query(
    'SELECT pg_relation_filepath(oid) AS path FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind = $2',
    [schema, 'r'],
  )
  const files = rows.map(({ path }) => readFile(join(server.folder, 'data', String(path))))
  return Buffer.concat(await Promise.all(files))
}
