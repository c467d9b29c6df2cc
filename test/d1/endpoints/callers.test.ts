/** Who calls: each caller is known by what it was configured with, and by nothing else. */
import { X509Certificate } from 'node:crypto'
import { PassThrough } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { Peers } from '../../../src/d1/endpoints/peer.js'
import {
  type Authorization,
  type Caller,
  type CallerAuthorization,
  type Connection,
  connectionOf,
  type TrustedProxy,
} from '../../../src/d1.js'
import { failure } from '../../support/errors.js'
import { type Credentials, fingerprintOf } from './support/certificates.js'
import { get, useWorld } from './support/direct.js'
import { certificates } from './support/wire.js'
import {
  basic,
  CLIENT,
  FORM_TYPE,
  ISSUER,
  OTHER_ISSUER,
  OVER_TLS,
  pinPath,
  TOKEN_PATH,
} from './support/world.js'

const own = useWorld()
const { client, otherIssuer, proxy, stranger, selfSigned, misnamed, ca, otherCa } = certificates
const x509 = ({ cert }: { cert: string }): X509Certificate => new X509Certificate(cert)
const tls = (credentials: { cert: string }, more: Partial<Connection> = {}): Connection => ({
  encrypted: true,
  authorized: true,
  certificate: x509(credentials),
  address: '192.0.2.7',
  ...more,
})
const D1: Caller = { name: 'd1', issuers: [ISSUER], certificate: { sha256: [fingerprintOf(client)] } }
const escaped = ({ cert }: { cert: string }): string => encodeURIComponent(cert)

interface Try {
  readonly authorization: Authorization
  readonly connection?: Connection | undefined
  readonly headers?: Record<string, string>
  readonly issuerId?: string
}

/** Each issuer would need a counter of its own. */
function withoutCounter() {
  const { seccos: _, ...issuer } = own.world.issuer()
  return issuer
}

/** Status and reason of a Get PIN; undefined: it was let in. */
async function asked({ authorization, connection, headers = {}, issuerId = ISSUER }: Try) {
  const issuers = { [ISSUER]: own.world.issuer(), [OTHER_ISSUER]: withoutCounter() }
  const handler = own.world.handler({ issuers, authorization, tokenEndpoint: undefined })
  // `null`: without any connection; a default parameter would put one there.
  const response = await handler(get(pinPath('card-1', issuerId), { headers }), connection ?? (null as never))
  own.world.expectSilence(await response.text())
  return response.status === 200 ? undefined : `${response.status} ${own.world.last.refusal?.reason}`
}

describe('by certificate', () => {
  const authorization: Authorization = { callers: [D1] }

  test('the caller is let in, and the event says who it was', async () => {
    expect(await asked({ authorization, connection: tls(client) })).toBeUndefined()
    expect(own.world.last).toMatchObject({
      caller: 'd1',
      callerCertificate: fingerprintOf(client).replaceAll(':', '').toLowerCase(),
      address: '192.0.2.7',
    })
    expect(own.world.last).not.toHaveProperty('statedCertificateIgnored')
  })

  test.each<[string, Connection | undefined, string]>([
    ['no connection that is known', undefined, '401 connection'],
    ['no TLS', { encrypted: false, authorized: false }, '401 connection'],
    ['a certificate without TLS', tls(client, { encrypted: false }), '401 connection'],
    ['no certificate', OVER_TLS, '401 certificate-missing'],
    ['authorized, and no certificate', { encrypted: true, authorized: true }, '401 certificate-missing'],
    ['a certificate that did not verify', tls(client, { authorized: false }), '401 certificate-missing'],
    ['another certificate of the same CA', tls(otherIssuer), '401 caller-unknown'],
    ['one with the same name', tls(selfSigned), '401 caller-unknown'],
  ])('%s is refused', async (_what, connection, reason) => {
    expect(await asked({ authorization, connection })).toBe(reason)
  })

  test('one that is not valid now is refused, on a connection that has lasted longer, too', async () => {
    for (const days of [-10, 10]) {
      const now = () => Date.now() + days * 24 * 3600 * 1000
      expect(await asked({ authorization: { callers: [D1], now }, connection: tls(client) })).toBe(
        '401 caller-unknown',
      )
      expect(own.world.last.refusal).toMatchObject({ detail: 'not-in-time' })
    }
  })

  test('the issuer of another caller is refused', async () => {
    const other: Caller = {
      name: 'other',
      issuers: [OTHER_ISSUER],
      certificate: { sha256: [fingerprintOf(otherIssuer)] },
    }
    const both: Authorization = { callers: [D1, other] }
    const connection = tls(otherIssuer)
    expect(await asked({ authorization: both, connection })).toBe('403 caller-issuer')
    expect(own.world.last).toMatchObject({ caller: 'other', issuerId: ISSUER })
    expect(await asked({ authorization: both, connection, issuerId: OTHER_ISSUER })).toBeUndefined()
    expect(await asked({ authorization: both, connection: tls(client), issuerId: OTHER_ISSUER })).toBe(
      '403 caller-issuer',
    )
  })

  test('of a list, each is the caller’s', async () => {
    const list = [fingerprintOf(stranger), fingerprintOf(client).replaceAll(':', '')]
    const callers = [{ ...D1, certificate: { sha256: list } }]
    expect(await asked({ authorization: { callers }, connection: tls(client) })).toBeUndefined()
  })
})

