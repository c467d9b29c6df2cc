/**
 * The native calls in this thread: one token, its login, its sessions and its handles. Everything between two awaits is
 * one job on one session. What is lost with a session or a handle is brought back here; what takes a new login or a new
 * initialisation is told to whoever supervises.
 */
import { BackendError, KeyError } from '../../../base/errors.js'
import type { LoadBinding } from '../binding/binding.js'
import { CKR } from '../binding/constants.js'
import { cureOf, Pkcs11Error } from '../binding/errors.js'
import { KeyTable } from '../keys/key-table.js'
import { Connection, type TokenFacts } from '../session/connection.js'
import type { ShareOptions } from '../session/module.js'
import { policyOf, type Settings } from '../session/options.js'
import { Sessions } from '../session/sessions.js'
import { type Executor, execute, type JobName, type Jobs, type TokenContext } from './executor.js'

/** A job uses one session; a second is for the moment in which the first is being replaced. */
const SESSIONS = 2

export class InlineExecutor implements Executor {
  readonly kind = 'inline'
  readonly lanes = 1
  readonly stuck = 0
  readonly #connection: Connection
  readonly #sessions: Sessions
  readonly #context: TokenContext

  private constructor(connection: Connection, settings: Settings) {
    const { plan } = connection.facts
    this.#connection = connection
    this.#sessions = new Sessions(connection.source(settings.readWrite), SESSIONS)
    this.#context = {
      connection,
      plan,
      keys: new KeyTable(plan, policyOf(settings, plan), settings.locations),
    }
  }

  /** Opens the token. Errors: as `pkcs11Backend`. */
  static async open(
    settings: Settings,
    load: LoadBinding,
    known?: TokenFacts,
    options?: ShareOptions,
  ): Promise<InlineExecutor> {
    return new InlineExecutor(await Connection.open(settings, load, known, options), settings)
  }

  get facts(): TokenFacts {
    return this.#connection.facts
  }

  perform<Name extends JobName>(name: Name, job: Jobs[Name]['job']): Jobs[Name]['result'] {
    if (this.#connection.isStale) {
      this.#forget()
      // Another user of the module initialised it anew: our login and our sessions went with it.
      throw new Pkcs11Error('C_GetSessionInfo', CKR.USER_NOT_LOGGED_IN)
    }
    try {
      return this.#once(name, job)
    } catch (error) {
      const cure = cureOf(error)
      // A lost session, login or device may have come back with other handles for other keys: none is used again before
      // it has been found anew, and its check value compared.
      if (cure !== 'none') this.#context.keys.forget()
      if (cure !== 'session' && cure !== 'key') throw this.#explained(error)
    }
    try {
      return this.#once(name, job)
    } catch (error) {
      throw this.#explained(error)
    }
  }

  async logIn(): Promise<void> {
    this.#sessions.close()
    this.#context.keys.forget()
    await this.#connection.logIn()
  }

  async letGo(): Promise<void> {
    if (!this.#connection.mayFinalise) {
      throw new BackendError(
        'ERR_BACKEND_FAILED',
        'the module must be initialised anew, and other threads of this process may be in it: close those backends first',
        { retryable: true },
      )
    }
    this.#sessions.close()
    this.#forget()
    this.#connection.letGo()
  }

  async comeBack(): Promise<void> {
    await this.#connection.comeBack()
  }

  keepAlive(): void {
    this.perform('pulse', {})
  }

  async close(): Promise<void> {
    this.#sessions.close()
    this.#connection.close()
  }

  #forget(): void {
    this.#sessions.forget()
    this.#context.keys.forget()
  }

  #once<Name extends JobName>(name: Name, job: Jobs[Name]['job']): Jobs[Name]['result'] {
    return this.#sessions.withSession(session => execute(this.#context, session, name, job))
  }

  /**
   * A lost login looks like keys that are not there, and like stale handles, and so does a token that has gone: the session's
   * own state tells, and the token's.
   */
  #explained(error: unknown): unknown {
    const looksLost =
      (error instanceof KeyError && error.code === 'ERR_KEY_NOT_FOUND') || cureOf(error) === 'key'
    if (!looksLost) return error
    try {
      const { binding, slot } = this.#connection
      const isLoggedIn = this.#sessions.withSession(session => this.#connection.isLoggedIn(session))
      if (!isLoggedIn) return new Pkcs11Error('C_GetSessionInfo', CKR.USER_NOT_LOGGED_IN)
      binding.C_GetTokenInfo(slot)
      return error
    } catch (other) {
      return cureOf(other) === 'none' ? error : other
    }
  }
}
