/**
 * The memory of another process of ours, read through /proc: one pass over every writable page, for any number of byte
 * patterns at once. The process must stand still meanwhile, and nothing may have tidied it up before.
 */
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

const CHUNK = 4 * 1024 * 1024
const PAGE = 4096

/** Where to look, and who is told where it was. */
interface ScanOptions {
  readonly places?: string[]
  /** A mapping's name begins with this, as in `[stack]`; all of them by default. */
  readonly within?: string
}

/** How often each pattern (6 bytes or more) is in the writable memory of the process. */
export function scanMemory(
  pid: number,
  patterns: Readonly<Record<string, Uint8Array>>,
  { places = [], within = '' }: ScanOptions = {},
): Record<string, number> {
  const counts = Object.fromEntries(Object.keys(patterns).map(name => [name, 0]))
  const search = searchFor(patterns)
  const mem = openSync(`/proc/${pid}/mem`, 'r')
  // What is read over the end belongs to the next chunk, but for patterns that begin before it.
  const buffer = Buffer.alloc(CHUNK + search.longest + 8)
  try {
    for (const { from, to, mapping, start } of writableRanges(pid)) {
      if (!mapping.startsWith(within)) continue
      for (let at = from; at < to; at += CHUNK) {
        const read = readAt(mem, buffer, at, Math.min(CHUNK + search.longest + 4, to - at))
        search.look(buffer.subarray(0, read), CHUNK, (name, offset) => {
          counts[name] = (counts[name] ?? 0) + 1
          places.push(`${name}: ${(at + offset - start).toString(16)} bytes into ${mapping}`)
        })
      }
    }
    return counts
  } finally {
    buffer.fill(0)
    closeSync(mem)
  }
}

interface Range {
  readonly from: number
  readonly to: number
}

/** The parts of writable mappings that are in memory: a page that was never touched holds nothing. */
function writableRanges(pid: number): (Range & { mapping: string; start: number })[] {
  const pagemap = openSync(`/proc/${pid}/pagemap`, 'r')
  try {
    return readFileSync(`/proc/${pid}/maps`, 'latin1')
      .split('\n')
      .flatMap(line => {
        const [, from = '0', to = '0', writable, rest = ''] =
          /^([0-9a-f]+)-([0-9a-f]+) r(.)\S* \S+ \S+ \S+ *(.*)/.exec(line) ?? []
        if (writable !== 'w') return []
        const start = Number.parseInt(from, 16)
        const end = Number.parseInt(to, 16)
        const mapping = `${rest || 'anonymous memory'} of ${(end - start) / 1024} KiB`
        return presentIn(pagemap, start, end).map(range => ({ ...range, mapping, start }))
      })
  } finally {
    closeSync(pagemap)
  }
}

/** Runs of pages that are present (bit 63) or swapped out (bit 62), by /proc/PID/pagemap: 8 bytes a page. */
function presentIn(pagemap: number, from: number, to: number): Range[] {
  const pages = (to - from) / PAGE
  const entries = Buffer.alloc(pages * 8)
  if (readAt(pagemap, entries, (from / PAGE) * 8, entries.length) < entries.length) return [{ from, to }]
  const runs: Range[] = []
  let start = -1
  for (let page = 0; page <= pages; page++) {
    const present = page < pages && ((entries[page * 8 + 7] ?? 0) & 0xc0) !== 0
    if (present && start < 0) start = page
    if (!present && start >= 0) {
      runs.push({ from: from + start * PAGE, to: from + page * PAGE })
      start = -1
    }
  }
  return runs
}

/**
 * A search for all patterns in one pass. It looks at two bytes of each four: whatever is there at any alignment has, in
 * its first five bytes, two that are looked at.
 */
function searchFor(patterns: Readonly<Record<string, Uint8Array>>) {
  const all = Object.entries(patterns)
  const starts = new Uint8Array(65536)
  const byStart = new Map<number, { name: string; pattern: Uint8Array; shift: number }[]>()
  for (const [name, pattern] of all) {
    if (pattern.length < 6) throw new Error(`${name}: ${pattern.length} bytes are found anywhere`)
    for (let shift = 0; shift < 4; shift++) {
      const start = (pattern[shift] ?? 0) | ((pattern[shift + 1] ?? 0) << 8)
      starts[start] = 1
      byStart.set(start, [...(byStart.get(start) ?? []), { name, pattern, shift }])
    }
  }
  const look = (memory: Buffer, limit: number, hit: (name: string, offset: number) => void): void => {
    const pairs = new Uint16Array(memory.buffer, memory.byteOffset, memory.length >> 1)
    for (let i = 0; i < pairs.length; i += 2) {
      const start = pairs[i] as number
      if (starts[start] === 0) continue
      for (const { name, pattern, shift } of byStart.get(start) ?? []) {
        const at = 2 * i - shift
        if (at >= 0 && at < limit && isAt(memory, at, pattern)) hit(name, at)
      }
    }
  }
  return { longest: Math.max(...all.map(([, pattern]) => pattern.length)), look }
}

function isAt(memory: Buffer, at: number, pattern: Uint8Array): boolean {
  if (at + pattern.length > memory.length) return false
  for (let i = 0; i < pattern.length; i++) if (memory[at + i] !== pattern[i]) return false
  return true
}

/** A page that is not there (a guard) ends a range. */
function readAt(file: number, buffer: Buffer, at: number, length: number): number {
  let done = 0
  while (done < length) {
    let read = 0
    try {
      read = readSync(file, buffer, done, length - done, at + done)
    } catch {
      return done
    }
    if (read === 0) return done
    done += read
  }
  return done
}
