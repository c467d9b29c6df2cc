/** Database drivers are optional packages: each is loaded here, and only when a store is opened that needs it. */
import { BackendError } from '../base/errors.js'

/**
 * A class of a database driver, loaded when it is needed: a program that opens no database needs no driver.
 *
 * Errors: `ERR_UNSUPPORTED`.
 */
export async function loadDriver<T extends abstract new (...args: never) => object>(
  specifier: string,
  member: string,
): Promise<T> {
  let loaded: object
  try {
    // Not a literal: a bundler must leave it alone, and the compiler needs no types of a package that may be absent.
    loaded = await import(specifier)
  } catch (error) {
    throw new BackendError('ERR_UNSUPPORTED', `${specifier} is not available here`, { cause: error })
  }
  const found: unknown = Reflect.get(loaded, member)
  if (isClass<T>(found)) return found
  throw new BackendError('ERR_UNSUPPORTED', `${specifier} is not what it should be`)
}

function isClass<T>(value: unknown): value is T {
  return typeof value === 'function'
}
