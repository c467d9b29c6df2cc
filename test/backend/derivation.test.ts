/** Derived keys and encipherment at the port: known answers by hand, and what is refused. */
import { createCipheriv } from 'node:crypto'
import { expect, test } from 'vitest'
import type { MacRequest } from '../../src/backend/driver.js'
import { operationsOf } from '../../src/backend/key.js'
import { softwareBackend } from '../../src/backend/software/software.js'
import { buffersMadeBy } from '../leaks/recorder.js'
import { failure } from '../support/errors.js'
import { bytes, hex } from '../support/vectors.js'

const material = '2B7E151628AED2A6ABF7158809CF4F3C'
const open = async (usage: 'prw-verify' | 'cmac') => {
  const backend = await softwareBackend({ keys: [{ kid: 'K', usage, algorithm: 'aes-128', material }] })
  return operationsOf(await backend.bind({ kid: 'K', usage }))
}
const CMAC = { algorithm: 'cmac', padding: 'none' } as const
const ecb = (key: Buffer, block: Buffer): Buffer =>
  createCipheriv('aes-128-ecb', key, null).setAutoPadding(false).update(block)

test('a key derived by encipherment computes what that key computes, and the named one stays as it was', async () => {
  const key = await open('prw-verify')
  const diversifier = bytes('00112233445566778899AABBCCDDEEFF')
  const derived = ecb(Buffer.from(material, 'hex'), Buffer.from(diversifier))
  const plain = { algorithm: 'encipher-ecb', padding: 1 } as const
  const block = bytes('0F'.repeat(16))
  const derivation = [{ method: 'encipher', data: diversifier }] as const
  expect(hex(await key.mac({ ...plain, derivation }, block))).toBe(hex(ecb(derived, Buffer.from(block))))
  expect(hex(await key.mac(plain, block))).toBe(hex(ecb(Buffer.from(material, 'hex'), Buffer.from(block))))
})

test.each(['bitslice', 'node:crypto', 'node-forge'] as const)('a derived key is wiped (%s)', async engine => {
  const tdea = '0123456789ABCDEFFEDCBA9876543211'
  const keys = [
    { kid: 'A', usage: 'prw-verify', algorithm: 'aes-128', material },
    { kid: 'T', usage: 'prw-verify', algorithm: 'tdea-2key', material: tdea },
  ] as const
  await using backend = await softwareBackend({ keys, engine })
  const diversifier = bytes('00112233445566778899AABBCCDDEEFF')
  const cipher = createCipheriv('des-ede-ecb', Buffer.from(tdea, 'hex'), null).setAutoPadding(false)
  const derived = {
    A: ecb(Buffer.from(material, 'hex'), Buffer.from(diversifier)),
    T: cipher.update(diversifier),
  }
  for (const kid of ['A', 'T'] as const) {
    const key = operationsOf(await backend.bind({ kid, usage: 'prw-verify' }))
    const derivation = [{ method: 'encipher', data: diversifier }] as const
    const { value, buffers } = await buffersMadeBy(() => key.mac({ ...CMAC, derivation }, new Uint8Array(5)))
    const halves = [derived[kid].subarray(0, 8), derived[kid].subarray(8)]
    expect(value.length).toBeGreaterThan(7)
    expect(buffers.length).toBeGreaterThan(3)
    const left = buffers.filter(buffer => halves.some(half => Buffer.from(buffer).includes(half)))
    expect([kid, left]).toEqual([kid, []])
  }
})

test('the data of a derivation is read once, and stays the caller’s', async () => {
  const key = await open('prw-verify')
  const data = bytes('00112233445566778899AABBCCDDEEFF')
  const mac = (step: object) => key.mac({ ...CMAC, derivation: [step] } as never, new Uint8Array(5))
  const first = await mac({ method: 'encipher', data })
  expect(hex(data)).toMatch(/^00112233445566778899aabbccddeeff$/i)
  let reads = 0
  const counted = {
    method: 'encipher',
    get data() {
      reads++
      return data
    },
  }
  expect([hex(await mac(counted)), reads]).toEqual([hex(first), 1])
})

