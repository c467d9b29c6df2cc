/**
 * Lists of inputs, the likeliest first, in groups that begin alike: what they share is computed over once. Known entries stay
 * as they are; `unknown` ones are replaced by each token there is.
 */
import type { ComputationInput } from '../../seccos/profile/profile.js'
import type { Token, UnknownInput } from './tokens.js'

/** 1 is common, 3 is rare. */
export type Tier = 1 | 2 | 3

type Inputs = readonly ComputationInput[]

/** Lists that begin alike: `prefix`, and then one of the `rests`. */
export interface Group {
  readonly prefix: Inputs
  readonly rests: () => Iterable<Inputs>
}

/** What lists are made of, and what is known of them. */
interface ListsOf {
  readonly tokens: readonly Token[]
  readonly which: 'prw' | 'mac'
  readonly known: readonly (ComputationInput | UnknownInput)[] | undefined
  /** True: only lists with the data set in full. What a layout hides makes no other difference. */
  readonly withFull: boolean
}

/**
 * The groups of a tier. 1: two and three common tokens in every order; 2: four to six in the orders that documents have; 3: two
 * and three of all tokens. With a known list, that list with each hole filled, by common tokens and then by all.
 */
export function groupsOf(of: ListsOf, tier: Tier): Iterable<Group> {
  const { tokens, known } = of
  const common = tokens.filter(token => token.common)
  if (known !== undefined) {
    if (tier === 2 || (tier === 3 && !known.some(isUnknown))) return []
    return filled(known, tier === 1 ? common : tokens, of.withFull)
  }
  if (tier === 2) return of.withFull ? [] : inCanonicalOrder(common, of.which)
  return ordered(tier === 1 ? common : tokens, of)
}

function isUnknown(entry: ComputationInput | UnknownInput): entry is UnknownInput {
  return entry.input === 'unknown'
}

function isFull({ input }: ComputationInput): boolean {
  return input === 'dataSet.full'
}

/** One, two and three of the pool, in every order, no value twice. */
function* ordered(pool: readonly Token[], { which, withFull }: ListsOf): Generator<Group> {
  const must = which === 'prw' ? 'pin' : 'prw'
  /** A data set in full may hold the PIN itself, and a masked one what a MAC is about. */
  const needed = ({ kind, input }: Token): boolean =>
    kind === must || isFull(input) || (which === 'mac' && kind === 'dataSet')
  const wanted = (list: readonly Token[]): boolean =>
    withFull ? list.some(({ input }) => isFull(input)) : list.some(needed)
  const alone = pool.filter(token => wanted([token]) && (token.kind === must || isFull(token.input)))
  yield { prefix: [], rests: () => alone.map(({ input }) => [input]) }
  for (const size of [2, 3]) {
    for (const first of pool) {
      const others = pool.filter(({ kind }) => kind !== first.kind)
      const rests = function* (): Generator<Inputs> {
        for (const rest of arranged(others, size - 1)) {
          if (wanted([first, ...rest])) yield rest.map(({ input }) => input)
        }
      }
      yield { prefix: [first.input], rests }
    }
  }
}

function* arranged(pool: readonly Token[], size: number): Generator<readonly Token[]> {
  if (size === 1) {
    for (const token of pool) yield [token]
    return
  }
  for (const first of pool) {
    const rest = pool.filter(({ kind }) => kind !== first.kind)
    for (const more of arranged(rest, size - 1)) yield [first, ...more]
  }
}

/** The known list with its holes filled: a group for each choice for the first hole, where there are more. */
function* filled(
  known: readonly (ComputationInput | UnknownInput)[],
  tokens: readonly Token[],
  withFull: boolean,
): Generator<Group> {
  const choices = tokens.map(({ input }) => input)
  const sound = (inputs: Inputs): boolean => !withFull || inputs.some(isFull)
  const hole = known.findIndex(isUnknown)
  const begin = known.slice(0, hole < 0 ? known.length : hole) as Inputs
  const after = known.slice(begin.length + 1)
  const group = (prefix: Inputs, open: readonly (ComputationInput | UnknownInput)[]): Group => ({
    prefix,
    rests: function* () {
      for (const rest of fillings(open, choices)) if (sound([...prefix, ...rest])) yield rest
    },
  })
  if (!after.some(isUnknown)) {
    yield group(begin, known.slice(begin.length))
    return
  }
  for (const choice of choices) yield group([...begin, choice], after)
}

function* fillings(
  [entry, ...more]: readonly (ComputationInput | UnknownInput)[],
  choices: Inputs,
): Generator<Inputs> {
  if (entry === undefined) {
    yield []
    return
  }
  for (const choice of isUnknown(entry) ? choices : [entry]) {
    for (const rest of fillings(more, choices)) yield [choice, ...rest]
  }
}

/** The orders in which scheme documents list values; in place of `*`, a profile's own and external ones, as declared. */
const ORDERS: Readonly<Record<'prw' | 'mac', readonly (readonly string[])[]>> = {
  prw: [
    ['pan', '*', 'pinLength', 'pin', 'random'],
    ['pan', '*', 'pcc', 'pinLength', 'pin', 'random'],
    ['pin', 'pan', '*', 'pcc', 'random'],
    ['random', 'pin', 'pan', '*', 'pcc'],
    ['dataSet', 'pan', '*', 'pinLength', 'pin', 'random'],
  ],
  mac: [
    ['dataSet', '*', 'prw'],
    ['pan', '*', 'pcc', 'intdatag', 'prw'],
    ['prw', 'pan', '*', 'pcc', 'intdatag'],
  ],
}

function* inCanonicalOrder(tokens: readonly Token[], which: 'prw' | 'mac'): Generator<Group> {
  const named = new Set([...ORDERS[which].flat(), 'intdatag', 'pinLength', 'pcc', 'random'])
  const own = [...new Set(tokens.map(({ kind }) => kind))].filter(kind => !named.has(kind))
  const must = which === 'prw' ? 'pin' : 'prw'
  for (const order of ORDERS[which]) {
    const kinds = order.flatMap(kind => (kind === '*' ? own : [kind]))
    // All of them first, then fewer.
    for (let missing = 0; missing <= kinds.length - 4; missing++) {
      for (const some of without(kinds, missing)) {
        if (!some.includes(must) || some.length > 6) continue
        const [first = [], ...more] = some.map(kind => tokens.filter(token => token.kind === kind))
        for (const { input } of first) yield { prefix: [input], rests: () => product(more) }
      }
    }
  }
}

function* without(kinds: readonly string[], count: number): Generator<readonly string[]> {
  if (count === 0) {
    yield kinds
    return
  }
  for (let i = 0; i + count <= kinds.length; i++) {
    for (const rest of without(kinds.slice(i + 1), count - 1)) yield [...kinds.slice(0, i), ...rest]
  }
}

function* product([tokens, ...more]: readonly (readonly Token[])[]): Generator<Inputs> {
  if (tokens === undefined) {
    yield []
    return
  }
  for (const { input } of tokens) for (const rest of product(more)) yield [input, ...rest]
}
