/**
 * Failover with two real servers: a primary that is killed, a standby that is promoted. Asynchronous replication loses
 * what the standby had not received (the control shows that it does), and no intdatag is accepted twice all the same;
 * with `durability: 'replicated'` nothing that was acknowledged is lost. `FAILOVER_KILLS=100` for more kill points.
 */
import { EventEmitter } from 'node:events'
import { Client, Pool } from 'pg'
import { afterEach, expect, test } from 'vitest'
import { type ChangeCounter, type ChangeCounterStore, Pan } from '../../src/index.js'
import {
  openPostgresIssuerStore,
  type PostgresIssuerStore,
  type PostgresPool,
  panSealer,
} from '../../src/postgres.js'
import { counterOn, ISSUER, prwOf, SEAL_KEY } from '../../test/stores/store-fixtures.js'
import { failure } from '../../test/support/errors.js'
import { describePostgres, PostgresServer } from '../postgres.js'

const KILLS = Number(process.env['FAILOVER_KILLS'] ?? 2)
const CARD = { issuerId: ISSUER, cardId: 'card-0001' }
const RECORD = { state: 'active', pan: Pan.from('9999990123456789'), setPinTypes: ['3DES_SECCOS'] } as const
const SYNCHRONOUS = ['synchronous_standby_names=*', 'wal_log_hints=on']
const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: SEAL_KEY }] })

const fingerprint = (mark: number): Uint8Array => new Uint8Array(32).fill(mark)

