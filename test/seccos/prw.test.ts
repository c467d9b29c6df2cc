import { beforeAll, describe, expect, test, vi } from 'vitest'
import { type Key, operationsOf } from '../../src/backend/key.js'
import { softwareBackend } from '../../src/backend/software/software.js'
import { concatBytes, fromHex, toHex } from '../../src/base/bytes.js'
import { computeMac } from '../../src/primitives/mac.js'
import { Pin } from '../../src/primitives/pin.js'
import { derivationOf } from '../../src/seccos/computation.js'
import { buildDataSet, maskDataSet, readDataSet } from '../../src/seccos/data-set.js'
import {
  ILLUSTRATIVE_NOT_GIROCARD_AES,
  ILLUSTRATIVE_NOT_GIROCARD_TDEA,
} from '../../src/seccos/profile/illustrative.js'
import {
  type ComputedPrw,
  computePrw,
  generatePrwMac,
  type PrwMacInput,
  type VerifyPrwInput,
  type VerifyPrwMacInput,
  verifyPrw,
  verifyPrwMac,
} from '../../src/seccos/prw.js'
import { buffersMadeBy } from '../leaks/recorder.js'
import { nodeCiphers } from '../mac/ciphers.js'
import {
  AES_VALUES,
  expectNoSecrets,
  INTDATAG,
  keyOf,
  keysFor,
  OTHER_PAN,
  OTHER_PIN,
  PROFILES,
  pan,
  pin,
  RANDOM_4,
  RANDOM_8,
  TDEA_VALUES,
} from './fixtures.js'

const TDEA = ILLUSTRATIVE_NOT_GIROCARD_TDEA
const AES = ILLUSTRATIVE_NOT_GIROCARD_AES

interface Ready {
  readonly generate: Key
  readonly verify: Key
  readonly mac: Key
  readonly prw: ComputedPrw
  readonly macValue: string
}
const ready = new Map<unknown, Ready>()
const of = (profile: unknown): Ready => ready.get(profile) ?? expect.unreachable()
beforeAll(async () => {
  for (const { profile, values } of PROFILES) {
    const keys = await keysFor(profile)
    const prw = await computePrw({ ...values, profile, key: keys.generate })
    const { macValue } = await generatePrwMac({
      ...prw,
      key: keys.mac,
      profile,
      intdatag: INTDATAG,
    })
    ready.set(profile, { ...keys, prw, macValue })
  }
})

const verification = (): VerifyPrwInput => {
  const { verify, prw } = of(TDEA)
  return { key: verify, profile: TDEA, pin, pan, dataSet: prw.dataSet, prwValue: prw.prwValue }
}
const macInput = (): VerifyPrwMacInput => {
  const { mac, prw, macValue } = of(TDEA)
  return { key: mac, profile: TDEA, dataSet: prw.dataSet, prwValue: prw.prwValue, macValue }
}

