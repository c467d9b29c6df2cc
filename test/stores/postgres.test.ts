/** The parts of the PostgreSQL store that show without a server; the rest is in `native-test/postgres`. */
import { EventEmitter, once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { Pool } from 'pg'
import { describe, expect, test, vi } from 'vitest'
import { AbortedError, ArgumentError, BackendError } from '../../src/index.js'
import { openPostgresIssuerStore, type PostgresPool, panSealer } from '../../src/postgres.js'
import { PostgresDatabase } from '../../src/stores/postgres/database.js'
import { databaseError } from '../../src/stores/postgres/errors.js'
import { makePool, requireVerifiedTls } from '../../src/stores/postgres/pool.js'
import { postgresRates } from '../../src/stores/postgres/rates.js'
import { byCard, loadDriver, migrate, type SqlValue, writeRows } from '../../src/stores/sql/database.js'
import { complain } from '../support/complaints.js'
import { everythingShown, failure } from '../support/errors.js'
import { SEAL_KEY } from './store-fixtures.js'

const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: SEAL_KEY }] })
const pool = new Pool()

describe('options', () => {
  test.each([
    ['no options', undefined],
    ['no PAN sealer', { pool }],
    ['a row sealer that seals nothing', { panSealer: sealer, pool, rowSealer: {} }],
    ['a pool without methods', { panSealer: sealer, pool: {} }],
    ['a pool and a connection', { panSealer: sealer, pool, host: 'db' }],
    ['a misspelt option', { panSealer: sealer, hostname: 'db' }],
    ['a schema that is no text', { panSealer: sealer, pool, schema: 1 }],
    ['an empty schema', { panSealer: sealer, pool, schema: '' }],
    ['a schema with a quote', { panSealer: sealer, pool, schema: 'a"; DROP TABLE cards; --' }],
    ['a schema in capitals', { panSealer: sealer, pool, schema: 'Issuer' }],
    ['a schema of the system', { panSealer: sealer, pool, schema: 'pg_catalog' }],
    ['a schema that begins with a digit', { panSealer: sealer, pool, schema: '1a' }],
    ['a schema of 64 characters', { panSealer: sealer, pool, schema: 'a'.repeat(64) }],
    ['a schema with a line feed', { panSealer: sealer, pool, schema: 'a\n' }],
    ['no time at all', { panSealer: sealer, pool, timeoutMs: 0 }],
    ['too much time', { panSealer: sealer, pool, timeoutMs: 60_001 }],
    ['half a millisecond', { panSealer: sealer, pool, timeoutMs: 100.5 }],
    ['a host that is no text', { panSealer: sealer, host: ['db'] }],
    [
      'a connection string that is a URL',
      { panSealer: sealer, connectionString: new URL('postgres://localhost/x') },
    ],
    ['a port that is text', { panSealer: sealer, host: 'localhost', port: '5432' }],
    ['no port', { panSealer: sealer, host: 'localhost', port: 65_536 }],
    ['no connection at all', { panSealer: sealer, host: 'localhost', max: 0 }],
    ['a password that is neither text nor fetched', { panSealer: sealer, host: 'localhost', password: 7 }],
    ['ssl that is nothing', { panSealer: sealer, host: 'localhost', ssl: null }],
    ['ssl by name', { panSealer: sealer, host: 'localhost', ssl: 'require' }],
    ['a database that is no text', { panSealer: sealer, host: 'localhost', database: ['x'] }],
    ['a user that is no text', { panSealer: sealer, host: 'localhost', user: 7 }],
    ['an application that is no text', { panSealer: sealer, host: 'localhost', application_name: {} }],
    ['half a port', { panSealer: sealer, host: 'localhost', port: 5432.5 }],
    ['more connections than any server has', { panSealer: sealer, host: 'localhost', max: 10_001 }],
    ['a durability that nobody knows', { panSealer: sealer, pool, durability: 'replicate' }],
  ])('%s', async (_, options) => {
    await failure(() => openPostgresIssuerStore(options as never), 'ERR_ARGUMENT')
  })
})

describe('a driver', () => {
  test('that is not installed', async () => {
    const { message, cause } = await failure(() => loadDriver('no-such-driver', 'Pool'), 'ERR_UNSUPPORTED')
    expect(message).toBe('no-such-driver is not available here')
    // Whether it is not there, or does not load: that one says.
    expect(cause).toBeInstanceOf(Error)
  })
  test('that has not what it should have', async () => {
    const { message } = await failure(() => loadDriver('node:path', 'Pool'), 'ERR_UNSUPPORTED')
    expect(message).toBe('node:path is not what it should be')
  })
})

test('a store has a pool of the size that was asked for, and one connection in reserve; both are told where and who', async () => {
  const server = createServer(socket => socket.destroy()).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const end = vi.spyOn(Pool.prototype, 'end')
  /** What the pools of a store have of this, the reserve first. */
  const poolsOf = async (said: object): Promise<unknown[]> => {
    end.mockClear()
    await failure(() => openPostgresIssuerStore({ ...said, max: 7, panSealer: sealer }), 'ERR_BACKEND_BUSY')
    const made = end.mock.contexts.map(context => (context as unknown as Pool).options)
    return made
      .sort((a, b) => Number(a.max) - Number(b.max))
      .map(options =>
        Object.fromEntries(['max', ...Object.keys(said)].map(name => [name, Reflect.get(options, name)])),
      )
  }
  try {
    for (const said of [
      { connectionString: `postgres://nobody@127.0.0.1:${port}/none` },
      {
        ...{ host: '127.0.0.1', port, database: 'none', user: 'nobody', password: () => 'fetched' },
        ...{ ssl: { ca: 'pem', rejectUnauthorized: true }, application_name: 'mine' },
      },
    ])
      expect(await poolsOf(said)).toEqual([1, 7].map(max => ({ max, ...said })))
  } finally {
    end.mockRestore()
    await new Promise(resolve => server.close(resolve))
  }
})

