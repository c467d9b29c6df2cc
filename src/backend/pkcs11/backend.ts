/** The PKCS#11 backend: keys in a token, operations as jobs that an executor runs, a supervisor that brings back what is lost. */

import { readOwn } from '../../base/arguments.js'
import { afterUnheld } from '../../base/deadline.js'
import { BackendError, type ErrorCode, isIssuerPinError, KeyError } from '../../base/errors.js'
import type { PinComparison, PinVerification } from '../../pin/formats/verification.js'
import type { Backend, OpenerOptions } from '../backend.js'
import type {
  BackendDriver,
  Capabilities,
  ContentKeyRequest,
  Health,
  KeyQuery,
  MacRequest,
  MaybePromise,
} from '../driver.js'
import { openFront } from '../front.js'
import { OPENER_OPTIONS, readOpener } from '../opener.js'
import type { LoadBinding } from './binding/binding.js'
import { CKK } from './binding/constants.js'
import { Pkcs11Error } from './binding/errors.js'
import { loaderOf } from './binding/load.js'
import { STARTER, type Starter } from './executor/channels.js'
import { Dispatcher } from './executor/dispatcher.js'
import type { Executor, JobName, Jobs } from './executor/executor.js'
import { openRemote, SLOW_MS } from './executor/remote.js'
import { REAL, Supervisor, type Surroundings } from './executor/supervisor.js'
import type { FoundTokenKey, KeyRef } from './keys/key-table.js'
import { digestOf } from './mechanisms/p256.js'
import { macPlan, type Plan, vendorProfile } from './mechanisms/plan.js'
import { type Pkcs11Options, readSettings, type Settings } from './session/options.js'

/**
 * Opens a backend whose keys live in a PKCS#11 token. The keys never enter this process; PIN blocks do, and clear PIN
 * blocks do too, unless they are translated inside the token.
 *
 * Opening loads and initialises the module, finds the one token, logs in with a single attempt, and has the token
 * compute published test values on session keys; `capabilities()` shows what came out. Where the native calls run is the
 * choice of `executor`: in this thread for a local token, in worker threads or a child process for a slow one. A caller is
 * released at its signal and at `timeouts.callMs`, whatever the token does; inline, a call that has begun cannot be
 * interrupted.
 *
 * What is lost comes back by itself, behind the same `Backend` and `Key` objects: sessions, handles, the login, the
 * initialisation of the module, the child process. A key is found anew and its check value compared before it is used
 * again. A refused PIN is never sent again. `health()` shows the state, `onEvent` and `diagnostics_channel` its changes.
 *
 * In worker threads of your own: let the main thread open the token first and close it last, and do not `terminate()` a worker in
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
  return openPkcs11(options, undefined)
}

/** What a test replaces of the world. */
export interface OpenOptions {
  readonly surroundings?: Surroundings
  readonly starter?: Starter
}

/** {@link pkcs11Backend}, in a test over another binding. */
export async function openPkcs11(
  options: Pkcs11Options,
  load: LoadBinding | undefined,
  open: OpenOptions = {},
): Promise<Backend> {
  const opener = readOpener(readOwn<OpenerOptions>(options, 'pkcs11Backend', OPENER_OPTIONS))
  return openFront(await openDriver(options, load, open), opener)
}

/** What one token can do by itself. */
export interface TokenDriver extends BackendDriver<KeyRef> {
  find(query: KeyQuery, signal: AbortSignal | undefined): Promise<FoundTokenKey>
  verifyPin: NonNullable<BackendDriver<KeyRef>['verifyPin']>
}

/** The driver of one token, for {@link openPkcs11} and for a group of them. */
export async function openDriver(
  options: Pkcs11Options,
  load: LoadBinding | undefined,
  { surroundings = REAL, starter = STARTER }: OpenOptions = {},
): Promise<TokenDriver> {
  const settings = readSettings(options, 'pkcs11Backend')
  const loadBinding = load ?? loaderOf(settings.binding)
  const open = (): Promise<Executor> => openRemote(settings, loadBinding, undefined, starter)
  const executor = await openPatiently(open, surroundings)
  return new Pkcs11Driver(executor, settings, surroundings)
}

/** Pauses between attempts to open, in milliseconds: a token that others open at the same moment answers badly to some. */
const OPEN_PAUSES_MS = [40, 80, 160] as const

