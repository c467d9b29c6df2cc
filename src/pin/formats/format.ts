/** What a PIN block format is to the verbs: one row of the table of formats. */
import { secretBytes, snapshot } from '../../base/bytes.js'
import { PinBlockError } from '../../base/errors.js'
import type { KeyAlgorithm } from '../../primitives/algorithms.js'
import type { Pan } from '../../primitives/pan.js'
import type { Pin } from '../../primitives/pin.js'

/** A clear block and the PAN it is for. */
export interface ClearBlock {
  readonly block: Uint8Array
  readonly pan: Pan
}

/** One row of the table of formats. Its functions take checked lengths and check the rest. */
export interface FormatRow {
  /** Length of the block, clear and enciphered: one block of the cipher of its keys. */
  readonly bytes: 8 | 16
  /** The keys a block of this format is enciphered under. */
  readonly algorithms: readonly KeyAlgorithm[]
  /** Writes the clear block into memory that is there already, at an offset: nothing is allocated. */
  readonly write: (pin: Pin, pan: Pan, to: Uint8Array, at: number) => void
  /** The PIN of a clear block; `ERR_PIN_BLOCK` for whatever is not one for this PAN. */
  readonly parse: (clear: ClearBlock) => Pin
  /** As `parse`, the digits left unread: what a translation may judge. */
  readonly check: (clear: ClearBlock) => void
}

/** The clear block of a format, in memory of its own, which the caller wipes. */
export function buildBlock({ bytes, write }: FormatRow, pin: Pin, pan: Pan): Uint8Array {
  const block = secretBytes(bytes)
  write(pin, pan, block, 0)
  return block
}

/** A copy of one enciphered PIN block of a format. Any other length is `ERR_PIN_BLOCK`, no bytes are `ERR_ARGUMENT`. */
export function readBlock(block: Uint8Array, { bytes }: Pick<FormatRow, 'bytes'>): Uint8Array {
  const copy = snapshot(block, 'block')
  if (copy.length !== bytes) throw new PinBlockError()
  return copy
}