test('the pool of a store has an end to every wait, and commits that wait for the disk', async () => {
  const made = (await makePool({ host: 'db', max: 3, application_name: 'issuer' }, 1234)) as Pool
  expect(made).toBeInstanceOf(Pool)
  expect(made.options).toMatchObject({
    host: 'db',
    max: 3,
    application_name: 'issuer',
    connectionTimeoutMillis: 1234,
    // What is not there any more is noticed though nothing is asked of it, and a transaction goes in one piece.
    keepAlive: true,
    pipeline: true,
  })
  await made.end()
  const unnamed = (await makePool({ host: 'db' }, 1234)) as Pool
  expect(unnamed.options.application_name).toBe('issuer-pin-crypto')
  await unnamed.end()
  // `true` is said in full: a variable of the environment can switch the check off otherwise.
  const verified = (await makePool({ host: 'db', ssl: true }, 1234)) as Pool
  expect(verified.options.ssl).toEqual({ rejectUnauthorized: true })
  await verified.end()
  const ofOwn = (await makePool({ host: 'db', ssl: { ca: 'pem' } }, 1234)) as Pool
  expect(ofOwn.options.ssl).toEqual({ ca: 'pem', rejectUnauthorized: true })
  await ofOwn.end()
  const byName = (await makePool({ host: 'db', ssl: { rejectUnauthorized: false } }, 1234)) as Pool
  expect(byName.options.ssl).toEqual({ rejectUnauthorized: false })
  await byName.end()
})

describe('errors', () => {
  const of = (code: unknown, message = 'Key (card_id)=(canary) exists') =>
    Object.assign(new Error(message), { code, detail: 'Key (card_id)=(canary)' })
  test.each([
    [of('40001'), 'ERR_BACKEND_BUSY', 'the database: a serialization failure (40001)'],
    [of('40P01'), 'ERR_BACKEND_BUSY', 'the database: a deadlock (40P01)'],
    [of('53300'), 'ERR_BACKEND_BUSY', 'the database: too many connections (53300)'],
    [of('57P01'), 'ERR_BACKEND_BUSY', 'the database: the server shuts down (57P01)'],
    [of('57014'), 'ERR_BACKEND_BUSY', 'the database: the statement took too long (57014)'],
    [of('25006'), 'ERR_BACKEND_BUSY', 'the database: the server takes no writes now (25006)'],
    [of('ECONNRESET'), 'ERR_BACKEND_BUSY', 'the database: the connection was reset (ECONNRESET)'],
    [
      of(undefined, 'Connection terminated unexpectedly'),
      'ERR_BACKEND_BUSY',
      'the database: the connection is lost',
    ],
    [
      of(undefined, 'timeout exceeded when trying to connect'),
      'ERR_BACKEND_BUSY',
      'the database: the connection is lost',
    ],
    [
      of('08P01', 'query_wait_timeout'),
      'ERR_BACKEND_BUSY',
      'the database: the pooler has no connection (08P01)',
    ],
    [
      of('08P01', 'server login has been failing, try again later (server_login_retry)'),
      'ERR_BACKEND_BUSY',
      'the database: the pooler has no connection (08P01)',
    ],
    [
      of('42501'),
      'ERR_BACKEND_FAILED',
      'the role may not do this (42501): it needs USAGE on the schema, and SELECT, INSERT, UPDATE, DELETE on its tables; ' +
        'to make them, CREATE',
    ],
    [of('08P01', 'no such database: x'), 'ERR_BACKEND_FAILED', 'the database failed (08P01)'],
    [of('ENOTFOUND'), 'ERR_BACKEND_BUSY', 'the database: the name of the host is not known (ENOTFOUND)'],
    [
      of(undefined, 'The server does not support SSL connections'),
      'ERR_BACKEND_FAILED',
      'the database takes no TLS: its server, or the pooler, must offer it',
    ],
    [of('23503'), 'ERR_BACKEND_FAILED', 'the store holds no such card'],
    [of('23505'), 'ERR_BACKEND_FAILED', 'the database failed (23505)'],
    [
      of('28P01'),
      'ERR_BACKEND_FAILED',
      'the database: the password is wrong, or there is no such role (28P01)',
    ],
    [
      of('3D000', 'database "canary" does not exist'),
      'ERR_BACKEND_FAILED',
      'the database: there is no database of that name: make it (createdb), or name another (3D000)',
    ],
    [
      of(undefined, 'SASL: SCRAM-SERVER-FIRST-MESSAGE: client password must be a string'),
      'ERR_BACKEND_FAILED',
      'the database asks for a password, and none was given',
    ],
    [of('toString'), 'ERR_BACKEND_FAILED', 'the database failed'],
    [of(23505), 'ERR_BACKEND_FAILED', 'the database failed'],
    [of('CODE WITH canary'), 'ERR_BACKEND_FAILED', 'the database failed'],
    [of(undefined), 'ERR_BACKEND_FAILED', 'the database failed'],
    [{ message: 7 }, 'ERR_BACKEND_FAILED', 'the database failed'],
    ['canary', 'ERR_BACKEND_FAILED', 'the database failed'],
    [undefined, 'ERR_BACKEND_FAILED', 'the database failed'],
  ])('%s is %s', (thrown, code, message) => {
    const error = databaseError(thrown)
    expect(error).toMatchObject({ code, message, retryable: code === 'ERR_BACKEND_BUSY' })
    expect(error.cause).toBeUndefined()
    expect(everythingShown(error)).not.toContain('canary')
  })

  test('a socket that is not there is there again once the server runs; a file of the options is not', () => {
    const missing = { code: 'ENOENT', message: 'connect ENOENT /run/canary/.s.PGSQL.5432' }
    const error = databaseError(Object.assign(new Error(missing.message), { ...missing, syscall: 'connect' }))
    expect(error).toMatchObject({ code: 'ERR_BACKEND_BUSY', retryable: true })
    expect(error.message).toBe('the database: the socket is not there (ENOENT)')
    const file = databaseError(Object.assign(new Error(missing.message), { ...missing, syscall: 'open' }))
    expect(file).toMatchObject({ code: 'ERR_BACKEND_FAILED', retryable: false })
  })

  test.each([
    // SQLSTATE: class 08, a transaction or a server that ends, what there are too many of, a server that is none yet.
    ...['08000', '08001', '08003', '08004', '08006', '08007', '0A000', '22012', '25006', '25P03', '26000'],
    ...['40001', '40P01', '53300', '55000', '55P03', '57014', '57P01', '57P02', '57P03', '57P05'],
    ...['EAI_AGAIN', 'ECONNREFUSED', 'ECONNRESET', 'EHOSTDOWN', 'EHOSTUNREACH', 'ENETDOWN', 'ENETUNREACH'],
    ...['ENOTFOUND', 'EPIPE', 'ETIMEDOUT'],
  ])('%s passes: the call may be made again', code => {
    const { retryable, message } = databaseError(of(code)) as BackendError
    expect([retryable, message]).toEqual([true, expect.stringMatching(/^the database: .+ \(\w+\)$/)])
    expect(message).toContain(`(${code})`)
  })

  test.each([
    ['28000', /role may not sign in/],
    ['28P01', /password is wrong/],
    ['3D000', /no database of that name/],
    ['42P01', /table is missing/],
    ['53100', /disk is full/],
    ['ERR_INVALID_URL', /connectionString does not read/],
    ['ERR_SOCKET_BAD_PORT', /the port must be/],
    ['DEPTH_ZERO_SELF_SIGNED_CERT', /signed by nobody who is trusted/],
    ['SELF_SIGNED_CERT_IN_CHAIN', /CA that is not trusted/],
    ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', /CA that is not trusted/],
    ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', /CA that is not trusted/],
    ['CERT_HAS_EXPIRED', /has expired/],
    ['ERR_TLS_CERT_ALTNAME_INVALID', /for another host/],
  ])('%s stays until somebody mends it, who is told what', (code, what) => {
    const { retryable, message } = databaseError(of(code)) as BackendError
    expect([retryable, message]).toEqual([false, expect.stringMatching(what)])
    expect(message).toContain(`(${code})`)
  })

  test.each([
    // As `pg` says it, without a code.
    ...[
      'Connection terminated',
      'Connection terminated due to connection timeout',
      'Client has encountered a connection error and is not queryable',
      'Client was closed and is not queryable',
      'timeout exceeded when trying to connect',
    ].map(message => [undefined, message] as const),
    // As PgBouncer does, with the one code that it has for everything.
    ...[
      ...['query_wait_timeout', 'query timeout', 'no more connections allowed (max_client_conn)'],
      ...[
        'database removed',
        'server conn crashed?',
        'client_login_timeout',
        'server login has been failing',
      ],
    ].map(message => ['08P01', message] as const),
  ])('%s, %s: a connection that is lost, which another one takes the place of', (code, message) => {
    expect(databaseError(of(code, message))).toMatchObject({ code: 'ERR_BACKEND_BUSY', retryable: true })
  })

  test('an error of ours stays as it is', () => {
    const error = new BackendError('ERR_UNSUPPORTED', 'x')
    expect(databaseError(error)).toBe(error)
  })
})

