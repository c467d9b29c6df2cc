/** What a refusal says, for the programmer: the argument or the field, and what it must be. Never a value. */
import { describe, expect, test } from 'vitest'
import { fromHex } from '../../src/base/bytes.js'
import { DataSetError } from '../../src/base/errors.js'
import {
  assemble,
  computeBy,
  type Material,
  requireKeyFor,
  valuesWith,
} from '../../src/seccos/computation.js'
import { ChangeCounter } from '../../src/seccos/counter/counter.js'
import { requestFingerprint } from '../../src/seccos/counter/state.js'
import { memoryStore } from '../../src/seccos/counter/store.js'
import {
  buildDataSet,
  dataSetFromHex,
  dataSetToHex,
  fieldOfDataSet,
  maskDataSet,
  readDataSet,
  requireMasked,
  unmaskDataSet,
} from '../../src/seccos/data-set.js'
import { uncoveredBy } from '../../src/seccos/profile/coverage.js'
import { lackingIn } from '../../src/seccos/profile/encoding.js'
import { encodePin, pinFormBytes, readText } from '../../src/seccos/profile/forms.js'
import {
  ILLUSTRATIVE_NOT_GIROCARD_AES as AES,
  ILLUSTRATIVE_NOT_GIROCARD_TDEA as TDEA,
} from '../../src/seccos/profile/illustrative.js'
import { parseProfile } from '../../src/seccos/profile/parse.js'
import { type ComputationInput, macUsageOf } from '../../src/seccos/profile/profile.js'
import { computePrw, generatePrwMac, verifyPrw, verifyPrwMac } from '../../src/seccos/prw.js'
import { failure } from '../support/errors.js'
import {
  AES_VALUES,
  keyOf,
  keysFor,
  PAN_DIGITS,
  PIN_DIGITS,
  pan,
  pin,
  RANDOM_4,
  TDEA_VALUES,
} from './fixtures.js'
import { SAMPLES, SCHEMES, valuesOf } from './schemes.js'

const full = (): Uint8Array => buildDataSet({ profile: TDEA, ...TDEA_VALUES })
const masked = (): Uint8Array => maskDataSet({ profile: TDEA, full: full() })
const build = (more: object) => () => buildDataSet({ profile: TDEA, ...TDEA_VALUES, ...more })
const fields = (more: object) => build({ fields: { ...TDEA_VALUES.fields, ...more } })
const changed = (at: number, byte: number): Uint8Array => masked().fill(byte, at, at + 1)

