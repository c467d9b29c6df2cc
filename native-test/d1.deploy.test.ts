/**
 * The parts of examples/deploy together, where no Docker runs: the bundle of the image with the command line of compose.yaml (keys in
 * the SoftHSM token that hsm.sh makes, cards in a PostgreSQL of its own), and nginx with the nginx.conf that is mounted there, in front
 * of it. Names of containers become 127.0.0.1, and ports free ones; the token is in the service's process, for Debian 12's p11-kit
 * hands on neither CBC nor ECDH: `npm run deploy:try` runs it behind the p11-kit of the image.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import https from 'node:https'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as wait } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openCaller } from './d1/caller.js'
import { freePort } from './ports.js'
import { describePostgres } from './postgres.js'
import { describeNative, SOFTHSM_MODULE } from './softhsm.js'

const ROOT = new URL('..', import.meta.url).pathname
const deploy = (name: string): string => readFileSync(join(ROOT, 'examples/deploy', name), 'utf8')
const STREAM = '/usr/lib/nginx/modules/ngx_stream_module.so'
const ATTEMPTS = 400

/** The command of the service in compose.yaml, with what differs outside of a container. */
function commandLine(replacements: Readonly<Record<string, string>>): readonly string[] {
  const [, line = ''] = /exec node (serve\.mjs [\s\S]*?)\n {4}\S/.exec(deploy('compose.yaml')) ?? []
  const words = line.trim().split(/\s+/)
  for (const name of Object.keys(replacements)) expect(words).toContain(name)
  return words.map(word => replacements[word] ?? word)
}

/** The configuration as it is mounted, but for the addresses, and the module that Debian's nginx loads and the image has built in. */
function nginxConfiguration(folder: string, ports: { front: number; issuer: number }): string {
  const text = deploy('nginx.conf')
  const changed = text
    .replace('server db:8443;', `server 127.0.0.1:${ports.issuer};`)
    .replace('listen 8444;', `listen 127.0.0.1:${ports.front};`)
    .replace('pid /tmp/nginx.pid;', `pid ${folder}/nginx.pid; daemon off;`)
  expect(changed.split('\n').filter(line => !text.includes(line))).toHaveLength(3)
  return `load_module ${STREAM};\n${changed}`
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
    existsSync('/usr/sbin/nginx') && existsSync(STREAM) ? '/usr/sbin/nginx' : undefined,
    'sudo apt-get install nginx libnginx-mod-stream',
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
  let ports = { front: 0, issuer: 0 }
  let health = ''

  beforeAll(async () => {
    for (const folder of [image, data, front, hsm]) mkdirSync(folder)
    const token = makeToken(hsm)
    ports = { front: await freePort(), issuer: await freePort() }
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
      '0.0.0.0': '127.0.0.1',
      '8081': '0',
      '/usr/lib/p11-kit-client.so': SOFTHSM_MODULE ?? expect.fail('no SoftHSM'),
      'postgres://issuer@db/issuer': `postgres://issuer@127.0.0.1:${database.port}/postgres`,
    })
    const service = spawn(process.execPath, [...args, '--port', String(ports.issuer)], {
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
    writeFileSync(configuration, nginxConfiguration(front, ports))
    const nginx = ['-p', front, '-c', configuration, '-e', join(front, 'error.log')]
    const checked = spawnSync('/usr/sbin/nginx', ['-t', ...nginx], { encoding: 'utf8' })
    expect(checked.stderr).toContain('test is successful')
    started.push(spawn('/usr/sbin/nginx', nginx, { stdio: 'ignore' }))
    for (let attempt = 0; attempt < ATTEMPTS && !(await answers(ports.front)); attempt++) await wait(25)
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

  test('D1 gets and sets a PIN through nginx, with its own certificate', async () => {
    using d1 = await openCaller(run, { url: `https://localhost:${ports.front}` })
    const card = d1.cards.find(({ pin }) => pin !== undefined) ?? expect.fail('no card')
    expect(await d1.getPin(card)).toEqual({ status: 200, pin: card.pin })
    expect(await d1.setPin(card, await d1.iso0(card, '2580'))).toBe(204)
    expect(await d1.getPin(card)).toEqual({ status: 200, pin: '2580' })
  })

  test('who has no certificate gets no answer through nginx', async () => {
    const ca = readFileSync(join(run, 'ca.pem'))
    const refused = new Promise((resolve, reject) => {
      https
        .get(`https://localhost:${ports.front}/`, { ca, agent: false }, ({ statusCode }) =>
          resolve(statusCode),
        )
        .once('error', reject)
    })
    await expect(refused).rejects.toThrow(/ECONNRESET|certificate required|socket hang up/)
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
