/** The simulator against issuers of other kinds, and against what is no issuer: each says what it is, in its own words. */
import { randomBytes } from 'node:crypto'
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import https from 'node:https'
import net from 'node:net'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { TokenVerdict } from '../../../src/d1.js'
import { GROUPS } from '../src/case.js'
import { SECCOS_MESSAGES } from '../src/inside.js'
import { program } from '../src/program.js'
import { simulateD1 } from '../src/run.js'
import { loadSetup } from '../src/setup.js'
import { Wire } from '../src/wire.js'
import { type Card, World } from '../src/world.js'
import { certificates, D1S_CERTIFICATE, ISSUER, type Issuer, openIssuer } from './support/issuer.js'
import { keptOutput } from './support/output.js'

const CHUNKED = 'Transfer-Encoding: chunked'

function otherConfig({ config, folder }: Issuer, changes: object): string {
  const path = join(folder, 'changed.json')
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(config, 'utf8')), ...changes }))
  chmodSync(path, 0o600)
  return path
}

test('an issuer by the AES profile passes every case that has to do with it', async () => {
  const issuer = await openIssuer({ profile: 'aes' })
  const only = ['get-pin', 'set-pin-iso0', 'change-counter', 'set-pin-seccos', 'uniform']
  const results = await simulateD1({ config: issuer.config, only, warn: () => {} })
  expect(results.filter(({ verdict }) => verdict !== 'passed')).toEqual([])
  await issuer.close()
})

test('an issuer by client certificate alone, under a prefix, passes the cases, but for those about tokens', async () => {
  const issuer = await openIssuer({
    endpoints: () => ({
      authorization: { callers: [{ name: 'd1', issuers: [ISSUER], certificate: D1S_CERTIFICATE }] },
      tokenEndpoint: undefined as never,
      prefix: '/d1',
    }),
  })
  const { url } = JSON.parse(readFileSync(issuer.config, 'utf8'))
  const config = otherConfig(issuer, { url: `${url}/d1/`, tokenUrl: undefined, client: undefined })
  // The messages of `uniform` are those of two other groups.
  const only = GROUPS.filter(group => group !== 'uniform')
  const results = await simulateD1({ config, only, warn: () => {} })
  expect(results.filter(({ verdict }) => verdict === 'failed')).toEqual([])
  const notRun = results.filter(({ verdict }) => verdict === 'not run')
  expect(new Set(notRun.map(({ got }) => got))).toEqual(new Set(['there is no tokenUrl']))
  await issuer.close()
})

test('an issuer with tokens that are no JWTs passes the cases about them', async () => {
  const issued = new Set<string>()
  const tokens = {
    issue: async () => {
      const token = randomBytes(24).toString('base64url')
      issued.add(token)
      return { token, expiresInSeconds: 900, expiresAt: Date.now() + 900_000 }
    },
  }
  const verify = async (token: string): Promise<TokenVerdict> =>
    issued.has(token) ? { verified: true, subject: 'd1' } : { verified: false, reason: 'unknown' }
  const issuer = await openIssuer({
    endpoints: ({ tokenEndpoint }) => ({
      authorization: {
        callers: [{ name: 'd1', issuers: ['is_tbank01'], tokenSubjects: ['d1'] }],
        tokens: { verify },
      },
      tokenEndpoint: { clients: tokenEndpoint?.clients ?? [], tokens },
    }),
  })
  const results = await simulateD1({
    config: issuer.config,
    only: ['token', 'authorization'],
    warn: () => {},
  })
  expect(results.filter(({ verdict }) => verdict !== 'passed')).toEqual([])
  await issuer.close()
})

test('an issuer that locks a client out for two wrong secrets in a row passes the cases about them', async () => {
  let wrong = 0
  const issuer = await openIssuer({
    handler:
      ({ handler }) =>
      async (request, connection) => {
        if (!request.url.endsWith('/token')) return handler(request, connection)
        if (wrong === 2) return Response.json({ error: 'invalid_client' }, { status: 401 })
        const response = await handler(request, connection)
        wrong = response.status === 401 ? wrong + 1 : 0
        return response
      },
  })
  const results = await simulateD1({ config: issuer.config, only: ['token'], warn: () => {} })
  expect(results.filter(({ verdict }) => verdict !== 'passed')).toEqual([])
  await issuer.close()
})

