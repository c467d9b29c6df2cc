/**
 * What a key officer does, for real: a ceremony at a terminal, with slips and Ctrl-C, on SoftHSM; and a folder of `onboard` that a
 * service and the simulator run on, and that openssl and jose read.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, createServer } from 'node:tls'
import { importJWK, jwtVerify, SignJWT } from 'jose'
import { afterAll, expect, test } from 'vitest'
import { openCeremonyRecord, openKeyStore } from '../src/pkcs11.js'
import { startServe } from './d1/serve-process.js'
import { describeSoftHsm, makeToken, USER_PIN } from './softhsm.js'

const ROOT = new URL('..', import.meta.url).pathname
const PROGRAM = ['--import', 'tsx', join(ROOT, 'src/cli/cli.ts')]
const folder = mkdtempSync(join(tmpdir(), 'ipc-officer-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

interface Shown {
  readonly status: number
  readonly shown: string
  readonly echo: readonly boolean[]
  readonly left: number
}

/** Runs the program at a terminal of its own. */
function atTerminal(args: readonly string[], answers: readonly (readonly [string, string])[]): Shown {
  const given = JSON.stringify({ argv: [process.execPath, ...PROGRAM, ...args], answers })
  const script = new URL('children/terminal.py', import.meta.url).pathname
  const env = { ...process.env, HSM_PIN: USER_PIN, TERM: 'xterm' }
  const { stdout, stderr } = spawnSync('python3', [script, given], { cwd: ROOT, env, encoding: 'utf8' })
  if (stdout === '') throw new Error(`no terminal: ${stderr}`)
  return JSON.parse(stdout) as Shown
}

describeSoftHsm('a key officer at a terminal', () => {
  const options = makeToken('officer')
  const FIRST = '0123456789ABCDEFFEDCBA9876543210'
  const SECOND = '1123456789ABCDEFFEDCBA98765432AB'
  // Of the components, and of 1000…00BB, their exclusive or with odd parity in every byte.
  let kcvs: readonly [string, string, string]
  const token = ['--module', options.module, '--token', 'officer', '--pin-env', 'HSM_PIN']
  const record = join(folder, 'zpk.record')
  const ceremony = (kid: string, kcv: string): string[] => [
    ...['key', 'import', '--from', 'components', '--parts', '2', '--kid', kid, '--usage', 'pin-encryption'],
    ...['--algorithm', 'aes-128', '--kcv', kcv, '--record', record, '--record-key', 'CEREMONIES'],
    ...['--import-clear-keys', ...token],
  ]

  test('two officers, one of whom mistypes: nothing of it is shown, and the record is signed', async () => {
    {
      await using store = await openKeyStore(options)
      await store.generateKey({ kid: 'CEREMONIES', usage: 'jwt-signing', algorithm: 'ec-p256' })
    }
    kcvs = [kcvOf(FIRST), kcvOf(SECOND), kcvOf(xor(FIRST, SECOND))]
    const found = atTerminal(ceremony('ZPK', kcvs[2]), [
      ['officer 1: name', 'Adams\r'],
      // Typed too far: what is ahead of the next question belongs to nobody.
      ['officer 1: component', `${FIRST}\rTYPED-AHEAD`],
      ['officer 1: kcv', `${kcvs[0]}\r`],
      ['officer 2: name', 'Brown\r'],
      ['officer 2: component', `${SECOND.slice(0, -1)}C\r`],
      ['officer 2: kcv', `${kcvs[1]}\r`],
      ['officer 2: component', `${SECOND.slice(0, 8)} ${SECOND.slice(8)}x\u007f\r`],
      ['officer 2: kcv', `${kcvs[1]}\r`],
    ])
    expect([found.status, found.left]).toEqual([0, 0])
    expect(found.echo).toEqual(found.echo.map(() => false))
    for (const secret of [FIRST, SECOND, SECOND.slice(0, 12), xor(FIRST, SECOND), 'TYPED', USER_PIN])
      expect(found.shown.toUpperCase()).not.toContain(secret.toUpperCase())
    expect(found.shown).toMatch(/component 2.*: enter it again/)
    expect(found.shown).toContain(`KCV ${kcvs[2].slice(0, 6)}`)
    expect(found.shown).toContain('combined in this process')
    const sealed = readFileSync(record, 'utf8').trim()
    await using store = await openKeyStore(options)
    const listed = await store.listKeys()
    expect(listed.map(({ kid }) => kid).sort()).toEqual(['CEREMONIES', 'ZPK'])
    rmSync(record)
    const { pkcs11Backend } = await import('../src/pkcs11.js')
    await using backend = await pkcs11Backend(options)
    const { publicJwk } = await backend.bind({ kid: 'CEREMONIES', usage: 'jwt-signing' })
    if (publicJwk === undefined) throw new Error('the signing key shows no public half')
    const opened = await openCeremonyRecord({ sealed, key: publicJwk })
    expect(opened?.components.map(({ officer }) => officer)).toEqual(['Adams', 'Brown'])
    expect(JSON.stringify(opened)).not.toContain(FIRST)
  })

  test('Ctrl-C at the second officer leaves nothing: no key, no object, no record', async () => {
    const before = await census()
    const found = atTerminal(ceremony('ZPK-2', kcvs[2]), [
      ['officer 1: name', 'Adams\r'],
      ['officer 1: component', `${FIRST}\r`],
      ['officer 1: kcv', `${kcvs[0]}\r`],
      ['officer 2: name', 'Brown\r'],
      ['officer 2: component', `${SECOND.slice(0, 10)}\u0003`],
    ])
    expect([found.status, found.left]).toEqual([1, 0])
    expect(found.shown).toMatch(/ERR_ABORTED: [^\n]+\r?\n$/)
    expect(found.shown).not.toContain(SECOND.slice(0, 10))
    expect(await census()).toEqual(before)
    expect(() => readFileSync(record)).toThrow('ENOENT')
  })

  async function census(): Promise<string[]> {
    await using store = await openKeyStore(options)
    return (await store.listKeys()).map(({ kid, id }) => `${kid} ${id}`).sort()
  }

  function kcvOf(key: string): string {
    const args = ['key', 'kcv', '--algorithm', 'aes-128', '--key-env', 'KEY', '--json']
    const env = { ...process.env, KEY: key }
    const out = execFileSync(process.execPath, [...PROGRAM, ...args], { cwd: ROOT, env, encoding: 'utf8' })
    return (JSON.parse(out) as { checkValue: { value: string } }).checkValue.value
  }

  function xor(a: string, b: string): string {
    const [left, right] = [Buffer.from(a, 'hex'), Buffer.from(b, 'hex')]
    return Buffer.from(left.map((byte, i) => byte ^ (right[i] ?? 0)))
      .toString('hex')
      .toUpperCase()
  }
})

