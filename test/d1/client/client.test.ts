import { getEventListeners } from 'node:events'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import {
  type D1Client,
  type D1ClientOptions,
  type D1Fetch,
  d1Client,
  type MtlsFetch,
  mtlsFetch,
} from '../../../src/d1.js'
import { D1ClientError, Pan } from '../../../src/index.js'
import { everythingShown, failure } from '../../support/errors.js'
import { ISSUER_ID, type Reply, startD1, type TestD1 } from './d1-server.js'
import { fastClock, ManualClock, passing, patientClock, until } from './times.js'

const CLEAR_PAN = '4000001234567899'
const PAN = Pan.from(CLEAR_PAN)
const CARD = { consumerId: 'consumer-1', cardProductId: 'debit' }
const REGISTER = { pan: PAN, exp: '1229', ...CARD }

let d1: TestD1
let fetch: MtlsFetch
beforeAll(async () => {
  d1 = await startD1()
  fetch = mtlsFetch({ ...d1.client, ca: d1.ca })
})
afterAll(async () => {
  fetch.close()
  await d1.close()
})
beforeEach(() => d1.reset())

function client(more: Partial<D1ClientOptions> = {}): D1Client {
  return d1Client({
    environment: d1.urls,
    issuerId: ISSUER_ID,
    signer: d1.signer,
    d1PublicJwk: d1.publicJwk,
    fetch,
    clock: patientClock(),
    ...more,
  })
}

const clientFailure = async (
  call: () => unknown,
  code: Parameters<typeof failure>[1],
): Promise<D1ClientError> => {
  const error = await failure(call, code, secrets())
  expect(error).toBeInstanceOf(D1ClientError)
  return error as D1ClientError
}

/** Everything that must not show: PAN, signing key, assertions, tokens. */
function secrets(): string[] {
  const tokens = d1.cardRequests.map(({ headers }) => String(headers.authorization).slice('Bearer '.length))
  return [CLEAR_PAN, d1.signingKey, ...d1.assertions.map(({ raw }) => raw), ...tokens]
}

