/**
 * Who calls, over the wire: certificate × token × transport × configuration, every cell with the answer it must have. TLS
 * 1.2 and 1.3, HTTP/1.1 and HTTP/2, direct and behind a real nginx.
 */
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import http from 'node:http'
import http2 from 'node:http2'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  type Caller,
  type EndpointHandler,
  type NodeListener,
  nodeListener,
  type TrustedProxy,
} from '../src/d1.js'
import { type Credentials, fingerprintOf } from '../test/d1/endpoints/support/certificates.js'
import { certificates, serverTls, type TlsVersion } from '../test/d1/endpoints/support/wire.js'
import { ISSUER, pinPath, World } from '../test/d1/endpoints/support/world.js'
import { describeNginx, type ServerName } from './nginx.js'

const CERTIFICATES: Readonly<Record<string, Credentials | undefined>> = {
  d1: certificates.client,
  'another issuer’s': certificates.otherIssuer,
  'self-signed': certificates.selfSigned,
  'of another CA': certificates.stranger,
  none: undefined,
}
/** Those that a TLS server which requires certificates of the CA lets in. */
const OF_THE_CA: ReadonlySet<string> = new Set(['d1', 'another issuer’s'])
/** `bound`: the right one, bound to D1's certificate (RFC 8705). */
const TOKENS = ['right', 'bound', 'another caller’s', 'none'] as const
type TokenKind = (typeof TOKENS)[number]

const BY_CERTIFICATE = { sha256: [fingerprintOf(certificates.client)] }
const CONFIGURATIONS: Readonly<Record<string, Omit<Caller, 'name' | 'issuers'>>> = {
  certificate: { certificate: BY_CERTIFICATE },
  'a name under the CA': { certificate: { ca: certificates.ca, subject: { CN: 'd1' }, san: 'DNS:d1.test' } },
  token: { tokenSubjects: ['d1'] },
  both: { certificate: BY_CERTIFICATE, tokenSubjects: ['d1'] },
  'bound token': { tokenSubjects: ['d1'], boundTokens: true },
}

/** Whether a caller is one, by a configuration. */
function isCaller(
  { certificate, tokenSubjects, boundTokens }: Omit<Caller, 'name' | 'issuers'>,
  by: string,
  token: TokenKind,
) {
  const isRight = token === 'bound' ? by === 'd1' : token === 'right' && boundTokens === undefined
  return (certificate === undefined || by === 'd1') && (tokenSubjects === undefined || isRight)
}

const PROXIES: readonly TrustedProxy[] = [
  {
    from: { listener: 'nginx' },
    header: { certificate: 'X-SSL-Client-Cert', verify: 'X-SSL-Client-Verify' },
  },
]
const RFC9440: readonly TrustedProxy[] = [{ from: { listener: 'nginx' }, header: 'client-cert' }]
const OVER_MTLS: readonly TrustedProxy[] = [
  {
    from: { sha256: [fingerprintOf(certificates.proxy)] },
    header: { certificate: 'X-SSL-Client-Cert', verify: 'X-SSL-Client-Verify' },
  },
]

interface Ask {
  readonly port: number
  readonly path: string
  readonly version: TlsVersion
  readonly by: string
  readonly headers: Record<string, string>
}

/** The status of a Get PIN; 0: the connection was refused. */
type Way = (ask: Ask) => Promise<number>

const tlsOf = ({ version, by }: Ask) => ({
  ca: certificates.ca,
  ...CERTIFICATES[by],
  minVersion: version,
  maxVersion: version,
})

const overHttp1: Way = ask =>
  new Promise(resolve => {
    const { port, path, headers } = ask
    https
      .get({ host: 'localhost', port, path, headers, agent: false, ...tlsOf(ask) }, response => {
        response.resume().once('close', () => resolve(response.statusCode ?? 0))
      })
      .once('error', () => resolve(0))
  })

