import { createECDH, createPublicKey } from 'node:crypto'
import { describe, expect, test, vi } from 'vitest'
import { isP256Point, jwkOfPoint, pointOfJwk, pointOfText } from '../../src/primitives/p256.js'
import { ecKeyPair } from '../support/key-pair.js'
import { bytes, field, hex, vectorsOf } from '../support/vectors.js'

const X = 'UbInEqNbZZZ9SJptBwKTKO6qslSyuWvMkVK44Bx_d8U'
const Y = 'PUxeHMNVL0VRxOYJrkHcpe6sap7IG-Are0QborZDngI'
const GOOD = { kty: 'EC', crv: 'P-256', x: X, y: Y }

describe('points', () => {
  const refused = vectorsOf('ecdh-p256', 'ecdh.p256', 'reject').filter(vector => vector.reason === 'point')

  test.each(refused)('$id is refused', ({ inputs }) => {
    expect(isP256Point(bytes(field(inputs['peerPublicKey'])))).toBe(false)
  })

  test.each(vectorsOf('ecdh-p256', 'ecdh.p256', 'accept'))('$id is accepted', ({ inputs }) => {
    expect(isP256Point(bytes(field(inputs['peerPublicKey'])))).toBe(true)
  })

  test('a coordinate from p on is refused, although it is on the curve modulo p', () => {
    const P = 0xffffffff00000001000000000000000000000000ffffffffffffffffffffffffn
    const encode = (x: bigint, y: bigint): Uint8Array =>
      bytes(`04${x.toString(16).padStart(64, '0')}${y.toString(16).padStart(64, '0')}`)
    const x = 0xd7325d7646cd60d80a92738ceb345f844cffaf35841022cab176f692de8de1d7n
    expect(isP256Point(encode(x, 5n))).toBe(true)
    expect(isP256Point(encode(x, 5n + P))).toBe(false)
    const [small, itsY] = [5n, 0x459243b9aa581806fe913bce99817ade11ca503c64d9a3c533415c083248fbccn]
    expect(isP256Point(encode(small, itsY))).toBe(true)
    expect(isP256Point(encode(small + P, itsY))).toBe(false)
  })

  test('200 keys that OpenSSL made are accepted, and refused with any one bit flipped', () => {
    for (let i = 0; i < 200; i++) {
      const jwk = ecKeyPair().publicKey.export({ format: 'jwk' })
      const point = pointOfJwk(jwk)
      expect(point).toBeDefined()
      if (point === undefined) return
      expect(isP256Point(point)).toBe(true)
      const at = 1 + ((i * 37) % 64)
      expect(isP256Point(point.map((byte, k) => (k === at ? byte ^ (1 << (i % 8)) : byte)))).toBe(false)
      expect(
        createPublicKey({ key: { ...jwkOfPoint(point) }, format: 'jwk' }).export({ format: 'jwk' }),
      ).toEqual(jwk)
    }
  })
})

describe('JWKs', () => {
  test.each([
    ['nothing', undefined],
    ['null', null],
    ['a string', 'EC'],
    ['another key type', { ...GOOD, kty: 'OKP' }],
    ['another curve', { ...GOOD, crv: 'P-384' }],
    ['no x', { kty: 'EC', crv: 'P-256', y: Y }],
    ['a number for y', { ...GOOD, y: 7 }],
    ['padding', { ...GOOD, x: `${X}=` }],
    ['a short coordinate', { ...GOOD, x: X.slice(1) }],
    ['a longer x, right as far as it goes', { ...GOOD, x: `${X}AAAA` }],
    ['a longer y, right as far as it goes', { ...GOOD, y: `${Y}AAAA` }],
    ['a coordinate with set trailing bits', { ...GOOD, x: `${X.slice(0, -1)}V` }],
    ['standard base64', { ...GOOD, x: X.replace('_', '/') }],
    ['white space', { ...GOOD, x: `${X.slice(0, -1)} ` }],
    ['x and y exchanged', { ...GOOD, x: Y, y: X }],
    ['inherited members', Object.create(GOOD)],
    ['a String object for x', { ...GOOD, x: new String(X) }],
    ['a String object for y', { ...GOOD, y: new String(Y) }],
    ['a character before the coordinate', { ...GOOD, x: `!${X}` }],
  ])('%s gives no point', (_name, jwk) => {
    expect(pointOfJwk(jwk)).toBeUndefined()
  })

  test('two texts are a point where neither has bits left over', () => {
    const [otherX, otherY] = [`${X.slice(0, -1)}V`, `${Y.slice(0, -1)}J`]
    expect(Buffer.from(otherX, 'base64url')).toEqual(Buffer.from(X, 'base64url'))
    expect(Buffer.from(otherY, 'base64url')).toEqual(Buffer.from(Y, 'base64url'))
    expect(pointOfText(X, Y)).toEqual(pointOfJwk(GOOD))
    expect([pointOfText(otherX, Y), pointOfText(X, otherY)]).toEqual([undefined, undefined])
  })

  test('a good one gives its point and back', () => {
    const point = pointOfJwk(GOOD)
    expect(point && hex(point)).toMatch(/^04[0-9A-F]{128}$/)
    expect(point && jwkOfPoint(point)).toEqual(GOOD)
  })
})

test.each(['least', 'greatest'])(
  'a machine whose numbers have their %s byte first finds the same points good, and signs',
  async byte => {
    /** Memory of such a machine, as far as points are read from it. */
    class BigEndian {
      readonly buffer: ArrayBuffer
      constructor(buffer: ArrayBuffer) {
        this.buffer = buffer
        const view = new DataView(buffer)
        const words = buffer.byteLength / 8
        const all = (): bigint[] => Array.from({ length: words }, (_, i) => view.getBigUint64(8 * i))
        // biome-ignore lint/correctness/noConstructorReturn: stands for an array, whose numbers are its members
        return new Proxy(this, {
          get: (target, name) => {
            if (name === 'buffer') return target.buffer
            if (name !== 'reverse') return view.getBigUint64(8 * Number(name))
            return () => {
              for (const [i, word] of all().reverse().entries()) view.setBigUint64(8 * i, word)
            }
          },
          set(_, name, value) {
            view.setBigUint64(8 * Number(name), value)
            return true
          },
        })
      }
    }
    if (byte === 'greatest') vi.stubGlobal('BigUint64Array', BigEndian)
    vi.resetModules()
    try {
      const there = await import('../../src/primitives/p256.js')
      const ecdh = createECDH('prime256v1')
      for (let i = 0; i < 8; i++) {
        const good = new Uint8Array(ecdh.generateKeys())
        expect(there.isP256Point(good)).toBe(true)
        const off = Uint8Array.from(good)
        off[64] = (off[64] ?? 0) ^ 1
        expect(there.isP256Point(off)).toBe(false)
        const privateKey = there.es256PrivateKey(bytes(ecdh.getPrivateKey('hex').padStart(64, '0')))
        const publicKey = there.es256PublicKey(there.jwkOfPoint(good))
        expect(there.verifyEs256(publicKey, off, there.signEs256(privateKey, off))).toBe(true)
      }
    } finally {
      vi.unstubAllGlobals()
      vi.resetModules()
    }
  },
)
