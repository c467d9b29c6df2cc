/**
 * Rates per card and caller, counted in PostgreSQL, for a service of several replicas: token buckets in a table that is not
 * logged (what a crash forgets is a minute), by the server's clock, one statement for both.
 */
import { readOptions } from '../../base/arguments.js'
import { type RateLimiter, type RatesOptions, readRates } from '../../d1/endpoints/bounds.js'
import type { SqlDatabase } from '../sql/database.js'

/** After so many operations, buckets that are full again go. */
const TIDY_EVERY = 1000
const NOW = '(extract(epoch FROM clock_timestamp()) * 1000)::float8'

/** One bucket: a row comes back where a token was left. `rate`: tokens a minute, and the most there are. */
function taking(table: string, key: string, rate: string, where = ''): string {
  const full = `LEAST(${rate}, bucket.tokens + GREATEST(0, excluded.at - bucket.at) * ${rate} / 60000)`
  return (
    `INSERT INTO ${table} AS bucket (key, tokens, at) SELECT ${key}, ${rate} - 1, ${NOW}${where} ` +
    `ON CONFLICT (key) DO UPDATE SET tokens = ${full} - 1, at = excluded.at WHERE ${full} >= 1 RETURNING 1 AS taken`
  )
}

/** The limiter on a database whose tables are there. `ERR_ARGUMENT`. */
export function postgresRates(database: SqlDatabase, options: RatesOptions): RateLimiter {
  const { perCardPerMinute, perCallerPerMinute } = readRates(
    'rates',
    readOptions(options, 'rates', ['perCardPerMinute', 'perCallerPerMinute']),
  )
  const table = `${database.dialect.prefix}rates`
  const card = taking(table, 'CAST($1 AS text)', '$2::float8')
  // A card that is refused costs its caller nothing.
  const caller = taking(table, 'CAST($3 AS text)', '$4::float8', ' WHERE EXISTS (SELECT 1 FROM card)')
  const sql = `WITH card AS (${card}) ${caller}`
  // What somebody else counts at this moment is left to them: whoever tidies has a caller's row already, and waits for no other.
  const old = `SELECT key FROM ${table} WHERE at < ${NOW} - 60000 LIMIT 1000 FOR UPDATE SKIP LOCKED`
  const tidy = `DELETE FROM ${table} WHERE key IN (${old})`
  let taken = 0
  return {
    take: async query => {
      const values = [
        `card ${query.issuerId}/${query.cardId}`,
        perCardPerMinute,
        `caller ${query.caller ?? ''}`,
        perCallerPerMinute,
      ]
      taken++
      const [result] = await database.write([
        { sql, values, mayBeLate: true },
        ...(taken % TIDY_EVERY === 0 ? [{ sql: tidy, values: [] }] : []),
      ])
      return result?.rows.length === 1
    },
  }
}
