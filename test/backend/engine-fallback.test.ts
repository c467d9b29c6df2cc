import { describe, expect, test, vi } from 'vitest'
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
  test('auto falls back to node-forge, says so, and answers the same', async () => {
    await using backend = await softwareBackend({ keys: [KEY] })
    expect(backend.capabilities().tdea).toBe('node-forge')
    const key = await backend.bind({ kid: 'K', usage: 'pin-encryption', kcv: '08D7B4' })
    expect(Buffer.from(await backend.encipherBlocks(key, new Uint8Array(8))).toString('hex')).toBe(
      '08d7b4fb629d0885',
    )
  })

  test('node:crypto by name is ERR_UNSUPPORTED', async () => {
    await failure(() => softwareBackend({ keys: [KEY], engine: 'node:crypto' }), 'ERR_UNSUPPORTED')
  })

  test('where node-forge answers wrongly as well, nothing is opened', async () => {
    vi.doMock('../../src/backend/software/engine-forge.js', () => ({
      forgeEngine: {
        name: 'node-forge',
        open: () => {
          throw new Error('broken')
        },
      },
    }))
    await failure(() => softwareBackend({ keys: [KEY] }), 'ERR_BACKEND_FAILED')
    vi.doUnmock('../../src/backend/software/engine-forge.js')
  })
})
