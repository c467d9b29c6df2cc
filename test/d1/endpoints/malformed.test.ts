/** What bad input gets, over real sockets: the contract's status and body, and one event each. */
import { gzipSync } from 'node:zlib'
import { SignJWT, UnsecuredJWT } from 'jose'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { ownTokens } from '../../../src/d1.js'
import { ManualClock, until } from '../client/times.js'
import { expectContract, type Operation } from './support/contract.js'
import { type Reply, Wire } from './support/wire.js'
import {
  basic,
  byToken,
  CLIENT,
  counterPath,
  FORM_TYPE,
  JSON_TYPE,
  OTHER_ISSUER,
  pinPath,
  TOKEN_PATH,
  World,
} from './support/world.js'

const PIN = pinPath('card-1')
const COUNTER = counterPath('card-1')

let world: World
let wire: Wire
let bearer: string

beforeAll(async () => {
  world = await World.open()
  wire = await new Wire(world.handler()).open()
  bearer = `Authorization: ${(await world.authorized())['authorization']}`
})
afterAll(async () => {
  await wire.close()
  await world[Symbol.asyncDispose]()
})
beforeEach(() => {
  world.events.length = 0
})

const send = (line: string, headers: readonly string[] = [], body = ''): Promise<Reply> =>
  wire.send(line, headers, body)

const TEXTS: Readonly<Record<number, string>> = { 400: 'Bad request', 401: 'Unauthorized', 404: 'Not found' }

/** The generic reply, and the operator's reason in the one event. */
function expectRefusal(reply: Reply, status: number, reason: string, operation?: Operation): void {
  expect(reply.body).toEqual({ error: TEXTS[status] })
  expect(reply.status).toBe(status)
  expectContract(operation ?? 'getPIN', reply)
  expect(world.events).toHaveLength(1)
  expect(world.last).toMatchObject({ status, outcome: 'refused', refusal: { reason } })
  world.expectSilence(reply.text)
}

describe('paths', () => {
  const ids = (issuerId: string, cardId: string): string => pinPath(cardId, issuerId)
  test.each([
    [404, 'route', 'the root', '/'],
    [404, 'route', 'a slash at the end', `${PIN}/`],
    [404, 'route', 'slashes at the start', `/${PIN}`],
    [404, 'route', 'an empty id', ids('is_tbank01', '')],
    [404, 'route', 'another case', PIN.replace('cms', 'CMS')],
    [404, 'route', 'something before', `/x${PIN}`],
    [404, 'route', 'something after', `${COUNTER}/x`],
    [404, 'route', 'another host in the path', `//issuer.test${PIN}`],
    [404, 'route', 'Object.prototype', '/__proto__/constructor'],
    [400, 'path', 'an escaped letter', PIN.replace('/pin', '/%70in')],
    [400, 'path', 'an escape in an id', ids('is_tbank01', 'card%2D1')],
    [400, 'path', 'an escaped slash', ids('is_tbank01', 'x%2F..%2Fcard-1')],
    [400, 'path', 'an escaped zero byte', ids('is_tbank01', 'card-1%00')],
    [400, 'path', 'a broken escape', ids('is_tbank01', 'card-1%')],
    [400, 'path', 'dot segments', PIN.replace('cards/', 'cards/../cards/')],
    [400, 'path', 'escaped dot segments', PIN.replace('cards/', 'cards/%2e%2e/cards/')],
    [400, 'path', 'a dot segment', PIN.replace('cards/', 'cards/./')],
    [400, 'path', 'a backslash', PIN.replace('/cards', '\\cards')],
    [400, 'path', 'a parameter', `${PIN};x=1`],
    [400, 'path', 'a fragment', `${PIN}#x`],
    [400, 'path', 'an empty fragment', `${PIN}#`],
    [400, 'path', 'no path', '*'],
    [400, 'path', 'a quote', ids('is_tbank01', "card-1'")],
    [400, 'issuer-id', '9 characters', ids('is_tbank0', 'card-1')],
    [400, 'issuer-id', '11 characters', ids('is_tbank012', 'card-1')],
    [404, 'issuer-unknown', 'another issuer', ids(OTHER_ISSUER, 'card-1')],
    [404, 'issuer-unknown', 'the issuer in another case', ids('IS_TBANK01', 'card-1')],
    [400, 'card-id', '49 characters', ids('is_tbank01', 'x'.repeat(49))],
    [400, 'card-id', 'a dot', ids('is_tbank01', 'card.1')],
    [400, 'card-id', '2000 characters', ids('is_tbank01', 'x'.repeat(2000))],
    [404, 'card-unknown', 'no card', ids('is_tbank01', 'card-9')],
    [404, 'card-unknown', 'the card in another case', ids('is_tbank01', 'CARD-1')],
  ])('%i %s: %s', async (status, reason, _what, path) => {
    expectRefusal(await send(`GET ${path}`, [bearer]), status, reason)
  })

  test.each([
    ['a query', `${PIN}?x=1`],
    ['an empty query', `${PIN}?`],
    ['a token in the query', `${PIN}?access_token=x`],
    ['a query that is no URL', `${PIN}?%zz"<>|\\`],
    ['an absolute target and a query', `https://issuer.test${PIN}?x=1`],
  ])('%s is ignored, and noted without its text', async (_what, path) => {
    expect(await send(`GET ${path}`, [bearer])).toMatchObject({ status: 200 })
    expect(world.last).toMatchObject({ operation: 'getPIN', queryIgnored: true })
    expect(JSON.stringify(world.last)).not.toContain('?')
  })

  test.each([`https://issuer.test${PIN}`, `HTTP://issuer.test:8443${PIN}`, `https://[::1]${PIN}`])(
    'the absolute form is the path in it: %s',
    async target => {
      expect(await send(`GET ${target}`, [bearer])).toMatchObject({ status: 200 })
      expect(world.last).not.toHaveProperty('queryIgnored')
    },
  )

  test('a token in the query is no token', async () => {
    const token = bearer.replace('Authorization: Bearer ', '')
    expectRefusal(await send(`GET ${PIN}?access_token=${token}`), 401, 'token-missing', 'getPIN')
  })

  test('a PAN in place of a card id is not repeated in the event', async () => {
    expectRefusal(await send(`GET ${pinPath('4929123456789012')}`, [bearer]), 404, 'card-unknown')
    expect(world.last.cardId).toBeUndefined()
  })
})

