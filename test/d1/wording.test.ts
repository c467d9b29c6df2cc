/** What a refusal of the message verbs says: which member, what is wanted, and never what stood there. */
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import {
  changeCounterResponse,
  getPinResponse,
  openSeccosSetPinRequest,
  openSetPinRequest,
  openSetPinRequestToClearPin,
  readPinMessage,
} from '../../src/d1.js'
import { type Backend, type Key, openJwe, Pan, Pin, sealJwe } from '../../src/index.js'
import { ChangeCounter } from '../../src/seccos/counter/counter.js'
import { memoryStore } from '../../src/seccos/counter/store.js'
import { ILLUSTRATIVE_NOT_GIROCARD_TDEA } from '../../src/seccos/profile/illustrative.js'
import { parseProfile } from '../../src/seccos/profile/parse.js'
import { softwareBackend } from '../../src/software.js'
import { makeSeccosSetPinRequest } from '../../src/testing.js'
import { failure } from '../support/errors.js'

const PAN = Pan.from('4000001234567899')
const SCALAR = '1122334455667788112233445566778811223344556677881122334455667788'
const TDEA = '0123456789ABCDEFFEDCBA9876543210'
const TAG = 'D1-TAG-0123456789-AB'

let backend: Backend
let keys: { zpk: Key; jwe: Key; prw: Key; mac: Key }
let counter: ChangeCounter

beforeAll(async () => {
  backend = await softwareBackend({
    keys: [
      { kid: 'ZPK', usage: 'pin-encryption', algorithm: 'tdea-2key', material: TDEA },
      { kid: 'JWE', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: SCALAR },
      {
        kid: 'PRW',
        usage: 'prw-generate',
        algorithm: 'tdea-2key',
        material: '7CA110454A1A6E570131D9619DC1376E',
      },
      {
        kid: 'MAC',
        usage: 'retail-mac',
        algorithm: 'tdea-2key',
        material: '89E88CF7931444F334BD7547FC3F380C',
      },
    ],
  })
  keys = {
    zpk: await backend.bind({ kid: 'ZPK', usage: 'pin-encryption', hostDecipher: true }),
    jwe: await backend.bind({ kid: 'JWE', usage: 'jwe-key-agreement' }),
    prw: await backend.bind({ kid: 'PRW', usage: 'prw-generate' }),
    mac: await backend.bind({ kid: 'MAC', usage: 'retail-mac' }),
  }
  const rules = { rule: 'increment-on-accept', wrap: 'refuse', ttlSeconds: 300, firstPcc: '0041' } as const
  counter = new ChangeCounter({ store: memoryStore(), backend, ...rules })
})
afterAll(() => backend.close())

const recipient = () => ({ ...keys.jwe.publicJwk, kid: 'JWE' }) as never
const seal = async (content: unknown): Promise<string> => {
  const text = typeof content === 'string' ? content : JSON.stringify(content)
  return sealJwe({ plaintext: new TextEncoder().encode(text), recipient: recipient() })
}
const problem = async (call: () => unknown): Promise<string> => {
  const error = await failure(call, 'ERR_D1_MESSAGE')
  return error.message.replace('D1 message: ', '')
}
const mistake = async (call: () => unknown): Promise<string> => (await failure(call, 'ERR_ARGUMENT')).message

describe('the outer object', () => {
  const jwe = 'x'
  test.each<[string, unknown, string]>([
    ['an array', [], 'body must be a JSON object'],
    ['broken text', '{', 'body must be a JSON object without duplicate members'],
    ['a text too long by one', ' '.repeat(16_385), 'body must be at most 16384 long'],
    ['bytes too many by one', new Uint8Array(16_385), 'body must be at most 16384 long'],
    ['no type', {}, 'type is missing'],
    ['another type', { type: 'ISO1' }, 'type must be ISO0 or 3DES_SECCOS'],
    ['no JWE', { type: 'ISO0' }, 'encryptedPinBlock is missing'],
    ['a number', { type: 'ISO0', encryptedPinBlock: 7 }, 'encryptedPinBlock must be a string'],
    [
      'an empty JWE',
      { type: 'ISO0', encryptedPinBlock: '' },
      'encryptedPinBlock must be 1 to 8192 characters',
    ],
  ])('%s', async (_what, body, said) => {
    expect(await problem(() => readPinMessage(body as never))).toBe(said)
  })

  test('16384 characters, and a JWE of 8192, are not too long', () => {
    const text = JSON.stringify({ type: 'ISO0', encryptedPinBlock: jwe })
    expect(readPinMessage(text.padEnd(16_384))).toEqual({ type: 'ISO0', encryptedPinBlock: jwe })
    const longest = { type: 'ISO0', encryptedPinBlock: 'x'.repeat(8192) } as const
    expect(readPinMessage(longest)).toEqual(longest)
  })
})

