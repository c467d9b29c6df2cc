import {
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  generateKeyPairSync,
  randomBytes,
} from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { operationsOf } from '../../src/backend/key.js'
import { chooseEngine, engineWorks } from '../../src/backend/software/engine.js'
import { bitsliceEngine } from '../../src/backend/software/engine-bitslice.js'
import { forgeEngine } from '../../src/backend/software/engine-forge.js'
import { nodeEngine } from '../../src/backend/software/engine-node.js'
import { SoftwareDriver } from '../../src/backend/software/software.js'
import { type KeyAlgorithm, type KeyUsage, USAGES } from '../../src/index.js'
import { type KeyMaterial, softwareBackend } from '../../src/software.js'
import { buffersMadeBy } from '../leaks/recorder.js'
import { failure } from '../support/errors.js'
import { bytes, field, hex, vectorsOf } from '../support/vectors.js'

/** Two keys that encipher the zero block to 58B1F2…: found among 1,780. */
const NEAR = ['CB6D3E38370DD5B52A3D38F22C520B07', 'A858DA89FD5B2ADA9E6715EF2040EFE5'] as const
const TDEA = '0123456789ABCDEFFEDCBA9876543210'
const EC = {
  kty: 'EC',
  crv: 'P-256',
  x: 'UbInEqNbZZZ9SJptBwKTKO6qslSyuWvMkVK44Bx_d8U',
  y: 'PUxeHMNVL0VRxOYJrkHcpe6sap7IG-Are0QborZDngI',
  d: 'VS9rHVw6S5GQoWbKlXsW03kZH7U-NJcnfJLTIZyfRHs',
} as const
const ORDER = 'FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551'

const open = (material: unknown, algorithm: KeyAlgorithm = 'tdea-2key', usage: KeyUsage = 'pin-encryption') =>
  softwareBackend({ keys: [{ kid: 'K', usage, algorithm, material: material as KeyMaterial }] })

describe('options', () => {
  test.each([
    undefined,
    null,
    {},
    { keys: 'none' },
    { keys: [], engin: 'auto' },
    { keys: [], engine: 'openssl' },
    { keys: [null] },
    { keys: [{ kid: 'K', usage: 'pin-encryption', algorithm: 'tdea-2key', material: TDEA, kcv: '08D7B4' }] },
    { keys: [{ kid: '', usage: 'pin-encryption', algorithm: 'tdea-2key', material: TDEA }] },
    { keys: [{ kid: 'K', usage: 'toString', algorithm: 'tdea-2key', material: TDEA }] },
    { keys: [{ kid: 'K', usage: 'pin-encryption', algorithm: 'des', material: TDEA }] },
    { keys: [{ kid: 'K', usage: 'pin-encryption', algorithm: 'tdea-2key', material: 7 }] },
    { keys: [{ kid: 'K', usage: 'pin-encryption', algorithm: 'tdea-2key' }] },
  ])('%j is ERR_ARGUMENT', async options => {
    await failure(() => softwareBackend(options as never), 'ERR_ARGUMENT', [TDEA])
  })
})

