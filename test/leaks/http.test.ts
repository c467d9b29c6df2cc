/**
 * Over HTTP: what the issuer's endpoints answer and tell their audit hook, and what D1's client throws, tells its hook
 * and puts into results, when everything around them quotes the secrets it was given.
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { PassThrough } from 'node:stream'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import * as d1 from '../../src/d1.js'
import { Pan } from '../../src/index.js'
import { makeCertificates } from '../d1/endpoints/support/certificates.js'
import { hostileValues, places, replaced } from './hostile.js'
import { leaksOf, outcomeOf } from './look.js'
import * as secret from './secrets.js'
import { openSoftware, profile, quoting, quotingBackend, type World, worldOn } from './world.js'

const HOSTILE = hostileValues(secret.planted)
const d1Public = { kty: 'EC', crv: 'P-256', x: secret.d1.x, y: secret.d1.y, kid: 'D1' } as const
const path = (cardId: string, more = ''): string =>
  `https://issuer.test/cms/api/v1/issuers/is_tbank01/cards/${cardId}/pin${more}`
const TOKEN = 'https://issuer.test/authz/d1/v1/oauth2/token'
const all = secret.planted.texts.join(' ')
const iso0 = (): string =>
  JSON.stringify({
    type: 'ISO0',
    encryptedPinBlock: secret.sealed(
      JSON.stringify({ pinValue: secret.sharedBlock.toString('hex').toUpperCase(), kid: 'ZPK' }),
    ),
  })
const basic = (id: string, password: string): string =>
  `Basic ${Buffer.from(`${id}:${password}`).toString('base64')}`
const put = (body: string | Uint8Array, headers: Record<string, string> = {}): RequestInit => ({
  method: 'PUT',
  headers: { 'content-type': 'application/json', ...headers },
  body: body as string,
})

/** Requests, right and wrong, with secrets wherever a sender can put something. */
const REQUESTS: Readonly<Record<string, () => Request>> = {
  'Get PIN': () => new Request(path('card-1')),
  'Get PIN of a card that is a PAN': () => new Request(path(secret.pan)),
  'Get PIN with a query': () => new Request(`${path('card-1')}?pin=${secret.pin}`),
  'Get PIN with a correlation id': () =>
    new Request(path('card-1'), { headers: { 'x-correlation-id': `a ${secret.pan}` } }),
  'Set PIN': () => new Request(path('card-1'), put(iso0())),
  'Set PIN of a card that is not there': () => new Request(path('none'), put(iso0())),
  'Set PIN of another card': () => new Request(path('card-2'), put(iso0())),
  'Set PIN in clear': () =>
    new Request(
      path('card-1'),
      put(JSON.stringify({ type: 'ISO0', encryptedPinBlock: secret.pin, pin: all })),
    ),
  'Set PIN with a type that is a PIN': () =>
    new Request(path('card-1'), put(JSON.stringify({ type: secret.pin, encryptedPinBlock: 'x' }))),
  'Set PIN, no JSON': () => new Request(path('card-1'), put(`{"pin": "${all}`)),
  'Set PIN, bytes': () =>
    new Request(path('card-1'), put(Buffer.concat([secret.clearBlock, Buffer.of(0xff)]))),
  'Set PIN, inside wrong': () =>
    new Request(
      path('card-1'),
      put(
        JSON.stringify({
          type: 'ISO0',
          encryptedPinBlock: secret.sealed(JSON.stringify({ pinValue: all, kid: secret.pan })),
        }),
      ),
    ),
  'Set PIN, 3DES_SECCOS wrong inside': () =>
    new Request(
      path('card-1'),
      put(
        JSON.stringify({
          type: '3DES_SECCOS',
          encryptedPinBlock: secret.sealed(JSON.stringify({ intdatag: all, prwValue: all })),
        }),
      ),
    ),
  'Set PIN with another content type': () =>
    new Request(path('card-1'), put(iso0(), { 'content-type': `text/${secret.pin}` })),
  'the change counter': () => new Request(path('card-1', '/changeCounter')),
  'the token endpoint': () =>
    new Request(TOKEN, {
      method: 'POST',
      headers: {
        authorization: basic('d1-client', secret.clientSecret),
        'content-type': 'application/x-www-form-urlencoded',
      },
      body: 'grant_type=client_credentials',
    }),
  'the token endpoint, another secret': () =>
    new Request(TOKEN, {
      method: 'POST',
      headers: { authorization: basic('d1-client', `${secret.clientSecret}x`) },
      body: 'grant_type=client_credentials',
    }),
  'the token endpoint, a scope that is a secret': () =>
    new Request(TOKEN, {
      method: 'POST',
      headers: {
        authorization: basic('d1-client', secret.clientSecret),
        'content-type': 'application/x-www-form-urlencoded',
      },
      body: new URLSearchParams({ grant_type: all, scope: all }).toString(),
    }),
  'no such path': () => new Request(`https://issuer.test/${encodeURIComponent(secret.pan)}/${secret.pin}`),
}

