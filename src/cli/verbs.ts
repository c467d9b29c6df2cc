/**
 * Commands of several verbs: one table of what each option takes, and for each verb the names of those that are its own, so that
 * a mistyped or misplaced option is refused and not passed over.
 */
import { fromHex } from '../base/bytes.js'
import type { KeyAlgorithm, KeyMode, KeyUsage } from '../index.js'
import { isKeyUsage, USAGES } from '../key/usage.js'
import { isKeyAlgorithm, KEY_BYTES } from '../primitives/algorithms.js'
import { type Command, type ExitCode, type Io, readArguments, requireOption, UsageError } from './command.js'

/** What was read of a command line. */
export type Values = Readonly<Record<string, string | boolean | readonly string[] | undefined>>

/** How options are declared, as `parseArgs` takes them. */
export type OptionTable = Readonly<
  Record<string, { readonly type: 'string' | 'boolean'; readonly multiple?: boolean }>
>

/** An option with a value, one without, and one that may be there several times. */
export const TEXT: OptionTable[string] = { type: 'string' }
export const FLAG: OptionTable[string] = { type: 'boolean' }
export const LIST: OptionTable[string] = { type: 'string', multiple: true }

/** Options that are more than a text. */
const FLAGS: readonly string[] = [
  'ask-pan',
  'draft',
  'hex',
  'host-decipher',
  'import-clear-keys',
  'json',
  'no-test-keys',
  'reveal',
  'translation',
  'yes',
]
const LISTS: readonly string[] = ['keys', 'macs']

/** The options by these names. */
export function optionsOf(...names: readonly string[]): OptionTable {
  return Object.fromEntries(
    names.map(name => [name, FLAGS.includes(name) ? FLAG : LISTS.includes(name) ? LIST : TEXT]),
  )
}

/** Options for secrets of these names: each from a variable, or from a file descriptor. */
export function secretOptions(...names: readonly string[]): OptionTable {
  return optionsOf(...names.flatMap(name => [`${name}-env`, `${name}-fd`]))
}

/** One verb of a command. */
export interface Verb {
  readonly options: OptionTable
  /** Options that must be there: that is said before a token is opened, and before anybody is asked for a secret. */
  readonly needs?: readonly string[]
  /** Whether a file, or standard input, is its input. */
  readonly input: boolean
  readonly run: (values: Values, file: string | undefined, io: Io) => Promise<ExitCode>
}

/** A command whose first words say which of its verbs is meant: `key list`, `key block open`. */
export function commandOfVerbs(
  command: Omit<Command, 'run'>,
  verbs: Readonly<Record<string, Verb>>,
): Command {
  return {
    ...command,
    run: async ([first = '', ...rest], io) => {
      const [second = ''] = rest
      const isPair = Object.hasOwn(verbs, `${first} ${second}`)
      const name = isPair ? `${first} ${second}` : first
      const verb = Object.hasOwn(verbs, name) ? verbs[name] : undefined
      if (verb === undefined) throw new UsageError(whichVerb(command.name, first, Object.keys(verbs)))
      const { options, input } = verb
      const args = isPair ? rest.slice(1) : rest
      const { values, positionals } = readArguments(args, { options, positionals: input ? 1 : 0 })
      for (const needed of verb.needs ?? []) need(values as Values, needed)
      return verb.run(values as Values, positionals[0], io)
    },
  }
}

function whichVerb(command: string, first: string, names: readonly string[]): string {
  const second = names.flatMap(name => (name.startsWith(`${first} `) ? [name.slice(first.length + 1)] : []))
  if (first !== '' && second.length > 0) return `${command} ${first} takes one of ${second.join(', ')}`
  const [only, ...more] = new Set(names.map(name => name.replace(/ .*$/, '')))
  return more.length === 0
    ? `${command} takes the verb ${only}`
    : `${command} takes one of ${[only, ...more].join(', ')}`
}

/* What options say, read and checked. */

