import { expect, test } from 'vitest'
import { es256PrivateKey } from '../../src/primitives/p256.js'
import { buffersMadeBy } from '../leaks/recorder.js'

test('the DER that a private key is made from is wiped, also where it is none', async () => {
  const scalar = Uint8Array.from(Buffer.from('VS9rHVw6S5GQoWbKlXsW03kZH7U-NJcnfJLTIZyfRHs', 'base64url'))
  const { buffers } = await buffersMadeBy(() => {
    expect(es256PrivateKey(scalar).asymmetricKeyType).toBe('ec')
    expect(() => es256PrivateKey(scalar.subarray(1))).toThrow()
  })
  const written = buffers.filter(({ byteLength }) => byteLength > 32 && byteLength < 128)
  expect(written).toHaveLength(2)
  for (const der of written) expect(new Uint8Array(der).every(byte => byte === 0)).toBe(true)
})
