/** Verification against every kind of reference: known answers, wrong PINs, oracles, and keys for something else. */
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { KeyError } from '../../src/base/errors.js'
import {
  type Backend,
  computePrw,
  decipherPin,
  encipherPin,
  generateOffset,
  generatePvv,
  type Key,
  memoryStore,
  naturalPin,
  Pan,
  Pin,
  type PinReference,
  type PinValueRule,
  TryCounter,
  type TryEvent,
  verifyPinBlock,
  verifyPrw,
} from '../../src/index.js'
import { softwareBackend } from '../../src/software.js'
import { keysFor, PROFILES } from '../seccos/fixtures.js'
import { failure } from '../support/errors.js'

interface Case {
  readonly tcId: number
  readonly result: 'valid' | 'invalid'
  readonly key: string
  readonly pan: string
  readonly pin: string
  readonly pvki: number
  readonly pvv: string
  readonly decimalisation: string
  readonly from: number
  readonly length: number
  readonly pad: string
  readonly offset: string
}
const casesOf = (name: string): readonly Case[] => {
  const text = readFileSync(new URL(`../../vectors/corpus/${name}_test.json`, import.meta.url), 'utf8')
  const { testGroups } = JSON.parse(text) as { testGroups: { tests: Case[] }[] }
  return testGroups.flatMap(({ tests }) => tests)
}

const PVK = '0123456789ABCDEFFEDCBA9876543210'
const OTHER = '89E88CF7931444F334BD7547FC3F380C'
const AES = 'AF8CB133A78F8DC2D1359F18527593FB'
const PAN = Pan.from('1122334455667788')
const RULE = { decimalisation: '1234567890123456', validation: { from: 0, length: 16, pad: 'F' } }
let backend: Backend
let second: Backend
let zpk: Key
let store: Key
let closed: Key
let aes: Key
let far: Key
let pvk: Key
let offsetKey: Key

beforeAll(async () => {
  const pin = { usage: 'pin-encryption', algorithm: 'tdea-2key' } as const
  backend = await softwareBackend({
    keys: [
      { kid: 'ZPK', ...pin, material: OTHER },
      { kid: 'STORE', ...pin, material: '8CA64DE9C1B123A7CC1F4A3C5B6D7E8F' },
      { kid: 'AES', usage: 'pin-encryption', algorithm: 'aes-128', material: AES },
      { kid: 'PVK', usage: 'visa-pvv', algorithm: 'tdea-2key', material: PVK },
      {
        kid: 'BARE',
        usage: 'visa-pvv',
        algorithm: 'tdea-2key',
        material: '1122334455667788A1B2C3D4E5F60718',
      },
    ],
  })
  second = await softwareBackend({
    keys: [
      { kid: 'PVK-3624', usage: 'ibm-3624', algorithm: 'tdea-2key', material: PVK },
      { kid: 'FAR', ...pin, material: '8CA64DE9C1B123A7CC1F4A3C5B6D7E90' },
    ],
  })
  zpk = await backend.bind({ kid: 'ZPK', usage: 'pin-encryption', hostDecipher: true })
  closed = await backend.bind({ kid: 'ZPK', usage: 'pin-encryption' })
  store = await backend.bind({ kid: 'STORE', usage: 'pin-encryption', mode: 'E' })
  aes = await backend.bind({ kid: 'AES', usage: 'pin-encryption', hostDecipher: true })
  pvk = await backend.bind({ kid: 'PVK', usage: 'visa-pvv', pinValue: { pvki: 1 } })
  offsetKey = await second.bind({ kid: 'PVK-3624', usage: 'ibm-3624', pinValue: RULE })
  far = await second.bind({ kid: 'FAR', usage: 'pin-encryption', mode: 'E' })
})
afterAll(() => Promise.all([backend.close(), second.close()]))

const tries = 'counted-elsewhere' as const
const blockOf = (pin: string, format: 0 | 3 | 4 = 0, pan = PAN) =>
  encipherPin({ pin: Pin.from(pin), pan, format, key: format === 4 ? aes : zpk })
async function verdict(
  pin: string,
  against: PinReference,
  format: 0 | 3 | 4 = 0,
  pan = PAN,
): Promise<boolean> {
  const from = format === 4 ? aes : zpk
  const block = await blockOf(pin, format, pan)
  return (await verifyPinBlock({ block, pan, format, from, against, tries })).verified
}

