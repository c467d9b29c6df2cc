/** What a mistake in the options is called, where the service is started: the option, what it must be, no value. */
import { randomBytes } from 'node:crypto'
import { exportJWK, generateKeyPair, type JWK } from 'jose'
import { beforeAll, describe, expect, test } from 'vitest'
import { ownTokens, providerTokens } from '../../../src/d1.js'
import { failure } from '../../support/errors.js'
import { useWorld } from './support/direct.js'
import { byToken, CLIENT, ISSUER } from './support/world.js'

const own = useWorld()
const said = async (call: () => unknown): Promise<string> => (await failure(call, 'ERR_ARGUMENT')).message

describe('issuerEndpoints', () => {
  const issuer = (more: object) => ({ issuers: { [ISSUER]: { ...own.world.issuer(), ...more } } })
  const iso0 = (more: object) => issuer({ iso0: { ...own.world.issuer().iso0, ...more } })
  const seccos = (more: object) => issuer({ seccos: { ...own.world.issuer().seccos, ...more } })
  const token = (more: object) => ({
    tokenEndpoint: { tokens: own.world.tokens, clients: [CLIENT], ...more },
  })
  const client = (more: object) => token({ clients: [{ ...CLIENT, ...more }] })
  const keys = () => own.world.keys
  const none = () => {}

  const ID = 'an issuerId must be 10 characters: letters, digits, . _ ~ -'
  const TEXT = 'clientId and clientSecret are 1 to 255 characters, no control characters'
  const rows: readonly (readonly [more: () => object, message: string])[] = [
    [() => ({ issuers: null }), 'issuers must be an object'],
    [() => ({ issuers: 'x' }), 'issuers must be an object'],
    [() => ({ issuers: {} }), 'issuers must name at least one'],
    [() => ({ issuers: { is_tbank0: own.world.issuer() } }), ID],
    [() => ({ issuers: { is_tbank012: own.world.issuer() } }), ID],
    [() => ({ issuers: { [ISSUER]: [] } }), 'an issuer takes an options object'],
    [() => issuer({ card: 1 }), 'an issuer: unknown option "card"'],
    [() => issuer({ cards: {} }), 'cards must have the method find'],
    [() => issuer({ cards: null }), 'cards must have the method find'],
    [() => issuer({ cards: none }), 'cards must have the method find'],
    [() => issuer({ pins: {} }), 'pins must have the method readBlock'],
    [() => issuer({ pins: { readBlock: none } }), 'pins must have the method acceptBlock'],
    [() => issuer({ pins: { readBlock: none, acceptBlock: none } }), 'pins must have the method storePrw'],
    [() => issuer({ iso0: undefined, seccos: undefined }), 'an issuer must have iso0, seccos or both'],
    [() => issuer({ jweKeys: [] }), 'jweKeys must be 1 to 64 keys'],
    [() => issuer({ jweKeys: keys().mac }), 'jweKeys: keys must be for jwe-key-agreement'],
    [
      () => ({ issuers: { [ISSUER]: own.world.issuer(), is_tbank02: own.world.issuer() } }),
      'each issuer must have a change counter of its own',
    ],
    [() => iso0({ x: 1 }), 'iso0: unknown option "x"'],
    [() => iso0({ translation: 'none' }), "translation must be 'checked' or 'reencipher'"],
    [() => iso0({ d1Zpk: keys().mac }), 'd1Zpk: keys must be for pin-encryption'],
    [() => iso0({ storage: [keys().storage, keys().mac] }), 'storage: keys must be for pin-encryption'],
    [
      () => iso0({ d1PublicJwk: { ...own.world.d1.publicJwk, kid: undefined } }),
      'd1PublicJwk must have a kid: D1 finds its key by it',
    ],
    [() => seccos({ x: 1 }), 'seccos: unknown option "x"'],
    [() => seccos({ counter: {} }), 'counter must have the method issue'],
    [() => seccos({ counter: { issue: none } }), 'counter must have the method check'],
    [() => seccos({ counter: { issue: none, check: none } }), 'counter must have the method accept'],
    [
      () => seccos({ counter: { issue: none, check: none, accept: none } }),
      'counter must have the method pccOf',
    ],
    [() => seccos({ prwKids: [] }), 'prwKids must name at least one key, each by its kid'],
    [() => seccos({ prwKids: 'PRW-1' }), 'prwKids must name at least one key, each by its kid'],
    [() => seccos({ macKeys: keys().zpk }), 'macKeys: keys must be for retail-mac'],
    [() => ({ audit: undefined }), 'audit must be a function'],
    [() => ({ clock: {} }), 'clock must have the method now'],
    [() => ({ clock: { now: none } }), 'clock must have the method elapsed'],
    [() => ({ clock: { now: none, elapsed: none } }), 'clock must have the method after'],
    [
      () => ({ authorization: 'none' }),
      "authorization other than 'anyone-who-reaches-it' takes an options object",
    ],
    [
      () => ({ authorization: { x: 1 } }),
      `authorization other than 'anyone-who-reaches-it': unknown option "x"`,
    ],
    [() => ({ authorization: byToken({} as never) }), 'authorization.tokens must have the method verify'],
    [
      () => ({ authorization: 'anyone-who-reaches-it' }),
      'tokenEndpoint: tokens that nobody asks for, as no caller has tokenSubjects',
    ],
    [() => token({ x: 1 }), 'tokenEndpoint: unknown option "x"'],
    [() => token({ tokens: {} }), 'tokenEndpoint.tokens must have the method issue'],
    [() => token({ scopes: 'a' }), 'tokenEndpoint.scopes must be scope names'],
    [() => token({ scopes: ['a', ''] }), 'tokenEndpoint.scopes must be scope names'],
    [() => token({ scopes: ['a', 7] }), 'tokenEndpoint.scopes must be scope names'],
    [() => token({ clients: [] }), 'tokenEndpoint.clients must name at least one client'],
    [() => token({ clients: CLIENT }), 'tokenEndpoint.clients must name at least one client'],
    [() => client({ clientId: '' }), TEXT],
    [() => client({ clientId: 7 }), TEXT],
    [() => client({ clientSecret: `\n${'x'.repeat(16)}` }), TEXT],
    [() => client({ clientSecret: `${'x'.repeat(16)}\ud800` }), TEXT],
    [() => client({ clientSecret: 'x'.repeat(15) }), 'clientSecret must be at least 16 characters'],
    [() => ({ prefix: '/' }), 'prefix must begin with a slash, and end without one'],
    [() => ({ tokenPrefix: 'x' }), 'tokenPrefix must begin with a slash, and end without one'],
    [() => ({ timeoutMs: 0 }), 'timeoutMs must be a whole number from 1 to 600000'],
    [() => ({ bodyTimeoutMs: 600_001 }), 'bodyTimeoutMs must be a whole number from 1 to 600000'],
    [() => ({ timeout: 1 }), 'issuerEndpoints: unknown option "timeout"'],
  ]
  test.each(rows.map(([more, message]) => [message, more] as const))('%s', async (message, more) => {
    expect(await said(() => own.world.handler(more()))).toBe(message)
  })

  test('a secret of 16 characters is long enough, and no client has to have a scope', () => {
    expect(own.world.handler(client({ clientSecret: 'x'.repeat(16) }))).toBeTypeOf('function')
    expect(own.world.handler(token({ scopes: [] }))).toBeTypeOf('function')
  })
})

