import { describe, expect, test } from 'vitest'
import { operationsOf } from '../../src/backend/key.js'
import { CKA, CKK, CKM, CKO } from '../../src/backend/pkcs11/binding/constants.js'
import { Pkcs11Error } from '../../src/backend/pkcs11/binding/errors.js'
import { roleAttribute, SECRET_BITS } from '../../src/backend/pkcs11/mechanisms/templates.js'
import type { ImportedKey, NewKey } from '../../src/pkcs11.js'
import { CONTRACT_KEYS } from '../../src/testing.js'
import { buffersMadeBy } from '../leaks/recorder.js'
import { FakeToken } from './fake-token.js'
import { bindKey, errorOf, openBackendOn, openStoreOn, optionsFor } from './support.js'

const PEK = { kid: 'P', usage: 'pin-encryption', algorithm: 'tdea-2key' } as const
const MATERIAL = '0123456789ABCDEFFEDCBA9876543210'

function attributesOf(fake: FakeToken, label: string, objectClass: number = CKO.SECRET_KEY) {
  const found = [...fake.objects.values()].find(
    ({ attributes }) => attributes.get(CKA.LABEL) === label && attributes.get(CKA.CLASS) === objectClass,
  )
  if (found === undefined) throw new Error(`no object ${label}`)
  return found.attributes
}

const BITS = {
  E: CKA.ENCRYPT,
  D: CKA.DECRYPT,
  S: CKA.SIGN,
  V: CKA.VERIFY,
  W: CKA.WRAP,
  U: CKA.UNWRAP,
  X: CKA.DERIVE,
}
const bitsOf = (attributes: Map<number, unknown>) =>
  Object.entries(BITS)
    .filter(([, bit]) => attributes.get(bit) === true)
    .map(([letter]) => letter)
    .join('')

