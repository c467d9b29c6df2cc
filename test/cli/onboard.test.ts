/**
 * The folder that `onboard` makes, file by file: who may read it, what is in it, and by whose key it is signed, each read by something
 * other than what wrote it; with keys of software and of a token. Where it cannot be made, nothing is left of it.
 */
import { execFileSync } from 'node:child_process'
import { createPublicKey, webcrypto, X509Certificate } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { calculateJwkThumbprint, importJWK } from 'jose'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { main } from '../../src/cli/main.js'
import { onboardCommand } from '../../src/cli/onboard.js'
import type { Opening } from '../../src/cli/open.js'
import { FakeToken } from '../pkcs11/fake-token.js'
import { keptIo } from './support/io.js'
import { AES, file, fresh, JWE, PEK, run, TOKEN } from './support/program.js'

afterEach(() => {
  vi.restoreAllMocks()
})

const SUBJECT = 'O=Test Bank, C=DE'
const call = (dir: string, ...more: string[]): string[] => [
  ...['onboard', '--dir', dir, '--issuer-id', 'is_tbank01', '--endpoint', 'https://pin.example.com'],
  ...['--subject', SUBJECT, ...more],
]
const openssl = (...args: string[]) =>
  execFileSync('openssl', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
const jwkOf = (pem: string): object => createPublicKey(pem).export({ format: 'jwk' })

interface Expected {
  readonly jwe: string
  readonly assertion: string
  /** What is in the folder and is for the issuer's eyes. */
  readonly secret: readonly string[]
  readonly client: object
  readonly checkValues: readonly object[]
}

/** The folder, whose every file is what it is to be. */
async function read(dir: string, expected: Expected) {
  const text = (name: string): string => readFileSync(join(dir, name), 'utf8')
  const json = (name: string): Record<string, never> => JSON.parse(text(name))
  const { jwe, assertion, secret, client, checkValues } = expected
  const place = secret.includes('keys.json') ? 'software' : 'token'
  const signer = place === 'software' ? jwe : assertion

  const toHandOn = [
    ...['assertion.public.jwk', 'assertion.public.pem', 'client.csr.pem', 'jwe.certificate.pem'],
    ...['jwe.public.jwk', 'jwe.public.pem', 'onboarding.json', 'onboarding.md'],
  ]
  const modes = readdirSync(dir).map(name => [name, statSync(join(dir, name)).mode & 0o777])
  const wanted = [
    ...toHandOn.map(name => [name, 0o644 & ~process.umask()]),
    ...secret.map(name => [name, 0o600]),
  ]
  expect(modes.sort()).toEqual(wanted.sort())

  const thumbprints: string[] = []
  for (const [name, kid, alg, use] of [
    ['jwe', jwe, 'ECDH-ES', 'enc'],
    ['assertion', assertion, 'ES256', 'sig'],
  ] as const) {
    const jwk = json(`${name}.public.jwk`)
    const half = { kty: 'EC', crv: 'P-256', x: expect.any(String), y: expect.any(String) }
    expect(jwk).toEqual({ ...half, kid, alg, use })
    await importJWK(jwk)
    expect(jwk).toMatchObject(jwkOf(text(`${name}.public.pem`)))
    thumbprints.push(await calculateJwkThumbprint(jwk))
  }
  expect(json('onboarding.json')).toEqual({
    issuerId: 'is_tbank01',
    endpoint: 'https://pin.example.com',
    subject: SUBJECT,
    client,
    jwe: { kid: jwe, thumbprint: thumbprints[0], signedBy: signer, in: place },
    assertion: { kid: assertion, thumbprint: thumbprints[1], in: place },
    checkValues,
  })

  const certificate = new X509Certificate(text('jwe.certificate.pem'))
  expect(certificate.publicKey.export({ format: 'jwk' })).toEqual(jwkOf(text('jwe.public.pem')))
  const nameOf = (kid: string): string => `O=Test Bank\nC=DE\nCN=${kid}`
  const { subject, issuer, ca, serialNumber, validFrom, validTo } = certificate
  expect({ subject, issuer, ca }).toEqual({ subject: nameOf(jwe), issuer: nameOf(signer), ca: false })
  const signing = createPublicKey(text(`${place === 'software' ? 'jwe' : 'assertion'}.public.pem`))
  expect(certificate.verify(signing)).toBe(true)
  // 16 bytes, of which the first makes it positive (RFC 5280, 4.1.2.2).
  expect(serialNumber).toMatch(/^01[0-9A-F]{30}$/)
  expect((Date.parse(validTo) - Date.parse(validFrom)) / 86_400_000).toBe(730)
  // By the day: it begins when it is made.
  expect(Math.round((Date.now() - Date.parse(validFrom)) / 86_400_000)).toBe(0)
  const usage = openssl('x509', '-in', join(dir, 'jwe.certificate.pem'), '-noout', '-ext', 'keyUsage')
  expect(usage.replaceAll(/\s+/g, ' ').trim()).toBe('X509v3 Key Usage: critical Key Agreement')

  const request = openssl('req', '-in', join(dir, 'client.csr.pem'), '-noout', '-verify', '-text', '-pubkey')
  const [, named, bits, signed] =
    /Subject: ([^\n]*)\n.*Public-Key: \((\d+) bit\)\n.*Signature Algorithm: (\S+)\n/s.exec(request) ?? []
  const requested = createPublicKey(
    /-----BEGIN PUBLIC KEY-----[^-]*-----END PUBLIC KEY-----/.exec(request)?.[0] ?? '',
  )
  const form = thumbprints.reduce(
    (shown, one, i) => shown.replaceAll(one, `<${i + 1}>`),
    text('onboarding.md'),
  )
  return {
    text,
    json,
    form: form.split('\n'),
    serialNumber,
    requested: requested.export({ format: 'jwk' }),
    request: [named?.replaceAll(' = ', '='), bits, signed],
  }
}

const P256 = [SUBJECT, '256', 'ecdsa-with-SHA256']
const SOFTWARE: Expected = {
  jwe: 'ISSUER-JWE',
  assertion: 'ISSUER-ASSERTION',
  secret: ['client.key.pem', 'keys.json'],
  client: { request: 'client.csr.pem', key: 'client.key.pem', algorithm: 'p256' },
  checkValues: [],
}
const OF_TOKEN: Expected = { ...SOFTWARE, secret: ['client.key.pem', 'token.json'] }

describe('in software', () => {
  const NAMED = { ...SOFTWARE, jwe: 'J', assertion: 'A' }
  const keys = file([
    { kid: 'PEK', usage: 'pin-encryption', algorithm: 'tdea-2key', material: PEK },
    { kid: 'JWE', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: JWE },
    { kid: 'H', usage: 'hmac', algorithm: 'hmac-sha256', material: '0B'.repeat(32) },
    { kid: 'C', usage: 'cmac', algorithm: 'aes-128', material: AES },
  ])
  const checkValues = [
    { kid: 'PEK', usage: 'pin-encryption', checkValue: { method: 'encrypt-zero', value: '08D7B4' } },
    { kid: 'H', usage: 'hmac', checkValue: { method: 'hmac', value: '7D45CD196B' } },
    { kid: 'C', usage: 'cmac', checkValue: { method: 'cmac', value: expect.stringMatching(/^42246F/) } },
  ]

  test('everything by the names that it is given, and the check values of the keys that have one', async () => {
    const dir = fresh()
    const exported = vi.spyOn(webcrypto.subtle, 'exportKey')
    const { code, out, err } = await run(call(dir, '--jwe-kid', 'J', '--assertion-kid', 'A', '--keys', keys))
    expect([code, err]).toEqual([0, ''])
    expect(out).toBe('the folder is made: begin with onboarding.md; client.key.pem and keys.json are secret')
    expect(statSync(dir).mode & 0o777).toBe(0o700)
    const { text, json, form, request, requested } = await read(dir, { ...NAMED, checkValues })
    expect(request).toEqual(P256)
    expect(jwkOf(text('client.key.pem'))).toEqual(requested)
    expect(json('keys.json')).toEqual(
      (['jwe', 'assertion'] as const).map(name => {
        const { kty, crv, x, y } = json(`${name}.public.jwk`)
        const usage = name === 'jwe' ? 'jwe-key-agreement' : 'jwt-signing'
        const material = { kty, crv, x, y, d: expect.stringMatching(/^[\w-]{43}$/) }
        return { kid: NAMED[name], usage, algorithm: 'ec-p256', material }
      }),
    )
    expect(form).toMatchInlineSnapshot(`
      [
        "# Onboarding to Thales D1",
        "",
        "Issuer id: is_tbank01. Endpoint: https://pin.example.com. Subject: O=Test Bank, C=DE.",
        "",
        "| what | kid | file |",
        "|---|---|---|",
        "| TLS client certificate, request (PKCS #10) |  | client.csr.pem |",
        "| JWE key, public | J | jwe.public.jwk, jwe.public.pem, jwe.certificate.pem |",
        "| assertion key (ES256), public | A | assertion.public.jwk, assertion.public.pem |",
        "",
        "JWE certificate: self-signed.",
        "Thumbprints (RFC 7638): <1> (J), <2> (A).",
        "",
        "## Key check values",
        "",
        "| kid | usage | value | method |",
        "|---|---|---|---|",
        "| PEK | pin-encryption | 08D7B4 | encrypt-zero |",
        "| H | hmac | 7D45CD196B | hmac |",
        "| C | cmac | 42246FD821 | cmac |",
        "",
        "## Open questions",
        "",
        "1. How are the PIN key, the PRW key and the MAC key exchanged: key blocks (X9.143, which version), or components?",
        "",
        "   Answer:",
        "",
        "2. Which SECCOS profile: layout of prwDataSet, algorithm and padding of PRW and MAC? Which test samples are there?",
        "",
        "   Answer:",
        "",
        "3. Is \`pinValue\` upper-case hex of the 8-byte block?",
        "",
        "   Answer:",
        "",
        "4. Does D1 fetch a token from us (OAuth2), or is mTLS alone used?",
        "",
        "   Answer:",
        "",
        "5. Does D1 repeat a Set PIN after a timeout, and how often? What is its timeout?",
        "",
        "   Answer:",
        "",
        "6. Is D1 sending \`apu\`, \`apv\`, \`cty\` or \`typ\` in its JWEs?",
        "",
        "   Answer:",
        "",
        "7. Which client certificate will D1 show us, and when is it renewed?",
        "",
        "   Answer:",
        "",
        "",
      ]
    `)
    // What the private key of the TLS client was in, on its way to its file.
    const results = exported.mock.calls.flatMap(([format], i) =>
      format === 'pkcs8' ? [exported.mock.results[i]?.value as Promise<ArrayBuffer>] : [],
    )
    expect(results).toHaveLength(1)
    for (const bytes of await Promise.all(results))
      expect(new Uint8Array(bytes).every(byte => byte === 0)).toBe(true)
  })

  test('a client key that is rsa-4096; no check values yet', async () => {
    const dir = fresh()
    expect(await run(call(dir, '--client-key', 'rsa-4096'))).toMatchObject({ code: 0, err: '' })
    const { text, form, request, requested } = await read(dir, {
      ...SOFTWARE,
      client: { ...SOFTWARE.client, algorithm: 'rsa-4096' },
    })
    expect(request).toEqual([SUBJECT, '4096', 'sha256WithRSAEncryption'])
    expect(requested).toMatchObject({ kty: 'RSA', e: 'AQAB' })
    expect(jwkOf(text('client.key.pem'))).toEqual(requested)
    expect(form).toContain('None yet: fill in when the keys have been exchanged.')
    expect((await run(call(dir))).err).toMatch(/^ERR_USAGE: --dir is a folder with files in it/)
  })

  test('what D1 would seal to the key opens with the folder’s own; a second folder has other keys', async () => {
    const [dir, other] = [fresh(), fresh()]
    for (const one of [dir, other]) expect(await run(call(one))).toMatchObject({ code: 0 })
    const [first, second] = [await read(dir, SOFTWARE), await read(other, SOFTWARE)]
    expect(first.serialNumber).not.toBe(second.serialNumber)
    expect(first.requested).not.toEqual(second.requested)
    const sealed = await run(['jwe', 'seal', '--recipient', join(dir, 'jwe.public.jwk')], {
      stdin: '{"pinValue":"0123456789ABCDEF"}',
    })
    const opened = async (of: string) =>
      (
        await run(['jwe', 'open', '--keys', join(of, 'keys.json'), '--key', 'ISSUER-JWE', '--reveal'], {
          stdin: sealed.out,
        })
      ).out
    expect([await opened(dir), await opened(other)]).toEqual(['{"pinValue":"0123456789ABCDEF"}', ''])
  })

  test('a name that certificates have no place for is cut and spelt otherwise there, and there alone', async () => {
    const dir = fresh()
    const kid = `Schlüssel, O=1/${'x'.repeat(80)}`
    expect(await run(call(dir, '--jwe-kid', kid))).toMatchObject({ code: 0 })
    const { subject } = new X509Certificate(readFileSync(join(dir, 'jwe.certificate.pem')))
    // ITU-T X.520, ub-common-name: 64.
    expect(subject).toBe(`O=Test Bank\nC=DE\nCN=${`Schl_ssel_ O_1_${'x'.repeat(80)}`.slice(0, 64)}`)
    expect(JSON.parse(readFileSync(join(dir, 'jwe.public.jwk'), 'utf8'))).toMatchObject({ kid })
  })
})

describe('with keys of a token', () => {
  const generated = (fake: FakeToken, kid: string, usage: string, algorithm: string) =>
    run(['key', 'generate', '--kid', kid, '--usage', usage, '--algorithm', algorithm, ...TOKEN], {}, fake)
  const listed = async (fake: FakeToken) =>
    JSON.parse((await run(['key', 'list', '--json', ...TOKEN], {}, fake)).out) as {
      kid: string
      usage: string
      checkValue: { value: string }
    }[]
  const kids = async (fake: FakeToken) =>
    (await listed(fake)).map(({ kid, usage }) => `${kid} ${usage}`).sort()

  test('the assertion key signs the certificate; check values are those of the keys that have one', async () => {
    const fake = new FakeToken()
    const dir = fresh()
    await generated(fake, 'ZPK', 'pin-encryption', 'tdea-2key')
    await generated(fake, 'MAC', 'cmac', 'aes-128')
    await generated(fake, 'ANOTHER', 'jwt-signing', 'ec-p256')
    const before = await listed(fake)
    const { code, out } = await run(call(dir, ...TOKEN), {}, fake)
    expect([code, out]).toEqual([
      0,
      'the folder is made: begin with onboarding.md; client.key.pem is secret; token.json says how your token is opened, for --options',
    ])
    const checkValues = ['ZPK', 'MAC'].map(name => {
      const { kid, usage, checkValue } = before.find(one => one.kid === name) ?? expect.unreachable(name)
      return { kid, usage, checkValue }
    })
    const { text, form, request, requested } = await read(dir, { ...OF_TOKEN, checkValues })
    expect(request).toEqual(P256)
    expect(jwkOf(text('client.key.pem'))).toEqual(requested)
    const [zpk = '', mac = ''] = checkValues.map(({ checkValue: { value } }) => value)
    expect(
      form.map(line => line.replace(zpk, '<zpk>').replace(mac, '<mac>')).slice(0, 18),
    ).toMatchInlineSnapshot(`
      [
        "# Onboarding to Thales D1",
        "",
        "Issuer id: is_tbank01. Endpoint: https://pin.example.com. Subject: O=Test Bank, C=DE.",
        "",
        "| what | kid | file |",
        "|---|---|---|",
        "| TLS client certificate, request (PKCS #10) |  | client.csr.pem |",
        "| JWE key, public | ISSUER-JWE | jwe.public.jwk, jwe.public.pem, jwe.certificate.pem |",
        "| assertion key (ES256), public | ISSUER-ASSERTION | assertion.public.jwk, assertion.public.pem |",
        "",
        "JWE certificate: signed by ISSUER-ASSERTION, because the JWE key of a token signs nothing.",
        "Thumbprints (RFC 7638): <1> (ISSUER-JWE), <2> (ISSUER-ASSERTION).",
        "",
        "## Key check values",
        "",
        "| kid | usage | value | method |",
        "|---|---|---|---|",
        "| ZPK | pin-encryption | <zpk> | encrypt-zero |",
      ]
    `)
    expect(await kids(fake)).toEqual([
      'ANOTHER jwt-signing',
      'ISSUER-ASSERTION jwt-signing',
      'ISSUER-JWE jwe-key-agreement',
      'MAC cmac',
      'ZPK pin-encryption',
    ])
  })

  test.each([
    [[], 'none'],
    [['J'], 'the JWE key'],
    [['A'], 'the assertion key'],
    [['T'], 'the TLS client key'],
    [['J', 'A', 'T'], 'all of them'],
  ])('that has %j already, %s: it is used, and the others are made', async there => {
    const fake = new FakeToken()
    const usages = { A: 'jwt-signing', J: 'jwe-key-agreement', T: 'jwt-signing' }
    for (const kid of there) await generated(fake, kid, Reflect.get(usages, kid), 'ec-p256')
    const before = await listed(fake)
    const names = ['--jwe-kid', 'J', '--assertion-kid', 'A', '--client-key', 'token', '--client-kid', 'T']
    const dir = fresh()
    expect(await run(call(dir, ...names, ...TOKEN), {}, fake)).toMatchObject({ code: 0, err: '' })
    const after = await listed(fake)
    expect(await kids(fake)).toEqual(Object.entries(usages).map(pair => pair.join(' ')))
    expect(after).toEqual(expect.arrayContaining(before))
    const { requested } = await read(dir, {
      ...OF_TOKEN,
      ...{ jwe: 'J', assertion: 'A', secret: ['token.json'] },
      client: { request: 'client.csr.pem', kid: 'T', algorithm: 'p256' },
    })
    // Each key by its thumbprint, which is what the token shows of it.
    const value = (kid: string) => after.find(one => one.kid === kid)?.checkValue.value
    expect(await calculateJwkThumbprint(requested as never)).toBe(value('T'))
    const { jwe, assertion } = JSON.parse(readFileSync(join(dir, 'onboarding.json'), 'utf8'))
    expect([jwe.thumbprint, assertion.thumbprint]).toEqual([value('J'), value('A')])
  })

  test('with the TLS client key in the token, too: the request is signed there, and nothing in the folder is secret', async () => {
    const fake = new FakeToken()
    const dir = fresh()
    const made = await run(call(dir, '--client-key', 'token', ...TOKEN), { terminal: true }, fake)
    expect(made).toEqual({
      code: 0,
      out: 'the folder is made: begin with onboarding.md; nothing in it is secret; token.json says how your token is opened, for --options',
      err: 'client key',
    })
    const client = { request: 'client.csr.pem', kid: 'ISSUER-TLS', algorithm: 'p256' }
    const { request, form } = await read(dir, { ...OF_TOKEN, client, secret: ['token.json'] })
    expect(request).toEqual(P256)
    expect(form).toContain('| TLS client certificate, request (PKCS #10) | ISSUER-TLS | client.csr.pem |')
  })

  test('the folder says how the token is opened, and its PIN is not in it', async () => {
    const dir = fresh()
    const options = file({ module: '/lib/fake.so', token: 'fake', sessions: { max: 3 } })
    const args = call(dir, '--composed-mac', '--options', options, '--pin-env', 'TP')
    expect(await run(args)).toMatchObject({ code: 0 })
    await read(dir, OF_TOKEN)
    const path = join(dir, 'token.json')
    expect(JSON.parse(readFileSync(path, 'utf8'))).toEqual({
      module: '/lib/fake.so',
      token: 'fake',
      sessions: { max: 3 },
      composedMac: true,
    })
    expect(await run(['key', 'list', '--options', path, '--pin-env', 'TP'])).toMatchObject({ code: 0 })
  })
})

describe('where something goes wrong', () => {
  test('the folder is what it was, and a token gets no keys for a folder that is taken', async () => {
    const fake = new FakeToken()
    const taken = fresh()
    mkdirSync(taken)
    writeFileSync(join(taken, 'mine'), '')
    expect(await run(call(taken, ...TOKEN), {}, fake)).toMatchObject({ code: 2 })
    expect(JSON.parse((await run(['key', 'list', '--json', ...TOKEN], {}, fake)).out)).toEqual([])
    const [dir, empty] = [fresh(), fresh()]
    mkdirSync(empty)
    const wrong = [...TOKEN.slice(0, -1), 'NONE']
    for (const one of [dir, empty]) expect(await run(call(one, ...wrong))).toMatchObject({ code: 2 })
    expect(() => statSync(dir)).toThrow('ENOENT')
    expect(readdirSync(empty)).toEqual([])
    // Half way: the certificate cannot be made.
    const io = keptIo()
    const x509 = await import('@peculiar/x509')
    const X509CertificateGenerator = { create: () => Promise.reject(new Error('no')) }
    const command = onboardCommand(undefined, async () => ({ ...x509, X509CertificateGenerator }) as never)
    expect(await main(call(dir), io, [command])).toBe(1)
    expect(() => statSync(dir)).toThrow('ENOENT')
  })

  test.each([
    [['--client-key', 'token'], '--client-key token needs a token: name it with --module and --token'],
    [['--client-kid', 'TLS-1'], '--client-kid goes with --client-key token'],
    ...[
      ['--jwe-kid', 'A', '--assertion-kid', 'A'],
      ['--jwe-kid', 'ISSUER-ASSERTION'],
      ['--assertion-kid', 'ISSUER-JWE'],
      ['--jwe-kid', 'ISSUER-TLS', '--client-key', 'token', ...TOKEN],
      ['--client-kid', 'ISSUER-ASSERTION', '--client-key', 'token', ...TOKEN],
    ].map((more): [string[], string] => [
      more,
      '--jwe-kid, --assertion-kid and --client-kid are keys of their own: name them differently',
    ]),
  ])('%j is refused, and no folder is made', async (more, problem) => {
    const dir = fresh()
    expect(await run(call(dir, ...more))).toMatchObject({ code: 2, err: `ERR_USAGE: ${problem}` })
    expect(() => statSync(dir)).toThrow('ENOENT')
  })

  test('without the package for certificates it says which one to install, and makes no folder', async () => {
    const io = keptIo()
    const command = onboardCommand(undefined, () => Promise.reject(new Error('Cannot find package')))
    const dir = fresh()
    expect(await main(call(dir), io, [command])).toBe(2)
    expect(io.errors).toEqual([
      'ERR_USAGE: onboard needs the package @peculiar/x509: npm install @peculiar/x509@1 (with -g where this is)',
    ])
    expect(() => statSync(dir)).toThrow('ENOENT')
  })
})

describe('what it is told', () => {
  /** A subject whose every part is as long as it may be (ITU-T X.520, upper bounds). */
  const LONGEST = { C: 'DE', ST: 128, L: 128, O: 64, OU: 64, CN: 64 }
  const part = (name: string, value: string | number): string =>
    `${name}=${typeof value === 'string' ? value : 'x'.repeat(value)}`
  const [, ...LONG] = Object.entries(LONGEST)

  test.each([
    ['--issuer-id', 'is_tbank1'],
    ['--issuer-id', 'is_tbank001'],
    ['--issuer-id', 'is/tbank01'],
    ['--endpoint', 'http://x'],
    ['--endpoint', 'x'],
    ['--endpoint', 'https://user:word@x'],
    ['--endpoint', 'https://user@x'],
    ['--endpoint', 'https://:word@x'],
    ['--subject', 'O=\u001b'],
    ['--subject', 'nobody'],
    ['--subject', 'O=X, C=Germany'],
    ['--subject', 'O=X, C=de'],
    ['--subject', 'O=X,C=DE'],
    ['--subject', 'O='],
    ['--subject', 'FOO=X'],
    ['--subject', '__proto__=X'],
    ...LONG.map(([name, most]) => ['--subject', part(name, Number(most) + 1)]),
    ['--client-key', 'dsa'],
    ['--dir', '/proc/nowhere/x'],
    ['--dir', ''],
  ] as [string, string][])('%s %s is refused', async (option, value) => {
    const dir = fresh()
    const args = call(dir)
    const at = args.indexOf(option)
    if (at < 0) args.push(option, value)
    else args[at + 1] = value
    const { code, out, err } = await run(args)
    expect([code, out]).toEqual([2, ''])
    expect(err).toMatch(new RegExp(`^ERR_USAGE: ${option} [^\\n]+$`))
    expect(() => statSync(dir)).toThrow('ENOENT')
  })

  test('a subject with all that it may have', async () => {
    const dir = fresh()
    const subject = Object.entries(LONGEST)
      .map(([name, value]) => part(name, value))
      .join(', ')
    const args = call(dir)
    args[args.indexOf('--subject') + 1] = subject
    expect(await run(args)).toMatchObject({ code: 0, err: '' })
    const named = openssl('req', '-in', join(dir, 'client.csr.pem'), '-noout', '-subject')
    expect(named.replace('subject=', '').replaceAll(' = ', '=').trim()).toBe(subject)
  })

  test('a token whose key shows no public half', async () => {
    const closing = { [Symbol.asyncDispose]: async () => {} }
    const listKeys = async () => ['ISSUER-JWE', 'ISSUER-ASSERTION'].map(kid => ({ kid }))
    const bind = async ({ kid }: { kid: string }) => ({ kid })
    const opening = {
      store: async () => ({ ...closing, listKeys }),
      backend: async () => ({ ...closing, bind }),
    }
    const io = keptIo({ env: { TP: '1234' } })
    const command = onboardCommand(opening as unknown as Opening)
    expect(await main(call(fresh(), ...TOKEN), io, [command])).toBe(2)
    expect([io.output, io.errors]).toEqual([[], ['ERR_USAGE: key ISSUER-JWE shows no public half']])
  })
})
