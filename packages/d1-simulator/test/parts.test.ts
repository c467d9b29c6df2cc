/** The simulator's own cryptography and readers, against published values and what they must refuse. */
import { createCipheriv, randomBytes } from 'node:crypto'
import { describe, expect, test, vi } from 'vitest'
import { ILLUSTRATIVE_NOT_GIROCARD_AES, ILLUSTRATIVE_NOT_GIROCARD_TDEA } from '../../../src/tools.js'
import { outside } from '../src/case.js'
import { aesCmac, retailMac, tdea } from '../src/ciphers.js'
import { requireContract } from '../src/contract.js'
import { clearBlock, nextPin, pinOf, WRONG_BLOCKS } from '../src/pin-block.js'
import { NoAnswer } from '../src/problems.js'
import { readProfile } from '../src/profile.js'
import { BACK } from '../src/run.js'
import { seccosContent } from '../src/seccos.js'
import { World } from '../src/world.js'

const hex = (text: string): Buffer => Buffer.from(text, 'hex')

describe('MACs', () => {
  const message = Buffer.from(Array.from({ length: 123 }, (_, i) => i))

  test.each([
    ['0123456789ABCDEFFEDCBA9876543210', message, 'A7B78DBC02BC7997'],
    // ICAO 9303-11, worked example of secure messaging.
    [
      'F1CB1F1FB5ADF208806B89DC579DC1F8',
      hex('887022120C06C2270CA4020C800000008709016375432908C044F6'),
      'BF8B92D635FF24F8',
    ],
  ])('the retail MAC under %s', (key, data, expected) => {
    expect(retailMac(hex(key), data)).toEqual(hex(expected))
  })

  // RFC 4493, 4.
  const EXAMPLE = hex(
    '6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710',
  )
  test.each([
    [0, 'bb1d6929e95937287fa37d129b756746'],
    [16, '070a16b46b4d4144f79bdd9dd04a287c'],
    [40, 'dfa66747de9ae63030ca32611497c827'],
    [64, '51f0bebf7e3b9d92fc49741779363cfe'],
  ])('AES-CMAC of %i bytes', (length, expected) => {
    expect(aesCmac(hex('2b7e151628aed2a6abf7158809cf4f3c'), EXAMPLE.subarray(0, length))).toEqual(
      hex(expected),
    )
  })
})

test('AES-CMAC under keys of 24 and 32 bytes', () => {
  // NIST SP 800-38B, D.2 and D.3, example 2.
  const message = hex('6bc1bee22e409f96e93d7e117393172a')
  for (const [key, expected] of [
    ['8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b', '9e99a7bf31e710900662f65e617c5184'],
    ['603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4', '28a7023f452e8f82bd4bf28d8c37c35c'],
  ] as const)
    expect(aesCmac(hex(key), message)).toEqual(hex(expected))
})

describe('TDEA', () => {
  test.each([16, 24])('under a key of %i bytes is the one of node:crypto', length => {
    const [key, blocks] = [randomBytes(length), randomBytes(24)]
    const long = Buffer.concat([key, key.subarray(0, 24 - length)])
    const cipher = createCipheriv('des-ede3-ecb', long, null).setAutoPadding(false)
    expect(tdea('encipher', key, blocks)).toEqual(cipher.update(blocks))
    expect(tdea('decipher', key, tdea('encipher', key, blocks))).toEqual(blocks)
  })
})

