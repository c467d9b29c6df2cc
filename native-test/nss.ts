/** A database of NSS softokn for one test file: a second token, with other abilities than SoftHSM's. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { KeyStoreOptions, Pkcs11Options } from '../src/pkcs11.js'
import { scratchFolder } from '../test/support/scratch.js'
import { describeNative } from './softhsm.js'

const CANDIDATES = [
  '/usr/lib/x86_64-linux-gnu/libsoftokn3.so',
  '/usr/lib/aarch64-linux-gnu/libsoftokn3.so',
  '/usr/lib64/libsoftokn3.so',
]
const { NSS_MODULE } = process.env
const module = [NSS_MODULE, ...CANDIDATES].find(path => path !== undefined && existsSync(path))
const certutil = spawnSync('certutil', ['-H']).error === undefined

/** Each value that NSS reads is deciphered under a key that 10,000 rounds of PBKDF2 make of the PIN; these PINs protect nothing. */
const FEW_ROUNDS = { NSS_MAX_MP_PBE_ITERATION_COUNT: '50' }

/** A fresh database, and the options that open it. */
export function makeDatabase(): KeyStoreOptions & Pkcs11Options {
  Object.assign(process.env, FEW_ROUNDS)
  const folder = scratchFolder('ipc-nss-')
  const [database, pinFile] = [join(folder, 'db'), join(folder, 'pin')]
  mkdirSync(database)
  writeFileSync(pinFile, 'nss-user-pin-1')
  const { status, stderr } = spawnSync('certutil', ['-N', '-d', `sql:${database}`, '-f', pinFile], {
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(`certutil: ${stderr}`)
  return {
    module: module ?? '',
    token: 'NSS Certificate DB',
    pin: () => 'nss-user-pin-1',
    initParameters: `configdir='sql:${database}' certPrefix='' keyPrefix='' secmod='' flags=`,
    composedMac: true,
    translateInToken: true,
    // NSS stores templates for what is unwrapped and ignores them, and lets its users copy keys with wider rights.
    translationKeysMayDecipher: true,
    accept: ['copyable'],
    vendor: 'nss',
  }
}

/** `describeNative` for NSS. */
export function describeNss(name: string, body: () => void): void {
  describeNative(name, certutil ? module : undefined, 'sudo apt-get install libnss3 libnss3-tools', body)
}
