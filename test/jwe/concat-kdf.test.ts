import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { describe, expect, it, vi } from 'vitest'
import { fromHex, toHex } from '../../src/base/bytes.js'
import { concatKdf, otherInfo } from '../../src/primitives/concat-kdf.js'
import { contentKeyOf, utf8 } from './support.js'

interface Vector {
  id: string
  operation: string
  inputs: {
    hash?: string
    z?: string
    otherInfo?: string
    keyBits: number
    algorithmId?: string
    partyUInfo?: string
    partyVInfo?: string
  }
  expect: string
  outputs: { derived: string; otherInfo: string }
}

const VECTORS: Vector[] = JSON.parse(
  readFileSync(new URL('../../vectors/concat-kdf.json', import.meta.url), 'utf8'),
).vectors
const bytes = (hex = ''): Uint8Array => fromHex(hex, 'vector')

describe('otherInfo and concatKdf refuse', () => {
  const fields = { algorithmId: 'A256GCM', keyBits: 256 }
  const kdf = (length: number) => concatKdf(new Uint8Array(32), new Uint8Array(0), length)
  const wrongLength = 'length must be 1 to 8160 bytes'
  it.each([
    [
      'an algorithmId that is no string',
      () => otherInfo({ ...fields, algorithmId: 7 as never }),
      'algorithmId must be a string',
    ],
    [
      'keyBits that are not whole',
      () => otherInfo({ ...fields, keyBits: 0.5 }),
      'keyBits must be a whole number',
    ],
    [
      'keyBits that are no number',
      () => otherInfo({ ...fields, keyBits: '256' as never }),
      'keyBits must be a whole number',
    ],
    [
      'partyUInfo as text',
      () => otherInfo({ ...fields, partyUInfo: 'Alice' as never }),
      'partyUInfo must be a Uint8Array',
    ],
    [
      'partyVInfo as text',
      () => otherInfo({ ...fields, partyVInfo: 'Bob' as never }),
      'partyVInfo must be a Uint8Array',
    ],
    ['z as text', () => concatKdf('00' as never, new Uint8Array(0), 32), 'z must be a Uint8Array'],
    ['info as text', () => concatKdf(new Uint8Array(32), '00' as never, 32), 'info must be a Uint8Array'],
    ['length 0', () => kdf(0), wrongLength],
    ['a negative length', () => kdf(-1), wrongLength],
    ['a length that is not whole', () => kdf(1.5), wrongLength],
    ['length 8161', () => kdf(8161), wrongLength],
  ])('%s', (_, call, message) => {
    expect(call).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT', message }))
  })
})

describe('RFC 7518, appendix C', () => {
  const z = Uint8Array.of(
    ...[158, 86, 217, 29, 129, 113, 53, 211, 114, 131, 66, 131, 191, 132, 38, 156],
    ...[251, 49, 110, 163, 218, 128, 106, 72, 246, 218, 167, 121, 140, 254, 144, 196],
  )
  const info = otherInfo({
    algorithmId: 'A128GCM',
    partyUInfo: utf8('Alice'),
    partyVInfo: utf8('Bob'),
    keyBits: 128,
  })

  it('builds the published OtherInfo', () => {
    expect([...info]).toEqual([
      ...[0, 0, 0, 7, 65, 49, 50, 56, 71, 67, 77, 0, 0, 0, 5, 65, 108, 105, 99, 101],
      ...[0, 0, 0, 3, 66, 111, 98, 0, 0, 0, 128],
    ])
  })

  it('derives the published key', () => {
    expect(Buffer.from(concatKdf(z, info, 16)).toString('base64url')).toBe('VqqN6vgjbSBcIijNcacQGg')
  })
})

describe('vectors/concat-kdf.json', () => {
  it.each(VECTORS.filter(v => v.operation === 'concat-kdf.other-info').map(v => [v.id, v] as const))(
    '%s',
    (_, { inputs, outputs }) => {
      const { algorithmId = '', keyBits } = inputs
      const partyUInfo = bytes(inputs.partyUInfo)
      const partyVInfo = bytes(inputs.partyVInfo)
      expect(toHex(otherInfo({ algorithmId, partyUInfo, partyVInfo, keyBits }))).toBe(outputs.otherInfo)
    },
  )

  it.each(
    VECTORS.filter(v => v.operation === 'concat-kdf' && v.inputs.hash === 'sha256').map(
      v => [v.id, v] as const,
    ),
  )('%s', (_, { inputs, outputs }) => {
    const derived = concatKdf(bytes(inputs.z), bytes(inputs.otherInfo), inputs.keyBits / 8)
    expect(toHex(derived)).toBe(outputs.derived)
  })
})

describe('concatKdf', () => {
  it('gives the left part of a longer derivation, at every length to 100 and at the longest', () => {
    const z = new Uint8Array(32).fill(3)
    const longest = concatKdf(z, utf8('info'), 8160)
    for (let length = 1; length <= 100; length++) {
      expect(toHex(concatKdf(z, utf8('info'), length))).toBe(toHex(longest.subarray(0, length)))
    }
  })

  it('agrees with a second implementation, and leaves absent party infos empty', () => {
    const z = new Uint8Array(32).fill(9)
    const info = otherInfo({ algorithmId: 'A256GCM', keyBits: 256 })
    const expected = contentKeyOf(z, new Uint8Array(0), new Uint8Array(0))
    expect(toHex(concatKdf(z, info, 32))).toBe(toHex(expected))
  })

  it('returns memory of its own and leaves z as it was', () => {
    const z = new Uint8Array(32).fill(9)
    const derived = concatKdf(z, new Uint8Array(0), 16)
    expect(derived.buffer.byteLength).toBe(16)
    expect(z).toEqual(new Uint8Array(32).fill(9))
  })
})

it('takes information that is longer than its scratch area', () => {
  const z = Uint8Array.from({ length: 32 }, (_, i) => i)
  const info = new Uint8Array(5000).fill(7)
  const hash = createHash('sha256')
    .update(Uint8Array.of(0, 0, 0, 1))
    .update(z)
    .update(info)
    .digest()
  expect(Buffer.from(concatKdf(z, info, 32))).toEqual(hash)
})

it('wipes each digest, which is the key or a part of it', () => {
  const parts = vi.spyOn(Buffer.prototype, 'subarray')
  const [z, info] = [new Uint8Array(32).fill(1), new Uint8Array(8).fill(2)]
  const key = concatKdf(z, info, 48)
  const digests = parts.mock.contexts as readonly Uint8Array[]
  parts.mockRestore()
  expect(key.some(byte => byte !== 0)).toBe(true)
  expect(digests.map(({ length }) => length)).toEqual([32, 32])
  for (const digest of digests) expect(digest.every(byte => byte === 0)).toBe(true)
})
