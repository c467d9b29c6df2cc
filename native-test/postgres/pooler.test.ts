/** The same contract through PgBouncer, pooling transactions; and what its waits and stops look like from here. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Client } from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Pan } from '../../src/index.js'
import { openPostgresIssuerStore, type PostgresIssuerStore, panSealer } from '../../src/postgres.js'
import { issuerStoreContract } from '../../src/testing.js'
import { ISSUER, prwOf, SEAL_KEY } from '../../test/stores/store-fixtures.js'
import { failure } from '../../test/support/errors.js'
import { describePostgres, Pooler } from '../postgres.js'

const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: SEAL_KEY }] })
const CARD = { issuerId: ISSUER, cardId: 'card-0001' }
const RECORD = { state: 'active', pan: Pan.from('9999990123456789'), setPinTypes: ['ISO0'] } as const

describePostgres('issuer stores: PgBouncer', server => {
  const pooler = new Pooler(server)
  let schemas = 0
  const newSchema = (): string => `pooled_${++schemas}`
  const open = (schema: string, more: object = {}): Promise<PostgresIssuerStore> => {
    const { connectionString } = pooler
    return openPostgresIssuerStore({ connectionString, schema, panSealer: sealer, max: 6, ...more })
  }
  beforeAll(async () => {
    if (!Pooler.isThere())
      throw new Error('PgBouncer is missing; install it with: sudo apt-get install pgbouncer')
    await pooler.start()
  })
  afterAll(() => pooler.remove())

  const contract = issuerStoreContract({
    durable: true,
    open: async () => {
      const schema = newSchema()
      const [one, other] = [await open(schema), await open(schema)]
      const stored = async (): Promise<Uint8Array> => {
        await server.query('CHECKPOINT')
        const { rows } = await server.query(
          'SELECT pg_relation_filepath(oid) AS path FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind = $2',
          [schema, 'r'],
        )
        const files = rows.map(({ path }) => readFile(join(server.folder, 'data', String(path))))
        return Buffer.concat(await Promise.all(files))
      }
      return { one, other, reopen: () => open(schema), stored }
    },
  })
  test.each(contract)('$name', ({ run }) => run())

  test('each transaction has its times, and leaves none to the next client', async () => {
    const schema = newSchema()
    await using store = await open(schema, { timeoutMs: 4321 })
    await server.query(`CREATE TABLE ${schema}.seen (times text)`)
    await server.query(`CREATE FUNCTION ${schema}.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      INSERT INTO ${schema}.seen VALUES (current_setting('statement_timeout')); RETURN NEW; END $$`)
    await server.query(
      `CREATE TRIGGER note AFTER INSERT ON ${schema}.cards EXECUTE FUNCTION ${schema}.note()`,
    )
    await store.cards.put(CARD, RECORD)
    expect((await server.query(`SELECT times FROM ${schema}.seen`)).rows).toEqual([{ times: '4321ms' }])
    // Both connections that the pooler has to this server: what was set for a session would be the next client's.
    const { connectionString } = pooler
    const others = Array.from({ length: 2 }, () => new Client({ connectionString }))
    try {
      await Promise.all(others.map(other => other.connect()))
      const ask =
        "SELECT current_setting('statement_timeout') AS times, count(*) AS named FROM pg_prepared_statements"
      const answers = await Promise.all(others.map(other => other.query(`BEGIN; ${ask}`)))
      for (const answer of answers) expect([answer].flat().at(-1)?.rows).toEqual([{ times: '0', named: '0' }])
    } finally {
      await Promise.all(others.map(other => other.end()))
    }
  })

  test('paused, stopped and back again: refused retryably, then served', async () => {
    await using store = await open(newSchema(), { timeoutMs: 6000 })
    await store.cards.put(CARD, RECORD)
    await pooler.command('PAUSE')
    const paused = await failure(() => store.cards.find(CARD), 'ERR_BACKEND_BUSY')
    expect(paused.retryable).toBe(true)
    expect(paused.message).toContain('the pooler has no connection (08P01)')
    await pooler.command('RESUME')
    await store.pins.storePrw(CARD, prwOf(1))
    await pooler.stop()
    const stopped = await failure(() => store.cards.find(CARD), 'ERR_BACKEND_BUSY')
    expect(stopped.retryable).toBe(true)
    await pooler.start()
    await expect
      .poll(() =>
        store.pins.readPrw(CARD).then(
          prw => prw?.sequence,
          () => undefined,
        ),
      )
      .toBe(1)
  })

  test('a pooler without TLS says so, where TLS is asked for', async () => {
    const error = await failure(() => open(newSchema(), { ssl: true }), 'ERR_BACKEND_FAILED')
    expect(error.message).toContain('takes no TLS')
  })
})
