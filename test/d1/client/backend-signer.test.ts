import { createLocalJWKSet, importJWK, type JWK, jwtVerify } from 'jose'
import { describe, expect, test } from 'vitest'
import { backendSigner, d1Client, makeAssertion } from '../../../src/d1.js'
import type { Key, P256PublicJwk } from '../../../src/index.js'
import { softwareBackend } from '../../../src/software.js'
import { CONTRACT_KEYS } from '../../../src/testing.js'
import { everythingShown, failure } from '../../support/errors.js'

const KEYS = CONTRACT_KEYS.map(({ kid, usage, algorithm, material }) => ({ kid, usage, algorithm, material }))
const MATERIAL = KEYS.find(({ kid }) => kid === 'SIGN-1')?.material
const SECRET = typeof MATERIAL === 'object' ? MATERIAL.d : 'no such key'

async function signingKey() {
  const backend = await softwareBackend({ keys: KEYS })
  return { backend, key: await backend.bind({ kid: 'SIGN-1', usage: 'jwt-signing' }) }
}

const verified = async (jwt: string, jwk: P256PublicJwk | undefined) =>
  jwtVerify(jwt, await importJWK({ ...jwk } as JWK, 'ES256'), { algorithms: ['ES256'] })

describe('backendSigner refuses', () => {
  test.each(KEYS.filter(({ usage }) => usage !== 'jwt-signing'))(
    'a key for $usage ($kid): ERR_KEY_USAGE',
    async ({ kid, usage }) => {
      await using backend = await softwareBackend({ keys: KEYS })
      const key = await backend.bind({ kid, usage })
      expect(await failure(() => backendSigner(key), 'ERR_KEY_USAGE', [SECRET])).toMatchObject({ kid })
      await failure(() => backendSigner({ key }), 'ERR_KEY_USAGE', [SECRET])
    },
  )

  test.each<[string, (key: Key) => unknown]>([
    ['nothing', () => undefined],
    ['a kid', () => 'SIGN-1'],
    ['no key', () => ({ kid: 'SIGN-1' })],
    ['a look-alike', ({ kid, usage, publicJwk }) => ({ kid, usage, publicJwk })],
    ['a look-alike as option', ({ kid, usage }) => ({ key: { kid, usage } })],
    ['a misspelt option', key => ({ key, keyid: 'x' })],
    ['an empty kid', key => ({ key, kid: '' })],
    ['a kid that is no text', key => ({ key, kid: 7 })],
  ])('%s: ERR_ARGUMENT', async (_name, make) => {
    const { backend, key } = await signingKey()
    await failure(() => backendSigner(make(key) as never), 'ERR_ARGUMENT', [SECRET])
    await backend.close()
  })
})

describe('backendSigner', () => {
  test('signs an assertion that jose verifies under publicJwk', async () => {
    const { backend, key } = await signingKey()
    const jwt = await makeAssertion({
      signer: backendSigner(key),
      issuer: 'is_tbank01',
      audience: 'https://d1',
    })
    const { payload, protectedHeader } = await verified(jwt, key.publicJwk)
    expect(protectedHeader).toEqual({ alg: 'ES256', kid: 'SIGN-1', typ: 'JWT' })
    expect(payload).toMatchObject({ iss: 'is_tbank01', sub: 'is_tbank01', aud: 'https://d1' })
    await backend.close()
  })

  test('goes by the kid under which D1 knows the key: jose finds it in a JWK set by that kid', async () => {
    const { backend, key } = await signingKey()
    const jwt = await makeAssertion({ signer: backendSigner({ key, kid: 'D1-KNOWS-THIS' }), issuer: 'x' })
    const { publicJwk } = key
    const set = createLocalJWKSet({
      keys: [{ ...publicJwk, kid: 'D1-KNOWS-THIS', alg: 'ES256', use: 'sig' } as JWK],
    })
    expect((await jwtVerify(jwt, set)).payload.iss).toBe('x')
    const other = createLocalJWKSet({ keys: [{ ...publicJwk, kid: 'SIGN-1' } as JWK] })
    await expect(jwtVerify(jwt, other)).rejects.toThrow()
    expect(backendSigner({ key }).kid).toBe('SIGN-1')
    await backend.close()
  })

  test('is a signer of d1Client: the assertion that D1 gets verifies, and the card call goes through', async () => {
    const { backend, key } = await signingKey()
    const assertions: string[] = []
    const answer = (body: object) => ({
      status: 200,
      headers: { get: () => null },
      body: new Response(JSON.stringify(body)).body,
    })
    const client = d1Client({
      environment: { api: 'https://d1.example/banking', auth: 'https://d1.example/authz/v1' },
      issuerId: 'is_tbank01',
      signer: backendSigner(key),
      fetch: async (url, { body }) => {
        if (!url.startsWith('https://d1.example/authz')) return answer({})
        assertions.push(new URLSearchParams(String(body)).get('assertion') ?? '')
        return answer({ access_token: 'token', token_type: 'Bearer', expires_in: 900 })
      },
    })
    expect((await client.cards.delete({ cardId: 'card-0001' })).status).toBe(200)
    expect(assertions).toHaveLength(1)
    const { payload } = await verified(assertions[0] ?? '', key.publicJwk)
    expect(payload).toMatchObject({ iss: 'is_tbank01', sub: 'is_tbank01' })
    await backend.close()
  })

  test('passes the signal on, and says when the backend is closed', async () => {
    const { backend, key } = await signingKey()
    const signer = backendSigner(key)
    const aborted = { signal: AbortSignal.abort('enough') }
    await failure(() => signer.sign(new Uint8Array(1), aborted), 'ERR_ABORTED')
    await backend.close()
    await failure(() => makeAssertion({ signer, issuer: 'x' }), 'ERR_BACKEND_CLOSED', [SECRET])
  })

  test('shows its kid and no key, and does not change', async () => {
    const { backend, key } = await signingKey()
    const signer = backendSigner(key)
    expect(everythingShown(signer)).toContain('SIGN-1')
    expect(everythingShown(signer)).not.toContain(SECRET)
    expect(Object.isFrozen(signer)).toBe(true)
    await backend.close()
  })
})
