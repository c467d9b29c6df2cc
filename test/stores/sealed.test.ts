/** Rows that cannot be forged, in SQLite (PostgreSQL: `native-test/postgres/sealed.test.ts`), and the seal's own key. */
import { mkdtempSync, rmSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { memoryIssuerStore, resealRows } from '../../src/d1.js'
import { type Backend, type Key, Pan, TryCounter } from '../../src/index.js'
import { softwareBackend } from '../../src/software.js'
import {
  type IssuerStore,
  openSqliteIssuerStore,
  panSealer,
  type RowSealer,
  rowSealer,
} from '../../src/sqlite.js'
import { openFile } from '../../src/stores/sqlite/driver.js'
import { issuerStoreContract } from '../../src/testing.js'
import { failure } from '../support/errors.js'
import { someOf } from '../support/some-of.js'
import { AVAILABLE } from './drivers.js'
import { expectForgeriesNoticed, expectRequestsSealed, type Forgery } from './forge.js'
import { blockOf, counterOn, ISSUER, SEAL_KEY } from './store-fixtures.js'

const folder = mkdtempSync(join(tmpdir(), 'sealed-'))
const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: SEAL_KEY }] })
const CARD = { issuerId: ISSUER, cardId: 'card-0001' }
const RECORD = { state: 'active', pan: Pan.from('9999990123456789'), setPinTypes: ['ISO0'] } as const
let files = 0
let backend: Backend
let one: Key
let two: Key
let verifying: Key
let generating: Key
let tdea: Key
let pinKey: Key

beforeAll(async () => {
  const aes = (kid: string, byte: string) =>
    ({ kid, usage: 'cmac', algorithm: 'aes-128', material: byte.repeat(16) }) as const
  const weak = '0123456789ABCDEFFEDCBA9876543210'
  backend = await softwareBackend({
    keys: [
      aes('ROWS-1', '1A'),
      aes('ROWS-2', '2B'),
      { kid: 'ROWS-T', usage: 'cmac', algorithm: 'tdea-2key', material: weak },
      {
        kid: 'PEK',
        usage: 'pin-encryption',
        algorithm: 'tdea-2key',
        material: '89E88CF7931444F334BD7547FC3F380C',
      },
    ],
  })
  one = await backend.bind({ kid: 'ROWS-1', usage: 'cmac' })
  two = await backend.bind({ kid: 'ROWS-2', usage: 'cmac' })
  verifying = await backend.bind({ kid: 'ROWS-1', usage: 'cmac', mode: 'V' })
  generating = await backend.bind({ kid: 'ROWS-1', usage: 'cmac', mode: 'G' })
  tdea = await backend.bind({ kid: 'ROWS-T', usage: 'cmac' })
  pinKey = await backend.bind({ kid: 'PEK', usage: 'pin-encryption' })
})
afterAll(async () => {
  await backend.close()
  rmSync(folder, { recursive: true })
})

test.each([
  ['no options', () => undefined, 'ERR_ARGUMENT'],
  ['no list', () => ({ keys: one }), 'ERR_ARGUMENT'],
  ['no key', () => ({ keys: [] }), 'ERR_ARGUMENT'],
  ['what is no key', () => ({ keys: [{ kid: 'ROWS-1' }] }), 'ERR_ARGUMENT'],
  ['one kid twice', () => ({ keys: [one, one] }), 'ERR_ARGUMENT'],
  ['a key of another usage', () => ({ keys: [pinKey] }), 'ERR_KEY_USAGE'],
  ['a key that only verifies', () => ({ keys: [verifying] }), 'ERR_KEY_USAGE'],
  ['a key that only generates, the last', () => ({ keys: [two, generating] }), 'ERR_KEY_USAGE'],
  ['a TDEA key', () => ({ keys: [tdea] }), 'ERR_ARGUMENT'],
  ['acceptUnsealed that is no boolean', () => ({ keys: [one], acceptUnsealed: 'yes' }), 'ERR_ARGUMENT'],
])('rowSealer refuses %s', async (_, options, code) => {
  await failure(async () => rowSealer(options() as never), code as 'ERR_ARGUMENT')
})

test('a seal of another form is wrong; one under a key that is not here names it', async () => {
  const message = new Uint8Array(3)
  const seals = rowSealer({ keys: [one] })
  const seal = await seals.seal(message)
  expect([await seals.verify(message, seal), seals.isCurrent(seal)]).toEqual([true, true])
  for (const other of [
    new Uint8Array(0),
    seal.slice(1),
    seal.slice(0, -1),
    Uint8Array.from([1, 1, 7, ...seal.slice(-16)]),
    Uint8Array.from([2, ...seal.slice(1)]),
  ]) {
    expect([await seals.verify(message, other), seals.isCurrent(other)]).toEqual([false, false])
  }
  const { message: text } = await failure(
    () => rowSealer({ keys: [two] }).verify(message, seal),
    'ERR_KEY_NOT_FOUND',
  )
  expect(text).toContain('ROWS-1')
})

