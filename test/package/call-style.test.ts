/**
 * One style of call: whatever is public takes one object of named members, or the one value it is about, and after it at
 * most the options of the call. Read from the sources, so that interfaces and methods count as well.
 */
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import ts from 'typescript'
import { describe, expect, test } from 'vitest'

const SRC = new URL('../../src/', import.meta.url).pathname
const ENTRIES = ['index', 'software', 'pkcs11', 'd1', 'sqlite', 'postgres', 'tools', 'testing']

/** What takes more, by its name or the name of what it is a member of; and why. */
const EXCEPTIONS: Readonly<Record<string, string>> = {
  BackendDriver:
    'the port, for who writes a backend: a key first, then what is done with it, then the signal',
  TdeaCipher: 'an engine inside the software backend: a call takes less than an object for it would',
  ChangeCounterStore: 'a key-value store: the key first, as in every such store',
  CardPinStore: 'a store: which card, then what is stored for it',
  CardStore: 'a store: which card, then what is stored for it',
  PinStore: 'a store: which card, then what is stored for it',
  PanSealer: 'what is sealed, then the card that it is bound to',
  RowSealer: 'what is sealed, then its seal, as `verify` of node:crypto has it',
  TokenVerifier: 'the token, then what is known of the request',
  EndpointHandler: 'a request and its connection, as a server calls it',
  NodeListener: 'request, response, next: as Node and the frameworks call it',
  answerClientError: "a listener of Node's `clientError`",
  PostgresClient: 'the shape of pg',
  PostgresPool: 'the shape of pg',
  Clock: 'the shape of setTimeout, turned round',
  Key: 'a constructor that callers cannot use',
  Pan: 'a constructor that callers cannot use',
  Pin: 'a constructor that callers cannot use',
  P256Recipient: 'a constructor that callers cannot use',
}
/** Errors are made by the library only, and take a code and a text like `Error` itself. */
const isError = (name: string): boolean => name.endsWith('Error')

const files = new Map<string, ts.SourceFile>()

function sourceOf(path: string): ts.SourceFile {
  const known = files.get(path)
  if (known !== undefined) return known
  const file = ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.Latest, true)
  files.set(path, file)
  return file
}

/** The declarations that an entry point exports, by name; `export … from` and `export * from` are followed. */
function exportsOf(path: string): Map<string, ts.Node[]> {
  const found = new Map<string, ts.Node[]>()
  const add = (name: string, nodes: readonly ts.Node[]): void => {
    found.set(name, [...(found.get(name) ?? []), ...nodes])
  }
  for (const statement of sourceOf(path).statements) {
    if (ts.isExportDeclaration(statement) && statement.moduleSpecifier !== undefined) {
      const specifier = (statement.moduleSpecifier as ts.StringLiteral).text
      const from = exportsOf(join(dirname(path), specifier.replace(/\.js$/, '.ts')))
      const clause = statement.exportClause
      if (clause === undefined) for (const [name, nodes] of from) add(name, nodes)
      else if (ts.isNamedExports(clause))
        for (const { name, propertyName } of clause.elements) {
          const nodes = from.get((propertyName ?? name).text)
          expect(nodes, `${path}: ${name.text}`).toBeDefined()
          add(name.text, nodes ?? [])
        }
    } else if (isExported(statement)) {
      if (ts.isVariableStatement(statement))
        for (const { name, initializer } of statement.declarationList.declarations)
          add(name.getText(), initializer === undefined ? [] : [initializer])
      else if ('name' in statement) add((statement.name as ts.Identifier).text, [statement])
    }
  }
  return found
}

function isExported(node: ts.Node): boolean {
  return ts.canHaveModifiers(node)
    ? (ts.getModifiers(node) ?? []).some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword)
    : false
}

type Callable = readonly [owner: string, call: string, parameters: readonly ts.ParameterDeclaration[]]

/** All that can be called: the function itself, or the methods of a class or an interface. */
function callables(name: string, node: ts.Node): Callable[] {
  if (ts.isFunctionDeclaration(node) || ts.isArrowFunction(node)) return [[name, name, node.parameters]]
  if (!ts.isClassDeclaration(node) && !ts.isInterfaceDeclaration(node)) return []
  return node.members.flatMap((member): Callable[] => {
    if (member.name !== undefined && ts.isPrivateIdentifier(member.name)) return []
    const called =
      ts.isMethodDeclaration(member) ||
      ts.isMethodSignature(member) ||
      ts.isConstructorDeclaration(member) ||
      ts.isCallSignatureDeclaration(member)
    return called ? [[name, `${name}.${member.name?.getText() ?? 'call'}`, member.parameters]] : []
  })
}

/** One thing, and the options of the call or nothing after it. */
function isOneObject(parameters: readonly ts.ParameterDeclaration[]): boolean {
  const [, second, third] = parameters
  if (second === undefined) return true
  return third === undefined && second.name.getText() === 'options'
}

const PUBLIC: readonly Callable[] = ENTRIES.flatMap(entry =>
  [...exportsOf(join(SRC, `${entry}.ts`))].flatMap(([name, nodes]) =>
    nodes.flatMap(node => callables(name, node)),
  ),
)

describe('what is public', () => {
  test('is found: functions, methods of classes, methods of interfaces', () => {
    const calls = PUBLIC.map(([, call]) => call)
    expect(calls).toEqual(
      expect.arrayContaining(['encipherPin', 'ChangeCounter.accept', 'Backend.bind', 'KeyStore.deleteKey']),
    )
    expect(calls.length).toBeGreaterThan(150)
  })

  test('takes one object, and options after it', () => {
    const wrong = PUBLIC.filter(
      ([owner, , parameters]) => !isOneObject(parameters) && !(owner in EXCEPTIONS) && !isError(owner),
    ).map(([, call, parameters]) => `${call}(${parameters.map(({ name }) => name.getText()).join(', ')})`)
    expect(wrong).toEqual([])
  })

  test('has no exception that is none', () => {
    const needed = new Set(
      PUBLIC.filter(([, , parameters]) => !isOneObject(parameters)).map(([owner]) => owner),
    )
    expect(Object.keys(EXCEPTIONS).filter(name => !needed.has(name))).toEqual([])
  })
})
