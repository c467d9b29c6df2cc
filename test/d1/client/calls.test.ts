/** The client over a fetch and a clock of the tests' own: what is sent, what is made of the answer, what is said. */

import { getEventListeners } from 'node:events'
import { compactDecrypt, decodeJwt } from 'jose'
import { beforeEach, describe, expect, test } from 'vitest'
import { Deadline } from '../../../src/base/deadline.js'
import { retryAfterSeconds } from '../../../src/d1/client/answer.js'
import { readClientOptions } from '../../../src/d1/client/client.js'
import { backoffMs, type FetchInit, type FetchResponse } from '../../../src/d1/client/exchange.js'
import { type ClientAuditEvent, type D1ClientOptions, d1Client, softwareSigner } from '../../../src/d1.js'
import { type D1ClientError, Pan } from '../../../src/index.js'
import { failure } from '../../support/errors.js'
import { ecKeyPair } from '../../support/key-pair.js'
import { ManualClock, settle } from './times.js'

const CLEAR_PAN = '4000001234567899'
const agreement = ecKeyPair()
const d1PublicJwk = { ...agreement.publicKey.export({ format: 'jwk' }), kid: 'D1' }
const signer = softwareSigner({
  kid: 'S',
  privateKey: ecKeyPair().privateKey,
})
const CARD = { consumerId: 'consumer-1', cardProductId: 'debit' }
const REGISTER = { ...CARD, pan: Pan.from(CLEAR_PAN), exp: '1229' }
const TOKEN = { access_token: 'token-1', token_type: 'Bearer', expires_in: 900 }

type Reply = (init: FetchInit) => Promise<FetchResponse>

async function* chunks(...texts: string[]): AsyncGenerator<Uint8Array> {
  for (const text of texts) yield new TextEncoder().encode(text)
}

const reply =
  (status: number, body?: unknown, retryAfter: string | null = null): Reply =>
  async () => ({
    status,
    headers: { get: name => (name === 'retry-after' ? retryAfter : null) },
    body: body === undefined ? null : chunks(typeof body === 'string' ? body : JSON.stringify(body)),
  })
const broken =
  (code: string): Reply =>
  () =>
    Promise.reject(Object.assign(new Error('no'), { code }))
const silence: Reply = ({ signal }) =>
  new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('aborted'))))

let clock: ManualClock
let sent: { url: string; init: FetchInit }[]
let answers: Reply[]
let tokenRequests: { url: string; init: FetchInit }[]
let tokenAnswers: Reply[]
let events: ClientAuditEvent[]
beforeEach(() => {
  clock = new ManualClock()
  sent = []
  answers = []
  tokenRequests = []
  tokenAnswers = []
  events = []
})

/** The card API's answers come from `answers`, then 204; the token endpoint's is always the same. */
function client(more: Partial<D1ClientOptions> = {}) {
  return d1Client({
    environment: 'staging',
    issuerId: 'is_tbank01',
    signer,
    d1PublicJwk,
    clock,
    random: () => 0.5,
    audit: event => void events.push(event),
    fetch: (url, init) => {
      if (url.endsWith('/oauth2/token')) {
        tokenRequests.push({ url, init })
        return (tokenAnswers.shift() ?? reply(200, TOKEN))(init)
      }
      sent.push({ url, init })
      return (answers.shift() ?? reply(204))(init)
    },
    ...more,
  }).cards
}

/** Moves the clock until the promise settles. */
async function running<T>(promise: Promise<T>, stepMs = 50): Promise<T> {
  let settled = false
  const end = (): void => {
    settled = true
  }
  promise.then(end, end)
  for (let i = 0; i < 2000 && !settled; i++) await clock.advance(stepMs)
  expect(settled).toBe(true)
  return promise
}

/** Waits for so many requests, while the clock stands still. */
async function reached(requests: number): Promise<void> {
  for (let i = 0; i < 2000 && sent.length < requests; i++) await clock.advance(0)
  await settle()
  expect(sent).toHaveLength(requests)
}

