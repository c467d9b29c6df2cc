import { afterEach, expect, test, vi } from 'vitest'
import { es256PrivateKey } from '../../src/primitives/p256.js'

afterEach(() => vi.restoreAllMocks())

test('the DER that a private key is made from is wiped, also where it is none', () => {
  const scalar = Uint8Array.from(Buffer.from('VS9rHVw6S5GQoWbKlXsW03kZH7U-NJcnfJLTIZyfRHs', 'base64url'))
  const set = vi.spyOn(Uint8Array.prototype, 'set')
  expect(es256PrivateKey(scalar).asymmetricKeyType).toBe('ec')
  expect(() => es256PrivateKey(scalar.subarray(1))).toThrow()
  const written = [...new Set(set.mock.contexts as Uint8Array[])].filter(({ length }) => length > 32)
  expect(written).toHaveLength(2)
  for (const der of written) expect(der.every(byte => byte === 0)).toBe(true)
})
