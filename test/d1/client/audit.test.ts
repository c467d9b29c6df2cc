/** One event for each call to D1, with everything an operator asks for and no secret. */
import { inspect } from 'node:util'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import {
  type AssertionSigner,
  type ClientAuditEvent,
  type D1Client,
  type D1ClientOptions,
  d1Client,
  type MtlsFetch,
  mtlsFetch,
  otelAttributes,
} from '../../../src/d1.js'
import { BackendError, KeyError, Pan } from '../../../src/index.js'
import { ISSUER_ID, startD1, type TestD1 } from './d1-server.js'
import { fastClock } from './times.js'

const CLEAR_PAN = '4000001234567899'
const CARD = { consumerId: 'consumer-1', cardProductId: 'debit', name: 'Canary Holder' }
const REGISTER = { pan: Pan.from(CLEAR_PAN), exp: '1229', ...CARD }
/** What D1's text, a signer and a fetch of somebody else may say. */
const CANARY = 'canary 4929123456789012'

let d1: TestD1
let fetch: MtlsFetch
const events: ClientAuditEvent[] = []
const causes: unknown[] = []

beforeAll(async () => {
  d1 = await startD1()
  fetch = mtlsFetch({ ...d1.client, ca: d1.ca })
})
afterAll(async () => {
  fetch.close()
  await d1.close()
})
beforeEach(() => {
  d1.reset()
  events.length = 0
  causes.length = 0
})

/** No event shows a secret, whatever became of the call. */
afterEach(() => {
  const tokens = d1.cardRequests.map(({ headers }) => String(headers.authorization).slice('Bearer '.length))
  const jwes = d1.cardRequests.flatMap(({ body }) => /"encryptedData":"([^"]+)/.exec(body)?.[1] ?? [])
  const assertions = d1.assertions.map(({ raw }) => raw)
  const shown = [
    JSON.stringify(events),
    inspect(events, { depth: 9 }),
    JSON.stringify(events.map(event => otelAttributes(event))),
  ].join('\n')
  const secrets = [CLEAR_PAN, d1.signingKey, CANARY, 'Canary Holder', ...tokens, ...jwes, ...assertions]
  for (const secret of secrets) expect(shown).not.toContain(secret)
})

function client(more: Partial<D1ClientOptions> = {}): D1Client {
  return d1Client({
    environment: d1.urls,
    issuerId: ISSUER_ID,
    signer: d1.signer,
    d1PublicJwk: d1.publicJwk,
    fetch,
    clock: fastClock(4),
    audit: (event, cause) => {
      events.push(event)
      causes.push(cause)
    },
    ...more,
  })
}

/** The one event, and what the call rejected with. */
async function eventOf(call: Promise<unknown>): Promise<ClientAuditEvent> {
  const thrown = await call.then(
    () => undefined,
    (error: unknown) => error,
  )
  expect(events).toHaveLength(1)
  expect(causes[0]).toBe(thrown)
  return events[0] ?? expect.fail('there is no event')
}

test('audit must be a function', () => {
  expect(() => client({ audit: 'log' as never })).toThrow('audit must be a function')
})

test('what is refused before anything is sent has no event', async () => {
  await expect(client().cards.delete({ cardId: 'card.1' })).rejects.toThrow('cardId')
  expect(events).toEqual([])
})

