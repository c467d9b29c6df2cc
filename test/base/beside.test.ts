/** What a thread of the library's own is told of the process: nothing but which warnings it leaves out. */
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { startBeside } from '../../src/base/beside.js'
import { scratchFolder } from '../support/scratch.js'

const PROGRAM = `
import { parentPort } from 'node:worker_threads'
const { argv, env, execArgv } = process
parentPort.postMessage({ argv: argv.slice(2), env: { ...env }, execArgv })
`

test('no argument and no variable, but the warnings that are not to be written', async () => {
  const file = join(scratchFolder('ipc-beside-'), 'program.mjs')
  writeFileSync(file, PROGRAM)
  const given = process.execArgv
  const quiet = ['--disable-warning=ExperimentalWarning', '--no-warnings']
  process.execArgv = ['--title=4929123456789012', ...quiet, '--disable-warning=A B', '--no-warnings=x']
  const thread = startBeside(file)
  process.execArgv = given
  const [told] = await once(thread, 'message')
  await thread.terminate()
  expect(told).toEqual({ argv: [], env: {}, execArgv: quiet })
})