async function withKey(usage: 'visa-pvv' | 'ibm-3624', rule: PinValueRule, use: (key: Key) => Promise<void>) {
  await using own = await softwareBackend({
    keys: [{ kid: 'V', usage, algorithm: 'tdea-2key', material: PVK }],
  })
  await use(await own.bind({ kid: 'V', usage, pinValue: rule }))
}

describe('known answers', () => {
  test.each(casesOf('visa_pvv'))('PVV, case $tcId is $result', async ({ pin, pan, pvki, pvv, result }) => {
    await withKey('visa-pvv', { pvki }, async key => {
      expect(await verdict(pin, { kind: 'pvv', pvv, key }, 0, Pan.from(pan))).toBe(result === 'valid')
      const block = await blockOf(pin, 4, Pan.from(pan))
      const made = await generatePvv({ block, pan: Pan.from(pan), format: 4, from: aes, key })
      expect(made === pvv).toBe(result === 'valid')
    })
  })

  test.each(casesOf('ibm_3624'))('offset, case $tcId is $result', async one => {
    const { pin, offset, result, decimalisation, from, length, pad } = one
    const rule = { decimalisation, validation: { from, length, pad } }
    const run = () =>
      withKey('ibm-3624', rule, async key => {
        expect(await verdict(pin, { kind: 'offset', offset, key })).toBe(result === 'valid')
        const made = await generateOffset({ block: await blockOf(pin), pan: PAN, format: 0, from: zpk, key })
        expect(made === offset).toBe(result === 'valid')
      })
    // What is wrong may be the table.
    if (decimalisation === RULE.decimalisation) await run()
    else await failure(run, 'ERR_ARGUMENT')
  })

  test('the natural PIN comes in a block of format 0, too', async () => {
    const block = await naturalPin({ pan: PAN, key: offsetKey, length: 4, format: 0, to: zpk })
    expect((await decipherPin({ block, pan: PAN, format: 0, key: zpk })).reveal()).toBe('4524')
  })

  test.each(['123', '1234567890123', '12a4', 'x1234', '1234x', 1234])('%j is no offset', async offset => {
    const against = { kind: 'offset', offset: offset as string, key: offsetKey } as const
    const block = await blockOf('1234')
    const error = await failure(
      () => verifyPinBlock({ block, pan: PAN, format: 0, from: zpk, against, tries }),
      'ERR_ARGUMENT',
    )
    expect(error.message).toBe('offset must be 4 to 12 digits')
  })

  test('the natural PIN comes in a block: its offset is zeros, at every length', async () => {
    for (const length of [4, 6, 12]) {
      const block = await naturalPin({ pan: PAN, key: offsetKey, length, format: 4, to: aes })
      const made = await generateOffset({ block, pan: PAN, format: 4, from: aes, key: offsetKey })
      expect(made).toBe('0'.repeat(length))
      if (length === 4)
        expect((await decipherPin({ block, pan: PAN, format: 4, key: aes })).reveal()).toBe('4524')
    }
  })
})

describe('against a block', () => {
  test('format 0: ciphertexts are compared, with no key that deciphers on the host', async () => {
    const reference = await encipherPin({ pin: Pin.from('2846'), pan: PAN, format: 0, key: store })
    const against = { kind: 'block', block: reference, format: 0, key: store } as const
    expect(await verdict('2846', against)).toBe(true)
    expect(await verdict('2847', against)).toBe(false)
    expect(await verdict('28460', against)).toBe(false)
    // What is no PIN block of this PAN is a wrong PIN: nobody looks into it.
    const garbage = { block: new Uint8Array(8), pan: PAN, format: 0, from: zpk, against, tries } as const
    expect(await verifyPinBlock(garbage)).toEqual({ verified: false, blocked: false, triesLeft: undefined })
    await failure(() => verifyPinBlock({ ...garbage, requireInToken: true }), 'ERR_HOST_DECIPHER')
    await failure(() => verifyPinBlock({ ...garbage, from: closed }), 'ERR_HOST_DECIPHER')
  })

  test('format 0 in another backend: through host memory, if the key allows it', async () => {
    const block = await encipherPin({ pin: Pin.from('2846'), pan: PAN, format: 0, key: far })
    const against = { kind: 'block', block, format: 0, key: far } as const
    expect(await verdict('2846', against)).toBe(true)
    expect(await verdict('2845', against)).toBe(false)
    const inToken = { block, pan: PAN, format: 0, from: zpk, against, tries, requireInToken: true } as const
    await failure(() => verifyPinBlock(inToken), 'ERR_KEY_FOREIGN')
  })

  test.each([
    [0, 4],
    [3, 3],
    [3, 0],
    [4, 4],
    [4, 0],
  ] as const)('format %d against format %d: digits are compared, fillers differ', async (format, kept) => {
    const key = kept === 4 ? aes : zpk
    const against = { kind: 'block', block: await blockOf('98765', kept), format: kept, key } as const
    expect(await verdict('98765', against, format)).toBe(true)
    expect(await verdict('98764', against, format)).toBe(false)
    expect(await verdict('9876', against, format)).toBe(false)
    const from = format === 4 ? aes : zpk
    const garbage = { block: new Uint8Array(format === 4 ? 16 : 8), pan: PAN, format, from, against, tries }
    await failure(() => verifyPinBlock(garbage), 'ERR_PIN_BLOCK')
  })
})

