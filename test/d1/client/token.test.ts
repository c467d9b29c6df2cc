import { generateKeyPairSync } from 'node:crypto'
import { beforeEach, describe, expect, test } from 'vitest'
import type { FetchInit, FetchResponse } from '../../../src/d1/client/exchange.js'
import { TokenSource } from '../../../src/d1/client/token.js'
import { softwareSigner } from '../../../src/d1.js'
import type { D1ClientError } from '../../../src/index.js'
import { everythingShown, failure } from '../../support/errors.js'
import { ManualClock, settle } from './times.js'

const signer = softwareSigner({
  kid: 'S',
  privateKey: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey,
})
const GOOD = { access_token: 'a.b-c_d~e+f/g==', token_type: 'Bearer', expires_in: 900 }

let clock: ManualClock
let sent: { url: string; init: FetchInit }[]
let answers: (() => Promise<FetchResponse>)[]
beforeEach(() => {
  clock = new ManualClock()
  sent = []
  answers = []
})

async function* chunks(text: string): AsyncGenerator<Uint8Array> {
  yield new TextEncoder().encode(text)
}

const reply =
  (body: unknown, status = 200) =>
  async (): Promise<FetchResponse> => ({
    status,
    headers: { get: () => null },
    body: chunks(typeof body === 'string' ? body : JSON.stringify(body)),
  })
const refuse = () => Promise.reject(Object.assign(new Error('x'), { code: 'ECONNREFUSED' }))

function source(): TokenSource {
  return new TokenSource({
    authBase: 'https://d1.example/authz/v1',
    signer,
    issuer: 'is_tbank01',
    audience: undefined,
    lifetimeSeconds: undefined,
    transport: {
      fetch: (url, init) => {
        sent.push({ url, init })
        return (answers.shift() ?? reply({ ...GOOD, access_token: `token-${sent.length}` }))()
      },
      clock,
      random: () => 0.5,
      attemptMs: 10_000,
      totalMs: 60_000,
      retry: { attempts: 3, baseMs: 200, capMs: 5000, maxRetryAfterSeconds: 30 },
      retryableErrorCodes: new Map(),
    },
  })
}

/** Moves the clock on until the promise settles. */
async function running<T>(promise: Promise<T>, stepMs = 50): Promise<T> {
  let settled = false
  promise.then(
    () => (settled = true),
    () => (settled = true),
  )
  for (let i = 0; i < 10_000 && !settled; i++) {
    await clock.advance(stepMs)
  }
  return promise
}

describe('a malformed answer is ERR_D1_RESPONSE, names the member, and shows nothing', () => {
  const { access_token, token_type, expires_in } = GOOD
  test.each<[string, string, unknown]>([
    ['no access_token', 'access_token', { token_type, expires_in }],
    ['an empty one', 'access_token', { ...GOOD, access_token: '' }],
    ['a number', 'access_token', { ...GOOD, access_token: 7 }],
    ['a header line', 'access_token', { ...GOOD, access_token: 'SECRET\r\nx-evil: 1' }],
    ['a space', 'access_token', { ...GOOD, access_token: 'SECRET token' }],
    ['something beyond ASCII', 'access_token', { ...GOOD, access_token: 'SECRETä' }],
    ['one that is too long', 'access_token', { ...GOOD, access_token: `SECRET${'x'.repeat(8187)}` }],
    ['no token_type', 'token_type', { access_token, expires_in }],
    ['another token_type', 'token_type', { ...GOOD, token_type: 'mac' }],
    ['a token_type that is no text', 'token_type', { ...GOOD, token_type: ['Bearer'] }],
    ['no expires_in', 'expires_in', { access_token, token_type }],
    ['an expires_in of zero', 'expires_in', { ...GOOD, expires_in: 0 }],
    ['a negative one', 'expires_in', { ...GOOD, expires_in: -900 }],
    ['more than a day', 'expires_in', { ...GOOD, expires_in: 86_401 }],
    ['text that is no number', 'expires_in', { ...GOOD, expires_in: '15min' }],
    ['text with an exponent', 'expires_in', { ...GOOD, expires_in: '1e3' }],
    ['nothing', 'expires_in', { ...GOOD, expires_in: null }],
    [
      'a fraction of nothing',
      'expires_in',
      '{"access_token":"SECRET","token_type":"Bearer","expires_in":1e999}',
    ],
    ['an empty body', 'access_token', ''],
  ])('%s', async (_name, field, body) => {
    answers.push(reply(body))
    const tokens = source()
    const error = await failure(() => running(tokens.get()), 'ERR_D1_RESPONSE', ['SECRET', access_token])
    expect(error.message).toContain(field)
    expect(error).toMatchObject({ operation: 'token', retryable: false, status: 200 })
    expect(sent).toHaveLength(1)
  })

  test.each([
    ['no JSON', 'access_token=SECRET'],
    [
      'a duplicate member',
      '{"access_token":"SECRET","access_token":"b","token_type":"Bearer","expires_in":1}',
    ],
    ['__proto__', '{"__proto__":{"access_token":"SECRET"},"token_type":"Bearer","expires_in":1}'],
    ['an array', '[{"access_token":"SECRET"}]'],
  ])('%s', async (_name, body) => {
    answers.push(reply(body))
    await failure(() => running(source().get()), 'ERR_D1_RESPONSE', ['SECRET'])
  })
})