/** An issuer's own code, which works or throws everything it knows. */
function issuerOf(world: World, fails: boolean) {
  const answer =
    <T>(value: T) =>
    async (...args: unknown[]): Promise<T> => {
      if (fails) throw quoting('issuer', args)
      return value
    }
  const card = (digits: string): d1.Card => ({
    state: 'active',
    pan: Pan.from(digits),
    setPinTypes: ['ISO0', '3DES_SECCOS'],
  })
  const find = async ({ cardId }: d1.CardQuery) =>
    cardId === 'card-1'
      ? card(secret.pan)
      : cardId === 'card-2'
        ? card(`${secret.pan.slice(0, -2)}00`)
        : undefined
  return {
    cards: { find },
    pins: {
      readBlock: answer({ block: Uint8Array.from(secret.storedBlock), kid: 'STORE' }),
      acceptBlock: answer<d1.BlockAcceptance>({ outcome: 'stored' }),
      storePrw: answer(undefined),
    },
    jweKeys: world.keys.jwe,
    iso0: { d1Zpk: world.keys.zpk, storage: world.keys.store, d1PublicJwk: d1Public },
    seccos: { profile, macKeys: world.keys.mac, prwKids: ['PRW-G'], counter: world.counter },
  }
}

describe('the endpoints show no secret', () => {
  let world: World
  let broken: World
  let tokens: d1.OwnTokens
  beforeAll(async () => {
    world = await worldOn(await openSoftware())
    broken = await worldOn(await quotingBackend())
    tokens = await d1.ownTokens({
      algorithm: 'HS256',
      keys: [{ kty: 'oct', kid: 'T', k: secret.tokenKey }],
      issuer: 'https://issuer.test',
      audience: 'https://issuer.test/pin',
      lifetimeSeconds: 900,
    })
  })
  afterAll(() => world.backend.close())

  const verifier = { verify: (token: string) => Promise.reject(quoting('verify', [token])) }
  const KINDS: Readonly<
    Record<
      string,
      {
        fails: boolean
        backend: 'good' | 'broken'
        authorization: (tokens: d1.OwnTokens) => d1.Authorization
      }
    >
  > = {
    'where all is well': { fails: false, backend: 'good', authorization: () => 'anyone-who-reaches-it' },
    'with bearer tokens': { fails: false, backend: 'good', authorization: tokens => byToken(tokens) },
    'with a verifier that throws the token': {
      fails: false,
      backend: 'good',
      authorization: () => byToken(verifier),
    },
    'over a store that throws everything': {
      fails: true,
      backend: 'good',
      authorization: () => 'anyone-who-reaches-it',
    },
    'over a backend that throws everything': {
      fails: false,
      backend: 'broken',
      authorization: () => 'anyone-who-reaches-it',
    },
  }

  function byToken(tokens: d1.TokenVerifier): d1.Authorization {
    return { callers: [{ name: 'd1', issuers: ['is_tbank01'], tokenSubjects: ['d1'] }], tokens }
  }

  test.each(Object.entries(KINDS))('%s', async (_name, { fails, backend, authorization }) => {
    const on = backend === 'good' ? world : broken
    const { token } = await tokens.issue({ subject: 'd1', scopes: [] })
    const headerSets = [
      {},
      { authorization: `Bearer ${token}` },
      { authorization: `Bearer ${secret.accessToken}` },
    ]
    const authorized = authorization(tokens)
    const events: d1.AuditEvent[] = []
    const causes: unknown[] = []
    const handler = d1.issuerEndpoints({
      issuers: { is_tbank01: issuerOf(on, fails) },
      authorization: authorized,
      ...(authorized !== 'anyone-who-reaches-it' && {
        tokenEndpoint: { tokens, clients: [{ clientId: 'd1-client', clientSecret: secret.clientSecret }] },
      }),
      audit: (event, cause) => {
        events.push(event)
        causes.push(cause)
      },
    })
    expect(leaksOf({ result: handler }, 'the handler')).toEqual([])
    const statuses = new Set<number>()
    for (const [name, make] of Object.entries(REQUESTS)) {
      for (const headers of headerSets) {
        const request = make()
        for (const [header, value] of Object.entries(headers)) request.headers.set(header, value)
        const response = await handler(request, { encrypted: true, authorized: false })
        statuses.add(response.status)
        const seen = { headers: [...response.headers], body: await response.text(), event: events.at(-1) }
        expect(leaksOf({ result: seen }, name)).toEqual([])
        const attributes = d1.otelAttributes(events.at(-1) ?? expect.fail('no event'))
        expect(leaksOf({ result: attributes }, name)).toEqual([])
        expect(JSON.stringify(events)).not.toContain(token)
      }
    }
    expect(events).toHaveLength(headerSets.length * Object.keys(REQUESTS).length)
    expect(statuses.size).toBeGreaterThan(1)
    // An error of ours shows nothing; one of the issuer's own code reaches the hook as it was thrown, and nothing else.
    for (const cause of causes) {
      const own = cause instanceof Error && !('args' in cause)
      if (own) expect(leaksOf({ error: cause }, 'the cause')).toEqual([])
    }
    if (fails) expect(causes.some(cause => cause instanceof Error && 'args' in cause)).toBe(true)
  })

  test('and answerClientError none of what was no HTTP', async () => {
    const socket = new PassThrough()
    d1.answerClientError(new Error(all), socket)
    expect(leaksOf({ result: String(socket.read()) }, 'answerClientError')).toEqual([])
  })
})

