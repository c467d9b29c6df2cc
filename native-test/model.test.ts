/**
 * The ledger of a card as a model that `spin` explores exhaustively (`model/counter.pml`): the fence and synchronous
 * replication each prevent what they are for, and without them the model finds the fault, so that it can see one. Its traces are
 * played to the real stores, those with a failover to a primary that is killed and a standby that is promoted.
 * `MODEL_TRACES=600` for more of them.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { memoryIssuerStore } from '../src/d1.js'
import { openPostgresIssuerStore, type PostgresIssuerStore } from '../src/postgres.js'
import { type IssuerStore, panSealer } from '../src/sqlite.js'
import { AVAILABLE } from '../test/stores/drivers.js'
import { SEAL_KEY } from '../test/stores/store-fixtures.js'
import { openHere } from '../test/stores/threads.js'
import { beginTrace, playSteps, playTrace, stepsOf, type TraceStep } from '../test/stores/traces.js'
import { describePostgres, PostgresServer } from './postgres.js'

const MODEL = fileURLToPath(new URL('./model/counter.pml', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'ipc-model-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

function run(command: string, ...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd: folder, encoding: 'utf8' })
  if (error !== undefined) throw new Error(`${command} is missing: sudo apt-get install spin gcc`)
  if (status !== 0) throw new Error(`${command}: ${stdout}${stderr}`)
  return stdout
}

/** One order of the model's steps, by chance: the same seed, the same trace. */
function simulate(flags: readonly string[], seed: number): readonly TraceStep[] {
  const args = [...flags.map(flag => `-D${flag}`), `-n${seed}`, MODEL]
  const { stdout } = spawnSync('spin', args, { cwd: folder, encoding: 'utf8' })
  return stepsOf(stdout)
}

/** How many errors there are among all states, and which assertion broke. */
function explore(flags: readonly string[]): { errors: number; states: number; broken: string | undefined } {
  run('spin', ...flags.map(flag => `-D${flag}`), '-a', MODEL)
  run('gcc', '-O1', '-DSAFETY', '-o', 'pan', 'pan.c')
  const report = run(join(folder, 'pan'), '-m20000')
  expect(report).not.toContain('Search not completed: max depth')
  const number = (pattern: RegExp): number => Number(pattern.exec(report)?.[1] ?? Number.NaN)
  const broken = /assertion violated (.*) \(at depth/.exec(report)?.[1]?.trim()
  return { errors: number(/errors: (\d+)/), states: number(/(\d+) states, stored/), broken }
}

const ONCE = '!((accepted1&&accepted2))'
const DURABLE = '((acknowledged==0)||(db[1].pin==acknowledged))'

test.each([
  ['asynchronous, no fence: an intdatag is accepted twice', [], ONCE],
  ['asynchronous with the fence: none is', ['FENCE'], undefined],
  ['asynchronous with the fence: what was acknowledged may be lost', ['FENCE', 'DURABLE'], DURABLE],
  [
    'replicated: nothing acknowledged is lost, none is accepted twice',
    ['FENCE', 'SYNC', 'DURABLE'],
    undefined,
  ],
])('%s', (name, flags, expected) => {
  const { errors, states, broken } = explore(flags)
  console.log(`${name}: ${states} states`)
  expect(broken).toBe(expected)
  expect(errors).toBe(expected === undefined ? 0 : 1)
  expect(states).toBeGreaterThan(expected === undefined ? 500 : 100)
})

describe('its traces, played to the stores', () => {
  const traceOf = (seed: number): readonly TraceStep[] => simulate(['ONE'], seed)
  const seeds = Array.from({ length: Number(process.env['MODEL_TRACES'] ?? 24) }, (_, i) => i + 1)
  const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: SEAL_KEY }] })

  const play = async (store: IssuerStore): Promise<void> => {
    const played = new Set<string>()
    for (const seed of seeds) {
      const trace = traceOf(seed)
      expect(trace.length).toBeGreaterThan(3)
      await playTrace(store, `trace-${seed}`, trace)
      played.add(JSON.stringify(trace))
    }
    // Orders that differ, and both what is accepted and what is refused.
    expect(played.size).toBeGreaterThan(seeds.length / 3)
    const all = [...played].join()
    for (const outcome of ['claimed', 'replayed', 'refused', 'accepted']) expect(all).toContain(outcome)
    await store.close()
  }

  test('in memory', () => play(memoryIssuerStore()))

  test.each(AVAILABLE)('SQLite: %s', async driver => {
    await play(
      await openHere({ path: join(folder, `${driver.replace(':', '-')}.db`), driver, panSealer: sealer }),
    )
  })

  test('a store that keeps no PRW is noticed', async () => {
    const store = memoryIssuerStore()
    const pins = { ...store.pins, storePrw: async () => {} }
    const wrong = Object.assign(Object.create(store), { pins }) as IssuerStore
    await expect(playTrace(wrong, 'wrong', traceOf(1))).rejects.toThrow()
  })

  describePostgres('PostgreSQL', server => {
    test('the same traces', async () => {
      const { connectionString } = server
      await play(await openPostgresIssuerStore({ connectionString, schema: 'traces', panSealer: sealer }))
    })
  })
})

