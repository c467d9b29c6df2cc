/**
 * Every operation and every status of the contract as a table, and the tests that run it over real TLS sockets with
 * client certificates. Run by `contract.test.ts` on the software backend, and by `native-test/d1` on tokens.
 */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { healthEndpoints, readinessChecks } from '../../../../src/d1.js'
import { CONTRACT, expectContract, type Operation } from './contract.js'
import { type Ask, certificates, type Reply, type TlsVersion, Wire } from './wire.js'
import {
  basic,
  counterPath,
  FORM_TYPE,
  JSON_TYPE,
  NEW_PIN,
  OTHER_ISSUER,
  PANS,
  PIN,
  pinPath,
  TOKEN_PATH,
  type World,
} from './world.js'

interface Row {
  readonly what: string
  readonly operation: Operation
  readonly status: number
  readonly path: string
  readonly ask?: (world: World) => Ask | Promise<Ask>
  /** Without a bearer token. */
  readonly bare?: true
  readonly body?: object
}

const put = (make: (world: World) => Promise<string>) => async (world: World) => ({
  method: 'PUT',
  headers: JSON_TYPE,
  body: await make(world),
})
const iso0 = put(world => world.iso0())
const seccos = (cardId: string) => put(world => world.seccos(cardId))
const token =
  (body: string, authorization = basic()) =>
  () => ({
    method: 'POST',
    headers: { ...FORM_TYPE, authorization },
    body,
  })
const forbidden = { error: 'Forbidden' }
const GRANT = 'grant_type=client_credentials'

const ROWS: readonly Row[] = [
  { what: 'a PIN', operation: 'getPIN', status: 200, path: pinPath('card-1') },
  {
    what: 'of a card that must not change its PIN',
    operation: 'getPIN',
    status: 200,
    path: pinPath('no-change'),
  },
  {
    what: 'a cardId that cannot be',
    operation: 'getPIN',
    status: 400,
    path: pinPath('card.1'),
    body: { error: 'Bad request' },
  },
  {
    what: 'no token',
    operation: 'getPIN',
    status: 401,
    path: pinPath('card-1'),
    bare: true,
    body: { error: 'Unauthorized' },
  },
  { what: 'not active', operation: 'getPIN', status: 403, path: pinPath('not-active'), body: forbidden },
  { what: 'no PIN to show', operation: 'getPIN', status: 403, path: pinPath('no-pin'), body: forbidden },
  {
    what: 'no such card',
    operation: 'getPIN',
    status: 404,
    path: pinPath('nobody'),
    body: { error: 'Not found' },
  },
  { what: 'no such issuer', operation: 'getPIN', status: 404, path: pinPath('card-1', OTHER_ISSUER) },
  {
    what: 'the directory fails',
    operation: 'getPIN',
    status: 500,
    path: pinPath('directory-fails'),
    body: { error: 'Internal server error' },
  },
  { what: 'the store fails', operation: 'getPIN', status: 500, path: pinPath('store-fails') },
  { what: 'a state that is none', operation: 'getPIN', status: 500, path: pinPath('odd-state') },

  { what: 'ISO0', operation: 'SetPIN', status: 204, path: pinPath('card-1'), ask: iso0 },
  { what: '3DES_SECCOS', operation: 'SetPIN', status: 204, path: pinPath('card-1'), ask: seccos('card-1') },
  {
    what: 'no message',
    operation: 'SetPIN',
    status: 400,
    path: pinPath('card-1'),
    ask: put(async () => '{}'),
  },
  { what: 'no token', operation: 'SetPIN', status: 401, path: pinPath('card-1'), ask: iso0, bare: true },
  {
    what: 'not active',
    operation: 'SetPIN',
    status: 403,
    path: pinPath('not-active'),
    ask: iso0,
    body: forbidden,
  },
  {
    what: 'no change allowed',
    operation: 'SetPIN',
    status: 403,
    path: pinPath('no-change'),
    ask: iso0,
    body: forbidden,
  },
  {
    what: 'ISO0 for a 3DES_SECCOS card',
    operation: 'SetPIN',
    status: 403,
    path: pinPath('seccos-only'),
    ask: iso0,
  },
  {
    what: '3DES_SECCOS for an ISO0 card',
    operation: 'SetPIN',
    status: 403,
    path: pinPath('iso0-only'),
    ask: seccos('iso0-only'),
  },
  { what: 'no such card', operation: 'SetPIN', status: 404, path: pinPath('nobody'), ask: iso0 },
  {
    what: 'the directory fails',
    operation: 'SetPIN',
    status: 500,
    path: pinPath('directory-fails'),
    ask: iso0,
  },
  {
    what: 'the store fails (ISO0)',
    operation: 'SetPIN',
    status: 500,
    path: pinPath('store-fails'),
    ask: iso0,
  },
  {
    what: 'the store fails (3DES_SECCOS)',
    operation: 'SetPIN',
    status: 500,
    path: pinPath('store-fails'),
    ask: seccos('store-fails'),
  },

  { what: 'a counter', operation: 'getPINChangeCounter', status: 200, path: counterPath('card-1') },
  {
    what: 'a cardId that cannot be',
    operation: 'getPINChangeCounter',
    status: 400,
    path: counterPath('x'.repeat(49)),
  },
  {
    what: 'no token',
    operation: 'getPINChangeCounter',
    status: 401,
    path: counterPath('card-1'),
    bare: true,
  },
  {
    what: 'not active',
    operation: 'getPINChangeCounter',
    status: 403,
    path: counterPath('not-active'),
    body: { errorCode: 'CARD_NOT_ACTIVE', error: 'Forbidden' },
  },
  {
    what: 'no change allowed',
    operation: 'getPINChangeCounter',
    status: 403,
    path: counterPath('no-change'),
    body: { errorCode: 'PIN_CHANGE_FORBIDDEN', error: 'Forbidden' },
  },
  {
    what: 'an ISO0 card',
    operation: 'getPINChangeCounter',
    status: 403,
    path: counterPath('iso0-only'),
    body: { errorCode: 'PIN_CHANGE_FORBIDDEN', error: 'Forbidden' },
  },
  { what: 'no such card', operation: 'getPINChangeCounter', status: 404, path: counterPath('nobody') },
  {
    what: 'the directory fails',
    operation: 'getPINChangeCounter',
    status: 500,
    path: counterPath('directory-fails'),
  },

  { what: 'a token', operation: 'getToken', status: 200, path: TOKEN_PATH, ask: token(GRANT) },
  {
    what: 'no grant type',
    operation: 'getToken',
    status: 400,
    path: TOKEN_PATH,
    ask: token('scope=x'),
    body: { error: 'invalid_request' },
  },
  {
    what: 'another grant',
    operation: 'getToken',
    status: 400,
    path: TOKEN_PATH,
    ask: token('grant_type=password'),
    body: { error: 'unsupported_grant_type' },
  },
  {
    what: 'a scope that is none',
    operation: 'getToken',
    status: 400,
    path: TOKEN_PATH,
    ask: token(`${GRANT}&scope=a%22b`),
    body: { error: 'invalid_scope' },
  },
  {
    what: 'a wrong secret',
    operation: 'getToken',
    status: 401,
    path: TOKEN_PATH,
    ask: token(GRANT, basic('d1-client', 'x')),
    body: { error: 'invalid_client' },
  },
]

