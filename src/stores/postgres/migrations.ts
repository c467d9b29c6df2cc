/** The tables of a PostgreSQL schema, version by version. See `../sql/migrate.ts`. */
import type { MigrationPlan } from '../sql/migrate.js'

/** Of the advisory lock, with a hash of the schema: any number that other programs do not take. */
const LOCK = 0x495043

/**
 * Version 1. `COLLATE "C"`: identifiers are compared byte by byte, and no upgrade of the operating system's collations
 * can spoil the indexes.
 */
const ISSUER_TABLES = (schema: string): string => `
  CREATE TABLE ${schema}.cards (
    issuer_id text COLLATE "C" NOT NULL,
    card_id text COLLATE "C" NOT NULL,
    state text NOT NULL,
    pan bytea NOT NULL,
    set_pin_types text NOT NULL,
    seccos text,
    revision text COLLATE "C" NOT NULL,
    PRIMARY KEY (issuer_id, card_id)
  );
  CREATE TABLE ${schema}.pins (
    issuer_id text COLLATE "C" NOT NULL,
    card_id text COLLATE "C" NOT NULL,
    block bytea,
    kid text COLLATE "C",
    prw text,
    request bytea,
    sequence bigint NOT NULL DEFAULT 0,
    version text COLLATE "C" NOT NULL,
    PRIMARY KEY (issuer_id, card_id),
    FOREIGN KEY (issuer_id, card_id) REFERENCES ${schema}.cards ON DELETE CASCADE,
    CHECK ((block IS NULL) = (kid IS NULL) AND (block IS NULL) <> (prw IS NULL))
  );
  CREATE INDEX pins_kid ON ${schema}.pins (kid, issuer_id, card_id) WHERE kid IS NOT NULL;
  CREATE TABLE ${schema}.requests (
    digest bytea PRIMARY KEY,
    issuer_id text COLLATE "C" NOT NULL,
    card_id text COLLATE "C" NOT NULL,
    jwe_kid text NOT NULL,
    accepted_at bigint NOT NULL,
    repeats bigint NOT NULL DEFAULT 0,
    mark text NOT NULL
  );
  CREATE TABLE ${schema}.counters (
    issuer_id text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    value text NOT NULL,
    expires_at bigint,
    PRIMARY KEY (issuer_id, key)
  );
  CREATE INDEX counters_expiry ON ${schema}.counters (issuer_id, expires_at) WHERE expires_at IS NOT NULL;
`

/** The migrations of a schema whose name has been checked. The lock lasts as long as the transaction. */
export function postgresPlan(name: string, timeoutMs: number): MigrationPlan {
  const schema = `"${name}"`
  return {
    begin: `
      BEGIN ISOLATION LEVEL READ COMMITTED;
      SET LOCAL search_path = '';
      SET LOCAL statement_timeout = ${timeoutMs};
      SELECT pg_advisory_xact_lock(${LOCK}, hashtext('${name}'));`,
    findVersions: `SELECT 1 AS yes FROM pg_tables WHERE schemaname = '${name}' AND tablename = 'versions'`,
    // A role that may use the schema need not be one that may create schemas: PostgreSQL asks before it looks.
    makeVersions: `
      DO $$ BEGIN
        IF to_regnamespace('${schema}') IS NULL THEN CREATE SCHEMA ${schema}; END IF;
      END $$;
      CREATE TABLE ${schema}.versions (version integer PRIMARY KEY, applied_at bigint NOT NULL);`,
    versions: `${schema}.versions`,
    migrations: [ISSUER_TABLES(schema)],
  }
}
