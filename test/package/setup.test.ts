/**
 * `npm run serve` sets up what its options need, and nothing else: whoever takes the store in memory, or PostgreSQL, waits
 * for no compiler. On a Node without a driver of SQLite, with an `npm` that writes down what it was asked to compile.
 */
import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'

const folder = mkdtempSync(join(tmpdir(), 'setup-'))
afterAll(() => rmSync(folder, { recursive: true }))

const asked = join(folder, 'asked')
const npm = join(folder, 'npm')
writeFileSync(npm, `#!/bin/sh\necho "$(basename "$PWD") $*" >> '${asked}'\n`)
chmodSync(npm, 0o755)
// Where a compiler is missing too, root would have it installed.
writeFileSync(join(folder, 'apt-get'), '#!/bin/sh\n')
chmodSync(join(folder, 'apt-get'), 0o755)

/** What is compiled where none of `missing` loads. */
function compiled(missing: readonly string[], ...args: readonly string[]): string {
  rmSync(asked, { force: true })
  execFileSync(process.execPath, ['native-test/setup.mjs', 'serve', ...args], {
    env: {
      ...process.env,
      PATH: `${folder}:/usr/bin:/bin`,
      NODE_OPTIONS: `--require ${join(import.meta.dirname, '../support/no-driver.cjs')}`,
      MISSING_MODULES: missing.join(','),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  return existsSync(asked) ? readFileSync(asked, 'utf8') : ''
}

const NO_SQLITE = ['node:sqlite', 'better-sqlite3']
const NO_BINDING = ['koffi', 'pkcs11js']

describe('without a driver of SQLite', () => {
  test.each([[[]], [['--store', 'sqlite', '--port', '0']], [['--store=sqlite']]])(
    '%j: one is compiled',
    args => {
      expect(compiled(NO_SQLITE, ...args)).toBe('better-sqlite3 run --silent build-release\n')
    },
  )

  test.each([
    [['--store', 'memory']],
    [['--store=memory', '--dir', './x']],
    [['--dir', './x', '--store', 'postgres', '--postgres', 'postgres://u@h/d']],
    [['--help']],
    [['--store', 'oracle']],
    [['--store', 'memory', '--no-such-option']],
  ])('%j: none is', args => {
    expect(compiled(NO_SQLITE, ...args)).toBe('')
  })
})

describe('without a binding to tokens', () => {
  test('software keys need none', () => {
    expect(compiled(NO_BINDING, '--store', 'memory')).toBe('')
    expect(compiled(NO_BINDING, '--store', 'memory', '--backend', 'software')).toBe('')
  })

  test('keys in a token need one, which is compiled', () => {
    const args = ['--store', 'memory', '--backend', 'pkcs11', '--module', '/x.so']
    expect(compiled(NO_BINDING, ...args)).toBe('pkcs11js run --silent build\n')
    expect(compiled(['pkcs11js'], ...args)).toBe('')
  })
})
