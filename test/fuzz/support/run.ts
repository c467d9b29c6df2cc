/** One input through one target, with the bounds that hold for all of them. */
import { Finding, type FuzzTarget } from '../target.js'

const LIMIT_MS = 2000

/** A machine that is busy with other things gives a process a twentieth of its time. */
const BUSY = 20

/** As often an input is tried before it is called slow: a collection, a compiler or others may have had the machine. */
const TRIES = 5

/** Milliseconds: how much time an input took, and how much of it this thread computed. */
export interface Taken {
  readonly passed: number
  readonly computed: number
}

/** Milliseconds that the input took. Throws what the target throws, and a {@link Finding} where it took too long each time. */
export async function runOne(
  target: FuzzTarget,
  input: Uint8Array,
  measure: typeof took = took,
): Promise<number> {
  const { limitMs = LIMIT_MS } = target
  let least = Number.POSITIVE_INFINITY
  for (let i = 0; i < TRIES; i++) {
    const { passed, computed } = await measure(target, input)
    // What waits is let go on; what computes for so long is slow, and so is what does not end.
    least = Math.min(least, passed <= limitMs ? passed : Math.max(computed, passed / BUSY))
    if (least <= limitMs) return passed
  }
  throw new Finding(`${input.length} bytes took ${Math.round(least)} ms, more than ${limitMs}`)
}

export async function took(target: FuzzTarget, input: Uint8Array): Promise<Taken> {
  const [started, before, loop] = [performance.now(), process.cpuUsage(), performance.eventLoopUtilization()]
  await target.run(input)
  const { user, system } = process.cpuUsage(before)
  // The process's other threads compute, too; this one only while its loop does not wait.
  const computed = Math.min((user + system) / 1000, performance.eventLoopUtilization(loop).active)
  return { passed: performance.now() - started, computed }
}

/** What a finding says: the rule that was broken, or the foreign error with its place. */
export function describeFinding(error: unknown): string {
  if (error instanceof Finding) return error.message
  return error instanceof Error
    ? (error.stack ?? error.message)
    : `something was thrown that is no error: ${String(error)}`
}

/** The same finding with as few bytes as a few hundred attempts find. */
export async function reduced(target: FuzzTarget, input: Uint8Array): Promise<Uint8Array> {
  const failing = await failureOf(target, input)
  let smallest = input
  let attempts = 400
  for (let size = Math.max(1, input.length >> 1); size >= 1 && attempts > 0; size >>= 1) {
    for (let at = 0; at < smallest.length && attempts-- > 0; ) {
      const without = Uint8Array.from([...smallest.subarray(0, at), ...smallest.subarray(at + size)])
      if ((await failureOf(target, without)) === failing) smallest = without
      else at += size
    }
  }
  return smallest
}

async function failureOf(target: FuzzTarget, input: Uint8Array): Promise<string | undefined> {
  try {
    await target.run(input)
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}
