/** The statistics of the timing harness, pure: Welch's t between two classes of times, after cropping. */

/** Below this, two classes are not told apart (dudect's bound; Reparaz, Balasch, Verbauwhede 2017). */
export const T_LIMIT = 4.5
/** With very many samples the smallest systematic trifle shows; dudect calls a leak what is beyond this. */
export const T_LIMIT_LONG = 10

/**
 * Below this many nanoseconds a call, nothing is told apart: two or three cycles of a processor, which the place of an
 * object in memory makes too.
 */
export const RESOLUTION = 1

/** Shares of the samples that are kept, the slowest left out: interrupts and garbage collection make a long tail. */
const CROPS: readonly number[] = [0.5, 0.8, 0.95]

export interface Moments {
  readonly count: number
  readonly mean: number
  readonly variance: number
}

/** What one round of two classes says. Times in nanoseconds. */
export interface Comparison {
  /** Signed: positive where the second class is slower. The largest of the crops. */
  readonly t: number
  /** Mean of the second class less mean of the first, of that crop. */
  readonly difference: number
  /** The difference that would have given |t| = 4.5 in this round. */
  readonly smallestEffect: number
}

export function moments(list: readonly number[]): Moments {
  const count = list.length
  const mean = list.reduce((sum, value) => sum + value, 0) / count
  const variance = list.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (count - 1)
  return { count, mean, variance }
}

/** Welch's t: the difference of the means in units of its standard error. Zero where nothing varies and nothing differs. */
export function welch(first: Moments, second: Moments): { t: number; error: number } {
  const error = Math.sqrt(first.variance / first.count + second.variance / second.count)
  const difference = second.mean - first.mean
  return { t: difference === 0 ? 0 : difference / error, error }
}

/** The value below which this share of the numbers stands. */
export function percentile(list: readonly number[], share: number): number {
  const sorted = [...list].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

export function median(list: readonly number[]): number {
  const sorted = [...list].sort((a, b) => a - b)
  const middle = sorted.length / 2
  return sorted.length % 2 === 1
    ? (sorted[Math.floor(middle)] ?? Number.NaN)
    : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2
}

/** Compares two classes at each crop, which is made by the times of both together, and takes what differs most. */
export function compare(first: readonly number[], second: readonly number[]): Comparison {
  const all = [...first, ...second]
  const found = CROPS.map(share => {
    const limit = percentile(all, share)
    const [a, b] = [
      moments(first.filter(time => time <= limit)),
      moments(second.filter(time => time <= limit)),
    ]
    const { t, error } = welch(a, b)
    return { t, difference: b.mean - a.mean, smallestEffect: T_LIMIT * error }
  })
  const sound = found.filter(({ t }) => Number.isFinite(t))
  return sound.reduce(
    (most, next) => (Math.abs(next.t) > Math.abs(most.t) ? next : most),
    sound[0] ?? NOTHING,
  )
}

const NOTHING: Comparison = { t: 0, difference: 0, smallestEffect: Number.POSITIVE_INFINITY }

/** Several rounds as one: the median of each figure, so that a disturbed round does not decide. */
export function summary(rounds: readonly Comparison[]): Comparison {
  return {
    t: median(rounds.map(({ t }) => t)),
    difference: median(rounds.map(({ difference }) => difference)),
    smallestEffect: median(rounds.map(({ smallestEffect }) => smallestEffect)),
  }
}
