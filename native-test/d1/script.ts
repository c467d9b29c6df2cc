/** Runs one of the scripts of this folder, which print their result as JSON. They import the library by its name. */
import { spawn } from 'node:child_process'
import { text } from 'node:stream/consumers'

const ROOT = new URL('../..', import.meta.url).pathname

export async function runScript<T>(name: string, ...args: readonly string[]): Promise<T> {
  const child = spawn(process.execPath, ['--import', 'tsx', `native-test/d1/${name}`, '--json', ...args], {
    cwd: ROOT,
    env: { ...process.env, TSX_TSCONFIG_PATH: 'tsconfig.test.json' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const printed = await text(child.stdout)
  try {
    return JSON.parse(printed)
  } catch {
    throw new Error(`${name} printed no result: ${printed}`)
  }
}