test('a store is opened with a RowSealer or none; one without seals has none to renew', async () => {
  const options = { path: join(folder, 'x.db'), driver: 'better-sqlite3', panSealer: sealer } as const
  await failure(() => openSqliteIssuerStore({ ...options, rowSealer: {} as RowSealer }), 'ERR_ARGUMENT')
  await failure(() => resealRows({ store: memoryIssuerStore() }), 'ERR_ARGUMENT')
})

test('resealRows refuses a batch of nothing, and stops between cards and requests', async () => {
  const controller = new AbortController()
  const untouched = () => expect.unreachable('asked')
  const seals = { reseal: untouched, resealRequests: untouched, count: untouched }
  await failure(() => resealRows({ store: { seals }, batch: 0 }), 'ERR_ARGUMENT')
  await failure(() => resealRows({ store: { seals }, batch: 8193 }), 'ERR_ARGUMENT')
  const reseal = async () => {
    controller.abort()
    return []
  }
  const stopped = resealRows({ store: { seals: { ...seals, reseal } } }, { signal: controller.signal })
  await failure(() => stopped, 'ERR_ABORTED')
})

describe.each(AVAILABLE)('%s', driver => {
  const newPath = (): string => join(folder, `${++files}.db`)
  const open = (path: string, rows?: RowSealer): Promise<IssuerStore> =>
    openSqliteIssuerStore({
      path,
      driver,
      panSealer: sealer,
      executor: 'inline',
      ...(rows !== undefined && { rowSealer: rows }),
    })
  const withSql = async (path: string, store: IssuerStore, use: (forgery: Forgery) => Promise<void>) => {
    const { database } = await openFile(path, driver)
    const sql = async (text: string, values: readonly unknown[] = []) => {
      const named = Object.fromEntries(values.map((value, i) => [String(i + 1), value as string]))
      const statement = database.prepare(text)
      if (!text.startsWith('SELECT')) statement.run(named)
      else return statement.all(named).map(row => ({ ...Object(row) }))
      return []
    }
    try {
      await use({ store, sql, prefix: 'issuer_pin_' })
    } finally {
      database.close()
    }
  }

  const contract = issuerStoreContract({
    durable: true,
    open: async () => {
      const path = newPath()
      const rows = rowSealer({ keys: [one] })
      const stored = async () =>
        Buffer.concat([await readFile(path), await readFile(`${path}-wal`).catch(() => Buffer.alloc(0))])
      return {
        one: await open(path, rows),
        other: await open(path, rows),
        reopen: () => open(path, rows),
        stored,
      }
    },
  })
  test.each(contract)('sealed: $name', ({ run }) => run())

  test('every forged, copied, older or missing row is noticed', async () => {
    const path = newPath()
    await using store = await open(path, rowSealer({ keys: [one] }))
    await withSql(path, store, async forgery => {
      const noticed = await expectForgeriesNoticed(forgery)
      for (const table of ['cards', 'pins', 'counters', 'tries', 'seals'])
        expect(noticed.filter(what => what.startsWith(table)).length).toBeGreaterThan(6)
    })
  })

  test('the record of a request cannot be forged', async () => {
    const path = newPath()
    await using store = await open(path, rowSealer({ keys: [one] }))
    await withSql(path, store, expectRequestsSealed)
  })

  test('rows that stand in somebody’s database since version 1 match their seals', async () => {
    const path = newPath()
    await using store = await open(path, rowSealer({ keys: [one] }))
    const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'hex'))
    const digest = new Uint8Array(32).fill(7)
    await withSql(path, store, async ({ sql }) => {
      // Digests of the rows and MACs made by Python and OpenSSL, by the form in row-sealer.ts and sealed.ts.
      for (const [table, values] of [
        ['cards', ['active', hex('A1B2C3'), '["ISO0"]', null, 'A'.repeat(16)]],
        ['pins', [hex('0123456789ABCDEF'), 'PEK-STORE', null, null, 2, 'B'.repeat(16)]],
        ['seals', [5, hex('0106524F57532D31F1C0BEF8C3AC0B5AB8F9E9BA2FB6758C'), 'ROWS-1']],
      ] as const) {
        const places = values.map((_, i) => `$${i + 3}`).join(', ')
        await sql(`INSERT INTO issuer_pin_${table} VALUES ($1, $2, ${places})`, [
          ISSUER,
          'card-0001',
          ...values,
        ])
      }
      const counters = 'INSERT INTO issuer_pin_counters VALUES ($1, $2, $3, $4, $5)'
      await sql(counters, [ISSUER, 'card/card-0001', 3, '{"pcc":"0001"}', 1_700_000_000_000])
      await sql(counters, [ISSUER, 'tries/card-0001', 1, '{}', null])
      const seal = hex('0106524F57532D31D93EC5B3FB4244D232B954F27C9AA331')
      const request = [digest, ISSUER, 'card-0001', 'JWE-1', 1_700_000_000_000, 0, 'C'.repeat(16), seal]
      await sql('INSERT INTO issuer_pin_requests VALUES ($1, $2, $3, $4, $5, $6, $7, $8)', request)
    })
    expect(await store.pins.readBlock(CARD)).toEqual({ block: hex('0123456789ABCDEF'), kid: 'PEK-STORE' })
    expect(await store.pins.knowsRequest(digest)).toBe(true)
    expect(await resealRows({ store })).toBe(1)
  })

  test('two write to one card at once: both are done, and the seal is right', async () => {
    const path = newPath()
    await using store = await open(path, rowSealer({ keys: [one] }))
    await store.cards.put(CARD, RECORD)
    await Promise.all(Array.from({ length: 8 }, (_, i) => store.pins.storeBlock(CARD, blockOf(i))))
    await Promise.all(Array.from({ length: 4 }, () => counterOn(store).issue({ cardId: CARD.cardId })))
    expect((await store.pins.readBlock(CARD))?.kid).toBe('PEK-STORE')
    expect(await resealRows({ store })).toBe(1)
  })

  test('of the turns of cards none is kept once nobody writes', async () => {
    const path = newPath()
    await using store = await open(path, rowSealer({ keys: [one] }))
    const set = vi.spyOn(Map.prototype, 'set')
    await store.cards.put(CARD, RECORD)
    const turns = new Set(
      set.mock.contexts.filter((_, i) => set.mock.calls[i]?.[0] === `${ISSUER}/card-0001`),
    )
    set.mockRestore()
    await Promise.allSettled([
      store.pins.storeBlock(CARD, blockOf(1)),
      store.pins.storeBlock({ ...CARD, cardId: 'nobody' }, blockOf(1)),
      store.cards.setState(CARD, 'active'),
    ])
    const kept = someOf([...turns] as Map<string, unknown>[]).filter(map =>
      [...map.values()].some(value => value instanceof Promise),
    )
    expect(kept).toEqual([])
  })

  test('closing waits for rows that are sealed anew, and refuses what comes after', async () => {
    const rows = rowSealer({ keys: [one] })
    const slow: RowSealer = {
      acceptUnsealed: false,
      seal: message => rows.seal(message),
      isCurrent: () => false,
      verify: async (message, seal) => {
        await turn()
        return rows.verify(message, seal)
      },
    }
    const store = await open(newPath(), slow)
    await store.cards.put(CARD, RECORD)
    const { seals = expect.unreachable() } = store
    const begun = [seals.reseal({ limit: 9 }), seals.resealRequests({ limit: 9 }), seals.count()]
    await store.close()
    expect((await Promise.allSettled(begun)).map(({ status }) => status)).toEqual(
      begun.map(() => 'fulfilled'),
    )
    for (const call of [
      () => seals.reseal({ limit: 9 }),
      () => seals.resealRequests({ limit: 9 }),
      () => seals.count(),
    ])
      await failure(call, 'ERR_BACKEND_CLOSED')
  })

  test('a card whose writers never end is busy, and may be tried again', async () => {
    const path = newPath()
    await using other = await open(path, rowSealer({ keys: [one] }))
    await other.cards.put(CARD, RECORD)
    const rows = rowSealer({ keys: [one] })
    let writes = 0
    const slow: RowSealer = {
      acceptUnsealed: false,
      verify: (message, seal) => rows.verify(message, seal),
      isCurrent: seal => rows.isCurrent(seal),
      seal: async message => {
        // Between rehearsal and writing, somebody else writes.
        await other.pins.storeBlock(CARD, blockOf(++writes))
        return rows.seal(message)
      },
    }
    await using store = await open(path, slow)
    const { retryable } = await failure(() => store.pins.storeBlock(CARD, blockOf(1000)), 'ERR_BACKEND_BUSY')
    expect([retryable, writes]).toEqual([true, 50])
  })

  test('a request that is remembered anew while its record is sealed anew keeps the seal it came with', async () => {
    const path = newPath()
    const request = (jweKid: string) => ({ digest: new Uint8Array(32).fill(7), jweKid, acceptedAt: 1 })
    {
      await using before = await open(path, rowSealer({ keys: [one] }))
      await before.cards.put(CARD, RECORD)
      await before.pins.acceptBlock(CARD, blockOf(1), request('JWE-1'))
    }
    const rows = rowSealer({ keys: [two, one] })
    await using other = await open(path, rows)
    let isAnew = false
    const racing: RowSealer = {
      acceptUnsealed: false,
      verify: (message, seal) => rows.verify(message, seal),
      isCurrent: seal => rows.isCurrent(seal),
      seal: async message => {
        if (!isAnew && Buffer.from(message).includes('issuer-pin-crypto request')) {
          isAnew = true
          expect(await other.pins.forgetRequests({ issuerIds: [ISSUER], jweKids: ['JWE-2'] })).toBe(1)
          await other.pins.acceptBlock(CARD, blockOf(2), request('JWE-2'))
        }
        return rows.seal(message)
      },
    }
    await using store = await open(path, racing)
    expect(await resealRows({ store })).toBe(1)
    expect(isAnew).toBe(true)
    expect(await other.pins.acceptBlock(CARD, blockOf(2), request('JWE-2'))).toEqual({
      outcome: 'replayed',
      current: true,
    })
  })

  test('rows of a store without seals: refused, taken by name, sealed page by page; a new key takes over', async () => {
    const path = newPath()
    const refs = Array.from({ length: 5 }, (_, i) => ({ issuerId: ISSUER, cardId: `card-${i}` }))
    const [first] = refs
    if (first === undefined) return expect.unreachable()
    {
      await using plain = await open(path)
      for (const [i, ref] of refs.entries()) {
        await plain.cards.put(ref, RECORD)
        await plain.pins.acceptBlock(ref, blockOf(i), {
          digest: new Uint8Array(32).fill(i),
          jweKid: 'JWE-1',
          acceptedAt: 1,
        })
      }
      // A card that is gone, whose counter stays.
      await counterOn(plain).issue({ cardId: 'card-gone' })
      // One of which there are tries alone.
      const products = { classic: { limit: 3, afterSuccess: 'reset' } } as const
      const tries = new TryCounter({ store: plain.counters(ISSUER), products })
      await tries.begin({ cardId: 'card-tried', product: 'classic' })
    }
    {
      await using strict = await open(path, rowSealer({ keys: [one] }))
      await failure(() => strict.cards.find(first), 'ERR_BACKEND_FAILED')
      await failure(() => strict.pins.storeBlock(first, blockOf(9)), 'ERR_BACKEND_FAILED')
      await failure(() => resealRows({ store: strict }), 'ERR_BACKEND_FAILED')
    }
    {
      await using taking = await open(path, rowSealer({ keys: [one], acceptUnsealed: true }))
      expect((await taking.cards.find(first))?.state).toBe('active')
      expect(await taking.seals?.count()).toEqual([])
      const seen: [number, string][] = []
      const onProgress = (cards: number, last: { cardId: string }) => void seen.push([cards, last.cardId])
      expect(await resealRows({ store: taking, batch: 4, onProgress })).toBe(7)
      expect(seen).toEqual([
        [4, 'card-3'],
        [7, 'card-tried'],
      ])
      expect(await taking.seals?.count()).toEqual([{ kid: 'ROWS-1', cards: 7 }])
    }
    {
      await using both = await open(path, rowSealer({ keys: [two, one] }))
      await both.pins.storeBlock(first, blockOf(10))
      expect(await both.seals?.count()).toEqual([
        { kid: 'ROWS-1', cards: 6 },
        { kid: 'ROWS-2', cards: 1 },
      ])
      // Of a page of requests the first are sealed under the new key already.
      const request = { digest: new Uint8Array(32), jweKid: 'JWE-1', acceptedAt: 2 }
      request.digest[31] = 1
      await both.pins.acceptBlock(first, blockOf(10), request)
      expect(await resealRows({ store: both, after: first })).toBe(6)
      expect(await both.seals?.count()).toEqual([{ kid: 'ROWS-2', cards: 7 }])
    }
    await using last = await open(path, rowSealer({ keys: [two] }))
    expect(await resealRows({ store: last, batch: 1 })).toBe(7)
    expect(await last.pins.readBlock(first)).toEqual(blockOf(10))
    const again = { digest: new Uint8Array(32).fill(1), jweKid: 'JWE-1', acceptedAt: 2 }
    expect(await last.pins.acceptBlock({ issuerId: ISSUER, cardId: 'card-1' }, blockOf(1), again)).toEqual({
      outcome: 'replayed',
      current: true,
    })
    await failure(() => resealRows({ store: last }, { signal: AbortSignal.abort() }), 'ERR_ABORTED')
  })
})
