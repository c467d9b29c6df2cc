/** `serve` as a process of its own, from the sources. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { buildBesideSources } from '../../test/stores/threads.js'

// Once a process: what is stored may be in SQLite, whose threads do not run from the sources.
buildBesideSources()

const ROOT = new URL('../..', import.meta.url).pathname

export interface ServeProcess {
  readonly child: ChildProcess
  readonly url: string
  /** What it said on standard error. */
  readonly said: readonly string[]
  /** Asks it to stop, and gives its exit status. */
  stop(signal?: NodeJS.Signals): Promise<number | null>
  /** Ends it as a power failure would, as far as a process goes. */
  kill(): Promise<void>
}

/** Starts it and waits until it listens. Audit lines go to `audit.log` in the folder where nothing else is said. */
export async function startServe(dir: string, ...args: readonly string[]): Promise<ServeProcess> {
  const child = spawnServe('--dir', dir, '--port', '0', '--audit', `${dir}.audit.log`, ...args)
  const said: string[] = []
  const lines = createInterface(child.stderr ?? process.stdin)
  const url = await new Promise<string>((resolve, reject) => {
    lines.on('line', line => {
      said.push(line)
      const [, origin] = /listening on +(\S+)/.exec(line) ?? []
      if (origin !== undefined) ready = origin
      // The last line before it serves: the files for D1 are written by then.
      if (line.includes('Ctrl-C')) resolve(ready)
    })
    let ready = ''
    child.once('exit', () => reject(new Error(`serve ended: ${said.join('\n')}`)))
  })
  const ended = once(child, 'exit')
  return {
    child,
    url,
    said,
    async stop(signal = 'SIGTERM') {
      child.kill(signal)
      const [code] = await ended
      return code
    },
    async kill() {
      child.kill('SIGKILL')
      await ended
    },
  }
}

/** What is loaded before `serve`, as Node's command line has it. */
const preloads: string[] = []

/** Has each `serve` that is started from now on say, at SIGUSR2, how long its event loop stood still. */
export function watchStalls(): void {
  preloads.push('--import', './native-test/d1/watch-entry.ts')
}

/** The process alone, for command lines that do not get as far as listening. */
export function spawnServe(...args: readonly string[]): ChildProcess {
  return spawn(process.execPath, ['--import', 'tsx', ...preloads, 'examples/serve/main.ts', ...args], {
    cwd: ROOT,
    env: { ...process.env, TSX_TSCONFIG_PATH: 'tsconfig.test.json' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}