describe('methods', () => {
  test.each([
    ['POST', PIN],
    ['DELETE', PIN],
    ['PATCH', PIN],
    ['OPTIONS', PIN],
    ['TRACE', PIN],
    ['PUT', COUNTER],
    ['POST', COUNTER],
  ])('%s %s is 400', async (method, path) => {
    expectRefusal(await send(`${method} ${path}`, [bearer]), 400, 'method')
  })

  test.each(['GET', 'PUT'])('%s of the token endpoint is 400, in the words of OAuth', async method => {
    const reply = await send(`${method} ${TOKEN_PATH}`)
    expect(reply).toMatchObject({ status: 400, body: { error: 'invalid_request' } })
    expect(world.last.refusal).toEqual({ reason: 'token-method' })
  })

  test('HEAD is 400, without a body', async () => {
    const received = await wire.raw(`HEAD ${PIN} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
    expect(received).toMatch(/^HTTP\/1.1 400 /)
    expect(received).toMatch(/\r\n\r\n$/)
  })

  test('an Expect that nobody knows is answered as if it were not there: the contract has no 417', async () => {
    expect(await send(`GET ${PIN}`, [bearer, 'Expect: 200-ok'])).toMatchObject({ status: 200 })
  })

  test('a header that overrides the method overrides nothing', async () => {
    const override = ['X-HTTP-Method-Override: PUT', 'X-Method: PUT', bearer]
    expectRefusal(await send(`POST ${PIN}`, override), 400, 'method')
    expect(await send(`GET ${PIN}`, override)).toMatchObject({ status: 200 })
  })
})

describe('what is no HTTP', () => {
  test.each([
    ['a space in the path', `GET ${pinPath('card 1')} HTTP/1.1\r\nHost: x\r\n\r\n`],
    ['a letter beyond ASCII in the path', `GET ${pinPath('cärd')} HTTP/1.1\r\nHost: x\r\n\r\n`],
    ['a folded header', `GET ${PIN} HTTP/1.1\r\nHost: x\r\nx-correlation-id: a\r\n b\r\n\r\n`],
    ['a method in small letters', `get ${PIN} HTTP/1.1\r\nHost: x\r\n\r\n`],
    ['a zero byte in a header', `GET ${PIN} HTTP/1.1\r\nHost: x\r\nx-correlation-id: a\0b\r\n\r\n`],
    ['a lone CR in a header', `GET ${PIN} HTTP/1.1\r\nHost: x\r\nx-correlation-id: a\rset-cookie: b\r\n\r\n`],
    ['a space before the colon', `GET ${PIN} HTTP/1.1\r\nHost: x\r\nAuthorization : x\r\n\r\n`],
    ['two lengths', `PUT ${PIN} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}`],
    [
      'a length and chunks',
      `PUT ${PIN} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    ],
    ['a negative length', `PUT ${PIN} HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n{}`],
    ['headers without end', `GET ${PIN} HTTP/1.1\r\nHost: x\r\nx-long: ${'x'.repeat(20_000)}\r\n\r\n`],
    ['random bytes', '\x16\x03\x01\x02\x00\x01\x00\r\n\r\n'],
  ])('%s is 400, and the connection is closed', async (_what, text) => {
    const received = await wire.raw(text)
    expect(received).toMatch(/^HTTP\/1.1 400 /)
    expect(received).not.toContain('set-cookie')
    expect(world.events).toEqual([])
  })

  test('without a Host, Node answers before the listener; with two, the listener does, and notes it', async () => {
    expect(await wire.raw(`GET ${PIN} HTTP/1.1\r\n\r\n`)).toMatch(/^HTTP\/1.1 400 /)
    expect(world.events).toEqual([])
    const reply = await send(`GET ${PIN}`, [bearer, 'HOST: elsewhere.test'])
    expectRefusal(reply, 400, 'not-http')
    expect(world.last.refusal?.detail).toBe('HOST_HEADER')
  })

  test('HTTP/1.0 need not have a Host, and must not have two', async () => {
    const old = (...hosts: string[]) =>
      wire.raw(`${[`GET ${PIN} HTTP/1.0`, ...hosts, bearer, 'Connection: close'].join('\r\n')}\r\n\r\n`)
    for (const hosts of [[], ['Host: x']]) expect(await old(...hosts)).toMatch(/^HTTP\/1\.1 200 /)
    expect(await old('Host: x', 'Host: elsewhere.test')).toMatch(/^HTTP\/1\.1 400 /)
    expect(world.last.refusal?.detail).toBe('HOST_HEADER')
  })

  test('more than 64 headers are refused: what is behind them may be what counts', async () => {
    const many = Array.from({ length: 61 }, (_, i) => `X-${i}: 1`)
    expect(await send(`GET ${PIN}`, [bearer, ...many])).toMatchObject({ status: 200 })
    world.events.length = 0
    expectRefusal(await send(`GET ${PIN}`, [bearer, ...many, 'X-One: 1']), 400, 'not-http')
    expect(world.last.refusal?.detail).toBe('HEADERS_COUNT')
  })

  test('white space around a value is none of it; a blank of another kind is', async () => {
    const [name, value] = bearer.split(': ')
    expect(await send(`GET ${PIN}`, [`${name}:\t  ${value} \t `])).toMatchObject({ status: 200 })
    expect(await send(`GET ${PIN}`, [`${bearer}\u00a0`])).toMatchObject({ status: 401 })
    expect(world.last.refusal).toEqual({ reason: 'token-missing' })
  })

  test('two requests in one are one request and what is left of it', async () => {
    const smuggled = `GET ${COUNTER} HTTP/1.1\r\nHost: x\r\n\r\n`
    const length = `Content-Length: ${smuggled.length}`
    expectRefusal(
      await send(`PUT ${PIN}`, [bearer, 'Content-Type: text/plain', length], smuggled),
      400,
      'content-type',
      'SetPIN',
    )
  })
})