describe('a call that succeeds', () => {
  test('register: the keys, the token, the status', async () => {
    const { cards } = client()
    const event = await eventOf(
      cards.register({ cardId: 'card-1', card: REGISTER }, { correlationId: 'run-1' }),
    )
    expect(event).toEqual({
      operation: 'register',
      outcome: 'success',
      status: 200,
      issuerId: ISSUER_ID,
      cardId: 'card-1',
      correlationId: 'run-1',
      requests: 1,
      tokenFetched: true,
      keys: [
        { role: 'assertion', kid: 'SIGN-1' },
        { role: 'd1-public', kid: 'D1-JWE-1' },
      ],
      durationMs: expect.any(Number),
    })
    expect(otelAttributes(event)).toEqual({
      'd1.operation': 'register',
      'd1.outcome': 'success',
      'http.response.status_code': 200,
      'd1.issuer.id': ISSUER_ID,
      'd1.card.id': 'card-1',
      'd1.correlation.id': 'run-1',
      'd1.token.fetched': true,
      'd1.key.role': ['assertion', 'd1-public'],
      'd1.key.id': ['SIGN-1', 'D1-JWE-1'],
      'd1.key.check_value': ['', ''],
      'd1.duration_ms': event.durationMs,
    })
  })

  test('a token that is there already is not fetched, and nobody signs', async () => {
    const { cards } = client()
    await cards.create({ card: CARD })
    await cards.renew({ cardId: 'card-1' })
    expect(events).toMatchObject([
      { operation: 'create', status: 201, tokenFetched: true },
      { operation: 'renew', cardId: 'card-1', status: 204, tokenFetched: false, keys: [] },
    ])
    expect(events[0]).not.toHaveProperty('cardId')
  })

  test('one fetch for two calls: both waited for it', async () => {
    const { cards } = client()
    await Promise.all([cards.renew({ cardId: 'card-1' }), cards.replace({ cardId: 'card-2' })])
    expect(d1.tokenRequests).toHaveLength(1)
    expect(events).toMatchObject([{ tokenFetched: true }, { tokenFetched: true }])
  })

  test('a token that D1 refused is replaced: two requests, one fetch more', async () => {
    const { cards } = client()
    await cards.renew({ cardId: 'card-1' })
    d1.revoke()
    await cards.renew({ cardId: 'card-1' })
    expect(events[1]).toMatchObject({ outcome: 'success', requests: 2, tokenFetched: true })
    expect(otelAttributes(events[1] ?? expect.fail())).toMatchObject({ 'http.request.resend_count': 1 })
  })

  test('a repeated PUT counts its requests', async () => {
    d1.cardReplies.push({ status: 503 }, { status: 503 })
    const event = await eventOf(client().cards.register({ cardId: 'card-1', card: REGISTER }))
    expect(event).toMatchObject({ outcome: 'success', status: 200, requests: 3 })
  })

  test('a correlation id that may be a PAN goes to D1 as it is, and into no event', async () => {
    const correlationId = `renewal-${CLEAR_PAN}`
    const event = await eventOf(client().cards.renew({ cardId: 'card-1' }, { correlationId }))
    expect(d1.cardRequests[0]?.headers['x-correlation-id']).toBe(correlationId)
    expect(event.correlationId).toBe(`renewal-${'*'.repeat(CLEAR_PAN.length)}`)
  })

  test('many cards: an event for each', async () => {
    const items = ['card-1', 'card-2', 'card-3'].map(cardId => ({ cardId, card: REGISTER }))
    await client().cards.registerMany(items)
    expect(events.map(({ cardId }) => cardId).sort()).toEqual(['card-1', 'card-2', 'card-3'])
    events.length = 0
    await client().cards.registerMany([{ cardId: 'card-4', card: REGISTER, correlationId: 'run-4' }])
    expect(events).toMatchObject([{ cardId: 'card-4', correlationId: 'run-4' }])
  })
})