describe('computePrw refuses', () => {
  const input = () => ({ ...TDEA_VALUES, key: of(TDEA).generate, profile: TDEA })
  test.each<[string, () => Promise<unknown>, object]>([
    ['nothing', () => computePrw(undefined as never), { code: 'ERR_ARGUMENT' }],
    ['no profile', () => computePrw({ ...input(), profile: undefined as never }), { code: 'ERR_ARGUMENT' }],
    [
      'an unparsed profile',
      () => computePrw({ ...input(), profile: structuredClone(TDEA) }),
      { code: 'ERR_ARGUMENT' },
    ],
    ['no key', () => computePrw({ ...input(), key: undefined as never }), { code: 'ERR_ARGUMENT' }],
    ['a verify key', () => computePrw({ ...input(), key: of(TDEA).verify }), { code: 'ERR_KEY_USAGE' }],
    ['a MAC key', () => computePrw({ ...input(), key: of(TDEA).mac }), { code: 'ERR_KEY_USAGE' }],
    ['an AES key', () => computePrw({ ...input(), key: of(AES).generate }), { code: 'ERR_KEY_ALGORITHM' }],
    [
      'a longer key',
      async () => computePrw({ ...input(), key: await keyOf('prw-generate', 'tdea24') }),
      { code: 'ERR_KEY_ALGORITHM' },
    ],
    ['digits for a PIN', () => computePrw({ ...input(), pin: '1234' as never }), { code: 'ERR_ARGUMENT' }],
    [
      'digits for a PAN',
      () => computePrw({ ...input(), pan: '4000001234567899' as never }),
      { code: 'ERR_ARGUMENT' },
    ],
    [
      'no pcc',
      () => computePrw({ ...input(), pcc: undefined as never }),
      { code: 'ERR_DATA_SET', field: 'pcc' },
    ],
    [
      'a long random',
      () => computePrw({ ...input(), random: RANDOM_8 }),
      { code: 'ERR_DATA_SET', field: 'random' },
    ],
    [
      'random as text',
      () => computePrw({ ...input(), random: 'DEAD0042' as never }),
      { code: 'ERR_ARGUMENT' },
    ],
    ['an abort', () => computePrw(input(), { signal: AbortSignal.abort() }), { code: 'ERR_ABORTED' }],
  ])('%s', async (_, call, error) => {
    const thrown = await call().catch((reason: unknown) => reason)
    expect(thrown).toMatchObject(error)
    expectNoSecrets(thrown)
  })
})

describe('verifyPrw refuses', () => {
  const dirty = (at: number) => {
    const dataSet = of(TDEA).prw.dataSet.slice()
    dataSet[at] = 1
    return dataSet
  }
  test.each<[string, () => Promise<unknown>, object]>([
    ['nothing', () => verifyPrw(null as never), { code: 'ERR_ARGUMENT' }],
    [
      'a generate key',
      () => verifyPrw({ ...verification(), key: of(TDEA).generate }),
      { code: 'ERR_KEY_USAGE' },
    ],
    [
      'a PAN that shows',
      () => verifyPrw({ ...verification(), dataSet: dirty(1) }),
      { code: 'ERR_DATA_SET', field: 'pan' },
    ],
    [
      'a PIN block that shows',
      () => verifyPrw({ ...verification(), dataSet: dirty(23) }),
      { code: 'ERR_DATA_SET', field: 'pinBlock' },
    ],
    [
      '122 bytes',
      () => verifyPrw({ ...verification(), dataSet: dirty(0).subarray(1) }),
      { code: 'ERR_DATA_SET', field: 'dataSet' },
    ],
    [
      'another pcc',
      () => verifyPrw({ ...verification(), pcc: '0043' }),
      { code: 'ERR_DATA_SET', field: 'pcc' },
    ],
    [
      'another intdatag',
      () => verifyPrw({ ...verification(), intdatag: INTDATAG.toLowerCase() }),
      { code: 'ERR_DATA_SET', field: 'intdatag' },
    ],
    [
      'another random',
      () => verifyPrw({ ...verification(), random: Uint8Array.of(1, 2, 3, 4) }),
      { code: 'ERR_DATA_SET', field: 'random' },
    ],
    [
      'a lower-case PRW',
      () =>
        verifyPrw({ ...verification(), prwValue: of(TDEA).prw.prwValue.toLowerCase().replace(/^./, 'a') }),
      { code: 'ERR_ENCODING' },
    ],
    [
      'a short PRW',
      () => verifyPrw({ ...verification(), prwValue: of(TDEA).prw.prwValue.slice(2) }),
      { code: 'ERR_ENCODING' },
    ],
    [
      'a PRW in bytes',
      () => verifyPrw({ ...verification(), prwValue: new Uint8Array(8) as never }),
      { code: 'ERR_ARGUMENT' },
    ],
    ['no PIN', () => verifyPrw({ ...verification(), pin: undefined as never }), { code: 'ERR_ARGUMENT' }],
  ])('%s', async (_, call, error) => {
    const thrown = await call().catch((reason: unknown) => reason)
    expect(thrown).toMatchObject(error)
    expectNoSecrets(thrown)
  })
})

