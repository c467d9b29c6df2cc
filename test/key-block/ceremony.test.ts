/** A ceremony on a fake token: who, when, check values; what is wrong ends it, and nothing is left. Its record, signed or sealed. */
import { createCipheriv } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { operationsOf } from '../../src/backend/key.js'
import { CKA, CKM } from '../../src/backend/pkcs11/binding/constants.js'
import { keyCheckValue, sealKeyBlock, splitKey } from '../../src/index.js'
import {
  type CeremonyEntry,
  type CeremonyRecord,
  importKeyBlock,
  type KeyStore,
  keyCeremony,
  openCeremonyRecord,
  sealCeremonyRecord,
} from '../../src/pkcs11.js'
import { softwareBackend } from '../../src/software.js'
import { buffersMadeBy } from '../leaks/recorder.js'
import { FakeToken } from '../pkcs11/fake-token.js'
import { openStoreOn } from '../pkcs11/support.js'
import { failure } from '../support/errors.js'

const MATERIAL = 'C1A5D20E7F936B4488D1F03C5E2A9B76'
const KEY = { kid: 'ZMK', usage: 'cmac', algorithm: 'aes-128' } as const
const now = () => new Date('2026-11-28T12:00:00Z')

async function given(parts = 2) {
  const { components, checkValue } = await splitKey({ ...pick(), material: MATERIAL, parts })
  const entries: CeremonyEntry[] = components.map(({ component, checkValue: kcv }, i) => ({
    officer: `officer ${i + 1}`,
    component,
    kcv,
  }))
  return { ...KEY, entries, kcv: checkValue, now }
}
const pick = () => ({ kid: KEY.kid, algorithm: KEY.algorithm })
/** What is in the token; what the opening has tried goes with its session. */
const kept = (fake: FakeToken) =>
  [...fake.objects.values()]
    .map(({ attributes }) => attributes)
    .filter(attributes => attributes.get(CKA.TOKEN) === true)
const objects = (fake: FakeToken) => kept(fake).length

