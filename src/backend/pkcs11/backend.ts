/** The PKCS#11 backend: keys in a token, operations by jobs on its sessions. */
import { throwIfAborted } from '../../base/arguments.js'
import { BackendError } from '../../base/errors.js'
import type { Backend } from '../backend.js'
import type {
  BackendDriver,
  Capabilities,
  ContentKeyRequest,
  FoundKey,
  Health,
  KeyQuery,
  MacRequest,
  MaybePromise,
} from '../driver.js'
import { openBackend } from '../front.js'
import type { LoadBinding } from './binding/binding.js'
import { CKK } from './binding/constants.js'
import { Pkcs11Error, type Pkcs11ErrorKind } from './binding/errors.js'
import { loadPkcs11js } from './binding/pkcs11js-binding.js'
import { type KeyRef, KeyTable } from './keys/key-table.js'
import { digestOf } from './mechanisms/p256.js'
import { macPlan } from './mechanisms/plan.js'
import { execute, type JobName, type Jobs, type TokenContext } from './operations.js'
import { type Connection, connect, sessionsOf } from './session/connection.js'
import { type Pkcs11Options, readSettings, type Settings } from './session/options.js'
import { SessionPool } from './session/sessions.js'

/**
 * Opens a backend whose keys live in a PKCS#11 token. The keys never enter this process; PIN blocks do, and clear PIN
 * blocks do too, unless they are translated inside the token.
 *
 * Opening loads and initialises the module, finds the one token, logs in with a single attempt, and has the token
 * compute published test values on session keys; `capabilities()` shows what came out. Calls into the token are
 * synchronous: they are short on a local token and hold up the event loop on a slow one. After ten milliseconds of
 * them other work gets its turn.
 *
 * A call that fails because a session or a handle was lost is tried once more by itself. What needs a new login or a
 * new initialisation (a token unplugged, a server restarted) is not repaired behind the caller's back: such calls fail
 * with a retryable error, `health()` says so, and closing and opening the backend is the cure. Calling `health()`
 * regularly also keeps sessions from timing out.
 *
 * In worker threads: let the main thread open the token first and close it last, and do not `terminate()` a worker in
 * the middle of its work, which crashes the process inside pkcs11js; let it close its backend and end.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_PKCS11_UNAVAILABLE`, `ERR_PKCS11_MODULE`, `ERR_PKCS11_TOKEN`, `ERR_PKCS11_LOGIN` (never
 * tried again by itself), `ERR_PKCS11_SELF_TEST` (wrong answer to a test value), `ERR_PKCS11_CALL`.
 *
 * @example
 * ```ts
 * await using hsm = await pkcs11Backend({
 *   module: '/usr/lib/softhsm/libsofthsm2.so',
 *   token: 'issuer',
 *   pin: readPinFromVault,
 * })
 * const key = await hsm.bind({ kid: 'ZPK-D1-2026', usage: 'pin-encryption', kcv: '08D7B4' })
 * ```
 */
export async function pkcs11Backend(options: Pkcs11Options): Promise<Backend> {
  return openPkcs11(options, loadPkcs11js)
}

/** {@link pkcs11Backend} over another binding. */
export async function openPkcs11(options: Pkcs11Options, load: LoadBinding): Promise<Backend> {
  const settings = readSettings(options, 'pkcs11Backend')
  const connection = await connect(settings, load)
  return openBackend(new Pkcs11Driver(connection, settings))
}

/** Errors after which no key handle is trusted. */
const FORGET: readonly Pkcs11ErrorKind[] = ['session', 'key-handle', 'login', 'device']

/** Native calls hold up the event loop: after this long, the next job waits for its next turn. */
const TURN_MS = 10

class Pkcs11Driver implements BackendDriver<KeyRef> {
  readonly name = 'pkcs11'
  readonly #connection: Connection
  readonly #context: TokenContext
  readonly #sessions: SessionPool
  readonly #capabilities: Capabilities
  #busyMs = 0
  #turn: Promise<void> | undefined

