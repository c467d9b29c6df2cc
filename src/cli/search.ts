/** `profile search`: told what is known of a SECCOS profile, the rest is searched on samples made with TEST keys. */
import { availableParallelism } from 'node:os'
import { renderTable } from '../tools/inspect/table.js'
import type { KnownProfile, ProfileSearch, SearchOutcome, SearchProgress, searchProfile } from '../tools.js'
import {
  type ExitCode,
  type Io,
  readArguments,
  readInput,
  readJson,
  requireOption,
  UsageError,
} from './command.js'
import { readProfileSample, withSamples } from './probe.js'

/** What `profile search --help` says. */
export const SEARCH_HELP = `issuer-pin-crypto profile search --samples SAMPLES [--only prw|mac] [--seconds N] [--workers N]
                                        [--draft] [KNOWN]

Searches what is not known of a profile, the likeliest first, and says which computations reproduce all samples, and
which further sample would decide between several.

  KNOWN       JSON, from a file or standard input: "fields" (the field table), "randomBytes", "external",
              "pinBlock"; for "prw" and "mac" each what is known of "algorithm", "padding", "iv", "derivation",
              "digest", and of "inputs", with { "input": "unknown" } where one is not known
  --samples   as for profile check; three or more, of PANs and PINs of different lengths
  --only      searches the PRW alone, or the MAC
  --seconds   for each of the two; 300 where absent. Ctrl-C ends the search, too: what was found is shown
  --workers   threads; as many as there are cores where absent
  --draft     prints the draft of a profile as JSON, and nothing else

Exit code 1 where something is not found. What reproduces the samples may still differ from the scheme.`

/** `searchProfile`, or what a test has in its place. */
export type Search = typeof searchProfile

/** `issuer-pin-crypto profile search`, over some way to search. */
export async function runSearch(args: readonly string[], io: Io, search: Search): Promise<ExitCode> {
  const options = {
    samples: { type: 'string' },
    only: { type: 'string' },
    seconds: { type: 'string' },
    workers: { type: 'string' },
    draft: { type: 'boolean' },
  } as const
  const { values, positionals } = readArguments(args, { options, positionals: 1 })
  const { only } = values
  if (only !== undefined && only !== 'prw' && only !== 'mac')
    throw new UsageError('--only must be prw or mac')
  const seconds = wholeNumber(values.seconds, 'seconds', 86_400)
  const workers = wholeNumber(values.workers, 'workers', 256) ?? availableParallelism()
  const samples = await readInput(requireOption(values.samples, 'samples'), io)
  const known = readJson(await readInput(positionals[0], io), 'what is known') as unknown as KnownProfile
  const stop = io.interrupted?.()
  const found = await withSamples(samples, readProfileSample, file =>
    search({
      ...file,
      known,
      ...(only !== undefined && { only }),
      ...(seconds !== undefined && { timeLimitMs: seconds * 1000 }),
      ...(workers > 1 && { workers }),
      ...(stop !== undefined && { stop }),
      onProgress: progress => io.progress?.(bar(progress)),
    }),
  )
  io.progress?.('')
  if (values.draft !== true) report(found, stop?.aborted === true, io)
  else if (found.draft !== undefined) io.out(JSON.stringify(found.draft, null, 2))
  const all = Object.values(found as Record<string, unknown>) as readonly Partial<SearchOutcome>[]
  const missing = all.some(({ verdict }) => verdict !== undefined && verdict !== 'winner')
  if (only === undefined && found.draft === undefined) io.err('no draft: PRW and MAC are not both found')
  return missing || (only === undefined && found.draft === undefined) ? 1 : 0
}

function wholeNumber(text: string | undefined, name: string, most: number): number | undefined {
  if (text === undefined) return undefined
  if (/^[1-9][0-9]{0,5}$/.test(text) && Number(text) <= most) return Number(text)
  throw new UsageError(`--${name} must be a whole number from 1 to ${most}`)
}

const BAR = 20

/** How far a search is, in a line. */
function bar({ which, tried, matches, elapsedMs, timeLimitMs }: SearchProgress): string {
  const done = Math.min(BAR, Math.floor((BAR * elapsedMs) / timeLimitMs))
  const seconds = `${Math.floor(elapsedMs / 1000)} of ${Math.floor(timeLimitMs / 1000)} s`
  return `${which} [${'#'.repeat(done).padEnd(BAR, '.')}] ${seconds}, ${thousands(tried)} tried, ${matches} found`
}

function thousands(count: number): string {
  return String(count).replaceAll(/\B(?=(?:[0-9]{3})+$)/g, ',')
}

function report({ prw, mac }: ProfileSearch, stopped: boolean, io: Io): void {
  const outcomes = Object.entries({ prw, mac }).flatMap(([which, outcome]) =>
    outcome === undefined ? [] : [{ which, ...outcome }],
  )
  const rows = outcomes.flatMap(({ which, verdict, tried, matches }) => {
    const head = [which, verdict, thousands(tried)]
    if (matches.length === 0) return [[...head, '', '']]
    return matches.map(({ algorithm, padding, inputs }, i) => [
      ...(i === 0 ? head : ['', '', '']),
      padding === 'none' ? algorithm : `${algorithm}, padding ${padding}`,
      inputs.map(part => ('id' in part ? `${part.input} ${part.id}` : part.input)).join(' + '),
    ])
  })
  io.out(renderTable(['', 'verdict', 'tried', 'algorithm', 'inputs'], rows))
  for (const { which, timeUp, decidedBy } of outcomes) {
    if (timeUp) {
      io.out(`${which}: ${stopped ? 'stopped' : 'the time was up'} before everything had been tried`)
    }
    if (decidedBy.length > 0) {
      io.out(`${which}: a further sample would decide, with ${decidedBy.join(', or ')}`)
    }
  }
}
