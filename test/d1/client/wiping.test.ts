import { expect, test, vi } from 'vitest'
import { refuseClearPan } from '../../../src/d1/client/card-fields.js'
import { sealCardDetails } from '../../../src/d1.js'
import { Pan } from '../../../src/index.js'
import { buffersMadeBy } from '../../leaks/recorder.js'
import { failure } from '../../support/errors.js'

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

test.each<[string, () => unknown]>([
  ['not found', () => refuseClearPan(Pan.from('4000001234567899'), [['body', 'x-4000001234567898']])],
  [
    'found',
    () =>
      failure(
        () => refuseClearPan(Pan.from('4000001234567899'), [['body', 'x-4000001234567899']]),
        'ERR_D1_MESSAGE',
      ),
  ],
])('the digits of a PAN that is looked for are wiped where it is %s', async (_what, look) => {
  const { buffers } = await buffersMadeBy(look)
  expect(buffers.length).toBeGreaterThan(0)
  expect(buffers.filter(buffer => Buffer.from(buffer).includes('4000001234567899'))).toEqual([])
})
