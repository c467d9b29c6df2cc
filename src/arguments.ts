/** Checks on option objects, so that a misspelt option is an error and not a silent default. */
import { ArgumentError } from './errors.js'

/** Throws `ERR_ARGUMENT` unless the value is an object whose own members are all among `names`. */
export function requireOptions(
  value: unknown,
  what: string,
  names: readonly string[],
): asserts value is object {
  if (typeof value !== 'object' || value === null) throw new ArgumentError(`${what} takes an options object`)
  for (const name of Object.keys(value)) {
    if (!names.includes(name)) throw new ArgumentError(`${what}: unknown option ${JSON.stringify(name)}`)
  }
}