describe('generateKey', () => {
  test('under a kid that is taken: refused, and the token has no object more', async () => {
    const fake = new FakeToken()
    await using store = await openStoreOn(fake)
    await store.generateKey({ ...PEK, kid: 'A' })
    const before = fake.census.token
    expect(await errorOf(() => store.generateKey({ ...PEK, kid: 'A' }))).toMatchObject({
      code: 'ERR_KEY_AMBIGUOUS',
    })
    expect(fake.census.token).toBe(before)
  })

  test.each<[NewKey['usage'], NewKey['algorithm'], Partial<NewKey>, string]>([
    ['pin-encryption', 'tdea-2key', {}, 'E'],
    ['pin-encryption', 'tdea-3key', { hostDecipher: true }, 'ED'],
    ['pin-encryption', 'tdea-2key', { translation: true }, 'EWU'],
    // What the token's other users could do counts: in mode E it opens nothing, in mode D nothing is made with it.
    ['pin-encryption', 'tdea-2key', { mode: 'E', translation: true }, 'EW'],
    ['pin-encryption', 'tdea-2key', { mode: 'D' }, 'D'],
    ['pin-encryption', 'tdea-2key', { mode: 'D', translation: true }, 'DU'],
    ['cbc-mac', 'tdea-2key', {}, 'E'],
    ['cmac', 'tdea-3key', {}, 'S'],
    ['cmac', 'aes-192', {}, 'S'],
    ['prw-generate', 'aes-128', {}, 'S'],
    ['prw-verify', 'aes-256', { macs: ['cmac'] }, 'S'],
    ['prw-verify', 'tdea-2key', { macs: ['iso9797-1-alg1', 'cmac'] }, 'ES'],
    ['prw-verify', 'aes-128', { macs: [], enciphers: true }, 'E'],
    ['prw-verify', 'aes-128', { enciphers: true }, 'ES'],
    ['prw-verify', 'aes-128', { derives: true }, 'X'],
    ['cmac', 'tdea-2key', { derives: true }, 'X'],
    ['hmac', 'hmac-sha256', {}, 'S'],
  ])(
    '%s, %s, %j: role bits %s and no other, inside, not modifiable',
    async (usage, algorithm, more, bits) => {
      const fake = new FakeToken()
      const options = { translateInToken: true, deriveKeys: 'inside' } as const
      await using store = await openStoreOn(fake, options)
      const made = await store.generateKey({ kid: 'K', usage, algorithm, ...more })
      expect(made).toMatchObject({ kid: 'K', usage, algorithm })
      const attributes = attributesOf(fake, 'K')
      expect(bitsOf(attributes)).toBe(bits)
      expect(attributes.get(CKA.TOKEN)).toBe(true)
      expect(attributes.get(CKA.PRIVATE)).toBe(true)
      expect(attributes.get(CKA.SENSITIVE)).toBe(true)
      expect(attributes.get(CKA.EXTRACTABLE)).toBe(false)
      expect(attributes.get(CKA.MODIFIABLE)).toBe(false)
      await using backend = await openBackendOn(fake, options)
      const { mode } = more
      const key = await backend.bind({
        kid: 'K',
        usage,
        kcv: made.checkValue,
        ...(mode !== undefined && { mode }),
      })
      expect(key.algorithm).toBe(algorithm)
    },
  )

  test.each<[NewKey['usage'], NewKey['algorithm'], Partial<NewKey>, (keyof typeof CKM)[]]>([
    ['pin-encryption', 'tdea-2key', {}, ['DES3_ECB']],
    ['pin-encryption', 'aes-128', {}, ['AES_ECB', 'AES_CBC']],
    ['visa-pvv', 'tdea-2key', {}, ['DES3_ECB']],
    ['cbc-mac', 'tdea-2key', {}, ['DES3_ECB', 'DES3_CBC']],
    ['cmac', 'tdea-3key', {}, ['DES3_CMAC']],
    ['cmac', 'aes-192', { derives: true }, ['AES_ECB_ENCRYPT_DATA']],
    ['hmac', 'hmac-sha256', {}, ['SHA256_HMAC']],
    ['prw-verify', 'tdea-2key', { macs: ['iso9797-1-alg1', 'cmac'] }, ['DES3_ECB', 'DES3_CBC', 'DES3_CMAC']],
    ['prw-verify', 'aes-128', { enciphers: true }, ['AES_CMAC', 'AES_ECB', 'AES_CBC']],
    ['prw-verify', 'aes-128', { macs: [], enciphers: true }, ['AES_ECB', 'AES_CBC']],
    ['prw-verify', 'tdea-3key', { macs: [], enciphers: true }, ['DES3_ECB', 'DES3_CBC']],
    ['key-encryption', 'aes-256', {}, ['AES_KEY_WRAP', 'AES_KEY_WRAP_PAD', 'AES_KEY_WRAP_KWP', 'AES_CMAC']],
    ['jwe-key-agreement', 'ec-p256', {}, ['ECDH1_DERIVE']],
    ['jwt-signing', 'ec-p256', {}, ['ECDSA']],
  ])('%s, %s, %j: by the mechanisms %j and no other', async (usage, algorithm, more, mechanisms) => {
    const fake = new FakeToken()
    await using store = await openStoreOn(fake, { deriveKeys: 'inside' })
    await store.generateKey({ kid: 'K', usage, algorithm, ...more })
    const objectClass = algorithm === 'ec-p256' ? CKO.PRIVATE_KEY : CKO.SECRET_KEY
    expect(attributesOf(fake, 'K', objectClass).get(CKA.ALLOWED_MECHANISMS)).toEqual(
      mechanisms.map(name => CKM[name]),
    )
  })

  test.each([
    ['jwe-key-agreement', ['X', ''], 'K3XE'],
    ['jwt-signing', ['S', 'V'], 'S0SE'],
  ] as const)(
    'a P-256 pair for %s: role bits %j, every other one false, one CKA_ID for both',
    async (usage, bits, tag) => {
      const fake = new FakeToken()
      await using store = await openStoreOn(fake)
      const made = await store.generateKey({ kid: 'J', usage, algorithm: 'ec-p256' })
      expect(made).toMatchObject({ usage, publicJwk: { kty: 'EC', crv: 'P-256' } })
      expect(Buffer.from(made.id, 'hex').subarray(0, 4).toString()).toBe(tag)
      const [priv, pub] = [attributesOf(fake, 'J', CKO.PRIVATE_KEY), attributesOf(fake, 'J', CKO.PUBLIC_KEY)]
      expect([bitsOf(priv), bitsOf(pub)]).toEqual(bits)
      for (const bit of [CKA.SIGN, CKA.SIGN_RECOVER, CKA.DERIVE, CKA.DECRYPT, CKA.UNWRAP]) {
        expect(priv.get(bit)).toBeTypeOf('boolean')
      }
      expect(priv.get(CKA.ID)).toEqual(pub.get(CKA.ID))
      expect(priv.get(CKA.SENSITIVE)).toBe(true)
      expect(priv.get(CKA.EXTRACTABLE)).toBe(false)
      expect(await store.listKeys()).toMatchObject([{ kid: 'J', usage, checkValue: made.checkValue }])
    },
  )

  test('a CKA_ID is fresh each time and says what the key is for', async () => {
    const fake = new FakeToken()
    await using store = await openStoreOn(fake)
    const ids = []
    for (const kid of ['A', 'B']) ids.push((await store.generateKey({ ...PEK, kid })).id)
    expect(new Set(ids).size).toBe(2)
    for (const id of ids) expect(Buffer.from(id, 'hex').subarray(0, 4).toString()).toBe('P0B2')
  })

  test.each<[string, object, string]>([
    ['no options', {}, 'ERR_ARGUMENT'],
    ['an unknown option', { ...PEK, extractable: true }, 'ERR_ARGUMENT'],
    ['an unknown usage', { ...PEK, usage: 'pin' }, 'ERR_ARGUMENT'],
    ['an unknown algorithm', { ...PEK, algorithm: 'des' }, 'ERR_ARGUMENT'],
    ['an algorithm the usage does not admit', { ...PEK, algorithm: 'ec-p256' }, 'ERR_KEY_ALGORITHM'],
    ['translation of AES blocks', { ...PEK, algorithm: 'aes-128', translation: true }, 'ERR_ARGUMENT'],
    ['hostDecipher for a MAC key', { ...PEK, usage: 'cmac', hostDecipher: true }, 'ERR_ARGUMENT'],
    ['hostDecipher that is no boolean', { ...PEK, hostDecipher: 1 }, 'ERR_ARGUMENT'],
    ['translation where the token does none', { ...PEK, translation: true }, 'ERR_UNSUPPORTED_BY_TOKEN'],
    ['a TDEA PRW key that does not say for which MACs', { ...PEK, usage: 'prw-verify' }, 'ERR_ARGUMENT'],
    ['a PIN key that others are derived from', { ...PEK, derives: true }, 'ERR_ARGUMENT'],
    ['derives that is no boolean', { ...PEK, usage: 'cmac', derives: 1 }, 'ERR_ARGUMENT'],
    [
      'one that others are derived from and that enciphers',
      { ...PEK, usage: 'prw-verify', derives: true, enciphers: true },
      'ERR_ARGUMENT',
    ],
    ['enciphers that is no boolean', { ...PEK, usage: 'prw-verify', enciphers: 1 }, 'ERR_ARGUMENT'],
    ['a MAC key that enciphers', { ...PEK, usage: 'cmac', enciphers: true }, 'ERR_ARGUMENT'],
    [
      'derives where nothing is derived',
      { ...PEK, usage: 'cmac', derives: true },
      'ERR_UNSUPPORTED_BY_TOKEN',
    ],
    ['no MACs', { ...PEK, usage: 'prw-verify', macs: [] }, 'ERR_ARGUMENT'],
    ['MACs that are no list', { ...PEK, usage: 'prw-verify', macs: 'cmac' }, 'ERR_ARGUMENT'],
    ['MACs for a PIN key', { ...PEK, macs: ['cmac'] }, 'ERR_ARGUMENT'],
    [
      'a retail MAC key without a way to compute it',
      { ...PEK, usage: 'retail-mac' },
      'ERR_UNSUPPORTED_BY_TOKEN',
    ],
  ])('refuses %s', async (_name, key, code) => {
    const fake = new FakeToken()
    await using store = await openStoreOn(fake)
    const untyped: NewKey = JSON.parse(JSON.stringify(key))
    expect(await errorOf(() => store.generateKey(untyped))).toMatchObject({ code })
    expect(fake.census.token).toBe(0)
  })

  test('refuses a composed retail MAC key, whose K1 would stay inside', async () => {
    await using store = await openStoreOn(new FakeToken(), { composedMac: true })
    const error = await errorOf(() => store.generateKey({ ...PEK, usage: 'retail-mac' }))
    expect(error).toMatchObject({ code: 'ERR_UNSUPPORTED_BY_TOKEN' })
    expect(error.message).toContain('import it')
  })

  test('generates a retail MAC key for a vendor mechanism', async () => {
    const fake = new FakeToken({ retail: { mechanism: 0x8000_0135, bytes: 8 } })
    await using store = await openStoreOn(fake, { retailMac: 'protectserver' })
    await store.generateKey({ ...PEK, usage: 'retail-mac' })
    expect(bitsOf(attributesOf(fake, 'P'))).toBe('S')
  })

  test('refuses two-key bundles where the token has no CKK_DES2', async () => {
    await using store = await openStoreOn(new FakeToken({ without: [-CKK.DES2] }))
    expect(await errorOf(() => store.generateKey(PEK))).toMatchObject({ code: 'ERR_UNSUPPORTED_BY_TOKEN' })
    expect((await store.generateKey({ ...PEK, algorithm: 'tdea-3key' })).algorithm).toBe('tdea-3key')
  })

  test('refuses a kid that is taken, by a key or by the K1 object of one', async () => {
    const fake = new FakeToken()
    await using store = await openStoreOn(fake, { composedMac: true })
    await store.generateKey(PEK)
    expect(await errorOf(() => store.generateKey(PEK))).toMatchObject({ code: 'ERR_KEY_AMBIGUOUS' })
    await store.importKey({ ...PEK, kid: 'M', usage: 'retail-mac', material: MATERIAL })
    expect(await errorOf(() => store.generateKey({ ...PEK, kid: 'M/K1' }))).toMatchObject({
      code: 'ERR_KEY_AMBIGUOUS',
    })
  })

  test('refuses a kid whose K1 object another key has left, however the key would be made', async () => {
    const fake = new FakeToken()
    await using store = await openStoreOn(fake, { composedMac: true })
    const key = { ...PEK, kid: 'M', usage: 'retail-mac', material: MATERIAL } as const
    await store.importKey(key)
    fake.remove('M')
    const left = fake.census
    const kcv = '08D7B4'
    const refused = { code: 'ERR_KEY_AMBIGUOUS' }
    expect(await errorOf(() => store.importKey(key))).toMatchObject(refused)
    expect(await errorOf(() => store.generateKey({ ...PEK, kid: 'M' }))).toMatchObject(refused)
    expect(await errorOf(() => store.assembleKey({ ...PEK, kid: 'M', parts: [], kcv }))).toMatchObject(
      refused,
    )
    const wrapped = { wrapped: new Uint8Array(24), wrapping: 'rfc3394', under: 'KEK' } as const
    expect(await errorOf(() => store.unwrapKey({ ...PEK, kid: 'M', ...wrapped, kcv }))).toMatchObject(refused)
    expect(fake.census).toEqual(left)
  })

  test('a mechanism the token lacks is named', async () => {
    await using store = await openStoreOn(new FakeToken({ without: [CKM.AES_KEY_GEN] }))
    expect(
      await errorOf(() => store.generateKey({ kid: 'A', usage: 'cmac', algorithm: 'aes-128' })),
    ).toMatchObject({
      code: 'ERR_PKCS11_CALL',
      functionName: 'C_GenerateKey',
      returnValueName: 'CKR_MECHANISM_INVALID',
    })
  })
})

