import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
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

  test.each(EXAMPLES)(
    '$path is what the page shows, and runs',
    ({ path, code }) => {
      expect(readFileSync(join(ROOT, path), 'utf8')).toBe(code)
      // Against the built package, as a user's program would run.
      execFileSync(process.execPath, ['--import', 'tsx', path], { cwd: ROOT, encoding: 'utf8' })
    },
    30_000,
  )
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