/**
 * A pool of one connection that does what the test says, and remembers how it was given back. With a listener of the call on it
 * it is not given back: each call would leave one more.
 */
class FakePool extends EventEmitter implements PostgresPool {
  readonly released: (boolean | undefined)[] = []
  readonly client = Object.assign(new EventEmitter(), {
    query: async (_sql: string): Promise<{ rows: Record<string, unknown>[]; rowCount: number | null }> => ({
      rows: [],
      rowCount: null,
    }),
    release: (destroy?: boolean) => {
      // That for errors of an idle connection is the pool's to take off.
      if (this.client.listenerCount('notice') > 0) complain('a connection was given back with a listener')
      this.released.push(destroy)
    },
  })
  ended = 0
  destroyed = 0
  connect = async () => this.client
  end = async () => void this.ended++
}

function databaseOn(fake: FakePool, more: object = {}): PostgresDatabase {
  return new PostgresDatabase({
    pool: fake,
    reserve: fake,
    ownsPool: true,
    prefix: 'p.',
    timeoutMs: 50,
    durability: 'local',
    ...more,
  })
}

describe('a connection', () => {
  test('goes back after a call, and is closed after one that failed', async () => {
    const fake = new FakePool()
    const database = databaseOn(fake)
    expect(await writeRows(database, 'x', [])).toBe(0)
    expect(await database.session(50, async ({ run }) => run('x', []))).toBe(0)
    fake.client.query = () => Promise.reject(new Error('canary'))
    await failure(() => database.read({ sql: 'x', values: [] }), 'ERR_BACKEND_FAILED', ['canary'])
    expect(fake.released).toEqual([false, false, true])
    expect(fake.client.listenerCount('error')).toBe(0)
  })

  test('that breaks while a call runs, or while it is idle, does not end the process', async () => {
    const fake = new FakePool()
    const database = databaseOn(fake)
    fake.client.query = async () => {
      fake.client.emit('error', new Error('gone'))
      throw Object.assign(new Error('gone'), { code: 'ECONNRESET' })
    }
    await failure(() => writeRows(database, 'x', []), 'ERR_BACKEND_BUSY')
    fake.emit('error', new Error('gone'))
  })

  test('that comes too late is given back unused', async () => {
    const fake = new FakePool()
    const database = databaseOn(fake)
    let come = (_client: typeof fake.client): void => {}
    fake.connect = () => new Promise(resolve => (come = resolve))
    await failure(() => writeRows(database, 'x', []), 'ERR_BACKEND_BUSY')
    fake.client.query = () => expect.unreachable()
    come(fake.client)
    await expect.poll(() => fake.released).toEqual([undefined])
  })

  test('is not taken for a call whose signal has fired, and is closed where it fires later', async () => {
    const fake = new FakePool()
    const database = databaseOn(fake, { timeoutMs: 60_000 })
    const controller = new AbortController()
    fake.client.query = () => new Promise(() => queueMicrotask(() => controller.abort()))
    await expect(database.read({ sql: 'x', values: [] }, controller.signal)).rejects.toBeInstanceOf(
      AbortedError,
    )
    expect(fake.released).toEqual([true])
    fake.connect = () => expect.unreachable()
    await expect(database.read({ sql: 'x', values: [] }, controller.signal)).rejects.toBeInstanceOf(
      AbortedError,
    )
  })

  test('that nobody gets in time leaves no timer behind', async () => {
    const fake = new FakePool()
    fake.connect = () => Promise.reject(Object.assign(new Error('x'), { code: 'ECONNREFUSED' }))
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    try {
      await failure(() => writeRows(databaseOn(fake), 'x', []), 'ERR_BACKEND_BUSY')
      expect(vi.getTimerCount()).toBe(0)
    } finally {
      vi.useRealTimers()
    }
    expect(fake.released).toEqual([])
  })
})

