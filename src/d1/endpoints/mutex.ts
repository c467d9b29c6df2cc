/** The Set PINs of one card, one after the other. */
import { Refusal } from './refusal.js'

/** Tasks under one key that may wait or run at once. D1 has no use for more; what hangs must not pile up. */
const MAX_TASKS = 32

interface Queue {
  tail: Promise<unknown>
  tasks: number
}

/**
 * Runs tasks under the same key one after the other, in the order in which they came, and tasks under different keys
 * side by side. A key is remembered for as long as it has tasks, and no longer. Within one process: replicas are kept
 * apart by the issuer's database, and by the change counter.
 *
 * @example
 * ```ts
 * await mutex.run(cardId, signal, () => store(pin))
 * ```
 */
export class KeyedMutex {
  readonly #queues = new Map<string, Queue>()

  /** Keys that have tasks. */
  get size(): number {
    return this.#queues.size
  }

  /**
   * Runs `task` when all earlier ones of the key have settled. A task whose signal has fired by then is not run: it
   * rejects with the signal's reason. Refuses (`card-busy`) where the queue is full.
   */
  run<T>(key: string, signal: AbortSignal, task: () => Promise<T>): Promise<T> {
    const queue = this.#queues.get(key) ?? { tail: Promise.resolve(), tasks: 0 }
    if (queue.tasks >= MAX_TASKS) return Promise.reject(new Refusal('card-busy'))
    this.#queues.set(key, queue)
    queue.tasks++
    const result = queue.tail.then(() => {
      signal.throwIfAborted()
      return task()
    })
    const leave = (): void => {
      queue.tasks--
      if (queue.tasks === 0) this.#queues.delete(key)
    }
    queue.tail = result.then(leave, leave)
    return result
  }
}
