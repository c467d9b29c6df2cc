import { describe, expect, test } from 'vitest'
import { operationsOf } from '../../src/backend/key.js'
import type { SessionHandle, Template } from '../../src/backend/pkcs11/binding/binding.js'
import { CKA, CKF, CKK, CKM, CKO } from '../../src/backend/pkcs11/binding/constants.js'
import { Pkcs11Error } from '../../src/backend/pkcs11/binding/errors.js'
import { encipherByDeriving } from '../../src/backend/pkcs11/mechanisms/derivation.js'
import { readNumber } from '../../src/backend/pkcs11/mechanisms/objects.js'
import { pointOf } from '../../src/backend/pkcs11/mechanisms/p256.js'
import { P256_PARAMS, ROLE_BITS, roleAttribute } from '../../src/backend/pkcs11/mechanisms/templates.js'
import type { KeyUsage } from '../../src/index.js'
import { type FakeOptions, FakeToken } from './fake-token.js'
import { bindKey, errorOf, openBackendOn, openStoreOn, provisionFake } from './support.js'

const VALUE = Buffer.from('0123456789ABCDEFFEDCBA9876543210', 'hex')
const OTHER = Buffer.from('FEDCBA98765432100123456789ABCDEF', 'hex')
/** Two keys that encipher the zero block to 58B1F2…: found among 1,780. */
const SAME_KCV = [
  Buffer.from('CB6D3E38370DD5B52A3D38F22C520B07', 'hex'),
  Buffer.from('A858DA89FD5B2ADA9E6715EF2040EFE5', 'hex'),
] as const

/** A key that another tool made well, with some attributes changed. */
function planted(changes: Template): Template {
  const changed = new Set(changes.map(([type]) => type))
  const usual: Template = [
    [CKA.CLASS, CKO.SECRET_KEY],
    [CKA.KEY_TYPE, CKK.DES2],
    [CKA.TOKEN, true],
    [CKA.LABEL, 'K'],
    [CKA.PRIVATE, true],
    [CKA.MODIFIABLE, false],
    [CKA.SENSITIVE, true],
    [CKA.EXTRACTABLE, false],
    ...ROLE_BITS.map(bit => [roleAttribute(bit), bit === 'ENCRYPT'] as const),
    [CKA.VALUE, VALUE],
  ]
  return [...usual.filter(([type]) => !changed.has(type)), ...changes]
}

async function bindPlanted(
  templates: readonly Template[],
  usage: KeyUsage,
  more = {},
  fakeOptions: FakeOptions = {},
) {
  const fake = new FakeToken(fakeOptions)
  for (const template of templates) fake.plant(template)
  const backend = await openBackendOn(fake, more)
  return backend.bind({ kid: 'K', usage })
}

