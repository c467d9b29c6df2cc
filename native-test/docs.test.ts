/** The programs of the guides that need a token, on SoftHSM, as their readers would start them. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { TEST_KEYS } from '../examples/guides/software-to-hsm/test-keys.js'
import { openKeyStore } from '../src/pkcs11.js'
import { runOnSources } from '../test/support/markdown-examples.js'
import { describeSoftHsm, makeToken, USER_PIN } from './softhsm.js'

const ROOT = new URL('..', import.meta.url).pathname

describeSoftHsm('the guides on SoftHSM', () => {
  const token = makeToken('guide')
  makeToken('ceremony')
  // The contract suite opens these by the names that the guide gives them.
  makeToken('ipc-contract-shared')
  makeToken('ipc-contract-scratch')
  const folder = mkdtempSync(join(tmpdir(), 'ipc-docs-'))
  const environment = {
    PKCS11_MODULE: token.module,
    PKCS11_TOKEN: 'guide',
    PKCS11_PIN_FILE: join(folder, 'pin'),
  }

  beforeAll(async () => {
    writeFileSync(environment.PKCS11_PIN_FILE, `${USER_PIN}\n`)
    await using store = await openKeyStore({ ...token, importClearKeys: true })
    for (const key of TEST_KEYS) {
      const hostDecipher = key.usage === 'pin-encryption'
      await store.importKey({ ...key, hostDecipher })
    }
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  test('the program that ran on software keys prints the same on the token', () => {
    const path = 'examples/guides/software-to-hsm/start.ts'
    const last = (text: string) => text.trim().split('\n').at(-1)
    const onToken = runOnSources(ROOT, path, environment)
    expect(onToken).toContain("backend: 'pkcs11'")
    expect(last(onToken)).toBe(last(runOnSources(ROOT, path)))
  })

  test('a check value that is not the record’s stops the start', () => {
    const path = 'examples/guides/software-to-hsm/start.ts'
    expect(() => runOnSources(ROOT, path, { ...environment, ZPK_KCV: 'FFFFFF' })).toThrow(
      'ERR_KEY_CHECK_VALUE',
    )
  })

  test('a look at the token shows what it can do and which keys it holds', () => {
    const out = runOnSources(ROOT, 'examples/guides/your-hsm/look.ts', environment)
    expect(out).toMatch(/reencipher: 'host'/)
    expect(out).toMatch(/ok: true/)
    expect(out).toMatch(/ZPK-D1.*08D7B4/)
  })

  test('the ceremony makes two keys in the token and returns a line for each', () => {
    const lines = runOnSources(ROOT, 'native-test/children/guide-make-keys.ts', {
      ...environment,
      PKCS11_TOKEN: 'ceremony',
    })
    expect(lines.trim().split('\n')).toHaveLength(2)
    expect(lines).toMatch(
      /PEK-STORE-2026, tdea-2key, encrypt-zero, [0-9A-F]{6}, CKA_ID [0-9A-F]{32}, fit for use/,
    )
    expect(lines).toMatch(/ISSUER-JWE-2026, ec-p256, jwk-thumbprint, \S{43}, /)
  })

  test('the contract suite runs as the guide has it', () => {
    const report = join(folder, 'contract.json')
    const vitest = join(ROOT, 'node_modules/vitest/vitest.mjs')
    const config = join(ROOT, 'native-test/children/guide.vitest.config.ts')
    execFileSync(
      process.execPath,
      [vitest, 'run', '--config', config, '--reporter=json', `--outputFile=${report}`],
      { cwd: ROOT, env: { ...process.env, ...environment, VITEST: '' }, stdio: 'pipe' },
    )
    const { success, numPassedTests } = JSON.parse(readFileSync(report, 'utf8')) as {
      success: boolean
      numPassedTests: number
    }
    expect(success).toBe(true)
    expect(numPassedTests).toBeGreaterThan(100)
  })
})
