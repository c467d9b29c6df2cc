import { describe, expect, test } from 'vitest'
import { fromHex, toHex } from '../../src/base/bytes.js'
import type { MacAlgorithm, MacPadding } from '../../src/primitives/algorithms.js'
import { type BlockCipher, cbcMac, retailMac, splitRetailKey } from '../../src/primitives/iso9797.js'
import { cmac, cmacCounter, computeMac, macBytes } from '../../src/primitives/mac.js'
import cmacVectors from '../../vectors/cmac.json' with { type: 'json' }
import isoVectors from '../../vectors/mac-iso9797.json' with { type: 'json' }
import reference from '../../vectors/seccos-reference.json' with { type: 'json' }
import { nodeCiphers } from './ciphers.js'

const KEY = fromHex('0123456789ABCDEFFEDCBA9876543210', 'key')
const ZERO = new Uint8Array(8)
const BYTES_123 = Uint8Array.from({ length: 123 }, (_, i) => i)

test('a cipher that MACs on its part while a message is padded has memory of its own for it', () => {
  const ciphers = nodeCiphers(KEY)
  const request = { algorithm: 'iso9797-1-alg1', padding: 2 } as const
  const inner: string[] = []
  const last: BlockCipher = {
    blockBytes: 8,
    encipherCbc: (iv, data) => {
      inner.push(toHex(computeMac(request, ciphers, ZERO)))
      return ciphers.last.encipherCbc(iv, data)
    },
  }
  expect(toHex(computeMac(request, { last }, BYTES_123))).toBe(toHex(computeMac(request, ciphers, BYTES_123)))
  expect(inner).toEqual([toHex(computeMac(request, ciphers, ZERO))])
})

describe('refused', () => {
  const ciphers = nodeCiphers(KEY)
  test.each([
    [
      'no algorithm',
      () => computeMac({ algorithm: 'md5' as never, padding: 1 }, ciphers, ZERO),
      'ERR_ARGUMENT',
    ],
    [
      'toString',
      () => computeMac({ algorithm: 'toString' as never, padding: 1 }, ciphers, ZERO),
      'ERR_ARGUMENT',
    ],
    [
      'alg 1 unpadded',
      () => computeMac({ algorithm: 'iso9797-1-alg1', padding: 'none' }, ciphers, ZERO),
      'ERR_ARGUMENT',
    ],
    [
      'alg 3 unpadded',
      () => computeMac({ algorithm: 'iso9797-1-alg3', padding: 'none' }, ciphers, ZERO),
      'ERR_ARGUMENT',
    ],
    [
      'a text',
      () => computeMac({ algorithm: 'cmac', padding: 'none' }, ciphers, 'text' as never),
      'ERR_ARGUMENT',
    ],
    [
      'alg 3 without chain',
      () => computeMac({ algorithm: 'iso9797-1-alg3', padding: 1 }, { last: ciphers.last }, ZERO),
      'ERR_UNSUPPORTED',
    ],
    [
      'a short iv',
      () => computeMac({ algorithm: 'iso9797-1-alg1', padding: 1, iv: new Uint8Array(7) }, ciphers, ZERO),
      'ERR_LENGTH',
    ],
    ['cbcMac of nothing', () => cbcMac(ciphers.last, ZERO, new Uint8Array()), 'ERR_LENGTH'],
    ['cbcMac of 9 bytes', () => cbcMac(ciphers.last, ZERO, new Uint8Array(9)), 'ERR_LENGTH'],
    ['a split of 8 bytes', () => splitRetailKey(new Uint8Array(8)), 'ERR_LENGTH'],
    ['a split of a text', () => splitRetailKey('0123456789ABCDEF' as never), 'ERR_ARGUMENT'],
  ])('%s', (_, call, code) => {
    expect(call).toThrow(expect.objectContaining({ code }))
  })
})

