/** The stores of the change counter: what they are given holds no secret, so nothing they say can. */
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import {
  type Backend,
  ChangeCounter,
  type ChangeCounterStore,
  memoryStore,
  Pan,
  requestFingerprint,
} from '../../src/index.js'
import { type IssuerStore, openPostgresIssuerStore } from '../../src/postgres.js'
import { openSqliteIssuerStore, panSealer } from '../../src/sqlite.js'
import { someOf } from '../support/some-of.js'
import { canariesOf, found } from './canaries.js'
import { callersError, hostileValues, places, replaced } from './hostile.js'
import { leaksOf, outcomeOf } from './look.js'
import { clearBlock, pan, planted, storedBlock } from './secrets.js'
import { everythingShown } from './shown.js'
import { openSoftware, quoting } from './world.js'

const HOSTILE = hostileValues(planted)
const folder = mkdtempSync(join(tmpdir(), 'ipc-leaks-'))
afterAll(() => rmSync(folder, { recursive: true }))

const counterOn = (store: ChangeCounterStore, backend: Backend): ChangeCounter =>
  new ChangeCounter({
    store,
    backend,
    firstPcc: '0042',
    rule: 'increment-on-accept',
    wrap: 'refuse',
    ttlSeconds: 60,
  })

describe('a store', () => {
  test('is given no intdatag and no PRW', async () => {
    await using backend = await openSoftware()
    const given: unknown[] = []
    const inner = memoryStore()
    const store: ChangeCounterStore = {
      read: key => inner.read(note(key)),
      compareAndSet: (...args) => inner.compareAndSet(...note(args)),
      compareAndSetAll: async writes => (await inner.compareAndSetAll?.(note(writes))) ?? false,
      purge: now => inner.purge(now),
      keys: page => inner.keys(page),
    }
    const note = <T>(value: T): T => {
      given.push(value)
      return value
    }
    const counter = counterOn(store, backend)
    const { intdatag, pcc } = await counter.issue({ cardId: 'card-1' })
    const prwValue = clearBlock.toString('hex')
    const fingerprint = requestFingerprint({ intdatag, prwValue })
    const { replayed } = await counter.accept({
      request: { cardId: 'card-1', intdatag, pcc, fingerprint },
      store: async () => {},
    })
    expect(replayed).toBe(false)
    const shown = everythingShown(given)
    expect(shown).toContain('card-1')
    expect(found(shown, canariesOf({ intdatag, prwValue }))).toEqual([])
  })

  test('that throws gets its own error back from the counter, and nothing of ours is around it', async () => {
    await using backend = await openSoftware()
    const thrown = callersError(planted.texts.join(' '))
    const fails = (): Promise<never> => Promise.reject(thrown)
    const failing = { read: fails, compareAndSet: fails, compareAndSetAll: fails, purge: fails, keys: fails }
    const counter = counterOn(failing, backend)
    const request = {
      cardId: 'card-1',
      intdatag: 'TAG-0123456789-ABCDE',
      pcc: '0042',
      fingerprint: new Uint8Array(32),
    }
    for (const call of [
      () => counter.issue({ cardId: 'card-1' }),
      () => counter.check(request),
      () => counter.accept({ request, store: async () => {} }),
      () => counter.purge(),
    ])
      expect(await outcomeOf(call)).toEqual({ error: thrown })
  })
})

const KEY = randomBytes(32)
const ref = { issuerId: 'is_tbank01', cardId: 'card-1' }
const card = () => ({ state: 'active', pan: Pan.from(pan), setPinTypes: ['ISO0'] }) as const
const block = () => ({ block: Uint8Array.from(storedBlock), kid: 'STORE' })

/** Every call of an issuer's store with its right arguments, by name, and what each is there to give. */
const calls = (
  store: IssuerStore,
): Readonly<Record<string, readonly [() => unknown, readonly string[]]>> => ({
  'cards.put': [() => store.cards.put(ref, card()), []],
  'cards.find': [() => store.cards.find(ref), []],
  'cards.setState': [() => store.cards.setState(ref, 'active'), []],
  'pins.storeBlock': [() => store.pins.storeBlock(ref, block()), []],
  'pins.readBlock': [() => store.pins.readBlock(ref), ['stored block']],
  'pins.readPrw': [() => store.pins.readPrw(ref), []],
  counters: [() => store.counters('is_tbank01'), []],
})

async function leaksOfStore(store: IssuerStore, what: string): Promise<{ leaks: string[]; failed: number }> {
  const leaks = leaksOf({ result: store }, what)
  let failed = 0
  for (const [name, [call, meant]] of Object.entries(calls(store))) {
    const outcome = await outcomeOf(call)
    if ('error' in outcome) failed++
    leaks.push(...leaksOf(outcome, `${what}, ${name}`, meant))
  }
  return { leaks, failed }
}

