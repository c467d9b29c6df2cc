/** The faulty module: compiled once for each test file, and steered through its control file. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { buildSync } from 'esbuild'
import { type Starter, startFrom } from '../../src/backend/pkcs11/executor/channels.js'
import type { KeyStoreOptions, Pkcs11Options } from '../../src/pkcs11.js'
import { goneWithProcess, scratchFolder } from '../../test/support/scratch.js'
import { makeToken, SOFTHSM_MODULE } from '../softhsm.js'

const require = createRequire(import.meta.url)

export interface Fault {
  /** The function, or `*`. */
  readonly fn: string
  readonly code: number
  /** Before or after the real call; or what somebody else does just before it (see `shim.c`). */
  readonly when?: 'before' | 'after' | 'sessions' | 'logout' | 'finalise'
  /** How often; absent: each time. */
  readonly count?: number
  readonly waitMs?: number
}

export interface FaultyToken {
  readonly options: KeyStoreOptions & Pkcs11Options
  /** Replaces the faults there are. */
  set(...faults: readonly Fault[]): void
  /** Whether so many calls of one process have waited at once since the faults were set. */
  waitedAtOnce(calls: number): boolean
}

/** A SoftHSM token behind the faulty module. */
export function makeFaultyToken(label: string): FaultyToken {
  const folder = scratchFolder('ipc-shim-')
  const options = makeToken(label)
  const module = join(folder, 'shim.so')
  const headers = join(dirname(require.resolve('pkcs11js/package.json')), 'includes/pkcs11')
  const source = new URL('shim.c', import.meta.url).pathname
  const { status, stderr } = spawnSync(
    'cc',
    ['-shared', '-fPIC', '-O1', '-w', '-I', headers, '-o', module, source, '-ldl'],
    { encoding: 'utf8' },
  )
  if (status !== 0) throw new Error(`cc: ${stderr}`)
  const control = join(folder, 'control')
  writeFileSync(control, '')
  Object.assign(process.env, { SHIM_MODULE: SOFTHSM_MODULE, SHIM_CONTROL: control })
  let number = 0
  return {
    options: { ...options, module },
    set: (...faults) => {
      number++
      const lines = faults.map(
        ({ fn, code, when = 'before', count = -1, waitMs = 0 }) =>
          `${fn} ${code} ${when} ${count} ${waitMs} ${number}\n`,
      )
      // At once, for another thread may be reading it.
      writeFileSync(`${control}.new`, lines.join(''))
      renameSync(`${control}.new`, control)
    },
    waitedAtOnce: calls => existsSync(`${control}.atonce.${number}.${calls}`),
  }
}

/** Starts workers and children from the sources: they need JavaScript, and so a bundle of the other end. */
export function starterFromSources(): Starter {
  const file = bundleHost()
  return startFrom(() => file)
}

/**
 * The other end of the executors as one file of JavaScript, by the name it has in the package: a child process looks for the
 * file of its threads beside its own.
 */
export function bundleHost(): string {
  const folder = new URL(`../../node_modules/.cache/issuer-pin-crypto/host-${process.pid}/`, import.meta.url)
    .pathname
  const outfile = join(folder, 'pkcs11-host.js')
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}')
  buildSync({
    entryPoints: [new URL('../../src/backend/pkcs11/executor/host-entry.ts', import.meta.url).pathname],
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    external: ['pkcs11js', 'koffi'],
    outfile,
    logLevel: 'error',
    banner: {
      js: "import { createRequire as makeRequire } from 'node:module'; const require = makeRequire(import.meta.url);",
    },
  })
  goneWithProcess(folder)
  return outfile
}