describe('what is accepted', () => {
  test.each([
    ['bearer', 900],
    ['BEARER', '900'],
    ['Bearer', 86_400],
    ['Bearer', 1],
    ['Bearer', 899.5],
  ])('token_type %s, expires_in %j, further members', async (token_type, expires_in) => {
    answers.push(reply({ ...GOOD, token_type, expires_in, scope: 'x', more: {} }))
    expect(await running(source().get())).toBe(GOOD.access_token)
  })
})

describe('a token is kept', () => {
  test('until a minute before it expires', async () => {
    const tokens = source()
    expect(await running(tokens.get())).toBe('token-1')
    await clock.advance(839_000)
    expect(await running(tokens.get())).toBe('token-1')
    await clock.advance(1000)
    expect(await running(tokens.get())).toBe('token-2')
    expect(sent).toHaveLength(2)
  })

  test('for half of a short life', async () => {
    answers.push(reply({ ...GOOD, expires_in: 10 }))
    const tokens = source()
    await running(tokens.get())
    await clock.advance(4000)
    await running(tokens.get())
    expect(sent).toHaveLength(1)
    await clock.advance(1000)
    expect(await running(tokens.get())).toBe('token-2')
  })

  test('until D1 refuses it; a refusal of an older one changes nothing', async () => {
    const tokens = source()
    const first = await running(tokens.get())
    tokens.refuse(first)
    const second = await running(tokens.get())
    tokens.refuse(first)
    expect(await running(tokens.get())).toBe(second)
    expect(sent).toHaveLength(2)
  })

  test('and not shown', async () => {
    const tokens = source()
    await running(tokens.get())
    expect(everythingShown(tokens)).not.toContain('token-1')
  })
})

describe('a flight', () => {
  test('is one for all who ask meanwhile', async () => {
    const tokens = source()
    const all = Promise.all(Array.from({ length: 100 }, () => tokens.get()))
    expect(new Set(await running(all))).toEqual(new Set(['token-1']))
    expect(sent).toHaveLength(1)
    await settle()
    expect(clock.pending(), 'timers that are left').toEqual([])
  })

  test('that fails is not remembered, but the next waits a little, longer each time', async () => {
    const tokens = source()
    const pauses: number[] = []
    for (let i = 0; i < 7; i++) {
      answers.push(reply({ error: 'invalid_grant' }, 400))
      const flight = tokens.get()
      await settle()
      pauses.push(clock.pending()[0] ?? -1)
      await failure(() => running(flight), 'ERR_D1_REQUEST')
    }
    // 3/4 of 200, 400, 800, … 5000: half of each pause is fixed, and the random half is at its middle.
    expect(pauses).toEqual([0, 150, 300, 600, 1200, 2400, 3750].map(ms => expect.closeTo(ms, -1)))
    expect(await running(tokens.get())).toMatch(/^token-/)
    tokens.refuse(`token-${sent.length}`)
    answers.push(reply({ error: 'invalid_grant' }, 400))
    await failure(() => running(tokens.get()), 'ERR_D1_REQUEST')
    const afterwards = tokens.get()
    await settle()
    expect(clock.pending()[0], 'the count begins anew').toBeLessThanOrEqual(150)
    await running(afterwards)
  })

  test('repeats what may pass: network, 5xx, 429; each time with a new assertion', async () => {
    answers.push(refuse, reply('', 503))
    expect(await running(source().get())).toBe('token-3')
    const assertions = sent.map(({ init }) => new URLSearchParams(init.body).get('assertion'))
    expect(new Set(assertions).size).toBe(3)
    expect(new Set(sent.map(({ init }) => init.headers['x-correlation-id'])).size).toBe(1)
    expect(sent[0]?.url).toBe('https://d1.example/authz/v1/oauth2/token')
  })

  test('ends after its attempts, and in time', async () => {
    answers.push(refuse, refuse, refuse)
    const error = await failure(() => running(source().get()), 'ERR_D1_UNREACHABLE')
    expect(error).toMatchObject({ attempt: 3, delivery: 'not-sent', operation: 'token' })
    const never = () => new Promise<FetchResponse>(() => {})
    answers.push(never, never, never)
    const late = (await failure(() => running(source().get(), 1000), 'ERR_D1_UNREACHABLE')) as D1ClientError
    expect(late.message).toBe('D1 token: no answer within 10000 ms')
    expect(late.attempt).toBe(3)
  })

  test('ends in time also where the signer does not', async () => {
    const stuck = new TokenSource({
      authBase: 'https://d1.example',
      signer: { kid: 'S', sign: () => new Promise(() => {}) },
      issuer: 'is_tbank01',
      audience: undefined,
      lifetimeSeconds: undefined,
      transport: {
        fetch: () => expect.fail('nothing to send'),
        clock,
        random: () => 0,
        attemptMs: 1000,
        totalMs: 5000,
        retry: { attempts: 1, baseMs: 1, capMs: 1, maxRetryAfterSeconds: 0 },
        retryableErrorCodes: new Map(),
      },
    })
    const error = await failure(() => running(stuck.get()), 'ERR_D1_UNREACHABLE')
    expect(error.message).toBe('D1 token: no answer within 5000 ms')
  })
})
