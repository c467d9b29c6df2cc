/**
 * PIN blocks that are enciphered in one turn of the event loop under one key, side by side: many calls in flight cost a tenth of
 * the cipher that each alone would. What is asked for first in a turn is enciphered at once: who awaits one block after the other
 * waits for nothing. As the MACs of a software backend are made (`software/mac-batch.ts`).
 */
import { copyInto, publicBytes, secretBytes, wipe } from '../base/bytes.js'
import { BackendError } from '../base/errors.js'

/** Only blocks of this length are enciphered together. */
export const TOGETHER_BYTES = 8
/** As many as the port takes in one call. */
const MOST_BLOCKS = 8192
/** Room for those of an ordinary turn; it doubles where there are more. */
const FIRST_BLOCKS = 64

/** Enciphers blocks into memory as long as they are, or gives a promise of the answer, for which it has copied them. */
type EncipherInto = (
  blocks: Uint8Array,
  out: Uint8Array<ArrayBuffer>,
  // biome-ignore lint/suspicious/noConfusingVoidType: as a driver has it
) => void | Promise<Uint8Array>

/** What a front has for them: told while blocks wait, so that closing waits too; and the error that goes to a caller. */
interface Front {
  enter(): void
  leave(): void
  coded(error: unknown): Error
}

/** The blocks of one key. */
export class Together {
  readonly #into: EncipherInto
  readonly #front: Front
  #clear: Uint8Array = secretBytes(0)
  #count = 0
  /** A failure goes the same way, as a promise that is rejected. */
  #resolve: ((block: Uint8Array | Promise<never>) => void)[] = []
  #hasBegun = false
  /** One for all: a promise that waits needs no function of its own. */
  readonly #wait = (resolve: (block: Uint8Array | Promise<never>) => void): void => {
    this.#resolve.push(resolve)
  }
  readonly #endOfTurn = (): void => {
    this.#hasBegun = false
    if (this.#count > 0) this.#run()
  }

  constructor(into: EncipherInto, front: Front) {
    this.#into = into
    this.#front = front
  }

  /** The block enciphered at the end of this turn, and read now; undefined for the first of a turn, which need not wait. */
  add(block: Uint8Array): Promise<Uint8Array> | undefined {
    if (!this.#hasBegun) {
      this.#hasBegun = true
      queueMicrotask(this.#endOfTurn)
      return undefined
    }
    if (this.#count === MOST_BLOCKS) this.#run()
    if (this.#count === 0) this.#front.enter()
    const at = TOGETHER_BYTES * this.#count++
    if (at === this.#clear.length) this.#grow()
    const clear = this.#clear
    for (let i = 0; i < TOGETHER_BYTES; i++) clear[at + i] = block[i] as number
    return new Promise(this.#wait)
  }

  #grow(): void {
    const before = this.#clear
    this.#clear = secretBytes(Math.max(TOGETHER_BYTES * FIRST_BLOCKS, 2 * before.length))
    copyInto(this.#clear, before)
    wipe(before)
  }

  #run(): void {
    const [resolve, length] = [this.#resolve, TOGETHER_BYTES * this.#count]
    this.#resolve = []
    this.#count = 0
    const clear = this.#clear.subarray(0, length)
    const out = publicBytes(length)
    const settle = (blocks: Uint8Array): void => {
      if (blocks.length !== length) throw wrongLength()
      for (let i = 0; i < resolve.length; i++) resolve[i]?.(blockAt(blocks, TOGETHER_BYTES * i))
      this.#front.leave()
    }
    const fail = (error: unknown): void => {
      wipe(out)
      for (const one of resolve) one(Promise.reject(this.#front.coded(error)))
      this.#front.leave()
    }
    try {
      const later = this.#into(clear, out)
      if (later === undefined) settle(out)
      else later.then(settle).catch(fail)
    } catch (error) {
      fail(error)
    } finally {
      wipe(clear)
    }
  }
}

function wrongLength(): BackendError {
  return new BackendError('ERR_BACKEND_FAILED', 'the backend answered with another number of bytes')
}

/** In memory of its own: whoever wipes or hands over one block reaches no other. */
function blockAt(blocks: Uint8Array, at: number): Uint8Array {
  const block = publicBytes(TOGETHER_BYTES)
  for (let i = 0; i < TOGETHER_BYTES; i++) block[i] = blocks[at + i] as number
  return block
}
