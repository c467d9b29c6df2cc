/**
 * Sessions and who may use them. A session holds at most one active operation and its objects, so:
 *
 * - it is lent to one user at a time, the last one used first (few stay open, and those stay warm);
 * - it comes back only after success, after an error that is about the data, or after an error of our own, which is
 *   never raised between the halves of an operation; after anything else it is closed and not reused, for a failed
 *   call can leave an operation active;
 * - one whose closing failed still counts, for the token may still hold it: closing is tried again later.
 *
 * Everything here is synchronous: whoever queues does so in front of the place where the native calls run. The login does
 * not hang on these sessions: an anchor session holds it for the life of the backend.
 */
import { BackendError, isIssuerPinError } from '../../../base/errors.js'
import type { SessionHandle, SessionSource } from '../binding/binding.js'
import { CKF, CKR } from '../binding/constants.js'
import { Pkcs11Error } from '../binding/errors.js'
import { overwriteStacks } from '../binding/values.js'

/** After a return value like these the session is gone, whatever C_CloseSession was meant to do. */
const GONE: readonly number[] = [0xb0, 0xb3, 0x190, 0xe0, 0x32]

export class Sessions {
  readonly #source: SessionSource
  readonly #max: number
  readonly #idle: SessionHandle[] = []
  #unclosed: SessionHandle[] = []
  #lent = 0

  constructor(source: SessionSource, max: number) {
    this.#source = source
    this.#max = max
  }

  /** Sessions that the token holds for us as far as we know: lent, idle, and those that would not close. */
  get size(): number {
    return this.#lent + this.#idle.length + this.#unclosed.length
  }

  /** Sessions whose closing has failed so far. */
  get unclosed(): number {
    return this.#unclosed.length
  }

  /**
   * Lends a session to `use` for as long as it runs. Errors: `ERR_BACKEND_BUSY` (retryable; as many sessions are open as
   * may be), those of `C_OpenSession` and of `use`.
   */
  withSession<T>(use: (session: SessionHandle) => T): T {
    const session = this.#take()
    this.#lent++
    let good = false
    try {
      const result = use(session)
      good = true
      return result
    } catch (error) {
      good = leavesSessionGood(error) || this.#cancelled(session, error)
      // What ended one session by itself (an idle time-out, a reconnect) has mostly ended the others.
      if (error instanceof Pkcs11Error && error.kind === 'session') this.close()
      throw error
    } finally {
      overwriteStacks(this.#source)
      this.#lent--
      if (good) this.#idle.push(session)
      else this.#discard(session)
    }
  }

  /** Closes what is idle. */
  close(): void {
    for (const session of this.#idle.splice(0)) this.#discard(session)
    this.#closeAgain()
  }

  /** Drops all sessions without a call: the module they belonged to has been finalised. */
  forget(): void {
    this.#idle.length = 0
    this.#unclosed = []
  }

  #take(): SessionHandle {
    const idle = this.#idle.pop()
    if (idle !== undefined) return idle
    if (this.#unclosed.length > 0) this.#closeAgain()
    if (this.size >= this.#max) throw busy(`${this.size} sessions are open, and no more are allowed`)
    try {
      return this.#source.open()
    } catch (error) {
      if (error instanceof Pkcs11Error && error.returnValue === CKR.SESSION_COUNT) {
        throw busy('the token has no session left (C_OpenSession returned CKR_SESSION_COUNT)')
      }
      throw error
    }
  }

  #discard(session: SessionHandle): void {
    if (!this.#closed(session)) this.#unclosed.push(session)
  }

  /** Whether the operation that was refused half-way could be ended: cheaper than a new session. */
  #cancelled(session: SessionHandle, error: unknown): boolean {
    const { cancel } = this.#source
    const operation = halfDone(error)
    if (cancel === undefined || operation === undefined) return false
    try {
      cancel(session, operation)
      return true
    } catch {
      return false
    }
  }

  #closeAgain(): void {
    this.#unclosed = this.#unclosed.filter(session => !this.#closed(session))
  }

  #closed(session: SessionHandle): boolean {
    try {
      this.#source.close(session)
      return true
    } catch (error) {
      return error instanceof Pkcs11Error && GONE.includes(error.returnValue)
    }
  }
}

/** Functions that are an operation, or the end of one: after a data error there is nothing left to clean up. */
const WHOLE: readonly string[] = [
  'C_Encrypt',
  'C_Decrypt',
  'C_Sign',
  'C_DeriveKey',
  'C_WrapKey',
  'C_UnwrapKey',
]

function leavesSessionGood(error: unknown): boolean {
  if (error instanceof Pkcs11Error) return error.kind === 'data' && WHOLE.includes(error.functionName)
  return isIssuerPinError(error) && error.code !== 'ERR_BACKEND_FAILED'
}

/** The operation that a function belongs to, as C_SessionCancel names it. Source: PKCS#11 v3.1, 5.6.12. */
const OPERATION: readonly (readonly [begins: string, flag: number])[] = [
  ['C_FindObjects', CKF.FIND_OBJECTS],
  ['C_Encrypt', CKF.ENCRYPT],
  ['C_Decrypt', CKF.DECRYPT],
  ['C_Digest', CKF.DIGEST],
  ['C_Sign', CKF.SIGN],
]

/** What may be half done after a refusal, which says nothing against the session itself. */
function halfDone(error: unknown): number | undefined {
  if (!(error instanceof Pkcs11Error)) return undefined
  const { kind, functionName } = error
  if (kind !== 'data' && kind !== 'configuration' && kind !== 'key-handle') return undefined
  return OPERATION.find(([begins]) => functionName.startsWith(begins))?.[1]
}

function busy(message: string): BackendError {
  return new BackendError('ERR_BACKEND_BUSY', message, { retryable: true })
}
