/**
 * Two classes of calls, timed in random order, round after round. A difference that shows is one; that none shows says
 * how small it must be, and no more.
 */
import { type Comparison, compare, summary } from './statistics.js'

/** One class: a call that is timed. It gets a running number, to take another input each time. */
export type TimedCall = (turn: number) => unknown

export interface Measurement {
  readonly name: string
  readonly classes: readonly [TimedCall, TimedCall]
  /** Calls for one sample: more where a call is too short for the clock. */
  readonly batch: number
}

export interface Effort {
  readonly rounds: number
  /** Of both classes together, in each round. */
  readonly samples: number
}

/** Time of one sample's calls, in nanoseconds. Calls that give promises are awaited. */
async function timed(call: TimedCall, turn: number, batch: number): Promise<number> {
  const start = process.hrtime.bigint()
  for (let i = 0; i < batch; i++) {
    const result = call(turn + i)
    if (result instanceof Promise) await result
  }
  return Number(process.hrtime.bigint() - start) / batch
}

export async function measure(
  { classes, batch }: Measurement,
  { rounds, samples }: Effort,
): Promise<Comparison> {
  const limit = Error.stackTraceLimit
  // Writing down the stack takes longer than most checks, and hides what they take.
  Error.stackTraceLimit = 0
  try {
    const found: Comparison[] = []
    for (let round = 0; round < rounds; round++) found.push(await oneRound(classes, batch, samples))
    return summary(found)
  } finally {
    Error.stackTraceLimit = limit
  }
}

async function oneRound(
  classes: Measurement['classes'],
  batch: number,
  samples: number,
): Promise<Comparison> {
  const times: readonly [number[], number[]] = [[], []]
  const warmUp = Math.ceil(samples / 10)
  for (let i = -warmUp; i < samples; i++) {
    const which = Math.random() < 0.5 ? 0 : 1
    const took = await timed(classes[which], i < 0 ? -i : i, batch)
    if (i >= 0) times[which].push(took)
  }
  return compare(times[0], times[1])
}

/** A call whose error is what is timed. */
export function failing(call: TimedCall): TimedCall {
  return turn => {
    try {
      const result = call(turn)
      return result instanceof Promise ? result.then(unexpected, () => undefined) : unexpected()
    } catch (error) {
      if (error === UNEXPECTED) throw error
      return undefined
    }
  }
}

const UNEXPECTED = new Error('a call that must fail did not')

function unexpected(): never {
  throw UNEXPECTED
}