describe('keys of two backends, in another format than 0', () => {
  test('the same steps, through host memory: a format 4 block, and a PIN key that must not be opened', async () => {
    const material = '8CA64DE9C1B123A7CC1F4A3C5B6D7E91'
    await using third = await softwareBackend({
      keys: [{ kid: 'AES-3', usage: 'pin-encryption', algorithm: 'aes-128', material }],
    })
    const key = await third.bind({ kid: 'AES-3', usage: 'pin-encryption', hostDecipher: true })
    const kept = await encipherPin({ pin: Pin.from('2846'), pan: PAN, format: 4, key })
    const against = { kind: 'block', block: kept, format: 4, key } as const
    for (const format of [0, 3, 4] as const) {
      expect(await verdict('2846', against, format)).toBe(true)
      expect(await verdict('2847', against, format)).toBe(false)
    }
    const shut = await third.bind({ kid: 'AES-3', usage: 'pin-encryption' })
    await failure(() => verdict('2846', { ...against, key: shut }), 'ERR_HOST_DECIPHER')
    await failure(() => verdict('2846', { ...against, block: new Uint8Array(16) }), 'ERR_PIN_BLOCK')
  })

  test.each([
    ['verifyPin', 3],
    ['reencipher', 0],
  ] as const)(
    'what the opener refuses, %s, is not done by other operations instead',
    async (refused, format) => {
      const asked: string[] = []
      const material = '8CA64DE9C1B123A7CC1F4A3C5B6D7E92'
      await using own = await softwareBackend({
        keys: [{ kid: 'T', usage: 'pin-encryption', algorithm: 'tdea-2key', material }],
        onOperation: ({ operation }) => {
          asked.push(operation)
          if (operation === refused) throw new KeyError('ERR_KEY_LIMIT', 'key T: no more', 'T')
        },
      })
      const from = await own.bind({ kid: 'T', usage: 'pin-encryption', hostDecipher: true })
      const block = await encipherPin({ pin: Pin.from('2846'), pan: PAN, format, key: from })
      const against = { kind: 'block', block, format, key: from } as const
      await failure(() => verifyPinBlock({ block, pan: PAN, format, from, against, tries }), 'ERR_KEY_LIMIT')
      expect(asked).toEqual(['encipher', refused])
    },
  )

  test('of one backend: what it refuses is what is said', async () => {
    const against = { kind: 'pvv', pvv: '0000', key: pvk } as const
    const block = await blockOf('2846')
    const given = { block, pan: PAN, format: 0, from: closed, against, tries } as const
    await failure(() => verifyPinBlock(given), 'ERR_HOST_DECIPHER')
    const gone = await backend.bind({ kid: 'ZPK', usage: 'pin-encryption', hostDecipher: true })
    backend.unbind(gone)
    const error = await failure(() => verifyPinBlock({ ...given, from: gone }), 'ERR_KEY_FOREIGN')
    expect(error.message).toContain('bound no longer')
  })
})

