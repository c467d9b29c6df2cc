import { describe, expect, test } from 'vitest'
import { DataSetError } from '../../src/base/errors.js'
import { decodeValue, valueIn } from '../../src/seccos/field-value.js'
import {
  capacityOf,
  decodeCharacters,
  decodeNumber,
  encodeCharacters,
  encodeNumber,
  packNibbles,
} from '../../src/seccos/profile/encoding.js'
import { ILLUSTRATIVE_NOT_GIROCARD_TDEA as TDEA } from '../../src/seccos/profile/illustrative.js'
import type { ValueForm } from '../../src/seccos/profile/profile.js'
import { buffersMadeBy } from '../leaks/recorder.js'
import { bytes, hex } from '../support/vectors.js'

const ascii = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'latin1'))
const text = (characters: Uint8Array | undefined): string | undefined =>
  characters && Buffer.from(characters).toString('latin1')
const encoded = (form: ValueForm, value: string): string | undefined => {
  const field = encodeCharacters(form, ascii(value))
  return field && hex(field)
}
const decoded = (form: ValueForm, field: string, count?: number): string | undefined =>
  text(decodeCharacters(form, bytes(field), count))

describe('numbers', () => {
  test.each([
    [1, 256, undefined],
    [2, 65_536, undefined],
    [1, 255, 'FF'],
    [2, 42, '002A'],
    [4, 0xdeadbeef, 'DEADBEEF'],
    [8, 2 ** 40, '0000010000000000'],
  ])('in %i bytes, %i is %s', (length, value, expected) => {
    const field = encodeNumber({ length, encoding: 'binary' }, value)
    expect(field && hex(field)).toBe(expected)
  })

  test.each([
    ['270F', 9999, 9999],
    ['2710', 9999, undefined],
    ['00000000270F', 9999, 9999],
    ['FFFFFFFFFFFFFFFF', 9999, undefined],
    ['0102', 300, 258],
  ])('%s, at most %i, is %s', (field, max, value) => {
    expect(decodeNumber('binary', bytes(field), max)).toBe(value)
  })
})

test('nibbles: two to a byte, the first on the left', () => {
  expect(hex(packNibbles(Uint8Array.of(1, 2, 0xf, 0)))).toBe('12F0')
})