describe('importKey', () => {
  test('must be opted in', async () => {
    await using store = await openStoreOn(new FakeToken(), { importClearKeys: false })
    const error = await errorOf(() => store.importKey({ ...PEK, material: MATERIAL }))
    expect(error).toMatchObject({ code: 'ERR_ARGUMENT' })
    expect(error.message).toContain('importClearKeys: true')
  })

  test('a retail MAC key comes with its K1 object: encrypt only, K1‖K1‖K1, a CKA_ID that links it', async () => {
    const fake = new FakeToken()
    await using store = await openStoreOn(fake, { composedMac: true })
    const made = await store.importKey({ ...PEK, usage: 'retail-mac', material: MATERIAL, kcv: '08D7B4' })
    const chain = attributesOf(fake, 'P/K1')
    expect(bitsOf(chain)).toBe('E')
    expect(chain.get(CKA.ALLOWED_MECHANISMS)).toEqual([CKM.DES3_ECB, CKM.DES3_CBC])
    expect(chain.get(CKA.VALUE)).toEqual(Uint8Array.from(Buffer.from('0123456789ABCDEF'.repeat(3), 'hex')))
    expect(chain.get(CKA.ID)).toEqual(Uint8Array.from(Buffer.from(`${made.id}4B31`, 'hex')))
    expect((await store.listKeys()).map(({ kid }) => kid)).toEqual(['P'])
    await store.deleteKey({ kid: 'P' })
    expect(fake.census.token).toBe(0)
  })

  test('a PRW key gets a K1 object only where it is for the retail MAC', async () => {
    const fake = new FakeToken()
    await using store = await openStoreOn(fake, { composedMac: true })
    const key = { ...PEK, usage: 'prw-verify', material: MATERIAL } as const
    await store.importKey({ ...key, kid: 'A', macs: ['iso9797-1-alg3'] })
    await store.importKey({ ...key, kid: 'B', macs: ['cmac'] })
    expect(fake.census.token).toBe(3)
    await using backend = await openBackendOn(fake, { composedMac: true })
    const [a, b] = [
      await backend.bind({ kid: 'A', usage: 'prw-verify' }),
      await backend.bind({ kid: 'B', usage: 'prw-verify' }),
    ]
    const retail = { algorithm: 'iso9797-1-alg3', padding: 1 } as const
    const cmac = { algorithm: 'cmac', padding: 'none' } as const
    expect((await operationsOf(a).mac(retail, new Uint8Array(16))).length).toBe(8)
    expect((await operationsOf(b).mac(cmac, new Uint8Array(16))).length).toBe(8)
    // What the key was not made for, the token would not do.
    expect(await errorOf(() => operationsOf(a).mac(cmac, new Uint8Array(16)))).toMatchObject({
      code: 'ERR_KEY_USAGE',
    })
    expect(await errorOf(() => operationsOf(b).mac(retail, new Uint8Array(16)))).toMatchObject({
      code: 'ERR_KEY_USAGE',
    })
  })

  test('an ENCRYPT-only PRW key without K1 object does CBC-MAC, and says what the retail MAC lacks', async () => {
    const fake = new FakeToken()
    await using store = await openStoreOn(fake, { composedMac: true })
    await store.importKey({ ...PEK, usage: 'prw-generate', macs: ['iso9797-1-alg1'], material: MATERIAL })
    await using backend = await openBackendOn(fake, { composedMac: true })
    const key = await backend.bind({ kid: 'P', usage: 'prw-generate' })
    await operationsOf(key).mac({ algorithm: 'iso9797-1-alg1', padding: 1 }, new Uint8Array(8))
    const error = await errorOf(() =>
      operationsOf(key).mac({ algorithm: 'iso9797-1-alg3', padding: 1 }, new Uint8Array(8)),
    )
    expect(error).toMatchObject({ code: 'ERR_KEY_USAGE' })
    expect(error.message).toContain('an object of its K1')
  })

  test.each<[string, Partial<ImportedKey>, string]>([
    ['15 bytes', { material: MATERIAL.slice(2) }, 'ERR_KEY_MATERIAL'],
    ['no hex', { material: 'not hex' }, 'ERR_KEY_MATERIAL'],
    ['K1 = K2', { material: MATERIAL.slice(0, 16).repeat(2) }, 'ERR_KEY_WEAK'],
    ['another check value', { material: MATERIAL, kcv: '08D7B5' }, 'ERR_KEY_CHECK_VALUE'],
    ['no check value', { material: MATERIAL, kcv: 'xyz' }, 'ERR_ARGUMENT'],
    ['no material', {}, 'ERR_ARGUMENT'],
  ])('refuses %s; nothing stays behind and nothing is shown', async (_name, more, code) => {
    const fake = new FakeToken()
    await using store = await openStoreOn(fake)
    const error = await errorOf(() => store.importKey({ ...PEK, ...more } as ImportedKey))
    expect(error).toMatchObject({ code })
    expect(`${error.message} ${error.stack}`).not.toContain(MATERIAL.slice(0, 16))
    expect(fake.census.token).toBe(0)
  })

  test('as K1‖K2‖K1 where the token has no CKK_DES2, and still known as two keys', async () => {
    const fake = new FakeToken({ without: [-CKK.DES2] })
    await using store = await openStoreOn(fake)
    expect(await store.importKey({ ...PEK, material: MATERIAL, kcv: '08D7B4' })).toMatchObject({
      algorithm: 'tdea-2key',
    })
    expect(attributesOf(fake, 'P').get(CKA.KEY_TYPE)).toBe(CKK.DES3)
  })

  test('one value has one purpose, also where it is there as a bundle of another length', async () => {
    const three = MATERIAL + MATERIAL.slice(0, 16)
    for (const [first, second] of [
      [
        { algorithm: 'tdea-2key', material: MATERIAL },
        { algorithm: 'tdea-3key', material: three },
      ],
      [
        { algorithm: 'tdea-3key', material: three },
        { algorithm: 'tdea-2key', material: MATERIAL },
      ],
    ] as const) {
      const fake = new FakeToken()
      await using store = await openStoreOn(fake)
      await store.importKey({ ...PEK, ...first, kid: 'FIRST' })
      const before = fake.census
      const other = { ...PEK, ...second, kid: 'SECOND' } as const
      expect(await errorOf(() => store.importKey({ ...other, usage: 'cbc-mac' }))).toMatchObject({
        code: 'ERR_KEY_USAGE',
        message: expect.stringContaining('FIRST'),
      })
      expect(fake.census).toEqual(before)
      expect((await store.importKey(other)).kid).toBe('SECOND')
    }
  })
})

