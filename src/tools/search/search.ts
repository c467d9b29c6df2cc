/**
 * The search for a profile: told what is known, it tries the rest on samples made with *test* keys. Ways to compute (algorithm,
 * padding, IV, digest, derived key) are put together with lists of inputs, the likeliest of both first, until the time is up, by
 * this thread or by several. Where something fits, what is rarer is not tried: it would be another way to say the same.
 */

import { chooseEngine } from '../../backend/software/engine.js'
import { ownMembers, readOptions } from '../../base/arguments.js'
import { requireBytes } from '../../base/bytes.js'
import { systemClock, whenAborted } from '../../base/deadline.js'
import { DEFAULTS } from '../../base/defaults.js'
import { ArgumentError, InputError, requireOurs } from '../../base/errors.js'
import { requirePan } from '../../primitives/pan.js'
import { requirePin } from '../../primitives/pin.js'
import { withUncovered } from '../../seccos/profile/coverage.js'
import { parseProfile } from '../../seccos/profile/parse.js'
import type { ProfileField, SeccosProfile } from '../../seccos/profile/profile.js'
import type { ProfileSample } from '../check-profile.js'
import { alone, type Crew, threads } from './crew.js'
import { judge, type SearchEnd, type SearchOutcome } from './judge.js'
import { type KnownLayout, layoutsOf } from './layouts.js'
import { holdsPin } from './tokens.js'
import { type KnownComputation, requireKnown } from './ways.js'
import {
  beginTier,
  isCrowded,
  type Match,
  matchesOn,
  newBoard,
  type SearchJob,
  stopWork,
  TIERS,
  triedOn,
  Work,
} from './work.js'

/** What is known of a profile; what is absent is searched, the field table, too. */
export interface KnownProfile extends KnownLayout {
  readonly prw?: KnownComputation
  readonly mac?: KnownComputation
}

/** How far the search is. */
export interface SearchProgress {
  readonly which: 'prw' | 'mac'
  /** Computations tried so far. */
  readonly tried: number
  readonly matches: number
  readonly elapsedMs: number
  readonly timeLimitMs: number
}

/** What {@link searchProfile} takes. */
export interface ProfileSearchInput {
  /** Two or more, of different cards: from one, no winner is named. */
  readonly samples: readonly ProfileSample[]
  /** The clear keys of the samples: test keys. Never production keys. One alone where `only` says so. */
  readonly prwTestKey?: Uint8Array
  readonly macTestKey?: Uint8Array
  readonly known: KnownProfile
  /** Searches this one alone. */
  readonly only?: 'prw' | 'mac'
  /** For PRW and MAC each; 300,000 where absent. */
  readonly timeLimitMs?: number
  /** Hears now and then how far it is. */
  readonly onProgress?: (progress: SearchProgress) => void
  /** So many threads side by side, each on a core of its own; where absent, this thread searches and gives way to others. */
  readonly workers?: number
  /** Ends the search when it fires: what was found until then is the outcome. */
  readonly stop?: AbortSignal
}

/** What {@link searchProfile} found. */
export interface ProfileSearch {
  /** The field table: as it was told, or as the samples show it. */
  readonly fields: readonly ProfileField[]
  readonly prw?: SearchOutcome
  readonly mac?: SearchOutcome
  /** Where both have a winner: the draft of a profile, `illustrative` until somebody confirms it. */
  readonly draft?: SeccosProfile
}

const MEMBERS = [
  'samples',
  'prwTestKey',
  'macTestKey',
  'known',
  'only',
  'timeLimitMs',
  'onProgress',
  'workers',
  'stop',
] as const
const KNOWN = ['fields', 'places', 'randomBytes', 'external', 'pinBlock', 'prw', 'mac'] as const
const DEFAULT_LIMIT_MS = DEFAULTS.tools.searchMs.value
/** How often whoever listens hears how far it is: milliseconds. */
const TICK = 250
/** More threads than any machine has cores for. */
const MAX_WORKERS = 256

/**
 * Searches what is not known of a profile. It takes clear keys, PINs and PANs, and computes in this process: test values only.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_DATA_SET`, `ERR_ENCODING`, `ERR_LENGTH` (no key), `ERR_PROFILE` (a known entry is
 * wrong, with its place).
 *
 * @example
 * ```ts
 * const known = { fields: profile.fields, randomBytes: 8, mac: { algorithm: 'iso9797-1-alg3' } } as const
 * const { prw, mac, draft } = await searchProfile({ samples, prwTestKey, macTestKey, known })
 * ```
 */
export function searchProfile(input: ProfileSearchInput): Promise<ProfileSearch> {
  return searchWith(input, threads)
}

