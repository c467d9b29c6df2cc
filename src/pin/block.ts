import { snapshot } from '../bytes.js'
import { PinBlockError } from '../errors.js'

/** A copy of one enciphered PIN block: 8 bytes. Any other length is `ERR_PIN_BLOCK`, no bytes are `ERR_ARGUMENT`. */
export function readBlock(block: Uint8Array): Uint8Array {
  const copy = snapshot(block, 'block')
  if (copy.length !== 8) throw new PinBlockError()
  return copy
}
