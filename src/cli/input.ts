/** Input from a file or standard input, bounded. */
import { readFileSync, statSync } from 'node:fs'
import { parseJsonObject } from '../json.js'
import { type Io, UsageError } from './command.js'

const MAX_BYTES = 1_048_576

/** The text of a file, or of standard input where the path is `-` or absent. Errors: `ERR_USAGE`. */
export async function readInput(path: string | undefined, io: Io): Promise<string> {
  const bytes = path === undefined || path === '-' ? await io.readStdin() : readFile(path)
  if (bytes.length > MAX_BYTES) throw new UsageError(`the input is longer than ${MAX_BYTES} bytes`)
  return bytes.toString('utf8')
}

function readFile(path: string): Buffer {
  try {
    if (statSync(path).size > MAX_BYTES) throw new UsageError(`${path} is longer than ${MAX_BYTES} bytes`)
    return readFileSync(path)
  } catch (error) {
    if (error instanceof UsageError) throw error
    const reason = error instanceof Error && 'code' in error ? String(error.code) : 'unreadable'
    throw new UsageError(`${path} cannot be read: ${reason}`)
  }
}

/** Text as a JSON object, read strictly. Errors: `ERR_USAGE`, which does not quote it. */
export function readJson(text: string, what: string): Record<string, unknown> {
  const object = parseJsonObject(text)
  if (object === undefined) throw new UsageError(`${what} is not a JSON object, or has a member twice`)
  return object
}