describe('the MAC verbs refuse', () => {
  const generate = (change: Partial<PrwMacInput>) => generatePrwMac({ ...macInput(), ...change })
  test.each<[string, () => Promise<unknown>, object]>([
    ['nothing', () => generatePrwMac(undefined as never), { code: 'ERR_ARGUMENT' }],
    ['a PRW key', () => generate({ key: of(TDEA).generate }), { code: 'ERR_KEY_USAGE' }],
    ['a CMAC key', () => generate({ key: of(AES).mac }), { code: 'ERR_KEY_USAGE' }],
    [
      'a longer key',
      async () => generate({ key: await keyOf('retail-mac', 'tdea24') }),
      { code: 'ERR_KEY_ALGORITHM' },
    ],
    ['another pcc', () => generate({ pcc: '0041' }), { code: 'ERR_DATA_SET', field: 'pcc' }],
    ['a PRW that is none', () => generate({ prwValue: 'PRW' }), { code: 'ERR_ENCODING' }],
    [
      'a short MAC',
      () => verifyPrwMac({ ...macInput(), macValue: macInput().macValue.slice(0, 8) }),
      { code: 'ERR_ENCODING' },
    ],
    ['an empty MAC', () => verifyPrwMac({ ...macInput(), macValue: '' }), { code: 'ERR_ENCODING' }],
    ['no MAC', () => verifyPrwMac({ ...macInput(), macValue: undefined as never }), { code: 'ERR_ARGUMENT' }],
    [
      'no intdatag where it is covered',
      () =>
        generatePrwMac({
          key: of(AES).mac,
          profile: AES,
          dataSet: of(AES).prw.dataSet,
          prwValue: of(AES).prw.prwValue,
        }),
      { code: 'ERR_DATA_SET', field: 'intdatag' },
    ],
  ])('%s', async (_, call, error) => {
    const thrown = await call().catch((reason: unknown) => reason)
    expect(thrown).toMatchObject(error)
    expectNoSecrets(thrown)
  })
})

describe.each(PROFILES)('$name', ({ profile, values }) => {
  test('the right PIN and the wrong ones', async () => {
    const { verify: key, prw } = of(profile)
    const check = async (change: Partial<VerifyPrwInput>) =>
      verifyPrw({ key, profile, pin, pan, dataSet: prw.dataSet, prwValue: prw.prwValue, ...change })
    expect(await check({})).toEqual({
      verified: true,
      profile: { name: profile.name, version: profile.version },
      provenance: 'illustrative',
    })
    expect(await check({ pcc: '0042', random: prw.random })).toMatchObject({ verified: true })
    expect(await check({ pin: OTHER_PIN })).toMatchObject({ verified: false, provenance: 'illustrative' })
    expect(await check({ pan: OTHER_PAN })).toMatchObject({ verified: false })
    for (const digits of ['7392', '73920', '7392040', '739204739204']) {
      expect(await check({ pin: Pin.from(digits) })).toMatchObject({ verified: false })
    }
  })

  test('the right MAC and the wrong one', async () => {
    const { mac: key, prw, macValue } = of(profile)
    const check = async (change: Partial<VerifyPrwMacInput>) =>
      verifyPrwMac({
        key,
        profile,
        dataSet: prw.dataSet,
        prwValue: prw.prwValue,
        macValue,
        intdatag: INTDATAG,
        ...change,
      })
    expect(await check({})).toEqual({
      verified: true,
      profile: { name: profile.name, version: profile.version },
      provenance: 'illustrative',
    })
    const wrong = `${macValue.slice(0, -1)}${macValue.endsWith('0') ? '1' : '0'}`
    expect(await check({ macValue: wrong })).toMatchObject({ verified: false, provenance: 'illustrative' })
  })

  test('the result says all that a message needs, and nothing secret', async () => {
    const { prw, generate, mac, macValue } = of(profile)
    expect(prw).toMatchObject({ prwKid: generate.kid, provenance: 'illustrative', random: values.random })
    expect(readDataSet({ profile, dataSet: prw.dataSet }).pcc).toBe('0042')
    expect(prw.prwValue).toHaveLength(2 * profile.prw.outputBytes)
    expect(macValue).toHaveLength(16)
    expectNoSecrets({ ...prw, dataSet: toHex(prw.dataSet) })
    const made = await generatePrwMac({
      key: mac,
      profile,
      dataSet: prw.dataSet,
      prwValue: prw.prwValue,
      intdatag: INTDATAG,
    })
    expect(made).toMatchObject({ macKid: mac.kid, macValue, provenance: 'illustrative' })
  })

  test('a fresh random number each time, from the backend', async () => {
    const { generate: key, verify } = of(profile)
    const { random: _, ...rest } = values
    const [a, b] = [await computePrw({ ...rest, key, profile }), await computePrw({ ...rest, key, profile })]
    expect(a.random).toHaveLength(profile.randomBytes)
    expect(a.random).not.toEqual(b.random)
    expect(a.prwValue).not.toBe(b.prwValue)
    const { dataSet, prwValue } = a
    expect(await verifyPrw({ key: verify, profile, pin, pan, dataSet, prwValue })).toMatchObject({
      verified: true,
    })
  })

  test('inputs are read before the promise is returned', async () => {
    const { generate: key, verify } = of(profile)
    const mine = Pin.from('739204')
    const cardData = Uint8Array.of(0xca, 0xfe)
    const fields = profile === AES ? { ...values.fields, cardData } : values.fields
    const { random: _, ...rest } = values
    const pending = computePrw({ ...rest, pin: mine, fields, key, profile })
    mine.dispose()
    cardData.fill(0)
    const { dataSet, prwValue } = await pending
    if (profile === AES) expect(toHex(dataSet)).toContain('CAFE')
    const verdict = verifyPrw({ key: verify, profile, pin, pan, dataSet, prwValue })
    dataSet.fill(0)
    expect(await verdict).toMatchObject({ verified: true })
  })
})

