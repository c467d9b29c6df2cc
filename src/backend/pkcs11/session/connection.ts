/**
 * An open, logged-in token and the ways back to it: a new login when that was lost, a new initialisation when the token or
 * its library was. Everything that was opened is closed again when a later step fails.
 */

import { equalBytes, secretBytes } from '../../../base/bytes.js'
import { systemClock } from '../../../base/deadline.js'
import { BackendError } from '../../../base/errors.js'
import type {
  LoadBinding,
  ModuleInfo,
  Pkcs11Binding,
  SessionHandle,
  SessionSource,
  SlotId,
  TokenInfo,
} from '../binding/binding.js'
import { CKF, LOGGED_IN_STATES } from '../binding/constants.js'
import { Pkcs11Error, quietly, withCode } from '../binding/errors.js'
import { DES3_ECB, encrypt, wrongAnswer } from '../mechanisms/cipher.js'
import { hidesDates, type Plan } from '../mechanisms/plan.js'
import { makeProbeKey, type ProbeKey, type TestKeys } from '../probe/known-answers.js'
import { probeToken } from '../probe/probe.js'
import { ModuleShare, type ShareOptions } from './module.js'
import type { Settings } from './options.js'
import { findToken, needsLogin, prepareLogin } from './token.js'

/** What was found when a token was opened: plain data, so that further threads need not find it out again. */
export interface TokenFacts {
  /** What makes the calls: the binding's name. */
  readonly binding: string
  readonly module: ModuleInfo
  readonly token: TokenInfo
  readonly plan: Plan
  readonly testKeys: TestKeys | undefined
  /** How long a call takes, in milliseconds: what one known answer needs, two calls. */
  readonly latencyMs: number
}

/** The session that holds the login, and what was made on it. */
interface Anchor {
  readonly slot: SlotId
  readonly session: SessionHandle
  readonly info: TokenInfo
}

/** How many known answers are timed. */
const TIMED = 5

export class Connection {
  readonly binding: Pkcs11Binding
  readonly #share: ModuleShare
  readonly #settings: Settings
  #facts: TokenFacts | undefined
  #anchor: Anchor | undefined
  #probe: ProbeKey | undefined
  #isSpoilt = false
  /** The name under which our part in the login is counted. */
  #joined: string | undefined
  #epoch: number

  private constructor(share: ModuleShare, settings: Settings, known: TokenFacts | undefined) {
    this.binding = share.binding
    this.#share = share
    this.#settings = settings
    this.#facts = known
    this.#epoch = share.epoch
  }

  /**
   * Module, token, anchor session, login, probe: in this order, so that the PIN is asked for when everything that can go
   * wrong without it has gone right. With `known` facts the probe is left out.
   *
   * Errors: `ERR_PKCS11_UNAVAILABLE`, `ERR_PKCS11_MODULE`, `ERR_PKCS11_TOKEN`, `ERR_PKCS11_LOGIN`,
   * `ERR_PKCS11_SELF_TEST`, `ERR_PKCS11_CALL`.
   */
  static async open(
    settings: Settings,
    load: LoadBinding,
    known?: TokenFacts,
    options: ShareOptions = {},
  ): Promise<Connection> {
    const share = await ModuleShare.acquire(settings.module, settings.initParameters, load, options)
    const connection = new Connection(share, settings, known)
    try {
      await connection.#enter()
      return connection
    } catch (error) {
      connection.close()
      throw error
    }
  }

