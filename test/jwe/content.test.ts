import { describe, expect, it } from 'vitest'
import { importRecipient } from '../../src/jwe/recipient.js'
import { sealJwe } from '../../src/jwe/seal.js'
import { decryptContent, encryptContent } from '../../src/primitives/a256gcm.js'
import { buffersMadeBy } from '../leaks/recorder.js'
import { failure } from '../support/errors.js'
import { RECIPIENT, text, utf8 } from './support.js'

describe('A256GCM', () => {
  const key = new Uint8Array(32).fill(7)
  const clear = { aad: utf8('header'), iv: new Uint8Array(12), plaintext: utf8('content') }

  it('opens nothing with a tag that was cut, right as far as it goes', () => {
    const sealed = encryptContent(key, clear)
    for (const length of [4, 8, 12, 15]) {
      expect(() => decryptContent(key, { ...sealed, tag: sealed.tag.subarray(0, length) })).toThrow()
    }
  })

  it('opens what it sealed, into memory of its own', () => {
    const opened = decryptContent(key, encryptContent(key, clear))
    expect(opened && text(opened)).toBe('content')
    expect(opened?.buffer.byteLength).toBe(7)
  })

  it('leaves nothing of a content whose tag is wrong, at any length', async () => {
    for (const length of [20, 200]) {
      const plaintext = new Uint8Array(length).fill(0xa7)
      const sealed = encryptContent(key, { ...clear, plaintext })
      const tag = sealed.tag.map(byte => byte ^ 1)
      const { value, buffers } = await buffersMadeBy(() => decryptContent(key, { ...sealed, tag }))
      expect(value).toBeUndefined()
      expect(buffers.map(({ byteLength }) => byteLength)).toContain(length)
      const left = buffers.filter(buffer => Buffer.from(buffer).includes(Buffer.alloc(8, 0xa7)))
      expect(left).toEqual([])
    }
  })

  it('gives undefined where tag, header, IV or content is another', () => {
    const sealed = encryptContent(key, clear)
    for (const part of ['tag', 'aad', 'iv', 'ciphertext'] as const) {
      const changed = sealed[part].map((byte, i) => (i === 0 ? byte ^ 1 : byte))
      expect(decryptContent(key, { ...sealed, [part]: changed })).toBeUndefined()
    }
  })
})

it('a recipient without kid has a public JWK without kid', () => {
  const { kty, crv, x, y } = RECIPIENT
  expect(importRecipient({ kty, crv, x, y }).publicJwk).toStrictEqual({ kty, crv, x, y })
})

it('a plaintext whose buffer was taken away is refused by its name', async () => {
  const plaintext = utf8('content')
  structuredClone(plaintext.buffer, { transfer: [plaintext.buffer as ArrayBuffer] })
  const call = () => sealJwe({ plaintext, recipient: RECIPIENT })
  expect((await failure(call, 'ERR_ARGUMENT')).message).toBe(
    'plaintext must be a Uint8Array whose buffer is still attached',
  )
})
