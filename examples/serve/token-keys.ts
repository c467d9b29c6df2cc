/** Keys in a PKCS#11 token: one of the program's own, or a SoftHSM token in the folder. Missing keys are made in it. */
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, rmSync } from 'node:fs'
import type { Backend } from 'issuer-pin-crypto'
import { type KeyStore, openKeyStore, type Pkcs11Options, pkcs11Backend } from 'issuer-pin-crypto/pkcs11'
import type { Folder } from './folder.js'
import { issuerKeys, sharedMaterial } from './keys.js'
import { type OwnToken, UsageError } from './options.js'

const SOFTHSM = [
  '/usr/lib/softhsm/libsofthsm2.so',
  '/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so',
  '/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so',
  '/usr/lib64/pkcs11/libsofthsm2.so',
  '/opt/homebrew/lib/softhsm/libsofthsm2.so',
]
const LABEL = 'issuer'
const PIN_FILE = 'softhsm-pin.txt'

/** The backend on the token, with every key of the issuer in it. */
export async function openTokenKeys(
  folder: Folder,
  own: OwnToken | undefined,
  jweKid: string,
): Promise<Backend> {
  const options = own === undefined ? softHsm(folder) : tokenOf(own)
  {
    // The keys shared with D1 are test values in files; a real one comes into the token under dual control, not here.
    await using store = await openKeyStore({ ...options, importClearKeys: true })
    await makeMissing(store, folder, jweKid)
  }
  return pkcs11Backend(options)
}

async function makeMissing(store: KeyStore, folder: Folder, jweKid: string): Promise<void> {
  const there = new Set((await store.listKeys()).map(({ kid }) => kid))
  for (const { file, ...key } of issuerKeys(jweKid)) {
    if (there.has(key.kid)) continue
    // Checked translations decipher on the host; see hostDecipher in the README for tokens that can do without.
    const more = key.usage === 'pin-encryption' ? { ...key, hostDecipher: true } : key
    if (file === undefined) await store.generateKey(more)
    else await store.importKey({ ...more, material: sharedMaterial(folder, file) })
  }
}

function tokenOf({ pinEnv, ...options }: OwnToken): Pkcs11Options {
  // Taken out of the environment, so that no child process and no diagnostic report has it.
  const pin = process.env[pinEnv] ?? ''
  delete process.env[pinEnv]
  if (process.report !== undefined && 'excludeEnv' in process.report) process.report.excludeEnv = true
  return { ...options, pin: () => pin }
}

/** SoftHSM's library. Throws {@link UsageError} where it is not installed. */
export function softHsmModule(): string {
  const module = SOFTHSM.find(path => existsSync(path))
  if (module !== undefined) return module
  throw new UsageError(
    'SoftHSM is not installed (apt-get install softhsm2); or name your token with --module',
  )
}

/**
 * A token of SoftHSM in the folder, made at the first start. For tests: its PIN stands beside it, and both PINs pass
 * through the arguments of `softhsm2-util`, where everybody on the machine can read them. They protect nothing.
 */
function softHsm(folder: Folder): Pkcs11Options {
  const module = softHsmModule()
  const tokens = folder.file('softhsm')
  folder.write({
    name: 'softhsm2.conf',
    text: `directories.tokendir = ${tokens}\nobjectstore.backend = file\nlog.level = ERROR\n`,
  })
  // Read by the module when it is loaded, which has not happened yet.
  process.env['SOFTHSM2_CONF'] = folder.file('softhsm2.conf')
  if (!existsSync(folder.file(PIN_FILE))) {
    // What a start that was killed has left: a token whose PIN nobody knows, and whose label would be there twice.
    rmSync(tokens, { recursive: true, force: true })
    mkdirSync(tokens, { recursive: true, mode: 0o700 })
    const userPin = randomBytes(8).toString('hex')
    const pins = ['--so-pin', randomBytes(8).toString('hex'), '--pin', userPin]
    const args = ['--init-token', '--free', '--label', LABEL, ...pins]
    // Not execFileSync: the message of its error repeats the arguments.
    const { status } = spawnSync('softhsm2-util', args, { stdio: 'ignore' })
    if (status !== 0) throw new Error('softhsm2-util has made no token')
    folder.write({ name: PIN_FILE, text: userPin })
  }
  // Only for SoftHSM, which has no retail MAC of its own: see composedMac in the README.
  return { module, token: LABEL, composedMac: true, pin: () => folder.read(PIN_FILE) }
}
