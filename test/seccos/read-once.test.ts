import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  type Backend,
  computePrw,
  generatePrwMac,
  type Key,
  Pan,
  Pin,
  requestFingerprint,
  verifyPrw,
  verifyPrwMac,
} from '../../src/index.js'
import { softwareBackend } from '../../src/software.js'
import { ILLUSTRATIVE_NOT_GIROCARD_TDEA as profile } from '../../src/tools.js'
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
