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

/**
 * A store in this process's memory: for tests and demonstrations. What it holds is gone with the process, and a second
 * process does not see it; a card would then get a PIN change counter that it had before.
 *
 * @example
 * ```ts
 * const counter = new ChangeCounter({ store: memoryStore(), … })
 * ```
 */
export function memoryStore(): ChangeCounterStore {
  return new MemoryStore()
}

interface MemoryRecord extends StoredRecord {
  readonly expiresAt: number | undefined
}

class MemoryStore implements ChangeCounterStore {
  readonly #records = new Map<string, MemoryRecord>()
  #lastVersion = 0

  async read(key: string): Promise<StoredRecord | undefined> {
    const record = this.#records.get(key)
    return record && { value: record.value, version: record.version }
  }

  async compareAndSet(
    key: string,
    expected: string | undefined,
    value: string,
    options?: { readonly expiresAt?: number },
  ): Promise<boolean> {
    if (this.#records.get(key)?.version !== expected) return false
    this.#lastVersion++
    this.#records.set(key, { value, version: String(this.#lastVersion), expiresAt: options?.expiresAt })
    return true
  }

  async purge(now: number): Promise<number> {
    let deleted = 0
    for (const [key, { expiresAt }] of this.#records) {
      if (expiresAt !== undefined && expiresAt <= now && this.#records.delete(key)) deleted++
    }
    return deleted
  }
}
