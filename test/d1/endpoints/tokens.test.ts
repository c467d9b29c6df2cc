/** Bearer tokens: the issuer's own, and those of its identity provider. */
import { createHash, randomBytes } from 'node:crypto'
import {
  decodeJwt,
  decodeProtectedHeader,
  errors,
  exportJWK,
  generateKeyPair,
  type JWK,
  type JWTPayload,
  SignJWT,
} from 'jose'
import { beforeAll, describe, expect, test, vi } from 'vitest'
import {
  authenticate,
  readBasic,
  readClients,
  WrongSecrets,
} from '../../../src/d1/endpoints/token-endpoint.js'
import { judgeToken, TokenMemory } from '../../../src/d1/endpoints/token-verdict.js'
import {
  type OwnTokensOptions,
  ownTokens,
  type ProviderTokensOptions,
  providerTokens,
} from '../../../src/d1.js'
import { failure } from '../../support/errors.js'

const NO_OPTIONS = {}
const GRANT = { subject: 'd1-client', scopes: [] }
const secret = (kid: string): JWK => ({ kty: 'oct', kid, k: randomBytes(32).toString('base64url') })
const own = (more?: Partial<OwnTokensOptions>): OwnTokensOptions => ({
  algorithm: 'HS256',
  keys: [secret('T-1')],
  issuer: 'https://issuer.test',
  audience: 'https://pin.test',
  lifetimeSeconds: 900,
  ...more,
})

async function keyPair(alg: string, kid: string): Promise<{ private: JWK; public: JWK }> {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true })
  return {
    private: { ...(await exportJWK(privateKey)), kid },
    public: { ...(await exportJWK(publicKey)), kid, alg },
  }
}

