/** The memory of another process of ours, read through /proc. */
import { closeSync, openSync, readFileSync, readSync } from 'node:fs'

/** Why the memory of a process cannot be read here; undefined where it can. */
export function cannotReadMemory(pid: number): string | undefined {
  if (process.platform !== 'linux') return 'there is no /proc'
  try {
    closeSync(openSync(`/proc/${pid}/mem`, 'r'))
    return undefined
  } catch (error) {
    return `/proc/${pid}/mem does not open (${String(Object(error).code)}): allow ptrace of children`
  }
}

const CHUNK = 16 * 1024 * 1024

/** How often each pattern stands in the writable memory of the process. */
export function scanMemory(
  pid: number,
  patterns: Readonly<Record<string, Uint8Array>>,
): Record<string, number> {
  const counts = Object.fromEntries(Object.keys(patterns).map(name => [name, 0]))
  const longest = Math.max(...Object.values(patterns).map(pattern => pattern.length))
  const mem = openSync(`/proc/${pid}/mem`, 'r')
  const buffer = Buffer.alloc(CHUNK + longest)
  try {
    for (const line of readFileSync(`/proc/${pid}/maps`, 'latin1').split('\n')) {
      const [, from = '0', to = '0', writable] = /^([0-9a-f]+)-([0-9a-f]+) r(.)/.exec(line) ?? []
      if (writable !== 'w') continue
      const end = Number.parseInt(to, 16)
      for (let at = Number.parseInt(from, 16); at < end; at += CHUNK) {
        // The end overlaps with the next chunk, and counts there only where the pattern begins there.
        const read = readAt(mem, buffer, at, Math.min(CHUNK + longest - 1, end - at))
        for (const [name, pattern] of Object.entries(patterns)) {
          counts[name] = (counts[name] ?? 0) + occurrences(buffer.subarray(0, read), pattern)
        }
      }
    }
    return counts
  } finally {
    buffer.fill(0)
    closeSync(mem)
  }
}

/** A page that is not there (a guard) ends a range. */
function readAt(mem: number, buffer: Buffer, at: number, length: number): number {
  try {
    return readSync(mem, buffer, 0, length, at)
  } catch {
    return 0
  }
}

function occurrences(memory: Buffer, pattern: Uint8Array): number {
  let count = 0
  for (let at = memory.indexOf(pattern); at >= 0 && at < CHUNK; at = memory.indexOf(pattern, at + 1)) count++
  return count
}