/** Opens, and tries again what may have been a momentary failure; a refused PIN is not one. */
async function openPatiently(
  open: () => Promise<Executor>,
  { soon, random }: Surroundings,
): Promise<Executor> {
  for (const pause of OPEN_PAUSES_MS) {
    try {
      return await open()
    } catch (error) {
      if (!isMomentary(error)) throw error
    }
    await new Promise<void>(resolve => {
      soon(resolve, pause * (0.5 + random() / 2))
    })
  }
  return open()
}

function isMomentary(error: unknown): boolean {
  if (error instanceof Pkcs11Error) return ['unclear', 'session', 'device', 'capacity'].includes(error.kind)
  // A token that others are opening is not seen for a moment.
  return isIssuerPinError(error) && error.code === 'ERR_PKCS11_TOKEN' && error.message.startsWith('no ')
}

/** How an operation fails whose key is not the one that was bound. */
const CHANGED: readonly ErrorCode[] = ['ERR_KEY_CHECK_VALUE', 'ERR_KEY_NOT_FOUND', 'ERR_KEY_AMBIGUOUS']

class Pkcs11Driver implements BackendDriver<KeyRef> {
  readonly name = 'pkcs11'
  readonly #executor: Executor
  readonly #settings: Settings
  readonly #supervisor: Supervisor
  readonly #dispatcher: Dispatcher
  readonly #capabilities: Capabilities
  /** By kid: a key that is bound again replaces the one before. */
  readonly #bound = new Map<string, KeyRef>()
  /** Kids whose key has changed, and of which that was said. */
  readonly #changed = new Set<string>()
  #endKeepAlive: (() => void) | undefined

