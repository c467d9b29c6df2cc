/** What the client says of a mistake: which option or member, what it must be, and no value. */

import { describe, expect, test } from 'vitest'
import { baseUrls } from '../../../src/d1/client/environment.js'
import { backendSigner, d1Client, makeAssertion, sealCardDetails, softwareSigner } from '../../../src/d1.js'
import { D1MessageError, Pan } from '../../../src/index.js'
import { failure } from '../../support/errors.js'
import { ecKeyPair } from '../../support/key-pair.js'

const { privateKey, publicKey } = ecKeyPair()
const jwk = privateKey.export({ format: 'jwk' })
const signer = softwareSigner({ kid: 'S', privateKey })
const d1PublicJwk = { ...publicKey.export({ format: 'jwk' }), kid: 'D1' }
const OPTIONS = { environment: 'staging', issuerId: 'is_tbank01', signer, d1PublicJwk } as const
const CARD = { consumerId: 'consumer-1', cardProductId: 'debit' }
const REGISTER = { ...CARD, pan: Pan.from('4000001234567899'), exp: '1229' }

const said = async (call: () => unknown): Promise<string> => (await failure(call, 'ERR_ARGUMENT')).message
const { cards } = d1Client({ ...OPTIONS, fetch: () => expect.fail('nothing may be sent') })

describe('the options of the client', () => {
  const ISSUER = 'issuerId must be 10 characters: letters, digits, . _ ~ -'
  const SIGNER = 'signer must be { kid, sign }: softwareSigner, or one of your own'
  const AGGREGATOR = 'aggregatorId must be 1 to 128 printable ASCII characters'
  const AUDIENCE = 'audience must be 1 to 512 printable ASCII characters'
  const CLOCK = 'clock must be { now, elapsed, after }'
  const CODES = 'retryableErrorCodes must map error codes to booleans'
  const none = () => {}
  test.each<[object, string]>([
    [{ timeout: 1 }, 'd1Client: unknown option "timeout"'],
    [{ issuerId: 'is_tbank0' }, ISSUER],
    [{ issuerId: 'is_tbank012' }, ISSUER],
    [{ issuerId: 1_234_567_890 }, ISSUER],
    [{ aggregatorId: '' }, AGGREGATOR],
    [{ aggregatorId: 'x'.repeat(129) }, AGGREGATOR],
    [{ audience: 'a b' }, AUDIENCE],
    [{ audience: 'x'.repeat(513) }, AUDIENCE],
    [{ signer: undefined }, SIGNER],
    [{ signer: null }, SIGNER],
    [{ signer: { kid: 'S' } }, SIGNER],
    [{ assertionLifetimeSeconds: 0 }, 'lifetimeSeconds must be 1 to 900'],
    [{ assertionLifetimeSeconds: 901 }, 'lifetimeSeconds must be 1 to 900'],
    [{ assertionLifetimeSeconds: 1.5 }, 'lifetimeSeconds must be 1 to 900'],
    [{ allowInsecureLoopback: 1 }, 'allowInsecureLoopback must be a boolean'],
    [{ audit: 'log' }, 'audit must be a function'],
    [{ fetch: 'fetch' }, 'fetch must be a function'],
    [{ random: 0.5 }, 'random must be a function'],
    [{ clock: null }, CLOCK],
    [{ clock: { elapsed: none, after: none } }, CLOCK],
    [{ clock: { now: none, after: none } }, CLOCK],
    [{ clock: { now: none, elapsed: none } }, CLOCK],
    [{ attemptTimeoutMs: 99 }, 'attemptTimeoutMs must be a whole number, 100 to 300000'],
    [{ attemptTimeoutMs: 300_001 }, 'attemptTimeoutMs must be a whole number, 100 to 300000'],
    [{ totalTimeoutMs: 99 }, 'totalTimeoutMs must be a whole number, 100 to 600000'],
    [{ totalTimeoutMs: 600_001 }, 'totalTimeoutMs must be a whole number, 100 to 600000'],
    [{ maxAttempts: 0 }, 'maxAttempts must be a whole number, 1 to 10'],
    [{ maxAttempts: 11 }, 'maxAttempts must be a whole number, 1 to 10'],
    [{ maxRetryAfterSeconds: -1 }, 'maxRetryAfterSeconds must be a whole number, 0 to 600'],
    [{ maxRetryAfterSeconds: 601 }, 'maxRetryAfterSeconds must be a whole number, 0 to 600'],
    [{ retryableErrorCodes: null }, CODES],
    [{ retryableErrorCodes: 'X' }, CODES],
    [{ retryableErrorCodes: { 'A B': true } }, CODES],
    [{ retryableErrorCodes: { A: 1 } }, CODES],
    [{ d1PublicJwk: { ...d1PublicJwk, kid: undefined } }, 'd1PublicJwk must have a kid'],
    [{ environment: 'prod' }, 'environment must be production, staging, develop or { api, auth }'],
  ])('%j', async (more, message) => {
    expect(await said(() => d1Client({ ...OPTIONS, ...more } as never))).toBe(message)
  })

  test('what is just allowed', () => {
    for (const more of [
      { aggregatorId: 'x'.repeat(128), audience: 'x'.repeat(512), assertionLifetimeSeconds: 1 },
      { attemptTimeoutMs: 100, totalTimeoutMs: 100, maxAttempts: 1, maxRetryAfterSeconds: 0 },
      { attemptTimeoutMs: 300_000, totalTimeoutMs: 600_000, maxAttempts: 10, maxRetryAfterSeconds: 600 },
      { retryableErrorCodes: {}, assertionLifetimeSeconds: 900, allowInsecureLoopback: false },
    ]) {
      expect(d1Client({ ...OPTIONS, ...more })).toHaveProperty('cards')
    }
  })
})

