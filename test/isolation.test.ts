/**
 * Two of everything, with different settings, in one process: what one has learnt, cached, counted or closed is not the
 * other's.
 */

import { randomBytes } from 'node:crypto'
import { type JWK, SignJWT } from 'jose'
import { describe, expect, test } from 'vitest'
import { WrongSecrets } from '../src/d1/endpoints/token-endpoint.js'
import {
  chainedAudit,
  type D1ClientOptions,
  d1Client,
  memoryIssuerStore,
  memoryRates,
  ownTokens,
  providerTokens,
  softwareSigner,
  verifyAuditChain,
} from '../src/d1.js'
import {
  decipherPin,
  encipherPin,
  generateMac,
  type Key,
  openJwe,
  operationLimit,
  Pan,
  Pin,
  sealJwe,
} from '../src/index.js'
import { softwareBackend } from '../src/software.js'
import { ManualClock, passing } from './d1/client/times.js'
import { get } from './d1/endpoints/support/direct.js'
import {
  basic,
  byToken,
  CLIENT,
  FORM_TYPE,
  PANS,
  pinPath,
  TOKEN_PATH,
  World,
} from './d1/endpoints/support/world.js'
import { FakeToken } from './pkcs11/fake-token.js'
import { openBackendOn, openStoreOn } from './pkcs11/support.js'
import { ecKeyPair } from './support/key-pair.js'

const NO_OPTIONS = {}
const hex = (bytes: number): string => {
  const value = randomBytes(bytes)
  // Odd parity, as TDEA keys have it.
  for (let i = 0; i < bytes; i++) {
    const byte = (value[i] ?? 0) & 0xfe
    let ones = 0
    for (let bit = byte; bit > 0; bit >>= 1) ones += bit & 1
    value[i] = byte | (ones % 2 === 0 ? 1 : 0)
  }
  return value.toString('hex')
}
const pan = Pan.from(PANS.first)
async function blockUnder(key: Key): Promise<Uint8Array> {
  using pin = Pin.from('1234')
  return encipherPin({ pin, pan, format: 0, key })
}

describe('two verifiers', () => {
  const secret = (kid: string): JWK => ({ kty: 'oct', kid, k: randomBytes(32).toString('base64url') })
  const settings = { algorithm: 'HS256', issuer: 'https://a.test', audience: 'https://pin.test' } as const

  test('of own tokens: what one has issued and verified, the other does not take', async () => {
    const key = secret('T-1')
    const one = await ownTokens({ ...settings, keys: [key], lifetimeSeconds: 900 })
    const others = await Promise.all([
      ownTokens({ ...settings, keys: [secret('T-1')], lifetimeSeconds: 900 }),
      ownTokens({ ...settings, keys: [key], lifetimeSeconds: 900, audience: 'https://other.test' }),
      ownTokens({ ...settings, keys: [key], lifetimeSeconds: 900, issuer: 'https://b.test' }),
    ])
    const { token } = await one.issue({ subject: 'd1', scopes: [] })
    for (let round = 0; round < 2; round++) {
      expect(await one.verify(token, NO_OPTIONS)).toMatchObject({ verified: true })
      for (const other of others) {
        expect(await other.verify(token, NO_OPTIONS)).toMatchObject({ verified: false })
      }
    }
  })

  test('of a provider: keys, times and who is allowed are each one’s own', async () => {
    const pair = (kid: string) => {
      const { privateKey, publicKey } = ecKeyPair()
      return { privateKey, jwk: { ...publicKey.export({ format: 'jwk' }), kid, alg: 'ES256' } }
    }
    const [first, second] = [pair('I-1'), pair('I-1')]
    const verifier = (jwk: object, allow: () => boolean, now = Date.now) =>
      providerTokens({
        jwks: { keys: [jwk as JWK] },
        algorithms: ['ES256'],
        issuer: 'https://idp.test',
        audience: 'pin-api',
        allow,
        now,
      })
    const now = Math.floor(Date.now() / 1000)
    const claims = { iss: 'https://idp.test', aud: 'pin-api', client_id: 'd1', iat: now, exp: now + 60 }
    const token = await new SignJWT(claims)
      .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid: 'I-1' })
      .sign(first.privateKey)
    const one = verifier(first.jwk, () => true)
    const others = [
      verifier(second.jwk, () => true),
      verifier(first.jwk, () => false),
      verifier(
        first.jwk,
        () => true,
        () => Date.now() + 600_000,
      ),
    ]
    for (let round = 0; round < 2; round++) {
      expect(await one.verify(token, NO_OPTIONS)).toMatchObject({ verified: true })
      for (const other of others)
        expect(await other.verify(token, NO_OPTIONS)).toMatchObject({ verified: false })
    }
  })
})