describe('against a PRW', () => {
  const OWNER = Pan.from('5413330089604111')

  async function prwOf(
    profile: (typeof PROFILES)[number]['profile'],
    values: (typeof PROFILES)[number]['values'],
  ) {
    const { generate, verify } = await keysFor(profile)
    const made = await computePrw({ ...values, profile, key: generate })
    const { prwValue, dataSet } = made
    return { kind: 'prw', key: verify, profile, dataSet, prwValue, fields: values.fields } as const
  }

  test.each(PROFILES)(
    '$name: the right PIN, a wrong one, one that is longer, in formats 0, 3 and 4',
    async ({ profile, values }) => {
      const against = await prwOf(profile, values)
      for (const format of [0, 3, 4] as const) {
        expect(await verdict('739204', against, format, OWNER)).toBe(true)
        expect(await verdict('739205', against, format, OWNER)).toBe(false)
        expect(await verdict('7392', against, format, OWNER)).toBe(false)
      }
      // The block is of this PAN; the PRW is of another card's.
      const other = Pan.from('5413330089604129')
      expect(await verdict('739204', against, 4, other)).toBe(false)
    },
  )

  test.each(PROFILES)(
    '$name: the try is counted first, a right PIN begins anew, a blocked card is compared with nothing',
    async ({ profile, values }) => {
      const against = await prwOf(profile, values)
      const counter = new TryCounter({
        store: memoryStore(),
        products: { classic: { limit: 2, afterSuccess: 'reset' } },
      })
      const card = { counter, cardId: 'card-1', product: 'classic' }
      const tried = async (pin: string) =>
        verifyPinBlock({
          block: await blockOf(pin, 0, OWNER),
          pan: OWNER,
          format: 0,
          from: zpk,
          against,
          tries: card,
        })
      expect(await tried('111111')).toEqual({ verified: false, blocked: false, triesLeft: 1 })
      expect(await tried('739204')).toEqual({ verified: true, blocked: false, triesLeft: 2 })
      expect(await tried('111111')).toMatchObject({ triesLeft: 1 })
      const garbage = {
        block: new Uint8Array(8),
        pan: OWNER,
        format: 0,
        from: zpk,
        against,
        tries: card,
      } as const
      await failure(() => verifyPinBlock(garbage), 'ERR_PIN_BLOCK')
      expect(await tried('739204')).toEqual({ verified: false, blocked: true, triesLeft: 0 })
      // verifyPrw counts on the same record of the card.
      const { kind: _, ...prw } = against
      const given = { ...prw, pan: OWNER, pin: Pin.from('739204'), tries: card }
      expect(await verifyPrw(given)).toMatchObject({ verified: false, blocked: true, triesLeft: 0 })
      await counter.unblock(card)
      expect(await verifyPrw({ ...given, pin: Pin.from('739205') })).toMatchObject({
        verified: false,
        triesLeft: 1,
      })
      expect(await verifyPrw(given)).toMatchObject({ verified: true, blocked: false, triesLeft: 2 })
    },
  )

  test('what is wrong with the PRW, its data set, its key or the call costs no try', async () => {
    const [{ profile, values } = expect.unreachable()] = PROFILES
    const against = await prwOf(profile, values)
    const counter = new TryCounter({
      store: memoryStore(),
      products: { classic: { limit: 3, afterSuccess: 'keep' } },
    })
    const card = { counter, cardId: 'card-1', product: 'classic' }
    const block = await blockOf('739204', 0, OWNER)
    const call = (more: object, code: Parameters<typeof failure>[1]) =>
      failure(
        () =>
          verifyPinBlock({
            block,
            pan: OWNER,
            format: 0,
            from: zpk,
            against: { ...against, ...more } as PinReference,
            tries: card,
          }),
        code,
      )
    await call({ prwValue: 'zz' }, 'ERR_ENCODING')
    await call({ dataSet: new Uint8Array(123) }, 'ERR_DATA_SET')
    await call({ dataSet: new Uint8Array(7) }, 'ERR_DATA_SET')
    await call({ pcc: '0043' }, 'ERR_DATA_SET')
    await call({ profile: {} }, 'ERR_ARGUMENT')
    await call({ key: pvk }, 'ERR_KEY_USAGE')
    await call({ key: 7 }, 'ERR_ARGUMENT')
    const { kind: _, ...prw } = against
    const given = { ...prw, pan: OWNER, pin: Pin.from('739204'), tries: card }
    await failure(() => verifyPrw({ ...given, prwValue: 'zz' }), 'ERR_ENCODING')
    await failure(() => verifyPrw({ ...given, pcc: '0043' }), 'ERR_DATA_SET')
    await failure(() => verifyPrw({ ...given, pin: {} as never }), 'ERR_ARGUMENT')
    expect(await counter.left(card)).toBe(3)
  })

  test('digits that are none are a wrong PIN here, too, also where nines in their places were right', async () => {
    const [{ profile, values } = expect.unreachable()] = PROFILES
    const against = await prwOf(profile, { ...values, pin: Pin.from('739294') })
    expect(await verdict('739294', against, 0, OWNER)).toBe(true)
    // 7392 A 4, mixed with the account number of this PAN.
    const { operationsOf } = await import('../../src/backend/key.js')
    const account = '0000333008960411'
    const field = [...('06' + '7392A4' + 'FFFFFFFF')].map((digit, i) =>
      (Number.parseInt(digit, 16) ^ Number(account[i])).toString(16),
    )
    const block = await operationsOf(zpk).encipher(Uint8Array.from(Buffer.from(field.join(''), 'hex')))
    const result = await verifyPinBlock({ block, pan: OWNER, format: 0, from: zpk, against, tries })
    expect(result.verified).toBe(false)
  })
})

