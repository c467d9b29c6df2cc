/**
 * A contest: several ways of doing one thing, on the same input in the same process, in rounds that take turns, so that a
 * noisy machine disturbs all of them alike. Each way must first give the right answer. What counts is the ratio between
 * two of them in the same round; its median and its spread over the rounds are kept.
 */

/** One of the ways. */
export interface Way {
  readonly name: string
  readonly run: () => unknown
  /** Operations that one run does; 1 where absent. */
  readonly operations?: number
  /** The result as text, for the comparison before the timing; undefined where results are not alike by nature. */
  readonly answer?: () => string | Promise<string>
}

/** What one way must be, beside another: `ours` at least `atLeast` times as fast as `peer`. */
export interface Target {
  readonly ours: string
  readonly peer: string
  readonly atLeast: number
  /**
   * Two ways that show what the machine allows, where that may be less than the target: two of a virtual machine's cores can be
   * one. The target is then met by 0.95 of what it allows, and the report says both.
   */
  readonly limit?: { readonly ours: string; readonly peer: string }
}

export interface Contest {
  readonly title: string
  readonly ways: readonly Way[]
  readonly targets: readonly Target[]
}

/** What was measured of one way. */
export interface WayResult {
  readonly name: string
  /** Nanoseconds an operation: median of the rounds, and the 10th and 90th percentile. */
  readonly wall: Spread
  /** The same of processor time, of all threads of the process. */
  readonly cpu: Spread
  /** Bytes an operation takes on V8's heap and in array buffers. */
  readonly bytes: number
}

export interface Spread {
  readonly low: number
  readonly median: number
  readonly high: number
}

export interface TargetResult extends Target {
  readonly wall: Spread
  readonly cpu: Spread
  /**
   * Ratio of the rounds that were disturbed least, the 10th percentile of each by the wall: what is left of a ratio where the machine
   * does other things in some of them. It judges nothing.
   */
  readonly undisturbed: number
  /** What the machine allows, by the wall; undefined where nothing of the kind stands in the way. */
  readonly allowed: Spread | undefined
}

export interface ContestResult {
  readonly title: string
  readonly ways: readonly WayResult[]
  readonly targets: readonly TargetResult[]
}

/** How long and how often. */
export interface Effort {
  readonly rounds: number
  /** Milliseconds that each way runs in each round. */
  readonly milliseconds: number
}

/** Rounds' worth of warming up. */
const WARM_UP = 10

interface Sample {
  readonly wall: number
  readonly cpu: number
}

/** Runs a contest. Throws where the ways do not agree on the answer. */
export async function hold(contest: Contest, effort: Effort): Promise<ContestResult> {
  await requireAgreement(contest)
  const calls = new Map<string, number>()
  for (const way of contest.ways) calls.set(way.name, await callsIn(way, effort.milliseconds))
  const samples = new Map<string, Sample[]>(contest.ways.map(({ name }) => [name, []]))
  for (let round = 0; round < effort.rounds; round++) {
    // Another one begins each time: whoever follows a garbage maker is not always the same.
    for (let i = 0; i < contest.ways.length; i++) {
      const way = contest.ways[(i + round) % contest.ways.length]
      if (way !== undefined) samples.get(way.name)?.push(await time(way, calls.get(way.name) ?? 1))
    }
  }
  const of = (name: string): readonly Sample[] => samples.get(name) ?? []
  const ways = []
  for (const way of contest.ways) {
    ways.push({
      name: way.name,
      wall: spread(of(way.name).map(({ wall }) => wall)),
      cpu: spread(of(way.name).map(({ cpu }) => cpu)),
      bytes: await bytesOf(way),
    })
  }
  const ratio = (target: Pick<Target, 'ours' | 'peer'>, clock: keyof Sample): Spread =>
    spread(
      of(target.ours).map((ours, round) => (of(target.peer)[round]?.[clock] ?? Number.NaN) / ours[clock]),
    )
  const lowOf = (name: string): number => spread(of(name).map(({ wall }) => wall)).low
  const targets = contest.targets.map(target => ({
    ...target,
    wall: ratio(target, 'wall'),
    cpu: ratio(target, 'cpu'),
    undisturbed: lowOf(target.peer) / lowOf(target.ours),
    allowed: target.limit && ratio(target.limit, 'wall'),
  }))
  return { title: contest.title, ways, targets }
}

async function requireAgreement({ title, ways }: Contest): Promise<void> {
  const answers = new Set<string>()
  for (const { answer } of ways) if (answer !== undefined) answers.add(await answer())
  if (answers.size > 1) throw new Error(`${title}: the ways give different answers, so nothing was timed`)
}

async function runTimes({ run }: Way, calls: number): Promise<void> {
  for (let i = 0; i < calls; i++) {
    // A synchronous peer is not made to pay for a promise it does not have.
    const result = run()
    if (result instanceof Promise) await result
  }
}

/** Warms up, and finds how many calls take so long. */
async function callsIn(way: Way, milliseconds: number): Promise<number> {
  // Long enough for the compiler to have looked at it: what it does in its own threads counts as processor time.
  for (const end = Date.now() + WARM_UP * milliseconds; Date.now() < end; ) await runTimes(way, 1)
  for (let calls = 1; ; calls *= 2) {
    const start = process.hrtime.bigint()
    await runTimes(way, calls)
    const took = Number(process.hrtime.bigint() - start) / 1e6
    if (took >= milliseconds) return Math.max(1, Math.round((calls * milliseconds) / took))
  }
}

async function time(way: Way, calls: number): Promise<Sample> {
  // What the one before left behind is not collected at this one's expense.
  globalThis.gc?.()
  const operations = calls * (way.operations ?? 1)
  const cpu = process.cpuUsage()
  const start = process.hrtime.bigint()
  await runTimes(way, calls)
  const wall = Number(process.hrtime.bigint() - start)
  const used = process.cpuUsage(cpu)
  return { wall: wall / operations, cpu: (1000 * (used.user + used.system)) / operations }
}

/** Allocation, without a collection in between; the smallest of several tries has least of others' in it. */
async function bytesOf(way: Way): Promise<number> {
  const operations = way.operations ?? 1
  const calls = Math.max(1, Math.round(256 / operations))
  const tries: number[] = []
  for (let i = 0; i < 5; i++) {
    globalThis.gc?.()
    const before = process.memoryUsage()
    await runTimes(way, calls)
    const after = process.memoryUsage()
    const bytes = after.heapUsed - before.heapUsed + after.arrayBuffers - before.arrayBuffers
    if (bytes >= 0) tries.push(bytes / calls / operations)
  }
  return Math.min(...tries)
}

export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (share: number): number => sorted[Math.round(share * (sorted.length - 1))] ?? Number.NaN
  return { low: at(0.1), median: at(0.5), high: at(0.9) }
}
