import type { ChangeCounterStore, StoredRecord } from './change-counter-store.js'

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
