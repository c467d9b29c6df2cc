/**
 * The modules of this process. A PKCS#11 library has one state per process, so its users are counted here: the last one
 * calls `C_Finalize`, and only where this library was the one that initialised it. Every user's binding calls
 * `C_Initialize`: most libraries answer the second with "already initialised", which is as good; those that keep a state
 * for each function list (p11-kit) need it.
 *
 * The table hangs on `globalThis` by a registered symbol: the ESM and the CommonJS copy of this package, loaded side
 * by side, share the library and so must share the count. Each worker thread has a table of its own and cannot know
 * who else uses the library; so only the main thread, or a thread that was told it is alone, logs out and finalises, for
 * doing that under another thread's call crashes the process. Another worker closes its sessions, and that is all.
 *
 * An epoch counts the initialisations: whoever sees it change holds handles of the epoch before.
 */
import { realpathSync } from 'node:fs'
import { isAbsolute } from 'node:path'
import { isMainThread } from 'node:worker_threads'
import { ArgumentError, BackendError } from '../../../base/errors.js'
import type { LoadBinding, Pkcs11Binding } from '../binding/binding.js'
import { CKR } from '../binding/constants.js'
import { Pkcs11Error, quietly } from '../binding/errors.js'

interface ModuleState {
  readonly parameters: string | undefined
  /** False where something else in this process had initialised the library before. */
  initialisedHere: boolean
  /** Two bindings were both told that they were the first: the library keeps a state for each. */
  perBinding: boolean
  users: number
  /** Users that run in threads of their own, and cannot be stopped from here. */
  elsewhere: number
  epoch: number
  /** Users of a login this library made, per token serial and label. */
  readonly logins: Map<string, number>
}

/** Bump the number when {@link ModuleState} changes: other versions of this package read the same table. */
const REGISTRY = Symbol.for('issuer-pin-crypto.pkcs11.modules.2')

function registry(): Map<string, ModuleState> {
  const holder = globalThis as { [REGISTRY]?: Map<string, ModuleState> }
  holder[REGISTRY] ??= new Map()
  return holder[REGISTRY]
}

/** How a user takes part in a module. */
export interface ShareOptions {
  /** The user is one of threads that use the module alone and take turns: it may finalise when it is told to let go. */
  readonly alone?: boolean
}

/** One user's share in an initialised module. */
export class ModuleShare {
  readonly path: string
  readonly binding: Pkcs11Binding
  readonly #state: ModuleState
  readonly #mayFinalise: boolean
  /** This binding's own C_Initialize was the one that did it. */
  #own: boolean
  #released = false

  private constructor(
    path: string,
    binding: Pkcs11Binding,
    state: ModuleState,
    own: boolean,
    options: ShareOptions,
  ) {
    this.path = path
    this.binding = binding
    this.#state = state
    this.#own = own
    this.#mayFinalise = isMainThread || options.alone === true
    state.users++
  }

  /** Loads and initialises the library at an absolute path. Errors: `ERR_PKCS11_MODULE`, `ERR_PKCS11_UNAVAILABLE`. */
  static async acquire(
    module: string,
    parameters: string | undefined,
    load: LoadBinding,
    options: ShareOptions = {},
  ): Promise<ModuleShare> {
    const path = realPath(module)
    const modules = registry()
    // Not shared through the table: a binding throws the errors of its own copy of this package.
    const binding = await load(path)
    // Somebody may have come first while it was loading; from here on nothing waits.
    let state = modules.get(path)
    if (state !== undefined && state.users > 0 && state.parameters !== parameters) {
      throw new BackendError(
        'ERR_PKCS11_MODULE',
        `${path} is initialised in this process with other initParameters`,
      )
    }
    const own = initialise(binding, parameters)
    if (state === undefined) {
      state = newState(parameters, own)
      modules.set(path, state)
    } else if (own) {
      state.perBinding = state.users > 0
      state.initialisedHere = true
    }
    return new ModuleShare(path, binding, state, own, options)
  }

