import { describe, expect, test } from 'vitest'
import { operationsOf } from '../../src/backend/key.js'
import { CKK, CKM } from '../../src/backend/pkcs11/binding/constants.js'
import { Pan, verifyPinBlock } from '../../src/index.js'
import type { KeyStoreOptions } from '../../src/pkcs11.js'
import { type FakeOptions, FakeToken } from './fake-token.js'
import { bindKey, errorOf, openBackendOn, openStoreOn, provisionFake } from './support.js'

async function capabilitiesOf(fake: FakeOptions, more: Partial<KeyStoreOptions> = {}) {
  const backend = await openBackendOn(new FakeToken(fake), more)
  const capabilities = backend.capabilities()
  await backend.close()
  return { ...capabilities, all: capabilities.notes.join('\n') }
}

const EVERYTHING: Partial<KeyStoreOptions> = {
  composedMac: true,
  translateInToken: true,
  extractSharedSecret: true,
}

describe('what a token can do is found out by having it done', () => {
  test('a token with everything', async () => {
    const { all, ...found } = await capabilitiesOf({ kdf: true }, EVERYTHING)
    expect(found).toMatchObject({
      backend: 'pkcs11',
      macs: { 'iso9797-1-alg1': 'native', 'iso9797-1-alg3': 'composed', cmac: 'native' },
      keyAgreement: 'token-kdf',
      signing: 'native',
      reencipher: 'inside',
      random: 'C_GenerateRandom of fake 1.0',
    })
    expect(found.tdea).toContain('CKK_DES2')
    const [first, ...tried] = all.split('\n')
    expect(first).toMatch(
      /^executor inline \(asked for\): a known answer took \d+\.\d\d ms; 1 calls at a time; binding fake$/,
    )
    expect(tried.filter(note => !note.startsWith('tried on a test key: '))).toEqual([])
  })

  test('without opting in, nothing is composed, translated or extracted, and the operation says why', async () => {
    const fake = new FakeToken()
    await provisionFake(fake, { composedMac: true })
    const backend = await openBackendOn(fake)
    expect(backend.capabilities()).toMatchObject({
      macs: { 'iso9797-1-alg3': 'none' },
      keyAgreement: 'token-digest-key',
      reencipher: 'host',
    })
    const key = await bindKey(backend, 'MAC-3')
    const error = await errorOf(() =>
      operationsOf(key).mac({ algorithm: 'iso9797-1-alg3', padding: 1 }, new Uint8Array(8)),
    )
    expect(error).toMatchObject({ code: 'ERR_UNSUPPORTED_BY_TOKEN', retryable: false })
    expect(error.message).toContain('composedMac')
  })

  test.each<[string, FakeOptions, Partial<KeyStoreOptions>, object, string]>([
    ['no CKK_DES2', { without: [-CKK.DES2] }, {}, { macs: { cmac: 'native' } }, 'CKK_DES2'],
    [
      'no CBC',
      { without: [CKM.DES3_CBC] },
      EVERYTHING,
      { macs: { 'iso9797-1-alg1': 'none', 'iso9797-1-alg3': 'none', cmac: 'native' } },
      'TDEA CBC: C_EncryptInit returned CKR_MECHANISM_INVALID',
    ],
    [
      'no CMAC',
      { without: [CKM.DES3_CMAC, CKM.AES_CMAC] },
      {},
      { macs: { cmac: 'none' } },
      'CKM_DES3_CMAC: C_SignInit returned CKR_MECHANISM_INVALID',
    ],
    [
      'no CMAC, composed',
      { without: [CKM.DES3_CMAC, CKM.AES_CMAC] },
      EVERYTHING,
      { macs: { cmac: 'composed' } },
      'CKM_AES_CMAC',
    ],
    [
      'no HMAC',
      { without: [CKM.SHA256_HMAC] },
      {},
      { macs: { 'hmac-sha256': 'none' } },
      'CKM_SHA256_HMAC: C_SignInit returned CKR_MECHANISM_INVALID',
    ],
    ['no TDEA CMAC', { without: [CKM.DES3_CMAC] }, {}, { macs: { cmac: 'native' } }, 'CKM_DES3_CMAC'],
    [
      'no C_DigestKey',
      { noDigestKey: true },
      {},
      { keyAgreement: 'none' },
      'C_DigestKey returned CKR_KEY_INDIGESTIBLE',
    ],
    [
      'no C_DigestKey, extracted',
      { noDigestKey: true },
      EVERYTHING,
      { keyAgreement: 'token-extract' },
      'C_DigestKey',
    ],
    [
      'no EC',
      { without: [CKM.EC_KEY_PAIR_GEN] },
      EVERYTHING,
      { keyAgreement: 'none', signing: 'none' },
      'C_GenerateKeyPair',
    ],
    [
      'no ECDSA',
      { without: [CKM.ECDSA] },
      {},
      { keyAgreement: 'token-digest-key', signing: 'none' },
      'CKM_ECDSA: C_SignInit returned CKR_MECHANISM_INVALID',
    ],
    ['no wrapping', { without: [-2] }, EVERYTHING, { reencipher: 'host' }, '8 bytes at a time: C_UnwrapKey'],
    ['no random', { without: [-1] }, {}, { random: 'none' }, 'random numbers: C_GenerateRandom'],
    [
      'a vendor MAC it has not',
      {},
      { retailMac: 'luna' },
      { macs: { 'iso9797-1-alg3': 'none' } },
      'retail MAC (luna): C_SignInit',
    ],
    [
      'a vendor MAC of 8 bytes',
      { retail: { mechanism: 0x8000_0150, bytes: 8 } },
      { retailMac: 'luna' },
      { macs: { 'iso9797-1-alg3': 'native' } },
      '',
    ],
    [
      'a vendor MAC of 4 bytes',
      { retail: { mechanism: 0x8000_0150, bytes: 4 } },
      { retailMac: 'luna' },
      { macs: { 'iso9797-1-alg3': 'none' } },
      '',
    ],
    ['no ECB', { without: [CKM.DES3_ECB] }, {}, { tdea: 'none' }, 'TDEA: C_EncryptInit'],
  ])('%s', async (_name, fake, more, expected, note) => {
    const { all, ...found } = await capabilitiesOf(fake, more)
    expect(found).toMatchObject(expected)
    expect(all).toContain(note)
  })

  test('no clear import: generated keys, what can be checked is checked, the rest is not used', async () => {
    const { all, ...found } = await capabilitiesOf({ noImport: true }, EVERYTHING)
    expect(found).toMatchObject({
      macs: { 'iso9797-1-alg1': 'native', 'iso9797-1-alg3': 'none', cmac: 'native' },
      keyAgreement: 'token-digest-key',
      reencipher: 'host',
    })
    expect(all).toContain('C_CreateObject returned CKR_ACTION_PROHIBITED')
    expect(all).toContain('checked with keys it generated')
    const vendor = { retail: { mechanism: 0x8000_0150, bytes: 8 }, noImport: true }
    expect(await capabilitiesOf(vendor, { retailMac: 'luna' })).toMatchObject({
      macs: { 'iso9797-1-alg3': 'none' },
    })
    expect((await capabilitiesOf({ noImport: true, without: [CKM.DES2_KEY_GEN] })).tdea).toContain('CKK_DES3')
  })

  test('no clear import: keys are made and used, and health has an answer to compare', async () => {
    const fake = new FakeToken({ noImport: true })
    await using store = await openStoreOn(fake)
    const made = await store.generateKey({ kid: 'PEK', usage: 'pin-encryption', algorithm: 'tdea-2key' })
    await using backend = await openBackendOn(fake)
    const key = await backend.bind({ kid: 'PEK', usage: 'pin-encryption', kcv: made.checkValue })
    expect((await operationsOf(key).encipher(new Uint8Array(8))).length).toBe(8)
    expect((await backend.health()).ok).toBe(true)
  })

  test('neither import nor generation of TDEA keys', async () => {
    const without = [CKM.DES2_KEY_GEN, CKM.DES3_KEY_GEN]
    const fake = new FakeToken({ noImport: true, without })
    await using backend = await openBackendOn(fake)
    expect(backend.capabilities()).toMatchObject({ tdea: 'none', keyAgreement: 'token-digest-key' })
    expect(await backend.health()).toMatchObject({
      ok: true,
      detail: expect.stringContaining('no known answer'),
    })
  })

  test('an operation without a way says so', async () => {
    const fake = new FakeToken({ without: [-1] })
    await using backend = await openBackendOn(fake)
    expect(await errorOf(() => backend.randomBytes(8))).toMatchObject({ code: 'ERR_UNSUPPORTED_BY_TOKEN' })
  })

  test('a PIN is not verified where either of the two keys has a cipher that was not proven', async () => {
    const fake = new FakeToken({})
    await using store = await openStoreOn(fake)
    await store.generateKey({
      kid: 'PEK',
      usage: 'pin-encryption',
      algorithm: 'tdea-2key',
      hostDecipher: true,
    })
    await store.generateKey({
      kid: 'PEK-AES',
      usage: 'pin-encryption',
      algorithm: 'aes-128',
      hostDecipher: true,
    })
    Object.assign(fake.options, { without: [CKM.AES_ECB] })
    await using backend = await openBackendOn(fake)
    // The token does AES again, but nothing has shown that it does it rightly.
    Object.assign(fake.options, { without: [] })
    const tdea = await backend.bind({ kid: 'PEK', usage: 'pin-encryption', hostDecipher: true })
    const aes = await backend.bind({ kid: 'PEK-AES', usage: 'pin-encryption', hostDecipher: true })
    for (const call of ['encipher', 'decipher'] as const) {
      fake.reset()
      const error = await errorOf(() => operationsOf(aes)[call](new Uint8Array(16)))
      expect([call, error]).toMatchObject([call, { code: 'ERR_UNSUPPORTED_BY_TOKEN' }])
      expect(fake.calls.filter(name => /^C_(En|De)cryptInit$/.test(name))).toEqual([])
    }
    const pan = Pan.from('4761739001010010')
    const sides = [
      { block: new Uint8Array(8), format: 0, key: tdea },
      { block: new Uint8Array(16), format: 4, key: aes },
    ] as const
    for (const [at, { key: from, ...sent }] of sides.entries()) {
      const kept = sides[1 - at] ?? expect.fail()
      fake.reset()
      const asked = {
        ...sent,
        from,
        pan,
        against: { kind: 'block', ...kept },
        tries: 'counted-elsewhere',
      } as const
      expect(await errorOf(() => verifyPinBlock(asked))).toMatchObject({ code: 'ERR_UNSUPPORTED_BY_TOKEN' })
      expect(fake.calls).not.toContain('C_DecryptInit')
    }
  })
})

