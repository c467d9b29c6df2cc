import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  type Backend,
  computePrw,
  encipherPin,
  generatePrwMac,
  type Key,
  memoryStore,
  Pan,
  Pin,
  parseProfile,
  requestFingerprint,
  type SeccosProfile,
  TryCounter,
  verifyPinBlock,
  verifyPrw,
  verifyPrwMac,
} from '../../src/index.js'
import { mergeValues } from '../../src/seccos/computation.js'
import { softwareBackend } from '../../src/software.js'
import {
  ILLUSTRATIVE_IBM_SHAPED_NOT_GIROCARD as IBM_SHAPED,
  ILLUSTRATIVE_NOT_GIROCARD_TDEA as profile,
} from '../../src/tools.js'
import { failure } from '../support/errors.js'

const PAN = Pan.from('9999990123456789')
const FIELDS = { psn: '01', expiry: '2912', issuer: 'is_tbank01' }
const INTDATAG = 'ABCDEFGHJKLMNPQRSTUV'

let backend: Backend
let keys: { generate: Key; verify: Key; mac: Key }

beforeAll(async () => {
  const prw = { algorithm: 'tdea-2key', material: '0123456789ABCDEFFEDCBA9876543210' } as const
  backend = await softwareBackend({
    keys: [
      { kid: 'G', usage: 'prw-generate', ...prw },
      { kid: 'V', usage: 'prw-verify', ...prw },
      { kid: 'M', usage: 'retail-mac', algorithm: 'tdea-2key', material: '89E88CF7931444F334BD7547FC3F380C' },
    ],
  })
  keys = {
    generate: await backend.bind({ kid: 'G', usage: 'prw-generate' }),
    verify: await backend.bind({ kid: 'V', usage: 'prw-verify' }),
    mac: await backend.bind({ kid: 'M', usage: 'retail-mac' }),
  }
})
afterAll(() => backend.close())

const input = () => ({
  key: keys.generate,
  profile,
  pin: Pin.from('4711'),
  pan: PAN,
  pcc: '0001',
  intdatag: INTDATAG,
  fields: { ...FIELDS },
})

describe('what was checked is what is used', () => {
  test('changing the input after the call changes nothing', async () => {
    const mutable = input()
    const call = computePrw(mutable)
    Object.assign(mutable, { key: keys.verify, pan: Pan.from('9999980000000012'), pcc: '0099' })
    mutable.fields.psn = '77'
    mutable.pin.dispose()
    const { prwKid, prwValue, dataSet } = await call
    expect(prwKid).toBe('G')
    const candidate = { key: keys.verify, profile, pin: Pin.from('4711'), pan: PAN, dataSet, prwValue }
    expect((await verifyPrw({ ...candidate, pcc: '0001', fields: FIELDS })).verified).toBe(true)
  })

  test('a getter is asked once', async () => {
    const { prwValue, dataSet } = await computePrw(input())
    const answers = [keys.mac, keys.verify]
    const request = {
      profile,
      dataSet,
      prwValue,
      get key() {
        return answers.shift() ?? keys.verify
      },
    }
    expect((await generatePrwMac(request)).macKid).toBe('M')
    const profiles: unknown[] = [profile, { ...profile, mac: { ...profile.mac, outputBytes: 0 } }]
    const forged = {
      key: keys.mac,
      dataSet,
      prwValue,
      macValue: '',
      get profile() {
        return profiles.shift()
      },
    }
    await failure(() => verifyPrwMac(forged as never), 'ERR_ENCODING')
  })

  test('fields that contradict the data set are ERR_DATA_SET, not ignored', async () => {
    const { prwValue, dataSet } = await computePrw(input())
    const { macValue } = await generatePrwMac({ key: keys.mac, profile, dataSet, prwValue })
    const candidate = { key: keys.verify, profile, pin: Pin.from('4711'), pan: PAN, dataSet, prwValue }
    for (const fields of [{ psn: '02' }, { ...FIELDS, expiry: '3001' }, { issuer: 'is_tbank02' }]) {
      await failure(() => verifyPrw({ ...candidate, fields }), 'ERR_DATA_SET')
      const mac = { key: keys.mac, profile, dataSet, prwValue, macValue, fields }
      await failure(() => verifyPrwMac(mac), 'ERR_DATA_SET')
    }
    expect((await verifyPrw({ ...candidate, fields: FIELDS })).verified).toBe(true)
    expect((await verifyPrw({ ...candidate, fields: { psn: '01' } })).verified).toBe(true)
  })
})

test('texts without a UTF-8 form have no fingerprint', async () => {
  await failure(() => requestFingerprint({ a: '\ud800' }), 'ERR_ARGUMENT')
})