describe('own tokens', () => {
  test.each(['HS256', 'ES256'] as const)('%s: issued, verified, and what is in them', async algorithm => {
    const now = 1_800_000_000_999
    const keys = [algorithm === 'HS256' ? secret('T-1') : (await keyPair('ES256', 'T-1')).private]
    const tokens = await ownTokens(own({ algorithm, keys, now: () => now }))
    const { token, expiresAt, expiresInSeconds } = await tokens.issue({ subject: 'd1', scopes: ['a', 'b'] })
    expect([expiresAt, expiresInSeconds]).toEqual([1_800_000_900_000, 900])
    expect(decodeProtectedHeader(token)).toEqual({ alg: algorithm, kid: 'T-1', typ: 'at+jwt' })
    const { jti, ...claims } = decodeJwt(token)
    expect(jti).toMatch(/^[0-9a-f-]{36}$/)
    expect(claims).toEqual({
      iss: 'https://issuer.test',
      aud: 'https://pin.test',
      sub: 'd1',
      client_id: 'd1',
      scope: 'a b',
      iat: 1_800_000_000,
      exp: 1_800_000_900,
    })
    expect(await tokens.verify(token, NO_OPTIONS)).toMatchObject({ verified: true, subject: 'd1' })
  })

  test('end when their time is over', async () => {
    let now = 1_800_000_000_000
    const tokens = await ownTokens(own({ now: () => now }))
    const { token } = await tokens.issue(GRANT)
    now += 899_000
    expect(await tokens.verify(token, NO_OPTIONS)).toMatchObject({ verified: true })
    now += 10_000
    expect(await tokens.verify(token, NO_OPTIONS)).toEqual({ verified: false, reason: 'ERR_JWT_EXPIRED' })
  })

  test('have one text each: a second spelling of the same signature is refused', async () => {
    const tokens = await ownTokens(own())
    const { token } = await tokens.issue(GRANT)
    const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
    // 32 bytes are 43 characters, of which the last has two bits to spare.
    const next = ALPHABET.charAt(ALPHABET.indexOf(token.at(-1) ?? '') ^ 1)
    for (const other of [token.slice(0, -1) + next, `${token}=`, token.replace('.', '=.')]) {
      const verdict = { verified: false, reason: 'ERR_JWS_INVALID' }
      expect(await tokens.verify(other, NO_OPTIONS)).toEqual(verdict)
    }
    expect(await tokens.verify(token, NO_OPTIONS)).toMatchObject({ verified: true })
  })

  test('outlive the replacement of a key', async () => {
    const [one, two] = [secret('T-1'), secret('T-2')]
    const before = await ownTokens(own({ keys: [one] }))
    const both = await ownTokens(own({ keys: [two, one] }))
    const after = await ownTokens(own({ keys: [two] }))
    const old = (await before.issue(GRANT)).token
    const young = (await both.issue(GRANT)).token
    expect(decodeProtectedHeader(young).kid).toBe('T-2')
    expect(await both.verify(old, NO_OPTIONS)).toMatchObject({ verified: true })
    expect(await after.verify(young, NO_OPTIONS)).toMatchObject({ verified: true })
    expect(await after.verify(old, NO_OPTIONS)).toEqual({
      verified: false,
      reason: 'ERR_JWKS_NO_MATCHING_KEY',
    })
  })

  test('of one algorithm are not of the other', async () => {
    const pair = await keyPair('ES256', 'T-1')
    const es = await ownTokens(own({ algorithm: 'ES256', keys: [pair.private] }))
    // The public key as an HMAC secret, the classic confusion.
    const forged = await new SignJWT({})
      .setProtectedHeader({ alg: 'HS256', kid: 'T-1', typ: 'at+jwt' })
      .sign(createHash('sha256').update(JSON.stringify(pair.public)).digest())
    expect(await es.verify(forged, NO_OPTIONS)).toEqual({
      verified: false,
      reason: 'ERR_JOSE_ALG_NOT_ALLOWED',
    })
  })

  test('mistakes are ERR_ARGUMENT, and show no key', async () => {
    const { private: pair, public: half } = await keyPair('ES256', 'E-1')
    const { private: p384 } = await keyPair('ES384', 'E-1')
    const short = { kty: 'oct', kid: 'T', k: randomBytes(31).toString('base64url') }
    const rows: readonly object[] = [
      { algorithm: 'none' },
      { algorithm: 'RS256' },
      { keys: [] },
      { keys: secret('T-1') },
      { keys: [null] },
      { keys: [{ ...secret('x'), kid: undefined }] },
      { keys: [{ ...secret('x'), kid: '' }] },
      { keys: [secret('T-1'), secret('T-1')] },
      { keys: [short] },
      { keys: [pair] },
      { keys: [{ ...secret('T'), k: 7 }] },
      { algorithm: 'ES256', keys: [secret('T')] },
      { algorithm: 'ES256', keys: [half] },
      { algorithm: 'ES256', keys: [p384] },
      { algorithm: 'ES256', keys: [{ ...pair, x: pair.y }] },
      { issuer: '' },
      { audience: undefined },
      { lifetimeSeconds: 59 },
      { lifetimeSeconds: 3601 },
      { lifetimeSeconds: 900.5 },
      { now: 1 },
      { lifetime: 900 },
    ]
    for (const more of rows) {
      await failure(() => ownTokens(own(more)), 'ERR_ARGUMENT', [short.k, pair.d ?? '', p384.d ?? ''])
    }
    await failure(() => ownTokens(undefined as never), 'ERR_ARGUMENT')
  })
})

