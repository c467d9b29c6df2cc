import { inspect } from 'node:util'
import { compactDecrypt } from 'jose'
import { describe, expect, test } from 'vitest'
import { d1Client, sealCardDetails, softwareSigner } from '../../../src/d1.js'
import { importRecipient, Pan } from '../../../src/index.js'
import { failure } from '../../support/errors.js'
import { ecKeyPair } from '../../support/key-pair.js'

const CLEAR_PAN = '4000001234567899'
const PAN = Pan.from(CLEAR_PAN)
const CARD = { consumerId: 'consumer-1', cardProductId: 'debit' }
const REGISTER = { ...CARD, pan: PAN, exp: '1229' }
const SECRETS = [CLEAR_PAN, 'VALUE']

const agreement = ecKeyPair()
const d1PublicJwk = { ...agreement.publicKey.export({ format: 'jwk' }), kid: 'D1' }
const signer = softwareSigner({
  kid: 'S',
  privateKey: ecKeyPair().privateKey,
})
const OPTIONS = { environment: 'staging', issuerId: 'is_tbank01', signer } as const

/** A client that must not send anything. */
const { cards } = d1Client({ ...OPTIONS, d1PublicJwk, fetch: () => expect.fail('nothing may be sent') })

describe('fields that are refused, by name and without their value', () => {
  const pattern = ['VALUE!', '', 'a b', 'ä', 'VALUE\n', 7, null, ['VALUE'], 'x'.repeat(65)]
  test.each<[string, unknown[]]>([
    ['consumerId', [undefined, ...pattern]],
    ['cardProductId', [undefined, ...pattern, 'x'.repeat(49)]],
    ['state', ['VALUE', 'active', '', 1, null]],
    ['name', ['VALUE1', 'x'.repeat(27), 'Ä', 7, null]],
    ['encryptedData', ['VALUE', { pan: 'VALUE' }, 'a.b.c', 'x'.repeat(8193), `a.b.c.d.${CLEAR_PAN}!`]],
    ['pan', [CLEAR_PAN, 'VALUE', PAN]],
    ['exp', ['1229']],
  ])('%s', async (field, values) => {
    for (const value of values) {
      const error = await failure(
        () => cards.create({ card: { ...CARD, [field]: value } }),
        'ERR_D1_MESSAGE',
        SECRETS,
      )
      expect(error, inspect(value)).toMatchObject({ field })
    }
  })

  test.each(['1', '122', '12299', '0029', '1329', '12/9', '٠١٢٩', 'VALUE', 1229, undefined, null])(
    'exp %j',
    async exp => {
      const call = () => cards.register({ cardId: 'card-1', card: { ...REGISTER, exp: exp as string } })
      expect(await failure(call, 'ERR_D1_MESSAGE', SECRETS)).toMatchObject({ field: 'exp' })
    },
  )

  test.each(['', 'a b', 'a/b', '../x', 'a%2Fb', 'x'.repeat(49), 'ä', 7, undefined, null])(
    'cardId %j',
    async cardId => {
      for (const call of [
        () => cards.register({ cardId: cardId as string, card: REGISTER }),
        () => cards.renew({ cardId: cardId as string }),
        () => cards.replace({ cardId: cardId as string }),
        () => cards.delete({ cardId: cardId as string }),
      ]) {
        expect(await failure(call, 'ERR_D1_MESSAGE')).toMatchObject({ field: 'cardId' })
      }
    },
  )

  test.each([
    ['x-correlation-id', { correlationId: '' }],
    ['x-correlation-id', { correlationId: 'a\r\nx-evil: 1' }],
    ['x-correlation-id', { correlationId: 'x'.repeat(65) }],
    ['x-correlation-id', { correlationId: 7 }],
    ['x-user-id', { userId: 'x'.repeat(16) }],
    ['x-user-id', { userId: 'a b' }],
  ])('%s of %j', async (field, options) => {
    expect(
      await failure(() => cards.create({ card: CARD }, options as never), 'ERR_D1_MESSAGE'),
    ).toMatchObject({
      field,
    })
  })

  test('encryptedData is not taken from the caller of register, and pan and exp not by the open operations', async () => {
    const call = () => cards.register({ cardId: 'card-1', card: { ...REGISTER, encryptedData: 'a..b.c.d' } })
    expect(await failure(call, 'ERR_D1_MESSAGE')).toMatchObject({ field: 'encryptedData' })
    expect(
      await failure(
        () => cards.renew({ cardId: 'card-1', body: { pan: CLEAR_PAN } }),
        'ERR_D1_MESSAGE',
        SECRETS,
      ),
    ).toMatchObject({
      field: 'pan',
    })
  })
})