describe('two services', () => {
  test('a token, a locked source, a rate and a seat taken at one mean nothing at the other', async () => {
    await using one = await World.open()
    await using two = await World.open()
    const at = (world: World) => world.handler({ authorization: byToken(world.tokens) })
    const [here, there] = [at(one), at(two)]
    const headers = await one.authorized()
    for (let round = 0; round < 2; round++) {
      expect((await here(get(pinPath('card-1'), { headers }))).status).toBe(200)
      expect((await there(get(pinPath('card-1'), { headers }))).status).toBe(401)
    }
    expect((await there(get(pinPath('card-1'), { headers: await two.authorized() }))).status).toBe(200)
  })

  test('a source that is locked out by one is not by the other', async () => {
    await using world = await World.open()
    const ask = (handler: ReturnType<World['handler']>, secret: string) =>
      handler(
        get(TOKEN_PATH, {
          method: 'POST',
          headers: { ...FORM_TYPE, authorization: basic(CLIENT.clientId, secret) },
          body: 'grant_type=client_credentials',
        }),
      )
    // The delays of the first wrong ones come to three seconds.
    const clock = new ManualClock()
    const [one, two] = [world.handler({ clock }), world.handler({ clock })]
    for (let i = 0; i < 6; i++) expect((await passing(clock, ask(one, 'wrong'))).status).toBe(401)
    expect((await ask(one, CLIENT.clientSecret)).status).not.toBe(200)
    expect((await ask(two, CLIENT.clientSecret)).status).toBe(200)
  })

  test('a right secret ends the count of wrong ones', async () => {
    await using world = await World.open()
    const clock = new ManualClock()
    const handler = world.handler({ clock })
    const ask = async (secret: string) => {
      const request = get(TOKEN_PATH, {
        method: 'POST',
        headers: { ...FORM_TYPE, authorization: basic(CLIENT.clientId, secret) },
        body: 'grant_type=client_credentials',
      })
      return (await passing(clock, Promise.resolve(handler(request)))).status
    }
    for (let round = 0; round < 2; round++) {
      for (let i = 0; i < 4; i++) expect(await ask('wrong')).toBe(401)
      expect(await ask(CLIENT.clientSecret)).toBe(200)
    }
  })

  test('counts of wrong secrets and of rates', async () => {
    const clock = new ManualClock()
    const [one, two] = [new WrongSecrets(clock), new WrongSecrets(clock)]
    for (let i = 0; i < 6; i++) void one.wrong('source', AbortSignal.abort())
    expect(() => one.requireOpen('source')).toThrow()
    expect(() => two.requireOpen('source')).not.toThrow()

    const rates = () => memoryRates({ perCardPerMinute: 1, perCallerPerMinute: 10, now: () => 0 })
    const [first, second] = [rates(), rates()]
    const { signal } = new AbortController()
    const ask = { issuerId: 'is_tbank01', cardId: 'card-1', operation: 'getPIN', caller: 'd1' } as const
    expect([
      await first.take(ask, { signal }),
      await first.take(ask, { signal }),
      await second.take(ask, { signal }),
    ]).toEqual([true, false, true])
  })
})

