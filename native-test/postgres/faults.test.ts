/** What goes wrong with a database: every failure is coded, shows no value, comes in time, and passes. */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { Client, Pool } from 'pg'
import { afterEach, describe, expect, test } from 'vitest'
import { isIssuerPinError, Pan } from '../../src/index.js'
import { type IssuerStore, openPostgresIssuerStore, panSealer, rowSealer } from '../../src/postgres.js'
import { softwareBackend } from '../../src/software.js'
import { blockOf, counterOn, ISSUER, prwOf, SEAL_KEY } from '../../test/stores/store-fixtures.js'
import { failure } from '../../test/support/errors.js'
import { describePostgres } from '../postgres.js'

const PAN = '9999990123456789'
const CARD = { issuerId: ISSUER, cardId: 'card-canary-7d1e' }
const RECORD = { state: 'active', pan: Pan.from(PAN), setPinTypes: ['ISO0'] } as const
/** What is to fail waits this long, and what is to succeed before it has as long, on a machine with twenty times as much to do. */
const LIMIT_MS = 4000
const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: SEAL_KEY }] })

describePostgres('issuer stores: PostgreSQL, faults', server => {
  let schemas = 0
  const newSchema = (): string => `faults_${++schemas}`
  const closing: (() => unknown)[] = []
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close()
  })
  /** Closes it when the test has ended. */
  const later = <T extends { close: () => unknown } | { end: () => unknown }>(what: T): T => {
    closing.push(() => ('close' in what ? what.close() : what.end()))
    return what
  }
  const open = async (more: object = {}, schema = newSchema()): Promise<IssuerStore> => {
    const { connectionString } = server
    return later(await openPostgresIssuerStore({ connectionString, schema, panSealer: sealer, ...more }))
  }
  const newClient = async (): Promise<Client> => {
    const client = later(new Client({ connectionString: server.connectionString }))
    client.on('error', () => {})
    await client.connect()
    return client
  }

  describe('opening', () => {
    test.each([
      ['a wrong password', { password: 'wrong-canary-99' }, 'ERR_BACKEND_FAILED', '28P01'],
      ['no such role', { user: 'nobody' }, 'ERR_BACKEND_FAILED', '28P01'],
      ['no such database', { database: 'nowhere' }, 'ERR_BACKEND_FAILED', '3D000'],
      ['nobody listening', { port: 1 }, 'ERR_BACKEND_BUSY', 'ECONNREFUSED'],
      ['no socket', { host: '/nonexistent' }, 'ERR_BACKEND_BUSY', 'ENOENT'],
      ['a server without TLS', { ssl: true }, 'ERR_BACKEND_FAILED', ''],
    ] as const)('%s', async (_, more, code, name) => {
      const { port, password } = server
      const options = { host: '127.0.0.1', port, user: 'issuer', password, database: 'postgres', ...more }
      const secrets = [password, 'wrong-canary-99']
      const call = () => openPostgresIssuerStore({ ...options, panSealer: sealer })
      const error = await failure(call, code, secrets)
      expect(error.message).toContain(name)
      expect(error.retryable).toBe(code === 'ERR_BACKEND_BUSY')
      expect(error.cause).toBeUndefined()
    })

    test('a password that cannot be fetched shows nothing of why', async () => {
      const { port } = server
      const password = () => Promise.reject(new Error('vault token canary-1'))
      const call = () =>
        openPostgresIssuerStore({ host: '127.0.0.1', port, user: 'issuer', password, panSealer: sealer })
      await failure(call, 'ERR_BACKEND_FAILED', ['canary-1'])
    })

    test('a server that takes the connection and says nothing', async () => {
      const silent = await listen(() => {})
      const { port } = portOf(silent)
      const error = await failure(
        () => openPostgresIssuerStore({ host: '127.0.0.1', port, timeoutMs: 300, panSealer: sealer }),
        'ERR_BACKEND_BUSY',
      )
      expect(error.retryable).toBe(true)
      later(silent)
    })

    test.each(['caller', 'store'])(
      'sessions without times, that do not wait for the disk, in a pool of the %s: they are told',
      async whose => {
        const options = '-c synchronous_commit=off -c default_transaction_isolation=serializable'
        const { connectionString } = server
        const schema = newSchema()
        const connection =
          whose === 'caller'
            ? { pool: later(new Pool({ connectionString, options })) }
            : { connectionString: `${connectionString}?options=${encodeURIComponent(options)}` }
        const store = later(await openPostgresIssuerStore({ ...connection, schema, panSealer: sealer }))
        await server.query(`CREATE TABLE ${schema}.seen (commits text, times text, isolation text)`)
        await server.query(`CREATE FUNCTION ${schema}.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO ${schema}.seen VALUES (current_setting('synchronous_commit'),
          current_setting('statement_timeout'), current_setting('transaction_isolation')); RETURN NEW; END $$`)
        await server.query(
          `CREATE TRIGGER note AFTER INSERT ON ${schema}.cards EXECUTE FUNCTION ${schema}.note()`,
        )
        await store.cards.put(CARD, RECORD)
        expect((await server.query(`SELECT * FROM ${schema}.seen`)).rows).toEqual([
          { commits: 'on', times: '5s', isolation: 'read committed' },
        ])
      },
    )

    test.each(['fsync', 'full_page_writes'])('a server that has %s off', async setting => {
      await server.query(`ALTER SYSTEM SET ${setting} = off`)
      await server.query('SELECT pg_reload_conf()')
      try {
        await expect.poll(async () => (await server.query(`SHOW ${setting}`)).rows[0]?.[setting]).toBe('off')
        const error = await failure(() => open(), 'ERR_ARGUMENT')
        expect(error.message).toContain(`${setting} is off`)
      } finally {
        await server.query(`ALTER SYSTEM RESET ${setting}`)
        await server.query('SELECT pg_reload_conf()')
      }
      await expect.poll(async () => (await server.query(`SHOW ${setting}`)).rows[0]?.[setting]).toBe('on')
    })

    test.each([
      ['no TLS', {}],
      ['TLS that does not verify', { ssl: { rejectUnauthorized: false } }],
    ])('a server on another host, with %s', async (_, more) => {
      const host = 'db.invalid'
      const options = { host, timeoutMs: 300, panSealer: sealer, ...more }
      const error = await failure(() => openPostgresIssuerStore(options), 'ERR_ARGUMENT')
      expect(error.message).toContain('allowUnverifiedTls')
      // By name it goes on, to a host that is not known.
      await failure(
        () => openPostgresIssuerStore({ ...options, allowUnverifiedTls: true }),
        'ERR_BACKEND_BUSY',
      )
      const verified = { ...options, ssl: true }
      await failure(() => openPostgresIssuerStore(verified), 'ERR_BACKEND_BUSY')
    })

    test('durability replicated where there is no standby to wait for', async () => {
      const error = await failure(() => open({ durability: 'replicated' }), 'ERR_ARGUMENT')
      expect(error.message).toContain('synchronous_standby_names is empty')
      await failure(() => open({ durability: 'remote_write' }), 'ERR_ARGUMENT')
    })
  })

  test('a pool of the caller serves, and goes on after the store is closed', async () => {
    const pool = later(new Pool({ connectionString: server.connectionString, statement_timeout: 5000 }))
    const schema = newSchema()
    const store = await openPostgresIssuerStore({ pool, schema, panSealer: sealer })
    await store.cards.put(CARD, RECORD)
    const pending = Array.from({ length: 20 }, (_, i) => store.pins.storePrw(CARD, prwOf(i + 1)))
    await store.close()
    await Promise.all(pending)
    await failure(() => store.cards.find(CARD), 'ERR_BACKEND_CLOSED')
    expect((await pool.query(`SELECT sequence FROM ${schema}.pins`)).rows).toEqual([{ sequence: '20' }])
    expect(pool.listenerCount('error')).toBe(0)
  })

  test('an error of the database shows its SQLSTATE, and none of the values it quotes', async () => {
    const schema = newSchema()
    const store = await open({}, schema)
    await store.cards.put(CARD, RECORD)
    await server.query(`ALTER TABLE ${schema}.pins ADD CHECK (kid <> 'PEK-CANARY')`)
    const pin = { ...blockOf(0x4711), kid: 'PEK-CANARY' }
    const error = await failure(() => store.pins.storeBlock(CARD, pin), 'ERR_BACKEND_FAILED', [
      'PEK-CANARY',
      CARD.cardId,
      '00004711',
    ])
    expect(error.message).toBe('the database failed (23514)')
    expect(error.cause).toBeUndefined()
    const unknown = { ...CARD, cardId: 'card-canary-none' }
    await failure(() => store.pins.storeBlock(unknown, pin), 'ERR_BACKEND_FAILED', ['canary'])
    await store.pins.storeBlock(CARD, blockOf(1))
  })

  describe('waiting', () => {
    test('a table that is locked: busy in time, and what was not written is not written later', async () => {
      const schema = newSchema()
      const store = await open({ timeoutMs: LIMIT_MS }, schema)
      await store.cards.put(CARD, RECORD)
      await store.pins.storeBlock(CARD, blockOf(1))
      const locker = await newClient()
      await locker.query(`BEGIN; LOCK TABLE ${schema}.pins`)
      const error = await failure(() => store.pins.storeBlock(CARD, blockOf(2)), 'ERR_BACKEND_BUSY')
      expect(error.retryable).toBe(true)
      await failure(() => store.pins.readBlock(CARD, {}), 'ERR_BACKEND_BUSY')
      // The server gave up on its own as well: nobody waits for the lock any more.
      await expect
        .poll(
          async () => (await server.query('SELECT count(*)::int AS n FROM pg_locks WHERE NOT granted')).rows,
        )
        .toEqual([{ n: 0 }])
      await locker.query('COMMIT')
      expect(await store.pins.readBlock(CARD, {})).toEqual(blockOf(1))
    })

    test.each(
      ['a block', 'a PRW', 'a block of no request'].flatMap(what =>
        ['as they are', 'sealed'].map(rows => [what, rows] as const),
      ),
    )(
      '%s that waits for the card until the time of its request is over is not stored (rows %s)',
      async (what, rows) => {
        const schema = newSchema()
        const seals = await softwareBackend({
          keys: [{ kid: 'R', usage: 'cmac', algorithm: 'aes-128', material: randomBytes(16) }],
        })
        later(seals)
        const rowSeals = rowSealer({ keys: [await seals.bind({ kid: 'R', usage: 'cmac' })] })
        const store = await open(rows === 'sealed' ? { rowSealer: rowSeals } : {}, schema)
        await store.cards.put(CARD, RECORD)
        await store.pins.storeBlock(CARD, blockOf(1))
        const counter = counterOn(store)
        const issued = await counter.issue({ cardId: CARD.cardId })
        const clock = async (): Promise<number> =>
          Number(
            (await server.query('SELECT extract(epoch FROM clock_timestamp()) * 1000 AS now')).rows[0]?.[
              'now'
            ],
          )
        const found = async (notAfter: number) => ({
          ...CARD,
          revision: (await store.cards.find(CARD, {}))?.revision ?? expect.unreachable(),
          notAfter,
        })
        const request = (byte: number) => ({
          digest: new Uint8Array(32).fill(byte),
          jweKid: 'JWE-1',
          acceptedAt: 1,
        })
        const fingerprint = new Uint8Array(32).fill(7)
        const write = async (notAfter: number): Promise<unknown> => {
          const card = await found(notAfter)
          if (what === 'a block') return store.pins.acceptBlock(card, blockOf(2), request(1))
          if (what === 'a block of no request') return store.pins.storeBlock(card, blockOf(2))
          return counter.accept({
            request: { ...issued, cardId: CARD.cardId, fingerprint },
            store: ({ sequence, claim }) => store.pins.storePrw(card, prwOf(sequence), claim),
          })
        }
        const locker = await newClient()
        await locker.query(`BEGIN; SELECT 1 FROM ${schema}.cards FOR UPDATE`)
        const notAfter = Math.ceil(await clock()) + 2000
        const refused = failure(() => write(notAfter), 'ERR_BACKEND_BUSY')
        await expect
          .poll(
            async () =>
              (await server.query('SELECT count(*)::int AS n FROM pg_locks WHERE NOT granted')).rows[0]?.[
                'n'
              ],
          )
          .toBe(1)
        await expect.poll(clock).toBeGreaterThan(notAfter)
        await locker.query('ROLLBACK')
        expect((await refused).retryable).toBe(true)
        expect(await store.pins.readBlock(CARD, {})).toEqual(blockOf(1))
        expect(await store.pins.readPrw(CARD, {})).toBeUndefined()
        // It left nothing behind: the same in time is the first of its kind.
        const again = await write(Number.MAX_SAFE_INTEGER)
        if (what === 'a block') expect(again).toEqual({ outcome: 'stored' })
        if (what === 'a PRW') expect(again).toMatchObject({ replayed: false })
      },
    )

    test('a pool that is exhausted: the call that waits in vain is never sent', async () => {
      const schema = newSchema()
      const pool = later(
        new Pool({ connectionString: server.connectionString, statement_timeout: 20_000, max: 1 }),
      )
      const store = await openPostgresIssuerStore({ pool, schema, panSealer: sealer, timeoutMs: LIMIT_MS })
      await store.cards.put(CARD, RECORD)
      const taken = await pool.connect()
      await failure(() => store.pins.storeBlock(CARD, blockOf(2)), 'ERR_BACKEND_BUSY')
      taken.release()
      expect(await store.pins.readBlock(CARD, {})).toBeUndefined()
    })

    test('a signal that fires while a reading call waits ends it at once', async () => {
      const schema = newSchema()
      const store = await open({ timeoutMs: 60_000 }, schema)
      const locker = await newClient()
      await locker.query(`BEGIN; LOCK TABLE ${schema}.cards`)
      const controller = new AbortController()
      const finding = store.cards.find(CARD, { signal: controller.signal })
      await expect
        .poll(
          async () => (await server.query('SELECT count(*)::int AS n FROM pg_locks WHERE NOT granted')).rows,
        )
        .toEqual([{ n: 1 }])
      controller.abort()
      await expect(finding).rejects.toMatchObject({ code: 'ERR_ABORTED' })
      await locker.query('COMMIT')
      expect(await store.cards.find(CARD)).toBeUndefined()
    })

    test('a network that goes silent: busy in time, and a new connection serves', async () => {
      const proxy = new SilentProxy(server.port)
      const { port } = await proxy.listen()
      later({ close: () => proxy.close() })
      const connection = `postgres://issuer:${server.password}@127.0.0.1:${port}/postgres`
      const store = await open({ connectionString: connection, timeoutMs: LIMIT_MS })
      await store.cards.put(CARD, RECORD)
      proxy.silent = true
      const error = await failure(() => store.cards.find(CARD), 'ERR_BACKEND_BUSY')
      expect(error.message).toBe(`the database: no answer within ${LIMIT_MS} ms`)
      proxy.silent = false
      await expect
        .poll(() =>
          store.cards.find(CARD).then(
            card => card?.state,
            () => undefined,
          ),
        )
        .toBe('active')
    })

    test.each([
      ['COMMIT', (store: IssuerStore) => store.cards.remove(CARD)],
      [
        // What the request itself may take is longer.
        'WITH card',
        async (store: IssuerStore) => {
          const { revision = expect.unreachable() } = (await store.cards.find(CARD, {})) ?? {}
          const card = { ...CARD, revision, notAfter: Number.MAX_SAFE_INTEGER }
          const request = { digest: new Uint8Array(32), jweKid: 'JWE-1', acceptedAt: 1 }
          await store.pins.acceptBlock(card, blockOf(2), request)
        },
      ],
    ] as const)(
      'a network that keeps back a write (%s) until its time is over: it is told as failed, and is not done when it arrives',
      async (holdAt, write) => {
        const proxy = new SilentProxy(server.port)
        const { port } = await proxy.listen()
        later({ close: () => proxy.close() })
        const schema = newSchema()
        const connectionString = `postgres://issuer:${server.password}@127.0.0.1:${port}/postgres`
        const store = await open({ connectionString, timeoutMs: LIMIT_MS, application_name: schema }, schema)
        await store.cards.put(CARD, RECORD)
        proxy.holdAt = holdAt
        const error = await failure(() => write(store), 'ERR_BACKEND_BUSY')
        expect(error.message).toBe(`the database: no answer within ${LIMIT_MS} ms`)
        proxy.letGo()
        const sessions = 'SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name = $1'
        await store.close()
        await expect.poll(async () => (await server.query(sessions, [schema])).rows).toEqual([{ n: 0 }])
        expect((await server.query(`SELECT card_id FROM ${schema}.cards`)).rows).toEqual([
          { card_id: CARD.cardId },
        ])
        expect((await server.query(`SELECT 1 FROM ${schema}.pins`)).rows).toEqual([])
      },
    )

    test('more connections than the role may have', async () => {
      await server.query("CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT 1")
      await server.query('GRANT CREATE ON DATABASE postgres TO few')
      const connectionString = server.connectionString.replace(`issuer:${server.password}`, 'few:few')
      const store = await open({ connectionString })
      await store.cards.put(CARD, RECORD)
      const outcomes = await Promise.allSettled(Array.from({ length: 6 }, () => store.cards.find(CARD)))
      const errors = outcomes.flatMap(outcome => (outcome.status === 'rejected' ? [outcome.reason] : []))
      expect(errors.length).toBeGreaterThan(0)
      for (const error of errors) expect(error).toMatchObject({ code: 'ERR_BACKEND_BUSY', retryable: true })
    })
  })

  test('a database that serializes by default: no call is refused for it', async () => {
    const pool = later(
      new Pool({
        connectionString: server.connectionString,
        statement_timeout: 5000,
        options: '-c default_transaction_isolation=serializable',
      }),
    )
    const store = await openPostgresIssuerStore({ pool, schema: newSchema(), panSealer: sealer })
    await store.cards.put(CARD, RECORD)
    await Promise.all(Array.from({ length: 60 }, (_, i) => store.pins.storePrw(CARD, prwOf(i + 1))))
    const counters = Array.from({ length: 30 }, () => counterOn(store).issue({ cardId: CARD.cardId }))
    expect(new Set((await Promise.all(counters)).map(({ pcc }) => pcc))).toEqual(new Set(['0001']))
    expect(await store.pins.readPrw(CARD)).toEqual(prwOf(60))
    await store.close()
  })

  describe('a server that goes and comes', () => {
    /** Writes PRWs one after the other until told to stop; every refusal must be one that may be tried again. */
    const writeThrough = (store: IssuerStore) => {
      const state = { stop: false, acknowledged: 0, refused: 0 }
      const done = (async () => {
        for (let sequence = 1; !state.stop; sequence++) {
          try {
            await store.pins.storePrw(CARD, prwOf(sequence))
            state.acknowledged = sequence
          } catch (error) {
            expect(isIssuerPinError(error)).toBe(true)
            expect(error).toMatchObject({ code: 'ERR_BACKEND_BUSY', retryable: true })
            state.refused++
            await new Promise(setImmediate)
          }
        }
      })()
      const reached = (acknowledged: number): Promise<void> =>
        expect.poll(() => state.acknowledged, { timeout: 60_000 }).toBeGreaterThan(acknowledged)
      return { state, done, reached }
    }

    test('connections are terminated under running calls: refused retryably, then served again', async () => {
      const store = await open({ max: 3 })
      await store.cards.put(CARD, RECORD)
      const { state, done, reached } = writeThrough(store)
      for (let round = 0; round < 5; round++) {
        await reached(state.acknowledged + 5)
        await server.query(
          "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'issuer-pin-crypto'",
        )
      }
      await reached(state.acknowledged + 5)
      state.stop = true
      await done
      expect((await store.pins.readPrw(CARD))?.sequence).toBeGreaterThanOrEqual(state.acknowledged)
    })

    test.each([
      ['is restarted', 'SIGINT'],
      ['crashes and recovers', 'SIGQUIT'],
    ] as const)(
      'a server that %s: nothing acknowledged is lost, and the pool recovers',
      async (_, signal) => {
        const store = await open({ max: 3, timeoutMs: LIMIT_MS })
        await store.cards.put(CARD, RECORD)
        const counter = counterOn(store)
        const { intdatag, pcc } = await counter.issue({ cardId: CARD.cardId })
        const { state, done, reached } = writeThrough(store)
        await reached(20)
        await server.stop(signal)
        const before = state.refused
        await expect.poll(() => state.refused, { timeout: 60_000 }).toBeGreaterThan(before)
        const error = await failure(() => store.cards.find(CARD), 'ERR_BACKEND_BUSY', [PAN, server.password])
        expect(error.retryable).toBe(true)
        await server.start()
        await reached(state.acknowledged)
        state.stop = true
        await done
        expect((await store.pins.readPrw(CARD))?.sequence).toBeGreaterThanOrEqual(state.acknowledged)
        const request = { cardId: CARD.cardId, pcc, intdatag, fingerprint: new Uint8Array(32) }
        // It may have lost an acceptance: what was issued before it went is worth nothing any more.
        await expect(counter.accept({ request, store: async () => {} })).rejects.toMatchObject({
          reason: 'failover',
        })
        const again = { ...(await counter.issue({ cardId: CARD.cardId })), cardId: CARD.cardId }
        const accepted = await counter.accept({
          request: { ...again, fingerprint: new Uint8Array(32) },
          store: async () => {},
        })
        expect(accepted).toEqual({ sequence: 2 ** 32 + 1, replayed: false })
      },
    )
  })
})

