/** Reading a file that is one: not a folder, a device or a pipe, which may give without end or wait for ever. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { bufferOf, secretBytes } from '../base/bytes.js'

/** Nothing that the program reads is longer: 1 MiB. */
export const MAX_BYTES = 1_048_576

/** Why there is nothing to read; the message names the file and shows nothing of it. */
export class Unreadable extends Error {
  override readonly name: string = 'Unreadable'
}

/** What was read, and whether anybody but its owner may read it. */
export interface RegularFile {
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
