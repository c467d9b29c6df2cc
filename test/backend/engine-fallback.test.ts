import { afterEach, describe, expect, test, vi } from 'vitest'
import { softwareBackend } from '../../src/software.js'
import { failure } from '../support/errors.js'

/** Node as it is where OpenSSL was built without TDEA: asking for the cipher throws. */
vi.mock('node:crypto', async original => {
  const real = await original<typeof import('node:crypto')>()
  const without =
    (name: 'createCipheriv' | 'createDecipheriv') => (algorithm: string, key: never, iv: never) => {
      if (algorithm.startsWith('des'))
        throw new Error('error:0308010C:digital envelope routines::unsupported')
      return real[name](algorithm, key, iv)
    }
  return { ...real, createCipheriv: without('createCipheriv'), createDecipheriv: without('createDecipheriv') }
})

const KEY = {
  kid: 'K',
  usage: 'pin-encryption',
  algorithm: 'tdea-2key',
  material: '0123456789ABCDEFFEDCBA9876543210',
} as const

describe('an OpenSSL without TDEA', () => {
  afterEach(() => {
    vi.unstubAllGlobals()
    vi.doUnmock('../../src/backend/software/engine-forge.js')
  })

  test.each([
    ['and WebAssembly with SIMD', undefined, 'bitslice'],
    ['and WebAssembly without SIMD', { validate: () => false }, 'node-forge'],
  ])('%s: auto takes what is left, says so, and answers the same', async (_name, wasm, engine) => {
    if (wasm !== undefined) vi.stubGlobal('WebAssembly', wasm)
    vi.resetModules()
    const { softwareBackend } = await import('../../src/software.js')
    const { operationsOf } = await import('../../src/backend/key.js')
    await using backend = await softwareBackend({ keys: [KEY] })
    expect(backend.capabilities().tdea).toBe(engine)
    const key = await backend.bind({ kid: 'K', usage: 'pin-encryption', kcv: '08D7B4' })
    expect(Buffer.from(await operationsOf(key).encipher(new Uint8Array(8))).toString('hex')).toBe(
      '08d7b4fb629d0885',
    )
  })

  test('node:crypto by name is ERR_UNSUPPORTED', async () => {
    await failure(() => softwareBackend({ keys: [KEY], engine: 'node:crypto' }), 'ERR_UNSUPPORTED')
  })

  test('so is bitslice where WebAssembly has no SIMD', async () => {
    vi.stubGlobal('WebAssembly', { validate: () => false })
    vi.resetModules()
    const { softwareBackend } = await import('../../src/software.js')
    await expect(softwareBackend({ keys: [KEY], engine: 'bitslice' })).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED',
      message: expect.stringContaining('SIMD'),
    })
  })

  test('an engine whose code does not load (an ESM bundle has no `require`) says so by its code; auto goes on without it', async () => {
    vi.resetModules()
    vi.doMock('../../src/backend/software/engine-forge.js', () => {
      throw new Error('Dynamic require of "crypto" is not supported')
    })
    const { softwareBackend } = await import('../../src/software.js')
    await expect(softwareBackend({ keys: [KEY], engine: 'node-forge' })).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED',
      message: expect.stringContaining('node-forge does not load here'),
    })
    await (await softwareBackend({ keys: [KEY] })).close()
    vi.stubGlobal('WebAssembly', undefined)
    vi.resetModules()
    const without = await import('../../src/software.js')
    await expect(without.softwareBackend({ keys: [KEY] })).rejects.toMatchObject({
      code: 'ERR_BACKEND_FAILED',
    })
  })

  test('where node-forge answers wrongly as well, nothing is opened', async () => {
    vi.stubGlobal('WebAssembly', undefined)
    vi.resetModules()
    vi.doMock('../../src/backend/software/engine-forge.js', () => ({
      forgeEngine: {
        name: 'node-forge',
        open: () => {
          throw new Error('broken')
        },
      },
    }))
    const { softwareBackend } = await import('../../src/software.js')
    await expect(softwareBackend({ keys: [KEY] })).rejects.toMatchObject({ code: 'ERR_BACKEND_FAILED' })
  })
})