describePostgres('failover', () => {
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
  const open = async (server: PostgresServer, more: object = {}): Promise<PostgresIssuerStore> => {
    const { connectionString } = server
    const store = await openPostgresIssuerStore({
      connectionString,
      panSealer: sealer,
      timeoutMs: 5000,
      ...more,
    })
    closing.push(() => store.close())
    return store
  }
  /** A Set PIN as the endpoints accept it: the PRW of this mark is the card's PIN. */
  const accept = (
    store: PostgresIssuerStore,
    issued: { pcc: string; intdatag: string },
    mark: number,
    counter: ChangeCounter = counterOn(store),
  ) =>
    counter.accept({
      request: { ...issued, cardId: CARD.cardId, fingerprint: fingerprint(mark) },
      store: ({ sequence }) => store.pins.storePrw(CARD, prwOf(sequence, mark)),
    })
  /** The same store without its fence: what would be, and the proof that the test can see it. */
  const unfenced = (store: PostgresIssuerStore): ChangeCounter => {
    const inner = store.counters(ISSUER)
    const counters: ChangeCounterStore = {
      read: async key => {
        const record = await inner.read(key)
        return record && { value: withoutInstances(record.value), version: record.version }
      },
      compareAndSet: (key, expected, value) => inner.compareAndSet(key, expected, value),
      purge: (...which) => inner.purge(...which),
      keys: page => inner.keys(page),
    }
    return counterOn({ counters: () => counters } as never)
  }

  test('asynchronous, the standby behind: acknowledged writes are lost, and no intdatag is accepted twice', async () => {
    const primary = await start()
    const standby = await start([], { server: primary, as: 'standby' })
    const one = await open(primary)
    await one.cards.put(CARD, RECORD)
    const issued = await counterOn(one).issue({ cardId: CARD.cardId })
    const other = await counterOn(one).issue({ cardId: CARD.cardId })
    await standby.caughtUp(primary)
    await standby.stopReceiving()
    expect(await accept(one, issued, 1)).toEqual({ sequence: 1, replayed: false })
    await primary.crash()
    await standby.promote()
    const two = await open(standby)
    // The control: without a loss this test would prove nothing.
    expect(await two.pins.readPrw(CARD)).toBeUndefined()
    await expect(accept(two, issued, 2)).rejects.toMatchObject({ reason: 'failover' })
    await expect(accept(two, other, 2)).rejects.toMatchObject({ reason: 'failover' })
    const next = await counterOn(two).issue({ cardId: CARD.cardId })
    expect(await accept(two, next, 3)).toEqual({ sequence: 2 ** 32 + 1, replayed: false })
    // What was under way on the old primary comes late, with a number that was given out there: it is older.
    await two.pins.storePrw(CARD, prwOf(7, 1))
    expect((await two.pins.readPrw(CARD))?.prwValue).toBe(prwOf(0, 3).prwValue)
  })

  test('the control without a fence: the same intdatag is accepted again with another PIN', async () => {
    const primary = await start()
    const standby = await start([], { server: primary, as: 'standby' })
    const one = await open(primary)
    await one.cards.put(CARD, RECORD)
    const issued = await unfenced(one).issue({ cardId: CARD.cardId })
    await standby.caughtUp(primary)
    await standby.stopReceiving()
    expect(await accept(one, issued, 1, unfenced(one))).toMatchObject({ replayed: false })
    await primary.crash()
    await standby.promote()
    const two = await open(standby)
    expect(await accept(two, issued, 2, unfenced(two))).toMatchObject({ replayed: false })
  })

  test('a base backup that is started as it is (same cluster, same timeline) takes nothing that was issued before', async () => {
    const primary = await start()
    const one = await open(primary)
    await one.cards.put(CARD, RECORD)
    const issued = await counterOn(one).issue({ cardId: CARD.cardId })
    const copy = await start([], { server: primary, as: 'copy' })
    await accept(one, issued, 1)
    await primary.crash()
    const two = await open(copy)
    await expect(accept(two, issued, 2)).rejects.toMatchObject({ reason: 'failover' })
  })

  test(`synchronous: of ${KILLS} kills under load none loses what was acknowledged`, {
    timeout: 60_000 + KILLS * 30_000,
  }, async () => {
    let primary = await start(SYNCHRONOUS)
    const starting = await openWithStandby(primary)
    let [standby, store] = starting
    await store.cards.put(CARD, RECORD)
    let acknowledged = 0
    let accepted = 0
    for (let kill = 0; kill < KILLS; kill++) {
      const cards = Array.from({ length: 6 }, (_, i) => ({ ...CARD, cardId: `card-${kill}-${i}` }))
      const last = new Map<string, number>()
      let stop = false
      const writers = cards.map(async card => {
        await store.cards.put(card, RECORD)
        for (let sequence = 1; !stop; sequence++) {
          await store.pins.storePrw(card, prwOf(sequence))
          last.set(card.cardId, sequence)
          acknowledged++
        }
      })
      const settled = Promise.allSettled(writers)
      const issued = await counterOn(store).issue({ cardId: CARD.cardId })
      const before = await accept(store, issued, kill + 1)
      accepted++
      // Each kill comes at another point of the load.
      const enough = 10 + ((kill * 37) % 90)
      await expect
        .poll(() => [...last.values()].reduce((a, b) => a + b, 0), { timeout: 60_000, interval: 5 })
        .toBeGreaterThan(enough)
      await primary.crash()
      stop = true
      await settled
      await standby.promote()
      primary = standby
      await primary.query("ALTER SYSTEM SET synchronous_standby_names = '*'")
      await primary.query('SELECT pg_reload_conf()')
      ;[standby, store] = await openWithStandby(primary)
      for (const [cardId, sequence] of last) {
        const found = (await store.pins.readPrw({ ...CARD, cardId }))?.sequence ?? 0
        // One more may be there: it was on its way, and nobody was told.
        expect([sequence, sequence + 1]).toContain(found)
      }
      expect((await store.pins.readPrw(CARD))?.sequence).toBe(before.sequence)
      await expect(accept(store, issued, 200)).rejects.toMatchObject({ reason: 'spent' })
      // The same request again is accepted by a commit of its own, and stores nothing.
      expect(await accept(store, issued, kill + 1)).toEqual({ ...before, replayed: true })
    }
    console.log(
      `failover, synchronous: ${KILLS} kills, ${acknowledged} acknowledged writes, ${accepted} Set PINs, 0 lost`,
    )
  })

  test(`asynchronous, the standby behind: of ${KILLS} kills under load none has an intdatag accepted twice`, {
    timeout: 60_000 + KILLS * 30_000,
  }, async () => {
    let primary = await start(['wal_log_hints=on'])
    let lost = 0
    let offered = 0
    for (let kill = 0; kill < KILLS; kill++) {
      const standby = await start(['wal_log_hints=on'], { server: primary, as: 'standby' })
      const one = await open(primary)
      const cards = Array.from({ length: 6 }, (_, i) => ({ ...CARD, cardId: `card-${kill}-${i}` }))
      const counter = counterOn(one)
      const issued = new Map<string, { pcc: string; intdatag: string }>()
      for (const card of cards) {
        await one.cards.put(card, RECORD)
        issued.set(card.cardId, await counter.issue({ cardId: card.cardId }))
      }
      await standby.caughtUp(primary)
      // The control: a bare kill on one machine loses nothing, and would prove nothing.
      await standby.stopReceiving()
      const take = (store: PostgresIssuerStore, card: typeof CARD, mark: number) =>
        counterOn(store).accept({
          request: {
            ...(issued.get(card.cardId) ?? expect.unreachable()),
            cardId: card.cardId,
            fingerprint: fingerprint(mark),
          },
          store: ({ sequence }) => store.pins.storePrw(card, prwOf(sequence, mark)),
        })
      const accepted = new Set<string>()
      let stop = false
      const writers = cards.map(async card => {
        await take(one, card, 1)
        accepted.add(card.cardId)
        for (let sequence = 2; !stop; sequence++) await one.pins.storePrw(card, prwOf(sequence, 1))
      })
      const settled = Promise.allSettled(writers)
      await expect.poll(() => accepted.size, { timeout: 60_000, interval: 5 }).toBeGreaterThan(kill % 6)
      await primary.crash()
      stop = true
      await settled
      await standby.promote()
      const two = await open(standby)
      for (const card of cards) {
        if (!accepted.has(card.cardId)) continue
        if ((await two.pins.readPrw(card)) === undefined) lost++
        offered++
        await expect(take(two, card, 2)).rejects.toMatchObject({ reason: 'failover' })
      }
      await primary.remove()
      primary = standby
    }
    expect(lost).toBe(offered)
    console.log(
      `failover, asynchronous: ${KILLS} kills, ${lost} acknowledged Set PINs lost (the control), 0 of ${offered} intdatags accepted twice`,
    )
  })

  test('replicated: a wait that is cancelled, and standbys that are configured away, are no success', async () => {
    const primary = await start(['wal_log_hints=on'])
    // Whoever is told no warnings is not told of a wait that was cancelled.
    await primary.query('ALTER ROLE issuer SET client_min_messages = error')
    await primary.query("ALTER SYSTEM SET synchronous_standby_names = '*'")
    await primary.query('SELECT pg_reload_conf()')
    const [standby, store] = await openWithStandby(primary)
    expect(store.standbys).toBe('verified')
    await store.cards.put(CARD, RECORD)
    const waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    const untilWaiting = () => expect.poll(async () => (await primary.query(waiting)).rows.length).toBe(1)
    standby.signalReceiver('SIGSTOP')
    const cancelled = failure(() => store.pins.storePrw(CARD, prwOf(1)), 'ERR_BACKEND_BUSY')
    await untilWaiting()
    await primary.query(`SELECT pg_cancel_backend(pid) FROM (${waiting}) AS w`)
    expect((await cancelled).message).toContain('the wait for a standby was cancelled')
    // Our own limit: statement_timeout does not end this wait.
    const late = await failure(() => store.pins.storePrw(CARD, prwOf(2)), 'ERR_BACKEND_BUSY')
    expect(late.message).toContain('no answer within')
    // Nor does the server go on: with a standby that is away each call would cost it a connection.
    await expect.poll(async () => (await primary.query(waiting)).rows.length).toBe(0)
    standby.signalReceiver('SIGCONT')
    await standby.caughtUp(primary)
    standby.signalReceiver('SIGSTOP')
    const configuredAway = failure(() => store.pins.storePrw(CARD, prwOf(3)), 'ERR_BACKEND_BUSY')
    await untilWaiting()
    await primary.query('ALTER SYSTEM RESET synchronous_standby_names')
    await primary.query('SELECT pg_reload_conf()')
    expect((await configuredAway).message).toContain('no synchronous standby is configured any more')
    await failure(() => store.pins.storePrw(CARD, prwOf(4)), 'ERR_BACKEND_BUSY')
    standby.signalReceiver('SIGCONT')
  })

  test('replicated, behind a pooler: a connection that waits for another by now is left alone', async () => {
    const primary = await start(SYNCHRONOUS)
    const { connectionString } = primary
    const [standby] = await openWithStandby(primary)
    const direct = new Pool({ connectionString })
    const shared = new Client({ connectionString })
    await shared.connect()
    closing.push(() => Promise.all([direct.end(), shared.end()]))
    let others: Promise<unknown> | undefined
    /** Ours has committed, and before we hear of it the pooler has given the connection to somebody else. */
    const query = async (sql: string, values: unknown[]) => {
      const result = await shared.query(sql, values)
      if (sql !== 'COMMIT') return result
      standby.signalReceiver('SIGSTOP')
      others = shared.query('CREATE TABLE others (n integer)')
      return new Promise(() => {})
    }
    const pooled = Object.assign(new EventEmitter(), { query, release: () => {} })
    const pool = Object.assign(new EventEmitter(), {
      connect: (): Promise<unknown> => direct.connect(),
      end: () => direct.end(),
    })
    const given = pool as unknown as PostgresPool
    const settings = { panSealer: sealer, timeoutMs: 5000, durability: 'replicated' } as const
    const store = await openPostgresIssuerStore({ ...settings, pool: given })
    await store.cards.put(CARD, RECORD)
    pool.connect = async () => {
      pool.connect = () => direct.connect()
      return pooled
    }
    await failure(() => store.pins.storePrw(CARD, prwOf(1)), 'ERR_BACKEND_BUSY')
    // Waits for what is done about a wait.
    await store.close()
    standby.signalReceiver('SIGCONT')
    await expect(others).resolves.toBeDefined()
  })

  test('replicated, as a role that may not see the standbys: configured is what it can say', async () => {
    const primary = await start(SYNCHRONOUS)
    await openWithStandby(primary)
    await primary.query("CREATE ROLE plain LOGIN PASSWORD 'plain'")
    await primary.query('GRANT CREATE ON DATABASE postgres TO plain')
    const connectionString = primary.connectionString.replace(`issuer:${primary.password}`, 'plain:plain')
    const store = await open(primary, { connectionString, schema: 'plain', durability: 'replicated' })
    expect(store.standbys).toBe('configured')
    await store.cards.put(CARD, RECORD)
  })

  async function openWithStandby(primary: PostgresServer): Promise<[PostgresServer, PostgresIssuerStore]> {
    const standby = await start(['wal_log_hints=on'], { server: primary, as: 'standby' })
    const ask =
      "SELECT 1 FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum') AND state = 'streaming'"
    await expect.poll(async () => (await primary.query(ask)).rows.length).toBe(1)
    return [standby, await open(primary, { durability: 'replicated' })]
  }
})

function withoutInstances(value: string): string {
  return JSON.stringify(JSON.parse(value), (name, member) => (name === 'instance' ? undefined : member))
}
