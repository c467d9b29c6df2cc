/** Times two ways of doing one thing side by side, in alternating rounds, so that a noisy machine disturbs both alike. */

export interface Contest {
  readonly name: string
  readonly ours: () => unknown
  readonly theirs: () => unknown
  /** Calls of one round, of each side. */
  readonly calls: number
  /** The ratio of speeds (theirs' time by ours' time) to reach. */
  readonly target: number
}

export interface Verdict {
  readonly name: string
  /** Microseconds a call, median over the rounds. */
  readonly ours: number
  readonly theirs: number
  /** Median over the rounds of theirs / ours: above 1, ours is faster. */
  readonly ratio: number
  readonly target: number
}

const ROUNDS = 15

async function round(call: () => unknown, calls: number): Promise<number> {
  // What the other side left behind is not collected at this side's expense.
  globalThis.gc?.()
  const start = process.hrtime.bigint()
  for (let i = 0; i < calls; i++) {
    // A synchronous peer is not made to pay for a promise it does not have.
    const result = call()
    if (result instanceof Promise) await result
  }
  return Number(process.hrtime.bigint() - start) / calls / 1000
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}

export async function compare({ name, ours, theirs, calls, target }: Contest): Promise<Verdict> {
  await round(ours, calls)
  await round(theirs, calls)
  const pairs: { ours: number; theirs: number }[] = []
  for (let i = 0; i < ROUNDS; i++)
    pairs.push({ ours: await round(ours, calls), theirs: await round(theirs, calls) })
  return {
    name,
    ours: median(pairs.map(pair => pair.ours)),
    theirs: median(pairs.map(pair => pair.theirs)),
    ratio: median(pairs.map(pair => pair.theirs / pair.ours)),
    target,
  }
}

export function report(verdicts: readonly Verdict[]): void {
  const row = (...cells: string[]): void =>
    console.log(cells.map((cell, i) => (i === 0 ? cell.padEnd(58) : cell.padStart(12))).join(''))
  row('', 'ours µs', 'peer µs', 'ratio', 'target', '')
  for (const { name, ours, theirs, ratio, target } of verdicts) {
    const met = ratio >= target
    if (!met) process.exitCode = 1
    row(
      name,
      ours.toFixed(2),
      theirs.toFixed(2),
      `${ratio.toFixed(2)}×`,
      `≥ ${target.toFixed(2)}×`,
      met ? 'met' : 'MISSED',
    )
  }
}