describe('translation inside the token', () => {
  const pek = { usage: 'pin-encryption', algorithm: 'tdea-2key', translation: true } as const

  test.each([
    ['without a limit', undefined, 1],
    ['of 300 bytes', { bytes: 300, cut: false }, 4],
    ['of 40 bytes, cut short', { bytes: 40, cut: true }, 32],
    ['of 8 bytes', { bytes: 8, cut: false }, 128],
  ])('takes as many blocks at a time as fit into a secret %s', async (_name, maxSecret, calls) => {
    const fake = new FakeToken(maxSecret === undefined ? {} : { maxSecret })
    const options = { translateInToken: true }
    await using store = await openStoreOn(fake, options)
    for (const kid of ['A', 'B']) await store.generateKey({ ...pek, kid })
    await using backend = await openBackendOn(fake, options)
    expect(backend.capabilities().reencipher).toBe('inside')
    const [from, to] = [
      await backend.bind({ kid: 'A', usage: 'pin-encryption' }),
      await backend.bind({ kid: 'B', usage: 'pin-encryption' }),
    ]
    const clear = Uint8Array.from({ length: 1024 }, (_, i) => (i * 7) & 0xff)
    const enciphered = await operationsOf(from).encipher(clear)
    fake.reset()
    const moved = await operationsOf(from).reencipher(to, enciphered)
    expect(fake.calls.filter(call => call === 'C_UnwrapKey').length).toBe(calls)
    expect(moved).toEqual(await operationsOf(to).encipher(clear))
  })

  test('is not done where even one block is cut short; a cut later on is an error, not a result', async () => {
    const short = new FakeToken({ maxSecret: { bytes: 0, cut: true } })
    await using none = await openBackendOn(short, { translateInToken: true })
    expect(none.capabilities().reencipher).toBe('host')
    const fake = new FakeToken()
    await using store = await openStoreOn(fake, { translateInToken: true })
    for (const kid of ['A', 'B']) await store.generateKey({ ...pek, kid })
    await using backend = await openBackendOn(fake, { translateInToken: true })
    const [from, to] = [
      await backend.bind({ kid: 'A', usage: 'pin-encryption' }),
      await backend.bind({ kid: 'B', usage: 'pin-encryption' }),
    ]
    const before = fake.census
    Object.assign(fake.options, { maxSecret: { bytes: 8, cut: true } })
    expect(await errorOf(() => operationsOf(from).reencipher(to, new Uint8Array(16)))).toMatchObject({
      code: 'ERR_BACKEND_FAILED',
    })
    expect(fake.census).toEqual(before)
  })
})