/** The tests of the contract over one version of TLS, in a world of their own. */
export function endpointContract(version: TlsVersion, openWorld: () => Promise<World>): void {
  let world: World
  let wire: Wire

  beforeAll(async () => {
    world = await openWorld()
    wire = await new Wire(world.handler(), version).open()
  })
  afterAll(async () => {
    await wire?.close()
    await world?.[Symbol.asyncDispose]()
  })
  beforeEach(() => {
    world.events.length = 0
  })

  async function ask({ path, ask, bare }: Row): Promise<Reply> {
    const { headers, ...more } = (await ask?.(world)) ?? {}
    const authorized = bare === true || path === TOKEN_PATH ? headers : await world.authorized(headers)
    return wire.ask(path, { ...more, headers: { ...authorized, 'x-correlation-id': 'run-1_A' } })
  }

  test('each status of the PIN operations has a row', () => {
    for (const [operation, statuses] of Object.entries(CONTRACT)) {
      if (operation === 'getToken') continue
      const had = ROWS.filter(row => row.operation === operation).map(row => String(row.status))
      expect([...new Set(had)].sort(), operation).toEqual(Object.keys(statuses))
    }
  })

  test.each(ROWS)('$operation $status: $what', async row => {
    const reply = await ask(row)
    expect(reply.status).toBe(row.status)
    expectContract(row.operation, reply)
    if (row.body !== undefined) expect(reply.body).toEqual(row.body)
    expect(world.events).toHaveLength(1)
    expect(world.last).toMatchObject({
      operation: row.operation,
      status: row.status,
      correlationId: 'run-1_A',
      outcome: row.status < 400 ? 'success' : row.status < 500 ? 'refused' : 'failed',
    })
    world.expectSilence(reply.text, JSON.stringify(reply.headers))
  })

  test('its stores and all of its keys are ready', async () => {
    const checks = readinessChecks({ is_tbank01: world.issuer() })
    const handler = healthEndpoints({ checks, timeoutMs: 60_000 })
    const response = await handler(new Request('https://issuer.test/readyz'))
    expect([response.status, await response.json()]).toEqual([
      200,
      { ready: true, checks: Object.fromEntries(Object.keys(checks).map(name => [name, true])) },
    ])
  })

  test('a PIN that D1 sets is the PIN that D1 gets', async () => {
    const headers = await world.authorized(JSON_TYPE)
    const get = async () => {
      const { body } = await wire.ask(pinPath('card-2'), { headers })
      return world.d1.readPin(body as never, PANS.second)
    }
    expect(await get()).toBe(PIN)
    const body = await world.iso0(NEW_PIN, PANS.second)
    expect(await wire.ask(pinPath('card-2'), { method: 'PUT', headers, body })).toMatchObject({ status: 204 })
    expect(await get()).toBe(NEW_PIN)
    expect(world.last).toMatchObject({
      issuerId: 'is_tbank01',
      cardId: 'card-2',
      caller: 'd1-client',
      keys: [
        { role: 'storage', kid: 'PEK-STORE', checkValue: world.keys.storage.checkValue.value },
        { role: 'd1-zpk', kid: 'ZPK-D1', checkValue: world.keys.zpk.checkValue.value },
        { role: 'd1-public', kid: 'D1-2026' },
      ],
    })
  })

  test('a token that D1 fetched opens the PIN operations', async () => {
    const { body } = await wire.ask(TOKEN_PATH, token(GRANT)())
    const { access_token, token_type, expires_in, expires_at } = body as Record<string, string>
    expect([token_type, expires_in]).toEqual(['Bearer', '900'])
    expect(expires_at).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z$/)
    const authorization = `bearer ${access_token}`
    expect(await wire.ask(pinPath('card-2'), { headers: { authorization } })).toMatchObject({ status: 200 })
    expect(world.last.caller).toBe('d1-client')
  })

  test.each([
    ['no certificate', {}],
    ['a certificate of another CA', certificates.stranger],
  ])('%s: the connection is refused', async (_what, credentials) => {
    expect(await wire.raw('GET / HTTP/1.1\r\nHost: x\r\n\r\n', credentials)).toBe('')
    expect(world.events).toEqual([])
  })
}
