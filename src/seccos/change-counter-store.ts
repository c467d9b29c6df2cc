/**
 * What a change counter needs from a database: one record read, one record written if nobody wrote before. Any store
 * with an atomic compare-and-set fits; `change-counter-contract.ts` says whether an implementation holds.
 *
 * 1. `read` gives the last value written, with its version. `compareAndSet` returns true to exactly one of several
 *    callers that name the same version, in whatever process they run.
 * 2. A record that was written is there after a crash: true means durable.
 * 3. A version is opaque and never comes back for a key while its record exists.
 * 4. Values hold hashes, counters and card identifiers; no PIN, PAN, PRW or intdatag. Up to 8 KiB of text.
 */

/** A record as it stands. */
export interface StoredRecord {
  readonly value: string
  readonly version: string
}

/** Storage of a change counter. Failures are rejected promises; whether a write happened is then unknown. */
export interface ChangeCounterStore {
  /** The record by this key, or undefined. Keys: up to 80 printable ASCII characters. */
  read(key: string): Promise<StoredRecord | undefined>
  /**
   * Writes the record if its version is `expected`, or if there is none and `expected` is undefined. False: somebody
   * else was first, and nothing was written.
   *
   * `expiresAt` (milliseconds since 1970) allows {@link ChangeCounterStore.purge} to delete the record from then on.
   * Without it the record stays.
   */
  compareAndSet(
    key: string,
    expected: string | undefined,
    value: string,
    options?: { readonly expiresAt?: number },
  ): Promise<boolean>
  /** Deletes the records whose `expiresAt` is not after `now`, and says how many. Nothing depends on when it runs. */
  purge(now: number): Promise<number>
}
