import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Backend } from '../../src/backend/backend.js'
import type { Key } from '../../src/backend/key.js'
import { toHex } from '../../src/base/bytes.js'
import type { KeyUsage } from '../../src/key/usage.js'
import { type GenerateMacInput, generateMac, verifyMac } from '../../src/mac/mac.js'
import type { KeyAlgorithm, MacAlgorithm, MacPadding } from '../../src/primitives/algorithms.js'
import { softwareBackend } from '../../src/software.js'

const KEYS: readonly { kid: string; usage: KeyUsage; algorithm: KeyAlgorithm; material: string }[] = [
  { kid: 'M1', usage: 'cbc-mac', algorithm: 'tdea-2key', material: '0123456789ABCDEFFEDCBA9876543210' },
  { kid: 'M3', usage: 'retail-mac', algorithm: 'tdea-2key', material: '7CA110454A1A6E570131D9619DC1376E' },
  { kid: 'M6', usage: 'cmac', algorithm: 'aes-128', material: '2B7E151628AED2A6ABF7158809CF4F3C' },
  {
    kid: 'P0',
    usage: 'pin-encryption',
    algorithm: 'tdea-2key',
    material: '1122334455667788A1B2C3D4E5F60718',
  },
  { kid: 'VG', usage: 'prw-generate', algorithm: 'aes-128', material: '77A77FAF290C1FA30C683DF16BA7A77B' },
  { kid: 'VV', usage: 'prw-verify', algorithm: 'aes-128', material: '77A77FAF290C1FA30C683DF16BA7A77B' },
]
const WAYS: readonly { kid: string; algorithm: MacAlgorithm; padding: MacPadding; full: number }[] = [
  ...([1, 2, 3] as const).map(padding => ({
    kid: 'M1',
    algorithm: 'iso9797-1-alg1' as const,
    padding,
    full: 8,
  })),
  ...([1, 2, 3] as const).map(padding => ({
    kid: 'M3',
    algorithm: 'iso9797-1-alg3' as const,
    padding,
    full: 8,
  })),
  { kid: 'M6', algorithm: 'cmac', padding: 'none', full: 16 },
]
const MESSAGE = new TextEncoder().encode('Hello World !!!!')

let backend: Backend
const keys = new Map<string, Key>()
const key = (kid: string): Key => keys.get(kid) as Key
beforeAll(async () => {
  backend = await softwareBackend({ keys: KEYS })
  for (const { kid, usage } of KEYS) keys.set(kid, await backend.bind({ kid, usage }))
})
afterAll(() => backend.close())

const retail = (): GenerateMacInput => ({
  key: key('M3'),
  message: MESSAGE,
  algorithm: 'iso9797-1-alg3',
  padding: 1,
  length: 8,
})

