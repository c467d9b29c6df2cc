/** `profile search`: told what is known of a SECCOS profile, the rest is searched on samples made with TEST keys. */
import { availableParallelism } from 'node:os'
import type {
  KnownProfile,
  ProfileSearch,
  ProfileSearchInput,
  SearchOutcome,
  SearchProgress,
  searchProfile,
} from '../tools.js'
import { type Io, readInput, readJson } from './command.js'
import { readProfileSample, withSomeSamples } from './probe.js'
import { show, tableOf } from './shown.js'
import { need, numberOf, oneOf, optionsOf, type Verb } from './verbs.js'

/** What `profile search --help` says. */
export const SEARCH_HELP = `issuer-pin-crypto profile search --samples SAMPLES [--only prw|mac]
         [--seconds N] [--workers N] [--draft] [--json] [KNOWN]

Searches what is not known of a profile, the likeliest first: places of the values,
algorithms, inputs, outputs. Says which computations reproduce all samples, and which
further sample would decide between several.

  KNOWN       JSON, from a file or standard input, {} where nothing is known:
              "fields" (the field table), or "places" (fields whose places are
              known), "randomBytes", "external", "pinBlock"; for "prw" and "mac"
              each what is known of "algorithm", "padding", "iv", "derivation",
              "digest", and of "inputs", with { "input": "unknown" } where one is
              not known, or with "value": "pan" beside it where its form is not
  --samples   as for profile check; three or more, of PANs and PINs of different
              lengths
  --only      searches the PRW alone, or the MAC; the samples need its test key only
  --seconds   for each of the two; 300 where absent. Ctrl-C ends the search, too:
              what was found is shown
  --workers   threads; as many as there are cores where absent
  --draft     prints the draft of a profile as JSON, and nothing else

Exit code 1 where something is not found. What reproduces the samples may still
differ from the scheme.`

/** `searchProfile`, or what a test has in its place. */
export type Search = typeof searchProfile

/** `profile search`, over some way to search. */
export function searchVerb(search: Search): Verb {
  return {
    options: optionsOf('samples', 'only', 'seconds', 'workers', 'draft', 'json'),
    needs: ['samples'],
    input: true,
    run: async (values, file, io) => {
      const only = values['only'] === undefined ? undefined : oneOf(values, 'only', ['prw', 'mac'])
      const seconds = values['seconds'] === undefined ? undefined : numberOf(values, 'seconds', [1, 86_400])
      const workers =
        values['workers'] === undefined ? availableParallelism() : numberOf(values, 'workers', [1, 256])
      const samples = await readInput(need(values, 'samples'), io)
      const known = readJson(await readInput(file, io), 'what is known') as unknown as KnownProfile
      const stop = io.interrupted?.()
      const needed = (['prw', 'mac'] as const)
        .filter(which => only === undefined || only === which)
        .map(which => `${which}TestKey` as const)
      const searchThem = (read: Pick<ProfileSearchInput, 'samples' | 'prwTestKey' | 'macTestKey'>) =>
        search({
          ...read,
          known,
          ...(only !== undefined && { only }),
          ...(seconds !== undefined && { timeLimitMs: seconds * 1000 }),
          ...(workers > 1 && { workers }),
          ...(stop !== undefined && { stop }),
          onProgress: progress => io.progress?.(bar(progress)),
        })
      const found = await withSomeSamples(samples, readProfileSample, searchThem, needed)
      io.progress?.('')
      if (values['draft'] !== true) show(values, io, found, wordsOf(found, stop?.aborted === true, io))
      else if (found.draft !== undefined) io.out(JSON.stringify(found.draft, null, 2))
      const missing = outcomesOf(found).some(({ verdict }) => verdict !== 'winner')
      const noDraft = only === undefined && found.draft === undefined
      if (noDraft) io.err('no draft: PRW and MAC are not both found, or not in one layout')
      return missing || noDraft ? 1 : 0
    },
  }
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

function outcomesOf({ prw, mac }: ProfileSearch): readonly (SearchOutcome & { readonly which: string })[] {
  return Object.entries({ prw, mac }).flatMap(([which, outcome]) =>
    outcome === undefined ? [] : [{ which, ...outcome }],
  )
}

function wordsOf(found: ProfileSearch, stopped: boolean, io: Io): string {
  const places = found.fields.map(({ id, offset, length, ...rest }) => {
    return [id, `${offset}`, `${length}`, 'encoding' in rest ? rest.encoding : 'constant']
  })
  const outcomes = outcomesOf(found)
  const rows = outcomes.flatMap(({ which, verdict, tried, matches }) => {
    const head = [which, verdict, thousands(tried)]
    if (matches.length === 0) return [[...head, '', '']]
    return matches.map(({ algorithm, padding, inputs }, i) => [
      ...(i === 0 ? head : ['', '', '']),
      padding === 'none' ? algorithm : `${algorithm}, padding ${padding}`,
      inputs.map(part => ('id' in part ? `${part.input} ${part.id}` : part.input)).join(' + '),
    ])
  })
  const lines = outcomes.flatMap(({ which, timeUp, tooMany, decidedBy }) => [
    ...(timeUp
      ? [`${which}: ${stopped ? 'stopped' : 'the time was up'} before everything had been tried`]
      : []),
    ...(tooMany
      ? [`${which}: more than 512 fit, and the rest was not tried: say more of what is known`]
      : []),
    ...(decidedBy.length > 0
      ? [`${which}: a further sample would decide, with ${decidedBy.join(', or ')}`]
      : []),
  ])
  const head = tableOf(['field', 'offset', 'length', 'encoding'], places, io)
  return [head, '', tableOf(['', 'verdict', 'tried', 'algorithm', 'inputs'], rows, io), ...lines].join('\n')
}
