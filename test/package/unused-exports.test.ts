/**
 * Nothing is exported that nobody imports: inside `src`, an `export` that no other file of the project names is one too many;
 * on an entry point, one that no test, example or document names.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import ts from 'typescript'
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

/** `file#name` of what is exported in `src`, and of what is imported anywhere; `file#*` for a whole module. */
const exported: string[] = []
const imported = new Set<string>()

for (const path of CODE) {
  const file = ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.Latest, true)
  const target = (specifier: string): string =>
    specifier.startsWith('.') ? join(dirname(path), specifier.replace(/\.js$/, '.ts')) : specifier
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) noteNames(node, target)
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
      const { text } = node.argument.literal as ts.StringLiteral
      imported.add(`${target(text)}#${node.qualifier?.getText() ?? '*'}`)
    } else if (isSource(path) && isExported(node))
      for (const name of namesOf(node)) exported.push(`${path}#${name}`)
    // `import('…')`, `vi.mock('…')` and what else takes a module by its path.
    else if (ts.isStringLiteral(node) && /^\..*\.js$/.test(node.text)) imported.add(`${target(node.text)}#*`)
    if (!ts.isImportDeclaration(node) && !ts.isExportDeclaration(node)) ts.forEachChild(node, visit)
  }
  visit(file)
}

function noteNames(
  node: ts.ImportDeclaration | ts.ExportDeclaration,
  target: (text: string) => string,
): void {
  if (node.moduleSpecifier === undefined) return
  const from = target((node.moduleSpecifier as ts.StringLiteral).text)
  const named = ts.isImportDeclaration(node) ? node.importClause?.namedBindings : node.exportClause
  if (named === undefined || !(ts.isNamedImports(named) || ts.isNamedExports(named)))
    imported.add(`${from}#*`)
  else
    for (const { name, propertyName } of named.elements)
      imported.add(`${from}#${(propertyName ?? name).text}`)
}

function isExported(node: ts.Node): boolean {
  return ts.canHaveModifiers(node)
    ? (ts.getModifiers(node) ?? []).some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword)
    : false
}

function namesOf(node: ts.Node): string[] {
  if (ts.isVariableStatement(node)) return node.declarationList.declarations.map(({ name }) => name.getText())
  return 'name' in node ? [(node.name as ts.Identifier).text] : []
}

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
  for (const path of CODE.filter(isSource)) {
    const file = ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.Latest, true)
    for (const statement of file.statements) {
      if (!ts.isFunctionDeclaration(statement) || !isExported(statement)) continue
      const name = statement.name?.text ?? ''
      homes.set(name, (homes.get(name) ?? new Set()).add(relative(SRC, path)))
    }
  }
  for (const name of ['readOptions', 'withWiped', 'renderTable', 'refusedUse'])
    expect(homes.get(name)?.size).toBe(1)
  const twice = [...homes].filter(([name, files]) => files.size > 1 && !(name in NAMESAKES))
  expect(twice.map(([name, files]) => `${name}: ${[...files].join(', ')}`)).toEqual([])
})

test('what is public has a test, an example or a page', () => {
  const pages = [...filesIn('docs', /\.md$/), ...filesIn('vectors', /\.md$/), join(ROOT, 'README.md')]
  const elsewhere = [...CODE.filter(path => !isSource(path)), ...pages]
    .filter(path => !path.endsWith('unused-exports.test.ts'))
    .map(path => readFileSync(path, 'utf8'))
    .join('\n')
  const words = new Set(elsewhere.match(/\w+/g))
  const entries = CODE.filter(isEntry).flatMap(path => {
    const file = ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.Latest, true)
    return file.statements.flatMap(statement =>
      ts.isExportDeclaration(statement) &&
      !statement.isTypeOnly &&
      statement.exportClause !== undefined &&
      ts.isNamedExports(statement.exportClause)
        ? statement.exportClause.elements.filter(({ isTypeOnly }) => !isTypeOnly).map(({ name }) => name.text)
        : [],
    )
  })
  expect(entries.length).toBeGreaterThan(80)
  expect(entries.filter(name => !words.has(name))).toEqual([])
})