describe("an identity provider's tokens", () => {
  const URL_OF_SET = new URL('https://idp.test/jwks')
  let first: { private: JWK; public: JWK }
  let second: { private: JWK; public: JWK }
  beforeAll(async () => {
    first = await keyPair('ES256', 'I-1')
    second = await keyPair('PS256', 'I-2')
  })

  const provider = (more?: Partial<ProviderTokensOptions>) =>
    providerTokens({
      jwks: { keys: [first.public, second.public] },
      algorithms: ['ES256', 'PS256'],
      issuer: 'https://idp.test',
      audience: 'pin-api',
      allow: claims => claims['client_id'] === 'd1',
      ...more,
    })
  const sign = (claims: object = {}, alg = 'ES256', jwk = first.private, header: object = {}) =>
    new SignJWT({ iss: 'https://idp.test', aud: 'pin-api', sub: 'svc-d1', client_id: 'd1', ...claims })
      .setProtectedHeader({ alg, typ: 'at+jwt', kid: jwk.kid ?? '', ...header })
      .setIssuedAt((claims as { iat?: number }).iat)
      .setExpirationTime('5m')
      .sign(jwk)

  test('are verified by its key set', async () => {
    expect(await provider().verify(await sign(), NO_OPTIONS)).toEqual({ verified: true, subject: 'svc-d1' })
    const other = await sign({}, 'PS256', second.private)
    expect(await provider().verify(other, NO_OPTIONS)).toMatchObject({ verified: true })
    const nobody = await sign({ sub: undefined })
    expect(await provider().verify(nobody, NO_OPTIONS)).toEqual({ verified: true })
  })

  test('are refused where a claim, a key or an algorithm is not the right one', async () => {
    const stranger = await keyPair('ES256', 'I-1')
    const unknown = await keyPair('ES256', 'I-9')
    const bad: Readonly<Record<string, Promise<string>>> = {
      issuer: sign({ iss: 'https://other.test' }),
      audience: sign({ aud: 'account' }),
      'another client': sign({ client_id: 'shop' }),
      'a subject that is no string': sign({ sub: 1_800_000_000 }),
      'subjects in a list': sign({ sub: ['svc-d1'] }),
      'another key': sign({}, 'ES256', stranger.private),
      'another kid': sign({}, 'ES256', unknown.private),
      'the key of another algorithm': sign({}, 'PS256', { ...second.private, kid: 'I-1' }),
    }
    for (const [what, token] of Object.entries(bad)) {
      expect(await provider().verify(await token, NO_OPTIONS), what).toMatchObject({ verified: false })
    }
    const endless = new SignJWT({ iss: 'https://idp.test', aud: 'pin-api', client_id: 'd1' })
      .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid: 'I-1' })
      .setIssuedAt()
      .sign(first.private)
    expect(await provider().verify(await endless, NO_OPTIONS)).toMatchObject({ verified: false })
    const narrow = provider({ algorithms: ['PS256'] })
    expect(await narrow.verify(await sign(), NO_OPTIONS)).toMatchObject({ verified: false })
    const untyped = await sign({}, 'ES256', first.private, { typ: 'JWT' })
    expect(await provider().verify(untyped, NO_OPTIONS)).toMatchObject({ verified: false })
    expect(await provider({ type: 'JWT' }).verify(untyped, NO_OPTIONS)).toMatchObject({ verified: true })
    expect(await provider({ type: 'any-type' }).verify(untyped, NO_OPTIONS)).toMatchObject({ verified: true })
    const old = await sign({ iat: Math.floor(Date.now() / 1000) - 100 })
    expect(await provider({ maxAgeSeconds: 90 }).verify(old, NO_OPTIONS)).toMatchObject({ verified: false })
    const later = provider({ now: () => Date.now() + 600_000 })
    expect(await later.verify(await sign(), NO_OPTIONS)).toEqual({
      verified: false,
      reason: 'ERR_JWT_EXPIRED',
    })
  })

  test('of any rubbish are refused, not failed', async () => {
    for (const token of ['', '.', '..', 'a.b.c', `${'x'.repeat(4000)}.y.z`, 'eyJhbGciOiJub25lIn0.e30.']) {
      expect(await provider().verify(token, NO_OPTIONS)).toMatchObject({ verified: false })
    }
  })

  test('are verified by a set that is fetched once and kept; kids that nobody has do not have it fetched again', async () => {
    let fetched = 0
    const fetch = async (url: string) => {
      expect(url).toBe(URL_OF_SET.href)
      fetched++
      return Response.json({ keys: [first.public] })
    }
    const tokens = provider({ jwks: URL_OF_SET, fetch })
    for (let i = 0; i < 3; i++) {
      expect(await tokens.verify(await sign(), NO_OPTIONS)).toMatchObject({ verified: true })
    }
    expect(fetched).toBe(1)
    for (let i = 0; i < 3; i++) {
      const unknown = await sign({}, 'PS256', second.private)
      expect(await tokens.verify(unknown, NO_OPTIONS)).toMatchObject({ verified: false })
    }
    expect(fetched).toBe(1)
  })

  test('that are bad under a key that is known do not have the set fetched again, however long ago that was', async () => {
    const state = { fetched: 0, now: Date.now() }
    const fetch = async () => {
      state.fetched++
      return Response.json({ keys: [first.public] })
    }
    const tokens = provider({ jwks: URL_OF_SET, fetch, now: () => state.now })
    expect(await tokens.verify(await sign(), NO_OPTIONS)).toMatchObject({ verified: true })
    state.now += 120_000
    const stranger = await keyPair('ES256', 'I-1')
    for (const bad of [sign({}, 'ES256', stranger.private), sign({ aud: 'account' })])
      expect(await tokens.verify(await bad, NO_OPTIONS)).toMatchObject({ verified: false })
    expect(state.fetched).toBe(1)
  })

  test('are verified by a key that the provider has only just begun to sign with; one that nobody has is refused', async () => {
    const state = { now: Date.now(), away: false, keys: [first.public] as object[] }
    const fetch = async () => {
      if (state.away) throw new TypeError('fetch failed')
      return Response.json({ keys: state.keys })
    }
    const tokens = provider({ jwks: URL_OF_SET, fetch, now: () => state.now })
    expect(await tokens.verify(await sign(), NO_OPTIONS)).toMatchObject({ verified: true })
    const rotated = await sign({}, 'PS256', second.private)
    state.keys = [first.public, second.public]
    // Too soon to ask again: whoever invents kids does not make this service ask for each.
    expect(await tokens.verify(rotated, NO_OPTIONS)).toMatchObject({ verified: false })
    state.now += 31_000
    state.away = true
    expect(await tokens.verify(rotated, NO_OPTIONS)).toMatchObject({ verified: false })
    state.away = false
    state.now += 120_000
    expect(await tokens.verify(await sign({}, 'PS256', second.private), NO_OPTIONS)).toMatchObject({
      verified: true,
    })
  })

  const LATE = 600_000
  const HOUR = 3_600_000

  /** A provider that answers, or does not, and counts. */
  function remote(more: Partial<ProviderTokensOptions> = {}) {
    const state = { fetched: 0, away: false, now: Date.now() }
    const fetch = async () => {
      state.fetched++
      if (state.away) throw new TypeError('fetch failed')
      return Response.json({ keys: [first.public] })
    }
    const tokens = provider({ jwks: URL_OF_SET, fetch, now: () => state.now, ...more })
    const verify = async () => {
      const iat = Math.floor(state.now / 1000)
      const token = new SignJWT({
        iss: 'https://idp.test',
        aud: 'pin-api',
        client_id: 'd1',
        iat,
        exp: iat + 60,
      })
      return tokens.verify(
        await token.setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid: 'I-1' }).sign(first.private),
        NO_OPTIONS,
      )
    }
    return { state, verify }
  }

  test('are judged on by the keys that are here while the provider is away, for so long', async () => {
    const { state, verify } = remote()
    expect(await verify()).toMatchObject({ verified: true })
    state.away = true
    state.now += LATE
    for (let i = 0; i < 5; i++) expect(await verify()).toMatchObject({ verified: true })
    expect(state.fetched).toBe(2)
    state.now += HOUR - 1
    expect(await verify()).toMatchObject({ verified: true })
    state.now += 60_001
    await expect(verify()).rejects.toThrow()
    state.away = false
    state.now += 60_001
    expect(await verify()).toMatchObject({ verified: true })
  })

  test('are fetched anew where the clock went back behind the last time, and asked for again at once', async () => {
    const { state, verify } = remote()
    expect(await verify()).toMatchObject({ verified: true })
    state.now -= 10 * HOUR
    expect(await verify()).toMatchObject({ verified: true })
    expect(state.fetched).toBe(2)
    state.away = true
    state.now += 3 * HOUR
    await expect(verify()).rejects.toThrow()
    state.away = false
    // The time of the next attempt is ten hours off by this clock.
    state.now -= 10 * HOUR
    expect(await verify()).toMatchObject({ verified: true })
  })

  test('ask a provider that is away ever less often, and one request at a time', async () => {
    const { state, verify } = remote()
    state.away = true
    const outcomes = await Promise.allSettled([verify(), verify(), verify()])
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected'])
    expect(state.fetched).toBe(1)
    for (const [after, fetched] of [
      [999, 1],
      [1, 2],
      [1999, 2],
      [1, 3],
      [60_000, 4],
    ] as const) {
      state.now += after
      await expect(verify()).rejects.toThrow()
      expect(state.fetched).toBe(fetched)
    }
  })

  test('without a kid are tried with every key of the algorithm', async () => {
    const twin = await keyPair('ES256', 'I-3')
    const tokens = provider({ jwks: { keys: [first.public, twin.public, second.public] } })
    const unnamed = (key: typeof first) => sign({}, 'ES256', key.private, { kid: undefined })
    for (const key of [first, twin]) {
      expect(await tokens.verify(await unnamed(key), NO_OPTIONS)).toMatchObject({ verified: true })
    }
    const stranger = await unnamed(await keyPair('ES256', 'I-4'))
    expect(await tokens.verify(stranger, NO_OPTIONS)).toEqual({
      verified: false,
      reason: 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED',
    })
    // What the right key finds wrong is the verdict.
    const second1970 = await sign({ iat: 1, exp: 2 }, 'ES256', twin.private, { kid: undefined })
    expect(await tokens.verify(second1970, NO_OPTIONS)).toEqual({
      verified: false,
      reason: 'ERR_JWT_EXPIRED',
    })
  })

  test('show what binds them; what binds them to something else is refused', async () => {
    const bound = await sign({ cnf: { 'x5t#S256': 'abc' }, jti: 'j-1' })
    expect(await provider().verify(bound, NO_OPTIONS)).toMatchObject({ confirmation: 'abc', tokenId: 'j-1' })
    for (const cnf of [
      { jkt: 'abc' },
      { 'x5t#S256': 'abc', jkt: 'abc' },
      {},
      'abc',
      null,
      { 'x5t#S256': 7 },
    ]) {
      expect(await provider().verify(await sign({ cnf }), NO_OPTIONS)).toEqual({
        verified: false,
        reason: 'cnf-not-supported',
      })
    }
  })

  test('are allowed by what is known of the request, too', async () => {
    const tokens = provider({ allow: (_claims, { issuerId }) => issuerId === 'is_tbank01' })
    expect(await tokens.verify(await sign(), { issuerId: 'is_tbank01' })).toMatchObject({ verified: true })
    expect(await tokens.verify(await sign(), { issuerId: 'is_other02' })).toMatchObject({ verified: false })
  })

  test.each([
    ['no network', () => Promise.reject(new TypeError('fetch failed'))],
    ['an error', async () => new Response('', { status: 503 })],
    ['an error that brings a set', async () => Response.json({ keys: [first.public] }, { status: 503 })],
    ['no JSON', async () => new Response('<html>')],
    ['no set', async () => Response.json({})],
    ['keys that are none', async () => Response.json({ keys: ['x'] })],
    ['a key that is none behind one that is', async () => Response.json({ keys: [first.public, 'x'] })],
    ['far too much', async () => new Response(`{"keys":[],"x":"${'x'.repeat(300_000)}"}`)],
    ['a redirect', async () => new Response('', { status: 302, headers: { location: 'https://x.test' } })],
  ])('cannot be judged with %s: that is a failure and no verdict', async (_what, fetch) => {
    await expect(provider({ jwks: URL_OF_SET, fetch }).verify(await sign(), NO_OPTIONS)).rejects.toThrow()
  })

  test('cannot be judged by a set that does not come', async () => {
    const fetch = (_url: string, { signal }: { signal: AbortSignal }) =>
      new Promise<Response>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    const tokens = provider({ jwks: URL_OF_SET, fetch, fetchTimeoutMs: 30 })
    await expect(tokens.verify(await sign(), NO_OPTIONS)).rejects.toThrow()
    const unreachable = provider({ jwks: new URL('https://127.0.0.1:1/jwks') })
    await expect(unreachable.verify(await sign(), NO_OPTIONS)).rejects.toThrow()
  })

  test('mistakes are ERR_ARGUMENT', async () => {
    const rows: readonly object[] = [
      { jwks: new URL('http://idp.test/jwks') },
      { jwks: 'https://idp.test/jwks' },
      { jwks: undefined },
      { algorithms: [] },
      { algorithms: 'ES256' },
      { algorithms: ['HS256'] },
      { algorithms: ['none'] },
      { issuer: '' },
      { audience: 7 },
      { allow: undefined },
      { type: '' },
      { maxAgeSeconds: 0 },
      { maxAgeSeconds: 86_401 },
      { staleMs: -1 },
      { now: 7 },
      { fetch: 'x' },
      { allowed: () => true },
    ]
    for (const more of rows) await failure(() => provider(more), 'ERR_ARGUMENT')
  })
})

