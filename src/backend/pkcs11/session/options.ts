/** The options of {@link pkcs11Backend} and of the key store, and their checks. */

import { readOptions } from '../../../base/arguments.js'
import { DEFAULTS } from '../../../base/defaults.js'
import { ArgumentError } from '../../../base/errors.js'
import type { OpenerOptions } from '../../backend.js'
import type { BindingChoice } from '../binding/binding.js'
import { ACCEPTANCES, type Acceptance, type Policy } from '../keys/key-checks.js'
import type { KeyLocation } from '../keys/key-table.js'
import {
  isVendor,
  mayNestTemplates,
  type Plan,
  RETAIL_MAC_VENDORS,
  type RetailMacVendor,
  retailMacProfile,
  VENDORS,
  type Vendor,
  type VendorProfile,
  vendorProfile,
} from '../mechanisms/plan.js'
import type { ProbeKind, ProbeOptions } from '../probe/known-answers.js'
import {
  isBlank,
  type LoginOptions,
  type LoginPolicy,
  readTokenQuery,
  readUri,
  type TokenQuery,
} from './token.js'

/** The state of a PKCS#11 backend. */
export type BackendState = 'open' | 'degraded' | 'recovering' | 'closed'

/** What is published at each change of state, on the diagnostics channel `issuer-pin-crypto:pkcs11` and to `onEvent`. */
export interface BackendEvent {
  readonly state: BackendState
  /** The state before. */
  readonly from: BackendState
  /** Why: the error's message, which holds no secret; absent where all is well. */
  readonly reason?: string
  /** The code of that error. */
  readonly code?: string
  /** The kid of a bound key that is another one by now, or has gone: somebody rotated it. The state stays what it is. */
  readonly key?: string
  /** How many attempts to come back have failed in a row. */
  readonly failures: number
}