describe('the operations, over mutual TLS', () => {
  test('the assertion is what D1 asks for, and the token is fetched once', async () => {
    const { cards } = client()
    await cards.create({ card: CARD })
    await cards.delete({ cardId: 'card-1' })
    expect(d1.tokenRequests).toHaveLength(1)
    expect(d1.tokenRequests[0]).toMatchObject({ method: 'POST', client: 'the-issuer' })
    expect(d1.tokenRequests[0]?.headers['content-type']).toBe('application/x-www-form-urlencoded')
    expect(d1.tokenRequests[0]?.headers['x-correlation-id']).toMatch(/^[\w-]{1,64}$/)
    const [{ header, claims } = { header: {}, claims: {} as Record<string, unknown> }] = d1.assertions
    expect(header).toEqual({ alg: 'ES256', kid: 'SIGN-1', typ: 'JWT' })
    expect(claims).toMatchObject({ iss: ISSUER_ID, sub: ISSUER_ID })
    expect(Number(claims['exp']) - Number(claims['iat'])).toBe(300)
    expect(Object.keys(claims)).not.toContain('aud')
  })

  test('aggregator, audience and lifetime go into the assertion', async () => {
    d1.tokenReplies.push({
      status: 200,
      body: { access_token: 'x', token_type: 'bearer', expires_in: '900' },
    })
    d1.cardReplies.push({ status: 204 })
    await client({ aggregatorId: 'agg-1', audience: 'd1', assertionLifetimeSeconds: 900 }).cards.delete({
      cardId: 'card-1',
    })
    const assertion = new URLSearchParams(d1.tokenRequests[0]?.body).get('assertion')
    const claims = JSON.parse(Buffer.from(String(assertion?.split('.')[1]), 'base64url').toString())
    expect(claims).toMatchObject({ iss: 'agg-1', sub: 'agg-1', aud: 'd1' })
    expect(claims.exp - claims.iat).toBe(900)
  })

  test('create', async () => {
    const extra = { accounts: [{ default: true, number: 'DE89370400440532013000', currencyCode: 'EUR' }] }
    const answer = await client().cards.create({
      card: { ...CARD, state: 'INACTIVE', name: 'A. B-C', ...extra },
    })
    expect(answer).toEqual({
      status: 201,
      correlationId: expect.stringMatching(/^[\w-]{36}$/),
      body: { cardId: 'card-new' },
    })
    const [seen] = d1.cardRequests
    expect(seen).toMatchObject({ method: 'POST', path: `/banking/v2/issuers/${ISSUER_ID}/cards` })
    expect(JSON.parse(String(seen?.body))).toEqual({ ...CARD, state: 'INACTIVE', name: 'A. B-C', ...extra })
    expect(seen?.headers).toMatchObject({
      'content-type': 'application/json',
      'x-correlation-id': answer.correlationId,
    })
    expect(seen?.headers).not.toHaveProperty('x-user-id')
  })

  test('register: PAN and expiry date come out of the JWE, and stand nowhere else', async () => {
    const { cards } = client()
    const options = { correlationId: 'corr-1', userId: 'user-1' }
    const answer = await cards.register(
      { cardId: 'card-1', card: { ...REGISTER, further: { x: [1] } } },
      options,
    )
    expect(answer).toMatchObject({ status: 200, correlationId: 'corr-1' })
    expect(d1.registered.get('card-1')).toBe(`{"pan":"${CLEAR_PAN}","exp":"1229"}`)
    const [seen] = d1.cardRequests
    expect(seen).toMatchObject({ method: 'PUT', path: `/banking/v2/issuers/${ISSUER_ID}/cards/card-1` })
    expect(seen?.headers).toMatchObject({ 'x-correlation-id': 'corr-1', 'x-user-id': 'user-1' })
    const body = JSON.parse(String(seen?.body))
    expect(Object.keys(body).sort()).toEqual(['cardProductId', 'consumerId', 'encryptedData', 'further'])
    expect(JSON.stringify(d1.cardRequests)).not.toContain(CLEAR_PAN)
  })

  test.each(['renew', 'replace', 'delete'] as const)('%s, with and without a body', async operation => {
    const { cards } = client()
    expect(await cards[operation]({ cardId: 'card-1' })).toMatchObject({ status: 204, body: undefined })
    await cards[operation]({ cardId: 'card-1', body: { reason: 'LOST' } })
    const [without, with_] = d1.cardRequests
    expect(without).toMatchObject({
      method: 'POST',
      path: `/banking/v2/issuers/${ISSUER_ID}/cards/card-1/operations:${operation}`,
      body: '',
    })
    expect(with_).toMatchObject({ body: '{"reason":"LOST"}' })
  })

  test('100 calls at a time need one token', async () => {
    // Nothing here waits for a time; on a machine with much else to do a hundred calls take longer than one may.
    const { cards } = client({ clock: fastClock(0.1) })
    const calls = Array.from({ length: 100 }, (_, i) =>
      cards.register({ cardId: `card-${i}`, card: REGISTER }),
    )
    expect((await Promise.all(calls)).every(({ status }) => status === 200)).toBe(true)
    expect(d1.tokenRequests).toHaveLength(1)
    expect(d1.registered.size).toBe(100)
  })
})

describe('a token that D1 refuses', () => {
  test('is replaced once, for all calls that were refused with it, whatever the method', async () => {
    const { cards } = client()
    await cards.delete({ cardId: 'card-0' })
    d1.revoke()
    await Promise.all([
      cards.create({ card: CARD }),
      cards.register({ cardId: 'card-1', card: REGISTER }),
      cards.delete({ cardId: 'card-2' }),
    ])
    expect(d1.tokenRequests).toHaveLength(2)
  })

  test('and its successor too: 401 is the answer, after exactly one refresh', async () => {
    const { cards } = client()
    const refusal: Reply = { status: 401, body: { errorCode: 'TOKEN_INVALID' } }
    d1.cardReplies.push(refusal, refusal)
    const error = await clientFailure(
      () => cards.register({ cardId: 'card-1', card: REGISTER }),
      'ERR_D1_REQUEST',
    )
    expect(error).toMatchObject({
      status: 401,
      operation: 'register',
      errorCode: 'TOKEN_INVALID',
      retryable: false,
    })
    expect([d1.tokenRequests.length, d1.cardRequests.length]).toEqual([2, 2])
  })

  test('a token endpoint that refuses is told apart by its operation, and not hammered', async () => {
    d1.tokenReplies.push({ status: 400, body: { error: 'invalid_grant' } })
    const error = await clientFailure(
      () => client().cards.register({ cardId: 'card-1', card: REGISTER }),
      'ERR_D1_REQUEST',
    )
    expect(error).toMatchObject({ operation: 'token', status: 400, errorCode: 'invalid_grant', attempt: 1 })
    expect([d1.tokenRequests.length, d1.cardRequests.length]).toEqual([1, 0])
  })

  test('a token endpoint that fails for good is asked three times for a call, not nine', async () => {
    d1.tokenReplies.push({ status: 503 }, { status: 503 }, { status: 503 })
    const error = await clientFailure(
      () => client().cards.register({ cardId: 'card-1', card: REGISTER }),
      'ERR_D1_REQUEST',
    )
    expect(error).toMatchObject({ operation: 'token', status: 503, attempt: 3 })
    expect(d1.tokenRequests).toHaveLength(3)
  })

  test('a token endpoint that fails is asked again, with a new assertion', async () => {
    d1.tokenReplies.push({ status: 503 }, { status: 500, body: '<html>' })
    await client().cards.create({ card: CARD })
    expect(d1.tokenRequests).toHaveLength(3)
    const sent = d1.tokenRequests.map(({ body }) => body)
    expect(new Set(sent).size).toBe(3)
  })
})

