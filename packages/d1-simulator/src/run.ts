/** Running cases: one after the other, each timed, and whatever happens in one is its result. */
import { type Case, GROUPS } from './case.js'
import { AUTHORIZATION_CASES } from './cases-authorization.js'
import { CONNECTION_CASES, SLOW_CASES } from './cases-connection.js'
import { COUNTER_CASES, GET_PIN_CASES } from './cases-get-pin.js'
import { HTTP_CASES, PATH_CASES } from './cases-paths.js'
import { ISO0_CASES, MESSAGE_CASES } from './cases-set-iso0.js'
import { SECCOS_CASES } from './cases-set-seccos.js'
import { TOKEN_CASES } from './cases-token.js'
import { UNIFORM_CASES } from './cases-uniform.js'
import { requireStatus } from './contract.js'
import { ConfigError, Mismatch, NoAnswer, NotRun } from './problems.js'
import { type ConfigSource, loadSetup } from './setup.js'
import { Wire } from './wire.js'
import { World } from './world.js'

/** What became of one case. Nothing in it is secret, and nothing is the issuer's text. */
export interface Result {
  readonly group: string
  readonly name: string
  readonly verdict: 'passed' | 'failed' | 'not run'
  readonly expected: string
  readonly got: string
  readonly milliseconds: number
}

/** All cases, in the order of {@link GROUPS}. */
export const CASES: readonly Case[] = [
  ...CONNECTION_CASES,
  ...TOKEN_CASES,
  ...AUTHORIZATION_CASES,
  ...PATH_CASES,
  ...HTTP_CASES,
  ...GET_PIN_CASES,
  ...ISO0_CASES,
  ...MESSAGE_CASES,
  ...COUNTER_CASES,
  ...SECCOS_CASES,
  ...UNIFORM_CASES,
  ...SLOW_CASES,
]

/** Options of {@link simulateD1}. */
export interface SimulateOptions extends ConfigSource {
  /** What to run, each a group or a case as `group: name`; all where absent. */
  readonly only?: readonly string[]
  /** Hears of things that are no case, such as secret files that others may read. */
  readonly warn: (text: string) => void
  /** Hears of each result as it comes. */
  readonly onResult?: (result: Result) => void
}

/**
 * Plays D1 against an issuer's service, sound and malformed, and says what became of each case. Changes the PINs of the
 * test cards; those that are set as ISO0 get theirs back at the end.
 *
 * Errors: `ERR_CONFIG`. What the issuer does is never an error: it is a result.
 */
export async function simulateD1({
  only = GROUPS,
  warn,
  onResult,
  ...source
}: SimulateOptions): Promise<Result[]> {
  const setup = loadSetup(source, warn)
  const wire = new Wire(setup)
  const world = new World(setup, wire)
  const results: Result[] = []
  const note = (result: Result): void => {
    results.push(result)
    onResult?.(result)
  }
  try {
    for (const item of chooseCases(only)) note(await runCase(world, item))
    if (world.changed.length > 0) note(await runCase(world, BACK))
    return results
  } finally {
    wire.close()
  }
}

/** The cases that such names choose, in their order. */
export function chooseCases(only: readonly string[]): readonly Case[] {
  return CASES.filter(item => only.includes(item.group) || only.includes(fullName(item)))
}

/** How a case is told from all others, also on the command line. */
export function fullName({ group, name }: Pick<Case, 'group' | 'name'>): string {
  return `${group}: ${name}`
}

/** Sets the PINs back that were there before. */
export const BACK: Runnable = {
  group: 'end',
  name: 'the PINs are set back',
  expected: '204 each, and Get PIN shows them',
  run: async (world: World): Promise<string> => {
    for (const [card, pin] of world.changed) {
      const reply = await world.put(card, await world.message('ISO0', world.iso0(card, pin)))
      requireStatus('SetPIN', reply, 204)
      if ((await world.shownPin(card)) !== pin) throw new Mismatch('204, and Get PIN shows another PIN')
    }
    return `${world.changed.length} cards`
  },
}

type Runnable = Omit<Case, 'group'> & { readonly group: string }

/** One case; it always comes to a result. */
export async function runCase(world: World, { group, name, expected, run }: Runnable): Promise<Result> {
  const started = performance.now()
  const result = await run(world).then(
    got => ({ verdict: 'passed', got }) as const,
    (error: unknown) => failure(error),
  )
  return { group, name, expected, ...result, milliseconds: performance.now() - started }
}

function failure(error: unknown): Pick<Result, 'verdict' | 'got'> {
  if (error instanceof NotRun || error instanceof ConfigError)
    return { verdict: 'not run', got: error.message }
  if (error instanceof Mismatch || error instanceof NoAnswer) return { verdict: 'failed', got: error.message }
  // Its message may hold anything.
  return {
    verdict: 'failed',
    got: `the simulator itself failed: ${error instanceof Error ? error.name : 'unknown'}`,
  }
}
