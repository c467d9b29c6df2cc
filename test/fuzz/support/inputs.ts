/** Where inputs come from: random bytes, mutants of seeds, and what a target makes itself. */
import fc from 'fast-check'
import type { FuzzTarget } from '../target.js'
import { mutant } from './mutate.js'
import { Random } from './random.js'

/** For fast-check, which prints its seed on failure and makes the input smaller. */
export function arbitraryInput({ seeds, structured }: FuzzTarget): fc.Arbitrary<Uint8Array> {
  const mutants = fc
    .tuple(fc.noShrink(fc.integer()), fc.noShrink(fc.integer()))
    .map(([a, b]) => mutant(new Random(a, b), seeds))
  const random = fc.uint8Array({ maxLength: 320 })
  return structured === undefined
    ? fc.oneof({ weight: 1, arbitrary: random }, { weight: 5, arbitrary: mutants })
    : fc.oneof(
        { weight: 1, arbitrary: random },
        { weight: 4, arbitrary: mutants },
        { weight: 5, arbitrary: structured },
      )
}

/** Inputs of one batch of a long run. */
export const BATCH = 500
/** Those of them that the target makes itself; mutants of these are made as of the seeds. */
const ALMOST = 60

/**
 * The inputs of a batch, the same for one seed and number, but for tokens, signatures and ephemeral keys in the seeds of a
 * few targets, which are new in each process.
 */
export function batchOf(target: FuzzTarget, seed: number, batch: number): readonly Uint8Array[] {
  const { name, seeds, structured } = target
  const random = new Random(seed, batch, hashOf(name))
  const own = structured && { numRuns: ALMOST, seed: random.next() | 0 }
  const made = structured === undefined ? [] : fc.sample(structured, own)
  const inputs = [...made]
  while (inputs.length < BATCH) {
    const kind = random.below(16)
    if (kind === 0) inputs.push(random.bytes(random.below(random.below(8) === 0 ? 2048 : 64)))
    else inputs.push(mutant(random, kind < 8 && made.length > 0 ? made : seeds))
  }
  return inputs
}

function hashOf(name: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193)
  return hash >>> 0
}
