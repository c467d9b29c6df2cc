/** The handler and its parts without a socket: what is just allowed and what is not, and the reason in the event. */
import { describe, expect, test } from 'vitest'
import { Ending } from '../../../src/base/deadline.js'
import { ChangeCounterError } from '../../../src/base/errors.js'
import { FORM_BODY, JSON_BODY, readBody, router } from '../../../src/d1/endpoints/http.js'
import { readPrefix, readTimeout } from '../../../src/d1/endpoints/options.js'
import { COUNTER_FAULTS, judged, Refusal, supplied } from '../../../src/d1/endpoints/refusal.js'
import { authenticate, readBasic, readClients } from '../../../src/d1/endpoints/token-endpoint.js'
import { get, ORIGIN, put, useWorld } from './support/direct.js'
import { basic, byToken, CLIENT, FORM_TYPE, JSON_TYPE, PANS, pinPath, TOKEN_PATH } from './support/world.js'

const own = useWorld()
const never = new Ending()

/** The reason of the refusal that a call ends with. */
async function reasonOf(call: () => unknown): Promise<unknown> {
  try {
    await call()
  } catch (error) {
    if (error instanceof Refusal) return error.reason
    throw error
  }
  return 'none'
}

describe('the router', () => {
  const PIN = pinPath('card-1')
  const own = router({ pin: '', token: '/authz/d1/v1' })
  const ask = (path: string, method = 'GET') => own.find({ url: ORIGIN + path, method })

  test('finds each operation, and its ids', () => {
    const ids = { issuerId: 'is_tbank01', cardId: 'card-1', hasQuery: false }
    expect(ask(PIN)).toEqual({ operation: 'getPIN', ...ids })
    expect(ask(PIN, 'PUT')).toEqual({ operation: 'SetPIN', ...ids })
    expect(ask(`${PIN}/changeCounter`)).toEqual({ operation: 'getPINChangeCounter', ...ids })
    expect(ask(TOKEN_PATH, 'POST')).toEqual({ ...ids, operation: 'getToken', issuerId: '', cardId: '' })
  })

  test.each(['?', '?x=1', '?x=%zz#y', '?a=/../b', '?//x'])('looks past a query: %s', query => {
    expect(ask(PIN + query)).toMatchObject({ operation: 'getPIN', cardId: 'card-1', hasQuery: true })
  })

  test('knows its own paths from those of others', () => {
    for (const path of [PIN, `${PIN}/x`, '/cms/api/v1/issuers/', TOKEN_PATH])
      expect(own.takes(path)).toBe(true)
    for (const path of ['/', '/healthz', '/cms', '/cms/api/v1/', `/x${PIN}`, `${TOKEN_PATH}/x`, '']) {
      expect(own.takes(path)).toBe(false)
    }
  })

  test.each([
    ['route', '/'],
    ['route', `${PIN}/`],
    ['route', `/x${PIN}`],
    ['route', `${PIN}/changeCounter/x`],
    ['route', pinPath('')],
    ['route', pinPath('a/b')],
    ['path', `${PIN};x`],
    ['path', PIN.replace('/pin', '/%70in')],
    ['path', `${PIN}#x`],
    ['path', `${PIN}#`],
  ])('refuses by %s: %s', async (reason, path) => {
    expect(await reasonOf(() => ask(path))).toBe(reason)
  })

  test.each([
    ['POST', PIN],
    ['DELETE', PIN],
    ['PUT', `${PIN}/changeCounter`],
    ['GET', TOKEN_PATH],
  ])('refuses %s %s by method', async (method, path) => {
    expect(await reasonOf(() => ask(path, method))).toBe(path === TOKEN_PATH ? 'token-method' : 'method')
  })

  test('takes a dot in a prefix for a dot', async () => {
    const dotted = router({ pin: '/a.b', token: undefined })
    expect(dotted.find({ url: `${ORIGIN}/a.b${PIN}`, method: 'GET' }).operation).toBe('getPIN')
    const other = { url: `${ORIGIN}/aXb${PIN}`, method: 'GET' } as Request
    expect(await reasonOf(() => dotted.find(other))).toBe('route')
    expect(await reasonOf(() => dotted.find({ url: ORIGIN + TOKEN_PATH, method: 'POST' }))).toBe('route')
  })
})

