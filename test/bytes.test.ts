import { expect, test } from 'vitest'
import { concatBytes, equalBytes, fromHex, ownCopy, requireBytes, toHex, wipe } from '../src/base/bytes.js'
import { failure } from './support/errors.js'

test.each(['0', 'abc', '0g', ' 00', '0x00', '00\n'])('fromHex refuses %j with ERR_ENCODING', async text => {
  await failure(() => fromHex(text, 'value'), 'ERR_ENCODING')
})

test('fromHex and requireBytes refuse other types with ERR_ARGUMENT', async () => {
  for (const value of [undefined, 7, [0], {}]) {
    await failure(() => fromHex(value as never, 'value'), 'ERR_ARGUMENT')
    await failure(() => requireBytes(value, 'value'), 'ERR_ARGUMENT')
  }
})

test('hex is read in either case and written in upper case', () => {
  expect(toHex(fromHex('00aBfF', 'value'))).toBe('00ABFF')
  expect(toHex(Buffer.from('xab').subarray(1))).toBe('6162')
  expect(fromHex('', 'value')).toHaveLength(0)
})

test('copies and concatenations stand in memory of their own', () => {
  const slice = Buffer.from('pooled')
  expect(ownCopy(slice).buffer.byteLength).toBe(6)
  expect(concatBytes(slice, slice).buffer.byteLength).toBe(12)
})

test('equalBytes tells lengths and contents apart', () => {
  expect(equalBytes(Uint8Array.of(1, 2), Uint8Array.of(1, 2))).toBe(true)
  expect(equalBytes(Uint8Array.of(1, 2), Uint8Array.of(1, 3))).toBe(false)
  expect(equalBytes(Uint8Array.of(1, 2), Uint8Array.of(1))).toBe(false)
})

test('wipe zeroes all it is given, and tolerates what does not exist', () => {
  const [a, b] = [Uint8Array.of(1), Uint8Array.of(2, 3)]
  wipe(a, undefined, b)
  expect([...a, ...b]).toEqual([0, 0, 0])
})
