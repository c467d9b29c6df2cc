/** Keys that come into a token wrapped under one of its own, or in components: whole, with the right check value, or not at all. */
import { createCipheriv } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { CKA, CKM } from '../../src/backend/pkcs11/binding/constants.js'
import { UNWRAPPED_KEYS } from '../../src/backend/pkcs11/mechanisms/templates.js'
import { type FakeOptions, FakeToken } from './fake-token.js'
import { errorOf, openStoreOn } from './support.js'

const KEK = '000102030405060708090A0B0C0D0E0F'
const VALUE = Buffer.from('0123456789ABCDEFFEDCBA9876543210', 'hex')

function wrap(value: Uint8Array): Uint8Array {
  const cipher = createCipheriv('id-aes128-wrap' as never, Buffer.from(KEK, 'hex'), Buffer.alloc(8, 0xa6))
  return new Uint8Array(Buffer.concat([cipher.update(value), cipher.final()]))
}

async function open(options: FakeOptions = {}, importClearKeys = true) {
  const fake = new FakeToken(options)
  const store = await openStoreOn(fake, { importClearKeys })
  return { fake, store }
}

test.each(['imported', 'generated'])('a key-encryption key that was %s unwraps keys alone', async how => {
  const { store, fake } = await open()
  const spec = { kid: 'KEK', usage: 'key-encryption', algorithm: 'aes-128' } as const
  await (how === 'imported' ? store.importKey({ ...spec, material: KEK }) : store.generateKey(spec))
  const [object] = [...fake.objects.values()].filter(({ session }) => session === undefined)
  expect(object?.attributes.get(CKA.UNWRAP_TEMPLATE)).toEqual(UNWRAPPED_KEYS)
})

describe('unwrapKey', () => {
  const wanted = {
    kid: 'ZPK',
    usage: 'pin-encryption',
    algorithm: 'tdea-2key',
    wrapped: wrap(VALUE),
    wrapping: 'rfc3394',
    under: 'KEK',
    kcv: '08D7B4',
  } as const

  async function withKek(options: FakeOptions = {}) {
    const opened = await open(options)
    const { store } = opened
    await store.importKey({ kid: 'KEK', usage: 'key-encryption', algorithm: 'aes-128', material: KEK })
    return opened
  }

  test('the token unwraps it by itself, and its check value is compared', async () => {
    const { store, fake } = await withKek()
    fake.reset()
    expect(await store.unwrapKey(wanted)).toMatchObject({ kid: 'ZPK', checkValue: { value: '08D7B4' } })
    expect(fake.calls).toContain('C_UnwrapKey')
    expect(fake.given).toEqual([])
    const before = fake.census
    expect(await errorOf(() => store.unwrapKey({ ...wanted, kid: 'OTHER', kcv: '000000' }))).toMatchObject({
      code: 'ERR_KEY_CHECK_VALUE',
    })
    expect(fake.census).toEqual(before)
  })

  test.each<[string, object, string]>([
    ['another wrapping', { wrapping: 'ecb' }, 'ERR_ARGUMENT'],
    ['too short', { wrapped: new Uint8Array(16) }, 'ERR_LENGTH'],
    ['too long', { wrapped: new Uint8Array(56) }, 'ERR_LENGTH'],
    ['not in eights', { wrapped: new Uint8Array(25) }, 'ERR_LENGTH'],
    ['under no key', { under: 'NONE' }, 'ERR_KEY_NOT_FOUND'],
    ['damaged', { wrapped: wrap(VALUE).reverse() }, 'ERR_PKCS11_CALL'],
    ['a P-256 key', { usage: 'jwt-signing', algorithm: 'ec-p256' }, 'ERR_UNSUPPORTED_BY_TOKEN'],
  ])('%s: refused, and nothing stays', async (_what, change, code) => {
    const { store, fake } = await withKek()
    const before = fake.census
    expect(await errorOf(() => store.unwrapKey({ ...wanted, ...change } as never))).toMatchObject({ code })
    expect(fake.census).toEqual(before)
  })

  test('RFC 5649: by the mechanism that the token has of the two', async () => {
    const { store } = await withKek({ without: [CKM.AES_KEY_WRAP_KWP] })
    const cipher = createCipheriv(
      'id-aes128-wrap-pad' as never,
      Buffer.from(KEK, 'hex'),
      Buffer.from('a65959a6', 'hex'),
    )
    const wrapped = new Uint8Array(Buffer.concat([cipher.update(VALUE), cipher.final()]))
    expect((await store.unwrapKey({ ...wanted, wrapped, wrapping: 'rfc5649' })).checkValue.value).toBe(
      '08D7B4',
    )
    const { store: neither } = await withKek({ without: [CKM.AES_KEY_WRAP_KWP, CKM.AES_KEY_WRAP_PAD] })
    expect(await errorOf(() => neither.unwrapKey({ ...wanted, wrapped, wrapping: 'rfc5649' }))).toMatchObject(
      {
        code: 'ERR_PKCS11_CALL',
      },
    )
  })
})

