/**
 * One supervisor for each backend, with one state: `open`, `degraded` (the way back has failed, and is tried again by
 * itself), `recovering`, `closed`. There is one recovery at a time for all callers, lightest cure first:
 *
 *     login        a new anchor session and a new C_Login
 *     initialise   C_Finalize and C_Initialize, or a new child process; then everything as at opening
 *
 * While the first attempt runs, callers wait for it, as long as their own time limits let them; once it has failed they
 * fail at once with its error, and attempts go on in the background with a growing pause. A PIN that was refused is never
 * sent again by itself: that ends the attempts until somebody opens the backend anew.
 */

import { channel } from 'node:diagnostics_channel'
import { afterUnheld, systemClock } from '../../../base/deadline.js'
import { DEFAULTS } from '../../../base/defaults.js'
import { BackendError, isIssuerPinError } from '../../../base/errors.js'
import { Pkcs11Error } from '../binding/errors.js'
import type { BackendEvent, BackendState } from '../session/options.js'
import type { Executor } from './executor.js'

const EVENTS: string = 'issuer-pin-crypto:pkcs11'

/** How the token is brought back. */
export type Rung = 'login' | 'initialise'

/** What the supervisor needs of the world; a test brings its own. */
export interface Surroundings {
  /** Runs a step later, in the background: the process may end before; the returned function forgets it. */
  readonly later: (step: () => void, ms: number) => () => void
  /** Runs a step later that somebody waits for: the process stays alive for it. */
  readonly soon: (step: () => void, ms: number) => () => void
  /** From 0 up to 1, for jitter. */
  readonly random: () => number
}

export const REAL: Surroundings = {
  later: (step, ms) => afterUnheld(ms, step),
  soon: (step, ms) => systemClock.after(ms, step),
  random: Math.random,
}

interface SupervisorOptions {
  readonly onEvent: ((event: BackendEvent) => void) | undefined
  /** Whether the module may be finalised and initialised anew. */
  readonly reinitialise: boolean
}

/** The pause after the first failed attempt, and the longest: a token that is back is found within two seconds. */
const FIRST_PAUSE_MS = DEFAULTS.pkcs11.firstPauseMs.value
const LONGEST_PAUSE_MS = DEFAULTS.pkcs11.longestPauseMs.value

export class Supervisor {
  readonly #executor: Executor
  readonly #options: SupervisorOptions
  readonly #surroundings: Surroundings
  #state: BackendState = 'open'
  #running: Promise<void> | undefined
  /** Why the last attempt failed. While it is set, callers fail with it. */
  #failure: Error | undefined
  #failures = 0
  #generation = 0
  #forgetTimer: (() => void) | undefined
  /** The login was refused: no attempt follows. */
  #refused = false

  constructor(executor: Executor, options: SupervisorOptions, surroundings: Surroundings) {
    this.#executor = executor
    this.#options = options
    this.#surroundings = surroundings
  }

  get state(): BackendState {
    return this.#state
  }

  /** Counts the recoveries: a failure from before the last one says nothing of now. */
  get generation(): number {
    return this.#generation
  }

  /** Why it is degraded, for `health()`. */
  get failure(): Error | undefined {
    return this.#failure
  }

  /** What a new call has to do: nothing, wait for this, or fail with what is thrown. */
  gate(): Promise<void> | undefined {
    if (this.#failure !== undefined) throw this.#failure
    return this.#running
  }

  /** Brings the token back, or waits for the one who does. Errors: why it does not come back. */
  recover(rung: Rung, cause: Error, generation: number): Promise<void> {
    if (generation !== this.#generation && this.#failure === undefined)
      return this.#running ?? Promise.resolve()
    if (this.#running !== undefined) return this.#running
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    return this.#start(rung, cause)
  }

  close(): void {
    this.#forgetTimer?.()
    this.#failure = new BackendError('ERR_BACKEND_CLOSED', 'the backend is closed')
    this.#become('closed', undefined)
  }

  #start(rung: Rung, cause: Error): Promise<void> {
    this.#become('recovering', cause)
    // Whoever heard of it may have closed the backend: what is begun then is ended by nobody.
    if (this.#state === 'closed') return Promise.reject(this.#failure)
    this.#running = this.#attempt(rung).finally(() => {
      this.#running = undefined
    })
    return this.#running
  }

  async #attempt(rung: Rung): Promise<void> {
    try {
      await this.#climb(rung)
    } catch (error) {
      if (this.#state === 'closed') throw this.#failure
      this.#fail(error)
      throw this.#failure
    }
    if (this.#state === 'closed') throw this.#failure
    this.#failure = undefined
    this.#failures = 0
    this.#generation++
    this.#become('open', undefined)
  }

  async #climb(rung: Rung): Promise<void> {
    if (rung === 'login') {
      try {
        await this.#executor.logIn()
        return
      } catch (error) {
        if (isRefusedLogin(error) || !this.#options.reinitialise || this.#state === 'closed') throw error
      }
    }
    if (!this.#options.reinitialise) {
      throw new BackendError(
        'ERR_BACKEND_FAILED',
        'the module must be initialised anew, which recovery.reinitialise does not allow: close the backend and open it again',
      )
    }
    await this.#executor.letGo()
    // Closed meanwhile, the token has been let go for good.
    if (this.#state === 'closed') throw this.#failure
    await this.#executor.comeBack()
  }

  #fail(error: unknown): void {
    this.#failures++
    this.#refused = isRefusedLogin(error)
    const cause = error instanceof Error ? error : new Error('unknown')
    const code = isIssuerPinError(error) ? error.code : 'ERR_BACKEND_FAILED'
    const isWrong = code === 'ERR_PKCS11_SELF_TEST'
    this.#failure = new BackendError(
      code,
      this.#refused
        ? `the token was lost, and the new login was refused; it is not tried again: ${cause.message}`
        : `${isWrong ? 'the token is not used before it answers rightly' : 'the token is away; coming back is tried by itself'}: ${cause.message}`,
      { retryable: !this.#refused && !isWrong },
    )
    this.#become('degraded', cause)
    if (this.#refused || this.#state === 'closed') return
    const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (this.#failures - 1))
    const jittered = pause * (0.5 + this.#surroundings.random() / 2)
    this.#forgetTimer = this.#surroundings.later(() => {
      // In the background: whoever calls meanwhile still fails at once. What it says is in the state.
      this.#start('initialise', cause).catch(() => undefined)
    }, jittered)
  }

  /** Says that a bound key is another one by now, or has gone. */
  keyChanged(kid: string, cause: Error): void {
    this.#publish(this.#state, cause, { key: kid })
  }

  #become(state: BackendState, cause: Error | undefined): void {
    const from = this.#state
    if (from === state || from === 'closed') return
    this.#state = state
    this.#publish(from, cause, {})
  }

  #publish(from: BackendState, cause: Error | undefined, more: { readonly key?: string }): void {
    const event: BackendEvent = {
      state: this.#state,
      from,
      failures: this.#failures,
      ...(cause !== undefined && { reason: cause.message }),
      ...(isIssuerPinError(cause) && { code: cause.code }),
      ...more,
    }
    channel(EVENTS).publish(event)
    try {
      this.#options.onEvent?.(event)
    } catch {
      // A listener's own mistake is no reason to stay away.
    }
  }
}

/** A refused PIN, and a token whose PIN must not be tried: neither gets better by trying. */
function isRefusedLogin(error: unknown): boolean {
  if (!isIssuerPinError(error)) return false
  if (error instanceof Pkcs11Error) return error.kind === 'pin'
  return error.code === 'ERR_PKCS11_LOGIN'
}
