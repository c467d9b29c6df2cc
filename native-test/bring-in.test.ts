/**
 * Keys brought into a token: by components (combined inside on NSS with koffi, in wiped host memory elsewhere), by a key block,
 * and wrapped, which the token unwraps by itself. After a refusal the token holds what it held before.
 */
import { createCipheriv, randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { keyCheckValue, type SymmetricAlgorithm, sealKeyBlock, splitKey } from '../src/index.js'
import {
  importKeyBlock,
  type KeyStoreOptions,
  keyCeremony,
  openCeremonyRecord,
  openKeyStore,
  pkcs11Backend,
  sealCeremonyRecord,
} from '../src/pkcs11.js'
import { softwareBackend } from '../src/software.js'
import { describeNss, makeDatabase } from './nss.js'
import { describeSoftHsm, makeToken } from './softhsm.js'

const KEYS: readonly [SymmetricAlgorithm, string][] = [
  ['tdea-2key', '0123456789ABCDEFFEDCBA9876543210'],
  ['aes-128', 'C1A5D20E7F936B4488D1F03C5E2A9B76'],
  ['aes-256', '9B2E47D1C80F63A55AF0361C8D7E42B91F8A60C3D24B95E7705EC16D3A924BF8'],
  ['hmac-sha256', '7D1E90B4C2A85F36E04B9D7716F3C8A25938E1D06C4FB27A83951C0E6DAF4B28'],
]
const usageOf = (algorithm: string) =>
  algorithm === 'hmac-sha256' ? 'hmac' : algorithm.startsWith('aes') ? 'cmac' : 'pin-encryption'

async function entriesOf(algorithm: SymmetricAlgorithm, material: string) {
  const { components, checkValue } = await splitKey({ kid: 'K', algorithm, material, parts: 3 })
  const officers = ['Adams', 'Brown', 'Clark']
  const entries = components.map(({ component, checkValue: kcv }, i) => ({
    officer: officers[i] ?? '',
    component,
    kcv,
  }))
  return { entries, kcv: checkValue }
}

async function kidsOf(options: KeyStoreOptions): Promise<string[]> {
  await using store = await openKeyStore(options)
  return (await store.listKeys()).map(({ kid }) => kid).sort()
}

function cases(
  options: KeyStoreOptions,
  combined: 'in-token' | 'in-host-memory',
  wrapping: readonly string[],
): void {
  test.each(KEYS)(`a ceremony brings in %s: ${combined}`, async (algorithm, material) => {
    await using store = await openKeyStore({ ...options, importClearKeys: combined === 'in-host-memory' })
    const given = await entriesOf(algorithm, material)
    const { key, record } = await keyCeremony({
      store,
      kid: `CEREMONY-${algorithm}`,
      usage: usageOf(algorithm),
      algorithm,
      ...given,
    })
    const { checkValue } = await keyCheckValue({
      material,
      algorithm,
      method: key.checkValue.method as 'cmac',
    })
    expect(key.checkValue).toEqual(checkValue)
    expect(record).toMatchObject({
      combined,
      components: [{ officer: 'Adams' }, { officer: 'Brown' }, { officer: 'Clark' }],
    })
    expect(JSON.stringify(record)).not.toContain(material)
  })

  test('a ceremony that goes wrong leaves nothing', async () => {
    await using store = await openKeyStore({ ...options, importClearKeys: combined === 'in-host-memory' })
    const [algorithm, material] = KEYS[0] ?? expect.fail()
    const { entries, kcv } = await entriesOf(algorithm, material)
    const before = await kidsOf(options)
    const base = { store, kid: 'HALF', usage: 'pin-encryption', algorithm } as const
    const [first, second, third] = entries
    if (first === undefined || second === undefined || third === undefined) expect.fail()
    const wrong = [
      [{ entries: [first, second], kcv }, 'ERR_KEY_CHECK_VALUE'],
      [{ entries: [first, { ...second, kcv: '000000' }, third], kcv }, 'ERR_KEY_CHECK_VALUE'],
      [{ entries: [first, second, { ...third, officer: 'Adams' }], kcv }, 'ERR_ARGUMENT'],
      [{ entries: [first, second, { ...first, officer: 'Clark' }], kcv }, 'ERR_KEY_WEAK'],
      [{ entries: [first], kcv }, 'ERR_ARGUMENT'],
      [{ entries: [first, { ...second, component: second.component.slice(1) }], kcv }, 'ERR_KEY_MATERIAL'],
    ] as const
    for (const [change, code] of wrong)
      await expect(keyCeremony({ ...base, ...change })).rejects.toMatchObject({ code })
    expect(await kidsOf(options)).toEqual(before)
  })

  test('its record is signed by a key of the token, and a change shows', async () => {
    await using store = await openKeyStore({ ...options, importClearKeys: combined === 'in-host-memory' })
    await store.generateKey({ kid: 'CEREMONIES', usage: 'jwt-signing', algorithm: 'ec-p256' })
    const [algorithm, material] = KEYS[1] ?? expect.fail()
    const { record } = await keyCeremony({
      store,
      kid: 'SIGNED',
      usage: 'cmac',
      algorithm,
      ...(await entriesOf(algorithm, material)),
    })
    await using backend = await pkcs11Backend(options)
    const key = await backend.bind({ kid: 'CEREMONIES', usage: 'jwt-signing' })
    const sealed = await sealCeremonyRecord({ record, key })
    if (key.publicJwk === undefined) expect.fail()
    expect(await openCeremonyRecord({ sealed, key: key.publicJwk })).toEqual(record)
    const [head, , mark] = sealed.split('.')
    const other = Buffer.from(JSON.stringify({ ...record, kid: 'OTHER' })).toString('base64url')
    expect(
      await openCeremonyRecord({ sealed: `${head}.${other}.${mark}`, key: key.publicJwk }),
    ).toBeUndefined()
  })

  test.each(wrapping)('a key wrapped by %s is unwrapped inside, or nothing is there', async form => {
    const wrapper = randomBytes(32)
    await using store = await openKeyStore({ ...options, importClearKeys: true })
    const { checkValue } = await store.importKey({
      kid: `KEK-${form}`,
      usage: 'key-encryption',
      algorithm: 'aes-256',
      material: new Uint8Array(wrapper),
    })
    expect(checkValue.method).toBe('cmac')
    const [algorithm, material] = KEYS[1] ?? expect.fail()
    const padded = form === 'rfc5649'
    const iv = padded ? Buffer.from('a65959a600000010', 'hex') : Buffer.alloc(8, 0xa6)
    const cipher = createCipheriv('id-aes256-wrap' as never, wrapper, iv)
    const wrapped = new Uint8Array(cipher.update(Buffer.from(material, 'hex')))
    const kcv = (await keyCheckValue({ material, algorithm })).checkValue
    const wanted = {
      kid: `UNWRAPPED-${form}`,
      usage: 'cmac',
      algorithm,
      wrapped,
      wrapping: form as 'rfc3394',
      under: `KEK-${form}`,
      kcv,
    } as const
    const before = await kidsOf(options)
    const spoiled = wrapped.map((byte, i) => (i === 9 ? byte ^ 1 : byte))
    await expect(store.unwrapKey({ ...wanted, wrapped: spoiled })).rejects.toMatchObject({
      code: 'ERR_PKCS11_CALL',
    })
    await expect(store.unwrapKey({ ...wanted, kcv: '0000000000' })).rejects.toMatchObject({
      code: 'ERR_KEY_CHECK_VALUE',
    })
    await expect(store.unwrapKey({ ...wanted, under: 'NOBODY' })).rejects.toMatchObject({
      code: 'ERR_KEY_NOT_FOUND',
    })
    expect(await kidsOf(options)).toEqual(before)
    expect(await store.unwrapKey(wanted)).toMatchObject({ usage: 'cmac', checkValue: kcv })
    await using backend = await pkcs11Backend(options)
    expect((await backend.bind({ kid: wanted.kid, usage: 'cmac', kcv })).checkValue).toEqual(kcv)
  })

  test('a key block is opened under a KBPK of the token, and its key is in the token in the mode that it says', async () => {
    await using store = await openKeyStore({ ...options, importClearKeys: true })
    // The same values as the ceremonies' keys, which are for something else: one key, one usage.
    for (const [algorithm] of KEYS) await store.deleteKey({ kid: `CEREMONY-${algorithm}` })
    const wrapper = KEYS[2]?.[1] ?? expect.fail()
    await store.importKey({
      kid: 'KBPK',
      usage: 'key-block-protection',
      algorithm: 'aes-256',
      material: wrapper,
    })
    const spec = { kid: 'KBPK', usage: 'key-block-protection', hostDecipher: true } as const
    await using software = await softwareBackend({
      keys: [{ kid: 'KBPK', usage: 'key-block-protection', algorithm: 'aes-256', material: wrapper }],
    })
    const material = KEYS[0]?.[1] ?? expect.fail()
    const { block, checkValue } = await sealKeyBlock({
      key: await software.bind(spec),
      version: 'D',
      material,
      algorithm: 'tdea-2key',
      usage: 'pin-encryption',
      mode: 'E',
      exportability: 'N',
    })
    await using backend = await pkcs11Backend(options)
    const key = await backend.bind(spec)
    const before = await kidsOf(options)
    const wanted = { store, kid: 'FROM-BLOCK', key, block, usage: 'pin-encryption' } as const
    await expect(importKeyBlock({ ...wanted, usage: 'retail-mac' })).rejects.toMatchObject({ entry: 'usage' })
    await expect(importKeyBlock({ ...wanted, kcv: '000000' })).rejects.toMatchObject({
      code: 'ERR_KEY_CHECK_VALUE',
    })
    await expect(importKeyBlock({ ...wanted, block: block.slice(0, -1) })).rejects.toMatchObject({
      entry: 'length',
    })
    expect(await kidsOf(options)).toEqual(before)
    const made = await importKeyBlock(wanted)
    expect(made).toMatchObject({ key: { usage: 'pin-encryption', checkValue }, warnings: [] })
    expect((await backend.bind({ kid: 'FROM-BLOCK', usage: 'pin-encryption', mode: 'E' })).mode).toBe('E')
    await expect(
      backend.bind({ kid: 'FROM-BLOCK', usage: 'pin-encryption', mode: 'B' }),
    ).rejects.toMatchObject({ code: 'ERR_KEY_USAGE' })
    const [, hmac] = KEYS[3] ?? expect.fail()
    const sealed = await sealKeyBlock({
      key: await software.bind(spec),
      version: 'D',
      material: hmac,
      algorithm: 'hmac-sha256',
      usage: 'hmac',
      mode: 'C',
      exportability: 'N',
    })
    const mac = await importKeyBlock({ store, kid: 'HMAC-BLOCK', key, block: sealed.block, usage: 'hmac' })
    expect(mac.key).toMatchObject({ algorithm: 'hmac-sha256', checkValue: sealed.checkValue })
    await store.deleteKey({ kid: 'HMAC-BLOCK' })
  })
}

describeSoftHsm('keys brought into SoftHSM', () => {
  cases(makeToken('bring-in'), 'in-host-memory', ['rfc3394', 'rfc5649'])

  test('without importClearKeys no component is combined in host memory', async () => {
    await using store = await openKeyStore(makeToken('bring-in-closed'))
    const [algorithm, material] = KEYS[0] ?? expect.fail()
    const given = await entriesOf(algorithm, material)
    await expect(
      keyCeremony({ store, kid: 'K', usage: 'pin-encryption', algorithm, ...given }),
    ).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
    })
  })
})

describeNss('keys brought into NSS softokn', () => {
  describe('by koffi', () => {
    cases({ ...makeDatabase(), binding: 'koffi' }, 'in-token', ['rfc3394'])
  })
})
