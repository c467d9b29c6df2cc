import { inspect } from 'node:util'

/**
 * Gives a class the fixed text by which its instances show themselves in `util.inspect` (and so in console output,
 * assertion diffs and error reports), whatever they hold.
 */
export function redactInspect(prototype: object, show: (this: never) => string): void {
  Object.defineProperty(prototype, inspect.custom, { value: show, enumerable: false })
}