describe('characters', () => {
  const form = (
    encoding: ValueForm['encoding'],
    length: number,
    align: ValueForm['align'],
    pad?: string,
  ): ValueForm => (pad === undefined ? { encoding, length, align } : { encoding, length, align, pad })

  test.each<[ValueForm, string, string | undefined]>([
    [form('bcd', 2, 'exact'), '1234', '1234'],
    [form('bcd', 2, 'exact'), '123', undefined],
    [form('bcd', 2, 'exact'), '12345', undefined],
    [form('bcd', 2, 'left', 'F'), '123', '123F'],
    [form('bcd', 2, 'right', '0'), '123', '0123'],
    [form('bcd', 2, 'left', 'F'), '12345', undefined],
    [form('bcd', 1, 'exact'), '0/', undefined],
    [form('bcd', 1, 'exact'), '9:', undefined],
    [form('ascii', 3, 'left', '20'), 'ab', '616220'],
    [form('ascii', 3, 'right', '30'), '7', '303037'],
    [form('ascii', 2, 'exact'), ' ~', '207E'],
    [form('ascii', 1, 'exact'), '\u001f', undefined],
    [form('ascii', 1, 'exact'), '\u007f', undefined],
    [form('ebcdic', 3, 'right', 'F0'), '42', 'F0F4F2'],
    [form('ebcdic', 1, 'exact'), '[', undefined],
    [form('binary', 2, 'right', '00'), 'A', '0041'],
    [form('binary', 2, 'left', 'FF'), 'A', '41FF'],
  ])('%j takes «%s» as %s', (where, value, expected) => {
    expect(encoded(where, value)).toBe(expected)
  })

  test('what was encoded before a character that is lacking is wiped', async () => {
    const { value, buffers } = await buffersMadeBy(() =>
      encoded(form('ascii', 12, 'exact'), '54133300896\u007f'),
    )
    expect([value, buffers.length > 0]).toEqual([undefined, true])
    const left = buffers.map(buffer => Buffer.from(buffer)).filter(memory => memory.includes('54133'))
    // The text that the test itself gave.
    expect(left.filter(memory => !memory.includes('\u007f'))).toEqual([])
  })

  test.each<[ValueForm, string, number | undefined, string | undefined]>([
    // A pad that is no character, or a space, is taken away; one that could be a digit stays.
    [form('bcd', 3, 'left', 'F'), '1234FF', undefined, '1234'],
    [form('bcd', 3, 'right', 'F'), 'FF1234', undefined, '1234'],
    [form('bcd', 3, 'right', 'F'), 'FFFFFF', undefined, ''],
    [form('bcd', 3, 'right', '0'), '001234', undefined, '001234'],
    [form('ascii', 4, 'right', '20'), '20206162', undefined, 'ab'],
    [form('ascii', 4, 'left', '20'), '61622020', undefined, 'ab'],
    [form('ebcdic', 4, 'left', '40'), '81824040', undefined, 'ab'],
    [form('ebcdic', 3, 'right', 'F0'), 'F0F0F7', undefined, '007'],
    [form('bcd', 2, 'exact'), '0042', undefined, '0042'],
    [form('ascii', 2, 'exact'), '2020', undefined, '  '],
    // With a number of characters, the rest must be pad.
    [form('bcd', 3, 'right', '0'), '001234', 4, '1234'],
    [form('bcd', 3, 'right', '0'), '011234', 4, undefined],
    [form('bcd', 3, 'left', '0'), '123400', 4, '1234'],
    [form('bcd', 3, 'left', 'F'), '1234F0', 4, undefined],
    [form('bcd', 2, 'exact'), '0123', 3, undefined],
    [form('bcd', 1, 'left', 'F'), '12', 3, undefined],
    [form('bcd', 1, 'right', 'F'), '12', 3, undefined],
    // What is no character of the encoding.
    [form('bcd', 1, 'exact'), '1A', undefined, undefined],
    [form('bcd', 3, 'left', 'F'), '12F4FF', undefined, undefined],
    [form('ascii', 1, 'exact'), '1F', undefined, undefined],
    [form('ascii', 1, 'exact'), '7F', undefined, undefined],
    [form('ebcdic', 1, 'exact'), '41', undefined, undefined],
    [form('binary', 1, 'exact'), '31', undefined, undefined],
  ])('%j holding %s, %s characters, is read as %s', (where, field, count, expected) => {
    expect(decoded(where, field, count)).toBe(expected)
  })

  test('capacity: two digits to a byte of bcd, else one character', () => {
    const capacities = (['bcd', 'ascii', 'ebcdic', 'binary'] as const).map(encoding =>
      capacityOf({ length: 5, encoding }),
    )
    expect(capacities).toEqual([10, 5, 5, 5])
  })
})

describe('values', () => {
  const bcd = (length: number): ValueForm => ({ encoding: 'bcd', length, align: 'left', pad: 'F' })

  test('of variable length are read without a count, others with theirs', () => {
    expect(decodeValue(TDEA, { id: 'pan', ...bcd(10) }, bytes('5413330089604111FFFF'))).toBe(
      '5413330089604111',
    )
    expect(decodeValue(TDEA, { id: 'pcc', ...bcd(3), pad: '0' }, bytes('004200'))).toBe('0042')
    expect(valueIn(TDEA, { id: 'pcc', ...bcd(3), pad: '0' }, bytes('004201'))).toBeUndefined()
    expect(decodeValue(TDEA, { id: 'psn', ...bcd(1) }, bytes('1F'))).toBe('1')
  })

  test('binary: a PCC is four digits, anything else bytes of its own', () => {
    const binary = { encoding: 'binary', length: 2, align: 'exact' } as const
    expect(decodeValue(TDEA, { id: 'pcc', ...binary }, bytes('002A'))).toBe('0042')
    const field = bytes('002A')
    const value = decodeValue(TDEA, { id: 'random', ...binary }, field)
    expect(value).toEqual(field)
    expect(value).not.toBe(field)
  })

  test('that do not read are ERR_DATA_SET with the id', () => {
    const error = new DataSetError('psn', 'does not hold a value of its form')
    expect(() => decodeValue(TDEA, { id: 'psn', ...bcd(1) }, bytes('AB'))).toThrow(error)
  })
})
