import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { fromHex, toHex } from '../../src/base/bytes.js'
import { padMessage, withPadded } from '../../src/primitives/iso9797.js'
import vectors from '../../vectors/iso9797-padding.json' with { type: 'json' }

describe('padMessage refuses', () => {
  test.each([
    ['a string', () => padMessage(1, '00' as never, 8), 'message must be a Uint8Array'],
    ['method 0', () => padMessage(0 as never, new Uint8Array(), 8), 'padding must be 1, 2 or 3'],
    ['method none', () => padMessage('none' as never, new Uint8Array(), 8), 'padding must be 1, 2 or 3'],
    ['an inherited name', () => padMessage('constructor' as never, new Uint8Array(), 8), 'padding must be'],
    ['a broken block', () => padMessage(1, new Uint8Array(), 7.5), 'blockBytes must be a whole number'],
    ['no block', () => padMessage(1, new Uint8Array(), 0), 'blockBytes must be a whole number'],
  ])('%s', (_, call, message) => {
    expect(call).toThrow(
      expect.objectContaining({ code: 'ERR_ARGUMENT', message: expect.stringContaining(message) }),
    )
  })
})

test.each(vectors.vectors)('$id: method $inputs.padding', ({ inputs, outputs }) => {
  const padded = padMessage(inputs.padding as 1, fromHex(inputs.data, 'data'), inputs.blockSize)
  expect(toHex(padded)).toBe(outputs.padded)
})

describe('properties', () => {
  const method = fc.constantFrom(1, 2, 3) as fc.Arbitrary<1 | 2 | 3>
  const message = fc.uint8Array({ maxLength: 70 })
  const block = fc.constantFrom(8, 16)

  test('whole blocks, the message in its place, and as few as possible', () => {
    fc.assert(
      fc.property(method, message, block, (padding, data, blockBytes) => {
        const front = padding === 3 ? blockBytes : 0
        const padded = padMessage(padding, data, blockBytes)
        expect(padded.length % blockBytes).toBe(0)
        expect(padded.subarray(front, front + data.length)).toEqual(data)
        expect(padded.length - front - data.length).toBeLessThanOrEqual(blockBytes)
        expect(padded.buffer.byteLength).toBe(padded.length)
      }),
    )
  })

  test('methods 2 and 3 are injective, method 1 is not', () => {
    fc.assert(
      fc.property(fc.constantFrom(2, 3) as fc.Arbitrary<2 | 3>, message, message, (padding, a, b) => {
        fc.pre(toHex(a) !== toHex(b))
        expect(toHex(padMessage(padding, a, 8))).not.toBe(toHex(padMessage(padding, b, 8)))
      }),
    )
    expect(padMessage(1, Uint8Array.of(1), 8)).toEqual(padMessage(1, Uint8Array.of(1, 0), 8))
  })

  test('method 3 writes the length in bits', () => {
    expect(toHex(padMessage(3, new Uint8Array(65_536), 8).subarray(0, 8))).toBe('0000000000080000')
    expect(toHex(padMessage(3, new Uint8Array(123), 16).subarray(0, 16))).toBe(
      '000000000000000000000000000003D8',
    )
  })
})

describe('a message that is padded for a moment', () => {
  const message = Uint8Array.from({ length: 20 }, (_, i) => i + 1)
  const kept = (data: Uint8Array): { readonly padded: Uint8Array; readonly held: string } =>
    withPadded(2, data, 8, padded => ({ padded, held: toHex(padded) }))

  test('is what it is alone, and is wiped: of usual length, whatever came before, and of any other', () => {
    for (const data of [message, new Uint8Array(1016).fill(7), new Uint8Array(1017).fill(7), message]) {
      const { padded, held } = kept(data)
      expect(held).toBe(toHex(padMessage(2, data, 8)))
      expect(padded.every(byte => byte === 0)).toBe(true)
    }
  })

  test('has the same memory each time, and another while that is in use', () => {
    const first = kept(message).padded
    expect(kept(message).padded.buffer).toBe(first.buffer)
    withPadded(2, message, 8, outer => {
      const inner = kept(message.map(byte => byte ^ 0xff))
      expect(inner.padded.buffer).not.toBe(outer.buffer)
      expect(toHex(outer)).toBe(toHex(padMessage(2, message, 8)))
    })
    expect(() =>
      withPadded(2, message, 8, () => {
        throw new RangeError('no')
      }),
    ).toThrow('no')
    expect(kept(message).padded.buffer).toBe(first.buffer)
  })
})
