/** What a token does not show of its keys, shows oddly, or has no way for: each ends in a key that is known, or in a coded error. */
import { createCipheriv } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { operationsOf } from '../../src/backend/key.js'
import type { Template } from '../../src/backend/pkcs11/binding/binding.js'
import { CKA, CKK, CKM, CKO } from '../../src/backend/pkcs11/binding/constants.js'
import { Pkcs11Error } from '../../src/backend/pkcs11/binding/errors.js'
import { roleAttribute, SECRET_BITS } from '../../src/backend/pkcs11/mechanisms/templates.js'
import { sessionsOf } from '../../src/backend/pkcs11/session/connection.js'
import { CONTRACT_KEYS } from '../../src/testing.js'
import { type FakeOptions, FakeToken } from './fake-token.js'
import { bindKey, errorOf, openBackendOn, openStoreOn } from './support.js'

const VALUE = Buffer.from('0123456789ABCDEFFEDCBA9876543210', 'hex')
const OTHER = Buffer.from('FEDCBA98765432100123456789ABCDEF', 'hex')
const BLOCK = new Uint8Array(8)

/** A key that somebody else made, with one role. */
function planted(can: string, changes: Template, without: readonly number[] = []): Template {
  const changed = new Set([...changes.map(([type]) => type), ...without])
  const usual: Template = [
    [CKA.CLASS, CKO.SECRET_KEY],
    [CKA.KEY_TYPE, CKK.DES2],
    [CKA.TOKEN, true],
    [CKA.LABEL, 'K'],
    [CKA.PRIVATE, true],
    [CKA.MODIFIABLE, false],
    [CKA.SENSITIVE, true],
    [CKA.EXTRACTABLE, false],
    ...SECRET_BITS.map(bit => [roleAttribute(bit), bit === can] as const),
    [CKA.VALUE, VALUE],
  ]
  return [...usual.filter(([type]) => !changed.has(type)), ...changes]
}

async function withPlanted(keys: readonly Template[], options: FakeOptions = {}) {
  const fake = new FakeToken(options)
  for (const key of keys) fake.plant(key)
  return { fake, backend: await openBackendOn(fake) }
}

/** Takes an attribute away from all objects by a label. */
function strip(fake: FakeToken, label: string, ...types: readonly number[]): void {
  for (const { attributes } of fake.objects.values()) {
    if (attributes.get(CKA.LABEL) !== label) continue
    for (const type of types) attributes.delete(type)
  }
}

describe('an HMAC key whose length', () => {
  const hmac = (bytes: number): Template =>
    planted('SIGN', [
      [CKA.KEY_TYPE, CKK.GENERIC_SECRET],
      [CKA.VALUE, Buffer.alloc(bytes, 7)],
      [CKA.VALUE_LEN, bytes],
    ])

  test.each([
    ['is another', 20, {}, 'an HMAC key of 20 bytes'],
    ['is not shown', 32, { hides: [CKA.VALUE_LEN] }, 'an HMAC key of unknown bytes'],
  ])('%s is refused', async (_what, bytes, options, text) => {
    const { backend } = await withPlanted([hmac(bytes)], options)
    const error = await errorOf(() => backend.bind({ kid: 'K', usage: 'hmac' }))
    expect(error).toMatchObject({ code: 'ERR_KEY_MATERIAL', kid: 'K' })
    expect(error.message).toContain(text)
  })

  test('is not shown, and which the CKA_ID says, is one', async () => {
    const fake = new FakeToken({ hides: [CKA.VALUE_LEN] })
    await using store = await openStoreOn(fake)
    await store.generateKey({ kid: 'H', usage: 'hmac', algorithm: 'hmac-sha256' })
    await using backend = await openBackendOn(fake)
    expect((await backend.bind({ kid: 'H', usage: 'hmac' })).algorithm).toBe('hmac-sha256')
  })
})