describe('what is inside a JWE', () => {
  const open = async (content: unknown) =>
    openSetPinRequest({
      body: { type: 'ISO0', encryptedPinBlock: await seal(content) },
      jweKeys: keys.jwe,
      from: keys.zpk,
      pan: PAN,
      to: keys.zpk,
    })
  const pinValue = '0'.repeat(16)
  test.each<[string, unknown, string]>([
    ['no JSON', 'no', 'encryptedPinBlock must be a JSON object without duplicate members'],
    ['a long kid', { kid: 'x'.repeat(129), pinValue }, 'kid must be 1 to 128 characters'],
    ['another kid', { kid: 'x'.repeat(128), pinValue }, 'kid names no key that was offered'],
    ['a short block', { kid: 'ZPK', pinValue: '00' }, 'pinValue must be 16 hex digits'],
  ])('ISO0: %s', async (_what, content, said) => {
    expect(await problem(() => open(content))).toBe(said)
  })

  const good = {
    intdatag: TAG,
    prwDataSet: '0'.repeat(246),
    prwValue: '0'.repeat(16),
    prwKid: 'PRW',
    macValue: '0'.repeat(16),
    macKid: 'MAC',
  }
  test.each<[string, unknown, string]>([
    ['no JSON', 'no', 'encryptedPinBlock must be a JSON object without duplicate members'],
    ['a short intdatag', { ...good, intdatag: 'x' }, 'intdatag must be 20 characters'],
    ['an intdatag of two lines', { ...good, intdatag: '\n'.repeat(20) }, 'intdatag must be printable ASCII'],
    ['no hex', { ...good, prwDataSet: 'x' }, 'prwDataSet must be 246 upper-case hex digits'],
    ['a long PRW', { ...good, prwValue: '0'.repeat(65) }, 'prwValue must be 1 to 64 characters'],
    ['another PRW key', { ...good, prwKid: 'OTHER' }, 'prwKid names no key that is known'],
    ['another MAC key', { ...good, macKid: 'OTHER' }, 'macKid names no key that was offered'],
  ])('3DES_SECCOS: %s', async (_what, content, said) => {
    expect(await problem(async () => openSeccos({ encryptedPinBlock: await seal(content) }))).toBe(said)
  })

  test('each verb takes its own type', async () => {
    const iso0 = { type: 'ISO0', encryptedPinBlock: 'x' }
    const seccos = { type: '3DES_SECCOS', encryptedPinBlock: 'x' }
    const input = { jweKeys: keys.jwe, from: keys.zpk, pan: PAN }
    expect(await problem(() => openSetPinRequestToClearPin({ ...input, body: seccos }))).toBe(
      'type must be ISO0 here',
    )
    expect(await problem(() => openSeccos(iso0))).toBe('type must be 3DES_SECCOS here')
  })
})

const openSeccos = (body: object, more: object = {}) =>
  openSeccosSetPinRequest({
    body: { type: '3DES_SECCOS', ...body },
    cardId: 'card-1',
    jweKeys: keys.jwe,
    profile: ILLUSTRATIVE_NOT_GIROCARD_TDEA,
    macKeys: keys.mac,
    prwKids: ['PRW'],
    counter,
    ...more,
  })

const makeSeccos = (intdatag: string, profile = ILLUSTRATIVE_NOT_GIROCARD_TDEA) =>
  makeSeccosSetPinRequest({
    pin: Pin.from('4711'),
    pan: PAN,
    pcc: '0041',
    intdatag,
    profile,
    fields: { psn: '01', expiry: '2912', issuer: 'is_tbank01' },
    prwKey: keys.prw,
    macKey: keys.mac,
    issuerPublicJwk: recipient(),
  })

describe('the data set of a 3DES_SECCOS message', () => {
  test('says which member another one contradicts', async () => {
    const body = await makeSeccos(TAG)
    expect(await problem(() => openSeccos(body, { pcc: '0042' }))).toBe('prwDataSet has another PCC')
    const { plaintext } = await openJwe({ jwe: body.encryptedPinBlock, keys: keys.jwe })
    const content = { ...JSON.parse(new TextDecoder().decode(plaintext)), intdatag: 'A'.repeat(20) }
    const encryptedPinBlock = await seal(content)
    expect(await problem(() => openSeccos({ encryptedPinBlock }))).toBe(
      'intdatag is not the one in the data set',
    )
  })

  test('may do without an intdatag, where the MAC covers the one of the message', async () => {
    const { fields, prw, mac, ...rest } = structuredClone(ILLUSTRATIVE_NOT_GIROCARD_TDEA)
    const tag = { input: 'intdatag', length: 20, encoding: 'ascii', align: 'exact' }
    const profile = parseProfile({
      ...rest,
      fields: fields.map(field =>
        field.id === 'intdatag' ? { id: 'gap', offset: 38, length: 20, constant: '00'.repeat(20) } : field,
      ),
      prw: { ...prw, uncovered: ['intdatag'] },
      mac: { ...mac, inputs: [...mac.inputs, tag] },
    })
    const { intdatag } = await changeCounterResponse({ counter, cardId: 'card-1' })
    const body = await makeSeccos(intdatag, profile)
    expect(await openSeccos(body, { profile })).toMatchObject({ pcc: '0041', macKid: 'MAC', jweKid: 'JWE' })
  })
})