describe('assembleKey', () => {
  const mask = new Uint8Array(16).fill(0x5a)
  const parts = [mask, VALUE.map(byte => byte ^ 0x5a)]
  const wanted = {
    kid: 'ZPK',
    usage: 'pin-encryption',
    algorithm: 'tdea-2key',
    parts,
    kcv: '08D7B4',
  } as const

  test('inside, where the token combines secrets; through the host where it does not, and that is allowed', async () => {
    const inside = await open({}, false)
    expect(await inside.store.assembleKey(wanted)).toMatchObject({
      combined: 'in-token',
      key: { checkValue: { value: '08D7B4' } },
    })
    const outside = await open({ without: [CKM.XOR_BASE_AND_DATA] })
    expect(await outside.store.assembleKey(wanted)).toMatchObject({ combined: 'in-host-memory' })
    const refused = await open({ without: [CKM.XOR_BASE_AND_DATA] }, false)
    expect(await errorOf(() => refused.store.assembleKey(wanted))).toMatchObject({ code: 'ERR_ARGUMENT' })
    for (const { fake } of [inside, outside, refused]) expect(fake.census.session).toBe(1)
  })

  test.each<[string, object, string]>([
    ['one component', { parts: [VALUE] }, 'ERR_ARGUMENT'],
    ['none', { parts: [] }, 'ERR_ARGUMENT'],
    ['one of another length', { parts: [mask, new Uint8Array(8)] }, 'ERR_LENGTH'],
    ['another check value', { kcv: '000000' }, 'ERR_KEY_CHECK_VALUE'],
  ])('%s: refused inside and outside, and nothing stays', async (_what, change, code) => {
    for (const options of [{}, { without: [CKM.XOR_BASE_AND_DATA] }]) {
      const { store, fake } = await open(options)
      const before = fake.census
      const error = await errorOf(() => store.assembleKey({ ...wanted, ...change } as never))
      expect([code, 'ERR_KEY_MATERIAL']).toContain(error.code)
      expect(fake.census).toEqual(before)
    }
  })
})

test('a value that is here for one purpose does not come in for another, by any way', async () => {
  const { store, fake } = await open()
  await store.importKey({ kid: 'KEK', usage: 'key-encryption', algorithm: 'aes-128', material: KEK })
  const here = { usage: 'pin-encryption', algorithm: 'tdea-2key' } as const
  const mask = new Uint8Array(16).fill(0x5a)
  const kcv = '08D7B4'
  const ways = {
    imported: (key: typeof here & { kid: string }) => store.importKey({ ...key, material: VALUE }),
    'in components': (key: typeof here & { kid: string }) =>
      store.assembleKey({ ...key, kcv, parts: [mask, VALUE.map(byte => byte ^ 0x5a)] }),
    unwrapped: (key: typeof here & { kid: string }) =>
      store.unwrapKey({ ...key, kcv, wrapped: wrap(VALUE), wrapping: 'rfc3394', under: 'KEK' }),
  }
  await ways.imported({ ...here, kid: 'ZPK' })
  const before = fake.census
  for (const [way, bring] of Object.entries(ways)) {
    const other = { ...here, usage: 'cbc-mac' as never, kid: 'OTHER' }
    expect([way, await errorOf(() => bring(other))]).toMatchObject([way, { code: 'ERR_KEY_USAGE' }])
    expect(fake.census).toEqual(before)
    // For the same purpose it may.
    await bring({ ...here, kid: `AGAIN ${way}` })
    await store.deleteKey({ kid: `AGAIN ${way}` })
  }
})
