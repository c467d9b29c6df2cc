/**
 * The modules of this process. A PKCS#11 library has one state per process, so its users are counted here: the first
 * calls `C_Initialize`, the last calls `C_Finalize`, and only where this library was the one that initialised it.
 *
 * The table hangs on `globalThis` by a registered symbol: the ESM and the CommonJS copy of this package, loaded side
 * by side, share the library and so must share the count. Each worker thread has a table of its own and cannot know
 * who else uses the library; so only the main thread logs out and finalises, for doing that under another thread's
 * call crashes the process. A worker closes its sessions, and that is all.
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
  readonly initialisedHere: boolean
  users: number
  /** Users of a login this library made, per token serial and label. */
  readonly logins: Map<string, number>
}

/** Bump the number when {@link ModuleState} changes: other versions of this package read the same table. */
const REGISTRY = Symbol.for('issuer-pin-crypto.pkcs11.modules.1')

function registry(): Map<string, ModuleState> {
  const holder = globalThis as { [REGISTRY]?: Map<string, ModuleState> }
  holder[REGISTRY] ??= new Map()
  return holder[REGISTRY]
}

/** One user's share in an initialised module. */
export class ModuleShare {
  readonly path: string
  readonly binding: Pkcs11Binding
  readonly #state: ModuleState
  #released = false

  private constructor(path: string, binding: Pkcs11Binding, state: ModuleState) {
    this.path = path
    this.binding = binding
    this.#state = state
    state.users++
  }

  /** Loads and initialises the library at an absolute path. Errors: `ERR_PKCS11_MODULE`, `ERR_PKCS11_UNAVAILABLE`. */
  static async acquire(
    module: string,
    parameters: string | undefined,
    load: LoadBinding,
  ): Promise<ModuleShare> {
    const path = realPath(module)
    const modules = registry()
    // Not shared through the table: a binding throws the errors of its own copy of this package.
    const binding = await load(path)
    // Somebody may have come first while it was loading; from here on nothing waits.
    let state = modules.get(path)
    if (state === undefined) {
      state = { parameters, initialisedHere: initialise(binding, parameters), users: 0, logins: new Map() }
      modules.set(path, state)
    } else if (state.parameters !== parameters) {
      throw new BackendError(
        'ERR_PKCS11_MODULE',
        `${path} is initialised in this process with other initParameters`,
      )
    }
    return new ModuleShare(path, binding, state)
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
    return isMainThread
  }

  /** Gives the share back. Never fails: whoever closes has nothing to do about it. */
  release(): void {
    if (this.#released) return
    this.#released = true
    this.#state.users--
    if (this.#state.users > 0) return
    registry().delete(this.path)
    if (!this.#state.initialisedHere || !isMainThread) return
    quietly(() => this.binding.C_Finalize())
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