describe('listKeys and deleteKey', () => {
  test('a key that is made where no CKA_ID is shown has none that is known', async () => {
    const fake = new FakeToken({ hides: [CKA.ID] })
    await using store = await openStoreOn(fake)
    expect(await store.generateKey(PEK)).toMatchObject({ kid: 'P', id: '' })
  })

  test('of keys whose labels and CKA_IDs are not shown there is no public half, and no id', async () => {
    const fake = new FakeToken()
    await using store = await openStoreOn(fake)
    await store.generateKey(PEK)
    await store.generateKey({ kid: 'J', usage: 'jwt-signing', algorithm: 'ec-p256' })
    Object.assign(fake.options, { hides: [CKA.ID] })
    expect((await store.listKeys()).map(({ kid, id }) => [kid, id]).sort()).toEqual([
      ['J', ''],
      ['P', ''],
    ])
    Object.assign(fake.options, { hides: [CKA.ID, CKA.LABEL] })
    await using backend = await openBackendOn(fake)
    expect(await errorOf(() => backend.bind({ kid: 'J', usage: 'jwt-signing' }))).toMatchObject({
      code: 'ERR_KEY_ATTRIBUTES',
      message: expect.stringContaining('there is no public key object with its label'),
    })
  })

  test('list what can be bound, and what not with the reason', async () => {
    const fake = new FakeToken()
    await using store = await openStoreOn(fake, { composedMac: true })
    for (const key of CONTRACT_KEYS) await store.importKey(key)
    fake.plant([
      [CKA.CLASS, CKO.SECRET_KEY],
      [CKA.KEY_TYPE, CKK.DES2],
      [CKA.TOKEN, true],
      [CKA.LABEL, 'LOOSE'],
      [CKA.SENSITIVE, false],
    ])
    fake.plant([
      [CKA.CLASS, CKO.SECRET_KEY],
      [CKA.KEY_TYPE, CKK.DES2],
      [CKA.TOKEN, true],
      [CKA.LABEL, 'FOREIGN'],
      [CKA.ID, Buffer.from('x')],
      [CKA.SENSITIVE, true],
      [CKA.EXTRACTABLE, false],
      [CKA.PRIVATE, true],
      [CKA.MODIFIABLE, false],
      ...SECRET_BITS.map(bit => [roleAttribute(bit), bit === 'ENCRYPT'] as const),
      [CKA.VALUE, Buffer.from(MATERIAL, 'hex')],
    ])
    fake.plant([
      [CKA.CLASS, CKO.SECRET_KEY],
      [CKA.TOKEN, true],
    ])
    const listed = await store.listKeys()
    for (const { kid, usage, algorithm } of CONTRACT_KEYS) {
      expect(listed.find(key => key.kid === kid)).toMatchObject({ usage, algorithm, problem: undefined })
    }
    expect(listed.find(({ kid }) => kid === 'LOOSE')).toMatchObject({
      usage: undefined,
      problem: expect.stringContaining('ERR_KEY_ATTRIBUTES'),
    })
    expect(listed.find(({ kid }) => kid === 'FOREIGN')).toMatchObject({
      usage: undefined,
      algorithm: 'tdea-2key',
      id: '78',
      checkValue: { value: '08D7B4' },
    })
    expect(listed.find(({ kid }) => kid === '')).toMatchObject({ problem: expect.any(String) })
    expect(listed.length).toBe(CONTRACT_KEYS.length + 3)
  })

  test.each([
    { kid: 'M', usage: 'retail-mac', algorithm: 'tdea-2key', material: MATERIAL },
    { kid: 'J', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: '01'.repeat(32) },
  ] as const)('a deletion of $usage that any of its calls cuts off is done by the next one', async key => {
    const fake = new FakeToken()
    await using store = await openStoreOn(fake, { composedMac: true })
    await store.importKey(key)
    fake.reset()
    await store.deleteKey({ kid: key.kid })
    const calls = fake.calls.length
    for (let at = 1; at <= calls; at++) {
      await store.importKey(key)
      fake.reset({ at, code: 0x05 })
      const isDone = await store.deleteKey({ kid: key.kid }).then(
        () => true,
        () => false,
      )
      fake.reset()
      if (!isDone) await store.deleteKey({ kid: key.kid })
      expect(fake.census.token).toBe(0)
    }
  })

  test('delete a pair, one of two by CKA_ID, one without CKA_ID; refuse none and two', async () => {
    const fake = new FakeToken()
    await using store = await openStoreOn(fake)
    await store.generateKey({ kid: 'J', usage: 'jwe-key-agreement', algorithm: 'ec-p256' })
    await store.deleteKey({ kid: 'J' })
    expect(fake.census.token).toBe(0)
    const twin = (id: number | undefined) =>
      fake.plant([
        [CKA.CLASS, CKO.SECRET_KEY],
        [CKA.TOKEN, true],
        [CKA.LABEL, 'T'],
        [CKA.ID, id === undefined ? undefined : Buffer.of(id)],
      ])
    twin(1)
    twin(2)
    expect(await errorOf(() => store.deleteKey({ kid: 'T' }))).toMatchObject({ code: 'ERR_KEY_AMBIGUOUS' })
    await store.deleteKey({ kid: 'T', id: '01' })
    expect(await errorOf(() => store.deleteKey({ kid: 'T', id: '01' }))).toMatchObject({
      code: 'ERR_KEY_NOT_FOUND',
    })
    await store.deleteKey({ kid: 'T' })
    twin(undefined)
    await store.deleteKey({ kid: 'T' })
    expect(fake.census.token).toBe(0)
    expect(await errorOf(() => store.deleteKey({ kid: 'T', id: 'xy' }))).toMatchObject({
      code: 'ERR_ARGUMENT',
    })
    expect(await errorOf(() => store.deleteKey({ kid: '' }))).toMatchObject({ code: 'ERR_ARGUMENT' })
  })

  test('a token error that is none of a key goes out', async () => {
    const fake = new FakeToken()
    await using store = await openStoreOn(fake)
    await store.generateKey(PEK)
    fake.C_EncryptInit = () => {
      throw new Pkcs11Error('C_EncryptInit', 0x30)
    }
    expect(await errorOf(() => store.listKeys())).toMatchObject({ returnValueName: 'CKR_DEVICE_ERROR' })
  })
})