const refusal = async (call: () => Promise<unknown>, code: Parameters<typeof failure>[1]) =>
  (await failure(() => running(call()), code, [CLEAR_PAN])) as D1ClientError

describe('what is sent', () => {
  test('for a token: an assertion of the configured lifetime and audience, in a form', async () => {
    await running(client({ audience: 'd1', assertionLifetimeSeconds: 60 }).delete({ cardId: 'card-1' }))
    const [request] = tokenRequests
    expect(request).toMatchObject({
      url: 'https://api.d1-stg.thalescloud.io/authz/v1/oauth2/token',
      init: {
        method: 'POST',
        redirect: 'manual',
        headers: {
          'content-type': 'application/x-www-form-urlencoded',
          accept: 'application/json',
          'x-correlation-id': expect.stringMatching(/^[0-9a-f-]{36}$/),
        },
      },
    })
    const claims = (form: string | undefined) =>
      decodeJwt(new URLSearchParams(form).get('assertion') ?? expect.fail())
    const { iat = 0, exp, aud, iss } = claims(request?.init.body)
    expect([exp, aud, iss]).toEqual([iat + 60, 'd1', 'is_tbank01'])
    expect(iat * 1000).toBeGreaterThanOrEqual(1_700_000_000_000)
    await running(client().delete({ cardId: 'card-1' }))
    const plain = claims(tokenRequests[1]?.init.body)
    expect(Object.keys(plain)).not.toContain('aud')
    expect(Number(plain.exp) - Number(plain.iat)).toBe(300)
  })

  const BASE = 'https://api.d1-stg.thalescloud.io/banking/v2/issuers/is_tbank01/cards'

  test('create', async () => {
    answers.push(reply(201, '{"cardId":"card-new"}'))
    const options = { correlationId: 'run-1', userId: 'user-1' }
    expect(await running(client().create({ card: CARD }, options))).toEqual({
      status: 201,
      correlationId: 'run-1',
      body: { cardId: 'card-new' },
    })
    expect(sent).toEqual([
      {
        url: BASE,
        init: {
          method: 'POST',
          headers: {
            authorization: 'Bearer token-1',
            accept: 'application/json',
            'content-type': 'application/json',
            'x-correlation-id': 'run-1',
            'x-user-id': 'user-1',
          },
          body: JSON.stringify(CARD),
          redirect: 'manual',
          signal: expect.any(AbortSignal),
        },
      },
    ])
  })

  test.each(['renew', 'replace', 'delete'] as const)('%s, without a body and with one', async operation => {
    const cards = client()
    const answer = await running(cards[operation]({ cardId: 'card-1' }))
    expect(answer).toEqual({
      status: 204,
      correlationId: expect.stringMatching(/^[0-9a-f-]{36}$/),
      body: undefined,
    })
    await running(cards[operation]({ cardId: 'card-1', body: { reason: 'LOST' } }))
    const [without, with_] = sent
    expect([without?.url, without?.init.method]).toEqual([`${BASE}/card-1/operations:${operation}`, 'POST'])
    expect(Object.keys(without?.init ?? {})).not.toContain('body')
    expect(Object.keys(without?.init.headers ?? {})).toEqual(['authorization', 'accept', 'x-correlation-id'])
    expect(with_?.init.body).toBe('{"reason":"LOST"}')
  })

  test('register: PAN and expiry date in the JWE, and nowhere else', async () => {
    answers.push(reply(200, ''))
    await running(client().register({ cardId: 'card-1', card: REGISTER }))
    expect([sent[0]?.url, sent[0]?.init.method]).toEqual([`${BASE}/card-1`, 'PUT'])
    const { encryptedData, ...rest } = JSON.parse(sent[0]?.init.body ?? '{}')
    expect(rest).toEqual(CARD)
    const { plaintext } = await compactDecrypt(encryptedData, agreement.privateKey)
    expect(new TextDecoder().decode(plaintext)).toBe(`{"pan":"${CLEAR_PAN}","exp":"1229"}`)
    expect(events).toMatchObject([{ operation: 'register', keys: [{ kid: 'S' }, { kid: 'D1' }] }])
  })
})

