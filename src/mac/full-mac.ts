/** What generation and verification of a MAC share: argument checks, usage, the full-length value and its wiping. */
import type { CallOptions } from '../backend/backend.js'
import { wipe } from '../bytes.js'
import { ArgumentError, InputError, KeyError } from '../errors.js'
import type { Key } from '../key/key.js'
import { requireKey } from '../key/require.js'
import type { KeyUsage } from '../key/usage.js'
import type { MacAlgorithm, MacPadding } from './algorithm.js'
import { macBytes } from './compute.js'

/** Shortest MAC that is made or accepted (ISO/IEC 9797-1:2011, annex C; ISO 16609). */
export const MIN_MAC_BYTES = 4

/** The computation that generating and verifying have in common. Nothing has a default but the zero IV. */
export interface MacInput {
  /** A `cbc-mac`, `retail-mac` or `cmac` key, fitting the algorithm. */
  readonly key: Key
  /** At most 65,536 bytes. */
  readonly message: Uint8Array
  readonly algorithm: MacAlgorithm
  /** 1, 2 or 3 for the ISO/IEC 9797-1 algorithms, `'none'` for CMAC. */
  readonly padding: MacPadding
  /** First chaining value of the ISO/IEC 9797-1 algorithms, 8 bytes; zero where absent. Not for CMAC. */
  readonly iv?: Uint8Array
}

/**
 * A PRW key computes MACs in the backend too, but not here: with these verbs a verify-only key would generate, and
 * whoever computes PRWs at will can invert one.
 */
const MAC_USAGES: readonly KeyUsage[] = ['cbc-mac', 'retail-mac', 'cmac']

/** The members of {@link MacInput}. */
export const MAC_INPUT = ['key', 'message', 'algorithm', 'padding', 'iv'] as const

/** Throws `ERR_KEY_USAGE` unless the key is one for MACs. */
export function requireMacKey(key: unknown, verb: string): asserts key is Key {
  requireKey(key, 'key')
  if (MAC_USAGES.includes(key.usage)) return
  throw new KeyError('ERR_KEY_USAGE', `key ${key.kid} is for ${key.usage}: ${verb} is refused`, key.kid)
}

/** Throws `ERR_LENGTH` unless a MAC of this length can come from the key. */
export function requireMacLength(key: Key, length: number): void {
  if (!Number.isInteger(length)) throw new ArgumentError('length must be a whole number')
  const full = macBytes(key.algorithm)
  if (length < MIN_MAC_BYTES || length > full) {
    throw new InputError('ERR_LENGTH', `mac: ${length} bytes, expected ${MIN_MAC_BYTES} to ${full}`)
  }
}

/** Computes the full-length MAC, hands it over, and wipes it. */
export async function withFullMac<T>(
  input: MacInput,
  options: CallOptions | undefined,
  use: (full: Uint8Array) => T,
): Promise<T> {
  const { key, message, algorithm, padding, iv } = input
  const request = iv === undefined ? { algorithm, padding } : { algorithm, padding, iv }
  const full = await key.backend.mac(key, request, message, options)
  try {
    return use(full)
  } finally {
    wipe(full)
  }
}