test('replicated, with a standby that is configured and not connected: not opened, and to be tried again', async () => {
  const fake = new FakePool()
  fake.client.query = async sql => {
    const row = sql.includes('pg_stat_replication')
      ? { seen: '0', readable: '0', synchronous: '0' }
      : { fsync: 'on', pages: 'on', standbys: '*' }
    return { rows: [row], rowCount: 1 }
  }
  const open = () => openPostgresIssuerStore({ panSealer: sealer, pool: fake, durability: 'replicated' })
  const error = await failure(open, 'ERR_BACKEND_BUSY')
  expect([error.message, error.retryable]).toEqual([
    expect.stringContaining('no synchronous standby is connected'),
    true,
  ])
})

test.each([
  [
    'some connected, none of them synchronous',
    { seen: '2', readable: '2', synchronous: '0' },
    'ERR_BACKEND_BUSY',
  ],
  ['one of two synchronous', { seen: '2', readable: '2', synchronous: '1' }, 'verified'],
  [
    'this role may see them, and not what they are',
    { seen: '2', readable: '0', synchronous: '0' },
    'configured',
  ],
])('replicated, with standbys of which it is seen: %s', async (_, row, outcome) => {
  const fake = new FakePool()
  fake.client.query = async sql => {
    const answer = sql.includes('pg_stat_replication')
      ? row
      : { fsync: 'on', pages: 'on', standbys: '*', lacking: null, version: '1' }
    return { rows: [answer], rowCount: 1 }
  }
  const open = () => openPostgresIssuerStore({ panSealer: sealer, pool: fake, durability: 'replicated' })
  if (outcome === 'ERR_BACKEND_BUSY') await failure(open, outcome)
  else {
    const store = await open()
    expect(store.standbys).toBe(outcome)
    await store.close()
  }
})

test('operations of nobody in particular are counted as those of one caller', async () => {
  const asked: unknown[] = []
  const write = async (statements: readonly { readonly values: unknown }[]) => {
    asked.push(statements[0]?.values)
    return [{ rows: [{}], count: 1 }]
  }
  const database = { dialect: { prefix: 'p.' }, write } as never
  const rates = postgresRates(database, { perCardPerMinute: 2, perCallerPerMinute: 3 })
  const query = { issuerId: 'is_tbank01', cardId: 'c', operation: 'getPIN', caller: undefined } as const
  expect(await rates.take(query, { signal: new AbortController().signal })).toBe(true)
  expect(asked).toEqual([['card is_tbank01/c', 2, 'caller ', 3]])
})

test('old counts are tidied away by every thousandth operation, and by no other', async () => {
  let operations = 0
  const tidied: number[] = []
  const write = async (statements: readonly { readonly sql: string }[]) => {
    operations++
    if (statements.some(({ sql }) => sql.startsWith('DELETE'))) tidied.push(operations)
    return [{ rows: [{}], count: 1 }]
  }
  const database = { dialect: { prefix: 'p.' }, write } as never
  const rates = postgresRates(database, { perCardPerMinute: 2, perCallerPerMinute: 3 })
  const query = { issuerId: 'is_tbank01', cardId: 'c', operation: 'getPIN', caller: 'd1' } as const
  const { signal } = new AbortController()
  for (let i = 0; i < 2001; i++) await rates.take(query, { signal })
  expect(tidied).toEqual([1000, 2000])
})

test.each([
  [{ perCardPerMinute: 0, perCallerPerMinute: 3 }],
  [{ perCardPerMinute: 2, perCallerPerMinute: Number.NaN }],
])('rates of %j are refused', async rates => {
  await failure(() => postgresRates({} as never, rates), 'ERR_ARGUMENT')
})

test('close waits for the calls under way, and ends the pool once, unless it is the caller’s', async () => {
  for (const ownsPool of [true, false]) {
    const fake = new FakePool()
    const database = databaseOn(fake, { ownsPool, timeoutMs: 60_000 })
    let finish = (): void => {}
    const one = { rows: [], rowCount: 1 }
    fake.client.query = sql =>
      sql === 'x' ? new Promise(resolve => (finish = () => resolve(one))) : Promise.resolve(one)
    const call = writeRows(database, 'x', [])
    const closed = Promise.all([database.close(), database.close()])
    await failure(() => writeRows(database, 'y', []), 'ERR_BACKEND_CLOSED')
    await new Promise(setImmediate)
    expect(fake.listenerCount('error')).toBe(1)
    expect(fake.ended).toBe(0)
    finish()
    expect(await call).toBe(1)
    await closed
    expect(fake.ended).toBe(ownsPool ? 1 : 0)
    if (!ownsPool) expect(fake.listenerCount('error')).toBe(0)
  }
})

test('close waits for what a call that failed has still to do on the reserve', async () => {
  const [pool, reserve] = [new FakePool(), new FakePool()]
  const database = databaseOn(pool, { reserve, timeoutMs: 20 })
  const process = [{ rows: [{ process: 7, begun: '1' }], rowCount: 1 }]
  pool.client.query = async sql => {
    // The commit waits for a standby for ever.
    if (sql === 'COMMIT') return new Promise(() => {})
    return sql.startsWith('BEGIN') ? (process as never) : { rows: [], rowCount: 1 }
  }
  let end = (): void => {}
  const asked: string[] = []
  reserve.client.query = sql => {
    asked.push(sql)
    return new Promise(resolve => (end = () => resolve({ rows: [], rowCount: 1 })))
  }
  const writing = writeRows(database, 'x', [])
  const closed = database.close()
  await failure(() => writing, 'ERR_BACKEND_BUSY')
  await expect.poll(() => asked).toEqual([expect.stringContaining('pg_terminate_backend')])
  expect([pool.ended, reserve.ended]).toEqual([0, 0])
  end()
  await closed
  expect([pool.ended, reserve.ended]).toEqual([1, 1])
})

test('of two pools each is ended, whatever becomes of the other, and one that is not is told of', async () => {
  for (const isReserve of [false, true]) {
    const [broken, sound] = [new FakePool(), new FakePool()]
    broken.end = () => Promise.reject(new Error('canary'))
    const [pool, reserve] = isReserve ? [sound, broken] : [broken, sound]
    await failure(() => databaseOn(pool, { reserve }).close(), 'ERR_BACKEND_FAILED', ['canary'])
    expect(sound.ended).toBe(1)
  }
})

