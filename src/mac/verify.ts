import type { CallOptions } from '../backend/backend.js'
import { equalBytes, ownCopy, requireBytes } from '../bytes.js'
import { type MacInput, requireMacInput, requireMacLength, withFullMac } from './full-mac.js'

/** What {@link verifyMac} takes. */
export interface VerifyMacInput extends MacInput {
  /** The MAC to check: 4 to 8 bytes with TDEA, 4 to 16 with AES. Its length is the length that is compared. */
  readonly mac: Uint8Array
}

/**
 * Computes the MAC of a message and compares its leftmost bytes with `mac`, in time that does not depend on where they
 * differ. True: they are equal.
 *
 * A scheme fixes the length of its MACs. Check it before this call: whoever may choose to send 4 bytes instead of 8
 * needs to guess 4 bytes only.
 *
 * Errors: `ERR_ARGUMENT`; `ERR_LENGTH` (`mac` under 4 bytes or over the cipher block, message over 65,536 bytes, iv);
 * `ERR_KEY_USAGE`; `ERR_KEY_ALGORITHM`; `ERR_ABORTED`; and what the backend reports. A wrong MAC is no error. Sources:
 * as generateMac.
 *
 * @example
 * ```ts
 * if (!(await verifyMac({ key, message, algorithm: 'cmac', padding: 'none', mac }))) refuse()
 * ```
 */
export async function verifyMac(input: VerifyMacInput, options?: CallOptions): Promise<boolean> {
  requireMacInput(input, 'verifyMac')
  const { key, mac } = input
  requireBytes(mac, 'mac')
  requireMacLength(key, mac.length)
  const given = ownCopy(mac)
  return withFullMac(input, options, full => equalBytes(full.subarray(0, given.length), given))
}