describe('a ceremony', () => {
  test.each([
    ['in-token', []],
    ['in-host-memory', [CKM.XOR_BASE_AND_DATA]],
  ] as const)('combines %s, and its record says so', async (combined, without) => {
    const fake = new FakeToken({ without })
    await using store = await openStoreOn(fake)
    const { key, record } = await keyCeremony({ store, ...(await given(3)) })
    const { checkValue } = await keyCheckValue({ material: MATERIAL, algorithm: 'aes-128' })
    expect(key.checkValue).toEqual(checkValue)
    expect(record).toMatchObject({
      ...KEY,
      mode: 'C',
      combined,
      checkValue,
      finishedAt: '2026-11-28T12:00:00.000Z',
    })
    expect(record.components.map(({ officer, enteredAt }) => [officer, enteredAt])).toEqual(
      [1, 2, 3].map(i => [`officer ${i}`, '2026-11-28T12:00:00.000Z']),
    )
    // The key itself, and nothing that it was made of.
    expect(kept(fake).map(attributes => attributes.get(CKA.LABEL))).toEqual(['ZMK'])
  })

  test('asks for an entry when the one before has been taken', async () => {
    const fake = new FakeToken()
    await using store = await openStoreOn(fake)
    const { entries, ...rest } = await given(2)
    const before = fake.objects.size
    const log: string[] = []
    async function* asked() {
      for (const entry of entries) {
        log.push(`${entry.officer}: ${fake.objects.size - before} objects`)
        yield entry
      }
    }
    await keyCeremony({ store, ...rest, entries: asked() })
    expect(log).toEqual(['officer 1: 0 objects', 'officer 2: 1 objects'])
  })

  test.each([[[]], [[CKM.XOR_BASE_AND_DATA]]])(
    'that goes wrong leaves nothing (without %j)',
    async without => {
      const fake = new FakeToken({ without })
      await using store = await openStoreOn(fake)
      const good = await given(2)
      const [first, second] = good.entries as [CeremonyEntry, CeremonyEntry]
      const zeros = { officer: 'x', component: new Uint8Array(16), kcv: '763CBCDE81' }
      const cases: [Partial<Parameters<typeof keyCeremony>[0]>, string, string][] = [
        [{ entries: [first, { ...second, kcv: '0000000000' }] }, 'ERR_KEY_CHECK_VALUE', 'ZMK, component 2'],
        [{ kcv: '0000000000' }, 'ERR_KEY_CHECK_VALUE', 'key ZMK'],
        [{ entries: [first, { ...second, officer: first.officer }] }, 'ERR_ARGUMENT', 'component 2'],
        [{ entries: [first, { ...first, officer: 'x' }] }, 'ERR_KEY_WEAK', 'component 2'],
        [{ entries: [zeros, first] }, 'ERR_KEY_WEAK', 'component 1'],
        [{ entries: [first] }, 'ERR_ARGUMENT', 'two components'],
        [{ entries: [first, { ...second, component: '00' }] }, 'ERR_KEY_MATERIAL', 'component 2'],
        [{ entries: [first, { ...second, officer: '' }] }, 'ERR_ARGUMENT', 'kid'],
        [{ entries: [] }, 'ERR_ARGUMENT', 'two components'],
        [{ store: {} as KeyStore }, 'ERR_ARGUMENT', 'store'],
        [{ now: 7 as never }, 'ERR_ARGUMENT', 'now'],
        [{ algorithm: 'ec-p256' as never }, 'ERR_ARGUMENT', 'algorithm'],
      ]
      for (const [change, code, words] of cases) {
        const { message } = await failure(() => keyCeremony({ store, ...good, ...change }), code as never, [
          MATERIAL,
        ])
        expect(message).toContain(words)
        expect(objects(fake)).toBe(0)
      }
      const { now: _, ...usual } = good
      const begun = Date.now()
      const { key, record } = await keyCeremony({ store, ...usual })
      expect(key.kid).toBe('ZMK')
      expect(Date.parse(record.finishedAt)).toBeGreaterThanOrEqual(begun)
      await failure(async () => keyCeremony({ store, ...(await given()) }), 'ERR_KEY_AMBIGUOUS')
    },
  )

  test('is for the mode that is asked for, and leaves nothing of a component behind, whatever comes of it', async () => {
    await using store = await openStoreOn(new FakeToken())
    const good = await given(2)
    const parts = good.entries.map(({ component }) => Buffer.from(component as Uint8Array))
    const leftBy = async (call: () => Promise<unknown>) => {
      const { value, buffers } = await buffersMadeBy(call)
      const memory = buffers.map(buffer => Buffer.from(buffer))
      const left = [...parts, Buffer.from(MATERIAL, 'hex')].map(part =>
        memory.some(bytes => bytes.includes(part)),
      )
      return { value, left }
    }
    const right = await leftBy(() => keyCeremony({ store, ...good, mode: 'V' }))
    expect(right.value).toMatchObject({ key: { kid: 'ZMK' }, record: { mode: 'V' } })
    expect(right.left).toEqual([false, false, false])
    const [first, second] = good.entries as [CeremonyEntry, CeremonyEntry]
    for (const entries of [
      [first, first],
      [first, { ...second, kcv: '0000000000' }],
    ])
      expect(
        (
          await leftBy(() =>
            failure(() => keyCeremony({ store, ...good, kid: 'B', entries }), codeOf(entries)),
          )
        ).left,
      ).toEqual([false, false, false])
  })

  test('in host memory has to be allowed by name', async () => {
    await using store = await openStoreOn(new FakeToken({ without: [CKM.XOR_BASE_AND_DATA] }), {
      importClearKeys: false,
    })
    const { message } = await failure(async () => keyCeremony({ store, ...(await given()) }), 'ERR_ARGUMENT')
    expect(message).toContain('importClearKeys')
    await using inside = await openStoreOn(new FakeToken(), { importClearKeys: false })
    expect((await keyCeremony({ store: inside, ...(await given()) })).record.combined).toBe('in-token')
  })

  test('for a TDEA bundle of a token without CKK_DES2, and for P-256', async () => {
    const fake = new FakeToken()
    await using store = await openStoreOn(fake)
    const parts = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)]
    const pair = { kid: 'P', usage: 'jwt-signing', algorithm: 'ec-p256', parts, kcv: 'A'.repeat(43) } as const
    expect((await failure(() => store.assembleKey(pair), 'ERR_KEY_CHECK_VALUE')).message).toContain('P')
    expect(objects(fake)).toBe(0)
  })
})

