/** What a command of the program is, and how its arguments are read: strictly, with node:util. */
import { type ParseArgsConfig, parseArgs } from 'node:util'

/** The call was wrong: exit code 2. */
export class UsageError extends Error {
  override readonly name: string = 'UsageError'
  readonly code = 'ERR_USAGE' as const
}

/** The world outside, so that tests can stand in for it. */
export interface Io {
  readonly out: (text: string) => void
  readonly err: (text: string) => void
  /** All of standard input. */
  readonly readStdin: () => Promise<Buffer>
  /** A secret typed at the terminal, without echo; undefined where there is no terminal. */
  readonly askSecret: (question: string) => Promise<string | undefined>
  readonly env: Readonly<Record<string, string | undefined>>
}

/** 0: fine. 1: something was found, or failed. 2: the call was wrong. */
export type ExitCode = 0 | 1 | 2

export interface Command {
  readonly name: string
  /** One line. */
  readonly summary: string
  /** Shown by `--help`: the call, its options, an example. */
  readonly help: string
  readonly run: (args: readonly string[], io: Io) => Promise<ExitCode>
}

type Options = NonNullable<ParseArgsConfig['options']>
type Read<O extends Options> = ReturnType<
  typeof parseArgs<{ args: string[]; options: O; strict: true; allowPositionals: true }>
>

/** What stands on a command line. Errors: `ERR_USAGE`; of an argument that is not wanted nothing is repeated. */
export function readArguments<O extends Options>(
  args: readonly string[],
  { options, positionals }: { readonly options: O; readonly positionals: number },
): Read<O> {
  const read = attempt(() => parseArgs({ args: [...args], options, strict: true, allowPositionals: true }))
  if (read.positionals.length > positionals) {
    throw new UsageError(`at most ${positionals} argument${positionals === 1 ? '' : 's'} beside the options`)
  }
  return read as Read<O>
}

function attempt<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    // Node's first sentence names the option; what follows is advice.
    throw new UsageError((error as Error).message.replace(/\.(?:\s.*)?$/s, ''))
  }
}

/** An option that must be there. */
export function requireOption(value: string | undefined, name: string): string {
  if (value === undefined || value === '') throw new UsageError(`--${name} is missing`)
  return value
}
