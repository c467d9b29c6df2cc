/** The D1 simulator against a whole issuer with its keys in a token: every case it has is run, and passes. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import { startServe } from './d1/serve-process.js'
import { describeSoftHsm } from './softhsm.js'

const ROOT = new URL('..', import.meta.url).pathname

describeSoftHsm('the simulator against serve on SoftHSM', () => {
  test('every case passes, and none is left out', async () => {
    const parent = mkdtempSync(join(tmpdir(), 'ipc-simulator-'))
    const dir = join(parent, 'run')
    const server = await startServe(dir, '--backend', 'pkcs11')
    try {
      const args = ['packages/d1-simulator/src/bin.ts', '--config', join(dir, 'simulator.json')]
      const env = { ...process.env, TSX_TSCONFIG_PATH: 'tsconfig.test.json' }
      const child = spawn(process.execPath, ['--import', 'tsx', ...args], { cwd: ROOT, env })
      const ended = once(child, 'exit')
      const said = await text(child.stdout)
      const [code] = await ended
      expect(code, said).toBe(0)
      expect(said).toMatch(/\d{3} passed, 0 failed, 0 not run/)
    } finally {
      await server.stop()
      rmSync(parent, { recursive: true })
    }
  })
})
