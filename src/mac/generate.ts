import { readOptions } from '../arguments.js'
import type { CallOptions } from '../backend/backend.js'
import { ownCopy } from '../bytes.js'
import { MAC_INPUT, type MacInput, requireMacKey, requireMacLength, withFullMac } from './full-mac.js'

/** What {@link generateMac} takes. */
export interface GenerateMacInput extends MacInput {
  /** Bytes of the result, counted from the left: 4 to 8 with TDEA, 4 to 16 with AES. */
  readonly length: number
}

/**
 * Computes a MAC and returns its leftmost `length` bytes.
 *
 * Errors: `ERR_ARGUMENT`; `ERR_LENGTH` (`length` under 4 or over the cipher block, message over 65,536 bytes, iv);
 * `ERR_KEY_USAGE` (not a MAC key, or a MAC key of another algorithm; a PRW key is none); `ERR_KEY_ALGORITHM`;
 * `ERR_ABORTED`; and what the backend reports. Sources: ISO/IEC 9797-1:2011 (algorithms 1, 3; truncation 6.6);
 * NIST SP 800-38B.
 *
 * @example
 * ```ts
 * const mac = await generateMac({ key, message, algorithm: 'iso9797-1-alg3', padding: 2, length: 8 })
 * ```
 */
export async function generateMac(input: GenerateMacInput, options?: CallOptions): Promise<Uint8Array> {
  const request = readOptions(input, 'generateMac', [...MAC_INPUT, 'length'])
  const { key, length } = request
  requireMacKey(key, 'generateMac')
  requireMacLength(key, length)
  return withFullMac(request, options, full => ownCopy(full.subarray(0, length)))
}