describe('refused', () => {
  test.each<[string, () => Promise<unknown>, string]>([
    ['no input', () => generateMac(undefined as never), 'ERR_ARGUMENT'],
    ['null', () => verifyMac(null as never), 'ERR_ARGUMENT'],
    ['a look-alike key', () => generateMac({ ...retail(), key: { kid: 'M3' } as never }), 'ERR_ARGUMENT'],
    ['a text message', () => generateMac({ ...retail(), message: 'text' as never }), 'ERR_ARGUMENT'],
    ['no length', () => generateMac({ ...retail(), length: undefined as never }), 'ERR_ARGUMENT'],
    ['half a byte', () => generateMac({ ...retail(), length: 4.5 }), 'ERR_ARGUMENT'],
    ['3 bytes', () => generateMac({ ...retail(), length: 3 }), 'ERR_LENGTH'],
    ['9 bytes of TDEA', () => generateMac({ ...retail(), length: 9 }), 'ERR_LENGTH'],
    ['no padding', () => generateMac({ ...retail(), padding: undefined as never }), 'ERR_ARGUMENT'],
    ['CMAC padding', () => generateMac({ ...retail(), padding: 'none' }), 'ERR_ARGUMENT'],
    ['another algorithm', () => generateMac({ ...retail(), algorithm: 'iso9797-1-alg1' }), 'ERR_KEY_USAGE'],
    ['a short iv', () => generateMac({ ...retail(), iv: new Uint8Array(7) }), 'ERR_LENGTH'],
    [
      'an iv for CMAC',
      () =>
        generateMac({
          ...retail(),
          key: key('M6'),
          algorithm: 'cmac',
          padding: 'none',
          iv: new Uint8Array(16),
        }),
      'ERR_ARGUMENT',
    ],
    ['a PIN key', () => generateMac({ ...retail(), key: key('P0') }), 'ERR_KEY_USAGE'],
    [
      'a PRW generate key',
      () => generateMac({ ...retail(), key: key('VG'), algorithm: 'cmac', padding: 'none' }),
      'ERR_KEY_USAGE',
    ],
    [
      'a PRW verify key',
      () => generateMac({ ...retail(), key: key('VV'), algorithm: 'cmac', padding: 'none' }),
      'ERR_KEY_USAGE',
    ],
    ['an abort', () => generateMac(retail(), { signal: AbortSignal.abort() }), 'ERR_ABORTED'],
    ['a short length', () => verifyMac({ ...retail(), mac: new Uint8Array(3), length: 3 }), 'ERR_LENGTH'],
    ['a long length', () => verifyMac({ ...retail(), mac: new Uint8Array(9), length: 9 }), 'ERR_LENGTH'],
    [
      'no length',
      () => verifyMac({ ...retail(), mac: new Uint8Array(8), length: undefined as never }),
      'ERR_ARGUMENT',
    ],
    ['a text mac', () => verifyMac({ ...retail(), mac: 'F09B8562' as never, length: 4 }), 'ERR_ARGUMENT'],
    [
      'a PRW key to verify',
      () => verifyMac({ ...retail(), key: key('VV'), mac: new Uint8Array(8), length: 8 }),
      'ERR_KEY_USAGE',
    ],
  ])('%s', async (_, call, code) => {
    await expect(call()).rejects.toMatchObject({ code })
  })
})

test('the published retail MAC, whole and truncated', async () => {
  expect(toHex(await generateMac(retail()))).toBe('F09B856213BAB83B')
  expect(toHex(await generateMac({ ...retail(), length: 4 }))).toBe('F09B8562')
})

describe.each(WAYS)('$algorithm padding $padding', ({ kid, algorithm, padding, full }) => {
  const input = (message: Uint8Array) => ({ key: key(kid), message, algorithm, padding })
  const message = fc.uint8Array({ minLength: 1, maxLength: 140 })

  test('verifies what it generated, at every length', async () => {
    await fc.assert(
      fc.asyncProperty(message, fc.integer({ min: 4, max: full }), async (data, length) => {
        const mac = await generateMac({ ...input(data), length })
        expect(mac).toHaveLength(length)
        expect(mac.buffer.byteLength).toBe(length)
        expect(await verifyMac({ ...input(data), mac, length: mac.length })).toBe(true)
      }),
      { numRuns: 30 },
    )
  })

  test('notices any changed bit of message or MAC', async () => {
    await fc.assert(
      fc.asyncProperty(message, fc.nat(), fc.nat(), fc.nat({ max: 7 }), async (data, i, j, bit) => {
        const mac = await generateMac({ ...input(data), length: full })
        const changed = data.slice()
        changed[i % data.length] = (changed[i % data.length] ?? 0) ^ (1 << bit)
        const wrong = mac.slice()
        wrong[j % full] = (wrong[j % full] ?? 0) ^ (1 << bit)
        expect(await verifyMac({ ...input(changed), mac, length: mac.length })).toBe(false)
        expect(await verifyMac({ ...input(data), mac: wrong, length: wrong.length })).toBe(false)
      }),
      { numRuns: 30 },
    )
  })
})

test('inputs are read before the promise is returned', async () => {
  const message = MESSAGE.slice()
  const pending = generateMac({ ...retail(), message })
  message.fill(0)
  const mac = await pending
  expect(toHex(mac)).toBe('F09B856213BAB83B')
  const verdict = verifyMac({ ...retail(), mac, length: 8 })
  mac.fill(0)
  expect(await verdict).toBe(true)
})

test('a MAC of another length than the scheme has is wrong, not an error', async () => {
  const mac = await generateMac(retail())
  for (const other of [mac.subarray(0, 4), mac.subarray(0, 7), Uint8Array.of(...mac, 0), new Uint8Array(0)]) {
    expect(await verifyMac({ ...retail(), mac: other, length: 8 })).toBe(false)
  }
  expect(await verifyMac({ ...retail(), mac: mac.subarray(0, 4), length: 4 })).toBe(true)
})
