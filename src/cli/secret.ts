/**
 * How a secret comes in: typed without echo, from a file descriptor, or from a variable of the environment; never as an argument,
 * which everybody on the machine can read.
 */
import { readSync } from 'node:fs'
import { isatty } from 'node:tty'
import { bufferOf, secretBytes, wipe } from '../base/bytes.js'
import { type Io, UsageError } from './command.js'
import { text, type Values } from './verbs.js'

const MAX_SECRET = 4096

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

/** The secret of a variable, which must be there: `ERR_USAGE`, by the name of the option that names it. */
export function secretOf(io: Io, variable: string, option: string): string {
  const secret = takeSecret(io, variable)
  if (secret === undefined || secret === '')
    throw new UsageError(`${option}: there is no such variable in the environment`)
  return secret
}

/** Whether a secret is going to be typed. */
export function isTyped(name: string, values: Values): boolean {
  return text(values, `${name}-fd`) === undefined && text(values, `${name}-env`) === undefined
}

/** A secret: from a descriptor, a variable, or the terminal. Errors: `ERR_USAGE`, which shows nothing of it; `ERR_ABORTED`. */
export async function readSecret(name: string, question: string, values: Values, io: Io): Promise<string> {
  const descriptor = text(values, `${name}-fd`)
  const variable = text(values, `${name}-env`)
  if (descriptor !== undefined && variable !== undefined)
    throw new UsageError(`--${name}-fd and --${name}-env are two places: name one`)
  if (descriptor !== undefined) return readDescriptor(name, descriptor)
  if (variable !== undefined) return secretOf(io, variable, `--${name}-env`)
  const typed = await io.askSecret(`${question}: `)
  if (typed === undefined)
    throw new UsageError(`there is no terminal to ask for the ${name}: use --${name}-fd or --${name}-env`)
  if (typed === '') throw new UsageError(`nothing was typed for the ${name}`)
  return typed
}

/** A key, or a part of one, in hex: people write it in groups, so blanks do not count. Errors: those of {@link readSecret}. */
export async function readKeyHex(name: string, question: string, values: Values, io: Io): Promise<string> {
  return (await readSecret(name, question, values, io)).replaceAll(/\s/g, '')
}

function readDescriptor(name: string, descriptor: string): string {
  if (!/^\d{1,4}$/.test(descriptor)) throw new UsageError(`--${name}-fd must be the number of an open file`)
  if (isatty(Number(descriptor)))
    throw new UsageError(
      `--${name}-fd is a terminal, which shows what is typed: without it you are asked, and nothing is shown`,
    )
  const bytes = bufferOf(secretBytes(MAX_SECRET))
  try {
    let length = 0
    for (;;) {
      const read = readSync(Number(descriptor), bytes, length, MAX_SECRET - length, null)
      length += read
      if (read === 0 || length === MAX_SECRET) break
    }
    const secret = bytes.toString('utf8', 0, length).replace(/\r?\n$/, '')
    if (secret === '' || length === MAX_SECRET)
      throw new UsageError(`--${name}-fd gives no secret, or too much`)
    return secret
  } catch (error) {
    if (error instanceof UsageError) throw error
    throw new UsageError(`--${name}-fd cannot be read`)
  } finally {
    wipe(bytes)
  }
}