describe('a key that another tool made', () => {
  test('is bound where its attributes are right', async () => {
    const key = await bindPlanted([planted([])], 'pin-encryption')
    expect(key).toMatchObject({ algorithm: 'tdea-2key', parity: 'unknown' })
    expect(key.checkValue).toEqual({ method: 'encrypt-zero', value: '08D7B4' })
  })

  test.each([
    ['CKA_SENSITIVE false', [[CKA.SENSITIVE, false]], 'ERR_KEY_ATTRIBUTES', 'CKA_SENSITIVE'],
    ['CKA_SENSITIVE not shown', [[CKA.SENSITIVE, undefined]], 'ERR_KEY_ATTRIBUTES', 'CKA_SENSITIVE'],
    ['CKA_EXTRACTABLE true', [[CKA.EXTRACTABLE, true]], 'ERR_KEY_ATTRIBUTES', 'CKA_EXTRACTABLE'],
    ['CKA_EXTRACTABLE not shown', [[CKA.EXTRACTABLE, undefined]], 'ERR_KEY_ATTRIBUTES', 'CKA_EXTRACTABLE'],
    ['CKA_ENCRYPT false', [[CKA.ENCRYPT, false]], 'ERR_KEY_USAGE', 'needs CKA_ENCRYPT'],
    ['CKA_SIGN true', [[CKA.SIGN, true]], 'ERR_KEY_USAGE', 'CKA_SIGN is set'],
    ['CKA_WRAP true', [[CKA.WRAP, true]], 'ERR_KEY_USAGE', 'CKA_WRAP is set'],
    ['CKA_DERIVE true', [[CKA.DERIVE, true]], 'ERR_KEY_USAGE', 'CKA_DERIVE is set'],
    ['another class', [[CKA.CLASS, CKO.PRIVATE_KEY]], 'ERR_KEY_USAGE', 'private key'],
    ['a public key only', [[CKA.CLASS, CKO.PUBLIC_KEY]], 'ERR_KEY_NOT_FOUND', 'not in this token'],
    ['a session object', [[CKA.TOKEN, false]], 'ERR_KEY_NOT_FOUND', 'not in this token'],
    ['single DES', [[CKA.KEY_TYPE, CKK.DES]], 'ERR_KEY_ALGORITHM', 'CKK_DES'],
    ['no key type', [[CKA.KEY_TYPE, undefined]], 'ERR_KEY_ALGORITHM', 'without a key type'],
    ['an unknown key type', [[CKA.KEY_TYPE, 0x99]], 'ERR_KEY_ALGORITHM', 'CKK_0x99'],
    [
      'AES of unknown length',
      [
        [CKA.KEY_TYPE, CKK.AES],
        [CKA.VALUE, undefined],
      ],
      'ERR_KEY_MATERIAL',
      'unknown bytes',
    ],
    [
      'AES of 17 bytes',
      [
        [CKA.KEY_TYPE, CKK.AES],
        [CKA.VALUE, Buffer.alloc(17)],
      ],
      'ERR_KEY_MATERIAL',
      '17 bytes',
    ],
  ] as const)('%s: refused, with what to change', async (_name, changes, code, text) => {
    const error = await errorOf(() => bindPlanted([planted(changes)], 'pin-encryption'))
    expect(error).toMatchObject({ code, kid: 'K' })
    expect(error.message).toContain(text)
  })

  test.each([
    ['E', 'tdea-2key', 'WRAP', false],
    ['D', 'tdea-2key', 'UNWRAP', false],
    ['E', 'aes-128', 'WRAP', true],
    ['D', 'aes-128', 'UNWRAP', true],
  ] as const)(
    'a PIN key in mode %s, %s, with CKA_%s is refused where no block of it is translated inside',
    async (mode, algorithm, bit, translateInToken) => {
      const fake = new FakeToken()
      const isAes = algorithm === 'aes-128'
      fake.plant(
        planted([
          [CKA.ENCRYPT, mode === 'E'],
          [CKA.DECRYPT, mode === 'D'],
          [roleAttribute(bit), true],
          ...(isAes ? [[CKA.KEY_TYPE, CKK.AES] as const] : []),
        ]),
      )
      await using backend = await openBackendOn(fake, { translateInToken })
      const error = await errorOf(() => backend.bind({ kid: 'K', usage: 'pin-encryption', mode }))
      expect(error).toMatchObject({ code: 'ERR_KEY_USAGE', message: expect.stringContaining(`CKA_${bit}`) })
      // The control.
      fake.remove('K')
      if (isAes) return
      fake.plant(
        planted([
          [CKA.ENCRYPT, mode === 'E'],
          [CKA.DECRYPT, mode === 'D'],
        ]),
      )
      expect((await backend.bind({ kid: 'K', usage: 'pin-encryption', mode })).mode).toBe(mode)
    },
  )

  test('two by one label, also of different classes', async () => {
    for (const twin of [planted([]), planted([[CKA.CLASS, CKO.PRIVATE_KEY]])]) {
      expect(await errorOf(() => bindPlanted([planted([]), twin], 'pin-encryption'))).toMatchObject({
        code: 'ERR_KEY_AMBIGUOUS',
      })
    }
  })

  test('the keys option tells two apart by CKA_ID, and gives a kid another label', async () => {
    const twins = [
      planted([[CKA.ID, Buffer.of(1)]]),
      planted([
        [CKA.ID, Buffer.of(2)],
        [CKA.VALUE, OTHER],
      ]),
    ]
    const second = await bindPlanted(twins, 'pin-encryption', { keys: { K: { id: '02' } } })
    expect(second.checkValue.value).toBe('7B8358')
    const renamed = [planted([[CKA.LABEL, 'ISS-ZPK']])]
    const key = await bindPlanted(renamed, 'pin-encryption', { keys: { K: { label: 'ISS-ZPK' } } })
    expect(key.kid).toBe('K')
  })

  test.each(['P0BX', 'P0B ', 'XXX2', 'p0b2'])(
    'a CKA_ID that only looks like ours (%s) says nothing',
    async tag => {
      const id = Buffer.from(`${tag}0123456789ab`)
      expect((await bindPlanted([planted([[CKA.ID, id]])], 'cbc-mac')).usage).toBe('cbc-mac')
    },
  )

  test('a CKA_ID of ours says what a key is for, whatever its bits', async () => {
    const id = Buffer.from('P0B20123456789ab')
    expect(await errorOf(() => bindPlanted([planted([[CKA.ID, id]])], 'cbc-mac'))).toMatchObject({
      code: 'ERR_KEY_USAGE',
      message: expect.stringContaining('key K is for pin-encryption'),
    })
  })

  test('hostDecipher asks for CKA_DECRYPT', async () => {
    const fake = new FakeToken()
    fake.plant(planted([]))
    const backend = await openBackendOn(fake)
    expect(
      await errorOf(() => backend.bind({ kid: 'K', usage: 'pin-encryption', hostDecipher: true })),
    ).toMatchObject({ code: 'ERR_KEY_ATTRIBUTES' })
  })

  test('a retail MAC key without its K1 object, with two, and with one that is too wide', async () => {
    const id = Buffer.from('some id')
    const main = planted([[CKA.ID, id]])
    const chain = (changes: Template = []) =>
      planted([
        [CKA.LABEL, 'K/K1'],
        [CKA.ID, Buffer.concat([id, Buffer.from('K1')])],
        [CKA.KEY_TYPE, CKK.DES3],
        [CKA.VALUE, Buffer.alloc(24, 1)],
        ...changes,
      ])
    const bind = (...templates: Template[]) => bindPlanted(templates, 'retail-mac', { composedMac: true })
    expect(await errorOf(() => bind(main))).toMatchObject({ code: 'ERR_KEY_ATTRIBUTES' })
    expect(await errorOf(() => bind(planted([])))).toMatchObject({ code: 'ERR_KEY_ATTRIBUTES' })
    expect(await errorOf(() => bind(main, chain(), chain()))).toMatchObject({ code: 'ERR_KEY_AMBIGUOUS' })
    expect(await errorOf(() => bind(main, chain([[CKA.DECRYPT, true]])))).toMatchObject({
      code: 'ERR_KEY_USAGE',
    })
    expect(await errorOf(() => bind(main, chain([[CKA.EXTRACTABLE, true]])))).toMatchObject({
      code: 'ERR_KEY_ATTRIBUTES',
    })
    expect((await bind(main, chain())).usage).toBe('retail-mac')
  })

  test('K1 of a retail MAC key is no key by itself, under whatever name', async () => {
    const fake = new FakeToken()
    await using store = await openStoreOn(fake, { composedMac: true })
    await store.importKey({ kid: 'MAC', usage: 'retail-mac', algorithm: 'tdea-2key', material: VALUE })
    await using backend = await openBackendOn(fake, { composedMac: true, keys: { K: { label: 'MAC/K1' } } })
    const refused = async (kid: string) => {
      for (const usage of ['pin-encryption', 'cbc-mac', 'cmac', 'prw-verify', 'retail-mac'] as const)
        expect(await errorOf(() => backend.bind({ kid, usage }))).toMatchObject({
          code: 'ERR_KEY_USAGE',
          message: expect.stringContaining('a part of another key'),
        })
    }
    await refused('MAC/K1')
    await refused('K')
    // Nor when the key that it was a part of has gone.
    fake.remove('MAC')
    await refused('K')
  })

  test('a MAC key shows its check value as the token states it, else by CMAC, else not at all', async () => {
    const mac = planted([
      [CKA.ENCRYPT, false],
      [CKA.SIGN, true],
    ])
    expect((await bindPlanted([mac], 'cmac')).checkValue).toEqual({ method: 'encrypt-zero', value: '08D7B4' })
    const silent = { noCheckValue: true }
    expect((await bindPlanted([mac], 'cmac', {}, silent)).checkValue.method).toBe('cmac')
    const mute = { noCheckValue: true, without: [0x138] }
    expect(await errorOf(() => bindPlanted([mac], 'cmac', {}, mute))).toMatchObject({
      code: 'ERR_UNSUPPORTED_BY_TOKEN',
    })
  })

  test('a check value by the method the caller names, or not at all', async () => {
    const fake = new FakeToken()
    await provisionFake(fake, { composedMac: true })
    await using backend = await openBackendOn(fake, { composedMac: true })
    const bind = (kid: string, method: 'cmac' | 'encrypt-zero', value: string) =>
      bindKey(backend, kid, { kcv: { method, value } })
    // CMAC of a PIN key, from two single blocks; openssl mac -cipher DES-EDE3-CBC.
    expect((await bind('PEK-2', 'cmac', '874AD5')).checkValue.method).toBe('cmac')
    expect(await errorOf(() => bind('PEK-2', 'cmac', '000000'))).toMatchObject({
      code: 'ERR_KEY_CHECK_VALUE',
    })
    expect((await bind('CMAC-A', 'encrypt-zero', '7DF76B')).checkValue.method).toBe('encrypt-zero')
    expect(
      await errorOf(() =>
        bindKey(backend, 'PEK-2', { kcv: { method: 'jwk-thumbprint', value: 'A'.repeat(43) } }),
      ),
    ).toMatchObject({ code: 'ERR_UNSUPPORTED_BY_TOKEN' })
  })
})