describe('key material', () => {
  const bad: readonly [string, unknown, KeyAlgorithm][] = [
    ['single DES', TDEA.slice(0, 16), 'tdea-2key'],
    ['15 bytes', TDEA.slice(2), 'tdea-2key'],
    ['24 bytes for two keys', TDEA + TDEA.slice(0, 16), 'tdea-2key'],
    ['16 bytes for three keys', TDEA, 'tdea-3key'],
    ['an empty string', '', 'aes-128'],
    ['a text longer than any key', 'AB'.repeat(4096), 'aes-128'],
    ['a secret KeyObject for P-256', createSecretKey(bytes('11'.repeat(32))), 'ec-p256'],
    ['no hex', 'Z'.repeat(32), 'aes-128'],
    ['odd hex', TDEA.slice(1), 'tdea-2key'],
    ['an EC JWK for TDEA', EC, 'tdea-2key'],
    ['an oct JWK for P-256', { kty: 'oct', k: 'AAAAAAAAAAAAAAAAAAAAAA' }, 'ec-p256'],
    ['an oct JWK without k', { kty: 'oct' }, 'tdea-2key'],
    ['an oct JWK with a long k', { kty: 'oct', k: 'A'.repeat(64) }, 'tdea-2key'],
    ['a public JWK', { ...EC, d: undefined }, 'ec-p256'],
    ['a JWK whose halves differ', { ...EC, d: `A${EC.d.slice(1)}` }, 'ec-p256'],
    ['a JWK with a short d', { ...EC, d: EC.d.slice(0, 40) }, 'ec-p256'],
    ['a JWK off the curve', { ...EC, x: EC.y }, 'ec-p256'],
    ['the scalar zero', '00'.repeat(32), 'ec-p256'],
    ['the group order as scalar', ORDER, 'ec-p256'],
    ['a public KeyObject', createPublicKey({ key: { ...EC }, format: 'jwk' }), 'ec-p256'],
    ['an RSA KeyObject', generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey, 'ec-p256'],
    ['a P-384 KeyObject', generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey, 'ec-p256'],
    [
      'a DSA KeyObject',
      generateKeyPairSync('dsa', { modulusLength: 2048, divisorLength: 256 }).privateKey,
      'ec-p256',
    ],
  ]
  test.each(bad)('%s is ERR_KEY_MATERIAL', async (_name, material, algorithm) => {
    const usage =
      algorithm === 'ec-p256' ? 'jwe-key-agreement' : algorithm === 'aes-128' ? 'cmac' : 'pin-encryption'
    await failure(() => open(material, algorithm, usage), 'ERR_KEY_MATERIAL', [TDEA, EC.d])
  })

  const scalars = vectorsOf('ecdh-p256', 'ecdh.p256', 'reject').filter(
    ({ reason }) => reason === 'private-key',
  )
  test.each(scalars)('$id: $note', async ({ inputs }) => {
    await failure(() => open(inputs['privateKey'], 'ec-p256', 'jwe-key-agreement'), 'ERR_KEY_MATERIAL')
  })

  test('a bad key among good ones: nothing is opened', async () => {
    const good = { kid: 'A', usage: 'pin-encryption', algorithm: 'tdea-2key', material: TDEA } as const
    await failure(
      () => softwareBackend({ keys: [good, { ...good, kid: 'B', material: '00' }] }),
      'ERR_KEY_MATERIAL',
    )
  })

  const good: readonly [string, KeyMaterial][] = [
    ['hex', TDEA],
    ['lower-case hex', TDEA.toLowerCase()],
    ['bytes', bytes(TDEA)],
    ['a Buffer', Buffer.from(TDEA, 'hex')],
    ['an oct JWK', { kty: 'oct', k: Buffer.from(TDEA, 'hex').toString('base64url') }],
    ['a secret KeyObject', createSecretKey(bytes(TDEA))],
  ]
  test.each(good)('TDEA from %s', async (_name, material) => {
    await using backend = await open(material)
    const key = await backend.bind({ kid: 'K', usage: 'pin-encryption', kcv: '08D7B4' })
    expect(key.parity).toBe('odd')
  })

  test.each([
    ['a JWK', EC],
    ['a private KeyObject', createPrivateKey({ key: { ...EC }, format: 'jwk' })],
    ['the scalar as bytes', Uint8Array.from(Buffer.from(EC.d, 'base64url'))],
    ['the scalar as hex', Buffer.from(EC.d, 'base64url').toString('hex')],
  ] as const)('P-256 from %s', async (_name, material) => {
    await using backend = await open(material, 'ec-p256', 'jwe-key-agreement')
    const key = await backend.bind({ kid: 'K', usage: 'jwe-key-agreement' })
    expect(key.publicJwk).toEqual({ kty: 'EC', crv: 'P-256', x: EC.x, y: EC.y })
    expect(key.checkValue.value).toBe('ASDsL-Jx2XOkRnFtqW-QblWY-mDnQW2LgapadFx75tA')
    expect(key.parity).toBe('unknown')
  })

  test('is copied: wiping the input afterwards changes nothing', async () => {
    const material = bytes(TDEA)
    await using backend = await open(material)
    material.fill(0)
    await backend.bind({ kid: 'K', usage: 'pin-encryption', kcv: '08D7B4' })
  })

  test('without odd parity is bound, and says so', async () => {
    await using backend = await open('1123456789ABCDEFFEDCBA9876543210')
    expect((await backend.bind({ kid: 'K', usage: 'pin-encryption' })).parity).toBe('mixed')
  })

  test('the same key for another usage is found among thousands, parity and K1‖K2‖K1 notwithstanding', async () => {
    const keys = Array.from({ length: 3000 }, (_, i) => ({
      kid: `K-${i}`,
      usage: i % 2 === 0 ? ('pin-encryption' as const) : ('retail-mac' as const),
      algorithm: 'tdea-2key' as const,
      material: randomBytes(16),
    }))
    await using backend = await softwareBackend({ keys })
    for (const { kid, usage } of [keys[0], keys[1234], keys[2999]].flatMap(key => key ?? [])) {
      expect((await backend.bind({ kid, usage })).kid).toBe(kid)
    }
    const [first] = keys
    if (first === undefined) throw new Error('there is a key')
    const other = first.material.map(byte => byte ^ 1)
    const twin = {
      kid: 'TWIN',
      usage: 'cbc-mac' as const,
      algorithm: 'tdea-3key' as const,
      material: Uint8Array.from([...other, ...other.subarray(0, 8)]),
    }
    await failure(() => softwareBackend({ keys: [...keys, twin] }), 'ERR_KEY_USAGE', [hex(first.material)])
  })

  test('two keys whose check values agree by chance are two keys', async () => {
    // As in test/pkcs11/keys.test.ts, where a token cannot tell.
    const [one, other] = NEAR
    await using backend = await softwareBackend({
      keys: [
        { kid: 'A', usage: 'pin-encryption', algorithm: 'tdea-2key', material: one },
        { kid: 'B', usage: 'retail-mac', algorithm: 'tdea-2key', material: other },
      ],
    })
    const a = await backend.bind({ kid: 'A', usage: 'pin-encryption' })
    const b = await backend.bind({ kid: 'B', usage: 'retail-mac' })
    expect(a.checkValue).toEqual(b.checkValue)
  })

  test('of one kind is refused for two usages, but PRW generate and verify share theirs', async () => {
    const key = { kid: 'A', usage: 'pin-encryption', algorithm: 'tdea-2key', material: TDEA } as const
    await failure(
      () => softwareBackend({ keys: [key, { ...key, kid: 'B', usage: 'retail-mac' }] }),
      'ERR_KEY_USAGE',
      [TDEA],
    )
    await using backend = await softwareBackend({
      keys: [
        { ...key, usage: 'prw-generate' },
        { ...key, kid: 'B', usage: 'prw-verify' },
      ],
    })
    await backend.bind({ kid: 'A', usage: 'prw-generate' })
    await backend.bind({ kid: 'B', usage: 'prw-verify' })
  })

  test('of a P-256 key is refused for key agreement and signing, as a JWK and as a scalar', async () => {
    const key = { kid: 'A', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: EC } as const
    const scalar = Buffer.from(EC.d, 'base64url')
    for (const material of [EC, scalar]) {
      const keys = [key, { ...key, kid: 'B', usage: 'jwt-signing', material } as const]
      await failure(() => softwareBackend({ keys }), 'ERR_KEY_USAGE', [EC.d, hex(scalar)])
    }
  })

  test('a check value by a method the key does not have is refused', async () => {
    await using backend = await softwareBackend({
      keys: [
        { kid: 'T', usage: 'pin-encryption', algorithm: 'tdea-2key', material: TDEA },
        { kid: 'E', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: EC },
      ],
    })
    const thumbprint = { method: 'jwk-thumbprint', value: 'A'.repeat(43) } as const
    await failure(() => backend.bind({ kid: 'T', usage: 'pin-encryption', kcv: thumbprint }), 'ERR_ARGUMENT')
    const zero = { method: 'encrypt-zero', value: '08D7B4' } as const
    await failure(() => backend.bind({ kid: 'E', usage: 'jwe-key-agreement', kcv: zero }), 'ERR_ARGUMENT')
  })

  test('an algorithm that the usage does not admit is refused at bind', async () => {
    await using backend = await open(TDEA, 'aes-128', 'cbc-mac')
    await failure(() => backend.bind({ kid: 'K', usage: 'cbc-mac' }), 'ERR_KEY_ALGORITHM')
  })
})