describe('answers', () => {
  test.each([
    [400, { errorCode: 'FIELD_INVALID_FORMAT', error: 'consumerId' }, 'FIELD_INVALID_FORMAT', false],
    [403, { errorCode: 'CARD_NOT_ACTIVE' }, 'CARD_NOT_ACTIVE', false],
    [404, {}, undefined, false],
    [400, { error: 'consumerId' }, undefined, false],
    [409, { errorCode: 7 }, undefined, false],
    [408, undefined, undefined, true],
    [429, { errorCode: 'TOO_MANY' }, 'TOO_MANY', true],
    [500, '<html>502 at a gateway</html>', undefined, true],
    [503, { errorCode: `ECHO_${CLEAR_PAN}`, error: `no card ${CLEAR_PAN}` }, undefined, true],
  ])('%i %j: errorCode %s, retryable %s', async (status, body, errorCode, retryable) => {
    d1.cardReplies.push({ status, body })
    const error = await clientFailure(() => client().cards.create({ card: CARD }), 'ERR_D1_REQUEST')
    expect(error).toMatchObject({ status, errorCode, retryable, delivery: 'answered', operation: 'create' })
    expect(error.correlationId).toBe(d1.cardRequests[0]?.headers['x-correlation-id'])
    expect(d1.cardRequests).toHaveLength(1)
  })

  test("D1's own words are there for who asks, without line breaks", async () => {
    d1.cardReplies.push({ status: 400, body: { error: `consumerId\nERROR forged ${'x'.repeat(600)}` } })
    const error = await clientFailure(() => client().cards.create({ card: CARD }), 'ERR_D1_REQUEST')
    expect(error.revealText()).toMatch(/^consumerId ERROR forged x+$/)
    expect(error.revealText()).toHaveLength(512)
    expect(everythingShown(error)).not.toContain('forged')
  })

  test('the column «retryable» can be supplied', async () => {
    const retryableErrorCodes = { TRY_LATER: true, NEVER: false }
    d1.cardReplies.push({ status: 400, body: { errorCode: 'TRY_LATER' } })
    expect(
      await client({ retryableErrorCodes }).cards.register({ cardId: 'card-1', card: REGISTER }),
    ).toMatchObject({
      status: 200,
    })
    d1.cardReplies.push({ status: 503, body: { errorCode: 'NEVER' } })
    const call = () => client({ retryableErrorCodes }).cards.register({ cardId: 'card-1', card: REGISTER })
    expect((await clientFailure(call, 'ERR_D1_REQUEST')).attempt).toBe(1)
  })

  test.each<[string, Reply]>([
    ['a redirect', { status: 302, headers: { location: '/banking/elsewhere' } }],
    ['a redirect to another host', { status: 307, headers: { location: 'https://127.0.0.1:1/' } }],
    ['something that is no JSON', { status: 200, body: 'OK' }],
    ['an array', { status: 200, body: [] }],
    ['a duplicate member', { status: 200, body: '{"a":1,"a":2}' }],
    ['too much', { status: 200, body: `{"a":"${'x'.repeat(65_536)}"}` }],
    ['a body without end', response => void flood(response)],
  ])('%s is ERR_D1_RESPONSE, and not repeated', async (_name, reply) => {
    d1.cardReplies.push(reply)
    const error = await clientFailure(
      () => client().cards.register({ cardId: 'card-1', card: REGISTER }),
      'ERR_D1_RESPONSE',
    )
    expect(error).toMatchObject({ retryable: false, delivery: 'answered' })
    expect(d1.cardRequests).toHaveLength(1)
  })

  test('a refusal stays one where its body is too long', async () => {
    d1.cardReplies.push({ status: 404, body: 'x'.repeat(70_000) })
    expect(await clientFailure(() => client().cards.create({ card: CARD }), 'ERR_D1_REQUEST')).toMatchObject({
      status: 404,
    })
  })
})

