/**
 * The defaults, each played on both sides of it: just before, nothing has happened; at it, it has. By clocks that the test
 * moves; what is exercised where it is built has its place in the list at the end.
 */

import { randomBytes, X509Certificate } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { SignJWT } from 'jose'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { DEFAULTS } from '../src/base/defaults.js'
import type { FetchInit } from '../src/d1/client/exchange.js'
import { WrongSecrets } from '../src/d1/endpoints/token-endpoint.js'
import {
  type D1ClientOptions,
  d1Client,
  healthEndpoints,
  memoryRates,
  mtlsFetch,
  ownTokens,
  type ProviderTokensOptions,
  providerTokens,
  softwareSigner,
} from '../src/d1.js'
import { Pan } from '../src/index.js'
import { testCa } from './d1/client/certificates.js'
import { ManualClock, settle } from './d1/client/times.js'
import { get, held, put } from './d1/endpoints/support/direct.js'
import { PANS, pinPath, World } from './d1/endpoints/support/world.js'
import { ecKeyPair } from './support/key-pair.js'

const agents = vi.hoisted(() => [] as object[])
vi.mock('node:https', async importOriginal => {
  const https = await importOriginal<typeof import('node:https')>()
  class Agent extends https.Agent {
    constructor(options: import('node:https').AgentOptions) {
      super(options)
      agents.push(options)
    }
  }
  return { ...https, Agent }
})

const d1PublicJwk = {
  ...ecKeyPair().publicKey.export({ format: 'jwk' }),
  kid: 'D1',
}
const signer = softwareSigner({
  kid: 'S',
  privateKey: ecKeyPair().privateKey,
})
const REGISTER = { consumerId: 'c', cardProductId: 'p', pan: Pan.from(PANS.first), exp: '1229' }

type Reply = (init: FetchInit) => Promise<Response>
const refused =
  (status: number, retryAfter?: number): Reply =>
  async () =>
    new Response(null, {
      status,
      headers: retryAfter === undefined ? {} : { 'retry-after': `${retryAfter}` },
    })
const silence: Reply = ({ signal }) =>
  new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('aborted'))))

/** A client whose card calls are answered one after the other, the last one for ever. */
function clientOn(clock: ManualClock, replies: readonly Reply[], more: Partial<D1ClientOptions> = {}) {
  const sent: FetchInit[] = []
  const fetch: D1ClientOptions['fetch'] = async (url, init) => {
    if (url.endsWith('/oauth2/token')) {
      return new Response(
        JSON.stringify({ access_token: 't', token_type: 'Bearer', expires_in: 900 }),
      ) as never
    }
    const reply = replies[Math.min(sent.length, replies.length - 1)] ?? silence
    sent.push(init)
    return (await reply(init)) as never
  }
  const options = {
    environment: 'staging',
    issuerId: 'is_tbank01',
    signer,
    d1PublicJwk,
    clock,
    fetch,
  } as const
  return { cards: d1Client({ ...options, random: () => 0, ...more }).cards, sent }
}

/** A clock that fires at once what waits for nothing, as the platform's does. */
class Ticking extends ManualClock {
  /** Moves on in steps, and says after how long the promise was settled. */
  async until(promise: Promise<unknown>, limit: number, step = 50): Promise<number> {
    let settled = false
    const end = (): void => {
      settled = true
    }
    promise.then(end, end)
    // Sealing is no matter of this clock.
    for (let i = 0; i < 20; i++) await this.advance(0)
    while (!settled && this.elapsed() < limit) await this.advance(step)
    return this.elapsed()
  }
}

