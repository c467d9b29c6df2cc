/**
 * Whatever waits ever longer from failure to failure begins with the first pause again once it has worked. One story, told of
 * each: three failures, one success, one failure.
 */
import { generateKeyPairSync } from 'node:crypto'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { describe, expect, test } from 'vitest'
import type { Executor } from '../src/backend/pkcs11/executor/executor.js'
import { Supervisor } from '../src/backend/pkcs11/executor/supervisor.js'
import { DEFAULTS } from '../src/base/defaults.js'
import { TokenSource } from '../src/d1/client/token.js'
import { d1PublicKeys, providerTokens, softwareSigner } from '../src/d1.js'
import { ManualClock, settle } from './d1/client/times.js'

/** What asks something else for something, and waits after it has failed. */
interface Asker {
  readonly clock: ManualClock
  /** The other side is away, or not. */
  away: boolean
  /** How often it was asked. */
  asked: number
  /** The first pause, and one that is longer than any. */
  readonly first: number
  readonly longest: number
  /** Wants what is to be had; true where it is there. */
  want(): Promise<boolean>
  /** What it has is good no more. */
  outlive(): Promise<void>
}

async function d1Keys(): Promise<Asker> {
  const { publicKey } = await generateKeyPair('ECDH-ES', { crv: 'P-256' })
  const jwk = { ...(await exportJWK(publicKey)), kid: 'D1' }
  const clock = new ManualClock()
  const keys = d1PublicKeys({ from: () => answer(asker, [jwk]), refreshMs: 1, staleMs: 1, clock })
  const { firstBackoffMs, longestBackoffMs } = DEFAULTS.d1Keys
  const asker: Asker = {
    clock,
    away: false,
    asked: 0,
    first: firstBackoffMs.value,
    longest: longestBackoffMs.value,
    want: () => worked(keys),
    outlive: () => clock.advance(2),
  }
  return asker
}

async function provider(): Promise<Asker> {
  const { publicKey, privateKey } = await generateKeyPair('ES256')
  const keys = { keys: [{ ...(await exportJWK(publicKey)), kid: 'P', alg: 'ES256' }] }
  const clock = new ManualClock()
  const issuer = 'https://idp.test'
  const tokens = providerTokens({
    jwks: new URL(`${issuer}/jwks`),
    algorithms: ['ES256'],
    issuer,
    audience: 'pins',
    allow: () => true,
    staleMs: 1,
    fetch: async () => Response.json(answer(asker, keys)),
    now: () => clock.now(),
  })
  let tokenId = 0
  const verify = async () => {
    const iat = Math.floor(clock.now() / 1000)
    const claims = { iss: issuer, aud: 'pins', iat, exp: iat + 60, jti: String(tokenId++) }
    const token = new SignJWT(claims).setProtectedHeader({ alg: 'ES256', kid: 'P', typ: 'at+jwt' })
    const verdict = await tokens.verify(await token.sign(privateKey), {
      signal: new AbortController().signal,
    })
    expect(verdict.verified).toBe(true)
  }
  const { keysFirstBackoffMs, keysLongestBackoffMs, keysFreshMs } = DEFAULTS.tokens
  const asker: Asker = {
    clock,
    away: false,
    asked: 0,
    first: keysFirstBackoffMs.value,
    longest: keysLongestBackoffMs.value,
    want: () => worked(verify),
    outlive: () => clock.advance(keysFreshMs.value + 1),
  }
  return asker
}

async function d1Token(): Promise<Asker> {
  const clock = new ManualClock()
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const [baseMs, capMs] = [200, 5000]
  const body = () => JSON.stringify({ access_token: 'abc', token_type: 'Bearer', expires_in: 900 })
  const source = new TokenSource({
    authBase: 'https://d1.test',
    signer: softwareSigner({ kid: 'S', privateKey }),
    issuer: 'is_tbank01',
    audience: undefined,
    lifetimeSeconds: undefined,
    transport: {
      fetch: async () => ({
        status: 200,
        headers: { get: () => null },
        body: (async function* () {
          yield new TextEncoder().encode(answer(asker, body()))
        })(),
      }),
      clock,
      random: () => 1,
      attemptMs: 10_000,
      totalMs: 60_000,
      retry: { attempts: 1, baseMs, capMs, maxRetryAfterSeconds: 30 },
      retryableErrorCodes: new Map(),
    },
  })
  const asker: Asker = {
    clock,
    away: false,
    asked: 0,
    first: baseMs,
    longest: capMs,
    // It waits by itself, and then asks: whether it has asked is what counts.
    want: async () => {
      const before = asker.asked
      const call = worked(() => source.get())
      for (let turn = 0; turn < 50 && asker.asked === before; turn++) await clock.advance(0)
      return asker.asked > before && (await call)
    },
    outlive: async () => source.refuse('abc'),
  }
  return asker
}

function answer<T>(asker: Asker, value: T): T {
  asker.asked++
  if (asker.away) throw new TypeError('fetch failed')
  return value
}

const worked = (call: () => Promise<unknown>): Promise<boolean> =>
  call().then(
    () => true,
    () => false,
  )

describe('after a success the pauses begin anew', () => {
  test.each([
    ['D1’s public keys', d1Keys],
    ['the key set of a provider of tokens', provider],
    ['the client’s token', d1Token],
  ])('%s', async (_what, make) => {
    const asker = await make()
    const { clock, first, longest } = asker
    expect(await asker.want()).toBe(true)
    asker.away = true
    await asker.outlive()
    for (let failures = 1; failures <= 3; failures++) {
      const before = asker.asked
      expect(await asker.want()).toBe(false)
      expect(asker.asked).toBe(before + 1)
      await clock.advance(longest)
    }
    asker.away = false
    expect(await asker.want()).toBe(true)
    asker.away = true
    await asker.outlive()
    expect(await asker.want()).toBe(false)
    const { asked } = asker
    await clock.advance(first - 1)
    await asker.want()
    expect(asker.asked).toBe(asked)
    await clock.advance(1)
    await asker.want()
    expect(asker.asked).toBe(asked + 1)
  })

  test('the recovery of a token', async () => {
    const pauses: number[] = []
    const steps: (() => void)[] = []
    let away = true
    const comeBack = async (): Promise<void> => {
      if (away) throw new Error('away')
    }
    const executor = { letGo: async () => undefined, comeBack } as Partial<Executor> as Executor
    const later = (step: () => void, ms: number) => {
      pauses.push(ms)
      steps.push(step)
      return () => undefined
    }
    const supervisor = new Supervisor(
      executor,
      { onEvent: undefined, reinitialise: true },
      { later, soon: later, random: () => 1 },
    )
    const lost = () => supervisor.recover('initialise', new Error('lost'), supervisor.generation)
    await lost().catch(() => undefined)
    for (const failures of [2, 3]) {
      steps.at(-1)?.()
      await settle()
      expect(pauses).toHaveLength(failures)
    }
    away = false
    steps.at(-1)?.()
    await settle()
    expect(supervisor.state).toBe('open')
    away = true
    await lost().catch(() => undefined)
    const { firstPauseMs } = DEFAULTS.pkcs11
    expect(pauses).toEqual([1, 2, 4, 1].map(times => times * firstPauseMs.value))
  })
})
