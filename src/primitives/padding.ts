/**
 * The padding methods of ISO/IEC 9797-1 (6.3 in the 2011 edition), on whole bytes.
 *
 *     method 1   D  00 …                  nothing where D fills its blocks; one block of zeros for an empty D
 *     method 2   D  80  00 …              always at least one byte
 *     method 3   L  D  00 …               L: the length of D in bits, big-endian, one block; then as method 1
 */
import { requireBytes, secretBytes } from '../base/bytes.js'
import { ArgumentError } from '../base/errors.js'
import type { MacPadding } from './mac-algorithm.js'

/** The padding methods that ISO/IEC 9797-1 numbers. CMAC pads by itself. */
export type Iso9797Padding = Exclude<MacPadding, 'none'>

/** What each method puts around the message: length block in front, bytes that always follow. */
const METHODS: Readonly<Record<Iso9797Padding, { lengthBlock: boolean; marker: readonly number[] }>> = {
  1: { lengthBlock: false, marker: [] },
  2: { lengthBlock: false, marker: [0x80] },
  3: { lengthBlock: true, marker: [] },
}

/**
 * Pads a message for a MAC: a positive multiple of `blockBytes`, in memory of its own, which the caller wipes.
 *
 * Methods 1 and 3 do not say where the message ends: with method 1 a message and the same message with zero bytes
 * behind it have one MAC. The choice belongs to the scheme, so it is an argument and has no default.
 *
 * Errors: `ERR_ARGUMENT` (`none` is no method). Source: ISO/IEC 9797-1:2011, 6.3.2 to 6.3.4.
 *
 * @example
 * ```ts
 * padMessage(2, Uint8Array.of(0x12, 0x34), 8) // 12 34 80 00 00 00 00 00
 * ```
 */
export function padMessage(
  method: MacPadding,
  message: Uint8Array,
  blockBytes: number,
): Uint8Array<ArrayBuffer> {
  requireBytes(message, 'message')
  if (!Number.isInteger(blockBytes) || blockBytes < 4 || blockBytes > 16) {
    throw new ArgumentError('blockBytes must be a whole number from 4 to 16')
  }
  if (!isNumbered(method)) throw new ArgumentError('padding must be 1, 2 or 3')
  const { lengthBlock, marker } = METHODS[method]
  const blocks = Math.max(1, Math.ceil((message.length + marker.length) / blockBytes))
  const front = lengthBlock ? blockBytes : 0
  const padded = secretBytes(front + blocks * blockBytes)
  padded.set(message, front)
  padded.set(marker, front + message.length)
  if (lengthBlock) writeBitLength(padded.subarray(0, blockBytes), message.length)
  return padded
}

function isNumbered(padding: MacPadding): padding is Iso9797Padding {
  return Object.hasOwn(METHODS, padding)
}

function writeBitLength(block: Uint8Array, bytes: number): void {
  let bits = bytes * 8
  for (let i = block.length - 1; i >= 0; i--) {
    block[i] = bits % 256
    bits = Math.floor(bits / 256)
  }
}
