/**
 * What a change counter needs from a database: one record read, one record written if nobody wrote before. Any store
 * with an atomic compare-and-set fits; `change-counter-contract.ts` says whether an implementation holds.
 *
 * 1. `read` gives the last value written, with its version. `compareAndSet` returns true to exactly one of several
 *    callers that name the same version, in whatever process they run.
 * 2. A record that was written is there after a crash: true means durable.
 * 3. A version is opaque and never comes back for a key while its record exists.
 * 4. Values hold hashes, counters and card identifiers; no PIN, PAN, PRW or intdatag. Up to 8 KiB of text.
 * 5. A database that may be replaced by an older copy of itself (a standby, a backup) names its *instance*: a text that
 *    is another one after each such change, and after a restart. It is looked at in the statement that writes, never
 *    remembered: the next statement may reach another server.
 */

import { readOptions, readOwn } from '../../base/arguments.js'

/** A record as it is. */
export interface StoredRecord {
  readonly value: string
  readonly version: string
  /** Of the server that gave the answer; see {@link ChangeCounterStore.instance}. */
  readonly instance?: string
}

/** What a write may ask for. */
export interface WriteOptions {
  /** Milliseconds since 1970: {@link ChangeCounterStore.purge} may delete the record from then on. Without it: never. */
  readonly expiresAt?: number
  /** Write only if the server that writes is this one. A store without instances then never writes. */
  readonly instance?: string
}

/** One of several records that are written together. */
export interface RecordWrite extends WriteOptions {
  readonly key: string
  /** The version that it replaces; undefined where there must be none. */
  readonly expected: string | undefined
  readonly value: string
}

/**
 * A claim as the record of its card holds it. A store that keeps these records, too, replaces `claimed` by `spent` in the
 * text of the record at `key`, in the very write that stores the PRW, and stores nothing where neither text is in it: the
 * claim has ended then, and D1 may have been told so. A store that keeps no such record takes no notice, unless it is the one
 * that keeps the counter's records itself (`keptBy`): then the record was lost, as an asynchronous failover loses it, and the
 * claim has ended with it.
 */
export interface ClaimRecord {
  /** The key of the card's record in the {@link ChangeCounterStore}. */
  readonly key: string
  readonly claimed: string
  readonly spent: string
  /** The store that keeps the record; absent where that is not known. */
  readonly keptBy?: ChangeCounterStore
}

/** A page of {@link ChangeCounterStore.keys}. */
export interface KeyPage {
  readonly prefix: string
  /** The last key of the page before. */
  readonly after?: string
  readonly limit: number
}

/** Storage of a change counter. Failures are rejected promises; whether a write happened is then unknown. */
export interface ChangeCounterStore {
  /** The record by this key, or undefined. Keys: up to 80 printable ASCII characters. */
  read(key: string): Promise<StoredRecord | undefined>
  /**
   * Writes the record if its version is `expected`, or if there is none and `expected` is undefined. False: somebody
   * else was first, or the server is another one than `instance`, and nothing was written.
   */
  compareAndSet(
    key: string,
    expected: string | undefined,
    value: string,
    options?: WriteOptions,
  ): Promise<boolean>
  /**
   * {@link ChangeCounterStore.compareAndSet} of several records in one step, which waits for the disk once: all of them are
   * written, or, where one is not as it was expected, none. Where it is left out, the counter writes one after the other.
   */
  compareAndSetAll?(writes: readonly RecordWrite[]): Promise<boolean>
  /**
   * Deletes the records whose `expiresAt` is not after `now`, at most `limit` of them, and says how many. Nothing depends
   * on when it runs.
   */
  purge(now: number, options?: { readonly limit?: number }): Promise<number>
  /** The keys that begin with `prefix` and come after `after`, byte by byte, at most `limit` of them. */
  keys(page: KeyPage): Promise<readonly string[]>
  /** The instance of the server that answers now. Left out where a database has none. */
  instance?(): Promise<string>
  /**
   * True: what is read may be lost yet, and only a commit tells (a synchronous standby that is waited for). The counter
   * then writes before it calls a request a repeated one.
   */
  readonly commitsReplays?: boolean
}

/**
 * A store in this process's memory: for tests and demonstrations. What it holds is gone with the process, and a second
 * process does not see it; a card would then get a PIN change counter that it had before.
 *
 * `instance` plays a database that fails over: it says which server answers.
 *
 * @example
 * ```ts
 * const counter = new ChangeCounter({ store: memoryStore(), … })
 * ```
 */
export function memoryStore(options: { readonly instance?: () => string } = {}): ChangeCounterStore {
  const { instance } = readOptions(options, 'memoryStore', ['instance'])
  return new MemoryStore(instance)
}

const WRITE_MEMBERS = ['key', 'expected', 'value', 'expiresAt', 'instance'] as const

interface MemoryRecord extends Omit<StoredRecord, 'instance'> {
  readonly expiresAt: number | undefined
}

/** What {@link memoryStore} makes. */
export class MemoryStore implements ChangeCounterStore {
  readonly #records = new Map<string, MemoryRecord>()
  readonly #now: (() => string) | undefined
  readonly instance?: () => Promise<string>
  #lastVersion = 0

  constructor(instance?: () => string) {
    this.#now = instance
    if (instance !== undefined) this.instance = async () => instance()
  }

  async read(key: string): Promise<StoredRecord | undefined> {
    const record = this.#records.get(key)
    if (record === undefined) return undefined
    const { value, version } = record
    return { value, version, ...(this.#now !== undefined && { instance: this.#now() }) }
  }

  async compareAndSet(
    key: string,
    expected: string | undefined,
    value: string,
    options?: WriteOptions,
  ): Promise<boolean> {
    return this.compareAndSetAll([{ ...options, key, expected, value }])
  }

  async compareAndSetAll(writes: readonly RecordWrite[]): Promise<boolean> {
    const read = writes.map(write => readOwn(write, 'compareAndSetAll', WRITE_MEMBERS))
    const isAsExpected = read.every(
      ({ key, expected, instance }) =>
        this.#records.get(key)?.version === expected &&
        (instance === undefined || instance === this.#now?.()),
    )
    if (!isAsExpected) return false
    for (const { key, value, expiresAt } of read) {
      this.#lastVersion++
      this.#records.set(key, { value, version: String(this.#lastVersion), expiresAt })
    }
    return true
  }

  /**
   * Ends a claim, at once; true also where it was ended so before, and where there is no such record, because the counter is
   * kept elsewhere.
   */
  static spend(store: MemoryStore, { key, claimed, spent }: ClaimRecord, isKeptHere: boolean): boolean {
    const record = store.#records.get(key)
    if (record === undefined) return !isKeptHere
    if (record.value.includes(spent)) return true
    if (!record.value.includes(claimed)) return false
    store.#lastVersion++
    const value = record.value.replace(claimed, () => spent)
    store.#records.set(key, { ...record, value, version: String(store.#lastVersion) })
    return true
  }

  async keys({ prefix, after = '', limit }: KeyPage): Promise<readonly string[]> {
    const found = [...this.#records.keys()].filter(key => key.startsWith(prefix) && key > after)
    return found.sort().slice(0, limit)
  }

  async purge(now: number, options: { readonly limit?: number } = {}): Promise<number> {
    const { limit = Number.POSITIVE_INFINITY } = options
    let deleted = 0
    for (const [key, { expiresAt }] of this.#records) {
      if (deleted >= limit) break
      if (expiresAt !== undefined && expiresAt <= now && this.#records.delete(key)) deleted++
    }
    return deleted
  }
}
