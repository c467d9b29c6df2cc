import { CompactEncrypt, importJWK } from 'jose'
import { beforeEach, describe, expect, test } from 'vitest'
import { readSeccosContent } from '../../src/d1/messages/set-pin-seccos.js'
import {
  changeCounterResponse,
  type OpenSeccosSetPinRequestInput,
  openSeccosSetPinRequest,
} from '../../src/d1.js'
import { type Backend, type Key, openJwe, Pan, Pin } from '../../src/index.js'
import { ChangeCounter } from '../../src/seccos/counter/counter.js'
import { memoryStore } from '../../src/seccos/counter/store.js'
import { ILLUSTRATIVE_NOT_GIROCARD_TDEA } from '../../src/seccos/profile/illustrative.js'
import { parseProfile } from '../../src/seccos/profile/parse.js'
import { verifyPrw } from '../../src/seccos/prw.js'
import { softwareBackend } from '../../src/software.js'
import { makeSeccosSetPinRequest } from '../../src/testing.js'
import { failure } from '../support/errors.js'

const profile = ILLUSTRATIVE_NOT_GIROCARD_TDEA
const CLEAR_PAN = '9999990123456789'
const PAN = Pan.from(CLEAR_PAN)
const PRW_KEY = '0123456789ABCDEFFEDCBA9876543210'
const MAC_KEY = '89E88CF7931444F334BD7547FC3F380C'
const SECRETS = [CLEAR_PAN, PRW_KEY, MAC_KEY]
const FIELDS = { psn: '01', expiry: '2912', issuer: 'is_tbank01' }

let now = 1_800_000_000_000
let backend: Backend
let d1: { prw: Key; mac: Key }
let issuer: { jwe: Key; mac: Key; prw: Key }
let counter: ChangeCounter

beforeEach(async () => {
  const scalar = '1122334455667788112233445566778811223344556677881122334455667788'
  backend = await softwareBackend({
    keys: [
      { kid: 'PRW-V', usage: 'prw-verify', algorithm: 'tdea-2key', material: PRW_KEY },
      { kid: 'PRW-1', usage: 'prw-generate', algorithm: 'tdea-2key', material: PRW_KEY },
      { kid: 'MAC-1', usage: 'retail-mac', algorithm: 'tdea-2key', material: MAC_KEY },
      { kid: 'JWE-1', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: scalar },
    ],
  })
  const mac = await backend.bind({ kid: 'MAC-1', usage: 'retail-mac' })
  d1 = { prw: await backend.bind({ kid: 'PRW-1', usage: 'prw-generate' }), mac }
  issuer = {
    jwe: await backend.bind({ kid: 'JWE-1', usage: 'jwe-key-agreement' }),
    mac,
    prw: await backend.bind({ kid: 'PRW-V', usage: 'prw-verify' }),
  }
  counter = new ChangeCounter({
    store: memoryStore(),
    backend,
    firstPcc: '0041',
    rule: 'increment-on-accept',
    wrap: 'refuse',
    ttlSeconds: 300,
    now: () => now,
  })
  return () => backend.close()
})

const publicJwk = () => ({ ...issuer.jwe.publicJwk, kid: issuer.jwe.kid })

/** D1's request for a counter that was issued to the card. */
async function request(cardId = 'card-1', digits = '4711') {
  const { pcc, intdatag } = await changeCounterResponse({ counter, cardId })
  return makeSeccosSetPinRequest({
    pin: Pin.from(digits),
    pan: PAN,
    pcc,
    intdatag,
    profile,
    fields: FIELDS,
    prwKey: d1.prw,
    macKey: d1.mac,
    issuerPublicJwk: publicJwk(),
  })
}

/** The content of a request with some members replaced, sealed again by jose. */
async function altered(body: { encryptedPinBlock: string }, more: Record<string, unknown>): Promise<object> {
  const { plaintext } = await openJwe({ jwe: body.encryptedPinBlock, keys: issuer.jwe })
  const content = { ...readSeccosContent(plaintext), ...more }
  const encryptedPinBlock = await new CompactEncrypt(new TextEncoder().encode(JSON.stringify(content)))
    .setProtectedHeader({ alg: 'ECDH-ES', enc: 'A256GCM', kid: 'JWE-1' })
    .encrypt(await importJWK({ ...publicJwk() }, 'ECDH-ES'))
  return { type: '3DES_SECCOS', encryptedPinBlock }
}

const open = (body: object, more: Partial<OpenSeccosSetPinRequestInput> = {}) =>
  openSeccosSetPinRequest({
    body,
    cardId: 'card-1',
    jweKeys: issuer.jwe,
    profile,
    macKeys: issuer.mac,
    prwKids: ['PRW-1'],
    counter,
    ...more,
  })

