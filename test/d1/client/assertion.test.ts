import { createPrivateKey, generateKeyPairSync, sign, verify } from 'node:crypto'
import { decodeProtectedHeader, importJWK, type JWK, jwtVerify } from 'jose'
import { describe, expect, test } from 'vitest'
import { type AssertionSigner, makeAssertion, softwareSigner } from '../../../src/d1.js'
import { everythingShown, failure } from '../../support/errors.js'
import { ecKeyPair } from '../../support/key-pair.js'

const PAIR = ecKeyPair()
const JWK_PRIVATE = PAIR.privateKey.export({ format: 'jwk' })
const JWK_PUBLIC = PAIR.publicKey.export({ format: 'jwk' })
const SECRETS = [String(JWK_PRIVATE.d)]
const OTHER = ecKeyPair().privateKey.export({ format: 'jwk' })

const signer = softwareSigner({ kid: 'SIGN-1', privateKey: PAIR.privateKey })

describe('softwareSigner refuses', () => {
  const p384 = ecKeyPair('P-384').privateKey
  test.each<[string, unknown]>([
    ['a public KeyObject', PAIR.publicKey],
    ['another curve', p384],
    ['another curve as a JWK', p384.export({ format: 'jwk' })],
    ['another type', generateKeyPairSync('ed25519').privateKey],
    ['RSA', generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey],
    ['a public JWK', JWK_PUBLIC],
    ['halves that do not belong together', { ...JWK_PRIVATE, d: OTHER.d }],
    ['a key that opens JWEs', { ...JWK_PRIVATE, use: 'enc' }],
    ['a key for another algorithm', { ...JWK_PRIVATE, alg: 'ECDH-ES' }],
    ['a key for other operations', { ...JWK_PRIVATE, key_ops: ['deriveBits'] }],
    ['key_ops that are no list', { ...JWK_PRIVATE, key_ops: 'sign' }],
    ['an empty JWK', {}],
    ['a JWK with a scalar of zero', { ...JWK_PRIVATE, d: 'A'.repeat(43) }],
  ])('%s: ERR_KEY_MATERIAL', async (_name, privateKey) => {
    const call = () => softwareSigner({ kid: 'SIGN-1', privateKey: privateKey as never })
    const error = await failure(call, 'ERR_KEY_MATERIAL', [...SECRETS, String(OTHER.d)])
    expect(error).toMatchObject({ kid: 'SIGN-1' })
  })

  test.each<[string, unknown]>([
    ['no options', undefined],
    ['a misspelt option', { kid: 'x', privatekey: PAIR.privateKey }],
    ['no kid', { privateKey: PAIR.privateKey }],
    ['an empty kid', { kid: '', privateKey: PAIR.privateKey }],
    ['no key', { kid: 'x' }],
    ['a PEM', { kid: 'x', privateKey: PAIR.privateKey.export({ format: 'pem', type: 'pkcs8' }) }],
    ['null', { kid: 'x', privateKey: null }],
  ])('%s: ERR_ARGUMENT', async (_name, options) => {
    await failure(() => softwareSigner(options as never), 'ERR_ARGUMENT', SECRETS)
  })
})

describe('softwareSigner', () => {
  test.each<[string, Parameters<typeof softwareSigner>[0]['privateKey']]>([
    ['a KeyObject', PAIR.privateKey],
    ['a KeyObject from PEM', createPrivateKey(PAIR.privateKey.export({ format: 'pem', type: 'pkcs8' }))],
    ['a JWK', JWK_PRIVATE],
    ['a JWK that says what it is for', { ...JWK_PRIVATE, use: 'sig', alg: 'ES256', key_ops: ['sign'] }],
  ])('signs r ‖ s under %s', async (_name, privateKey) => {
    const input = new TextEncoder().encode('input')
    const signature = await softwareSigner({ kid: 'SIGN-1', privateKey }).sign(input)
    expect(signature).toHaveLength(64)
    expect(signature.buffer.byteLength).toBe(64)
    expect(verify('sha256', input, { key: PAIR.publicKey, dsaEncoding: 'ieee-p1363' }, signature)).toBe(true)
  })

  test('shows its kid and no key, and does not change', () => {
    const fromJwk = softwareSigner({ kid: 'SIGN-1', privateKey: JWK_PRIVATE })
    expect(everythingShown(fromJwk)).toContain('SIGN-1')
    expect(everythingShown(fromJwk)).not.toContain(JWK_PRIVATE.d)
    expect(Object.isFrozen(fromJwk)).toBe(true)
  })

  test('does not sign after an abort', async () => {
    await failure(() => signer.sign(new Uint8Array(1), { signal: AbortSignal.abort() }), 'ERR_ABORTED')
  })
})

