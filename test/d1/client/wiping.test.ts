import { expect, test, vi } from 'vitest'
import { sealCardDetails } from '../../../src/d1.js'
import { Pan } from '../../../src/index.js'

const seen: { plaintext: Uint8Array; clear: string }[] = []
let fails = false

vi.mock('../../../src/jwe/seal.js', () => ({
  sealJwe: async ({ plaintext }: { plaintext: Uint8Array }) => {
    seen.push({ plaintext, clear: Buffer.from(plaintext).toString() })
    if (fails) throw new Error('no')
    return 'jwe'
  },
}))

test('the plaintext is wiped, after success and after failure', async () => {
  const details = { pan: Pan.from('4000001234567899'), exp: '1229', d1PublicJwk: {} }
  expect(await sealCardDetails(details)).toBe('jwe')
  fails = true
  await expect(sealCardDetails(details)).rejects.toThrow('no')
  expect(seen).toHaveLength(2)
  for (const { plaintext, clear } of seen) {
    expect(clear).toBe('{"pan":"4000001234567899","exp":"1229"}')
    expect(plaintext.every(byte => byte === 0)).toBe(true)
    expect(plaintext.buffer.byteLength).toBe(plaintext.length)
  }
})