/** As {@link searchProfile}, by other threads. */
export async function searchWith(
  input: ProfileSearchInput,
  startThreads: (job: SearchJob, count: number) => Promise<Crew>,
): Promise<ProfileSearch> {
  const given = readOptions(input, 'searchProfile', MEMBERS)
  const { only, workers } = given
  requireSearch(given)
  const samples = ownMembers(given.samples)
  const known = readOptions(ownMembers(given.known), 'known', KNOWN)
  const layouts = layoutsOf(known, samples)
  const [layout] = layouts
  const outcomes: { prw?: SearchOutcome; mac?: SearchOutcome } = {}
  const winners: { prw?: Match; mac?: Match } = ownMembers({})
  for (const which of ['prw', 'mac'] as const) {
    if (only !== undefined && only !== which) continue
    const key = which === 'prw' ? given.prwTestKey : given.macTestKey
    requireTestKey(key)
    const { [which]: computation = ownMembers({}) } = known
    requireKnown({ known: computation, keyBytes: key.length, profile: layout, which })
    // A MAC is verified without the PIN: no layout that hides one makes a difference to it.
    const own = which === 'prw' ? layouts : layouts.filter(one => one === layout || !holdsPin(one))
    const job = { which, samples, key, layouts: own, known: computation }
    // Here first: what is wrong with the samples is said before any thread is started.
    const work = new Work(job, await chooseEngine('auto'))
    let crew: Crew | undefined
    try {
      crew = workers === undefined ? alone(work) : await startThreads(job, workers)
      const found = await search(crew, given, which)
      const { matches, ...verdict } = await judge(job, found, (one, material) => work.text(one, material))
      const computations = matches.map(({ computation }) => computation)
      const [winner] = matches
      if (verdict.verdict === 'winner' && winner !== undefined) {
        winners[which] = { ...winner, layout: layouts.indexOf(own[winner.layout] as SeccosProfile) }
      }
      const { tried, timeUp, tooMany } = found
      outcomes[which] = { tried, timeUp, tooMany, matches: computations, ...verdict }
    } finally {
      work.close()
      await crew?.close()
    }
  }
  const draft = draftOf(layouts, winners)
  return { fields: layout.fields, ...outcomes, ...(draft !== undefined && { draft }) }
}

function requireSearch({ samples, only, timeLimitMs, onProgress, workers, stop }: ProfileSearchInput): void {
  if (!Array.isArray(samples) || samples.length === 0) throw new ArgumentError('samples must be a list')
  for (const { pan, pin } of samples) {
    requirePan(pan)
    requirePin(pin)
  }
  if (only !== undefined && only !== 'prw' && only !== 'mac')
    throw new ArgumentError('only must be prw or mac')
  for (const [name, value, most] of [
    ['timeLimitMs', timeLimitMs, 2 ** 31 - 1],
    ['workers', workers, MAX_WORKERS],
  ] as const) {
    if (value !== undefined && (!Number.isInteger(value) || value < 1 || value > most)) {
      throw new ArgumentError(`${name} must be a whole number from 1 to ${most}`)
    }
  }
  if (onProgress !== undefined && typeof onProgress !== 'function') {
    throw new ArgumentError('onProgress must be a function')
  }
  if (stop !== undefined && !(stop instanceof AbortSignal)) {
    throw new ArgumentError('stop must be an AbortSignal')
  }
}

/** Tier after tier, until something fits, everything has been tried, or the time is up. */
async function search(
  crew: Crew,
  { timeLimitMs = DEFAULT_LIMIT_MS, onProgress, stop }: ProfileSearchInput,
  which: 'prw' | 'mac',
): Promise<SearchEnd & { readonly tried: number }> {
  const board = newBoard()
  const begun = systemClock.elapsed()
  let timeUp = false
  const end = (): void => {
    timeUp = true
    stopWork(board)
  }
  let found: readonly Match[] = []
  const tell = (): void =>
    onProgress?.({
      which,
      tried: triedOn(board),
      matches: matchesOn(board),
      elapsedMs: systemClock.elapsed() - begun,
      timeLimitMs,
    })
  const tick = (): void => {
    tell()
    cancelTick = systemClock.after(TICK, tick)
  }
  let cancelTick = systemClock.after(TICK, tick)
  const cancelLimit = systemClock.after(timeLimitMs, end)
  const cancelStop = stop === undefined ? () => undefined : whenAborted(stop, end)
  if (stop?.aborted === true) end()
  try {
    tell()
    for (const tier of TIERS.keys()) {
      beginTier(board)
      found = await crew.tier(tier, board)
      if (timeUp || found.length > 0) break
    }
    tell()
    return { matches: found, tried: triedOn(board), timeUp, tooMany: isCrowded(board) }
  } finally {
    // Where one thread has failed, the others are at work yet.
    stopWork(board)
    cancelTick()
    cancelLimit()
    cancelStop()
  }
}

function requireTestKey(key: unknown): asserts key is Uint8Array {
  requireBytes(key, 'a test key')
  if (key.length !== 16 && key.length !== 24 && key.length !== 32) {
    throw new InputError('ERR_LENGTH', `a test key has 16, 24 or 32 bytes, not ${key.length}`)
  }
}

/** The draft, where both are found, in one layout or in two of which one hides nothing. */
function draftOf(
  layouts: readonly SeccosProfile[],
  { prw, mac }: { readonly prw?: Match; readonly mac?: Match },
): SeccosProfile | undefined {
  if (prw === undefined || mac === undefined) return undefined
  const layout = layouts[prw.layout === 0 ? mac.layout : prw.layout]
  const [, other] = [prw.layout, mac.layout].filter(index => index > 0)
  if (layout === undefined || (other !== undefined && prw.layout !== mac.layout)) return undefined
  const json: SeccosProfile = {
    ...layout,
    name: 'draft-from-search',
    description:
      'Draft from a search over test-key samples: check every entry against the documents of the scheme.',
    prw: prw.computation,
    mac: mac.computation,
  }
  try {
    return parseProfile(withUncovered(json))
  } catch (error) {
    requireOurs(error)
    return undefined
  }
}