describe('bearer tokens', () => {
  const claims = { sub: 'd1-client', iss: 'https://issuer.test/authz/d1/v1', aud: 'https://issuer.test' }
  const now = Math.floor(Date.now() / 1000)
  const secret = new Uint8Array(32).fill(7)
  const signed = (more: object, header: object = {}) =>
    new SignJWT({ ...claims, iat: now, exp: now + 60, ...more })
      .setProtectedHeader({ alg: 'HS256', kid: 'T-1', typ: 'at+jwt', ...header })
      .sign(secret)
  const valid = async (): Promise<string> => (await world.tokens.issue({ subject: 'x', scopes: [] })).token
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')

  const NO_TOKEN: Readonly<Record<string, readonly string[]>> = {
    'no header': [],
    'an empty header': ['Authorization: '],
    'another scheme': [`Authorization: ${basic()}`],
    'the scheme alone': ['Authorization: Bearer'],
    'two tokens': ['Authorization: Bearer a b'],
    'a token of 10,000 characters': [`Authorization: Bearer ${'x'.repeat(10_000)}`],
    'a quoted token': ['Authorization: Bearer "x"'],
    'letters beyond ASCII': ['Authorization: Bearer é'],
  }
  test.each(Object.entries(NO_TOKEN))('401: %s', async (_what, headers) => {
    expectRefusal(await send(`GET ${PIN}`, headers), 401, 'token-missing')
  })

  test('401: two headers, both good', async () => {
    expectRefusal(await send(`GET ${PIN}`, [bearer, bearer]), 401, 'token-missing')
  })

  const BAD: Readonly<Record<string, () => Promise<string> | string>> = {
    'no JWT': () => 'abc',
    'no JWT, with dots': () => 'a.b.c',
    'alg none': () => new UnsecuredJWT({ ...claims, iat: now, exp: now + 60 }).encode(),
    'alg none, kid and type right': () =>
      `${part({ alg: 'none', kid: 'T-1', typ: 'at+jwt' })}.${part({ ...claims, iat: now, exp: now + 60 })}.`,
    'another key by the known kid': () => signed({}),
    'an unknown kid': () => signed({}, { kid: 'T-9' }),
    'no kid': () => signed({}, { kid: undefined }),
    'a signature cut off': async () => (await valid()).replace(/[^.]*$/, ''),
    'a signature of another length': async () => `${await valid()}AA`,
    'a payload of its own': async () =>
      (await valid()).replace(/\..*\./, `.${part({ ...claims, sub: 'admin', iat: now, exp: now + 60 })}.`),
    'a critical extension': () =>
      `${part({ alg: 'HS256', kid: 'T-1', crit: ['x'], x: 1 })}.${part(claims)}.AAAA`,
    'a JWE': () => 'a.b.c.d.e',
  }
  test.each(Object.entries(BAD))('401: %s', async (_what, make) => {
    expectRefusal(await send(`GET ${PIN}`, [`Authorization: Bearer ${await make()}`]), 401, 'token-invalid')
    expect(world.last.caller).toBeUndefined()
  })

  test('401: the right key, and a claim that is wrong', async () => {
    const k = Buffer.from(secret).toString('base64url')
    const tokens = await ownTokens({
      algorithm: 'HS256',
      keys: [{ kty: 'oct', kid: 'T-1', k }],
      issuer: claims.iss,
      audience: claims.aud,
      lifetimeSeconds: 60,
    })
    await using own = await World.open()
    const wireOfOwn = await new Wire(own.handler({ authorization: byToken(tokens) })).open()
    const status = async (token: string) =>
      (await wireOfOwn.send(`GET ${PIN}`, [`Authorization: Bearer ${token}`])).status
    expect(await status(await signed({}))).toBe(200)
    const wrong: Readonly<Record<string, Promise<string>>> = {
      expired: signed({ iat: now - 100, exp: now - 10 }),
      'no expiry': signed({ exp: undefined }),
      'an expiry that is text': signed({ exp: '9999999999' }),
      'older than a lifetime': signed({ iat: now - 3600 }),
      'of the future': signed({ iat: now + 3600, exp: now + 7200 }),
      'not yet': signed({ nbf: now + 3600 }),
      'no time': signed({ iat: undefined }),
      audience: signed({ aud: 'https://elsewhere.test' }),
      'no audience': signed({ aud: undefined }),
      issuer: signed({ iss: 'https://elsewhere.test' }),
      'no subject': signed({ sub: undefined }),
      type: signed({}, { typ: 'JWT' }),
      algorithm: new SignJWT(claims)
        .setIssuedAt()
        .setExpirationTime('1m')
        .setProtectedHeader({ alg: 'HS512', kid: 'T-1', typ: 'at+jwt' })
        .sign(new Uint8Array(64).fill(7)),
    }
    for (const [what, token] of Object.entries(wrong)) expect(await status(await token), what).toBe(401)
    await wireOfOwn.close()
  })

  test('a 401 says how, and no more', async () => {
    const { headers } = await send(`GET ${PIN}`)
    expect(headers['www-authenticate']).toBe('Bearer')
  })

  test('without a token nobody learns which cards and issuers there are', async () => {
    for (const path of [PIN, pinPath('nobody'), pinPath('x.y'), pinPath('card-1', OTHER_ISSUER)]) {
      expect(await send(`GET ${path}`)).toMatchObject({ status: 401 })
      expect(world.last).not.toHaveProperty('cardId')
    }
  })
})