describe.each(['node:crypto', 'node-forge', 'bitslice', 'auto'] as const)(
  'two backends, engine %s',
  engine => {
    const spec = (material: string, mac: string) => ({
      engine,
      keys: [
        { kid: 'PEK', usage: 'pin-encryption', algorithm: 'tdea-2key', material },
        { kid: 'MAC', usage: 'retail-mac', algorithm: 'tdea-2key', material: mac },
      ],
    })
    const bound = async (backend: Awaited<ReturnType<typeof softwareBackend>>) => ({
      key: await backend.bind({ kid: 'PEK', usage: 'pin-encryption', hostDecipher: true }),
      mac: await backend.bind({ kid: 'MAC', usage: 'retail-mac' }),
    })

    test('with other keys of the same kid: neither answers with the other’s, in turns and at once', async () => {
      const [a, b] = await Promise.all([
        softwareBackend(spec(hex(16), hex(16)) as never),
        softwareBackend(spec(hex(16), hex(16)) as never),
      ])
      const [one, two] = [await bound(a), await bound(b)]
      using pin = Pin.from('1234')
      const blockOf = async (key: typeof one.key) => encipherPin({ pin, pan, format: 0, key })
      const round = async () => Promise.all([one, two, one, two].map(({ key }) => blockOf(key)))
      const [first, second, again, andAgain] = await round()
      expect(first).toEqual(again)
      expect(second).toEqual(andAgain)
      expect(first).not.toEqual(second)
      const message = randomBytes(123)
      const macs = await Promise.all(
        [one, two].map(({ mac }) =>
          generateMac({ key: mac, message, algorithm: 'iso9797-1-alg3', padding: 2, length: 8 }),
        ),
      )
      expect(macs[0]).not.toEqual(macs[1])

      // One is closed: the other goes on, with its own key.
      await a.close()
      await expect(blockOf(one.key)).rejects.toMatchObject({ code: 'ERR_BACKEND_CLOSED' })
      expect(await blockOf(two.key)).toEqual(second)
      if (second === undefined) throw new Error('no block')
      using back = await decipherPin({ block: second, pan, format: 0, key: two.key })
      expect(back.equals(pin)).toBe(true)
      await b.close()
    })
  },
)

test('two backends with a JWE key of the same kid: neither opens what is for the other', async () => {
  const scalar = () => `00000000${randomBytes(28).toString('hex')}`
  const open = (material: string) =>
    softwareBackend({ keys: [{ kid: 'JWE', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material }] })
  await using one = await open(scalar())
  await using two = await open(scalar())
  const [a, b] = await Promise.all(
    [one, two].map(backend => backend.bind({ kid: 'JWE', usage: 'jwe-key-agreement' })),
  )
  if (a?.publicJwk === undefined || b === undefined) throw new Error('no key')
  const jwe = await sealJwe({ plaintext: new Uint8Array([1, 2]), recipient: a.publicJwk, kid: 'JWE' })
  for (let round = 0; round < 2; round++) {
    expect((await openJwe({ jwe, keys: a })).plaintext).toEqual(new Uint8Array([1, 2]))
    await expect(openJwe({ jwe, keys: b })).rejects.toMatchObject({ code: 'ERR_JWE' })
  }
})

test('two limits: what was counted under a key by one is not by the other', () => {
  const limit = () => operationLimit({ perKey: { operations: 1, perMs: 60_000 }, now: () => 0 })
  const use = { kid: 'PEK', usage: 'pin-encryption', mode: 'B', operation: 'encipher', blocks: 1 } as const
  const [one, two] = [limit(), limit()]
  one(use)
  expect(() => one(use)).toThrow(expect.objectContaining({ code: 'ERR_KEY_LIMIT' }))
  expect(() => two(use)).not.toThrow()
})

