/** Which command is meant, and what becomes of errors: a line on standard error and an exit code, never a stack. */
import { readFileSync } from 'node:fs'
import { isIssuerPinError } from '../base/errors.js'
import { AUDIT } from './audit.js'
import { type Command, type ExitCode, type Io, UsageError } from './command.js'
import { jweCommand, macCommand, pinCommand, prwCommand } from './compute.js'
import { doctorCommand } from './doctor.js'
import { inspectCommand, PROFILE } from './inspect.js'
import { keyCommand } from './key.js'
import { onboardCommand } from './onboard.js'
import { PROBE } from './probe.js'
import { fitted, TRICKS } from './shown.js'
import { storageCommand } from './storage.js'
import { tokenCommand } from './token.js'

/** All commands. */
export const COMMANDS: readonly Command[] = [
  AUDIT,
  doctorCommand(),
  inspectCommand(),
  jweCommand(),
  keyCommand(),
  macCommand(),
  onboardCommand(),
  pinCommand(),
  PROBE,
  PROFILE,
  prwCommand(),
  storageCommand(),
  tokenCommand(),
]

const HELP: readonly string[] = ['--help', '-h']
const VERSION: readonly string[] = ['--version', '-V']

/** The text of `--help`. */
function overview(commands: readonly Command[]): string {
  const width = Math.max(...commands.map(({ name }) => name.length))
  const lines = commands.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`)
  return [
    'usage: issuer-pin-crypto COMMAND …',
    '',
    ...lines,
    '',
    'issuer-pin-crypto COMMAND --help says more; --version. Exit codes: 0 fine,',
    '1 something was found or failed, 2 the call was wrong.',
  ].join('\n')
}

/** Runs a command line (without `node` and script) and gives the exit code. It never rejects. */
export async function main(
  args: readonly string[],
  io: Io,
  commands: readonly Command[] = COMMANDS,
): Promise<ExitCode> {
  const [name, ...rest] = args
  try {
    if (name === undefined || HELP.includes(name)) {
      const show = name === undefined ? io.err : io.out
      show(fitted(overview(commands), io))
      return name === undefined ? 2 : 0
    }
    if (VERSION.includes(name)) {
      io.out(versionOf())
      return 0
    }
    const command = commands.find(candidate => candidate.name === name)
    if (command === undefined) {
      throw new UsageError(`there is no such command; there are ${commands.map(one => one.name).join(', ')}`)
    }
    if (rest.some(argument => HELP.includes(argument))) {
      io.out(fitted(command.help, io))
      return 0
    }
    return await command.run(rest, io)
  } catch (error) {
    io.err(lineOf(error))
    return isWrongCall(error) ? 2 : 1
  }
}

/** What the command finds wrong with the call, or the library with what it was handed. */
function isWrongCall(error: unknown): boolean {
  return error instanceof UsageError || (isIssuerPinError(error) && error.code === 'ERR_ARGUMENT')
}

/** `code: message` of the errors whose messages hold no secret; of any other, its name. */
function lineOf(error: unknown): string {
  if (error instanceof UsageError || isIssuerPinError(error)) {
    return `${error.code}: ${error.message}`.replaceAll(NUMBERS, '••').replaceAll(TRICKS, '?')
  }
  return `ERR_UNEXPECTED: ${error instanceof Error ? error.name : typeof error}`
}

/** Messages name keys by the kid that was given, and a PAN or a key may have been typed in its place. */
const NUMBERS = /[0-9](?:[ _-]?[0-9]){11,}|[0-9A-Fa-f]{16,}/g

/** The version of the package that this file belongs to: built, it is one folder up; from its source, two. */
function versionOf(): string {
  for (const path of ['../package.json', '../../package.json']) {
    try {
      const found: unknown = JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'))
      const { name, version } = Object(found) as { name?: unknown; version?: unknown }
      if (name === 'issuer-pin-crypto' && typeof version === 'string') return version
    } catch {
      // Not here.
    }
  }
  return 'unknown'
}