describe.each(['jwe-key-agreement', 'jwt-signing'] as const)('P-256 keys for %s', usage => {
  async function pairIn(fake: FakeToken) {
    await using store = await openStoreOn(fake)
    return store.generateKey({ kid: 'J', usage, algorithm: 'ec-p256' })
  }
  const ofClass = (fake: FakeToken, objectClass: number) => {
    const found = [...fake.objects.values()].find(
      ({ attributes }) => attributes.get(CKA.CLASS) === objectClass && attributes.get(CKA.LABEL) === 'J',
    )
    if (found === undefined) throw new Error('no such object')
    return found.attributes
  }
  const bind = async (fake: FakeToken) => (await openBackendOn(fake)).bind({ kid: 'J', usage })

  test('the public half is read and shown', async () => {
    const fake = new FakeToken()
    const { publicJwk } = await pairIn(fake)
    expect((await bind(fake)).publicJwk).toEqual(publicJwk)
  })

  test('without a public object, with two, with a foreign one, with none on the curve', async () => {
    const fake = new FakeToken()
    await pairIn(fake)
    const publicAttributes = ofClass(fake, CKO.PUBLIC_KEY)
    const point = publicAttributes.get(CKA.EC_POINT)
    if (!(point instanceof Uint8Array)) throw new Error('no point')
    const { code } = await errorOf(async () => {
      publicAttributes.set(CKA.LABEL, 'elsewhere')
      await bind(fake)
    })
    expect(code).toBe('ERR_KEY_ATTRIBUTES')
    publicAttributes.set(CKA.LABEL, 'J')
    fake.plant([...publicAttributes])
    expect(await errorOf(() => bind(fake))).toMatchObject({ code: 'ERR_KEY_AMBIGUOUS' })
    // A public key of another pair by the same label, but another CKA_ID, is none of ours.
    const second = [...fake.objects.values()].find(
      ({ attributes }) => attributes.get(CKA.EC_POINT) !== undefined && attributes !== publicAttributes,
    )?.attributes
    second?.delete(CKA.ID)
    expect((await bind(fake)).kid).toBe('J')
    second?.set(CKA.LABEL, 'elsewhere')
    const foreign = new FakeToken()
    await pairIn(foreign)
    publicAttributes.set(CKA.EC_POINT, ofClass(foreign, CKO.PUBLIC_KEY).get(CKA.EC_POINT) ?? '')
    expect((await errorOf(() => bind(fake))).message).toContain('belongs to another private key')
    publicAttributes.set(CKA.EC_POINT, Uint8Array.of(4, 65, ...new Uint8Array(65)))
    expect(await errorOf(() => bind(fake))).toMatchObject({ code: 'ERR_KEY_MATERIAL' })
    publicAttributes.delete(CKA.EC_POINT)
    expect(await errorOf(() => bind(fake))).toMatchObject({ code: 'ERR_KEY_MATERIAL' })
  })

  test('another curve is refused', async () => {
    const fake = new FakeToken()
    await pairIn(fake)
    ofClass(fake, CKO.PRIVATE_KEY).set(CKA.EC_PARAMS, P256_PARAMS.with(9, 0x22))
    expect(await errorOf(() => bind(fake))).toMatchObject({ code: 'ERR_KEY_ALGORITHM' })
    ofClass(fake, CKO.PRIVATE_KEY).delete(CKA.EC_PARAMS)
    expect(await errorOf(() => bind(fake))).toMatchObject({ code: 'ERR_KEY_ALGORITHM' })
  })

  test('can be bound where the token does not do it, which then says why not', async () => {
    const fake = new FakeToken()
    await pairIn(fake)
    const backend = await openBackendOn(new Proxied(fake))
    const key = await backend.bind({ kid: 'J', usage })
    expect(backend.capabilities()).toMatchObject({ keyAgreement: 'none', signing: 'none' })
    const ephemeralPublicKey = Uint8Array.of(
      4,
      ...Buffer.from(key.publicJwk?.x ?? '', 'base64url'),
      ...Buffer.from(key.publicJwk?.y ?? '', 'base64url'),
    )
    const error = await errorOf(() =>
      usage === 'jwt-signing'
        ? operationsOf(key).sign(new Uint8Array(8))
        : operationsOf(key).deriveContentKey({
            ephemeralPublicKey,
            otherInfo: new Uint8Array(0),
            length: 16,
          }),
    )
    expect(error).toMatchObject({ code: 'ERR_UNSUPPORTED_BY_TOKEN', retryable: false })
    expect(error.message).toContain(usage === 'jwt-signing' ? 'CKM_ECDSA' : 'ECDH1_DERIVE')
    expect(error.message).toContain('CKR_MECHANISM_INVALID')
  })

  test('of another tool are bound by their bits, and refused where these are too few or too many', async () => {
    const fake = new FakeToken()
    await pairIn(fake)
    const own = usage === 'jwt-signing' ? CKA.SIGN : CKA.DERIVE
    const attributes = ofClass(fake, CKO.PRIVATE_KEY)
    for (const half of [attributes, ofClass(fake, CKO.PUBLIC_KEY)]) half.set(CKA.ID, Buffer.from('foreign'))
    expect((await bind(fake)).usage).toBe(usage)
    for (const bit of [CKA.SIGN, CKA.SIGN_RECOVER, CKA.DERIVE, CKA.DECRYPT, CKA.UNWRAP]) {
      const before = attributes.get(bit)
      attributes.set(bit, bit !== own)
      expect(await errorOf(() => bind(fake))).toMatchObject({ code: 'ERR_KEY_USAGE' })
      attributes.set(bit, before ?? false)
    }
    expect((await bind(fake)).usage).toBe(usage)
  })

  test('are refused where each use would ask for the PIN', async () => {
    const fake = new FakeToken()
    await pairIn(fake)
    ofClass(fake, CKO.PRIVATE_KEY).set(CKA.ALWAYS_AUTHENTICATE, true)
    const error = await errorOf(() => bind(fake))
    expect(error).toMatchObject({ code: 'ERR_KEY_ATTRIBUTES', kid: 'J' })
    expect(error.message).toContain('CKA_ALWAYS_AUTHENTICATE')
    ofClass(fake, CKO.PRIVATE_KEY).set(CKA.ALWAYS_AUTHENTICATE, false)
    expect((await bind(fake)).kid).toBe('J')
  })

  test('are refused for what the other kind is for, tagged or not', async () => {
    const other = usage === 'jwt-signing' ? 'jwe-key-agreement' : 'jwt-signing'
    const fake = new FakeToken()
    await pairIn(fake)
    const bindOther = async () => (await openBackendOn(fake)).bind({ kid: 'J', usage: other })
    expect((await errorOf(bindOther)).message).toContain(`is for ${usage}`)
    for (const half of [CKO.PRIVATE_KEY, CKO.PUBLIC_KEY]) ofClass(fake, half).delete(CKA.ID)
    expect(await errorOf(bindOther)).toMatchObject({ code: 'ERR_KEY_USAGE' })
  })

  test.each([
    ['DER', (point: Uint8Array) => Uint8Array.of(4, 65, ...point)],
    ['the bare point', (point: Uint8Array) => point],
    ['the bare point and a stray 04', (point: Uint8Array) => Uint8Array.of(...point, 4)],
  ])('a point as %s', (_name, encode) => {
    const point = Uint8Array.from(
      Buffer.from(
        '048578CABDC564C2F76DC77FE5BEB8CD6E6045FDEA007F72F16C19CF31346A71BA446F02C97E729A884B7ADAB5696F374E8CD03038463E6DC6E72A5D0DF5BE7C95',
        'hex',
      ),
    )
    expect(pointOf(encode(point))).toEqual(point)
    expect(pointOf(encode(point).subarray(1))).toBeUndefined()
  })
})