describe('what is remembered', () => {
  const NOW = 1_800_000_000_000

  test('a token, until it expires, and for so long at most', () => {
    const memory = new TokenMemory(60_000)
    memory.keep('long', { sub: 'a', exp: NOW / 1000 + 900 }, NOW)
    memory.keep('short', { sub: 'b', exp: NOW / 1000 + 10 }, NOW)
    memory.keep('without end', { sub: 'c' }, NOW)
    expect(memory.recall('long', NOW + 59_999)).toMatchObject({ sub: 'a' })
    expect(memory.recall('long', NOW + 60_000)).toBeUndefined()
    expect(memory.recall('short', NOW + 9999)).toMatchObject({ sub: 'b' })
    expect(memory.recall('short', NOW + 10_000)).toBeUndefined()
    expect(memory.recall('without end', NOW)).toBeUndefined()
    expect(memory.recall('lon', NOW)).toBeUndefined()
  })

  test('64 of them', () => {
    const memory = new TokenMemory(60_000)
    const claims = { exp: NOW / 1000 + 900 }
    for (let i = 0; i < 100; i++) memory.keep(`t${i}`, claims, NOW)
    memory.keep('t99', claims, NOW)
    expect(memory.size).toBe(64)
    expect(memory.recall('t35', NOW)).toBeUndefined()
    expect(memory.recall('t36', NOW)).toBe(claims)
  })

  test('what is over stays over, whichever clock said so', async () => {
    let [now, elapsed] = [NOW, 0]
    const memory = new TokenMemory(900_000, () => elapsed)
    const verify = async () => ({ sub: 'a', exp: NOW / 1000 + 900 })
    const judge = (token: string, how: () => Promise<JWTPayload> = verify) =>
      judgeToken(token, { memory, now, verify: how, allow: () => true })
    const over = { verified: false, reason: 'ERR_JWT_EXPIRED' }
    expect(await judge('YQ.Yg')).toMatchObject({ verified: true })
    // The wall clock was set back over and over; by the other one the token is long over.
    elapsed += 900_000 + 60_001
    expect(await judge('YQ.Yg')).toEqual(over)
    expect(await judge('Yw.ZA')).toMatchObject({ verified: true })
    // Seen to be expired once, and then the clock goes back.
    now += 901_000
    const expired = () => Promise.reject(new errors.JWTExpired('x', {}))
    expect(await judge('Yw.ZA', expired)).toEqual(over)
    now -= 901_000
    expect(await judge('Yw.ZA')).toEqual(over)
    for (let i = 0; i < 1100; i++) memory.bury(`t${i}`)
    // 1024 of them, to the last.
    const oldest = ['t0', 't75', 't76', 't1099']
    expect(oldest.map(name => memory.isOver(name))).toEqual([false, false, true, true])
  })

  test('two tokens at once make one request for the keys', async () => {
    const { private: key, public: half } = await keyPair('ES256', 'I-1')
    let fetched = 0
    const tokens = providerTokens({
      jwks: new URL('https://idp.test/jwks'),
      fetch: async () => {
        fetched++
        return Response.json({ keys: [half] })
      },
      algorithms: ['ES256'],
      issuer: 'https://idp.test',
      audience: 'pin-api',
      allow: () => true,
    })
    const sign = (jti: string) =>
      new SignJWT({ iss: 'https://idp.test', aud: 'pin-api', jti })
        .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid: 'I-1' })
        .setIssuedAt()
        .setExpirationTime('5m')
        .sign(key)
    const both = await Promise.all(['a', 'b'].map(sign))
    const verdicts = await Promise.all(both.map(token => tokens.verify(token, NO_OPTIONS)))
    expect(verdicts).toMatchObject([{ verified: true }, { verified: true }])
    expect(fetched).toBe(1)
  })

  test('the claims, not the permission: allow is asked each time', async () => {
    const { private: key, public: half } = await keyPair('ES256', 'I-1')
    let allowed = true
    let verified = 0
    const tokens = providerTokens({
      jwks: { keys: [half] },
      algorithms: ['ES256'],
      issuer: 'https://idp.test',
      audience: 'pin-api',
      allow: () => allowed,
      now: () => {
        verified++
        return Date.now()
      },
    })
    const token = await new SignJWT({ iss: 'https://idp.test', aud: 'pin-api' })
      .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid: 'I-1' })
      .setIssuedAt()
      .setExpirationTime('5m')
      .sign(key)
    expect(await tokens.verify(token, NO_OPTIONS)).toEqual({ verified: true })
    expect(await tokens.verify(token, NO_OPTIONS)).toEqual({ verified: true })
    allowed = false
    expect(await tokens.verify(token, NO_OPTIONS)).toEqual({ verified: false, reason: 'not-allowed' })
    expect(verified).toBe(3)
  })

  test('no token that was refused', async () => {
    const tokens = await ownTokens(own())
    const { token } = await tokens.issue(GRANT)
    const spoilt = `${token.slice(0, -4)}AAAA`
    for (const good of [false, true, false]) {
      expect(await tokens.verify(good ? token : spoilt, NO_OPTIONS)).toMatchObject({ verified: good })
    }
  })
})