function flood(response: import('node:http').ServerResponse): void {
  response.writeHead(200)
  const timer = setInterval(() => response.write('x'.repeat(1024)), 1)
  response.on('close', () => clearInterval(timer))
}

/** Headers, and then nothing. */
const stuckBody: Reply = response => {
  response.writeHead(200).write('{')
}
const silence: Reply = () => {}
const hangUp: Reply = response => response.destroy()

describe('repeating', () => {
  const failing: readonly [string, Reply][] = [
    ['503', { status: 503 }],
    ['a connection that breaks', hangUp],
  ]
  test.each(failing)('after %s, PUT is repeated until it succeeds', async (_name, reply) => {
    d1.cardReplies.push(reply, reply)
    expect(await client().cards.register({ cardId: 'card-1', card: REGISTER })).toMatchObject({ status: 200 })
    expect(d1.cardRequests).toHaveLength(3)
    expect(new Set(d1.cardRequests.map(({ headers }) => headers['x-correlation-id'])).size).toBe(1)
  })

  test.each(failing)('after %s, three times: the last error', async (_name, reply) => {
    d1.cardReplies.push(reply, reply, reply)
    const error = await failure(
      () => client().cards.register({ cardId: 'card-1', card: REGISTER }),
      codeOf(reply),
      secrets(),
    )
    expect(error).toMatchObject({ attempt: 3, retryable: true })
    expect(d1.cardRequests).toHaveLength(3)
  })

  test.each(failing)('after %s, POST is not repeated', async (_name, reply) => {
    for (const operation of ['renew', 'replace', 'delete'] as const) {
      d1.reset()
      d1.cardReplies.push(reply)
      await failure(() => client().cards[operation]({ cardId: 'card-1' }), codeOf(reply), secrets())
      expect(d1.cardRequests).toHaveLength(1)
    }
    d1.reset()
    d1.cardReplies.push(reply)
    const error = await failure(() => client().cards.create({ card: CARD }), codeOf(reply), secrets())
    expect(error).toMatchObject({ attempt: 1, retryable: true })
    expect(d1.cardRequests).toHaveLength(1)
  })

  const codeOf = (reply: Reply) => (typeof reply === 'function' ? 'ERR_D1_UNREACHABLE' : 'ERR_D1_REQUEST')

  test('a connection that is refused: POST is repeated, for nothing was sent', async () => {
    const tried: string[] = []
    const nobody = { api: 'https://localhost:1/banking', auth: d1.urls.auth }
    const counting: typeof fetch = Object.assign((url: string, init: Parameters<MtlsFetch>[1]) => {
      if (url.startsWith(nobody.api)) tried.push(url)
      return fetch(url, init)
    }, fetch)
    const call = () => client({ environment: nobody, fetch: counting }).cards.create({ card: CARD })
    const error = await clientFailure(call, 'ERR_D1_UNREACHABLE')
    expect(error).toMatchObject({ delivery: 'not-sent', attempt: 3, retryable: true })
    expect(error.message).toBe('D1 create: cannot be reached: ECONNREFUSED')
    expect(tried).toHaveLength(3)
  })

  test('Retry-After is waited for within bounds', async () => {
    const waits: number[] = []
    const clock = patientClock()
    const watched = {
      ...clock,
      after(ms: number, callback: () => void) {
        waits.push(ms)
        return clock.after(ms, callback)
      },
    }
    d1.cardReplies.push({ status: 429, headers: { 'retry-after': '4' } })
    await client({ clock: watched }).cards.register({ cardId: 'card-1', card: REGISTER })
    // What the server asks for, and what jitter adds to it.
    expect(waits.filter(ms => ms >= 4000 && ms <= 6000)).toHaveLength(1)
    d1.cardReplies.push({ status: 429, headers: { 'retry-after': '31' } })
    const call = () => client().cards.register({ cardId: 'card-1', card: REGISTER })
    expect(await clientFailure(call, 'ERR_D1_REQUEST')).toMatchObject({ attempt: 1, retryAfterSeconds: 31 })
  })

  test('a pause beyond the time for the call is not begun', async () => {
    d1.cardReplies.push({ status: 429, headers: { 'retry-after': '20' } })
    const call = () => client({ totalTimeoutMs: 10_000 }).cards.register({ cardId: 'card-1', card: REGISTER })
    expect(await clientFailure(call, 'ERR_D1_REQUEST')).toMatchObject({ status: 429 })
  })
})