describe('the inner object', () => {
  test.each([
    ['intdatag', [undefined, 7, '', 'x'.repeat(19), 'x'.repeat(21), `${'x'.repeat(19)}\n`]],
    ['prwDataSet', [undefined, '', '00', `${'00'.repeat(122)}0g`, 'ab'.repeat(123), `0${'0'.repeat(244)}`]],
    ['prwValue', [undefined, '', '0'.repeat(65), 1]],
    ['prwKid', [undefined, '', 'x'.repeat(129), 'OTHER']],
    ['macValue', [undefined, '', '0'.repeat(17)]],
    ['macKid', [undefined, '', 'x'.repeat(129), 'OTHER']],
  ])('a bad %s is ERR_D1_MESSAGE naming it', async (field, values) => {
    const body = await request()
    for (const value of values) {
      const error = await failure(
        async () => open(await altered(body, { [field]: value })),
        'ERR_D1_MESSAGE',
        SECRETS,
      )
      expect(error).toMatchObject({ field })
    }
  })

  test('an intdatag or PCC that is not the one in the data set is refused', async () => {
    const body = await request()
    const error = await failure(
      async () => open(await altered(body, { intdatag: 'A'.repeat(20) })),
      'ERR_D1_MESSAGE',
    )
    expect(error).toMatchObject({ field: 'intdatag' })
    expect(await failure(() => open(body, { pcc: '0042' }), 'ERR_D1_MESSAGE')).toMatchObject({
      field: 'prwDataSet',
    })
  })

  test('a data set that is not masked, or does not read by the profile, is ERR_DATA_SET', async () => {
    const body = await request()
    const { plaintext } = await openJwe({ jwe: body.encryptedPinBlock, keys: issuer.jwe })
    const { prwDataSet } = readSeccosContent(plaintext)
    const withPan = prwDataSet.slice(0, 2) + CLEAR_PAN + prwDataSet.slice(18)
    await failure(async () => open(await altered(body, { prwDataSet: withPan })), 'ERR_DATA_SET', SECRETS)
    const otherConstant = `02${prwDataSet.slice(2)}`
    await failure(
      async () => open(await altered(body, { prwDataSet: otherConstant })),
      'ERR_DATA_SET',
      SECRETS,
    )
  })
})

describe('the MAC', () => {
  test.each([
    ['macValue', (hex: string) => (hex.startsWith('0') ? '1' : '0') + hex.slice(1)],
    ['prwValue', (hex: string) => hex.slice(0, -1) + (hex.endsWith('0') ? '1' : '0')],
    ['prwDataSet', (hex: string) => `${hex.slice(0, 24)}3001${hex.slice(28)}`],
  ] as const)('any change of %s is ERR_PRW_MAC, and the counter is unharmed', async (field, change) => {
    const body = await request()
    const { plaintext } = await openJwe({ jwe: body.encryptedPinBlock, keys: issuer.jwe })
    const content = readSeccosContent(plaintext)
    const spoiled = await altered(body, { [field]: change(content[field]) })
    await failure(() => open(spoiled), 'ERR_PRW_MAC', SECRETS)
    expect((await open(body)).replayed).toBe(false)
  })

  test('a MAC in another text form is ERR_ENCODING', async () => {
    const body = await request()
    await failure(async () => open(await altered(body, { macValue: 'abcdefabcdefabcd' })), 'ERR_ENCODING')
  })
})

describe('intdatag and PCC', () => {
  const reasonOf = async (call: () => Promise<unknown>) =>
    Reflect.get(await failure(call, 'ERR_CHANGE_COUNTER', SECRETS), 'reason')

  test('unknown, expired, of another card, spent, superseded', async () => {
    const first = await request()
    expect(await reasonOf(() => open(first, { cardId: 'card-2' }))).toBe('other-card')
    const other = new ChangeCounter({
      store: memoryStore(),
      backend,
      firstPcc: '0041',
      rule: 'increment-on-accept',
      wrap: 'refuse',
      ttlSeconds: 300,
    })
    expect(await reasonOf(() => open(first, { counter: other }))).toBe('unknown')
    const late = first
    now += 301_000
    expect(await reasonOf(() => open(late))).toBe('expired')
    now -= 301_000
    // The clock went back: what was seen to be expired stays so.
    expect(await reasonOf(() => open(late))).toBe('expired')
    const [third, second] = [await request(), await request()]
    const opened = await open(third)
    await counter.accept({ request: opened.acceptance, store: async () => {} })
    expect(await reasonOf(() => open(second))).toBe('superseded')
    const { plaintext } = await openJwe({ jwe: third.encryptedPinBlock, keys: issuer.jwe })
    const { intdatag } = readSeccosContent(plaintext)
    const different = await makeSeccosSetPinRequest({
      pin: Pin.from('9999'),
      pan: PAN,
      pcc: opened.pcc,
      intdatag,
      profile,
      fields: FIELDS,
      prwKey: d1.prw,
      macKey: d1.mac,
      issuerPublicJwk: publicJwk(),
    })
    expect(await reasonOf(() => open(different))).toBe('spent')
  })

  test('the very same request, sealed anew, succeeds again and stores nothing twice', async () => {
    const body = await request()
    const stored: number[] = []
    const take = async (message: object) => {
      const opened = await open(message)
      await counter.accept({
        request: opened.acceptance,
        store: async ({ sequence }) => {
          stored.push(sequence)
        },
      })
      return opened.replayed
    }
    expect(await take(body)).toBe(false)
    expect(await take(await altered(body, {}))).toBe(true)
    expect(stored).toEqual([1])
    expect((await counter.issue({ cardId: 'card-1' })).pcc).toBe('0042')
  })
})

