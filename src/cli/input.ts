/** Input from a file or standard input, bounded. */
import { parseJsonObject } from '../base/json.js'
import { type Io, UsageError } from './command.js'
import { MAX_BYTES, readRegularFile, type Unreadable } from './regular-file.js'

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