describe("a programmer's mistake names the verb, or the option", () => {
  test('no options object', async () => {
    const said = 'takes an options object'
    expect(await mistake(() => getPinResponse([] as never))).toBe(`getPinResponse ${said}`)
    expect(await mistake(() => openSetPinRequest([] as never))).toBe(`openSetPinRequest ${said}`)
    expect(await mistake(() => openSetPinRequestToClearPin([] as never))).toBe(
      `openSetPinRequestToClearPin ${said}`,
    )
    expect(await mistake(() => openSeccosSetPinRequest([] as never))).toBe(`openSeccosSetPinRequest ${said}`)
    expect(await mistake(() => makeSeccosSetPinRequest([] as never))).toBe(`makeSeccosSetPinRequest ${said}`)
  })

  test('a counter that is none', async () => {
    const said = 'counter must be a ChangeCounter'
    for (const input of [undefined, null, {}, { counter: {} }]) {
      expect(await mistake(() => changeCounterResponse(input as never))).toBe(said)
    }
    const [check, pccOf] = [async () => {}, async () => {}]
    for (const counter of [undefined, {}, { check }, { pccOf }]) {
      expect(await mistake(() => openSeccos({ encryptedPinBlock: 'x' }, { counter }))).toBe(said)
    }
  })

  test('keys and lists', async () => {
    const noKey = 'must be a Key, bound by a backend of this copy of the library'
    const get = { pan: PAN, to: keys.zpk, d1PublicJwk: recipient() }
    const block = new Uint8Array(8)
    expect(await mistake(() => getPinResponse({ ...get, to: 1 } as never))).toBe(`to ${noKey}`)
    expect(await mistake(() => getPinResponse({ ...get, block } as never))).toBe(`from ${noKey}`)
    expect(await mistake(() => getPinResponse({ ...get, from: keys.zpk } as never))).toMatch(/^block /)
    const set = { body: {}, jweKeys: keys.jwe, from: keys.zpk, pan: PAN, to: keys.zpk }
    expect(await mistake(() => openSetPinRequest({ ...set, to: 1 } as never))).toBe(`to ${noKey}`)
    expect(await mistake(() => openSetPinRequest({ ...set, from: [] }))).toBe('from must be 1 to 64 keys')
    expect(await mistake(() => openSeccos({}, { macKeys: [] }))).toBe('macKeys must be 1 to 64 keys')
    expect(await mistake(() => openSeccos({}, { prwKids: 'PRW' }))).toBe('prwKids must be an array of kids')
  })

  test('Get PIN from a PIN and from a block at once, and a translation that is none', async () => {
    using pin = Pin.from('4711')
    const get = { pan: PAN, to: keys.zpk, d1PublicJwk: recipient() }
    for (const more of [{ block: new Uint8Array(8) }, { from: keys.zpk }, { translation: 'checked' }]) {
      expect(await mistake(() => getPinResponse({ ...get, pin, ...more } as never))).toBe(
        'getPinResponse takes either pin, or block and from',
      )
    }
    const stored = { ...get, block: new Uint8Array(8), from: keys.zpk, translation: 'none' }
    expect(await mistake(() => getPinResponse(stored as never))).toBe(
      "translation must be 'checked' or 'reencipher'",
    )
  })
})

test('what D1 would seal is wiped, after success and after failure', async () => {
  const encode = vi.spyOn(TextEncoder.prototype, 'encode')
  try {
    await makeSeccos(TAG)
    const input = { pan: PAN, pcc: '0041', intdatag: TAG, profile: ILLUSTRATIVE_NOT_GIROCARD_TDEA }
    const fields = { psn: '01', expiry: '2912', issuer: 'is_tbank01' }
    const by = { prwKey: keys.prw, macKey: keys.mac, issuerPublicJwk: {} as never }
    const pin = Pin.from('4711')
    await failure(() => makeSeccosSetPinRequest({ ...input, ...by, pin, fields }), 'ERR_JWE_RECIPIENT')
    const contents = encode.mock.calls.flatMap(([text], i) =>
      text?.startsWith('{"intdatag"') ? [encode.mock.results[i]?.value as Uint8Array] : [],
    )
    expect(contents).toHaveLength(2)
    for (const bytes of contents) {
      expect(bytes.length).toBeGreaterThan(246)
      expect(bytes.every(byte => byte === 0)).toBe(true)
    }
  } finally {
    encode.mockRestore()
  }
})