/** A D1 that answers as it is told, without a network. */
type Answer = { status: number; body?: string; retryAfter?: string } | Error
function fetchOf(card: Answer, token: Answer = { status: 200, body: TOKEN_BODY }): d1.D1Fetch {
  return async (url, init) => {
    const answer = url.includes('oauth2') ? token : card
    if (answer instanceof Error) {
      throw Object.assign(answer, { cause: quoting(url, [init.headers, init.body]), url, init })
    }
    const { status, body = '', retryAfter = null } = answer
    const quoted = body.replace('%QUOTE%', () =>
      JSON.stringify([init.headers, init.body]).replaceAll('"', "'"),
    )
    return {
      status,
      headers: { get: name => (name === 'retry-after' ? retryAfter : null) },
      body: (async function* () {
        yield Buffer.from(quoted)
      })(),
    }
  }
}
const TOKEN_BODY = JSON.stringify({ access_token: secret.accessToken, token_type: 'Bearer', expires_in: 900 })

const ANSWERS: Readonly<Record<string, readonly [card: Answer, token?: Answer]>> = {
  'that is right': [{ status: 200, body: '{"cardId":"card-1"}' }],
  'that quotes the request in its error': [
    { status: 400, body: `{"errorCode":"E1","error":"%QUOTE% ${all}"}` },
  ],
  'whose errorCode is a PAN': [{ status: 400, body: `{"errorCode":"${secret.pan}"}` }],
  'that is no JSON': [{ status: 200, body: `{"a": ${all}` }],
  'that redirects': [{ status: 302, body: all }],
  'that fails': [{ status: 500, body: `%QUOTE% ${all}` }],
  'that is too long': [{ status: 200, body: all.repeat(1000) }],
  'that asks for a token again': [{ status: 401, body: '%QUOTE%' }],
  'that waits for a strange time': [{ status: 429, retryAfter: all }],
  'that never comes': [new Error(all)],
  'whose token request is refused': [
    { status: 200 },
    { status: 400, body: `{"error":"invalid_grant","error_description":"%QUOTE% ${all}"}` },
  ],
  'whose token error is a secret': [
    { status: 200 },
    { status: 400, body: JSON.stringify({ error: secret.accessToken, error_uri: all }) },
  ],
  'whose token is none': [
    { status: 200 },
    { status: 200, body: JSON.stringify({ access_token: all, token_type: all, expires_in: all }) },
  ],
  'whose token request never ends well': [{ status: 200 }, new Error(all)],
}
const clock: d1.Clock = {
  now: () => 1_700_000_000_000,
  elapsed: () => performance.now() * 1000,
  after: (ms, callback) => {
    const timer = setTimeout(callback, ms / 1000)
    return () => clearTimeout(timer)
  },
}

