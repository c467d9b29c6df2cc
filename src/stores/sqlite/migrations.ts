/** The tables of a SQLite file, version by version. See `../sql/migrate.ts`. */

/** Version 1, and all that `openSqliteStore` makes: a change counter that belongs to no issuer. */
export const COUNTER_TABLE: string = `
  CREATE TABLE IF NOT EXISTS issuer_pin_change_counter (
    key TEXT PRIMARY KEY NOT NULL,
    version INTEGER NOT NULL,
    value TEXT NOT NULL,
    expires_at INTEGER
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS issuer_pin_change_counter_expiry
    ON issuer_pin_change_counter (expires_at) WHERE expires_at IS NOT NULL;
`

/**
 * Version 2: the stores of an issuer. What a counter held before has no issuer yet (`''`); the store gives it one.
 *
 * A view stands where the table of version 1 stood. Whoever opens the file with `openSqliteStore`, of whatever version,
 * would otherwise make the table again and count from the beginning; an index on a view is an error.
 */
const ISSUER_TABLES = `
  CREATE TABLE issuer_pin_cards (
    issuer_id TEXT NOT NULL,
    card_id TEXT NOT NULL,
    state TEXT NOT NULL,
    pan BLOB NOT NULL,
    set_pin_types TEXT NOT NULL,
    seccos TEXT,
    PRIMARY KEY (issuer_id, card_id)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE issuer_pin_pins (
    issuer_id TEXT NOT NULL,
    card_id TEXT NOT NULL,
    block BLOB,
    kid TEXT,
    prw TEXT,
    sequence INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (issuer_id, card_id),
    FOREIGN KEY (issuer_id, card_id) REFERENCES issuer_pin_cards ON DELETE CASCADE,
    CHECK ((block IS NULL) = (kid IS NULL) AND (block IS NULL) <> (prw IS NULL))
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE issuer_pin_counters (
    issuer_id TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    value TEXT NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (issuer_id, key)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX issuer_pin_counters_expiry
    ON issuer_pin_counters (issuer_id, expires_at) WHERE expires_at IS NOT NULL;
  INSERT INTO issuer_pin_counters (issuer_id, key, version, value, expires_at)
    SELECT '', key, version, value, expires_at FROM issuer_pin_change_counter;
  DROP TABLE issuer_pin_change_counter;
  CREATE VIEW issuer_pin_change_counter AS
    SELECT key, version, value, expires_at FROM issuer_pin_counters WHERE issuer_id = '';
`

/** Number 1 first. Never changed once released. */
export const SQLITE_MIGRATIONS: readonly string[] = [COUNTER_TABLE, ISSUER_TABLES]
