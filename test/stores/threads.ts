/** Threads of the SQLite store from the sources: they need JavaScript, and so a bundle of what they run. */
import { mkdirSync, renameSync } from 'node:fs'
import { dirname } from 'node:path'
import { buildSync } from 'esbuild'
import type { IssuerStore, SqliteIssuerStoreOptions } from '../../src/sqlite.js'
import { openSqlite } from '../../src/stores/sqlite/issuer-store.js'
import { type StartThread, startFrom } from '../../src/stores/sqlite/threads.js'
import { goneWithProcess } from '../support/scratch.js'

const ROOM = new URL('../../src/stores/sqlite/', import.meta.url)
const CACHE = new URL('../../node_modules/.cache/issuer-pin-crypto/', import.meta.url)
// Vitest has several threads in a process.
const NAME = `sqlite-host-${process.pid}-${Math.random().toString(36).slice(2)}.mjs`
let built: string | undefined

function build(): string {
  const outfile = new URL(NAME, CACHE).pathname
  mkdirSync(dirname(outfile), { recursive: true })
  buildSync({
    entryPoints: [new URL('host-entry.ts', ROOM).pathname],
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    outfile,
    logLevel: 'error',
  })
  return outfile
}

function threadFile(): string {
  if (built !== undefined) return built
  const outfile = build()
  goneWithProcess(outfile)
  built = outfile
  return outfile
}

/** Puts it where the library looks for it when a process of its own runs from the sources, as `npm run setup` does. */
export function buildBesideSources(): void {
  renameSync(build(), new URL('sqlite-host.mjs', ROOM).pathname)
}

export const START: StartThread = startFrom(threadFile)

/** `openSqliteIssuerStore`, its threads started from the sources. */
export function openHere(options: SqliteIssuerStoreOptions): Promise<IssuerStore> {
  return openSqlite(options, START)
}