describe('a correlation id', () => {
  test.each(['-', 'A-z_9'.padEnd(64, 'x'), 'a0000000-0000-4000-8000-000000000000'])(
    '%s is in the event',
    async id => {
      await own.handler(get(pinPath('card-1'), { headers: { 'x-correlation-id': id } }))
      expect(own.world.last).toMatchObject({ status: 200, correlationId: id })
      expect(own.world.last).not.toHaveProperty('correlationIdIgnored')
    },
  )

  test.each(['', 'a b', '<x>', 'x'.repeat(65)])('%j is ignored, and the event says so', async id => {
    await own.handler(get(pinPath('card-1'), { headers: { 'x-correlation-id': id } }))
    expect(own.world.last).toMatchObject({ status: 200, correlationIdIgnored: true })
    expect(own.world.last).not.toHaveProperty('correlationId')
  })

  test.each([
    ['4929123456789012', '*'.repeat(16)],
    ['run_4929-1234-5678-9012_x', `run_${'*'.repeat(19)}_x`],
    ['x12345678901', 'x12345678901'],
  ])('%s, where it may hold a PAN, is in the event as %s', async (id, shown) => {
    await own.handler(get(pinPath('card-1'), { headers: { 'x-correlation-id': id } }))
    expect(own.world.last).toMatchObject({ status: 200, correlationId: shown })
  })

  test('that is not there is nowhere in the event', async () => {
    await own.handler(get(pinPath('card-1')))
    expect(own.world.last).not.toHaveProperty('correlationId')
    expect(own.world.last).not.toHaveProperty('correlationIdIgnored')
  })
})

describe('ids', () => {
  test.each([
    ['issuer-id', pinPath('card-1', 'is_tbank0')],
    ['issuer-id', pinPath('card-1', 'is_tbank012')],
    ['issuer-unknown', pinPath('card-1', 'IS_TBANK01')],
    ['card-id', pinPath('x'.repeat(49))],
    ['card-id', pinPath('card.1')],
    ['card-unknown', pinPath('x'.repeat(48))],
  ])('%s: %s', async (reason, path) => {
    await own.handler(get(path))
    expect(own.world.last.refusal).toEqual({ reason })
  })

  test('a cardId that looks like a PAN is in no event, unless a card has it', async () => {
    await own.handler(get(pinPath('4929123456789012')))
    expect(own.world.last).toMatchObject({ status: 404, issuerId: 'is_tbank01' })
    expect(own.world.last).not.toHaveProperty('cardId')
    await own.world.issue('100000000001', PANS.first, '1234')
    own.world.cards.set('100000000001', own.world.cards.get('card-1') ?? expect.fail())
    await own.handler(get(pinPath('100000000001')))
    expect(own.world.last).toMatchObject({ status: 200, cardId: '100000000001' })
  })
})

