/**
 * Small strict readers for the profile parser. Each takes a value and the JSON pointer of its place, returns what it
 * must be, or throws `ERR_PROFILE` with that pointer. Messages say what is wanted, never what stood there.
 */
import { ProfileError } from '../../base/errors.js'

/** A value and where it stands. */
export interface Entry {
  readonly value: unknown
  readonly path: string
}

/** A member of an object or array, by RFC 6901: `~` and `/` in a name are escaped. */
function at(path: string, name: string | number): string {
  return `${path}/${String(name).replaceAll('~', '~0').replaceAll('/', '~1')}`
}

/** An own member, before it is known which members there may be; undefined where there is none. */
export function peek({ value, path }: Entry, name: string): Entry {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ProfileError(path, 'must be an object')
  }
  return { value: Object.hasOwn(value, name) ? Reflect.get(value, name) : undefined, path: at(path, name) }
}

/** The members of a JSON object that has all the `required` ones and none but these and the `optional` ones. */
export function readObject<R extends string, O extends string = never>(
  { value, path }: Entry,
  required: readonly R[],
  optional: readonly O[] = [],
): Record<R, Entry> & Partial<Record<O, Entry>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ProfileError(path, 'must be an object')
  }
  const known: readonly string[] = [...required, ...optional]
  for (const name of Object.keys(value)) {
    if (!known.includes(name)) throw new ProfileError(at(path, name.slice(0, 64)), 'is not a known member')
  }
  const members: Partial<Record<string, Entry>> = {}
  for (const name of known) {
    if (Object.hasOwn(value, name)) {
      members[name] = { value: Reflect.get(value, name), path: at(path, name) }
    }
  }
  for (const name of required) {
    if (members[name]?.value === undefined) throw new ProfileError(at(path, name), 'is missing')
  }
  return members as Record<R, Entry> & Partial<Record<O, Entry>>
}

/** The entries of a JSON array. */
export function readArray({ value, path }: Entry, bounds: { min: number; max: number }): Entry[] {
  if (!Array.isArray(value) || value.length < bounds.min || value.length > bounds.max) {
    throw new ProfileError(path, `must be a list of ${bounds.min} to ${bounds.max} entries`)
  }
  return Array.from(value, (entry, i) => ({ value: entry, path: at(path, i) }))
}

/** A string that matches. `shape` completes «must be …». */
export function readString({ value, path }: Entry, pattern: RegExp, shape: string): string {
  if (typeof value !== 'string' || !pattern.test(value)) throw new ProfileError(path, `must be ${shape}`)
  return value
}

/** A whole number within bounds. */
export function readInteger({ value, path }: Entry, min: number, max: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
    throw new ProfileError(path, `must be a whole number from ${min} to ${max}`)
  }
  return value
}

/** True or false. */
export function readBoolean({ value, path }: Entry): boolean {
  if (typeof value !== 'boolean') throw new ProfileError(path, 'must be true or false')
  return value
}

/** One of a list. */
export function readChoice<T extends string | number>({ value, path }: Entry, choices: readonly T[]): T {
  const choice = choices.find(candidate => candidate === value)
  if (choice === undefined) throw new ProfileError(path, `must be one of ${choices.join(', ')}`)
  return choice
}
