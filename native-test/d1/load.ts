/**
 * `serve` under load: Get PIN and Set PIN of both types over many cards, TLS with client certificates, connections kept
 * alive. Every answer is checked, and in the end everything that is stored. `serve` is one process (two on
 * PostgreSQL), D1 another.
 *
 *     node --import tsx native-test/d1/load.ts [--gets 10000] [--sets 10000] [--only NAME] [--postgres URL] [--built] [--hold] [--json]
 *
 * `--built`: `serve` runs on the package in `dist`, as an issuer's does, and not from the sources.
 * `--hold`: after five seconds another process holds the SQLite file for five; how long the event loop of `serve` stood still
 * before and meanwhile is printed. D1 repeats what is answered with 5xx then.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { readOptions, type ServeOptions } from '../../examples/serve/options.js'
import { holdFile } from '../stalls.js'
import { checkAtRest } from './at-rest.js'
import { type Caller, openCaller } from './caller.js'
import { type ServeProcess, serveAsBuilt, startServe, watchStalls } from './serve-process.js'
import { newTraffic, type Operation, run, type Work } from './traffic.js'

interface Scenario {
  readonly name: string
  /** Of `serve`. */
  readonly args: readonly string[]
  readonly processes: number
}

export interface LoadResult {
  readonly name: string
  readonly seconds: number
  readonly requests: number
  readonly wrong: readonly string[]
  /** Milliseconds, by operation. */
  readonly latency: readonly {
    readonly operation: Operation
    readonly count: number
    readonly ms: Percentiles
  }[]
  /** Of the event loop of `serve`, before the file was held and while it was. */
  readonly stalls?: readonly string[]
}

export interface Percentiles {
  readonly p50: number
  readonly p90: number
  readonly p99: number
  readonly max: number
}

/** Of each caller. */
const CONNECTIONS = 16
/** Beside the fixed ones; as many chains of calls go on at once. */
const EXTRA_CARDS = 30

async function runLoad({ name, args, processes }: Scenario, { gets, sets }: Work): Promise<LoadResult> {
  const parent = mkdtempSync(join(tmpdir(), 'ipc-load-'))
  const dir = join(parent, 'run')
  const all = [...args, '--extra-cards', String(EXTRA_CARDS)]
  try {
    // One after the other: the first makes the folder.
    const servers = []
    for (let i = 0; i < processes; i++) servers.push(await startServe(dir, '--replica', ...all))
    const callers: Caller[] = []
    for (const { url } of servers) callers.push(await openCaller(dir, { url, connections: CONNECTIONS }))
    const caller = values.hold ? patient(spread(callers)) : spread(callers)
    const traffic = newTraffic(caller)
    const start = performance.now()
    const [server] = servers
    const holding = values.hold && server !== undefined ? hold(join(dir, 'issuer.db'), server) : undefined
    await run(caller, traffic, { gets, sets })
    const stalls = await holding
    const seconds = (performance.now() - start) / 1000
    caller[Symbol.dispose]()
    const wrong = [...traffic.wrong]
    for (const server of servers) {
      const code = await server.stop()
      if (code !== 0) wrong.push(`serve ended with ${code}`)
    }
    const { backend, store } = readOptions(args, process.env) as ServeOptions
    wrong.push(...(await checkAtRest({ dir, backend, store }, traffic.cards)))
    const latency = Object.entries(traffic.times).map(([operation, times]) => ({
      operation: operation as Operation,
      count: times.length,
      ms: percentiles(times),
    }))
    const requests = latency.reduce((sum, { count }) => sum + count, 0)
    return { name, seconds, requests, wrong, latency, ...(stalls !== undefined && { stalls }) }
  } finally {
    rmSync(parent, { recursive: true, force: true })
  }
}

