/**
 * Files for a test, gone when its process is. A worker of Vitest's does not end by itself: it is told to with SIGTERM, at
 * which Node runs no `exit` listener, so that what waits for that event alone is left behind.
 */
import { appendFileSync, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'

const made = new Set<string>()

/** Removes the file or folder when this process ends, whether by itself or because it is told to. */
export function goneWithProcess(path: string): void {
  if (made.size === 0) {
    process.once('exit', removeAll)
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
      process.once(signal, () => {
        removeAll()
        // Its listener is off by now: the signal does what it would have done without one.
        process.kill(process.pid, signal)
      })
    }
  }
  made.add(path)
  const list = join(tmpdir(), GOING)
  if (existsSync(list)) appendFileSync(list, `${basename(path)}\n`)
}

/**
 * The names of what goes with its process, in the folder of a run of tests, which makes this file. Vitest kills a worker that has not ended half a second after
 * SIGTERM, which on a busy machine is before it has removed what it made; it goes with the folder then.
 */
export const GOING = '.goes-with-its-process'

/** A new folder with this prefix, which is {@link goneWithProcess}. */
export function scratchFolder(prefix: string): string {
  const folder = mkdtempSync(join(tmpdir(), prefix))
  goneWithProcess(folder)
  return folder
}

function removeAll(): void {
  for (const path of made) rmSync(path, { recursive: true, force: true })
}