describe('the headers of a body', () => {
  const read = (headers: Record<string, string>, rule = JSON_BODY) =>
    readBody(put('{}', { headers }), rule, never)

  test.each([
    ['application/json'],
    ['Application/JSON'],
    [' application/json ; charset=utf-8'],
    ['application/json;Charset = "UTF-8" '],
    ['application/json; charset=utf-16'],
    ['application/json; charset=utf-8; x=y'],
    ['application/json;'],
    ['application/json; v=1'],
    ['application/json; charset=utf8'],
  ])('%s is taken', async type => {
    expect([...(await read({ 'content-type': type }))]).toEqual([0x7b, 0x7d])
    for (const coding of ['Identity', '', ' ', 'identity, identity']) {
      expect(await read({ 'content-type': type, 'content-encoding': coding })).toHaveLength(2)
    }
  })

  test.each([
    ['text/plain'],
    ['application/jsonp; v=1'],
    ['application/json, text/plain'],
    ['application/x-www-form-urlencoded'],
  ])('%s is not', async type => {
    expect(await reasonOf(() => read({ 'content-type': type }))).toBe('content-type')
  })

  test('no type, and a compressed body, are refused', async () => {
    const untyped = new Request(ORIGIN, { method: 'PUT', body: Uint8Array.of(1) })
    expect(await reasonOf(() => readBody(untyped, JSON_BODY, never))).toBe('content-type')
    for (const coding of ['gzip', 'identity, gzip']) {
      expect(await reasonOf(() => read({ ...JSON_TYPE, 'content-encoding': coding }))).toBe(
        'content-encoding',
      )
    }
  })

  test.each([
    [JSON_BODY, JSON_TYPE, 16_384],
    [FORM_BODY, FORM_TYPE, 4096],
  ])('a length that is declared is believed where it is too much', async (rule, type, most) => {
    const declare = (length: number) => read({ ...type, 'content-length': String(length) }, rule)
    expect(await declare(most)).toHaveLength(2)
    expect(await reasonOf(() => declare(most + 1))).toBe('body-size')
    expect(await read({ ...type, 'content-length': 'x' }, rule)).toHaveLength(2)
  })

  test('no body is one of no bytes', async () => {
    const request = get('/', { method: 'PUT', headers: JSON_TYPE })
    expect(await readBody(request, JSON_BODY, never)).toHaveLength(0)
  })

  test('the chunks of a body come out in their order, and no listener stays behind', async () => {
    const chunks = ['a', 'bc', 'd'].map(text => new TextEncoder().encode(text))
    const body = new ReadableStream({
      start(controller) {
        for (const chunk of chunks) controller.enqueue(chunk)
        controller.close()
      },
    })
    const request = put('', { body, duplex: 'half' })
    expect(new TextDecoder().decode(await readBody(request, JSON_BODY, never))).toBe('abcd')
  })
})

describe('a token request', () => {
  const GRANT = 'grant_type=client_credentials'
  const answer = (body: string | Uint8Array<ArrayBuffer>, headers: object = {}) =>
    own.world.handler()(
      get(TOKEN_PATH, {
        method: 'POST',
        headers: { ...FORM_TYPE, authorization: basic(), ...headers },
        body,
      }),
    )

  test('is answered with a token that no cache keeps', async () => {
    const response = await answer(`${GRANT}&scope=pin.read+pin.write&x=y`)
    expect(response.status).toBe(200)
    expect(Object.fromEntries(response.headers)).toEqual({
      'cache-control': 'no-store',
      'content-type': 'application/json',
      pragma: 'no-cache',
    })
    expect(Object.keys((await response.json()) as object)).toEqual([
      'access_token',
      'token_type',
      'expires_in',
      'expires_at',
      'scope',
    ])
    expect(own.world.last).toMatchObject({ operation: 'getToken', status: 200, caller: CLIENT.clientId })
  })

  test.each([
    ['no grant', '', 'invalid_request', 'token-request'],
    ['an empty grant', 'grant_type=', 'invalid_request', 'token-request'],
    ['a parameter twice', `${GRANT}&x=1&x=1`, 'invalid_request', 'token-request'],
    ['no UTF-8', Uint8Array.of(0xff), 'invalid_request', 'token-request'],
    ['another grant', 'grant_type=password', 'unsupported_grant_type', 'grant-type'],
    ['two spaces in a scope', `${GRANT}&scope=a++b`, 'invalid_scope', 'scope'],
    ['a scope of 257 characters', `${GRANT}&scope=${'x'.repeat(257)}`, 'invalid_scope', 'scope'],
  ])('with %s is refused', async (_what, body, error, reason) => {
    const response = await answer(body)
    expect([response.status, await response.json()]).toEqual([400, { error }])
    expect(own.world.last).toMatchObject({ refusal: { reason }, caller: CLIENT.clientId })
  })

  test.each([
    ['an empty scope', `${GRANT}&scope=`],
    ['a scope of 256 characters', `${GRANT}&scope=${'x'.repeat(256)}`],
    ['a byte order mark in a value', `${GRANT}&x=\ufeff`],
  ])('with %s is not', async (_what, body) => {
    expect((await answer(body)).status).toBe(200)
  })

  test('of nobody who is known is a challenge', async () => {
    for (const authorization of ['', 'Bearer x', basic('d1'), basic(CLIENT.clientId, 'x'.repeat(22))]) {
      const response = await answer(GRANT, { authorization })
      expect([response.status, await response.json()]).toEqual([401, { error: 'invalid_client' }])
      const headers = Object.fromEntries(response.headers)
      expect(headers['www-authenticate']).toBe('Basic realm="oauth2", charset="UTF-8"')
      expect(own.world.last.refusal).toEqual({ reason: 'client-credentials' })
    }
  })

  test('of another type, or too long, is refused', async () => {
    expect((await answer(GRANT, JSON_TYPE)).status).toBe(400)
    expect(own.world.last.refusal).toEqual({ reason: 'content-type' })
    expect((await answer(`${GRANT}&x=`.padEnd(4096, 'x'))).status).toBe(200)
    expect((await answer(`${GRANT}&x=`.padEnd(4097, 'x'))).status).toBe(400)
    expect(own.world.last.refusal).toEqual({ reason: 'body-size' })
  })
})