async function listen(onConnection: (socket: Socket) => void): Promise<Server> {
  const server = createServer(socket => {
    socket.on('error', () => {})
    onConnection(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return server
}

function portOf(server: Server): { port: number } {
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address
}

/** Between store and server; while `silent`, bytes are swallowed and no connection is closed. */
class SilentProxy {
  silent = false
  /** What is sent from the first piece with this text on is kept back, whoever sends it. */
  holdAt: string | undefined
  #held: (() => void)[] | undefined
  readonly #target: number
  readonly #sockets = new Set<Socket>()
  #server: Server | undefined

  constructor(target: number) {
    this.#target = target
  }

  async listen(): Promise<{ port: number }> {
    this.#server = await listen(near => {
      const far = connect(this.#target, '127.0.0.1')
      far.on('error', () => near.destroy())
      near.on('close', () => (this.#held === undefined ? far.destroy() : this.#held.push(() => far.end())))
      far.on('close', () => near.destroy())
      near.on('data', data => {
        if (this.holdAt !== undefined && data.includes(this.holdAt)) this.#held ??= []
        if (this.#held !== undefined) this.#held.push(() => far.write(data))
        else if (!this.silent) far.write(data)
      })
      far.on('data', data => this.silent || near.write(data))
      for (const socket of [near, far]) this.#sockets.add(socket)
    })
    return portOf(this.#server)
  }

  /** What was kept back arrives. */
  letGo(): void {
    this.holdAt = undefined
    for (const send of this.#held?.splice(0) ?? []) send()
    this.#held = undefined
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy()
    this.#server?.close()
  }
}
