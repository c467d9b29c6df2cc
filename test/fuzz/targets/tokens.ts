/** Bearer tokens of both kinds, and the Basic header: who is let in is who holds the key. */
import { createHmac, createPrivateKey, sign } from 'node:crypto'
import fc from 'fast-check'
import { authenticate, readBasic, readClients } from '../../../src/d1/endpoints/token-endpoint.js'
import { ownTokens, providerTokens, type TokenVerdict } from '../../../src/d1.js'
import { RECIPIENT, RECIPIENT_PRIVATE } from '../../jwe/support.js'
import { Input, textInput } from '../support/input.js'
import { check, type FuzzTarget, once } from '../target.js'

const SECRET = Buffer.alloc(32, 0x5a)
const ISSUER = 'https://issuer.test'
const AUDIENCE = 'https://pin.test'
const NOW = 1_800_000_000
/** A fixed key, so that an input means the same in every process. */
const privateKey = createPrivateKey({ key: RECIPIENT_PRIVATE, format: 'jwk' })
const PUBLIC_JWK = { ...RECIPIENT, kid: 'P-1' }

const verifiers = once(async () => {
  const now = (): number => NOW * 1000
  const own = await ownTokens({
    algorithm: 'HS256',
    keys: [{ kty: 'oct', kid: 'T-1', k: SECRET.toString('base64url') }],
    issuer: ISSUER,
    audience: AUDIENCE,
    lifetimeSeconds: 900,
    now,
  })
  const provider = providerTokens({
    jwks: { keys: [PUBLIC_JWK] },
    algorithms: ['ES256'],
    issuer: ISSUER,
    audience: AUDIENCE,
    type: 'at+jwt',
    allow: claims => claims['client_id'] === 'd1',
    now,
  })
  return { own, provider }
})

