/**
 * Events of strangers: of requests that ended before it was known who calls. Anybody makes as many of them as the line
 * carries, and each is a line on the operator's disk. So a second has room for some; the others are counted, and one event
 * says how many there were.
 */
import { afterUnheld, type Clock } from '../../base/deadline.js'
import type { End, Facts } from './audit.js'

const A_SECOND = 1000

/** Events that are told by one. */
interface Omitted {
  readonly count: number
  /** When the first request came: ISO 8601, UTC. */
  readonly time: string
  /** The highest of their statuses. */
  readonly status: number
  /** When the first and the last of them ended, by the clock that never jumps. */
  readonly first: number
  readonly last: number
}

/** What {@link Strangers} is made of. */
interface StrangersOptions {
  readonly clock: Clock
  /** Events that a second has room for. */
  readonly perSecond: number
  /** Hands over the event that stands for the others. False: it had to be durable, and is not. */
  readonly tell: (omitted: Omitted) => Promise<boolean>
}

/** Counts the events of strangers, second by second. */
export class Strangers {
  readonly #options: StrangersOptions
  #second = Number.NEGATIVE_INFINITY
  #told = 0
  #omitted: Omitted | undefined
  #telling: Promise<void> | undefined
  #stopWaiting = (): void => {}

  constructor(options: StrangersOptions) {
    this.#options = options
  }

  /** Whether the second has room for this event. If not, it is counted, and told with others when the second is over. */
  hasRoom({ time }: Facts, { status }: End): boolean {
    const now = this.#options.clock.elapsed()
    if (now - this.#second >= A_SECOND) {
      void this.tellOmitted()
      this.#second = now
      this.#told = 0
    }
    if (this.#told < this.#options.perSecond) {
      this.#told++
      return true
    }
    this.#count({ count: 1, time, status, first: now, last: now })
    return false
  }

  /** Tells what has been counted by now. One at a time: where the audit hangs, these do not pile up before it. */
  tellOmitted(): Promise<void> {
    this.#telling ??= this.#tell().finally(() => {
      this.#telling = undefined
      if (this.#omitted !== undefined) this.#wait()
    })
    return this.#telling
  }

  async #tell(): Promise<void> {
    const omitted = this.#omitted
    if (omitted === undefined) return
    this.#omitted = undefined
    this.#stopWaiting()
    // What could not be recorded is counted on.
    if (!(await this.#options.tell(omitted))) this.#count(omitted)
  }

  #count(more: Omitted): void {
    const before = this.#omitted
    if (before === undefined) {
      this.#omitted = more
      this.#wait()
      return
    }
    const earlier = before.first <= more.first ? before : more
    this.#omitted = {
      count: before.count + more.count,
      time: earlier.time,
      status: Math.max(before.status, more.status),
      first: earlier.first,
      last: Math.max(before.last, more.last),
    }
  }

  /** Strangers do not keep a process alive: whoever ends it waits for `settled`, which tells what there is. */
  #wait(): void {
    this.#stopWaiting()
    this.#stopWaiting = afterUnheld(A_SECOND, () => void this.tellOmitted())
  }
}