test('two chains of audit lines: each is whole by itself, though they are written in turns', async () => {
  const key = randomBytes(32)
  const [one, two]: [string[], string[]] = [[], []]
  const hooks = [one, two].map(lines => chainedAudit({ key, write: line => void lines.push(line) }))
  for (let sequence = 1; sequence <= 3; sequence++)
    await Promise.all(hooks.map(hook => hook({ sequence, outcome: 'success', keys: [] } as never)))
  for (const lines of [one, two])
    expect(await verifyAuditChain({ lines, key })).toMatchObject({ intact: true, lines: 3 })
})

test('two tokens with other keys of the same kid: neither answers with the other’s, and one is closed alone', async () => {
  const tokens = [new FakeToken(), new FakeToken()]
  const blocks = await Promise.all(
    tokens.map(async fake => {
      await using store = await openStoreOn(fake)
      const key = { kid: 'PEK', usage: 'pin-encryption', algorithm: 'tdea-2key', material: hex(16) } as const
      await store.importKey({ ...key, hostDecipher: true })
      const backend = await openBackendOn(fake)
      const bound = await backend.bind({ kid: 'PEK', usage: 'pin-encryption', hostDecipher: true })
      return { backend, blockOf: () => blockUnder(bound) }
    }),
  )
  const [a, b] = [blocks[0] ?? expect.fail(), blocks[1] ?? expect.fail()]
  const [first, second] = await Promise.all([a.blockOf(), b.blockOf()])
  expect(first).not.toEqual(second)
  expect(await Promise.all([b.blockOf(), a.blockOf()])).toEqual([second, first])
  await a.backend.close()
  await expect(a.blockOf()).rejects.toMatchObject({ code: 'ERR_BACKEND_CLOSED' })
  expect(await b.blockOf()).toEqual(second)
  await b.backend.close()
})

test('two stores: a card and a PIN of one are not in the other', async () => {
  await using one = memoryIssuerStore()
  await using two = memoryIssuerStore()
  const card = { issuerId: 'is_tbank01', cardId: 'card-1' }
  await one.cards.put(card, { state: 'active', pan, setPinTypes: ['ISO0'] })
  await one.pins.storeBlock(card, { block: randomBytes(8), kid: 'PEK' })
  expect(await one.pins.readBlock(card)).toBeDefined()
  expect(await two.pins.readBlock(card)).toBeUndefined()
  expect(await two.cards.find(card)).toBeUndefined()
})

test('two clients: tokens, issuers and clocks are each one’s own', async () => {
  const agreement = ecKeyPair()
  const seen: string[] = []
  const client = (issuerId: string, token: string) => {
    const signer = softwareSigner({
      kid: 'S',
      privateKey: ecKeyPair().privateKey,
    })
    const fetch: D1ClientOptions['fetch'] = async (url, init) => {
      const asked = url.endsWith('/oauth2/token')
      if (!asked)
        seen.push(
          `${issuerId}: ${new Headers(init.headers as never).get('authorization')} ${url.includes(issuerId)}`,
        )
      const body = JSON.stringify({ access_token: token, token_type: 'Bearer', expires_in: 900 })
      return asked ? new Response(body) : (new Response(null, { status: 204 }) as never)
    }
    const d1PublicJwk = { ...agreement.publicKey.export({ format: 'jwk' }), kid: 'D1' }
    return d1Client({ environment: 'staging', issuerId, signer, d1PublicJwk, fetch }).cards
  }
  const [one, two] = [client('is_tbank01', 'token-one'), client('is_other02', 'token-two')]
  for (const cards of [one, two, one, two]) await cards.delete({ cardId: 'card-1' })
  expect(seen).toEqual([
    'is_tbank01: Bearer token-one true',
    'is_other02: Bearer token-two true',
    'is_tbank01: Bearer token-one true',
    'is_other02: Bearer token-two true',
  ])
})
