/**
 * Node's ciphers without what they leave behind: they compute into memory that is larger than the result by a block, copy the
 * result, and free that memory as it is; the allocator overwrites the first 16 bytes. And what was copied stays in registers.
 */
import { createCipheriv, type Decipher } from 'node:crypto'
import { clearRegisters, copyInto, secretBytes, wipe } from '../base/bytes.js'

/** As much as the allocator overwrites. */
const STEP = 16
/** Sixteen at a time take a microsecond each: up to here that is less than what else a message of that length costs. */
const LARGE = 1024

/**
 * What `update` gives, in memory of its own. What is short goes through sixteen bytes at a time; after what is long a second
 * cipher asks for the same memory and writes there what is no secret, which a collection in between may bring to naught.
 * `blockBytes` is the cipher's, 1 for a stream.
 */
export function updateCleanly(cipher: Updating, data: Uint8Array, blockBytes: number): Uint8Array {
  const out = secretBytes(data.length)
  const step = data.length < LARGE ? STEP : data.length
  const overwrite = step > STEP ? overwriter(data.length + blockBytes - 1) : undefined
  try {
    for (let at = 0; at < data.length; at += step) {
      const piece = cipher.update(data.subarray(at, at + step))
      overwrite?.()
      copyInto(out, piece, at)
      wipe(piece)
    }
    return out
  } catch (error) {
    wipe(out)
    throw error
  } finally {
    clearRegisters()
  }
}

/**
 * What `update` gives of a chain (CBC), in memory of its own: its last block, which may be a MAC or a key made by one, goes through
 * by itself, so that nothing of it stays. The blocks before it are of use to nobody who has not the key.
 */
export function chainCleanly(cipher: Updating, data: Uint8Array, blockBytes: number): Uint8Array {
  const out = secretBytes(data.length)
  const last = Math.max(0, data.length - blockBytes)
  for (const [from, to] of [
    [0, last],
    [last, data.length],
  ] as const) {
    if (to === from) continue
    const piece = cipher.update(data.subarray(from, to))
    copyInto(out, piece, from)
    wipe(piece)
  }
  clearRegisters()
  return out
}

type Updating = Pick<Decipher, 'update'>

let overwriting: ReturnType<typeof createCipheriv> | undefined

/**
 * Asks for so much memory as a cipher does, and writes there. All it needs is made before: whatever is made between freeing and
 * asking may set off a collection, which frees more of that size.
 */
function overwriter(length: number): () => void {
  // A stream: a block of it is one byte.
  overwriting ??= createCipheriv('aes-256-ctr', secretBytes(32), secretBytes(16))
  const [cipher, zeros] = [overwriting, secretBytes(length)]
  return () => void cipher.update(zeros)
}
