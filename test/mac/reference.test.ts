/** The reference values for what a SECCOS profile can name, through the verb and the software backend's engines. */
import { describe, expect, test } from 'vitest'
import { fromHex, toHex } from '../../src/base/bytes.js'
import { generateMac, verifyMac } from '../../src/mac/mac.js'
import { softwareBackend } from '../../src/software.js'
import { REFERENCE_CASES } from './reference-cases.js'

test('there are reference values', () => {
  expect(REFERENCE_CASES.length).toBeGreaterThanOrEqual(7)
})

describe.each(['node:crypto', 'node-forge'] as const)('%s', engine => {
  test.each(REFERENCE_CASES)(
    '$id: $algorithm padding $padding',
    async ({ algorithm, padding, cipher, usage, key, data, mac }) => {
      await using backend = await softwareBackend({
        engine,
        keys: [{ kid: 'K', usage, algorithm: cipher, material: key }],
      })
      const input = {
        key: await backend.bind({ kid: 'K', usage }),
        message: fromHex(data, 'data'),
        algorithm,
        padding,
      }
      expect(toHex(await generateMac({ ...input, length: mac.length / 2 }))).toBe(mac)
      expect(await verifyMac({ ...input, mac: fromHex(mac, 'mac'), length: mac.length / 2 })).toBe(true)
      expect(await verifyMac({ ...input, mac: fromHex(mac.slice(0, 8), 'mac'), length: 4 })).toBe(true)
    },
  )
})