test('cards are in the order in which the server locks them: of all writers the same, and of one card as they came', () => {
  const cards = ['b/2', 'a/2', 'B/1', 'a/1', 'b/1', 'a/2'].map((name, i) => {
    const [issuerId = '', cardId = ''] = name.split('/')
    return { issuerId, cardId, i }
  })
  const ordered = byCard(cards, card => card)
  expect(ordered.map(({ issuerId, cardId, i }) => `${issuerId}/${cardId} ${i}`)).toEqual([
    ...['B/1 2', 'a/1 3', 'a/2 1', 'a/2 5', 'b/1 4', 'b/2 0'],
  ])
})

test('a connection that comes after close is watched until the pool has delivered it', async () => {
  const fake = new FakePool()
  const database = databaseOn(fake, { ownsPool: false, timeoutMs: 5 })
  let come = (_client: typeof fake.client): void => {}
  fake.connect = () => new Promise(resolve => (come = resolve))
  await failure(() => writeRows(database, 'x', []), 'ERR_BACKEND_BUSY')
  await database.close()
  // As pg does it: told first, and handed over a turn later.
  fake.emit('acquire', fake.client)
  fake.client.emit('error', new Error('gone'))
  come(fake.client)
  await expect.poll(() => fake.listenerCount('acquire')).toBe(0)
  expect(fake.released).toEqual([undefined])
})