describe('calling D1', () => {
  test('an attempt ends after 15 s, and not before', async () => {
    const clock = new Ticking()
    const { cards, sent } = clientOn(clock, [silence])
    const call = cards.register({ cardId: 'card-1', card: REGISTER }).catch(() => {})
    while (sent.length === 0) await clock.advance(0)
    await clock.advance(DEFAULTS.client.attemptTimeoutMs.value - 1)
    expect(sent[0]?.signal.aborted).toBe(false)
    await clock.advance(1)
    expect(sent[0]?.signal.aborted).toBe(true)
    await clock.until(call, 70_000)
  })

  test('a call ends after one minute, whatever its attempts and pauses', async () => {
    const clock = new Ticking()
    const { cards, sent } = clientOn(clock, [refused(429, 29), refused(429, 29), silence])
    const call = cards.register({ cardId: 'card-1', card: REGISTER }).catch(() => {})
    expect(await clock.until(call, 80_000)).toBe(60_000)
    expect(sent).toHaveLength(3)
  })

  test('three attempts; Retry-After of 30 s is waited for, of 31 s is not', async () => {
    for (const [after, attempts] of [
      [1, 3],
      [30, 2],
      [31, 1],
    ] as const) {
      const clock = new Ticking()
      const { cards, sent } = clientOn(clock, [refused(503, after)])
      await clock.until(
        cards.register({ cardId: 'card-1', card: REGISTER }).catch(() => {}),
        80_000,
      )
      expect(sent).toHaveLength(attempts)
    }
  })

  test('pauses begin at 200 ms, double, and never exceed 5 s', async () => {
    const pauses: number[] = []
    class Watched extends Ticking {
      override after(ms: number, callback: () => void): () => void {
        if (ms <= 10_000) pauses.push(Math.round(ms))
        return super.after(ms, callback)
      }
    }
    const clock = new Watched()
    const most = { maxAttempts: 10, totalTimeoutMs: 600_000, random: () => 1 - Number.EPSILON }
    const { cards } = clientOn(clock, [refused(503)], most)
    await clock.until(
      cards.register({ cardId: 'card-1', card: REGISTER }).catch(() => {}),
      100_000,
    )
    expect(pauses.filter(ms => ms > 0)).toEqual([200, 400, 800, 1600, 3200, 5000, 5000, 5000, 5000])
  })

  test('eight cards of a bulk registration at once', async () => {
    const clock = new Ticking()
    const { cards, sent } = clientOn(clock, [silence])
    const controller = new AbortController()
    const items = Array.from({ length: 20 }, (_, i) => ({ cardId: `card-${i}`, card: REGISTER }))
    const run = cards.registerMany(items, { signal: controller.signal })
    for (let i = 0; i < 50; i++) await clock.advance(0)
    expect(sent).toHaveLength(8)
    controller.abort()
    await clock.until(run, 1000)
  })

  test('64 connections to a host, idle for 4 s at most', () => {
    const { cert, key } = testCa('D1').issue('issuer', 'clientAuth')
    mtlsFetch({ cert, key }).close()
    expect(agents.at(-1)).toMatchObject({
      keepAlive: true,
      maxSockets: 64,
      maxFreeSockets: 64,
      timeout: 4000,
    })
  })

  test('a certificate that ends in 30 days is reported, one that ends later is not', () => {
    const { cert, key } = testCa('D1').issue('issuer', 'clientAuth')
    const ends = new X509Certificate(cert).validTo
    const told = (beforeTheEnd: number): number => {
      const onExpiry = vi.fn()
      vi.useFakeTimers({ now: Date.parse(ends) - beforeTheEnd, toFake: ['Date'] })
      mtlsFetch({ cert, key, onExpiry }).close()
      vi.useRealTimers()
      return onExpiry.mock.calls.length
    }
    const days = 86_400_000
    expect([told(30 * days + 1), told(30 * days)]).toEqual([0, 1])
  })
})

