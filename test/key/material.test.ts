import {
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  ECDH,
  generateKeyPairSync,
  type KeyObject,
} from 'node:crypto'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { publicPoint, readMaterial, requireSoundMaterial } from '../../src/key/material.js'
import { KEY_BYTES, type KeyAlgorithm } from '../../src/primitives/algorithms.js'
import { es256PrivateKey } from '../../src/primitives/p256.js'
import { failure } from '../support/errors.js'
import { bytes, hex } from '../support/vectors.js'

const TDEA = '0123456789ABCDEFFEDCBA9876543210'
const EC = {
  kty: 'EC',
  crv: 'P-256',
  x: 'UbInEqNbZZZ9SJptBwKTKO6qslSyuWvMkVK44Bx_d8U',
  y: 'PUxeHMNVL0VRxOYJrkHcpe6sap7IG-Are0QborZDngI',
  d: 'VS9rHVw6S5GQoWbKlXsW03kZH7U-NJcnfJLTIZyfRHs',
} as const
const SCALAR = hex(Buffer.from(EC.d, 'base64url'))
const ONE = `${'00'.repeat(31)}01`
const SMALL = `${'00'.repeat(3)}${SCALAR.slice(6)}`
/** The prime of the curve. */
const P = 2n ** 256n - 2n ** 224n + 2n ** 192n + 2n ** 96n - 1n
const base64url = (hexText: string): string => Buffer.from(hexText, 'hex').toString('base64url')

afterEach(() => vi.restoreAllMocks())

describe('ERR_KEY_MATERIAL says', () => {
  const rows: readonly [string, () => unknown, KeyAlgorithm][] = [
    ['tdea-2key takes 16 bytes', () => new Uint8Array(15), 'tdea-2key'],
    ['tdea-3key takes 24 bytes', () => TDEA, 'tdea-3key'],
    ['aes-256 takes 32 bytes', () => createSecretKey(bytes(TDEA)), 'aes-256'],
    ['tdea-2key takes 16 bytes', () => 'AB'.repeat(32), 'tdea-2key'],
    ['the material is not hex of a key', () => 'AB'.repeat(33), 'tdea-2key'],
    ['the material is not hex of a key', () => TDEA.slice(1), 'tdea-2key'],
    ['a secret KeyObject is no P-256 key', () => createSecretKey(bytes(SCALAR)), 'ec-p256'],
    ['a public key is no key material', () => createPublicKey({ key: { ...EC }, format: 'jwk' }), 'ec-p256'],
    [
      'a private KeyObject is no secret key',
      () => createPrivateKey({ key: { ...EC }, format: 'jwk' }),
      'tdea-2key',
    ],
    ['the KeyObject is of another type', () => keyOf('rsa-pss'), 'ec-p256'],
    ['the KeyObject is of another type', () => keyOf('ed25519'), 'ec-p256'],
    ['the KeyObject is of another type', () => keyOf('secp384r1'), 'ec-p256'],
    // Of the same lengths.
    ['the KeyObject is of another type', () => keyOf('secp256k1'), 'ec-p256'],
    ['the KeyObject is of another type', () => keyOf('brainpoolP256r1'), 'ec-p256'],
    ['the JWK is not of type oct', () => EC, 'aes-256'],
    ['the JWK is not of type EC', () => ({ ...EC, kty: 'OKP' }), 'ec-p256'],
    ['the JWK is not of type EC', () => Object.create(EC), 'ec-p256'],
    ['the JWK holds no private or secret value', () => ({ ...EC, d: undefined }), 'ec-p256'],
    ['the JWK holds no private or secret value', () => ({ ...EC, d: `${EC.d}=` }), 'ec-p256'],
    ['the JWK holds no private or secret value', () => ({ kty: 'oct', k: [base64url(TDEA)] }), 'tdea-2key'],
    ['the JWK holds no private or secret value', () => ({ kty: 'oct', k: 'A'.repeat(66) }), 'tdea-2key'],
    ['tdea-2key takes 16 bytes', () => ({ kty: 'oct', k: 'A'.repeat(64) }), 'tdea-2key'],
    ['the JWK is not a P-256 key', () => ({ ...EC, crv: 'P-384' }), 'ec-p256'],
    ['the JWK is not a P-256 key', () => ({ ...EC, x: EC.y }), 'ec-p256'],
    [
      'the private and the public half of the JWK do not belong together',
      () => ({ ...EC, d: base64url(ONE) }),
      'ec-p256',
    ],
    [
      // The other point of the same x.
      'the private and the public half of the JWK do not belong together',
      () => ({ ...EC, y: base64url((P - BigInt(`0x${hex(Buffer.from(EC.y, 'base64url'))}`)).toString(16)) }),
      'ec-p256',
    ],
    ['the private value is not a P-256 scalar', () => '00'.repeat(32), 'ec-p256'],
    ['the private value is not a P-256 scalar', () => new Uint8Array(32).fill(0xff), 'ec-p256'],
  ]
  test.each(rows)('«%s»', async (message, material, algorithm) => {
    const call = () => readMaterial('K', material() as never, algorithm)
    const error = await failure(call, 'ERR_KEY_MATERIAL', [TDEA, EC.d, SCALAR])
    expect(error.message).toBe(`key K: ${message}`)
    expect(error).toHaveProperty('kid', 'K')
  })

  function keyOf(name: string): KeyObject {
    if (name === 'rsa-pss') return generateKeyPairSync(name, { modulusLength: 1024 }).privateKey
    if (name === 'ed25519') return generateKeyPairSync(name).privateKey
    return generateKeyPairSync('ec', { namedCurve: name }).privateKey
  }
})