describe('by a name under a CA', () => {
  test('of several callers each is known by its own rule, in whatever order they are', async () => {
    const named = (name: string, issuerId: string): Caller => ({
      name,
      issuers: [issuerId],
      certificate: { ca, subject: { CN: name } },
    })
    const callers = [named('other-issuer', OTHER_ISSUER), named('d1', ISSUER)]
    for (const list of [callers, callers.toReversed()]) {
      const authorization = { callers: list }
      expect(await asked({ authorization, connection: tls(client) })).toBeUndefined()
      expect(own.world.last.caller).toBe('d1')
      expect(await asked({ authorization, connection: tls(otherIssuer) })).toBe('403 caller-issuer')
      expect(own.world.last.caller).toBe('other-issuer')
    }
  })

  const by = (certificate: Caller['certificate']): Authorization => ({
    callers: [{ name: 'd1', issuers: [ISSUER], ...(certificate && { certificate }) }],
  })
  test.each<[string, Caller['certificate'], { cert: string }, string | undefined]>([
    ['the subject', { ca, subject: { CN: 'd1' } }, client, undefined],
    ['an alternative name', { ca: [ca], san: 'DNS:d1.test' }, client, undefined],
    [
      'the subject, under the second of two CAs',
      { ca: [otherCa, ca], subject: { CN: 'd1' } },
      client,
      undefined,
    ],
    [
      'the subject, under neither',
      { ca: [otherCa, ca], subject: { CN: 'd1' } },
      selfSigned,
      '401 caller-unknown',
    ],
    ['both', { ca, subject: { CN: 'd1' }, san: 'URI:spiffe://d1' }, client, undefined],
    ['another subject', { ca, subject: { CN: 'd1' } }, otherIssuer, '401 caller-unknown'],
    ['an attribute that is not there', { ca, subject: { CN: 'd1', O: 'x' } }, client, '401 caller-unknown'],
    ['an attribute of every object', { ca, subject: { toString: 'x' } }, client, '401 caller-unknown'],
    ['another alternative name', { ca, san: 'DNS:d1.test' }, otherIssuer, '401 caller-unknown'],
    ['one right, one wrong', { ca, subject: { CN: 'd1' }, san: 'DNS:x' }, client, '401 caller-unknown'],
    ['the name within another name', { ca, san: 'DNS:d1.test' }, misnamed, '401 caller-unknown'],
    ['the name, signed by itself', { ca, subject: { CN: 'd1' } }, selfSigned, '401 caller-unknown'],
    ['another CA of that name', { ca, subject: { CN: 'stranger' } }, stranger, '401 caller-unknown'],
    ['a server’s certificate', { ca, subject: { CN: 'issuer' } }, certificates.server, '401 caller-unknown'],
    ['the CA itself', { ca, subject: { CN: 'Test CA' } }, { cert: ca }, '401 caller-unknown'],
  ])('%s', async (_what, certificate, given, expected) => {
    for (let i = 0; i < 2; i++) {
      expect(await asked({ authorization: by(certificate), connection: tls(given) })).toBe(expected)
    }
  })

  test('what was found of a certificate holds for its connection', async () => {
    const authorization = by({ ca, subject: { CN: 'd1' } })
    const handler = own.world.handler({ authorization, tokenEndpoint: undefined })
    for (const [connection, status] of [
      [tls(client), 200],
      [tls(otherIssuer), 401],
    ] as const) {
      for (let i = 0; i < 3; i++)
        expect((await handler(get(pinPath('card-1')), connection)).status).toBe(status)
    }
  })
})

