/** What a backend's key ring holds: each key once, for one usage, and nothing after it has been sealed. */
import { describe, expect, test } from 'vitest'
import { nodeEngine } from '../../src/backend/software/engine-node.js'
import { storeKeys } from '../../src/backend/software/keys.js'
import { SoftwareDriver } from '../../src/backend/software/software.js'
import { openBackend } from '../../src/index.js'
import { type SoftwareKey, softwareBackend } from '../../src/software.js'
import { failure } from '../support/errors.js'

const K1 = '1122334455667788'
const K2 = 'A1B2C3D4E5F60718'
const K3 = '0123456789ABCDEF'
const not = (hex: string): string =>
  hex.replace(/./g, digit => (15 - Number.parseInt(digit, 16)).toString(16).toUpperCase())

const pin = (material: string): SoftwareKey => ({
  kid: 'ONE',
  usage: 'pin-encryption',
  algorithm: material.length === 32 ? 'tdea-2key' : 'tdea-3key',
  material,
})

describe('one key for two usages under two kids is refused in software', () => {
  test.each<[string, SoftwareKey, Pick<SoftwareKey, 'algorithm' | 'material'>]>([
    ['the same bytes', pin(K1 + K2), { algorithm: 'tdea-2key', material: K1 + K2 }],
    ['the complement', pin(K1 + K2), { algorithm: 'tdea-2key', material: not(K1 + K2) }],
    ['K1‖K2 as K1‖K2‖K1', pin(K1 + K2), { algorithm: 'tdea-3key', material: K1 + K2 + K1 }],
    ['K1‖K2 within K1‖K2‖K3', pin(K1 + K2 + K3), { algorithm: 'tdea-2key', material: K1 + K2 }],
    ['as TDEA and as AES', pin(K1 + K2), { algorithm: 'aes-128', material: K1 + K2 }],
    [
      'as TDEA and as AES of another length',
      pin(K1 + K2 + K3),
      { algorithm: 'aes-192', material: K1 + K2 + K3 },
    ],
  ])('%s', async (_name, one, other) => {
    const two = { kid: 'TWO', usage: 'cmac', ...other } as const
    for (const keys of [
      [one, two],
      [two, one],
    ]) {
      const { message } = await failure(() => softwareBackend({ keys }), 'ERR_KEY_USAGE')
      expect(message).toMatch(/^key (ONE|TWO) is the same key as (ONE|TWO), for another usage$/)
    }
  })

  test('and not where only K2 is shared, or the usage is the same', async () => {
    const two = { kid: 'TWO', usage: 'cmac', algorithm: 'tdea-2key', material: K3 + K2 } as const
    const again = { ...pin(K1 + K2 + K3), kid: 'AGAIN' }
    await using backend = await softwareBackend({ keys: [pin(K1 + K2), two, again] })
    expect((await backend.bind({ kid: 'TWO', usage: 'cmac' })).kid).toBe('TWO')
  })
})

describe('the front, whatever the driver let pass,', () => {
  const stored = (...keys: SoftwareKey[]) => keys.flatMap(key => storeKeys([key]))
  const twin = { kid: 'TWO', usage: 'cbc-mac', algorithm: 'tdea-2key', material: K1 + K2 } as const

  test('knows a key by its check value, as far as the shorter goes', async () => {
    await using backend = openBackend(new SoftwareDriver(stored(pin(K1 + K2), twin), nodeEngine))
    await backend.bind({ kid: 'ONE', usage: 'pin-encryption', kcv: 'A13F4AABA2EFF1D9' })
    const error = await failure(() => backend.bind({ kid: 'TWO', usage: 'cbc-mac' }), 'ERR_KEY_USAGE')
    expect(error.message).toBe(
      'key TWO: it has the check value of ONE, which is bound for pin-encryption; a key has one usage',
    )
    expect(error).toHaveProperty('kid', 'TWO')
  })

  test('binds a kid again for the usage it has', async () => {
    await using backend = openBackend(new SoftwareDriver(stored(pin(K1 + K2)), nodeEngine))
    await backend.bind({ kid: 'ONE', usage: 'pin-encryption' })
    expect((await backend.bind({ kid: 'ONE', usage: 'pin-encryption', mode: 'E' })).mode).toBe('E')
  })
})

describe('a sealed backend', () => {
  test('binds nothing, also not what was being looked for when it was sealed', async () => {
    await using backend = await softwareBackend({ keys: [pin(K1 + K2)] })
    let release: () => void = () => {}
    const driver = new SoftwareDriver(storeKeys([pin(K1 + K2)]), nodeEngine)
    const slow = Object.create(driver, {
      find: {
        value: async (...args: Parameters<typeof driver.find>) => {
          await new Promise<void>(resolve => {
            release = resolve
          })
          return driver.find(...args)
        },
      },
      capabilities: { value: () => driver.capabilities() },
      close: { value: () => driver.close() },
    }) as typeof driver
    await using late = openBackend(slow)
    const pending = late.bind({ kid: 'ONE', usage: 'pin-encryption' })
    late.seal()
    release()
    await failure(() => pending, 'ERR_BACKEND_SEALED')
    backend.seal()
    const { message } = await failure(
      () => backend.bind({ kid: 'ONE', usage: 'pin-encryption' }),
      'ERR_BACKEND_SEALED',
    )
    expect(message).toBe('the backend is sealed: ONE had to be bound before')
    expect(await backend.randomBytes(8)).toHaveLength(8)
  })
})