const b64u = (value: unknown): string => Buffer.from(JSON.stringify(value) ?? '').toString('base64url')
const hmac = (input: string): string => createHmac('sha256', SECRET).update(input).digest('base64url')
const ecdsa = (input: string): string =>
  sign('sha256', Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')

const HEADERS = {
  own: { alg: 'HS256', kid: 'T-1', typ: 'at+jwt' },
  provider: { alg: 'ES256', kid: 'P-1', typ: 'at+jwt' },
}
const CLAIMS = {
  iss: ISSUER,
  aud: AUDIENCE,
  sub: 'd1',
  client_id: 'd1',
  iat: NOW - 10,
  exp: NOW + 800,
  jti: 'x',
}

type Kind = keyof typeof HEADERS
function tokenOf(kind: Kind, header: object, claims: unknown): string {
  const input = `${b64u(header)}.${b64u(claims)}`
  return `${input}.${kind === 'own' ? hmac(input) : ecdsa(input)}`
}

/** Tokens that are signed, and wrong in a member of the header or a claim. */
const value = fc.oneof(
  fc.constantFrom<unknown>(
    'none',
    'HS256',
    'ES256',
    'HS512',
    'T-1',
    'P-1',
    'JWT',
    'AT+JWT',
    'application/at+jwt',
    ISSUER,
    AUDIENCE,
    [AUDIENCE],
    [AUDIENCE, 'x'],
    [],
  ),
  fc.constantFrom<unknown>(
    NOW,
    NOW - 5,
    NOW - 6,
    NOW + 5,
    NOW + 6,
    NOW - 905,
    NOW - 906,
    0,
    -1,
    1.5,
    1e300,
    `${NOW + 60}`,
    null,
    true,
    {},
    ['exp'],
    ['b64'],
  ),
  fc.string(),
)
const almost = fc
  .tuple(
    fc.constantFrom<Kind>('own', 'provider'),
    fc.array(fc.tuple(fc.constantFrom('alg', 'kid', 'typ', 'crit', 'b64', 'jwk', 'jku', 'x5c'), value), {
      maxLength: 1,
    }),
    fc.array(
      fc.tuple(fc.constantFrom('iss', 'aud', 'sub', 'client_id', 'iat', 'exp', 'nbf', 'scope'), value),
      { maxLength: 2 },
    ),
  )
  .map(([kind, header, claims]) =>
    textInput(
      tokenOf(
        kind,
        { ...HEADERS[kind], ...Object.fromEntries(header) },
        { ...CLAIMS, ...Object.fromEntries(claims) },
      ),
    ),
  )

/** What must hold of a token that is accepted; a refusal needs no reason here. */
function isGood(kind: Kind, token: string): boolean {
  const [header = '', claims = '', signature = '', ...more] = token.split('.')
  if (more.length > 0) return false
  const { alg, kid, typ, crit } = JSON.parse(Buffer.from(header, 'base64url').toString('utf8'))
  const {
    iss,
    aud,
    sub,
    iat,
    exp,
    nbf,
    client_id: client,
  } = JSON.parse(Buffer.from(claims, 'base64url').toString('utf8'))
  const bytes = Buffer.from(signature, 'base64url')
  const signed =
    kind === 'own'
      ? Buffer.from(hmac(`${header}.${claims}`), 'base64url').equals(bytes) &&
        alg === 'HS256' &&
        kid === 'T-1'
      : alg === 'ES256' && bytes.length === 64 && (kid === undefined || kid === 'P-1')
  const type = /^(?:application\/)?at\+jwt$/i.test(typ)
  const forUs = iss === ISSUER && (aud === AUDIENCE || (Array.isArray(aud) && aud.includes(AUDIENCE)))
  const inTime = NOW < exp + 5 && (nbf === undefined || nbf <= NOW + 5)
  const who = kind === 'own' ? typeof sub === 'string' && NOW - iat <= 905 && iat <= NOW + 5 : client === 'd1'
  return signed && type && crit === undefined && forUs && inTime && who
}

export const tokens: FuzzTarget = {
  name: 'tokens',
  share: 12,
  seeds: [
    tokenOf('own', HEADERS.own, CLAIMS),
    tokenOf('provider', HEADERS.provider, CLAIMS),
    // Signed with the provider's public key as if it were a shared secret.
    tokenOf('own', { ...HEADERS.provider, alg: 'HS256' }, CLAIMS),
    `${b64u({ alg: 'none' })}.${b64u(CLAIMS)}.`,
  ].map(text => textInput(text)),
  structured: almost,
  async run(bytes) {
    const token = new Input(bytes).text()
    const { own, provider } = await verifiers()
    const signal = new AbortController().signal
    const verdicts: readonly (readonly [Kind, TokenVerdict])[] = [
      ['own', await own.verify(token, { signal })],
      ['provider', await provider.verify(token, { signal })],
    ]
    check(!verdicts.every(([, verdict]) => verdict.verified), 'a token is of one kind')
    for (const [kind, verdict] of verdicts) {
      if (verdict.verified) check(isGood(kind, token), `a token that is not good is accepted (${kind})`)
      else
        check(/^(?:ERR_[A-Z_]+|not-allowed)$/.test(verdict.reason), 'a reason that is not of ours or of jose')
    }
  },
}

const ID = 'd1-client'
const PASSWORD = 'JP7aK0q.w-Zt_93xLmVb2c'
const clients = readClients([
  { clientId: ID, clientSecret: PASSWORD },
  { clientId: ID, clientSecret: `${PASSWORD}-new` },
])
const pair = (text: string): string => Buffer.from(text).toString('base64')

export const basicHeader: FuzzTarget = {
  name: 'basic-header',
  share: 60,
  seeds: [
    `Basic ${pair(`${ID}:${PASSWORD}`)}`,
    `basic  ${Buffer.from(`${ID}:${PASSWORD}-new`).toString('base64url')}`,
    `Basic ${pair('a:b:c')}`,
    `Basic ${pair('\u00e9:\u00fc')}`,
    'Basic Og==',
    'Bearer x',
  ].map(text => textInput(text)),
  structured: fc
    .tuple(
      fc.constantFrom('Basic ', 'basic  ', 'Basic', 'BASIC\t'),
      fc.string(),
      fc.string(),
      fc.constantFrom('base64', 'base64url'),
      fc.constantFrom('', '=', '=='),
    )
    .map(([scheme, id, secret, encoding, more]) =>
      textInput(scheme + Buffer.from(`${id}:${secret}`).toString(encoding as 'base64') + more),
    ),
  run(bytes) {
    const header = new Input(bytes).text()
    const given = readBasic(header)
    if (given !== undefined) {
      const [, encoded = ''] = /^basic +(.*)$/i.exec(header) ?? []
      const plain = Buffer.from(encoded.replaceAll('-', '+').replaceAll('_', '/'), 'base64').toString('utf8')
      check(
        plain === `${given.id}:${given.secret}` && !given.id.includes(':'),
        'the id ends at the first colon',
      )
      check(header.length <= 1024, 'a header of bounded length')
    }
    const known = given?.id === ID && (given.secret === PASSWORD || given.secret === `${PASSWORD}-new`)
    check((authenticate(clients, header) === ID) === known, 'exactly who knows a secret is let in')
  },
}