describe('by token', () => {
  const S256 = Buffer.from(fingerprintOf(client).replaceAll(':', ''), 'hex').toString('base64url')
  const OTHER_S256 = Buffer.from(fingerprintOf(otherIssuer).replaceAll(':', ''), 'hex').toString('base64url')
  const caller = (more: Partial<Caller>): Authorization => ({
    callers: [{ name: 'd1', issuers: [ISSUER], tokenSubjects: ['svc-d1'], ...more }],
    tokens: own.world.tokens,
  })
  const bearer = async (subject: string, confirmation?: string) => {
    const bound = confirmation === undefined ? {} : { confirmation }
    const { token } = await own.world.tokens.issue({ subject, scopes: [], ...bound })
    return { authorization: `Bearer ${token}` }
  }

  test.each<
    [string, Partial<Caller>, Connection, string | undefined, string | undefined, string | undefined]
  >([
    ['a token', {}, OVER_TLS, 'svc-d1', undefined, undefined],
    [
      'a token, in the clear',
      {},
      { encrypted: false, authorized: false },
      'svc-d1',
      undefined,
      '401 connection',
    ],
    ['no token', {}, OVER_TLS, undefined, undefined, '401 token-missing'],
    ['a token of another', {}, OVER_TLS, 'svc-d2', undefined, '401 caller-unknown'],
    ['both', D1, tls(client), 'svc-d1', undefined, undefined],
    ['the certificate alone', D1, tls(client), undefined, undefined, '401 token-missing'],
    ['the token alone', D1, OVER_TLS, 'svc-d1', undefined, '401 certificate-missing'],
    ['the token and another certificate', D1, tls(otherIssuer), 'svc-d1', undefined, '401 caller-unknown'],
    ['the certificate and another token', D1, tls(client), 'svc-d2', undefined, '401 caller-unknown'],
    ['a bound token and its certificate', {}, tls(client), 'svc-d1', S256, undefined],
    ['a bound token and another certificate', {}, tls(otherIssuer), 'svc-d1', S256, '401 token-binding'],
    ['a bound token and none', {}, OVER_TLS, 'svc-d1', S256, '401 token-binding'],
    ['a token bound to another', D1, tls(client), 'svc-d1', OTHER_S256, '401 token-binding'],
    ['bound, as it must be', { ...D1, boundTokens: true }, tls(client), 'svc-d1', S256, undefined],
    ['unbound, and it must be', { boundTokens: true }, tls(client), 'svc-d1', undefined, '401 token-binding'],
  ])('%s', async (_what, more, connection, subject, confirmation, expected) => {
    const headers = subject === undefined ? {} : await bearer(subject, confirmation)
    const authorization = caller({ ...more, tokenSubjects: ['svc-d1'] })
    expect(await asked({ authorization, connection, headers })).toBe(expected)
  })

  test('a token of one issuer’s client is none for another issuer', async () => {
    const authorization: Authorization = {
      callers: [
        { name: 'one', issuers: [ISSUER], tokenSubjects: ['one'] },
        { name: 'two', issuers: [OTHER_ISSUER], tokenSubjects: ['two'] },
      ],
      tokens: own.world.tokens,
    }
    const headers = await bearer('two')
    expect(await asked({ authorization, connection: OVER_TLS, headers })).toBe('403 caller-issuer')
    expect(own.world.last).toMatchObject({ caller: 'two', tokenSubject: 'two' })
    const connection = OVER_TLS
    expect(await asked({ authorization, connection, headers, issuerId: OTHER_ISSUER })).toBeUndefined()
  })

  test('of two callers with one certificate, the token says which, and none is the one without', async () => {
    const plain: Caller = { ...D1, name: 'plain', issuers: [OTHER_ISSUER] }
    const authorization: Authorization = {
      callers: [plain, { ...D1, tokenSubjects: ['svc-d1'] }],
      tokens: own.world.tokens,
    }
    const connection = tls(client)
    expect(await asked({ authorization, connection })).toBe('403 caller-issuer')
    expect(await asked({ authorization, connection, issuerId: OTHER_ISSUER })).toBeUndefined()
    expect(own.world.last.caller).toBe('plain')
    expect(await asked({ authorization, connection, headers: await bearer('svc-d1') })).toBeUndefined()
    expect(own.world.last.caller).toBe('d1')
  })

  test('of two callers with one certificate the event names the one that speaks for the issuer of the path', async () => {
    const elsewhere: Caller = { ...D1, name: 'elsewhere', issuers: [OTHER_ISSUER] }
    const connection = tls(client)
    for (const callers of [
      [elsewhere, D1],
      [D1, elsewhere],
    ]) {
      expect(await asked({ authorization: { callers }, connection })).toBeUndefined()
      expect(own.world.last).toMatchObject({ caller: 'd1', issuerId: ISSUER })
      expect(await asked({ authorization: { callers }, connection, issuerId: OTHER_ISSUER })).toBeUndefined()
      expect(own.world.last).toMatchObject({ caller: 'elsewhere', issuerId: OTHER_ISSUER })
    }
  })

  test('a verifier that names nobody names no caller', async () => {
    const tokens = { verify: async () => ({ verified: true }) as const }
    const authorization = { ...(caller({ boundTokens: true }) as CallerAuthorization), tokens }
    const headers = { authorization: 'Bearer x' }
    expect(await asked({ authorization, connection: OVER_TLS, headers })).toBe('401 caller-unknown')
  })

  test('the token endpoint behind a Unix socket, where the other side has no address', async () => {
    const handler = own.world.handler({
      authorization: {
        callers: [{ name: 'd1', issuers: [ISSUER], tokenSubjects: [CLIENT.clientId] }],
        tokens: own.world.tokens,
        proxies: [{ from: { listener: 'nginx' }, header: 'client-cert' }],
      },
    })
    const socket = new PassThrough()
    const connection = connectionOf({ socket }, { listener: 'nginx' })
    expect(connection).toEqual({ encrypted: false, authorized: false, listener: 'nginx' })
    // What the connection is remembered by is not which listener it came to first.
    expect(connectionOf({ socket })).toEqual({ encrypted: false, authorized: false })
    const headers = { ...FORM_TYPE, authorization: basic() }
    const request = get(TOKEN_PATH, { method: 'POST', headers, body: 'grant_type=client_credentials' })
    expect((await handler(request, connection)).status).toBe(200)
    expect(own.world.last).not.toHaveProperty('address')
  })

  test('the token endpoint binds to the certificate it is asked with, and asks for TLS', async () => {
    const handler = own.world.handler({
      authorization: {
        callers: [{ name: 'd1', issuers: [ISSUER], tokenSubjects: [CLIENT.clientId] }],
        tokens: own.world.tokens,
      },
      tokenEndpoint: { tokens: own.world.tokens, clients: [CLIENT], bindToCertificate: true },
    })
    const fetchToken = (connection: Connection) =>
      handler(
        get(TOKEN_PATH, {
          method: 'POST',
          headers: { ...FORM_TYPE, authorization: basic() },
          body: 'grant_type=client_credentials',
        }),
        connection,
      )
    const response = await fetchToken(tls(client))
    const { access_token } = (await response.json()) as { access_token: string }
    const headers = { authorization: `Bearer ${access_token}` }
    expect((await handler(get(pinPath('card-1'), { headers }), tls(client))).status).toBe(200)
    expect((await handler(get(pinPath('card-1'), { headers }), tls(otherIssuer))).status).toBe(401)
    expect((await fetchToken(OVER_TLS)).status).toBe(401)
    expect(own.world.last.refusal).toEqual({ reason: 'certificate-missing' })
    expect((await fetchToken({ encrypted: false, authorized: false })).status).toBe(401)
    expect(own.world.last.refusal).toEqual({ reason: 'connection' })
  })
})

