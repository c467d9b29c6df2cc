/**
 * The `@example`s are fragments: they use names that the reader's program has. Each is compiled as a module of its own
 * against the real exports, with what it does not declare itself imported from the package or taken from
 * `example-world.ts`. An ellipsis stands for whatever else is needed.
 */
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import ts from 'typescript'
import { describe, expect, test } from 'vitest'
import { ENTRY_POINTS, type ExportedItem, exportedItems, ROOT, sourceProgram } from '../support/public-api.js'

const HERE = join(ROOT, 'test/docs')
const ITEMS = exportedItems()

/** Which subpath exports a name. */
const HOME = new Map(
  ITEMS.filter(({ kind }) => kind !== 'method').map(({ name }) => {
    const [subpath = '', short = ''] = name.split(': ')
    return [short, subpath]
  }),
)
const WORLD = new Set(
  Array.from(
    readFileSync(join(HERE, 'example-world.ts'), 'utf8').matchAll(
      /^export (?:declare \w+|\{ default as|\{) (\w+)/gm,
    ),
    ([, name = '']) => name,
  ),
)
const FRAGMENTS = ITEMS.flatMap(item =>
  item.examples.map((code, i) => ({ item, code, path: pathOf(item, i) })),
)
/** Two mistakes: a format that is not there, and a verb that is not. */
const WRONG = join(HERE, 'wrong.ts')
const WRONG_EXAMPLE = 'await encipherPin({ pin, pan, format: 9, key: zpk })\nawait encipherPn({ … })'
const DIAGNOSTICS = compile(
  new Map([
    ...FRAGMENTS.map(({ code, path }) => [path, asModule(code)] as const),
    [WRONG, asModule(WRONG_EXAMPLE)],
  ]),
)

describe('the examples in doc comments compile', () => {
  test('there are some from every subpath', () => {
    const subpaths = new Set(FRAGMENTS.map(({ item }) => item.name.split(': ')[0]))
    expect([...subpaths].sort()).toEqual([...ENTRY_POINTS.keys()].sort())
  })

  test.each(FRAGMENTS.map(fragment => ({ ...fragment, name: fragment.item.name })))('$name', ({ path }) => {
    expect(DIAGNOSTICS.get(path) ?? []).toEqual([])
  })
})

test('a wrong example is noticed', () => {
  expect(DIAGNOSTICS.get(WRONG)).toHaveLength(2)
})

function pathOf({ name }: ExportedItem, i: number): string {
  return join(HERE, `example-of-${name.replace(/[^\w.]+/g, '-')}-${i}.ts`)
}

function asModule(example: string): string {
  const code = example.replaceAll('…', '...rest')
  const declared = new Set(
    Array.from(code.matchAll(/(?:const|using|function|import) (?:\{([^}]*)\}|(\w+))/g), names).flat(),
  )
  const used = [...new Set(code.match(/[A-Za-z_$][\w$]*/g))].filter(name => !declared.has(name))
  const imports = used.flatMap(name => {
    const from = HOME.get(name) ?? (WORLD.has(name) ? './example-world.js' : undefined)
    return from === undefined ? [] : [`import { ${name} } from '${from}'`]
  })
  return `${imports.join('\n')}\n${code}\nexport {}\n`
}

function names([, group = '', single = '']: RegExpMatchArray): string[] {
  return single !== '' ? [single] : group.split(',').map(name => name.replace(/^.*:/, '').trim())
}

/** What the compiler says about modules that exist in memory only, by path. */
function compile(modules: ReadonlyMap<string, string>): ReadonlyMap<string, readonly string[]> {
  const { config } = ts.readConfigFile(join(ROOT, 'tsconfig.test.json'), ts.sys.readFile)
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, ROOT)
  const settings: ts.CompilerOptions = {
    ...options,
    // The types of undici come with those of Node.
    paths: { ...options.paths, undici: ['./node_modules/undici-types/index.d.ts'] },
    noEmit: true,
    noUnusedLocals: false,
    verbatimModuleSyntax: false,
  }
  const host = ts.createCompilerHost(settings)
  const { fileExists, getSourceFile, readFile } = host
  host.fileExists = path => modules.has(path) || fileExists(path)
  host.readFile = path => modules.get(path) ?? readFile(path)
  host.getSourceFile = (path, version, ...rest) => {
    const text = modules.get(path)
    // What another program has read already: the language, Node, the package.
    return text === undefined
      ? (sourceProgram().getSourceFile(path) ?? getSourceFile(path, version, ...rest))
      : ts.createSourceFile(path, text, version, true)
  }
  const program = ts.createProgram([...modules.keys()], settings, host)
  return new Map(
    Array.from(modules.keys(), path => {
      const source = program.getSourceFile(path)
      if (source === undefined) throw new Error(`${dirname(path)}: not read`)
      const found = [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)]
      return [path, found.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'))]
    }),
  )
}
