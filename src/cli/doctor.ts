/**
 * `doctor`: opens a token as the library does, tries it with public test keys of its own, judges the keys that are there, times each
 * operation, says what that means for D1, and writes a report. What it put into the token is deleted again.
 */
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { performance } from 'node:perf_hooks'
import type { Backend } from '../backend/backend.js'
import { operationsOf } from '../backend/key.js'
import { isIssuerPinError, requireOurs } from '../base/errors.js'
import type { Capabilities, Health, KeyUsage } from '../index.js'
import type { KeyStore, ListedKey, Pkcs11Options } from '../pkcs11.js'
import { backendContract, CONTRACT_KEYS } from '../testing.js'
import { requireNew } from './bring-in.js'
import { type Command, type ExitCode, type Io, readArguments, UsageError } from './command.js'
import {
  groupOptions,
  OPENING,
  type Opening,
  requireOnePlace,
  TOKEN_HELP,
  TOKEN_OPTIONS,
  tokenOptions,
} from './open.js'
import { reason, show, TRICKS, tableOf } from './shown.js'
import { optionsOf, text, type Values } from './verbs.js'

/** One row of the report: an operation, how the token does it, what that means. */
interface OperationRow {
  readonly operation: string
  readonly how: string
  readonly meaning: string
  /** Median of a call, in milliseconds. */
  readonly ms?: number | undefined
}

/** What `doctor` found. */
interface DoctorReport {
  readonly made: string
  readonly module: string
  readonly token: string
  readonly capabilities: Capabilities
  readonly health: Health
  readonly operations: readonly OperationRow[]
  readonly keys: readonly ListedKey[]
  /** Of the contract's cases on keys that they share. */
  readonly contract: {
    readonly passed: number
    /** Test keys that the token does not take, and why. */
    readonly refused: readonly string[]
    /** Cases that need what the token does not offer. */
    readonly impossible: readonly string[]
    readonly failed: readonly string[]
    readonly notTried: string | undefined
  }
  readonly seconds: number
  /** Of these, this process worked so long: the rest is the token's, or other programs'. */
  readonly processorSeconds: number
}

/** A P-256 point (RFC 7518, appendix C), uncompressed. */
const POINT = Buffer.concat([
  Buffer.of(4),
  Buffer.from('gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0', 'base64url'),
  Buffer.from('SLW_xSffzlPWrHEVI30DHM_4egVwt3NQqeUD7nMFpps', 'base64url'),
])
const ROUNDS = 15
/** Longest wait for a session, for a call and for opening, where no option says how long: a bound of this command's own, no default. */
const LONGEST_WAIT_MS = 120_000

type Timed = (backend: Backend) => Promise<() => Promise<unknown>>

const bound =
  (
    kid: string,
    usage: KeyUsage,
    call: (operations: ReturnType<typeof operationsOf>) => Promise<unknown>,
  ): Timed =>
  async backend => {
    const key = await backend.bind({ kid, usage })
    return () => call(operationsOf(key))
  }

const message = new Uint8Array(64)

/** What is timed, by operation. */
const TIMED: Readonly<Record<string, Timed>> = {
  'TDEA PIN block': bound('PEK-CLOSED', 'pin-encryption', one => one.encipher(new Uint8Array(8))),
  'MAC iso9797-1-alg1': bound('MAC-1', 'cbc-mac', one =>
    one.mac({ algorithm: 'iso9797-1-alg1', padding: 2 }, message),
  ),
  'MAC iso9797-1-alg3': bound('MAC-3', 'retail-mac', one =>
    one.mac({ algorithm: 'iso9797-1-alg3', padding: 2 }, message),
  ),
  'MAC cmac': bound('CMAC-A', 'cmac', one => one.mac({ algorithm: 'cmac', padding: 'none' }, message)),
  'MAC hmac-sha256': bound('HMAC', 'hmac', one =>
    one.mac({ algorithm: 'hmac-sha256', padding: 'none' }, message),
  ),
  'key agreement': bound('JWE-BOB', 'jwe-key-agreement', one =>
    one.deriveContentKey({ ephemeralPublicKey: POINT, otherInfo: new Uint8Array(0), length: 32 }),
  ),
  'signing ES256': bound('SIGN-1', 'jwt-signing', one => one.sign(message)),
  random: async backend => () => backend.randomBytes(32),
}

