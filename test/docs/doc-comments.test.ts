/**
 * The doc comments of what is exported: each is there, says which errors, and has an example that compiles. In one file, as
 * both look at the one program of all sources, which takes seconds to read.
 */
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import ts from 'typescript'
import { describe, expect, test } from 'vitest'
import { ENTRY_POINTS, type ExportedItem, exportedItems, ROOT, sourceProgram } from '../support/public-api.js'

const ITEMS = exportedItems()

/** What cannot fail, and why. Everything else that can be called names its error codes. */
const NEVER_FAILS: Readonly<Record<string, string>> = {
  answerClientError: 'writes to a socket that may be gone, and says nothing about it',
  backendContract: 'makes a list of cases; a case that fails throws an AssertionError',
  issuerStoreContract: 'makes a list of cases; a case that fails throws an AssertionError',
  changeCounterStoreContract: 'makes a list of cases; a case that fails throws an AssertionError',
  isIssuerPinError: 'a question about any value',
  memoryStore: 'takes nothing',
  otelAttributes: 'maps a finished event',
  'D1ClientError.revealText': 'hands out what is there',
  'Key.toString': 'redacts',
  'P256Recipient.toString': 'redacts',
  'Pan.masked': 'the number was checked when it was made',
  'Pan.reveal': 'the number was checked when it was made',
  'Pan.toJSON': 'redacts',
  'Pan.toString': 'redacts',
  'Pin.dispose': 'may be called again',
  'Pin.toJSON': 'redacts',
  'Pin.toString': 'redacts',
  'Pkcs11Error.as': 'makes an error out of any value',
}

const shortName = ({ name }: ExportedItem): string => name.replace(/^.*: /, '')
const isErrorClass = (item: ExportedItem): boolean => /Error\b/.test(shortName(item))
const callable = ITEMS.filter(({ kind }) => kind === 'function' || kind === 'method')
const where = ({ name, file, line }: ExportedItem): string => `${name} (${file}:${line})`

test('every subpath with code is looked at', () => {
  const { exports } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { exports: object }
  const subpaths = Object.keys(exports).filter(path => !path.includes('json'))
  expect([...ENTRY_POINTS.keys()].sort()).toEqual(
    subpaths.map(path => `issuer-pin-crypto${path.slice(1)}`).sort(),
  )
  const { entryPoints } = JSON.parse(readFileSync(join(ROOT, 'typedoc.json'), 'utf8')) as {
    entryPoints: string[]
  }
  expect(entryPoints.sort()).toEqual([...ENTRY_POINTS.values()].sort())
  expect(ITEMS.length).toBeGreaterThan(100)
})

describe('doc comments', () => {
  test('everything that is exported has one, and so have the public methods of the classes', () => {
    expect(ITEMS.filter(({ comment }) => comment === '').map(where)).toEqual([])
  })

  test('every function has an @example, and so has every class that is not an error', () => {
    const lacking = ITEMS.filter(
      item =>
        (item.kind === 'function' || (item.kind === 'class' && !isErrorClass(item))) &&
        item.examples.length === 0,
    )
    expect(lacking.map(where)).toEqual([])
  })

  test('whatever can be called and can fail says with which codes', () => {
    const lacking = callable.filter(
      item => !/\bERR_[A-Z]/.test(item.comment) && NEVER_FAILS[shortName(item)] === undefined,
    )
    expect(lacking.map(where)).toEqual([])
  })

  test('the list of what cannot fail names exported things only, none of which names an error code', () => {
    const byName = new Map(callable.map(item => [shortName(item), item]))
    for (const name of Object.keys(NEVER_FAILS)) {
      expect(byName.get(name)?.comment, name).toBeDefined()
      expect(byName.get(name)?.comment, name).not.toMatch(/\bErrors:.*\bERR_/)
    }
  })

  test('none sends its reader to a file that the package does not have', () => {
    const sending = ITEMS.filter(({ comment }) =>
      /\b(?:src|test|native-test|tools|bench)\/[\w./-]+/.test(comment),
    )
    expect(sending.map(({ name }) => name)).toEqual([])
  })

  test('the error codes they name exist', () => {
    const source = readFileSync(join(ROOT, 'src/base/errors.ts'), 'utf8')
    const unknown = ITEMS.flatMap(item =>
      Array.from(item.comment.matchAll(/`(ERR_[A-Z0-9_]+)`/g), ([, code = '']) => code)
        .filter(code => !source.includes(`'${code}'`))
        .map(code => `${where(item)}: ${code}`),
    )
    expect(unknown).toEqual([])
  })
})

/**
 * The `@example`s are fragments: they use names that the reader's program has. Each is compiled as a module of its own
 * against the real exports, with what it does not declare itself imported from the package or taken from
 * `example-world.ts`. An ellipsis stands for whatever else is needed.
 */
const HERE = join(ROOT, 'test/docs')

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