test('whoever tries secrets is locked out by its certificate: another one that comes from the same address is not', async () => {
  const tokens = own.world.tokens
  const handler = own.world.handler({
    authorization: {
      callers: [{ name: 'd1', issuers: [ISSUER], tokenSubjects: [CLIENT.clientId] }],
      tokens,
    },
    tokenEndpoint: { tokens, clients: [CLIENT] },
    // No wait is felt; the lock is one of thirty seconds.
    clock: {
      now: () => Date.now(),
      elapsed: () => 0,
      after: (ms: number, then: () => void) => {
        if (ms <= 1600) setImmediate(then)
        return () => {}
      },
    },
  })
  const ask = async (connection: Connection, authorization: string) => {
    const init = {
      method: 'POST',
      headers: { ...FORM_TYPE, authorization },
      body: 'grant_type=client_credentials',
    }
    const { status } = await handler(get(TOKEN_PATH, init), connection)
    return status === 200 ? status : own.world.last.refusal?.reason
  }
  const wrong = `Basic ${Buffer.from('d1:of the wrong secrets one').toString('base64')}`
  // A right one ends it: four wrong ones before it do not count.
  for (let round = 0; round < 2; round++) {
    for (let i = 0; i < 4; i++) expect(await ask(tls(proxy), wrong)).toBe('client-credentials')
    expect(await ask(tls(proxy), basic())).toBe(200)
  }
  for (let i = 0; i < 5; i++) expect(await ask(tls(stranger), wrong)).toBe('client-credentials')
  expect(await ask(tls(stranger), basic())).toBe('client-locked')
  expect(await ask(tls(client), basic())).toBe(200)
  // Without one it is the address.
  const from = (address: string): Connection => ({ ...OVER_TLS, address })
  for (let i = 0; i < 5; i++) expect(await ask(from('192.0.2.8'), wrong)).toBe('client-credentials')
  expect(await ask(from('192.0.2.8'), basic())).toBe('client-locked')
  expect(await ask(from('192.0.2.9'), basic())).toBe(200)
})

