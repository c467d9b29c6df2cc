/**
 * What a command of the program is, what it sees of the world, and how its arguments and its input are read: strictly, with
 * node:util; bounded.
 */

import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { type ParseArgsConfig, parseArgs } from 'node:util'
import { bufferOf, secretBytes, wipe, withWiped } from '../base/bytes.js'
import { parseJsonObject } from '../base/json.js'

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
  /** A secret typed at the terminal, without echo; undefined where there is no terminal. `ERR_ABORTED` after Ctrl-C. */
  readonly askSecret: (question: string) => Promise<string | undefined>
  /** From now on until what it gives is called, the terminal shows nothing of what is typed between two secrets either. */
  readonly hush?: () => () => void
  /** A secret is taken out of it by `takeSecret`. */
  readonly env: Record<string, string | undefined>
  /** Node's diagnostic reports, which carry the environment. */
  readonly report?: object
  /** How wide the terminal is; absent where there is none. */
  readonly columns?: number
  /** Shows how far something is, in place of what it showed before; absent where there is no terminal. */
  readonly progress?: (text: string) => void
  /** From now on, fires where the user asks the program to end (Ctrl-C, SIGTERM) in place of ending it; once. */
  readonly interrupted?: () => AbortSignal
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

/** What is on a command line. Errors: `ERR_USAGE`; of what is not wanted nothing is repeated. */
export function readArguments<O extends Options>(
  args: readonly string[],
  { options, positionals }: { readonly options: O; readonly positionals: number },
): Read<O> {
  const { read, tokens } = attempt(args, options)
  if (read.positionals.length > positionals) {
    throw new UsageError(`at most ${positionals} argument${positionals === 1 ? '' : 's'} besides the options`)
  }
  const seen = new Set<string>()
  for (const token of tokens) {
    if (token.kind !== 'option') continue
    if (seen.has(token.name) && options[token.name]?.multiple !== true)
      throw new UsageError(`--${token.name} is there twice`)
    seen.add(token.name)
  }
  return read as Read<O>
}

function attempt(args: readonly string[], options: Options) {
  const given = { args: [...args], options, allowPositionals: true, tokens: true } as const
  try {
    const read = parseArgs({ ...given, strict: true })
    const { tokens } = read
    return { read: read as ReturnType<typeof parseArgs>, tokens }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    // Node's first sentence names the option; what follows is advice.
    if (code !== 'ERR_PARSE_ARGS_UNKNOWN_OPTION') throw new UsageError(message.replace(/\.(?:\s.*)?$/s, ''))
    // Its name may be a secret in the wrong place.
    const { tokens } = parseArgs({ ...given, strict: false })
    const [name = ''] = tokens.flatMap(one =>
      one.kind === 'option' && !Object.hasOwn(options, one.name) ? one.name : [],
    )
    throw new UsageError(`there is an option that is not one of this command's: ${advice(name, options)}`)
  }
}

function advice(name: string, options: Options): string {
  if (Object.hasOwn(options, `${name}-env`))
    return `a secret is no argument, use --${name}-env or --${name}-fd`
  const meant = Object.keys(options).find(known => isSlip(name, known))
  return meant === undefined ? 'see --help' : `did you mean --${meant}?`
}

/** Whether a name is another with one letter wrong, too many or missing, or two exchanged. */
function isSlip(name: string, known: string): boolean {
  let start = 0
  while (start < name.length && name[start] === known[start]) start++
  const [left, right] = [name.slice(start), known.slice(start)]
  return (
    left.slice(1) === right.slice(1) ||
    left.slice(1) === right ||
    left === right.slice(1) ||
    (left.slice(2) === right.slice(2) && left[0] === right[1] && left[1] === right[0])
  )
}

/** An option that must be there. */
export function requireOption(value: string | undefined, name: string): string {
  if (value === undefined || value === '') throw new UsageError(`--${name} is missing`)
  return value
}

/* Input from a file or standard input, bounded. */

/** Standard input is there once: whoever has read it left nothing for a second reader. */
const READ = new WeakSet<Io>()

/** The text of a file, or of standard input where the path is `-` or absent. Errors: `ERR_USAGE`. */
export async function readInput(path: string | undefined, io: Io): Promise<string> {
  // Samples and values of a PRW have PINs in them.
  return withWiped(await readInputBytes(path, io), bytes => bytes.toString('utf8'))
}

/** The same as the bytes that are there, whatever they mean: for a message that is enciphered or authenticated. */
export async function readInputBytes(path: string | undefined, io: Io): Promise<Buffer> {
  if (path !== undefined && path !== '-') return readFile(path)
  if (READ.has(io)) throw new UsageError('standard input is there once, and two things are to come from it')
  READ.add(io)
  const bytes = await io.readStdin()
  if (bytes.length <= MAX_BYTES) return bytes
  wipe(bytes)
  throw new UsageError(`the input is longer than ${MAX_BYTES} bytes`)
}

function readFile(path: string): Buffer {
  try {
    // Not by its name: what was to go in by standard input, and came as an argument, is not repeated.
    return readRegularFile(path, 'the file').bytes
  } catch (error) {
    throw new UsageError((error as Unreadable).message)
  }
}

/** Text as a JSON object, read strictly. Errors: `ERR_USAGE`, which does not quote it. */
export function readJson(text: string, what: string): Record<string, unknown> {
  const object = parseJsonObject(text)
  if (object === undefined) throw new UsageError(`${what} is not a JSON object, or has a member twice`)
  return object
}

/* Reading a file that is one: not a folder, a device or a pipe, which may give without end or wait for ever. */

/** Nothing that the program reads is longer: 1 MiB. */
const MAX_BYTES = 1_048_576

/** Why there is nothing to read; the message names the file and shows nothing of it. */
class Unreadable extends Error {
  override readonly name: string = 'Unreadable'
}

/** What was read, and whether anybody but its owner may read it. */
interface RegularFile {
  readonly bytes: Buffer
  readonly readByOthers: boolean
}

/**
 * All of a file of at most {@link MAX_BYTES}. `name` is what messages call it. Errors: {@link Unreadable}.
 *
 * @example
 *     readRegularFile('zpk.hex').bytes.toString()
 */
export function readRegularFile(path: string, name: string = path): RegularFile {
  const file = open(path, name)
  try {
    // Of what is open, not of the path: it may name another thing by now.
    const stat = fstatSync(file)
    if (!stat.isFile()) throw new Unreadable(`${name} is not a regular file`)
    const bytes = readUpTo(file, MAX_BYTES + 1)
    if (bytes.length > MAX_BYTES) {
      wipe(bytes)
      throw new Unreadable(`${name} is longer than ${MAX_BYTES} bytes`)
    }
    return { bytes, readByOthers: (stat.mode & 0o077) !== 0 }
  } finally {
    closeSync(file)
  }
}

/** Without O_NONBLOCK, a pipe that nobody writes to would not even open. */
function open(path: string, name: string): number {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    throw new Unreadable(`${name} cannot be read: ${String((error as NodeJS.ErrnoException).code)}`)
  }
}

/** A file's stated size may be 0 (under /proc) or old, so it is read until it ends. */
function readUpTo(file: number, limit: number): Buffer {
  const buffer = bufferOf(secretBytes(limit))
  let length = 0
  for (;;) {
    const read = readSync(file, buffer, length, limit - length, null)
    length += read
    if (read === 0 || length === limit) return buffer.subarray(0, length)
  }
}