describe('a client of the token endpoint', () => {
  const clients = readClients([
    { clientId: 'is_tbank01', clientSecret: 'sixteen chars+%:' },
    { clientId: 'büro: 1', clientSecret: '100% sure & certain' },
  ])
  const header = (id: string, secret: string) => `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`

  test.each([
    ['as it is', header('is_tbank01', 'sixteen chars+%:'), 'is_tbank01'],
    // encodeURIComponent leaves the underscore; D1's OAuth library does not.
    ['form-encoded', header('is%5Ftbank01', 'sixteen+chars%2B%25%3A'), 'is_tbank01'],
    ['percent-encoded', header('is_tbank01', 'sixteen%20chars%2B%25%3A'), 'is_tbank01'],
    ['with a colon in its id', header('b%C3%BCro%3A+1', '100%25+sure+%26+certain'), 'büro: 1'],
    // What cannot be decoded was not encoded.
    ['half encoded', header('is%5Ftbank01', 'sixteen chars+%:'), 'is_tbank01'],
    ['encoded twice', header('is%255Ftbank01', 'sixteen%2Bchars%252B%2525%253A'), undefined],
    ['with an encoded secret of another', header('is_tbank01', '100%25+sure+%26+certain'), undefined],
  ])('%s', (_what, given, expected) => {
    expect(authenticate(clients, given)).toBe(expected)
  })
})