describe('behind a proxy', () => {
  const NGINX = { certificate: 'X-SSL-Client-Cert', verify: 'X-SSL-Client-Verify' }
  const through = (from: TrustedProxy['from'], header: TrustedProxy['header'] = NGINX): Authorization => ({
    callers: [D1],
    proxies: [{ from, header }],
  })
  const stated = (credentials: { cert: string }, verify = 'SUCCESS') => ({
    'x-ssl-client-cert': escaped(credentials),
    'x-ssl-client-verify': verify,
  })
  const socket: Connection = { encrypted: false, authorized: false, listener: 'nginx' }
  const loopback: Connection = { encrypted: false, authorized: false, address: '127.0.0.1' }
  const BY_CERTIFICATE = { sha256: [fingerprintOf(proxy)] }

  test.each<[string, TrustedProxy['from'], Connection]>([
    ['its certificate', BY_CERTIFICATE, tls(proxy)],
    ['the name of its listener', { listener: 'nginx' }, socket],
    ['loopback', 'loopback', loopback],
    ['loopback, of IPv6', 'loopback', { ...loopback, address: '::1' }],
    ['loopback, of IPv4 within IPv6', 'loopback', { ...loopback, address: '::ffff:127.0.0.9' }],
  ])('known by %s, what it states counts', async (_what, from, connection) => {
    expect(await asked({ authorization: through(from), connection, headers: stated(client) })).toBeUndefined()
    expect(own.world.last).toMatchObject({ caller: 'd1' })
    expect(own.world.last).not.toHaveProperty('statedCertificateIgnored')
  })

  test.each<[string, TrustedProxy['from'], Connection | undefined, string]>([
    ['another certificate', BY_CERTIFICATE, tls(otherIssuer), '401 caller-unknown'],
    [
      'its certificate, not verified',
      BY_CERTIFICATE,
      tls(proxy, { authorized: false }),
      '401 certificate-missing',
    ],
    ['no certificate', BY_CERTIFICATE, OVER_TLS, '401 certificate-missing'],
    ['another listener', { listener: 'nginx' }, { ...socket, listener: 'x' }, '401 connection'],
    [
      'a listener without a name',
      { listener: 'nginx' },
      { encrypted: false, authorized: false },
      '401 connection',
    ],
    ['another machine', 'loopback', { ...loopback, address: '10.0.0.1' }, '401 connection'],
    [
      'an address that only begins so',
      'loopback',
      { ...loopback, address: '127.0.0.1.evil' },
      '401 connection',
    ],
    ['no address', 'loopback', { encrypted: false, authorized: false }, '401 connection'],
    ['no connection', 'loopback', undefined, '401 connection'],
  ])('%s is not the proxy: what is stated is ignored, and noted', async (_what, from, connection, reason) => {
    expect(await asked({ authorization: through(from), connection, headers: stated(client) })).toBe(reason)
    expect(own.world.last).toMatchObject({ statedCertificateIgnored: true })
  })

  test('a caller itself may come without the proxy, and what it states changes nothing', async () => {
    const authorization = through(BY_CERTIFICATE)
    expect(
      await asked({ authorization, connection: tls(client), headers: stated(otherIssuer) }),
    ).toBeUndefined()
    expect(own.world.last).toMatchObject({ caller: 'd1', statedCertificateIgnored: true })
    expect(await asked({ authorization, connection: tls(proxy) })).toBe('401 certificate-missing')
  })

  test.each<[string, Record<string, string>, string]>([
    ['no header', {}, '401 certificate-missing'],
    [
      'an empty one',
      { 'x-ssl-client-cert': '', 'x-ssl-client-verify': 'SUCCESS' },
      '401 certificate-missing',
    ],
    ['no verdict', { 'x-ssl-client-cert': escaped(client) }, '401 certificate-stated'],
    ['NONE', stated(client, 'NONE'), '401 certificate-stated'],
    ['FAILED', stated(client, 'FAILED:self-signed certificate'), '401 certificate-stated'],
    ['success', stated(client, 'success'), '401 certificate-stated'],
    ['twice SUCCESS', stated(client, 'SUCCESS, SUCCESS'), '401 certificate-stated'],
    ['SUCCESS and more', stated(client, 'SUCCESS:x'), '401 certificate-stated'],
    ['no certificate', { ...stated(client), 'x-ssl-client-cert': 'd1' }, '401 certificate-stated'],
    [
      'two certificates',
      { ...stated(client), 'x-ssl-client-cert': escaped(client) + escaped(otherIssuer) },
      '401 certificate-stated',
    ],
    [
      'a list',
      { ...stated(client), 'x-ssl-client-cert': `${escaped(client)}, ${escaped(client)}` },
      '401 certificate-stated',
    ],
    [
      'a broken escape',
      { ...stated(client), 'x-ssl-client-cert': `${escaped(client)}%` },
      '401 certificate-stated',
    ],
    [
      'a key',
      { ...stated(client), 'x-ssl-client-cert': encodeURIComponent(client.key) },
      '401 certificate-stated',
    ],
    [
      'far too much',
      { ...stated(client), 'x-ssl-client-cert': escaped(client).padEnd(16_385, '%20') },
      '401 certificate-stated',
    ],
    ['another caller’s', stated(otherIssuer), '401 caller-unknown'],
    ['one signed by itself, as if verified', stated(selfSigned), '401 caller-unknown'],
  ])('%s is refused', async (_what, headers, reason) => {
    const authorization = through({ listener: 'nginx' })
    expect(await asked({ authorization, connection: socket, headers })).toBe(reason)
  })

  test('a text that one header may have is not taken from another one because it was read there', async () => {
    const header = { certificate: 'x-ssl-client-cert', verify: 'x-ssl-client-verify' }
    const proxies: readonly TrustedProxy[] = [
      { from: { listener: 'one' }, header: 'client-cert' },
      { from: { listener: 'two' }, header },
    ]
    const authorization: Authorization = { callers: [D1], proxies }
    const handler = own.world.handler({ authorization, tokenEndpoint: undefined })
    const text = `:${x509(client).raw.toString('base64')}:`
    const ask = async (listener: string, headers: Record<string, string>) =>
      (await handler(get(pinPath('card-1'), { headers }), { ...OVER_TLS, listener })).status
    expect(await ask('one', { 'client-cert': text })).toBe(200)
    const stated = { [header.certificate]: text, [header.verify]: 'SUCCESS' }
    expect(await ask('two', stated)).toBe(401)
    expect(own.world.last.refusal?.reason).toBe('certificate-stated')
  })

  describe('by RFC 9440', () => {
    const der = (credentials: { cert: string }) => x509(credentials).raw.toString('base64')
    test.each<[string, string, string | undefined]>([
      ['one byte sequence', `:${der(client)}:`, undefined],
      ['another caller’s', `:${der(otherIssuer)}:`, '401 caller-unknown'],
      ['no colons', der(client), '401 certificate-stated'],
      ['parameters', `:${der(client)}:;a=1`, '401 certificate-stated'],
      ['two', `:${der(client)}:, :${der(client)}:`, '401 certificate-stated'],
      ['PEM', `:${Buffer.from(client.cert).toString('base64')}:`, '401 certificate-stated'],
      [
        'bytes behind it',
        `:${Buffer.concat([x509(client).raw, Buffer.of(0)]).toString('base64')}:`,
        '401 certificate-stated',
      ],
      ['no certificate', ':AAAA:', '401 certificate-stated'],
    ])('%s', async (_what, header, expected) => {
      const authorization = through({ listener: 'nginx' }, 'client-cert')
      expect(await asked({ authorization, connection: socket, headers: { 'Client-Cert': header } })).toBe(
        expected,
      )
    })
  })

  describe('by XFCC', () => {
    const hash = (credentials: Credentials) => fingerprintOf(credentials).replaceAll(':', '').toLowerCase()
    const element = (credentials: Credentials) =>
      `By=spiffe://us;Hash=${hash(credentials)};Cert="${escaped(credentials)}";Subject="CN=d1,O=\\"x;y\\"";DNS=a;DNS=b`
    test.each<[string, string, string | undefined]>([
      ['an element', element(client), undefined],
      ['the hash alone', `Hash=${hash(client)}`, undefined],
      ['names in another case', `HASH=${hash(client)};cert="${escaped(client)}"`, undefined],
      ['the last of two', `${element(otherIssuer)},${element(client)}`, undefined],
      ['the last of two, after a space', `${element(otherIssuer)}, ${element(client)}`, undefined],
      ['not the first of two', `${element(client)},${element(otherIssuer)}`, '401 caller-unknown'],
      ['no hash and no certificate', 'By=x;Subject="CN=d1"', '401 certificate-stated'],
      [
        'hash and certificate of two',
        `Hash=${hash(client)};Cert="${escaped(otherIssuer)}"`,
        '401 certificate-stated',
      ],
      ['the hash twice', `Hash=${hash(client)};Hash=${hash(client)}`, '401 certificate-stated'],
      ['a hash that is none', 'Hash=abc', '401 certificate-stated'],
      ['a certificate that is none', `Hash=${hash(client)};Cert="x"`, '401 certificate-stated'],
      ['a quote that does not end', `Hash=${hash(client)};Cert="x`, '401 certificate-stated'],
      ['a name without a value', `Hash=${hash(client)};x`, '401 certificate-stated'],
      ['an end that is missing', `Hash=${hash(client)};`, '401 certificate-stated'],
      [
        'an element within a quote',
        `Hash=${hash(otherIssuer)};Subject=",Hash=${hash(client)}"`,
        '401 caller-unknown',
      ],
    ])('%s', async (_what, header, expected) => {
      const authorization = through({ listener: 'nginx' }, 'x-forwarded-client-cert')
      const headers = { 'x-forwarded-client-cert': header }
      expect(await asked({ authorization, connection: socket, headers })).toBe(expected)
    })

    test('the hash alone is no certificate under a CA', async () => {
      const authorization: Authorization = {
        proxies: [{ from: { listener: 'nginx' }, header: 'x-forwarded-client-cert' }],
        callers: [{ ...D1, certificate: { ca, subject: { CN: 'd1' } } }],
      }
      const headers = { 'x-forwarded-client-cert': `Hash=${hash(client)}` }
      expect(await asked({ authorization, connection: socket, headers })).toBe('401 caller-unknown')
    })
  })

  test('a certificate that is stated again is the same, with its verdict each time', async () => {
    const authorization = through({ listener: 'nginx' })
    const handler = own.world.handler({ authorization, tokenEndpoint: undefined })
    const verdicts = ['SUCCESS', 'SUCCESS', 'FAILED', 'SUCCESS']
    const statuses: number[] = []
    for (const verdict of verdicts) {
      const headers = stated(client, verdict)
      statuses.push((await handler(get(pinPath('card-1'), { headers }), socket)).status)
    }
    expect(statuses).toEqual([200, 200, 401, 200])
  })

  test('many certificates are read, and few kept', async () => {
    const authorization = through({ listener: 'nginx' }, 'x-forwarded-client-cert')
    const handler = own.world.handler({ authorization, tokenEndpoint: undefined })
    for (let i = 0; i < 70; i++) {
      const headers = { 'x-forwarded-client-cert': `Hash=${String(i).padStart(64, '0')}` }
      expect((await handler(get(pinPath('card-1'), { headers }), socket)).status).toBe(401)
    }
    const peers = new Peers([{ from: { listener: 'nginx' }, header: 'x-forwarded-client-cert' }])
    const proxy = peers.proxyOf(socket) ?? expect.unreachable()
    const read = (i: number): unknown => {
      const headers = new Headers({ 'x-forwarded-client-cert': `Hash=${String(i).padStart(64, '0')}` })
      const presented = peers.presented(socket, proxy, headers)
      return 'problem' in presented ? expect.unreachable() : presented.certificate
    }
    const made = Array.from({ length: 65 }, (_, i) => read(i))
    // One that is kept is the same object again; the first of 65 has made room.
    for (const i of [1, 30, 64]) expect(read(i)).toBe(made[i])
    expect(read(0)).not.toBe(made[0])
  })
})

