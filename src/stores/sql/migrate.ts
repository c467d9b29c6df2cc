/**
 * Brings a database to the version this code knows. A migration is a list of statements; its number is its place. It is
 * never changed once released: what it made stands in somebody's database.
 *
 * All that is missing runs in one transaction, under a lock that lets one process in at a time: of two replicas that
 * start at once the second finds nothing left to do. A role that may not create tables is enough once they are there.
 */
import { BackendError } from '../../base/errors.js'
import type { SqlSession } from './database.js'

/** What one kind of database needs for it. */
export interface MigrationPlan {
  /** Opens the transaction and takes the lock. */
  readonly begin: string
  /** A row, where the table of versions is there. */
  readonly findVersions: string
  /** Makes the table of versions, and what it stands in. */
  readonly makeVersions: string
  /** The name of that table: `version` (the number), `applied_at` (milliseconds since 1970). */
  readonly versions: string
  /** Number 1 first. */
  readonly migrations: readonly string[]
}

/**
 * Runs what is missing. Errors: `ERR_UNSUPPORTED` (the database is of a later version than this code); what the database
 * reports. Nothing of it is done then: where the connection goes on living, the transaction is rolled back.
 */
export async function migrate(session: SqlSession, plan: MigrationPlan): Promise<void> {
  await session.exec(plan.begin)
  try {
    await bringUpToDate(session, plan)
    await session.exec('COMMIT')
  } catch (error) {
    // It may have ended the transaction itself, or be gone: the first error is the one to know.
    await session.exec('ROLLBACK').catch(() => {})
    throw error
  }
}

async function bringUpToDate(session: SqlSession, plan: MigrationPlan): Promise<void> {
  const { findVersions, makeVersions, versions, migrations } = plan
  const isThere = (await session.get(findVersions, [])) !== undefined
  if (!isThere) await session.exec(makeVersions)
  const row = await session.get(`SELECT COALESCE(MAX(version), 0) AS version FROM ${versions}`, [])
  const found = Number(row?.['version'])
  if (found > migrations.length) {
    const known = `this library knows versions up to ${migrations.length}`
    throw new BackendError('ERR_UNSUPPORTED', `the database is of version ${found}, and ${known}: update it`)
  }
  for (const [i, statements] of migrations.entries()) {
    if (i < found) continue
    await session.exec(statements)
    await session.run(`INSERT INTO ${versions} (version, applied_at) VALUES ($1, $2)`, [i + 1, Date.now()])
  }
}