describe('wrong secrets', () => {
  function clock() {
    const timers = new Set<{ at: number; callback: () => void }>()
    const state = { now: 0 }
    return {
      now: () => Number.NaN,
      elapsed: () => state.now,
      after: (ms: number, callback: () => void) => {
        const timer = { at: state.now + ms, callback }
        timers.add(timer)
        return () => void timers.delete(timer)
      },
      pass: (ms: number) => {
        state.now += ms
        for (const timer of timers) if (timer.at <= state.now) timer.callback()
      },
      timers,
    }
  }
  const never = new AbortController().signal

  test('are answered later each time, then not at all for a while; a right one ends it', async () => {
    const time = clock()
    const secrets = new WrongSecrets(time)
    for (const delay of [100, 200, 400, 800, 1600]) {
      secrets.requireOpen('a')
      const answered = vi.fn()
      const wrong = secrets.wrong('a', never).then(answered)
      time.pass(delay - 1)
      await Promise.resolve()
      expect(answered).not.toHaveBeenCalled()
      time.pass(1)
      await wrong
    }
    expect(() => secrets.requireOpen('a')).toThrow('client-locked')
    expect(() => secrets.requireOpen('b')).not.toThrow()
    time.pass(30_000 - 1600 - 1)
    expect(() => secrets.requireOpen('a')).toThrow('client-locked')
    time.pass(1)
    secrets.requireOpen('a')
    const again = secrets.wrong('a', never)
    time.pass(1600)
    await again
    time.pass(60_000 - 1601)
    expect(() => secrets.requireOpen('a')).toThrow('client-locked')
    time.pass(1)
    secrets.requireOpen('a')
    secrets.right('a')
    const first = secrets.wrong('a', never)
    time.pass(100)
    await first
    secrets.requireOpen('a')
    expect(time.timers.size).toBe(0)
  })

  test('are answered at once to a client that is gone', async () => {
    const time = clock()
    const gone = new AbortController()
    const wrong = new WrongSecrets(time).wrong('a', gone.signal)
    gone.abort()
    await wrong
    expect(time.timers.size).toBe(0)
  })

  test('of 32 are held back at once: guesses from many sources do not take the places of the service', async () => {
    const time = clock()
    const secrets = new WrongSecrets(time)
    const left = new AbortController()
    const waiting = Array.from({ length: 32 }, (_, i) =>
      secrets.wrong(`s${i}`, i === 0 ? left.signal : never),
    )
    expect(time.timers.size).toBe(32)
    // One more is answered at once, and counts all the same.
    for (let i = 0; i < 5; i++) await secrets.wrong('one more', never)
    expect(() => secrets.requireOpen('one more')).toThrow('client-locked')
    // A place is free again where a client is gone, and where the time is over.
    left.abort()
    await waiting[0]
    waiting.push(secrets.wrong('another', never))
    expect(time.timers.size).toBe(32)
    time.pass(100)
    await Promise.all(waiting)
    expect(time.timers.size).toBe(0)
    const again = Array.from({ length: 33 }, (_, i) => secrets.wrong(`t${i}`, never))
    expect(time.timers.size).toBe(32)
    time.pass(100)
    await Promise.all(again)
  })

  test('of ten thousand sources are remembered, those that were wrong last', async () => {
    const time = clock()
    const secrets = new WrongSecrets(time)
    const all: Promise<void>[] = []
    for (let i = 0; i < 5; i++) all.push(secrets.wrong('early', never))
    for (let i = 0; i < 9_999; i++) all.push(secrets.wrong(`e${i}`, never))
    all.push(secrets.wrong('early', never), secrets.wrong('one more', never))
    expect(() => secrets.requireOpen('early')).toThrow('client-locked')

    for (let i = 0; i < 5; i++) all.push(secrets.wrong('first', never))
    for (let i = 0; i < 10_000; i++) all.push(secrets.wrong(`s${i}`, never))
    expect(() => secrets.requireOpen('first')).not.toThrow()
    time.pass(2000)
    await Promise.all(all)
  })
})