describe('answering D1', () => {
  let world: World
  beforeAll(async () => {
    world = await World.open()
  })
  afterAll(() => world[Symbol.asyncDispose]())
  const open = { authorization: 'anyone-who-reaches-it', tokenEndpoint: undefined } as const

  /** Whether the promise is settled, now. */
  async function state(promise: Promise<Response>): Promise<number | 'pending'> {
    let seen: number | 'pending' = 'pending'
    promise.then(({ status }) => {
      seen = status
    })
    await settle()
    return seen
  }

  test('a request that hangs is 500 after 30 s', async () => {
    const clock = new ManualClock()
    const issuers = { is_tbank01: world.issuer({ cards: { find: () => new Promise<never>(() => {}) } }) }
    const answer = world.handler({ ...open, clock, issuers })(get(pinPath('card-1')))
    await settle()
    await clock.advance(29_999)
    expect(await state(answer)).toBe('pending')
    await clock.advance(1)
    expect(await state(answer)).toBe(500)
  })

  test('a body that does not come is 400 after 10 s', async () => {
    const clock = new ManualClock()
    const body = new ReadableStream({ pull: () => new Promise(() => {}) })
    const answer = world.handler({ ...open, clock })(put('', { body, duplex: 'half' }))
    await settle()
    await clock.advance(9999)
    expect(await state(answer)).toBe('pending')
    await clock.advance(1)
    expect(await state(answer)).toBe(400)
  })

  test('512 operations at once; the next is refused', async () => {
    const { until, release } = held()
    const find = async () => {
      await until
      return undefined
    }
    const handler = world.handler({ ...open, issuers: { is_tbank01: world.issuer({ cards: { find } }) } })
    const answers = Array.from({ length: 512 }, (_, i) => handler(get(pinPath(`card-${i}`))))
    await settle()
    expect(await Promise.all(answers.slice(-1).map(state))).toEqual(['pending'])
    const one = await handler(get(pinPath('one-more')))
    expect([one.status, world.last.refusal?.reason]).toEqual([500, 'service-busy'])
    release()
    await Promise.all(answers)
  })

  test('600 operations of one card a minute; the next is 403, and one more is not after a tenth of a second', async () => {
    let now = 0
    const find = async () => undefined
    const issuers = { is_tbank01: world.issuer({ cards: { find } }) }
    const handler = world.handler({ ...open, issuers, rates: memoryRates({ now: () => now }) })
    const status = async (card: string) => (await handler(get(pinPath(card)))).status
    for (let i = 0; i < 600; i++) expect(await status('card-1')).toBe(404)
    expect([await status('card-1'), world.last.refusal?.reason]).toEqual([403, 'rate'])
    expect(await status('card-2')).toBe(404)
    now = 99
    expect(await status('card-1')).toBe(403)
    now = 100
    expect([await status('card-1'), await status('card-1')]).toEqual([404, 403])
  })

  test('300,000 operations of one caller a minute, over all cards; the next is refused', () => {
    const rates = memoryRates({ now: () => 0 })
    const signal = AbortSignal.abort()
    const take = (cardId: string, caller: string) =>
      rates.take({ issuerId: 'is_tbank01', cardId, caller, operation: 'getPIN' }, { signal })
    for (let i = 0; i < 300_000; i++)
      if (take(`card-${i % 1000}`, 'd1') !== true) expect.fail(`refused at ${i}`)
    expect([take('another', 'd1'), take('another', 'd2')]).toEqual([false, true])
  })

  test('what has expired is deleted from the stores once an hour', async () => {
    const clock = new ManualClock()
    const forgetRequests = vi.fn(async () => 0)
    const { pins } = world.issuer()
    const handler = world.handler({
      ...open,
      clock,
      issuers: { is_tbank01: world.issuer({ pins: { ...pins, forgetRequests } }) },
    })
    const ask = async (times: number) => {
      await handler(get(pinPath('no-pin')))
      await settle()
      expect(forgetRequests).toHaveBeenCalledTimes(times)
    }
    await ask(0)
    await clock.advance(3_599_999)
    await ask(0)
    await clock.advance(1)
    await ask(1)
    await clock.advance(3_599_999)
    await ask(1)
    await clock.advance(1)
    await ask(2)
  })

  test('a check of /readyz that hangs counts as failed after 2 s', async () => {
    const clock = new ManualClock()
    const health = healthEndpoints({ checks: { vault: () => new Promise<never>(() => {}) }, clock })
    const answer = Promise.resolve(health(new Request('https://issuer.test/readyz')))
    await settle()
    await clock.advance(1999)
    expect(await state(answer)).toBe('pending')
    await clock.advance(1)
    expect(await state(answer)).toBe(503)
  })
})