describe('ERR_ARGUMENT', () => {
  test.each<[string, () => unknown]>([
    ['profile must come from parseProfile', () => buildDataSet({ profile: { ...TDEA }, ...TDEA_VALUES })],
    ['profile must come from parseProfile', () => maskDataSet({ profile: null as never, full: full() })],
    ['profile must come from parseProfile', () => requireMasked({ profile: 'x' as never, dataSet: full() })],
    ...[{ ...TDEA }, null, undefined, 'x'].flatMap(profile =>
      [
        () => unmaskDataSet({ ...TDEA_VALUES, profile: profile as never, dataSet: masked() }),
        () => readDataSet({ profile: profile as never, dataSet: masked() }),
        () => requireMasked({ profile: profile as never, dataSet: masked() }),
        () => uncoveredBy({ profile: profile as never, computation: 'prw' }),
        () => computePrw({ profile } as never),
        () => verifyPrw({ profile, pin, tries: 'counted-elsewhere' } as never),
        () => generatePrwMac({ profile } as never),
        () => verifyPrwMac({ profile } as never),
      ].map(call => ['profile must come from parseProfile', call] as [string, () => unknown]),
    ),
    ['buildDataSet takes an object of inputs', () => buildDataSet(null as never)],
    ['buildDataSet takes an object of inputs', () => buildDataSet(7 as never)],
    ['dataSet must be a Uint8Array', () => dataSetToHex('00' as never)],
    ['the data set must be a string of hex digits', () => dataSetFromHex(masked() as never)],
    ['pan must be a Pan, made by Pan.from of this copy of the library', build({ pan: PAN_DIGITS })],
    ['pin must be a Pin, made by Pin.from of this copy of the library', build({ pin: PIN_DIGITS })],
    ['random must be a Uint8Array', build({ random: 'DEAD0042' })],
    ['pcc must be a string', build({ pcc: 42 })],
    ['intdatag must be a string', build({ intdatag: 7 })],
    ['psn must be a string', fields({ psn: 1 })],
    [
      'field cardData must be a Uint8Array',
      () => buildDataSet({ profile: AES, ...AES_VALUES, fields: { ...AES_VALUES.fields, cardData: 'CAFE' } }),
    ],
    ['random must be a Uint8Array', () => valuesWith(TDEA, masked(), { random: 'DEAD0042' as never })],
    ['value must be a string', () => readText('hex-upper', 4, 7 as never, 'value')],
    ['members must be an object', () => requestFingerprint(null as never)],
    ['members must be an object', () => requestFingerprint('x' as never)],
    ['pcc must be a string', () => requestFingerprint({ pcc: 1 } as never)],
    ['a member must be a string', () => requestFingerprint({ [PAN_DIGITS]: 1 } as never)],
    ['members must be well-formed text', () => requestFingerprint({ pcc: '\ud800' })],
    ['members must be well-formed text', () => requestFingerprint({ '\udc00': 'x' })],
  ])('«%s»', async (message, call) => {
    expect((await failure(call, 'ERR_ARGUMENT', [PAN_DIGITS, PIN_DIGITS])).message).toBe(message)
  })
})