describe('an answer that refuses', () => {
  test.each<[number, unknown, string | undefined, boolean, string]>([
    [400, { errorCode: 'FIELD_X' }, 'FIELD_X', false, 'D1 create: refused with status 400, FIELD_X'],
    [404, undefined, undefined, false, 'D1 create: refused with status 404'],
    [407, undefined, undefined, false, 'D1 create: refused with status 407'],
    [408, undefined, undefined, true, 'D1 create: refused with status 408'],
    [409, { errorCode: 7, error: 'text' }, undefined, false, 'D1 create: refused with status 409'],
    [428, undefined, undefined, false, 'D1 create: refused with status 428'],
    [429, { errorCode: 'MANY' }, 'MANY', true, 'D1 create: refused with status 429, MANY'],
    [499, undefined, undefined, false, 'D1 create: refused with status 499'],
    [500, '<html>', undefined, true, 'D1 create: refused with status 500'],
    [599, undefined, undefined, true, 'D1 create: refused with status 599'],
  ])('%i %j', async (status, body, errorCode, retryable, message) => {
    answers.push(reply(status, body))
    const error = await refusal(() => client().create({ card: CARD }), 'ERR_D1_REQUEST')
    expect(error).toMatchObject({
      message,
      status,
      errorCode,
      retryable,
      delivery: 'answered',
      operation: 'create',
      attempt: 1,
    })
    expect(error.correlationId).toBe(sent[0]?.init.headers['x-correlation-id'])
    expect(sent).toHaveLength(1)
    expect(events).toMatchObject([{ outcome: status < 500 ? 'refused' : 'failed', status }])
  })

  test("D1's own words, for who asks: 512 characters, no control characters", async () => {
    answers.push(reply(400, { error: `a\nb\u0085${'x'.repeat(600)}` }), reply(400, { error: 7 }))
    const first = await refusal(() => client().create({ card: CARD }), 'ERR_D1_REQUEST')
    expect(first.revealText()).toBe(`a b ${'x'.repeat(508)}`)
    const second = await refusal(() => client().create({ card: CARD }), 'ERR_D1_REQUEST')
    expect(second.revealText()).toBeUndefined()
  })

  test('an error code of the caller’s list decides, before the status', async () => {
    const retryableErrorCodes = { LATER: true, NEVER: false }
    answers.push(reply(400, { errorCode: 'LATER' }), reply(204))
    await running(client({ retryableErrorCodes }).register({ cardId: 'card-1', card: REGISTER }))
    expect(sent).toHaveLength(2)
    answers.push(reply(503, { errorCode: 'NEVER' }))
    const call = () => client({ retryableErrorCodes }).register({ cardId: 'card-1', card: REGISTER })
    expect(await refusal(call, 'ERR_D1_REQUEST')).toMatchObject({ attempt: 1, retryable: false })
  })
})

describe('a token that is not given', () => {
  test('is refused by the code of OAuth2, and the card API is not asked', async () => {
    tokenAnswers.push(reply(400, { error: 'invalid_grant' }))
    const error = await refusal(
      () => client().register({ cardId: 'card-1', card: REGISTER }),
      'ERR_D1_REQUEST',
    )
    expect(error).toMatchObject({
      message: 'D1 token: refused with status 400, invalid_grant',
      operation: 'token',
      errorCode: 'invalid_grant',
    })
    expect(sent).toEqual([])
    expect(events).toMatchObject([{ refusal: { reason: 'token-refused' }, requests: 0, tokenFetched: true }])
  })

  test('is asked for three times in a call, and not nine times', async () => {
    tokenAnswers.push(...Array.from({ length: 9 }, () => reply(503)))
    const error = await refusal(
      () => client().register({ cardId: 'card-1', card: REGISTER }),
      'ERR_D1_REQUEST',
    )
    expect(error).toMatchObject({ operation: 'token', attempt: 3 })
    expect(tokenRequests).toHaveLength(3)
  })

  test('that is there is used by the next call, which fetches none', async () => {
    const cards = client()
    await running(cards.delete({ cardId: 'card-1' }))
    await running(cards.delete({ cardId: 'card-2' }))
    expect(tokenRequests).toHaveLength(1)
    expect(events).toMatchObject([{ tokenFetched: true }, { tokenFetched: false }])
  })

  test('of 8192 characters is one', async () => {
    tokenAnswers.push(reply(200, { ...TOKEN, access_token: 'x'.repeat(8192) }))
    await running(client().delete({ cardId: 'card-1' }))
    expect(sent[0]?.init.headers['authorization']).toBe(`Bearer ${'x'.repeat(8192)}`)
  })
})