  constructor(connection: Connection, settings: Settings) {
    const { binding, slot, plan, probe, token } = connection
    this.#connection = connection
    this.#context = { binding, slot, plan, probe, keys: new KeyTable(plan, settings.locations) }
    this.#sessions = new SessionPool(connection.source(settings.readWrite), {
      ...settings.limits,
      max: Math.min(settings.limits.max, sessionsOf(token) ?? settings.limits.max),
    })
    this.#capabilities = capabilitiesOf(connection)
  }

  find(query: KeyQuery, signal: AbortSignal | undefined): MaybePromise<FoundKey<KeyRef>> {
    return this.#run('find', { query }, signal)
  }

  encipher(key: KeyRef, blocks: Uint8Array, signal: AbortSignal | undefined): MaybePromise<Uint8Array> {
    return this.#run('encipher', { key, blocks }, signal)
  }

  decipher(key: KeyRef, blocks: Uint8Array, signal: AbortSignal | undefined): MaybePromise<Uint8Array> {
    return this.#run('decipher', { key, blocks }, signal)
  }

  reencipher(
    from: KeyRef,
    to: KeyRef,
    blocks: Uint8Array,
    signal: AbortSignal | undefined,
  ): MaybePromise<Uint8Array> {
    return this.#run('reencipher', { from, to, blocks }, signal)
  }

  mac(
    key: KeyRef,
    { algorithm, padding, iv, derivation }: MacRequest,
    message: Uint8Array,
    signal: AbortSignal | undefined,
  ): MaybePromise<Uint8Array> {
    if (derivation !== undefined) {
      throw new BackendError(
        'ERR_UNSUPPORTED_BY_TOKEN',
        `key ${key.kid}: keys are not derived in a token here; derive outside of it, and bind the derived key`,
      )
    }
    return this.#run('mac', { key, algorithm, padding, iv, message }, signal)
  }

  deriveContentKey(
    key: KeyRef,
    { ephemeralPublicKey, otherInfo, length }: ContentKeyRequest,
    signal: AbortSignal | undefined,
  ): MaybePromise<Uint8Array> {
    return this.#run('deriveContentKey', { key, point: ephemeralPublicKey, otherInfo, length }, signal)
  }

  sign(key: KeyRef, message: Uint8Array, signal: AbortSignal | undefined): MaybePromise<Uint8Array> {
    return this.#run('sign', { key, digest: digestOf(message) }, signal)
  }

  randomBytes(length: number, signal: AbortSignal | undefined): MaybePromise<Uint8Array> {
    return this.#run('randomBytes', { length }, signal)
  }

  capabilities(): Capabilities {
    return this.#capabilities
  }

  async health(signal: AbortSignal | undefined): Promise<Health> {
    try {
      return await this.#run('health', {}, signal)
    } catch (error) {
      if (!(error instanceof Pkcs11Error)) throw error
      return { ok: false, detail: error.message }
    }
  }

  close(): void {
    this.#sessions.close()
    this.#connection.close()
  }

  /** At once where nothing has to be waited for. */
  #run<Name extends JobName>(
    name: Name,
    job: Jobs[Name]['job'],
    signal: AbortSignal | undefined,
  ): MaybePromise<Jobs[Name]['result']> {
    if (this.#busyMs < TURN_MS && this.#sessions.ready) return this.#attempt(name, job, signal)
    return this.#later(name, job, signal)
  }

  async #later<Name extends JobName>(
    name: Name,
    job: Jobs[Name]['job'],
    signal: AbortSignal | undefined,
  ): Promise<Jobs[Name]['result']> {
    // After a turn others may have used it up again.
    while (this.#busyMs >= TURN_MS) await this.#nextTurn()
    throwIfAborted(signal)
    return this.#attempt(name, job, signal)
  }

  #nextTurn(): Promise<void> {
    this.#turn ??= new Promise(resolve => {
      setImmediate(() => {
        this.#busyMs = 0
        this.#turn = undefined
        resolve()
      })
    })
    return this.#turn
  }

  /** Once more after a lost session or a stale handle: all jobs are idempotent. */
  #attempt<Name extends JobName>(
    name: Name,
    job: Jobs[Name]['job'],
    signal: AbortSignal | undefined,
  ): MaybePromise<Jobs[Name]['result']> {
    const again = (error: unknown): MaybePromise<Jobs[Name]['result']> => {
      if (!(error instanceof Pkcs11Error)) throw error
      // A lost session, login or device may have come back with other handles for other keys: none is used again before
      // it has been found anew, and its check value compared.
      if (FORGET.includes(error.kind)) this.#context.keys.forget()
      if (error.kind !== 'session' && error.kind !== 'key-handle') throw error
      return this.#once(name, job, signal)
    }
    try {
      const result = this.#once(name, job, signal)
      return result instanceof Promise ? result.catch(again) : result
    } catch (error) {
      return again(error)
    }
  }

  #once<Name extends JobName>(
    name: Name,
    job: Jobs[Name]['job'],
    signal: AbortSignal | undefined,
  ): MaybePromise<Jobs[Name]['result']> {
    return this.#sessions.withSession(session => {
      const start = performance.now()
      // Counts up to the next turn of the event loop, whatever calls are made until then.
      if (this.#busyMs === 0) this.#nextTurn()
      try {
        return execute(this.#context, session, name, job)
      } finally {
        this.#busyMs += performance.now() - start
      }
    }, signal)
  }
}

function capabilitiesOf({ module, token, plan }: Connection): Capabilities {
  const library = `${module.description} ${module.version}`
  const twoKeys = plan.tdea.ok && plan.tdea.by.twoKeyType === CKK.DES2 ? 'CKK_DES2' : 'CKK_DES3 as K1‖K2‖K1'
  return {
    backend: 'pkcs11',
    tdea: plan.tdea.ok
      ? `${library}, token ${token.model}: CKM_DES3_ECB, two-key bundles as ${twoKeys}`
      : 'none',
    macs: {
      'iso9797-1-alg1': macPlan(plan.cbcMac),
      'iso9797-1-alg3': macPlan(plan.retailMac),
      cmac: macPlan(plan.cmacTdea, plan.cmacAes),
    },
    keyAgreement: plan.keyAgreement.ok ? plan.keyAgreement.by : 'none',
    signing: plan.signing.ok ? 'native' : 'none',
    reencipher: plan.translation.ok ? 'inside' : 'host',
    random: plan.random.ok ? `C_GenerateRandom of ${library}` : 'none',
    notes: plan.notes,
  }
}