test('a token that begins to sign wrongly is found out at the signature, and again at bind', async () => {
  const fake = new FakeToken()
  await provisionFake(fake, { composedMac: true })
  await using backend = await openBackendOn(fake)
  const key = await bindKey(backend, 'SIGN-1')
  for (const ecdsa of ['der', 's-zero'] as const) {
    Object.assign(fake.options, { ecdsa })
    expect(await errorOf(() => operationsOf(key).sign(new Uint8Array(8)))).toMatchObject({
      code: 'ERR_BACKEND_FAILED',
      retryable: false,
    })
    expect((await errorOf(() => bindKey(backend, 'SIGN-1'))).message).toContain('another private key')
  }
  Object.assign(fake.options, { ecdsa: undefined })
  expect((await operationsOf(key).sign(new Uint8Array(8))).length).toBe(64)
})

/** The same token after an update that took ECDH and ECDSA away. */
class Proxied extends FakeToken {
  constructor(from: FakeToken) {
    super({ without: [CKM.ECDH1_DERIVE, CKM.ECDSA] })
    for (const [id, object] of from.objects) this.objects.set(id, object)
  }
}

describe('time passes', () => {
  async function bound() {
    const fake = new FakeToken()
    await provisionFake(fake, { composedMac: true })
    const backend = await openBackendOn(fake, { composedMac: true })
    return { fake, backend, key: await bindKey(backend, 'PEK-2') }
  }
  const replant = (fake: FakeToken, label: string, value: Uint8Array) => {
    const old = [...fake.objects.values()].find(({ attributes }) => attributes.get(CKA.LABEL) === label)
    fake.remove(label)
    fake.plant([...(old?.attributes ?? []), [CKA.VALUE, value]])
  }
  const material = Buffer.from('AD192FD064B5579E7A4FB3C8F794F22A', 'hex')

  test('a key that was deleted and put back is found again by itself', async () => {
    const { fake, backend, key } = await bound()
    const before = await operationsOf(key).encipher(new Uint8Array(8))
    replant(fake, 'PEK-2', material)
    expect(await operationsOf(key).encipher(new Uint8Array(8))).toEqual(before)
    expect((await backend.health()).ok).toBe(true)
  })

  test('another key under the same label is an error, not a switch; health names it', async () => {
    const { fake, backend, key } = await bound()
    replant(fake, 'PEK-2', OTHER)
    for (let i = 0; i < 2; i++) {
      expect(await errorOf(() => operationsOf(key).encipher(new Uint8Array(8)))).toMatchObject({
        code: 'ERR_KEY_CHECK_VALUE',
      })
    }
    expect(await backend.health()).toMatchObject({
      ok: false,
      detail: expect.stringContaining('PEK-2 (ERR_KEY_CHECK_VALUE)'),
    })
  })

  test('binding the new key does not turn the old one into it', async () => {
    const { fake, backend, key } = await bound()
    replant(fake, 'PEK-2', OTHER)
    const rotated = await bindKey(backend, 'PEK-2')
    expect(rotated.checkValue.value).toBe('7B8358')
    expect((await operationsOf(rotated).encipher(new Uint8Array(8)))[0]).toBe(0x7b)
    expect(await errorOf(() => operationsOf(key).encipher(new Uint8Array(8)))).toMatchObject({
      code: 'ERR_KEY_CHECK_VALUE',
    })
  })

  test('a second key with the same three bytes of check value is another key: all that the token gives is compared', async () => {
    const fake = new FakeToken()
    fake.plant(
      planted([
        [CKA.LABEL, 'PIN'],
        [CKA.VALUE, SAME_KCV[0]],
      ]),
    )
    await using backend = await openBackendOn(fake)
    const key = await backend.bind({ kid: 'PIN', usage: 'pin-encryption' })
    expect(key.checkValue.value).toBe('58B1F2')
    replant(fake, 'PIN', SAME_KCV[1])
    expect(await errorOf(() => operationsOf(key).encipher(new Uint8Array(8)))).toMatchObject({
      code: 'ERR_KEY_CHECK_VALUE',
      message: expect.stringContaining('the rest is another'),
    })
    expect(await backend.health()).toMatchObject({
      ok: false,
      detail: expect.stringContaining('PIN (ERR_KEY_CHECK_VALUE)'),
    })
    // Bound anew it is a key of its own; the old one does not become it.
    const rotated = await backend.bind({ kid: 'PIN', usage: 'pin-encryption' })
    expect(rotated.checkValue.value).toBe('58B1F2')
    expect(Buffer.from(await operationsOf(rotated).encipher(new Uint8Array(8))).toString('hex')).toBe(
      '58b1f23d829d0508',
    )
    expect(await errorOf(() => operationsOf(key).encipher(new Uint8Array(8)))).toMatchObject({
      code: 'ERR_KEY_CHECK_VALUE',
    })
  })

  test('so it is for a MAC key, whose three bytes the token states: it is known by its CMAC as well', async () => {
    const fake = new FakeToken()
    const mac = [
      [CKA.ENCRYPT, false],
      [CKA.SIGN, true],
    ] as const
    fake.plant(planted([...mac, [CKA.VALUE, SAME_KCV[0]]]))
    await using backend = await openBackendOn(fake)
    const key = await backend.bind({ kid: 'K', usage: 'cmac' })
    expect(key.checkValue).toEqual({ method: 'encrypt-zero', value: '58B1F2' })
    replant(fake, 'K', SAME_KCV[1])
    expect(
      await errorOf(() => operationsOf(key).mac({ algorithm: 'cmac', padding: 'none' }, new Uint8Array(8))),
    ).toMatchObject({ code: 'ERR_KEY_CHECK_VALUE' })
  })

  test('of two by one name the one that was bound is found again, though both have the same three bytes', async () => {
    const fake = new FakeToken()
    fake.plant(planted([[CKA.VALUE, SAME_KCV[0]]]))
    await using backend = await openBackendOn(fake)
    const key = await backend.bind({ kid: 'K', usage: 'pin-encryption' })
    fake.plant(planted([[CKA.VALUE, SAME_KCV[1]]]))
    fake.reset({ at: 1, code: 0x82 })
    expect(Buffer.from(await operationsOf(key).encipher(new Uint8Array(8))).toString('hex')).toBe(
      '58b1f2fc6578de55',
    )
  })

  test('a key that shows less of its check values than it did is not taken for the same', async () => {
    const options: { without: number[] } = { without: [] }
    const fake = new FakeToken(options)
    const mac = [
      [CKA.ENCRYPT, false],
      [CKA.SIGN, true],
    ] as const
    fake.plant(planted([...mac]))
    await using backend = await openBackendOn(fake)
    const key = await backend.bind({ kid: 'K', usage: 'cmac' })
    options.without.push(CKM.DES3_CMAC)
    replant(fake, 'K', VALUE)
    expect(key.checkValue.method).toBe('encrypt-zero')
    expect(await backend.health()).toMatchObject({
      ok: false,
      detail: expect.stringContaining('K (ERR_KEY_CHECK_VALUE)'),
    })
  })

  test('a rotated K1 object is an error too, also one with the same three bytes of check value', async () => {
    const [one, two] = SAME_KCV.map(key => Buffer.concat([key, key.subarray(0, 8)]))
    for (const [before, after] of [
      [undefined, Buffer.alloc(24, 0x57)],
      [one, two],
    ]) {
      const { fake, backend } = await bound()
      if (before !== undefined) replant(fake, 'MAC-3/K1', before)
      const key = await bindKey(backend, 'MAC-3')
      const mac = () => operationsOf(key).mac({ algorithm: 'iso9797-1-alg3', padding: 1 }, new Uint8Array(16))
      expect(await mac()).toHaveLength(8)
      replant(fake, 'MAC-3/K1', after ?? expect.unreachable())
      expect(await errorOf(mac)).toMatchObject({ code: 'ERR_KEY_CHECK_VALUE' })
      const { ok, detail } = await backend.health()
      expect([ok, detail]).toEqual([false, expect.stringContaining('MAC-3 (ERR_KEY_CHECK_VALUE)')])
    }
  })

  test('a K1 object that has come or gone since a PRW key was bound is an error too', async () => {
    const fake = new FakeToken()
    await using store = await openStoreOn(fake, { composedMac: true })
    const prw = { kid: 'PRW', usage: 'prw-generate', algorithm: 'tdea-2key' } as const
    await store.importKey({ ...prw, macs: ['iso9797-1-alg3', 'iso9797-1-alg1'], material: VALUE })
    await using backend = await openBackendOn(fake, { composedMac: true })
    const key = await bindKeyAs(backend)
    const chain = [...fake.objects.values()].find(
      ({ attributes }) => attributes.get(CKA.LABEL) === 'PRW/K1',
    )?.attributes
    fake.remove('PRW/K1')
    replant(fake, 'PRW', VALUE)
    const mac = (by: typeof key) =>
      operationsOf(by).mac({ algorithm: 'iso9797-1-alg1', padding: 1 }, new Uint8Array(8))
    const gone = await errorOf(() => mac(key))
    expect(gone).toMatchObject({ code: 'ERR_KEY_CHECK_VALUE' })
    expect(gone.message).toContain('K1 object has come or gone')
    const without = await bindKeyAs(backend)
    expect((await mac(without)).length).toBe(8)
    const retail = { algorithm: 'iso9797-1-alg3', padding: 1 } as const
    expect(await errorOf(() => operationsOf(without).mac(retail, new Uint8Array(8)))).toMatchObject({
      code: 'ERR_KEY_USAGE',
    })
    fake.plant([...(chain ?? [])])
    replant(fake, 'PRW', VALUE)
    expect(await errorOf(() => mac(without))).toMatchObject({ code: 'ERR_KEY_CHECK_VALUE' })

    function bindKeyAs(on: typeof backend) {
      return on.bind({ kid: 'PRW', usage: 'prw-generate' })
    }
  })

  test('a deleted key is ERR_KEY_NOT_FOUND; health names it', async () => {
    const { fake, backend, key } = await bound()
    fake.remove('PEK-2')
    expect(await errorOf(() => operationsOf(key).encipher(new Uint8Array(8)))).toMatchObject({
      code: 'ERR_KEY_NOT_FOUND',
    })
    expect((await backend.health()).detail).toContain('PEK-2 (ERR_KEY_NOT_FOUND)')
  })

  test('what a kid was before is let go: health looks at what it is now', async () => {
    const { fake, backend, key } = await bound()
    replant(fake, 'PEK-2', OTHER)
    await bindKey(backend, 'PEK-2')
    backend.unbind(key)
    expect((await backend.health()).ok).toBe(true)
    fake.remove('PEK-2')
    expect((await backend.health()).detail).toContain('PEK-2 (ERR_KEY_NOT_FOUND)')
  })

  test.each([
    ['second', ['PEK-2', 'PEK-3', 'CMAC-A'], 'PEK-3'],
    ['last', ['PEK-2', 'PEK-3', 'CMAC-A'], 'CMAC-A'],
  ])('a key that is gone is named where it is the %s of several', async (_name, kids, gone) => {
    const { fake, backend } = await bound()
    for (const kid of kids) await bindKey(backend, kid)
    expect(await backend.health()).toMatchObject({ ok: true })
    fake.remove(gone)
    expect(await backend.health()).toMatchObject({
      ok: false,
      detail: expect.stringContaining(`${gone} (ERR_KEY_NOT_FOUND)`),
    })
  })

  test('a module that somebody initialised anew: health finds out, and no old handle is used after it', async () => {
    const { fake, backend, key } = await bound()
    const before = await operationsOf(key).encipher(new Uint8Array(8))
    const idOf = (label: string) => {
      const found = [...fake.objects].find(([, { attributes }]) => attributes.get(CKA.LABEL) === label)
      if (found === undefined) throw new Error(`no key ${label}`)
      return found
    }
    // The numbers of two keys change places, and that of the session key now names a third.
    const [[one, first], [two, second], [, third]] = [idOf('PEK-2'), idOf('PEK-CLOSED'), idOf('MAC-1')]
    fake.objects.set(one, second).set(two, first)
    expect(await operationsOf(key).encipher(new Uint8Array(8))).not.toEqual(before)
    for (const [id, { session }] of fake.objects) if (session !== undefined) fake.objects.set(id, third)
    // It makes another session key, and trusts no handle until its key has been found and compared.
    expect(await backend.health()).toMatchObject({ ok: true, state: 'open' })
    expect(await operationsOf(key).encipher(new Uint8Array(8))).toEqual(before)
    // And where that number names a key that may not encipher.
    fake.objects.set(one, first).set(two, second)
    const fourth = idOf('CMAC-T')[1]
    for (const [id, { session }] of fake.objects) if (session !== undefined) fake.objects.set(id, fourth)
    expect(await backend.health()).toMatchObject({ ok: true, detail: expect.stringContaining('right') })
    expect(await operationsOf(key).encipher(new Uint8Array(8))).toEqual(before)
  })

  test('a number that named one key before the module was initialised anew may name another: no second use of the first', async () => {
    const { fake, backend, key } = await bound()
    fake.reset({ at: 1, code: 0x30 })
    await operationsOf(key).encipher(new Uint8Array(8))
    expect(fake.calls).toContain('C_Finalize')
    const idOf = (label: string): number => {
      const found = [...fake.objects].find(([, { attributes }]) => attributes.get(CKA.LABEL) === label)
      return found?.[0] ?? expect.fail(`no key ${label}`)
    }
    const [pin, mac] = [idOf('PEK-2'), idOf('MAC-1')]
    const [one, two] = [fake.objects.get(pin), fake.objects.get(mac)]
    if (one !== undefined && two !== undefined) fake.objects.set(pin, two).set(mac, one)
    expect((await bindKey(backend, 'MAC-1')).usage).toBe('cbc-mac')
  })

  test('a device that is gone: health says so instead of failing', async () => {
    const { fake, backend } = await bound()
    fake.C_GetTokenInfo = () => {
      fake.reset({ at: 1, code: 0x30 })
      return fake.C_GetInfo() as never
    }
    expect(await backend.health()).toMatchObject({
      ok: false,
      state: 'degraded',
      detail: expect.stringContaining('the token is away; coming back is tried by itself'),
    })
    await backend.close()
  })

  test('an error that is none of PKCS#11 is not taken for a state of the token', async () => {
    const { fake, backend } = await bound()
    fake.C_GetTokenInfo = () => {
      throw new RangeError('not of the contract')
    }
    expect(await errorOf(() => backend.health())).toMatchObject({ code: 'ERR_BACKEND_FAILED' })
    expect(await errorOf(() => backend.health({ signal: AbortSignal.abort() }))).toMatchObject({
      code: 'ERR_ABORTED',
    })
  })
})

