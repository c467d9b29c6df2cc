import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { markdownExamples } from '../support/markdown-examples.js'

const ROOT = new URL('../..', import.meta.url).pathname
const DOCUMENTS = ['README.md', 'docs/seccos.md', 'docs/errors.md'].map(path =>
  readFileSync(join(ROOT, path), 'utf8'),
)

const EXAMPLES = DOCUMENTS.flatMap(text => markdownExamples(text))

describe('examples of the README and of the pages beside it', () => {
  test('there are some', () => {
    expect(EXAMPLES.length).toBeGreaterThan(0)
  })

  test.each(EXAMPLES)('$path is what the page shows, and runs', ({ path, code }) => {
    expect(readFileSync(join(ROOT, path), 'utf8')).toBe(code)
    // Against the built package, as a user's program would run.
    execFileSync(process.execPath, ['--import', 'tsx', path], { cwd: ROOT, encoding: 'utf8' })
  })
})

/** What a page shows and no file holds runs too, after what it leaves to its reader. */
const FRAGMENTS: Readonly<Record<string, string>> = {
  'README.md': `const keys = [{ kid: 'PEK-1', usage: 'pin-encryption', algorithm: 'tdea-2key', material: '0123456789ABCDEFFEDCBA9876543210' }]`,
  'vectors/README.md': '',
}
const PAGES = [
  ...['README.md', 'SECURITY.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'vectors/README.md'],
  ...readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter(path => path.endsWith('.md'))
    .map(path => `docs/${path}`),
]
const SHOWN = PAGES.flatMap(page =>
  Array.from(
    readFileSync(join(ROOT, page), 'utf8').matchAll(
      /(?<! -->\n)^```(?:ts|typescript|js|javascript)\n([\s\S]*?)```/gm,
    ),
    ([, code = '']) => ({ page, code }),
  ),
)

test('every program that a page shows is a file, or is one of these', () => {
  expect(SHOWN.map(({ page }) => page)).toEqual(Object.keys(FRAGMENTS))
})

test.each(SHOWN)('what $page shows runs', ({ page, code }) => {
  const program = `${FRAGMENTS[page]}\n${code}`
  execFileSync(process.execPath, ['--input-type=module', '--eval', program], { cwd: ROOT, encoding: 'utf8' })
})

test('every error code of the library is in the error table', () => {
  const source = readFileSync(join(ROOT, 'src/base/errors.ts'), 'utf8')
  const union = source.slice(
    source.indexOf('export type ErrorCode'),
    source.indexOf('export interface CodedError'),
  )
  const codes = Array.from(union.matchAll(/'(ERR_[A-Z0-9_]+)'/g), ([, code = '']) => code)
  expect(codes.length).toBeGreaterThan(20)
  const errors = readFileSync(join(ROOT, 'docs/errors.md'), 'utf8')
  for (const code of codes) expect(errors).toContain(code.startsWith('ERR_PKCS11_') ? 'ERR_PKCS11_…' : code)
})