describe('a PAN in clear does not leave', () => {
  test.each<[string, () => unknown]>([
    ['cardId', () => cards.register({ cardId: CLEAR_PAN, card: REGISTER })],
    ['cardId', () => cards.register({ cardId: `card-${CLEAR_PAN}-1`, card: REGISTER })],
    ['cardId', () => cards.register({ cardId: '4000-0012-3456-7899', card: REGISTER })],
    [
      'cardId',
      () => cards.register({ cardId: '9_4000_001234567899', card: { ...REGISTER, consumerId: '!' } }),
    ],
    [
      'x-correlation-id',
      () => cards.register({ cardId: 'card-1', card: REGISTER }, { correlationId: CLEAR_PAN }),
    ],
    [
      'x-user-id',
      () =>
        cards.register(
          { cardId: 'c', card: { ...REGISTER, pan: Pan.from('400000123456') } },
          { userId: '400000123456' },
        ),
    ],
    [
      'consumerId',
      () => cards.register({ cardId: 'card-1', card: { ...REGISTER, consumerId: `c${CLEAR_PAN}` } }),
    ],
    [
      'further',
      () =>
        cards.register({
          cardId: 'card-1',
          card: { ...REGISTER, further: [{ number: '4000 0012 3456 7899' }] },
        }),
    ],
    [
      'further',
      () => cards.register({ cardId: 'card-1', card: { ...REGISTER, further: Number(CLEAR_PAN) } }),
    ],
    [
      'further',
      () => cards.register({ cardId: 'card-1', card: { ...REGISTER, further: { [CLEAR_PAN]: 1 } } }),
    ],
    ['body', () => cards.register({ cardId: 'card-1', card: { ...REGISTER, [CLEAR_PAN]: 1 } })],
    ['cardId', () => cards.register({ cardId: CLEAR_PAN, card: { ...REGISTER, cardId: 'card-1' } })],
  ])('in %s', async (field, call) => {
    const error = await failure(call, 'ERR_D1_MESSAGE', [CLEAR_PAN, '400000123456'])
    expect(error).toMatchObject({ field, message: `D1 message: ${field} holds the PAN in clear` })
  })
})