  /** Counts the initialisations of the module by this library. */
  get epoch(): number {
    return this.#state.epoch
  }

  /** Whether this user may finalise the module now: not where a thread, or somebody else, may be in a call. */
  get mayFinalise(): boolean {
    return this.#mayFinalise && this.#state.elsewhere === 0
  }

  /** Counts a user of a login: `made` is true for the one whose `C_Login` did it. */
  joinLogin(token: string, made: boolean): void {
    const users = this.#state.logins.get(token)
    if (made || users !== undefined) this.#state.logins.set(token, (users ?? 0) + 1)
  }

  /** Counts it out. True where the login was made by this library, nobody here needs it any more, and ending it is safe. */
  leaveLogin(token: string): boolean {
    const users = this.#state.logins.get(token)
    if (users === undefined) return false
    if (users > 1) {
      this.#state.logins.set(token, users - 1)
      return false
    }
    this.#state.logins.delete(token)
    // A thread that is told it is alone has siblings, which use the same login.
    return isMainThread && this.#state.elsewhere === 0
  }

  /**
   * Ends the module's life for all who use it here; each finds out by the {@link epoch}. Never fails: what does not end
   * must not keep what follows from beginning. No call of this process may be under way in it, and {@link mayFinalise}.
   */
  letGo(): void {
    quietly(() => this.binding.C_Finalize())
    this.#state.logins.clear()
    this.#state.epoch++
  }

  /** Initialises it again. Errors: `ERR_PKCS11_MODULE`. */
  comeBack(): void {
    this.#own = initialise(this.binding, this.#state.parameters)
    if (this.#own) this.#state.initialisedHere = true
  }

  /** Gives the share back. Never fails: whoever closes has nothing to do about it. */
  release(): void {
    if (this.#released) return
    this.#released = true
    this.#state.users--
    if (this.#state.users > 0) {
      if (this.#state.perBinding && this.#own && isMainThread) quietly(() => this.binding.C_Finalize())
      return
    }
    if (this.#state.elsewhere === 0) registry().delete(this.path)
    if (this.#state.initialisedHere && isMainThread && this.#state.elsewhere === 0)
      quietly(() => this.binding.C_Finalize())
  }
}

/** A user in threads of its own: counted here, so that nobody finalises the module under its calls. */
export class ModuleElsewhere {
  readonly #path: string
  readonly #state: ModuleState
  #released = false

  constructor(module: string, parameters: string | undefined) {
    this.#path = realPath(module)
    const modules = registry()
    this.#state = modules.get(this.#path) ?? newState(parameters, false)
    modules.set(this.#path, this.#state)
    this.#state.elsewhere++
  }

  /** Whether nobody else in this thread uses the module. */
  get alone(): boolean {
    return this.#state.users === 0 && this.#state.elsewhere === 1
  }

  release(): void {
    if (this.#released) return
    this.#released = true
    this.#state.elsewhere--
    if (this.#state.users === 0 && this.#state.elsewhere === 0) registry().delete(this.#path)
  }
}

function newState(parameters: string | undefined, initialisedHere: boolean): ModuleState {
  return {
    parameters,
    initialisedHere,
    perBinding: false,
    users: 0,
    elsewhere: 0,
    epoch: 0,
    logins: new Map(),
  }
}

function initialise(binding: Pkcs11Binding, parameters: string | undefined): boolean {
  try {
    binding.C_Initialize(parameters)
    return true
  } catch (error) {
    if (!(error instanceof Pkcs11Error)) throw error
    if (error.returnValue === CKR.CRYPTOKI_ALREADY_INITIALIZED) return false
    throw error.as('ERR_PKCS11_MODULE')
  }
}

function realPath(module: string): string {
  if (!isAbsolute(module)) throw new ArgumentError('module must be the absolute path of a PKCS#11 library')
  try {
    return realpathSync(module)
  } catch {
    throw new BackendError('ERR_PKCS11_MODULE', `there is no file ${module}`)
  }
}
