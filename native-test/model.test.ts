/**
 * The ledger of a card as a model that `spin` explores exhaustively (`model/counter.pml`): the fence and synchronous
 * replication each prevent what they are for, and without them the model finds the fault, so that it can see one. Its traces are played to the
 * real stores. Those with a failover are not: `postgres/failover.test.ts` has real ones.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, test } from 'vitest'
import { memoryIssuerStore } from '../src/d1.js'
import { openPostgresIssuerStore } from '../src/postgres.js'
import { type IssuerStore, panSealer } from '../src/sqlite.js'
import { AVAILABLE } from '../test/stores/drivers.js'
import { SEAL_KEY } from '../test/stores/store-fixtures.js'
import { openHere } from '../test/stores/threads.js'
import { playTrace, stepsOf, type TraceStep } from '../test/stores/traces.js'
import { describePostgres } from './postgres.js'

const MODEL = fileURLToPath(new URL('./model/counter.pml', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'ipc-model-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

function run(command: string, ...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd: folder, encoding: 'utf8' })
  if (error !== undefined) throw new Error(`${command} is missing: sudo apt-get install spin gcc`)
  if (status !== 0) throw new Error(`${command}: ${stdout}${stderr}`)
  return stdout
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
  /** spin chooses by the seed which replica goes on: the same seed, the same trace. */
  const traceOf = (seed: number): readonly TraceStep[] => stepsOf(run('spin', '-DONE', `-n${seed}`, MODEL))
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
