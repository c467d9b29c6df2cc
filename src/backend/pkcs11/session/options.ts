/** The options of {@link pkcs11Backend} and of the key store, and their checks. */

import { readOptions } from '../../../base/arguments.js'
import { ArgumentError } from '../../../base/errors.js'
import type { KeyLocation } from '../keys/key-table.js'
import { RETAIL_MAC_VENDORS, type RetailMacVendor, retailMacProfile } from '../mechanisms/vendors.js'
import type { ProbeOptions } from '../probe/test-keys.js'
import type { SessionLimits } from './sessions.js'
import { type LoginOptions, readTokenQuery, type TokenQuery } from './token.js'

/** Options of `pkcs11Backend` and `openKeyStore`. Unknown names are refused. */
export interface Pkcs11Options {
  /**
   * Absolute path of the vendor's PKCS#11 library. While a backend is open, nobody else in this process (another addon,
   * another copy of pkcs11js) may finalise it: where it is then initialised anew, sessions and keys get numbers that
   * were ours, and a call may use another key before a stale handle or `health()` shows what happened. A token has no
   * number of the epoch that could be compared at each call. Users of this library share and count it.
   */
  readonly module: string
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
  /** Objects whose label is not the kid, or whose label alone is not unique: by kid. */
  readonly keys?: Readonly<Record<string, KeyLocation>>
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
  /** Lets Z of a key agreement be read into host memory where the token can do no better. */
  readonly extractSharedSecret?: boolean
}

/** The names of {@link Pkcs11Options}. */
export const PKCS11_OPTIONS: readonly (keyof Pkcs11Options)[] = [
  'module',
  'token',
  'pin',
  'userType',
  'allowFinalTry',
  'initParameters',
  'sessions',
  'keys',
  'composedMac',
  'retailMac',
  'translateInToken',
  'extractSharedSecret',
]

/** The options, read and completed. */
export interface Settings {
  readonly module: string
  readonly token: TokenQuery
  readonly login: LoginOptions
  readonly initParameters: string | undefined
  readonly limits: SessionLimits
  readonly readWrite: boolean
  readonly locations: ReadonlyMap<string, KeyLocation>
  readonly probe: ProbeOptions
}

const DEFAULT_LIMITS: SessionLimits = { max: 8, queue: 1024, waitMs: 10_000 }

/** Reads the options, each once, and checks them; `ERR_ARGUMENT` names the one that is wrong. */
export function readSettings(given: Pkcs11Options, what: string): Settings {
  const options = readOptions(given, what, PKCS11_OPTIONS)
  const { module, token, pin, userType, initParameters, retailMac } = options
  if (typeof module !== 'string' || module === '') {
    throw new ArgumentError('module must be the absolute path of a PKCS#11 library')
  }
  if (pin !== undefined && typeof pin !== 'function') {
    throw new ArgumentError('pin must be a function that returns the PIN, so that the PIN is fetched late')
  }
  requireCount(userType, 'userType', 1, 0xffff_ffff)
  if (initParameters !== undefined && typeof initParameters !== 'string') {
    throw new ArgumentError('initParameters must be a string')
  }
  const sessions = readOptions(options.sessions ?? {}, 'sessions', ['max', 'queue', 'waitMs', 'readWrite'])
  requireCount(sessions.max, 'sessions.max', 1, 4096)
  requireCount(sessions.queue, 'sessions.queue', 0, 1_000_000)
  requireCount(sessions.waitMs, 'sessions.waitMs', 0, 600_000)
  const vendor = retailMacProfile(retailMac)
  if (retailMac !== undefined && vendor === undefined) {
    throw new ArgumentError(`retailMac must be one of ${RETAIL_MAC_VENDORS.join(', ')}`)
  }
  const { max, queue, waitMs } = DEFAULT_LIMITS
  return {
    module,
    token: readTokenQuery(token),
    login: { pin, userType, allowFinalTry: readBoolean(options.allowFinalTry, 'allowFinalTry') },
    initParameters,
    limits: {
      max: sessions.max ?? max,
      queue: sessions.queue ?? queue,
      waitMs: sessions.waitMs ?? waitMs,
    },
    readWrite: readBoolean(sessions.readWrite, 'sessions.readWrite'),
    locations: readLocations(options.keys),
    probe: {
      composedMac: readBoolean(options.composedMac, 'composedMac'),
      retailMac: vendor,
      translateInToken: readBoolean(options.translateInToken, 'translateInToken'),
      extractSharedSecret: readBoolean(options.extractSharedSecret, 'extractSharedSecret'),
    },
  }
}

function readLocations(keys: Pkcs11Options['keys']): ReadonlyMap<string, KeyLocation> {
  if (keys === undefined) return new Map()
  if (typeof keys !== 'object' || keys === null) throw new ArgumentError('keys must be an object, by kid')
  const read = new Map<string, KeyLocation>()
  for (const [kid, given] of Object.entries(keys)) {
    const { label, id } = readOptions(given, `keys[${JSON.stringify(kid)}]`, ['label', 'id'])
    if (label !== undefined && (typeof label !== 'string' || label === '')) {
      throw new ArgumentError(`keys[${JSON.stringify(kid)}].label must be a string`)
    }
    if (id !== undefined && (typeof id !== 'string' || !/^(?:[0-9a-fA-F]{2})+$/.test(id))) {
      throw new ArgumentError(`keys[${JSON.stringify(kid)}].id must be hex`)
    }
    read.set(kid, { ...(label !== undefined && { label }), ...(id !== undefined && { id }) })
  }
  return read
}

function requireCount(value: unknown, name: string, min: number, max: number): void {
  if (value === undefined) return
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
    throw new ArgumentError(`${name} must be a whole number from ${min} to ${max}`)
  }
}

/** False where absent. */
function readBoolean(value: unknown, name: string): boolean {
  if (value !== undefined && typeof value !== 'boolean') throw new ArgumentError(`${name} must be a boolean`)
  return value === true
}