const codeOf = ([one, other]: readonly CeremonyEntry[]) =>
  one === other ? 'ERR_ARGUMENT' : 'ERR_KEY_CHECK_VALUE'

describe('its record', () => {
  const record = { kid: 'ZMK', checkValue: { method: 'cmac', value: '1234567890' } } as CeremonyRecord
  const jwk = {
    kty: 'EC',
    crv: 'P-256',
    x: 'f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU',
    y: 'x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0',
    d: 'jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI',
  } as const

  async function keys() {
    const backend = await softwareBackend({
      keys: [
        { kid: 'SIGN', usage: 'jwt-signing', algorithm: 'ec-p256', material: jwk },
        { kid: 'SEAL', usage: 'cmac', algorithm: 'aes-128', material: MATERIAL },
        {
          kid: 'PIN',
          usage: 'pin-encryption',
          algorithm: 'tdea-2key',
          material: '0123456789ABCDEFFEDCBA9876543210',
        },
      ],
    })
    return {
      sign: await backend.bind({ kid: 'SIGN', usage: 'jwt-signing' }),
      seal: await backend.bind({ kid: 'SEAL', usage: 'cmac' }),
      pin: await backend.bind({ kid: 'PIN', usage: 'pin-encryption' }),
    }
  }

  test('signed: anybody reads it with the public key, jose too', async () => {
    const { sign } = await keys()
    const sealed = await sealCeremonyRecord({ record, key: sign })
    if (sign.publicJwk === undefined) expect.fail()
    expect(await openCeremonyRecord({ sealed, key: sign.publicJwk })).toEqual(record)
    const { compactVerify, importJWK } = await import('jose')
    const { payload, protectedHeader } = await compactVerify(
      sealed,
      await importJWK({ ...sign.publicJwk }, 'ES256'),
    )
    expect(JSON.parse(Buffer.from(payload).toString())).toEqual(record)
    expect(protectedHeader).toEqual({ alg: 'ES256', kid: 'SIGN', typ: 'key-ceremony+json' })
  })

  test('sealed: who has the key reads it', async () => {
    const { seal, sign } = await keys()
    const sealed = await sealCeremonyRecord({ record, key: seal })
    expect(await openCeremonyRecord({ sealed, key: seal })).toEqual(record)
    if (sign.publicJwk === undefined) expect.fail()
    expect(await openCeremonyRecord({ sealed, key: sign.publicJwk })).toBeUndefined()
  })

  test('is one where its header says so, whoever has sealed it', async () => {
    const { seal } = await keys()
    const sealedAs = async (header: string, payload: string) => {
      const text = `${Buffer.from(header).toString('base64url')}.${Buffer.from(payload).toString('base64url')}`
      const mac = { algorithm: 'cmac', padding: 'none' } as const
      const mark = await operationsOf(seal).mac(mac, Uint8Array.from(Buffer.from(text)))
      return openCeremonyRecord({ sealed: `${text}.${Buffer.from(mark).toString('base64url')}`, key: seal })
    }
    const header = { alg: 'CMAC', kid: 'SEAL', typ: 'key-ceremony+json' }
    expect(await sealedAs(JSON.stringify(header), JSON.stringify(record))).toEqual(record)
    for (const other of [
      { ...header, typ: 'JWT' },
      { ...header, alg: 'ES256' },
      { ...header, alg: undefined },
    ])
      expect(await sealedAs(JSON.stringify(other), JSON.stringify(record))).toBeUndefined()
    expect(await sealedAs('CMAC', JSON.stringify(record))).toBeUndefined()
    expect(await sealedAs(JSON.stringify(header), 'no record')).toBeUndefined()
  })

  test('changed, cut or made by another is none', async () => {
    const { sign, seal, pin } = await keys()
    const sealed = await sealCeremonyRecord({ record, key: sign })
    const key = sign.publicJwk ?? expect.fail()
    const [head, body, mark] = sealed.split('.') as [string, string, string]
    const other = Buffer.from(JSON.stringify({ ...record, kid: 'X' })).toString('base64url')
    for (const bad of [
      '',
      head,
      `${head}.${body}`,
      `${head}.${other}.${mark}`,
      `${sealed}.x`,
      `${head}.${body}.AAAA`,
      `!.${body}.${mark}`,
    ])
      expect(await openCeremonyRecord({ sealed: bad, key })).toBeUndefined()
    const unsigned = Buffer.from('{"alg":"none"}').toString('base64url')
    expect(await openCeremonyRecord({ sealed: `${unsigned}.${body}.`, key })).toBeUndefined()
    await failure(() => openCeremonyRecord({ sealed: 7 as never, key }), 'ERR_ARGUMENT')
    await failure(() => sealCeremonyRecord({ record, key: pin }), 'ERR_KEY_USAGE')
    for (const none of [undefined, null, 'x', {}, { ...sign.publicJwk, x: 'A'.repeat(43) }])
      await failure(() => openCeremonyRecord({ sealed: 'x', key: none as never }), 'ERR_ARGUMENT')
    await failure(() => openCeremonyRecord({ sealed, key: pin }), 'ERR_KEY_USAGE')
    const good: object = { record, key: seal }
    for (const [change, what] of [
      [{ record: undefined }, 'record'],
      [{ key: {} }, 'key'],
      [{ kid: 'K' }, 'kid'],
    ] as const) {
      const call = () => sealCeremonyRecord({ ...good, ...change } as never)
      expect((await failure(call, 'ERR_ARGUMENT')).message).toContain(what)
    }
    for (const verb of [keyCeremony, sealCeremonyRecord, openCeremonyRecord])
      expect((await failure(() => verb(undefined as never), 'ERR_ARGUMENT')).message).toContain(verb.name)
  })
})