describe('what is computed after something was waited for is still what was given', () => {
  const { inputs } = IBM_SHAPED.prw
  const ENCIPHERED = { input: 'enciphered', mode: 'ecb', iv: 'none', padding: 1, inputs: inputs.slice(0, 1) }
  /** What comes behind an input that is enciphered first is put together when the backend has answered. */
  const later = parseProfile({
    ...IBM_SHAPED,
    prw: { ...IBM_SHAPED.prw, inputs: [ENCIPHERED, ...inputs.slice(1)] },
  })
  /** A value of bytes, which no data set shows. */
  const ofBytes = parseProfile({
    ...IBM_SHAPED,
    external: [
      { id: 'cardStays', kind: 'bytes' },
      { id: 'cardChanges', kind: 'text' },
    ],
    prw: {
      ...IBM_SHAPED.prw,
      inputs: inputs.map(input =>
        input.input === 'external' && input.id === 'cardStays' ? { ...input, encoding: 'binary' } : input,
      ),
    },
  })
  const PROFILES = [
    ['nothing is enciphered before', IBM_SHAPED],
    ['something is enciphered before', later],
    ['a value outside the data set is bytes', ofBytes],
  ] as const
  const AES = { algorithm: 'aes-128', material: '000102030405060708090A0B0C0D0E0F' } as const
  const given = (used: SeccosProfile) => ({
    pin: Pin.from('4711'),
    pan: PAN,
    pcc: '0001',
    intdatag: INTDATAG,
    random: Uint8Array.of(1, 2, 3, 4),
    fields: { psn: '01', cardStays: used === ofBytes ? Uint8Array.of(5, 6) : '01', cardChanges: '2812' },
  })
  /** All that a caller may do with his own as soon as he has the promise. */
  const spoil = ({ pin, random, fields }: ReturnType<typeof given>): void => {
    pin.dispose()
    random.fill(0xff)
    if (typeof fields.cardStays !== 'string') fields.cardStays.fill(0xff)
    Object.assign(fields, { psn: '77', cardStays: '99', cardChanges: '9999' })
  }

  let own: Backend
  let generate: Key
  let verify: Key
  let zpk: Key
  beforeAll(async () => {
    own = await softwareBackend({
      keys: [
        { kid: 'G', usage: 'prw-generate', ...AES },
        { kid: 'V', usage: 'prw-verify', ...AES },
        { kid: 'Z', usage: 'pin-encryption', ...AES, material: '8CA64DE9C1B123A7CC1F4A3C5B6D7E92' },
      ],
    })
    generate = await own.bind({ kid: 'G', usage: 'prw-generate' })
    verify = await own.bind({ kid: 'V', usage: 'prw-verify' })
    zpk = await own.bind({ kid: 'Z', usage: 'pin-encryption', hostDecipher: true })
  })
  afterAll(() => own.close())

  test.each(PROFILES)('computePrw, %s', async (_, used) => {
    const { prwValue } = await computePrw({ ...given(used), key: generate, profile: used })
    const values = given(used)
    const call = computePrw({ ...values, key: generate, profile: used })
    spoil(values)
    const { random, prwValue: found } = await call
    expect(found).toBe(prwValue)
    expect(random).toEqual(given(used).random)
  })

  test.each(PROFILES)('verifyPrw, with tries and without, %s', async (_, used) => {
    const { prwValue, dataSet } = await computePrw({ ...given(used), key: generate, profile: used })
    const counter = new TryCounter({
      store: memoryStore(),
      products: { classic: { limit: 3, afterSuccess: 'reset' } },
    })
    for (const tries of [undefined, { counter, cardId: 'card-1', product: 'classic' }]) {
      const values = given(used)
      const stored = Uint8Array.from(dataSet)
      const call = verifyPrw({
        ...values,
        key: verify,
        profile: used,
        dataSet: stored,
        prwValue,
        ...(tries && { tries }),
      })
      spoil(values)
      stored.fill(0)
      expect((await call).verified).toBe(true)
    }
    expect(await counter.left({ cardId: 'card-1', product: 'classic' })).toBe(3)
  })

  test.each(PROFILES)('verifyPinBlock against a PRW, %s', async (_, used) => {
    const { prwValue, dataSet } = await computePrw({ ...given(used), key: generate, profile: used })
    const values = given(used)
    const block = await encipherPin({ pin: values.pin, pan: PAN, format: 4, key: zpk })
    const { random, fields } = values
    const against = {
      kind: 'prw',
      key: verify,
      profile: used,
      dataSet: Uint8Array.from(dataSet),
      prwValue,
      random,
      fields,
    } as const
    const tries = 'counted-elsewhere'
    const call = verifyPinBlock({ block, pan: PAN, format: 4, from: zpk, against, tries })
    spoil(values)
    block.fill(0)
    against.dataSet.fill(0)
    expect((await call).verified).toBe(true)
  })

  test('what is put together for a computation holds no bytes of the caller', async () => {
    const { dataSet: masked } = await computePrw({ ...given(ofBytes), key: generate, profile: ofBytes })
    const { pin, ...values } = given(ofBytes)
    const content = { pcc: values.pcc, intdatag: values.intdatag, random: undefined }
    const merged = mergeValues(ofBytes, { masked, content: content as never }, values)
    spoil({ pin, ...values })
    expect(merged).toMatchObject({ random: given(ofBytes).random, fields: given(ofBytes).fields })
  })
})
