/** The switches of `npm run plant` (tools/plant/changes.ts): with all of them off a text does what it did. */
import { runInThisContext } from 'node:vm'
import { afterEach, expect, test } from 'vitest'
import { withSwitches } from '../../tools/plant/changes.js'

const TEXT = `
const log = []
const self = { end: () => log.push('end') }
function run(list) {
  if (list.length > 3) return 'too many'
  if (list.length === 0) log.push('none')
  else log.push('some')
  try {
    for (const one of list) log.push(one)
    ;[1, 2].forEach(() => self.end())
    log.push(Math.min(2_000, list.length))
  } finally {
    log.push('finally')
  }
  return log.join(' ')
}`

afterEach(() => {
  Reflect.deleteProperty(globalThis, 'planted')
})

const { text, places } = withSwitches('a.ts', TEXT, () => true)
const program = (list: readonly string[]): unknown =>
  runInThisContext(`(() => {${text}\nreturn run })()`)(list)
const result = (list: readonly string[], on?: string): unknown => {
  Object.assign(globalThis, { planted: (id: string) => id === on })
  return program(list)
}
const idOf = (change: string, was: string): string =>
  places.find(place => place.change === change && place.was.startsWith(was))?.id ?? 'none'

test('none is on: as without them, also where nobody listens', () => {
  const all = 'some a b end end 2 finally'
  expect(result(['a', 'b'])).toBe(all)
  Reflect.deleteProperty(globalThis, 'planted')
  expect(program(['a', 'b'])).toBe(all)
})

test.each([
  ['a line is forgotten', "log.push('some')", 'a b end end 2 finally'],
  ['a line is forgotten', 'self.end()', 'some a b 2 finally'],
  ['a line is forgotten', 'log.push(one)', 'some end end 2 finally'],
  ['nothing is done finally', '{', 'some a b end end 2'],
  ['the other end of two', 'Math.min', 'some a b end end 2000 finally'],
  ['the first of a list only', 'for', 'some a end end 2 finally'],
])('%s: %s', (change, was, expected) => {
  expect(result(['a', 'b'], idOf(change, was))).toBe(expected)
})

test('a case is forgotten, a unit is mistaken', () => {
  const many = ['a', 'b', 'c', 'd']
  expect(result(many)).toBe('too many')
  expect(result(many, idOf('a case is forgotten', 'if (list.length > 3)'))).toContain('some a b c d')
  expect(places.map(({ change }) => change)).toContain('a unit is mistaken')
})
