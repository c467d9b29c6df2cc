/** What a refusal says: the argument, and the bounds. And what a verb leaves behind. */

import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { BoundKey } from '../../src/backend/bound-key.js'
import { fromHex } from '../../src/base/bytes.js'
import type { Backend, Key } from '../../src/index.js'
import { type GenerateMacInput, generateMac, verifyMac } from '../../src/mac/mac.js'
import { cbcMac, padMessage, splitRetailKey } from '../../src/primitives/iso9797.js'
import { computeMac } from '../../src/primitives/mac.js'
import { softwareBackend } from '../../src/software.js'
import { failure } from '../support/errors.js'
import { nodeCiphers } from './ciphers.js'

const CIPHERS = nodeCiphers(fromHex('0123456789ABCDEFFEDCBA9876543210', 'key'))
const BLOCK = new Uint8Array(8)

let backend: Backend
let key: Key
let pinKey: Key
beforeAll(async () => {
  const [macKey, zpk] = ['7CA110454A1A6E570131D9619DC1376E', '1122334455667788A1B2C3D4E5F60718']
  backend = await softwareBackend({
    keys: [
      { kid: 'M3', usage: 'retail-mac', algorithm: 'tdea-2key', material: macKey },
      { kid: 'P0', usage: 'pin-encryption', algorithm: 'tdea-2key', material: zpk },
    ],
  })
  key = await backend.bind({ kid: 'M3', usage: 'retail-mac' })
  pinKey = await backend.bind({ kid: 'P0', usage: 'pin-encryption' })
})
afterEach(() => vi.restoreAllMocks())
afterAll(() => backend.close())

const retail = (more: object = {}): GenerateMacInput => ({
  key,
  message: new TextEncoder().encode('Hello World !!!!'),
  algorithm: 'iso9797-1-alg3',
  padding: 1,
  length: 8,
  ...more,
})
const verify = (more: object = {}): Promise<boolean> => verifyMac({ ...retail(), mac: BLOCK, ...more })

describe('a refusal names what is wrong', () => {
  test.each<[string, () => unknown]>([
    ['generateMac takes an options object', () => generateMac(7 as never)],
    ['generateMac: unknown option "iV"', () => generateMac(retail({ iV: BLOCK }))],
    [
      'key must be a Key, bound by a backend of this copy of the library',
      () => generateMac(retail({ key: {} })),
    ],
    ['message must be a Uint8Array', () => generateMac(retail({ message: 'text' }))],
    ['length must be a whole number', () => generateMac(retail({ length: '8' }))],
    ['verifyMac takes an options object', () => verifyMac(7 as never)],
    ['verifyMac: unknown option "tag"', () => verify({ tag: BLOCK })],
    ['mac must be a Uint8Array', () => verify({ mac: 'F09B8562' })],
    ['message must be a Uint8Array', () => compute({ message: 'text' })],
    ['MAC algorithm is not known', () => compute({ algorithm: 'md5' })],
    ['padding must be 1, 2 or 3', () => compute({ padding: 'none' })],
    ['material must be a Uint8Array', () => splitRetailKey('00' as never)],
    ['blockBytes must be a whole number from 4 to 16', () => padMessage(1, BLOCK, 3)],
    ['blockBytes must be a whole number from 4 to 16', () => padMessage(1, BLOCK, 17)],
  ])('%s: ERR_ARGUMENT', async (message, call) => {
    expect((await failure(call, 'ERR_ARGUMENT')).message).toBe(message)
  })

  test.each<[string, () => unknown]>([
    ['mac: 3 bytes, expected 4 to 8', () => generateMac(retail({ length: 3 }))],
    ['mac: 9 bytes, expected 4 to 8', () => verify({ length: 9 })],
    ['a TDEA key has 16 or 24 bytes, not 8', () => splitRetailKey(BLOCK)],
    ['iv: 7 bytes, expected 8', () => compute({ iv: BLOCK.subarray(1) })],
    ['padded: 9 bytes, expected a multiple of 8', () => cbcMac(CIPHERS.last, BLOCK, new Uint8Array(9))],
  ])('%s: ERR_LENGTH', async (message, call) => {
    expect((await failure(call, 'ERR_LENGTH')).message).toBe(message)
  })

  test('a key of another usage is named with its kid, its usage and the verb', async () => {
    const generated = await failure(() => generateMac(retail({ key: pinKey })), 'ERR_KEY_USAGE')
    expect(generated.message).toBe('key P0 is for pin-encryption: generating a MAC is refused')
    expect(generated).toHaveProperty('kid', 'P0')
    const verified = await failure(() => verify({ key: pinKey }), 'ERR_KEY_USAGE')
    expect(verified.message).toBe('key P0 is for pin-encryption: verifying a MAC is refused')
  })

  test('without the cipher under K1 alone the retail MAC is ERR_UNSUPPORTED, and says why', async () => {
    const call = () => computeMac({ algorithm: 'iso9797-1-alg3', padding: 1 }, { last: CIPHERS.last }, BLOCK)
    expect((await failure(call, 'ERR_UNSUPPORTED')).message).toBe(
      'the retail MAC needs the cipher under K1 alone',
    )
  })

  function compute({ message = BLOCK, ...more }: Record<string, unknown>): Uint8Array {
    const request = { algorithm: 'iso9797-1-alg1', padding: 1, ...more }
    return computeMac(request as never, CIPHERS, message as Uint8Array)
  }
})

test('blocks of 4 bytes have a length block of 4 bytes, which is written to its first byte', () => {
  expect([...padMessage(3, new Uint8Array(2 ** 21), 4).subarray(0, 4)]).toEqual([1, 0, 0, 0])
})

describe('the full-length MAC', () => {
  /** The buffers that the backend gave during the call. */
  async function given(call: () => Promise<unknown>): Promise<Uint8Array[]> {
    const mac = vi.spyOn(BoundKey.prototype, 'mac')
    await call().catch(() => {})
    return Promise.all(mac.mock.results.map(({ value }): Promise<Uint8Array> => value))
  }

  test('is wiped after generateMac of a shorter one, and what the verb returned is another', async () => {
    let mac = new Uint8Array()
    const [full] = await given(async () => {
      mac = Uint8Array.from(await generateMac(retail({ length: 7 })))
    })
    expect([...(full ?? [])]).toEqual([0, 0, 0, 0, 0, 0, 0, 0])
    expect(mac.some(byte => byte !== 0)).toBe(true)
  })

  test('is itself what generateMac returns where all of it is wanted', async () => {
    let mac: Uint8Array = new Uint8Array()
    const [full] = await given(async () => {
      mac = await generateMac(retail())
    })
    expect(full).toBe(mac)
    expect(mac.length).toBe(8)
    expect(mac.some(byte => byte !== 0)).toBe(true)
  })

  test('is wiped after verifyMac, whatever the verdict', async () => {
    const mac = await generateMac(retail())
    for (const claimed of [mac, BLOCK]) {
      const [full] = await given(() => verify({ mac: claimed }))
      expect([...(full ?? [])]).toEqual([0, 0, 0, 0, 0, 0, 0, 0])
    }
  })

  test('is asked for without an iv where the caller gives none, and with it where there is one', async () => {
    const mac = vi.spyOn(BoundKey.prototype, 'mac')
    await generateMac(retail())
    await generateMac(retail({ iv: BLOCK }))
    expect(mac.mock.calls.map(([request]) => request)).toStrictEqual([
      { algorithm: 'iso9797-1-alg3', padding: 1 },
      { algorithm: 'iso9797-1-alg3', padding: 1, iv: BLOCK },
    ])
  })
})
