/** What a thread of the library runs, bundled from the sources: threads need JavaScript. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buildSync } from 'esbuild'
import { afterAll, beforeAll } from 'vitest'

/** The path of the bundle of an entry in `src`, which is made before the tests of a file and removed after them. */
export function hostOf(entry: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'host-'))
  const outfile = join(folder, 'host.mjs')
  beforeAll(() => {
    buildSync({
      entryPoints: [new URL(`../../src/${entry}`, import.meta.url).pathname],
      bundle: true,
      platform: 'node',
      format: 'esm',
      target: 'node20',
      outfile,
      logLevel: 'error',
      // What is bundled may ask for Node's own modules by `require`.
      banner: {
        js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url)",
      },
    })
  })
  afterAll(() => rmSync(folder, { recursive: true }))
  return outfile
}
