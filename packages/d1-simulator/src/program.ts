/** The command line: arguments in, lines and an exit code out; of an error one line, never a stack. */
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { GROUPS } from './case.js'
import { MEMBER_OPTIONS, memberHelp } from './members.js'
import { ConfigError } from './problems.js'
import { jsonReport, type Lines, linesFor, progressLine, summarize, summaryLine } from './report.js'
import { BACK, CASES, chooseCases, fullName, simulateD1 } from './run.js'
import type { ConfigSource } from './setup.js'

/** Where a run says what it has to say. */
export interface Output {
  readonly out: (text: string) => void
  readonly err: (text: string) => void
  /** Shows how far a run is, in place of what it showed before; absent where there is no terminal. */
  readonly progress?: (text: string) => void
}

/** 0: all passed. 1: something failed, or was not run. 2: the call or the configuration is wrong. */
export type ExitCode = 0 | 1 | 2

const HELP = `usage: d1-simulator [--config FILE] [MEMBERS] [--only GROUP]… [--json] [--allow-not-run]

Plays Thales D1 against an issuer's service: calls Get PIN, Set PIN, Get PIN Change Counter and the token endpoint as D1
does, and as nobody should; checks every answer against the contract. TEST systems only: it changes the PINs of the
cards in the configuration (those that can be set as ISO0 get theirs back, after Ctrl-C as well) and sends what a
firewall may not like. No PIN, PAN, key or token is printed.

  --config         the configuration (docs/guides/simulator.md)
  --only           one group, or one case as 'group: case'; may be there several times. Groups:
                   ${GROUPS.slice(0, 6).join(', ')},
                   ${GROUPS.slice(6).join(', ')}
  --json           the results as one JSON document at the end, in place of a line for each as it comes
  --allow-not-run  exit code 0 although cases could not be run with this configuration
  --version        which simulator this is

MEMBERS take the place of members of the configuration, or of the whole of it. Their paths are relative to the working
directory, those in the configuration to its folder. Secrets are files.

${memberHelp()}

Exit codes: 0 all passed; 1 something failed, or was not run; 2 the call or the configuration is wrong.`

class UsageError extends Error {
  readonly code = 'ERR_USAGE' as const
}

const MEMBERS: readonly string[] = Object.keys(MEMBER_OPTIONS)
const OPTIONS = {
  config: { type: 'string' },
  only: { type: 'string', multiple: true },
  json: { type: 'boolean' },
  'allow-not-run': { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean', short: 'V' },
} as const

const NUMBERS = /[0-9](?:[ _-]?[0-9]){11,}|[0-9A-Fa-f]{16,}/g

type Values = ReturnType<typeof parseArgs<{ options: typeof OPTIONS; strict: true }>>['values']

/** Of an argument that is not wanted nothing is repeated. */
function readArguments(args: readonly string[]): Values & Readonly<Record<string, unknown>> {
  const options = { ...OPTIONS, ...Object.fromEntries(MEMBERS.map(name => [name, { type: 'string' }])) }
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      options,
      strict: true,
      allowPositionals: true,
    })
    if (positionals.length > 0) throw new UsageError('there are no arguments besides the options')
    return values
  } catch (error) {
    // Node's first sentence names the option; what follows is advice.
    // The name of an option may be a PAN or a key in the wrong place.
    const [said = ''] = (error as Error).message.split(/\.(?:\s|$)/)
    throw new UsageError(said.replaceAll(NUMBERS, '••').replaceAll(/[\p{Cc}\p{Cf}]/gu, '?'))
  }
}

function readOnly(names: readonly string[] = GROUPS): readonly string[] {
  const known = [...GROUPS, ...CASES.map(fullName)]
  if (names.every(name => known.includes(name))) return names
  throw new UsageError(`--only takes one of ${GROUPS.join(', ')}, or a case as 'group: case'`)
}

function given(value: string | undefined, name: string): string {
  if (value === undefined || value === '') throw new UsageError(`--${name} is missing`)
  return value
}

