/** The guides that need a token, on SoftHSM, as their readers do them: from the tarball, in empty folders, one guide after the other. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { followPages, installTarball, type Ran } from '../test/support/guide-page.js'
import { runOnSources } from '../test/support/markdown-examples.js'
import { openWith } from './provision.js'
import { describeSoftHsm, makeToken, USER_PIN } from './softhsm.js'

const ROOT = new URL('..', import.meta.url).pathname
const { packInto } = (await import(new URL('../.ci/consumers.mjs', import.meta.url).href)) as {
  packInto: (folder: string) => { readonly tarball: string }
}

/** In this order, for each uses the token of the one before. */
const PAGES = ['software-to-hsm.md', 'your-hsm.md', 'key-ceremony.md', 'moving-blocks.md']
/** Commands that are not run, and why. */
const LEFT_OUT: Readonly<Record<string, string>> = {
  'npm install': 'the tarball stands in node_modules instead: nothing is fetched by a test',
  'key import --from components': 'officers at a terminal: native-test/cli.officer.test.ts types for them',
}

describeSoftHsm('the guides on SoftHSM', () => {
  const home = mkdtempSync(join(tmpdir(), 'ipc-docs-'))
  let ran: readonly Ran[] = []
  beforeAll(async () => {
    installTarball(home, packInto(home).tarball)
    ran = await followPages(home, PAGES, { leaveOut: Object.keys(LEFT_OUT) })
  }, 600_000)
  afterAll(() => rmSync(home, { recursive: true, force: true }))
  const printedBy = (part: string): readonly string[] =>
    ran.filter(({ command }) => command.includes(part)).map(({ printed }) => printed)

  test('the program that ran on software keys prints the same on the token', () => {
    const [software = '', token = ''] = printedBy('start.ts')
    const last = (text: string) => text.trim().split('\n').at(-1)
    expect(software).toContain("backend: 'software'")
    expect(token).toContain("backend: 'pkcs11'")
    expect(last(token)).toBe(last(software))
    expect(last(token)).toContain('stored 8 bytes under Key PEK-STORE')
  })

  test('the keys in the token have the check values of those in software', () => {
    expect(printedBy('put-keys.ts').join()).toMatch(/^ZPK-D1 08D7B4\nPEK-STORE D1D812\nISSUER-JWE \S{43}\n$/)
  })

  test('a check value that is not the record’s stops the start', () => {
    const path = 'examples/guides/software-to-hsm/start.ts'
    expect(() => runOnSources(ROOT, path, { ZPK_KCV: 'FFFFFF' })).toThrow('ERR_KEY_CHECK_VALUE')
  })

  test('a look at the token shows what it can do and which keys it holds', () => {
    const out = printedBy('look.ts').join()
    expect(out).toMatch(/reencipher: 'host'/)
    expect(out).toMatch(/ok: true/)
    expect(out).toMatch(/ZPK-D1.*08D7B4/)
  })

  test('the contract suite runs as the guide has it', () => {
    const [, passed = '0'] = /Tests\D+(\d+) passed/.exec(printedBy('vitest run').join()) ?? []
    expect(Number(passed)).toBeGreaterThan(100)
  })

  test('the ceremony makes two keys in the token and prints a line for each', () => {
    const lines = printedBy('make-keys.ts').join()
    expect(lines.trim().split('\n')).toHaveLength(2)
    expect(lines).toMatch(
      /PEK-STORE-\d{4}, tdea-2key, encrypt-zero, [0-9A-F]{6}, CKA_ID [0-9A-F]{32}, fit for use/,
    )
    expect(lines).toMatch(/ISSUER-JWE-\d{4}, ec-p256, jwk-thumbprint, \S{43}, /)
  })

  test('what a page shows is what its command prints: blocks move from software to the token', () => {
    const shown = ran.filter(({ prints }) => prints !== undefined)
    expect(shown.map(({ command }) => command)).toContain('npx tsx move.ts')
    for (const { printed, prints } of shown) expect(printed).toBe(prints)
  })

  test('every reason for leaving a command out is used', () => {
    const run = ran.map(({ command }) => command).join()
    for (const part of Object.keys(LEFT_OUT)) expect(run).not.toContain(part)
  })
})

describeSoftHsm('the README’s switch to an HSM', () => {
  const token = makeToken('issuer')

  test('its lines, put in the place of those that it takes away, bind the key in the token', async () => {
    const material = '0123456789ABCDEFFEDCBA9876543210'
    const key = { kid: 'PEK-1', usage: 'pin-encryption', algorithm: 'tdea-2key', material } as const
    await (await openWith(token, [{ ...key, hostDecipher: true }])).close()
    const readme = readFileSync(join(ROOT, 'README.md'), 'utf8')
    const [, software = ''] = /```ts\n([\s\S]*?)```/.exec(readme) ?? []
    const [, diff = ''] = /```diff\n([\s\S]*?)```/.exec(readme) ?? []
    const changed = diff.split('\n\n').reduce((program, change) => {
      const linesOf = (sign: string): string =>
        change
          .split('\n')
          .flatMap(line => (line.startsWith(sign) ? [line.slice(1)] : []))
          .join('\n')
      expect(program).toContain(linesOf('-'))
      return program.replace(linesOf('-'), () => linesOf('+'))
    }, software)
    const program = `const readPinFromVault = () => '${USER_PIN}'\n${changed}\nconsole.log(String(storage))\nawait backend.close()`
    const node = ['--input-type=module', '--eval', program]
    expect(execFileSync(process.execPath, node, { cwd: ROOT, encoding: 'utf8' })).toContain('Key PEK-1')
  })
})