/** What each operation is for, in D1's terms. */
function rowsOf(capabilities: Capabilities, times: ReadonlyMap<string, number>): OperationRow[] {
  const { tdea, macs, keyAgreement, signing, reencipher, random } = capabilities
  const row = (operation: string, how: string, meaning: string): OperationRow => ({
    operation,
    how,
    meaning,
    ms: times.get(operation),
  })
  const agreement =
    keyAgreement === 'none' ? 'none' : keyAgreement === 'token-extract' ? 'composed' : 'native'
  return [
    row(
      'TDEA PIN block',
      tdea === 'none' ? 'none' : 'native',
      tdea === 'none' ? 'no Get PIN and no Set PIN from this token' : 'Get PIN and Set PIN can be answered',
    ),
    row(
      're-encipherment',
      reencipher === 'inside' ? 'native' : 'composed',
      reencipher === 'inside'
        ? 'PIN blocks move between keys inside the token'
        : 'PIN blocks move through host memory: keys bound with hostDecipher, or not at all',
    ),
    row(
      'key agreement',
      agreement,
      agreement === 'none'
        ? 'Set PIN: the JWE key must be in software'
        : `Set PIN: JWEs open with the key in the token${agreement === 'composed' ? ', Z in host memory' : ''}`,
    ),
    ...Object.entries(macs).map(([name, plan]) =>
      row(
        `MAC ${name}`,
        plan,
        plan === 'none'
          ? 'a PRW or MAC of this kind needs a software key'
          : `PRW and MAC of this kind (SECCOS)${plan === 'composed' ? ': out of CBC calls, see composedMac' : ''}`,
      ),
    ),
    row(
      'signing ES256',
      signing,
      signing === 'none' ? 'the client assertion needs a software key' : 'tokens for D1 (client assertion)',
    ),
    row('random', random === 'none' ? 'none' : 'native', 'PINs, fillers, nonces'),
  ]
}

/** Puts the contract's public test keys into the token, under labels of their own. */
async function provision(store: KeyStore, prefix: string): Promise<string[]> {
  const refused: string[] = []
  for (const { hostDecipher, ...key } of CONTRACT_KEYS) {
    try {
      const host = hostDecipher === true && key.usage === 'pin-encryption' ? { hostDecipher } : {}
      await store.importKey({ ...key, ...host, kid: `${prefix}${key.kid}` })
    } catch (error) {
      refused.push(`${key.kid} (${key.usage}, ${key.algorithm}): ${reason(error).replaceAll(prefix, '')}`)
    }
  }
  return refused
}

/** One that cannot be deleted keeps none of the others in the token. */
async function clean(store: KeyStore, prefix: string): Promise<void> {
  const left: unknown[] = []
  for (const { kid, id } of await store.listKeys()) {
    if (!kid.startsWith(prefix)) continue
    await store.deleteKey({ kid, ...(id !== '' && { id }) }).catch(error => left.push(error))
  }
  if (left.length > 0) throw left[0]
}

async function tryContract(
  open: () => Promise<Backend>,
  refused: readonly string[],
  progress: (text: string) => void,
): Promise<Pick<DoctorReport['contract'], 'passed' | 'refused' | 'impossible' | 'failed'>> {
  let ownKeys = false
  const contract = backendContract({
    open: keys => {
      if (keys === CONTRACT_KEYS) return open()
      // Cases with keys of their own would fill the token anew, each: what they say does not count here.
      ownKeys = true
      return Promise.reject(new TypeError('not here'))
    },
  })
  const impossible: string[] = []
  const failed: string[] = []
  let passed = 0
  for (const [i, { name, run }] of contract.cases.entries()) {
    progress(`contract: ${i + 1} of ${contract.cases.length}`)
    ownKeys = false
    let failure: { readonly error: unknown } | undefined
    try {
      await run()
    } catch (error) {
      failure = { error }
    }
    if (ownKeys) continue
    if (failure === undefined) {
      passed++
      continue
    }
    const { error } = failure
    const cannot =
      isIssuerPinError(error) &&
      ['ERR_KEY_NOT_FOUND', 'ERR_UNSUPPORTED_BY_TOKEN', 'ERR_UNSUPPORTED'].includes(error.code)
    const kid = refused
      .map(line => line.replace(/ .*$/s, ''))
      .find(known => name.includes(known) || String(error).includes(known))
    if (cannot || kid !== undefined) impossible.push(name)
    else failed.push(`${name}: ${reason(error)}`)
  }
  await contract.close()
  return { passed, refused, impossible, failed }
}

async function timesOf(backend: Backend): Promise<Map<string, number>> {
  const times = new Map<string, number>()
  for (const [operation, prepare] of Object.entries(TIMED)) {
    try {
      const call = await prepare(backend)
      const taken: number[] = []
      for (let i = 0; i < ROUNDS; i++) {
        const start = performance.now()
        await call()
        taken.push(performance.now() - start)
      }
      // The median of an odd number: the last of its lower half.
      times.set(operation, Math.max(...taken.sort((a, b) => a - b).slice(0, Math.ceil(ROUNDS / 2))))
    } catch (error) {
      // What the token cannot do is in the table already.
      requireOurs(error)
    }
  }
  return times
}

