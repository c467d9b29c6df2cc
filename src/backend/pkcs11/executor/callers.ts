/**
 * Those who wait for an answer of the token: each is released at the end of its time whatever the token does, at its
 * signal, after `waitMs` in the queue, after `callMs` in all. What a native call still computes after that is wiped. One
 * timer for all.
 */

import { types } from 'node:util'
import { copyInto, ownCopy, wipe } from '../../../base/bytes.js'
import { systemClock, whenAborted } from '../../../base/deadline.js'
import { DEFAULTS } from '../../../base/defaults.js'
import { AbortedError, BackendError } from '../../../base/errors.js'
import type { BlocksJob, JobName, Jobs } from './executor.js'

/** Bounds of the queue, in callers and milliseconds. */
export interface QueueLimits {
  /** Callers that may wait; the next one gets `ERR_BACKEND_BUSY` at once. */
  readonly queue: number
  /** How long a caller waits for its turn. */
  readonly waitMs: number
  /** How long a call takes at most, waiting included. */
  readonly callMs: number
}

export type Outcome = { readonly value: unknown } | { readonly error: unknown }

/** Hears why a job has failed. */
export type Failed = (name: JobName, error: unknown) => void

/** A job that waits, and whose it is. */
export class Entry {
  readonly name: JobName
  readonly job: Jobs[JobName]['job']
  /** How it has failed at once, where it has: it goes on with the cure. */
  readonly failed: unknown
  /** Where the answer goes, where the caller has memory for it. */
  readonly into: Uint8Array<ArrayBuffer> | undefined
  /** When it came, in milliseconds. */
  readonly since: number = systemClock.elapsed()
  readonly answer: Promise<unknown>
  done = false
  begun = false
  /** Not to be put together with others again. */
  alone: boolean
  /** Ends the wait for its caller's signal. */
  release: (() => void) | undefined
  readonly resolve: (value: unknown) => void
  readonly reject: (error: unknown) => void

  constructor(name: JobName, job: Jobs[JobName]['job'], failed: unknown, into?: Uint8Array<ArrayBuffer>) {
    this.name = name
    this.job = job
    this.failed = failed
    this.into = into
    this.alone = failed !== undefined
    const own = {} as Pick<Entry, 'resolve' | 'reject'>
    this.answer = new Promise((resolve, reject) => Object.assign(own, { resolve, reject }))
    this.resolve = own.resolve
    this.reject = own.reject
  }
}

/**
 * Memory for blocks that wait, used again when they have been answered: new memory off the heap for each keeps the garbage
 * collector as busy as all the rest.
 */
class Spares {
  readonly #free = new Map<number, Uint8Array[]>([8, 16].map(length => [length, []]))

  copyOf(blocks: Uint8Array): Uint8Array {
    const spare = this.#free.get(blocks.length)?.pop()
    if (spare === undefined) return ownCopy(blocks)
    copyInto(spare, blocks)
    return spare
  }

  giveBack(copy: Uint8Array): void {
    wipe(copy)
    const free = this.#free.get(copy.length)
    if (free !== undefined && free.length < SPARES) free.push(copy)
  }
}

/** As many as may wait by default. */
const SPARES = DEFAULTS.pkcs11.queue.value

/** By so much a timer may come too early. */
const MAX_EARLY_MS = 1

export class Callers {
  readonly #limits: QueueLimits
  readonly #failed: Failed
  readonly #spares = new Spares()
  /** Those whose turn has not come. */
  readonly #queue = new Set<Entry>()
  /** Whoever has not been released, waiting or not, in the order in which they came. */
  readonly #entries = new Set<Entry>()
  #endTimer: (() => void) | undefined
  /** When the timer fires. */
  #endsAt = Number.POSITIVE_INFINITY
  #end: (() => void) | undefined

  constructor(limits: QueueLimits, failed: Failed) {
    this.#limits = limits
    this.#failed = failed
  }

  /** Callers that wait now. */
  get waiting(): number {
    return this.#queue.size
  }

  /** The one whose turn is next. */
  get next(): Entry | undefined {
    const [first] = this.#queue
    return first
  }

  /** Those whose turn has not come, in the order in which it will. */
  queued(): IterableIterator<Entry> {
    return this.#queue.values()
  }

  /** The caller's blocks in memory that is used again: they go into an entry with memory for the answer. */
  copyOf(blocks: Uint8Array): Uint8Array {
    return this.#spares.copyOf(blocks)
  }

