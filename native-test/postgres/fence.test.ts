/**
 * The fence, row by row of what may bring an older database back: an intdatag was accepted with one PIN, and is offered
 * with another where that acceptance is missing. Each row says what is lost there, so that it proves something.
 */
import { afterEach, expect, test } from 'vitest'
import { Pan } from '../../src/index.js'
import { openPostgresIssuerStore, type PostgresIssuerStore, panSealer } from '../../src/postgres.js'
import { counterOn, ISSUER, prwOf, SEAL_KEY } from '../../test/stores/store-fixtures.js'
import { describePostgres, PostgresServer } from '../postgres.js'

const CARD = { issuerId: ISSUER, cardId: 'card-0001' }
const RECORD = { state: 'active', pan: Pan.from('9999990123456789'), setPinTypes: ['3DES_SECCOS'] } as const
const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: SEAL_KEY }] })
const ADDRESSED = { reason: 'failover' }

interface Issued {
  readonly pcc: string
  readonly intdatag: string
}

describePostgres('the fence', () => {
  const closing: (() => unknown)[] = []
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close()
  })
  const start = async (...args: ConstructorParameters<typeof PostgresServer>): Promise<PostgresServer> => {
    const server = new PostgresServer(...args)
    closing.push(() => server.remove())
    await server.start()
    return server
  }
  const open = async ({ connectionString }: PostgresServer): Promise<PostgresIssuerStore> => {
    const store = await openPostgresIssuerStore({ connectionString, panSealer: sealer, timeoutMs: 20_000 })
    closing.push(() => store.close())
    return store
  }
  const withCard = async (server: PostgresServer): Promise<PostgresIssuerStore> => {
    const store = await open(server)
    await store.cards.put(CARD, RECORD)
    return store
  }
  const issue = (store: PostgresIssuerStore): Promise<Issued> =>
    counterOn(store).issue({ cardId: CARD.cardId })
  const accept = (store: PostgresIssuerStore, issued: Issued, mark: number) =>
    counterOn(store).accept({
      request: {
        ...issued,
        cardId: CARD.cardId,
        fingerprint: new Uint8Array(32).fill(mark),
      },
      store: ({ sequence }) => store.pins.storePrw(CARD, prwOf(sequence, mark)),
    })
  const markOf = async (store: PostgresIssuerStore): Promise<number> =>
    Number((await store.pins.readPrw(CARD))?.prwValue ?? 0)

  test('point in time: a backup from before the acceptance, recovered and promoted', async () => {
    const primary = await start()
    const one = await withCard(primary)
    const issued = await issue(one)
    const restored = await start([], { server: primary, as: 'restored' })
    await accept(one, issued, 1)
    await primary.crash()
    const two = await open(restored)
    expect(await markOf(two)).toBe(0)
    await expect(accept(two, issued, 2)).rejects.toMatchObject(ADDRESSED)
    expect(await accept(two, await issue(two), 3)).toMatchObject({ replayed: false })
  })

  test('rows that are copied into a fresh cluster (pg_dump, logical copy)', async () => {
    const [primary, fresh] = [await start(), await start()]
    const one = await withCard(primary)
    const issued = await issue(one)
    const { rows } = await primary.query('SELECT * FROM issuer_pin.counters')
    await accept(one, issued, 1)
    const two = await withCard(fresh)
    for (const { issuer_id, key, version, value, expires_at } of rows) {
      await fresh.query('INSERT INTO issuer_pin.counters VALUES ($1, $2, $3, $4, $5)', [
        issuer_id,
        key,
        version,
        value,
        expires_at,
      ])
    }
    expect(await markOf(two)).toBe(0)
    await expect(accept(two, issued, 2)).rejects.toMatchObject(ADDRESSED)
  })

  test('a server whose default is synchronous_commit = off: the store commits to disk, and what was open is refused', async () => {
    const primary = await start(['synchronous_commit=off'])
    const one = await withCard(primary)
    const [issued, other] = [await issue(one), await issue(one)]
    await accept(one, issued, 1)
    await primary.crash()
    await primary.start()
    const two = await open(primary)
    // It was acknowledged, and is there; the same request is a repeated one, another is not taken.
    expect(await markOf(two)).toBe(1)
    expect(await accept(two, issued, 1)).toMatchObject({ replayed: true })
    await expect(accept(two, issued, 2)).rejects.toMatchObject({ reason: 'spent' })
    await expect(accept(two, other, 2)).rejects.toMatchObject({ reason: 'superseded' })
    // Issued before a crash, and not used until after it.
    const late = await issue(two)
    await primary.crash()
    await primary.start()
    const three = await open(primary)
    await expect(accept(three, late, 4)).rejects.toMatchObject(ADDRESSED)
  })

  test('split brain: what was issued before is taken by the old primary alone', async () => {
    const primary = await start()
    const standby = await start([], { server: primary, as: 'standby' })
    const one = await withCard(primary)
    const issued = await issue(one)
    await standby.caughtUp(primary)
    await standby.promote()
    const two = await open(standby)
    await expect(accept(two, issued, 2)).rejects.toMatchObject(ADDRESSED)
    expect(await accept(one, issued, 1)).toMatchObject({ replayed: false })
    // Each goes on with what it issues itself: one card, two PINs. No fence mends that, and the guide says so.
    expect(await accept(two, await issue(two), 3)).toMatchObject({ replayed: false })
    expect([await markOf(one), await markOf(two)]).toEqual([1, 3])
  })

  test('pg_rewind and back: tags of the first and of the second timeline', async () => {
    const kept = ['wal_log_hints=on', 'wal_keep_size=64MB']
    const first = await start(kept)
    const second = await start(kept, { server: first, as: 'standby' })
    const one = await withCard(first)
    const ofOne = await issue(one)
    await second.caughtUp(first)
    await second.stopReceiving()
    await accept(one, ofOne, 1)
    await one.close()
    await first.stop()
    await second.promote()
    const two = await open(second)
    const ofTwo = await issue(two)
    await second.query('CHECKPOINT')
    first.rewindTo(second)
    await first.start()
    await first.caughtUp(second)
    await first.stopReceiving()
    await accept(two, ofTwo, 2)
    await second.crash()
    await first.promote()
    const three = await open(first)
    expect(await markOf(three)).toBe(0)
    await expect(accept(three, ofOne, 3)).rejects.toMatchObject(ADDRESSED)
    await expect(accept(three, ofTwo, 3)).rejects.toMatchObject(ADDRESSED)
    expect(await accept(three, await issue(three), 4)).toMatchObject({ replayed: false })
  })
})