describe('known answers', () => {
  const all = [...isoVectors.vectors, ...reference.vectors].filter(v => v.operation === 'mac.iso9797')
  test.each(all)('$id: algorithm $inputs.algorithm, padding $inputs.padding', ({ inputs, outputs }) => {
    const { key, data, padding } = inputs
    const algorithm: MacAlgorithm = inputs.algorithm === 1 ? 'iso9797-1-alg1' : 'iso9797-1-alg3'
    const mac = computeMac(
      { algorithm, padding: padding as MacPadding },
      nodeCiphers(fromHex(key ?? '', 'key')),
      fromHex(data ?? '', 'data'),
    )
    expect(toHex(mac)).toBe(outputs.mac)
  })

  const cmacs = [...cmacVectors.vectors, ...reference.vectors].filter(v => v.operation === 'cmac')
  test.each(cmacs)('$id: CMAC $inputs.cipher', ({ inputs, outputs }) => {
    const family = inputs.cipher === 'AES' ? 'aes' : 'tdea'
    const { last } = nodeCiphers(fromHex(inputs.key, 'key'), family)
    expect(toHex(cmac(last, fromHex(inputs.data ?? '', 'data')))).toBe(outputs.mac)
  })

  test('ICAO 9303, part 11, appendix D.4: retail MAC, padding 2', () => {
    const ciphers = nodeCiphers(fromHex('F1CB1F1FB5ADF208806B89DC579DC1F8', 'key'))
    const data = fromHex('887022120C06C2270CA4020C800000008709016375432908C044F6', 'data')
    expect(toHex(computeMac({ algorithm: 'iso9797-1-alg3', padding: 2 }, ciphers, data))).toBe(
      'BF8B92D635FF24F8',
    )
  })

  test('a 24-byte key with K3 = K1 is the 16-byte key', () => {
    const long = new Uint8Array([...KEY, ...KEY.subarray(0, 8)])
    for (const algorithm of ['iso9797-1-alg1', 'iso9797-1-alg3'] as const) {
      expect(computeMac({ algorithm, padding: 2 }, nodeCiphers(long), BYTES_123)).toEqual(
        computeMac({ algorithm, padding: 2 }, nodeCiphers(KEY), BYTES_123),
      )
    }
  })

  test('the iv stands before the first block', () => {
    const iv = fromHex('FFEEDDCCBBAA9988', 'iv')
    const flipped = BYTES_123.map((byte, i) => byte ^ (iv[i] ?? 0))
    for (const algorithm of ['iso9797-1-alg1', 'iso9797-1-alg3'] as const) {
      for (const message of [BYTES_123, BYTES_123.subarray(0, 5)]) {
        const request = { algorithm, padding: 1 } as const
        if (message.length < 8)
          expect(computeMac({ ...request, iv }, nodeCiphers(KEY), message)).toHaveLength(8)
        else {
          expect(computeMac({ ...request, iv }, nodeCiphers(KEY), message)).toEqual(
            computeMac(request, nodeCiphers(KEY), flipped),
          )
        }
      }
    }
  })
})

describe('hygiene', () => {
  /** Keeps every buffer that a cipher was given or gave, to look at afterwards. */
  function watched(inner: BlockCipher, seen: Uint8Array[]): BlockCipher {
    return {
      blockBytes: inner.blockBytes,
      encipherCbc: (iv, data) => {
        const out = inner.encipherCbc(iv, data)
        seen.push(iv, data, out)
        return out
      },
    }
  }

  test.each([
    ['iso9797-1-alg1', 2],
    ['iso9797-1-alg3', 2],
    ['cmac', 'none'],
  ] as const)('%s wipes what it made and keeps what it was given', (algorithm, padding) => {
    const seen: Uint8Array[] = []
    const plain = nodeCiphers(KEY)
    const ciphers = { last: watched(plain.last, seen), chain: watched(plain.chain as BlockCipher, seen) }
    const message = BYTES_123.slice()
    const mac = computeMac({ algorithm, padding }, ciphers, message)
    expect(message).toEqual(BYTES_123)
    expect(mac.some(byte => byte !== 0)).toBe(true)
    expect(mac.buffer.byteLength).toBe(mac.length)
    for (const buffer of seen) expect(buffer.every(byte => byte === 0)).toBe(true)
  })

  test('a failing cipher leaves nothing behind', () => {
    const seen: Uint8Array[] = []
    const { last, chain } = nodeCiphers(KEY)
    const failing: BlockCipher = {
      blockBytes: 8,
      encipherCbc: (iv, data) => {
        seen.push(iv, data)
        throw new Error('token gone')
      },
    }
    const request = { algorithm: 'iso9797-1-alg3', padding: 2 } as const
    expect(() =>
      computeMac(request, { last: failing, chain: watched(chain as BlockCipher, seen) }, BYTES_123),
    ).toThrow('token gone')
    expect(() =>
      cmac(
        {
          ...failing,
          encipherCbc: (iv, data) => (seen.length < 8 ? watched(last, seen) : failing).encipherCbc(iv, data),
        },
        BYTES_123,
      ),
    ).toThrow('token gone')
    for (const buffer of seen) expect(buffer.every(byte => byte === 0)).toBe(true)
  })

  test('one block needs the last cipher only', () => {
    const { last } = nodeCiphers(KEY)
    const chain: BlockCipher = { blockBytes: 8, encipherCbc: () => expect.unreachable() }
    expect(retailMac({ chain, last }, ZERO, ZERO)).toHaveLength(8)
  })

  test('the split copies', () => {
    const { chain, last } = splitRetailKey(KEY)
    expect(toHex(chain)).toBe('0123456789ABCDEF'.repeat(3))
    expect(last).toEqual(KEY)
    expect(last.buffer).not.toBe(KEY.buffer)
  })
})