describe('bearer tokens', () => {
  const asked: string[] = []
  const ask = (authorization?: string, verdict: object = { verified: true, subject: 's' }) => {
    const verify = async (token: string) => {
      asked.push(token)
      return verdict as never
    }
    const answer = own.world.handler({ authorization: byToken({ verify }) })
    return answer(get(pinPath('card-1'), authorization === undefined ? {} : { headers: { authorization } }))
  }

  test.each([
    undefined,
    '',
    'Bearer',
    'Bearer a b',
    'Bearer a,b',
    'Bearer =a',
    'xBearer a',
    `Bearer ${'x'.repeat(8186)}`,
  ])('%.20s is none, and is not judged', async authorization => {
    asked.length = 0
    const response = await ask(authorization)
    expect(response.status).toBe(401)
    expect(response.headers.get('www-authenticate')).toBe('Bearer')
    expect(own.world.last.refusal).toEqual({ reason: 'token-missing' })
    expect(asked).toEqual([])
  })

  test.each([
    ['bearer  a-._~+/0==', 'a-._~+/0=='],
    [`Bearer ${'x'.repeat(8185)}`, 'x'.repeat(8185)],
  ])('%.20s is judged', async (authorization, token) => {
    asked.length = 0
    expect((await ask(authorization)).status).toBe(200)
    expect(asked).toEqual([token])
    expect(own.world.last).toMatchObject({ caller: 'd1-client', tokenSubject: 's' })
  })

  test('the subject and the reason are in the event up to 64 characters', async () => {
    const [fits, long] = ['x'.repeat(64), 'x'.repeat(65)]
    await ask('Bearer a', { verified: true, subject: fits, tokenId: fits })
    expect(own.world.last).toMatchObject({ tokenSubject: fits, tokenId: fits, status: 401 })
    expect(own.world.last.refusal).toEqual({ reason: 'caller-unknown' })
    await ask('Bearer a', { verified: true, subject: long, tokenId: long })
    expect(own.world.last).not.toHaveProperty('tokenSubject')
    expect(own.world.last).not.toHaveProperty('tokenId')
    await ask('Bearer a', { verified: false, reason: fits })
    expect(own.world.last.refusal).toEqual({ reason: 'token-invalid', detail: fits })
    for (const reason of [long, ' a', 'a ', '']) {
      await ask('Bearer a', { verified: false, reason })
      expect(own.world.last.refusal).toEqual({ reason: 'token-invalid' })
    }
  })
})

