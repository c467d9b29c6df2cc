/** The corpus of vectors/corpus: its shape, that it is what its maker writes, and a reader that has nothing of ours. */
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Ajv } from 'ajv'
import { describe, expect, test } from 'vitest'
import { someOf } from '../support/some-of.js'

const ROOT = new URL('../..', import.meta.url).pathname
const FOLDER = join(ROOT, 'vectors/corpus')
const files = readdirSync(FOLDER).filter(name => name.endsWith('_test.json'))
const read = (name: string): { numberOfTests: number; notes: object; testGroups: { tests: Case[] }[] } =>
  JSON.parse(readFileSync(join(FOLDER, name), 'utf8'))
interface Case {
  readonly tcId: number
  readonly result: string
  readonly flags: readonly string[]
}

test.each(files)('%s has the shape of Wycheproof: numbers, results, flags that are explained', name => {
  const { numberOfTests, notes, testGroups } = read(name)
  const cases = testGroups.flatMap(({ tests }) => tests)
  expect(cases.map(({ tcId }) => tcId)).toEqual(cases.map((_, i) => i + 1))
  expect(cases).toHaveLength(numberOfTests)
  const flags = new Set(cases.flatMap(one => one.flags))
  expect([...flags].sort()).toEqual(Object.keys(notes).sort())
  expect(new Set(cases.map(({ result }) => result)).size).toBeGreaterThan(0)
  for (const { result } of cases) expect(['valid', 'invalid', 'acceptable']).toContain(result)
})

describe('the schema', () => {
  const text = (name: string) => readFileSync(join(FOLDER, name), 'utf8')
  const validate = new Ajv({ strict: true }).compile(JSON.parse(text('schema.json')))

  test.each(files)('admits %s', name => {
    expect([validate(JSON.parse(text(name))), validate.errors]).toEqual([true, null])
  })

  /** One file with one of its cases changed, for each type of case. */
  const kinds = new Map(
    files.flatMap(name => {
      const file = JSON.parse(text(name)) as { testGroups: { type: string; tests: Case[] }[] }
      return file.testGroups.map(({ type }) => [type, name] as const)
    }),
  )
  test.each([...kinds])(
    'refuses a case of %s that lacks a member, or has one more, or another value',
    (type, name) => {
      const withCase = (change: (one: Record<string, unknown>) => void) => {
        const file = JSON.parse(text(name)) as {
          testGroups: { type: string; tests: Record<string, unknown>[] }[]
        }
        const tests = file.testGroups.find(group => group.type === type)?.tests ?? []
        const one = tests.find(({ result }) => result === 'valid') ?? tests[0] ?? expect.unreachable()
        change(one)
        return validate(file)
      }
      expect(withCase(() => undefined)).toBe(true)
      const wrong: readonly ((one: Record<string, unknown>) => void)[] = [
        one => delete one['tcId'],
        one => delete one['result'],
        one => delete one['flags'],
        one => Object.assign(one, { more: 1 }),
        one => Object.assign(one, { result: 'good' }),
        one => Object.assign(one, { flags: [] }),
        one => Object.assign(one, { flags: ['not a flag'] }),
      ]
      for (const change of wrong) expect(withCase(change)).toBe(false)
      const members = ['key', 'kbpk', 'mac', 'kcv', 'enciphered', 'pinField', 'panField']
      withCase(one => {
        for (const member of members)
          if (member in one) expect(withCase(other => Object.assign(other, { [member]: 'xyz' }))).toBe(false)
      })
    },
  )

  test('refuses a type of case that there is not', () => {
    const file = JSON.parse(text(files[0] ?? '')) as { testGroups: { type: string }[] }
    const [group] = file.testGroups
    if (group !== undefined) group.type = 'pin-block.guess'
    expect(validate(file)).toBe(false)
  })
})

test('formats 0 to 4, MACs, CMAC, check values, PVV and 3624 are there, with invalid cases', () => {
  const names = ['cmac', 'ibm_3624', 'iso9797_mac', 'key_block', 'key_check_value', 'visa_pvv']
  const all = [...names, ...[0, 1, 2, 3, 4].map(format => `iso9564_format_${format}`)]
  expect(files.map(name => name.replace('_test.json', '')).sort()).toEqual(expect.arrayContaining(all))
  for (const name of someOf(files.filter(file => /iso9564|pvv|3624/.test(file)))) {
    const results = read(name).testGroups.flatMap(({ tests }) => tests.map(({ result }) => result))
    expect(results).toEqual(expect.arrayContaining(['valid', 'invalid']))
  }
})

const missing = ['python3', 'openssl'].filter(tool => spawnSync(tool, ['version']).error !== undefined)
if (missing.length > 0)
  console.warn(`skipped, for this machine has no ${missing.join(', ')}: the corpus read from Python`)

test.skipIf(missing.length > 0)(
  'Python and openssl agree with every case, and an empty folder is no success',
  () => {
    const run = (folder: string) =>
      spawnSync('python3', [join(ROOT, 'test/corpus/verify.py'), folder], { encoding: 'utf8' })
    const { stdout, stderr, status } = run(FOLDER)
    const { wrong, counts } = JSON.parse(stdout || '{}') as {
      wrong: string[]
      counts: Record<string, number>
    }
    expect([stderr, status, wrong]).toEqual(['', 0, []])
    expect(Object.keys(counts).sort()).toEqual([...files].sort())
    expect(run(join(ROOT, 'test')).status).toBe(1)
  },
)