describe('base URLs', () => {
  const GOOD = 'https://d1.example'
  const only = 'must be https (or http to a loopback host, with allowInsecureLoopback)'
  const bare = 'must have no user, query or fragment'
  test.each([
    ['d1.example', 'must be an absolute URL'],
    ['http://localhost', only],
    ['ftp://localhost', only],
    [`${GOOD}/?x`, bare],
    [`${GOOD}/#x`, bare],
    ['https://u@d1.example', bare],
    ['https://:p@d1.example', bare],
  ])('%s', async (url, problem) => {
    expect(await said(() => baseUrls({ api: url, auth: GOOD }))).toBe(`environment.api ${problem}`)
    expect(await said(() => baseUrls({ api: GOOD, auth: url }))).toBe(`environment.auth ${problem}`)
  })

  test('a misspelt member, and http where it is not allowed by name', async () => {
    expect(await said(() => baseUrls({ api: GOOD, auth: GOOD, x: 1 } as never))).toBe(
      'environment: unknown option "x"',
    )
    const local = { api: 'http://localhost', auth: 'http://localhost' }
    for (const allowInsecureLoopback of [undefined, false]) {
      expect(await said(() => baseUrls(local, { allowInsecureLoopback }))).toContain(only)
    }
    expect(baseUrls({ api: `${GOOD}//a//`, auth: `${GOOD}/` })).toEqual({ api: `${GOOD}//a`, auth: GOOD })
  })
})

describe('a card', () => {
  const id = (field: string, max: number) => [
    [{ [field]: undefined }, `${field} is missing`],
    [{ [field]: '' }, `${field} must be 1 to ${max} characters`],
    [{ [field]: 'x'.repeat(max + 1) }, `${field} must be 1 to ${max} characters`],
    [{ [field]: 'a.b' }, `${field} must be letters, digits, _ or -`],
    [{ [field]: ' a' }, `${field} must be letters, digits, _ or -`],
  ]
  const clear = 'must not be sent in clear'
  test.each([
    ...id('consumerId', 64),
    ...id('cardProductId', 48),
    [{ state: 'active' }, 'state must be ACTIVE or INACTIVE'],
    [{ name: 'x'.repeat(27) }, 'name must be 0 to 26 characters'],
    [{ name: 'A1' }, 'name must be letters, ., space or -'],
    [{ encryptedData: 'a.b' }, 'encryptedData must be a compact JWE'],
    [{ encryptedData: '..b.c.d' }, 'encryptedData must be a compact JWE'],
    [{ pan: 1 }, `pan ${clear}`],
    [{ exp: 1 }, `exp ${clear}`],
  ] as [object, string][])('%j', async (more, problem) => {
    const error = await failure(() => cards.create({ card: { ...CARD, ...more } }), 'ERR_D1_MESSAGE')
    expect(error).toBeInstanceOf(D1MessageError)
    expect(error.message).toBe(`D1 message: ${problem}`)
  })

  test.each<[() => unknown, string]>([
    [() => cards.create({ card: null as never }), 'the body must be an object'],
    [() => cards.create({ card: [] as never }), 'the body must be an object'],
    [() => cards.create({ card: { ...CARD, x: 1n } }), 'the body must be JSON data, at most 8 levels deep'],
    [
      () => cards.create({ card: { ...CARD, toJSON: () => [] } }),
      'the body must be JSON data, at most 8 levels deep',
    ],
    [() => cards.create({ card: CARD }, { x: 1 } as never), 'options: unknown option "x"'],
    [() => cards.register({ cardId: 'card-1', card: 'x' as never }), 'the card must be an object'],
    [
      () =>
        d1Client({ ...OPTIONS, d1PublicJwk: undefined } as never).cards.register({
          cardId: 'card-1',
          card: REGISTER,
        }),
      'register needs the client option d1PublicJwk',
    ],
    [() => sealCardDetails([] as never), 'sealCardDetails takes an options object'],
  ])('%s', async (call, message) => {
    expect(await said(call)).toBe(message)
  })

  test.each<[() => unknown, string]>([
    [() => cards.renew({ cardId: 'a.b' }), 'cardId must be 1 to 48 letters, digits, _ or -'],
    [
      () => cards.create({ card: CARD }, { correlationId: '.' }),
      'x-correlation-id must be 1 to 64 letters, digits, _ or -',
    ],
    [
      () => cards.create({ card: CARD }, { userId: '.' }),
      'x-user-id must be 1 to 15 letters, digits, _ or -',
    ],
    [
      () => cards.register({ cardId: 'card-1', card: { ...REGISTER, exp: '1329' } }),
      'exp must be four digits, MMYY: month, then year',
    ],
    [
      () => cards.register({ cardId: 'card-1', card: { ...REGISTER, encryptedData: 'a.b.c.d.e' } }),
      'encryptedData is made from pan and exp',
    ],
  ])('%s', async (call, problem) => {
    expect((await failure(call, 'ERR_D1_MESSAGE')).message).toBe(`D1 message: ${problem}`)
  })
})

