/** The tables of a SQLite file, version by version. See `../sql/migrate.ts`. */

/** Version 1. */
const ISSUER_TABLES = `
  CREATE TABLE issuer_pin_cards (
    issuer_id TEXT NOT NULL,
    card_id TEXT NOT NULL,
    state TEXT NOT NULL,
    pan BLOB NOT NULL,
    set_pin_types TEXT NOT NULL,
    seccos TEXT,
    revision TEXT NOT NULL,
    PRIMARY KEY (issuer_id, card_id)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE issuer_pin_pins (
    issuer_id TEXT NOT NULL,
    card_id TEXT NOT NULL,
    block BLOB,
    kid TEXT,
    prw TEXT,
    request BLOB,
    sequence INTEGER NOT NULL DEFAULT 0,
    version TEXT NOT NULL,
    PRIMARY KEY (issuer_id, card_id),
    FOREIGN KEY (issuer_id, card_id) REFERENCES issuer_pin_cards ON DELETE CASCADE,
    CHECK ((block IS NULL) = (kid IS NULL) AND (block IS NULL) <> (prw IS NULL))
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX issuer_pin_pins_kid ON issuer_pin_pins (kid, issuer_id, card_id) WHERE kid IS NOT NULL;
  CREATE TABLE issuer_pin_requests (
    digest BLOB PRIMARY KEY NOT NULL,
    issuer_id TEXT NOT NULL,
    card_id TEXT NOT NULL,
    jwe_kid TEXT NOT NULL,
    accepted_at INTEGER NOT NULL,
    repeats INTEGER NOT NULL DEFAULT 0,
    mark TEXT NOT NULL
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
`

/** Number 1 first. Never changed once released. */
export const SQLITE_MIGRATIONS: readonly string[] = [ISSUER_TABLES]
