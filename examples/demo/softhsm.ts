/** A SoftHSM token of the demo's own, in a temporary folder: made, used and removed again. */
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const MODULES = ['/usr/lib/softhsm/libsofthsm2.so', '/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so']

export interface DemoToken extends Disposable {
  readonly module: string
  readonly token: string
  readonly pin: () => string
}

/** A fresh token, or undefined where SoftHSM (module or tool) is not installed. Call it before any other use of SoftHSM. */
export function makeToken(): DemoToken | undefined {
  const module = MODULES.find(path => existsSync(path))
  if (module === undefined) return undefined
  const folder = mkdtempSync(join(tmpdir(), 'issuer-pin-crypto-demo-'))
  mkdirSync(join(folder, 'tokens'))
  // SoftHSM reads its configuration when it is initialised, so this must stand before that.
  process.env['SOFTHSM2_CONF'] = join(folder, 'softhsm2.conf')
  writeFileSync(
    join(folder, 'softhsm2.conf'),
    `directories.tokendir = ${join(folder, 'tokens')}\nlog.level = ERROR\n`,
  )
  const userPin = randomBytes(8).toString('hex')
  const pins = ['--so-pin', randomBytes(8).toString('hex'), '--pin', userPin]
  const args = ['--init-token', '--free', '--label', 'issuer', ...pins]
  // Not execFileSync: its error repeats the arguments, and the PINs are among them.
  const { status, error } = spawnSync('softhsm2-util', args, { stdio: 'ignore' })
  if (status !== 0) {
    rmSync(folder, { recursive: true, force: true })
    if (Reflect.get(Object(error), 'code') === 'ENOENT') return undefined
    throw new Error('softhsm2-util has made no token')
  }
  return {
    module,
    token: 'issuer',
    pin: () => userPin,
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  }
}