describe('programmer mistakes', () => {
  const circle: Record<string, unknown> = { ...CARD }
  circle['self'] = circle
  test.each<[string, () => unknown]>([
    ['no card', () => cards.create({ card: undefined as never })],
    ['a list', () => cards.create({ card: [CARD] as never })],
    ['text', () => cards.create({ card: '{}' as never })],
    ['a circle', () => cards.create({ card: circle as never })],
    ['a BigInt', () => cards.create({ card: { ...CARD, x: 1n } })],
    ['toJSON to nothing', () => cards.create({ card: { ...CARD, toJSON: () => undefined } })],
    ['toJSON to a list', () => cards.create({ card: { ...CARD, toJSON: () => [] } })],
    ['too deep', () => cards.create({ card: { ...CARD, x: [[[[[[[[1]]]]]]]] } })],
    ['too long', () => cards.create({ card: { ...CARD, x: 'x'.repeat(65_536) } })],
    ['a lone surrogate', () => cards.create({ card: { ...CARD, x: '\ud800' } })],
    ['a dangerous name', () => cards.create({ card: { ...CARD, x: JSON.parse('{"__proto__":1}') } })],
    [
      'a PAN that is text',
      () => cards.register({ cardId: 'card-1', card: { ...REGISTER, pan: CLEAR_PAN as never } }),
    ],
    ['no card to register', () => cards.register({ cardId: 'card-1', card: null as never })],
    ['a misspelt option', () => cards.create({ card: CARD }, { corelationId: 'x' } as never)],
    ['a signal that is none', () => cards.create({ card: CARD }, { signal: 7 } as never)],
    ['a signal of null', () => cards.create({ card: CARD }, { signal: null } as never)],
    ['options of null', () => cards.create({ card: CARD }, null as never)],
    ['no public key', () => d1Client(OPTIONS).cards.register({ cardId: 'card-1', card: REGISTER })],
    ['a body that is none', () => cards.renew({ cardId: 'card-1', body: 'x' as never })],
  ])('%s is ERR_ARGUMENT', async (_name, call) => {
    await failure(call, 'ERR_ARGUMENT', SECRETS)
  })

  test.each<[string, object]>([
    ['an issuerId of another length', { issuerId: 'is_tbank1' }],
    ['an issuerId with a slash', { issuerId: 'is/tbank01' }],
    ['no signer', { signer: undefined }],
    ['an aggregatorId that is empty', { aggregatorId: '' }],
    ['an audience with a space', { audience: 'a b' }],
    ['a lifetime beyond 15 minutes', { assertionLifetimeSeconds: 901 }],
    ['a public key without kid', { d1PublicJwk: { ...d1PublicJwk, kid: undefined } }],
    ['no fetch', { fetch: 'fetch' }],
    ['no clock', { clock: { now: () => 0 } }],
    ['a clock of nothing', { clock: null }],
    ['no random', { random: 0.5 }],
    ['no time', { attemptTimeoutMs: 99 }],
    ['too much time', { totalTimeoutMs: 600_001 }],
    ['no attempts', { maxAttempts: 0 }],
    ['half an attempt', { maxAttempts: 1.5 }],
    ['a wait that is text', { maxRetryAfterSeconds: '30' }],
    ['codes that are a list of text', { retryableErrorCodes: ['X'] }],
    ['codes that are text', { retryableErrorCodes: 'X' }],
    ['codes that are nothing', { retryableErrorCodes: null }],
    ['codes to something else', { retryableErrorCodes: { CODE: 'yes' } }],
    ['a permission that is text', { allowInsecureLoopback: 'true' }],
    ['an unknown option', { timeout: 1 }],
    ['http', { environment: { api: 'http://localhost', auth: 'http://localhost' } }],
  ])('a client with %s is ERR_ARGUMENT', async (_name, more) => {
    await failure(() => d1Client({ ...OPTIONS, ...more } as never), 'ERR_ARGUMENT')
  })

  test('a private key in place of D1’s public one is ERR_JWE_RECIPIENT', async () => {
    const privateJwk = { ...agreement.privateKey.export({ format: 'jwk' }), kid: 'D1' }
    const call = () => d1Client({ ...OPTIONS, d1PublicJwk: privateJwk })
    await failure(call, 'ERR_JWE_RECIPIENT', [String(privateJwk.d)])
  })
})

describe('sealCardDetails', () => {
  test.each(['400000123456', CLEAR_PAN, '4000001234567899012'])('jose opens it: PAN of %s', async digits => {
    const jwe = await sealCardDetails({
      pan: Pan.from(digits),
      exp: '0130',
      d1PublicJwk: importRecipient(d1PublicJwk),
    })
    const { plaintext, protectedHeader } = await compactDecrypt(jwe, agreement.privateKey)
    expect(new TextDecoder().decode(plaintext)).toBe(`{"pan":"${digits}","exp":"0130"}`)
    expect(protectedHeader).toMatchObject({ alg: 'ECDH-ES', enc: 'A256GCM', kid: 'D1' })
  })

  test('refuses', async () => {
    const details = { pan: PAN, exp: '0130', d1PublicJwk }
    await failure(() => sealCardDetails({ ...details, exp: '1330' }), 'ERR_D1_MESSAGE', SECRETS)
    await failure(() => sealCardDetails({ ...details, pan: CLEAR_PAN as never }), 'ERR_ARGUMENT', SECRETS)
    await failure(() => sealCardDetails({ ...details, d1PublicJwk: {} }), 'ERR_JWE_RECIPIENT', SECRETS)
    await failure(() => sealCardDetails(details, { signal: AbortSignal.abort() }), 'ERR_ABORTED', SECRETS)
    await failure(() => sealCardDetails({ ...details, cvv: '123' } as never), 'ERR_ARGUMENT', SECRETS)
  })
})