describe('tokens', () => {
  const NOW = 1_800_000_000_000
  const OWN = { algorithm: 'HS256', issuer: 'https://a.test', audience: 'b', lifetimeSeconds: 900 } as const

  test('clocks of replicas may differ by 5 s', async () => {
    const keys = [{ kty: 'oct', kid: 'T-1', k: randomBytes(32).toString('base64url') }]
    const { token } = await (await ownTokens({ ...OWN, keys, now: () => NOW })).issue({
      subject: 's',
      scopes: [],
    })
    for (const [behind, verified] of [
      [5000, true],
      [6000, false],
    ] as const) {
      const replica = await ownTokens({ ...OWN, keys, now: () => NOW - behind })
      expect(await replica.verify(token, {})).toMatchObject({ verified })
    }
  })

  /** A provider whose clock, keys and answers are the test's. */
  function provider(more: Partial<ProviderTokensOptions> = {}) {
    const pair = ecKeyPair()
    const jwk = { ...pair.publicKey.export({ format: 'jwk' }), kid: 'I-1', alg: 'ES256' }
    const state = { now: NOW, fetched: 0, allowed: 0 }
    const tokens = providerTokens({
      jwks: new URL('https://idp.test/jwks'),
      algorithms: ['ES256'],
      issuer: 'https://idp.test',
      audience: 'pin-api',
      allow: () => {
        state.allowed++
        return true
      },
      now: () => state.now,
      fetch: async () => {
        state.fetched++
        return Response.json({ keys: [jwk] })
      },
      ...more,
    })
    const sign = (times: { iat: number; exp: number }, kid = 'I-1') =>
      new SignJWT({ iss: 'https://idp.test', aud: 'pin-api', client_id: 'd1', ...times })
        .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid })
        .sign(pair.privateKey)
    return { tokens, sign, state }
  }
  const second = NOW / 1000

  test('a provider’s token is taken for one hour after it was issued, whatever its exp says', async () => {
    const { tokens, sign, state } = provider()
    const exp = second + 86_400
    const token = await sign({ iat: second, exp })
    state.now = NOW + 3_605_000
    expect(await tokens.verify(token, {})).toMatchObject({ verified: true })
    const other = provider()
    other.state.now = NOW + 3_606_000
    expect(await other.tokens.verify(await other.sign({ iat: second, exp }), {})).toMatchObject({
      verified: false,
    })
  })

  test('a verdict is remembered for one minute; then it is judged again, by the keys of then', async () => {
    const { tokens, sign, state } = provider()
    const token = await sign({ iat: second, exp: second + 1000 })
    const verify = vi.spyOn(crypto.subtle, 'verify')
    const judged = async (after: number): Promise<number> => {
      state.now = NOW + after
      await tokens.verify(token, {})
      return verify.mock.calls.length
    }
    expect([await judged(0), await judged(59_999), await judged(60_000)]).toEqual([1, 1, 2])
    verify.mockRestore()
  })

  test('a provider that stays away is asked again once a minute in the end, not sooner', async () => {
    const asked: number[] = []
    const { tokens, sign, state } = provider({
      fetch: async () => {
        asked.push(state.now - NOW)
        throw new TypeError('away')
      },
    })
    const token = await sign({ iat: second, exp: second + 1000 })
    for (state.now = NOW; state.now < NOW + 300_000; state.now += 500)
      await tokens.verify(token, {}).catch(() => {})
    const pauses = asked.slice(1).map((at, i) => at - (asked[i] ?? 0))
    expect(pauses).toEqual([1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000])
  })

  test('a fetch of the key set ends after 5 s', async () => {
    const timeout = vi.spyOn(AbortSignal, 'timeout')
    const { tokens, sign } = provider()
    await tokens.verify(await sign({ iat: second, exp: second + 60 }), {})
    expect(timeout.mock.calls).toEqual([[5000]])
    timeout.mockRestore()
  })

  test('a source that goes on trying is locked for a quarter of an hour in the end, not longer', async () => {
    const clock = new ManualClock()
    const secrets = new WrongSecrets(clock)
    const { signal } = new AbortController()
    for (let i = 0; i < 20; i++) {
      const waits = secrets.wrong('s', signal)
      await clock.advance(2000)
      await waits
    }
    // The last wrong one was two seconds ago.
    await clock.advance(900_000 - 2001)
    expect(() => secrets.requireOpen('s')).toThrow()
    await clock.advance(1)
    expect(() => secrets.requireOpen('s')).not.toThrow()
  })

  test('an unknown kid has the key set fetched again, twice a minute at most', async () => {
    const { tokens, sign, state } = provider()
    const ask = async (after: number) => {
      state.now = NOW + after
      await tokens.verify(await sign({ iat: second, exp: second + 1000 }, `no-${after}`), {})
      return state.fetched
    }
    expect([
      await ask(0),
      await ask(29_999),
      await ask(30_000),
      await ask(59_999),
      await ask(60_000),
    ]).toEqual([1, 1, 2, 2, 3])
  })
})

