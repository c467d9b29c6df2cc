/**
 * What is opened with options has read them when it is open: who changes the object later, or any object in it, changes nothing. Every
 * read of a plain object that the caller gave is counted, to its last depth, from then on.
 */
import { randomBytes } from 'node:crypto'
import { SignJWT } from 'jose'
import { expect, test } from 'vitest'
import {
  chainedAudit,
  d1Client,
  d1PublicKeys,
  memoryIssuerStore,
  memoryRates,
  ownTokens,
  providerTokens,
  softwareSigner,
} from '../src/d1.js'
import {
  ChangeCounter,
  encipherPin,
  judgePin,
  memoryStore,
  operationLimit,
  Pan,
  Pin,
  pinPolicy,
  TryCounter,
} from '../src/index.js'
import { softwareBackend } from '../src/software.js'
import { panSealer, rowSealer } from '../src/sqlite.js'
import { get, put } from './d1/endpoints/support/direct.js'
import { byToken, counterPath, pinPath, World } from './d1/endpoints/support/world.js'
import { FakeToken } from './pkcs11/fake-token.js'
import { openBackendOn, openStoreOn } from './pkcs11/support.js'
import { ecKeyPair } from './support/key-pair.js'

const CARD = { issuerId: 'is_tbank01', cardId: 'card-1' }
const PAN = Pan.from('9999990123456789')
const TDEA = { kid: 'PEK', usage: 'pin-encryption', algorithm: 'tdea-2key' } as const
const jwk = (kid: string) => ({ ...ecKeyPair().publicKey.export({ format: 'jwk' }), kid })

type Watch = <T>(options: T) => T

/** Opens something with options that are watched, and gives what uses it. */
type Opener = (watch: Watch) => Promise<() => unknown> | (() => unknown)

const OPENERS: Readonly<Record<string, Opener>> = {
  TryCounter: watch => {
    const rule = { limit: 3, afterSuccess: 'reset' } as const
    const tries = new TryCounter(watch({ store: memoryStore(), products: { classic: rule } }))
    return async () => {
      const tried = await tries.begin({ cardId: 'card-1', product: 'classic' })
      if (!tried.blocked) await tried.succeed()
    }
  },
  ChangeCounter: async watch => {
    const backend = await softwareBackend({ keys: [] })
    const counter = new ChangeCounter(
      watch({
        store: memoryStore(),
        backend,
        firstPcc: '0042',
        rule: 'increment-on-accept',
        wrap: 'refuse',
        ttlSeconds: 300,
      } as const),
    )
    return async () => {
      await counter.issue({ cardId: 'card-1' })
      await counter.supersede({ cardId: 'card-1' })
    }
  },
  pinPolicy: watch => {
    const policy = pinPolicy(
      watch({ minLength: 4, maxLength: 6, refuse: ['repeats', 'runs'], list: ['2580'] }),
    )
    return () => judgePin({ pin: Pin.from('2581'), policy })
  },
  operationLimit: watch => {
    const limit = operationLimit(watch({ perKey: { operations: 9, perMs: 60_000 }, now: () => 0 }))
    return () =>
      limit({ kid: 'PEK', usage: 'pin-encryption', mode: 'B', operation: 'encipher', blocks: 1 } as never)
  },
  memoryRates: watch => {
    const rates = memoryRates(watch({ perCardPerMinute: 5, perCallerPerMinute: 5, now: () => 0 }))
    const ask = { ...CARD, operation: 'getPIN', caller: 'd1' } as const
    return () => rates.take(ask, { signal: new AbortController().signal })
  },
  ownTokens: async watch => {
    const tokens = await ownTokens(
      watch({
        algorithm: 'HS256',
        issuer: 'https://a.test',
        audience: 'https://pin.test',
        keys: [1, 2].map(i => ({ kty: 'oct', kid: `T-${i}`, k: randomBytes(32).toString('base64url') })),
        lifetimeSeconds: 900,
      }),
    )
    return async () => {
      const { token } = await tokens.issue({ subject: 'd1', scopes: [] })
      expect(await tokens.verify(token, {})).toMatchObject({ verified: true })
    }
  },
  providerTokens: async watch => {
    const { privateKey, publicKey } = ecKeyPair()
    const jwk = { ...publicKey.export({ format: 'jwk' }), kid: 'I-1', alg: 'ES256' }
    const [issuer, audience] = ['https://idp.test', 'pin-api']
    const given = { jwks: { keys: [jwk] }, algorithms: ['ES256'], issuer, audience, allow: () => true }
    const tokens = providerTokens(watch(given) as never)
    const token = await new SignJWT({ client_id: 'd1' })
      .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid: 'I-1' })
      .setIssuer(issuer)
      .setAudience(audience)
      .setIssuedAt()
      .setExpirationTime('1 minute')
      .sign(privateKey)
    return async () => expect(await tokens.verify(token, {})).toMatchObject({ verified: true })
  },
  chainedAudit: watch => {
    const hook = chainedAudit(watch({ key: randomBytes(32), write: () => {} }))
    return () => hook({ sequence: 1, outcome: 'success', keys: [] } as never)
  },
  softwareBackend: async watch => {
    const backend = await softwareBackend(
      watch({ keys: [{ ...TDEA, material: '0123456789ABCDEFFEDCBA9876543210' }], engine: 'auto' }),
    )
    const key = await backend.bind(watch({ kid: 'PEK', usage: 'pin-encryption', hostDecipher: true }))
    return async () => {
      using pin = Pin.from('1234')
      await encipherPin({ pin, pan: PAN, format: 0, key })
      await backend.health?.()
    }
  },
  pkcs11Backend: async watch => {
    const fake = new FakeToken()
    await using store = await openStoreOn(fake)
    await store.importKey({ ...TDEA, material: '0123456789ABCDEFFEDCBA9876543210' })
    const backend = await openBackendOn(
      fake,
      watch({ sessions: { max: 2 }, accept: ['modifiable'] } as never),
    )
    const key = await backend.bind({ kid: 'PEK', usage: 'pin-encryption' })
    return async () => {
      using pin = Pin.from('1234')
      await encipherPin({ pin, pan: PAN, format: 0, key })
      await backend.health?.()
      await backend.close()
    }
  },
  panSealer: watch => {
    const keys = [1, 2].map(i => ({ kid: `PAN-${i}`, key: randomBytes(32) }))
    const sealer = panSealer(watch({ keys }))
    return async () => sealer.open(await sealer.seal(PAN, CARD), CARD)
  },
  rowSealer: async watch => {
    const material = '1A'.repeat(16)
    const backend = await softwareBackend({
      keys: [{ kid: 'ROWS', usage: 'cmac', algorithm: 'aes-128', material }],
    })
    const sealer = rowSealer(watch({ keys: [await backend.bind({ kid: 'ROWS', usage: 'cmac' })] }))
    return () => sealer.seal(randomBytes(40))
  },
  memoryIssuerStore: watch => {
    const store = memoryIssuerStore()
    return async () => {
      const card = watch({ state: 'active', pan: PAN, setPinTypes: ['ISO0'] } as const)
      await store.cards.put(CARD, card)
      reads.length = 0
      await store.cards.find(CARD)
    }
  },
  softwareSigner: watch => {
    const signer = softwareSigner(watch({ kid: 'S', privateKey: ecKeyPair().privateKey }))
    return () => signer.sign(randomBytes(9))
  },
  d1Client: watch => {
    const d1 = d1Client(
      watch({
        environment: { api: 'https://d1.test/banking', auth: 'https://d1.test/authz' },
        issuerId: 'is_tbank01',
        signer: softwareSigner({ kid: 'S', privateKey: ecKeyPair().privateKey }),
        d1PublicJwk: jwk('D1'),
        retryableErrorCodes: { BUSY: true },
        maxAttempts: 2,
        random: () => 0,
        fetch: async (url: string) => {
          if (!url.endsWith('/token')) return new Response(JSON.stringify({ code: 'BUSY' }), { status: 400 })
          return new Response(JSON.stringify({ access_token: 'x', token_type: 'Bearer', expires_in: 900 }))
        },
      } as never),
    )
    return () => expect(d1.cards.delete({ cardId: 'card-1' })).rejects.toMatchObject({ status: 400 })
  },
  issuerEndpoints: async watch => {
    const world = await World.open()
    const handler = world.handler(
      watch({ ...world.options(), authorization: byToken(world.tokens) }) as never,
    )
    const headers = await world.authorized()
    return async () => {
      const gets = [pinPath('card-1'), counterPath('card-1'), '/nowhere'].map(path => get(path, { headers }))
      const json = { headers: { ...headers, 'content-type': 'application/json' } }
      const puts = [put(await world.seccos('card-1'), json), put(await world.iso0(), json)]
      const statuses: number[] = []
      for (const request of [...puts, ...gets]) statuses.push((await handler(request)).status)
      expect(statuses).toEqual([204, 204, 200, 200, 404])
      await world[Symbol.asyncDispose]()
    }
  },
}

