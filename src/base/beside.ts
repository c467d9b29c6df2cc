/** Programs of our own for worker threads: files beside the library, which a bundler does not see and does not take along. */
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { BackendError } from './errors.js'

/** Which program a thread runs, and what to do where it is not there. */
interface ProgramBeside {
  /** Its name, as in `dist`. */
  readonly name: string
  /** The caller's `import.meta.url`. */
  readonly base: string
  /** For the message: what does without it. */
  readonly otherwise: string
}

/** Its path; `ERR_UNSUPPORTED` where it is not beside the program. */
export function fileBeside({ name, base, otherwise }: ProgramBeside): string {
  const file = fileURLToPath(new URL(name, base))
  if (existsSync(file)) return file
  throw new BackendError(
    'ERR_UNSUPPORTED',
    `${name} is not beside the program: copy it there from dist of issuer-pin-crypto, or ${otherwise}`,
  )
}

/** Which warnings of Node's nobody wants to read. */
const QUIET = /^--(?:no-warnings|disable-warning=[\w-]+)$/

/**
 * A thread that runs a file, with no copy of this process's environment or arguments: there may be secrets in them. It is
 * told which warnings the process does not write, for it would write them there.
 */
export function startBeside(file: string): Worker {
  return new Worker(file, { execArgv: process.execArgv.filter(text => QUIET.test(text)), argv: [], env: {} })
}
