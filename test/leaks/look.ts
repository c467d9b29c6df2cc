/** Looks at what came of a call: no canary anywhere, those apart that the result is there to give. */
import { isIssuerPinError } from '../../src/index.js'
import { found } from './canaries.js'
import type { LeakCase } from './cases.js'
import { thrownByCaller } from './hostile.js'
import { canaries } from './secrets.js'
import { errorShown, everythingShown } from './shown.js'
import type { World } from './world.js'

/** How a call ended. */
export type Outcome = { readonly result: unknown } | { readonly error: unknown }

export async function outcomeOf(call: () => unknown): Promise<Outcome> {
  try {
    return { result: await call() }
  } catch (error) {
    return { error }
  }
}

/**
 * What is wrong with an outcome, in words; empty where nothing is. `meant`: what a result may hold. Stacks are read as Node
 * writes them: to look each frame up in Vitest's source maps takes longer than the call.
 */
export function leaksOf(outcome: Outcome, what: string, meant: readonly string[] = []): string[] {
  const { prepareStackTrace } = Error
  Reflect.deleteProperty(Error, 'prepareStackTrace')
  try {
    return leaksIn(outcome, what, meant)
  } finally {
    Object.assign(Error, { prepareStackTrace })
  }
}

function leaksIn(outcome: Outcome, what: string, meant: readonly string[]): string[] {
  if ('result' in outcome) {
    return told(`${what}: the result`, found(everythingShown(outcome.result), canaries, meant))
  }
  const { error } = outcome
  // What the caller's own code threw, unchanged: it has it already. Nothing of ours may be wrapped around it.
  if (typeof error === 'object' && error !== null && thrownByCaller.has(error)) return []
  // The same as a `cause`, where a verb keeps it: cut off, so that what is around it is looked at.
  if (error instanceof Error && thrownByCaller.has(Object(error.cause))) {
    Object.defineProperty(error, 'cause', { value: undefined })
  }
  const own = isIssuerPinError(error) ? error.code : `an uncoded error (${String((error as Error)?.name)})`
  return told(`${what}: ${own}`, found(errorShown(error), canaries))
}

const told = (who: string, names: readonly string[]): string[] =>
  names.length === 0 ? [] : [`${who} shows ${names.slice(0, 3).join(', ')} (${names.length} in all)`]

/** Runs a case with these arguments. */
export async function leaksOfCall(
  leakCase: LeakCase,
  args: readonly unknown[],
  world: World,
  what: string,
  meant: readonly string[] = leakCase.holds ?? [],
): Promise<{ readonly leaks: string[]; readonly outcome: Outcome }> {
  const outcome = await outcomeOf(() => leakCase.call(args, world))
  return { outcome, leaks: leaksOf(outcome, `${leakCase.verb}, ${what}`, meant) }
}
