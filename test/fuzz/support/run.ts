/** One input through one target, with the bounds that hold for all of them. */
import { Finding, type FuzzTarget } from '../target.js'

const LIMIT_MS = 2000

/** Milliseconds that the input took. Throws what the target throws, and a {@link Finding} where it took too long. */
export async function runOne(target: FuzzTarget, input: Uint8Array): Promise<number> {
  const { limitMs = LIMIT_MS } = target
  const started = performance.now()
  await target.run(input)
  const took = performance.now() - started
  if (took <= limitMs) return took
  // Another process may have had the machine: what is slow is slow twice.
  const again = performance.now()
  await target.run(input)
  const second = performance.now() - again
  if (second > limitMs)
    throw new Finding(`${input.length} bytes took ${Math.round(second)} ms, more than ${limitMs}`)
  return second
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
