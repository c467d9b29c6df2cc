import { ArgumentError } from '../errors.js'
import { isKey, type Key } from './key.js'

/** Throws `ERR_ARGUMENT` unless the value is a {@link Key}. Whose key it is, and what for, the backend checks. */
export function requireKey(value: unknown, name: string): asserts value is Key {
  if (!isKey(value)) throw new ArgumentError(`${name} must be a Key: bind it first`)
}

/** One key or several as a list; `ERR_ARGUMENT` for anything else, an empty list included. */
export function requireKeys(value: unknown, name: string): readonly Key[] {
  const keys: readonly unknown[] = Array.isArray(value) ? [...value] : [value]
  if (keys.length === 0) throw new ArgumentError(`${name} must name at least one key`)
  return keys.map(key => {
    requireKey(key, name)
    return key
  })
}