/** Options of `pkcs11Backend` and `openKeyStore`. Unknown names are refused. */
export interface Pkcs11Options extends OpenerOptions {
  /**
   * Absolute path of the vendor's PKCS#11 library. While a backend is open, nobody else in this process (another addon,
   * another copy of pkcs11js) may finalise it: where it is then initialised anew, sessions and keys get numbers that
   * were ours, and a call may use another key before a stale handle or `health()` shows what happened. A token has no
   * number of the epoch that could be compared at each call. Users of this library share and count it.
   */
  readonly module: string
  /**
   * What makes the native calls: the optional peer `pkcs11js` (compiled on installation) or `koffi` (prebuilt, no compiler
   * needed; also able to state CKA_UNWRAP_TEMPLATE). Default `auto`: pkcs11js where it is installed, else koffi.
   */
  readonly binding?: BindingChoice
  /** Which token: its label, a `pkcs11:` URI (RFC 7512), or `{ label, serial, manufacturer, model }`. One must match. */
  readonly token: string | TokenQuery
  /**
   * The user PIN, fetched when everything else is ready, used for one login and dropped. A JavaScript string cannot
   * be wiped: fetch it late and keep no copy. Absent only for tokens with a PIN pad, or without login.
   */
  readonly pin?: () => string | Promise<string>
  /** CK_USER_TYPE of the login; CKU_USER (1) where absent. Some vendors have their own, such as 0x80000001. */
  readonly userType?: number
  /** Logs in although a wrong PIN would lock the token. Default false. */
  readonly allowFinalTry?: boolean
  /** The vendor's init string for `C_Initialize`, where it takes one (NSS, YubiHSM, Google Cloud). */
  readonly initParameters?: string
  /** Sessions at a time (8), callers waiting (1024), longest wait in ms (10,000); read-write where a token asks for it. */
  readonly sessions?: {
    readonly max?: number
    readonly queue?: number
    readonly waitMs?: number
    readonly readWrite?: boolean
  }
  /** Default `auto`: where the token says that it requires a login. */
  readonly login?: LoginPolicy
  /**
   * Where the native calls run: in this thread (`inline`), in worker threads over one login (`threads`), or in a child
   * process (`process`), which alone can end a call that hangs. `auto` measures at open: `inline` for a local token,
   * `threads` where a call takes longer than a fifth of a millisecond; `capabilities()` says which and why.
   */
  readonly executor?: 'auto' | 'inline' | 'threads' | 'process'
  /** `process`: a second child, logged in and waiting, so that a killed one is replaced at once. Default false. */
  readonly spare?: boolean
  /** Longest call, waiting included (30,000 ms); opening (30,000); closing (10,000). */
  readonly timeouts?: { readonly callMs?: number; readonly openMs?: number; readonly closeMs?: number }
  /** Puts queued encipherments under one key together into one native call. Default true. */
  readonly coalesce?: boolean
  /** How often idle sessions are exercised, so that they do not time out: 60,000 ms; 0: never. */
  readonly keepAliveMs?: number
  /** `reinitialise: false` where something else in this process uses the module, and it must not be finalised. */
  readonly recovery?: { readonly reinitialise?: boolean }
  /**
   * Hears each change of state (`open`, `degraded`, `recovering`, `closed`), as does `diagnostics_channel`; and, once a key,
   * that what a kid names is not the key that was bound: such an event has `key`.
   */
  readonly onEvent?: (event: BackendEvent) => void
  /**
   * Objects whose label is not the kid, or whose label alone is not unique: by kid. `{ label, id }`, an `id` alone, or a
   * `pkcs11:` URI with `object` or `id` (RFC 7512).
   */
  readonly keys?: Readonly<Record<string, KeyLocation | string>>
  /**
   * Lets the retail MAC be made out of TDEA-CBC calls under two objects (K1‖K1‖K1 and the key itself), and CMAC out
   * of CBC calls where the token has no mechanism. The K1 object is a single-DES oracle for whoever reaches the token:
   * prefer a vendor's mechanism.
   */
  readonly composedMac?: boolean
  /** The vendor whose own retail MAC mechanism is to be used, if it gives the known answer. */
  readonly retailMac?: RetailMacVendor
  /**
   * Re-enciphers PIN blocks inside the token, by C_UnwrapKey and C_WrapKey, where the token can. Keys for this need
   * CKA_UNWRAP and CKA_WRAP.
   */
  readonly translateInToken?: boolean
  /**
   * Uses keys for `translateInToken` although this token does not bind what they unwrap to a template: whoever may use the
   * token can then decipher with them. Without it, such a token translates on the host only.
   */
  readonly translationKeysMayDecipher?: boolean
  /**
   * What a key may show although it should not, each by name: `modifiable` and `copyable` (its rights can be widened; with
   * `copyable` a copy can be taken away as well), `wrappable` (it can be taken away although it is not extractable), `public`
   * (usable without login), `hidden-roles` (role attributes the token does not show).
   */
  readonly accept?: readonly Acceptance[]
  /** Whose token this is: a row of defaults and of what is known of it. */
  readonly vendor?: Vendor
  /**
   * How the token shows at open what it can do: `known-answer` (published test values under keys that are brought in), `relation`
   * (keys of its own making, whose answers must agree with each other), or `trust-bound-keys` where the user may make no
   * session key: then nothing is tried, only ECB, CMAC and signatures are used, and every symmetric key is bound with its
   * `kcv`, which it must show. Default: known answers, and relations where clear import is refused.
   */
  readonly probe?: ProbeKind
  /** Lets Z of a key agreement be read into host memory where the token can do no better. */
  readonly extractSharedSecret?: boolean
  /**
   * Lets a key be derived from another for one MAC or PRW. `inside`: by C_DeriveKey (CKM_DES3_ECB_ENCRYPT_DATA,
   * CKM_AES_ECB_ENCRYPT_DATA; the binding must be koffi), from a key with CKA_DERIVE and nothing else; whoever may use the token
   * can then also derive secrets that can be read. `through-host`: the master key enciphers and stays inside, the derived key
   * passes through host memory. Without it a profile with derived keys is refused.
   */
  readonly deriveKeys?: 'inside' | 'through-host'
}

/** The names of {@link Pkcs11Options}. */
export const PKCS11_OPTIONS: readonly (keyof Pkcs11Options)[] = [
  'module',
  'binding',
  'token',
  'pin',
  'userType',
  'allowFinalTry',
  'initParameters',
  'sessions',
  'login',
  'executor',
  'spare',
  'timeouts',
  'coalesce',
  'keepAliveMs',
  'recovery',
  'onEvent',
  'keys',
  'composedMac',
  'retailMac',
  'translateInToken',
  'translationKeysMayDecipher',
  'accept',
  'vendor',
  'extractSharedSecret',
  'probe',
  'ring',
  'onOperation',
  'deriveKeys',
]

/** The options, read and completed. All but the PIN function and the listener is plain data. */
export interface Settings {
  readonly module: string
  readonly binding: BindingChoice
  readonly token: TokenQuery
  readonly login: LoginOptions
  readonly initParameters: string | undefined
  readonly limits: {
    readonly max: number
    readonly queue: number
    readonly waitMs: number
    readonly coalesce: boolean
  }
  readonly timeouts: { readonly callMs: number; readonly openMs: number; readonly closeMs: number }
  readonly executor: 'auto' | 'inline' | 'threads' | 'process'
  readonly spare: boolean
  readonly keepAliveMs: number
  readonly reinitialise: boolean
  readonly onEvent: ((event: BackendEvent) => void) | undefined
  readonly readWrite: boolean
  readonly locations: ReadonlyMap<string, KeyLocation>
  readonly vendor: Vendor | undefined
  /** What a key may show although it should not. */
  readonly accept: readonly Acceptance[]
  readonly probe: ProbeOptions
}

