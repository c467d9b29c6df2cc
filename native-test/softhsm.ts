/**
 * SoftHSM for one test file: a token directory of its own under a temporary folder, removed at exit. The files run in
 * a process each (vitest pool `forks`), and the environment is set before the module is loaded, for the library reads
 * it with getenv when it is initialised.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'vitest'
import type { KeyStoreOptions, Pkcs11Options } from '../src/pkcs11.js'
import { scratchFolder } from '../test/support/scratch.js'

const CANDIDATES: readonly string[] = [
  '/usr/lib/softhsm/libsofthsm2.so',
  '/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so',
  '/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so',
  '/usr/lib64/pkcs11/libsofthsm2.so',
  '/usr/local/lib/softhsm/libsofthsm2.so',
  '/opt/homebrew/lib/softhsm/libsofthsm2.so',
]

const { CI, SOFTHSM2_MODULE } = process.env

export const SOFTHSM_MODULE: string | undefined = [SOFTHSM2_MODULE, ...CANDIDATES].find(
  path => path !== undefined && existsSync(path),
)

/** The user PIN of every token made here. Long, so that a search of the heap finds it and nothing else. */
export const USER_PIN = 'ucPin-9f27c1b4d8'
const SO_PIN = 'soPin-51a0c7e93d'

/**
 * A `describe` that needs a native module. Where it is missing the run says how to install it; in CI that is a failure.
 */
export function describeNative(
  name: string,
  module: string | undefined,
  how: string,
  body: () => void,
): void {
  if (module !== undefined) {
    describe(name, body)
    return
  }
  const message = `${name}: not run, the PKCS#11 module is missing; install it with: ${how}`
  if (CI !== undefined) {
    test(name, () => {
      throw new Error(message)
    })
    return
  }
  console.warn(message)
  describe.skip(message, () => test(name, () => {}))
}

/** {@link describeNative} for SoftHSM. */
export function describeSoftHsm(name: string, body: () => void): void {
  describeNative(name, SOFTHSM_MODULE, 'sudo apt-get install softhsm2', body)
}

/** Adds a token to this process's own token folder, and says how to open it. Call it before the first opening. */
export function makeToken(label: string): KeyStoreOptions & Pkcs11Options {
  useOwnFolder()
  const args = ['--init-token', '--free', '--label', label, '--so-pin', SO_PIN, '--pin', USER_PIN]
  const { status, stderr } = spawnSync('softhsm2-util', args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`softhsm2-util: ${stderr}`)
  return { module: SOFTHSM_MODULE ?? '', token: label, pin: () => USER_PIN }
}

let folder: string | undefined

function useOwnFolder(): void {
  if (folder !== undefined) return
  const made = scratchFolder('ipc-softhsm-')
  folder = made
  const tokens = join(made, 'tokens')
  mkdirSync(tokens)
  const conf = join(made, 'softhsm2.conf')
  writeFileSync(conf, `directories.tokendir = ${tokens}\nobjectstore.backend = file\nlog.level = ERROR\n`)
  Object.assign(process.env, { SOFTHSM2_CONF: conf })
}