describe('time', () => {
  const inTime = (times: Partial<D1ClientOptions>) => client({ ...times, clock: fastClock(10) })
  // D1 looks at the time of the assertion, by the clock on the wall.
  const moved = () => Object.assign(new ManualClock(), { now: () => Date.now() })
  test.each([
    ['silence', silence],
    ['a body that does not end', stuckBody],
  ])('%s: each attempt ends in time, PUT is repeated', async (_name, reply) => {
    d1.cardReplies.push(reply)
    const clock = moved()
    const times = { attemptTimeoutMs: 20_000, totalTimeoutMs: 60_000, clock }
    const call = client(times).cards.register({ cardId: 'card-1', card: REGISTER })
    await passing(
      clock,
      until(() => d1.cardRequests.length === 1),
    )
    await clock.advance(20_000)
    expect(await passing(clock, call)).toMatchObject({ status: 200 })
    expect(d1.cardRequests).toHaveLength(2)
  })

  test('POST ends with an unknown outcome', async () => {
    d1.cardReplies.push(silence)
    const call = () => inTime({ attemptTimeoutMs: 4000 }).cards.create({ card: CARD })
    expect(await clientFailure(call, 'ERR_D1_UNREACHABLE')).toMatchObject({
      message: 'D1 create: no answer within 4000 ms',
      delivery: 'unknown',
      retryable: true,
    })
    expect(d1.cardRequests).toHaveLength(1)
  })

  test('the whole call has a limit', async () => {
    d1.cardReplies.push(silence, silence)
    const clock = moved()
    const times = { attemptTimeoutMs: 20_000, totalTimeoutMs: 30_000, clock }
    const call = () => client(times).cards.register({ cardId: 'card-1', card: REGISTER })
    const failed = clientFailure(call, 'ERR_D1_UNREACHABLE')
    await passing(
      clock,
      until(() => d1.cardRequests.length === 1),
    )
    await clock.advance(20_000)
    await passing(
      clock,
      until(() => d1.cardRequests.length === 2),
    )
    await clock.advance(10_000)
    expect(await failed).toMatchObject({
      message: 'D1 register: no answer within 30000 ms',
      attempt: 2,
      delivery: 'unknown',
    })
  })

  test('also while it waits for the token: then nothing was sent', async () => {
    d1.tokenReplies.push(silence)
    const call = () => inTime({ totalTimeoutMs: 2000 }).cards.create({ card: CARD })
    expect(await clientFailure(call, 'ERR_D1_UNREACHABLE')).toMatchObject({
      delivery: 'not-sent',
      operation: 'create',
    })
    expect(d1.cardRequests).toHaveLength(0)
  })
})