/** What is played here, by the tests above. */
const HERE: readonly string[] = [
  'client.attemptTimeoutMs',
  'client.totalTimeoutMs',
  'client.maxAttempts',
  'client.maxRetryAfterSeconds',
  'client.firstBackoffMs',
  'client.longestBackoffMs',
  'client.concurrency',
  'client.maxSockets',
  'client.idleMs',
  'client.expiryWarningDays',
  'endpoints.timeoutMs',
  'endpoints.bodyTimeoutMs',
  'endpoints.maxConcurrent',
  'endpoints.perCardPerMinute',
  'endpoints.perCallerPerMinute',
  'endpoints.tidyEveryMs',
  'endpoints.healthTimeoutMs',
  'tokens.clockToleranceSeconds',
  'tokens.maxAgeSeconds',
  'tokens.verdictMs',
  'tokens.keysFetchTimeoutMs',
  'tokens.keysCooldownMs',
  'tokens.keysLongestBackoffMs',
  'tokens.wrongSecretLongestLockMs',
]

/** Where the others are played: a file of tests, and the name of the test. */
const ELSEWHERE: Readonly<Record<string, readonly [file: string, title: string]>> = {
  'client.tokenMarginSeconds': ['d1/client/token.test.ts', 'until a minute before it expires'],
  'client.assertionLifetimeSeconds': ['d1/client/client.test.ts', 'the assertion is what D1 asks for'],
  'endpoints.againWithinMs': ['d1/endpoints/interleavings.test.ts', 'what is late does not begin again'],
  'endpoints.strangerEventsPerSecond': [
    'd1/endpoints/strangers.test.ts',
    'a hundred in a second are told one by one, and the others by one event when it is over',
  ],
  'endpoints.waitingPerCard': ['d1/endpoints/failures.test.ts', 'a card with too many Set PINs is 500'],
  'tokens.keysFreshMs': ['d1/endpoints/tokens.test.ts', 'are judged on by the keys that are here'],
  'tokens.keysStaleMs': ['d1/endpoints/tokens.test.ts', 'are judged on by the keys that are here'],
  'tokens.keysFirstBackoffMs': ['d1/endpoints/tokens.test.ts', 'ask a provider that is away ever less often'],
  'tokens.wrongSecrets': ['d1/endpoints/tokens.test.ts', 'for (const delay of [100, 200, 400, 800, 1600])'],
  'tokens.wrongSecretDelayMs': [
    'd1/endpoints/tokens.test.ts',
    'for (const delay of [100, 200, 400, 800, 1600])',
  ],
  'endpoints.auditLinesWaiting': [
    'd1/endpoints/watched.test.ts',
    'ten thousand lines wait for a write that hangs',
  ],
  'tokens.wrongSecretsWaiting': ['d1/endpoints/tokens.test.ts', 'of 32 are held back at once'],
  'tokens.wrongSecretLockMs': ['d1/endpoints/tokens.test.ts', 'time.pass(30_000 - 1600 - 1)'],
  'counter.retentionMs': [
    'seccos/change-counter.test.ts',
    'the index of an intdatag goes a week after its expiry, the record of the card stays',
  ],
  'keys.ephemeralAheadMs': ['jwe/wipe.test.ts', 'just before its time is over'],
  'stores.sqliteBusyMs': ['stores/sqlite.test.ts', 'every commit is on disk'],
  'stores.sqliteLogMs': ['stores/sqlite.test.ts', 'what was replaced is out of the log a minute later'],
}