describe('format 0', () => {
  test('a published block', () => {
    expect(clearBlock('1234', '43219876543210987')).toEqual(hex('0412AC89ABCDEF67'))
  })

  test.each(['1234', '12345', '999999999999'])('a PIN of %s digits comes back', pin => {
    expect(pinOf(clearBlock(pin, '9999990123456789'), '9999990123456789')).toBe(pin)
  })

  const pan = '9999990123456789'
  test.each(['1234', '123456', '123456789012'])('no wrong block is a PIN of the card, from %s', pin => {
    const zpk = randomBytes(16)
    for (const [name, make] of Object.entries(WRONG_BLOCKS)) {
      for (let i = 0; i < 30; i++) {
        const clear = tdea('decipher', zpk, make({ pin, pan, zpk }))
        expect(pinOf(clear, pan), name).toBeUndefined()
      }
    }
  })

  test('a clear block that would pass as enciphered is not taken: the next PIN is', () => {
    const zpk = hex('0123456789ABCDEFFEDCBA9876543210')
    const input = { pin: '004708', pan, zpk }
    expect(WRONG_BLOCKS['a clear block']?.(input)).toEqual(clearBlock('004709', pan))
  })

  test('the next PIN is another of the same length', () => {
    expect(nextPin('0041')).toBe('0042')
    expect(nextPin('9999')).toBe('0000')
  })
})

describe('profiles', () => {
  const base = JSON.parse(JSON.stringify(ILLUSTRATIVE_NOT_GIROCARD_TDEA))
  const aes = JSON.parse(JSON.stringify(ILLUSTRATIVE_NOT_GIROCARD_AES))
  const without = (name: string, from: object): object =>
    Object.fromEntries(Object.entries(from).filter(([key]) => key !== name))

  test.each([
    ['no profile', null, 'the document must be an object'],
    ['a list', [], 'the document must be an object'],
    ['another format', { ...base, profileFormat: 2 }, '/profileFormat must be 1'],
    ['a member too many', { ...base, x: 1 }, 'the document has an unknown member "x"'],
    ['a member too few', without('mac', base), '/mac is missing'],
    [
      'another PIN form',
      { ...base, pinBlock: 'iso9564-format-2' },
      '/pinBlock must be iso9564-format-0 or digits-bcd',
    ],
    [
      'a random number of 33 bytes',
      { ...base, randomBytes: 33 },
      '/randomBytes must be a whole number from 0 to 32',
    ],
    ['no fields', { ...base, fields: [] }, '/fields must be a list that is not empty'],
    [
      'a gap',
      { ...base, fields: base.fields.slice(1) },
      '/fields/0/offset must be a whole number from 0 to 0',
    ],
    ['too short', { ...base, fields: base.fields.slice(0, -1) }, '/fields must end with byte 122'],
    [
      'another encoding',
      { ...base, fields: [{ ...base.fields[1], offset: 0, encoding: 'utf-8' }] },
      /encoding must be bcd/,
    ],
    [
      'a mask that is text',
      { ...base, fields: [{ ...base.fields[1], offset: 0, masked: 'yes' }] },
      /masked must be true or/,
    ],
    [
      'an id that is none',
      { ...base, fields: [{ ...base.fields[1], offset: 0, id: 'PAN' }] },
      /id must be an id/,
    ],
    [
      'another algorithm',
      { ...base, prw: { ...base.prw, algorithm: 'cmac-tdea' } },
      /\/prw\/algorithm must be/,
    ],
    ['another padding', { ...base, prw: { ...base.prw, padding: 1 } }, '/prw/padding must be 2'],
    ['another IV', { ...base, mac: { ...base.mac, iv: '1'.repeat(16) } }, /\/mac\/iv must be 0000/],
    ['longer keys', { ...base, mac: { ...base.mac, keyBytes: 24 } }, '/mac/keyBytes must be 16'],
    ['another text form', { ...aes, mac: { ...aes.mac, text: 'base64' } }, '/mac/text must be hex-upper'],
    [
      'another input',
      { ...aes, mac: { ...aes.mac, inputs: [{ input: 'pan' }] } },
      /inputs\/0\/input must be dataSet/,
    ],
    [
      'an input with more',
      { ...aes, mac: { ...aes.mac, inputs: [{ input: 'pinBlock', length: 8 }] } },
      '/mac/inputs/0 has an unknown member "length"',
    ],
  ])('%s is refused by name', (_what, profile, message) => {
    expect(() => readProfile(profile)).toThrow(
      expect.objectContaining({
        code: 'ERR_CONFIG',
        message: typeof message === 'string' ? message : expect.stringMatching(message),
      }),
    )
  })

  const keys = { kid: 'K', key: Buffer.from('0123456789ABCDEFFEDCBA9876543210', 'hex') }
  const content = (profile: object, fields: Readonly<Record<string, string>>) =>
    seccosContent(
      { pin: '1234', pan: '9999990123456789', pcc: '0041', intdatag: 'ABCDEFGHIJ0123456789', fields },
      { profile: readProfile(profile), prw: keys, mac: keys },
    )

  test.each([
    [
      'a field that the card lacks',
      base,
      { psn: '01', expiry: '2912' },
      'a card has no value for the field issuer',
    ],
    ['letters in a number', base, { psn: 'x1', expiry: '2912', issuer: 'x' }, /field psn does not fit it/],
    [
      'a value too short for its place',
      base,
      { psn: '1', expiry: '2912', issuer: 'x' },
      /field psn does not fit it/,
    ],
    [
      'a value too long',
      base,
      { psn: '01', expiry: '2912', issuer: 'x'.repeat(11) },
      /field issuer does not fit/,
    ],
    [
      'a character that EBCDIC varies in',
      aes,
      { psn: '1', expiry: '2912', issuer: 'a[', cardData: '00' },
      /field issuer does not fit it/,
    ],
  ])('%s is an error, by name', (_what, profile, fields, message) => {
    expect(() => content(profile, fields)).toThrow(message)
  })

  test('a PAN in a binary field is an error', () => {
    const [layout, pan, ...rest] = base.fields
    const profile = { ...base, fields: [layout, { ...pan, encoding: 'binary', pad: '00' }, ...rest] }
    expect(() => content(profile, { psn: '01', expiry: '2912', issuer: 'x' })).toThrow(
      /field pan does not fit it/,
    )
  })

  test('an intdatag among the inputs may be padded', () => {
    const place = { length: 24, encoding: 'ascii', align: 'left', pad: '20' }
    const mac = { ...base.mac, inputs: [...base.mac.inputs, { input: 'intdatag', ...place }] }
    const card = { psn: '01', expiry: '2912', issuer: 'is_tbank01' }
    const padded = content({ ...base, mac }, card)
    const input = Buffer.concat([Buffer.from(padded.prwDataSet, 'hex'), Buffer.from(padded.prwValue, 'hex')])
    expect(padded.macValue).toBe(
      retailMac(keys.key, Buffer.concat([input, Buffer.from('ABCDEFGHIJ0123456789    ')]))
        .toString('hex')
        .toUpperCase(),
    )
  })

  test('the length of the PIN may stand as digits', () => {
    const fields = aes.fields.map((field: { id: string }) =>
      field.id === 'pinLength' ? { ...field, encoding: 'ascii' } : field,
    )
    const card = { psn: '1', expiry: '2912', issuer: 'is_tbank01', cardData: '00' }
    expect(content({ ...aes, fields }, card).prwDataSet).toHaveLength(246)
  })
})

