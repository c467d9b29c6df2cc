/**
 * The ledger of a card as a model that `spin` explores exhaustively (`model/counter.pml`): the fence and synchronous
 * replication each prevent what they are for, and without them the model finds the fault, so that it can see one.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, test } from 'vitest'

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