const MAX_MS = 600_000
const EXECUTORS = ['auto', 'inline', 'threads', 'process'] as const
const BINDINGS = ['auto', 'pkcs11js', 'koffi'] as const
const PROBES = ['known-answer', 'relation', 'trust-bound-keys'] as const
const LOGINS = ['auto', 'always', 'never'] as const

/** Reads the options, each once, and checks them; `ERR_ARGUMENT` names the one that is wrong. */
export function readSettings(given: Pkcs11Options, what: string): Settings {
  const options = readOptions(given, what, PKCS11_OPTIONS)
  const { module, token, pin, userType, initParameters, vendor, onEvent } = options
  if (typeof module !== 'string' || module === '') {
    throw new ArgumentError('module must be the absolute path of a PKCS#11 library')
  }
  if (pin !== undefined && typeof pin !== 'function') {
    throw new ArgumentError('pin must be a function that returns the PIN, so that the PIN is fetched late')
  }
  if (onEvent !== undefined && typeof onEvent !== 'function')
    throw new ArgumentError('onEvent must be a function')
  requireCount(userType, 'userType', 1, 0xffff_ffff)
  if (initParameters !== undefined && typeof initParameters !== 'string') {
    throw new ArgumentError('initParameters must be a string')
  }
  if (vendor !== undefined && !isVendor(vendor)) {
    throw new ArgumentError(`vendor must be one of ${Object.keys(VENDORS).join(', ')}`)
  }
  const profile = vendorProfile(vendor)
  const retailMac = options.retailMac ?? profile.retailMac
  const retailMacOf = retailMacProfile(retailMac)
  if (retailMac !== undefined && retailMacOf === undefined) {
    throw new ArgumentError(`retailMac must be one of ${RETAIL_MAC_VENDORS.join(', ')}`)
  }
  const sessions = readOptions(options.sessions ?? {}, 'sessions', ['max', 'queue', 'waitMs', 'readWrite'])
  const timeouts = readOptions(options.timeouts ?? {}, 'timeouts', ['callMs', 'openMs', 'closeMs'])
  const recovery = readOptions(options.recovery ?? {}, 'recovery', ['reinitialise'])
  return {
    module,
    binding: readChoice(options.binding, 'binding', BINDINGS, 'auto'),
    token: readTokenQuery(token),
    login: {
      pin,
      userType,
      allowFinalTry: readBoolean(options.allowFinalTry, 'allowFinalTry', false),
      policy: readChoice(options.login, 'login', LOGINS, profile.login),
    },
    initParameters,
    limits: {
      max: readCount(
        sessions.max,
        'sessions.max',
        1,
        4096,
        profile.sessions ?? DEFAULTS.pkcs11.sessions.value,
      ),
      queue: readCount(sessions.queue, 'sessions.queue', 0, 1_000_000, DEFAULTS.pkcs11.queue.value),
      waitMs: readCount(sessions.waitMs, 'sessions.waitMs', 0, MAX_MS, DEFAULTS.pkcs11.waitMs.value),
      coalesce: readBoolean(options.coalesce, 'coalesce', true),
    },
    timeouts: {
      callMs: readCount(timeouts.callMs, 'timeouts.callMs', 1, MAX_MS, DEFAULTS.pkcs11.callMs.value),
      openMs: readCount(timeouts.openMs, 'timeouts.openMs', 1, MAX_MS, DEFAULTS.pkcs11.openMs.value),
      closeMs: readCount(timeouts.closeMs, 'timeouts.closeMs', 1, MAX_MS, DEFAULTS.pkcs11.closeMs.value),
    },
    executor: readChoice(options.executor, 'executor', EXECUTORS, 'auto'),
    spare: readBoolean(options.spare, 'spare', false),
    keepAliveMs: readCount(options.keepAliveMs, 'keepAliveMs', 0, 86_400_000, keepAliveOf(profile)),
    reinitialise: readBoolean(recovery.reinitialise, 'recovery.reinitialise', true),
    onEvent,
    readWrite: readBoolean(sessions.readWrite, 'sessions.readWrite', profile.readWrite),
    locations: readLocations(options.keys),
    vendor,
    accept: readAccepted(options.accept),
    probe: {
      kind: readOptionalChoice(options.probe, 'probe', PROBES),
      composedMac: readBoolean(options.composedMac, 'composedMac', false),
      retailMac: retailMacOf,
      translateInToken: readBoolean(options.translateInToken, 'translateInToken', false),
      translationKeysMayDecipher: readBoolean(
        options.translationKeysMayDecipher,
        'translationKeysMayDecipher',
        false,
      ),
      publicKeysPrivate: profile.publicKeysPrivate,
      nestedTemplates: mayNestTemplates(vendor, module),
      extractSharedSecret: readBoolean(options.extractSharedSecret, 'extractSharedSecret', false),
      deriveKeys: readDerivation(options.deriveKeys),
    },
  }
}