/** The places that were read of what is watched. */
const reads: string[] = []

/** Plain objects and arrays tell of each read of data in them. A method is asked for when it is called: it is the caller's code. */
function watched<T>(value: T, path = 'options'): T {
  if (typeof value !== 'object' || value === null) return value
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype && prototype !== Array.prototype) return value
  const inside: object = Array.isArray(value) ? [] : {}
  for (const [name, one] of Object.entries(value)) {
    const member: unknown = watched(one, `${path}.${name}`)
    Object.defineProperty(inside, name, {
      enumerable: true,
      configurable: true,
      get: () => {
        if (typeof member !== 'function') reads.push(`${path}.${name}`)
        return member
      },
    })
  }
  return inside as T
}

test.each(Object.entries(OPENERS))(
  '%s reads its options while it is opened, and never again',
  async (_, open) => {
    reads.length = 0
    const use = await open(options => watched(options))
    // The memory of a store is read of what is put, which its use does.
    if (open !== OPENERS['memoryIssuerStore']) expect(reads.length).toBeGreaterThan(0)
    reads.length = 0
    await use()
    expect(reads).toEqual([])
  },
)

test('a URL that is changed later is not where keys are fetched from', async () => {
  const asked: string[] = []
  const given = new URL('https://keys.test/jwks')
  const fetch = async (url: unknown) => {
    asked.push(String(url))
    return Response.json({ keys: [jwk('K-1')] })
  }
  const [issuer, audience] = ['https://idp.test', 'pin-api']
  const rules = { algorithms: ['ES256'], issuer, audience, allow: () => true }
  const tokens = providerTokens({ jwks: given, ...rules, fetch } as never)
  const d1Keys = d1PublicKeys({ from: given, fetch } as never)
  given.href = 'http://elsewhere.test/jwks'
  const token = await new SignJWT({})
    .setProtectedHeader({ alg: 'ES256', kid: 'K-1' })
    .sign(ecKeyPair().privateKey)
  await tokens.verify(token, {})
  await d1Keys()
  expect(asked).toEqual(['https://keys.test/jwks', 'https://keys.test/jwks'])
})
