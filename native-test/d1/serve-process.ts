/** `serve` as a process of its own: from the sources, or on the package as it was built. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { buildBesideSources } from '../../test/stores/threads.js'
import { bundled, bundleTo } from '../../test/support/bundled.js'
import { goneWithProcess } from '../../test/support/scratch.js'

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
  const port = args.includes('--socket') ? [] : ['--port', '0']
  const child = spawnServe('--dir', dir, ...port, '--audit', `${dir}.audit.log`, ...args)
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
  preloads.push('--import', bundled(new URL('watch-entry.ts', import.meta.url)))
}

/** What Node is told to run. */
let program: readonly string[] = ['--import', 'tsx', 'examples/serve/main.ts']

/**
 * Has each `serve` that is started from now on run as an issuer's does: the example as JavaScript, and the library as `tsup` left
 * it in `dist`. What `tsx` makes of the sources is not what is published: it gives each function that is made in a call its name by
 * another call.
 */
export function serveAsBuilt(): void {
  // In `dist`, so that the package's name is found to be this package.
  const file = fileURLToPath(new URL(`../../dist/serve-${process.pid}.mjs`, import.meta.url))
  goneWithProcess(file)
  program = [bundleTo(file, new URL('../../examples/serve/main.ts', import.meta.url))]
}

/** The process alone, for command lines that do not get as far as listening. */
export function spawnServe(...args: readonly string[]): ChildProcess {
  return spawn(process.execPath, [...preloads, ...program, ...args], {
    cwd: ROOT,
    env: { ...process.env, TSX_TSCONFIG_PATH: 'tsconfig.test.json' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}