describe('a call that fails', () => {
  test('refused by D1: status, errorCode, not its words', async () => {
    d1.cardReplies.push({ status: 400, body: { errorCode: 'FIELD_INVALID_FORMAT', error: CANARY } })
    const event = await eventOf(client().cards.delete({ cardId: 'card-1' }))
    expect(event).toMatchObject({
      outcome: 'refused',
      status: 400,
      errorCode: 'FIELD_INVALID_FORMAT',
      delivery: 'answered',
      refusal: { reason: 'refused', code: 'ERR_D1_REQUEST' },
    })
    expect(otelAttributes(event)).toMatchObject({
      'd1.refusal.reason': 'refused',
      'd1.error_code': 'FIELD_INVALID_FORMAT',
      'd1.delivery': 'answered',
      'error.type': 'ERR_D1_REQUEST',
    })
  })

  test('a server that fails, and an answer that is none', async () => {
    d1.cardReplies.push({ status: 500, body: { errorCode: CANARY } })
    await expect(client().cards.create({ card: CARD })).rejects.toThrow('500')
    d1.cardReplies.push({ status: 302, headers: { location: `/${CLEAR_PAN}` } })
    await expect(client().cards.create({ card: CARD })).rejects.toThrow('redirects')
    expect(events).toMatchObject([
      { outcome: 'failed', status: 500, refusal: { reason: 'refused' } },
      { outcome: 'failed', status: 302, refusal: { reason: 'response', code: 'ERR_D1_RESPONSE' } },
    ])
    expect(events[0]).not.toHaveProperty('errorCode')
  })

  test('the token is refused: no request for the card was sent', async () => {
    d1.tokenReplies.push({ status: 400, body: { error: 'invalid_grant', error_description: CANARY } })
    const event = await eventOf(client().cards.delete({ cardId: 'card-1' }))
    expect(event).toMatchObject({
      outcome: 'refused',
      status: 400,
      errorCode: 'invalid_grant',
      requests: 0,
      tokenFetched: true,
      refusal: { reason: 'token-refused' },
      keys: [{ role: 'assertion', kid: 'SIGN-1' }],
    })
  })

  test('a token answer that is none', async () => {
    d1.tokenReplies.push({ status: 200, body: { access_token: CANARY } })
    expect(await eventOf(client().cards.delete({ cardId: 'card-1' }))).toMatchObject({
      outcome: 'failed',
      refusal: { reason: 'token-response' },
    })
  })

  test('nobody there', async () => {
    const failing = () => Promise.reject(Object.assign(new Error(CANARY), { code: 'ECONNREFUSED' }))
    const event = await eventOf(client({ fetch: failing }).cards.delete({ cardId: 'card-1' }))
    expect(event).toMatchObject({
      outcome: 'failed',
      requests: 0,
      delivery: 'not-sent',
      refusal: { reason: 'token-unreachable', code: 'ERR_D1_UNREACHABLE' },
    })
    expect(event).not.toHaveProperty('status')
  })

  test('the caller gave up', async () => {
    const controller = new AbortController()
    d1.cardReplies.push(() => controller.abort(CANARY))
    const event = await eventOf(client().cards.delete({ cardId: 'card-1' }, { signal: controller.signal }))
    expect(event).toMatchObject({
      outcome: 'failed',
      requests: 1,
      refusal: { reason: 'aborted', code: 'ERR_ABORTED' },
    })
  })

  const P11 = Object.assign(new BackendError('ERR_BACKEND_FAILED', 'C_Sign'), {
    returnValueName: 'CKR_DEVICE_ERROR',
  })
  test.each([
    ['of a token', P11, { code: 'ERR_BACKEND_FAILED', detail: 'CKR_DEVICE_ERROR' }],
    [
      'without its key',
      new KeyError('ERR_KEY_NOT_FOUND', 'no key', 'SIGN-1'),
      { code: 'ERR_KEY_NOT_FOUND', detail: 'SIGN-1' },
    ],
    ["of somebody else's", new TypeError(CANARY), { code: 'TypeError' }],
    ['that throws no error', CANARY, {}],
  ])('a signer %s: codes and names, no message', async (_what, thrown, told) => {
    const signer: AssertionSigner = { kid: 'SIGN-1', sign: () => Promise.reject(thrown) }
    const event = await eventOf(client({ signer }).cards.delete({ cardId: 'card-1' }))
    expect(event.refusal).toEqual({ reason: 'signer-failed', ...told })
  })

  test('a cardId that looks like a PAN is shown only where D1 knows the card', async () => {
    const { cards } = client()
    d1.cardReplies.push({ status: 404 })
    await expect(cards.delete({ cardId: '4929123456789012' })).rejects.toThrow('404')
    await cards.delete({ cardId: '1000000000000001' })
    expect(events[0]).not.toHaveProperty('cardId')
    expect(events[1]).toMatchObject({ cardId: '1000000000000001' })
  })
})

test('a hook that fails changes nothing, and is spoken of once', async () => {
  const warnings = vi.spyOn(process, 'emitWarning').mockReturnValue()
  const { cards } = client({
    audit: ({ operation }) => {
      if (operation === 'create') throw new Error(CANARY)
      return Promise.reject(new Error(CANARY))
    },
  })
  await cards.create({ card: CARD })
  await cards.delete({ cardId: 'card-1' })
  await new Promise(setImmediate)
  expect(warnings.mock.calls).toEqual([['the audit hook of the D1 client failed', 'IssuerPinWarning']])
  warnings.mockRestore()
})
