/** `npm run serve`: what its head says, as a process of its own. */
import { spawn, spawnSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import https from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { explained, sayingFaults } from '../examples/serve/faults.js'
import { Folder } from '../examples/serve/folder.js'
import { pasteable } from '../examples/serve/greeting.js'
import { d1PublicJwk, makeKeys, ownMaterial } from '../examples/serve/keys.js'
import { readOptions, UsageError } from '../examples/serve/options.js'
import { seed } from '../examples/serve/seed.js'
import { type Card, memoryIssuerStore } from '../src/d1.js'
import { BackendError, Pan } from '../src/index.js'
import type { IssuerStore } from '../src/stores/issuer-store.js'
import { type Caller, type CallerCard, openCaller } from './d1/caller.js'
import { type ServeProcess, spawnServe, startServe } from './d1/serve-process.js'
import { describeSoftHsm } from './softhsm.js'

const parent = mkdtempSync(join(tmpdir(), 'ipc-serve-'))
const running: ServeProcess[] = []
let folders = 0

afterEach(async () => {
  for (const server of running.splice(0)) await server.kill()
})
afterAll(() => rmSync(parent, { recursive: true, force: true }))

const newDir = (): string => join(parent, `run-${++folders}`)

async function start(dir: string, ...args: readonly string[]): Promise<ServeProcess> {
  const server = await startServe(dir, ...args)
  running.push(server)
  return server
}

const cardOf = (caller: Caller, cardId: string): CallerCard =>
  caller.cards.find(card => card.cardId === cardId) ?? expect.fail(`no ${cardId}`)

/** The status of a GET with D1's certificate. */
function statusOf(dir: string, url: string): Promise<number> {
  const read = (name: string): string => readFileSync(join(dir, name), 'utf8')
  const tls = { ca: read('ca.pem'), cert: read('d1.pem'), key: read('d1.key'), agent: false }
  return new Promise((resolve, reject) => {
    https
      .get(url, tls, response => {
        response.resume().once('close', () => resolve(response.statusCode ?? 0))
      })
      .once('error', reject)
  })
}

describe('the command line', () => {
  test.each([
    [['--port', 'x'], '--port must be a whole number from 0 to 65535'],
    [['--port', '70000'], '--port must be'],
    [['--extra-cards', '-1'], '--extra-cards'],
    [['--health', 'yes'], '--health must be d1-port or a whole number from 0 to 65535'],
    [['--extra-cards', '9001'], '--extra-cards must be a whole number from 0 to 9000'],
    [['--foo'], "Unknown option '--foo'"],
    [['run'], 'serve takes options, and nothing besides'],
    [['--dir'], 'argument missing'],
    [['--dir', ''], '--dir must name a folder'],
    [['--host', ''], '--host must name'],
    [['--socket', ''], '--socket must name a file'],
    [['--socket', `/${'x'.repeat(107)}`], 'in no more than 107 bytes'],
    [['--socket', 'x', '--host', '0.0.0.0'], '--socket is in place of --host and --port'],
    [['--socket', 'x', '--port', '8443'], '--socket is in place of --host and --port'],
    [['--socket', 'x', '--url', 'http://localhost'], '--url must be the origin of nginx'],
    [['--socket', 'x', '--url', 'https://localhost/'], '--url must be the origin of nginx'],
    [['--url', 'https://localhost'], '--url needs --socket'],
    [['--backend', 'hsm'], '--backend must be software or pkcs11'],
    [['--module', '/x.so'], 'need --backend pkcs11'],
    [['--composed-mac'], 'need --backend pkcs11'],
    [['--backend', 'pkcs11', '--module', '/x.so'], 'belong together'],
    [['--backend', 'pkcs11', '--composed-mac'], 'for a token of your own'],
    [
      ['--backend', 'pkcs11', '--module', '/x.so', '--token', 't', '--pin-env', 'NOBODY'],
      '--pin-env must name a variable of the environment',
    ],
    [['--store', 'mysql'], '--store must be sqlite, postgres or memory'],
    [['--store', 'postgres'], 'needs --postgres'],
    [['--store', 'postgres', '--postgres', 'localhost'], 'needs --postgres postgres://'],
    [['--postgres', 'postgres://localhost/x'], 'needs --store postgres'],
    [['--store', 'memory', '--replica'], '--replica needs a store that others see'],
    [['--store', 'memory', '--postgres', 'postgres://localhost/x'], 'needs --store postgres'],
  ])('%j is refused', (args, message) => {
    expect(() => readOptions(args, {})).toThrow(UsageError)
    expect(() => readOptions(args, {})).toThrow(message)
  })

  test.each([
    [['--store', 'postgres', 'postgres://user:s3cret@host/db']],
    [['--store', 'postgres', '--postgres', 'user:s3cret@host/db']],
    [['--backend', 'pkcs11', '--module', '/x.so', '--token', 't', '--pin-env', 's3cret']],
  ])('a secret in a wrong place is not repeated: %j', args => {
    expect.assertions(1)
    try {
      readOptions(args, {})
    } catch (error) {
      expect(String(error)).not.toContain('s3cret')
    }
  })

  test('what it takes', () => {
    expect(readOptions([], {})).toMatchObject({ dir: './run', backend: { kind: 'software' } })
    expect(readOptions([], {})?.place).toEqual({ host: '127.0.0.1', port: 8443 })
    expect(readOptions(['--socket', 'x'], {})?.place).toEqual({ socket: 'x', url: 'https://localhost' })
    expect(readOptions(['--help'], {})).toBeUndefined()
    const token = ['--module', '/x.so', '--token', 't', '--pin-env', 'PIN']
    expect(readOptions(['--backend', 'pkcs11', ...token], { PIN: '1' })?.backend).toMatchObject({
      own: { module: '/x.so', token: 't', pinEnv: 'PIN', composedMac: false },
    })
    const store = ['--store', 'postgres', '--postgres', 'postgres://h/d']
    expect(readOptions(store, {})?.store).toEqual({ kind: 'postgres', url: 'postgres://h/d' })
  })

  test('a wrong one is one line, and exit status 2', async () => {
    const child = spawnServe('--port', 'x')
    const said = text(child.stderr ?? expect.fail())
    const [code] = await once(child, 'exit')
    expect(code).toBe(2)
    expect(await said).toBe('serve: --port must be a whole number from 0 to 65535\n')
  })

  test('a module that is not there leaves no folder that would remember it', async () => {
    const dir = newDir()
    const module = join(parent, 'no.so')
    const child = spawnServe(
      ...['--dir', dir, '--backend', 'pkcs11', '--module', module, '--token', 't', '--pin-env', 'PATH'],
    )
    const said = text(child.stderr ?? expect.fail())
    expect((await once(child, 'exit'))[0]).toBe(2)
    expect(await said).toBe(`serve: --module: there is no file ${module}\n`)
    expect(existsSync(dir)).toBe(false)
  })

  test('a module that an onboarding names, and that is not there, leaves no folder either', async () => {
    const [dir, folder] = [newDir(), newDir()]
    mkdirSync(folder)
    const module = join(parent, 'no.so')
    const jwe = { kid: 'JWE-1', thumbprint: 'x', in: 'token' }
    writeFileSync(join(folder, 'onboarding.json'), JSON.stringify({ issuerId: 'is_tbank01', jwe }))
    writeFileSync(join(folder, 'token.json'), JSON.stringify({ module, token: 'issuer' }))
    const args = ['--dir', dir, '--port', '0', '--onboarding', folder]
    for (const [more, said] of [
      [['--backend', 'pkcs11', '--pin-env', 'PATH'], `--onboarding: there is no file ${module}`],
      [[], '--onboarding names a token: it takes --backend pkcs11 and --pin-env'],
      [['--backend', 'pkcs11'], '--pin-env must name a variable of the environment, which holds the PIN'],
    ] as const) {
      const child = spawnServe(...args, ...more)
      const heard = text(child.stderr ?? expect.fail())
      expect((await once(child, 'exit'))[0]).toBe(2)
      expect(await heard).toBe(`serve: ${said}\n`)
      expect(existsSync(dir)).toBe(false)
    }
  })

  test('an audit log that cannot be written ends the start before it listens', async () => {
    const child = spawnServe(
      ...['--dir', newDir(), '--port', '0', '--store', 'memory', '--audit', '/nowhere/x'],
    )
    const said = text(child.stderr ?? expect.fail())
    expect((await once(child, 'exit'))[0]).toBe(1)
    expect(await said).toMatch(/^serve: ENOENT: [^\n]*'\/nowhere\/x': that is not there[^\n]*\n$/)
  })

  test.each([
    ['EADDRINUSE', 'listen', '--port, or --health'],
    ['EADDRNOTAVAIL', 'listen', '--host'],
    ['ENOTFOUND', 'getaddrinfo', '--host'],
    ['EACCES', 'listen', 'ports of 1024 and above'],
    ['EACCES', 'listen', 'take another --socket', -1],
    ['EACCES', 'mkdtemp', 'take a --dir'],
    ['EROFS', 'mkdtemp', 'read-only'],
    ['ENOTDIR', 'scandir', 'take another --dir'],
  ])('%s of %s names the way out', (code, syscall, way, port?: number) => {
    const fault = Object.assign(new Error(`${code}: refused`), { code, syscall, port })
    expect(explained(fault)).toMatch(new RegExp(`^${code}: refused: .*${way}`))
  })

  test('an error of the library names its code and the page of it; another one is its own message', () => {
    const error = new BackendError('ERR_PKCS11_MODULE', 'there is no file x')
    expect(explained(error)).toBe('there is no file x (ERR_PKCS11_MODULE: docs/errors/ERR_PKCS11_MODULE.md)')
    expect(existsSync('docs/errors/ERR_PKCS11_MODULE.md')).toBe(true)
    expect(explained(new Error('softhsm2-util has made no token'))).toBe('softhsm2-util has made no token')
    expect(explained('x')).toBe('failed')
  })

  test('what fails while it runs is said once, until it works again', () => {
    const lines: string[] = []
    const heard: unknown[] = []
    const hook = sayingFaults(
      event => void heard.push(event),
      line => lines.push(line),
    )
    const event = (outcome: string, more: object = {}) => ({ operation: 'getPIN', outcome, ...more }) as never
    const busy = new BackendError('ERR_BACKEND_BUSY', 'the database: nobody listens there', {
      retryable: true,
    })
    for (let i = 0; i < 3; i++) hook(event('failed', { refusal: { reason: 'store-failed' } }), busy)
    hook(event('success', { operation: 'getToken' }))
    hook(event('refused'))
    hook(event('success'))
    hook(event('failed', { refusal: { reason: 'directory-failed' } }), new Error('canary'))
    hook(event('failed', { operation: undefined }))
    expect(lines).toEqual([
      'getPIN is answered with 500: the database: nobody listens there (ERR_BACKEND_BUSY: docs/errors/ERR_BACKEND_BUSY.md)',
      'getPIN works again',
      'getPIN is answered with 500: directory-failed',
      'a request is answered with 500: unknown',
    ])
    expect(heard).toHaveLength(8)
  })

  test('a port that is taken is one line, and exit status 1', async () => {
    const server = await start(newDir())
    const child = spawnServe('--dir', newDir(), '--port', new URL(server.url).port)
    const said = text(child.stderr ?? expect.fail())
    const [code] = await once(child, 'exit')
    expect(code).toBe(1)
    // Where node:sqlite is still experimental, Node says so as well.
    const ours = (await said).replaceAll(/^\((?:node:|Use `node).*\n/gm, '')
    expect(ours).toMatch(
      /^serve: listen EADDRINUSE[^\n]*: something else listens there; [^\n]*--port, or --health[^\n]*\n$/,
    )
  })
})

describe('health', () => {
  const READY = {
    ready: true,
    checks: { 'is_tbank01/store': true, 'is_tbank01/keys': true, 'is_tbank01/d1-key': true },
  }

  test('on a port of its own, and not on D1’s', async () => {
    const dir = newDir()
    const server = await start(dir, '--health', '0')
    const [, origin] = server.said.join('\n').match(/\/readyz on (\S+)/) ?? expect.fail('no health')
    const ready = await fetch(`${origin}/readyz`)
    expect([ready.status, await ready.json()]).toEqual([200, READY])
    expect(await (await fetch(`${origin}/livez`)).json()).toEqual({ alive: true })
    expect((await fetch(`${origin}/cms/api/v1/issuers/x`)).status).toBe(404)
    expect(await statusOf(dir, `${server.url}/readyz`)).toBe(404)
    expect(await server.stop()).toBe(0)
  })

  test('on D1’s port, for whoever has a certificate', async () => {
    const dir = newDir()
    const server = await start(dir, '--health', 'd1-port')
    expect(await statusOf(dir, `${server.url}/readyz`)).toBe(200)
    expect(await statusOf(dir, `${server.url}/livez`)).toBe(200)
    expect(await statusOf(dir, `${server.url}/healthz`)).toBe(404)
  })
})

describe('the folder', () => {
  const stamp = { backend: 'software', store: 'sqlite' }
  const files = () => [{ name: 'a.txt', text: 'first' }]

  test('one that is somebody else’s is left alone', () => {
    const dir = newDir()
    mkdirSync(dir)
    writeFileSync(join(dir, 'mine.txt'), 'x')
    expect(() => Folder.open(dir, stamp, files)).toThrow('is not empty, and was not made by serve')
    expect(readdirSync(dir)).toEqual(['mine.txt'])
  })

  test('one that was made for other keys or another store is refused', () => {
    const dir = newDir()
    Folder.open(dir, stamp, files)
    for (const other of [
      { ...stamp, backend: 'pkcs11' },
      { ...stamp, store: 'postgres' },
    ]) {
      expect(() => Folder.open(dir, other, files)).toThrow('was made with --backend software --store sqlite')
    }
  })

  test('it is made once, whoever comes first, and appears as a whole', () => {
    const dir = newDir()
    // Another start finishes while this one is at it.
    const folder = Folder.open(dir, stamp, () => {
      Folder.open(dir, stamp, files)
      return [{ name: 'a.txt', text: 'second' }]
    })
    expect(folder.read('a.txt')).toBe('first')
    expect(readdirSync(parent).filter(name => name.includes('making'))).toEqual([])
  })
})

describe('the lock of the folder', () => {
  const lockOf = (folder: Folder): string => folder.read('serve.lock')

  test('a second process is refused while the first one runs, and told which', () => {
    const folder = openKeyFolder(newDir())
    // The test runner's parent lives as long as this does.
    folder.write({ name: 'serve.lock', text: String(process.ppid) })
    expect(() => folder.lock()).toThrow(`another serve (process ${process.ppid}) runs on ${folder.path}`)
    expect(lockOf(folder)).toBe(String(process.ppid))
  })

  test.each(['', 'x', '0', '-1', '4194999'])('one of a process that is gone is taken over: %j', text => {
    const folder = openKeyFolder(newDir())
    folder.write({ name: 'serve.lock', text })
    {
      using _ = folder.lock()
      expect(lockOf(folder)).toBe(String(process.pid))
      expect(readdirSync(folder.path).filter(name => name.startsWith('serve.lock'))).toEqual(['serve.lock'])
    }
    expect(existsSync(folder.file('serve.lock'))).toBe(false)
  })
})

describe('the store in memory, the greeting, two processes', () => {
  test('the lines of the greeting, pasted into a shell, end in the PIN; a second serve is refused', async () => {
    const dir = newDir()
    const server = await start(dir, '--store', 'memory')
    const lines = pasteable(
      Folder.open(dir, { backend: 'software', store: 'memory' }, () => []),
      server.url,
      'is_tbank01',
    )
    for (const line of lines) expect(server.said).toContain(line)
    const { stdout, stderr } = spawnSync('sh', ['-e', '-c', lines.join('\n')], { encoding: 'utf8' })
    expect(`${stdout}${stderr}`.trim().split('\n').at(-1)).toBe('4711')
    const second = spawnServe('--dir', dir, '--port', '0', '--store', 'memory')
    const said = text(second.stderr ?? expect.fail())
    expect((await once(second, 'exit'))[0]).toBe(2)
    expect(await said).toContain(`serve: another serve (process ${server.child.pid}) runs on ${dir}`)
    expect(await server.stop()).toBe(0)
    expect(existsSync(join(dir, 'serve.lock'))).toBe(false)
  })
})

describe('on a Unix socket, behind nginx', () => {
  const memory = ['--store', 'memory']

  async function refused(socket: string): Promise<string> {
    const child = spawnServe('--dir', newDir(), ...memory, '--socket', socket)
    const said = text(child.stderr ?? expect.fail())
    expect((await once(child, 'exit'))[0]).toBe(2)
    return said
  }

  test('its owner and its group may connect; a second start is refused, and one after a power failure is not', async () => {
    const socket = join(parent, 'd1.sock')
    const first = await start(newDir(), ...memory, '--socket', socket)
    expect(statSync(socket).mode & 0o777).toBe(0o660)
    expect(await refused(socket)).toBe(`serve: another process listens on ${socket}; take another --socket\n`)
    await first.kill()
    expect(existsSync(socket)).toBe(true)
    const dir = newDir()
    const url = 'https://issuer.example:9443'
    const second = await start(dir, ...memory, '--socket', socket, '--url', url)
    const said = second.said.join('\n')
    expect(said).toContain(`listening on  ${socket} (HTTP, for nginx alone)`)
    expect(said).toContain(`D1 calls      ${url}, which nginx answers`)
    const folder = Folder.open(dir, { backend: 'software', store: 'memory' }, () => [])
    for (const line of pasteable(folder, url, 'is_tbank01')) expect(second.said).toContain(line)
    expect(folder.readJson('simulator.json')).toMatchObject({ url })
    expect(new X509Certificate(folder.read('server.pem')).checkHost('issuer.example')).toBeDefined()
    expect(await second.stop()).toBe(0)
    expect(existsSync(socket)).toBe(false)
  })

  test('a file that is no socket stays as it is', async () => {
    const file = join(parent, 'mine.txt')
    writeFileSync(file, 'mine')
    expect(await refused(file)).toBe(`serve: --socket: ${file} is there, and is no socket\n`)
    expect(readFileSync(file, 'utf8')).toBe('mine')
  })
})

test('the bundle of the image serves alone, without a node_modules, and stops at SIGTERM', async () => {
  const dir = newDir()
  mkdirSync(dir)
  const made = spawnSync(process.execPath, ['examples/deploy/bundle.mjs', dir, '--offline'], {
    encoding: 'utf8',
  })
  expect(made.stderr).toBe('')
  const args = ['serve.mjs', '--dir', newDir(), '--port', '0', '--store', 'memory', '--health', '0']
  const child = spawn(process.execPath, args, { cwd: dir, stdio: ['ignore', 'ignore', 'pipe'] })
  const ended = once(child, 'exit')
  const said: string[] = []
  const lines = createInterface(child.stderr).on('line', line => said.push(line))
  while (!said.some(line => line.includes('Ctrl-C'))) await once(lines, 'line')
  const [, origin] = said.join('\n').match(/\/readyz on (\S+)/) ?? expect.fail('no health')
  expect((await fetch(`${origin}/readyz`)).status).toBe(200)
  child.kill('SIGTERM')
  expect(await ended).toEqual([0, null])
})

describe('what a start finds in the folder', () => {
  test.each([
    ['TEST-KEYS.json', (folder: Folder) => ownMaterial(folder, 'PEK-STORE')],
    ['d1-jwe-private.jwk', d1PublicJwk],
    ['serve.json', ({ path }: Folder) => openKeyFolder(path)],
  ])('%s that is no JSON is not quoted', (name, read) => {
    const folder = openKeyFolder(newDir())
    const fault = '{"PEK-STORE": S3CRET}'
    folder.write({ name, text: fault })
    expect(() => JSON.parse(fault)).toThrow('S3CRET')
    expect(() => read(folder)).toThrow(new UsageError(`${folder.file(name)} is not JSON`))
  })

  test('a key that is missing is named', () => {
    const folder = openKeyFolder(newDir())
    folder.write({ name: 'TEST-KEYS.json', text: '{}' })
    expect(() => ownMaterial(folder, 'PEK-STORE')).toThrow('TEST-KEYS.json has no PEK-STORE')
  })
})

function openKeyFolder(dir: string): Folder {
  return Folder.open(dir, { backend: 'software', store: 'sqlite' }, () => makeKeys('software'))
}

describe('the first PIN of a card', () => {
  const ref = { issuerId: 'is_tbank01', cardId: 'card-0001' }
  const card: Card = { state: 'active', pan: Pan.from('9999990000000018'), setPinTypes: ['ISO0'] }
  const first = { block: new Uint8Array(8).fill(1), kid: 'PEK-STORE' }
  const own = { block: new Uint8Array(8).fill(2), kid: 'PEK-STORE' }
  const prw = {
    prwValue: 'AB'.repeat(8),
    prwKid: 'PRW-1',
    prwDataSet: 'AB'.repeat(123),
    pcc: '0001',
    sequence: 1,
    profile: { name: 'test', version: '1' },
    provenance: 'illustrative',
  } as const

  const start = (store: Pick<IssuerStore, 'cards' | 'pins'>): Promise<void> =>
    seed(store, ref, card, async () => first)

  test('a start that was killed between the card and its PIN: the next one stores the PIN', async () => {
    await using store = memoryIssuerStore()
    await store.cards.put(ref, card)
    await start(store)
    expect(await store.pins.readBlock(ref)).toEqual(first)
  })

  test('a PIN that was set is left alone by later starts, as a block or as a PRW', async () => {
    await using store = memoryIssuerStore()
    await start(store)
    await store.pins.storeBlock(ref, own)
    await start(store)
    expect(await store.pins.readBlock(ref)).toEqual(own)
    await store.pins.storePrw(ref, prw)
    await start(store)
    expect(await store.pins.readPrw(ref)).toEqual(prw)
    expect(await store.pins.readBlock(ref)).toBeUndefined()
  })

  test('what is known of a card that is there stays as well', async () => {
    await using store = memoryIssuerStore()
    await start(store)
    await store.cards.setState(ref, 'not-active')
    await start(store)
    expect(await store.cards.find(ref)).toMatchObject({ state: 'not-active' })
  })

  test('in a database that another folder has filled: it is said so', async () => {
    const sealed = new BackendError('ERR_BACKEND_FAILED', 'the sealed PAN of the card does not open')
    const store = memoryIssuerStore()
    for (const [fault, said] of [
      [sealed, 'the database was filled from another folder'],
      [new BackendError('ERR_BACKEND_BUSY', 'the database: a lock', { retryable: true }), 'a lock'],
      [new Error('the sealed PAN is lost'), 'is lost'],
    ] as const) {
      const cards = { ...store.cards, find: () => Promise.reject(fault) }
      await expect(seed({ cards, pins: store.pins }, ref, card, async () => first)).rejects.toThrow(said)
    }
  })

  test('a slow start does not put it over a PIN that was set meanwhile', async () => {
    await using store = memoryIssuerStore()
    const find: IssuerStore['cards']['find'] = async () => {
      const found = await store.cards.find(ref)
      // The other replica comes up, and D1 sets a PIN through it.
      await start(store)
      await store.pins.storeBlock(ref, own)
      return found
    }
    await start({ cards: { ...store.cards, find }, pins: store.pins })
    expect(await store.pins.readBlock(ref)).toEqual(own)
  })

  test('a card without a first PIN gets none', async () => {
    await using store = memoryIssuerStore()
    await seed(store, ref, card, async () => undefined)
    expect(await store.cards.find(ref)).toMatchObject({ state: 'active' })
    expect(await store.pins.readBlock(ref)).toBeUndefined()
  })
})

/** Sets and shows a PIN on an ISO0 card, sets one on a SECCOS card. */
async function exercise(caller: Caller, pin: string): Promise<void> {
  const iso0 = cardOf(caller, 'card-0001')
  expect(await caller.setPin(iso0, await caller.iso0(iso0, pin))).toBe(204)
  expect(await caller.getPin(iso0)).toEqual({ status: 200, pin })
  const seccos = cardOf(caller, 'card-0003')
  const counter = await caller.counter(seccos)
  const body = await caller.seccos(seccos, pin, counter)
  for (let i = 0; i < 2; i++) expect(await caller.setPin(seccos, body)).toBe(204)
  expect(await caller.getPin(seccos)).toEqual({ status: 403 })
}

async function story(...args: readonly string[]): Promise<void> {
  const dir = newDir()
  const first = await start(dir, ...args)
  const jwk = readFileSync(join(dir, 'issuer-jwe.jwk'), 'utf8')
  {
    using caller = await openCaller(dir)
    expect(await caller.getPin(cardOf(caller, 'card-0001'))).toEqual({ status: 200, pin: '4711' })
    await exercise(caller, '905238')
  }
  expect(await first.stop('SIGTERM')).toBe(0)
  expect(first.said.at(-1)).toBe('serve: stopping')
  expect(first.said).toContain(`  npm run d1-simulator -- --config ${dir}/simulator.json`)
  const lines = readFileSync(`${dir}.audit.log`, 'utf8').trim().split('\n')
  expect(lines.map(line => JSON.parse(line)['d1.operation'])).toEqual([
    'getToken',
    'getPIN',
    'SetPIN',
    'getPIN',
    'getPINChangeCounter',
    'SetPIN',
    'SetPIN',
    'getPIN',
  ])
  // No line shows a PIN or a card's number. What is chance or time (ids, digests, check values) may have four of its digits.
  const chance = /^time$|[.](request[.]id|request[.]time|token[.]id|sha256|check_value|duration_ms)$/
  const shown = lines.map(line =>
    JSON.stringify(Object.entries(JSON.parse(line)).filter(([name]) => !chance.test(name))),
  )
  for (const secret of ['905238', '4711', '999999000000']) expect(shown.join()).not.toContain(secret)

  const second = await start(dir, ...args)
  expect(readFileSync(join(dir, 'issuer-jwe.jwk'), 'utf8')).toBe(jwk)
  {
    using caller = await openCaller(dir)
    expect(await caller.getPin(cardOf(caller, 'card-0001'))).toEqual({ status: 200, pin: '905238' })
    const { pcc } = await caller.counter(cardOf(caller, 'card-0003'))
    expect(pcc).toBe('0002')
    await exercise(caller, '471100')
  }
  expect(await second.stop('SIGINT')).toBe(0)
}

test('software keys: it serves, stops, and goes on with the same keys and PINs', () => story())

describeSoftHsm('serve on SoftHSM', () => {
  test('a start that was killed before the PIN of its token was written spoils nothing', async () => {
    const dir = newDir()
    await (await start(dir, '--backend', 'pkcs11')).stop()
    for (const name of readdirSync(dir)) {
      if (name === 'softhsm-pin.txt' || name.startsWith('issuer.db')) rmSync(join(dir, name))
    }
    for (let i = 0; i < 2; i++) {
      const server = await start(dir, '--backend', 'pkcs11')
      using caller = await openCaller(dir)
      expect(await caller.getPin(cardOf(caller, 'card-0001'))).toEqual({ status: 200, pin: '4711' })
      await server.stop()
    }
  })

  test('a token that cannot be made is one line, without the PINs that it was to have', async () => {
    const bin = join(parent, 'bin')
    mkdirSync(bin)
    writeFileSync(join(bin, 'softhsm2-util'), '#!/bin/sh\nexit 1\n', { mode: 0o755 })
    const { PATH } = process.env
    process.env['PATH'] = `${bin}:${PATH}`
    const child = spawnServe('--dir', newDir(), '--port', '0', '--backend', 'pkcs11')
    process.env['PATH'] = PATH
    const said = text(child.stderr ?? expect.fail())
    const [code] = await once(child, 'exit')
    expect(code).toBe(1)
    expect(await said).toBe('serve: softhsm2-util has made no token\n')
  })

  test('it serves, stops, and goes on with the same keys and PINs', () => story('--backend', 'pkcs11'))
})

test('what is secret in the folder is nobody else’s to read', async () => {
  const dir = newDir()
  const server = await start(dir)
  await server.stop()
  const open = readdirSync(dir).filter(name => (statSync(join(dir, name)).mode & 0o077) !== 0)
  const expected = [
    'ca.pem',
    'd1.pem',
    'identity.json',
    'issuer-jwe.jwk',
    'other.pem',
    'profile.json',
    'server.pem',
  ]
  expect(open.filter(name => !name.startsWith('issuer.db'))).toEqual(expected)
  expect(statSync(dir).mode & 0o077).toBe(0)
  expect(readFileSync(join(dir, 'TEST-KEYS.json'), 'utf8')).toContain('Test keys in the clear')
})

describe('the end', () => {
  /** A Set PIN whose body has come but for its last byte. */
  async function half(dir: string): Promise<{ finish: () => void; status: Promise<number> }> {
    using caller = await openCaller(dir)
    const card = cardOf(caller, 'card-0001')
    const body = await caller.iso0(card, '123456')
    const read = (name: string): string => readFileSync(join(dir, name), 'utf8')
    const { url, tokenUrl, client } = JSON.parse(read('simulator.json'))
    const tls = { cert: read('d1.pem'), key: read('d1.key'), ca: read('ca.pem') }
    const ask = (target: string, method: string, headers: object): ReturnType<typeof https.request> =>
      https.request(target, { ...tls, agent: false, method, headers: { ...headers } })
    const basic = Buffer.from(`${client.id}:${read(client.secretFile)}`).toString('base64')
    const form = { authorization: `Basic ${basic}`, 'content-type': 'application/x-www-form-urlencoded' }
    const grant = ask(tokenUrl, 'POST', form)
    grant.end('grant_type=client_credentials')
    const [answer] = await once(grant, 'response')
    const { access_token } = JSON.parse(await text(answer))
    const request = ask(`${url}/cms/api/v1/issuers/is_tbank01/cards/card-0001/pin`, 'PUT', {
      authorization: `Bearer ${access_token}`,
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
    })
    const status = once(request, 'response').then(([response]) => response.statusCode)
    await new Promise<void>(resolve => request.write(body.slice(0, -1), () => resolve()))
    return { finish: () => request.end(body.slice(-1)), status }
  }

  test('what is under way is finished, and nothing new is taken', async () => {
    const dir = newDir()
    const server = await start(dir)
    const { finish, status } = await half(dir)
    const stopped = server.stop()
    while (!server.said.includes('serve: stopping')) await new Promise(resolve => setTimeout(resolve, 5))
    await expect(openCaller(dir)).rejects.toThrow('ECONNREFUSED')
    finish()
    expect(await status).toBe(204)
    expect(await stopped).toBe(0)
    await start(dir)
    using caller = await openCaller(dir)
    expect(await caller.getPin(cardOf(caller, 'card-0001'))).toEqual({ status: 200, pin: '123456' })
  })

  test('an audit log that breaks ends it, and what is under way is finished', async () => {
    const dir = newDir()
    // Standard output outlives its errors.
    const child = spawnServe('--dir', dir, '--port', '0', '--audit', '-')
    const ended = once(child, 'exit')
    const said: string[] = []
    const lines = createInterface(child.stderr ?? expect.fail()).on('line', line => said.push(line))
    while (!said.some(line => line.includes('Ctrl-C'))) await once(lines, 'line')
    child.stdout?.resume()
    const { finish, status } = await half(dir)
    status.catch(() => {})
    child.stdout?.destroy()
    // Each gets a token, and writes a line that cannot be written; in the end nobody listens any more.
    const closed = async () => {
      const [caller] = await Promise.allSettled([openCaller(dir)])
      if (caller.status === 'fulfilled') caller.value[Symbol.dispose]()
      return caller.status === 'rejected' && String(caller.reason)
    }
    await expect.poll(closed).toContain('ECONNREFUSED')
    finish()
    expect(await status).toBe(204)
    expect(await ended).toEqual([1, null])
    expect(said.at(-1)).toBe('serve: the audit log cannot be written: write EPIPE')
    await start(dir)
    using caller = await openCaller(dir)
    expect(await caller.getPin(cardOf(caller, 'card-0001'))).toEqual({ status: 200, pin: '123456' })
  })

  test('a second signal ends it at once', async () => {
    const dir = newDir()
    const server = await start(dir)
    const { status } = await half(dir)
    status.catch(() => {})
    const stopped = server.stop()
    while (!server.said.includes('serve: stopping')) await new Promise(resolve => setTimeout(resolve, 5))
    // For a second after the first, another counts as the same: npm hands a Ctrl-C on.
    const again = setInterval(() => server.child.kill('SIGTERM'), 100)
    expect(await stopped).toBe(1)
    clearInterval(again)
    await expect(status).rejects.toThrow('socket hang up')
    expect(existsSync(join(dir, 'serve.json'))).toBe(true)
  })
})