async function examine(
  options: Pkcs11Options,
  io: Io,
  opening: Opening,
  testKeys: boolean,
): Promise<DoctorReport> {
  const [start, worked] = [performance.now(), process.cpuUsage()]
  const progress = (what: string): void => io.progress?.(what)
  progress('opening')
  let [capabilities, health]: [Capabilities?, Health?] = []
  {
    await using backend = await opening.backend(options)
    capabilities = backend.capabilities()
    health = await backend.health()
  }
  const prefix = `doctor-${randomBytes(3).toString('hex')}-`
  await using store = await opening.store({ ...options, importClearKeys: testKeys })
  progress('keys')
  const keys = await store.listKeys()
  let contract: DoctorReport['contract'] = {
    passed: 0,
    refused: [],
    impossible: [],
    failed: [],
    notTried: 'no test keys: --no-test-keys',
  }
  let times = new Map<string, number>()
  if (testKeys) {
    try {
      const refused = await provision(store, prefix)
      const locations = Object.fromEntries(CONTRACT_KEYS.map(({ kid }) => [kid, { label: prefix + kid }]))
      // A slow token is no reason for a case to fail: how long it takes is in the table.
      const patient = {
        sessions: { waitMs: LONGEST_WAIT_MS, ...options.sessions },
        timeouts: { callMs: LONGEST_WAIT_MS, openMs: LONGEST_WAIT_MS, ...options.timeouts },
        keys: locations,
      }
      const open = (): Promise<Backend> => opening.backend({ ...options, ...patient })
      if (refused.length === CONTRACT_KEYS.length) {
        contract = { ...contract, notTried: `the token takes no clear test key: ${refused[0]}` }
      } else {
        contract = { ...(await tryContract(open, refused, progress)), notTried: undefined }
        await using backend = await open()
        progress('times')
        times = await timesOf(backend)
      }
    } finally {
      await clean(store, prefix)
    }
  }
  return {
    made: new Date(Date.now()).toISOString(),
    module: options.module,
    token: typeof options.token === 'string' ? options.token : JSON.stringify(options.token),
    capabilities,
    health,
    operations: rowsOf(capabilities, times),
    keys,
    contract,
    seconds: tenths(performance.now() - start),
    processorSeconds: tenths(process.cpuUsage(worked).user / 1000),
  }
}

const tenths = (ms: number): number => Math.round(ms / 100) / 10

const cells = (row: OperationRow): string[] => [
  row.operation,
  row.how,
  row.ms === undefined ? '-' : row.ms.toFixed(2),
  row.meaning,
]

function verdictOf({ health, contract, keys }: DoctorReport): string {
  const broken = keys.filter(({ problem }) => problem !== undefined).length
  const parts = [
    health.ok ? 'the token is well' : 'the token is NOT well',
    contract.notTried ?? `${contract.passed} contract cases hold, ${contract.failed.length} do not`,
    `${keys.length} keys, ${broken} of them cannot be bound as they are`,
  ]
  return `${parts.join('; ')}.`
}

function markdown(report: DoctorReport): string {
  const { made, module, token, capabilities, health, operations, keys, contract } = report
  const time = `${report.seconds} s, ${report.processorSeconds} s of them processor time of this process, the library included`
  const table = (head: readonly string[], rows: readonly (readonly string[])[]): string[] => [
    `| ${head.join(' | ')} |`,
    `|${head.map(() => '---').join('|')}|`,
    ...rows.map(row => `| ${row.map(cell => cell.replaceAll('|', '\\|')).join(' | ')} |`),
  ]
  return [
    `# Token report`,
    '',
    `Made ${made} by \`issuer-pin-crypto doctor\` in ${time}. Module \`${module}\`, token \`${token}\`.`,
    '',
    verdictOf(report),
    '',
    '## Operations',
    '',
    ...table(['operation', 'done', 'ms a call', 'what it means'], operations.map(cells)),
    '',
    `Health: ${health.ok ? 'ok' : 'NOT ok'}: ${health.detail}. TDEA: ${capabilities.tdea}.`,
    '',
    ...capabilities.notes.map(note => `- ${note}`),
    '',
    '## Keys',
    '',
    ...table(
      ['kid', 'usage', 'algorithm', 'KCV', 'origin', 'judgement'],
      keys.map(key => [
        key.kid,
        key.usage ?? '?',
        key.algorithm ?? '?',
        key.checkValue === undefined ? '-' : `${key.checkValue.value} (${key.checkValue.method})`,
        key.origin,
        key.problem ?? 'ok',
      ]),
    ),
    '',
    '## Contract',
    '',
    contract.notTried ?? `${contract.passed} cases hold on public test keys, which were deleted again.`,
    '',
    ...contract.failed.map(line => `- FAILED ${line}`),
    ...contract.refused.map(line => `- the token does not take ${line}`),
    ...(contract.impossible.length === 0
      ? []
      : [
          `- ${contract.impossible.length} cases need what the token does not offer; the JSON report names them`,
        ]),
    '',
  ]
    .map(oneLine)
    .join('\n')
}