describe('the signal of the caller', () => {
  test('ends the call with its reason, and has no listener afterwards', async () => {
    const controller = new AbortController()
    const { signal } = controller
    await running(client().delete({ cardId: 'card-1' }, { signal }))
    expect(getEventListeners(signal, 'abort')).toEqual([])
    answers.push(init => {
      controller.abort('enough')
      return silence(init)
    })
    const error = await failure(
      () => running(client().delete({ cardId: 'card-1' }, { signal })),
      'ERR_ABORTED',
    )
    expect(error.cause).toBe('enough')
    expect(getEventListeners(signal, 'abort')).toEqual([])
    expect(clock.pending()).toEqual([])
  })
})

describe('what is no answer', () => {
  const no = (problem: string) => `D1 register: ${problem}`
  test.each<[number, unknown, number | undefined, string]>([
    [199, undefined, 199, no('a status that is none (status 199)')],
    [300, undefined, 300, no('redirects are refused (status 300)')],
    [399, undefined, 399, no('redirects are refused (status 399)')],
    [600, undefined, 600, no('a status that is none (status 600)')],
    [Number.NaN, undefined, undefined, no('a status that is none (status undefined)')],
    [200, 'OK', 200, no('something else than a JSON object came back (status 200)')],
    [299, '[]', 299, no('something else than a JSON object came back (status 299)')],
    [200, 'x'.repeat(65_537), 200, no('more than 65536 bytes came back (status 200)')],
  ])('%d %.10j', async (status, body, shown, message) => {
    answers.push(reply(status, body))
    const error = await refusal(
      () => client().register({ cardId: 'card-1', card: REGISTER }),
      'ERR_D1_RESPONSE',
    )
    expect(error).toMatchObject({ message, status: shown, retryable: false, delivery: 'answered' })
    expect(sent).toHaveLength(1)
    expect(events[0]?.refusal).toEqual({ reason: 'response', code: 'ERR_D1_RESPONSE' })
  })

  test('65536 bytes are one, in however many pieces', async () => {
    const text = `{"a":"${'x'.repeat(65_528)}"}`
    answers.push(async () => ({
      status: 200,
      headers: { get: () => null },
      body: chunks(text.slice(0, 30_000), text.slice(30_000)),
    }))
    expect(text).toHaveLength(65_536)
    expect((await running(client().create({ card: CARD }))).body).toEqual({ a: 'x'.repeat(65_528) })
  })

  test('a stream that is not read to its end is closed', async () => {
    let closed = false
    async function* endless(): AsyncGenerator<Uint8Array> {
      try {
        for (;;) yield new Uint8Array(10_000)
      } finally {
        closed = true
      }
    }
    answers.push(async () => ({ status: 200, headers: { get: () => null }, body: endless() }))
    await refusal(() => client().create({ card: CARD }), 'ERR_D1_RESPONSE')
    expect(closed).toBe(true)
  })
})

