/**
 * The figures that this backend must reach, on a machine that does nothing else: `npm run speed:pkcs11`, with `-- --write` its
 * report into docs/measurements/pkcs11-speed.md. About four minutes; `-- --quick` shows in half a minute that it runs.
 *
 * - Inline on SoftHSM beside the bare calls: one block, and 8192 in one call.
 * - A token behind 2 ms a call, by each executor: calls a second as a multiple of one inline caller, and what the event loop
 *   of the calling thread suffers; three runs, of which the median counts. A row in which nothing is called shows what the
 *   machine itself does to an event loop.
 * - A child process that is killed: until the next right answer, with a spare and without.
 */
import { spawnSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { cpus, loadavg } from 'node:os'
import { monitorEventLoopDelay, performance } from 'node:perf_hooks'
import { setTimeout as pause } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { buildSync } from 'esbuild'
import type { ContestResult } from '../bench/contest.js'
import { operationsOf } from '../src/backend/key.js'
import { openPkcs11 } from '../src/backend/pkcs11/backend.js'
import { loadPkcs11js } from '../src/backend/pkcs11/binding/pkcs11js-binding.js'
import type { Starter } from '../src/backend/pkcs11/executor/channels.js'
import { CONTRACT_KEYS } from '../src/testing.js'
import { makeFaultyToken, starterFromSources } from './faults/shim.js'
import { provision } from './provision.js'
import { makeToken, SOFTHSM_MODULE, USER_PIN } from './softhsm.js'

const { values } = parseArgs({
  options: { write: { type: 'boolean', default: false }, quick: { type: 'boolean', default: false } },
})
const QUICK = values.quick
const [ROUNDS, SLICE_MS, RATE_MS, RUNS, KILLS] = QUICK ? [3, 15, 300, 1, 3] : [21, 60, 3000, 3, 50]
const LINK_MS = 2
const KEYS = CONTRACT_KEYS.filter(({ kid }) => kid === 'PEK-2')
const BLOCK = new Uint8Array(8)

if (SOFTHSM_MODULE === undefined) throw new Error('SoftHSM is not installed: npm run setup')
const before = loadavg()[0] ?? 0
let missed = 0
// Both before the library is loaded, which sees no token that is made later.
const token = makeToken('speed')
const link = makeFaultyToken('link')
await provision(token, KEYS)
await provision({ ...link.options, executor: 'inline' }, KEYS)

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

function judged(met: boolean): string {
  if (!met) missed++
  return met ? 'met' : '**missed**'
}

/** In a process of its own, and bundled: what a loader does to sources would be measured, too. */
function inline(): ContestResult[] {
  const bundle = new URL(`../node_modules/.cache/issuer-pin-crypto/speed-${process.pid}.mjs`, import.meta.url)
  buildSync({
    entryPoints: [new URL('children/speed-inline.ts', import.meta.url).pathname],
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    packages: 'external',
    outfile: bundle.pathname,
    logLevel: 'error',
  })
  try {
    const { stdout, status } = spawnSync(
      process.execPath,
      ['--expose-gc', bundle.pathname, token.module, 'speed', USER_PIN, `${ROUNDS}`, `${SLICE_MS}`],
      { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] },
    )
    if (status !== 0) throw new Error('the inline contests failed')
    return JSON.parse(stdout) as ContestResult[]
  } finally {
    rmSync(bundle, { force: true })
  }
}

interface Rate {
  readonly way: string
  readonly inline: boolean
  readonly target: number
  readonly perSecond: number[]
  readonly p99: number[]
}

/** How many calls come back in a second, and the 99th percentile of the event loop's delay meanwhile, in milliseconds. */
async function rateOf(
  callers: number,
  call: () => Promise<unknown>,
): Promise<[perSecond: number, p99: number]> {
  await call()
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  const start = performance.now()
  let done = 0
  await Promise.all(
    Array.from({ length: callers }, async () => {
      while (performance.now() - start < RATE_MS) {
        await call()
        done++
      }
    }),
  )
  delay.disable()
  return [(1000 * done) / (performance.now() - start), delay.percentile(99) / 1e6]
}

/** Executor, sessions, callers, whether calls are put together, and how often inline's one caller it has to be. */
const WAYS = [
  ['inline', 1, 1, false, 1],
  ['threads', 1, 1, false, 0],
  ['threads', 8, 8, false, 5],
  ['process', 8, 8, false, 5],
  ['threads', 2, 512, true, 200],
  ['process', 2, 512, true, 200],
] as const

async function slowLink(starter: Starter): Promise<Rate[]> {
  const rates: Rate[] = []
  const idle: Rate = { way: 'nothing is called', inline: true, target: 0, perSecond: [], p99: [] }
  rates.push(idle)
  for (let run = 0; run < RUNS; run++) {
    const [, p99] = await rateOf(1, () => pause(1))
    idle.perSecond.push(0)
    idle.p99.push(p99)
    for (const [at, [executor, max, callers, coalesce, target]] of WAYS.entries()) {
      // From the beginning: a child measures when it opens what it is to do with the token.
      link.set(
        { fn: 'C_EncryptInit', code: 0, waitMs: LINK_MS },
        { fn: 'C_Encrypt', code: 0, waitMs: LINK_MS },
      )
      const options = { ...link.options, executor, coalesce, sessions: { max }, keepAliveMs: 0 } as const
      await using backend = await openPkcs11(options, loadPkcs11js, { starter })
      const key = operationsOf(await backend.bind({ kid: 'PEK-2', usage: 'pin-encryption' }))
      const right = await key.encipher(BLOCK)
      const way = `${executor}, ${max} sessions, ${callers} callers${coalesce ? ', put together' : ''}`
      rates[at + 1] ??= { way, inline: executor === 'inline', target, perSecond: [], p99: [] }
      const [perSecond, delay] = await rateOf(callers, () => key.encipher(BLOCK))
      rates[at + 1]?.perSecond.push(perSecond)
      rates[at + 1]?.p99.push(delay)
      link.set()
      if (Buffer.compare(await key.encipher(BLOCK), right) !== 0) throw new Error('a wrong answer')
    }
  }
  return rates
}

