/**
 * Nothing is exported that nobody imports: inside `src`, an `export` that no other file of the project names is one too many;
 * on an entry point, one that no test, example or document names.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { expect, test } from 'vitest'

const ROOT = new URL('../../', import.meta.url).pathname
const SRC = join(ROOT, 'src')

function filesIn(folder: string, ending: RegExp): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter(path => ending.test(path) && !path.includes('node_modules'))
    .map(path => join(ROOT, folder, path))
}

const CODE = ['src', 'test', 'native-test', 'bench', 'examples', 'packages', 'tools'].flatMap(folder =>
  filesIn(folder, /\.m?ts$/),
)
const isSource = (path: string): boolean => path.startsWith(`${SRC}/`)
const isEntry = (path: string): boolean => dirname(path) === SRC

/** Functions of one name that are two ideas, and why. */
const NAMESAKES: Readonly<Record<string, string>> = {
  importOptional: 'the ESM build; what is in its place in the CommonJS build',
  readMessage: 'what a MAC is over; a message of D1',
  useOf: 'what a key block is for: as words for people; as codes of the header',
  blockOf: 'made for the contract of stores; read from a row',
  prwOf: 'made for the contract of stores; read from a row',
  showText: 'a PRW in its text form; a value in a table for people',
  readText: 'a PRW in its text form; a text attribute of a token',
  startFrom: 'a thread for SQLite; a host for a token',
}

/**
 * The forms that Biome leaves, one to a statement, so that no compiler is asked: `import { a, b as c } from`, with or without
 * a default before it; the type `import('…').A`.
 */
const NAMED = /^(?:import|export) (?:type )?(?:(\w+), )?\{([^}]*)\} from '([^']+)'/gm
const NAMED_TYPE = /\bimport\('([^']+)'\)\.(\w+)/g
/** `import a from`, `import * as a from`, `export * from`; and whatever else takes a module by its path: `import('…')`, a mock. */
const WHOLE = [/^(?:import|export) .* from '([^']+)'/gm, /'(\.[^'\n]*\.js)'/g]
const EXPORTED =
  /^export (?:declare |default |async |abstract )*(?:function\*?|class|(?:const )?enum|const|let|interface|type|namespace) (\w+)/gm

const TEXTS = new Map(CODE.map(path => [path, readFileSync(path, 'utf8')]))
const SOURCES = [...TEXTS].filter(([path]) => isSource(path))
/** `file#name` of what is exported in `src`, and of what is imported anywhere; `file#*` for a whole module. */
const exported = SOURCES.flatMap(([path, text]) =>
  Array.from(text.matchAll(EXPORTED), ([, name]) => `${path}#${name}`),
)
const imported = new Set([...TEXTS].flatMap(([path, text]) => importsOf(path, text)))

function importsOf(path: string, text: string): string[] {
  const found: string[] = []
  const note = (specifier: string, name: string): void => {
    const from = specifier.startsWith('.')
      ? join(dirname(path), specifier.replace(/\.js$/, '.ts'))
      : specifier
    found.push(`${from}#${name}`)
  }
  const rest = text
    .replace(NAMED, (_, whole: string | undefined, names: string, from: string) => {
      if (whole !== undefined) note(from, '*')
      for (const [, name = ''] of names.matchAll(/(?:type )?(\w+)(?: as \w+)?/g)) note(from, name)
      return ''
    })
    .replace(NAMED_TYPE, (_, from: string, name: string) => {
      note(from, name)
      return ''
    })
  for (const form of WHOLE) for (const [, from = ''] of rest.matchAll(form)) note(from, '*')
  return found
}

test('each form of an import and of an export is seen', () => {
  const text = `import { a, type B as C } from './x.js'
import whole, { d } from '../y.js'
import * as all from './z.js'
import {
  e,
} from 'package'
const module = await import('./later.js')
export type { F } from './f.js'
type G = import('./g.js').G
export * from './h.js'`
  expect(importsOf('/src/in/a.ts', text).sort()).toEqual(
    [
      ...['/src/in/x.ts#a', '/src/in/x.ts#B', '/src/y.ts#*', '/src/y.ts#d', '/src/in/z.ts#*', 'package#e'],
      ...[
        '/src/in/later.ts#*',
        '/src/in/f.ts#F',
        '/src/in/g.ts#G',
        '/src/in/h.ts#*',
        '/src/in/h.ts#*',
        '/src/in/z.ts#*',
      ],
    ].sort(),
  )
  const names = 'function f|async function* g|abstract class H|const i|interface J|type K|enum L'.split('|')
  const found = names.flatMap(what => Array.from(`export ${what} {`.matchAll(EXPORTED), ([, name]) => name))
  expect(found).toEqual(['f', 'g', 'H', 'i', 'J', 'K', 'L'])
})

test('what is exported in src is imported somewhere', () => {
  expect(exported.length).toBeGreaterThan(500)
  const unused = [...new Set(exported)].filter(entry => {
    const [path = '', name = ''] = entry.split('#')
    return !isEntry(path) && !imported.has(entry) && !imported.has(`${path}#*`) && name !== ''
  })
  expect(unused.map(entry => relative(SRC, entry))).toEqual([])
})

test('no two files export a function of one name: one reader of options, one table, one helper that wipes', () => {
  const homes = new Map<string, Set<string>>()
  for (const [path, text] of SOURCES)
    for (const [, name = ''] of text.matchAll(/^export (?:async )?function\*? (\w+)/gm))
      homes.set(name, (homes.get(name) ?? new Set()).add(relative(SRC, path)))
  for (const name of ['readOptions', 'withWiped', 'renderTable', 'refusedUse'])
    expect(homes.get(name)?.size).toBe(1)
  const twice = [...homes].filter(([name, files]) => files.size > 1 && !(name in NAMESAKES))
  expect(twice.map(([name, files]) => `${name}: ${[...files].join(', ')}`)).toEqual([])
})

test('what is public has a test, an example or a page', () => {
  const pages = [...filesIn('docs', /\.md$/), ...filesIn('vectors', /\.md$/), join(ROOT, 'README.md')]
  const elsewhere = [
    ...[...TEXTS].filter(([path]) => !isSource(path) && !path.endsWith('unused-exports.test.ts')),
    ...pages.map(path => [path, readFileSync(path, 'utf8')] as const),
  ].map(([, text]) => text)
  const words = new Set(elsewhere.join('\n').match(/\w+/g))
  const entries = SOURCES.filter(([path]) => isEntry(path)).flatMap(([, text]) =>
    Array.from(text.matchAll(/^export \{([^}]*)\} from /gm), ([, names = '']) => names)
      .flatMap(names => names.split(','))
      .map(name => name.trim().replace(/^.* as /, ''))
      .filter(name => name !== '' && !name.startsWith('type ')),
  )
  expect(entries.length).toBeGreaterThan(80)
  expect(entries.filter(name => !words.has(name))).toEqual([])
})
