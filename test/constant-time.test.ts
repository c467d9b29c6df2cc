/**
 * Constant time by construction: bytes are compared by `equalBytes` of `base/bytes`, which is `timingSafeEqual`, and in no
 * other way; what is public and compared otherwise is in the table.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import ts from 'typescript'
import { expect, test } from 'vitest'

const SRC = new URL('../src', import.meta.url).pathname
const OTHERWISE = /timingSafeEqual\(|\.compare\(|\.equals\(|toHex\([^()]*\)\s*[!=]==|[!=]==\s*toHex\(/

/** The line as it is in the file, and why it may be there. */
const PUBLIC: Readonly<Record<string, string>> = {
  'base/bytes.ts: return a.length === b.length && timingSafeEqual(a, b)': 'the one place',
  'cli/compute.ts: const verified = await withPin(values, io, async pin => inBlock.equals(pin))':
    'Pin.equals',
  'pin/pin-policy.ts: before: policy.notBefore && before !== undefined && pin.equals(before) ? 1 : 0,':
    'Pin.equals',
  'd1/messages/set-pin.ts: return pin.equals(before)': 'Pin.equals',
  'primitives/p256.ts: if (lastGood.equals(point)) return true': 'a public point',
  "d1/endpoints/peer.ts: return typeof encoded === 'string' || x509.raw.equals(encoded) ? describe(x509) : undefined":
    'a certificate',
}

test('bytes are compared in one way', () => {
  const found = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
    .filter(path => path.endsWith('.ts'))
    .flatMap(path =>
      readFileSync(join(SRC, path), 'utf8')
        .split('\n')
        .map(line => line.trim())
        .filter(line => OTHERWISE.test(line) && !/^(\*|\/\/|\/\*)/.test(line))
        .map(line => `${path}: ${line}`),
    )
  expect(found.filter(line => PUBLIC[line] === undefined)).toEqual([])
  expect(Object.keys(PUBLIC).filter(line => !found.includes(line))).toEqual([])
})

/**
 * What goes over the digits of a PIN goes over all of them, whatever they are: no way out of a loop, no statement that is
 * left out, no operand that is not looked at.
 */
const OVER_ALL: Readonly<Record<string, readonly string[]>> = {
  'pin/pin-policy.ts': ['same', 'within', 'every', 'repeats', 'runs', 'pairs', 'dates', 'listed'],
  'pin/formats/verification.ts': ['plainDigits', 'pvvAnswer', 'offsetAnswer', 'packed', 'unpacked'],
}

const SHORTCUTS: ReadonlyMap<ts.SyntaxKind, string> = new Map([
  [ts.SyntaxKind.AmpersandAmpersandToken, '&&'],
  [ts.SyntaxKind.BarBarToken, '||'],
])

/** The shortcuts in a function, each with its line. */
function shortcutsIn(body: ts.Node, source: ts.SourceFile): string[] {
  const found: string[] = []
  const visit = (node: ts.Node, inLoop: boolean): void => {
    const isWayOut =
      ts.isIfStatement(node) ||
      ts.isBreakStatement(node) ||
      ts.isContinueStatement(node) ||
      (inLoop && (ts.isReturnStatement(node) || ts.isThrowStatement(node))) ||
      (ts.isBinaryExpression(node) && SHORTCUTS.has(node.operatorToken.kind))
    if (isWayOut) found.push(node.getText(source).split('\n')[0] ?? '')
    ts.forEachChild(node, child => visit(child, inLoop || ts.isIterationStatement(node, false)))
  }
  visit(body, false)
  return found
}

function functionsOf(text: string): ReadonlyMap<string, string[]> {
  const source = ts.createSourceFile('x.ts', text, ts.ScriptTarget.Latest, true)
  const functions = source.statements.filter(ts.isFunctionDeclaration)
  return new Map(
    functions.flatMap(({ name, body }) =>
      name && body ? [[name.text, shortcutsIn(body, source)] as const] : [],
    ),
  )
}

test.each(Object.entries(OVER_ALL))('%s: what goes over digits takes no shortcut', (path, names) => {
  const functions = functionsOf(readFileSync(join(SRC, path), 'utf8'))
  for (const name of names) expect({ [name]: functions.get(name) }).toEqual({ [name]: [] })
})

