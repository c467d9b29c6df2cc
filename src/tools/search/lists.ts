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
 * and three of all tokens. With a known list, that list with each hole filled, by common tokens and then by all. Of a layout that
 * is but supposed, with the data set in full, there is one input besides, and two only in tier 3.
 */
export function groupsOf(of: ListsOf, tier: Tier): Iterable<Group> {
  const { tokens, known, withFull } = of
  const upTo = (rank: Token['rank']): readonly Token[] => tokens.filter(token => token.rank <= rank)
  if (known !== undefined) {
    if (tier === 2 || (tier === 3 && !known.some(isUnknown))) return []
    return filled(known, tier === 1 ? upTo(1) : tokens, withFull)
  }
  if (tier === 2) return withFull ? [] : inCanonicalOrder(upTo(2), of.which)
  if (!withFull) return ordered(tier === 1 ? upTo(1) : tokens, of.which)
  return tier === 1 ? around(upTo(1), [1, 2]) : around(tokens, [2, 3])
}

function isUnknown(entry: ComputationInput | UnknownInput): entry is UnknownInput {
  return entry.input === 'unknown'
}

function isFull({ input }: ComputationInput): boolean {
  return input === 'dataSet.full'
}

/** One, two and three of the pool, in every order, no value twice. */
function* ordered(pool: readonly Token[], which: 'prw' | 'mac'): Generator<Group> {
  const must = which === 'prw' ? 'pinBlock' : 'prw'
  /** A data set in full may hold the PIN itself, and a masked one what a MAC is about. */
  const needed = ({ kind, input }: Token): boolean =>
    kind === must || isFull(input) || (which === 'mac' && kind === 'dataSet')
  const alone = pool.filter(({ kind, input }) => kind === must || isFull(input))
  yield { prefix: [], rests: () => alone.map(({ input }) => [input]) }
  for (const size of [2, 3]) {
    for (const first of pool) {
      const others = pool.filter(({ kind }) => kind !== first.kind)
      const rests = function* (): Generator<Inputs> {
        for (const rest of arranged(others, size - 1)) {
          if (needed(first) || rest.some(needed)) yield rest.map(({ input }) => input)
        }
      }
      yield { prefix: [first.input], rests }
    }
  }
}

/** So many of the pool in every order, the data set in full among them. */
function* around(pool: readonly Token[], sizes: readonly number[]): Generator<Group> {
  const full = pool.find(({ input }) => isFull(input)) as Token
  const others = pool.filter(({ kind }) => kind !== full.kind)
  const inputsOf = (list: readonly Token[]): Inputs => list.map(({ input }) => input)
  yield {
    prefix: [full.input],
    rests: function* () {
      for (const size of sizes) for (const rest of arranged(others, size - 1)) yield inputsOf(rest)
    },
  }
  yield {
    prefix: [],
    rests: function* () {
      for (const size of sizes) {
        for (const rest of arranged(others, size - 1)) {
          for (let at = 1; at < size; at++) yield inputsOf(rest).toSpliced(at, 0, full.input)
        }
      }
    },
  }
}

function* arranged(pool: readonly Token[], size: number): Generator<readonly Token[]> {
  if (size === 0) {
    yield []
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
  const choices = known.map(entry => (isUnknown(entry) ? choicesFor(entry, tokens) : [entry]))
  const hole = known.findIndex(isUnknown)
  const begin = known.slice(0, hole < 0 ? known.length : hole) as Inputs
  const group = (prefix: Inputs): Group => ({
    prefix,
    rests: function* () {
      for (const rest of fillings(choices.slice(prefix.length))) {
        if (!withFull || prefix.some(isFull) || rest.some(isFull)) yield rest
      }
    },
  })
  if (!known.slice(begin.length + 1).some(isUnknown)) {
    yield group(begin)
    return
  }
  for (const choice of choices[begin.length] as Inputs) yield group([...begin, choice])
}

function choicesFor({ value }: UnknownInput, tokens: readonly Token[]): Inputs {
  return tokens.filter(({ kind }) => value === undefined || kind === value).map(({ input }) => input)
}

function* fillings([choices, ...more]: readonly Inputs[]): Generator<Inputs> {
  if (choices === undefined) {
    yield []
    return
  }
  for (const choice of choices) for (const rest of fillings(more)) yield [choice, ...rest]
}

/** The orders in which scheme documents list values; in place of `*`, a profile's own and external ones, as declared. */
const ORDERS: Readonly<Record<'prw' | 'mac', readonly (readonly string[])[]>> = {
  prw: [
    ['pan', '*', 'pinLength', 'pinBlock', 'random'],
    ['pan', '*', 'pcc', 'pinLength', 'pinBlock', 'random'],
    ['pinBlock', 'pan', '*', 'pcc', 'random'],
    ['random', 'pinBlock', 'pan', '*', 'pcc'],
    ['dataSet', 'pan', '*', 'pinLength', 'pinBlock', 'random'],
  ],
  mac: [
    ['dataSet', '*', 'prwKid', 'macKid', 'issuerId', 'prw'],
    ['dataSet', 'pcc', 'intdatag', 'issuerId', '*', 'prw'],
    ['pan', '*', 'pcc', 'intdatag', 'prw'],
    ['prw', 'pan', '*', 'pcc', 'intdatag'],
  ],
}

/** Values that are nobody's own. */
const NOT_OWN = ['intdatag', 'pinLength', 'pcc', 'random', 'prwKid', 'macKid', 'issuerId'] as const

function* inCanonicalOrder(tokens: readonly Token[], which: 'prw' | 'mac'): Generator<Group> {
  const named = new Set([...ORDERS[which].flat(), ...NOT_OWN])
  const own = [...new Set(tokens.map(({ kind }) => kind))].filter(kind => !named.has(kind))
  const must = which === 'prw' ? 'pinBlock' : 'prw'
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