/** A text value; undefined where it is not there. */
export function text(values: Values, name: string): string | undefined {
  const { [name]: value } = values
  return typeof value === 'string' ? value : undefined
}

/** A text value that must be there. */
export function need(values: Values, name: string): string {
  return requireOption(text(values, name), name)
}

/** One of several words; `ERR_USAGE` names them. */
export function oneOf<T extends string>(values: Values, name: string, words: readonly T[]): T {
  const given = need(values, name)
  const found = words.find(word => word === given)
  if (found === undefined) throw new UsageError(`--${name} must be one of ${words.join(', ')}`)
  return found
}

/** A whole number in its bounds. */
export function numberOf(values: Values, name: string, [min, max]: readonly [number, number]): number {
  const given = need(values, name)
  const number = /^\d{1,10}$|^0x[0-9a-fA-F]{1,8}$/.test(given) ? Number(given) : Number.NaN
  if (!(number >= min && number <= max))
    throw new UsageError(`--${name} must be a whole number from ${min} to ${max}`)
  return number
}

/** A date, `YYYY-MM-DD`, or with an hour. */
export function dateOf(values: Values, name: string): Date | undefined {
  const given = text(values, name)
  if (given === undefined) return undefined
  const date = dateIn(given)
  if (date === undefined || date.getTime() % HOUR_MS !== 0)
    throw new UsageError(`--${name} must be a date: YYYY-MM-DD, or YYYY-MM-DDTHH:00Z`)
  return date
}

const HOUR_MS = 3_600_000

/** A day or a moment of UTC, in ISO 8601; undefined for anything else. */
export function dateIn(given: unknown): Date | undefined {
  if (
    typeof given !== 'string' ||
    !/^\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d{3})?)?Z)?$/.test(given)
  )
    return undefined
  const date = new Date(given)
  // The 30th of February is one that Date takes, and makes another day of.
  const isThere = !Number.isNaN(date.getTime()) && date.toISOString().startsWith(given.slice(0, 10))
  return isThere ? date : undefined
}

/** Hex as bytes, in groups and lines as it was written; `ERR_USAGE` that repeats nothing. */
export function hexOf(given: string, what: string): Uint8Array {
  const digits = given.replaceAll(/\s/g, '')
  if (!/^(?:[0-9A-Fa-f]{2})+$/.test(digits)) throw new UsageError(`${what} is given as hex digits`)
  return fromHex(digits, what)
}

const USAGE_NAMES = Object.keys(USAGES).filter(isKeyUsage)

/** What `--usage` and `--mode` say; the library judges whether they go together. */
export function useOf(values: Values): { usage: KeyUsage; mode?: KeyMode } {
  const usage = oneOf(values, 'usage', USAGE_NAMES)
  return {
    usage,
    ...(values['mode'] !== undefined && { mode: oneOf(values, 'mode', USAGES[usage].modes) }),
  }
}

/** `--algorithm` of a key that is made or brought in. */
export function keyAlgorithmOf(values: Values): KeyAlgorithm {
  return oneOf(values, 'algorithm', Object.keys(KEY_BYTES).filter(isKeyAlgorithm))
}

/** `--kcv`, in groups as it was written. */
export function kcvOf(values: Values): string | undefined {
  return text(values, 'kcv')?.replaceAll(/\s/g, '')
}

/** Refuses options that go with something else than was chosen: none of them is silently passed over. */
export function refuse(values: Values, names: readonly string[], why: string): void {
  const given = names.find(name => values[name] !== undefined)
  if (given !== undefined) throw new UsageError(`--${given} ${why}`)
}

const SYMMETRIC = ['tdea-2key', 'tdea-3key', 'aes-128', 'aes-192', 'aes-256', 'hmac-sha256'] as const

/** `--algorithm` of a key that has components and check values. */
export function symmetricOf(values: Values): (typeof SYMMETRIC)[number] {
  return oneOf(values, 'algorithm', SYMMETRIC)
}
