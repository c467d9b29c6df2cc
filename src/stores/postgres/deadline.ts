/** The end of a call to PostgreSQL: its time, or the caller's signal, whichever comes first. */
import { AbortedError } from '../../base/errors.js'
import { busy } from './errors.js'

/** The end of the time, or of the caller's interest, whichever comes first. Dispose of it when the work is done. */
export class Deadline implements Disposable {
  readonly #over: Promise<never>
  readonly #clear: () => void

  /** `ERR_BACKEND_BUSY` after so many milliseconds; `ERR_ABORTED` once the signal fires. */
  constructor(milliseconds: number, signal: AbortSignal | undefined) {
    let end = (_error: Error): void => {}
    this.#over = new Promise((_, reject) => {
      end = reject
    })
    // Nobody may be waiting when it comes.
    this.#over.catch(() => {})
    const timer = setTimeout(() => end(busy(`no answer within ${milliseconds} ms`)), milliseconds)
    const abort = (): void => end(new AbortedError(signal?.reason))
    signal?.addEventListener('abort', abort, { once: true })
    this.#clear = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', abort)
    }
  }

  /** Settles as the work does, unless it is over before. The work goes on, and its failure is nobody's any more. */
  race<T>(work: Promise<T>): Promise<T> {
    return Promise.race([work, this.#over])
  }

  [Symbol.dispose](): void {
    this.#clear()
  }
}