describe('a signer', () => {
  const unfit = async (more: object) =>
    (await failure(() => softwareSigner({ kid: 'S', privateKey: { ...jwk, ...more } }), 'ERR_KEY_MATERIAL'))
      .message

  test('in software', async () => {
    const use = 'key S: the JWK is for another use than ES256 signatures'
    expect(await unfit({ use: 'enc' })).toBe(use)
    expect(await unfit({ alg: 'ES384' })).toBe(use)
    expect(await unfit({ key_ops: ['verify'] })).toBe(use)
    const half = await failure(() => softwareSigner({ kid: 'S', privateKey: publicKey }), 'ERR_KEY_MATERIAL')
    expect(half.message).toBe('key S: the KeyObject is not a private P-256 key')
    expect(await said(() => softwareSigner({ kid: 'S', privateKey: 'pem' as never }))).toBe(
      'privateKey must be a KeyObject or a private JWK',
    )
    expect(await said(() => softwareSigner([] as never))).toBe('softwareSigner takes an options object')
    expect(await said(() => backendSigner([] as never))).toBe('backendSigner takes an options object')
    expect(await said(() => backendSigner({ key: 1 } as never))).toMatch(/^key must be a Key/)
  })

  test('and what it signs', async () => {
    const make = (more: object) =>
      said(() => makeAssertion({ signer, issuer: 'is_tbank01', ...more } as never))
    expect(await make({ x: 1 })).toBe('makeAssertion: unknown option "x"')
    expect(await make({ issuer: '' })).toBe('issuer must be 1 to 128 printable ASCII characters')
    expect(await make({ audience: '' })).toBe('audience must be 1 to 512 printable ASCII characters')
    expect(await make({ now: Number.NaN })).toBe('now must be milliseconds since 1970')
    const der = { kid: 'S', sign: async () => new Uint8Array(70) }
    const error = await failure(
      () => makeAssertion({ signer: der, issuer: 'is_tbank01' }),
      'ERR_BACKEND_FAILED',
    )
    expect(error.message).toContain(
      'the signer returned 70 bytes in place of 64: r then s, 32 bytes each, not DER',
    )
  })
})

test('registerMany without D1’s key takes nothing from its source', async () => {
  const client = d1Client({ ...OPTIONS, d1PublicJwk: undefined } as never)
  const source: Iterable<never> = { [Symbol.iterator]: () => expect.fail('asked for a card') }
  expect(await said(() => client.cards.registerMany(source))).toBe(
    'register needs the client option d1PublicJwk',
  )
})

test('registerMany: concurrency from 1 to 64, and what it takes', async () => {
  const many = (items: unknown, options?: object) =>
    said(() => cards.registerMany(items as never, options as never))
  for (const concurrency of [0, 65, 1.5]) {
    expect(await many([], { concurrency })).toBe('concurrency must be 1 to 64')
  }
  for (const concurrency of [1, 64]) {
    expect(await cards.registerMany([], { concurrency })).toEqual({
      outcomes: [],
      ended: 'complete',
      pulling: false,
    })
  }
  expect(await many([], { onProgress: 1 })).toBe('onProgress must be a function')
  expect(await many([], { x: 1 })).toBe('registerMany: unknown option "x"')
  for (const items of [{}, null, 7]) {
    expect(await many(items)).toBe('registerMany takes an array or an iterable of { cardId, card }')
  }
})