test('HMAC without a mechanism for it: no key is brought in, and one that is there is not bound', async () => {
  const fake = new FakeToken({ without: [CKM.SHA256_HMAC] })
  await using store = await openStoreOn(fake)
  const key = { kid: 'H', usage: 'hmac', algorithm: 'hmac-sha256', material: '07'.repeat(32) } as const
  expect(await errorOf(() => store.importKey(key))).toMatchObject({ code: 'ERR_UNSUPPORTED_BY_TOKEN' })
  fake.plant(
    planted('SIGN', [
      [CKA.KEY_TYPE, CKK.GENERIC_SECRET],
      [CKA.VALUE, Buffer.alloc(32, 7)],
      [CKA.VALUE_LEN, 32],
    ]),
  )
  await using backend = await openBackendOn(fake)
  const error = await errorOf(() => backend.bind({ kid: 'K', usage: 'hmac' }))
  expect(error).toMatchObject({ code: expect.stringMatching(/^ERR_/) })
})

describe('names that are not there', () => {
  test('one key under two names by its unique identifier: for two purposes it is refused', async () => {
    const unique = [CKA.UNIQUE_ID, Buffer.from('4711')] as const
    const { backend } = await withPlanted([
      planted('ENCRYPT', [unique]),
      planted('SIGN', [unique, [CKA.LABEL, 'M'], [CKA.VALUE, OTHER]]),
    ])
    await backend.bind({ kid: 'K', usage: 'pin-encryption' })
    const error = await errorOf(() => backend.bind({ kid: 'M', usage: 'cmac' }))
    expect(error).toMatchObject({ code: 'ERR_KEY_USAGE', kid: 'M' })
  })

  test('keys without a label are found by their CKA_ID: with the K1 of a retail MAC, with a public half', async () => {
    const fake = new FakeToken()
    const options = { composedMac: true }
    const keys = CONTRACT_KEYS.filter(({ usage }) => usage === 'retail-mac' || usage === 'jwe-key-agreement')
    const ids = new Map<string, string>()
    {
      await using store = await openStoreOn(fake, options)
      for (const key of keys) ids.set(key.kid, (await store.importKey(key)).id)
    }
    const [retail = expect.fail(), pair = expect.fail()] = [
      keys.find(({ usage }) => usage === 'retail-mac'),
      keys.find(({ usage }) => usage === 'jwe-key-agreement'),
    ]
    await using before = await openBackendOn(fake, options)
    const mac = { algorithm: 'iso9797-1-alg3', padding: 2 } as const
    const expected = await operationsOf(await bindKey(before, retail.kid)).mac(mac, BLOCK)
    const { publicJwk } = await bindKey(before, pair.kid)
    for (const { kid } of [retail, pair]) strip(fake, kid, CKA.LABEL)
    const locations = Object.fromEntries([retail, pair].map(({ kid }) => [kid, { id: ids.get(kid) ?? '' }]))
    await using backend = await openBackendOn(fake, { ...options, keys: locations })
    expect(await operationsOf(await bindKey(backend, retail.kid)).mac(mac, BLOCK)).toEqual(expected)
    expect((await bindKey(backend, pair.kid)).publicJwk).toEqual(publicJwk)
    // Those that have no label are listed with the others.
    await using store = await openStoreOn(fake, options)
    expect(await store.listKeys()).toHaveLength(keys.length)
  })

  test('the value of a key without a label is told apart all the same, and what is no key of ours is passed over', async () => {
    const fake = new FakeToken()
    await using store = await openStoreOn(fake)
    const material = VALUE.toString('hex')
    await store.importKey({ kid: 'MAC', usage: 'cmac', algorithm: 'tdea-2key', material })
    strip(fake, 'MAC', CKA.LABEL)
    fake.plant(
      planted('ENCRYPT', [
        [CKA.KEY_TYPE, 0x13],
        [CKA.LABEL, 'DES'],
        [CKA.VALUE, BLOCK],
      ]),
    )
    const pek = { usage: 'pin-encryption', algorithm: 'tdea-2key' } as const
    const error = await errorOf(() => store.importKey({ ...pek, kid: 'PEK', material }))
    expect(error).toMatchObject({ code: 'ERR_KEY_USAGE', kid: 'PEK' })
    expect(error.message).toContain('a key without a label')
    const other = await store.importKey({ ...pek, kid: 'PEK', material: OTHER.toString('hex') })
    expect(other.kid).toBe('PEK')
  })

  test('a token that breaks off between twins is no ambiguity', async () => {
    const { fake, backend } = await withPlanted([
      planted('ENCRYPT', [[CKA.ID, Buffer.from('one')]]),
      planted('ENCRYPT', [
        [CKA.ID, Buffer.from('two')],
        [CKA.VALUE, OTHER],
      ]),
    ])
    fake.faultOf = { fn: 'C_EncryptInit', code: 0x54 }
    const error = await errorOf(() => backend.bind({ kid: 'K', usage: 'pin-encryption', kcv: '08D7B4' }))
    expect(error).toMatchObject({ code: 'ERR_PKCS11_CALL' })
    fake.faultOf = undefined
    await backend.close()
  })
})