describe('ownTokens', () => {
  const secret = (bytes: number): JWK => ({
    kty: 'oct',
    kid: 'T',
    k: randomBytes(bytes).toString('base64url'),
  })
  const options = (more: object = {}) => ({
    algorithm: 'HS256' as const,
    keys: [secret(32)],
    issuer: 'https://issuer.test',
    audience: 'https://pin.test',
    lifetimeSeconds: 900,
    ...more,
  })
  let pair: JWK
  beforeAll(async () => {
    const { privateKey } = await generateKeyPair('ES256', { extractable: true })
    pair = { ...(await exportJWK(privateKey)), kid: 'E' }
  })

  const LIFETIME = 'ownTokens: lifetimeSeconds must be a whole number from 60 to 3600'
  const rows: readonly (readonly [() => object, string])[] = [
    [() => ({ x: 1 }), 'ownTokens: unknown option "x"'],
    [() => ({ algorithm: 'RS256' }), 'ownTokens: algorithm must be HS256 or ES256'],
    [() => ({ keys: secret(32) }), 'ownTokens: keys must be an array of private JWKs'],
    [() => ({ keys: [] }), 'ownTokens: keys must name at least one key, and each kid once'],
    [
      () => ({ keys: [secret(32), secret(32)] }),
      'ownTokens: keys must name at least one key, and each kid once',
    ],
    [() => ({ keys: [null] }), 'ownTokens: each key must have a kid'],
    [() => ({ keys: [{ ...secret(32), kid: '' }] }), 'ownTokens: each key must have a kid'],
    [() => ({ keys: [secret(31)] }), 'ownTokens: a key is not a private JWK for HS256'],
    [() => ({ keys: [pair] }), 'ownTokens: a key is not a private JWK for HS256'],
    [
      () => ({ algorithm: 'ES256', keys: [{ ...pair, d: undefined }] }),
      'ownTokens: a key is not a private JWK for ES256',
    ],
    [
      () => ({ algorithm: 'ES256', keys: [{ ...pair, kty: 'oct' }] }),
      'ownTokens: a key is not a private JWK for ES256',
    ],
    [() => ({ issuer: '' }), 'ownTokens: issuer and audience must be given'],
    [() => ({ audience: 7 }), 'ownTokens: issuer and audience must be given'],
    [() => ({ lifetimeSeconds: 59 }), LIFETIME],
    [() => ({ lifetimeSeconds: 3601 }), LIFETIME],
    [() => ({ lifetimeSeconds: 60.5 }), LIFETIME],
    [() => ({ now: 1 }), 'ownTokens: now must be a function'],
  ]
  test.each(rows.map(([more, message]) => [message, more] as const))('%s', async (message, more) => {
    expect(await said(() => ownTokens(options(more())))).toBe(message)
  })

  test.each([60, 3600])('a lifetime of %i seconds is one', async lifetimeSeconds => {
    const tokens = await ownTokens(options({ lifetimeSeconds }))
    const { token } = await tokens.issue({ subject: 's', scopes: [] })
    expect(await tokens.verify(token, {})).toMatchObject({ verified: true, subject: 's' })
  })

  test('a grant, and a token, of another shape', async () => {
    const tokens = await ownTokens(options())
    const issue = (grant: unknown) => said(() => tokens.issue(grant as never))
    expect(await issue(null)).toBe('issue takes an options object')
    expect(await issue({ subject: 's', scopes: [], x: 1 })).toBe('issue: unknown option "x"')
    expect(await issue({ subject: 7, scopes: [] })).toBe('issue: subject must be a string')
    expect(await issue({ subject: 's', scopes: 'a' })).toBe('issue: scopes must be an array of strings')
    expect(await issue({ subject: 's', scopes: [], confirmation: 'x' })).toBe(
      'issue: confirmation must be a SHA-256 in base64url',
    )
    expect(await issue({ subject: 's', scopes: ['a', 7] })).toBe('issue: scopes must be an array of strings')
    expect(await said(() => tokens.verify(7 as never, {}))).toBe('token must be a string')
  })

  test('clocks may differ by five seconds, and no more', async () => {
    let now = 1_800_000_000_000
    const key = secret(32)
    const issuing = await ownTokens(options({ keys: [key], now: () => now }))
    const { token } = await issuing.issue({ subject: 's', scopes: [] })
    const verdict = async (at: number) => {
      now = at
      const { verify } = await ownTokens(options({ keys: [key], now: () => now }))
      return (await verify(token, {})).verified
    }
    expect(await verdict(1_800_000_000_000 - 5000)).toBe(true)
    expect(await verdict(1_800_000_000_000 - 6000)).toBe(false)
    expect(await verdict(1_800_000_904_000)).toBe(true)
    expect(await verdict(1_800_000_906_000)).toBe(false)
  })
})

