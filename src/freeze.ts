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