/**
 * Not played at their own value: what is waited for is a socket, a disk or a token, whose clock is the machine's. The value
 * is pinned, and the named file plays the mechanism with a smaller one.
 */
const PINNED: Readonly<Record<string, readonly [value: number, file: string]>> = {
  'endpoints.lingerMs': [500, 'd1/endpoints/mounting.test.ts'],
  'endpoints.idleSessionMs': [60_000, 'd1/endpoints/watch-server.test.ts'],
  'tokens.overMs': [60_000, 'd1/endpoints/tokens.test.ts'],
  'd1Keys.refreshMs': [300_000, 'd1/endpoints/d1-keys.test.ts'],
  'd1Keys.staleMs': [86_400_000, 'd1/endpoints/d1-keys.test.ts'],
  'd1Keys.timeoutMs': [5000, 'd1/endpoints/d1-keys.test.ts'],
  'd1Keys.firstBackoffMs': [1000, 'd1/endpoints/d1-keys.test.ts'],
  'd1Keys.longestBackoffMs': [60_000, 'd1/endpoints/d1-keys.test.ts'],
  'tools.searchMs': [300_000, 'tools/search.test.ts'],
  'keys.expiryWarningDays': [30, 'key/period.test.ts'],
  'stores.sqliteRetryMs': [20, 'stores/sqlite-threads.test.ts'],
  'stores.postgresTimeoutMs': [5000, '../native-test/postgres/faults.test.ts'],
  'stores.migrationTimeoutMs': [60_000, '../native-test/postgres/versions.test.ts'],
  'stores.purgeBudgetMs': [60_000, 'seccos/change-counter.test.ts'],
  'pkcs11.sessions': [8, 'pkcs11/sessions.test.ts'],
  'pkcs11.queue': [1024, 'pkcs11/executors.test.ts'],
  'pkcs11.waitMs': [10_000, 'pkcs11/executors.test.ts'],
  'pkcs11.callMs': [30_000, 'pkcs11/executors.test.ts'],
  'pkcs11.openMs': [30_000, 'pkcs11/executors.test.ts'],
  'pkcs11.closeMs': [10_000, 'pkcs11/executors.test.ts'],
  'pkcs11.keepAliveMs': [60_000, 'pkcs11/executors.test.ts'],
  'pkcs11.turnMs': [10, 'pkcs11/executors.test.ts'],
  'pkcs11.firstPauseMs': [100, 'pkcs11/executors.test.ts'],
  'pkcs11.longestPauseMs': [500, 'pkcs11/executors.test.ts'],
  'pkcs11.childGraceMs': [1000, 'pkcs11/executors.test.ts'],
  'pkcs11.childAttempts': [3, 'pkcs11/executors.test.ts'],
  'pkcs11.spareAfterMs': [200, 'pkcs11/executors.test.ts'],
  'pkcs11.groupProbeMs': [2000, 'pkcs11/group.test.ts'],
  'pkcs11.failBackAfter': [3, 'pkcs11/group.test.ts'],
  'pkcs11.lateCalls': [3, 'pkcs11/elsewhere.test.ts'],
}

test('each default is played here, or where it says, or is pinned', () => {
  const all = Object.entries(DEFAULTS).flatMap(([room, rows]) =>
    Object.keys(rows).map(name => `${room}.${name}`),
  )
  expect([...HERE, ...Object.keys(ELSEWHERE), ...Object.keys(PINNED)].sort()).toEqual([...all].sort())
  for (const [name, [file, title]] of Object.entries(ELSEWHERE)) {
    const text = readFileSync(join(import.meta.dirname, file), 'utf8')
    expect([name, text.includes(title)]).toEqual([name, true])
  }
  const rooms: Readonly<Record<string, Readonly<Record<string, { readonly value: number }>>>> = DEFAULTS
  for (const [name, [value, file]] of Object.entries(PINNED)) {
    const [room = '', row = ''] = name.split('.')
    expect([name, rooms[room]?.[row]?.value]).toEqual([name, value])
    expect([file, existsSync(join(import.meta.dirname, file))]).toEqual([file, true])
  }
})