describe('client credentials', () => {
  test('the longest header that is read has 4096 characters', () => {
    const header = (length: number) => `Basic ${Buffer.from(`a:${'x'.repeat(length)}`).toString('base64')}`
    expect(header(3063)).toHaveLength(4094)
    expect(readBasic(header(3063).replace(' ', '   '))).toEqual({ id: 'a', secret: 'x'.repeat(3063) })
    expect(readBasic(header(3063).replace(' ', '    '))).toBeUndefined()
  })

  test('no UTF-8 is no header; a byte order mark belongs to the id', () => {
    expect(readBasic(`Basic ${Buffer.from([0xff, 0x3a]).toString('base64')}`)).toBeUndefined()
    expect(readBasic(`Basic ${Buffer.from('\ufeffa:b').toString('base64')}`)).toEqual({
      id: '\ufeffa',
      secret: 'b',
    })
  })

  test('two secrets of one client are both good, those of two clients do not mix', () => {
    const clients = readClients([
      { clientId: 'a', clientSecret: '1'.repeat(16) },
      { clientId: 'a', clientSecret: '2'.repeat(16) },
      { clientId: 'b', clientSecret: '3'.repeat(16) },
    ])
    expect(authenticate(clients, basic('a', '1'.repeat(16)))).toBe('a')
    expect(authenticate(clients, basic('a', '2'.repeat(16)))).toBe('a')
    expect(authenticate(clients, basic('b', '3'.repeat(16)))).toBe('b')
    expect(authenticate(clients, basic('b', '1'.repeat(16)))).toBeUndefined()
    expect(authenticate(clients, null)).toBeUndefined()
  })
})

describe('refusals', () => {
  test('one that comes through is not wrapped; an unexpected error is 500', async () => {
    const refusal = new Refusal('card-unknown', { detail: 'x' })
    await expect(judged({}, () => Promise.reject(refusal))).rejects.toBe(refusal)
    expect([refusal.message, refusal.name, refusal.detail]).toEqual(['card-unknown', 'Refusal', 'x'])
    const cause = new ChangeCounterError('exhausted')
    await expect(judged(COUNTER_FAULTS, () => Promise.reject(cause))).rejects.toMatchObject({
      reason: 'counter-exhausted',
      cause,
      detail: undefined,
    })
    await expect(judged({}, () => Promise.reject(cause))).rejects.toMatchObject({ reason: 'service-failed' })
    await expect(judged({}, async () => 'done')).resolves.toBe('done')
  })

  test("what the issuer's own code refuses with is not for the sender", async () => {
    const cause = new Refusal('card-unknown')
    await expect(supplied('store-failed', () => Promise.reject(cause))).rejects.toMatchObject({
      reason: 'store-failed',
      cause,
    })
  })
})

describe('options', () => {
  test('times from 1 ms to ten minutes', () => {
    for (const good of [1, 600_000]) expect(readTimeout(good, 'x')).toBe(good)
    for (const bad of [0, 600_001, 1.5, Number.NaN, '7', undefined]) {
      expect(() => readTimeout(bad as never, 'timeoutMs')).toThrow(
        'timeoutMs must be a whole number from 1 to 600000',
      )
    }
  })

  test('prefixes', () => {
    for (const good of ['', '/a', '/a.b/-c_~']) expect(readPrefix(good, 'x')).toBe(good)
    for (const bad of ['a', '/', '/a/', 'a/', '//a', '/a//b', '/a b', '/%20', 7, undefined]) {
      expect(() => readPrefix(bad as never, 'prefix')).toThrow(
        'prefix must begin with a slash, and end without one',
      )
    }
  })
})
