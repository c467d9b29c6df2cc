/**
 * What a test's assertions look at is there: a loop over what was searched for, and not found, asserts nothing. And no test has
 * less time than the others: a limit of its own is one that a busy machine breaks.
 */
import { readdirSync, readFileSync } from 'node:fs'
import ts from 'typescript'
import { expect, test } from 'vitest'
import { someOf } from './support/some-of.js'

const SEARCH = /\.(?:filter|matchAll)\(|\breaddirSync\(/
/** Most files have no such loop near a `for`, and need not be parsed. */
const mayHaveOne = (text: string): boolean =>
  [...text.matchAll(/\bfor (?:await )?\(/g)].some(({ index }) => SEARCH.test(text.slice(index, index + 300)))
const FOLDERS = ['test', 'native-test', 'packages/d1-simulator/test']
const FILES = someOf(
  FOLDERS.flatMap(folder =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter(file => file.endsWith('.ts'))
      .map(file => `${folder}/${file}`),
  ),
)

/** The loops that assert over what a search gave, and do not go through {@link someOf}. */
function emptyLoops(name: string, text: string): string[] {
  const loops: string[] = []
  if (!mayHaveOne(text)) return loops
  const source = ts.createSourceFile(name, text, ts.ScriptTarget.Latest, true)
  const visit = (node: ts.Node): void => {
    if (ts.isForOfStatement(node)) {
      const list = node.expression.getText()
      const asserts = /\bexpect(?:[A-Z]\w*)?\(|\bassert\b/.test(node.statement.getText())
      if (asserts && SEARCH.test(list) && !list.startsWith('someOf(')) loops.push(`${name}: ${list}`)
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  return loops
}

const LIMIT_MS = 600_000
const LIMITED = /^(?:test|it|describe|(?:before|after)(?:All|Each))\b/

/** The calls of Vitest that have a time limit of their own, shorter than that of all tests. */
function shortLimits(name: string, text: string): string[] {
  const limits: string[] = []
  if (!/_000\b|\b\d{4,}\b|\btimeout\b/.test(text)) return limits
  const source = ts.createSourceFile(name, text, ts.ScriptTarget.Latest, true)
  const isShort = (node: ts.Expression | undefined): boolean =>
    node !== undefined && ts.isNumericLiteral(node) && Number(node.text) < LIMIT_MS
  const ofOptions = (node: ts.Expression): boolean =>
    ts.isObjectLiteralExpression(node) &&
    node.properties.some(
      one => ts.isPropertyAssignment(one) && one.name.getText() === 'timeout' && isShort(one.initializer),
    )
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node) && LIMITED.test(node.expression.getText())) {
      const [, ...more] = node.arguments
      if (isShort(more.at(-1)) || more.some(ofOptions) || (node.arguments[0] && ofOptions(node.arguments[0])))
        limits.push(`${name}: ${node.arguments[0]?.getText()}`)
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  return limits
}

test('a loop that asserts over what was searched for fails where nothing was found', () => {
  expect(FILES.flatMap(file => emptyLoops(file, readFileSync(file, 'utf8')))).toEqual([])
})

test('the rule sees such a loop, and lets a list and what was found pass', () => {
  const loop = (list: string): string => `for (const one of ${list}) expect(one).toBe(1)`
  expect(emptyLoops('x.ts', loop('all.filter(one => one > 1)'))).toHaveLength(1)
  expect(emptyLoops('x.ts', loop('text.matchAll(/a/g)'))).toHaveLength(1)
  expect(emptyLoops('x.ts', loop("readdirSync('.')"))).toHaveLength(1)
  expect(emptyLoops('x.ts', loop('someOf(all.filter(one => one > 1))'))).toEqual([])
  expect(emptyLoops('x.ts', loop('[1, 2]'))).toEqual([])
  expect(emptyLoops('x.ts', 'for (const one of all.filter(Boolean)) sum += one')).toEqual([])
})

test('no test has less time than the others', () => {
  // By the number itself: what is computed (a minute for each of so many kills) grows with what is done.
  expect(FILES.flatMap(file => shortLimits(file, readFileSync(file, 'utf8')))).toEqual([])
  expect(readFileSync('vitest.config.ts', 'utf8')).toContain('const LIMIT_MS = 600_000\n')
})

test('the rule sees a limit that is shorter, and no other number', () => {
  for (const call of [
    "test('x', () => {}, 60_000)",
    "test.each([1])('x', () => {}, 60_000)",
    "test('x', { timeout: 60_000 }, () => {})",
    'beforeAll(() => {}, 5_000)',
    'beforeAll(() => {}, 180_000)',
  ])
    expect(shortLimits('x.ts', call)).toHaveLength(1)
  for (const call of [
    "test('x', () => {}, 600_000)",
    "test('x', { timeout: 700_000 }, () => {})",
    'test.each([[60_000]])("x", () => {})',
    'test("x", () => wait(60_000))',
    'await vi.waitFor(() => {}, 60_000)',
  ])
    expect(shortLimits('x.ts', call)).toEqual([])
})

test('nothing found is a failure', () => {
  expect(someOf([1])).toEqual([1])
  expect(() => someOf([])).toThrow(/how many were found/)
})