describe('x-correlation-id', () => {
  test.each([
    ['of 64 characters', 'A-z_9'.padEnd(64, 'x')],
    ['of 1 character', '-'],
  ])('%s goes into the event', async (_what, id) => {
    await send(`GET ${PIN}`, [bearer, `X-Correlation-ID: ${id}`])
    expect(world.last).toMatchObject({ status: 200, correlationId: id })
    expect(world.last).not.toHaveProperty('correlationIdIgnored')
  })

  test.each([
    ['of 65 characters', ['x'.repeat(65)]],
    ['empty', ['']],
    ['with a space', ['a b']],
    ['with markup', ['<script>']],
    ['that forges a line', ['a%0d%0aoutcome=success']],
    ['with an escape sequence', ['\x1b[2J'.replace('\x1b', '')]],
    ['beyond ASCII', ['é']],
    ['that is there twice', ['a', 'b']],
  ])('one %s is ignored, and the event says so', async (_what, ids) => {
    const reply = await send(`GET ${PIN}`, [bearer, ...ids.map(id => `X-Correlation-ID: ${id}`)])
    expect(reply.status).toBe(200)
    expect(world.last.correlationIdIgnored).toBe(true)
    expect(world.last).not.toHaveProperty('correlationId')
    expect(JSON.stringify(reply.headers)).not.toContain('orrelation')
  })
})

