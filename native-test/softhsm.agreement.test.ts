/** One library, two places for keys: software and token give the same answers over random inputs, padding and IVs. */

import { createECDH } from 'node:crypto'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { operationsOf } from '../src/backend/key.js'
import type { Backend, Key, MacRequest } from '../src/index.js'
import { softwareBackend } from '../src/software.js'
import { CONTRACT_KEYS } from '../src/testing.js'
import { openWith } from './provision.js'
import { describeSoftHsm, makeToken } from './softhsm.js'

const { AGREEMENT_RUNS = '150' } = process.env
const numRuns = Number(AGREEMENT_RUNS)

describeSoftHsm('software and SoftHSM agree', () => {
  const options = { ...makeToken('agreement'), composedMac: true }
  let backends: readonly [Backend, Backend]

  beforeAll(async () => {
    const keys = CONTRACT_KEYS.map(({ hostDecipher: _hostDecipher, ...key }) => key)
    backends = [await softwareBackend({ keys }), await openWith(options, CONTRACT_KEYS)]
  })
  afterAll(async () => {
    for (const backend of backends ?? []) await backend.close()
  })

  /** The same operation in both places; both keys bound alike. */
  async function agree(
    kids: readonly string[],
    operation: (backend: Backend, keys: readonly Key[]) => Promise<Uint8Array>,
  ): Promise<Uint8Array> {
    const results: Uint8Array[] = []
    for (const backend of backends) {
      const keys: Key[] = []
      for (const kid of kids) {
        const key = CONTRACT_KEYS.find(candidate => candidate.kid === kid)
        if (key === undefined) throw new Error(`no key ${kid}`)
        const { usage, hostDecipher = false } = key
        keys.push(await backend.bind({ kid, usage, hostDecipher }))
      }
      results.push(await operation(backend, keys))
    }
    const [software, token] = results
    expect(token).toEqual(software)
    return software ?? new Uint8Array(0)
  }

  const first = ([key]: readonly Key[]): Key => {
    if (key === undefined) throw new Error('no key')
    return key
  }
  const blocks = fc
    .integer({ min: 1, max: 64 })
    .chain(n => fc.uint8Array({ minLength: 8 * n, maxLength: 8 * n }))
  const block = fc.uint8Array({ minLength: 8, maxLength: 8 })
  const message = fc.uint8Array({ maxLength: 300 })

  test('on check values and public keys', async () => {
    for (const { kid, usage } of CONTRACT_KEYS) {
      const [software, token] = await Promise.all(backends.map(backend => backend.bind({ kid, usage })))
      expect(token?.checkValue).toEqual(software?.checkValue)
      expect(token?.publicJwk).toEqual(software?.publicJwk)
    }
  })

  test('on enciphering, deciphering and re-enciphering blocks', async () => {
    await fc.assert(
      fc.asyncProperty(fc.constantFrom('PEK-2', 'PEK-3'), blocks, async (kid, data) => {
        const enciphered = await agree([kid], (_backend, keys) => operationsOf(first(keys)).encipher(data))
        const clear = await agree([kid], (_backend, keys) => operationsOf(first(keys)).decipher(enciphered))
        expect(clear).toEqual(data)
        await agree([kid, 'PEK-CLOSED'], (_backend, keys) =>
          operationsOf(first(keys)).reencipher(keys[1] ?? first(keys), enciphered),
        )
      }),
      { numRuns },
    )
  })

  test.each<[string, MacRequest['algorithm']]>([
    ['MAC-1', 'iso9797-1-alg1'],
    ['MAC-3', 'iso9797-1-alg3'],
  ])('on MACs of %s', async (kid, algorithm) => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom<(1 | 2 | 3)[]>(1, 2, 3),
        fc.option(block, { nil: undefined }),
        message,
        async (padding, iv, text) => {
          const request = iv === undefined ? { algorithm, padding } : { algorithm, padding, iv }
          await agree([kid], (_backend, keys) => operationsOf(first(keys)).mac(request, text))
        },
      ),
      { numRuns },
    )
  })

  test('on CMAC with TDEA and AES', async () => {
    await fc.assert(
      fc.asyncProperty(fc.constantFrom('CMAC-T', 'CMAC-A', 'PRW-G', 'PRW-V'), message, async (kid, text) => {
        await agree([kid], (_backend, keys) =>
          operationsOf(first(keys)).mac({ algorithm: 'cmac', padding: 'none' }, text),
        )
      }),
      { numRuns },
    )
  })

  test('on content keys, from random ephemeral keys', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom('JWE-D1', 'JWE-BOB'),
        fc.uint8Array({ maxLength: 200 }),
        fc.constantFrom(16, 24, 32, 64),
        async (kid, otherInfo, length) => {
          const ephemeralPublicKey = new Uint8Array(createECDH('prime256v1').generateKeys())
          await agree([kid], (_backend, keys) =>
            operationsOf(first(keys)).deriveContentKey({ ephemeralPublicKey, otherInfo, length }),
          )
        },
      ),
      { numRuns },
    )
  })
})
