import { describe, expect, test } from 'vitest'
import type { BackendDriver } from '../../src/index.js'
import { openBackend } from '../../src/index.js'
import { failure } from '../support/errors.js'

/** A driver that answers when told to, so that tests decide what is in flight. */
function slowDriver() {
  const waiting: ((result: Uint8Array | Error) => void)[] = []
  const calls: string[] = []
  const later = (name: string): Promise<Uint8Array> => {
    calls.push(name)
    return new Promise((resolve, reject) => {
      waiting.push(result => (result instanceof Error ? reject(result) : resolve(result)))
    })
  }
  const driver: BackendDriver<undefined> = {
    name: 'slow',
    find: () => ({
      ref: undefined,
      algorithm: 'tdea-2key',
      checkValue: { method: 'encrypt-zero', value: '000000' },
      parity: 'unknown',
    }),
    encipher: () => later('encipher'),
    decipher: () => later('decipher'),
    reencipher: () => later('reencipher'),
    mac: () => later('mac'),
    deriveContentKey: () => later('deriveContentKey'),
    randomBytes: () => later('randomBytes'),
    capabilities: () => ({
      backend: 'slow',
      tdea: 'none',
      macs: { 'iso9797-1-alg1': 'none', 'iso9797-1-alg3': 'none', cmac: 'none' },
      keyAgreement: 'none',
      reencipher: 'inside',
      random: 'none',
      notes: [],
    }),
    health: () => ({ ok: true, detail: 'slow' }),
    close: () => {
      calls.push('close')
    },
  }
  return { driver, waiting, calls }
}

describe('operations in flight', () => {
  test('close waits for the last of them, and the driver is closed once', async () => {
    const { driver, waiting, calls } = slowDriver()
    const backend = openBackend(driver)
    const first = backend.randomBytes(8)
    const second = backend.randomBytes(8)
    const closed = backend.close()
    waiting[0]?.(new Uint8Array(8))
    await first
    expect(calls).not.toContain('close')
    waiting[1]?.(new Error('the driver failed'))
    expect((await failure(() => second, 'ERR_BACKEND_FAILED')).message).not.toContain('the driver failed')
    await closed
    await backend.close()
    await backend[Symbol.asyncDispose]()
    expect(calls.filter(name => name === 'close')).toHaveLength(1)
    await failure(() => backend.randomBytes(8), 'ERR_BACKEND_CLOSED')
  })

  test('a result that comes after the abort is wiped and not returned', async () => {
    const { driver, waiting } = slowDriver()
    const backend = openBackend(driver)
    const controller = new AbortController()
    const call = backend.randomBytes(8, { signal: controller.signal })
    controller.abort('too slow')
    const secret = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)
    waiting[0]?.(secret)
    await failure(() => call, 'ERR_ABORTED')
    expect([...secret]).toEqual([0, 0, 0, 0, 0, 0, 0, 0])
  })

  test('a key whose reference is undefined is still a key; one reference can be re-enciphered inside', async () => {
    const { driver, waiting } = slowDriver()
    const backend = openBackend(driver)
    const key = await backend.bind({ kid: 'K', usage: 'pin-encryption' })
    const call = backend.reencipherBlocks(key, key, new Uint8Array(8))
    waiting[0]?.(new Uint8Array(8))
    expect(await call).toHaveLength(8)
  })

  test('a driver that throws at once leaves nothing in flight', async () => {
    const { driver, calls } = slowDriver()
    driver.randomBytes = () => {
      throw new Error('broken')
    }
    const backend = openBackend(driver)
    await failure(() => backend.randomBytes(8), 'ERR_BACKEND_FAILED')
    await backend.close()
    expect(calls).toEqual(['close'])
  })
})

test('a kid that was bound for one usage is refused for another', async () => {
  const backend = openBackend(slowDriver().driver)
  await backend.bind({ kid: 'K', usage: 'pin-encryption' })
  await failure(() => backend.bind({ kid: 'K', usage: 'cmac' }), 'ERR_KEY_USAGE')
})

test('options may be absent, null or empty', async () => {
  const backend = openBackend(slowDriver().driver)
  for (const options of [undefined, null, {}]) expect((await backend.health(options as never)).ok).toBe(true)
})