describe('bodies of Set PIN', () => {
  const TYPE = 'Content-Type: application/json'
  const set = (body: string, headers: readonly string[] = [TYPE]) =>
    send(`PUT ${PIN}`, [bearer, ...headers, `Content-Length: ${Buffer.byteLength(body, 'latin1')}`], body)
  const chunked = (chunks: readonly string[]) =>
    send(
      `PUT ${PIN}`,
      [bearer, TYPE, 'Transfer-Encoding: chunked'],
      `${chunks.map(text => `${text.length.toString(16)}\r\n${text}\r\n`).join('')}0\r\n\r\n`,
    )
  let message: string
  beforeAll(async () => {
    message = await world.iso0()
  })

  test.each([
    [TYPE],
    ['Content-Type: Application/JSON; charset=utf-8'],
    ['content-type: application/json ; charset="UTF-8"'],
  ])('are taken as %s', async type => {
    expect(await set(message, [type])).toMatchObject({ status: 204 })
    expect(await set(message, [type, 'Content-Encoding: identity'])).toMatchObject({ status: 204 })
  })

  test('are taken in chunks', async () => {
    expect(await chunked(Array.from(message))).toMatchObject({ status: 204 })
    expect(await chunked([message.slice(0, 99), message.slice(99)])).toMatchObject({ status: 204 })
  })

  test.each([
    ['no type', []],
    ['text', ['Content-Type: text/plain']],
    ['a form', ['Content-Type: application/x-www-form-urlencoded']],
    ['a list', ['Content-Type: application/json, text/plain']],
    ['two types', [TYPE, TYPE]],
  ])('of %s are 400', async (_what, headers) => {
    expectRefusal(await set(message, headers), 400, 'content-type', 'SetPIN')
  })

  test.each(['gzip, chunked', 'identity, chunked', 'x, chunked'])(
    'that come in a coding besides the chunks are 400: %s',
    async coding => {
      const body = await world.iso0()
      const chunks = `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`
      const headers = [bearer, TYPE, `Transfer-Encoding: ${coding}`]
      expectRefusal(await send(`PUT ${PIN}`, headers, chunks), 400, 'content-encoding', 'SetPIN')
    },
  )

  test('that are compressed are 400', async () => {
    const body = gzipSync(message).toString('latin1')
    for (const codings of ['gzip', 'identity, gzip', ', identity, br']) {
      world.events.length = 0
      const answer = await set(body, [TYPE, `Content-Encoding: ${codings}`])
      expectRefusal(answer, 400, 'content-encoding', 'SetPIN')
    }
  })

  const LONG = JSON.stringify({ type: 'ISO0', encryptedPinBlock: 'x'.repeat(16_384) })
  test('that are too long are 400, by what they say and by what they are', async () => {
    expectRefusal(await set(LONG), 400, 'body-size', 'SetPIN')
    world.events.length = 0
    expectRefusal(await chunked([LONG.slice(0, 9000), LONG.slice(9000)]), 400, 'body-size', 'SetPIN')
    world.events.length = 0
    const announced = 'Content-Length: 99999999999999'
    expectRefusal(await send(`PUT ${PIN}`, [bearer, TYPE, announced], message), 400, 'body-size', 'SetPIN')
  })

  test('that go on and on are cut off', async () => {
    const socket = wire.connect()
    const closed = new Promise(resolve => socket.once('close', resolve))
    let received = ''
    socket.on('data', chunk => (received += chunk)).on('error', () => {})
    socket.write(
      `PUT ${PIN} HTTP/1.1\r\nHost: x\r\n${bearer}\r\n${TYPE}\r\nTransfer-Encoding: chunked\r\n\r\n`,
    )
    const more = setInterval(() => socket.write(`1000\r\n${'x'.repeat(4096)}\r\n`), 1)
    await closed
    clearInterval(more)
    expect(received).toMatch(/^HTTP\/1.1 400 .*connection: close/is)
    expect(world.last).toMatchObject({ refusal: { reason: 'body-size' } })
  })

  const twice = '{"type":"ISO0","type":"3DES_SECCOS","encryptedPinBlock":"x"}'
  test.each([
    ['nothing', 'body', ''],
    ['no JSON', 'body', 'PIN=1234'],
    ['half a message', 'body', '{"type":"ISO0","encryptedPinBl'],
    ['an array', 'body', '[]'],
    ['a string', 'body', '"ISO0"'],
    ['a member twice', 'body', twice],
    ['__proto__', 'body', '{"__proto__":{"type":"ISO0"},"encryptedPinBlock":"x"}'],
    ['a byte order mark', 'body', '\xef\xbb\xbf{}'],
    ['no UTF-8', 'body', '{"type":"\xff"}'],
    ['depth', 'body', `${'{"a":'.repeat(500)}1${'}'.repeat(500)}`],
    ['no type', 'type', '{"encryptedPinBlock":"x"}'],
    ['another type', 'type', '{"type":"ISO3","encryptedPinBlock":"x"}'],
    ['a type that is a list', 'type', '{"type":["ISO0"],"encryptedPinBlock":"x"}'],
    ['a type in small letters', 'type', '{"type":"iso0","encryptedPinBlock":"x"}'],
    ['no block', 'encryptedPinBlock', '{"type":"ISO0"}'],
    ['a block that is a number', 'encryptedPinBlock', '{"type":"ISO0","encryptedPinBlock":1}'],
    ['a long block', 'encryptedPinBlock', `{"type":"ISO0","encryptedPinBlock":"${'x'.repeat(8193)}"}`],
  ])('of %s are 400, and the event names %s', async (_what, field, body) => {
    expectRefusal(await set(body), 400, 'message', 'SetPIN')
    expect(world.last.refusal).toEqual({ reason: 'message', code: 'ERR_D1_MESSAGE', field })
  })

  test('that stop coming are 400 when their time is over, and hold nobody up', async () => {
    const clock = new ManualClock()
    const patient = await new Wire(world.handler({ clock, bodyTimeoutMs: 1200 })).open()
    const head = `PUT ${PIN} HTTP/1.1\r\nHost: x\r\n${bearer}\r\n${TYPE}\r\nContent-Length: 500\r\n\r\n`
    let answered = false
    const loris = patient.raw(`${head}{"type":`).finally(() => {
      answered = true
    })
    await until(() => clock.pending().includes(1200))
    const headers = await world.authorized(JSON_TYPE)
    expect(await patient.ask(PIN, { method: 'PUT', headers, body: message })).toMatchObject({ status: 204 })
    await clock.advance(1199)
    expect(answered).toBe(false)
    await clock.advance(1)
    const received = await loris
    expect(received).toMatch(/^HTTP\/1.1 400 .*connection: close.*\{"error":"Bad request"\}$/is)
    expect(world.last.refusal).toEqual({ reason: 'body-timeout' })
    await patient.close()
  })

  test('that come a byte at a time are 400 as well', async () => {
    const clock = new ManualClock()
    const patient = await new Wire(world.handler({ clock, bodyTimeoutMs: 1200 })).open()
    const socket = patient.connect()
    const closed = new Promise(resolve => socket.once('close', resolve))
    let received = ''
    socket.on('data', chunk => (received += chunk)).on('error', () => {})
    socket.write(`PUT ${PIN} HTTP/1.1\r\nHost: x\r\n${bearer}\r\n${TYPE}\r\nContent-Length: 500\r\n\r\n`)
    await until(() => clock.pending().includes(1200))
    // Each byte comes in good time, and all of them do not.
    for (let at = 0; at < 1200; at += 100) {
      socket.write(' ')
      await clock.advance(100)
    }
    await closed
    expect(received).toMatch(/^HTTP\/1.1 400 /)
    expect(world.last.refusal).toEqual({ reason: 'body-timeout' })
    await patient.close()
  })

  test('that are announced behind another request leave each answer whole', async () => {
    const first = `GET ${PIN}x HTTP/1.1\r\nHost: x\r\n\r\n`
    const head = ['Host: x', 'Connection: close', 'Expect: 100-continue', 'Content-Length: 2']
    const received = await wire.raw(`${first}${[`PUT ${PIN} HTTP/1.1`, ...head, '', '{}'].join('\r\n')}`)
    const answers = received.split(/(?=HTTP\/1\.1 )/)
    expect(answers.map(answer => answer.slice(9, 12))).toEqual(['404', '100', '401'])
    const [head404, , head401] = answers.map(answer => answer.split('\r\n\r\n'))
    expect(head404?.[1]).toBe('{"error":"Not found"}')
    expect(head401?.[1]).toBe('{"error":"Unauthorized"}')
  })

  test('that break off store nothing', async () => {
    const { writes } = world.pins
    const socket = wire.connect()
    socket.on('error', () => {})
    const head = `PUT ${PIN} HTTP/1.1\r\nHost: x\r\n${bearer}\r\n${TYPE}\r\nContent-Length: 500\r\n\r\n`
    const { begun } = world
    socket.write(head + message.slice(0, 100))
    await expect.poll(() => world.begun).toBe(begun + 1)
    socket.destroy()
    await expect.poll(() => world.events.length).toBe(1)
    expect(['body-broken', 'client-gone']).toContain(world.last.refusal?.reason)
    expect(world.pins.writes).toBe(writes)
  })

  test('of a GET are not looked at', async () => {
    expect(await send(`GET ${PIN}`, [bearer, 'Content-Length: 2'], '{}')).toMatchObject({ status: 200 })
  })
})