  get facts(): TokenFacts {
    return opened(this.#facts)
  }

  /** Whether the module was initialised anew by another user since we came in: all our handles are of another epoch. */
  get isStale(): boolean {
    return this.#epoch !== this.#share.epoch
  }

  /** Whether the module may be finalised from here. */
  get mayFinalise(): boolean {
    return this.#share.mayFinalise
  }

  get slot(): SlotId {
    return this.#open().slot
  }

  /** The session key with a known answer; absent where this token makes none. */
  get probe(): ProbeKey | undefined {
    return this.#probe
  }

  /** Opens sessions for operations, read-only unless told otherwise. */
  source(readWrite: boolean): SessionSource {
    const flags = CKF.SERIAL_SESSION | (readWrite ? CKF.RW_SESSION : 0)
    return {
      open: () => this.binding.C_OpenSession(this.slot, flags),
      close: session => this.binding.C_CloseSession(session),
      cancel: this.binding.C_SessionCancel,
      overwriteStack: this.binding.overwriteStack,
    }
  }

  /** Whether a session is logged in, or need not be. */
  isLoggedIn(session: SessionHandle): boolean {
    const { info } = this.#open()
    if (!needsLogin(info, this.#settings.login.policy)) return true
    return LOGGED_IN_STATES.includes(this.binding.C_GetSessionInfo(session).state)
  }

  /**
   * A known answer on the anchor session, which keeps that session and its key alive and says whether they are. Errors:
   * those of the calls. Where there is no session key, the session's state is asked for.
   */
  pulse(): boolean {
    if (this.#isSpoilt) this.renewAnchor()
    const { session } = this.#open()
    const probe = this.#probe
    // A failed call can leave an operation active, which only closing the session ends.
    this.#isSpoilt = true
    let right = true
    if (probe === undefined) {
      this.isLoggedIn(session)
    } else {
      const station = { binding: this.binding, session }
      right = equalBytes(encrypt(station, DES3_ECB, probe.object, zeros(probe.answer)), probe.answer)
    }
    this.#isSpoilt = false
    return right
  }

  /** A new anchor session with a new session key, on the login that there is. The old one is closed after it. */
  renewAnchor(): void {
    const { session: old, ...rest } = this.#open()
    const session = this.source(this.#settings.readWrite).open()
    this.#anchor = { ...rest, session }
    this.#isSpoilt = false
    quietly(() => this.binding.C_CloseSession(old))
    this.#makeProbe()
  }

  /** A new anchor session and a new login. Errors: `ERR_PKCS11_TOKEN`, `ERR_PKCS11_LOGIN`, `ERR_PKCS11_CALL`. */
  async logIn(): Promise<void> {
    this.#dropAnchor()
    await this.#enter()
  }

  /** Ends everything, the module included where that is safe. */
  letGo(): void {
    this.#dropAnchor()
    this.#share.letGo()
  }

  /** Initialises the module and comes in again. Errors: as {@link Connection.open}. */
  async comeBack(): Promise<void> {
    this.#dropAnchor()
    this.#share.comeBack()
    await this.#enter()
  }

  /** Logs out and finalises where nobody else in this process needs that, and never fails. */
  close(): void {
    this.#dropAnchor()
    this.#share.release()
  }

  #dropAnchor(): void {
    const anchor = this.#anchor
    this.#anchor = undefined
    this.#probe = undefined
    const joined = this.#joined
    this.#joined = undefined
    // The count is of another epoch where the module was initialised anew.
    const last = joined !== undefined && !this.isStale && this.#share.leaveLogin(joined)
    if (anchor === undefined) return
    if (last) quietly(() => this.binding.C_Logout(anchor.session))
    quietly(() => this.binding.C_CloseSession(anchor.session))
  }

  async #enter(): Promise<void> {
    const { binding } = this
    const { token, readWrite, login, probe } = this.#settings
    this.#epoch = this.#share.epoch
    const module = this.#facts?.module ?? withCode('ERR_PKCS11_MODULE', () => binding.C_GetInfo())
    const { slot, info } = withCode('ERR_PKCS11_TOKEN', () => findToken(binding, token))
    const flags = CKF.SERIAL_SESSION | (readWrite ? CKF.RW_SESSION : 0)
    const session = withCode('ERR_PKCS11_TOKEN', () => binding.C_OpenSession(slot, flags))
    this.#anchor = { slot, session, info }
    this.#isSpoilt = false
    const name = `${info.label}\0${info.serial}`
    const attempt = await prepareLogin(() => binding.C_GetTokenInfo(slot), login)
    // Closed while the PIN was being fetched: the session is another's by now, or nobody's.
    if (this.#anchor?.session !== session)
      throw new BackendError('ERR_BACKEND_CLOSED', 'the backend is closed')
    this.#share.joinLogin(name, attempt(binding, session))
    this.#joined = name
    if (this.#facts !== undefined) {
      this.#makeProbe()
      // What comes back may be another token, or one that has taken harm: it is tried before it is used.
      if (!this.pulse()) throw wrongAnswer('gives a wrong answer to a published test value')
      return
    }
    const { plan: probed, testKeys } = probeToken(binding, this.source(readWrite), probe)
    const plan = { ...probed, hidesDates: hidesDates(info) }
    // Keys that cannot be used give no answer to check.
    const usable = plan.tdea.ok ? testKeys : undefined
    this.#facts = { binding: binding.name, module, token: info, plan, testKeys: usable, latencyMs: 0 }
    this.#makeProbe()
    this.#facts = { ...this.#facts, latencyMs: this.#timePulse() }
  }

  /** On the anchor session, whose end would end it: a stale handle then says that the login is in danger. */
  #makeProbe(): void {
    const { testKeys } = this.facts
    const { session } = this.#open()
    this.#probe = testKeys && makeProbeKey({ binding: this.binding, session }, testKeys)
  }

  #timePulse(): number {
    const times = Array.from({ length: TIMED }, () => {
      const start = systemClock.elapsed()
      this.pulse()
      return systemClock.elapsed() - start
    })
    // The best: the others say how busy this machine is.
    return Math.min(...times)
  }

  #open(): Anchor {
    return opened(this.#anchor)
  }
}

/** What there is while the token is open; otherwise as the token would say it of a session that is gone. */
function opened<T>(part: T | undefined): T {
  if (part === undefined) throw new Pkcs11Error('C_GetSessionInfo', 0x190)
  return part
}

function zeros(like: Uint8Array): Uint8Array {
  return secretBytes(like.length)
}

/** The most sessions a token says it has for us, the anchor apart; undefined where it does not say. */
export function sessionsOf({ maxSessions }: TokenInfo): number | undefined {
  // CK_EFFECTIVELY_INFINITE is 0, CK_UNAVAILABLE_INFORMATION all ones.
  if (maxSessions === 0 || maxSessions >= 0xffff_fffe) return undefined
  return Math.max(1, maxSessions - 1)
}
