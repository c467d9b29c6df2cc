/** Names of members in messages: a misspelt option is shown, what looks like a value is not. */
import { expect, test } from 'vitest'
import { requireOptions, shownName } from '../../src/base/arguments.js'

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
