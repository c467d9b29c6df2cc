/**
 * The matrix: modules by bindings by executors. In each cell, a process of its own, the backend contract runs as far as the
 * token goes; what it cannot do must be refused with ERR_UNSUPPORTED_BY_TOKEN, and where a cell cannot run the table says why.
 *
 * `npm run matrix:pkcs11` runs all of it and writes `docs/measurements/pkcs11-matrix.md`; the tests run the contract's core in
 * a few cells. With an argument this file is one cell.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openPkcs11 } from '../src/backend/pkcs11/backend.js'
import { type Starter, startFrom } from '../src/backend/pkcs11/executor/channels.js'
import {
  type Backend,
  BackendError,
  type ErrorCode,
  isIssuerPinError,
  type OpenerOptions,
} from '../src/index.js'
import { type KeyStoreOptions, openKeyStore, type Pkcs11Options } from '../src/pkcs11.js'
import { backendContract, CONTRACT_KEYS, type ContractKey } from '../src/testing.js'
import { scratchFolder } from '../test/support/scratch.js'
import { bundleHost } from './faults/shim.js'
import { makeDatabase } from './nss.js'
import { PATIENT } from './provision.js'
import { onToken, strayKey } from './raw.js'
import { makeToken, SOFTHSM_MODULE } from './softhsm.js'

export const BINDINGS = ['pkcs11js', 'koffi'] as const
export const EXECUTORS = ['inline', 'threads', 'process'] as const

/** A module as a cell opens it; what is no data is made in the cell. */
export interface Site {
  readonly name: string
  readonly options: Omit<Pkcs11Options, 'pin'> & { readonly module: string }
  readonly pin: string
  readonly environment: Readonly<Record<string, string>>
  /** The machine has one of it: another suite's tests may be at it. */
  readonly shared?: true
}

export interface Cell {
  readonly site: Site
  readonly binding: (typeof BINDINGS)[number]
  readonly executor: (typeof EXECUTORS)[number]
  /** Every how manieth case runs: 1 for all. */
  readonly step: number
  readonly host: string
}

export interface Outcome {
  readonly passed: number
  /** Cases with a key that the token does not take. */
  readonly without: number
  readonly failed: readonly string[]
  /** What the token cannot do, as `capabilities()` has it. */
  readonly lacks: readonly string[]
  /** Keys that it does not take. */
  readonly untaken: readonly string[]
  /** Why the cell could not run. */
  readonly unsupported?: string
  readonly ms: number
}

const PKCS11 = '/usr/lib/x86_64-linux-gnu'
const children: ChildProcess[] = []

/** The modules of this machine (or those with these names), each ready to be opened, or why it is not. */
export async function makeSites(
  only?: readonly string[],
): Promise<(Site | { readonly name: string; readonly why: string })[]> {
  const makers: readonly (readonly [string, () => Site | Promise<Site>])[] = [
    ['SoftHSM', softHsm],
    ['NSS softokn', nss],
    ['openCryptoki', openCryptoki],
    ['p11-kit proxy', p11Proxy],
    ['p11-kit remote', p11Remote],
    ['pkcs11-spy', spy],
  ]
  const sites: (Site | { name: string; why: string })[] = []
  for (const [name, make] of makers) {
    if (only?.includes(name) === false) continue
    try {
      sites.push({ ...(await make()), name })
    } catch (error) {
      sites.push({ name, why: error instanceof Error ? error.message : 'unknown' })
    }
  }
  return sites
}

/** Ends what {@link makeSites} has started. */
export function endSites(): void {
  for (const child of children.splice(0)) child.kill('SIGTERM')
}

function softOf(label: string): Site {
  const { pin, module, token } = makeToken(label)
  if (SOFTHSM_MODULE === undefined) throw new Error('SoftHSM is not installed')
  const environment = { SOFTHSM2_CONF: process.env['SOFTHSM2_CONF'] ?? '' }
  return { name: '', options: { module, token, composedMac: true }, pin: String(pin?.()), environment }
}