interface Kill {
  readonly what: string
  readonly most: number
  readonly times: readonly number[]
}

/** From the kill to the next right answer. */
async function killed(starter: Starter, spare: boolean): Promise<Kill> {
  const kills: (() => void)[] = []
  const killing: Starter = {
    ...starter,
    process: lost => {
      const channel = starter.process(lost)
      kills.push(() => channel.kill())
      return channel
    },
  }
  const options = { ...token, executor: 'process', spare, binding: 'koffi' } as const
  await using backend = await openPkcs11(options, undefined, { starter: killing })
  const key = operationsOf(await backend.bind({ kid: 'PEK-2', usage: 'pin-encryption' }))
  const right = await key.encipher(BLOCK)
  const times: number[] = []
  for (let i = 0; i < KILLS; i++) {
    // With a spare: when the next one is there and logged in.
    await pause(spare ? 1200 : 100)
    const start = performance.now()
    for (const kill of spare ? kills.splice(0, kills.length - 1) : kills.splice(0)) kill()
    if (Buffer.compare(await key.encipher(BLOCK), right) !== 0) throw new Error('a wrong answer')
    times.push(performance.now() - start)
  }
  return { what: spare ? 'a child, with a spare' : 'a child', most: spare ? 50 : 500, times }
}

const lines: string[] = []
const say = (line: string): void => {
  lines.push(line)
  console.log(line)
}

say('## Inline, beside the bare calls\n')
say(
  'Nanoseconds a block; ratio: how fast beside the bare calls, median of the rounds, by the clock (by processor time).\n',
)
say('| what | ns | processor | ratio | must be | |')
say('|---|---:|---:|---:|---:|---|')
for (const { title, ways, targets } of inline()) {
  for (const { name, wall, cpu } of ways) {
    const target = targets.find(({ ours }) => ours === name)
    const ratio =
      target === undefined ? '' : `${target.wall.median.toFixed(2)} (${target.cpu.median.toFixed(2)})`
    const must = target === undefined ? '' : `≥ ${target.atLeast.toFixed(2)}`
    const verdict = target === undefined ? '' : judged(target.wall.median >= target.atLeast)
    say(
      `| ${title}: ${name} | ${wall.median.toFixed(0)} | ${cpu.median.toFixed(0)} | ${ratio} | ${must} | ${verdict} |`,
    )
  }
}
const starter = starterFromSources()
say(`\n## Behind ${LINK_MS} ms a call\n`)
say(
  `Two calls an encipherment; one block a caller; ${RATE_MS} ms a row, ${RUNS} runs, medians. The event loop is that of the calling thread.\n`,
)
say('| executor and callers | a second | times inline | must be | event loop p99, ms | must be | |')
say('|---|---:|---:|---:|---:|---:|---|')
const rates = await slowLink(starter)
const base = median(rates[1]?.perSecond ?? [])
for (const { way, inline: exempt, target, perSecond, p99 } of rates) {
  const times = median(perSecond) / base
  const delay = median(p99)
  const verdict = exempt ? '' : judged(times >= target && delay < 5)
  const must = target > 1 ? `≥ ${target}` : ''
  say(
    `| ${way} | ${median(perSecond).toFixed(0)} | ${times.toFixed(1)} | ${must} | ${delay.toFixed(1)} | ${exempt ? '' : '< 5'} | ${verdict} |`,
  )
}
say('\n## A child that is killed\n')
say('From the kill to the next right answer, in milliseconds.\n')
say('| what | times | median | p95 | longest | must be | |')
say('|---|---:|---:|---:|---:|---:|---|')
for (const spare of [true, false]) {
  const { what, most, times } = await killed(starter, spare)
  const sorted = [...times].sort((a, b) => a - b)
  const at = (share: number): number => sorted[Math.round(share * (sorted.length - 1))] ?? Number.NaN
  const cells = [what, times.length, at(0.5).toFixed(0), at(0.95).toFixed(0), at(1).toFixed(0), `≤ ${most}`]
  say(`| ${cells.join(' | ')} | ${judged(at(0.95) <= most)} |`)
}
if (values.write) {
  const head = `# PKCS#11: what it must reach

${new Date().toISOString().slice(0, 10)}, \`npm run speed:pkcs11 -- --write\`, Node ${process.version}, ${cpus()[0]?.model}, ${cpus().length} cores; load average ${before.toFixed(1)} before
and ${(loadavg()[0] ?? 0).toFixed(1)} after. SoftHSM; behind the link by \`native-test/faults/shim.c\`.
`
  const page = `${head}\n${lines.join('\n')}\n`
  writeFileSync(new URL('../docs/measurements/pkcs11-speed.md', import.meta.url), page)
}
console.log(missed === 0 ? 'all met' : `${missed} missed`)
process.exitCode = missed === 0 ? 0 : 1