describe('a card is sent as it was when the call was made', () => {
  /** D1, as far as it takes every card: what was sent, by path. */
  function taking() {
    const sent = new Map<string, Record<string, unknown>>()
    const client = d1Client({
      ...OPTIONS,
      // A key that is asked for is what registration waits for, whether it is kept or not.
      d1PublicJwk: async () => d1PublicJwk,
      fetch: async (url, { body = '' }) => {
        if (!url.endsWith('/oauth2/token')) {
          sent.set(url.slice(url.indexOf('/cards')), JSON.parse(body))
          return new Response(null, { status: 204 }) as never
        }
        return new Response(
          JSON.stringify({ access_token: 'token', token_type: 'Bearer', expires_in: 900 }),
        ) as never
      },
    })
    return { cards: client.cards, sent }
  }
  const detailsOf = async ({ encryptedData, ...rest }: Record<string, unknown> = {}) => {
    const { plaintext } = await compactDecrypt(String(encryptedData), agreement.privateKey)
    return { ...rest, ...JSON.parse(new TextDecoder().decode(plaintext)) }
  }

  test('register: PAN, expiry date and fields', async () => {
    const { cards, sent } = taking()
    const card = { ...REGISTER }
    const call = cards.register({ cardId: 'card-1', card })
    Object.assign(card, { pan: Pan.from('4000009999999991'), exp: '0131', consumerId: 'consumer-2' })
    await call
    expect(await detailsOf(sent.get('/cards/card-1'))).toEqual({ ...CARD, pan: CLEAR_PAN, exp: '1229' })
  })

  test('registerMany: a source that gives one object again and again registers each card by its own PAN', async () => {
    const { cards, sent } = taking()
    const pans = ['4000001234567899', '4000009999999991', '4000005555555550']
    function* rows() {
      const card = { ...REGISTER }
      const item = { cardId: '', card }
      for (const [i, pan] of pans.entries()) {
        item.cardId = `card-${i}`
        Object.assign(card, { pan: Pan.from(pan), exp: `120${i}`, consumerId: `consumer-${i}` })
        yield item
      }
    }
    const { outcomes } = await cards.registerMany(rows())
    expect(outcomes.map(({ cardId, ok }) => [cardId, ok])).toEqual(pans.map((_, i) => [`card-${i}`, true]))
    for (const [i, pan] of pans.entries()) {
      const expected = { ...CARD, consumerId: `consumer-${i}`, pan, exp: `120${i}` }
      expect(await detailsOf(sent.get(`/cards/card-${i}`))).toEqual(expected)
    }
  })

  test('create, renew, replace, delete: the body', async () => {
    const { cards, sent } = taking()
    const card = { ...CARD }
    const body = { reason: 'lost' }
    const calls = [
      cards.create({ card }),
      cards.renew({ cardId: 'card-1', body }),
      cards.replace({ cardId: 'card-1', body }),
      cards.delete({ cardId: 'card-1', body }),
    ]
    Object.assign(card, { consumerId: 'consumer-2' })
    Object.assign(body, { reason: 'stolen' })
    await Promise.all(calls)
    expect(Object.fromEntries(sent)).toEqual({
      '/cards': CARD,
      '/cards/card-1/operations:renew': { reason: 'lost' },
      '/cards/card-1/operations:replace': { reason: 'lost' },
      '/cards/card-1/operations:delete': { reason: 'lost' },
    })
  })
})
