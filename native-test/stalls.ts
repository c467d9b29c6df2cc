/**
 * How long the event loop stands still, and why: of each turn that took long, how long this thread computed, waited for a
 * processor that others had (the scheduler's own figures, Linux), collected garbage, or was blocked in a call. A delay alone
 * says nothing on a machine that has more to do than it has cores.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { PerformanceObserver } from 'node:perf_hooks'

/** One turn of the loop; all in milliseconds. */
export interface Turn {
  /** From the end of the timer that was late. */
  readonly late: number
  /** This thread ran, garbage included. */
  readonly ran: number
  /** This thread could have run, and had no processor. */
  readonly waited: number
  readonly garbage: number
  /** What is left of the delay without the wait for a processor and garbage: what this program's own code did. */
  readonly own: number
}

/** The longest turns since {@link StallWatch.start}, the longest first. */
export interface Stalls {
  readonly turns: number
  readonly longest: Turn
  /** The one with the most of its own. */
  readonly own: Turn
  /** Turns that were late by more than 20 ms; and those that were so by their own doing. */
  readonly over20: number
  readonly own20: number
}

const EVERY_MS = 1
const LIMIT_MS = 20
const NONE: Turn = { late: 0, ran: 0, waited: 0, garbage: 0, own: 0 }

/** What the thread ran, and waited in the queue of a processor, in milliseconds. Source: Linux, sched-stats. */
function scheduled(): readonly [number, number] {
  const [ran = 0, waited = 0] = readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'latin1')
    .split(' ')
    .map(nanoseconds => Number(nanoseconds) / 1e6)
  return [ran, waited]
}

/** Watches the main thread of this process. */
export class StallWatch {
  readonly #garbage: { readonly from: number; readonly to: number }[] = []
  readonly #observer = new PerformanceObserver(list => {
    for (const { startTime, duration } of list.getEntries())
      this.#garbage.push({ from: startTime, to: startTime + duration })
  })
  #turns: { at: number; late: number; ran: number; waited: number }[] = []
  #timer: NodeJS.Timeout | undefined

  start(): void {
    this.#turns = []
    this.#garbage.length = 0
    this.#observer.observe({ entryTypes: ['gc'] })
    let at = performance.now()
    let [ran, waited] = scheduled()
    const tick = (): void => {
      const now = performance.now()
      const [ranNow, waitedNow] = scheduled()
      this.#turns.push({ at, late: now - at - EVERY_MS, ran: ranNow - ran, waited: waitedNow - waited })
      ;[at, ran, waited] = [now, ranNow, waitedNow]
      this.#timer = setTimeout(tick, EVERY_MS)
    }
    this.#timer = setTimeout(tick, EVERY_MS)
  }

  stop(): Stalls {
    clearTimeout(this.#timer)
    this.#observer.disconnect()
    const turns = this.#turns.map(({ at, late, ran, waited }): Turn => {
      const end = at + late + EVERY_MS
      const garbage = this.#garbage.reduce(
        (sum, { from, to }) => sum + Math.max(0, Math.min(to, end) - Math.max(from, at)),
        0,
      )
      return { late, ran, waited, garbage, own: Math.max(0, late - waited - garbage) }
    })
    const most = (by: 'late' | 'own'): Turn =>
      turns.reduce((longest, turn) => (turn[by] > longest[by] ? turn : longest), NONE)
    const over = (by: 'late' | 'own'): number => turns.filter(turn => turn[by] > LIMIT_MS).length
    return {
      turns: turns.length,
      longest: most('late'),
      own: most('own'),
      over20: over('late'),
      own20: over('own'),
    }
  }
}

/**
 * Holds a SQLite file from another process, as a backup or a person at a shell may do: resolves once it is held, with what
 * resolves once it is let go.
 */
export async function holdFile(
  path: string,
  milliseconds: number,
): Promise<{ readonly letGo: Promise<unknown> }> {
  const script = `const database = new (require('better-sqlite3'))(process.argv[1]);
    database.exec('PRAGMA busy_timeout = 5000; BEGIN IMMEDIATE'); console.log('held');
    setTimeout(() => { database.exec('COMMIT'); database.close() }, ${milliseconds})`
  const cwd = new URL('..', import.meta.url).pathname
  const holder = spawn(process.execPath, ['-e', script, path], {
    cwd,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = once(holder, 'exit')
  await once(holder.stdout, 'data')
  return { letGo: ended }
}

/** In one line. */
export function showStalls({ turns, longest, own, over20, own20 }: Stalls): string {
  const show = ({ late, ran, waited, garbage, own }: Turn): string =>
    `${late.toFixed(1)} ms late (ran ${ran.toFixed(1)}, waited for a processor ${waited.toFixed(1)}, garbage ${garbage.toFixed(1)}, own ${own.toFixed(1)})`
  return `longest ${show(longest)}; most of its own ${show(own)}; over 20 ms ${over20}, by its own doing ${own20}, of ${turns} turns`
}