describe("D1's client shows no secret", () => {
  const fields = () => ({ consumerId: 'consumer-1', cardProductId: 'debit' })
  const registration = () => ({ ...fields(), pan: Pan.from(secret.pan), exp: '1229' })
  const operations = ({
    cards,
  }: d1.D1Client): Readonly<
    Record<string, readonly [(...args: never[]) => unknown, () => readonly unknown[]]>
  > => ({
    create: [cards.create, () => [{ card: fields() }, {}]],
    register: [cards.register, () => [{ cardId: 'card-1', card: registration() }, {}]],
    renew: [cards.renew, () => [{ cardId: 'card-1', body: { reason: 'x' } }, {}]],
    replace: [cards.replace, () => [{ cardId: 'card-1', body: { reason: 'x' } }, {}]],
    delete: [cards.delete, () => [{ cardId: 'card-1', body: { reason: 'x' } }, {}]],
    registerMany: [cards.registerMany, () => [[{ cardId: 'card-1', card: registration() }], {}]],
  })
  const clientOf = async (fetch: d1.D1Fetch, audits: unknown[]): Promise<d1.D1Client> => {
    const { privateKey, ...options } = {
      privateKey: secret.signing,
      environment: { api: 'https://d1.test/banking', auth: 'https://d1.test/authz' },
      issuerId: 'is_tbank01',
      d1PublicJwk: d1Public,
      maxAttempts: 2,
      clock,
      fetch,
      audit: (event: unknown, cause: unknown) => void audits.push([event, cause]),
    }
    return d1.d1Client({ ...options, signer: d1.softwareSigner({ kid: 'SIGN', privateKey }) })
  }

  test.each(Object.entries(ANSWERS))('of an answer %s', async (_name, [card, token]) => {
    const audits: unknown[] = []
    const client = await clientOf(fetchOf(card, token), audits)
    for (const [operation, [call, args]] of Object.entries(operations(client))) {
      const outcome = await outcomeOf(() => Reflect.apply(call, client.cards, [...args()]))
      expect(leaksOf(outcome, operation)).toEqual([])
    }
    expect(leaksOf({ result: client }, 'the client')).toEqual([])
    expect(leaksOf({ result: audits }, 'the audit hook')).toEqual([])
  })

  test('with wrong arguments in every place', async () => {
    const audits: unknown[] = []
    const client = await clientOf(fetchOf({ status: 200, body: '{}' }), audits)
    const leaks: string[] = []
    for (const [operation, [call, args]] of Object.entries(operations(client))) {
      for (const at of places(args())) {
        for (const { name, value } of HOSTILE) {
          const outcome = await outcomeOf(() =>
            Reflect.apply(call, client.cards, replaced(args(), at, value)),
          )
          // A name of the caller's that D1 was sent is in the answer: the correlation id, the card's id.
          if ('error' in outcome) leaks.push(...leaksOf(outcome, `${operation}, ${name} as ${at.join('.')}`))
        }
      }
    }
    expect(leaks).toEqual([])
  })
})

describe('mtlsFetch and nodeListener show no secret', () => {
  const { client } = makeCertificates()

  test('with a key that is right, encrypted, or none', async () => {
    const secrets = { ...client, passphrase: secret.clientSecret }
    using fetch = d1.mtlsFetch(client)
    expect(leaksOf({ result: fetch }, 'mtlsFetch')).toEqual([])
    const body = client.key.split('\n')[1] ?? ''
    const { everythingShown } = await import('./shown.js')
    expect(everythingShown(fetch)).not.toContain(body)
    const leaks: string[] = []
    for (const at of places([secrets])) {
      for (const { name, value } of HOSTILE) {
        const outcome = await outcomeOf(() =>
          d1.mtlsFetch(replaced([secrets], at, value)[0] as d1.MtlsOptions),
        )
        leaks.push(...leaksOf(outcome, `mtlsFetch, ${name} as ${at.join('.')}`))
        expect(everythingShown(outcome)).not.toContain(body)
        if ('result' in outcome) (outcome.result as d1.MtlsFetch).close()
      }
    }
    expect(leaks).toEqual([])
  })

  test('over a handler that throws everything', async () => {
    const server = createServer(d1.nodeListener(() => Promise.reject(quoting('handler', []))))
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    const outcome = await outcomeOf(() => fetch(`http://127.0.0.1:${port}/`))
    server.closeAllConnections()
    server.close()
    expect('error' in outcome).toBe(true)
    expect(leaksOf(outcome, 'the connection')).toEqual([])
  })
})