describePostgres('its traces with a failover, played to a primary and its standby', () => {
  const COUNT = Number(process.env['MODEL_TRACES'] ?? 48)
  const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: SEAL_KEY }] })
  const servers: PostgresServer[] = []
  const stores: PostgresIssuerStore[] = []
  afterEach(async () => {
    for (const store of stores.splice(0)) await store.close()
    for (const server of servers.splice(0).reverse()) await server.remove()
  })
  const start = async (...args: ConstructorParameters<typeof PostgresServer>): Promise<PostgresServer> => {
    const server = new PostgresServer(...args)
    servers.push(server)
    await server.start()
    return server
  }
  const open = async ({ connectionString }: PostgresServer, more: object): Promise<PostgresIssuerStore> => {
    const store = await openPostgresIssuerStore({ connectionString, panSealer: sealer, ...more })
    stores.push(store)
    return store
  }

  const streaming = (primary: PostgresServer, synchronous: boolean) => {
    const which = synchronous ? "('sync', 'quorum')" : "('async')"
    const ask = `SELECT 1 FROM pg_stat_replication WHERE state = 'streaming' AND sync_state IN ${which}`
    return expect.poll(async () => (await primary.query(ask)).rows.length).toBe(1)
  }

  /**
   * Every card has a trace, and all of them share one failover: what the standby has is what was shipped last, so all
   * traces are played to their last shipment, then all to their failover, then to their end.
   */
  const play = async (
    flags: readonly string[],
    more: object,
    shipped: 'now and then' | 'with each commit',
  ) => {
    const traces = Array.from({ length: COUNT }, (_, i) => simulate([...flags, `LATE=${i % 2}`], i))
    const settings = ['wal_log_hints=on', `synchronous_standby_names=${'durability' in more ? '*' : ''}`]
    const primary = await start(settings)
    const standby = await start(['wal_log_hints=on'], { server: primary, as: 'standby' })
    await streaming(primary, 'durability' in more)
    let serving = await open(primary, more)
    const store = following(() => serving)
    const cards = await Promise.all(traces.map((_, i) => beginTrace(store, `trace-${i}`)))
    /** The steps of each trace from a place to another; a trace that has no such place stays where it is. */
    const phase = (from: (trace: readonly TraceStep[]) => number, to: typeof from) =>
      Promise.all(
        cards.map((card, i) =>
          playSteps(card, (traces[i] ?? []).slice(from(traces[i] ?? []), to(traces[i] ?? []))),
        ),
      )
    const atShip = (trace: readonly TraceStep[]) => trace.findLastIndex(({ step }) => step === 'ship') + 1
    const atFailover = (trace: readonly TraceStep[]) => trace.findIndex(({ step }) => step === 'failover')
    await standby.caughtUp(primary)
    if (shipped === 'now and then') await standby.stopReceiving()
    await phase(() => 0, atShip)
    if (shipped === 'now and then') await standby.receiveOnce(primary)
    await phase(atShip, atFailover)
    await primary.crash()
    await standby.promote()
    if ('durability' in more) {
      await standby.query("ALTER SYSTEM SET synchronous_standby_names = '*'")
      await standby.query('SELECT pg_reload_conf()')
      await start(['wal_log_hints=on'], { server: standby, as: 'standby' })
      await streaming(standby, true)
    }
    serving = await open(standby, more)
    await phase(atFailover, trace => trace.length)
    return traces
  }

  /** Whose PIN was acknowledged before the failover, and is not the card's after it. */
  const lost = (trace: readonly TraceStep[]): boolean => {
    const failover = trace.findIndex(({ step }) => step === 'failover')
    const accepted = trace.slice(0, failover).some(({ outcome }) => outcome === 'accepted')
    return accepted && trace[failover]?.card === 0
  }
  const played = (traces: readonly (readonly TraceStep[])[]): number =>
    new Set(traces.map(trace => JSON.stringify(trace))).size

  test('asynchronous with the fence: what is lost is lost as in the model, and nothing is accepted twice', async () => {
    const traces = await play(['FENCE'], {}, 'now and then')
    const after = traces.flatMap(trace => trace.slice(trace.findIndex(({ step }) => step === 'failover') + 1))
    for (const outcome of ['claimed', 'replayed', 'refused', 'accepted'])
      expect(after.map(step => step.outcome)).toContain(outcome)
    // The control: without a loss this would prove nothing.
    expect(traces.filter(lost).length).toBeGreaterThan(0)
    expect(played(traces)).toBeGreaterThan(COUNT / 2)
    console.log(
      `failover, traces of the model: ${COUNT} asynchronous, ${traces.filter(lost).length} with a loss`,
    )
  })

  test('replicated: nothing that was acknowledged is lost', async () => {
    const traces = await play(['FENCE', 'SYNC'], { durability: 'replicated' }, 'with each commit')
    expect(traces.filter(lost)).toEqual([])
    expect(played(traces)).toBeGreaterThan(COUNT / 2)
  })

  test('the control: no store is what the model without a fence is', async () => {
    // The model without one takes the same intdatag on the other server, and the store does not.
    await expect(play([], {}, 'now and then')).rejects.toThrow("expected 'refused' to be 'claimed'")
  })
})

/** A store as a service has it whose connections follow the primary. */
function following(serving: () => IssuerStore): IssuerStore {
  const follow = <T extends object>(current: () => T): T =>
    new Proxy({} as T, {
      get: (_, name) => {
        const member: unknown = Reflect.get(current(), name)
        if (typeof member !== 'function') return member
        return (...args: unknown[]) => Reflect.apply(Reflect.get(current(), name) as never, current(), args)
      },
    })
  return {
    cards: follow(() => serving().cards),
    pins: follow(() => serving().pins),
    counters: (issuerId: string) => follow(() => serving().counters(issuerId)),
  } as IssuerStore
}