describe('the contract', () => {
  const reply = (status: number, body: unknown, type = 'application/json') => ({
    status,
    headers: { 'content-type': type },
    text: typeof body === 'string' ? body : JSON.stringify(body),
  })

  const TOKEN = { access_token: 'x', token_type: 'Bearer' }

  test.each([
    ...(['getPIN', 'SetPIN', 'getPINChangeCounter'] as const).flatMap(operation =>
      [400, 401, 403, 404, 500].map(status => [operation, status] as const),
    ),
    ['getToken', 400] as const,
    ['getToken', 401] as const,
  ])('%s: an error of %i is a text where it is there', (operation, status) => {
    const more = { errorCode: 'CARD_NOT_ACTIVE' }
    requireContract(operation, reply(status, more))
    requireContract(operation, reply(status, { ...more, error: 'x' }))
    const wrong = reply(status, { ...more, error: { message: 'x' } })
    expect(() => requireContract(operation, wrong)).toThrow(`${status} with a wrong error`)
  })

  test.each([
    ['a status that is not there', 'getPIN', reply(409, {}), '409, which getPIN does not have'],
    [
      'a type that is not ISO0',
      'getPIN',
      reply(200, { type: '3DES_SECCOS', encryptedPinBlock: '' }),
      '200 with a wrong type',
    ],
    ['a body where there is none', 'SetPIN', reply(204, {}), '204 with a body'],
    [
      'no content type',
      'getPIN',
      { ...reply(404, {}), headers: {} },
      '404 whose content-type is not application/json',
    ],
    ['a list', 'getPIN', reply(404, []), '404 whose body is no JSON object'],
    ['no JSON', 'getPIN', reply(404, 'x'), '404 whose body is no JSON object'],
    ['an error that is an object', 'getPIN', reply(404, { error: {} }), '404 with a wrong error'],
    [
      'a pcc of 3 digits',
      'getPINChangeCounter',
      reply(200, { pcc: '041', intdatag: 'x'.repeat(20) }),
      '200 with a wrong pcc',
    ],
    [
      'an intdatag of 21',
      'getPINChangeCounter',
      reply(200, { pcc: '0041', intdatag: 'x'.repeat(21) }),
      '200 with a wrong intdatag',
    ],
    [
      'an unknown errorCode',
      'getPINChangeCounter',
      reply(403, { errorCode: 'X' }),
      '403 with a wrong errorCode',
    ],
    [
      'an empty token',
      'getToken',
      reply(200, { access_token: '', token_type: 'Bearer' }),
      '200 with a wrong access_token',
    ],
    [
      'a scope that is a list',
      'getToken',
      reply(200, { ...TOKEN, scope: ['pin'] }),
      '200 with a wrong scope',
    ],
    [
      'an end as a number',
      'getToken',
      reply(200, { ...TOKEN, expires_at: 1 }),
      '200 with a wrong expires_at',
    ],
    [
      'a life as a number',
      'getToken',
      reply(200, { ...TOKEN, expires_in: 1 }),
      '200 with a wrong expires_in',
    ],
    [
      'a JWE in a list',
      'getPIN',
      reply(200, { type: 'ISO0', encryptedPinBlock: [] }),
      /wrong encryptedPinBlock/,
    ],
    [
      'an error that is a number beside a good errorCode',
      'getPINChangeCounter',
      reply(403, { errorCode: 'CARD_NOT_ACTIVE', error: 1 }),
      '403 with a wrong error',
    ],
    [
      'another kind of token',
      'getToken',
      reply(200, { access_token: 'x', token_type: 'mac' }),
      '200 with a wrong token_type',
    ],
  ] as const)('%s is not in it', (_what, operation, answer, message) => {
    expect(() => requireContract(operation, answer)).toThrow(message)
  })

  test('a charset may stand with the content type, and a body may have more members', () => {
    const answer = reply(404, { error: 'x', more: 1 }, 'application/json; charset=utf-8')
    expect(requireContract('getPIN', answer)).toEqual({ error: 'x', more: 1 })
  })
})

