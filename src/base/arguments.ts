/**
 * Option objects, read once and by own members only: a misspelt option is an error and not a silent default, a getter
 * cannot answer a check and its use differently, and what somebody put on `Object.prototype` is not an option.
 */
import { ArgumentError } from './errors.js'

/** Throws `ERR_ARGUMENT` unless the value is an object whose own enumerable members are all among `names`. */
export function requireOptions(
  value: unknown,
  what: string,
  names: readonly string[],
): asserts value is object {
  // An array or a typed array would be walked through member by member.
  if (typeof value !== 'object' || value === null || Array.isArray(value) || ArrayBuffer.isView(value)) {
    throw new ArgumentError(`${what} takes an options object`)
  }
  for (const name in value) {
    if (!names.includes(name) && Object.hasOwn(value, name)) {
      throw new ArgumentError(`${what}: unknown option ${JSON.stringify(name.slice(0, 40))}`)
    }
  }
}

/**
 * The named own members of an options object, each read once; what is absent is `undefined`, whatever the prototype
 * says. Errors: as {@link requireOptions}.
 */
export function readOptions<T extends object>(
  value: T,
  what: string,
  names: readonly (keyof T & string)[],
): T {
  requireOptions(value, what, names)
  return readOwn(value, what, names)
}

/**
 * {@link readOptions} for inputs that are made by spreading a result into them (`{ ...prw, key, profile }`): members
 * that are not named are left out instead of refused.
 */
export function readOwn<T extends object>(value: T, what: string, names: readonly (keyof T & string)[]): T {
  if (typeof value !== 'object' || value === null)
    throw new ArgumentError(`${what} takes an object of inputs`)
  const own: Partial<Record<keyof T, unknown>> = Object.create(null)
  for (const name of names) own[name] = Object.hasOwn(value, name) ? value[name] : undefined
  return own as T
}

/**
 * Freezes an object and all objects in it: tables that decide what a key may do are exported for reading, and must not
 * be changed by whoever reads them.
 */
export function deepFreeze<T extends object>(value: T): T {
  for (const member of Object.values(value)) {
    if (typeof member === 'object' && member !== null) deepFreeze(member)
  }
  return Object.freeze(value)
}