/** The file, and members besides it or in its place. */
function readSource({ config, ...values }: Values & Readonly<Record<string, unknown>>): ConfigSource {
  const members: Record<string, string> = {}
  for (const name of MEMBERS) {
    const text = values[name]
    if (typeof text === 'string') members[name] = given(text, name)
  }
  const isEnough = config === undefined && Object.keys(members).length > 0
  return { config: isEnough ? undefined : given(config, 'config'), members }
}

/** Runs a command line (without `node` and script) and gives the exit code. It never rejects. */
export async function program(
  args: readonly string[],
  output: Output,
  { signal }: { readonly signal?: AbortSignal } = {},
): Promise<ExitCode> {
  try {
    const values = readArguments(args)
    if (values.help !== true && values.version !== true) return await run(values, output, signal)
    output.out(values.help === true ? HELP : versionOf())
    return 0
  } catch (error) {
    const isKnown = error instanceof UsageError || error instanceof ConfigError
    // The message of any other may hold anything.
    output.err(isKnown ? `${error.code}: ${error.message}` : `ERR_UNEXPECTED: ${nameOf(error)}`)
    return isKnown ? 2 : 1
  }
}

/** The version of the package: its manifest is one folder up, of what was built and of the source. */
function versionOf(): string {
  const found: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
  return String(Reflect.get(Object(found), 'version'))
}

function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : typeof error
}

async function run(
  values: Values & Readonly<Record<string, unknown>>,
  { out, err, progress }: Output,
  signal: AbortSignal | undefined,
): Promise<ExitCode> {
  const only = readOnly(values.only)
  const source = readSource(values)
  const cases = [...chooseCases(only), BACK]
  let lines: Lines | undefined
  let done = 0
  progress?.(progressLine(done, cases.length))
  const results = await simulateD1({
    ...source,
    only,
    ...(signal && { signal }),
    warn: text => err(`warning: ${text}`),
    onResult: result => {
      if (values.json !== true) {
        if (lines === undefined) {
          lines = linesFor(cases)
          out(lines.header)
        }
        out(lines.row(result))
      }
      done++
      progress?.(progressLine(done, cases.length, `${result.group}: ${result.name}`))
    },
  }).finally(() => progress?.(''))
  const summary = summarize(results)
  out(values.json === true ? jsonReport(results) : summaryLine(summary))
  if (signal?.aborted === true) {
    err('ERR_INTERRUPTED: the cases after the last one were not run')
    return 1
  }
  const complete = summary.notRun === 0 || values['allow-not-run'] === true
  return summary.failed === 0 && summary.passed > 0 && complete ? 0 : 1
}

/** What of a process the program needs; `node:process` is one. */
export interface ProgramProcess {
  readonly argv: readonly string[]
  readonly stdout: ProgramStream
  readonly stderr: ProgramStream
  readonly once: (signal: 'SIGINT' | 'SIGTERM', listener: () => void) => unknown
  readonly exit: (code: number) => unknown
  exitCode?: number | string | null | undefined
}

interface ProgramStream {
  readonly isTTY?: boolean
  readonly on: (event: 'error', listener: () => void) => unknown
  readonly write: (text: string) => unknown
}

/** Of a terminal: to the line's begin, and what was there is cleared. */
const CLEARED = '\r\x1b[K'

/** Runs the program in a process: its arguments, its streams, its signals and its exit code. */
export async function runIn(process: ProgramProcess): Promise<void> {
  const { stdout, stderr } = process
  // A reader that has seen enough (`| head`) is no reason for a stack.
  stdout.on('error', () => process.exit(1))

  // Once: the case under way ends, and the PINs are set back. Twice ends the process at once.
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort())

  let shown = false
  const write = (stream: ProgramStream, text: string): void => {
    if (shown) stderr.write(CLEARED)
    shown = false
    stream.write(text)
  }
  const progress = (text: string): void => {
    write(stderr, text)
    shown = text !== ''
  }
  const output: Output = {
    out: text => write(stdout, `${text}\n`),
    err: text => write(stderr, `${text}\n`),
    ...(stderr.isTTY === true && { progress }),
  }
  // Until it has ended: a process that runs out of things to wait for has not done what it was asked.
  process.exitCode = 1
  // Not process.exit: what has been written may still be on its way.
  process.exitCode = await program(process.argv.slice(2), output, { signal: stop.signal })
}