describe('what is stored', () => {
  test('verifies the right PIN and not a wrong one, and says by which profile', async () => {
    const opened = await open(await request('card-1', '4711'))
    expect(opened).toMatchObject({
      type: '3DES_SECCOS',
      prwKid: 'PRW-1',
      pcc: '0041',
      provenance: 'illustrative',
    })
    expect(opened.profile.name).toContain('NOT-girocard')
    const { dataSet, prwValue } = opened
    const candidate = { key: issuer.prw, profile, pan: PAN, dataSet, prwValue }
    expect((await verifyPrw({ ...candidate, pin: Pin.from('4711') })).verified).toBe(true)
    expect((await verifyPrw({ ...candidate, pin: Pin.from('4712') })).verified).toBe(false)
  })

  test('a profile whose data set holds no PCC has it from the counter, or from the caller', async () => {
    const parsed = JSON.parse(JSON.stringify(profile)) as Record<string, unknown>
    const fields = (parsed['fields'] as { id: string; offset: number; length: number }[]).map(field =>
      field.id === 'pcc'
        ? { id: 'gap', offset: field.offset, length: field.length, constant: '0000' }
        : field,
    )
    const add = (computation: object, inputs: object[]) => ({ ...computation, inputs })
    const pccInput = { input: 'pcc', length: 2, encoding: 'bcd', align: 'exact' }
    const without = parseProfile({
      ...parsed,
      fields,
      prw: add(parsed['prw'] as object, [{ input: 'dataSet.full' }, pccInput]),
      mac: add(parsed['mac'] as object, [
        { input: 'dataSet.masked' },
        { input: 'prw', form: 'binary' },
        pccInput,
      ]),
    })
    const { pcc, intdatag } = await counter.issue({ cardId: 'card-1' })
    const body = await makeSeccosSetPinRequest({
      pin: Pin.from('4711'),
      pan: PAN,
      pcc,
      intdatag,
      profile: without,
      fields: FIELDS,
      prwKey: d1.prw,
      macKey: d1.mac,
      issuerPublicJwk: publicJwk(),
    })
    expect((await open(body, { profile: without, pcc })).pcc).toBe(pcc)
    await failure(() => open(body, { profile: without, pcc: '9876' }), 'ERR_CHANGE_COUNTER')
    const other = await failure(
      () => open(body, { profile: without, cardId: 'card-2' }),
      'ERR_CHANGE_COUNTER',
    )
    expect(other).toMatchObject({ reason: 'other-card' })
    const opened = await open(body, { profile: without })
    expect(opened.pcc).toBe(pcc)
    expect((await counter.accept({ request: opened.acceptance, store: async () => {} })).replayed).toBe(false)
  })
})

test('programmer mistakes', async () => {
  const body = await request()
  await failure(() => openSeccosSetPinRequest(undefined as never), 'ERR_ARGUMENT')
  await failure(() => makeSeccosSetPinRequest({ pins: 1 } as never), 'ERR_ARGUMENT')
  await failure(() => changeCounterResponse({ cardId: 'card-1' } as never), 'ERR_ARGUMENT')
  for (const more of [
    { counter: {} },
    { prwKids: 'PRW-1' },
    { macKeys: [] },
    { pan: CLEAR_PAN },
    { cardId: '../x' },
  ]) {
    await failure(() => open(body, more as never), 'ERR_ARGUMENT', SECRETS)
  }
  await failure(() => open(body, { profile: { ...profile } }), 'ERR_ARGUMENT')
  await failure(() => open(body, { jweKeys: issuer.mac }), 'ERR_KEY_USAGE')
  await failure(() => open({ ...body, type: 'ISO0' }), 'ERR_D1_MESSAGE')
  await failure(() => open({ ...body, encryptedPinBlock: 'a.b.c.d.e' }), 'ERR_JWE')
})