describe('repeating', () => {
  const times = () => sent.length

  test('PUT after what may pass, with one correlation id; the last error after three', async () => {
    answers.push(reply(503), broken('ECONNRESET'))
    await running(client().register({ cardId: 'card-1', card: REGISTER }))
    expect(times()).toBe(3)
    expect(new Set(sent.map(({ init }) => init.headers['x-correlation-id'])).size).toBe(1)
    expect(events).toMatchObject([{ outcome: 'success', requests: 3, tokenFetched: true }])
    answers.push(reply(503), reply(503), reply(503))
    const error = await refusal(
      () => client().register({ cardId: 'card-1', card: REGISTER }),
      'ERR_D1_REQUEST',
    )
    expect(error).toMatchObject({ attempt: 3, status: 503 })
    expect(times()).toBe(6)
  })

  test('POST only where nothing was sent', async () => {
    answers.push(reply(503))
    await refusal(() => client().delete({ cardId: 'card-1' }), 'ERR_D1_REQUEST')
    expect(times()).toBe(1)
    answers.push(broken('ECONNRESET'))
    expect(await refusal(() => client().renew({ cardId: 'card-1' }), 'ERR_D1_UNREACHABLE')).toMatchObject({
      delivery: 'unknown',
      attempt: 1,
    })
    answers.push(broken('ECONNREFUSED'), broken('ECONNREFUSED'))
    await running(client().replace({ cardId: 'card-1' }))
    expect(times()).toBe(5)
    answers.push(broken('ECONNREFUSED'), broken('ECONNREFUSED'))
    const error = await refusal(() => client({ maxAttempts: 2 }).create({ card: CARD }), 'ERR_D1_UNREACHABLE')
    expect(error).toMatchObject({
      message: 'D1 create: cannot be reached: ECONNREFUSED',
      delivery: 'not-sent',
      retryable: true,
      attempt: 2,
    })
  })

  test('not what will not pass', async () => {
    answers.push(reply(404))
    await refusal(() => client().register({ cardId: 'card-1', card: REGISTER }), 'ERR_D1_REQUEST')
    expect(times()).toBe(1)
  })

  test('after the pause that was asked for, and its own', async () => {
    answers.push(reply(429, undefined, '30'))
    const call = client().register({ cardId: 'card-1', card: REGISTER })
    await reached(1)
    await clock.advance(30_149)
    expect(times()).toBe(1)
    await clock.advance(1)
    expect(times()).toBe(2)
    expect((await call).status).toBe(204)
    expect(clock.pending()).toEqual([])
  })

  test('not after a pause that is too long, for the policy or for the call', async () => {
    answers.push(reply(429, undefined, '31'))
    const error = await refusal(
      () => client().register({ cardId: 'card-1', card: REGISTER }),
      'ERR_D1_REQUEST',
    )
    expect(error).toMatchObject({ retryAfterSeconds: 31, attempt: 1 })
    answers.push(reply(429, undefined, '5'))
    const short = () => client({ totalTimeoutMs: 5000 }).register({ cardId: 'card-1', card: REGISTER })
    expect(await refusal(short, 'ERR_D1_REQUEST')).toMatchObject({ attempt: 1 })
    expect(times()).toBe(2)
  })

  test('with a token of its own where D1 refuses the one that is there, once', async () => {
    answers.push(reply(401), reply(204))
    await running(client().delete({ cardId: 'card-1' }))
    expect(times()).toBe(2)
    expect(events).toMatchObject([{ requests: 2, tokenFetched: true, status: 204 }])
    answers.push(reply(401), reply(401))
    expect(await refusal(() => client().delete({ cardId: 'card-1' }), 'ERR_D1_REQUEST')).toMatchObject({
      status: 401,
      retryable: false,
    })
    expect(times()).toBe(4)
  })

  test('the pauses double up to their cap, half of each is fixed', () => {
    const policy = { attempts: 9, baseMs: 200, capMs: 5000, maxRetryAfterSeconds: 0 }
    const pauses = (random: number) => [1, 2, 3, 5, 6, 7].map(n => backoffMs(n, policy, () => random))
    expect(pauses(0)).toEqual([100, 200, 400, 1600, 2500, 2500])
    expect(pauses(0.5)).toEqual([150, 300, 600, 2400, 3750, 3750])
  })
})

