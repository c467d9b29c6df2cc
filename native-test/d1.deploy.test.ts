/**
 * The parts of examples/deploy together, where no Docker runs: the bundle of the image with the command line of compose.yaml (keys in
 * the SoftHSM token that hsm.sh makes, cards in a PostgreSQL of its own), and nginx with the nginx.conf that is mounted there, in front
 * of it. Paths are those of a folder of the test, names of containers 127.0.0.1, and ports free ones; the token is in the service's
 * process, for Debian 12's p11-kit hands on neither CBC nor ECDH: `npm run deploy:try` runs it behind the p11-kit of the image.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import type { IncomingMessage } from 'node:http'
import https from 'node:https'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { setTimeout as wait } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { CLIENT } from '../examples/serve/tokens.js'
import { openCaller } from './d1/caller.js'
import { freePort } from './ports.js'
import { describePostgres } from './postgres.js'
import { describeNative, SOFTHSM_MODULE } from './softhsm.js'

const ROOT = new URL('..', import.meta.url).pathname
const deploy = (name: string): string => readFileSync(join(ROOT, 'examples/deploy', name), 'utf8')
const ATTEMPTS = 400
const PIN = '/cms/api/v1/issuers/is_tbank01/cards/card-0001/pin'

/** The command of the service in compose.yaml, with what differs outside of a container. */
function commandLine(replacements: Readonly<Record<string, string>>): readonly string[] {
  const [, line = ''] = /exec node (serve\.mjs [\s\S]*?)\n {4}\S/.exec(deploy('compose.yaml')) ?? []
  const words = line.trim().split(/\s+/)
  for (const name of Object.keys(replacements)) expect(words).toContain(name)
  return words.map(word => replacements[word] ?? word)
}

/** The configuration as it is mounted, but for its paths and its port. */
function nginxConfiguration(replacements: Readonly<Record<string, string>>): string {
  return Object.entries(replacements).reduce((text, [from, to]) => {
    expect(text).toContain(from)
    return text.replaceAll(from, to)
  }, deploy('nginx.conf'))
}

/** What hsm.sh does before it listens: the token, made in `home`. */
function makeToken(home: string): { readonly configuration: string; readonly pin: string } {
  const pin = join(home, 'token-pin')
  writeFileSync(pin, '8f0c2a7d\n')
  const text = deploy('hsm.sh').replace('/var/lib/hsm', home).replace('/run/secrets/token-pin', pin)
  const making = text.slice(0, text.indexOf('rm -f /run/hsm/pkcs11'))
  for (let start = 0; start < 2; start++) {
    const { status, stderr } = spawnSync('sh', ['-c', making], { encoding: 'utf8' })
    expect([status, stderr]).toEqual([0, ''])
  }
  return { configuration: join(home, 'softhsm2.conf'), pin: '8f0c2a7d' }
}

describeNative('examples/deploy', SOFTHSM_MODULE, 'sudo apt-get install softhsm2', () => {
  describeNative(
    'with nginx',
    existsSync('/usr/sbin/nginx') ? '/usr/sbin/nginx' : undefined,
    'sudo apt-get install nginx',
    () => describePostgres('and PostgreSQL', parts),
  )
})