test.each([undefined, null, 7, true])('%j is no form of key material: ERR_ARGUMENT', async material => {
  const { message } = await failure(() => readMaterial('K', material as never, 'aes-128'), 'ERR_ARGUMENT')
  expect(message).toBe('key K: material must be bytes, hex, a JWK or a KeyObject')
})

test('bytes whose buffer was taken away are refused by their name', async () => {
  const material = bytes(TDEA)
  structuredClone(material.buffer, { transfer: [material.buffer as ArrayBuffer] })
  const { message } = await failure(() => readMaterial('K', material, 'aes-128'), 'ERR_ARGUMENT')
  expect(message).toBe('material must be a Uint8Array whose buffer is still attached')
})

describe('read', () => {
  test.each<[string, () => unknown, KeyAlgorithm, string]>([
    ['bytes', () => bytes(TDEA), 'tdea-2key', TDEA],
    ['hex', () => TDEA.toLowerCase(), 'tdea-2key', TDEA],
    ['hex of the longest key', () => TDEA + TDEA, 'aes-256', TDEA + TDEA],
    ['an oct JWK', () => ({ kty: 'oct', k: base64url(TDEA) }), 'aes-128', TDEA],
    ['a secret KeyObject', () => createSecretKey(bytes(TDEA)), 'aes-128', TDEA],
    ['an EC JWK', () => EC, 'ec-p256', SCALAR],
    ['a private KeyObject', () => createPrivateKey({ key: { ...EC }, format: 'jwk' }), 'ec-p256', SCALAR],
    ['a private KeyObject without its point', () => es256PrivateKey(bytes(SCALAR)), 'ec-p256', SCALAR],
    [
      'a private KeyObject whose scalar begins with zeros',
      () => es256PrivateKey(bytes(SMALL)),
      'ec-p256',
      SMALL,
    ],
    ['a scalar', () => bytes(SCALAR), 'ec-p256', SCALAR],
    ['a scalar in hex', () => SCALAR, 'ec-p256', SCALAR],
  ])('%s', (_name, material, algorithm, expected) => {
    const read = readMaterial('K', material() as never, algorithm)
    expect(hex(read)).toBe(expected)
    expect(read.buffer.byteLength).toBe(KEY_BYTES[algorithm])
  })

  test('a private KeyObject is exported once, by DER and not as text, and what was exported is wiped', () => {
    const material = createPrivateKey({ key: { ...EC }, format: 'jwk' })
    const exported = vi.spyOn(material, 'export')
    expect(hex(readMaterial('K', material, 'ec-p256'))).toBe(SCALAR)
    expect(exported.mock.calls).toEqual([[{ format: 'der', type: 'sec1' }]])
    const der = exported.mock.results[0]?.value as unknown as Uint8Array
    expect(der.length).toBeGreaterThan(32)
    expect(der.every(byte => byte === 0)).toBe(true)
  })

  test('the public point of a scalar is the one of its JWK', () => {
    const point = publicPoint('K', bytes(SCALAR))
    const stated = `04${hex(Buffer.from(EC.x, 'base64url'))}${hex(Buffer.from(EC.y, 'base64url'))}`
    expect(hex(point)).toBe(stated)
    expect(point.buffer.byteLength).toBe(65)
  })
})

describe('weak keys', () => {
  const weak = bytes('01'.repeat(16))

  test.each(['tdea-2key', 'tdea-3key'] as const)('are refused for %s', async algorithm => {
    const { message } = await failure(() => requireSoundMaterial('K', weak, algorithm), 'ERR_KEY_WEAK')
    expect(message).toBe('key K: degenerate, weak or semi-weak TDEA key')
  })

  test.each(['aes-128', 'ec-p256'] as const)('are none where the algorithm is %s', algorithm => {
    expect(requireSoundMaterial('K', weak, algorithm)).toBeUndefined()
  })
})

describe('wiping', () => {
  test('what a KeyObject exported is wiped', () => {
    const key = createSecretKey(bytes(TDEA))
    const exported = vi.spyOn(key, 'export')
    expect(hex(readMaterial('K', key, 'aes-128'))).toBe(TDEA)
    expect(exported.mock.results.map(({ value }) => hex(value as Uint8Array))).toEqual(['00'.repeat(16)])
  })

  test('the copy is wiped where it does not fit', async () => {
    const copies: Uint8Array[] = []
    const Real = Uint8Array
    class Watched extends Real {
      static get [Symbol.species](): typeof Uint8Array {
        return Real
      }
      constructor(memory: ArrayBuffer) {
        super(memory)
        copies.push(this)
      }
    }
    const material = bytes(`${TDEA}FF`)
    vi.stubGlobal('Uint8Array', Watched)
    try {
      await failure(() => readMaterial('K', material, 'aes-128'), 'ERR_KEY_MATERIAL')
    } finally {
      vi.unstubAllGlobals()
    }
    expect(copies.filter(({ length }) => length === 17).map(copy => hex(copy))).toEqual(['00'.repeat(17)])
    expect(hex(material)).toBe(`${TDEA}FF`)
  })

  test.each([
    ['a scalar', SCALAR, undefined],
    ['no scalar', '00'.repeat(32), 'ERR_KEY_MATERIAL'],
  ])('after %s, OpenSSL is given the scalar one to hold', (_name, scalar, code) => {
    const set = vi.spyOn(ECDH.prototype, 'setPrivateKey')
    const call = () => publicPoint('K', bytes(scalar))
    if (code === undefined) call()
    else expect(call).toThrow(expect.objectContaining({ code }))
    expect(set.mock.calls.map(([given]) => hex(given as never))).toEqual([scalar, ONE])
  })
})