describe('no oracle', () => {
  test('digits that are none are a wrong PIN, not another error', async () => {
    // The PAN's digits meet the PIN's: chosen PANs make letters of them.
    const shown = Pan.from('1129934455667788')
    const block = await blockOf('123456', 0, PAN)
    const against = { kind: 'pvv', pvv: '0000', key: pvk } as const
    const outcome = await verifyPinBlock({ block, pan: shown, format: 0, from: zpk, against, tries }).then(
      ({ verified }) => verified,
      (error: { code: string }) => error.code,
    )
    expect([false, 'ERR_PIN_BLOCK']).toContain(outcome)
    const bad = await zpkBlock('041AB4FFFFFFFFFF')
    const result = await verifyPinBlock({ block: bad, pan: PAN, format: 0, from: zpk, against, tries })
    expect(result.verified).toBe(false)
    await failure(
      () => generatePvv({ block: bad, pan: PAN, format: 0, from: zpk, key: pvk }),
      'ERR_PIN_BLOCK',
    )
  })

  /** The field XOR the account number, enciphered. */
  async function zpkBlock(field: string): Promise<Uint8Array> {
    const account = '0000233445566778'
    const mixed = [...field]
      .map((digit, i) => (Number.parseInt(digit, 16) ^ Number(account[i])).toString(16))
      .join('')
    const { operationsOf } = await import('../../src/backend/key.js')
    return operationsOf(zpk).encipher(Uint8Array.from(Buffer.from(mixed, 'hex')))
  }

  test('a block that is bound to no PAN is paired with none', async () => {
    const block = await encipherPin({ pin: Pin.from('1234'), pan: PAN, format: 1, key: zpk })
    const against = { kind: 'pvv', pvv: '0000', key: pvk } as const
    const source = { block, pan: PAN, format: 1, from: zpk } as const
    await failure(() => verifyPinBlock({ ...source, against, tries }), 'ERR_TRANSLATION_REFUSED')
    await failure(() => generatePvv({ ...source, key: pvk }), 'ERR_TRANSLATION_REFUSED')
    await failure(
      () => naturalPin({ pan: PAN, key: offsetKey, length: 4, format: 1, to: zpk }),
      'ERR_TRANSLATION_REFUSED',
    )
  })

  test('a key is bound with one rule for good', async () => {
    await failure(
      () => backend.bind({ kid: 'PVK', usage: 'visa-pvv', pinValue: { pvki: 2 } }),
      'ERR_KEY_USAGE',
    )
    const other = { ...RULE, decimalisation: '0123456789012345' }
    await failure(() => second.bind({ kid: 'PVK-3624', usage: 'ibm-3624', pinValue: other }), 'ERR_KEY_USAGE')
    expect((await backend.bind({ kid: 'PVK', usage: 'visa-pvv', pinValue: { pvki: 1 } })).pinValue).toEqual({
      pvki: 1,
    })
  })
})