describe('ERR_DATA_SET', () => {
  test.each<[string, string, () => unknown]>([
    ['pan', 'is missing', build({ pan: undefined })],
    ['pinBlock', 'is missing', build({ pin: undefined })],
    ['random', 'is missing', build({ random: undefined })],
    ['pcc', 'is missing', build({ pcc: undefined })],
    ['psn', 'is missing', build({ fields: {} })],
    ['psn', 'is missing', build({ fields: undefined })],
    ['psn', 'is missing', build({ fields: Object.create({ psn: '01' }) })],
    ['pinLength', 'is missing', () => buildDataSet({ profile: AES, ...AES_VALUES, pin: undefined })],
    ['pcc', 'must be four digits', build({ pcc: '00042' })],
    ['pcc', 'must be four digits', build({ pcc: 'a0042' })],
    ['pcc', 'must be four digits', build({ pcc: '004' })],
    ['intdatag', 'must be 20 printable characters', build({ intdatag: 'short' })],
    ['intdatag', 'must be 20 printable characters', build({ intdatag: 'x'.repeat(21) })],
    ['intdatag', 'must be 20 printable characters', build({ intdatag: `${'x'.repeat(19)}\n` })],
    ['issuer', 'must be printable ASCII', fields({ issuer: 'is_tb\u00e4nk' })],
    ['issuer', 'must be printable ASCII', fields({ issuer: '\u007fis_tbank' })],
    ['issuer', 'must be printable ASCII', fields({ issuer: 'is_tbank\u0000' })],
    ['issuer', 'does not fit 10 bytes ascii', fields({ issuer: 'is_tbank012' })],
    ['psn', 'does not fit 1 bytes bcd', fields({ psn: '1' })],
    ['random', 'does not fit 4 bytes binary', build({ random: new Uint8Array(5) })],
    [
      'fields',
      'has a member that is not a field of the profile with a meaning of its own',
      fields({ pcc: '0042' }),
    ],
    [
      'fields',
      'has a member that is not a field of the profile with a meaning of its own',
      fields({ layout: '01' }),
    ],
    [
      'fields',
      'has a member that is not a field of the profile with a meaning of its own',
      () => unmaskDataSet({ ...TDEA_VALUES, profile: TDEA, dataSet: masked(), fields: { expirry: '2812' } }),
    ],
    ['dataSet', 'must be 123 bytes', () => maskDataSet({ profile: TDEA, full: full().subarray(1) })],
    ['dataSet', 'must be 123 bytes', () => dataSetToHex(new Uint8Array(124))],
    ['dataSet', 'must be 246 upper-case hex digits', () => dataSetFromHex('ab'.repeat(123))],
    ['dataSet', 'must be 246 upper-case hex digits', () => dataSetFromHex('AB'.repeat(122))],
    ['dataSet', 'must be 246 upper-case hex digits', () => dataSetFromHex(`${'AB'.repeat(122)}A\n`)],
    ['pan', 'must be masked: zero bytes', () => readDataSet({ profile: TDEA, dataSet: full() })],
    [
      'pinBlock',
      'must be masked: zero bytes',
      () => requireMasked({ profile: TDEA, dataSet: changed(23, 1) }),
    ],
    [
      'layout',
      'is not the constant of the profile',
      () => readDataSet({ profile: TDEA, dataSet: changed(0, 2) }),
    ],
    [
      'psn',
      'does not hold a value of its form',
      () => readDataSet({ profile: TDEA, dataSet: changed(11, 0xab) }),
    ],
    [
      'pan',
      'must be masked: zero bytes',
      () => unmaskDataSet({ profile: TDEA, dataSet: changed(1, 1), ...TDEA_VALUES }),
    ],
    [
      'nothing',
      'is not a field of the profile',
      () => fieldOfDataSet(TDEA, 'nothing', masked(), TDEA_VALUES),
    ],
    ['pcc', 'is not the one in the data set', () => valuesWith(TDEA, masked(), { pcc: '0043' })],
    [
      'random',
      'is not the one in the data set',
      () => valuesWith(TDEA, masked(), { random: new Uint8Array(4) }),
    ],
    [
      'intdatag',
      'is not the one in the data set',
      () => valuesWith(TDEA, masked(), { intdatag: 'x'.repeat(20) }),
    ],
    ['psn', 'is not the one in the data set', () => valuesWith(TDEA, masked(), { fields: { psn: '02' } })],
    ['random', 'must be 4 bytes', () => valuesWith(TDEA, masked(), { random: new Uint8Array(5) })],
    ['pinBlock', 'is missing', () => assemble([{ input: 'pinBlock' }], material({ pin: undefined }), none)],
    ['random', 'is missing', () => assemble([{ input: 'random' }], material({ random: undefined }), none)],
    ['prw', 'is missing', () => assemble([{ input: 'prw', form: 'text' }], material({}), none)],
  ])('%s «%s»', async (field, problem, call) => {
    const error = await failure(call, 'ERR_DATA_SET', [PAN_DIGITS, PIN_DIGITS])
    expect(error.message).toBe(new DataSetError(field, problem).message)
    expect(error).toHaveProperty('field', field)
  })

  function material(more: object) {
    return { profile: TDEA, masked: masked(), values: { ...TDEA_VALUES, ...more }, prw: undefined }
  }
})

test('of all that the caller states each is held against the data set, whatever is right before it', async () => {
  const { pin: _pin, pan: _pan, fields = {}, ...stated } = TDEA_VALUES
  expect(valuesWith(TDEA, masked(), { ...stated, fields }).fields).toEqual(fields)
  for (const [id, wrong] of Object.entries({ psn: '02', expiry: '2811', issuer: 'is_tbank02' })) {
    const given = { ...stated, fields: { ...fields, [id]: wrong } }
    const error = await failure(() => valuesWith(TDEA, masked(), given), 'ERR_DATA_SET')
    expect(error).toMatchObject({
      field: id,
      message: expect.stringContaining('is not the one in the data set'),
    })
  }
})

/** Enciphers nothing. */
const none = () => expect.unreachable('nothing here is enciphered')