test("a load balancer's cookie, another each time, is no fault of an issuer", async () => {
  const issuer = await openIssuer({
    handler:
      ({ handler }) =>
      async (request, connection) => {
        const response = await handler(request, connection)
        for (const name of ['a', 'b'])
          response.headers.append('set-cookie', `${name}=${randomBytes(8).toString('hex')}`)
        return response
      },
  })
  const only = ['paths', 'token', 'messages', 'uniform']
  const results = await simulateD1({ config: issuer.config, only, warn: () => {} })
  expect(results.filter(({ verdict }) => verdict !== 'passed')).toEqual([])
  await issuer.close()
})

test.each([['another pcc', 'pcc', 'the profile has no field pcc']])(
  'by a profile without it, "%s" would be a sound message, and is not sent',
  async (name, field, reason) => {
    const issuer = await openIssuer()
    const setup = loadSetup({ config: issuer.config }, () => {})
    const { seccos } = setup
    if (seccos === undefined || typeof seccos.profile === 'string') throw new Error('there is a profile')
    const profile = { ...seccos.profile, fields: seccos.profile.fields.filter(({ id }) => id !== field) }
    const wire = new Wire(setup)
    const world = new World({ ...setup, seccos: { ...seccos, profile } }, wire)
    const make = SECCOS_MESSAGES[name] ?? expect.fail()
    await expect(make(world, world.card('active', '3DES_SECCOS'), '1234')).rejects.toThrow(reason)
    const unkeyed = {
      ...seccos.profile,
      mac: { ...seccos.profile.mac, inputs: [{ input: 'dataSet.masked' }] } as never,
    }
    const bare = new World({ ...setup, seccos: { ...seccos, profile: unkeyed } }, wire)
    const other = SECCOS_MESSAGES['another PRW under the MAC'] ?? expect.fail()
    await expect(other(bare, bare.card('active', '3DES_SECCOS'), '1234')).rejects.toThrow(
      'does not cover the PRW',
    )
    wire.close()
    await issuer.close()
  },
)

describe('the PINs that were there', () => {
  const shown = async (issuer: Issuer): Promise<readonly string[]> => {
    const setup = loadSetup({ config: issuer.config }, () => {})
    const wire = new Wire(setup)
    const world = new World(setup, wire)
    const pins: string[] = []
    for (const card of world.setup.cards) {
      if (card.state === 'active' && card.setPinTypes?.includes('ISO0'))
        pins.push(await world.shownPin(card as Card))
    }
    wire.close()
    return pins
  }

  test('come back for a card of both types, that was set as 3DES_SECCOS', async () => {
    const issuer = await openIssuer()
    const { cards } = JSON.parse(readFileSync(issuer.config, 'utf8'))
    const both = cards.filter(({ cardId }: { cardId: string }) => cardId === 'both-1')
    const before = await shown(issuer)
    const config = otherConfig(issuer, { cards: both, expired: {} })
    const only = ['set-pin-seccos: a new PIN']
    const results = await simulateD1({ config, only, warn: () => {} })
    expect(results.map(({ group, verdict }) => [group, verdict])).toEqual([
      ['set-pin-seccos', 'passed'],
      ['end', 'passed'],
    ])
    expect(await shown(issuer)).toEqual(before)
    await issuer.close()
  })

  test('come back where the run is interrupted, which is no success', async () => {
    const issuer = await openIssuer()
    const before = await shown(issuer)
    const stop = new AbortController()
    const output = keptOutput()
    const interrupting = {
      ...output,
      out: (text: string) => {
        output.out(text)
        if (text.startsWith('ok')) stop.abort()
      },
    }
    const code = await program(['--config', issuer.config, '--only', 'set-pin-iso0'], interrupting, {
      signal: stop.signal,
    })
    expect(code).toBe(1)
    expect(output.output.filter(line => line.startsWith('ok'))).toHaveLength(2)
    expect(output.output.at(-2)).toMatch(/^ok +end +the PINs are set back/)
    expect(output.errors).toContain('ERR_INTERRUPTED: the cases after the last one were not run')
    expect(await shown(issuer)).toEqual(before)
    await issuer.close()
  })

  test('that nothing can bring back are said before anything is sent', async () => {
    const issuer = await openIssuer()
    const said: string[] = []
    const config = otherConfig(issuer, { url: 'https://127.0.0.1:9', other: undefined })
    await simulateD1({
      config,
      only: ['set-pin-seccos: a new PIN', 'callers'],
      warn: text => said.push(text),
    })
    expect(said).toEqual([
      'the PINs of 2 cards that are set as 3DES_SECCOS alone are replaced, and cannot be set back',
      "there is no other caller's certificate (other): whether it is refused is not tried",
    ])
    await issuer.close()
  })
})