describe('bad input', () => {
  const source = async () =>
    ({ block: await blockOf('1234'), pan: PAN, format: 0, from: zpk, tries }) as const

  test.each([
    ['pvki', 'visa-pvv', { pvki: 10 }],
    ['no rule of its', 'visa-pvv', RULE],
    ['a rule for a PIN key', 'pin-encryption', { pvki: 1 }],
    ['a short table', 'ibm-3624', { ...RULE, decimalisation: '0123' }],
    ['7 different digits', 'ibm-3624', { ...RULE, decimalisation: '0123456012345601' }],
    ['a place', 'ibm-3624', { ...RULE, validation: { from: -1, length: 16, pad: 'F' } }],
    ['a length', 'ibm-3624', { ...RULE, validation: { from: 0, length: 9, pad: 'F' } }],
    ['a pad', 'ibm-3624', { ...RULE, validation: { from: 0, length: 16, pad: 'FF' } }],
  ] as const)('%s is refused at bind', async (_name, usage, pinValue) => {
    await failure(() => backend.bind({ kid: 'X', usage, pinValue: pinValue as never }), 'ERR_ARGUMENT')
  })

  test('keys for something else, in another mode, without their rule', async () => {
    const given = await source()
    const bare = await backend.bind({ kid: 'BARE', usage: 'visa-pvv', mode: 'V' })
    const offset = { kind: 'offset', offset: '1234', key: pvk } as const
    await failure(() => verifyPinBlock({ ...given, against: offset }), 'ERR_KEY_USAGE')
    await failure(
      () => verifyPinBlock({ ...given, against: { kind: 'pvv', pvv: '1234', key: offsetKey } }),
      'ERR_KEY_USAGE',
    )
    await failure(
      () => verifyPinBlock({ ...given, against: { kind: 'pvv', pvv: '1234', key: bare } }),
      'ERR_ARGUMENT',
    )
    const { tries: _, ...block } = given
    await failure(() => generatePvv({ ...block, key: bare }), 'ERR_KEY_USAGE')
    await failure(() => generateOffset({ ...block, key: zpk }), 'ERR_KEY_USAGE')
    await failure(
      () => encipherPin({ pin: Pin.from('1234'), pan: PAN, format: 0, key: pvk }),
      'ERR_KEY_USAGE',
    )
    const ruleless = await second.bind({ kid: 'PVK-3624', usage: 'ibm-3624' })
    await failure(() => generateOffset({ ...block, key: ruleless }), 'ERR_ARGUMENT')
  })

  test('values, PANs, blocks and members that are not as they must be', async () => {
    const given = await source()
    for (const pvv of ['123', '12345', '12a4', 1234, undefined])
      await failure(
        () => verifyPinBlock({ ...given, against: { kind: 'pvv', pvv: pvv as never, key: pvk } }),
        'ERR_ARGUMENT',
      )
    for (const against of [undefined, null, 'pvv', {}, { kind: 'pin' }])
      await failure(() => verifyPinBlock({ ...given, against: against as never }), 'ERR_ARGUMENT')
    const block8 = { kind: 'block', block: new Uint8Array(8), format: 0, key: store } as const
    for (const [what, against] of [
      ['against.block', { ...block8, block: '00' }],
      ['against.block must be 8 bytes', { ...block8, block: new Uint8Array(16) }],
      ['against.format', { ...block8, format: 5 }],
      ['against.key', { ...block8, key: {} }],
      ['against: ', { ...block8, kid: 'K' }],
      ['against.key', { kind: 'pvv', pvv: '1234', key: {} }],
      ['against: ', { kind: 'pvv', pvv: '1234', key: pvk, kid: 'K' }],
      ['pvv must be 4 digits', { kind: 'pvv', pvv: '123', key: pvk }],
      ['against.key', { kind: 'offset', offset: '1234', key: {} }],
      ['against: ', { kind: 'offset', offset: '1234', key: offsetKey, kid: 'K' }],
    ] as const)
      expect(
        (await failure(() => verifyPinBlock({ ...given, against: against as never }), 'ERR_ARGUMENT'))
          .message,
      ).toContain(what)
    const reference = { kind: 'block', block: new Uint8Array(7), format: 0, key: store } as const
    await failure(() => verifyPinBlock({ ...given, against: reference }), 'ERR_ARGUMENT')
    const good = { kind: 'pvv', pvv: '1234', key: pvk } as const
    await failure(
      () => verifyPinBlock({ ...given, against: good, tries: undefined as never }),
      'ERR_ARGUMENT',
    )
    await failure(
      () => verifyPinBlock({ ...given, against: good, tries: { counter: {} } as never }),
      'ERR_ARGUMENT',
    )
    await failure(
      () => verifyPinBlock({ ...given, against: good, requireInToken: 1 as never }),
      'ERR_ARGUMENT',
    )
    await failure(
      () => verifyPinBlock({ ...given, against: good, requireInToken: true }),
      'ERR_HOST_DECIPHER',
    )
    const format4 = { kind: 'block', block: new Uint8Array(16), format: 4, key: aes } as const
    await failure(
      () => verifyPinBlock({ ...given, against: format4, requireInToken: true }),
      'ERR_HOST_DECIPHER',
    )
    const twelve = Pan.from('112233445566')
    const shortest = await blockOf('1234', 0, twelve)
    expect(await generatePvv({ block: shortest, pan: twelve, format: 0, from: zpk, key: pvk })).toMatch(
      /^\d{4}$/,
    )
    const short = Pan.from('11223344556')
    const block = await blockOf('1234', 0, short)
    await failure(() => generatePvv({ block, pan: short, format: 0, from: zpk, key: pvk }), 'ERR_PAN')
    const kept = { kind: 'pvv', pvv: '1234', key: pvk } as const
    await failure(() => verifyPinBlock({ ...given, block, pan: short, against: kept }), 'ERR_PAN')
    await failure(
      () => generateOffset({ block, pan: short, format: 0, from: zpk, key: offsetKey }),
      'ERR_PAN',
    )
    for (const length of [3, 13, 4.5])
      await failure(
        () => naturalPin({ pan: PAN, key: offsetKey, length, format: 4, to: aes }),
        'ERR_ARGUMENT',
      )
    const longest = await naturalPin({ pan: PAN, key: offsetKey, length: 12, format: 4, to: aes })
    expect((await decipherPin({ block: longest, pan: PAN, format: 4, key: aes })).length).toBe(12)
  })
})

