import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { USAGES } from '../../src/key/usage.js'

const ROOT = new URL('../..', import.meta.url).pathname
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8')
const SECURITY = read('SECURITY.md')
const DOCUMENTS = ['README.md', 'SECURITY.md', 'CHANGELOG.md', 'CONTRIBUTING.md', ...markdownIn('docs')]

function markdownIn(folder: string): readonly string[] {
  const found = readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
  return found.filter(path => path.endsWith('.md')).map(path => join(folder, path))
}

/** Paths of this repository that a document names in code marks. */
function pathsIn(text: string): readonly string[] {
  const found = text.matchAll(
    /`((?:src|packages|test|native-test|vectors|docs|bench|examples|\.ci)\/[\w./-]+)`/g,
  )
  return [...new Set(Array.from(found, ([, path = '']) => path))]
}

describe.each(DOCUMENTS)('%s', document => {
  test('names only files that exist', () => {
    expect(pathsIn(read(document)).filter(path => !existsSync(join(ROOT, path)))).toEqual([])
  })

  test('names only npm scripts that exist', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }
    const named = Array.from(
      read(document).matchAll(/npm run (?:--silent )?([\w:-]+)/g),
      ([, name = '']) => name,
    )
    expect(named.filter(name => !(name in scripts))).toEqual([])
  })
})

/** The names of the tests, suites and contract cases in a file. */
function titlesOf(path: string): readonly string[] {
  const found = read(path).matchAll(
    /(?:\b(?:test|describe)(?:\.\w+)*[^'"`\n]{0,80}?|name: |\)\()(['"`])(.+?)\1/g,
  )
  return Array.from(found, ([, , title = '']) => title)
}

describe('SECURITY.md', () => {
  test('points at code, tests, vectors and decisions', () => {
    expect(pathsIn(SECURITY).length).toBeGreaterThan(50)
  })

  test('each claim names a test that exists, and each requirement of PCI PIN has a row', () => {
    const table = SECURITY.slice(SECURITY.indexOf('| claim | test |'), SECURITY.indexOf('## Contents of'))
    const rows = Array.from(
      table.matchAll(/^\| [^|]+ \| `([^`]+)`: ([^|]+) \|$/gm),
      ([, file = '', title = '']) => ({
        file,
        title,
      }),
    )
    expect(rows.length).toBe(table.trim().split('\n').length - 2)
    expect(rows.length).toBeGreaterThan(20)
    expect(rows.filter(({ file, title }) => !titlesOf(file).some(text => text.includes(title)))).toEqual([])
    const requirements = Array.from(SECURITY.matchAll(/^\| ([\d, ]+): /gm), ([, numbers = '']) =>
      numbers.split(',').map(Number),
    ).flat()
    expect(requirements.sort((a, b) => a - b)).toEqual(Array.from({ length: 33 }, (_, i) => i + 1))
  })

  test('its usage matrix is the usage table', () => {
    const rows = Array.from(
      SECURITY.matchAll(/^\| `([\w-]+)` \| (\w\d) \| ([A-Z, ]+) \| ([^|]+) \| [A-Z ]+ \|$/gm),
      ([, usage = '', x9143, mode, algorithms = '']) => [
        usage,
        { x9143, mode, algorithms: algorithms.trim() },
      ],
    )
    const expected = Object.entries(USAGES).map(([usage, rule]) => {
      const families = new Set(rule.algorithms.map(family))
      return [usage, { x9143: rule.x9143, mode: rule.modes.join(', '), algorithms: [...families].join(', ') }]
    })
    expect(Object.fromEntries(rows)).toEqual(Object.fromEntries(expected))
  })

  test('every option that weakens something is one that the code knows', () => {
    const table = SECURITY.slice(SECURITY.indexOf('| option |'), SECURITY.indexOf('## Keys'))
    const options = Array.from(table.matchAll(/^\| `(\w+)` \|/gm), ([, name = '']) => name)
    expect(options.length).toBeGreaterThan(5)
    const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
      .filter(path => path.endsWith('.ts'))
      .map(path => read(join('src', path)))
      .join('\n')
    expect(options.filter(name => !sources.includes(`${name}?: `))).toEqual([])
  })
})

function family(algorithm: string): string {
  if (algorithm.startsWith('tdea')) return 'TDEA'
  if (algorithm.startsWith('hmac')) return 'HMAC'
  return algorithm.startsWith('aes') ? 'AES' : 'P-256'
}
