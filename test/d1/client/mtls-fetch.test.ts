/** What `mtlsFetch` does with certificates, with its end, and with a proxy on the way out. */
import { execFileSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { ClientRequest, createServer, type IncomingMessage } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { networkFailure } from '../../../src/d1/client/exchange.js'
import { type ExpiringCertificate, type FetchInit, mtlsFetch } from '../../../src/d1.js'
import { buffersMadeBy } from '../../leaks/recorder.js'
import { failure } from '../../support/errors.js'
import { type Pair, testCa } from './certificates.js'
import { startD1, type TestD1 } from './d1-server.js'
import { settle, until } from './times.js'

let d1: TestD1
beforeAll(async () => {
  d1 = await startD1()
})
afterAll(() => d1.close())
beforeEach(() => d1.reset())

/** There is no token with these requests. */
const ANSWERED = 401

const init = (): FetchInit => ({
  method: 'POST',
  headers: {},
  redirect: 'manual',
  signal: new AbortController().signal,
})
const outcome = (call: Promise<unknown>) => call.then(() => 'answered', networkFailure)

/** Runs openssl in a folder that is gone afterwards. */
function openssl<T>(
  files: Readonly<Record<string, string>>,
  args: readonly string[],
  use: (folder: string) => T,
): T {
  const folder = mkdtempSync(join(tmpdir(), 'mtls-'))
  try {
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text)
    execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' })
    return use(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** A certificate of its own, for so many days; rsa or P-256. */
function selfSigned(days: number, kind: 'rsa' | 'ec'): Pair {
  const key = kind === 'rsa' ? ['rsa:2048'] : ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256']
  const args = ['req', '-x509', '-newkey', ...key, '-nodes', '-subj', '/CN=x', '-days', `${days}`]
  return openssl({}, [...args, '-keyout', 'k', '-out', 'c'], folder => ({
    cert: readFileSync(join(folder, 'c'), 'utf8'),
    key: readFileSync(join(folder, 'k'), 'utf8'),
  }))
}

describe('certificates', () => {
  test('an RSA certificate with an EC key, which OpenSSL would take and then send none', async () => {
    const [rsa, ec] = [selfSigned(60, 'rsa'), selfSigned(60, 'ec')]
    mtlsFetch(rsa).close()
    mtlsFetch(ec).close()
    for (const options of [
      { cert: rsa.cert, key: ec.key },
      { cert: ec.cert, key: rsa.key },
    ]) {
      const error = await failure(() => mtlsFetch(options), 'ERR_ARGUMENT')
      expect(error.message).toBe("key is not the certificate's")
    }
  })

  test.each<[string, (ca: string, key: string) => string]>([
    ['a broken certificate after a good one', ca => ca + ca.replace(/\n.{20}/, '\nAAAA')],
    ['a key after a certificate', (ca, key) => ca + key],
    ['no certificate', (_, key) => key],
    ['a certificate cut off', ca => ca + ca.slice(0, -30)],
  ])('a CA bundle with %s', async (_name, bundle) => {
    const { ca, client } = d1
    await failure(() => mtlsFetch({ ...client, ca: bundle(ca, client.key) }), 'ERR_ARGUMENT')
  })

  test('a CA bundle of several, with words between, trusts each', async () => {
    const bundle = `# ours\n${testCa('Another').ca}# and D1's\n${d1.ca}`
    using fetch = mtlsFetch({ ...d1.client, ca: bundle })
    expect((await fetch(`${d1.urls.api}/x`, init())).status).toBe(ANSWERED)
  })

  test.each(['X509 CERTIFICATE', 'TRUSTED CERTIFICATE'])('a CA bundle that says %s is one', async label => {
    using fetch = mtlsFetch({ ...d1.client, ca: d1.ca.replaceAll('CERTIFICATE', label) })
    expect((await fetch(`${d1.urls.api}/x`, init())).status).toBe(ANSWERED)
  })

  const p12 = (passphrase: string): Buffer =>
    openssl(
      { c: d1.client.cert, k: d1.client.key },
      ['pkcs12', '-export', '-in', 'c', '-inkey', 'k', '-out', 'p', '-passout', `pass:${passphrase}`],
      folder => readFileSync(join(folder, 'p')),
    )

  test('a key in one file with its certificate becomes no text, and what was read of either is wiped', async () => {
    const { cert, key } = d1.client
    const both = Buffer.from(`${key}${cert}`)
    const texts = vi.spyOn(Buffer.prototype, 'toString')
    const { buffers } = await buffersMadeBy(() => {
      using _ = mtlsFetch({ cert: both, key: both, ca: Buffer.from(d1.ca), onExpiry: () => {} })
      using __ = mtlsFetch({ pfx: p12('x'), passphrase: 'x', onExpiry: () => {} })
    })
    const said = texts.mock.results.map(({ value }) => String(value))
    texts.mockRestore()
    expect(said.filter(text => text.includes('PRIVATE KEY'))).toEqual([])
    const secret = key.split('\n')[1] ?? expect.fail()
    const pkcs12 = p12('x').subarray(0, 4)
    const left = buffers.filter(buffer => {
      const bytes = Buffer.from(buffer)
      return bytes.includes(secret) || bytes.subarray(0, 4).equals(pkcs12)
    })
    expect(left).toEqual([])
    // A file that is none is wiped as well.
    const der = Buffer.from(secret, 'base64')
    const tried = await buffersMadeBy(() => failure(() => mtlsFetch({ cert, key: der }), 'ERR_ARGUMENT'))
    expect(tried.buffers.filter(buffer => Buffer.from(buffer).includes(der))).toEqual([])
  })

  test('PKCS#12', async () => {
    using fetch = mtlsFetch({ pfx: p12('secret 12'), passphrase: 'secret 12', ca: d1.ca })
    expect((await fetch(`${d1.urls.api}/x`, init())).status).toBe(ANSWERED)
    for (const options of [
      { pfx: p12('secret 12'), passphrase: 'wrong' },
      { pfx: Buffer.from('no PKCS#12') },
      { pfx: 'text' },
      { pfx: p12('x'), passphrase: 'x', cert: d1.client.cert },
      { pfx: p12('x'), passphrase: 'x', key: d1.client.key },
      { ...d1.client, passphrase: 7 },
    ]) {
      await failure(() => mtlsFetch(options as never), 'ERR_ARGUMENT', ['secret 12'])
    }
  })

  test('that have expired, or will within 30 days, are reported; also of a PKCS#12 file; once a day', async () => {
    const told: ExpiringCertificate[] = []
    const onExpiry = (certificate: ExpiringCertificate): void => void told.push(certificate)
    mtlsFetch({ ...selfSigned(60, 'ec'), onExpiry }).close()
    expect(told).toEqual([])
    // D1's test certificates are good for 90 days.
    vi.useFakeTimers({ now: Date.now() + 88 * 86_400_000, toFake: ['Date'] })
    mtlsFetch({ pfx: p12('x'), passphrase: 'x', onExpiry }).close()
    const fingerprint256 = expect.stringMatching(/^[0-9A-F:]{95}$/)
    expect(told).toMatchObject([{ role: 'client', expired: false, fingerprint256 }])

    using fetch = mtlsFetch({ ...d1.client, ca: d1.ca, onExpiry })
    await fetch(`${d1.urls.api}/x`, init())
    expect(told.map(({ role }) => role)).toEqual(['client', 'client', 'ca'])
    vi.setSystemTime(Date.now() + 3 * 86_400_000)
    try {
      await outcome(fetch(`${d1.urls.api}/x`, init()))
      await outcome(fetch(`${d1.urls.api}/x`, init()))
    } finally {
      vi.useRealTimers()
    }
    expect(told.slice(1)).toMatchObject([
      { role: 'client', expired: false },
      { role: 'ca', expired: false },
      { role: 'client', expired: true },
      { role: 'ca', expired: true },
    ])
  })

  test('of a chain each is reported, and of those who may certify D1 the last, where none of them lasts', async () => {
    const told: ExpiringCertificate[] = []
    const onExpiry = (certificate: ExpiringCertificate): void => void told.push(certificate)
    const sha256 = (pem: string): string => new X509Certificate(pem).fingerprint256
    const [soon, sooner, lasting] = [20, 10, 60].map(days => selfSigned(days, 'ec'))
    const { cert, key } = selfSigned(60, 'ec')
    const chain = [cert, soon?.cert, lasting?.cert, sooner?.cert].join('')
    mtlsFetch({
      cert: chain,
      key,
      ca: [`${soon?.cert}${lasting?.cert}`, sooner?.cert ?? ''],
      onExpiry,
    }).close()
    expect(told.map(({ role, fingerprint256 }) => [role, fingerprint256])).toEqual([
      ['chain', sha256(soon?.cert ?? '')],
      ['chain', sha256(sooner?.cert ?? '')],
    ])
    told.length = 0
    mtlsFetch({ cert, key, ca: [sooner?.cert ?? '', soon?.cert ?? ''], onExpiry }).close()
    expect(told).toMatchObject([{ role: 'ca', expired: false, fingerprint256: sha256(soon?.cert ?? '') }])

    // A chain that cannot be read is no chain.
    const broken = cert + (soon?.cert ?? '').replace(/\n.{20}/, '\nAAAA')
    await failure(() => mtlsFetch({ cert: broken, key }), 'ERR_ARGUMENT')
  })

  test('after a renewal the new one is watched, and not the one before', async () => {
    const told: ExpiringCertificate[] = []
    using fetch = mtlsFetch({ ...d1.client, onExpiry: certificate => void told.push(certificate) })
    fetch.renew(selfSigned(2, 'ec'))
    expect(told.map(({ expired }) => expired)).toEqual([false])
    vi.useFakeTimers({ now: Date.now() + 3 * 86_400_000, toFake: ['Date'] })
    await outcome(fetch(`${d1.urls.api}/x`, init())).finally(() => vi.useRealTimers())
    expect(told.map(({ expired }) => expired)).toEqual([false, true])
    expect(told[1]?.fingerprint256).toBe(told[0]?.fingerprint256)
  })

  test('are reported as a warning of the process where nobody listens', async () => {
    const warned = once(process, 'warning')
    vi.useFakeTimers({ now: Date.now() + 88 * 86_400_000, toFake: ['Date'] })
    mtlsFetch(d1.client).close()
    const [{ name, message }] = await warned
    expect(name).toBe('IssuerPinWarning')
    expect(message).toMatch(/^the client certificate for D1 expires 20\d\d-/)
    const gone = once(process, 'warning')
    vi.setSystemTime(Date.now() + 3 * 86_400_000)
    mtlsFetch(d1.client).close()
    vi.useRealTimers()
    expect((await gone)[0].message).toMatch(/^the client certificate for D1 has expired: /)
    const chained = once(process, 'warning')
    const lasting = selfSigned(60, 'ec')
    mtlsFetch({ ...lasting, cert: lasting.cert + selfSigned(3, 'ec').cert }).close()
    expect((await chained)[0].message).toMatch(
      /^a certificate in the chain of the client certificate for D1 expires /,
    )
    const authority = once(process, 'warning')
    mtlsFetch({ ...lasting, ca: selfSigned(3, 'ec').cert }).close()
    expect((await authority)[0].message).toMatch(
      /^every CA certificate for D1 has expired or will: the last expires /,
    )
  })

  test('an onExpiry that is none', async () => {
    await failure(() => mtlsFetch({ ...d1.client, onExpiry: 'x' as never }), 'ERR_ARGUMENT')
  })

  test('are replaced without another client: what is on its way ends with the old one', async () => {
    const names: unknown[] = []
    const next = d1.issue('next')
    using fetch = mtlsFetch({ ...d1.client, ca: d1.ca, onExpiry: () => {} })
    const note = (request: IncomingMessage): void => {
      const socket = request.socket as Socket & { getPeerCertificate(): { subject: { CN: string } } }
      names.push(socket.getPeerCertificate().subject.CN)
    }
    let answer = (): void => {}
    let oldClosed = false
    d1.cardReplies.push(
      (response, request) => {
        note(request)
        response.end()
      },
      (response, request) => {
        note(request)
        request.socket.once('close', () => {
          oldClosed = true
        })
        answer = () => void response.end()
      },
      (response, request) => {
        note(request)
        response.end()
      },
    )
    const read = async (): Promise<void> => {
      const { body } = await fetch(`${d1.urls.api}/x`, init())
      for await (const _ of body ?? []);
    }
    await read()
    const onItsWay = read()
    await until(() => names.length === 2)
    fetch.renew(next)
    await read()
    answer()
    await onItsWay
    const [first, second, third] = names
    expect(second).toBe(first)
    expect(third).toBe('next')
    // Nobody uses it any more, and `close` would not find it. It is gone before the server has heard of a few more requests.
    for (let more = 0; more < 10 && !oldClosed; more++) await read()
    expect(oldClosed).toBe(true)
    // A connection that nobody uses is closed at once.
    const closed = new Promise(resolve =>
      d1.cardReplies.push((response, request) => {
        request.socket.once('close', resolve)
        response.end()
      }),
    )
    await read()
    fetch.renew(next)
    await closed
    await failure(() => fetch.renew({ cert: next.cert, key: d1.client.key }), 'ERR_ARGUMENT')
    await failure(() => fetch.renew({ ...next, ca: d1.ca } as never), 'ERR_ARGUMENT')
    expect((await fetch(`${d1.urls.api}/x`, init())).status).toBe(ANSWERED)
  })
})

describe('close', () => {
  test('sends nothing that waits for a connection, and nothing that is begun afterwards', async () => {
    const fetch = mtlsFetch({ ...d1.client, ca: d1.ca, maxSockets: 1 })
    let arrived = 0
    d1.cardReplies.push(
      () => void arrived++,
      () => void arrived++,
    )
    const inUse = outcome(fetch(`${d1.urls.api}/x`, init()))
    await until(() => arrived === 1)
    const waiting = outcome(fetch(`${d1.urls.api}/x`, init()))
    fetch.close()
    const after = outcome(fetch(`${d1.urls.api}/x`, init()))
    expect(await inUse).toMatchObject({ reason: 'FETCH_CLOSED', delivery: 'unknown', retryable: false })
    const unsent = { reason: 'FETCH_CLOSED_UNSENT', delivery: 'not-sent', retryable: false }
    expect(await waiting).toEqual(unsent)
    expect(await after).toEqual(unsent)
    using other = mtlsFetch({ ...d1.client, ca: d1.ca })
    d1.cardReplies.length = 0
    expect((await other(`${d1.urls.api}/x`, init())).status).toBe(ANSWERED)
    expect(arrived).toBe(1)
  })
})

describe('a proxy on the way out', () => {
  async function startProxy(answer: (request: IncomingMessage, socket: Socket) => void) {
    const asked: IncomingMessage[] = []
    const sockets = new Set<Socket>()
    const server = createServer()
    server.on('connect', (request, socket: Socket) => {
      asked.push(request)
      sockets.add(socket)
      socket.on('error', () => {})
      answer(request, socket)
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const close = async (): Promise<void> => {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    }
    return { url, asked, close }
  }

  const tunnel = (request: IncomingMessage, socket: Socket): void => {
    const [, port] = (request.url ?? '').split(':')
    const on = connect(Number(port), '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n')
      on.pipe(socket).pipe(on)
    })
    on.on('error', () => {})
    socket.once('close', () => on.destroy())
  }

  test('is asked for a tunnel, in which TLS goes to D1 itself', async () => {
    const proxy = await startProxy(tunnel)
    using fetch = mtlsFetch({
      ...d1.client,
      ca: d1.ca,
      proxy: { url: proxy.url, authorization: 'Basic eDp5' },
    })
    for (let i = 0; i < 2; i++) {
      const { status, body } = await fetch(`${d1.urls.api}/x`, init())
      for await (const _ of body ?? []);
      expect(status).toBe(ANSWERED)
    }
    // One tunnel for both.
    expect(proxy.asked.map(({ url, headers }) => [url, headers['proxy-authorization']])).toEqual([
      [new URL(d1.urls.api).host, 'Basic eDp5'],
    ])
    await proxy.close()
  })

  test('leaves nothing that is held on to once it has ended: neither its tunnel’s request nor those that went through it', async () => {
    const proxy = await startProxy(tunnel)
    const fetch = mtlsFetch({ ...d1.client, ca: d1.ca, proxy: { url: proxy.url } })
    for (let i = 0; i < 2; i++) {
      const { body } = await fetch(`${d1.urls.api}/x`, init())
      for await (const _ of body ?? []);
    }
    await settle()
    const ended = vi.spyOn(ClientRequest.prototype, 'destroy')
    fetch.close()
    expect(ended.mock.calls).toEqual([])
    ended.mockRestore()
    await proxy.close()
  })

  test('cannot stand in for D1: the certificate is verified through it', async () => {
    const proxy = await startProxy(tunnel)
    using fetch = mtlsFetch({ ...d1.client, ca: testCa('Unrelated').ca, proxy: { url: proxy.url } })
    expect(await outcome(fetch(`${d1.urls.api}/x`, init()))).toMatchObject({
      delivery: 'not-sent',
      retryable: false,
    })
    await proxy.close()
  })

  test('makes no other host of D1: the certificate must name the address that was asked for', async () => {
    const proxy = await startProxy(tunnel)
    using fetch = mtlsFetch({ ...d1.client, ca: d1.ca, proxy: { url: proxy.url } })
    const { port } = new URL(d1.urls.api)
    // The certificate names localhost, 127.0.0.1 and ::1.
    expect(await outcome(fetch(`https://127.0.0.1:${port}/x`, init()))).toBe('answered')
    expect(await outcome(fetch(`https://192.0.2.1:${port}/x`, init()))).toEqual({
      reason: 'ERR_TLS_CERT_ALTNAME_INVALID',
      delivery: 'not-sent',
      retryable: false,
    })
    await proxy.close()
  })

  test.each(['the call is aborted', 'the fetch is closed', 'the fetch is closed, renewed meanwhile'])(
    'that never answers is left as soon as %s',
    async how => {
      const left: Promise<unknown>[] = []
      const proxy = await startProxy((_, socket) => {
        left.push(once(socket.resume(), 'end').catch(() => {}))
      })
      using fetch = mtlsFetch({ ...d1.client, ca: d1.ca, proxy: { url: proxy.url } })
      const controller = new AbortController()
      const calls = [1, 2].map(() =>
        outcome(fetch(`${d1.urls.api}/x`, { ...init(), signal: controller.signal })),
      )
      await until(() => left.length === 2)
      if (how.includes('renewed')) fetch.renew(d1.client)
      if (how.includes('aborted')) controller.abort()
      else fetch.close()
      for (const call of await Promise.all(calls))
        expect(call).toMatchObject({
          reason: how.includes('aborted') ? 'AbortError' : 'FETCH_CLOSED_UNSENT',
        })
      await Promise.all(left)
      await proxy.close()
    },
  )

  test('that makes no tunnel, or is not there: nothing was sent', async () => {
    const left: Promise<unknown>[] = []
    const proxy = await startProxy((_, socket) => {
      left.push(once(socket.resume(), 'end').catch(() => {}))
      socket.write('HTTP/1.1 407 No\r\n\r\n')
    })
    using refused = mtlsFetch({ ...d1.client, ca: d1.ca, proxy: { url: proxy.url } })
    expect(await outcome(refused(`${d1.urls.api}/x`, init()))).toEqual({
      reason: 'PROXY_STATUS_407',
      delivery: 'not-sent',
      retryable: true,
    })
    // IPv6 in brackets (RFC 9110, 7.2).
    await outcome(refused('https://[::1]:9/x', init()))
    expect(proxy.asked.at(-1)?.url).toBe('[::1]:9')
    // No connection to the proxy is kept, which keeps it open.
    expect(left).toHaveLength(2)
    await Promise.all(left)
    await proxy.close()
    // Without a port it is 80, where nobody listens.
    using usual = mtlsFetch({ ...d1.client, ca: d1.ca, proxy: { url: 'http://127.0.0.1' } })
    expect(await outcome(usual(`${d1.urls.api}/x`, init()))).toMatchObject({ delivery: 'not-sent' })
    using gone = mtlsFetch({ ...d1.client, ca: d1.ca, proxy: { url: proxy.url } })
    expect(await outcome(gone(`${d1.urls.api}/x`, init()))).toMatchObject({
      delivery: 'not-sent',
      retryable: true,
    })
  })

  test.each([
    ['resets the connection', (socket: Socket) => void socket.resetAndDestroy()],
    ['ends it without a word', (socket: Socket) => void socket.end()],
    ['breaks off in its answer', (socket: Socket) => void socket.end('HTTP/1.1 200')],
    ['does not speak HTTP', (socket: Socket) => void socket.end('SSH-2.0-x\r\n')],
  ])('that %s before there is a tunnel: nothing was sent', async (_how, breakOff) => {
    const proxy = await startProxy((_, socket) => breakOff(socket))
    using fetch = mtlsFetch({ ...d1.client, ca: d1.ca, proxy: { url: proxy.url } })
    expect(await outcome(fetch(`${d1.urls.api}/x`, init()))).toMatchObject({
      delivery: 'not-sent',
      retryable: true,
    })
    await proxy.close()
  })

  test.each([
    { url: 'https://proxy.test' },
    { url: 'http://user@proxy.test' },
    { url: 'http://proxy.test/path' },
    { url: 'proxy.test:3128' },
    { url: 7 },
    { url: 'http://proxy.test', authorization: 'a\nb' },
    { url: 'http://proxy.test', more: 1 },
    null,
  ])('%j is refused', async proxy => {
    await failure(() => mtlsFetch({ ...d1.client, proxy: proxy as never }), 'ERR_ARGUMENT')
  })
})
