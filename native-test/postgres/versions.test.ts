/** The tables of a PostgreSQL schema, version by version, and who may make them. */
import { expect, test } from 'vitest'
import { Pan } from '../../src/index.js'
import { type IssuerStore, openPostgresIssuerStore, panSealer } from '../../src/postgres.js'
import { PostgresDatabase } from '../../src/stores/postgres/database.js'
import { postgresPlan } from '../../src/stores/postgres/issuer-store.js'
import { makePool } from '../../src/stores/postgres/pool.js'
import { type MigrationPlan, migrate } from '../../src/stores/sql/database.js'
import { blockOf, counterOn, ISSUER, SEAL_KEY } from '../../test/stores/store-fixtures.js'
import { failure } from '../../test/support/errors.js'
import { describePostgres } from '../postgres.js'

const CARD = { issuerId: ISSUER, cardId: 'card-0001' }
const RECORD = { state: 'active', pan: Pan.from('9999990123456789'), setPinTypes: ['ISO0'] } as const
const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: SEAL_KEY }] })

describePostgres('issuer stores: PostgreSQL, versions', server => {
  let schemas = 0
  const newSchema = (): string => `versions_${++schemas}`
  const open = (schema: string, more: object = {}): Promise<IssuerStore> => {
    const { connectionString } = server
    return openPostgresIssuerStore({ connectionString, schema, panSealer: sealer, ...more })
  }
  const versionsOf = async (schema: string) =>
    (await server.query(`SELECT version FROM ${schema}.versions ORDER BY version`)).rows.map(
      row => row.version,
    )

  test('a new schema gets every version, and opening it again adds none', async () => {
    const schema = newSchema()
    for (let i = 0; i < 2; i++) {
      await using store = await open(schema)
      await store.cards.put(CARD, RECORD)
      expect(await versionsOf(schema)).toEqual([1])
    }
  })

  test('the schema is issuer_pin where none is named', async () => {
    await using store = await openPostgresIssuerStore({
      connectionString: server.connectionString,
      panSealer: sealer,
    })
    await store.cards.put(CARD, RECORD)
    expect(await versionsOf('issuer_pin')).toEqual([1])
  })

  test('a schema of a later version is refused', async () => {
    const schema = newSchema()
    await (await open(schema)).close()
    await server.query(`INSERT INTO ${schema}.versions VALUES (2, 0)`)
    const { message } = await failure(() => open(schema), 'ERR_UNSUPPORTED')
    expect(message).toBe('the database is of version 2, and this library knows versions up to 1: update it')
  })

  test('replicas that start at once make the tables once', async () => {
    const schema = newSchema()
    const stores = await Promise.all(Array.from({ length: 6 }, () => open(schema, { max: 1 })))
    await Promise.all(stores.map(store => store.close()))
    expect(await versionsOf(schema)).toEqual([1])
  })

  test('a migration that fails leaves nothing behind', async () => {
    const schema = newSchema()
    await server.query(`CREATE SCHEMA ${schema} CREATE TABLE pins (other text)`)
    const { message } = await failure(() => open(schema), 'ERR_BACKEND_FAILED')
    expect(message).toBe('the database failed (42P07)')
    const { rows } = await server.query('SELECT tablename FROM pg_tables WHERE schemaname = $1', [schema])
    expect(rows).toEqual([{ tablename: 'pins' }])
  })

  test('the data of each version is there after the next, where two replicas migrate at once', async () => {
    const schema = newSchema()
    const store = await open(schema)
    await store.cards.put(CARD, RECORD)
    await store.pins.storeBlock(CARD, blockOf(1))
    await counterOn(store).issue({ cardId: CARD.cardId })
    await store.close()
    const plan = postgresPlan(schema, 20_000)
    const next: MigrationPlan = {
      ...plan,
      migrations: [
        ...plan.migrations,
        `ALTER TABLE "${schema}".cards ADD COLUMN note text NOT NULL DEFAULT 'none'`,
        `UPDATE "${schema}".cards SET note = note || '!'`,
      ],
    }
    const upgrade = async (): Promise<void> => {
      const pool = await makePool({ connectionString: server.connectionString }, 20_000)
      const database = new PostgresDatabase({
        pool,
        reserve: pool,
        ownsPool: true,
        prefix: '',
        timeoutMs: 20_000,
        durability: 'local',
      })
      await database.session(20_000, session => migrate(session, next))
      await database.close()
    }
    await Promise.all([upgrade(), upgrade(), upgrade()])
    expect(await versionsOf(schema)).toEqual([1, 2, 3])
    const { rows } = await server.query(
      `SELECT note, kid FROM ${schema}.cards JOIN ${schema}.pins USING (card_id)`,
    )
    expect(rows).toEqual([{ note: 'none!', kid: 'PEK-STORE' }])
  })

  test('a role that may not create anything serves, once the tables are there', async () => {
    const schema = newSchema()
    await server.query(`CREATE ROLE service LOGIN PASSWORD 'service'`)
    const connectionString = server.connectionString.replace(`issuer:${server.password}`, 'service:service')
    const { message } = await failure(() => open(schema, { connectionString }), 'ERR_BACKEND_FAILED')
    expect(message).toContain('the role may not do this (42501): it needs USAGE on the schema')
    await (await open(schema)).close()
    const withoutUsage = await failure(() => open(schema, { connectionString }), 'ERR_BACKEND_FAILED')
    expect(withoutUsage.message).toContain('it needs USAGE on the schema')
    await server.query(`GRANT USAGE ON SCHEMA ${schema} TO service`)
    await server.query(`GRANT SELECT ON ALL TABLES IN SCHEMA ${schema} TO service`)
    await server.query(`GRANT INSERT, UPDATE, DELETE ON ${schema}.cards TO service`)
    const lacking = await failure(() => open(schema, { connectionString }), 'ERR_BACKEND_FAILED')
    expect(lacking.message).toContain('DELETE on pins, INSERT on pins, UPDATE on pins, DELETE on rates')
    expect(lacking.message).not.toContain('cards')
    await server.query(`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ${schema} TO service`)
    await using store = await open(schema, { connectionString })
    await store.cards.put(CARD, RECORD)
    await store.pins.storeBlock(CARD, blockOf(1))
    expect(await counterOn(store).issue({ cardId: CARD.cardId })).toMatchObject({ pcc: '0001' })
    await store.cards.remove(CARD)
  })

  test('a role that may create in a schema of its own needs no right to make one', async () => {
    const schema = newSchema()
    await server.query(`CREATE ROLE tenant LOGIN PASSWORD 'tenant'`)
    await server.query(`CREATE SCHEMA ${schema} AUTHORIZATION tenant`)
    const connectionString = server.connectionString.replace(`issuer:${server.password}`, 'tenant:tenant')
    // What stands for the role must not stand for the migration.
    await server.query('ALTER ROLE tenant SET default_transaction_read_only = on')
    await using store = await open(schema, { connectionString })
    await store.cards.put(CARD, RECORD)
  })

  test('what stands first in a search_path, tables and functions, is not used', async () => {
    const schema = newSchema()
    await server.query(`CREATE ROLE misled LOGIN PASSWORD 'misled'`)
    await server.query(`CREATE SCHEMA ${schema} AUTHORIZATION misled`)
    await server.query(
      `CREATE SCHEMA lure CREATE TABLE cards (issuer_id text) CREATE TABLE versions (version int)`,
    )
    const body = `RETURNS text LANGUAGE sql AS $$ SELECT 'lured' $$`
    await server.query(`CREATE FUNCTION lure.substr(text, integer, integer) ${body}`)
    await server.query(`CREATE FUNCTION lure.current_setting(text) ${body}`)
    await server.query('GRANT USAGE ON SCHEMA lure TO misled')
    await server.query('ALTER ROLE misled SET search_path = lure, pg_catalog, public')
    const connectionString = server.connectionString.replace(`issuer:${server.password}`, 'misled:misled')
    await using store = await open(schema, { connectionString })
    await store.cards.put(CARD, RECORD)
    await store.pins.storeBlock(CARD, blockOf(1))
    const counter = counterOn(store)
    await counter.issue({ cardId: CARD.cardId })
    expect(await counter.supersedeAll()).toBe(1)
    expect((await server.query('SELECT * FROM lure.cards')).rows).toEqual([])
    expect((await server.query(`SELECT * FROM ${schema}.cards`)).rows.length).toBe(1)
  })
})