  constructor(executor: Executor, settings: Settings, surroundings: Surroundings) {
    const { onEvent, reinitialise, limits, timeouts, keepAliveMs } = settings
    this.#executor = executor
    this.#settings = settings
    this.#supervisor = new Supervisor(executor, { onEvent, reinitialise }, surroundings)
    this.#dispatcher = new Dispatcher(
      executor,
      this.#supervisor,
      { ...limits, callMs: timeouts.callMs },
      (name, error) => this.#notice(name, error),
    )
    this.#capabilities = capabilitiesOf(executor, settings)
    executor.onLost = () => {
      const lost = new BackendError('ERR_BACKEND_FAILED', 'the process that makes the calls has gone')
      this.#supervisor.recover('initialise', lost, this.#supervisor.generation).catch(() => undefined)
    }
    if (keepAliveMs === 0) return
    const again = (): void => {
      this.#endKeepAlive = afterUnheld(keepAliveMs, () => {
        again()
        void this.#exercise()
      })
    }
    again()
  }

  async find(query: KeyQuery, signal: AbortSignal | undefined): Promise<FoundTokenKey> {
    const found = await this.#run('find', { query }, signal)
    this.#bound.set(query.kid, found.ref)
    this.#changed.delete(query.kid)
    const { identity } = found
    // A handle says something as long as the module stays as it is: later another object may get its number.
    const names = identity.names.map(name => `${this.#supervisor.generation} ${name}`)
    return { ...found, identity: { ...identity, names } }
  }

  release({ kid, name }: KeyRef): void {
    if (this.#bound.get(kid)?.name === name) this.#bound.delete(kid)
  }

  encipher(key: KeyRef, blocks: Uint8Array, signal: AbortSignal | undefined): MaybePromise<Uint8Array> {
    return this.#run('encipher', { key, blocks }, signal)
  }

  encipherInto(
    key: KeyRef,
    blocks: Uint8Array,
    out: Uint8Array<ArrayBuffer>,
    signal: AbortSignal | undefined,
  ): Promise<Uint8Array> | undefined {
    return this.#dispatcher.encipherInto(key, blocks, out, signal)
  }

  decipher(key: KeyRef, blocks: Uint8Array, signal: AbortSignal | undefined): MaybePromise<Uint8Array> {
    return this.#run('decipher', { key, blocks }, signal)
  }

  encipherBound(
    key: KeyRef,
    blocks: Uint8Array,
    fields: Uint8Array,
    signal: AbortSignal | undefined,
  ): MaybePromise<Uint8Array> {
    return this.#run('encipher', { key, blocks, fields }, signal)
  }

  decipherBound(
    key: KeyRef,
    blocks: Uint8Array,
    fields: Uint8Array,
    signal: AbortSignal | undefined,
  ): MaybePromise<Uint8Array> {
    return this.#run('decipher', { key, blocks, fields }, signal)
  }

  reencipher(
    from: KeyRef,
    to: KeyRef,
    blocks: Uint8Array,
    signal: AbortSignal | undefined,
    inside: boolean,
  ): MaybePromise<Uint8Array> {
    return this.#run('reencipher', { from, to, blocks, inside }, signal)
  }

  verifyPin(
    first: KeyRef,
    second: KeyRef,
    request: PinVerification,
    signal: AbortSignal | undefined,
  ): MaybePromise<PinComparison> {
    return this.#run('verifyPin', { ...request, first, second }, signal)
  }

  mac(
    key: KeyRef,
    { algorithm, padding, iv, derivation }: MacRequest,
    message: Uint8Array,
    signal: AbortSignal | undefined,
  ): MaybePromise<Uint8Array> {
    return this.#run('mac', { key, algorithm, padding, iv, derivation, message }, signal)
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
    const { state, failure } = this.#supervisor
    if (failure !== undefined && state !== 'closed') {
      return { ok: false, state, detail: `${state}: ${failure.message}` }
    }
    try {
      const { ok, detail } = await this.#run('health', { keys: [...this.#bound.values()] }, signal)
      // A wrong answer is not only reported: the token is not used before it has been tried anew.
      if (!ok) void this.#exercise()
      const { stuck } = this.#executor
      const more = stuck === 0 ? detail : `${detail}; ${stuck} calls have hung`
      return { ok, state: this.#supervisor.state, detail: more }
    } catch (error) {
      if (!(error instanceof BackendError) || error.code === 'ERR_BACKEND_CLOSED') throw error
      return { ok: false, state: this.#supervisor.state, detail: error.message }
    }
  }

  closing(): void {
    this.#endKeepAlive?.()
    this.#dispatcher.endWithin(this.#settings.timeouts.closeMs)
  }

  async close(): Promise<void> {
    this.#dispatcher.close()
    this.#supervisor.close()
    await this.#executor.close()
  }

  #run<Name extends JobName>(
    name: Name,
    job: Jobs[Name]['job'],
    signal: AbortSignal | undefined,
  ): MaybePromise<Jobs[Name]['result']> {
    return this.#dispatcher.run(name, job, signal)
  }

  /** A bound key that is another one by now, or has gone: said once, until it is bound anew. */
  #notice(name: JobName, error: unknown): void {
    if (name === 'find' || !(error instanceof KeyError) || !CHANGED.includes(error.code)) return
    const { kid } = error
    if (kid === undefined || !this.#bound.has(kid) || this.#changed.has(kid)) return
    this.#changed.add(kid)
    this.#supervisor.keyChanged(kid, error)
  }

  /** What is lost while nobody calls is brought back before somebody does. */
  async #exercise(): Promise<void> {
    if (this.#supervisor.state !== 'open') return
    try {
      await this.#run('pulse', {}, undefined)
      await this.#executor.keepAlive()
    } catch {
      // The supervisor knows, and says so.
    }
  }
}

function notesOf({ kind, lanes, facts }: Executor, { executor, vendor }: Settings): string[] {
  const chosen = executor === 'auto' ? 'chosen by measuring' : 'asked for'
  const { claims, remark, source } = vendorProfile(vendor)
  const isMisplaced = executor === 'auto' && kind === 'inline' && facts.latencyMs > SLOW_MS
  return [
    `executor ${kind} (${chosen}): a known answer took ${facts.latencyMs.toFixed(2)} ms; ${lanes} calls at a time; binding ${facts.binding}`,
    ...(isMisplaced
      ? [
          'no thread could be started, so each call holds up the event loop: is pkcs11-host.js beside the bundle?',
        ]
      : []),
    ...(claims === undefined ? [] : [`what this token says of a key's past is not always so: ${claims}`]),
    ...(remark === undefined
      ? []
      : [`${vendor}${source === 'tried' ? '' : ' (from documentation, not tried on hardware)'}: ${remark}`]),
  ]
}

function derivationOf({ derivation }: Plan): Capabilities['derivation'] {
  const means = derivation.tdea.ok ? derivation.tdea : derivation.aes
  if (!means.ok) return 'none'
  return means.by === 'inside' ? 'inside' : 'host'
}

function capabilitiesOf(executor: Executor, settings: Settings): Capabilities {
  const { module, token, plan } = executor.facts
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
      'hmac-sha256': plan.hmac.ok ? 'native' : 'none',
    },
    derivation: derivationOf(plan),
    keyAgreement: plan.keyAgreement.ok ? plan.keyAgreement.by : 'none',
    signing: plan.signing.ok ? 'native' : 'none',
    reencipher: plan.translation.ok ? 'inside' : 'host',
    random: plan.random.ok ? `C_GenerateRandom of ${library}` : 'none',
    notes: [...notesOf(executor, settings), ...plan.notes],
  }
}
