/** Time, as the endpoints see it: how long something took, and when it is too late. */
import { Refusal, type RefusalReason } from './refusal.js'

/** A clock and a timer; to be replaced in tests. */
export interface EndpointClock {
  /** Milliseconds that only grow. */
  now(): number
  /** Calls back once, unless what it returns is called before. */
  after(milliseconds: number, callback: () => void): () => void
}

export const SYSTEM_CLOCK: EndpointClock = {
  now: () => performance.now(),
  after: (milliseconds, callback) => {
    const timer = setTimeout(callback, milliseconds)
    return () => clearTimeout(timer)
  },
}

/** How long, by which clock, what it is called when it is over, and who else may end it. */
export interface Deadline {
  readonly clock: EndpointClock
  readonly milliseconds: number
  readonly reason: RefusalReason
  /** The client's signal, or that of an outer deadline. */
  readonly parent: AbortSignal
}

/**
 * Runs `work` with a signal that fires at the deadline, or with the parent. At the deadline the result is a refusal at
 * once, whatever `work` does about it. The parent's end leaves the verdict to `work`: what has been begun (a PIN being
 * stored) is seen to its end, and reported as what it was. Leaves no timer and no listener behind.
 */
export async function withDeadline<T>(
  { clock, milliseconds, reason, parent }: Deadline,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController()
  const { signal } = controller
  const relay = (): void => controller.abort(asRefusal(parent.reason))
  let cancel = (): void => {}
  const late = new Promise<never>((_, reject) => {
    cancel = clock.after(milliseconds, () => {
      controller.abort(new Refusal(reason))
      reject(signal.reason)
    })
  })
  if (parent.aborted) relay()
  parent.addEventListener('abort', relay, { once: true })
  try {
    return await Promise.race([work(signal), late])
  } catch (error) {
    if (!signal.aborted || error === signal.reason) throw error
    // What surfaces after the end (ERR_ABORTED, a database's cancellation) is most often the end showing itself.
    throw new Refusal(signal.reason.reason, { cause: error instanceof Refusal ? error.cause : error })
  } finally {
    cancel()
    parent.removeEventListener('abort', relay)
  }
}

function asRefusal(reason: unknown): Refusal {
  return reason instanceof Refusal ? reason : new Refusal('client-gone')
}