describe('unwrapKey', () => {
  const WRAPPER = '9B2E47D1C80F63A55AF0361C8D7E42B91F8A60C3D24B95E7705EC16D3A924BF8'
  async function world(without: readonly number[] = []) {
    const fake = new FakeToken({ without })
    const store = await openStoreOn(fake)
    await store.importKey({ kid: 'KEK', usage: 'key-encryption', algorithm: 'aes-256', material: WRAPPER })
    const cipher = createCipheriv(
      'id-aes256-wrap' as never,
      Buffer.from(WRAPPER, 'hex'),
      Buffer.alloc(8, 0xa6),
    )
    const wrapped = new Uint8Array(cipher.update(Buffer.from(MATERIAL, 'hex')))
    const kcv = (await keyCheckValue({ material: MATERIAL, algorithm: 'aes-128' })).checkValue
    return { fake, store, wanted: { ...KEY, wrapped, wrapping: 'rfc3394', under: 'KEK', kcv } as const }
  }

  test('has the token unwrap, and looks at the check value', async () => {
    const { store, wanted } = await world()
    expect(await store.unwrapKey(wanted)).toMatchObject({ kid: 'ZMK', usage: 'cmac', checkValue: wanted.kcv })
  })

  test('RFC 5649 by whichever of the two mechanisms there is', async () => {
    const { store, wanted } = await world([CKM.AES_KEY_WRAP_KWP])
    const cipher = createCipheriv(
      'id-aes256-wrap-pad' as never,
      Buffer.from(WRAPPER, 'hex'),
      Buffer.from('a65959a6', 'hex'),
    )
    const wrapped = new Uint8Array(cipher.update(Buffer.from(MATERIAL, 'hex')))
    expect(await store.unwrapKey({ ...wanted, wrapped, wrapping: 'rfc5649' })).toMatchObject({
      checkValue: wanted.kcv,
    })
    const none = await world([CKM.AES_KEY_WRAP_KWP, CKM.AES_KEY_WRAP_PAD])
    await failure(
      () => none.store.unwrapKey({ ...none.wanted, wrapped, wrapping: 'rfc5649' }),
      'ERR_PKCS11_CALL',
    )
  })

  test('refuses, and leaves nothing', async () => {
    const { fake, store, wanted } = await world()
    const cases: [object, string][] = [
      [{ wrapped: wanted.wrapped.map(byte => byte ^ 1) }, 'ERR_PKCS11_CALL'],
      [{ kcv: '0000000000' }, 'ERR_KEY_CHECK_VALUE'],
      [{ under: 'NONE' }, 'ERR_KEY_NOT_FOUND'],
      [{ under: '' }, 'ERR_ARGUMENT'],
      [{ wrapping: 'rsa' }, 'ERR_ARGUMENT'],
      [{ wrapped: new Uint8Array(8) }, 'ERR_LENGTH'],
      [{ wrapped: new Uint8Array(25) }, 'ERR_LENGTH'],
      [{ kid: 'KEK' }, 'ERR_KEY_AMBIGUOUS'],
      [{ usage: 'jwt-signing', algorithm: 'ec-p256' }, 'ERR_UNSUPPORTED_BY_TOKEN'],
    ]
    for (const [change, code] of cases) {
      await failure(() => store.unwrapKey({ ...wanted, ...change } as never), code as never, [
        WRAPPER,
        MATERIAL,
      ])
      expect(objects(fake)).toBe(1)
    }
  })
})

