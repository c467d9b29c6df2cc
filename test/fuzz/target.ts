/**
 * What a fuzz target is: one entrance of the library, told apart from how inputs are made. The same target runs in
 * vitest (`fuzz.test.ts`), in long runs (`long.ts`) and under jazzer.js (`jazzer.ts`).
 */
import type fc from 'fast-check'

export interface FuzzTarget {
  /** File name and sub-name; `--target` of a long run. */
  readonly name: string
  /** Part of a long run's inputs, in proportion to the others: high where an input takes microseconds. */
  readonly share: number
  /** Inputs that get far in: what mutations start from. */
  readonly seeds: readonly Uint8Array[]
  /** Inputs that are almost right, where mutations of bytes do not get there. */
  readonly structured?: fc.Arbitrary<Uint8Array>
  /** Longest time for one input; 2000 ms where absent. More is a finding. */
  readonly limitMs?: number
  /** Throws where the library does what it must not. That it refuses an input is in order. */
  run(input: Uint8Array): void | Promise<void>
  /** Lets go of what the target holds open. */
  close?(): Promise<void>
}

/** What a target throws: the library broke a rule. Everything else that a target throws is a finding as well. */
export class Finding extends Error {
  override readonly name: string = 'Finding'
}

/** Throws a {@link Finding} unless the condition holds. */
export function check(condition: boolean, rule: string): asserts condition {
  if (!condition) throw new Finding(rule)
}

/** Makes a value when it is first asked for, and once. */
export function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined
  return () => {
    made ??= { value: make() }
    return made.value
  }
}
