/**
 * Long runs: `npm run fuzz -- --inputs 1e7 [--target name] [--seed n] [--jobs n] [--report file.json]`, and
 * `npm run fuzz -- --target name --input <base64>` for one input that was found. The inputs are shared out among the
 * targets by their `share`. Exit code 1: there is a finding, printed with the input that shows it.
 */
import { fork } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { parseArgs } from 'node:util'
import { build } from 'tsup'
import { describeFinding, runOne } from './support/run.js'
import type { FuzzTarget } from './target.js'
import { TARGETS } from './targets/index.js'
import type { Progress, Task } from './worker.js'

/** A worker that is silent for so long hangs in an input: a batch takes seconds. */
const SILENCE_MS = 120_000
const SHOW_EVERY_MS = 30_000

interface Outcome extends Omit<Progress, 'finished'> {
  readonly target: string
}

const { values } = parseArgs({
  options: {
    inputs: { type: 'string', default: '1e5' },
    target: { type: 'string' },
    seed: { type: 'string' },
    jobs: { type: 'string', default: '2' },
    report: { type: 'string' },
    input: { type: 'string' },
  },
})
const seed = Number(values.seed ?? Date.now() % 2 ** 31)
const chosen = TARGETS.filter(({ name }) => values.target === undefined || name === values.target)
if (chosen.length === 0) {
  console.error(`--target is one of ${TARGETS.map(({ name }) => name).join(', ')}`)
  process.exit(2)
}

/**
 * The worker as one file: it starts in a moment, stacks are had without source maps, and what somebody edits while it runs
 * does not matter.
 */
async function bundled(folder: string): Promise<string> {
  const root = new URL('../..', import.meta.url).pathname
  await build({
    entry: { worker: relative(process.cwd(), join(root, 'test/fuzz/worker.ts')) },
    ...{ config: false, silent: true, outDir: folder, format: 'esm', target: 'node20.19' },
    outExtension: () => ({ js: '.mjs' }),
  })
  return join(folder, 'worker.mjs')
}

function runTask(script: string, task: Task): Promise<Outcome> {
  return new Promise(resolve => {
    const child = fork(script, { execArgv: ['--expose-gc'] })
    let last: Progress = {
      ...{ done: 0, ms: 0, slowestMs: 0, slowestBytes: 0, rssBefore: 0, rss: 0, heap: 0 },
      finished: false,
    }
    let shown = Date.now()
    const end = (what?: string): void => {
      clearTimeout(timer)
      const { finished: _, ...facts } = last
      const finding = what === undefined ? facts.finding : { what, ...currentInput(task.current) }
      resolve({ ...facts, target: task.target, ...(finding && { finding }) })
    }
    const silent = (): NodeJS.Timeout => {
      const due = Date.now() + SILENCE_MS
      return setTimeout(() => {
        // Long after it was due: this process was stopped for a while, and the worker most likely as well.
        if (Date.now() - due > 5000) timer = silent()
        else child.kill('SIGKILL')
      }, SILENCE_MS)
    }
    let timer = silent()
    child.on('message', (progress: Progress) => {
      last = progress
      clearTimeout(timer)
      timer = silent()
      if (Date.now() - shown < SHOW_EVERY_MS) return
      shown = Date.now()
      console.log(`${task.target}: ${progress.done} of ${task.inputs}`)
    })
    child.once('exit', (code, signal) => {
      if (last.finished) return end()
      end(
        signal === 'SIGKILL'
          ? `no end of an input within ${SILENCE_MS} ms`
          : `the process ended with ${code ?? signal}`,
      )
    })
    child.send(task)
  })
}

/** What a worker was at when it ended. */
function currentInput(path: string): { input: string; smaller: string } {
  const file = readFileSync(path)
  const input = file.length < 4 ? '' : file.subarray(4, 4 + file.readUInt32BE(0)).toString('base64')
  return { input, smaller: input }
}

async function replay(target: FuzzTarget, base64: string): Promise<void> {
  try {
    const ms = await runOne(target, Uint8Array.from(Buffer.from(base64, 'base64')))
    console.log(`${target.name}: nothing wrong, ${ms.toFixed(2)} ms`)
  } catch (error) {
    console.log(`${target.name}: ${describeFinding(error)}`)
    process.exitCode = 1
  }
  await target.close?.()
}

const mib = (bytes: number): string => (bytes / 2 ** 20).toFixed(0)

function row({ target, done, ms, slowestMs, slowestBytes, rssBefore, rss, finding }: Outcome): string {
  const rate = Math.round((1000 * done) / Math.max(1, ms))
  const cells = [target, done, rate, `${slowestMs.toFixed(1)} (${slowestBytes} B)`, mib(rssBefore), mib(rss)]
  return `| ${[...cells, finding === undefined ? 'none' : 'YES'].join(' | ')} |`
}

async function run(inputs: number, jobs: number): Promise<void> {
  // Beside node_modules, where the bundle finds what is not in it.
  mkdirSync('.tmp', { recursive: true })
  const folder = mkdtempSync(join('.tmp', 'fuzz-'))
  const script = await bundled(folder)
  const shares = chosen.reduce((sum, { share }) => sum + share, 0)
  const tasks = chosen.map(({ name, share }) => ({
    ...{ target: name, seed, current: join(folder, name) },
    inputs: Math.ceil((inputs * share) / shares),
  }))
  console.log(`seed ${seed}, ${inputs} inputs, ${jobs} processes, Node ${process.version}`)
  const outcomes: Outcome[] = []
  const waiting = [...tasks]
  const worker = async (): Promise<void> => {
    for (let task = waiting.shift(); task !== undefined; task = waiting.shift()) {
      const outcome = await runTask(script, task)
      outcomes.push(outcome)
      console.log(row(outcome))
    }
  }
  const started = Date.now()
  await Promise.all(Array.from({ length: jobs }, worker))
  rmSync(folder, { recursive: true })
  console.log('\n| target | inputs | per second | slowest ms | RSS before MiB | RSS after MiB | findings |')
  console.log('|---|--:|--:|--:|--:|--:|---|')
  for (const { target } of tasks) {
    const outcome = outcomes.find(each => each.target === target)
    if (outcome !== undefined) console.log(row(outcome))
  }
  const done = outcomes.reduce((sum, outcome) => sum + outcome.done, 0)
  console.log(`\n${done} inputs in ${Math.round((Date.now() - started) / 1000)} s, seed ${seed}`)
  if (values.report !== undefined)
    writeFileSync(values.report, `${JSON.stringify({ seed, outcomes }, null, 2)}\n`)
  for (const { target, finding } of outcomes) {
    if (finding === undefined) continue
    console.log(
      `\nFINDING ${target}: ${finding.what}\n  --target ${target} --input ${finding.smaller}\n  as found: ${finding.input}`,
    )
    process.exitCode = 1
  }
}

const [first] = chosen
if (values.input !== undefined && values.target !== undefined && first !== undefined)
  await replay(first, values.input)
else await run(Number(values.inputs), Number(values.jobs))
