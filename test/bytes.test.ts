import { describe, expect, test } from 'vitest'
import {
  asciiBytes,
  concatBytes,
  copyInto,
  decodeBase64url,
  equalBytes,
  fromHex,
  isPlainBytes,
  ownCopy,
  randomSecret,
  requireBytes,
  secretBytes,
  sharedBytes,
  snapshot,
  toHex,
  utf8Bytes,
  wipe,
  withWiped,
} from '../src/base/bytes.js'
import { ArgumentError } from '../src/base/errors.js'
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

test('a copy of what another thread has been given is refused; one of nothing is nothing', () => {
  const taken = new Uint8Array(8)
  structuredClone(taken.buffer, { transfer: [taken.buffer] })
  expect(() => ownCopy(taken)).toThrow(ArgumentError)
  expect(ownCopy(new Uint8Array(0))).toEqual(new Uint8Array(0))
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

test('withWiped wipes after success and after failure', () => {
  const [kept, lost] = [Uint8Array.of(1, 2), Uint8Array.of(3)]
  expect(withWiped(kept, ([a = 0, b = 0]) => a + b)).toBe(3)
  expect(() =>
    withWiped(lost, () => {
      throw new Error('no')
    }),
  ).toThrow('no')
  expect([...kept, ...lost]).toEqual([0, 0, 0])
})

test('withWiped waits for a promise before it wipes', async () => {
  for (const end of ['resolve', 'reject'] as const) {
    const bytes = Uint8Array.of(7)
    let settle: () => void = () => {}
    const result = withWiped(
      bytes,
      ([value]) =>
        new Promise((resolve, reject) => {
          settle = () => ({ resolve, reject })[end](value)
        }),
    )
    expect([...bytes]).toEqual([7])
    settle()
    expect(await result.catch(reason => reason)).toBe(7)
    expect([...bytes]).toEqual([0])
  }
})

test('every maker gives memory of exactly the length, with a buffer of its own that was made first', () => {
  const made = {
    secretBytes: secretBytes(8),
    fromHex: fromHex('0102', 'value'),
    utf8Bytes: utf8Bytes('é'),
    asciiBytes: asciiBytes('ab'),
    ownCopy: ownCopy(Buffer.from('pooled')),
    concatBytes: concatBytes(Buffer.from('po'), Buffer.from('oled')),
    snapshot: snapshot(Buffer.from('pooled'), 'value'),
    decodeBase64url: decodeBase64url('AQ'),
  }
  for (const [name, bytes] of Object.entries(made)) {
    expect(bytes?.constructor, name).toBe(Uint8Array)
    expect(bytes?.buffer.byteLength, name).toBe(bytes?.length)
  }
})

test('text becomes the bytes that other encoders give', () => {
  for (const text of ['', 'a', 'ä€😀', '\ud800'])
    expect(utf8Bytes(text)).toEqual(new TextEncoder().encode(text))
  expect(asciiBytes('\x00~ÿ')).toEqual(Uint8Array.of(0, 0x7e, 0xff))
})

test('base64url has one text for each sequence of bytes', () => {
  for (let first = 0; first < 256; first++) {
    for (const rest of [[], [0x80], [0xff, first]]) {
      const text = Buffer.from([first, ...rest]).toString('base64url')
      expect(decodeBase64url(text)).toEqual(Uint8Array.from([first, ...rest]))
    }
  }
  for (const text of ['A', 'AAAAA', 'AR', 'AAB', 'AQ==', 'A+', 'A/', 'AQ\n', ' AQ', 'ÄQ'])
    expect(decodeBase64url(text), text).toBeUndefined()
})

test('snapshot goes by the true length of an array, and refuses one without memory', async () => {
  class Liar extends Uint8Array {
    override get length(): number {
      return 1
    }
  }
  expect(snapshot(Liar.from([1, 2, 3]), 'value')).toHaveLength(3)
  const gone = new Uint8Array(8)
  structuredClone(gone, { transfer: [gone.buffer] })
  await failure(() => snapshot(gone, 'value'), 'ERR_ARGUMENT')
})

describe('isPlainBytes', () => {
  class Longer extends Uint8Array {
    override get length(): number {
      return 16
    }
  }
  const claiming = Object.defineProperty(new Uint8Array(8), 'length', { value: 16 })
  const gone = new Uint8Array(8)
  structuredClone(gone, { transfer: [gone.buffer] })

  test.each<[string, unknown]>([
    ['no bytes', 'text'],
    ['an array of numbers', [1, 2]],
    ['a Buffer that claims another length', Object.defineProperty(Buffer.alloc(8), 'length', { value: 16 })],
    ['a subclass', new Longer(8)],
    ['one that claims another length', claiming],
    [
      'one with a length of its own, if true',
      Object.defineProperty(new Uint8Array(8), 'length', { get: () => 8 }),
    ],
    ['one whose buffer was taken away', gone],
    ['an empty one', new Uint8Array()],
    ['a Proxy', new Proxy(new Uint8Array(8), {})],
  ])('false for %s', (_name, value) => {
    expect(isPlainBytes(value)).toBe(false)
  })

  test('true for a Uint8Array, also one that is part of another, and for a Buffer', () => {
    expect(isPlainBytes(Buffer.from('12345678'))).toBe(true)
    expect(isPlainBytes(new Uint8Array(8))).toBe(true)
    expect(isPlainBytes(new Uint8Array(16).subarray(4, 12))).toBe(true)
  })
})

test('sharedBytes are seen by two threads, and zero', () => {
  const bytes = sharedBytes(4)
  expect(bytes.buffer).toBeInstanceOf(SharedArrayBuffer)
  expect(structuredClone(bytes).buffer).toBeInstanceOf(SharedArrayBuffer)
  expect([...bytes]).toEqual([0, 0, 0, 0])
})

test.each([0, 8, 64, 65, 300])(
  '%i bytes are copied to their place, and to none where there is no room',
  length => {
    const bytes = Uint8Array.from({ length }, (_, i) => i + 1)
    const memory = new Uint8Array(length + 4)
    copyInto(memory, bytes, 3)
    expect(memory).toEqual(Uint8Array.of(0, 0, 0, ...bytes, 0))
    for (const at of [5, -1, -0.5, 0.5, Number.NaN, Number.NEGATIVE_INFINITY, 2 ** 32])
      expect(() => copyInto(memory, bytes, at), String(at)).toThrow(ArgumentError)
    expect(memory).toEqual(Uint8Array.of(0, 0, 0, ...bytes, 0))
  },
)

test.each([1, 8, 15, 16, 17, 24, 32])('%i random bytes are as many, and in memory of their own', length => {
  const [one, other] = [randomSecret(length), randomSecret(length)]
  expect([one.length, one.buffer.byteLength]).toEqual([length, length])
  if (length >= 8) expect(one).not.toEqual(other)
})