describe("an issuer's store shows no secret", () => {
  const openFile = () =>
    openSqliteIssuerStore({
      path: join(folder, 'issuer.db'),
      driver: 'better-sqlite3',
      panSealer: panSealer({ keys: [{ kid: 'PAN-1', key: KEY }] }),
      executor: 'inline',
    })

  test('in SQLite, open and closed, nor does its file show the PAN', async () => {
    const store = await openFile()
    expect(await leaksOfStore(store, 'SQLite')).toEqual({ leaks: [], failed: 0 })
    for (const name of someOf(readdirSync(folder).filter(name => name.startsWith('issuer.db')))) {
      const bytes = readFileSync(join(folder, name)).toString('latin1')
      expect(found(bytes, canariesOf({ PAN: pan, key: KEY }))).toEqual([])
    }
    await store.close()
    expect((await leaksOfStore(store, 'SQLite, closed')).leaks).toEqual([])
  })

  test('with wrong arguments in every place', async () => {
    await using store = await openFile()
    const leaks: string[] = []
    const methods: Readonly<
      Record<string, readonly [(...args: never[]) => unknown, () => readonly unknown[]]>
    > = {
      put: [store.cards.put, () => [ref, card()]],
      find: [store.cards.find, () => [ref, {}]],
      setState: [store.cards.setState, () => [ref, 'active']],
      remove: [store.cards.remove, () => [ref]],
      storeBlock: [store.pins.storeBlock, () => [ref, block()]],
      readBlock: [store.pins.readBlock, () => [ref, {}]],
    }
    for (const [name, [method, args]] of Object.entries(methods)) {
      for (const path of places(args())) {
        for (const { name: how, value } of HOSTILE) {
          const outcome = await outcomeOf(() => Reflect.apply(method, store, replaced(args(), path, value)))
          if ('error' in outcome) leaks.push(...leaksOf(outcome, `${name}, ${how} as ${path.join('.')}`))
        }
      }
    }
    expect(leaks).toEqual([])
  })

  test('nor do the checks that a store of your own uses', async () => {
    const testing = await import('../../src/testing.js')
    const leaks: string[] = []
    for (const [name, check] of Object.entries({
      readCard: (value: unknown) => testing.readCard(value as never),
      'readCard, a field': (value: unknown) =>
        testing.readCard({ ...card(), seccos: { fields: { f: value } } } as never),
      readPinBlock: (value: unknown) => testing.readPinBlock({ ...block(), kid: value } as never),
      readPrw: (value: unknown) => testing.readPrw({ prwValue: value, profile: value } as never),
      readRef: (value: unknown) => testing.readRef({ ...ref, cardId: value } as never),
      requireIssuerId: (value: unknown) => testing.requireIssuerId(value),
      requireState: (value: unknown) => testing.requireState(value),
    })) {
      for (const { name: how, value } of HOSTILE) {
        const outcome = await outcomeOf(() => check(value))
        if ('error' in outcome) leaks.push(...leaksOf(outcome, `${name}, ${how}`))
      }
    }
    leaks.push(...leaksOf({ result: [testing.noSuchCard(), testing.storeClosed()] }, 'the errors'))
    expect(leaks).toEqual([])
  })

  test('in PostgreSQL, through a pool whose errors quote everything they were given', async () => {
    let quotes = false
    const query = async (...args: unknown[]) => {
      if (quotes) throw Object.assign(quoting('query', args), { code: '23505', detail: JSON.stringify(args) })
      const settings = { statement_timeout: '5s', synchronous_commit: 'on', fsync: 'on', yes: 1, version: 99 }
      return { rows: [settings], rowCount: 1 }
    }
    const client = { query, release: () => {}, on: () => {}, removeListener: () => {} }
    const pool = { connect: async () => client, end: async () => {}, on: () => {}, removeListener: () => {} }
    const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: KEY }] })
    const open = () => openPostgresIssuerStore({ pool: pool as never, panSealer: sealer })
    const opened = await outcomeOf(open)
    expect(leaksOf(opened, 'opening')).toEqual([])
    quotes = true
    const failed = await outcomeOf(open)
    expect('error' in failed).toBe(true)
    expect(leaksOf(failed, 'opening on a quoting pool')).toEqual([])
    if ('error' in opened) return
    const { leaks, failed: count } = await leaksOfStore(opened.result as IssuerStore, 'a quoting pool')
    expect(leaks).toEqual([])
    expect(count).toBeGreaterThan(4)
  })
})

describe('a sealer of PANs shows no secret', () => {
  test('called rightly and wrongly', async () => {
    const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: KEY }] })
    const seal = () => sealer.seal(Pan.from(pan), ref)
    const sealed = (await seal()) as Uint8Array
    const tries: (() => unknown)[] = [() => sealer, seal, () => sealer.open(sealed, ref)]
    for (const { value } of HOSTILE) {
      tries.push(
        () => sealer.open(value as Uint8Array, ref),
        () => sealer.open(sealed, value as typeof ref),
        () => sealer.seal(value as Pan, ref),
        () => panSealer({ keys: [{ kid: 'PAN-1', key: value as Uint8Array }] }),
        () => panSealer({ keys: value as [] }),
        () => panSealer(value as never),
      )
    }
    const leaks: string[] = []
    for (const [i, call] of tries.entries()) leaks.push(...leaksOf(await outcomeOf(call), `call ${i}`))
    expect(leaks).toEqual([])
    const shown = everythingShown(sealer)
    expect(found(shown, canariesOf({ key: KEY }))).toEqual([])
  })
})
