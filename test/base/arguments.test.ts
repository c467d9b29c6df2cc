/** Names of members in messages: a misspelt option is shown, what looks like a value is not. */
import { describe, expect, test } from 'vitest'
import { ownMembers, requireAll, requireOptions, requireSignal, shownName } from '../../src/base/arguments.js'

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

test('requireAll takes what has the members as its own, all of them and no other', () => {
  const names = ['pin', 'pan', 'key']
  const hidden = Object.defineProperty({ pan: 2, key: 3 }, 'pin', { value: 1, enumerable: false })
  for (const good of [
    { pin: 1, pan: 2, key: 3 },
    { key: 3, pan: 2, pin: 1 },
    hidden,
    { __proto__: { other: 1 }, pin: 1, pan: 2, key: 3 },
  ])
    expect(() => requireAll(good, 'the call', names)).not.toThrow()
  for (const bad of [
    { pin: 1, pan: 2 },
    { __proto__: { key: 3 }, pin: 1, pan: 2 },
  ])
    expect(() => requireAll(bad, 'the call', names)).toThrow('the call takes pin, pan and key')
  const list = Object.assign([], { pin: 1, pan: 2, key: 3 })
  for (const bad of [undefined, null, 'text', list, new Uint8Array(2), { pin: 1, pan: 2, key: 3, more: 4 }])
    expect(() => requireAll(bad, 'the call', names)).toThrow(/takes an options object|unknown option "more"/)
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

test('a signal in the place of its options is told apart', () => {
  expect(() => requireSignal(new AbortController().signal as never)).toThrow(
    'options must be { signal }, not the signal itself',
  )
})