test('what is MACed is each input in its form', async () => {
  const prw = { bytes: Uint8Array.of(0xab, 0xcd), text: 'ABCD' }
  const material = { profile: TDEA, masked: masked(), values: TDEA_VALUES, prw }
  const hexOf = async (...inputs: Parameters<typeof assemble>[0]) =>
    Buffer.from(await assemble(inputs, material, none)).toString('hex')
  expect(await hexOf({ input: 'constant', constant: '0102' }, { input: 'random' })).toBe('0102dead0042')
  expect(await hexOf({ input: 'prw', form: 'binary' }, { input: 'prw', form: 'text' })).toBe('abcd41424344')
  expect(await hexOf({ input: 'field', id: 'psn' }, { input: 'field', id: 'layout' })).toBe('0101')
  expect(await hexOf({ input: 'field', id: 'pan' })).toBe('5413330089604111ffff')
  expect(await hexOf({ input: 'pinBlock' })).toBe('0673a134f769fbee')
  expect(await hexOf({ input: 'dataSet.masked' })).toBe(Buffer.from(masked()).toString('hex'))
  expect(await hexOf({ input: 'dataSet.full' })).toBe(Buffer.from(full()).toString('hex'))
  expect(await hexOf({ input: 'pan', length: 16, encoding: 'ascii', align: 'exact' })).toBe(
    Buffer.from(PAN_DIGITS).toString('hex'),
  )
})

test('the port is asked for an iv where the profile has one, and for none with CMAC', async () => {
  const requests: unknown[] = []
  for (const [profile, dataSet, values] of [
    [TDEA, masked(), TDEA_VALUES],
    [AES, maskDataSet({ profile: AES, full: buildDataSet({ profile: AES, ...AES_VALUES }) }), AES_VALUES],
  ] as const) {
    await computeBy(
      request => {
        requests.push(request)
        return new Uint8Array(16)
      },
      profile.prw,
      { profile, masked: dataSet, values, prw: undefined },
      () => undefined,
    )
  }
  const iv = fromHex('0000000000000000', 'iv')
  expect(requests).toStrictEqual([
    { algorithm: 'iso9797-1-alg3', padding: 2, iv },
    { algorithm: 'cmac', padding: 'none' },
  ])
})

describe('the verbs', () => {
  test('take an object of inputs, and say which verb does', async () => {
    for (const [verb, name] of [
      [computePrw, 'computePrw'],
      [verifyPrw, 'verifyPrw'],
      [generatePrwMac, 'generatePrwMac'],
      [verifyPrwMac, 'verifyPrwMac'],
    ] as const) {
      const { message } = await failure(() => verb(undefined as never), 'ERR_ARGUMENT')
      expect(message).toBe(`${name} takes an object of inputs`)
    }
  })

  test('name the key that is wrong, and what is wanted', async () => {
    const key = await keyOf('prw-verify', 'tdea16')
    const usage = await failure(
      () => requireKeyFor(key, 'prw-generate', 'generate', TDEA.prw),
      'ERR_KEY_USAGE',
    )
    expect(usage.message).toBe('key prw-verify-tdea16 is for prw-verify: computing a PRW is refused')
    expect(usage).toHaveProperty('kid', key.kid)
    const cipher = await failure(
      () => requireKeyFor(key, 'prw-verify', 'verify', AES.prw),
      'ERR_KEY_ALGORITHM',
    )
    expect(cipher.message).toBe(
      'key prw-verify-tdea16 is tdea-2key: the profile wants cmac-aes with 16 bytes',
    )
    expect(cipher).toHaveProperty('kid', key.kid)
    const none = await failure(
      () => computePrw({ ...TDEA_VALUES, profile: TDEA, key: {} as never }),
      'ERR_ARGUMENT',
    )
    expect(none.message).toMatch(/^key must be a Key/)
  })

  test('name the text that does not read', async () => {
    const { generate, verify, mac } = await keysFor(TDEA)
    const { dataSet, prwValue } = await computePrw({ ...TDEA_VALUES, profile: TDEA, key: generate })
    const common = { profile: TDEA, pan, dataSet }
    const shape = 'must be 8 bytes as 16 characters hex-upper'
    const calls: [string, () => Promise<unknown>][] = [
      [`prwValue ${shape}`, () => verifyPrw({ ...common, pin, key: verify, prwValue: 'AB' })],
      [`prwValue ${shape}`, () => generatePrwMac({ ...common, key: mac, prwValue: 'ab'.repeat(8) })],
      [`macValue ${shape}`, () => verifyPrwMac({ ...common, key: mac, prwValue, macValue: 'AB' })],
    ]
    for (const [message, call] of calls) expect((await failure(call, 'ERR_ENCODING')).message).toBe(message)
    const bytes = () => verifyPrw({ ...common, pin, key: verify, prwValue, dataSet: 'AB' as never })
    expect((await failure(bytes, 'ERR_ARGUMENT')).message).toBe('dataSet must be a Uint8Array')
  })

  test('computePrw takes a profile without fields of its own, and makes its random number', async () => {
    const { generate } = await keysFor(TDEA)
    const call = (more: object) =>
      computePrw({ ...TDEA_VALUES, random: undefined, profile: TDEA, key: generate, ...more })
    const { random, dataSet } = await call({})
    expect(random).toEqual(dataSet.slice(24, 28))
    await failure(() => call({ fields: undefined }), 'ERR_DATA_SET')
    expect((await call({ random: RANDOM_4 })).random).toEqual(RANDOM_4)
  })
})