const softHsm = (): Site => softOf('matrix softhsm')

function nss(): Site {
  const { pin, importClearKeys: _clear, ...options } = makeDatabase()
  if (options.module === '') throw new Error('NSS softokn is not installed')
  return { name: '', options, pin: String(pin?.()), environment: {} }
}

function spy(): Site {
  const site = softOf('matrix spy')
  const module = present(`${PKCS11}/pkcs11-spy.so`, 'opensc')
  const environment = { ...site.environment, PKCS11SPY: site.options.module, PKCS11SPY_OUTPUT: '/dev/null' }
  return { ...site, options: { ...site.options, module }, environment }
}

function p11Proxy(): Site {
  const site = softOf('matrix proxy')
  const module = present(`${PKCS11}/p11-kit-proxy.so`, 'p11-kit')
  const home = scratchFolder('ipc-p11-')
  const modules = join(home, 'pkcs11/modules')
  mkdirSync(modules, { recursive: true })
  writeFileSync(join(home, 'pkcs11/pkcs11.conf'), 'user-config: only\n')
  writeFileSync(join(modules, 'matrix.module'), `module: ${site.options.module}\n`)
  return {
    ...site,
    options: { ...site.options, module },
    environment: { ...site.environment, XDG_CONFIG_HOME: home },
  }
}

async function p11Remote(): Promise<Site> {
  const site = softOf('matrix remote')
  const module = present(`${PKCS11}/pkcs11/p11-kit-client.so`, 'p11-kit-modules')
  const socket = join(scratchFolder('ipc-p11-'), 'socket')
  const child = spawn(
    'p11-kit',
    ['server', '-f', '-n', socket, '--provider', site.options.module, 'pkcs11:token=matrix%20remote'],
    { stdio: 'ignore' },
  )
  children.push(child)
  for (let i = 0; i < 1500 && !existsSync(socket); i++) await new Promise(resolve => setTimeout(resolve, 20))
  if (!existsSync(socket)) throw new Error('p11-kit server did not come up')
  return {
    ...site,
    options: { ...site.options, module, vendor: 'p11-kit' },
    environment: { ...site.environment, P11_KIT_SERVER_ADDRESS: `unix:path=${socket}` },
  }
}

const SHARED_LOCK = '/run/issuer-pin-crypto-shared-token.lock'

