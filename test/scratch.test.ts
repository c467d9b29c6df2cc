/** What goes with its process is gone when it is told to end: the run forgives what a killed worker leaves (`support/scratch.ts`). */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { expect, test } from 'vitest'

const PROGRAM = `
  import { scratchFolder } from '${new URL('support/scratch.ts', import.meta.url).pathname}'
  import { writeFileSync } from 'node:fs'
  const folder = scratchFolder('gone-')
  writeFileSync(folder + '/file', 'x')
  console.log(folder)
  if (process.argv[1] !== 'ends') setInterval(() => {}, 1000)
`

test.each(['SIGTERM', 'SIGINT', 'ends'] as const)('%s', async how => {
  const args = ['--import', 'tsx', '--input-type=module', '-e', PROGRAM, '--', how]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(child, 'exit')
  const [said] = (await once(child.stdout, 'data')) as [Buffer]
  if (how !== 'ends') child.kill(how)
  expect(await ended).toEqual(how === 'ends' ? [0, null] : [null, how])
  expect(said.toString().trim()).toContain('gone-')
  expect(existsSync(said.toString().trim())).toBe(false)
})