test('a closed store refuses; closing twice is fine', async () => {
  const fake = new FakeToken()
  const store = await openStoreOn(fake)
  await store.close()
  await store.close()
  expect(fake.sessions.size).toBe(0)
  for (const call of [
    () => store.listKeys(),
    () => store.generateKey(PEK),
    () => store.deleteKey({ kid: 'P' }),
  ]) {
    expect(await errorOf(call)).toMatchObject({ code: 'ERR_BACKEND_CLOSED' })
  }
})

test('a session that cannot be closed does not undo what was done', async () => {
  const fake = new FakeToken()
  const store = await openStoreOn(fake)
  const close = fake.C_CloseSession.bind(fake)
  fake.C_CloseSession = session => {
    close(session)
    close(session)
  }
  expect((await store.generateKey(PEK)).kid).toBe('P')
})

test('the options are checked', async () => {
  const { openKeyStoreOver } = await import('../../src/backend/pkcs11/key-store.js')
  const fake = new FakeToken()
  for (const options of [
    undefined,
    null,
    7,
    { ...optionsFor(fake), importClearKeys: 'yes' },
    optionsFor(fake, JSON.parse('{"slot":0}')),
  ]) {
    expect(await errorOf(() => openKeyStoreOver(options as never, fake.load))).toMatchObject({
      code: 'ERR_ARGUMENT',
    })
  }
  expect(fake.calls).toEqual([])
})

