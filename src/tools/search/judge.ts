/**
 * What matches are worth. They are compared as functions: by what they give for cards that no sample has. Two that differ there
 * are not told apart by the samples, and then no winner is named: `decidedBy` says which sample would decide.
 */
import { requireOurs } from '../../base/errors.js'
import { Pan } from '../../primitives/pan.js'
import { Pin } from '../../primitives/pin.js'
import type { Material } from '../../seccos/computation.js'
import { buildChecked, maskChecked } from '../../seccos/data-set.js'
import type { DataSetValues } from '../../seccos/field-value.js'
import type { Computation, SeccosProfile } from '../../seccos/profile/profile.js'
import type { ProfileSample } from '../check-profile.js'
import { type Match, materialOf, type SearchJob } from './work.js'

/** What came out for the PRW, or for the MAC. */
export interface SearchOutcome {
  readonly tried: number
  /** True where the time was up, or the search was stopped, before everything had been tried. */
  readonly timeUp: boolean
  /** True where more than 512 computations fit: the samples determine nothing, and the rest was not tried. */
  readonly tooMany: boolean
  /** Computations that reproduce every sample; those that are one function for any card are one. */
  readonly matches: readonly Computation[]
  /**
   * `winner` from two different samples or more, only where no other match differs for other cards, and only where all that is
   * as likely was tried: where the time was up, or too many fit, what was found is `ambiguous`.
   */
  readonly verdict: 'winner' | 'ambiguous' | 'none' | 'more-samples-needed'
  /** What a further sample must have to tell the matches apart. */
  readonly decidedBy: readonly string[]
}

/** What a search ended with. */
export interface SearchEnd {
  readonly matches: readonly Match[]
  readonly timeUp: boolean
  readonly tooMany: boolean
}

/** Matches that are one function are one; what tells the others apart; and the verdict. */
export async function judge(
  { layouts, samples }: SearchJob,
  { matches, timeUp, tooMany }: SearchEnd,
  textOf: (computation: Computation, material: Material) => Promise<string | undefined>,
): Promise<Pick<SearchOutcome, 'verdict' | 'decidedBy'> & { readonly matches: readonly Match[] }> {
  const cards = new Map<number, readonly Card[]>()
  const functions = new Map<
    string,
    { readonly match: Match; readonly answers: ReadonlyMap<string, string> }
  >()
  for (const match of matches) {
    const profile = layouts[match.layout] as SeccosProfile
    const own = cards.get(match.layout) ?? cardsLike(profile, samples)
    cards.set(match.layout, own)
    const answers = new Map<string, string>()
    for (const { what, material } of own) {
      answers.set(what, (await textOf(match.computation, material)) ?? 'none')
    }
    const key = [...answers.values()].join(' ')
    if (!functions.has(key)) functions.set(key, { match, answers })
  }
  const found = [...functions.values()]
  const asked = new Set(found.flatMap(({ answers }) => [...answers.keys()]))
  const decidedBy = [...asked].filter(what => new Set(found.map(({ answers }) => answers.get(what))).size > 1)
  const enough = new Set(samples.map(({ prwDataSet, prwValue }) => prwDataSet + prwValue)).size > 1
  const some = enough
    ? found.length === 1 && !timeUp && !tooMany
      ? 'winner'
      : 'ambiguous'
    : 'more-samples-needed'
  return {
    verdict: found.length === 0 ? 'none' : some,
    matches: found.map(({ match }) => match),
    decidedBy,
  }
}

/** A card that no sample has, and what is new in it. */
interface Card {
  readonly what: string
  readonly material: Material
}

/** Lengths of PANs and PINs that are asked about where no sample has them. */
const PAN_LENGTHS: readonly number[] = [12, 13, 16, 19]
const PIN_LENGTHS: readonly number[] = [4, 5, 6, 8, 12]

/** Cards like the first sample's, but for one value: lengths that no sample has, and other content of each. */
function cardsLike(profile: SeccosProfile, samples: readonly ProfileSample[]): Card[] {
  const base = materialOf(profile, samples[0] as ProfileSample)
  const cards: Card[] = []
  const add = (what: string, change: DataSetValues): void => {
    const values = { ...base.values, ...change }
    try {
      const full = buildChecked(profile, values)
      cards.push({ what, material: { ...base, values, masked: maskChecked(profile, full) } })
    } catch (error) {
      requireOurs(error)
    }
  }
  const unseen = (lengths: readonly number[], seen: readonly number[]): number[] =>
    lengths.filter(length => !seen.includes(length))
  const panLengths = samples.map(({ pan }) => pan.length)
  for (const length of unseen(PAN_LENGTHS, panLengths)) {
    add(`a PAN of ${length} digits`, { pan: Pan.from('4929123456789012347'.slice(0, length)) })
  }
  const pinLengths = samples.map(({ pin }) => pin.length)
  for (const length of unseen(PIN_LENGTHS, pinLengths)) {
    add(`a PIN of ${length} digits`, { pin: Pin.from('135790864213'.slice(0, length)) })
  }
  add('another PCC', { pcc: '8246' })
  add('another intdatag', { intdatag: 'a(search)challenge!1' })
  if (base.values.random !== undefined) {
    add('another random number', { random: base.values.random.map(byte => byte ^ 0x5a) })
  }
  for (const [id, value] of Object.entries(base.values.fields)) {
    const other =
      typeof value === 'string'
        ? value.replace(/[0-9]/g, digit => `${9 - Number(digit)}`)
        : value.map(byte => byte ^ 0x5a)
    add(`another ${id}`, { fields: { ...base.values.fields, [id]: other } })
  }
  return cards
}
