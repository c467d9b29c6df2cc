/** What a test's assertions look at is there: a loop over what was searched for, and not found, asserts nothing. */
import { readdirSync, readFileSync } from 'node:fs'
import ts from 'typescript'
import { expect, test } from 'vitest'
import { someOf } from './support/some-of.js'

const SEARCH = /\.(?:filter|matchAll)\(|\breaddirSync\(/
/** Most files have no such loop near a `for`, and need not be parsed. */
const mayHaveOne = (text: string): boolean =>
  [...text.matchAll(/\bfor (?:await )?\(/g)].some(({ index }) => SEARCH.test(text.slice(index, index + 300)))
const FOLDERS = ['test', 'native-test', 'packages/d1-simulator/test']

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

test('a loop that asserts over what was searched for fails where nothing was found', () => {
  const files = FOLDERS.flatMap(folder =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter(file => file.endsWith('.ts'))
      .map(file => `${folder}/${file}`),
  )
  expect(someOf(files).flatMap(file => emptyLoops(file, readFileSync(file, 'utf8')))).toEqual([])
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

test('nothing found is a failure', () => {
  expect(someOf([1])).toEqual([1])
  expect(() => someOf([])).toThrow(/how many were found/)
})