describe('after ten milliseconds of native calls', () => {
  test('other work gets its turn, inputs are wiped all the same, and an abort counts', async () => {
    const fake = new FakeToken()
    await provisionFake(fake, { composedMac: true })
    const backend = await openBackendOn(fake)
    const key = await bindKey(backend, 'PEK-2')
    const encrypt = fake.C_Encrypt.bind(fake)
    const seen: Uint8Array[] = []
    fake.C_Encrypt = (session, data, length) => {
      seen.push(data)
      const end = performance.now() + 11
      while (performance.now() < end);
      return encrypt(session, data, length)
    }
    const input = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)
    // A new turn of the event loop: what bind used up does not count any more.
    await new Promise(resolve => setImmediate(resolve))
    const controller = new AbortController()
    let turns = 0
    setImmediate(() => {
      turns++
      controller.abort()
    })
    const first = await operationsOf(key).encipher(input)
    expect(turns).toBe(0)
    const second = operationsOf(key).encipher(input)
    const third = errorOf(() => operationsOf(key).encipher(input, { signal: controller.signal }))
    input.fill(0)
    expect(await second).toEqual(first)
    expect(turns).toBe(1)
    expect(await third).toMatchObject({ code: 'ERR_ABORTED' })
    expect(seen.length).toBe(2)
    expect(seen.every(data => data.every(byte => byte === 0))).toBe(true)
  })
})