describe('time', () => {
  test('each attempt ends in time, and the call', async () => {
    answers.push(silence, silence, silence)
    const error = await refusal(
      () => client().register({ cardId: 'card-1', card: REGISTER }),
      'ERR_D1_UNREACHABLE',
    )
    expect(error).toMatchObject({
      message: 'D1 register: no answer within 15000 ms',
      attempt: 3,
      delivery: 'unknown',
      retryable: true,
    })
    expect(clock.pending()).toEqual([])
    answers.push(silence)
    const short = () => client({ totalTimeoutMs: 1000 }).delete({ cardId: 'card-1' })
    const late = await refusal(short, 'ERR_D1_UNREACHABLE')
    expect(late).toMatchObject({
      message: 'D1 delete: no answer within 1000 ms',
      attempt: 1,
      delivery: 'unknown',
    })
    expect(events.at(-1)).toMatchObject({ delivery: 'unknown', refusal: { reason: 'unreachable' } })
  })

  test('of the call, over in a later attempt, names that attempt', async () => {
    answers.push(silence, silence)
    const call = () => client({ totalTimeoutMs: 20_000 }).register({ cardId: 'card-1', card: REGISTER })
    expect(await refusal(call, 'ERR_D1_UNREACHABLE')).toMatchObject({
      message: 'D1 register: no answer within 20000 ms',
      attempt: 2,
      delivery: 'unknown',
    })
  })

  test('nothing was sent where the token does not come', async () => {
    const call = () =>
      client({ totalTimeoutMs: 1000, fetch: (_, init) => silence(init) }).delete({ cardId: 'card-1' })
    expect(await refusal(call, 'ERR_D1_UNREACHABLE')).toMatchObject({ delivery: 'not-sent', attempt: 1 })
    expect(events).toMatchObject([{ requests: 0, outcome: 'failed' }])
  })

  test('what an earlier attempt may have done stays so, while a later one waits for another token', async () => {
    tokenAnswers.push(reply(200, { ...TOKEN, expires_in: 1 }), silence)
    answers.push(silence)
    const call = () => client({ totalTimeoutMs: 20_000 }).register({ cardId: 'card-1', card: REGISTER })
    expect(await refusal(call, 'ERR_D1_UNREACHABLE')).toMatchObject({
      message: 'D1 register: no answer within 20000 ms',
      delivery: 'unknown',
      attempt: 1,
    })
    expect(tokenRequests).toHaveLength(2)
    expect(events).toMatchObject([{ delivery: 'unknown', requests: 1 }])
    // The token's own flight, which is for all calls, ends by its own time.
    await clock.advance(20_000)
    expect(clock.pending()).toEqual([])
  })

  test('how long it took is in the event', async () => {
    answers.push(reply(503), reply(204))
    const call = client().register({ cardId: 'card-1', card: REGISTER })
    await reached(1)
    await clock.advance(150)
    await call
    expect(events[0]?.durationMs).toBe(150)
  })
})

describe('the parts', () => {
  test('leave no listener of a wait that is over, and none of a deadline that has ended', async () => {
    const { signal } = new AbortController()
    const outer = { signal, error: (reason: unknown) => reason }
    const deadline = new Deadline({ clock, ms: 10, expired: () => new Error('late'), outer })
    expect(await deadline.race(Promise.resolve(7))).toBe(7)
    await settle()
    expect(getEventListeners(deadline.signal, 'abort')).toEqual([])
    expect(getEventListeners(signal, 'abort')).toHaveLength(1)
    deadline[Symbol.dispose]()
    expect(getEventListeners(signal, 'abort')).toEqual([])
    expect(clock.pending()).toEqual([])
  })

  test('draw jitter from 0 to 1 where none is given', () => {
    const { transport } = readClientOptions({ environment: 'staging', issuerId: 'is_tbank01', signer })
    const drawn = Array.from({ length: 200 }, () => transport.random())
    expect(drawn.every(x => x >= 0 && x < 1)).toBe(true)
    expect(new Set(drawn).size).toBeGreaterThan(190)
  })
})

