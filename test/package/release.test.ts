/** The check before a release: placeholders keep it from happening, and only they. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'

interface Manifest {
  readonly version: string
  readonly repository?: { readonly url: string }
  readonly homepage?: string
  readonly bugs?: { readonly url: string }
}

const ROOT = new URL('../..', import.meta.url)
const { unsettled } = (await import(new URL('.ci/release.mjs', ROOT).href)) as {
  unsettled: (name: string, manifest: Manifest, changelog: string) => readonly string[]
}
const SETTLED: Manifest = {
  version: '1.2.3',
  repository: { url: 'git+https://git.bank.test/issuer-pin-crypto.git' },
  homepage: 'https://git.bank.test/issuer-pin-crypto',
  bugs: { url: 'https://git.bank.test/issuer-pin-crypto/issues' },
}
const CHANGELOG = '# Changelog\n\n## 1.2.3 (2027-01-31)\n'

test('what is settled may be released', () => {
  expect(unsettled('x', SETTLED, CHANGELOG)).toEqual([])
})

test.each<[string, Partial<Manifest>, string]>([
  ['a placeholder', { homepage: 'https://placeholder.invalid/x' }, 'x: homepage is still a placeholder'],
  ['an address of .invalid', { bugs: { url: 'https://x.invalid/' } }, 'x: bugs is still a placeholder'],
  ['no address', { repository: undefined as never }, 'x: repository is still a placeholder'],
  [
    'a version without a section',
    { version: '1.2.4' },
    'CHANGELOG.md has no section "## 1.2.4 (YYYY-MM-DD)"',
  ],
])('%s keeps it from being released', (_what, change, problem) => {
  expect(unsettled('x', { ...SETTLED, ...change }, CHANGELOG)).toEqual([problem])
})

test('a section without a date is none', () => {
  const changelog = '## 1.2.3 (not released)\n'
  expect(unsettled('x', SETTLED, changelog)).toHaveLength(1)
})

test('publishing runs the check, in both packages, and it fails while a manifest of ours has a placeholder', () => {
  for (const path of ['package.json', 'packages/d1-simulator/package.json']) {
    const { scripts } = JSON.parse(readFileSync(new URL(path, ROOT), 'utf8')) as {
      scripts: Record<string, string>
    }
    expect(scripts['prepublishOnly']).toMatch(/release/)
  }
  const { scripts } = JSON.parse(readFileSync(new URL('package.json', ROOT), 'utf8')) as {
    scripts: Record<string, string>
  }
  // `.npmrc` says that npm runs no script by itself.
  expect(scripts['release']).toBe('npm publish --ignore-scripts=false')
  const text = readFileSync(new URL('package.json', ROOT), 'utf8')
  const { status, stderr } = spawnSync('npm', ['run', '--silent', 'check:release'], {
    cwd: ROOT,
    encoding: 'utf8',
  })
  expect(status).toBe(/placeholder/.test(text) ? 1 : 0)
  if (status === 1) expect(stderr).toMatch(/^package\.json: repository is still a placeholder$/m)
})