describe('a connection with nobody between', () => {
  /** As `pg` has one whose process is the one that answers; `sent` has a list for each piece that is sent. */
  const direct = (more: object = {}, answer: (sql: string) => object = () => ({})) => {
    const fake = new FakePool()
    const sent: string[][] = []
    const named: string[] = []
    let piece: string[] | undefined
    const query = async (given: string | { readonly text: string; readonly name: string }) => {
      const sql = typeof given === 'string' ? given : given.text
      const shown = sql.replace(/^(SELECT 1|[A-Z]+)[ ;].*/, '$1')
      if (typeof given !== 'string') named.push(given.name)
      if (piece === undefined) sent.push([shown])
      else piece.push(shown)
      const rows =
        sql.includes('backend_start AS') || sql.includes('backend_start)')
          ? [{ process: 7, begun: '1.5' }]
          : []
      return { rows, rowCount: 1, ...answer(sql) }
    }
    const stream = {
      cork: () => {
        piece = []
        sent.push(piece)
      },
      uncork: () => (piece = undefined),
      destroy: () => fake.destroyed++,
    }
    Object.assign(fake.client, { processID: 7, pipeline: true, connection: { stream }, query, ...more })
    return { fake, sent, named }
  }
  const SAID = [['SELECT'], ['SET']]
  const X = { sql: 'x', values: [] }
  const CAS = { ...X, expect: 1, mayBeLate: true } as const
  const Y = { sql: 'y', values: [] }

  test('is told once; a statement is a transaction, and several go in one piece that ends in time', async () => {
    const { fake, sent } = direct()
    const database = databaseOn(fake)
    await database.read(X)
    await database.write([CAS])
    await database.write([X])
    await database.write([X, Y])
    await database.readTogether([X, Y])
    expect(sent).toEqual([
      ...SAID,
      ['x'],
      ['x'],
      ['BEGIN'],
      ['x', 'SELECT 1', 'COMMIT'],
      ['BEGIN'],
      ['x', 'y', 'SELECT 1', 'COMMIT'],
      ['BEGIN', 'x', 'y', 'COMMIT'],
    ])
    expect([fake.released, fake.destroyed]).toEqual([[false, false, false, false, false], 0])
  })

  test('what ends in time is told how much of it is left, and which process it is', async () => {
    const asked: unknown[] = []
    const { fake } = direct()
    const { query } = fake.client
    fake.client.query = (given: unknown) => {
      if (String(Object(given).text).includes('AS in_time')) asked.push(Object(given).values)
      return query(given as string)
    }
    await databaseOn(fake, { timeoutMs: 60_000 }).write([X])
    expect(asked).toEqual([[expect.any(Number), 7]])
    const [[left]] = asked as [[number]]
    expect(left > 0 && left < 60_000).toBe(true)
    expect(databaseError({ code: '22012' })).toMatchObject({ code: 'ERR_BACKEND_BUSY', retryable: true })
  })

  test('what expects a number of rows is looked at before it is committed', async () => {
    for (const rowCount of [1, 0]) {
      const { fake, sent } = direct({}, sql => (sql === 'x' ? { rowCount } : {}))
      const results = await databaseOn(fake).write([{ ...X, expect: 1 }, Y])
      expect(sent.slice(SAID.length)).toEqual([
        ['BEGIN'],
        ['x', 'y'],
        [rowCount === 1 ? 'COMMIT' : 'ROLLBACK'],
      ])
      expect(results.map(({ count, unexpected }) => [count, unexpected])).toEqual(
        rowCount === 1
          ? [
              [1, undefined],
              [1, undefined],
            ]
          : [[0, true]],
      )
    }
    const { fake, sent } = direct({}, () => ({ rowCount: 0 }))
    expect(await databaseOn(fake).write([CAS])).toEqual([{ rows: [], count: 0, unexpected: true }])
    expect(sent.at(-1)).toEqual(['x'])
  })

  test('of several that fail the first is told, and the connection is closed', async () => {
    const failing = (sql: string): object => {
      if (sql === 'x') throw Object.assign(new Error('x'), { code: '23503', severity: 'ERROR' })
      if (sql === 'y') throw Object.assign(new Error('y'), { code: '25P02', severity: 'ERROR' })
      return {}
    }
    const { fake, sent } = direct({}, failing)
    const error = await failure(() => databaseOn(fake).write([X, Y]), 'ERR_BACKEND_FAILED')
    expect(error.message).toContain('the store holds no such card')
    // The server has answered: there is nothing to be ended.
    expect(sent.slice(SAID.length)).toEqual([['BEGIN'], ['x', 'y', 'SELECT 1', 'COMMIT']])
    expect([fake.released, fake.destroyed]).toEqual([[true], 1])
  })

  test('a write that nobody waits for any more is ended on the server, whatever it is at', async () => {
    for (const statements of [[CAS], [X, Y]]) {
      const [{ fake }, reserve] = [direct(), new FakePool()]
      const { query } = fake.client
      fake.client.query = sql => (Object(sql).text === 'x' ? new Promise(() => {}) : query(sql))
      const asked: unknown[] = []
      reserve.client.query = async (...given: unknown[]) => {
        asked.push(given)
        return { rows: [], rowCount: 1 }
      }
      const database = databaseOn(fake, { reserve, timeoutMs: 20 })
      await failure(() => database.write(statements), 'ERR_BACKEND_BUSY')
      await database.close()
      expect(asked).toEqual([
        [expect.stringContaining('extract(epoch FROM backend_start)::text = $2'), [7, '1.5']],
      ])
    }
  })

  test('a write whose connection breaks between two of its answers is ended on the server', async () => {
    const [{ fake }, reserve] = [direct(), new FakePool()]
    const { query } = fake.client
    fake.client.query = sql =>
      Object(sql).text === 'y'
        ? Promise.reject(Object.assign(new Error('reset'), { code: 'ECONNRESET' }))
        : query(sql)
    const asked: unknown[] = []
    reserve.client.query = async (...given: unknown[]) => {
      asked.push(given)
      return { rows: [], rowCount: 1 }
    }
    const database = databaseOn(fake, { reserve })
    await failure(() => database.write([X, Y]), 'ERR_BACKEND_BUSY')
    await database.close()
    expect(asked).toEqual([[expect.stringContaining('pg_terminate_backend'), [7, '1.5']]])
  })

  test('a statement is named by its text, but for lists and for whatever columns there are; two hundred in all', async () => {
    const { fake, named } = direct()
    const database = databaseOn(fake)
    const read = async (sql: string, values: SqlValue[] = []): Promise<string | undefined> => {
      named.length = 0
      await database.read({ sql, values })
      return named[0]
    }
    const name = 'issuer_pin_2d711642b726b04401627ca9fbac32f5'
    expect([await read('x'), await read('x'), await read('y')]).toEqual([
      name,
      name,
      expect.stringMatching(/^issuer_pin_[0-9a-f]{32}$/),
    ])
    expect(await read('z', [['a']])).toBeUndefined()
    expect(await read('SELECT * FROM x')).toBeUndefined()
    const names = new Set<string | undefined>()
    for (let i = 0; i < 201; i++) names.add(await read(`x${i}`))
    expect(names).toContain(undefined)
    expect([names.size > 150, await read('x')]).toEqual([true, name])
  })

  test('a role that may not look is told as behind a pooler; another failure is one', async () => {
    const refused = (code: string) => (sql: string) => {
      if (sql.includes('pg_stat_activity')) throw Object.assign(new Error(code), { code })
      return {}
    }
    const { fake, sent } = direct({}, refused('42501'))
    await databaseOn(fake).read(X)
    expect(sent.at(-1)).toEqual(['BEGIN', 'x', 'COMMIT'])
    await failure(() => databaseOn(direct({}, refused('57P03')).fake).read(X), 'ERR_BACKEND_BUSY')
  })

  test('replicated: begins, looks for standbys and commits as behind a pooler', async () => {
    const { fake, sent } = direct({}, sql =>
      sql.includes('AS standbys') ? { rows: [{ standbys: '*' }] } : {},
    )
    await databaseOn(fake, { durability: 'replicated' }).write([X])
    expect(sent.slice(SAID.length)).toEqual([['BEGIN'], ['x'], ['SELECT'], ['COMMIT'], ['SELECT']])
  })

  test.each([
    ['another process answers', { processID: 8 }],
    ['the driver does not say which process it is', { processID: null }],
  ])(
    '%s: each transaction is told, nothing has a name, and a commit waits for what came',
    async (_, more) => {
      const { fake, sent } = direct(more)
      const database = databaseOn(fake)
      await database.read(X)
      await database.write([X, Y])
      expect(sent).toEqual([['SELECT'], ['BEGIN', 'x', 'COMMIT'], ['BEGIN'], ['x', 'y'], ['COMMIT']])
    },
  )

  test('a driver that does not show what it writes to sends as it does', async () => {
    const { fake, sent } = direct({ connection: undefined })
    await databaseOn(fake, { ownsPool: false }).read(X)
    expect(sent).toEqual([['BEGIN'], ['x'], ['COMMIT']])
  })

  test.each([
    [
      'local',
      "CASE WHEN current_setting('synchronous_commit') = 'off' THEN 'on' ELSE current_setting('synchronous_commit') END",
    ],
    [
      'replicated',
      "CASE WHEN current_setting('synchronous_commit') = 'remote_apply' THEN 'remote_apply' ELSE 'on' END",
    ],
  ] as const)(
    '%s: all that a transaction needs is set, once for a session or for each transaction',
    async (durability, commits) => {
      for (const [processID, isLocal] of [
        [7, 'false'],
        [8, 'true'],
      ] as const) {
        const { fake } = direct({ processID }, sql =>
          sql.includes('AS standbys') ? { rows: [{ standbys: '*' }] } : {},
        )
        const { query } = fake.client
        const asked: string[] = []
        fake.client.query = sql => {
          if (String(sql).includes('set_config')) asked.push(sql)
          return query(sql)
        }
        await databaseOn(fake, { durability }).write([X])
        expect(asked).toEqual([expect.stringMatching(/SET (LOCAL )?search_path = ''; SELECT set_config/)])
        const SETTING = /set_config\('(\w+)', ((?:[^()]|\([^()]*\))+), (true|false)\)/g
        const set = [...String(asked[0]).matchAll(SETTING)].map(([, ...parts]) => parts)
        expect(set).toEqual(
          [
            ['statement_timeout', "'50'"],
            ['lock_timeout', "'50'"],
            ['idle_in_transaction_session_timeout', "'50'"],
            // The warning of a wait that was cancelled is heard by it; a list may have holes.
            ['client_min_messages', "'warning'"],
            ['array_nulls', "'on'"],
            ['synchronous_commit', commits],
          ].map(one => [...one, isLocal]),
        )
      }
    },
  )

  test('a pool of the caller: nothing is asked, and nothing is set for its sessions', async () => {
    const { fake, sent } = direct()
    await databaseOn(fake, { ownsPool: false }).read(X)
    expect(sent).toEqual([['BEGIN', 'x', 'COMMIT']])
  })
})