/** Another process holds the file for five seconds in the middle of it; what `serve` says of its event loop. */
async function hold(path: string, server: ServeProcess): Promise<readonly string[]> {
  const told = async (): Promise<string> => {
    const before = server.said.length
    server.child.kill('SIGUSR2')
    for (;;) {
      const line = server.said.slice(before).find(text => text.startsWith('stalls: '))
      if (line !== undefined) return line.slice('stalls: '.length)
      await sleep(5)
    }
  }
  await sleep(5000)
  await told()
  await sleep(5000)
  const before = await told()
  const { letGo } = await holdFile(path, 5000)
  await told()
  await letGo
  await sleep(1000)
  return [`no lock: ${before}`, `file held: ${await told()}`]
}

/** D1 asks again where the answer is that it may. */
function patient(caller: Caller): Caller {
  const again = async <T>(call: () => Promise<T>, isAnswer: (result: T) => boolean): Promise<T> => {
    for (;;) {
      const result = await call()
      if (isAnswer(result)) return result
      await sleep(50)
    }
  }
  return {
    ...caller,
    counter: async card => {
      const ask = () => caller.counter(card).catch(() => undefined)
      return (await again(ask, found => found !== undefined)) as Awaited<ReturnType<Caller['counter']>>
    },
    setPin: (card, body) =>
      again(
        () => caller.setPin(card, body),
        status => status < 500,
      ),
  }
}

/** D1 behind a load balancer: each call goes to the next process. */
function spread(callers: readonly Caller[]): Caller {
  let at = 0
  const next = (): Caller => callers[at++ % callers.length] as Caller
  const [first] = callers as readonly [Caller]
  return {
    cards: first.cards,
    getPin: card => next().getPin(card),
    counter: card => next().counter(card),
    iso0: first.iso0,
    seccos: first.seccos,
    setPin: (card, body) => next().setPin(card, body),
    [Symbol.dispose]() {
      for (const caller of callers) caller[Symbol.dispose]()
    },
  }
}

function percentiles(times: readonly number[]): Percentiles {
  const sorted = [...times].sort((a, b) => a - b)
  const at = (share: number): number =>
    sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) }
}

/** A result as a table of Markdown. */
function tableOf({ name, seconds, requests, wrong, latency, stalls }: LoadResult): string {
  const ms = (value: number): string => value.toFixed(1)
  return [
    `### ${name}`,
    '',
    `${requests} requests in ${seconds.toFixed(1)} s: **${Math.round(requests / seconds)} a second**, ${wrong.length} wrong.`,
    '',
    '| | calls | p50 ms | p90 | p99 | longest |',
    '|---|--:|--:|--:|--:|--:|',
    ...latency.map(
      ({ operation, count, ms: { p50, p90, p99, max } }) =>
        `| ${operation} | ${count} | ${ms(p50)} | ${ms(p90)} | ${ms(p99)} | ${ms(max)} |`,
    ),
    ...(stalls ?? []).map(line => `\n${line}`),
    ...wrong.slice(0, 10).map(line => `\nWRONG: ${line}`),
    '',
  ].join('\n')
}

const { values } = parseArgs({
  options: {
    gets: { type: 'string', default: '10000' },
    sets: { type: 'string', default: '10000' },
    only: { type: 'string' },
    postgres: { type: 'string' },
    built: { type: 'boolean', default: false },
    hold: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
})
if (values.built) serveAsBuilt()
if (values.hold) watchStalls()
const SCENARIOS: readonly Scenario[] = [
  { name: 'software, SQLite', args: [], processes: 1 },
  { name: 'SoftHSM, SQLite', args: ['--backend', 'pkcs11'], processes: 1 },
  ...(values.postgres === undefined
    ? []
    : [
        {
          name: 'software, PostgreSQL, two processes',
          args: ['--store', 'postgres', '--postgres', values.postgres],
          processes: 2,
        },
      ]),
]
const results: LoadResult[] = []
for (const scenario of SCENARIOS) {
  if (values.only !== undefined && values.only !== scenario.name) continue
  const result = await runLoad(scenario, { gets: Number(values.gets), sets: Number(values.sets) })
  if (!values.json) console.log(tableOf(result))
  results.push(result)
}
if (values.json) console.log(JSON.stringify(results.map(result => ({ ...result, table: tableOf(result) }))))
if (results.length === 0 || results.some(({ wrong }) => wrong.length > 0)) process.exitCode = 1
