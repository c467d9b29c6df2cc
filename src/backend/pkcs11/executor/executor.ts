/**
 * The place where the native calls run, as the rest of the backend sees it. There are three: in this thread (`inline`), in
 * worker threads over one login (`threads`), in a child process (`process`). Jobs are plain data in and plain data out, so
 * nothing above this changes with the place.
 */
import type { MaybePromise } from '../../driver.js'
import type { TokenFacts } from '../session/connection.js'
import type { JobName, Jobs } from './jobs.js'

/** Where the native calls run. */
export type ExecutorKind = 'inline' | 'threads' | 'process'

export interface Executor {
  readonly kind: ExecutorKind
  readonly facts: TokenFacts
  /** How many jobs it takes at a time. More wait in front of it. */
  readonly lanes: number
  /** Calls into the module that have hung so long that they were given up. */
  readonly stuck: number
  /** Runs one job; at once, without a promise, where the calls run in this thread. */
  perform<Name extends JobName>(name: Name, job: Jobs[Name]['job']): MaybePromise<Jobs[Name]['result']>
  /** Called where the place has gone by itself: a child process that crashed or was killed. */
  onLost?: () => void
  /** A new login, where that was lost. */
  logIn(): Promise<void>
  /** Ends the module's life, or the process it lives in; no job is under way. */
  letGo(): Promise<void>
  /** Initialises the module and comes in again. */
  comeBack(): Promise<void>
  /** Exercises what would time out by lying idle. */
  keepAlive(): MaybePromise<void>
  close(): Promise<void>
}
