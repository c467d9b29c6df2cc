/**
 * A timing harness after dudect (Reparaz, Balasch, Verbauwhede 2017): two classes of calls in random order, the slowest
 * fifth left out, Welch's t between the rest. It can show a difference; it cannot prove that there is none.
 */

/** Below this, two classes are not told apart (dudect's bound). */
export const T_LIMIT = 4.5

export async function welchT(
  classes: readonly [() => unknown, () => unknown],
  calls: number,
): Promise<number> {
  const times: readonly [number[], number[]] = [[], []]
  for (let i = 0; i < calls + 200; i++) {
    const which = Math.random() < 0.5 ? 0 : 1
    const start = process.hrtime.bigint()
    await classes[which]()
    const took = Number(process.hrtime.bigint() - start)
    if (i >= 200) times[which].push(took)
  }
  const all = [...times[0], ...times[1]].sort((a, b) => a - b)
  const limit = all[Math.floor(all.length * 0.8)] ?? 0
  const [a, b] = times.map(list => moments(list.filter(time => time <= limit)))
  if (a === undefined || b === undefined) return 0
  return Math.abs(a.mean - b.mean) / Math.sqrt(a.variance / a.count + b.variance / b.count)
}

/** The smallest t of a few tries: noise comes and goes, a leak stays. */
export async function steadyT(
  classes: readonly [() => unknown, () => unknown],
  calls: number,
): Promise<number> {
  let smallest = Number.POSITIVE_INFINITY
  for (let attempt = 0; attempt < 4 && smallest >= T_LIMIT; attempt++) {
    smallest = Math.min(smallest, await welchT(classes, calls))
  }
  return smallest
}

function moments(list: readonly number[]): { count: number; mean: number; variance: number } {
  const count = list.length
  const mean = list.reduce((sum, value) => sum + value, 0) / count
  const variance = list.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (count - 1)
  return { count, mean, variance }
}