describe('anyone who reaches it', () => {
  test('is let in, and the event says what is known', async () => {
    const authorization = 'anyone-who-reaches-it'
    expect(await asked({ authorization })).toBeUndefined()
    expect(
      await asked({ authorization, connection: tls(otherIssuer), headers: { 'client-cert': ':x:' } }),
    ).toBeUndefined()
    expect(own.world.last).toMatchObject({
      statedCertificateIgnored: true,
      callerCertificate: fingerprintOf(otherIssuer).replaceAll(':', '').toLowerCase(),
    })
    expect(own.world.last).not.toHaveProperty('caller')
  })
})

describe('mistakes', () => {
  const callers = (...list: unknown[]) => ({ callers: list })
  const proxies = (...list: unknown[]) => ({ callers: [D1], proxies: list })
  const GOOD = { from: 'loopback', header: 'client-cert' }
  const rows: Readonly<Record<string, () => unknown>> = {
    'no callers': () => callers(),
    'callers that are no list': () => ({ callers: D1 }),
    'an unknown option': () => ({ callers: [D1], bearer: own.world.tokens }),
    'a clock that is none': () => ({ callers: [D1], now: 7 }),
    'a caller that is none': () => callers(null),
    'a caller with an unknown member': () => callers({ ...D1, fingerprint: 'x' }),
    'no name': () => callers({ ...D1, name: '' }),
    'a name with a line break': () => callers({ ...D1, name: 'a\nb' }),
    'no issuers': () => callers({ ...D1, issuers: [] }),
    'an issuer that the service has not': () => callers({ ...D1, issuers: ['is_tbank99'] }),
    'nothing to know it by': () => callers({ name: 'd1', issuers: [ISSUER] }),
    'subjects, and nobody to judge': () => callers({ ...D1, tokenSubjects: ['a'] }),
    'no subjects': () => ({ callers: [{ ...D1, tokenSubjects: [] }], tokens: own.world.tokens }),
    'a judge, and no subjects': () => ({ callers: [D1], tokens: own.world.tokens }),
    'bound tokens without subjects': () => callers({ ...D1, boundTokens: true }),
    'bound tokens: false': () => ({
      callers: [{ ...D1, tokenSubjects: ['a'], boundTokens: false }],
      tokens: own.world.tokens,
    }),
    'no fingerprints': () => callers({ ...D1, certificate: { sha256: [] } }),
    'a fingerprint that is none': () => callers({ ...D1, certificate: { sha256: ['ab'] } }),
    'a fingerprint that is no text': () => callers({ ...D1, certificate: { sha256: [7] } }),
    'a rule of both kinds': () => callers({ ...D1, certificate: { sha256: [fingerprintOf(client)], ca } }),
    'a rule of no kind': () => callers({ ...D1, certificate: {} }),
    'a CA alone': () => callers({ ...D1, certificate: { ca } }),
    'a CA that is none': () => callers({ ...D1, certificate: { ca: client.cert, subject: { CN: 'd1' } } }),
    'a CA that is no certificate': () => callers({ ...D1, certificate: { ca: 'x', subject: { CN: 'd1' } } }),
    'a CA that is no text': () => callers({ ...D1, certificate: { ca: 7, subject: { CN: 'd1' } } }),
    'no CA': () => callers({ ...D1, certificate: { ca: [], subject: { CN: 'd1' } } }),
    'an empty subject': () => callers({ ...D1, certificate: { ca, subject: {} } }),
    'a subject that is no object': () => callers({ ...D1, certificate: { ca, subject: 'CN=d1' } }),
    'an attribute that is no text': () => callers({ ...D1, certificate: { ca, subject: { CN: 7 } } }),
    'an attribute that is no text, behind one that is': () =>
      callers({ ...D1, certificate: { ca, subject: { CN: 'd1', O: 7 } } }),
    'a name of no kind': () => callers({ ...D1, certificate: { ca, san: 'd1.test' } }),
    'proxies that are no list': () => ({ callers: [D1], proxies: GOOD }),
    'a proxy that is none': () => proxies('loopback'),
    'a proxy known by nothing': () => proxies({ ...GOOD, from: {} }),
    'a proxy known by an address': () => proxies({ ...GOOD, from: '10.0.0.1' }),
    'a proxy known by two things': () =>
      proxies({ ...GOOD, from: { listener: 'x', sha256: [fingerprintOf(proxy)] } }),
    'a listener without a name': () => proxies({ ...GOOD, from: { listener: '' } }),
    'a header of no kind': () => proxies({ ...GOOD, header: 'x-client-cert' }),
    'one header of two': () => proxies({ ...GOOD, header: { certificate: 'x-cert' } }),
    'one header twice': () => proxies({ ...GOOD, header: { certificate: 'x-cert', verify: 'X-Cert' } }),
    'a header that cannot be': () => proxies({ ...GOOD, header: { certificate: 'x cert', verify: 'y' } }),
  }
  test.each(Object.entries(rows))('%s: ERR_ARGUMENT', async (_what, authorization) => {
    await failure(
      () => own.world.handler({ authorization: authorization(), tokenEndpoint: undefined }),
      'ERR_ARGUMENT',
    )
  })
})