describe('of a key’s past and time', () => {
  test.each([
    [[CKA.NEVER_EXTRACTABLE], 'unknown'],
    [[CKA.ALWAYS_SENSITIVE], 'unknown'],
    [[], 'brought-in'],
  ])('with %j hidden its origin is %s', async (hides, origin) => {
    const fake = new FakeToken({ hides })
    await using store = await openStoreOn(fake)
    await store.importKey({
      kid: 'P',
      usage: 'pin-encryption',
      algorithm: 'tdea-2key',
      material: VALUE.toString('hex'),
    })
    expect(await store.listKeys()).toMatchObject([{ kid: 'P', origin }])
  })

  test('dates go into the token and come back; where it hides them nothing is asked', async () => {
    const period = { validFrom: new Date('2026-01-01T00:00:00Z'), validTo: new Date('2028-12-31T00:00:00Z') }
    const key = {
      kid: 'P',
      usage: 'pin-encryption',
      algorithm: 'tdea-2key',
      material: VALUE.toString('hex'),
    } as const
    for (const manufacturer of ['fake', 'SoftHSM project']) {
      const fake = new FakeToken({ tokens: [{ label: 'fake', serial: '1', manufacturer }] })
      await using store = await openStoreOn(fake)
      await store.importKey({ ...key, ...period })
      await using backend = await openBackendOn(fake)
      const bound = await backend.bind({ kid: 'P', usage: 'pin-encryption' })
      const shown = [bound.validFrom, bound.validTo].map(date => date?.slice(0, 10))
      expect(shown).toEqual(manufacturer === 'fake' ? ['2026-01-01', '2028-12-31'] : [undefined, undefined])
    }
  })
})

describe('keys that are not made', () => {
  const pek = { kid: 'P', usage: 'pin-encryption', algorithm: 'tdea-2key' } as const

  test('one in mode E that the host should decipher with', async () => {
    await using store = await openStoreOn(new FakeToken())
    const error = await errorOf(() => store.generateKey({ ...pek, mode: 'E', hostDecipher: true }))
    expect(error).toMatchObject({ code: 'ERR_ARGUMENT' })
    expect(error.message).toContain('mode E')
  })

  test('by unwrapping: a composed retail MAC key, and two keys where the token has no type for them', async () => {
    const KEK = '000102030405060708090A0B0C0D0E0F'
    const cipher = createCipheriv('id-aes128-wrap' as never, Buffer.from(KEK, 'hex'), Buffer.alloc(8, 0xa6))
    const wrapped = new Uint8Array(Buffer.concat([cipher.update(VALUE), cipher.final()]))
    const wanted = {
      wrapped,
      wrapping: 'rfc3394',
      under: 'KEK',
      algorithm: 'tdea-2key',
      kcv: '08D7B4',
    } as const
    for (const [options, usage, text] of [
      [{}, 'retail-mac', 'which takes an object of K1'],
      [{ without: [-CKK.DES2] }, 'pin-encryption', 'keeps no two-key bundle'],
    ] as const) {
      await using store = await openStoreOn(new FakeToken(options), { composedMac: true })
      await store.importKey({ kid: 'KEK', usage: 'key-encryption', algorithm: 'aes-128', material: KEK })
      const error = await errorOf(() => store.unwrapKey({ ...wanted, kid: 'P', usage }))
      expect(error).toMatchObject({ code: 'ERR_UNSUPPORTED_BY_TOKEN' })
      expect(error.message).toContain(text)
    }
  })

  test('a pair of which the token takes one half: nothing of it stays', async () => {
    const fake = new FakeToken()
    await using store = await openStoreOn(fake)
    const [pair = expect.fail()] = CONTRACT_KEYS.filter(({ usage }) => usage === 'jwe-key-agreement')
    const create = fake.C_CreateObject.bind(fake)
    fake.C_CreateObject = (session, template) => {
      const isPublic = template.some(([type, value]) => type === CKA.CLASS && value === CKO.PUBLIC_KEY)
      if (isPublic) throw new Pkcs11Error('C_CreateObject', 0x31)
      return create(session, template)
    }
    const before = fake.census
    expect(await errorOf(() => store.importKey(pair))).toMatchObject({ code: 'ERR_PKCS11_CALL' })
    expect(fake.census).toEqual(before)
  })
})

