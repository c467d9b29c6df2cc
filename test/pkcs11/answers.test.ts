/** What a token computes with what comes besides the message: a chaining value, a second key of another cipher. As software does it. */
import { describe, expect, test } from 'vitest'
import type { MacRequest } from '../../src/backend/driver.js'
import { operationsOf } from '../../src/backend/key.js'
import { type Backend, encipherPin, generatePvv, Pan, Pin, verifyPinBlock } from '../../src/index.js'
import type { KeyStoreOptions } from '../../src/pkcs11.js'
import { softwareBackend } from '../../src/software.js'
import { hex } from '../support/vectors.js'
import { type FakeOptions, FakeToken } from './fake-token.js'
import { openBackendOn, openStoreOn } from './support.js'

const ONE = '0123456789ABCDEFFEDCBA9876543210'
const TWO = '1122334455667788A1B2C3D4E5F60718'
const THREE = '89ABCDEF012345672468ACE013579BDF'

const KEYS = [
  { kid: 'C', usage: 'cbc-mac', algorithm: 'tdea-2key', material: ONE, more: {} },
  { kid: 'R', usage: 'retail-mac', algorithm: 'tdea-2key', material: TWO, more: {} },
  {
    kid: 'E',
    usage: 'prw-generate',
    algorithm: 'tdea-2key',
    material: THREE,
    more: { macs: [], enciphers: true },
  },
] as const
const ALGORITHM = { C: 'iso9797-1-alg1', R: 'iso9797-1-alg3', E: 'encipher-cbc' } as const

const MESSAGE = Uint8Array.from({ length: 21 }, (_, i) => 7 * i + 1)
const IV = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)

describe.each<[string, FakeOptions, Partial<KeyStoreOptions>]>([
  ['composed', {}, { composedMac: true }],
  ['by a vendor’s mechanism', { retail: { mechanism: 0x8000_0135, bytes: 8 } }, { retailMac: 'utimaco' }],
])('with the retail MAC %s', (_how, fakeOptions, options) => {
  test.each(KEYS)('a first chaining value counts, under the key for $usage', async ({ kid, usage }) => {
    const fake = new FakeToken(fakeOptions)
    await using store = await openStoreOn(fake, options)
    for (const { more, ...key } of KEYS) await store.importKey({ ...key, ...more })
    await using token = await openBackendOn(fake, options)
    await using software = await softwareBackend({ keys: KEYS.map(({ more: _, ...key }) => key) })
    const macOf = async (backend: Backend, request: Omit<MacRequest, 'algorithm'>): Promise<string> => {
      const key = operationsOf(await backend.bind({ kid, usage }))
      return hex(await key.mac({ algorithm: ALGORITHM[kid], ...request }, MESSAGE))
    }
    for (const padding of [1, 2] as const) {
      const made = await macOf(token, { padding, iv: IV })
      expect(made).toBe(await macOf(software, { padding, iv: IV }))
      expect(made).not.toBe(await macOf(token, { padding }))
    }
  })
})

test('a PIN in a block of format 4, under AES, is verified against a PVV, under TDEA', async () => {
  const keys = [
    { kid: 'A', usage: 'pin-encryption', algorithm: 'aes-128', material: ONE },
    { kid: 'V', usage: 'visa-pvv', algorithm: 'tdea-2key', material: TWO },
  ] as const
  const fake = new FakeToken()
  await using store = await openStoreOn(fake)
  const [aes, pvvKey] = keys
  await store.importKey({ ...aes, hostDecipher: true })
  await store.importKey(pvvKey)
  await using token = await openBackendOn(fake)
  await using software = await softwareBackend({ keys })
  const bound = async (backend: Backend) => ({
    from: await backend.bind({ kid: 'A', usage: 'pin-encryption', hostDecipher: true }),
    key: await backend.bind({ kid: 'V', usage: 'visa-pvv', pinValue: { pvki: 1 } }),
  })
  const pan = Pan.from('4761739001010010')
  const there = await bound(software)
  const block = await encipherPin({ pin: Pin.from('1234'), pan, format: 4, key: there.from })
  const pvv = await generatePvv({ block, pan, format: 4, ...there })
  const { from, key } = await bound(token)
  const verdict = async (stated: string): Promise<boolean> => {
    const against = { kind: 'pvv', pvv: stated, key } as const
    const given = { block, pan, format: 4, from, against, tries: 'counted-elsewhere' } as const
    return (await verifyPinBlock(given)).verified
  }
  const other = pvv.startsWith('0') ? `1${pvv.slice(1)}` : `0${pvv.slice(1)}`
  expect([await verdict(pvv), await verdict(other)]).toEqual([true, false])
})