describe('what closing and failing leave', () => {
  test('keys that were read before one that is bad are wiped', async () => {
    const first = Buffer.from(TDEA, 'hex')
    const keys = [
      { kid: 'A', usage: 'pin-encryption', algorithm: 'tdea-2key', material: TDEA },
      { kid: 'B', usage: 'pin-encryption', algorithm: 'tdea-2key', material: '00' },
    ] as const
    const { buffers } = await buffersMadeBy(() =>
      failure(() => softwareBackend({ keys, engine: 'node:crypto' }), 'ERR_KEY_MATERIAL'),
    )
    expect(buffers.filter(buffer => Buffer.from(buffer).includes(first))).toEqual([])
  })

  test('every cipher is closed, and no scalar stays', async () => {
    const [opened, closed] = [new Set<string>(), new Set<string>()]
    const engine: typeof nodeEngine = {
      ...nodeEngine,
      open: key => {
        const name = `${opened.size}`
        opened.add(name)
        const cipher = nodeEngine.open(key)
        const close = cipher.close.bind(cipher)
        return Object.assign(cipher, {
          close: () => {
            closed.add(name)
            close()
          },
        })
      },
    }
    const store = (kid: string, usage: KeyUsage, algorithm: KeyAlgorithm, bytes: string) =>
      ({
        kid,
        usage,
        mode: USAGES[usage].modes[0],
        algorithm,
        bytes: Uint8Array.from(Buffer.from(bytes, 'hex')),
      }) as const
    const driver = new SoftwareDriver(
      [
        store('PEK', 'pin-encryption', 'tdea-2key', TDEA),
        store('MAC', 'retail-mac', 'tdea-2key', '89E88CF7931444F334BD7547FC3F380C'),
        store('JWE', 'jwe-key-agreement', 'ec-p256', Buffer.from(EC.d, 'base64url').toString('hex')),
      ],
      engine,
    )
    const find = (kid: string, usage: KeyUsage) =>
      driver.find({ kid, usage, mode: USAGES[usage].modes[0], hostDecipher: true } as never)
    find('PEK', 'pin-encryption')
    find('MAC', 'retail-mac')
    const { ecdh } = find('JWE', 'jwe-key-agreement').ref
    expect(ecdh?.getPrivateKey('base64url')).toBe(EC.d)
    // Derived keys are opened for one MAC each, and closed after it, whether it succeeds or not.
    const { ref } = find('MAC', 'retail-mac')
    const data = new Uint8Array(16).fill(1)
    const steps = [
      { method: 'xor', data },
      { method: 'encipher', data },
    ] as const
    const request = { algorithm: 'iso9797-1-alg3', padding: 1, derivation: steps } as const
    const held = opened.size
    expect(await driver.mac(ref, request, data)).toHaveLength(8)
    await failure(async () => driver.mac(ref, { ...request, padding: 4 as never }, data), 'ERR_ARGUMENT')
    expect(opened.size).toBeGreaterThan(held + 2)
    expect(opened.size - closed.size).toBe(held)
    await driver.close()
    expect(closed).toEqual(opened)
    expect(ecdh?.getPrivateKey('hex')).toMatch(/^0*1$/)
  })
})