test('a PIN key in mode D: it deciphers, and is unwrapped with for translation; it enciphers nothing', async () => {
  const fake = new FakeToken()
  const options = { translateInToken: true }
  await using store = await openStoreOn(fake, options)
  const key = { usage: 'pin-encryption', mode: 'D', algorithm: 'tdea-2key', translation: true } as const
  await store.generateKey({ ...key, kid: 'D' })
  await using backend = await openBackendOn(fake, options)
  const bound = await backend.bind({ kid: 'D', usage: 'pin-encryption', mode: 'D' })
  expect(bound.mode).toBe('D')
  expect(await errorOf(() => operationsOf(bound).encipher(BLOCK))).toMatchObject({ code: 'ERR_KEY_USAGE' })
})

test('three keys derived in the token, from one of three', async () => {
  const options = { deriveKeys: 'inside' } as const
  const fake = new FakeToken()
  await using store = await openStoreOn(fake, options)
  await store.generateKey({ kid: 'M', usage: 'cmac', algorithm: 'tdea-3key', derives: true })
  await using backend = await openBackendOn(fake, options)
  const key = operationsOf(await backend.bind({ kid: 'M', usage: 'cmac' }))
  const derived = (fill: number): Promise<Uint8Array> =>
    key.mac(
      {
        algorithm: 'cmac',
        padding: 'none',
        derivation: [{ method: 'encipher', data: new Uint8Array(24).fill(fill) }],
      },
      BLOCK,
    )
  expect(await derived(1)).toHaveLength(8)
  expect(await derived(1)).not.toEqual(await derived(2))
})

describe('probes', () => {
  test('without a known key nothing is derived, although it was asked for', async () => {
    await using backend = await openBackendOn(new FakeToken(), { probe: 'relation', deriveKeys: 'inside' })
    expect(backend.capabilities().derivation).toBe('none')
  })

  test('translation where two keys are three: inside all the same', async () => {
    const fake = new FakeToken({ without: [-CKK.DES2] })
    await using backend = await openBackendOn(fake, { translateInToken: true })
    expect(backend.capabilities().reencipher).toBe('inside')
  })

  test('a device that fails while it is tried whether keys stay closed is no token that keeps them closed: it does not open', async () => {
    const fake = new FakeToken()
    fake.faultOf = { fn: 'C_UnwrapKey', code: 0x30 }
    const error = await errorOf(() => openBackendOn(fake, { translateInToken: true }))
    expect(error).toMatchObject({ code: 'ERR_PKCS11_CALL', retryable: true })
  })

  test('what a vendor’s token claims of a key’s past is in the notes', async () => {
    await using backend = await openBackendOn(new FakeToken(), { vendor: 'nss' })
    expect(backend.capabilities().notes.join('\n')).toContain("says of a key's past is not always so")
  })
})

test('sessions: those that a token says it has for us, without the anchor; what stands for none and for many', () => {
  const token = { label: '', manufacturer: '', model: '', serial: '', flags: 0, sessions: 0 }
  const of = (maxSessions: number) => sessionsOf({ ...token, maxSessions })
  expect([0, 0xffff_ffff, 0xffff_fffe].map(of)).toEqual([undefined, undefined, undefined])
  expect([1, 2, 16].map(of)).toEqual([1, 1, 15])
})

test('the URI of an object finds its token', async () => {
  const fake = new FakeToken()
  await using backend = await openBackendOn(fake, { token: 'pkcs11:token=fake;object=PEK;type=secret-key' })
  expect((await backend.health()).ok).toBe(true)
})
