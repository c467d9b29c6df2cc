import { createPublicKey } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { es256PrivateKey, es256PublicKey, signEs256, verifyEs256 } from '../../src/primitives/p256.js'

/** RFC 7515, appendix A.3. */
const PUBLIC = {
  kty: 'EC',
  crv: 'P-256',
  x: 'f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU',
  y: 'x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0',
} as const
const SCALAR = Buffer.from('jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI', 'base64url')
const INPUT = Buffer.from(
  'eyJhbGciOiJFUzI1NiJ9.' +
    'eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ',
)
const SIGNATURE = Buffer.from(
  'DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q',
  'base64url',
)
const ORDER = Buffer.from('FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551', 'hex')
const [R, S] = [SIGNATURE.subarray(0, 32), SIGNATURE.subarray(32)]

describe('a signature that does not verify', () => {
  const flipped = (at: number): Buffer => {
    const copy = Buffer.from(SIGNATURE)
    copy[at] = (copy[at] ?? 0) ^ 1
    return copy
  }
  test.each<[string, Uint8Array]>([
    ['nothing', new Uint8Array(0)],
    ['64 zeros', new Uint8Array(64)],
    ['r = 0', Buffer.concat([Buffer.alloc(32), S])],
    ['s = 0', Buffer.concat([R, Buffer.alloc(32)])],
    ['r = n', Buffer.concat([ORDER, S])],
    ['s = n', Buffer.concat([R, ORDER])],
    ['r and s of all ones', new Uint8Array(64).fill(0xff)],
    ['s before r', Buffer.concat([S, R])],
    ['another bit of r', flipped(31)],
    ['another bit of s', flipped(63)],
    ['a byte short', SIGNATURE.subarray(0, 63)],
    ['a zero byte more', Buffer.concat([SIGNATURE, Buffer.of(0)])],
    ['DER', Buffer.concat([Buffer.from('30440220', 'hex'), R, Buffer.from('0220', 'hex'), S])],
  ])('%s', (_name, signature) => {
    expect(verifyEs256(es256PublicKey(PUBLIC), INPUT, signature)).toBe(false)
  })

  test('the right one, over another message or under another key', () => {
    const key = es256PublicKey(PUBLIC)
    expect(verifyEs256(key, INPUT.subarray(1), SIGNATURE)).toBe(false)
    const other = createPublicKey(es256PrivateKey(Buffer.alloc(32, 1)))
    expect(verifyEs256(other, INPUT, SIGNATURE)).toBe(false)
  })
})

test('the signature of RFC 7515, A.3 verifies; so does one of ours under the same key', () => {
  const key = es256PublicKey(PUBLIC)
  expect(verifyEs256(key, INPUT, SIGNATURE)).toBe(true)
  const own = signEs256(es256PrivateKey(SCALAR), INPUT)
  expect([own.constructor, own.length, own.buffer.byteLength]).toEqual([Uint8Array, 64, 64])
  expect(verifyEs256(key, INPUT, own)).toBe(true)
})

test('a scalar gives the private key of its point, and is not changed', () => {
  const before = Buffer.from(SCALAR)
  expect(createPublicKey(es256PrivateKey(SCALAR)).export({ format: 'jwk' })).toEqual(PUBLIC)
  expect(SCALAR).toEqual(before)
})

test.each([
  { ...PUBLIC, x: PUBLIC.y },
  { ...PUBLIC, crv: 'P-384' },
  { ...PUBLIC, kty: 'OKP' },
])('what is no P-256 point gives no public key: %j', jwk => {
  expect(() => es256PublicKey(jwk as never)).toThrow()
})