describe('a change counter', () => {
  const good = {
    backend: { randomBytes: async (length: number) => new Uint8Array(length).map((_, i) => i) },
    firstPcc: '0001',
    rule: 'increment-on-accept',
    wrap: 'refuse',
    ttlSeconds: 300,
  } as const
  const make = (more: object) => new ChangeCounter({ ...good, store: memoryStore(), ...more })
  const request = (more: object = {}) => {
    const texts = { cardId: 'card', intdatag: 'x'.repeat(20), pcc: '0001' }
    return { ...texts, fingerprint: new Uint8Array(32), ...more }
  }

  test.each<[string, () => unknown]>([
    ['ChangeCounter takes an options object', () => new ChangeCounter(7 as never)],
    ['store must be a ChangeCounterStore', () => make({ store: undefined })],
    ['store must be a ChangeCounterStore', () => make({ store: { ...storeParts(), read: 1 } })],
    ['store must be a ChangeCounterStore', () => make({ store: { ...storeParts(), compareAndSet: 1 } })],
    ['store must be a ChangeCounterStore', () => make({ store: { ...storeParts(), purge: 1 } })],
    ['backend must have randomBytes', () => make({ backend: undefined })],
    ['backend must have randomBytes', () => make({ backend: {} })],
    ['firstPcc must be four digits or a function', () => make({ firstPcc: 1 })],
    ['firstPcc must be four digits or a function', () => make({ firstPcc: '00001' })],
    ['firstPcc must be four digits or a function', () => make({ firstPcc: ['0001'] })],
    ['rule must be one of increment-on-accept, increment-on-issue', () => make({ rule: 'toString' })],
    ['rule must be one of increment-on-accept, increment-on-issue', () => make({ rule: [good.rule] })],
    ['wrap must be one of refuse, wrap-to-0000, wrap-to-0001', () => make({ wrap: 'toString' })],
    ['wrap must be one of refuse, wrap-to-0000, wrap-to-0001', () => make({ wrap: [good.wrap] })],
    ['ttlSeconds must be a whole number from 1 to 86400', () => make({ ttlSeconds: 0 })],
    ['ttlSeconds must be a whole number from 1 to 86400', () => make({ ttlSeconds: 86_401 })],
    ['ttlSeconds must be a whole number from 1 to 86400', () => make({ ttlSeconds: 1.5 })],
    ['now must be a function', () => make({ now: 7 })],
    ['cardId must be 1 to 48 letters, digits, _ and -', () => make({}).issue({ cardId: 'a b' })],
    ['cardId must be 1 to 48 letters, digits, _ and -', () => make({}).issue({ cardId: 'x'.repeat(49) })],
    ['cardId must be 1 to 48 letters, digits, _ and -', () => make({}).issue({ cardId: 7 as never })],
    ['the counter takes an object of inputs', () => make({}).check(null as never)],
    ['fingerprint must be a Uint8Array', () => make({}).check(request({ fingerprint: 'AA' }))],
    ['fingerprint must be 32 bytes', () => make({}).check(request({ fingerprint: new Uint8Array(31) }))],
    ['intdatag must be a string', () => make({}).check(request({ intdatag: 7 }) as never)],
    ['pcc must be a string', () => make({}).check(request({ pcc: 1 }) as never)],
    ['store must be a function', () => make({}).accept({ request: request(), store: undefined as never })],
    ['firstPcc must give four digits', () => make({ firstPcc: () => 1 }).issue({ cardId: 'card' })],
    ['firstPcc must give four digits', () => make({ firstPcc: () => '00001' }).issue({ cardId: 'card' })],
  ])('says «%s»', async (message, call) => {
    expect((await failure(call, 'ERR_ARGUMENT')).message).toBe(message)
  })

  test('takes a lifetime of a second and of a day, and ids of 1 and 48 characters', async () => {
    for (const ttlSeconds of [1, 86_400]) {
      for (const cardId of ['a', 'x'.repeat(48)]) {
        const { expiresAt } = await make({ ttlSeconds, now: () => 5 }).issue({ cardId })
        expect(expiresAt).toBe(5 + 1000 * ttlSeconds)
      }
    }
  })

  test.each([Number.NaN, 0.5, Number.POSITIVE_INFINITY, '5'])(
    'does not believe a clock that says %j',
    async time => {
      const call = () => make({ now: () => time }).issue({ cardId: 'card' })
      expect((await failure(call, 'ERR_BACKEND_FAILED')).message).toBe('the clock gives no whole number')
    },
  )

  test('says what is wrong with a backend, and with a store under siege', async () => {
    const short = make({ backend: { randomBytes: async () => new Uint8Array(19) } })
    expect((await failure(() => short.issue({ cardId: 'card' }), 'ERR_BACKEND_FAILED')).message).toBe(
      'the backend gave another number of random bytes',
    )
    const same = make({})
    await same.issue({ cardId: 'card' })
    expect((await failure(() => same.issue({ cardId: 'card' }), 'ERR_BACKEND_FAILED')).message).toBe(
      'the random generator repeats itself',
    )
    const store = { ...storeParts(), compareAndSet: async (key: string) => key.startsWith('tag/') }
    expect((await failure(() => make({ store }).issue({ cardId: 'card' }), 'ERR_BACKEND_BUSY')).message).toBe(
      'the record of the card is busy',
    )
  })

  test('refuses to confirm where the record has vanished in between', async () => {
    const inner = memoryStore()
    let gone = false
    const store = {
      read: (key: string) => (gone && key.startsWith('card/') ? Promise.resolve(undefined) : inner.read(key)),
      compareAndSet: inner.compareAndSet.bind(inner),
      purge: inner.purge.bind(inner),
      keys: inner.keys.bind(inner),
    }
    const counter = make({ store })
    const { pcc, intdatag } = await counter.issue({ cardId: 'card' })
    const call = () =>
      counter.accept({
        request: request({ pcc, intdatag }),
        store: async () => {
          gone = true
        },
      })
    expect(await failure(call, 'ERR_CHANGE_COUNTER')).toHaveProperty('reason', 'unknown')
  })

  function storeParts() {
    const store = memoryStore()
    return {
      read: store.read.bind(store),
      compareAndSet: store.compareAndSet.bind(store),
      purge: store.purge.bind(store),
      keys: store.keys.bind(store),
    }
  }
})