test('keys of the contract are bound by a backend that did not make them', async () => {
  const fake = new FakeToken()
  {
    await using store = await openStoreOn(fake, { composedMac: true })
    for (const key of CONTRACT_KEYS) await store.importKey(key)
  }
  await using backend = await openBackendOn(fake, { composedMac: true })
  for (const { kid, algorithm } of CONTRACT_KEYS)
    expect((await bindKey(backend, kid)).algorithm).toBe(algorithm)
})

describe('a key that others are derived from', () => {
  const ENCIPHER = { method: 'encipher', data: new Uint8Array(16) } as const
  const CMAC = { algorithm: 'cmac', padding: 'none' } as const

  test('computes nothing by itself, and one that may do more is not bound', async () => {
    const fake = new FakeToken()
    const options = { deriveKeys: 'inside' } as const
    await using store = await openStoreOn(fake, options)
    await store.generateKey({ kid: 'M', usage: 'cmac', algorithm: 'aes-128', derives: true })
    await store.generateKey({ kid: 'P', usage: 'cmac', algorithm: 'aes-128' })
    await using backend = await openBackendOn(fake, options)
    const master = operationsOf(await backend.bind({ kid: 'M', usage: 'cmac' }))
    expect(await errorOf(() => master.mac(CMAC, new Uint8Array(8)))).toMatchObject({ code: 'ERR_KEY_USAGE' })
    expect(await master.mac({ ...CMAC, derivation: [ENCIPHER] }, new Uint8Array(8))).toHaveLength(16)
    const plain = operationsOf(await backend.bind({ kid: 'P', usage: 'cmac' }))
    const derived = () => plain.mac({ ...CMAC, derivation: [ENCIPHER] }, new Uint8Array(8))
    expect(await errorOf(derived)).toMatchObject({ code: 'ERR_KEY_USAGE' })
    attributesOf(fake, 'M').set(CKA.SIGN, true)
    await using again = await openBackendOn(fake, options)
    const error = await errorOf(() => again.bind({ kid: 'M', usage: 'cmac' }))
    expect(error).toMatchObject({ code: 'ERR_KEY_USAGE' })
    expect(error).toHaveProperty('message', expect.stringContaining('must do nothing else itself'))
  })

  test('through the host, one that only signs derives by CMAC and not by encipherment', async () => {
    const fake = new FakeToken()
    const options = { deriveKeys: 'through-host' } as const
    await using store = await openStoreOn(fake, options)
    await store.generateKey({ kid: 'S', usage: 'cmac', algorithm: 'aes-128' })
    await using backend = await openBackendOn(fake, options)
    const key = operationsOf(await backend.bind({ kid: 'S', usage: 'cmac' }))
    const before = fake.census.session
    const COUNTER = { method: 'cmac-counter', counterBytes: 1, data: new Uint8Array(3) } as const
    const counted = { ...CMAC, derivation: [COUNTER] }
    expect(await key.mac(counted, new Uint8Array(8))).toHaveLength(16)
    expect(await key.mac({ ...counted, derivation: [COUNTER, ENCIPHER] }, new Uint8Array(8))).toHaveLength(16)
    const enciphered = () => key.mac({ ...CMAC, derivation: [ENCIPHER] }, new Uint8Array(8))
    expect(await errorOf(enciphered)).toMatchObject({ code: 'ERR_KEY_USAGE' })
    expect(fake.census.session).toBe(before)
  })

  test('through the host, no derived key stays in memory, also where the token does not take it, or not its K1', async () => {
    const fake = new FakeToken()
    const options = { deriveKeys: 'through-host', composedMac: true } as const
    await using store = await openStoreOn(fake, options)
    const keys = [
      { kid: 'R', usage: 'retail-mac', algorithm: 'tdea-2key', material: MATERIAL, derives: true },
      { kid: 'C', usage: 'cmac', algorithm: 'aes-128', material: MATERIAL, derives: true },
    ] as const
    for (const key of keys) await store.importKey(key)
    await using backend = await openBackendOn(fake, options)
    const create = fake.C_CreateObject.bind(fake)
    const retail = { algorithm: 'iso9797-1-alg3', padding: 2 } as const
    for (const { kid, usage } of keys) {
      const key = operationsOf(await backend.bind({ kid, usage }))
      const request = { ...(usage === 'cmac' ? CMAC : retail), derivation: [ENCIPHER] }
      for (const refused of [0, 1, 2]) {
        const derived: string[] = []
        fake.C_CreateObject = (session, template) => {
          const [, value] = template.find(([type]) => type === CKA.VALUE) ?? expect.unreachable()
          derived.push(Buffer.from(value as Uint8Array).toString('latin1', 0, 8))
          if (derived.length === refused) throw new Pkcs11Error('C_CreateObject', 0x13)
          return create(session, template)
        }
        const { buffers } = await buffersMadeBy(() =>
          key.mac(request, new Uint8Array(24)).catch(() => undefined),
        )
        fake.C_CreateObject = create
        const left = buffers.filter(buffer =>
          derived.some(one => Buffer.from(buffer).includes(one, 'latin1')),
        )
        expect([usage, refused, derived.length > 0, left.length]).toEqual([usage, refused, true, 0])
      }
    }
  })
})

test.each<[string, Omit<ImportedKey, 'kid'>]>([
  ['a key', { ...PEK, material: MATERIAL }],
  ['a composed one', { usage: 'retail-mac', algorithm: 'tdea-2key', material: MATERIAL }],
  [
    'a pair',
    {
      usage: 'jwt-signing',
      algorithm: 'ec-p256',
      material: CONTRACT_KEYS.find(({ kid }) => kid === 'SIGN-1')?.material as never,
    },
  ],
])('%s whose import fails at any call leaves nothing in the token', async (_name, key) => {
  const fake = new FakeToken()
  await using store = await openStoreOn(fake, { composedMac: true })
  const before = fake.census
  const failed: string[] = []
  for (let at = 1; ; at++) {
    fake.reset({ at, code: 0x30 })
    const isDone = await store.importKey({ ...key, kid: 'X' }).then(
      () => true,
      () => false,
    )
    if (isDone) break
    // What is destroyed, or closed, by a call that fails is still there.
    const name = fake.calls[at - 1] ?? ''
    failed.push(name)
    if (name !== 'C_DestroyObject') expect([at, name, fake.census]).toEqual([at, name, before])
  }
  expect(failed.filter(name => name === 'C_CreateObject').length).toBe(fake.census.token - before.token)
})
