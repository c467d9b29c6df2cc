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

/** The files that use OpenSSL's generator on the host, and what for in the words of SECURITY.md; undefined: nothing that is kept. */
const ON_HOST: Readonly<Record<string, string | undefined>> = {
  'backend/pkcs11/keys/roles.ts': 'CKA_IDs',
  // `randomSecret`, for those that name it.
  'base/bytes.ts': undefined,
  // Random bytes to try a key's template with.
  'backend/pkcs11/mechanisms/cipher.ts': undefined,
  // Under which keys are compared in memory.
  'backend/software/keys.ts': undefined,
  'backend/software/software.ts': 'OpenSSL in software',
  'cli/doctor.ts': undefined,
  'cli/key.ts': 'test keys',
  'cli/onboard.ts': '`onboard`',
  'd1/client/assertion.ts': '`jti`',
  'd1/client/cards.ts': 'correlation ids',
  // How long it waits before it tries again.
  'd1/client/client.ts': undefined,
  'd1/client/token.ts': 'correlation ids',
  'd1/endpoints/own-tokens.ts': '`jti`',
  'd1/endpoints/service.ts': 'request and correlation ids',
  'jwe/seal.ts': 'ephemeral keys and IVs of a JWE',
  // Under which components are compared in memory.
  'key-block/ceremony.ts': undefined,
  'key-block/components.ts': 'components',
  'pin/formats/format.ts': 'PIN block formats 1, 3 and 4',
  'pin/formats/format4.ts': 'PIN block formats 1, 3 and 4',
  'stores/pan-sealer.ts': 'nonces of sealed PANs',
  'stores/sql/cards.ts': 'marks of sealed rows',
  'testing/issuer.ts': undefined,
  'testing/store-contract-life.ts': undefined,
}

/** The names of the tests, suites and contract cases in a file. */
function titlesOf(path: string): readonly string[] {
  const found = read(path).matchAll(
    /(?:\b(?:test|describe)(?:\.\w+)*[^'"`\n]{0,80}?|name: |\)\(\s*)(['"`])(.+?)\1/g,
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

  test('what a refusal takes is what was measured', () => {
    const rows = Array.from(
      read('docs/measurements/timing.md').matchAll(/^\| refused Set PIN: [^|]+\| [\d.]+ \| (\d+) \|/gm),
      ([, nanoseconds]) => (Number(nanoseconds) / 1e6).toFixed(2),
    )
    const said = SECURITY.split('\n').find(line => line.startsWith('| how long did the refusal take?')) ?? ''
    expect(rows).toHaveLength(4)
    expect(Array.from(said.matchAll(/(\d\.\d\d) (?:ms )?more/g), ([, figure]) => figure)).toEqual(rows)
  })

  test('whatever makes random numbers on the host is in the paragraph on them', () => {
    const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' }).filter(path =>
      path.endsWith('.ts'),
    )
    const makes =
      /import \{[^}]*\b(?:(?:randomBytes|randomFillSync|randomUUID|randomInt|generateKeyPairSync|webcrypto)\b[^}]*\} from 'node:crypto'|randomSecret\b)/
    const found = sources.filter(path => makes.test(read(join('src', path))))
    const said = SECURITY.slice(
      SECURITY.indexOf('**Who makes which random number?**'),
      SECURITY.indexOf('**The way to the database**'),
    ).replace(/\s+/g, ' ')
    expect(Object.keys(ON_HOST).sort()).toEqual(found.sort())
    expect(Object.values(ON_HOST).filter(what => what !== undefined && !said.includes(what))).toEqual([])
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
