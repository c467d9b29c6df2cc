/**
 * What the package exports, as the TypeScript compiler sees it: one row for each function and class that a subpath
 * hands out, with its doc comment. Shared by the tests of the doc comments and of their examples.
 */
import { join } from 'node:path'
import ts from 'typescript'

export const ROOT: string = new URL('../..', import.meta.url).pathname

/** The source behind each subpath of package.json, as typedoc.json lists them. */
export const ENTRY_POINTS: ReadonlyMap<string, string> = new Map([
  ['issuer-pin-crypto', 'src/index.ts'],
  ['issuer-pin-crypto/software', 'src/software.ts'],
  ['issuer-pin-crypto/pkcs11', 'src/pkcs11.ts'],
  ['issuer-pin-crypto/d1', 'src/d1.ts'],
  ['issuer-pin-crypto/sqlite', 'src/sqlite.ts'],
  ['issuer-pin-crypto/postgres', 'src/postgres.ts'],
  ['issuer-pin-crypto/tools', 'src/tools.ts'],
  ['issuer-pin-crypto/testing', 'src/testing.ts'],
])

export interface ExportedItem {
  /** Such as `issuer-pin-crypto/d1: getPinResponse`, or `…: ChangeCounter.issue` for a method. */
  readonly name: string
  readonly kind: 'function' | 'class' | 'method' | 'type' | 'value'
  /** Path from the root, for whoever has to mend it. */
  readonly file: string
  readonly line: number
  /** The prose before the tags. Empty where there is no doc comment. */
  readonly comment: string
  /** The `@example` tags, without their fences. */
  readonly examples: readonly string[]
}

let program: ts.Program | undefined

/** All of `src`, compiled once for all files of tests that look at it in one process. */
export function sourceProgram(): ts.Program {
  const { options } = ts.parseJsonConfigFileContent(
    ts.readConfigFile(join(ROOT, 'tsconfig.json'), ts.sys.readFile).config,
    ts.sys,
    ROOT,
  )
  program ??= ts.createProgram(
    ts.sys.readDirectory(join(ROOT, 'src'), ['.ts']),
    { ...options, noEmit: true },
    withoutForeignComments(ts.createCompilerHost(options)),
  )
  return program
}

/** The doc comments of packages are not asked for, and are half of what is written in them. */
function withoutForeignComments(host: ts.CompilerHost): ts.CompilerHost {
  const { getSourceFile } = host
  host.getSourceFile = (path, version, ...rest) => {
    const read = typeof version === 'object' ? version : { languageVersion: version }
    const jsDocParsingMode = ts.JSDocParsingMode.ParseNone
    return getSourceFile(
      path,
      path.includes('/node_modules/') ? { ...read, jsDocParsingMode } : read,
      ...rest,
    )
  }
  return host
}

let exported: readonly ExportedItem[] | undefined

/** Every function, class, public method, type and value that any subpath exports; each once, by its first subpath. */
export function exportedItems(): readonly ExportedItem[] {
  exported ??= readExports(sourceProgram())
  return exported
}

function readExports(program: ts.Program): readonly ExportedItem[] {
  const checker = program.getTypeChecker()
  const seen = new Set<ts.Symbol>()
  const items: ExportedItem[] = []
  for (const [subpath, path] of ENTRY_POINTS) {
    const source = program.getSourceFile(join(ROOT, path))
    const module = source && checker.getSymbolAtLocation(source)
    if (module === undefined) throw new Error(`${path} exports nothing`)
    for (const exported of checker.getExportsOfModule(module)) {
      const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported
      if (seen.has(symbol)) continue
      seen.add(symbol)
      items.push(...describe(symbol, `${subpath}: ${exported.name}`))
    }
  }
  return items

  function describe(symbol: ts.Symbol, name: string): ExportedItem[] {
    const declaration = symbol.declarations?.[0]
    if (declaration === undefined) throw new Error(`${name} is declared nowhere`)
    const row = (
      from: ts.Symbol,
      at: ts.Declaration,
      as: string,
      kind: ExportedItem['kind'],
    ): ExportedItem => {
      const file = at.getSourceFile()
      return {
        name: as,
        kind,
        file: file.fileName.slice(ROOT.length),
        line: file.getLineAndCharacterOfPosition(at.getStart()).line + 1,
        comment: ts.displayPartsToString(from.getDocumentationComment(checker)).trim(),
        examples: from
          .getJsDocTags(checker)
          .filter(tag => tag.name === 'example')
          .map(tag => withoutFence(ts.displayPartsToString(tag.text))),
      }
    }
    const self = row(symbol, declaration, name, kindOf(declaration))
    if (!ts.isClassDeclaration(declaration)) return [self]
    const methods = declaration.members.filter(
      (member): member is ts.MethodDeclaration =>
        ts.isMethodDeclaration(member) &&
        ts.isIdentifier(member.name) &&
        (ts.getCombinedModifierFlags(member) & (ts.ModifierFlags.Private | ts.ModifierFlags.Protected)) === 0,
    )
    return [
      self,
      ...methods.map(method => {
        const of = checker.getSymbolAtLocation(method.name)
        if (of === undefined) throw new Error(`${name}: a method without a symbol`)
        return row(of, method, `${name}.${of.name}`, 'method')
      }),
    ]
  }

  function kindOf(declaration: ts.Declaration): ExportedItem['kind'] {
    if (ts.isClassDeclaration(declaration)) return 'class'
    if (ts.isInterfaceDeclaration(declaration) || ts.isTypeAliasDeclaration(declaration)) return 'type'
    const type = checker.getTypeAtLocation(declaration)
    return type.getCallSignatures().length > 0 ? 'function' : 'value'
  }
}

function withoutFence(text: string): string {
  return text
    .trim()
    .replace(/^```ts\n/, '')
    .replace(/\n```$/, '')
}