/** Does this while nobody else on the machine does. The lock goes with its holder, which ends with its input: with this process at the latest. */
async function alone<T>(work: () => T | Promise<T>): Promise<T> {
  const holder = spawn('flock', [SHARED_LOCK, 'sh', '-c', 'echo held; exec cat'], {
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  await once(holder, 'spawn')
  await once(holder.stdout, 'data')
  try {
    return await work()
  } finally {
    holder.stdin.end()
  }
}

/** Its software token is one for the machine: a daemon that runs as root, and a token that is emptied. */
async function openCryptoki(): Promise<Site> {
  const module = present('/usr/lib/x86_64-linux-gnu/opencryptoki/libopencryptoki.so.0', 'opencryptoki')
  if (process.getuid?.() !== 0) throw new Error('its daemon pkcsslotd needs root')
  return await alone(() => makeOpenCryptoki(module))
}

function makeOpenCryptoki(module: string): Site {
  const run = (command: string, args: readonly string[], input = ''): string => {
    const { status, stdout, stderr, error } = spawnSync(command, args, { input, encoding: 'utf8' })
    if (error !== undefined) throw new Error(`${command} is not installed`)
    if (status !== 0) throw new Error(`${command} ${args[0]}: ${`${stdout}${stderr}`.trim()}`)
    return stdout
  }
  // Refuses where it runs already.
  spawnSync('pkcsslotd', [])
  const slot = '3'
  const [soPin, pin] = ['76543210', '24681357']
  const shown = run('pkcsconf', ['-t', '-c', slot])
  // One that this function has set up before is taken again; somebody else's is left alone.
  if (!shown.includes('TOKEN_INITIALIZED')) {
    run('pkcsconf', ['-I', '-c', slot, '-S', '87654321'], 'matrix\n')
    run('pkcsconf', ['-P', '-c', slot, '-S', '87654321', '-n', soPin])
    run('pkcsconf', ['-u', '-c', slot, '-S', soPin, '-n', '00000000'])
    run('pkcsconf', ['-p', '-c', slot, '-U', '00000000', '-n', pin])
  } else if (!/Label: matrix\s/.test(shown)) throw new Error('its software token is in use')
  return {
    name: '',
    options: { module, token: 'matrix', composedMac: true, vendor: 'opencryptoki', accept: ['copyable'] },
    pin,
    environment: {},
    shared: true,
  }
}

function present(path: string, from: string): string {
  if (!existsSync(path)) throw new Error(`${path} is not there (package ${from})`)
  return path
}

/** Runs one cell in a process of its own. */
export function runCell(cell: Cell): Promise<Outcome> {
  return cell.site.shared === true ? alone(() => runProcess(cell)) : runProcess(cell)
}

function runProcess(cell: Cell): Promise<Outcome> {
  return new Promise(resolve => {
    const started = performance.now()
    const child = spawn(
      process.execPath,
      ['--import', 'tsx', new URL(import.meta.url).pathname, JSON.stringify(cell)],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, ...cell.site.environment, TSX_TSCONFIG_PATH: 'tsconfig.test.json' },
        cwd: new URL('..', import.meta.url).pathname,
      },
    )
    let out = ''
    let err = ''
    child.stdout.on('data', (chunk: Buffer) => {
      out += chunk.toString()
    })
    child.stderr.on('data', (chunk: Buffer) => {
      err += chunk.toString()
    })
    child.once('close', (status, signal) => {
      const ms = performance.now() - started
      const line = out.split('\n').find(text => text.startsWith('{'))
      if (line !== undefined) resolve({ ...(JSON.parse(line) as Outcome), ms })
      else {
        const why = `the process ended (${signal ?? status}): ${/\w*Error[^\n]*/.exec(err)?.[0] ?? err.trim().slice(-200)}`
        resolve({ passed: 0, without: 0, failed: [why], lacks: [], untaken: [], ms })
      }
    })
  })
}

/** The keys that a set holds, under labels that begin with its prefix. */
interface Provision {
  readonly site: Site
  readonly binding: Cell['binding']
  readonly prefix: string
  readonly keys: readonly ContractKey[]
}

/** Brings the keys in; gives those that the token does not take. */
async function provisionSet({ site, binding, prefix, keys }: Provision): Promise<string[]> {
  const options: KeyStoreOptions = {
    ...site.options,
    binding,
    executor: 'inline',
    importClearKeys: true,
    pin: () => site.pin,
  }
  const untaken: string[] = []
  await using store = await openKeyStore(options)
  for (const { kid, id } of await store.listKeys()) {
    if (kid.startsWith(prefix)) await store.deleteKey({ kid, id })
  }
  const kids = new Set<string>()
  for (const key of keys) {
    const label = `${prefix}${key.kid}`
    const isTdea = !key.algorithm.startsWith('aes')
    const translation = key.usage === 'pin-encryption' && isTdea && options.translateInToken === true
    if (kids.has(key.kid)) {
      const { importClearKeys: _clear, ...plain } = options
      await onToken(plain, ({ binding: p11, session }) => {
        p11.C_CreateObject(session, strayKey(label, [], Buffer.from(String(key.material), 'hex')))
      })
    } else {
      try {
        await store.importKey({ ...key, kid: label, ...(translation && { translation }) })
      } catch (error) {
        // Another refusal is one that a case of the contract wants to see.
        if (!isIssuerPinError(error) || error.code !== 'ERR_UNSUPPORTED_BY_TOKEN') throw error
        untaken.push(key.kid)
      }
    }
    kids.add(key.kid)
  }
  return untaken
}