/** Names and notes come from tokens of others: none of them ends a line of the report, or hides one. */
const oneLine = (text: string): string => text.replaceAll(TRICKS, '?')

/** `issuer-pin-crypto doctor`. */
export function doctorCommand(opening: Opening = OPENING): Command {
  return {
    name: 'doctor',
    summary: 'try a PKCS#11 token, judge its keys, time it, and report what D1 gets',
    help: `usage: issuer-pin-crypto doctor --module LIBRARY --token LABEL [options]

Opens the token as the library does, puts public test keys into it, runs the
contract on them, times each operation, deletes them again, and judges the keys
that are there. Of a group it tries each token, and says which keys differ.
Exit code 1 where something does not hold.

  --report FILE     the report as Markdown: no secret in it, to hand on; a new
  --report-json FILE  file, as what is there is not written over
  --no-test-keys    put nothing into the token: probe and judge only

${TOKEN_HELP}`,
    run: async (args, io): Promise<ExitCode> => {
      const options = { ...TOKEN_OPTIONS, ...optionsOf('report', 'report-json', 'no-test-keys') }
      const values = readArguments(args, { options, positionals: 0 }).values as Values
      requireOnePlace(values)
      const testKeys = values['no-test-keys'] !== true
      for (const option of ['report', 'report-json']) {
        const path = text(values, option)
        if (path !== undefined) requireNew(path, option)
      }
      const isGroup = values['group'] !== undefined
      const members = isGroup ? (await groupOptions(values, io)).members : [await tokenOptions(values, io)]
      const reports: DoctorReport[] = []
      for (const member of members) reports.push(await examine(member, io, opening, testKeys))
      const differences = isGroup ? differencesOf(reports) : []
      const shown = isGroup ? { members: reports, differences } : reports[0]
      const paper = [
        ...reports.map(markdown),
        ...differences.map(line => oneLine(`- DIFFERENT ${line}`)),
      ].join('\n')
      write(values, 'report', paper)
      write(values, 'report-json', `${JSON.stringify(shown, null, 2)}\n`)
      const words = [
        ...reports.flatMap(report => [
          ...(isGroup ? [`token ${report.token}:`] : []),
          ...linesOf(report, io),
        ]),
        ...differences.map(line => `DIFFERENT ${line}`),
      ]
      show(values, io, shown, words.join('\n'))
      const isWell = reports.every(({ health, contract }) => health.ok && contract.failed.length === 0)
      return isWell && differences.length === 0 ? 0 : 1
    },
  }
}

function linesOf(report: DoctorReport, io: Io): string[] {
  const { operations, keys, contract } = report
  return [
    tableOf(['operation', 'done', 'ms', 'what it means for D1'], operations.map(cells), io),
    ...contract.failed.map(line => `FAILED ${line}`),
    ...keys.flatMap(({ kid, problem }) => (problem === undefined ? [] : [`key ${kid}: ${problem}`])),
    verdictOf(report),
  ]
}

/** Of the tokens of a group: each key that not all of them have, or that is another one in some of them. */
function differencesOf(reports: readonly DoctorReport[]): string[] {
  const kids = new Set(reports.flatMap(({ keys }) => keys.map(({ kid }) => kid)))
  return [...kids].flatMap(kid => {
    const shown = reports.map(({ keys }) => {
      const found = keys.filter(key => key.kid === kid)
      // A token says in no order what it holds.
      const each = found.map(({ algorithm, checkValue }) => `${algorithm} ${checkValue?.value}`).sort()
      return each.join(', ') || 'no key'
    })
    return new Set(shown).size === 1
      ? []
      : [`key ${kid}: ${reports.map(({ token }, i) => `${token}: ${shown[i]}`).join('; ')}`]
  })
}

function write(values: Values, option: string, content: string): void {
  const path = text(values, option)
  if (path === undefined) return
  try {
    writeFileSync(path, content, { flag: 'wx' })
  } catch (error) {
    throw new UsageError(`--${option} cannot be written: ${String((error as NodeJS.ErrnoException).code)}`)
  }
}
