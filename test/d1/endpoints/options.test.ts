/** What the endpoints may be configured with, and what that changes. */
import { describe, expect, test } from 'vitest'
import { importRecipient } from '../../../src/index.js'
import { softwareBackend } from '../../../src/software.js'
import { failure } from '../../support/errors.js'
import { get, put, useWorld } from './support/direct.js'
import {
  basic,
  byToken,
  CLIENT,
  counterPath,
  FORM_TYPE,
  ISSUER,
  NEW_PIN,
  PANS,
  pinPath,
  TOKEN_PATH,
} from './support/world.js'

const own = useWorld()

describe('options', () => {
  const rows: Readonly<Record<string, () => object>> = {
    'no issuers': () => ({ issuers: undefined }),
    'an empty set of issuers': () => ({ issuers: {} }),
    'an issuerId of 9 characters': () => ({ issuers: { is_tbank0: own.world.issuer() } }),
    'an issuerId with a slash': () => ({ issuers: { 'is/tbank01': own.world.issuer() } }),
    'an issuer that is none': () => ({ issuers: { [ISSUER]: null } }),
    'an unknown member of an issuer': () => ({ issuers: { [ISSUER]: { ...own.world.issuer(), card: {} } } }),
    'no directory': () => ({ issuers: { [ISSUER]: own.world.issuer({ cards: {} as never }) } }),
    'no store': () => ({ issuers: { [ISSUER]: own.world.issuer({ pins: null as never }) } }),
    'half a store': () => ({
      issuers: { [ISSUER]: own.world.issuer({ pins: { readBlock() {} } as never }) },
    }),
    'no keys': () => ({ issuers: { [ISSUER]: own.world.issuer({ jweKeys: [] }) } }),
    'keys for something else': () => ({
      issuers: { [ISSUER]: own.world.issuer({ jweKeys: own.world.keys.zpk }) },
    }),
    'a key twice': () => ({
      issuers: { [ISSUER]: own.world.issuer({ jweKeys: [own.world.keys.jwe, own.world.keys.jwe] }) },
    }),
    'neither iso0 nor seccos': () => ({
      issuers: { [ISSUER]: { ...own.world.issuer(), iso0: undefined, seccos: undefined } },
    }),
    'an unknown translation': () => iso0({ translation: 'none' }),
    'no ZPK': () => iso0({ d1Zpk: undefined }),
    'a MAC key as storage key': () => iso0({ storage: own.world.keys.mac }),
    'no profile': () => seccos({ profile: {} }),
    'no MAC key': () => seccos({ macKeys: [] }),
    'a PIN key as MAC key': () => seccos({ macKeys: own.world.keys.zpk }),
    'no PRW key': () => seccos({ prwKids: [] }),
    'PRW keys that are no list': () => seccos({ prwKids: 'PRW-1' }),
    'no counter': () => seccos({ counter: {} }),
    'one counter for two issuers': () => ({
      issuers: { [ISSUER]: own.world.issuer(), is_tbank02: own.world.issuer() },
    }),
    'no authorization': () => ({ authorization: undefined }),
    'another authorization': () => ({ authorization: 'none' }),
    'a verifier that is none': () => ({ authorization: byToken({} as never) }),
    'tokens for nobody': () => ({ authorization: 'anyone-who-reaches-it' }),
    'no token issuer': () => tokenEndpoint({ tokens: {} }),
    'no clients': () => tokenEndpoint({ clients: [] }),
    'clients that are no list': () => tokenEndpoint({ clients: CLIENT }),
    'a short secret': () => tokenEndpoint({ clients: [{ clientId: 'd1', clientSecret: 'x'.repeat(15) }] }),
    'a secret with a line break': () =>
      tokenEndpoint({ clients: [{ clientId: 'd1', clientSecret: `\n${'x'.repeat(16)}` }] }),
    'no client id': () => tokenEndpoint({ clients: [{ clientSecret: 'x'.repeat(16) }] }),
    'binding that is not true': () => tokenEndpoint({ bindToCertificate: false }),
    'a scope with a space': () => tokenEndpoint({ scopes: ['a b'] }),
    'scopes that are no list': () => tokenEndpoint({ scopes: 'a' }),
    'no audit': () => ({ audit: undefined }),
    'half a clock': () => ({ clock: { now: () => 0 } }),
    'a prefix without slash': () => ({ prefix: 'api' }),
    'a prefix with a slash at its end': () => ({ prefix: '/api/' }),
    'a prefix with an escape': () => ({ prefix: '/a%20b' }),
    'a prefix that is no text': () => ({ tokenPrefix: 7 }),
    'an empty segment': () => ({ tokenPrefix: '/a//b' }),
    'no time': () => ({ timeoutMs: 0 }),
    'too much time': () => ({ bodyTimeoutMs: 600_001 }),
    'a misspelt option': () => ({ timeout: 1000 }),
  }
  const iso0 = (more: object) => ({
    issuers: { [ISSUER]: own.world.issuer({ iso0: { ...own.world.issuer().iso0, ...more } as never }) },
  })
  const seccos = (more: object) => ({
    issuers: { [ISSUER]: own.world.issuer({ seccos: { ...own.world.issuer().seccos, ...more } as never }) },
  })
  const tokenEndpoint = (more: object) => ({
    tokenEndpoint: { tokens: own.world.tokens, clients: [CLIENT], ...more },
  })

  test.each(Object.entries(rows))('%s: ERR_ARGUMENT', async (_what, more) => {
    await failure(() => own.world.handler(more()), 'ERR_ARGUMENT', [CLIENT.clientSecret, 'x'.repeat(15)])
  })

  /** Each list of the options, one entry that is sound and one that is not. */
  const lists: readonly (readonly [
    name: string,
    of: (list: unknown[]) => object,
    sound: () => unknown,
    wrong: () => unknown,
  ])[] = [
    [
      'jweKeys',
      list => ({ issuers: { [ISSUER]: own.world.issuer({ jweKeys: list as never }) } }),
      () => own.world.keys.jwe,
      () => own.world.keys.zpk,
    ],
    ['d1Zpk', list => iso0({ d1Zpk: list }), () => own.world.keys.zpk, () => own.world.keys.mac],
    ['storage', list => iso0({ storage: list }), () => own.world.keys.storage, () => own.world.keys.jwe],
    ['macKeys', list => seccos({ macKeys: list }), () => own.world.keys.mac, () => own.world.keys.storage],
    ['prwKids', list => seccos({ prwKids: list }), () => `PRW-${++kids}`, () => ''],
    [
      'clients',
      list => tokenEndpoint({ clients: list }),
      () => ({ ...CLIENT, clientId: `d1-${++kids}` }),
      () => ({ ...CLIENT, clientSecret: 'short' }),
    ],
    ['scopes', list => tokenEndpoint({ scopes: list }), () => `scope-${++kids}`, () => 'a b'],
  ]
  let kids = 0

  test.each(lists)(
    '%s: what is wrong second or last is refused as what is wrong first is',
    async (_name, of, sound, wrong) => {
      for (const list of [[wrong()], [sound(), wrong()], [sound(), wrong(), wrong()], [wrong(), sound()]]) {
        await failure(() => own.world.handler(of(list)), 'ERR_ARGUMENT', [])
      }
      own.world.handler(of([sound()]))
    },
  )

  test('an AES key is no key for the format of type ISO0 with D1', async () => {
    const aes = { kid: 'AES', usage: 'pin-encryption', algorithm: 'aes-128' } as const
    await using backend = await softwareBackend({
      keys: [{ ...aes, material: '00112233445566778899aabbccddeeff' }],
    })
    const d1Zpk = await backend.bind({ kid: 'AES', usage: 'pin-encryption' })
    const { message } = await failure(() => own.world.handler(iso0({ d1Zpk })), 'ERR_ARGUMENT')
    expect(message).toMatch(/^d1Zpk: keys must be tdea/)
  })

  test('an unusable public key of D1 is found at the start', async () => {
    await failure(() => own.world.handler(iso0({ d1PublicJwk: { kty: 'EC' } })), 'ERR_JWE_RECIPIENT')
  })

  test('a recipient that is imported already serves; one without kid does not', async () => {
    const { kid, ...jwk } = own.world.d1.publicJwk
    const answer = own.world.handler(iso0({ d1PublicJwk: importRecipient({ ...jwk, kid }) }))
    const request = get(pinPath('card-1'), { headers: await own.world.authorized() })
    expect((await answer(request)).status).toBe(200)
    await failure(() => own.world.handler(iso0({ d1PublicJwk: importRecipient(jwk) })), 'ERR_ARGUMENT')
  })

  test('a function that gives the same public key again has it read once', async () => {
    let asked = 0
    let read = 0
    const jwk = own.world.d1.publicJwk
    const given = {
      ...jwk,
      get x() {
        read++
        return jwk.x
      },
    }
    const answer = own.world.handler(
      iso0({
        d1PublicJwk: () => {
          asked++
          return given
        },
      }),
    )
    const headers = await own.world.authorized()
    for (let i = 0; i < 3; i++) expect((await answer(get(pinPath('card-1'), { headers }))).status).toBe(200)
    expect([asked, read]).toEqual([3, 1])
  })

  test('prefixes come before the paths, and nothing else does', async () => {
    const answer = own.world.handler({ prefix: '/a.b/-c', tokenPrefix: '' })
    const headers = await own.world.authorized()
    expect((await answer(get(`/a.b/-c${pinPath('card-1')}`, { headers }))).status).toBe(200)
    expect((await answer(get(`/aXb/-c${pinPath('card-1')}`, { headers }))).status).toBe(404)
    expect((await answer(get(pinPath('card-1'), { headers }))).status).toBe(404)
    expect((await answer(get('/oauth2/token'))).status).toBe(400)
    expect((await answer(get(TOKEN_PATH))).status).toBe(404)
  })

  test('without a token endpoint its path does not exist', async () => {
    const request = get(TOKEN_PATH, { method: 'POST', headers: { authorization: basic() } })
    expect((await own.handler(request)).status).toBe(404)
  })

  test('scopes that are configured are granted and stated', async () => {
    const answer = own.world.handler(tokenEndpoint({ scopes: ['pin', 'pin.write'] }))
    const headers = { ...FORM_TYPE, authorization: basic() }
    const body = 'grant_type=client_credentials&scope=other'
    const response = await answer(get(TOKEN_PATH, { method: 'POST', headers, body }))
    expect(await response.json()).toMatchObject({ scope: 'pin pin.write' })
  })

  test('an issuer without iso0 or without seccos refuses what it does not offer', async () => {
    const { iso0: _iso0, ...onlySeccos } = own.world.issuer()
    const { seccos: _seccos, ...onlyIso0 } = own.world.issuer()
    const statuses = async (issuer: object): Promise<number[]> => {
      const answer = own.world.handler({
        issuers: { [ISSUER]: issuer as never },
        authorization: 'anyone-who-reaches-it',
        tokenEndpoint: undefined,
      })
      const content = own.world.seccosContent(
        await own.world.counter.issue({ cardId: 'card-2' }),
        NEW_PIN,
        PANS.second,
      )
      const requests = [
        get(pinPath('card-2')),
        put(await own.world.iso0(NEW_PIN, PANS.second), {}, pinPath('card-2')),
        get(counterPath('card-2')),
        put(await own.world.d1.seal('3DES_SECCOS', content), {}, pinPath('card-2')),
      ]
      const found: number[] = []
      for (const request of requests) found.push((await answer(request)).status)
      return found
    }
    expect(await statuses(onlyIso0)).toEqual([200, 204, 403, 403])
    expect(await statuses(onlySeccos)).toEqual([403, 403, 200, 204])
    await own.world.issue('card-2', PANS.second, NEW_PIN)
  })
})