describe('a wrong answer is fatal', () => {
  test.each<[string, FakeOptions, Partial<KeyStoreOptions>]>([
    ['ECB', { wrong: CKM.DES3_ECB }, {}],
    ['CBC', { wrong: CKM.DES3_CBC }, {}],
    ['TDEA CMAC', { wrong: CKM.DES3_CMAC }, {}],
    ['AES CMAC', { wrong: CKM.AES_CMAC }, {}],
    ['HMAC', { wrong: CKM.SHA256_HMAC }, {}],
    ['ECDH', { wrong: CKM.ECDH1_DERIVE }, {}],
    ['SHA-256', { wrong: CKM.SHA256 }, {}],
    ['ECDSA', { wrong: CKM.ECDSA }, {}],
    ['ECDSA in DER', { ecdsa: 'der' }, {}],
    ['ECDSA with s = 0', { ecdsa: 's-zero' }, {}],
    ['ECDSA with one nonce for all', { ecdsa: 'one-nonce' }, {}],
    ['a key pair off the curve', { wrong: CKM.EC_KEY_PAIR_GEN }, {}],
    ['random numbers', { wrong: -1 }, {}],
    [
      'a vendor MAC',
      { wrong: 0x8000_0150, retail: { mechanism: 0x8000_0150, bytes: 8 } },
      { retailMac: 'luna' },
    ],
    ['a translation that sets parity bits', { parityOnUnwrap: true }, { translateInToken: true }],
    ['generated keys', { wrong: CKM.DES3_ECB, noImport: true }, {}],
  ])('%s', async (_name, options, more) => {
    const fake = new FakeToken(options)
    expect(await errorOf(() => openBackendOn(fake, more))).toMatchObject({
      code: 'ERR_PKCS11_SELF_TEST',
      retryable: false,
    })
    expect(fake.sessions.size).toBe(0)
    expect(fake.initialised).toBe(0)
  })

  test('later too: health says so', async () => {
    const fake = new FakeToken()
    await using backend = await openBackendOn(fake)
    Object.assign(fake.options, { wrong: CKM.DES3_ECB })
    expect(await backend.health()).toMatchObject({
      ok: false,
      detail: expect.stringContaining('known answer wrong'),
    })
  })
})