describe('the Basic header', () => {
  test.each([
    ['Basic aXNfdGJhbmswMToxMjM=', 'is_tbank01', '123'],
    ['Basic aXNfdGJhbmswMToxMjM', 'is_tbank01', '123'],
    ['basic  aXNfdGJhbmswMToxMjM=', 'is_tbank01', '123'],
    [`Basic ${Buffer.from('a:>>>???').toString('base64')}`, 'a', '>>>???'],
    [`Basic ${Buffer.from('a:>>>???').toString('base64url')}`, 'a', '>>>???'],
    [`Basic ${Buffer.from(':').toString('base64')}`, '', ''],
    [`Basic ${Buffer.from('a:b:c').toString('base64')}`, 'a', 'b:c'],
  ])('%s', (header, id, secret) => {
    expect(readBasic(header)).toEqual({ id, secret })
  })

  test.each([
    null,
    '',
    'Basic',
    'Basic ',
    'Basic =',
    'Basic a',
    'Basic YTpiY',
    `Basic ${Buffer.from(`a:${'x'.repeat(3200)}`).toString('base64')}`,
    'Basic a:b',
    'Bearer YTpi',
    'Basic YTpi=',
    'Basic YTpi YTpi',
    'Basic YQ==',
  ])('%s is none', header => {
    expect(readBasic(header)).toBeUndefined()
  })
})
