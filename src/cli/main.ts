/** Which command is meant, and what becomes of errors: a line on standard error and an exit code, never a stack. */
import { isIssuerPinError } from '../base/errors.js'
import { type Command, type ExitCode, type Io, UsageError } from './command.js'
import { INSPECT, PROFILE } from './inspect.js'
import { PROBE } from './probe.js'
import { storageCommand } from './storage.js'
import { tokenCommand } from './token.js'

/** All commands. */
export const COMMANDS: readonly Command[] = [INSPECT, PROFILE, PROBE, storageCommand(), tokenCommand()]

const HELP: readonly string[] = ['--help', '-h']

/** The text of `--help`. */
function overview(commands: readonly Command[]): string {
  const width = Math.max(...commands.map(({ name }) => name.length))
  const lines = commands.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`)
  return [
    'usage: issuer-pin-crypto COMMAND …',
    '',
    ...lines,
    '',
    'issuer-pin-crypto COMMAND --help says more. Exit codes: 0 fine, 1 something was found or failed, 2 wrong call.',
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
      show(overview(commands))
      return name === undefined ? 2 : 0
    }
    const command = commands.find(candidate => candidate.name === name)
    if (command === undefined) {
      throw new UsageError(`there is no such command; there are ${commands.map(one => one.name).join(', ')}`)
    }
    if (rest.some(argument => HELP.includes(argument))) {
      io.out(command.help)
      return 0
    }
    return await command.run(rest, io)
  } catch (error) {
    io.err(lineOf(error))
    return error instanceof UsageError ? 2 : 1
  }
}

/** `code: message` of the errors whose messages hold no secret; of any other, its name. */
function lineOf(error: unknown): string {
  if (error instanceof UsageError || isIssuerPinError(error)) {
    return `${error.code}: ${error.message}`
  }
  return `ERR_UNEXPECTED: ${error instanceof Error ? error.name : typeof error}`
}