describe('with a try counter', () => {
  test('counts before it compares, blocks at the limit, begins anew after a right PIN', async () => {
    const events: TryEvent[] = []
    const counter = new TryCounter({
      store: memoryStore(),
      products: { classic: { limit: 3, afterSuccess: 'reset' } },
      onEvent: event => events.push(event),
    })
    const card = { counter, cardId: 'card-1', product: 'classic' }
    const reference = await encipherPin({ pin: Pin.from('2846'), pan: PAN, format: 0, key: store })
    const against = { kind: 'block', block: reference, format: 0, key: store } as const
    const tried = async (pin: string) =>
      verifyPinBlock({ block: await blockOf(pin), pan: PAN, format: 0, from: zpk, against, tries: card })
    expect(await tried('1111')).toEqual({ verified: false, blocked: false, triesLeft: 2 })
    expect(await tried('2846')).toEqual({ verified: true, blocked: false, triesLeft: 3 })
    for (const left of [2, 1, 0])
      expect(await tried('1111')).toMatchObject({ verified: false, triesLeft: left })
    expect(await tried('2846')).toEqual({ verified: false, blocked: true, triesLeft: 0 })
    await counter.unblock(card)
    expect(await tried('2846')).toMatchObject({ verified: true })
    expect(events.map(({ event }) => event)).toEqual([
      'counted',
      'counted',
      'reset',
      'counted',
      'counted',
      'counted',
      'blocked',
      'unblocked',
      'counted',
      'reset',
    ])
  })

  test('a block that is none costs a try; a call that could not be carried out costs none', async () => {
    const counter = new TryCounter({
      store: memoryStore(),
      products: { classic: { limit: 3, afterSuccess: 'keep' } },
    })
    const card = { counter, cardId: 'card-1', product: 'classic' }
    const against = { kind: 'pvv', pvv: '1234', key: pvk } as const
    const given = { block: new Uint8Array(8), pan: PAN, format: 0, from: zpk, against, tries: card } as const
    await failure(() => verifyPinBlock(given), 'ERR_PIN_BLOCK')
    expect(await counter.left(card)).toBe(2)
    await failure(() => verifyPinBlock({ ...given, against: { ...against, pvv: 'x' } }), 'ERR_ARGUMENT')
    await failure(() => verifyPinBlock({ ...given, block: new Uint8Array(4) }), 'ERR_PIN_BLOCK')
    expect(await counter.left(card)).toBe(2)
  })
})
