/** Drivers and backends that sign wrongly: the front hands no such signature out, and the contract notices each of them. */

import { sign } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { operationsOf } from '../../src/backend/key.js'
import {
  type Backend,
  type BackendDriver,
  type Capabilities,
  openBackend,
  type P256PublicJwk,
} from '../../src/index.js'
import { failure } from '../support/errors.js'
import { brokenRules, type Fault } from '../support/faulty-backend.js'
import { ecKeyPair } from '../support/key-pair.js'

const PAIR = ecKeyPair()
const JWK = publicJwkOf(PAIR.publicKey)
const MESSAGE = new TextEncoder().encode('header.claims')
const ORDER = Buffer.from('FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551', 'hex')
const ZERO = Buffer.alloc(32)

type Sign = BackendDriver<undefined>['sign']

const es256 = (message: Uint8Array, key = PAIR.privateKey): Buffer =>
  sign('sha256', message, { key, dsaEncoding: 'ieee-p1363' })
const halves = (message: Uint8Array): [Buffer, Buffer] => {
  const signature = es256(message)
  return [signature.subarray(0, 32), signature.subarray(32)]
}

function publicJwkOf(key: typeof PAIR.publicKey): P256PublicJwk {
  const { x = '', y = '' } = key.export({ format: 'jwk' })
  return { kty: 'EC', crv: 'P-256', x, y }
}

/** Somebody's backend with one P-256 key by every kid, and this way to sign. */
function backendThatSigns(signs: Sign, { publicJwk }: { publicJwk: unknown } = { publicJwk: JWK }): Backend {
  const unused = () => Promise.reject(new Error('not of this test'))
  return openBackend<undefined>({
    name: 'signer',
    find: () => ({
      ref: undefined,
      algorithm: 'ec-p256',
      checkValue: { method: 'jwk-thumbprint', value: 'A'.repeat(43) },
      parity: 'unknown',
      ...(publicJwk === undefined ? {} : { publicJwk: publicJwk as P256PublicJwk }),
    }),
    encipher: unused,
    decipher: unused,
    reencipher: unused,
    mac: unused,
    deriveContentKey: unused,
    sign: signs,
    randomBytes: unused,
    capabilities: () => ({
      backend: 'signer',
      tdea: 'none',
      macs: { 'iso9797-1-alg1': 'none', 'iso9797-1-alg3': 'none', cmac: 'none', 'hmac-sha256': 'none' },
      derivation: 'none',
      keyAgreement: 'none',
      signing: 'native',
      reencipher: 'host',
      random: 'none',
      notes: [],
    }),
    health: () => ({ ok: true, detail: 'signer' }),
    close: () => {},
  })
}

const bind = (backend: Backend, kid = 'S') => backend.bind({ kid, usage: 'jwt-signing' })

describe('the front', () => {
  const WRONG: readonly (readonly [string, Sign])[] = [
    ['DER', (_ref, message) => sign('sha256', message, PAIR.privateKey)],
    ['a signature over another message', () => es256(Uint8Array.of(1))],
    ['a signature under another key', (_ref, message) => es256(message, ecKeyPair().privateKey)],
    [
      'a signature by SHA-512',
      (_ref, message) =>
        sign('sha512', message, {
          key: PAIR.privateKey,
          dsaEncoding: 'ieee-p1363',
        }),
    ],
    ['64 zeros', () => new Uint8Array(64)],
    ['64 times FF', () => new Uint8Array(64).fill(0xff)],
    ['r = 0', (_ref, message) => Buffer.concat([ZERO, halves(message)[1]])],
    ['s = 0', (_ref, message) => Buffer.concat([halves(message)[0], ZERO])],
    ['r = n', (_ref, message) => Buffer.concat([ORDER, halves(message)[1]])],
    ['s = n', (_ref, message) => Buffer.concat([halves(message)[0], ORDER])],
    ['s before r', (_ref, message) => Buffer.concat(halves(message).reverse())],
    ['63 bytes', (_ref, message) => es256(message).subarray(0, 63)],
    ['65 bytes', (_ref, message) => Buffer.concat([es256(message), Buffer.of(0)])],
    ['nothing', () => undefined as never],
    ['a late signature over another message', async () => es256(Uint8Array.of(1))],
    [
      'a signature over a message it has changed',
      (_ref, message) => {
        message[0] = 0
        return es256(message)
      },
    ],
  ]

  test.each(WRONG)('does not hand out %s: ERR_BACKEND_FAILED', async (_name, signs) => {
    const backend = backendThatSigns(signs)
    const key = await bind(backend)
    await failure(() => operationsOf(key).sign(MESSAGE), 'ERR_BACKEND_FAILED')
    await backend.close()
  })

  test('wipes what does not verify: a faulty signature can give the key away', async () => {
    const faulty = es256(Uint8Array.of(1))
    const backend = backendThatSigns(() => faulty)
    const key = await bind(backend)
    await failure(() => operationsOf(key).sign(MESSAGE), 'ERR_BACKEND_FAILED')
    expect(faulty.every(byte => byte === 0)).toBe(true)
  })

  test('hands out what verifies, also where the driver gave the message away to another thread', async () => {
    const backend = backendThatSigns(async (_ref, message) => {
      const moved = structuredClone(message, { transfer: [message.buffer as ArrayBuffer] })
      expect(message.length).toBe(0)
      return es256(moved)
    })
    const signature = await operationsOf(await bind(backend)).sign(MESSAGE)
    // And nothing is left in flight.
    await backend.close()
    expect([signature.length, signature.buffer.byteLength, signature.constructor]).toEqual([
      64,
      64,
      Uint8Array,
    ])
  })

  test.each<[string, unknown]>([
    ['no public key', undefined],
    ['a point off the curve', { ...JWK, x: JWK.y, y: JWK.x }],
    ['another curve', { ...JWK, crv: 'P-384' }],
    ['something else', { kty: 'oct' }],
  ])('does not bind a key for signing with %s: ERR_BACKEND_FAILED', async (_name, publicJwk) => {
    await failure(() => bind(backendThatSigns(() => ZERO, { publicJwk })), 'ERR_BACKEND_FAILED')
  })

  test('refuses one P-256 key for two usages, under two kids and in either order', async () => {
    const backend = backendThatSigns((_ref, message) => es256(message))
    await bind(backend, 'A')
    await bind(backend, 'B')
    await failure(() => backend.bind({ kid: 'C', usage: 'jwe-key-agreement' }), 'ERR_KEY_USAGE')
    const other = backendThatSigns((_ref, message) => es256(message))
    await other.bind({ kid: 'C', usage: 'jwe-key-agreement' })
    await failure(() => bind(other, 'A'), 'ERR_KEY_USAGE')
    await failure(() => bind(other, 'C'), 'ERR_KEY_USAGE')
  })
})