describe('makeAssertion', () => {
  const now = Date.now()
  const verified = async (jwt: string) =>
    jwtVerify(jwt, await importJWK(JWK_PUBLIC as JWK, 'ES256'), { algorithms: ['ES256'] })

  test('is a JWT that jose verifies', async () => {
    const jwt = await makeAssertion({
      signer,
      issuer: 'is_tbank01',
      audience: 'https://d1',
      lifetimeSeconds: 900,
      now,
    })
    const { payload } = await verified(jwt)
    const iat = Math.floor(now / 1000)
    expect(decodeProtectedHeader(jwt)).toEqual({ alg: 'ES256', kid: 'SIGN-1', typ: 'JWT' })
    expect(payload).toEqual({
      iss: 'is_tbank01',
      sub: 'is_tbank01',
      aud: 'https://d1',
      iat,
      exp: iat + 900,
      jti: expect.stringMatching(/^[\w-]{36}$/),
    })
  })

  test('without audience, lifetime and time: no aud, five minutes, from now', async () => {
    const { payload } = await verified(await makeAssertion({ signer, issuer: 'is_tbank01' }))
    expect(payload).not.toHaveProperty('aud')
    expect(Number(payload.exp) - Date.now() / 1000).toBeGreaterThan(295)
    expect(Number(payload.exp) - Date.now() / 1000).toBeLessThanOrEqual(300)
  })

  test('no two are alike', async () => {
    const jtis = new Set<unknown>()
    for (let i = 0; i < 20; i++)
      jtis.add((await verified(await makeAssertion({ signer, issuer: 'x', now }))).payload.jti)
    expect(jtis.size).toBe(20)
  })

  test('the signer gets the signal', async () => {
    const { signal } = new AbortController()
    let seen: unknown
    const asking: AssertionSigner = {
      kid: 'x',
      sign: async (input, options) => {
        seen = options?.signal
        return signer.sign(input)
      },
    }
    await makeAssertion({ signer: asking, issuer: 'x' }, { signal })
    expect(seen).toBe(signal)
    await failure(
      () => makeAssertion({ signer, issuer: 'x' }, { signal: AbortSignal.abort() }),
      'ERR_ABORTED',
    )
  })

  test.each<[string, object]>([
    ['a lifetime of nothing', { lifetimeSeconds: 0 }],
    ['a lifetime of more than 15 minutes', { lifetimeSeconds: 901 }],
    ['half a second', { lifetimeSeconds: 0.5 }],
    ['a lifetime as text', { lifetimeSeconds: '300' }],
    ['no issuer', { issuer: undefined }],
    ['an empty issuer', { issuer: '' }],
    ['an issuer with a space', { issuer: 'a b' }],
    ['an issuer of absurd length', { issuer: 'x'.repeat(129) }],
    ['an audience that is no text', { audience: ['d1'] }],
    ['no time', { now: Number.NaN }],
    ['no signer', { signer: undefined }],
    ['a signer without kid', { signer: { sign: signer.sign } }],
    ['a signer without sign', { signer: { kid: 'x' } }],
    ['alg', { alg: 'none' }],
  ])('%s is ERR_ARGUMENT', async (_name, more) => {
    await failure(
      () => makeAssertion({ signer, issuer: 'is_tbank01', ...more } as never),
      'ERR_ARGUMENT',
      SECRETS,
    )
  })

  test('a signature in DER is ERR_BACKEND_FAILED, and says what is wrong', async () => {
    const der: AssertionSigner = { kid: 'x', sign: async input => sign('sha256', input, PAIR.privateKey) }
    const error = await failure(
      () => makeAssertion({ signer: der, issuer: 'x' }),
      'ERR_BACKEND_FAILED',
      SECRETS,
    )
    expect(error.message).toContain('not DER')
  })

  test('a signature that is no bytes is ERR_ARGUMENT; what a signer throws comes through', async () => {
    const text = { kid: 'x', sign: async () => 'signature' }
    await failure(() => makeAssertion({ signer: text as never, issuer: 'x' }), 'ERR_ARGUMENT')
    const broken: AssertionSigner = { kid: 'x', sign: () => Promise.reject(new Error('no token')) }
    await expect(makeAssertion({ signer: broken, issuer: 'x' })).rejects.toThrow('no token')
  })
})