describe('translation', () => {
  async function translating() {
    const fake = new FakeToken()
    const options = { translateInToken: true }
    await using store = await openStoreOn(fake, options)
    const pek = { usage: 'pin-encryption', algorithm: 'tdea-2key' } as const
    await store.generateKey({ ...pek, kid: 'BOTH', translation: true, hostDecipher: true })
    await store.generateKey({ ...pek, kid: 'OTHER', translation: true })
    await store.generateKey({ ...pek, kid: 'INSIDE', translation: true })
    await store.generateKey({ ...pek, kid: 'PLAIN' })
    const backend = await openBackendOn(fake, options)
    const bind = (kid: string, hostDecipher = false) =>
      backend.bind({ kid, usage: 'pin-encryption', hostDecipher })
    return { fake, backend, bind }
  }
  const block = Uint8Array.of(0x04, 0x12, 0x34, 0xff, 0xfe, 0xdc, 0xba, 0x98)

  test('inside the token between keys made for it: nothing is deciphered on the host', async () => {
    const { fake, bind } = await translating()
    const [from, to, open] = [await bind('INSIDE'), await bind('OTHER'), await bind('BOTH', true)]
    const enciphered = await operationsOf(from).encipher(block)
    fake.reset()
    const moved = await operationsOf(from).reencipher(to, enciphered)
    expect(fake.calls).not.toContain('C_Decrypt')
    expect(moved).toEqual(await operationsOf(to).encipher(block))
    // To where the host may decipher only from where it may.
    expect(await errorOf(() => operationsOf(from).reencipher(open, enciphered))).toMatchObject({
      code: 'ERR_HOST_DECIPHER',
    })
  })

  test('not to a key that the host could decipher with, however that one is bound', async () => {
    const { bind } = await translating()
    const [inside, open] = [await bind('INSIDE'), await bind('BOTH')]
    const error = await errorOf(() => operationsOf(inside).reencipher(open, block))
    expect(error).toMatchObject({ code: 'ERR_HOST_DECIPHER', kid: 'INSIDE' })
    expect(error.message).toContain('key BOTH could (it has CKA_DECRYPT)')
  })

  test('on the host where a key was not made for it, and only where that is allowed', async () => {
    const { bind } = await translating()
    const [both, inside, plain] = [await bind('BOTH', true), await bind('INSIDE'), await bind('PLAIN')]
    const moved = await operationsOf(both).reencipher(plain, await operationsOf(both).encipher(block))
    expect(moved).toEqual(await operationsOf(plain).encipher(block))
    const refused = async (from: typeof both, to: typeof both, kid: string) =>
      expect(await errorOf(() => operationsOf(from).reencipher(to, block))).toMatchObject({
        code: 'ERR_HOST_DECIPHER',
        kid,
      })
    await refused(plain, inside, 'PLAIN')
    await refused(inside, plain, 'PLAIN')
    // Asked for inside and nowhere else, it is not done on the host although that is allowed.
    const only = await errorOf(() => operationsOf(both).reencipher(plain, block, undefined, { inside: true }))
    expect(only).toMatchObject({ code: 'ERR_HOST_DECIPHER' })
    expect(only.message).toContain('deciphering in host memory is not asked for')
  })
})