test('an issuer that is not there fails every case, as no answer', async () => {
  const issuer = await openIssuer()
  const config = otherConfig(issuer, { url: 'https://127.0.0.1:9', tokenUrl: 'https://127.0.0.1:9/token' })
  const io = keptOutput()
  const bars: string[] = []
  const terminal = { ...io, progress: (text: string) => void bars.push(text) }
  expect(await program(['--config', config, '--only', 'get-pin'], terminal)).toBe(1)
  // A bar of one line, from the first to the last case; then the line is empty again.
  expect(bars[0]).toMatch(/^\[\.{30}\] 0 of \d+$/)
  expect(bars[1]).toMatch(/^\[#*\.+\] 1 of \d+ get-pin: /)
  expect([bars.at(-1), bars.filter(({ length }) => length > 79)]).toEqual(['', []])
  const results = await simulateD1({ config, warn: () => {} })
  expect(results.filter(({ verdict }) => verdict === 'passed')).toEqual([])
  const tried = results.filter(({ group }) => group !== 'end')
  expect(new Set(tried.map(({ got }) => got))).toEqual(new Set(['no answer: ECONNREFUSED', 'no answer']))
  await issuer.close()
})

test('an issuer whose certificate is of another CA fails every case', async () => {
  const issuer = await openIssuer()
  const { tls } = JSON.parse(readFileSync(issuer.config, 'utf8'))
  const config = otherConfig(issuer, { tls: { ...tls, ca: tls.cert } })
  const results = await simulateD1({ config, only: ['get-pin', 'connection'], warn: () => {} })
  expect(results.filter(({ verdict, group }) => verdict === 'passed' && group === 'get-pin')).toEqual([])
  expect(results.map(({ verdict }) => verdict)).toContain('failed')
  await issuer.close()
})

test('an issuer that never answers fails within the time', async () => {
  const issuer = await openIssuer({ handler: () => () => new Promise(() => {}) })
  const config = otherConfig(issuer, { timeouts: { requestMs: 50, slowBodyMs: 50 } })
  const results = await simulateD1({ config, only: ['get-pin', 'paths', 'slow'], warn: () => {} })
  expect(results.filter(({ verdict }) => verdict !== 'failed')).toEqual([])
  expect(new Set(results.map(({ got }) => got))).toEqual(new Set(['no answer: TIMEOUT']))
  await issuer.close()
})

test('a server that takes connections and says nothing has not refused TLS 1.1', async () => {
  const issuer = await openIssuer()
  const silent = net.createServer(socket => socket.on('error', () => {}).resume())
  await new Promise<void>(resolve => silent.listen(0, '127.0.0.1', resolve))
  const { port } = silent.address() as net.AddressInfo
  const config = otherConfig(issuer, { url: `https://127.0.0.1:${port}`, timeouts: { requestMs: 50 } })
  const results = await simulateD1({ config, only: ['connection: TLS 1.1'], warn: () => {} })
  expect(results).toMatchObject([{ verdict: 'failed', got: 'no answer' }])
  await new Promise(resolve => silent.close(resolve))
  await issuer.close()
})

test('tokens whose life is not stated are used', async () => {
  const issuer = await openIssuer({
    handler:
      ({ handler }) =>
      async (request, connection) => {
        const response = await handler(request, connection)
        if (!request.url.endsWith('/token')) return response
        const { expires_in: _, ...body } = (await response.json()) as Record<string, unknown>
        return Response.json(body, { status: response.status })
      },
  })
  const results = await simulateD1({ config: issuer.config, only: ['get-pin'], warn: () => {} })
  expect(results.filter(({ verdict }) => verdict !== 'passed')).toEqual([])
  await issuer.close()
})

test('an issuer that reads Basic in padded base64 alone, as RFC 7617 has it, lets D1 in', async () => {
  const issuer = await openIssuer({
    handler:
      ({ handler }) =>
      async (request, connection) => {
        const [, pair = ''] = (request.headers.get('authorization') ?? '').split('Basic ')
        return pair === Buffer.from(pair, 'base64').toString('base64')
          ? handler(request, connection)
          : Response.json({ error: 'invalid_client' }, { status: 401 })
      },
  })
  const results = await simulateD1({ config: issuer.config, only: ['get-pin'], warn: () => {} })
  expect(results.filter(({ verdict }) => verdict !== 'passed')).toEqual([])
  await issuer.close()
})

test('where the address has no port it is 443', async () => {
  const issuer = await openIssuer()
  const setup = loadSetup({ config: issuer.config, members: { url: 'https://127.0.0.1' } }, () => {})
  const socket = new Wire(setup).connect('nobody')
  // Something may listen there.
  const port = await new Promise(resolve => {
    socket.once('error', error => resolve('port' in error ? error.port : socket.remotePort))
    socket.once('secureConnect', () => resolve(socket.remotePort))
  })
  socket.destroy()
  expect(port).toBe(443)
  await issuer.close()
})

test('what stands twice in an answer is joined; an answer that breaks off is none', async () => {
  const issuer = await openIssuer()
  const server = https.createServer(certificates.server, ({ url }, response) => {
    response.setHeader('x-twice', ['1', '2'])
    if (url === '/whole') response.end()
    else if (url === '/chunks') response.write('{"a": "bcd', () => response.end('efghijklmnopq"}'))
    else if (url === '/wrong') response.socket?.end(`HTTP/1.1 200 OK\r\n${CHUNKED}\r\n\r\n2\r\nab0\r\n\r\n`)
    else response.write('{', () => response.destroy())
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const url = `https://localhost:${(server.address() as net.AddressInfo).port}`
  const wire = new Wire(loadSetup({ config: issuer.config, members: { url } }, () => {}))
  const joined = { status: 200, headers: { 'x-twice': '1, 2' } }
  const timers = (): number => process.getActiveResourcesInfo().filter(name => name === 'Timeout').length
  const before = timers()
  expect(await wire.ask(`${url}/whole`)).toMatchObject(joined)
  // The time of a request ends with it: a run is not over before its timers are.
  await expect.poll(timers).toBeLessThanOrEqual(before)
  const text = 'GET /whole HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
  expect(await wire.raw(text)).toMatchObject(joined)
  // Without a length, Node sends chunks: of ten bytes (a) and of fifteen (f), then of sixteen (10).
  const chunks = { status: 200, text: '{"a": "bcdefghijklmnopq"}' }
  expect(await wire.raw(text.replace('whole', 'chunks'))).toMatchObject(chunks)
  // A chunk that goes on behind its length.
  await expect(wire.raw(text.replace('whole', 'wrong'))).rejects.toMatchObject({ name: 'NoAnswer' })
  await expect(wire.raw(text.replace('whole', 'half'))).rejects.toMatchObject({ name: 'NoAnswer' })
  await expect(wire.ask(`${url}/half`)).rejects.toMatchObject({ reason: 'ECONNRESET' })
  wire.close()
  server.closeAllConnections()
  await new Promise(resolve => server.close(resolve))
  await issuer.close()
})
