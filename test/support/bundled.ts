/**
 * Programs for the processes and threads that tests start, each made into one JavaScript file once per process of tests:
 * Node by `tsx` compiles and resolves all of `src` for every child again, a second of work for one that lives a tenth of it.
 */
import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildSync } from 'esbuild'
import { goneWithProcess } from './scratch.js'

/** In the package, so that its dependencies are found from there. */
const CACHE = new URL('../../node_modules/.cache/issuer-pin-crypto/', import.meta.url)
const built = new Map<string, string>()

/** Bundles a program of the sources or of the tests into this file; packages stay imports. */
export function bundleTo(outfile: string, entry: URL): string {
  mkdirSync(dirname(outfile), { recursive: true })
  buildSync({
    entryPoints: [fileURLToPath(entry)],
    bundle: true,
    packages: 'external',
    platform: 'node',
    format: 'esm',
    target: 'node20',
    outfile,
    logLevel: 'error',
    tsconfig: fileURLToPath(new URL('../../tsconfig.json', import.meta.url)),
  })
  return outfile
}

/** The path of the program as JavaScript, gone with this process. */
export function bundled(entry: URL): string {
  const before = built.get(entry.href)
  if (before !== undefined) return before
  // Vitest has several threads in a process.
  const name = `${Math.random().toString(36).slice(2)}-${process.pid}.mjs`
  const outfile = bundleTo(fileURLToPath(new URL(name, CACHE)), entry)
  goneWithProcess(outfile)
  built.set(entry.href, outfile)
  return outfile
}