describe('the contract notices', () => {
  test('nothing, where nothing is wrong', async () => {
    expect(await brokenRules(/sign/i, {})).toEqual([])
  })

  // Not those of signals, which a key with other operations breaks.
  let shortened = false
  const SIGNING = /\bsign(?!al)/i

  test.each<[string, NonNullable<Fault['key']>]>([
    // Wrong in one thing each: all else is passed on.
    ['zeros', () => ({ sign: async () => new Uint8Array(64) })],
    [
      'a signature over another message',
      good => ({ sign: (_message, options) => good.sign(Uint8Array.of(1), options) }),
    ],
    [
      'the same signature always',
      good => {
        let first: Promise<Uint8Array> | undefined
        return {
          sign: (message, options) => {
            const mine = good.sign(message, options)
            first ??= mine
            return Promise.all([first, mine]).then(([signature]) => signature.slice())
          },
        }
      },
    ],
    [
      'halves without their leading zeros',
      good => ({
        sign: async (message, options) => {
          let signature = await good.sign(message, options)
          // One in 128 has such a half: of a few hundred perhaps none. The first one is made to have it.
          while (!shortened && signature[0] !== 0 && signature[32] !== 0)
            signature = await good.sign(message, options)
          shortened = true
          return Uint8Array.from([0, 32].flatMap(at => [...withoutZeros(signature.slice(at, at + 32))]))
        },
      }),
    ],
    [
      'DER',
      good => ({
        sign: async (message, options) => Uint8Array.of(0x30, 0x44, ...(await good.sign(message, options))),
      }),
    ],
    [
      'a slice of a larger buffer',
      good => ({
        sign: async (message, options) => {
          const roomy = new Uint8Array(128)
          roomy.set(await good.sign(message, options))
          return roomy.subarray(0, 64)
        },
      }),
    ],
    [
      'a message read too late',
      good => ({
        sign: async (message, options) => {
          await Promise.resolve()
          return good.sign(message, options)
        },
      }),
    ],
    [
      'no limit of the message',
      good => ({
        sign: (message, options) => good.sign(message.subarray(0, 65_536), options),
      }),
    ],
  ])('%s', async (_name, key) => {
    expect(await brokenRules(SIGNING, { key })).not.toEqual([])
  })

  test('a signal that is not heeded', async () => {
    const rule = /^an aborted signal/
    // To itself, which as this key it is no sibling of.
    const whole: NonNullable<Fault['key']> = (good, key) => ({
      reencipher: (_, ...call) => good.reencipher(key, ...call),
      sign: (...call) => good.sign(...call),
    })
    expect(await brokenRules(rule, { key: whole })).toEqual([])
    const key: Fault['key'] = (good, own) => ({ ...whole(good, own), sign: message => good.sign(message) })
    expect(await brokenRules(rule, { key })).toHaveLength(1)
  })

  test('a capability it does not have', async () => {
    const capabilities = (good: Backend) => (): Capabilities => ({ ...good.capabilities(), signing: 'none' })
    expect(
      await brokenRules(/sign/i, { backend: good => ({ capabilities: capabilities(good) }) }),
    ).not.toEqual([])
  })

  function withoutZeros(half: Uint8Array): Uint8Array {
    return half.subarray(half.findIndex(byte => byte !== 0))
  }
})