/** The same in a process of its own. */
async function runElsewhere(provision: Provision): Promise<string[]> {
  const { stdout, stderr } = spawnSync(
    process.execPath,
    ['--import', 'tsx', new URL(import.meta.url).pathname, JSON.stringify({ provision })],
    { encoding: 'utf8' },
  )
  const line = stdout.split('\n').find(text => text.startsWith('{'))
  if (line === undefined) throw new Error(stderr.slice(-300))
  const { untaken, code, text } = JSON.parse(line) as { untaken?: string[]; code?: ErrorCode; text?: string }
  if (code !== undefined) throw new BackendError(code, `the token refused a key: ${text ?? code}`)
  return untaken ?? []
}

/** In the cell: the contract over this module, binding and executor. */
async function contractIn({ site, binding, executor, step, host }: Cell): Promise<Outcome> {
  const started = performance.now()
  const starter: Starter = startFrom(() => host)
  const options: KeyStoreOptions = {
    ...site.options,
    binding,
    executor,
    pin: () => site.pin,
    ...PATIENT,
    sessions: { ...PATIENT.sessions, max: 2 },
  }
  const untaken = new Set<string>()

  /** Labels begin with a prefix of the set: some modules have one token a process. */
  async function openSet(
    prefix: string,
    keys: readonly ContractKey[],
    opener: OpenerOptions = {},
  ): Promise<Backend> {
    const provision: Provision = { site, binding, prefix, keys }
    // Finalised a second time in a process, openCryptoki 3.8.1 closes a descriptor that by then is somebody else's.
    const elsewhere = site.options.vendor === 'opencryptoki' && executor === 'process'
    const refused = elsewhere ? await runElsewhere(provision) : await provisionSet(provision)
    for (const kid of refused) untaken.add(kid)
    const all = [...CONTRACT_KEYS.map(({ kid }) => kid), ...keys.map(({ kid }) => kid)]
    const locations = Object.fromEntries(all.map(kid => [kid, { label: prefix + kid }]))
    return openPkcs11({ ...options, ...opener, keys: locations }, undefined, { starter })
  }

  const contract = backendContract({
    open: (keys, opener) => openSet(keys === CONTRACT_KEYS ? 'shared ' : 'scratch ', keys, opener),
  })
  const failed: string[] = []
  let passed = 0
  let without = 0
  for (const [i, { name, run }] of contract.cases.entries()) {
    if (i % step !== 0) continue
    try {
      await run()
      passed++
    } catch (error) {
      const message = error instanceof Error ? error.message.split('\n')[0] : 'unknown'
      const [, kid = ''] = /key (\S+) is not in this token/.exec(message ?? '') ?? []
      // A case with a key that this token does not take has nothing to say about it.
      if (untaken.has(kid)) without++
      else failed.push(`${name}: ${message}`)
    }
  }
  await contract.close().catch(() => undefined)
  await using backend = await openSet('scratch ', [])
  const { macs, keyAgreement, signing, tdea, random } = backend.capabilities()
  const abilities = { tdea, ...macs, keyAgreement, signing, random }
  const lacks = Object.entries(abilities).flatMap(([name, way]) => (way === 'none' ? [name] : []))
  return { passed, without, failed, lacks, untaken: [...untaken], ms: performance.now() - started }
}

/** All cells, one after the other, with a line for each on the terminal. */
export async function runMatrix(
  step: number,
  only?: (cell: Cell) => boolean,
): Promise<[Omit<Cell, 'site'> & { site: string }, Outcome][]> {
  const host = bundleHost()
  const results: [Omit<Cell, 'site'> & { site: string }, Outcome][] = []
  try {
    for (const site of await makeSites()) {
      for (const binding of BINDINGS) {
        for (const executor of EXECUTORS) {
          const head = { binding, executor, step, host }
          if ('why' in site) {
            results.push([{ ...head, site: site.name }, unsupported(site.why)])
            continue
          }
          const cell: Cell = { ...head, site }
          if (only !== undefined && !only(cell)) continue
          const outcome = await runCell(cell)
          results.push([{ ...head, site: site.name }, outcome])
          console.log(
            `${site.name}, ${binding}, ${executor}: ${said(outcome)} (${Math.round(outcome.ms)} ms)`,
          )
          for (const failure of outcome.failed) console.log(`  ${failure}`)
        }
      }
    }
  } finally {
    endSites()
  }
  return results
}