describe('what the server has undone so that somebody else can go on', () => {
  const undone = (code: string): Error => Object.assign(new Error(code), { code })
  /** Fails with these, one after the other, at the statement. */
  const failing = (fake: FakePool, at: string, codes: string[]): string[] => {
    const seen: string[] = []
    fake.client.query = async sql => {
      seen.push(sql.split(' ')[0] ?? '')
      const code = sql === at ? codes.shift() : undefined
      if (code !== undefined) throw undone(code)
      return { rows: [], rowCount: 1 }
    }
    return seen
  }

  test.each(['40P01', '40001'])('%s: a write is done once more', async code => {
    for (const at of ['x', 'COMMIT']) {
      const fake = new FakePool()
      const seen = failing(fake, at, [code])
      expect(await writeRows(databaseOn(fake), 'x', [])).toBe(1)
      expect(seen).toEqual([
        ...(at === 'x' ? ['BEGIN', 'x'] : ['BEGIN', 'x', 'COMMIT']),
        'ROLLBACK',
        ...['BEGIN', 'x', 'COMMIT'],
      ])
      expect(fake.released).toEqual([false])
    }
  })

  test('a read as well', async () => {
    const fake = new FakePool()
    failing(fake, 'x', ['40001'])
    expect(await databaseOn(fake).read({ sql: 'x', values: [] })).toEqual([])
  })

  test('twice: whoever asked hears of it; and anything else at once', async () => {
    const fake = new FakePool()
    const seen = failing(fake, 'x', ['40P01', '40P01', '40P01'])
    await failure(() => writeRows(databaseOn(fake), 'x', []), 'ERR_BACKEND_BUSY')
    expect(seen).toEqual(['BEGIN', 'x', 'ROLLBACK', 'BEGIN', 'x'])
    const other = new FakePool()
    const once = failing(other, 'x', ['57P01'])
    await failure(() => writeRows(databaseOn(other), 'x', []), 'ERR_BACKEND_BUSY')
    expect(once).toEqual(['BEGIN', 'x'])
  })
})

describe('a notice at the commit of a replicated write', () => {
  const written = (...notices: object[]): Promise<number> => {
    const fake = new FakePool()
    fake.client.query = async sql => {
      if (sql === 'COMMIT') for (const notice of notices) fake.client.emit('notice', notice)
      return { rows: [{ standbys: 'one' }], rowCount: 1 }
    }
    return writeRows(databaseOn(fake, { durability: 'replicated' }), 'x', [])
  }

  test.each([
    { code: '01000', message: 'canceling wait …', file: 'syncrep.c', routine: 'SyncRepWaitForLSN' },
    // In another language; from a server that has the place in another file; told of without its place.
    {
      code: '01000',
      message: 'storniere Warten auf synchrone Replikation',
      file: 'syncrep.c',
      routine: 'SyncRepWaitForLSN',
    },
    { code: '57P01', file: 'other.c', routine: 'SyncRepWaitForLSN' },
    { code: '01000', message: 'anything', routine: 'exec_stmt_raise' },
    { code: '01000', message: 'anything', file: '', routine: '' },
    {
      code: '01000',
      message: 'a server that is built otherwise',
      file: 'replicate.c',
      routine: 'WaitForCopies',
    },
    {},
  ])('%j: nobody knows whether a standby has it', async notice => {
    await failure(() => written(notice), 'ERR_BACKEND_BUSY')
  })

  test('none, where the standbys were taken out of the settings before the commit or under it', async () => {
    for (const at of [1, 2]) {
      const fake = new FakePool()
      let looks = 0
      const committed: string[] = []
      fake.client.query = async sql => {
        if (sql === 'COMMIT') committed.push(sql)
        const isLook = sql.includes('synchronous_standby_names')
        if (isLook) looks++
        return { rows: [{ standbys: isLook && looks === at ? '' : 'one' }], rowCount: 1 }
      }
      const database = databaseOn(fake, { durability: 'replicated' })
      await failure(() => writeRows(database, 'x', []), 'ERR_BACKEND_BUSY')
      expect([looks, committed.length]).toEqual([at, at - 1])
    }
  })

  test('of a trigger: it is written', async () => {
    const notice = { code: '01000', message: 'canceling wait', file: 'pl_exec.c', routine: 'exec_stmt_raise' }
    expect(await written(notice)).toBe(1)
    expect(await written(notice, notice)).toBe(1)
    // The wait may have been cancelled before the trigger speaks, and after it.
    for (const notices of [
      [{}, notice],
      [notice, {}],
      [notice, {}, notice],
    ])
      await failure(() => written(...notices), 'ERR_BACKEND_BUSY')
  })
})

test('a migration whose connection is gone reports the first error, not that of the rollback', async () => {
  const first = new BackendError('ERR_BACKEND_BUSY', 'the connection is lost', { retryable: true })
  const plan = { begin: 'BEGIN', findVersions: '?', makeVersions: '!', versions: 'v', migrations: ['m'] }
  const session = {
    exec: async (sql: string) => {
      if (sql === '!') throw first
      if (sql === 'ROLLBACK') throw new Error('gone')
    },
    get: async () => undefined,
    run: async () => 0,
  }
  await expect(migrate(session, plan)).rejects.toBe(first)
})

test('a migration that fails is rolled back: the connection is of use to whoever has it next', async () => {
  const plan = { begin: 'BEGIN', findVersions: '?', makeVersions: '!', versions: 'v', migrations: ['m'] }
  const done: string[] = []
  const session = {
    exec: async (sql: string) => {
      done.push(sql)
      if (sql === 'm') throw new Error('no')
    },
    get: async () => undefined,
    run: async () => 0,
  }
  await expect(migrate(session, plan)).rejects.toThrow('no')
  expect(done).toEqual(['BEGIN', '!', 'm', 'ROLLBACK'])
})

