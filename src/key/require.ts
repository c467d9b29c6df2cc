import { ArgumentError } from '../errors.js'
import { isKey, type Key } from './key.js'

/** Throws `ERR_ARGUMENT` unless the value is a {@link Key}. Whose key it is, and what for, the backend checks. */
export function requireKey(value: unknown, name: string): asserts value is Key {
  if (!isKey(value))
    throw new ArgumentError(`${name} must be a Key, bound by a backend of this copy of the library`)
}

/** More than any rotation needs; a bound, so that a list of absurd length is refused before it is copied. */
const MAX_KEYS = 64

/**
 * One key or several as a list of 1 to 64, no two by one kid (which of them was meant would be a guess);
 * `ERR_ARGUMENT` for anything else.
 */
export function requireKeys(value: unknown, name: string): readonly Key[] {
  const given: readonly unknown[] = Array.isArray(value) ? value : [value]
  if (given.length === 0 || given.length > MAX_KEYS)
    throw new ArgumentError(`${name} must be 1 to ${MAX_KEYS} keys`)
  const keys = [...given]
  const kids = new Set<string>()
  return keys.map(key => {
    requireKey(key, name)
    if (kids.has(key.kid)) throw new ArgumentError(`${name}: two keys by the kid ${key.kid}`)
    kids.add(key.kid)
    return key
  })
}
