/** A SoftHSM token of the demo's own, in a temporary folder: made, used and removed again. */
import { execFileSync } from 'node:child_process'
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

/** A fresh token, or undefined where SoftHSM is not installed. Call it before any other use of SoftHSM. */
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
  execFileSync('softhsm2-util', ['--init-token', '--free', '--label', 'issuer', ...pins], { stdio: 'ignore' })
  return {
    module,
    token: 'issuer',
    pin: () => userPin,
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  }
}