/** The simulator against a `serve`, for an issuer that D1 knows by a folder of `onboard`. */
function simulate(run: string, dir: string, ...only: readonly string[]) {
  const args = [
    '--config',
    join(run, 'simulator.json'),
    '--issuer-jwk',
    join(dir, 'jwe.public.jwk'),
    '--json',
  ]
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [
      ...['--import', 'tsx', 'packages/d1-simulator/src/bin.ts', ...args],
      ...only.flatMap(group => ['--only', group]),
    ],
    { cwd: ROOT, encoding: 'utf8', env: { ...process.env, TSX_TSCONFIG_PATH: 'tsconfig.test.json' } },
  )
  if (stdout === '') throw new Error(`the simulator: ${stderr}`)
  const { summary } = JSON.parse(stdout) as { summary: { passed: number; failed: number } }
  return { status, ...summary }
}

describeSoftHsm('onboarding with all keys in a token', () => {
  const { module } = makeToken('onboarded')
  const dir = join(folder, 'onboarded-token')
  const run = join(folder, 'run-token')
  const env = { ...process.env, HSM_PIN: USER_PIN }

  test('the folder alone configures serve and the simulator; a Get PIN and a Set PIN are answered', async () => {
    const names = [
      '--issuer-id',
      'is_obank22',
      '--endpoint',
      'https://localhost:8443',
      '--subject',
      'O=Other, C=DE',
    ]
    const token = ['--module', module, '--token', 'onboarded', '--pin-env', 'HSM_PIN', '--composed-mac']
    const kids = ['--client-key', 'token', '--jwe-kid', 'OTHER-JWE', '--client-kid', 'OTHER-TLS']
    const made = spawnSync(
      process.execPath,
      [...PROGRAM, 'onboard', '--dir', dir, ...names, ...kids, ...token],
      { cwd: ROOT, encoding: 'utf8', env },
    )
    expect([made.status, made.stderr]).toEqual([0, ''])
    const read = (name: string): string => readFileSync(join(dir, name), 'utf8')
    expect(JSON.parse(read('token.json'))).toEqual({ module, token: 'onboarded', composedMac: true })
    const all = readdirSync(dir).map(read).join()
    for (const secret of [USER_PIN, 'PRIVATE KEY', '"d"']) expect(all).not.toContain(secret)
    const checked = execFileSync(
      'openssl',
      ['req', '-in', join(dir, 'client.csr.pem'), '-verify', '-noout', '-subject'],
      {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    )
    expect(checked).toMatch(/O ?= ?Other/)

    process.env['HSM_PIN'] = USER_PIN
    const onToken = ['--backend', 'pkcs11', '--onboarding', dir, '--pin-env', 'HSM_PIN', '--store', 'memory']
    const server = await startServe(run, ...onToken)
    try {
      const found = simulate(run, dir, 'get-pin', 'set-pin-iso0')
      expect([found.status, found.failed, found.passed > 10]).toEqual([0, 0, true])
      expect(server.said.join('\n')).toContain('/issuers/is_obank22/')
    } finally {
      await server.stop()
    }
  })
})

test('a folder of onboard is enough for a service and for the simulator; openssl and jose read all of it', async () => {
  const dir = join(folder, 'onboarded')
  const run = join(folder, 'run')
  const read = (name: string): string => readFileSync(join(dir, name), 'utf8')
  const program = (...args: string[]) =>
    spawnSync(process.execPath, [...PROGRAM, ...args], { cwd: ROOT, encoding: 'utf8' })
  const names = [
    '--issuer-id',
    'is_tbank01',
    '--endpoint',
    'https://localhost:8443',
    '--subject',
    'O=Test Bank, C=DE',
  ]
  expect(program('onboard', '--dir', dir, ...names)).toMatchObject({ status: 0, stderr: '' })
  const server = await startServe(run, '--onboarding', dir)
  try {
    const found = simulate(run, dir, 'set-pin-iso0', 'get-pin')
    expect([found.status, found.failed, found.passed > 10]).toEqual([0, 0, true])
  } finally {
    await server.stop()
  }
  // The same key for another issuer: the run folder is not that issuer's.
  const other = join(folder, 'other')
  cpSync(dir, other, { recursive: true })
  writeFileSync(join(other, 'onboarding.json'), read('onboarding.json').replace('is_tbank01', 'is_obank22'))
  const taken = startServe(run, '--onboarding', other).then(one => one.stop())
  await expect(taken).rejects.toThrow('was made for another issuer')

  // openssl: a CA certifies the request; the certificate, the keys and the points are what they say.
  const openssl = (...args: string[]) =>
    execFileSync('openssl', args, { cwd: dir, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
  const ca = join(folder, 'ca')
  openssl(
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1'],
    '-subj',
    '/CN=Test CA',
    '-keyout',
    `${ca}.key`,
    '-out',
    `${ca}.pem`,
  )
  openssl(
    ...['x509', '-req', '-in', 'client.csr.pem', '-CA', `${ca}.pem`, '-CAkey', `${ca}.key`, '-days', '1'],
    '-out',
    join(folder, 'client.pem'),
  )
  expect(openssl('verify', '-CAfile', `${ca}.pem`, join(folder, 'client.pem'))).toContain('OK')
  expect(openssl('x509', '-in', 'jwe.certificate.pem', '-noout', '-text')).toContain('Key Agreement')
  for (const name of ['jwe', 'assertion'])
    expect(openssl('pkey', '-pubin', '-in', `${name}.public.pem`, '-noout', '-text')).toContain('P-256')

  // The request's key and certificate open a TLS connection on which the client is authenticated.
  writeFileSync(join(folder, 'server.csr'), '')
  openssl(
    ...['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=localhost'],
    '-keyout',
    join(folder, 'server.key'),
    '-out',
    join(folder, 'server.csr'),
  )
  openssl(
    ...[
      'x509',
      '-req',
      '-in',
      join(folder, 'server.csr'),
      '-CA',
      `${ca}.pem`,
      '-CAkey',
      `${ca}.key`,
      '-days',
      '1',
    ],
    '-out',
    join(folder, 'server.pem'),
  )
  const at = (name: string): Buffer => readFileSync(join(folder, name))
  const subject = await new Promise((resolve, reject) => {
    const tls = createServer(
      {
        key: at('server.key'),
        cert: at('server.pem'),
        ca: at('ca.pem'),
        requestCert: true,
        rejectUnauthorized: true,
      },
      socket => {
        resolve([socket.authorized, socket.getPeerCertificate().subject.O])
        socket.end()
        tls.close()
      },
    )
    tls.once('tlsClientError', reject)
    tls.listen(0, () => {
      const { port } = tls.address() as { port: number }
      connect({
        port,
        ca: at('ca.pem'),
        cert: at('client.pem'),
        key: read('client.key.pem'),
        checkServerIdentity: () => undefined,
      })
        .once('error', reject)
        .resume()
    })
  })
  expect(subject).toEqual([true, 'Test Bank'])

  // jose: an assertion signed with the folder's key is verified with what Thales gets.
  const keys = JSON.parse(read('keys.json')) as { kid: string; usage: string; material: object }[]
  const own = keys.find(({ usage }) => usage === 'jwt-signing')
  const jwt = await new SignJWT({ sub: 'is_tbank01' })
    .setProtectedHeader({ alg: 'ES256', kid: own?.kid ?? '' })
    .sign(await importJWK(own?.material ?? {}, 'ES256'))
  const { payload } = await jwtVerify(jwt, await importJWK(JSON.parse(read('assertion.public.jwk')), 'ES256'))
  expect(payload.sub).toBe('is_tbank01')
})