test('a key in an answer is a secret in it, in whatever hex, and whichever of the keys it is', () => {
  const key = (byte: number) => ({ key: Buffer.alloc(16, byte) })
  const setup = { cards: [], zpk: key(0xa1), seccos: { mac: key(0xb2), prw: key(0xc3) } }
  const world = new World(setup as never, {} as never)
  const reply = (text: string) => ({ status: 200, headers: {}, text })
  for (const byte of ['a1', 'b2', 'c3']) {
    for (const digits of [byte, byte.toUpperCase()])
      expect(() => world.requireSilence(reply(`{"x":"${digits.repeat(16)}"}`)), digits).toThrow(
        'a secret in it',
      )
  }
  world.requireSilence(reply(`{"x":"${'d4'.repeat(16)}"}`))
})

test('what an answer must not show: PANs and PINs of all cards, those that were made up, the secret and the token', async () => {
  const cards = [{ pan: '9999990123456789', pin: '4711' }, { pan: '9999980000000012', pin: '908172' }, {}]
  const client = { id: 'd1', secret: 'of-the-client' }
  const setup = { cards, client, tokenUrl: 'https://x/token', zpk: { key: Buffer.alloc(16, 0xa1) } }
  const reply = (text: string, headers = {}) => ({ status: 200, headers, text })
  const token = JSON.stringify({ access_token: 'the-token', token_type: 'Bearer' })
  const world = new World(
    setup as never,
    { ask: async () => reply(token, { 'content-type': 'application/json' }) } as never,
  )
  await world.token()
  const made = world.newPin('000000')
  for (const secret of [
    '9999990123456789',
    '9999980000000012',
    '4711',
    '908172',
    'of-the-client',
    'the-token',
    made,
  ])
    expect(() => world.requireSilence(reply(`{"x":"${secret}"}`)), secret).toThrow('200 with a secret in it')
  for (const secret of ['9999980000000012', 'of-the-client', 'the-token'])
    expect(() => world.requireSilence(reply('', { x: `a ${secret}` })), secret).toThrow(
      '200 with a secret in it',
    )
  world.requireSilence(reply('{"x":"d1"}', { x: 'y' }))
})

