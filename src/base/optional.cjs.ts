/**
 * What stands for `optional.ts` in the CommonJS build. There `require` must load the package (Jest has no `import()`
 * without a flag), but not by that name: bundlers look into every call of it.
 */
import { createRequire } from 'node:module'

/** What a package exports, with the whole as `default`; found from the file that this code is in: ours, or the bundle. */
export async function importOptional(name: string): Promise<object> {
  const loaded: object = createRequire(__filename)(name)
  return Object.create(loaded, { default: { value: loaded } })
}
