/** Threads of the SQLite store from the sources: they need JavaScript, and so a bundle of what they run. */
import { renameSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { IssuerStore, SqliteIssuerStoreOptions } from '../../src/sqlite.js'
import { openSqlite } from '../../src/stores/sqlite/issuer-store.js'
import { type StartThread, startFrom } from '../../src/stores/sqlite/threads.js'
import { bundled, bundleTo } from '../support/bundled.js'

const ROOM = new URL('../../src/stores/sqlite/', import.meta.url)
const ENTRY = new URL('host-entry.ts', ROOM)

/** The file that a thread runs. */
export const hostFile = (): string => bundled(ENTRY)

/** Puts it where the library looks for it when a process of its own runs from the sources, as `npm run setup` does. */
export function buildBesideSources(): void {
  const path = fileURLToPath(new URL('sqlite-host.mjs', ROOM))
  renameSync(bundleTo(`${path}.${process.pid}`, ENTRY), path)
}

export const START: StartThread = startFrom(hostFile)

/** `openSqliteIssuerStore`, its threads started from the sources. */
export function openHere(options: SqliteIssuerStoreOptions): Promise<IssuerStore> {
  return openSqlite(options, START)
}