const overHttp2: Way = ask =>
  new Promise(resolve => {
    const session = http2.connect(`https://localhost:${ask.port}`, tlsOf(ask))
    let status = 0
    session.once('error', () => resolve(0)).once('close', () => resolve(status))
    // A client of TLS 1.3 is told after its handshake that its certificate is not good enough.
    session.socket.once('close', () => resolve(status))
    const stream = session.request({ ':path': ask.path, ...ask.headers })
    stream.once('response', headers => {
      status = Number(headers[':status'])
    })
    stream
      .once('error', () => {})
      .once('close', () => {
        resolve(status)
        session.destroy()
      })
    stream.resume()
  })

const WAYS: readonly [string, TlsVersion, Way][] = [
  ['HTTP/1.1, TLS 1.2', 'TLSv1.2', overHttp1],
  ['HTTP/1.1, TLS 1.3', 'TLSv1.3', overHttp1],
  ['HTTP/2, TLS 1.2', 'TLSv1.2', overHttp2],
  ['HTTP/2, TLS 1.3', 'TLSv1.3', overHttp2],
]

let world: World
const tokens = new Map<TokenKind, Record<string, string>>()
beforeAll(async () => {
  world = await World.open()
  const sha256 = Buffer.from(fingerprintOf(certificates.client).replaceAll(':', ''), 'hex')
  for (const [kind, subject, more] of [
    ['right', 'd1', {}],
    ['bound', 'd1', { confirmation: sha256.toString('base64url') }],
    ['another caller’s', 'd2', {}],
  ] as const) {
    const { token } = await world.tokens.issue({ subject, scopes: [], ...more })
    tokens.set(kind, { authorization: `Bearer ${token}` })
  }
  tokens.set('none', {})
})
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
  const path = process.env['CALLERS_TABLE']
  if (path !== undefined) writeFileSync(path, tableOfCells())
})

/** Every cell as it was answered: by configuration and certificate, then by route, then by token, the ways in one. */
const answered = new Map<string, Map<string, Map<TokenKind, Set<number>>>>()

/** The table that docs/measurements/callers.md shows: `CALLERS_TABLE=path` writes it. */
function tableOfCells(): string {
  const routes = [...new Set([...answered.values()].flatMap(row => [...row.keys()]))]
  const head = ['configuration, certificate', ...routes]
  const rows = Array.from(answered, ([name, row]) => [
    name,
    ...routes.map(route =>
      TOKENS.map(token => [...(row.get(route)?.get(token) ?? [])].sort().join('/')).join(' · '),
    ),
  ])
  return [head, head.map(() => '---'), ...rows].map(cells => `| ${cells.join(' | ')} |\n`).join('')
}

function noteCell(route: string, name: string, token: TokenKind, status: number): void {
  const row = answered.get(name) ?? new Map<string, Map<TokenKind, Set<number>>>()
  const cell = row.get(route) ?? new Map<TokenKind, Set<number>>()
  answered.set(name, row.set(route, cell.set(token, (cell.get(token) ?? new Set()).add(status))))
}

/** One listener for all configurations, each under a prefix of its own. */
function listenerOf(proxies: readonly TrustedProxy[], listener?: string): NodeListener {
  const { [ISSUER]: issuer } = world.options().issuers
  const { seccos: _, ...iso0Only } = issuer ?? expect.fail('there is no issuer')
  const handlers = Object.values(CONFIGURATIONS).map((how, i): EndpointHandler => {
    const hasTokens = how.tokenSubjects !== undefined
    return world.handler({
      prefix: `/c${i}`,
      issuers: { [ISSUER]: iso0Only },
      authorization: {
        callers: [{ name: 'd1', issuers: [ISSUER], ...how }],
        proxies,
        ...(hasTokens && { tokens: world.tokens }),
      },
      tokenEndpoint: undefined,
    })
  })
  const handler: EndpointHandler = (request, connection) => {
    const found = handlers.find(({ takes }) => takes?.(new URL(request.url).pathname))
    // Unlike the tests of the handler alone, nobody stands in for a connection that is not known.
    return (
      found?.(request, connection ?? (null as never)) ?? Promise.resolve(new Response(null, { status: 599 }))
    )
  }
  return nodeListener(handler, listener === undefined ? {} : { listener })
}