describe('against the algorithms alone', () => {
  const key = fromHex('0123456789ABCDEFFEDCBA9876543210', 'key')
  test('TDEA: retail MAC, padding 2, over the 123 bytes; the MAC over 123 and 8', () => {
    const full = buildDataSet({ profile: TDEA, ...TDEA_VALUES })
    const request = { algorithm: 'iso9797-1-alg3', padding: 2 } as const
    const { prw, macValue } = of(TDEA)
    const value = computeMac(request, nodeCiphers(key), full)
    expect(prw.prwValue).toBe(toHex(value))
    const macKey = fromHex('7CA110454A1A6E570131D9619DC1376E', 'key')
    const message = concatBytes(maskDataSet({ profile: TDEA, full }), value)
    expect(macValue).toBe(toHex(computeMac(request, nodeCiphers(macKey), message)))
  })
  test('AES: CMAC over the 123 bytes and the PIN; the MAC over 123, the intdatag and the text', () => {
    const full = buildDataSet({ profile: AES, ...AES_VALUES })
    const { prw, macValue } = of(AES)
    const request = { algorithm: 'cmac', padding: 'none' } as const
    const prwKey = nodeCiphers(fromHex('2B7E151628AED2A6ABF7158809CF4F3C', 'key'), 'aes')
    const message = concatBytes(full, fromHex('739204FFFFFFFFFF', 'pin'))
    expect(prw.prwValue).toBe(toHex(computeMac(request, prwKey, message)))
    const macKey = nodeCiphers(fromHex('77A77FAF290C1FA30C683DF16BA7A77B', 'key'), 'aes')
    const maced = concatBytes(
      maskDataSet({ profile: AES, full }),
      new TextEncoder().encode(INTDATAG + prw.prwValue),
    )
    expect(macValue).toBe(toHex(computeMac(request, macKey, maced)).slice(0, 16))
  })
})