describe('engines', () => {
  const ecb = vectorsOf('tdea', 'tdea.encipher')

  test.each([nodeEngine, forgeEngine])('$name passes every TDEA vector', engine => {
    for (const { id, inputs, outputs } of ecb) {
      const cipher = engine.open(bytes(field(inputs['key'])))
      const clear = bytes(field(inputs['plaintext']))
      const enciphered = field(outputs?.['ciphertext'])
      if (inputs['mode'] === 'ECB') {
        expect(hex(cipher.encipher(clear)), id).toBe(enciphered)
        expect(hex(cipher.decipher(bytes(enciphered))), id).toBe(hex(clear))
      } else {
        expect(hex(cipher.encipherCbc(bytes(field(inputs['iv'])), clear)), id).toBe(enciphered)
      }
      cipher.close()
    }
  })

  test('capabilities name the engine that was chosen', async () => {
    for (const engine of ['auto', 'bitslice', 'node:crypto', 'node-forge'] as const) {
      await using backend = await softwareBackend({ keys: [], engine })
      expect(backend.capabilities().tdea).toBe(engine === 'auto' ? 'bitslice' : engine)
      expect((await backend.health()).ok).toBe(true)
    }
  })

  test('an engine that throws or answers wrongly does not work', () => {
    const broken = {
      ...nodeEngine,
      open: () => {
        throw new Error('unsupported')
      },
    }
    expect(engineWorks(broken)).toBe(false)
    const identity = {
      ...nodeEngine.open(bytes(TDEA)),
      encipher: (blocks: Uint8Array) => blocks,
      close: () => {},
    }
    expect(engineWorks({ name: 'node-forge', open: () => identity as never })).toBe(false)
    // Right alone, wrong among many: as if the vector code of this machine were at fault.
    const right = nodeEngine.open(bytes(TDEA))
    const oneOnly = {
      ...identity,
      encipher: (blocks: Uint8Array) => (blocks.length === 8 ? right.encipher(blocks) : blocks),
      decipher: (blocks: Uint8Array) => right.decipher(blocks),
      encipherCbc: (iv: Uint8Array, data: Uint8Array) => right.encipherCbc(iv, data),
    }
    expect(engineWorks({ name: 'bitslice', open: () => oneOnly as never })).toBe(false)
  })

  test('an unknown choice is ERR_ARGUMENT', async () => {
    for (const choice of ['openssl', 'toString', null, 1])
      await failure(() => chooseEngine(choice as never), 'ERR_ARGUMENT')
  })
})

