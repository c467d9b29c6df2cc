/** Names of members in messages: a misspelt option is shown, what looks like a value is not. */
import { describe, expect, test } from 'vitest'
import { ownMembers, requireOptions, requireSignal, shownName } from '../../src/base/arguments.js'

test.each(['timeout', 'iV', 'd1PublicJwk', 'sha256', '$now', 'max-age', 'x', 'timeLimitMs', 'hostDecipher'])(
  '%s is a name',
  name => {
    expect(shownName(name)).toBe(`"${name}"`)
  },
)

test.each([
  '1234',
  'pin1234',
  '9999990123456789',
  '0412AC89ABCDEF67',
  'ABCDEFAB',
  'a name of several words',
  'a'.repeat(41),
  '',
  'line\nbreak',
  'kP3vQzr-dLw_TqXbNf2aYhRs',
  'eyJhbGciOiJFQ0RILUVTIiwiZW5jIjoiQTI1NkdDTSJ9',
])('%j is none', name => {
  expect(shownName(name)).toBe('with a name that is no word')
  expect(() => requireOptions({ [name]: 1 }, 'the call', ['signal'])).toThrow(
    /^the call: unknown option with a name that is no word$/,
  )
})

describe('an AbortSignal is one of the platform', () => {
  test.each([
    ['an object that says it is not aborted', { aborted: false }],
    ['an heir of AbortSignal without its state', Object.create(AbortSignal.prototype)],
    ['an event target', Object.assign(new EventTarget(), { aborted: false })],
    ['its controller', new AbortController()],
    ['null', null],
    ['a number', 1],
  ])('%s is refused', (_what, signal) => {
    expect(() => requireSignal({ signal } as never)).toThrow('options.signal must be an AbortSignal')
  })

  test('a signal is taken', () => {
    const { signal } = new AbortController()
    expect(requireSignal({ signal })).toBe(signal)
  })
})

describe('ownMembers', () => {
  test('copies plain objects and lists to what inherits nothing; other objects, and functions, stay themselves', () => {
    const date = new Date(0)
    const call = (): number => 1
    const bare: object = Object.assign(Object.create(null), { deep: { list: [{ a: 1 }] } })
    const own = ownMembers({ date, call, bare, none: null, text: 'x' })
    expect(own.date).toBe(date)
    expect(own.call).toBe(call)
    expect(own.none).toBeNull()
    expect(own).toEqual({ date, call, bare: { deep: { list: [{ a: 1 }] } }, none: null, text: 'x' })
    const objects = [own, own.bare, Reflect.get(own.bare, 'deep')]
    expect(objects.filter(object => 'toString' in object || 'constructor' in object)).toEqual([])
  })
})