function parts(database: { readonly port: number; readonly password: string }): void {
  const home = mkdtempSync(join(tmpdir(), 'ipc-deploy-'))
  const [image, data, front, hsm] = ['app', 'data', 'nginx', 'hsm'].map(name => join(home, name)) as [
    string,
    string,
    string,
    string,
  ]
  const run = join(data, 'run')
  const started: ChildProcess[] = []
  const socket = join(home, 'd1.sock')
  let port = 0
  let health = ''
  /** What nginx writes. */
  const log: string[] = []

  const file = (name: string): string => readFileSync(join(run, name), 'utf8').trim()

  /** A request through nginx with the certificate of that name in the folder, or with none. */
  async function ask(
    by: 'd1' | 'other' | undefined,
    path: string,
    { headers = {}, body }: { headers?: Record<string, string>; body?: string } = {},
  ): Promise<{
    readonly status: number | undefined
    readonly type: string | undefined
    readonly text: string
  }> {
    const credentials = by && { cert: file(`${by}.pem`), key: file(`${by}.key`) }
    const method = body === undefined ? 'GET' : 'POST'
    const request = https.request(`https://localhost:${port}${path}`, {
      ...{ method, headers, ca: file('ca.pem'), agent: false },
      ...credentials,
    })
    request.end(body)
    const [response] = (await once(request, 'response')) as [IncomingMessage]
    return {
      status: response.statusCode,
      type: response.headers['content-type'],
      text: await text(response),
    }
  }

  beforeAll(async () => {
    for (const folder of [image, data, front, hsm]) mkdirSync(folder)
    const token = makeToken(hsm)
    port = await freePort()
    const bundled = spawnSync(process.execPath, ['examples/deploy/bundle.mjs', image, '--offline'], {
      cwd: ROOT,
      encoding: 'utf8',
    })
    expect(bundled.stderr).toBe('')
    // What the image's build installs beside the bundle.
    mkdirSync(join(image, 'node_modules'))
    const { dependencies } = JSON.parse(readFileSync(join(image, 'package.json'), 'utf8')) as {
      dependencies: Record<string, string>
    }
    for (const name of Object.keys(dependencies)) {
      symlinkSync(join(ROOT, 'node_modules', name), join(image, 'node_modules', name))
    }
    const args = commandLine({
      '/data/run': run,
      '/run/issuer/d1.sock': socket,
      '8081': '0',
      '/usr/lib/p11-kit-client.so': SOFTHSM_MODULE ?? expect.fail('no SoftHSM'),
      'postgres://issuer@db/issuer': `postgres://issuer@127.0.0.1:${database.port}/postgres`,
    })
    const service = spawn(process.execPath, args, {
      cwd: image,
      env: {
        ...process.env,
        NODE_ENV: 'production',
        PGPASSWORD: database.password,
        TOKEN_PIN: token.pin,
        SOFTHSM2_CONF: token.configuration,
      },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    started.push(service)
    const said: string[] = []
    const lines = createInterface(service.stderr).on('line', line => said.push(line))
    const ended = once(service, 'exit').then(() => Promise.reject(new Error(said.join('\n'))))
    ended.catch(() => {})
    while (!said.some(line => line.includes('Ctrl-C'))) await Promise.race([once(lines, 'line'), ended])
    health = said.join('\n').match(/\/readyz on (\S+)/)?.[1] ?? expect.fail('no health')

    const configuration = join(front, 'nginx.conf')
    writeFileSync(
      configuration,
      nginxConfiguration({
        '/tmp/': `${front}/`,
        '/etc/nginx/tls/': `${run}/`,
        'unix:/run/issuer/d1.sock': `unix:${socket}`,
        'listen 8444 ': `listen 127.0.0.1:${port} `,
      }),
    )
    // As in compose.yaml, nginx is the same user as the service; which may be root here.
    const globals = 'daemon off; user root;'
    const nginx = ['-p', front, '-c', configuration, '-e', join(front, 'error.log'), '-g', globals]
    const checked = spawnSync('/usr/sbin/nginx', ['-t', ...nginx], { encoding: 'utf8' })
    expect(checked.stderr).toContain('test is successful')
    const proxy = spawn('/usr/sbin/nginx', nginx, { stdio: ['ignore', 'ignore', 'pipe'] })
    started.push(proxy)
    createInterface(proxy.stderr).on('line', line => log.push(line))
    for (let attempt = 0; attempt < ATTEMPTS && !(await answers(port)); attempt++) await wait(25)
  })

  afterAll(async () => {
    await Promise.all(
      started
        .filter(child => child.exitCode === null && child.signalCode === null)
        .map(child => {
          child.kill('SIGKILL')
          return once(child, 'exit')
        }),
    )
    rmSync(home, { recursive: true, force: true })
  })

  test('the health check of the image is content: token and database answer', async () => {
    expect((await fetch(`${health}/readyz`)).status).toBe(200)
  })

  test('the socket is for its owner and its group', () => {
    expect(statSync(socket).mode & 0o777).toBe(0o660)
  })

  test('D1 gets and sets a PIN through nginx, with its own certificate', async () => {
    using d1 = await openCaller(run, { url: `https://localhost:${port}` })
    const card = d1.cards.find(({ pin }) => pin !== undefined) ?? expect.fail('no card')
    expect(await d1.getPin(card)).toEqual({ status: 200, pin: card.pin })
    expect(await d1.setPin(card, await d1.iso0(card, '2580'))).toBe(204)
    expect(await d1.getPin(card)).toEqual({ status: 200, pin: '2580' })
  })

  test('who has no certificate is refused by nginx, which says so in its log', async () => {
    expect(await ask(undefined, PIN)).toMatchObject({ status: 400, type: 'text/html' })
    await expect.poll(() => log.join('\n')).toContain('client sent no required SSL certificate')
  })

  test('another issuer’s certificate of the same CA opens nothing, nor does D1’s in a header beside it, with D1’s own token', async () => {
    const basic = Buffer.from(`${CLIENT.clientId}:${file(CLIENT.secretFile)}`).toString('base64')
    const granted = await ask('d1', '/authz/d1/v1/oauth2/token', {
      headers: { authorization: `Basic ${basic}`, 'content-type': 'application/x-www-form-urlencoded' },
      body: 'grant_type=client_credentials',
    })
    expect(granted.status).toBe(200)
    const bearer = { authorization: `Bearer ${JSON.parse(granted.text).access_token}` }
    expect(await ask('d1', PIN, { headers: bearer })).toMatchObject({ status: 200 })
    const forged = {
      'X-SSL-Client-Cert': encodeURIComponent(file('d1.pem')),
      'X-SSL-Client-Verify': 'SUCCESS',
      x_ssl_client_cert: encodeURIComponent(file('d1.pem')),
      'Client-Cert': `:${new X509Certificate(file('d1.pem')).raw.toString('base64')}:`,
    }
    const refused = { status: 401, type: 'application/json' }
    for (const more of [{}, forged])
      expect(await ask('other', PIN, { headers: { ...bearer, ...more } })).toMatchObject(refused)
    // Whoever sends them: nginx's own take their place.
    const bad = { ...forged, 'X-SSL-Client-Verify': 'NONE', 'X-SSL-Client-Cert': 'x' }
    expect(await ask('d1', PIN, { headers: { ...bearer, ...bad } })).toMatchObject({ status: 200 })
  })

  test('SIGTERM, as Docker stops a container: it ends well', async () => {
    const [service, nginx] = started
    const ended = [service, nginx].map(child => (child ? once(child, 'exit') : expect.fail('not started')))
    service?.kill('SIGTERM')
    nginx?.kill('SIGTERM')
    expect(await Promise.all(ended)).toEqual([
      [0, null],
      [0, null],
    ])
    expect(existsSync(socket)).toBe(false)
  })
}

async function answers(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  const open = await new Promise<boolean>(resolve => {
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
  })
  socket.destroy()
  return open
}