describe('token requests', () => {
  const GRANT = 'grant_type=client_credentials'
  const FORM = `Content-Type: ${FORM_TYPE['content-type']}`
  const post = (body: string, headers: readonly string[] = [`Authorization: ${basic()}`, FORM]) =>
    send(`POST ${TOKEN_PATH}`, [...headers, `Content-Length: ${Buffer.byteLength(body, 'latin1')}`], body)
  const pair = `${CLIENT.clientId}:${CLIENT.clientSecret}`

  test.each([
    ['padded base64', Buffer.from(pair).toString('base64')],
    ['base64 without padding', Buffer.from(pair).toString('base64').replace(/=+$/, '')],
    ['base64url', Buffer.from(pair).toString('base64url')],
    ['base64url, padded', Buffer.from(pair).toString('base64url').padEnd(44, '=')],
  ])('take %s', async (_what, text) => {
    expect(text.length % 4 === 0 || !text.includes('=')).toBe(true)
    for (const scheme of ['Basic', 'basic', 'BASIC']) {
      const reply = await post(GRANT, [`Authorization: ${scheme} ${text}`, FORM])
      expect(reply.status).toBe(200)
      expect(reply.headers).toMatchObject({ 'cache-control': 'no-store', pragma: 'no-cache' })
    }
  })

  test.each([
    ['nothing', []],
    ['a bearer token', ['Authorization: Bearer abc']],
    ['an unknown client', [`Authorization: ${basic('d1', CLIENT.clientSecret)}`]],
    ['a wrong secret', [`Authorization: ${basic(CLIENT.clientId, `${CLIENT.clientSecret}x`)}`]],
    ['no colon', [`Authorization: Basic ${Buffer.from('d1-client').toString('base64')}`]],
    ['a control character', [`Authorization: ${basic(CLIENT.clientId, `${CLIENT.clientSecret}\n`)}`]],
    ['padding of a wrong length', [`Authorization: Basic ${Buffer.from(pair).toString('base64url')}==`]],
    [
      'an impossible length',
      [`Authorization: Basic ${Buffer.from(pair).toString('base64url').slice(0, 41)}`],
    ],
    ['two alphabets in one', ['Authorization: Basic ab+_cdef']],
    ['no UTF-8', [`Authorization: Basic ${Buffer.from([0xff, 0x3a]).toString('base64')}`]],
    ['5000 characters', [`Authorization: Basic ${'A'.repeat(5000)}`]],
    ['the header twice', [`Authorization: ${basic()}`, `Authorization: ${basic()}`]],
  ])('401 with %s', async (_what, headers) => {
    const reply = await post(GRANT, [...headers, FORM])
    expect(reply.status).toBe(401)
    expectContract('getToken', reply)
    expect(reply.body).toEqual({ error: 'invalid_client' })
    expect(reply.headers['www-authenticate']).toBe('Basic realm="oauth2", charset="UTF-8"')
    expect(world.last).toMatchObject({ refusal: { reason: 'client-credentials' } })
    world.expectSilence(reply.text)
  })

  test.each([
    ['no grant', '', 'invalid_request'],
    ['an empty grant', 'grant_type=', 'invalid_request'],
    ['a grant twice', `${GRANT}&${GRANT}`, 'invalid_request'],
    ['JSON in the form', '{"grant_type":"client_credentials"}', 'invalid_request'],
    ['no UTF-8', `${GRANT}\xff`, 'invalid_request'],
    ['4097 bytes', `${GRANT}&x=`.padEnd(4097, 'x'), 'invalid_request'],
    ['another grant', 'grant_type=authorization_code', 'unsupported_grant_type'],
    ['a scope with a control character', `${GRANT}&scope=a%00`, 'invalid_scope'],
    ['a scope with two spaces', `${GRANT}&scope=a++b`, 'invalid_scope'],
    ['a second way to authenticate', `${GRANT}&client_secret=x`, 'invalid_request'],
    ['an assertion besides', `${GRANT}&client_assertion=x`, 'invalid_request'],
    ['another client', `${GRANT}&client_id=other`, 'invalid_request'],
  ])('400 for %s', async (_what, body, error) => {
    const reply = await post(body)
    expect(reply.body).toEqual({ error })
    expect(reply.status).toBe(400)
    expectContract('getToken', reply)
  })

  test.each([
    ['JSON', 'Content-Type: application/json'],
    ['nothing', 'X-Nothing: 0'],
  ])('400 for a body of type %s', async (_what, type) => {
    const reply = await post(GRANT, [`Authorization: ${basic()}`, type])
    expect(reply).toMatchObject({ status: 400, body: { error: 'invalid_request' } })
  })

  test.each([
    ['unknown parameters', `${GRANT}&x=y&client_id=${CLIENT.clientId}`],
    ['an empty scope', `${GRANT}&scope=`],
    ['4096 bytes', `${GRANT}&x=`.padEnd(4096, 'x')],
  ])('200 with %s', async (_what, body) => {
    const reply = await post(body)
    expect(reply.status).toBe(200)
    expectContract('getToken', reply)
    expect(reply.body).not.toHaveProperty('scope')
  })

  test('a scope that is not granted is answered with what is', async () => {
    const reply = await post(`${GRANT}&scope=pin.read+pin.write`)
    expect(reply).toMatchObject({ status: 200, body: { scope: '' } })
    expectContract('getToken', reply)
  })

  test('a slow one is 400', async () => {
    const clock = new ManualClock()
    const patient = await new Wire(world.handler({ clock, bodyTimeoutMs: 1200 })).open()
    const slow = patient.raw(
      `POST ${TOKEN_PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: ${basic()}\r\n${FORM}\r\nContent-Length: 50\r\n\r\ngrant`,
    )
    await until(() => clock.pending().includes(1200))
    await clock.advance(1200)
    expect(await slow).toMatch(/^HTTP\/1.1 400 .*invalid_request/is)
    expect(world.last.refusal).toEqual({ reason: 'body-timeout' })
    await patient.close()
  })
})

test('after all that, the issuer still answers', async () => {
  const headers = await world.authorized(JSON_TYPE)
  expect(await wire.ask(PIN, { headers })).toMatchObject({ status: 200 })
})