describe('what held PAN and PIN is wiped', () => {
  /** Keeps the very buffers that the verbs hand to the backend and get from it, to look at afterwards. */
  function watch(key: Key, seen: Uint8Array[], fails: boolean): Key {
    const operations = operationsOf(key)
    const mac = operations.mac.bind(operations)
    vi.spyOn(operations, 'mac').mockImplementation(async (...args) => {
      const [, message] = args
      expect(message.some(byte => byte !== 0)).toBe(true)
      seen.push(message)
      if (fails) throw new Error('token gone')
      const result = await mac(...args)
      seen.push(result)
      return result
    })
    return key
  }

  test.each([
    ['success', false, 'fulfilled', 8],
    ['failure', true, 'rejected', 4],
  ] as const)('on %s', async (_, fails, status, buffers) => {
    const seen: Uint8Array[] = []
    const keys = await keysFor(TDEA)
    const [generate, verify, mac] = [keys.generate, keys.verify, keys.mac].map(key => watch(key, seen, fails))
    if (generate === undefined || verify === undefined || mac === undefined) return expect.unreachable()
    const { dataSet, prwValue } = of(TDEA).prw
    const outcomes = await Promise.allSettled([
      computePrw({ ...TDEA_VALUES, key: generate, profile: TDEA }),
      computePrw({ ...TDEA_VALUES, random: undefined, key: generate, profile: TDEA }),
      verifyPrw({ ...verification(), key: verify }),
      generatePrwMac({ key: mac, profile: TDEA, dataSet, prwValue }),
    ])
    expect(outcomes.map(outcome => outcome.status)).toEqual(Array.from({ length: 4 }, () => status))
    expect(seen).toHaveLength(buffers)
    for (const buffer of seen) expect(buffer.every(byte => byte === 0)).toBe(true)
    expect(pin.reveal()).toBe('739204')
    expect(RANDOM_4).toEqual(Uint8Array.of(0xde, 0xad, 0x00, 0x42))
  })
})

describe('the mode of a MAC key', () => {
  const material = '89E88CF7931444F334BD7547FC3F380C'
  const bound = async (mode: 'G' | 'V'): Promise<Key> => {
    const backend = await softwareBackend({
      keys: [{ kid: 'MAC', usage: 'retail-mac', algorithm: 'tdea-2key', material }],
    })
    return backend.bind({ kid: 'MAC', usage: 'retail-mac', mode })
  }
  const input = () => ({ ...of(TDEA).prw, profile: TDEA, intdatag: INTDATAG })

  test('V verifies and generates nothing; G generates and verifies nothing', async () => {
    const [generate, verify] = [await bound('G'), await bound('V')]
    const { macValue } = await generatePrwMac({ ...input(), key: generate })
    expect(await verifyPrwMac({ ...input(), macValue, key: verify })).toMatchObject({ verified: true })
    await expect(generatePrwMac({ ...input(), key: verify })).rejects.toMatchObject({ code: 'ERR_KEY_USAGE' })
    await expect(verifyPrwMac({ ...input(), macValue, key: generate })).rejects.toMatchObject({
      code: 'ERR_KEY_USAGE',
    })
  })
})

test('what a key is derived from is kept to be wiped, whatever is made of it', async () => {
  const material = { values: { random: new Uint8Array(8).fill(7) } }
  const inputs = [{ input: 'random' }]
  for (const step of [
    { method: 'cmac-counter', counterBytes: 1, inputs },
    { method: 'encipher', inputs },
    { method: 'encipher', inputs, complement: true },
    { method: 'encipher', inputs, digest: 'sha-1' },
  ]) {
    const kept: Uint8Array[] = []
    const keep = <B extends Uint8Array>(bytes: B): B => {
      kept.push(bytes)
      return bytes
    }
    const computation = { derivation: [step], algorithm: 'iso9797-1-alg3' }
    const { buffers } = await buffersMadeBy(() => {
      derivationOf(computation as never, material as never, keep)
      for (const bytes of kept) bytes.fill(0)
    })
    expect(kept.length).toBeGreaterThan(0)
    expect(buffers.filter(buffer => Buffer.from(buffer as ArrayBuffer).includes(Buffer.alloc(8, 7)))).toEqual(
      [],
    )
  }
})