describe('the kind of probe', () => {
  const all = { composedMac: true } as const

  test('known-answer: a token that lets no clear key in has nothing to show', async () => {
    const fake = new FakeToken({ noImport: true })
    await using strict = await openBackendOn(fake, { probe: 'known-answer' })
    expect(strict.capabilities()).toMatchObject({ tdea: 'none', macs: { cmac: 'none' } })
    await using usual = await openBackendOn(fake)
    expect(usual.capabilities().tdea).not.toBe('none')
  })

  test('relation: no key is brought in, and what needs a known answer is not used', async () => {
    const fake = new FakeToken()
    await using backend = await openBackendOn(fake, { ...all, probe: 'relation' })
    const { tdea, macs, notes } = backend.capabilities()
    expect([tdea === 'none', macs['iso9797-1-alg1'], macs['iso9797-1-alg3']]).toEqual([
      false,
      'native',
      'none',
    ])
    expect(notes.join()).toContain('checked with keys it generated')
  })

  test('trust-bound-keys: no object is made, and every key shows the check value that was stated', async () => {
    const fake = new FakeToken()
    await provisionFake(fake, all)
    fake.reset()
    const accept = ['copyable', 'modifiable'] as const
    await using backend = await openBackendOn(fake, { probe: 'trust-bound-keys', accept })
    expect(fake.calls).not.toContain('C_CreateObject')
    expect(fake.calls).not.toContain('C_GenerateKey')
    expect(backend.capabilities()).toMatchObject({
      macs: { 'iso9797-1-alg1': 'none', 'iso9797-1-alg3': 'none', cmac: 'native' },
      keyAgreement: 'none',
      signing: 'native',
    })
    const pek = { kid: 'PEK-2', usage: 'pin-encryption' } as const
    const unstated = await errorOf(() => backend.bind(pek))
    expect(unstated).toMatchObject({ code: 'ERR_KEY_CHECK_VALUE', kid: 'PEK-2' })
    expect(unstated.message).toContain('must be stated')
    await expect(backend.bind({ ...pek, kcv: '000000' })).rejects.toMatchObject({
      code: 'ERR_KEY_CHECK_VALUE',
    })
    const key = await backend.bind({ ...pek, kcv: '96A0CB' })
    const block = await operationsOf(key).encipher(new Uint8Array(8))
    expect(Buffer.from(block).toString('hex')).toBe('96a0cbc66c383c6f')
    const sign = await backend.bind({ kid: 'SIGN-1', usage: 'jwt-signing' })
    expect((await operationsOf(sign).sign(block)).length).toBe(64)
    expect(await backend.health()).toMatchObject({
      ok: true,
      detail: expect.stringContaining('no known answer'),
    })
  })

  test('another kind is refused', async () => {
    const error = await errorOf(() => openBackendOn(new FakeToken(), { probe: 'none' as never }))
    expect(error).toMatchObject({ code: 'ERR_ARGUMENT' })
  })
})