test('numbers of a token that has CK_ULONG of 4 bytes, and values that are no number', async () => {
  const fake = new FakeToken()
  await openBackendOn(fake)
  const [session] = fake.sessions.keys()
  const station = { binding: fake, session: handleOf(session ?? 0) }
  for (const [bytes, expected] of [
    [new Uint8Array(new Uint32Array([7]).buffer), 7],
    [new Uint8Array(new BigUint64Array([9n]).buffer), 9],
    [Uint8Array.of(1, 2, 3), undefined],
    [new Uint8Array(0), undefined],
  ] as const) {
    fake.C_GetAttributeValue = () => bytes
    expect(readNumber(station.binding, station.session, handleOf(1) as never, CKA.CLASS)).toBe(expected)
  }
})

function handleOf(id: number): SessionHandle {
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setUint32(0, id)
  return bytes as SessionHandle
}

test('a call made from within a call waits for the session', async () => {
  const fake = new FakeToken({ maxSessions: 2 })
  await provisionFake(fake, { composedMac: true })
  const backend = await openBackendOn(fake, { sessions: { max: 1 } })
  const key = await bindKey(backend, 'PEK-2')
  const encrypt = fake.C_Encrypt.bind(fake)
  const inner: Promise<Uint8Array>[] = []
  let faults = 1
  fake.C_Encrypt = (session, data, length) => {
    const result = encrypt(session, data, length)
    if (inner.length < 2) inner.push(operationsOf(key).encipher(data))
    else if (faults-- > 0) throw new Pkcs11Error('C_Encrypt', 0xb3)
    return result
  }
  const outer = await operationsOf(key).encipher(new Uint8Array(8))
  for (const call of inner) expect(await call).toEqual(outer)
})

test('what is derived to see a check value is destroyed', () => {
  const fake = new FakeToken()
  fake.C_Initialize(undefined)
  const [slot = expect.unreachable()] = fake.C_GetSlotList()
  const session = fake.C_OpenSession(slot, CKF.SERIAL_SESSION)
  fake.C_Login(session, 1, '1234')
  const key = fake.C_CreateObject(session, [
    [CKA.CLASS, CKO.SECRET_KEY],
    [CKA.KEY_TYPE, CKK.AES],
    [CKA.VALUE, new Uint8Array(16).fill(1)],
    [CKA.DERIVE, true],
  ])
  const block = encipherByDeriving({ binding: fake, session }, 'aes-128', key, new Uint8Array(16))
  expect([block.length, fake.objects.size]).toEqual([16, 1])
})