test('the rule sees each kind of shortcut', () => {
  const of = (body: string) => functionsOf(`function f(a, b) { ${body} }`).get('f')
  expect(of('let c = 0; for (const x of a) c |= x ^ b; return c')).toEqual([])
  for (const body of [
    'for (const x of a) { c |= x; if (c) break }',
    'for (const x of a) return x',
    'return a && b',
    'for (;;) { throw a }',
  ])
    expect(of(body)).not.toEqual([])
})

/** Whether a key is used does not hang on what another one said of a PIN: both are, and then it is judged. */
const MAY_NOT_BE_ASKED = /(?:&&|\|\||\?) \(?await/
const ASKED_BY_WHAT_IS_PUBLIC: readonly string[] = [
  // A try counter is told of a success alone.
  'seccos/counter/tries.ts: return { verified, blocked: false, triesLeft: verified ? await counted.succeed() : counted.left }',
  // Whether there is a record.
  'seccos/counter/counter.ts: const step = issueStep(state ?? (await this.#firstState(cardId)), { tag, expiresAt, now }, this.#policy)',
  'seccos/counter/counter.ts: const instance = record === undefined ? await store.instance?.() : record.instance',
  'd1/messages/set-pin-seccos.ts: const pcc = pccIn(dataSet.content, intdatag, request.pcc) ?? (await counter.pccOf({ cardId, intdatag }))',
  // Whether a PIN before this one was given.
  'd1/messages/set-pin.ts: const unchanged = before !== undefined && (await isPinOf(before, pin, pan, options))',
]

test('what is asked of a key does not depend on what another has answered about a PIN', () => {
  const found = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
    .filter(path => /^(?:pin|seccos|mac|d1\/messages)\/.*\.ts$/.test(path))
    .flatMap(path =>
      readFileSync(join(SRC, path), 'utf8')
        .split('\n')
        .map(line => `${path}: ${line.trim()}`)
        .filter(line => MAY_NOT_BE_ASKED.test(line)),
    )
  expect(found.sort()).toEqual([...ASKED_BY_WHAT_IS_PUBLIC].sort())
})

/** What is computed to be compared with a MAC that came in, and stays in memory where its own function does not wipe it. */
function leftIn(text: string): string[] {
  const source = ts.createSourceFile('x.ts', text, ts.ScriptTarget.Latest, true)
  const left: string[] = []
  const visit = (node: ts.Node): void => {
    if (ts.isVariableDeclaration(node) && MAKES_A_MAC.test(node.initializer?.getText(source) ?? '')) {
      const name = node.name.getText(source)
      const within = (ts.findAncestor(node, ts.isFunctionLike) ?? source).getText(source)
      const isCompared = new RegExp(`equalBytes\\([^;]*\\b${name}\\b`).test(within)
      const isWiped = new RegExp(`(?:finally \\{[^}]*\\bwipe\\([^)]*|withWiped\\()\\b${name}\\b`).test(within)
      if (isCompared && !isWiped) left.push(name)
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  return left
}

const MAKES_A_MAC = /^await [^\n;]*\b(?:mac|macOf|fullMac)\(/

test('a MAC that is made to compare with is wiped: it is the one that whoever forged the message looks for', () => {
  const found = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
    .filter(path => path.endsWith('.ts') && !path.startsWith('testing/'))
    .flatMap(path => leftIn(readFileSync(join(SRC, path), 'utf8')).map(name => `${path}: ${name}`))
  expect(found).toEqual([])
  const made = 'const right = await operations.mac(request, message, options)\n'
  expect(leftIn(`${made}return equalBytes(right, given)`)).toEqual(['right'])
  expect(
    leftIn(`${made}try { return equalBytes(right.subarray(0, 4), given) } finally { wipe(right) }`),
  ).toEqual([])
  expect(leftIn(`${made}return withWiped(right, it => equalBytes(it, given))`)).toEqual([])
  // Of two functions in one file, one wipes; on one path only; the other way round.
  const sound = `async function a() { ${made}try { return equalBytes(right, given) } finally { wipe(right) } }`
  expect(leftIn(`${sound}\nasync function b() { ${made}return equalBytes(right, given) }`)).toEqual(['right'])
  expect(leftIn(`${made}const is = equalBytes(right, given)\nif (is) wipe(right)`)).toEqual(['right'])
  expect(leftIn(`${made}return equalBytes(given, right)`)).toEqual(['right'])
})