function unsupported(why: string): Outcome {
  return { passed: 0, without: 0, failed: [], lacks: [], untaken: [], unsupported: why, ms: 0 }
}

function said({ passed, without, failed, lacks, untaken, unsupported: why }: Outcome): string {
  if (why !== undefined) return `unsupported: ${why}`
  return [
    `${passed} pass`,
    ...(failed.length > 0 ? [`${failed.length} FAIL`] : []),
    ...(without > 0 ? [`${without} unsupported: no key ${untaken.join(', ')}`] : []),
    ...(lacks.length > 0 ? [`refused with ERR_UNSUPPORTED_BY_TOKEN: ${lacks.join(', ')}`] : []),
  ].join('; ')
}

/** The table, in Markdown. */
export function tableOf(results: Awaited<ReturnType<typeof runMatrix>>): string {
  const heads = BINDINGS.flatMap(binding => EXECUTORS.map(executor => `${binding}, ${executor}`))
  const rows = new Map<string, Map<string, string>>()
  for (const [{ site, binding, executor }, outcome] of results) {
    const row = rows.get(site) ?? new Map<string, string>()
    row.set(`${binding}, ${executor}`, said(outcome))
    rows.set(site, row)
  }
  const lines = [...rows].map(
    ([site, row]) => `| ${site} | ${heads.map(head => row.get(head) ?? 'not run').join(' | ')} |`,
  )
  return [`| | ${heads.join(' | ')} |`, `|---|${heads.map(() => '---').join('|')}|`, ...lines].join('\n')
}

const [, file, argument, way, step = '6'] = process.argv
if (file === new URL(import.meta.url).pathname) {
  if (argument?.startsWith('{') === true) {
    const asked = JSON.parse(argument) as Cell | { readonly provision: Provision }
    const answer =
      'provision' in asked
        ? await provisionSet(asked.provision).then(
            untaken => ({ untaken }),
            (error: unknown) => ({
              code: isIssuerPinError(error) ? error.code : 'ERR_BACKEND_FAILED',
              text: error instanceof Error ? error.message : 'no error',
            }),
          )
        : await contractIn(asked)
    // A thread or a child that is still there keeps nobody.
    process.stdout.write(`${JSON.stringify(answer)}\n`, () => process.exit(0))
  } else {
    const wanted = (cell: Cell): boolean =>
      cell.site.name.includes(argument ?? '') && (way === undefined || way === '' || way === cell.executor)
    const results = await runMatrix(Number(step), wanted)
    const table = tableOf(results)
    console.log(table)
    if (argument === undefined || argument === '') {
      const page = `# PKCS#11 matrix: modules by bindings by executors

${new Date().toISOString().slice(0, 10)}, \`npm run matrix:pkcs11\`, Node ${process.version}. In each cell, a process of its own, the every ${step}th case of the backend
contract (${results.map(([, { passed }]) => passed).reduce((a, b) => Math.max(a, b), 0)}; \`-- '' '' 1\` runs all) over two sessions; what a token cannot do must be refused with \`ERR_UNSUPPORTED_BY_TOKEN\`, which counts as passed. p11-kit and pkcs11-spy
stand in front of SoftHSM.

${table}
`
      writeFileSync(new URL('../docs/measurements/pkcs11-matrix.md', import.meta.url), page)
    }
    if (results.some(([, { failed }]) => failed.length > 0)) process.exitCode = 1
  }
}