describe('providerTokens', () => {
  const options = (more: object) => ({
    jwks: { keys: [] },
    algorithms: ['ES256'],
    issuer: 'https://idp.test',
    audience: 'pin-api',
    allow: () => true,
    ...more,
  })
  const ALGORITHMS =
    'providerTokens: algorithms must be some of ES256, ES384, ES512, PS256, PS384, PS512, RS256, RS384, RS512, EdDSA'
  test.each<[object, string]>([
    [{ x: 1 }, 'providerTokens: unknown option "x"'],
    [{ jwks: new URL('http://idp.test') }, 'providerTokens: jwks must be an https URL or a key set'],
    [{ jwks: {} }, 'providerTokens: jwks must be an https URL or a key set'],
    [{ jwks: undefined }, 'providerTokens: jwks must be an https URL or a key set'],
    [{ algorithms: [] }, ALGORITHMS],
    [{ algorithms: 'ES256' }, ALGORITHMS],
    [{ algorithms: ['ES256', 'HS256'] }, ALGORITHMS],
    [{ issuer: '' }, 'providerTokens: issuer and audience must be given, and type must be a text'],
    [{ audience: undefined }, 'providerTokens: issuer and audience must be given, and type must be a text'],
    [{ allow: true }, 'providerTokens: allow must be a function'],
  ])('%j', async (more, message) => {
    expect(await said(() => providerTokens(options(more) as never))).toBe(message)
  })
})
