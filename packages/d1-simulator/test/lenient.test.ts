/**
 * Issuers that overlook one thing each, the very thing that a case is about: what came is taken for what D1 would have sent without it, and
 * is answered. Such a case must fail with that answer. A case that sends anything else, or something that is wrong in more than one thing, is
 * refused for the rest, passes whatever the issuer overlooks, and is found here.
 *
 * What is inside of a JWE has its twin in sound.test.ts.
 */
import { readFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import tls from 'node:tls'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { BODIES } from '../src/cases-set-iso0.js'
import { ISO0_MESSAGES, SECCOS_MESSAGES } from '../src/inside.js'
import { CASES, fullName, runCase } from '../src/run.js'
import { loadSetup } from '../src/setup.js'
import { Wire } from '../src/wire.js'
import { World } from '../src/world.js'
import { certificates, ISSUER, type Issuer, openIssuer } from './support/issuer.js'

interface Leniency {
  /** What is overlooked before a header or a body is read. */
  readonly incoming?: (request: IncomingMessage) => void
  readonly request?: (request: Request) => Request | Response | Promise<Request>
  readonly got: RegExp
}

let issuer: Issuer
let world: World
let lenient: Partial<Leniency> = {}
/** Of D1. */
let token = ''
let client = { id: '', secret: '' }

beforeAll(async () => {
  issuer = await openIssuer({
    incoming: request => lenient.incoming?.(request),
    handler:
      ({ handler }) =>
      async (request, connection) => {
        const read = (await lenient.request?.(request)) ?? request
        return read instanceof Response ? read : handler(read, connection)
      },
  })
  const setup = loadSetup({ config: issuer.config }, () => {})
  world = new World(setup, new Wire(setup))
  client = setup.client ?? expect.fail()
  token = await world.token()
})
afterAll(async () => {
  world.wire.close()
  await issuer.close()
})

const GET_PIN = `/cms/api/v1/issuers/${ISSUER}/cards/iso0-1/pin`
const COUNTER = GET_PIN.replace('iso0-1', 'seccos-1').concat('/changeCounter')

/** Whatever the one path is, it is the other. */
const path = (wrong: string, sound = GET_PIN): Leniency => ({
  incoming: request => {
    if (request.url === wrong) request.url = sound
  },
  got: /^200$/,
})

const card = (wrong: string): Leniency => path(GET_PIN.replace('iso0-1', wrong))

/** One method is another. */
const method = (wrong: string, suffix: string, got: RegExp): Leniency => ({
  incoming: request => {
    if (request.method === wrong && request.url === `${GET_PIN}${suffix}`) request.method = 'GET'
  },
  got,
})

const withHeader = (request: Request, name: string, value: string): Request => {
  const headers = new Headers(request.headers)
  headers.set(name, value)
  return new Request(request, { headers })
}

/** Of another length than was said. */
const withBody = (request: Request, text: string | Buffer): Request => {
  const headers = new Headers(request.headers)
  headers.delete('content-length')
  return new Request(request.url, { method: request.method, headers, body: text })
}

/** An Authorization of this form is as good as D1's token. */
const authorization = (fits: (given: string | null) => boolean, got = /^200$/): Leniency => ({
  request: request =>
    fits(request.headers.get('authorization'))
      ? withHeader(request, 'authorization', `Bearer ${token}`)
      : request,
  got,
})

interface Jwt {
  readonly header: Readonly<Record<string, unknown>>
  readonly claims: Readonly<Record<string, unknown>>
  readonly signature: string
}

function jwtOf(text: string): Jwt {
  const [header, claims] = text
    .split('.', 2)
    .map(part => JSON.parse(Buffer.from(part, 'base64url').toString()))
  return { header, claims, signature: text.split('.')[2] ?? '' }
}

/** The time is right: who looks at nothing but claims takes it. */
const isAlive = ({ claims }: Jwt): boolean => Number(claims['exp']) > Date.now() / 1000
const same = (a: object, b: object, but: object = {}): boolean =>
  JSON.stringify({ ...a, ...but }) === JSON.stringify({ ...b, ...but })

/** A JWT that differs from D1's in what a function looks for, and in nothing else. */
const jwt = (fits: (given: Jwt, sound: Jwt) => boolean): Leniency =>
  authorization(given => {
    const text = /^Bearer ([\w-]+\.[\w-]+\.[\w-]*)$/.exec(given ?? '')?.[1]
    return text !== undefined && text !== token && isAlive(jwtOf(text)) && fits(jwtOf(text), jwtOf(token))
  })

const unsigned = (alg: string): Leniency =>
  jwt(
    (given, sound) =>
      given.signature === '' &&
      same(given.header, { ...sound.header, alg }) &&
      same(given.claims, sound.claims, { exp: 0 }),
  )

const GRANT = 'grant_type=client_credentials'
const base64 = (text: string): string => Buffer.from(text).toString('base64')

/** Credentials of this form are as good as D1's, and the token is given for them. */
const credentials = (
  fits: (given: string | null, body: string) => boolean,
  body: (given: string) => string = given => given,
): Leniency => ({
  request: async request => {
    if (!request.url.endsWith('/token')) return request
    const text = await request.clone().text()
    if (!fits(request.headers.get('authorization'), text)) return request
    const sound = withHeader(request, 'authorization', `Basic ${base64(`${client.id}:${client.secret}`)}`)
    return withBody(sound, body(text))
  },
  got: /^200$/,
})

/** A pair of this form; the last character of what is wrong is another. */
const pair = (make: (id: string, secret: string) => string): Leniency =>
  credentials(given => {
    const text = Buffer.from((given ?? '').replace(/^Basic /, ''), 'base64').toString()
    const wrong = make(client.id, client.secret)
    const pattern = wrong.split('?').map(part => part.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`))
    return new RegExp(`^${pattern.join('.')}$`).test(text) && text !== `${client.id}:${client.secret}`
  })

/** D1's own credentials, with a body of this form. */
const grant = (fits: (body: string) => boolean): Leniency => {
  const { request, got } = credentials(
    (given, body) => given === `Basic ${base64(`${client.id}:${client.secret}`)}` && fits(body),
    () => GRANT,
  )
  return {
    request: async asked => {
      const form = withHeader(asked, 'content-type', 'application/x-www-form-urlencoded')
      const read = await (request ?? expect.fail())(asked.url.endsWith('/token') ? form : asked)
      return read as Request
    },
    got,
  }
}

/** A body of Set PIN, a character a byte, read as another. */
const body = (change: (text: string) => string): Leniency => ({
  request: async request => {
    if (request.method !== 'PUT') return request
    const text = Buffer.from(await request.arrayBuffer()).toString('latin1')
    return withBody(request, Buffer.from(change(text), 'latin1'))
  },
  got: /^204$/,
})

const sealed = (change: (text: string) => unknown): Leniency => body(text => JSON.stringify(change(text)))

/** A header of Set PIN that is passed over. */
const header = (name: string, wrong: string, sound: string): Leniency => ({
  request: request => (request.headers.get(name) === wrong ? withHeader(request, name, sound) : request),
  got: /^204$/,
})

/** Whoever does not look for what stands in there falls over it. */
const label = (value: string): Leniency => ({
  request: request =>
    request.headers.get('x-correlation-id') === value
      ? new Response('{"error":"RangeError"}', {
          status: 500,
          headers: { 'content-type': 'application/json' },
        })
      : request,
  got: /^500$/,
})

const LENIENCIES: Readonly<Record<string, Leniency>> = {
  'token: a wrong secret': pair((id, secret) => `${id}:${secret.slice(0, -1)}?`),
  'token: a secret cut off': pair((id, secret) => `${id}:${secret.slice(0, -1)}`),
  'token: an unknown client': pair((id, secret) => `${id.slice(0, -1)}?:${secret}`),
  'token: no secret': pair(id => `${id}:`),
  'token: credentials that are not base64': credentials(
    given => given === `Basic ${client.id}:${client.secret}`,
  ),
  'token: another scheme': credentials(
    given => given === `Bearer ${base64(`${client.id}:${client.secret}`)}`,
  ),
  'token: no credentials': credentials((given, text) => given === null && text === GRANT),
  'token: credentials in the body': credentials(
    (given, text) =>
      given === null &&
      new URLSearchParams(text).get('client_id') === client.id &&
      new URLSearchParams(text).get('client_secret') === client.secret,
    text => text.split('&client_id')[0] ?? '',
  ),
  'token: no grant_type': grant(text => text === 'scope=pin'),
  'token: another grant_type': grant(text => text.startsWith('grant_type=password&')),
  'token: grant_type twice': grant(text => text === `${GRANT}&${GRANT}`),
  'token: an empty body': grant(text => text === ''),
  'token: JSON in place of a form': grant(text => text === '{"grant_type":"client_credentials"}'),
  'token: a form of 64 KB': grant(text => text.length > 65_536 && text.startsWith(`${GRANT}&`)),
  'token: GET in place of POST': {
    request: request =>
      request.method === 'GET' && request.url.endsWith('/token?')
        ? new Request(request.url.slice(0, -1), {
            method: 'POST',
            headers: {
              ...Object.fromEntries(request.headers),
              'content-type': 'application/x-www-form-urlencoded',
            },
            body: GRANT,
          })
        : request,
    got: /^200$/,
  },
  'authorization: no token at all': authorization(given => given === null),
  'authorization: no token, for a card that does not exist': authorization(given => given === null, /^404$/),
  'authorization: no token, Set PIN': authorization(given => given === null, /^400$/),
  'authorization: a token that is none': authorization(given => given === 'Bearer x'),
  'authorization: another scheme': authorization(given => given === `Basic ${token}`),
  'authorization: two tokens': authorization(given => given === `Bearer ${token} ${token}`),
  'authorization: two headers, both good': authorization(
    given => given === `Bearer ${token}, Bearer ${token}`,
  ),
  'authorization: a token of 7,000 characters': authorization(
    given => given === `Bearer ${token}${'x'.repeat(7000)}`,
  ),
  'authorization: the token in the query': {
    incoming: request => {
      if (request.url === `${GET_PIN}?access_token=${token}`)
        request.rawHeaders.push('Authorization', `Bearer ${token}`)
    },
    got: /^200$/,
  },
  'authorization: alg none': unsigned('none'),
  'authorization: alg none, in capitals': unsigned('NONE'),
  'authorization: a signature cut off': jwt(
    (given, sound) =>
      given.signature === '' && same(given.header, sound.header) && same(given.claims, sound.claims),
  ),
  'authorization: a signature changed': jwt(
    (given, sound) =>
      given.signature.slice(1) === sound.signature.slice(1) &&
      same(given.header, sound.header) &&
      same(given.claims, sound.claims),
  ),
  'authorization: a foreign key by the known kid': jwt(
    (given, sound) =>
      given.signature.length === 43 &&
      given.signature !== sound.signature &&
      same(given.header, sound.header) &&
      same(given.claims, sound.claims, { exp: 0 }),
  ),
  'authorization: a foreign token': jwt(
    ({ signature, header: { alg, kid }, claims: { iss, aud } }, { claims }) =>
      signature.length === 43 &&
      alg === 'HS256' &&
      kid === 'x' &&
      iss !== claims['iss'] &&
      aud !== claims['aud'],
  ),
  'authorization: claims changed': jwt(
    (given, sound) =>
      given.signature === sound.signature &&
      same(given.header, sound.header) &&
      same(given.claims, sound.claims, { exp: 0 }),
  ),
  'paths: an issuerId of 9 characters': path(GET_PIN.replace(ISSUER, ISSUER.slice(1))),
  'paths: an issuerId of 11 characters': path(GET_PIN.replace(ISSUER, `${ISSUER}x`)),
  'paths: another issuer': path(GET_PIN.replace(ISSUER, '10knabt_si')),
  'paths: a cardId of 49 characters': card('x'.repeat(49)),
  'paths: a cardId of 2,000 characters': card('x'.repeat(2000)),
  'paths: a cardId with a dot': card('iso0-1.'),
  'paths: a cardId in the other letters': card('ISO0-1'),
  "paths: a cardId that is another's pattern in SQL": card('_so0-1'),
  'paths: no such card': card('nobody'),
  'paths: a path parameter': path(`${GET_PIN};x=1`),
  'paths: an escaped slash and dots': card('x%2F..%2Fiso0-1'),
  'paths: escaped twice': card('x%252F..%252Fiso0-1'),
  'paths: an escaped zero byte': card('iso0-1%00'),
  'paths: an escaped line break': card('iso0-1%0d%0ax-injected:%201'),
  'paths: a broken escape': card('iso0-1%'),
  'paths: a backslash': path(GET_PIN.replace('/cards', '\\cards')),
  'paths: an empty id': card(''),
  'paths: a wildcard': card('*'),
  'paths: something after the path': path(`${GET_PIN}/changeCounter/x`),
  'paths: a name of Object.prototype': card('__proto__'),
  'paths: the root': path('/'),
  'paths: POST …/pin': method('POST', '', /^200$/),
  'paths: DELETE …/pin': method('DELETE', '', /^200$/),
  'paths: PATCH …/pin': method('PATCH', '', /^200$/),
  'paths: TRACE …/pin': method('TRACE', '', /^200$/),
  // The card is set as ISO0 alone: it has no counter.
  'paths: PUT …/changeCounter': method('PUT', '/changeCounter', /^403$/),
  'paths: POST …/changeCounter': method('POST', '/changeCounter', /^403$/),
  'http: x-correlation-id of 64 characters': label('A-z_9'.padEnd(64, '0')),
  'http: x-correlation-id of 65 characters': label('x'.repeat(65)),
  'http: x-correlation-id that forges a header': label('a%0d%0ax-injected: 1'),
  'http: x-correlation-id with markup': label('<script>'),
  'get-pin: a card that is not-active': card('not-active'),
  'get-pin: a card that is absent': card('nobody'),
  'set-pin-iso0: a card that does not exist': {
    ...path(GET_PIN.replace('iso0-1', 'nobody')),
    got: /^204$/,
  },
  'messages: a body cut off': body(text => `${text}"}`),
  'messages: a list': sealed(text => JSON.parse(text)[0]),
  'messages: type twice': body(text => text.replace('"type":"3DES_SECCOS",', '')),
  'messages: encryptedPinBlock twice': body(text => text.replace('"encryptedPinBlock":"x",', '')),
  'messages: no type': sealed(text => ({ type: 'ISO0', ...JSON.parse(text) })),
  'messages: a type that is none': body(text => text.replace('"ISO1"', '"ISO0"')),
  'messages: a type in small letters': body(text => text.replace('"iso0"', '"ISO0"')),
  'messages: a type that is a list': body(text => text.replace('["ISO0"]', '"ISO0"')),
  'messages: an encryptedPinBlock in a list': body(text => text.replace(/\[(".*")\]/, '$1')),
  'messages: a body of 64 KB': body(text => text.replace(/,"more":"x{65536}"/, '')),
  'messages: nested 10,000 deep': body(text => text.replace(/"more":\[{10000}\]{10000},/, '')),
  'messages: a byte order mark': body(text => text.replace(/^\xef\xbb\xbf/, '')),
  'messages: bytes that are not UTF-8': body(text => text.replace('"more":"\xff",', '')),
  'messages: content-type text/plain': header('content-type', 'text/plain', 'application/json'),
  'messages: content-type of a form': header(
    'content-type',
    'application/x-www-form-urlencoded',
    'application/json',
  ),
  'messages: content-encoding gzip': header('content-encoding', 'gzip', 'identity'),
  'change-counter: a card that is not-active': path(COUNTER.replace('seccos-1', 'not-active'), COUNTER),
  'change-counter: a card that is pin-change-forbidden': path(
    COUNTER.replace('seccos-1', 'no-change'),
    COUNTER,
  ),
  'change-counter: a card that is absent': path(COUNTER.replace('seccos-1', 'nobody'), COUNTER),
  'change-counter: a card for ISO0 alone': path(COUNTER.replace('seccos-1', 'iso0-1'), COUNTER),
}

test.each(Object.entries(LENIENCIES))(
  '%s: an issuer that overlooks it is found',
  async (name, { got, ...overlooked }) => {
    const item = CASES.find(candidate => fullName(candidate) === name) ?? expect.fail()
    lenient = overlooked
    const result = await runCase(world, item).finally(() => {
      lenient = {}
    })
    expect(result).toMatchObject({ verdict: 'failed', got: expect.stringMatching(got) })
  },
)

/** In place of the server: takes the text apart as little as it must, and hands the rest on as D1 would have sent it. */
async function front(
  overlook: (text: string) => string,
): Promise<{ readonly url: string; close(): Promise<void> }> {
  const { port } = new URL(world.setup.url)
  const { server: own, client: d1, ca } = certificates
  const server = tls.createServer({ ...own, ca, requestCert: true }, socket => {
    const behind = tls.connect({ ...d1, ca, host: 'localhost', port: Number(port) })
    let head: string | undefined = ''
    socket.on('data', data => {
      if (head === undefined) {
        behind.write(data)
        return
      }
      head += data.toString('latin1')
      if (!head.includes('\r\n\r\n')) return
      behind.write(Buffer.from(overlook(head), 'latin1'))
      head = undefined
    })
    behind.pipe(socket)
    socket.on('error', () => {}).on('close', () => behind.destroy())
    behind.on('error', () => {}).on('close', () => socket.destroy())
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const here = typeof address === 'object' ? address?.port : undefined
  return {
    url: `https://localhost:${here}`,
    close: () => new Promise(resolve => server.close(() => resolve())),
  }
}

const HTTP: Readonly<Record<string, (text: string) => string>> = {
  'two lengths': text => text.replace('Content-Length: 0\r\n', ''),
  'a length and chunks': text => text.replace('\r\nTransfer-Encoding: chunked', ''),
  'a negative length': text => text.replace('Content-Length: -1\r\n', ''),
  'a lone CR in a header': text => text.replace('a\rx-injected: b', 'a'),
  'a folded header': text => text.replace('a\r\n b', 'a b'),
  'a zero byte in a header': text => text.replace('a\0b', 'ab'),
  'a space before the colon': text => text.replace('x-correlation-id :', 'x-correlation-id:'),
  'a header of 100 KB': text => text.replace(/x-long: x{100000}\r\n/, ''),
}

test.each(Object.entries(HTTP))('http: %s: an issuer that overlooks it is found', async (name, overlook) => {
  const { url, close } = await front(overlook)
  const setup = { ...world.setup, url }
  const wire = new Wire(setup)
  const item = CASES.find(candidate => fullName(candidate) === `http: ${name}`) ?? expect.fail()
  const result = await runCase(new World(setup, wire), item)
  wire.close()
  await close()
  expect(result).toMatchObject({ verdict: 'failed', got: expect.stringMatching(/^20[04]$/) })
})

test('each case that is about a refusal has an issuer that overlooks what it is about', () => {
  const mutants = readFileSync(new URL('mutants.test.ts', import.meta.url), 'utf8')
  // Holds nothing that anybody could take for D1's.
  const nothing = ['an empty body', 'not JSON', 'null', 'no encryptedPinBlock']
    .concat('an encryptedPinBlock that is null', 'an empty encryptedPinBlock')
    .map(name => `messages: ${name}`)
  const bodies = Object.keys(BODIES).map(name => `messages: ${name}`)
  expect(nothing.filter(name => !bodies.includes(name))).toEqual([])
  const had = [
    ...Object.keys(LENIENCIES),
    ...Object.keys(HTTP).map(name => `http: ${name}`),
    ...Object.keys(ISO0_MESSAGES).map(name => `messages: ${name}`),
    ...Object.keys(SECCOS_MESSAGES).map(name => `set-pin-seccos: ${name}`),
    ...nothing,
    // Seen with its twin in sound.test.ts.
    'messages: an encryptedPinBlock of more than 8,192 characters',
    // Whoever answers that at all speaks no HTTP.
    'http: no HTTP at all',
  ]
  const without = CASES.filter(({ expected }) => /^4\d\d/.test(expected))
    .map(fullName)
    .filter(name => !had.includes(name) && !mutants.includes(name))
  expect(without).toEqual([])
})
