import { readOptions } from '../arguments.js'
import type { CallOptions } from '../backend/backend.js'
import { equalBytes, snapshot } from '../bytes.js'
import { MAC_INPUT, type MacInput, requireMacKey, requireMacLength, withFullMac } from './full-mac.js'

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
  requireMacKey(key, 'verifyMac')
  requireMacLength(key, length)
  const given = snapshot(mac, 'mac')
  return withFullMac(request, options, full => equalBytes(full.subarray(0, length), given))
}
