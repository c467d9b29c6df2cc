/** What generation and verification of a MAC share: argument checks, usage, the full-length value and its wiping. */

import { type Key, operationsOf, requireKey } from '../backend/key.js'
import { type CallOptions, hasExactly, readOptions } from '../base/arguments.js'
import { equalBytes, ownCopy, snapshot, withWiped } from '../base/bytes.js'
import { ArgumentError, InputError } from '../base/errors.js'
import { requireUse } from '../key/usage.js'
import type { MacAlgorithm, MacPadding } from '../primitives/algorithms.js'
import { macBytes } from '../primitives/mac.js'

/** Shortest MAC that is made or accepted (ISO/IEC 9797-1:2011, annex C; ISO 16609). */
const MIN_MAC_BYTES = 4

/** The computation that generating and verifying have in common. Nothing has a default but the zero IV. */
interface MacInput {
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

/** The members of {@link MacInput}. */
const MAC_INPUT = ['key', 'message', 'algorithm', 'padding', 'iv'] as const
/** Those that nearly every MAC is asked for with. */
const USUAL: readonly string[] = ['key', 'message', 'algorithm', 'padding', 'length']

/** Throws `ERR_LENGTH` unless a MAC of this length can come from the key. */
function requireMacLength(key: Key, length: number): void {
  if (!Number.isInteger(length)) throw new ArgumentError('length must be a whole number')
  const full = macBytes(key.algorithm)
  if (length < MIN_MAC_BYTES || length > full) {
    throw new InputError('ERR_LENGTH', `mac: ${length} bytes, expected ${MIN_MAC_BYTES} to ${full}`)
  }
}

/** The full-length MAC, which the caller hands out or wipes. */
function fullMac(input: MacInput, options: CallOptions | undefined): Promise<Uint8Array> {
  const { key, message, algorithm, padding } = input
  const iv = Object.hasOwn(input, 'iv') ? input.iv : undefined
  const request = iv === undefined ? { algorithm, padding } : { algorithm, padding, iv }
  return operationsOf(key).mac(request, message, options)
}

/** What {@link generateMac} takes. */
export interface GenerateMacInput extends MacInput {
  /** Bytes of the result, counted from the left: 4 to 8 with TDEA, 4 to 16 with AES. */
  readonly length: number
}

/**
 * Computes a MAC and returns its leftmost `length` bytes.
 *
 * Errors: `ERR_ARGUMENT`; `ERR_LENGTH` (`length` under 4 or over the cipher block, message over 65,536 bytes, iv);
 * `ERR_KEY_USAGE` (not a MAC key, or a MAC key of another algorithm; a PRW key is not one); `ERR_KEY_ALGORITHM`;
 * `ERR_ABORTED`; and what the backend reports. Sources: ISO/IEC 9797-1:2011 (algorithms 1, 3; truncation 6.6);
 * NIST SP 800-38B.
 *
 * @example
 * ```ts
 * const mac = await generateMac({ key, message, algorithm: 'iso9797-1-alg3', padding: 2, length: 8 })
 * ```
 */
export function generateMac(input: GenerateMacInput, options?: CallOptions): Promise<Uint8Array> {
  // Not an asynchronous function: a promise of its own for each of a thousand in flight is felt.
  try {
    const request = readGenerateMac(input)
    const { key, length } = request
    requireKey(key, 'key')
    requireUse(key, 'mac', 'generate')
    requireMacLength(key, length)
    const full = fullMac(request, options)
    if (length === macBytes(key.algorithm)) return full
    return full.then(bytes => withWiped(bytes, whole => ownCopy(whole.subarray(0, length))))
  } catch (error) {
    return Promise.reject(error)
  }
}

/** Each member read once; by names that are written out where all are there and the IV is not. */
function readGenerateMac(input: GenerateMacInput): GenerateMacInput {
  if (!hasExactly(input, USUAL)) return readOptions(input, 'generateMac', [...MAC_INPUT, 'length'])
  const { key, message, algorithm, padding, length } = input
  return { key, message, algorithm, padding, length }
}

/** What {@link verifyMac} takes. */
export interface VerifyMacInput extends MacInput {
  /** The MAC to check. */
  readonly mac: Uint8Array
  /**
   * How long a MAC the scheme has, in bytes: 4 to 8 with TDEA, 4 to 16 with AES. A `mac` of another length is wrong:
   * whoever could send 4 bytes for 8 would need to guess 4 only.
   */
  readonly length: number
}

/**
 * Computes the MAC of a message and compares its leftmost `length` bytes with `mac`, in time that does not depend on
 * where they differ. True: they are equal. A wrong MAC, or one of another length, is false and no error.
 *
 * Errors: `ERR_ARGUMENT`; `ERR_LENGTH` (`length` under 4 bytes or over the cipher block, message over 65,536 bytes,
 * iv); `ERR_KEY_USAGE`; `ERR_KEY_ALGORITHM`; `ERR_ABORTED`; and what the backend reports. Sources: as generateMac.
 *
 * @example
 * ```ts
 * const right = await verifyMac({ key, message, algorithm: 'iso9797-1-alg3', padding: 2, mac, length: 8 })
 * ```
 */
export async function verifyMac(input: VerifyMacInput, options?: CallOptions): Promise<boolean> {
  const request = readOptions(input, 'verifyMac', [...MAC_INPUT, 'mac', 'length'])
  const { key, mac, length } = request
  requireKey(key, 'key')
  requireUse(key, 'mac', 'verify')
  requireMacLength(key, length)
  const given = snapshot(mac, 'mac')
  return withWiped(await fullMac(request, options), full => equalBytes(full.subarray(0, length), given))
}