describe('TLS to a database', () => {
  const refused = [
    { host: 'db.example' },
    { host: 'db.example', ssl: false },
    { host: 'db.example', ssl: { rejectUnauthorized: false } },
    { connectionString: 'postgres://u@db.example/x' },
    { connectionString: 'postgres://u@db.example/x?sslmode=require', ssl: true },
    { connectionString: 'postgres://u@db.example/x?sslmode=disable', ssl: true },
    { connectionString: 'postgres://u@/x?host=db.example', ssl: { rejectUnauthorized: false } },
    { connectionString: 'postgres://localhost/x?host=/run/postgresql&host=db.example' },
    { connectionString: 'postgres://db.example/x?sslmode=verify-full&sslmode=require' },
    // A host behind `socket:` is a host, and what TLS is asked for there is not heeded.
    { connectionString: 'socket:db.example' },
    { connectionString: 'SOCKET:db.example?db=x', ssl: false },
    { connectionString: 'socket:db.example?sslmode=verify-full' },
    { connectionString: 'socket:db.example?host=/run/postgresql' },
    { connectionString: 'socket:db.example?ssl=', ssl: true },
    // What does not decode may be any host.
    { connectionString: 'postgres://a%zz/x' },
    { connectionString: 'socket:%zz' },
    // What stands there is a database to `pg`, and its host a word of its own.
    { connectionString: 'localhost' },
  ]
  test.each(refused)('%j is refused', connection => {
    expect(() => requireVerifiedTls(connection)).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }))
  })

  test.each([
    {},
    { host: 'localhost' },
    { host: '/run/postgresql' },
    { connectionString: 'postgres://u@127.0.0.1:5432/x' },
    { connectionString: 'postgres:///x' },
    { connectionString: 'postgres://u@/x' },
    { connectionString: 'postgres://u@[::1]/x' },
    { connectionString: 'postgres://u:p@/x?host=/run/postgresql' },
    { connectionString: 'socket:/run/postgresql?db=x' },
    { connectionString: 'socket:db.example', ssl: true },
    { host: 'db.example', ssl: true },
    { host: 'db.example', ssl: { ca: 'pem' } },
    { connectionString: 'postgres://u@db.example/x', ssl: true },
    { connectionString: 'postgres://u@db.example/x?sslmode=verify-full' },
  ])('%j is taken', connection => {
    expect(requireVerifiedTls(connection)).toBeUndefined()
  })

  test('a path is the folder of a socket', () => {
    expect(() => requireVerifiedTls({ connectionString: '/var/run/postgresql' })).not.toThrow()
  })

  test.each(['postgres://u:canary@127.0.0.1:99999/x', 'canary', 'postgres://['])(
    'what does not read is told as that, and is not repeated: %s',
    connectionString => {
      expect(() => requireVerifiedTls({ connectionString })).toThrow(
        new ArgumentError('connectionString does not read: it is like postgres://user@host:5432/database'),
      )
    },
  )

  test('what is empty is nothing said: the environment says it then', () => {
    vi.stubEnv('PGHOST', 'db.example')
    try {
      for (const connection of [
        {},
        { host: '' },
        { connectionString: '' },
        { connectionString: 'postgres:///x' },
        // Beside a connection string `pg` takes no host.
        { host: 'localhost', connectionString: 'postgres:///x' },
      ]) {
        expect(() => requireVerifiedTls(connection), JSON.stringify(connection)).toThrow(ArgumentError)
      }
    } finally {
      vi.unstubAllEnvs()
    }
  })

  test('what the environment may switch off is no promise', () => {
    const connectionString = 'postgres://u@db.example/x?sslmode=verify-full'
    vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0')
    try {
      expect(() => requireVerifiedTls({ connectionString })).toThrow(ArgumentError)
      expect(requireVerifiedTls({ host: 'db.example', ssl: { ca: 'pem' } })).toBeUndefined()
    } finally {
      vi.unstubAllEnvs()
    }
  })

  test('without it only by name: the connection is then tried', async () => {
    const options = { host: 'db.invalid', panSealer: panSealer({ keys: [{ kid: 'PAN-1', key: SEAL_KEY }] }) }
    const { message } = await failure(() => openPostgresIssuerStore(options), 'ERR_ARGUMENT')
    expect(message).toContain('allowUnverifiedTls: true does without')
    for (const allowUnverifiedTls of ['yes', 1, null]) {
      await failure(
        () => openPostgresIssuerStore({ ...options, allowUnverifiedTls } as never),
        'ERR_ARGUMENT',
      )
    }
    const ended = vi.spyOn(Pool.prototype, 'end')
    await failure(() => openPostgresIssuerStore({ ...options, allowUnverifiedTls: true }), 'ERR_BACKEND_BUSY')
    // That for calls, and the one that stands by.
    expect(ended).toHaveBeenCalledTimes(2)
  })
})

describe('a connection that breaks as it is handed over', () => {
  /** Says that it is ready and, in the same packet, that it ends: a server whose postmaster was killed does. */
  const FAREWELL = Buffer.concat([
    Buffer.from([0x52, 0, 0, 0, 8, 0, 0, 0, 0]),
    Buffer.from([0x5a, 0, 0, 0, 5, 0x49]),
    message(0x45, 'SFATAL\0C57P01\0Mterminating connection due to unexpected postmaster exit\0\0'),
  ])

  function message(type: number, text: string): Buffer {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(4 + text.length)
    return Buffer.concat([Buffer.from([type]), length, Buffer.from(text, 'latin1')])
  }

  test('is an error of the call, and does not end the process', async () => {
    const server = createServer(socket => {
      socket.on('error', () => undefined)
      socket.once('data', () => socket.end(FAREWELL))
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const uncaught: unknown[] = []
    const note = (error: unknown): unknown => uncaught.push(error)
    const others = process.rawListeners('uncaughtException')
    process.removeAllListeners('uncaughtException')
    process.on('uncaughtException', note)
    try {
      const connectionString = `postgres://nobody@127.0.0.1:${port}/none`
      await expect(openPostgresIssuerStore({ connectionString, panSealer: sealer })).rejects.toMatchObject({
        code: expect.stringMatching(/^ERR_BACKEND_(BUSY|FAILED)$/),
      })
      await new Promise(resolve => setImmediate(resolve))
    } finally {
      process.removeListener('uncaughtException', note)
      for (const other of others) process.on('uncaughtException', other as NodeJS.UncaughtExceptionListener)
      server.close()
    }
    expect(uncaught).toEqual([])
  })
})
