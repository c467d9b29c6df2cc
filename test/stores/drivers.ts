/** Which SQLite drivers can be tested here. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { SqliteDriver } from '../../src/sqlite.js'
import { openFile } from '../../src/stores/sqlite/driver.js'

const DRIVERS: readonly SqliteDriver[] = ['better-sqlite3', 'node:sqlite']

const folder = mkdtempSync(join(tmpdir(), 'ipc-drivers-'))

/** To import better-sqlite3 says nothing: its addon loads when a database is opened. */
async function isThere(driver: SqliteDriver): Promise<boolean> {
  return openFile(join(folder, `${driver.replace(':', '-')}.db`), driver).then(
    ({ database }) => {
      database.close()
      return true
    },
    () => false,
  )
}

const present = await Promise.all(DRIVERS.map(isThere))
rmSync(folder, { recursive: true })

/** The SQLite drivers that can be tested here; a missing one is printed. */
export const AVAILABLE: readonly SqliteDriver[] = DRIVERS.filter((_, i) => present[i])
export const MISSING: readonly SqliteDriver[] = DRIVERS.filter((_, i) => !present[i])

const REASONS: Readonly<Record<SqliteDriver, string>> = {
  'better-sqlite3': 'it is not compiled for this Node: npm run setup',
  'node:sqlite': `Node ${process.version} has none: 22.13 or later`,
}
for (const driver of MISSING) console.warn(`SQLite by ${driver}: not run, ${REASONS[driver]}`)