describe('abort', () => {
  const aborted = async (act: (controller: AbortController) => Promise<unknown>) => {
    const controller = new AbortController()
    const error = await failure(() => act(controller), 'ERR_ABORTED', secrets())
    expect(error).toMatchObject({ cause: 'enough' })
  }

  test('before anything is sent', async () => {
    await aborted(controller => {
      controller.abort('enough')
      return client().cards.create({ card: CARD }, { signal: controller.signal })
    })
    expect(d1.tokenRequests).toHaveLength(0)
  })

  test('while waiting for the token: the others still get it', async () => {
    const { cards } = client()
    let answer = (): void => {}
    d1.tokenReplies.push(response => {
      answer = () => void response.end('{"access_token":"t","token_type":"Bearer","expires_in":900}')
    })
    d1.cardReplies.push({ status: 204 })
    await aborted(async controller => {
      const mine = cards.delete({ cardId: 'card-1' }, { signal: controller.signal })
      const other = cards.delete({ cardId: 'card-2' })
      await until(() => d1.tokenRequests.length === 1)
      controller.abort('enough')
      await expect(mine).rejects.toThrow('aborted')
      answer()
      expect(await other).toMatchObject({ status: 204 })
      return mine
    })
    expect(d1.tokenRequests).toHaveLength(1)
  })

  test.each([
    ['the answer', silence],
    ['the body', stuckBody],
  ])('while waiting for %s', async (_name, reply) => {
    d1.cardReplies.push(reply)
    await aborted(async controller => {
      const call = client().cards.register(
        { cardId: 'card-1', card: REGISTER },
        { signal: controller.signal },
      )
      await until(() => d1.cardRequests.length === 1)
      controller.abort('enough')
      return call
    })
    expect(d1.cardRequests).toHaveLength(1)
  })

  test('in a pause', async () => {
    d1.cardReplies.push({ status: 503, headers: { 'retry-after': '20' } })
    await aborted(async controller => {
      const call = client().cards.register(
        { cardId: 'card-1', card: REGISTER },
        { signal: controller.signal },
      )
      await until(() => d1.cardRequests.length === 1)
      setTimeout(() => controller.abort('enough'), 50)
      return call
    })
    expect(d1.cardRequests).toHaveLength(1)
  })

  test('leaves no listener on a signal that lives on', async () => {
    const { signal } = new AbortController()
    const { cards } = client()
    await cards.delete({ cardId: 'card-1' }, { signal })
    await cards.registerMany([{ cardId: 'card-2', card: REGISTER }], { signal })
    expect(getEventListeners(signal, 'abort')).toEqual([])
  })
})

describe('TLS', () => {
  test('a client certificate of a stranger, or none, does not get in; it is not tried again', async () => {
    for (const identity of [d1.stranger, undefined]) {
      const own = identity && mtlsFetch({ ...identity, ca: d1.ca, minVersion: 'TLSv1.3' })
      const error = await clientFailure(
        () => client({ fetch: own ?? withoutCertificate() }).cards.create({ card: CARD }),
        'ERR_D1_UNREACHABLE',
      )
      own?.close()
      expect(error).toMatchObject({ operation: 'token' })
      expect(error.message).toMatch(/cannot be reached: (ERR_SSL_|ECONNRESET|EPIPE)/)
    }
    expect(d1.tokenRequests).toHaveLength(0)
  })

  test('a server whose certificate nobody vouches for is not talked to', async () => {
    const trusting = mtlsFetch({ ...d1.client })
    const error = await clientFailure(
      () => client({ fetch: trusting }).cards.create({ card: CARD }),
      'ERR_D1_UNREACHABLE',
    )
    trusting.close()
    expect(error).toMatchObject({ delivery: 'not-sent', retryable: false, attempt: 1 })
    expect(d1.tokenRequests).toHaveLength(0)
  })
})

/** node:https with the right CA and no client certificate. */
function withoutCertificate(): D1Fetch {
  return async (url, init) => {
    const { request } = await import('node:https')
    return new Promise((_resolve, reject) => {
      const outgoing = request(url, { method: init.method, ca: d1.ca, agent: false }, () =>
        reject(new Error('let in')),
      )
      outgoing.on('error', reject)
      outgoing.end()
    })
  }
}