test('a token is used for four fifths of its life, and then there is another', async () => {
  vi.useFakeTimers({ toFake: ['Date'], now: 0 })
  try {
    let asked = 0
    const ask = async () => ({
      status: 200,
      headers: { 'content-type': 'application/json' },
      text: JSON.stringify({ access_token: `token ${++asked}`, token_type: 'Bearer', expires_in: '100' }),
    })
    const client = { id: 'd1', secret: 's' }
    const world = new World({ cards: [], client, tokenUrl: 'https://x' } as never, { ask } as never)
    expect(await world.token()).toBe('token 1')
    vi.setSystemTime(80_000)
    expect(await world.token()).toBe('token 1')
    vi.setSystemTime(80_001)
    expect(await world.token()).toBe('token 2')
  } finally {
    vi.useRealTimers()
  }
})

test.each([
  ['TIMEOUT', false],
  ['ECONNREFUSED', false],
  ['ENOTFOUND', false],
  ['EHOSTUNREACH', false],
  ['EAI_AGAIN', false],
  ['ECONNRESET', true],
  ['closed', true],
])('no answer for %s: whether that is a refusal', async (reason, isRefusal) => {
  const send = (): Promise<never> => Promise.reject(new NoAnswer(reason))
  const run = (closed: boolean): Promise<string> =>
    outside('http', 'x', { statuses: [400], closed }, send).run({} as never)
  if (isRefusal) expect(await run(true)).toBe(`closed (${reason})`)
  else await expect(run(true)).rejects.toBeInstanceOf(NoAnswer)
  await expect(run(false)).rejects.toBeInstanceOf(NoAnswer)
})

test('the PINs of all cards are set back, whichever were not shown', async () => {
  const back: string[] = []
  const world = {
    changed: [
      [{ cardId: 'a' }, '1111'],
      [{ cardId: 'b' }, undefined],
      [{ cardId: 'c' }, '3333'],
    ],
    iso0: (_card: object, pin: string) => pin,
    message: async (_type: string, pin: string) => pin,
    put: async ({ cardId }: { cardId: string }, pin: string) => {
      back.push(`${cardId} ${pin}`)
      return { status: 204, headers: {}, text: '' }
    },
    shownPin: async () => back.at(-1)?.slice(2),
  }
  await expect(BACK.run(world as never)).rejects.toThrow('1 cards whose PIN was not shown')
  expect(back).toEqual(['a 1111', 'c 3333'])
})

test('a PIN that was never shown cannot be set back: the end of a run says so', async () => {
  const world = { changed: [[{ cardId: 'c' }, undefined]] } as never
  await expect(BACK.run(world)).rejects.toThrow('1 cards whose PIN was not shown before it was changed')
  expect(await BACK.run({ changed: [] } as never)).toBe('0 cards')
})