describe('what the front never lets happen', () => {
  const identity = { name: 'node-forge', open: () => ({ ...nodeEngine.open(bytes(TDEA)) }) } as never

  test('an operation on a key that lacks its part is ERR_BACKEND_FAILED', async () => {
    const driver = new SoftwareDriver([], nodeEngine)
    const request = { ephemeralPublicKey: new Uint8Array(65), otherInfo: new Uint8Array(0), length: 32 }
    await failure(() => driver.encipher({}, new Uint8Array(8)), 'ERR_BACKEND_FAILED')
    await failure(() => driver.deriveContentKey({}, request), 'ERR_BACKEND_FAILED')
    await failure(() => driver.sign({}, new Uint8Array(8)), 'ERR_BACKEND_FAILED')
  })

  test('blocks are re-enciphered into memory of the driver, too', async () => {
    const [a, b] = [nodeEngine.open(bytes(TDEA)), bitsliceEngine.open(randomBytes(16))]
    const clear = randomBytes(24)
    const driver = new SoftwareDriver([], nodeEngine)
    const moved = driver.reencipher({ tdea: a }, { tdea: b }, a.encipher(clear))
    expect(Buffer.from(b.decipher(moved)).equals(clear)).toBe(true)
  })

  test('health of an engine that has stopped answering rightly is not ok', () => {
    expect(new SoftwareDriver([], identity).health()).toEqual({
      ok: false,
      detail: 'node-forge: TDEA known answer wrong',
    })
  })
})

describe('a cipher context that lives on', () => {
  test.each([nodeEngine, forgeEngine])('$name is not put out of step by part of a block', async engine => {
    const cipher = engine.open(bytes(TDEA))
    if (engine === nodeEngine) {
      for (const length of [0, 7, 9]) {
        await failure(() => cipher.encipher(new Uint8Array(length)), 'ERR_BACKEND_FAILED')
        await failure(() => cipher.decipher(new Uint8Array(length)), 'ERR_BACKEND_FAILED')
      }
    }
    expect(hex(cipher.encipher(new Uint8Array(8)))).toBe('08D7B4FB629D0885')
    cipher.close()
  })

  test('a view that lies about its length is read by its true length, and harms nobody', async () => {
    class Liar extends Uint8Array {
      override get length(): number {
        return 8
      }
    }
    await using backend = await open(TDEA)
    const key = await backend.bind({ kid: 'K', usage: 'pin-encryption' })
    await failure(() => operationsOf(key).encipher(new Liar(7)), 'ERR_LENGTH')
    expect(hex(await operationsOf(key).encipher(new Uint8Array(8)))).toBe('08D7B4FB629D0885')
    const detached = new Uint8Array(8)
    structuredClone(detached.buffer, { transfer: [detached.buffer] })
    await failure(() => operationsOf(key).encipher(detached), 'ERR_ARGUMENT')
  })
})

