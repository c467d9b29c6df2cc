/** Reading JSON that a person wrote: every complaint names the entry, none shows what stands there. */
import { ConfigError } from './problems.js'

/** A value of a JSON document, with the way to it. */
export interface Entry {
  readonly value: unknown
  readonly path: string
}

/** What a string must be, with the words that complete «must be …». */
export interface TextRule {
  readonly test: RegExp
  readonly shape: string
}

export const TEXT: TextRule = { test: /^[^\p{Cc}]{1,1024}$/u, shape: 'text' }

function complain({ path }: Entry, problem: string): never {
  throw new ConfigError(`${path === '' ? 'the document' : path} ${problem}`)
}

/** The members of an object: those that must be there, those that may be; any other is an error. */
export function readMembers<R extends string, O extends string = never>(
  entry: Entry,
  required: readonly R[],
  optional: readonly O[] = [],
): { readonly [K in R]: Entry } & { readonly [K in O]?: Entry } {
  const { value, path } = entry
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    complain(entry, 'must be an object')
  const names: readonly string[] = [...required, ...optional]
  const unknown = Object.keys(value).find(name => !names.includes(name))
  if (unknown !== undefined) complain(entry, `has an unknown member ${JSON.stringify(unknown.slice(0, 40))}`)
  const found: Record<string, Entry> = {}
  for (const name of names) {
    const here = {
      value: Object.hasOwn(value, name) ? Reflect.get(value, name) : undefined,
      path: `${path}/${name}`,
    }
    if (here.value !== undefined) found[name] = here
    else if (required.some(must => must === name)) complain(here, 'is missing')
  }
  return found as { readonly [K in R]: Entry } & { readonly [K in O]?: Entry }
}

/** The entries of an array that is not empty. */
export function readList(entry: Entry): Entry[] {
  const { value, path } = entry
  if (!Array.isArray(value) || value.length === 0) complain(entry, 'must be a list that is not empty')
  return value.map((item: unknown, i) => ({ value: item, path: `${path}/${i}` }))
}

/** A string by its rule. */
export function readText(entry: Entry, { test, shape }: TextRule = TEXT): string {
  const { value } = entry
  if (typeof value !== 'string' || !test.test(value)) complain(entry, `must be ${shape}`)
  return value
}

/** One of a few values. */
export function readChoice<T extends string | number>(entry: Entry, choices: readonly T[]): T {
  const choice = choices.find(candidate => candidate === entry.value)
  if (choice === undefined) complain(entry, `must be ${choices.join(' or ')}`)
  return choice
}

/** A whole number within bounds. */
export function readInteger(entry: Entry, min: number, max: number): number {
  const { value } = entry
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
    complain(entry, `must be a whole number from ${min} to ${max}`)
  }
  return value
}

/** True or false. */
export function readBoolean(entry: Entry): boolean {
  const { value } = entry
  if (typeof value !== 'boolean') complain(entry, 'must be true or false')
  return value
}

/** A document; what the engine says of text that is no JSON would quote it. */
export function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new ConfigError(`${what} is not JSON`)
  }
}