describe('importKeyBlock', () => {
  const WRAPPER = '9B2E47D1C80F63A55AF0361C8D7E42B91F8A60C3D24B95E7705EC16D3A924BF8'
  test('brings a key in for what its block says, or not at all', async () => {
    const backend = await softwareBackend({
      keys: [{ kid: 'KBPK', usage: 'key-block-protection', algorithm: 'aes-256', material: WRAPPER }],
    })
    const key = await backend.bind({ kid: 'KBPK', usage: 'key-block-protection', hostDecipher: true })
    const { block, checkValue } = await sealKeyBlock({
      key,
      version: 'D',
      material: MATERIAL,
      algorithm: 'aes-128',
      usage: 'cmac',
      mode: 'V',
      exportability: 'N',
    })
    const fake = new FakeToken()
    await using store = await openStoreOn(fake)
    const wanted = { store, kid: 'IN', key, block, usage: 'cmac' } as const
    await failure(() => importKeyBlock({ ...wanted, usage: 'prw-verify' }), 'ERR_KEY_BLOCK')
    await failure(() => importKeyBlock({ ...wanted, mode: 'C' }), 'ERR_KEY_BLOCK')
    await failure(() => importKeyBlock({ ...wanted, kcv: '0000000000' }), 'ERR_KEY_CHECK_VALUE')
    await failure(() => importKeyBlock({ ...wanted, store: {} as never }), 'ERR_ARGUMENT')
    expect(objects(fake)).toBe(0)
    expect(await importKeyBlock(wanted)).toMatchObject({
      key: { kid: 'IN', usage: 'cmac', checkValue },
      warnings: [],
    })
    expect(await importKeyBlock({ ...wanted, kid: 'IN2', mode: 'V', kcv: checkValue })).toMatchObject({
      key: { kid: 'IN2' },
    })
  })
})