/** How often idle sessions are exercised: three times before the device ends them. */
export function keepAliveOf({ sessionEndsAfter }: Pick<VendorProfile, 'sessionEndsAfter'>): number {
  return sessionEndsAfter === undefined ? DEFAULTS.pkcs11.keepAliveMs.value : sessionEndsAfter / 3
}

function readDerivation(way: unknown): 'inside' | 'through-host' | undefined {
  if (way === undefined || way === 'inside' || way === 'through-host') return way
  throw new ArgumentError('deriveKeys must be inside or through-host')
}

function readLocations(keys: Pkcs11Options['keys']): ReadonlyMap<string, KeyLocation> {
  if (keys === undefined) return new Map()
  if (typeof keys !== 'object' || keys === null) throw new ArgumentError('keys must be an object, by kid')
  return new Map(
    Object.entries(keys).map(([kid, given]) => [kid, readLocation(given, `keys[${JSON.stringify(kid)}]`)]),
  )
}

function readLocation(given: unknown, what: string): KeyLocation {
  if (typeof given === 'string') return locationOfUri(given, what)
  const { label, id } = readOptions(given as KeyLocation, what, ['label', 'id'])
  if (label !== undefined && (typeof label !== 'string' || isBlank(label))) {
    throw new ArgumentError(`${what}.label must be a string that is not blank`)
  }
  if (id !== undefined && (typeof id !== 'string' || !/^(?:[0-9a-fA-F]{2})+$/.test(id))) {
    throw new ArgumentError(`${what}.id must be hex`)
  }
  return { ...(label !== undefined && { label }), ...(id !== undefined && { id }) }
}

/** An object of a PKCS#11 URI: `object` and `id` choose it; what describes the token is compared when the token is chosen. */
function locationOfUri(uri: string, what: string): KeyLocation {
  const attributes = readUri(uri, what)
  const { object, id, type } = attributes
  if (type !== undefined && type !== 'secret-key' && type !== 'private') {
    throw new ArgumentError(`${what}: type must be secret-key or private`)
  }
  if (object === undefined && id === undefined) throw new ArgumentError(`${what}: object or id must be given`)
  return {
    ...(object !== undefined && { label: object }),
    ...(id !== undefined && { id: Buffer.from(id, 'latin1').toString('hex') }),
  }
}

function readAccepted(accept: unknown): readonly Acceptance[] {
  if (accept === undefined) return []
  const given: readonly unknown[] = Array.isArray(accept) ? [...accept] : [undefined]
  return given.map(name => {
    const known = ACCEPTANCES.find(acceptance => acceptance === name)
    if (known === undefined) {
      throw new ArgumentError(`accept must be a list of names out of ${ACCEPTANCES.join(', ')}`)
    }
    return known
  })
}

function readChoice<const Choice extends string>(
  value: unknown,
  name: string,
  choices: readonly Choice[],
  otherwise: Choice,
): Choice {
  if (value === undefined) return otherwise
  const known = choices.find(choice => choice === value)
  if (known === undefined) throw new ArgumentError(`${name} must be one of ${choices.join(', ')}`)
  return known
}

function readOptionalChoice<const Choice extends string>(
  value: unknown,
  name: string,
  choices: readonly Choice[],
): Choice | undefined {
  const [first] = choices
  return value === undefined || first === undefined ? undefined : readChoice(value, name, choices, first)
}

function readCount(value: unknown, name: string, min: number, max: number, otherwise: number): number {
  requireCount(value, name, min, max)
  return typeof value === 'number' ? value : otherwise
}

function requireCount(value: unknown, name: string, min: number, max: number): void {
  if (value === undefined) return
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
    throw new ArgumentError(`${name} must be a whole number from ${min} to ${max}`)
  }
}

function readBoolean(value: unknown, name: string, otherwise: boolean): boolean {
  if (value !== undefined && typeof value !== 'boolean') throw new ArgumentError(`${name} must be a boolean`)
  return value ?? otherwise
}

/** What keys are judged by: what is accepted, what the vendor's tokens lack, what the probe has found. */
export function policyOf({ accept, vendor }: Settings, { rights }: Plan): Policy {
  return { accept, lacks: vendorProfile(vendor).lacks, rights }
}
