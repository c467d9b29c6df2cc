/**
 * What a command of the program is, how its arguments and its input are read (strictly, with node:util; bounded), and the
 * process as it sees it: streams, environment, and a prompt that shows nothing of what is typed.
 */

import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { type ParseArgsConfig, parseArgs } from 'node:util'
import { bufferOf, concatBytes, secretBytes } from '../base/bytes.js'
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
  /** A secret typed at the terminal, without echo; undefined where there is no terminal. */
  readonly askSecret: (question: string) => Promise<string | undefined>
  /** A secret is taken out of it by {@link takeSecret}. */
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

/** What stands on a command line. Errors: `ERR_USAGE`; of an argument that is not wanted nothing is repeated. */
export function readArguments<O extends Options>(
  args: readonly string[],
  { options, positionals }: { readonly options: O; readonly positionals: number },
): Read<O> {
  const read = attempt(() => parseArgs({ args: [...args], options, strict: true, allowPositionals: true }))
  if (read.positionals.length > positionals) {
    throw new UsageError(`at most ${positionals} argument${positionals === 1 ? '' : 's'} besides the options`)
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

/* Input from a file or standard input, bounded. */

/** The text of a file, or of standard input where the path is `-` or absent. Errors: `ERR_USAGE`. */
export async function readInput(path: string | undefined, io: Io): Promise<string> {
  if (path !== undefined && path !== '-') return readFile(path)
  const bytes = await io.readStdin()
  if (bytes.length > MAX_BYTES) throw new UsageError(`the input is longer than ${MAX_BYTES} bytes`)
  return bytes.toString('utf8')
}

function readFile(path: string): string {
  try {
    // Not by its name: what was to go in by standard input, and came as an argument, is not repeated.
    return readRegularFile(path, 'the file').bytes.toString('utf8')
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

const ENTER: readonly string[] = ['\r', '\n', '\u0004']
const INTERRUPT = '\u0003'
const BACKSPACE: readonly string[] = ['\b', '\u007f']

/** A terminal, as far as the prompt needs one. */
export interface Terminal {
  readonly isTTY?: boolean
  setRawMode?(on: boolean): unknown
  on(event: 'data', listener: (chunk: Buffer) => void): unknown
  off(event: 'data', listener: (chunk: Buffer) => void): unknown
  resume(): unknown
  pause(): unknown
}

/**
 * Asks for a line without echo; undefined where there is no terminal, or where it is interrupted. The question goes
 * where `show` puts it, so that standard output stays clean.
 */
export function askSecret(
  question: string,
  terminal: Terminal,
  show: (text: string) => void,
): Promise<string | undefined> {
  if (terminal.isTTY !== true) return Promise.resolve(undefined)
  show(question)
  terminal.setRawMode?.(true)
  return new Promise(resolve => {
    let typed = ''
    const finish = (answer: string | undefined): void => {
      terminal.off('data', take)
      terminal.setRawMode?.(false)
      terminal.pause()
      show('\n')
      resolve(answer)
    }
    const take = (chunk: Buffer): void => {
      for (const character of chunk.toString('utf8')) {
        if (ENTER.includes(character) || character === INTERRUPT) {
          finish(character === INTERRUPT ? undefined : typed)
          return
        }
        typed = BACKSPACE.includes(character) ? typed.slice(0, -1) : typed + character
      }
    }
    terminal.on('data', take)
    terminal.resume()
  })
}

/** All of a stream, up to a little more than any command takes. */
export async function readAll(stream: AsyncIterable<Buffer>, maxBytes = 2_097_152): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of stream) {
    chunks.push(chunk)
    length += chunk.length
    if (length > maxBytes) break
  }
  return bufferOf(concatBytes(...chunks))
}

/** Of a terminal: to the line's begin, and what was there is cleared. */
const ANEW = '\r\x1b[K'

/**
 * A secret out of the environment, which is taken from it: child processes and diagnostic reports (`process.report`) do not
 * get it, and where Node can leave the environment out of reports altogether (22.13 and later), it does from now on. What the
 * kernel shows of how the process was started (`/proc/PID/environ`) stays as it was, for its owner and root.
 */
export function takeSecret({ env, report }: Pick<Io, 'env' | 'report'>, name: string): string | undefined {
  const secret = Object.hasOwn(env, name) ? env[name] : undefined
  delete env[name]
  if (report !== undefined && 'excludeEnv' in report) Reflect.set(report, 'excludeEnv', true)
  return secret
}

/** The streams, environment and signals of a process. */
export function processIo(
  host: Pick<NodeJS.Process, 'stdin' | 'stdout' | 'stderr' | 'env' | 'once'> & {
    readonly report?: Io['report']
  },
): Io {
  const { stdin, stdout, stderr, env, report } = host
  return {
    ...(stdout.isTTY === true && stdout.columns > 0 && { columns: stdout.columns }),
    ...(stderr.isTTY === true && { progress: text => void stderr.write(`${ANEW}${text}`) }),
    interrupted: () => {
      const controller = new AbortController()
      for (const signal of ['SIGINT', 'SIGTERM'] as const) host.once(signal, () => controller.abort())
      return controller.signal
    },
    out: text => void stdout.write(`${text}\n`),
    err: text => void stderr.write(`${text}\n`),
    readStdin: () => readAll(stdin),
    askSecret: question => askSecret(question, stdin, text => void stderr.write(text)),
    env,
    ...(report !== undefined && { report }),
  }
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
    if (bytes.length > MAX_BYTES) throw new Unreadable(`${name} is longer than ${MAX_BYTES} bytes`)
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