describe('encipherment of a whole message: NIST SP 800-38A, F.1.1 and F.2.1', () => {
  const { last } = nodeCiphers(fromHex('2B7E151628AED2A6ABF7158809CF4F3C', 'key'), 'aes')
  const message = fromHex('6BC1BEE22E409F96E93D7E117393172AAE2D8A571E03AC9C9EB76FAC45AF8E51', 'message')

  test('ECB takes each block by itself, and no chaining value', () => {
    const request = { algorithm: 'encipher-ecb', padding: 1, iv: new Uint8Array(16).fill(1) } as const
    const out = computeMac(request, { last }, message)
    expect(toHex(out)).toBe('3AD77BB40D7A3660A89ECAF32466EF97F5D3D58503B9699DE785895A96FDBAAF')
    expect(out.buffer.byteLength).toBe(32)
  })

  test('CBC begins with the iv', () => {
    const iv = fromHex('000102030405060708090A0B0C0D0E0F', 'iv')
    const out = computeMac({ algorithm: 'encipher-cbc', padding: 1, iv }, { last }, message)
    expect(toHex(out)).toBe('7649ABAC8119B246CEE98E9B12E9197D5086CB9B507219EE95DB113A917678B2')
  })

  test.each(['encipher-ecb', 'encipher-cbc'] as const)('%s pads as it is told', algorithm => {
    const lengths = ([1, 2, 3] as const).map(
      padding => computeMac({ algorithm, padding }, { last }, message).length,
    )
    expect(lengths).toEqual([32, 48, 48])
  })
})

describe('the counter mode of SP 800-108', () => {
  const data = Uint8Array.of(0xda, 0x7a)
  test.each([
    [1, 8, 16, ['01DA7A', '02DA7A']],
    [2, 8, 17, ['0001DA7A', '0002DA7A', '0003DA7A']],
    [4, 16, 16, ['00000001DA7A']],
  ] as const)('%i bytes of counter, blocks of %i, %i wanted', (counterBytes, blockBytes, length, inputs) => {
    const [asked, given]: [string[], Uint8Array[]] = [[], []]
    const out = cmacCounter({ counterBytes, data, blockBytes, length }, input => {
      asked.push(toHex(input))
      given.push(input, new Uint8Array(blockBytes).fill(asked.length))
      return given.at(-1) as Uint8Array
    })
    expect(asked).toEqual(inputs)
    const blocks = inputs.map((_, i) => toHex(Uint8Array.of(i + 1)).repeat(blockBytes))
    expect(toHex(out)).toBe(blocks.join(''))
    for (const memory of given) expect(memory.every(byte => byte === 0)).toBe(true)
  })
})

test('macBytes is one block, and of HMAC a whole hash', () => {
  const bytes = (['tdea-2key', 'tdea-3key', 'aes-128', 'hmac-sha256'] as const).map(macBytes)
  expect(bytes).toEqual([8, 8, 16, 32])
})