/** Asks every cell of one transport, and says which were not answered as they must be. */
async function wrongCells(
  way: Way,
  { port, version, route }: Pick<Ask, 'port' | 'version'> & { readonly route: string },
  headersOf: (by: string) => Record<string, string> = () => ({}),
): Promise<readonly string[]> {
  const wrong: string[] = []
  let let_in = 0
  for (const [i, [name, how]] of Object.entries(CONFIGURATIONS).entries()) {
    for (const by of Object.keys(CERTIFICATES)) {
      for (const token of TOKENS) {
        const headers = { ...headersOf(by), ...tokens.get(token) }
        const status = await way({ port, version, by, path: `/c${i}${pinPath('card-1')}`, headers })
        const may = OF_THE_CA.has(by) && isCaller(how, by, token)
        if (may) let_in++
        noteCell(route, `${name}, ${by}`, token, status)
        const right = may ? status === 200 : [0, 400, 401].includes(status)
        if (!right) wrong.push(`${name}, certificate ${by}, token ${token}: ${status}`)
      }
    }
  }
  // For the certificate one with each token, twice; for the token one with each certificate of the CA, and a bound one with its
  // own; for both, and for a bound token, those with D1's certificate.
  expect(let_in).toBe(4 + 4 + 3 + 2 + 1)
  return wrong
}

describe('direct', () => {
  let server: http2.Http2SecureServer
  let port = 0
  beforeAll(async () => {
    server = http2.createSecureServer(
      { ...serverTls, allowHTTP1: true, minVersion: 'TLSv1.2' },
      listenerOf([]),
    )
    server.listen(0, 'localhost')
    await once(server, 'listening')
    ;({ port } = server.address() as AddressInfo)
  })
  afterAll(async () => {
    await new Promise(resolve => server.close(resolve))
  })

  test.each(WAYS)('%s: each cell has its answer', async (_name, version, way) => {
    expect(await wrongCells(way, { port, version, route: 'direct' })).toEqual([])
  })

  test.each(WAYS)('%s: a stated certificate changes nothing', async (_name, version, way) => {
    const stated = () => ({
      'x-ssl-client-cert': encodeURIComponent(certificates.client.cert),
      'x-ssl-client-verify': 'SUCCESS',
      'x-forwarded-client-cert': `Hash=${fingerprintOf(certificates.client).replaceAll(':', '')}`,
    })
    expect(await wrongCells(way, { port, version, route: 'direct, forged headers' }, stated)).toEqual([])
    expect(world.last.statedCertificateIgnored).toBe(true)
  })

  test('on a port without TLS, nobody is let in', async () => {
    const plain = http.createServer(listenerOf([])).listen(0, '127.0.0.1')
    await once(plain, 'listening')
    const origin = `http://127.0.0.1:${(plain.address() as AddressInfo).port}`
    for (const i of Object.keys(CONFIGURATIONS).keys()) {
      const headers = { ...tokens.get('right') }
      const response = await fetch(`${origin}/c${i}${pinPath('card-1')}`, { headers })
      expect(response.status).toBe(401)
      expect(world.last.refusal).toEqual({ reason: 'connection' })
    }
    await new Promise(resolve => plain.close(resolve))
  })

  test('where TLS only asks for certificates, those that did not verify are none', async () => {
    const lax = https.createServer({ ...serverTls, rejectUnauthorized: false }, listenerOf([]))
    lax.listen(0, 'localhost')
    await once(lax, 'listening')
    const { port } = lax.address() as AddressInfo
    for (const by of ['self-signed', 'of another CA', 'none']) {
      const ask = { port, version: 'TLSv1.3', by, path: `/c0${pinPath('card-1')}`, headers: {} } as const
      expect(await overHttp1(ask), by).toBe(401)
      expect(world.last.refusal).toEqual({ reason: 'certificate-missing' })
    }
    lax.closeAllConnections()
    await new Promise(resolve => lax.close(resolve))
  })
})

