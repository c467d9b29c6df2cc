import { ArgumentError } from '../errors.js'
import { Key } from './key.js'

/** Throws `ERR_ARGUMENT` unless the value is a {@link Key}. Whose key it is, and what for, the backend checks. */
export function requireKey(value: unknown, name: string): asserts value is Key {
  if (!(value instanceof Key)) throw new ArgumentError(`${name} must be a Key: bind it first`)
}