describe('one key for two things is refused when the service starts', () => {
  const issuer = (iso0: object) => {
    const one = own.world.issuer()
    return { issuers: { [ISSUER]: { ...one, iso0: { ...one.iso0, ...iso0 } } } }
  }

  test('a key that D1 has and blocks are stored under, by one handle or by two', async () => {
    const { storage, zpk } = own.world.keys
    const { message } = await failure(() => own.world.handler(issuer({ storage: zpk })), 'ERR_KEY_USAGE')
    expect(message).toBe('key ZPK-D1: it stores blocks and is ZPK-D1, which D1 has: they need two keys')
    await failure(() => own.world.handler(issuer({ d1Zpk: [zpk, storage] })), 'ERR_KEY_USAGE')
    const again = { kid: 'AGAIN', usage: 'pin-encryption', algorithm: 'tdea-2key' } as const
    const material = '0123456789ABCDEF1122334455667788'
    await using one = await softwareBackend({ keys: [{ ...again, material }] })
    await using two = await softwareBackend({ keys: [{ ...again, kid: 'TWO', material }] })
    const keys = {
      d1Zpk: await one.bind({ kid: 'AGAIN', usage: 'pin-encryption' }),
      storage: await two.bind({ kid: 'TWO', usage: 'pin-encryption' }),
    }
    await failure(() => own.world.handler(issuer(keys)), 'ERR_KEY_USAGE')
  })

  test('a public key of the issuer in the place of D1’s, given or fetched', async () => {
    const { publicJwk } = own.world.keys.jwe
    const own1 = { ...publicJwk, kid: 'D1' }
    const { message } = await failure(() => own.world.handler(issuer({ d1PublicJwk: own1 })), 'ERR_KEY_USAGE')
    expect(message).toMatch(/: it is the issuer's own, and d1PublicJwk \(D1\) is its public key$/)
    await own.world.issue('card-1', '9999990123456789', '1234')
    const answer = own.world.handler(issuer({ d1PublicJwk: () => own1 }))
    const request = get(pinPath('card-1'), { headers: await own.world.authorized() })
    expect((await answer(request)).status).toBe(500)
    expect(own.world.last.refusal).toMatchObject({ reason: 'd1-key-failed' })
  })
})