describeNginx('behind nginx', nginx => {
  const open: (http.Server | https.Server)[] = []
  let current: NodeListener
  beforeAll(async () => {
    const unix = http.createServer((incoming, outgoing) => current(incoming, outgoing))
    unix.listen({ path: nginx.socket, writableAll: true, readableAll: true })
    const mtls = https.createServer(serverTls, (incoming, outgoing) => current(incoming, outgoing))
    mtls.listen(0, '127.0.0.1')
    open.push(unix, mtls)
    await Promise.all(open.map(server => once(server, 'listening')))
    await nginx.start((mtls.address() as AddressInfo).port)
  })
  afterAll(async () => {
    for (const server of open) {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    }
  })
  const portOf = (name: ServerName): number => nginx.ports.get(name) ?? 0

  describe.each<[ServerName, readonly TrustedProxy[], string | undefined]>([
    ['escaped', PROXIES, 'nginx'],
    ['rfc9440', RFC9440, 'nginx'],
    ['mtls', OVER_MTLS, undefined],
  ])('%s', (name, proxies, listener) => {
    beforeAll(() => {
      current = listenerOf(proxies, listener)
    })

    test.each(WAYS)('%s: each cell has its answer', async (_name, version, way) => {
      expect(await wrongCells(way, { port: portOf(name), version, route: `nginx, ${name}` })).toEqual([])
    })

    test('a header of the client’s does not get past nginx', async () => {
      const forged = () => ({
        'x-ssl-client-cert': encodeURIComponent(certificates.client.cert),
        'x-ssl-client-verify': 'SUCCESS',
        'client-cert': ':AAAA:',
      })
      const ask = { port: portOf(name), version: 'TLSv1.3', route: `nginx, ${name}, forged headers` } as const
      expect(await wrongCells(overHttp1, ask, forged)).toEqual([])
    })
  })

  test('a location with a header of its own passes a forged one on: it must be a caller’s certificate to count', async () => {
    current = listenerOf(PROXIES, 'nginx')
    const ask = (headers: Record<string, string>, path = `/c0${pinPath('card-1')}`) =>
      overHttp1({ port: portOf('trap'), version: 'TLSv1.3', by: 'another issuer’s', path, headers })
    const forged = (cert: string) => ({
      'x-ssl-client-cert': encodeURIComponent(cert),
      'x-ssl-client-verify': 'SUCCESS',
    })
    expect(await ask({})).toBe(401)
    expect(world.last.refusal).toEqual({ reason: 'certificate-missing' })
    expect(await ask(forged('CN=d1'))).toBe(401)
    expect(await ask(forged(certificates.selfSigned.cert))).toBe(401)
    expect(await ask(forged(certificates.otherIssuer.cert))).toBe(401)
    // The trap: D1's certificate is no secret. Behind such a location whoever has a certificate of the CA is D1; a token
    // that is asked for besides stops it.
    expect(await ask(forged(certificates.client.cert))).toBe(200)
    expect(await ask(forged(certificates.client.cert), `/c3${pinPath('card-1')}`)).toBe(401)
  })

  test('what nginx did not verify is refused by its verdict', async () => {
    current = listenerOf(PROXIES, 'nginx')
    for (const [by, status] of [
      ['self-signed', 401],
      ['of another CA', 401],
      ['none', 401],
      ['d1', 200],
    ] as const) {
      const path = `/c0${pinPath('card-1')}`
      expect(
        await overHttp1({ port: portOf('unverified'), version: 'TLSv1.2', by, path, headers: {} }),
        by,
      ).toBe(status)
    }
  })

  test('a listener without the name believes nothing of it', async () => {
    current = listenerOf(PROXIES)
    const path = `/c0${pinPath('card-1')}`
    const ask = { port: portOf('escaped'), version: 'TLSv1.3', by: 'd1', path, headers: {} } as const
    expect(await overHttp1(ask)).toBe(401)
    expect(world.last).toMatchObject({ refusal: { reason: 'connection' }, statedCertificateIgnored: true })
  })
})
