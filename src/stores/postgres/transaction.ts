/**
 * What every transaction begins and ends with. Nothing is asked of the connection's startup, for a pooler refuses it or
 * drops it in silence, and nothing is set for a session, for the next transaction may be another client's: isolation,
 * times and the kind of commit are stated each time.
 *
 * Source: PostgreSQL 15 documentation, 20.5.1 (synchronous_commit), 27.2.8; PgBouncer 1.18, transaction pooling.
 */
import { busy } from './errors.js'
import type { PostgresClient } from './pool.js'

/** What a resolved write means: on the disk of the server, or on that of a synchronous standby as well. */
export type PostgresDurability = 'local' | 'replicated'

/** What a transaction is told. */
export interface TransactionSettings {
  readonly timeoutMs: number
  readonly durability: PostgresDurability
}

const COMMITS: Readonly<Record<PostgresDurability, string>> = {
  // Stronger than `on` stays as it is; what is weaker (`off`, and for a standby `remote_write`, `local`) does not.
  local:
    "CASE WHEN current_setting('synchronous_commit') = 'off' THEN 'on' ELSE current_setting('synchronous_commit') END",
  replicated:
    "CASE WHEN current_setting('synchronous_commit') = 'remote_apply' THEN 'remote_apply' ELSE 'on' END",
}

const STANDBYS = "SELECT current_setting('synchronous_standby_names') AS standbys"

/** One simple query: it begins, and sets what holds until the end. `search_path` first: nobody's function comes in. */
export function beginning(
  { timeoutMs, durability }: TransactionSettings,
  access: 'READ ONLY' | 'READ WRITE',
): string {
  return `BEGIN ISOLATION LEVEL READ COMMITTED, ${access};
    SET LOCAL search_path = '';
    SET LOCAL statement_timeout = ${timeoutMs};
    SET LOCAL lock_timeout = ${timeoutMs};
    SET LOCAL idle_in_transaction_session_timeout = ${timeoutMs};
    SELECT set_config('synchronous_commit', ${COMMITS[durability]}, true)`
}

/**
 * Commits. Where standbys are waited for: a wait that was cancelled is answered like a success, but for a notice; and one
 * that ended because the standbys were taken out of the settings, without a word. Either way nobody knows whether a
 * standby has it: `ERR_BACKEND_BUSY`, and whoever asks again gets a commit of their own.
 */
export async function commit(client: PostgresClient, durability: PostgresDurability): Promise<void> {
  if (durability === 'local') return void (await client.query('COMMIT'))
  await requireStandbys(client)
  let warned = false
  const onNotice = (): void => {
    warned = true
  }
  client.on('notice', onNotice)
  try {
    await client.query('COMMIT')
  } finally {
    client.removeListener('notice', onNotice)
  }
  if (warned) throw busy('the wait for a standby was cancelled, and it is unknown whether it has the commit')
  await requireStandbys(client)
}

async function requireStandbys(client: PostgresClient): Promise<void> {
  const { rows } = await client.query(STANDBYS)
  if (rows[0]?.['standbys'] === '') throw busy('no synchronous standby is configured any more')
}