test('a block moved to a key whose results are no PIN blocks is what that key makes of it', async () => {
  const keys = [
    { kid: 'ZPK', usage: 'pin-encryption', algorithm: 'tdea-2key', material: TDEA },
    { kid: 'PVV', usage: 'visa-pvv', algorithm: 'tdea-2key', material: '00112233445566778899AABBCCDDEEFF' },
  ] as const
  await using backend = await softwareBackend({ keys })
  const zpk = await backend.bind({ kid: 'ZPK', usage: 'pin-encryption', hostDecipher: true })
  const pvv = await backend.bind({ kid: 'PVV', usage: 'visa-pvv' })
  const clear = Uint8Array.of(4, 0x12, 0x34, 0xff, 0xfe, 0xdc, 0xba, 0x98)
  const enciphered = await operationsOf(zpk).encipher(clear)
  const moved = await operationsOf(zpk).reencipher(pvv, enciphered)
  // It is done while it is called, and still not for a signal that has fired.
  await failure(
    () => operationsOf(zpk).reencipher(pvv, enciphered, { signal: AbortSignal.abort() }),
    'ERR_ABORTED',
  )
  expect(moved).toEqual(await operationsOf(pvv).encipher(clear))
})

describe('the same key for two purposes', () => {
  const pin = { kid: 'A', usage: 'pin-encryption', algorithm: 'tdea-2key', material: TDEA } as const
  test.each([
    ['as it is', 'tdea-2key', TDEA],
    ['with other parity bits', 'tdea-2key', '0022446688AACCEEFFDDBB9977553311'],
    ['spelt K1‖K2‖K1', 'tdea-3key', TDEA + TDEA.slice(0, 16)],
    ['as the first two of three', 'tdea-3key', `${TDEA}1F2E3D4C5B6A7988`],
    ['as the last two of three', 'tdea-3key', `1F2E3D4C5B6A7988${TDEA}`],
    ['as an AES key', 'aes-128', TDEA],
    ['as the beginning of a longer AES key', 'aes-192', `${TDEA}1F2E3D4C5B6A7988`],
    ['as the beginning of the longest AES key', 'aes-256', `${TDEA}1F2E3D4C5B6A79880F1E2D3C4B5A6978`],
  ] as const)('%s is refused', async (_name, algorithm, material) => {
    const usage = algorithm.startsWith('aes') ? 'cmac' : 'cbc-mac'
    const mac = { kid: 'B', usage, algorithm, material } as const
    await failure(() => softwareBackend({ keys: [pin, mac] }), 'ERR_KEY_USAGE', [TDEA])
    await failure(() => softwareBackend({ keys: [mac, pin] }), 'ERR_KEY_USAGE', [TDEA])
  })
})

test('the two engines agree on any key and any blocks', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(16, 24).chain(n => fc.uint8Array({ minLength: n, maxLength: n })),
      fc.integer({ min: 1, max: 20 }).chain(n => fc.uint8Array({ minLength: 8 * n, maxLength: 8 * n })),
      (key, blocks) => {
        const [a, b] = [nodeEngine.open(key), forgeEngine.open(key)]
        expect(hex(a.encipher(blocks))).toBe(hex(b.encipher(blocks)))
        expect(hex(a.decipher(blocks))).toBe(hex(b.decipher(blocks)))
        expect(hex(a.encipherCbc(key.subarray(0, 8), blocks))).toBe(
          hex(b.encipherCbc(key.subarray(0, 8), blocks)),
        )
      },
    ),
    { numRuns: 200 },
  )
})