describe('an answer that breaks off after its status', () => {
  const half =
    (end: (init: FetchInit) => Promise<never>): Reply =>
    async init => ({
      status: 200,
      headers: { get: () => null },
      body: (async function* () {
        yield new TextEncoder().encode('{')
        await end(init)
      })(),
    })

  test('says that D1 has had the request, and with which status; a POST is not repeated', async () => {
    answers = [half(() => Promise.reject(Object.assign(new Error('no'), { code: 'ECONNRESET' })))]
    const error = await refusal(() => client().create({ card: CARD }), 'ERR_D1_UNREACHABLE')
    expect(error).toMatchObject({ status: 200, delivery: 'answered', attempt: 1 })
    expect(error.message).toContain('the answer with status 200 broke off: ECONNRESET')
    expect(sent).toHaveLength(1)
  })

  test('and that does not go on is closed when its time is over', async () => {
    let closed = 0
    const stuck = {
      next: () => new Promise<never>(() => {}),
      return: async () => ({ done: true, value: closed++ }) as never,
    }
    const body = { [Symbol.asyncIterator]: () => stuck }
    answers = [async () => ({ status: 200, headers: { get: () => null }, body })]
    await refusal(() => client({ maxAttempts: 1 }).create({ card: CARD }), 'ERR_D1_UNREACHABLE')
    expect(closed).toBe(1)
  })

  test('or that does not come to its end in time', async () => {
    answers = [half(() => new Promise(() => {}))]
    const error = await refusal(() => client({ maxAttempts: 1 }).create({ card: CARD }), 'ERR_D1_UNREACHABLE')
    expect(error).toMatchObject({ status: 200, delivery: 'answered' })
    expect(error.message).toContain('no whole answer within 15000 ms')
  })
})

describe('Retry-After', () => {
  const NOW = Date.parse('2026-01-02T03:04:05Z')
  test.each<[string | null, number | undefined]>([
    [null, undefined],
    ['0', 0],
    ['120', 120],
    ['999999999', 999_999_999],
    ['1234567890', undefined],
    ['1.5', undefined],
    ['-1', undefined],
    ['5 ', undefined],
    ['x5', undefined],
    ['Fri, 02 Jan 2026 03:04:15 GMT', 10],
    ['Fri, 02 Jan 2026 03:04:00 GMT', 0],
    ['Fri, 02 Jan 2026 03:04:15 GMT ', undefined],
    [' Fri, 02 Jan 2026 03:04:15 GMT', undefined],
    ['Fri, 99 Xxx 2026 03:04:15 GMT', undefined],
    ['2026-01-02T03:04:15Z', undefined],
    // RFC 850, whose year has two digits, and asctime.
    ['Friday, 02-Jan-26 03:04:15 GMT', 10],
    ['Fri Jan  2 03:04:15 2026', 10],
    ['Mon Jan 12 03:04:15 2026', 864_010],
    ['Friday, 02-Jan-76 03:04:05 GMT', 1_577_836_800],
    ['Sunday, 06-Nov-94 08:49:37 GMT', 0],
    ['Friday, 02-Jan-2026 03:04:15 GMT', undefined],
    ['Fri, 02-Jan-26 03:04:15 GMT', undefined],
    ['Fri Jan 2 03:04:15 2026', undefined],
    ['Fri, 02 Jan 2026 24:04:15 GMT', undefined],
    ['Fri, 31 Feb 2026 03:04:15 GMT', undefined],
    ['Tue, 29 Feb 2028 03:04:05 GMT', 68_083_200],
  ])('%j is %j seconds', (header, seconds) => {
    expect(retryAfterSeconds(header, NOW)).toBe(seconds)
  })

  test('part of a second is a whole one', () => {
    expect(retryAfterSeconds('Fri, 02 Jan 2026 03:04:15 GMT', NOW + 1)).toBe(10)
  })
})