describe('what only a form of format 2 can be', () => {
  const PARTS = parseProfile(SCHEMES.parts)
  const values = () => valuesOf('parts', SAMPLES.parts[0] ?? expect.unreachable())
  const material = (more: Partial<Material> = {}): Material => ({
    profile: PARTS,
    masked: maskDataSet({ profile: PARTS, full: buildDataSet({ profile: PARTS, ...values() }) }),
    values: values(),
    prw: { bytes: Uint8Array.of(1, 2), text: '0102' },
    ...more,
  })
  const assembled = (part: object, more?: Partial<Material>) =>
    assemble([part as ComputationInput], material(more), (_, bytes) => Uint8Array.from(bytes))
  const inner = { input: 'enciphered', mode: 'ecb', iv: 'none', padding: 1, inputs: [{ input: 'pinBlock' }] }
  const parts = { pin, pan, random: undefined }
  const lateDigit = new Uint8Array(8).fill(0xaa).fill(0xa9, 7)

  test.each<[string, string, () => unknown]>([
    [
      'pan',
      'must be masked: as the profile says',
      () => requireMasked({ profile: PARTS, dataSet: buildDataSet({ profile: PARTS, ...values() }) }),
    ],
    ['enciphered', 'is inside another encipherment', () => assembled({ ...inner, inputs: [inner] })],
    [
      'prw',
      'has a character that ebcdic does not have',
      () =>
        assembled(
          { input: 'prw', form: 'text-ebcdic' },
          { prw: { bytes: Uint8Array.of(1), text: '\u20ac' } },
        ),
    ],
    [
      'random',
      'is missing',
      () => assembled({ input: 'random' }, { values: { ...values(), random: undefined } }),
    ],
    [
      'pin',
      'does not fit 2 bytes bcd',
      () => encodePin({ digits: 'bcd', length: 2, align: 'right', pad: '0' }, parts),
    ],
    [
      'pan',
      'is needed for the PIN block',
      () => encodePin({ iso9564: 3, filler: 'A' }, { pin, pan: undefined, random: undefined }),
    ],
    [
      'random',
      'must have the hex digits A to F only, as PIN block format 3 has them',
      () => encodePin({ iso9564: 3, filler: 'random' }, { ...parts, random: new Uint8Array(8) }),
    ],
    [
      'random',
      'must have the hex digits A to F only, as PIN block format 3 has them',
      () => encodePin({ iso9564: 3, filler: 'random' }, { ...parts, random: lateDigit }),
    ],
    ['random', 'is missing', () => encodePin({ iso9564: 4, filler: 'random' }, parts)],
  ])('%s: %s', async (field, problem, call) => {
    const error = await failure(async () => call(), 'ERR_DATA_SET', [PAN_DIGITS, PIN_DIGITS])
    expect(error).toMatchObject({ field })
    expect(error.message).toContain(problem)
  })

  test('a part that skips more than there is has nothing; lengths of forms; characters that none lacks', async () => {
    const part = { from: 'left', skip: 9, take: 1 }
    expect(await assembled({ input: 'random', part })).toEqual(new Uint8Array(0))
    expect([4, 1].map(iso9564 => pinFormBytes({ iso9564, filler: 'random' } as never))).toEqual([16, 8])
    expect(pinFormBytes({ digits: 'ascii', length: 12, align: 'left', pad: '00' })).toBe(12)
    expect([lackingIn('binary'), lackingIn('binary-le'), lackingIn('ascii')]).toEqual(['', '', ''])
  })

  test('neither a computation that is none nor an encipherment has a MAC', async () => {
    await failure(() => uncoveredBy({ profile: PARTS, computation: 'pin' as never }), 'ERR_ARGUMENT')
    const mac = { ...PARTS.mac, algorithm: 'aes-cbc' } as const
    await failure(() => macUsageOf({ ...PARTS, mac }), 'ERR_ARGUMENT')
  })
})
