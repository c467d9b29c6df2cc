/**
 * Packages that need not be there (`pkcs11js`, `koffi`, database drivers): each is loaded here, by its name as data, and
 * only when something is opened that needs it. A bundler that saw the name would want the package, or take a native
 * addon into its bundle; so none sees it, and the package is looked for where the program runs.
 */

/**
 * What a package exports, loaded now. The CommonJS build has `optional.cjs.ts` in this place.
 *
 * Errors: whatever loading it throws.
 */
export function importOptional(name: string): Promise<object> {
  return import(/* webpackIgnore: true */ /* @vite-ignore */ name)
}
