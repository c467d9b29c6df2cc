/** The rule that a key for PIN verification values is bound with: its bounds, and that it is a copy. */
import { expect, test } from 'vitest'
import { readPinValueRule } from '../../src/key/pin-value.js'
import type { KeyUsage } from '../../src/key/usage.js'
import { failure } from '../support/errors.js'

const VALIDATION = { from: 0, length: 16, pad: 'F' }
const RULE = { decimalisation: '0123456789012345', validation: VALIDATION }
const withTable = (decimalisation: unknown) => ({ ...RULE, decimalisation })
const withPart = (part: object) => ({ ...RULE, validation: { ...VALIDATION, ...part } })

test.each<[string, KeyUsage, unknown]>([
  ['no object', 'visa-pvv', 7],
  ['an index below 0', 'visa-pvv', { pvki: -1 }],
  ['an index above 9', 'visa-pvv', { pvki: 10 }],
  ['half an index', 'visa-pvv', { pvki: 1.5 }],
  ['an index in text', 'visa-pvv', { pvki: '1' }],
  ['the rule of offsets', 'visa-pvv', RULE],
  ['the rule of PVVs', 'ibm-3624', { pvki: 1 }],
  ['a rule of a PIN key', 'pin-encryption', RULE],
  ['15 entries', 'ibm-3624', withTable('012345678901234')],
  ['17 entries', 'ibm-3624', withTable('01234567890123456')],
  ['a letter behind the table', 'ibm-3624', withTable('0123456789012345A')],
  ['a letter before the table', 'ibm-3624', withTable('A0123456789012345')],
  ['a number for a table', 'ibm-3624', withTable(1234567890123456)],
  ['a list for a table', 'ibm-3624', withTable(['0123456789012345'])],
  ['7 different digits', 'ibm-3624', withTable('0123456012345601')],
  ['a digit 5 times', 'ibm-3624', withTable('0000011223345678')],
  ['no validation', 'ibm-3624', { decimalisation: RULE.decimalisation }],
  ['a place before the PAN', 'ibm-3624', withPart({ from: -1 })],
  ['half a place', 'ibm-3624', withPart({ from: 0.5 })],
  ['9 digits', 'ibm-3624', withPart({ length: 9 })],
  ['17 digits', 'ibm-3624', withPart({ length: 17 })],
  ['half a digit', 'ibm-3624', withPart({ length: 10.5 })],
  ['a pad of two', 'ibm-3624', withPart({ pad: 'FF' })],
  ['a pad in lower case', 'ibm-3624', withPart({ pad: 'f' })],
  ['a list for a pad', 'ibm-3624', withPart({ pad: ['F'] })],
])('%s is refused', async (_name, usage, rule) => {
  await failure(() => readPinValueRule(usage, rule), 'ERR_ARGUMENT')
})

test.each<[string, KeyUsage, object]>([
  ['the first index', 'visa-pvv', { pvki: 0 }],
  ['the last index', 'visa-pvv', { pvki: 9 }],
  ['8 different digits, each twice', 'ibm-3624', withTable('0123456701234567')],
  ['a digit 4 times', 'ibm-3624', withTable('0000111122334567')],
  ['10 digits from the sixth on', 'ibm-3624', withPart({ from: 5, length: 10, pad: '0' })],
  ['16 digits', 'ibm-3624', RULE],
])('%s is a rule, and is copied', (_name, usage, rule) => {
  const read = readPinValueRule(usage, rule)
  expect(read).toStrictEqual(rule)
  expect(read).not.toBe(rule)
  expect(Object.isFrozen(read)).toBe(true)
})

test('a key may be bound without one', () => {
  expect(readPinValueRule('cmac', undefined)).toBeUndefined()
})
