/** Running cases: one after the other, each timed, and whatever happens in one is its result. */
import { type Case, GROUPS } from './case.js'
import { AUTHORIZATION_CASES } from './cases-authorization.js'
import { CALLER_CASES, TOLERANCE_CASES } from './cases-callers.js'
import { CONNECTION_CASES, SLOW_CASES } from './cases-connection.js'
import { COUNTER_CASES, GET_PIN_CASES } from './cases-get-pin.js'
import { HTTP_CASES, PATH_CASES } from './cases-paths.js'
import { ISO0_CASES, MESSAGE_CASES } from './cases-set-iso0.js'
import { SECCOS_CASES } from './cases-set-seccos.js'
import { TOKEN_CASES } from './cases-token.js'
import { UNIFORM_CASES } from './cases-uniform.js'
import { requireStatus } from './contract.js'
import { ConfigError, Mismatch, NoAnswer, NotRun } from './problems.js'
import { type ConfigSource, loadSetup, type Setup } from './setup.js'
import { Wire } from './wire.js'
import { type Card, World } from './world.js'

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
  ...CALLER_CASES,
  ...PATH_CASES,
  ...HTTP_CASES,
  ...GET_PIN_CASES,
  ...ISO0_CASES,
  ...MESSAGE_CASES,
  ...TOLERANCE_CASES,
  ...COUNTER_CASES,
  ...SECCOS_CASES,
  ...UNIFORM_CASES,
  ...SLOW_CASES,
]

/** Options of {@link simulateD1}. */
export interface SimulateOptions extends ConfigSource {
  /** What to run, each a group or a case as `group: name`; all where absent. */
  readonly only?: readonly string[]
  /** Hears of things that are no case: secret files that others may read, PINs that cannot be set back. */
  readonly warn: (text: string) => void
  /** Hears of each result as it comes. */
  readonly onResult?: (result: Result) => void
  /** Ends the run after the case that is under way; the PINs are then set back, as at any end. */
  readonly signal?: AbortSignal
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
  signal,
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
  const chosen = chooseCases(only)
  warnOfLoss(setup, chosen, warn)
  // What nobody gave a certificate for cannot be tried; it is said, and is no reason not to pass.
  const cases = setup.other === undefined ? chosen.filter(({ group }) => group !== 'callers') : chosen
  if (cases.length < chosen.length) {
    warn("there is no other caller's certificate (other): whether it is refused is not tried")
  }
  try {
    // Said once, in place of some two hundred times.
    const entry = cases.some(({ group }) => !WITHOUT_ENTRY.includes(group))
      ? await runCase(world, LET_IN)
      : undefined
    if (entry?.verdict === 'failed') {
      note(entry)
      warn(
        `D1 is not let in, so that none of ${cases.length} cases was tried (--only token tries how tokens are asked for)`,
      )
      return results
    }
    for (const item of cases) {
      if (signal?.aborted === true) break
      note(await runCase(world, item))
    }
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

/** Said before anything is sent: a PIN that is set as 3DES_SECCOS alone is shown by nothing, and is gone. */
function warnOfLoss(setup: Setup, cases: readonly Case[], warn: (text: string) => void): void {
  const lost = setup.cards.filter(
    ({ state, setPinTypes }) => state === 'active' && setPinTypes?.join() === '3DES_SECCOS',
  ).length
  if (lost === 0 || !cases.some(({ group }) => CHANGES_SECCOS.includes(group))) return
  warn(`the PINs of ${lost} cards that are set as 3DES_SECCOS alone are replaced, and cannot be set back`)
}

const CHANGES_SECCOS: readonly string[] = ['set-pin-seccos', 'uniform']

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
    let lost = 0
    const failures: unknown[] = []
    for (const [card, pin] of world.changed) {
      if (pin === undefined) lost++
      // One that cannot be set back is no reason to leave the others as they are.
      else await setBack(world, card, pin).catch((error: unknown) => failures.push(error))
    }
    if (failures.length > 0) throw failures[0]
    if (lost > 0) throw new Mismatch(`${lost} cards whose PIN was not shown before it was changed`)
    return `${world.changed.length} cards`
  },
}

async function setBack(world: World, card: Card, pin: string): Promise<void> {
  const reply = await world.put(card, await world.message('ISO0', world.iso0(card, pin)))
  requireStatus('SetPIN', reply, 204)
  if ((await world.shownPin(card)) !== pin) throw new Mismatch('204, and Get PIN shows another PIN')
}

/** What is about coming in itself. */
const WITHOUT_ENTRY: readonly string[] = ['connection', 'token']

/**
 * Whether D1's own request is let in, with the certificate and the token that the configuration has. Where it is not, every
 * case is refused alike, and what is about refusals would pass for no merit of the issuer. It is a result where it fails alone.
 */
export const LET_IN: Runnable = {
  group: 'authorization',
  name: 'D1 itself is let in',
  expected: 'Get PIN: anything but 401',
  run: async world => {
    const status = await entryStatus(world)
    if (status !== 401) return String(status)
    throw new Mismatch(
      world.setup.tokenUrl === undefined
        ? "401 to D1's certificate alone: the configuration has no tokenUrl and no client, and the issuer asks for a token, " +
            'or does not know the certificate (tls)'
        : '401 with a token that the token endpoint has just issued: the issuer takes tokens of another endpoint than ' +
            'tokenUrl, or this client may not call',
    )
  },
}

/** What Get PIN answers to D1. An issuer that is not there, or breaks off, is no question of being let in: each case says so. */
async function entryStatus(world: World): Promise<number | 'no answer'> {
  // A configuration has one at least.
  const [cardId] = world.setup.cards.map(card => card.cardId)
  try {
    const authorization = await world.authorization()
    const { status } = await world.wire.ask(world.pinUrl(String(cardId)), { headers: { ...authorization } })
    return status
  } catch (error) {
    if (!(error instanceof Mismatch)) return 'no answer'
    throw new Mismatch(
      `the token endpoint gives D1 no token (${error.message}): see tokenUrl and client of the configuration`,
    )
  }
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
