/**
 * The architecture, as one table of floors: an import, `import type` included, goes to the own room or to one on a lower
 * floor; among files and among rooms there is no circle. A room is a folder of `src`; where rooms share a floor and one
 * leans on another, that is fine as long as the other does not lean back.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { expect, test } from 'vitest'

const SRC = new URL('../src', import.meta.url).pathname
const FILES = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter(path => path.endsWith('.ts'))
const TEXT: ReadonlyMap<string, string> = new Map(
  FILES.map(file => [file, readFileSync(join(SRC, file), 'utf8')]),
)
const text = (file: string): string => TEXT.get(file) ?? ''

/** From the ground up; each line is a floor, each entry a room with all the folders in it. */
const FLOORS: readonly (readonly [name: string, rooms: readonly RegExp[]])[] = [
  ['base', [/^base\//]],
  ['primitives', [/^primitives\//, /^pin\/formats\//]],
  ['key', [/^key\//]],
  ['port', [/^backend\//]],
  ['verbs', [/^pin\/[^/]+$/, /^mac\//, /^jwe\//, /^key-block\//, /^seccos\//]],
  ['wire', [/^d1\/[^/]+$/, /^d1\/messages\//]],
  ['service', [/^d1\/client\//, /^d1\/endpoints\//, /^stores\//]],
  ['tools', [/^tools\//, /^testing\//]],
  ['entry points', [/^[^/]+$/]],
  ['command line', [/^cli\//]],
]

function floorOf(file: string): number {
  const found = FLOORS.findIndex(([, rooms]) => rooms.some(room => room.test(file)))
  if (found < 0) throw new Error(`${file} is on no floor`)
  return found
}

/** All imports, types included, as paths below src. */
function imports(file: string): readonly string[] {
  const found = text(file).matchAll(/(?:^(?:import|export)\s[^'"]*?from |\bimport\()'(\.[^']+)'/gm)
  return Array.from(found, ([, path = '']) =>
    relative(SRC, join(SRC, dirname(file), path)).replace(/\.js$/, '.ts'),
  )
}

/** The circles of a graph, each as one path back to where it began. */
function circles(graph: ReadonlyMap<string, ReadonlySet<string>>): readonly string[] {
  const done = new Set<string>()
  const path: string[] = []
  const found: string[] = []
  const visit = (node: string): void => {
    const at = path.indexOf(node)
    if (at >= 0) found.push([...path.slice(at), node].join(' -> '))
    if (at >= 0 || done.has(node)) return
    path.push(node)
    for (const next of graph.get(node) ?? []) visit(next)
    path.pop()
    done.add(node)
  }
  for (const node of graph.keys()) visit(node)
  return found
}

/**
 * What came after the house was built, each with the files it may bring: the house itself stays below 180. A file that is
 * not named here takes one of the house's places, so a room is not split without somebody noticing.
 */
const LATER: readonly (readonly [idea: string, files: RegExp])[] = [
  ['a server that is watched', /^d1\/endpoints\/(watch-server|health)\.ts$/],
  ['events of strangers, bounded', /^d1\/endpoints\/strangers\.ts$/],
  ['D1’s keys as a list that changes', /^d1\/endpoints\/d1-keys\.ts$/],
  ['rates that all replicas count together', /^stores\/postgres\/rates\.ts$/],
  ['keys of a database moved by command', /^(cli\/storage|testing\/store-contract-rotation)\.ts$/],
  ['an audit chain verified on the command line', /^cli\/audit\.ts$/],
  ['every default in one table', /^base\/defaults\.ts$/],
  ['rows that cannot be forged', /^stores\/(row-sealer|sql\/sealed)\.ts$/],
  ['a search for the profiles of format 2', /^(tools\/search\/|cli\/search\.ts$)/],
  ['keys derived in a token', /^(backend\/pkcs11\/mechanisms\/derivation|testing\/contract-derivation)\.ts$/],
  ['SQLite in threads of its own', /^stores\/sqlite\/(connection|host-entry|threads)\.ts$/],
  ['components and key blocks', /^(key-block\/|testing\/contract-key-blocks\.ts$)/],
  ['cryptoperiods', /^key\/period\.ts$/],
  ['which attributes a token takes and honours', /^backend\/pkcs11\/probe\/probe-attributes\.ts$/],
  ['one operation as the front runs it', /^backend\/jobs\.ts$/],
  [
    'callers that wait on a token, and calls that they share',
    /^backend\/pkcs11\/executor\/(callers|shared-call)\.ts$/,
  ],
  ['several tokens with the same keys', /^backend\/pkcs11\/group\.ts$/],
  [
    'the everyday commands',
    /^cli\/(block|bring-in|compute|doctor|key|onboard|open|secret|shown|storage|terminal|verbs)\.ts$/,
  ],
  ['a binding without a compiler', /^backend\/pkcs11\/binding\/(koffi-(binding|memory)|load)\.ts$/],
  ['what the opener of a backend decides: key ring and limits', /^backend\/opener\.ts$/],
  [
    'PIN verification: PVV, 3624, the try counter',
    /^(key\/pin-value|pin\/(pin-value|verify|formats\/verification)|seccos\/counter\/tries|testing\/contract-verification)\.ts$/,
  ],
  ['PIN policy, random PINs', /^pin\/(pin-policy|generate)\.ts$/],
  ['packages that need not be there, and bundlers', /^base\/(beside|optional(\.cjs)?)\.ts$/],
  [
    'key agreement and contents on all cores',
    /^(backend\/software\/agreement(-entry)?|primitives\/(a256gcm|cleanly))\.ts$/,
  ],
  ['blocks in flight enciphered together', /^backend\/together\.ts$/],
  ['formats 1 to 4', /^pin\/formats\/format[1-4]\.ts$/],
]

test('there are sources to look at, and the house has fewer than 180 files', () => {
  const house = FILES.filter(file => !LATER.some(([, files]) => files.test(file)))
  expect(house.length).toBeGreaterThan(100)
  expect(house.length).toBeLessThan(180)
  for (const [idea, files] of LATER)
    expect([idea, FILES.some(file => files.test(file))]).toEqual([idea, true])
})

test('every import goes to the own floor or down', () => {
  const wrong = FILES.flatMap(file =>
    imports(file)
      .filter(path => floorOf(path) > floorOf(file))
      .map(path => `${file} imports ${path}`),
  )
  expect(wrong).toEqual([])
})

test('there is no circle of files', () => {
  expect(circles(new Map(FILES.map(file => [file, new Set(imports(file))])))).toEqual([])
})

test('there is no circle of folders', () => {
  const graph = new Map<string, Set<string>>()
  for (const file of FILES) {
    const from = dirname(file)
    const to = graph.get(from) ?? new Set()
    graph.set(from, to)
    for (const path of imports(file)) if (dirname(path) !== from) to.add(dirname(path))
  }
  expect(circles(graph)).toEqual([])
})

test('the library has one clock: base/deadline.ts alone asks the platform for the time, or for a timer', () => {
  const platform =
    /\b(?:setTimeout|setInterval|clearTimeout|performance\.now|Date\.now)\b|\bnew Date\(\)|node:timers/
  const code = (file: string): string => text(file).replaceAll(/\/\*[\s\S]*?\*\/|\/\/[^\n]*/g, '')
  expect(FILES.filter(file => !file.startsWith('cli/') && platform.test(code(file)))).toEqual([
    'base/deadline.ts',
  ])
})

/** What CONTRIBUTING.md names for who follows a request, in the order of reading. */
const PATHS: Readonly<Record<string, readonly string[]>> = {
  'Set PIN, ISO0': [
    'd1/endpoints/endpoints.ts',
    'd1/endpoints/operations.ts',
    'd1/endpoints/http.ts',
    'd1/messages/set-pin.ts',
    'd1/messages/pin-block.ts',
    'jwe/open.ts',
    'pin/decipher.ts',
    'pin/encipher.ts',
    'backend/bound-key.ts',
  ],
  'Set PIN, 3DES_SECCOS': [
    'd1/endpoints/endpoints.ts',
    'd1/endpoints/operations.ts',
    'd1/endpoints/http.ts',
    'd1/messages/set-pin-seccos.ts',
    'd1/messages/pin-block.ts',
    'jwe/open.ts',
    'seccos/data-set.ts',
    'seccos/prw.ts',
    'seccos/counter/counter.ts',
  ],
  register: [
    'd1/client/client.ts',
    'd1/client/cards.ts',
    'd1/client/card-fields.ts',
    'jwe/seal.ts',
    'd1/client/exchange.ts',
    'd1/client/transport.ts',
    'd1/client/token.ts',
    'd1/client/answer.ts',
  ],
}

test.each(Object.entries(PATHS))(
  'who follows %s opens fewer than ten files, each led to by one before',
  (_, files) => {
    expect(files.length).toBeLessThan(10)
    const guide = readFileSync(new URL('../CONTRIBUTING.md', import.meta.url), 'utf8')
    files.forEach((file, at) => {
      expect(guide).toContain(file.slice(file.lastIndexOf('/') + 1))
      // A key's operations are behind the interface that `backend/key.ts` declares.
      const before = [...files.slice(0, at), 'backend/front.ts']
      if (at > 0) expect([file, before.some(from => imports(from).includes(file))]).toEqual([file, true])
    })
  },
)

test('nobody exports a key as a JWK that was generated as an object: Node may stand still over it (see test/support/key-pair.ts)', () => {
  const root = join(SRC, '..')
  const all = ['src', 'packages', 'test', 'native-test', 'examples', 'bench'].flatMap(folder =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter(path => /\.(ts|mjs|cjs)$/.test(path))
      .map(path => join(folder, path)),
  )
  const generates = /generateKeyPair(?:Sync)?\('ec', \{ [^}]*\}\)/
  const both = all.filter(path => {
    const text = readFileSync(join(root, path), 'utf8')
    return generates.test(text) && /\.export\(\{ ?format: 'jwk' ?\}\)/.test(text)
  })
  expect(both).toEqual([])
})

test('the test for circles finds one', () => {
  const graph = new Map([
    ['a', new Set(['b'])],
    ['b', new Set(['c'])],
    ['c', new Set(['b'])],
  ])
  expect(circles(graph)).toEqual(['b -> c -> b'])
})

test('a backend imports no verb, and no other backend', () => {
  const wrong = FILES.filter(file => /^backend\/(software|pkcs11)\//.test(file)).flatMap(file => {
    const other = file.startsWith('backend/software/') ? 'backend/pkcs11/' : 'backend/software/'
    return imports(file)
      .filter(path => path.startsWith(other) || floorOf(path) > floorOf('backend/front.ts'))
      .map(path => `${file} imports ${path}`)
  })
  expect(wrong).toEqual([])
})

test('a usage is refused in one place: nobody else words an ERR_KEY_USAGE', () => {
  const wording = /\bKeyError\(\s*'ERR_KEY_USAGE'/
  expect(FILES.filter(file => wording.test(text(file)))).toEqual(['key/usage.ts'])
})

test('every file begins with its one idea', () => {
  expect(FILES.filter(file => !/^(#!.*\n)?\/\*\*/.test(text(file)))).toEqual([])
})

test('optional packages are loaded by base/optional.ts alone, by their names as data', () => {
  const optional = /^import (?!type)[^'"]*'(pkcs11js|koffi|pg|better-sqlite3|node:sqlite)'/m
  expect(FILES.filter(file => optional.test(text(file)))).toEqual([])
  const code = (file: string): string => text(file).replaceAll(/\/\*\*[\s\S]*?\*\//g, '')
  expect(FILES.filter(file => /\bimport\((?!'\.|'@peculiar)/.test(code(file))).sort()).toEqual([
    'base/optional.ts',
    // A configuration that its user names.
    'cli/storage.ts',
  ])
  expect(FILES.filter(file => /\bawait importOptional\(/.test(text(file))).sort()).toEqual([
    'backend/pkcs11/binding/koffi-binding.ts',
    'backend/pkcs11/binding/pkcs11js-binding.ts',
    'stores/sql/database.ts',
  ])
})

/** What only D1's contract looks like; where its patterns are written, and where the change counter's three are. */
const CONTRACT = 'd1/contract.ts'
const COUNTER = 'seccos/counter/state.ts'
const OF_THE_CONTRACT: Readonly<Record<string, RegExp>> = {
  issuerId: /\]\{10\}\$/,
  cardId: /\{1,48\}\$/,
  'x-correlation-id': /\[A-Za-z0-9_-\]\{1,64\}\$|\[\\w-\]\{1,64\}\$/,
  'x-user-id': /\{1,15\}\$/,
  pcc: /\[0-9\]\{4\}\$|\\d\{4\}\$/,
  intdatag: /\]\{20\}\$/,
  prwDataSet: /\{246\}|\{123\}/,
  'a path': /\/cms\/api|\/oauth2\/token/,
  'an enum value of its own': /'PIN_CHANGE_FORBIDDEN' \| |\['ISO0', '3DES_SECCOS'\]/,
}
/** Comments may say what a pattern is. */
const code = (file: string): string => text(file).replaceAll(/\/\*\*?[\s\S]*?\*\/|^\s*\/\/.*$/gm, '')

test.each(Object.entries(OF_THE_CONTRACT))('the contract of D1 writes %s in one place', (_what, pattern) => {
  const found = FILES.filter(file => pattern.test(code(file)))
  expect([[CONTRACT], [COUNTER]]).toContainEqual(found)
})

test('the D1 simulator shares no code with the library: its own files, node:, jose and node-forge', () => {
  const root = new URL('../packages/d1-simulator/src', import.meta.url).pathname
  const files = readdirSync(root)
  expect(files.length).toBeGreaterThan(20)
  const wrong = files.flatMap(file => {
    const found = readFileSync(join(root, file), 'utf8').matchAll(
      /(?:\bfrom |\bimport\s*\(?)\s*['"]([^'"]+)['"]/g,
    )
    return Array.from(found, ([, specifier = '']) => specifier)
      .filter(specifier => !/^(?:\.\/[a-z0-9-]+\.js|node:[a-z/]+|jose|node-forge)$/.test(specifier))
      .map(specifier => `${file} imports ${specifier}`)
  })
  expect(wrong).toEqual([])
})