describe('registerMany', () => {
  const items = (count: number) =>
    Array.from({ length: count }, (_, i) => ({ cardId: `card-${i}`, card: REGISTER }))

  test('registers all, passes over a failing card, and over passing trouble', async () => {
    d1.cardReplies.push({ status: 400, body: { errorCode: 'FIELD_INVALID_FORMAT' } }, { status: 503 }, hangUp)
    const { outcomes, ended } = await client().cards.registerMany(items(200), { concurrency: 16 })
    expect(ended).toBe('complete')
    expect(outcomes).toHaveLength(200)
    const failed = outcomes.filter(({ ok }) => !ok)
    expect(failed).toMatchObject([{ error: { status: 400, errorCode: 'FIELD_INVALID_FORMAT' } }])
    expect(d1.registered.size).toBe(199)
    expect(d1.tokenRequests).toHaveLength(1)
    expect(everythingShown(outcomes)).not.toContain(CLEAR_PAN)
  })

  test('after an abort, what is missing can be registered: nothing is lost', async () => {
    const controller = new AbortController()
    const { cards } = client()
    const all = items(100)
    const { outcomes, ended } = await cards.registerMany(all, {
      signal: controller.signal,
      onProgress: ({ done }) => void (done === 30 && controller.abort()),
    })
    expect(ended).toBe('aborted')
    const done = new Set(outcomes.flatMap(({ ok, cardId }) => (ok ? [cardId] : [])))
    expect(done.size).toBeGreaterThanOrEqual(30)
    for (const cardId of done) expect(d1.registered.has(String(cardId))).toBe(true)
    await cards.registerMany(all.filter(({ cardId }) => !done.has(cardId)))
    expect(d1.registered.size).toBe(100)
  })

  test('a card whose id is its PAN is refused, and not named', async () => {
    const given = [
      { cardId: CLEAR_PAN, card: REGISTER },
      { cardId: 'card-1', card: { ...REGISTER, exp: '' } },
    ]
    const result = await client().cards.registerMany(given)
    expect(result.outcomes).toMatchObject([
      { cardId: undefined, error: { field: 'cardId' } },
      { cardId: 'card-1', error: { field: 'exp' } },
    ])
    expect(everythingShown(result)).not.toContain(CLEAR_PAN)
    expect(d1.cardRequests).toHaveLength(0)
  })

  test.each([
    ['a correlation id that is none', { correlationId: 'not one' }],
    ['a correlation id with the PAN', { correlationId: CLEAR_PAN }],
  ])('%s does not bring out an id that is a PAN', async (_name, more) => {
    const given = [{ cardId: CLEAR_PAN, card: REGISTER, ...more }]
    const result = await client().cards.registerMany(given)
    expect(result.outcomes).toMatchObject([{ cardId: undefined, error: { field: 'cardId' } }])
    expect(everythingShown(result)).not.toContain(CLEAR_PAN)
  })

  test('without a key of D1 nothing is taken from the source', async () => {
    let asked = 0
    function* source() {
      asked++
      yield* items(1)
    }
    await failure(
      () => client({ d1PublicJwk: undefined as never }).cards.registerMany(source()),
      'ERR_ARGUMENT',
    )
    expect(asked).toBe(0)
  })
})

describe("D1's key from a function", () => {
  const register = (of: D1Client, options?: object) =>
    of.cards.register({ cardId: 'card-1', card: REGISTER }, options)

  test('is asked for each registration, and may be another', async () => {
    const keys = [d1.publicJwk, d1.publicJwk, { ...d1.publicJwk, kid: 'D1-NEXT' }, d1.publicJwk]
    const kids: unknown[] = []
    const { cards } = client({ d1PublicJwk: () => keys.shift() ?? expect.fail() })
    for (let i = 0; i < 4; i++) {
      await cards.register({ cardId: 'card-1', card: REGISTER })
      const { encryptedData } = JSON.parse(`${d1.cardRequests.at(-1)?.body}`)
      kids.push(JSON.parse(Buffer.from(encryptedData.split('.')[0], 'base64url').toString()).kid)
    }
    expect(kids).toEqual([d1.publicJwk.kid, d1.publicJwk.kid, 'D1-NEXT', d1.publicJwk.kid])
  })

  test('that is none, or without a kid, is refused, and nothing is sent', async () => {
    await failure(
      () => register(client({ d1PublicJwk: () => ({ kty: 'EC' }) as never })),
      'ERR_JWE_RECIPIENT',
    )
    const { kid: _, ...unnamed } = d1.publicJwk
    await failure(() => register(client({ d1PublicJwk: async () => unnamed })), 'ERR_ARGUMENT')
    expect(d1.cardRequests).toEqual([])
  })

  test('that does not come ends with the call: aborted, or in time', async () => {
    const silent = client({ d1PublicJwk: () => new Promise<never>(() => {}), totalTimeoutMs: 100 })
    const stop = new AbortController()
    const call = register(client({ d1PublicJwk: () => new Promise<never>(() => {}) }), {
      signal: stop.signal,
    })
    stop.abort('enough')
    await failure(() => call, 'ERR_ABORTED')
    const error = await clientFailure(() => register(silent), 'ERR_D1_UNREACHABLE')
    expect(error).toMatchObject({ operation: 'register', delivery: 'not-sent' })
  })
})

describe('what shows', () => {
  test('the client shows no key, token or assertion', async () => {
    const it = client()
    await it.cards.register({ cardId: 'card-1', card: REGISTER })
    const shown = everythingShown(it) + everythingShown(d1.signer) + everythingShown(fetch)
    for (const secret of [...secrets(), d1.client.key]) expect(shown).not.toContain(secret)
  })
})

afterEach(() => expect(d1.cardReplies).toEqual([]))