  /** Takes somebody in, or answers at once why not; true where it waits. What finds a free lane needs no room in the queue. */
  enter(entry: Entry, signal: AbortSignal | undefined, isLaneFree: boolean): boolean {
    const { queue } = this.#limits
    if (this.#queue.size >= queue && !isLaneFree) {
      this.settle(entry, { error: new QueueFull(this.#queue.size) })
      return false
    }
    if (signal !== undefined) {
      const abort = (): void => this.settle(entry, { error: new AbortedError(signal.reason) })
      // One that has fired calls nobody back.
      if (signal.aborted) {
        abort()
        return false
      }
      entry.release = whenAborted(signal, abort)
    }
    this.#entries.add(entry)
    this.#queue.add(entry)
    this.#watchUntil(entry.since + this.#timeOf(entry))
    return true
  }

  /** Its turn has come. */
  begin(entry: Entry): void {
    this.#queue.delete(entry)
    entry.begun = true
  }

  /** It waits for another turn. */
  again(entry: Entry): void {
    entry.begun = false
    this.#queue.add(entry)
    this.#watchUntil(entry.since + this.#timeOf(entry))
  }

  /** Answers a caller, once. An answer that comes too late is wiped: nobody may have it any more. */
  settle(entry: Entry, outcome: Outcome): void {
    if (entry.done) {
      if ('value' in outcome && types.isUint8Array(outcome.value)) wipe(outcome.value)
      return
    }
    entry.done = true
    entry.release?.()
    this.#queue.delete(entry)
    this.#entries.delete(entry)
    if (this.#entries.size === 0) this.#stopWatching()
    const { begun, into } = entry
    if (into !== undefined) {
      const { blocks } = entry.job as BlocksJob
      // A job that has begun and whose caller was let go may still wait to be handed to a thread: what it is handed must be
      // nobody's by then.
      if (begun && 'error' in outcome) wipe(blocks)
      else this.#spares.giveBack(blocks)
    }
    if ('error' in outcome) {
      this.#failed(entry.name, outcome.error)
      entry.reject(outcome.error)
      return
    }
    const { value } = outcome
    // One of another length is for the front to refuse.
    if (into === undefined || !types.isUint8Array(value) || value.length !== into.length) {
      entry.resolve(value)
      return
    }
    copyInto(into, value)
    wipe(value)
    entry.resolve(into)
  }

  /** Releases, after so long, everybody who is still here: closing waits for nobody for ever. */
  endWithin(ms: number): void {
    this.#end ??= systemClock.after(ms, () => {
      for (const entry of [...this.#entries]) this.settle(entry, { error: closed() })
    })
  }

  close(): void {
    this.#end?.()
  }

  /** How long an entry may take, from when it came: until its turn, or in all. */
  #timeOf({ begun }: Entry): number {
    const { waitMs, callMs } = this.#limits
    return begun ? callMs : Math.min(waitMs, callMs)
  }

  /** Releases those whose time is up. One timer for all: they come in the order in which it will be. */
  #expire(): void {
    this.#stopWatching()
    const now = systemClock.elapsed()
    let next = Number.POSITIVE_INFINITY
    for (const entry of this.#entries) {
      const ms = this.#timeOf(entry)
      const left = entry.since + ms - now
      if (left <= MAX_EARLY_MS) {
        const late = entry.begun ? 'the token did not answer' : 'its turn did not come'
        this.settle(entry, { error: busy(`${late} within ${ms} ms`) })
        continue
      }
      next = Math.min(next, left)
      // Whoever waits behind one who waits came later.
      if (!entry.begun) break
    }
    if (this.#entries.size > 0) this.#watchUntil(now + next)
  }

  /** At that time at the latest: whoever comes while all others have begun is the first whose time is up. */
  #watchUntil(endsAt: number): void {
    if (this.#endsAt <= endsAt) return
    this.#stopWatching()
    this.#endsAt = endsAt
    this.#endTimer = systemClock.after(endsAt - systemClock.elapsed(), () => this.#expire())
  }

  #stopWatching(): void {
    this.#endTimer?.()
    this.#endTimer = undefined
    this.#endsAt = Number.POSITIVE_INFINITY
  }
}

/** More callers than may wait: at once, and so no sign that the token hangs. */
export class QueueFull extends BackendError {
  constructor(waiting: number) {
    super('ERR_BACKEND_BUSY', `${waiting} callers wait already`, { retryable: true })
  }
}

export function busy(problem: string): BackendError {
  return new BackendError('ERR_BACKEND_BUSY', problem, { retryable: true })
}

function closed(): BackendError {
  return new BackendError('ERR_BACKEND_CLOSED', 'the backend is closed')
}