test.each<[string, object]>([
  ['encipher', { method: 'encipher' }],
  ['cmac-counter', { method: 'cmac-counter', counterBytes: 1 }],
])(
  'what a key is derived from by %s is wiped, with an initial value and without, and where it fails',
  async (_, step) => {
    // PAN digits are among it: `prwKey` of a profile takes them from there.
    const data = bytes('A1B2C3D4E5F60718293A4B5C6D7E8F90')
    await using backend = await softwareBackend({
      keys: [
        { kid: 'K', usage: 'prw-verify', algorithm: 'aes-128', material },
        { kid: 'C', usage: 'cmac', algorithm: 'aes-128', material: material.replace('2B', '2C') },
      ],
    })
    const derivation = [
      { ...step, data },
      { ...step, data },
    ] as never
    const requests: readonly [string, MacRequest][] = [
      ['K', { ...CMAC, derivation }],
      ['K', { algorithm: 'encipher-cbc', padding: 1, iv: bytes('00'.repeat(16)), derivation }],
      ['C', { algorithm: 'encipher-ecb', padding: 1, derivation }],
    ]
    for (const [kid, request] of requests) {
      const key = operationsOf(await backend.bind({ kid, usage: kid === 'K' ? 'prw-verify' : 'cmac' }))
      const { buffers } = await buffersMadeBy(() =>
        Promise.resolve(key.mac(request, bytes('0F'.repeat(16)))).catch(() => undefined),
      )
      // A MAC key is refused before anything is read.
      if (kid === 'K') expect(buffers.length).toBeGreaterThan(1)
      const left = buffers.filter(buffer => Buffer.from(buffer).includes(Buffer.from(data.subarray(0, 8))))
      expect([kid, request.algorithm, left]).toEqual([kid, request.algorithm, []])
    }
  },
)

test('a MAC key enciphers nothing', async () => {
  const key = await open('cmac')
  const request = { algorithm: 'encipher-ecb', padding: 1 } as const
  await failure(() => key.mac(request, bytes('00'.repeat(16))), 'ERR_KEY_USAGE', [material])
})

test('HMAC: by its own key and no other, and no key is derived from it', async () => {
  const material = '0B'.repeat(20).padEnd(64, '0')
  const algorithm = 'hmac-sha256'
  const backend = await softwareBackend({ keys: [{ kid: 'H', usage: 'prw-verify', algorithm, material }] })
  const key = operationsOf(await backend.bind({ kid: 'H', usage: 'prw-verify', kcv: '6E2BC52660' }))
  const message = bytes('4869205468657265')
  const request = { algorithm, padding: 'none' } as const
  expect(hex(await key.mac(request, message))).toMatch(/^b0344c61.*cff7$/i)
  const derivation = [{ method: 'xor', data: bytes('01'.repeat(32)) }] as const
  await failure(() => key.mac({ ...request, derivation }, message), 'ERR_KEY_ALGORITHM', [material])
  await failure(() => key.mac({ ...request, iv: message }, message), 'ERR_ARGUMENT', [material])
  await failure(() => key.mac(CMAC, message), 'ERR_KEY_ALGORITHM', [material])
  await failure(() => key.mac({ algorithm: 'encipher-ecb', padding: 2 }, message), 'ERR_KEY_ALGORITHM', [])
  const aes = await open('prw-verify')
  await failure(() => aes.mac(request, message), 'ERR_KEY_ALGORITHM', [])
  const spec = { kid: 'H', usage: 'prw-verify', kcv: { method: 'cmac', value: '6E2BC5' } } as const
  await failure(() => backend.bind(spec), 'ERR_ARGUMENT', [material])
})

const data = bytes('00'.repeat(16))
const half = bytes('0000000000000000')
test.each<[string, object, 'ERR_ARGUMENT' | 'ERR_LENGTH']>([
  ['no steps', { ...CMAC, derivation: [] }, 'ERR_ARGUMENT'],
  ['five steps', { ...CMAC, derivation: Array(5).fill({ method: 'xor', data }) }, 'ERR_ARGUMENT'],
  ['a method that there is not', { ...CMAC, derivation: [{ method: 'guess', data }] }, 'ERR_ARGUMENT'],
  ['a mask that is too short', { ...CMAC, derivation: [{ method: 'xor', data: half }] }, 'ERR_LENGTH'],
  ['half a block', { ...CMAC, derivation: [{ method: 'encipher', data: half }] }, 'ERR_LENGTH'],
  [
    'a counter of 3 bytes',
    { ...CMAC, derivation: [{ method: 'cmac-counter', counterBytes: 3, data }] },
    'ERR_ARGUMENT',
  ],
  ['ECB with an iv', { algorithm: 'encipher-ecb', padding: 1, iv: data }, 'ERR_ARGUMENT'],
  ['CBC with half an iv', { algorithm: 'encipher-cbc', padding: 1, iv: half }, 'ERR_LENGTH'],
  ['padding 3', { algorithm: 'encipher-cbc', padding: 3 }, 'ERR_ARGUMENT'],
])('refused: %s', async (_what, request, code) => {
  const key = await open('prw-verify')
  await failure(() => key.mac(request as MacRequest, data), code, [material])
})

test('an empty message, one that fills its blocks, and one that does not', async () => {
  const key = await open('prw-verify')
  const lengthsBy = async (padding: 1 | 2) => {
    const made = [0, 15, 16, 17].map(n => key.mac({ algorithm: 'encipher-cbc', padding }, new Uint8Array(n)))
    return (await Promise.all(made)).map(({ length }) => length)
  }
  expect(await lengthsBy(1)).toEqual([16, 16, 16, 32])
  expect(await lengthsBy(2)).toEqual([16, 16, 32, 32])
})
