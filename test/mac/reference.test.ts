/** The reference values for what a SECCOS profile can name, through the verb and the software backend's engines. */
import { describe, expect, test } from 'vitest'
import { fromHex, toHex } from '../../src/bytes.js'
import type { KeyAlgorithm, KeyUsage } from '../../src/key/usage.js'
import type { MacAlgorithm, MacPadding } from '../../src/mac/algorithm.js'
import { generateMac } from '../../src/mac/generate.js'
import { verifyMac } from '../../src/mac/verify.js'
import { softwareBackend } from '../../src/software.js'
import reference from '../../vectors/seccos-reference.json' with { type: 'json' }

const USAGE: Readonly<Record<MacAlgorithm, KeyUsage>> = {
  'iso9797-1-alg1': 'cbc-mac',
  'iso9797-1-alg3': 'retail-mac',
  cmac: 'cmac',
}
const CASES = reference.vectors.flatMap(({ id, operation, inputs, outputs }) => {
  if (operation !== 'mac.iso9797' && operation !== 'cmac') return []
  const iso: MacAlgorithm = inputs.algorithm === 1 ? 'iso9797-1-alg1' : 'iso9797-1-alg3'
  const algorithm: MacAlgorithm = operation === 'cmac' ? 'cmac' : iso
  const padding = (inputs.padding ?? 'none') as MacPadding
  const bytes = inputs.key.length / 2
  const cipher: KeyAlgorithm = inputs.cipher === 'AES' ? (bytes === 32 ? 'aes-256' : 'aes-128') : 'tdea-2key'
  return [
    { id, algorithm, padding, cipher, key: inputs.key, data: inputs.data ?? '', mac: outputs.mac ?? '' },
  ]
})

test('there are reference values', () => {
  expect(CASES.length).toBeGreaterThanOrEqual(7)
})

describe.each(['node:crypto', 'node-forge'] as const)('%s', engine => {
  test.each(CASES)(
    '$id: $algorithm padding $padding',
    async ({ algorithm, padding, cipher, key, data, mac }) => {
      const usage = USAGE[algorithm]
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
