/**
 * TDEA of our own, in WebAssembly: 128 blocks side by side as bit planes, where every step is a logical operation on
 * vectors, so that no address and no branch depends on a key or a block; and for a few blocks a scalar function with tables
 * in memory of its own. The code is generated (`tools/bitslice`, docs/bitslice.md).
 *
 * What it works on is wiped after each call, a key's round keys when the key is closed. The tables of the scalar function
 * are read at addresses that depend on key and block, as OpenSSL's DES does it: no worse, and no better.
 */
import { concatBytes, copyInto, equalBytes, ownCopy, secretBytes, wipe } from '../../base/bytes.js'
import { BackendError } from '../../base/errors.js'
import {
  type BitsliceMemory,
  BLOCKS,
  BLOCKS_BYTES,
  bitsliceMemory,
  DES_MASK_BYTES,
  DES_SCHEDULE_BYTES,
  GROUP_BYTES,
  IV,
  KEY_BYTES,
  LANE_MASK,
  LANES,
  ROUND_MASK_BYTES,
  STATE,
} from './bitslice-memory.js'
import { requireWholeBlocks, type TdeaCipher, type TdeaEngine } from './tdea-engine.js'

/** The engine. Opening a key throws where there is no WebAssembly with SIMD; the choice of an engine takes that for a no. */
export const bitsliceEngine: TdeaEngine = {
  name: 'bitslice',
  open: key => new BitsliceTdea(bitsliceMemory(), key),
}

/**
 * From so many blocks on a group is faster than the scalar function: 128 side by side take 4 µs, one alone 0.28 µs
 * (docs/bitslice.md). A constant: the ratio is that of two pieces of code on one core, not of two machines.
 */
export const WORTH_A_GROUP = 16
const BLOCK_BYTES = 8
const LAST_ROUND_MASKS: number = 15 * ROUND_MASK_BYTES
const LAST_ROUND_KEYS: number = 15 * 8

/** Where the first round's key of each of the three passes is, and the way through the rounds of the first and third. */
type Schedule = readonly [k1: number, k2: number, k3: number, step: number]

/** TDEA under one key, in the memory of this thread. */
export class BitsliceTdea implements TdeaCipher {
  readonly blockBytes = 8
  readonly #memory: BitsliceMemory
  readonly #slot: number
  /** K1 = K2 = K3, which is DES: two of the three passes undo each other. So a retail MAC's chain costs a third. */
  readonly #single: boolean
  readonly #forward: Schedule
  readonly #backward: Schedule
  #open = true

  constructor(memory: BitsliceMemory, key: Uint8Array) {
    const bundle = key.length === KEY_BYTES ? ownCopy(key) : concatBytes(key, key.subarray(0, 8))
    this.#memory = memory
    try {
      this.#slot = memory.takeSlot(bundle)
      const [first, second, third] = [0, 8, 16].map(at => bundle.subarray(at, at + 8)) as [
        Uint8Array,
        Uint8Array,
        Uint8Array,
      ]
      this.#single = equalBytes(first, second) && equalBytes(second, third)
    } finally {
      wipe(bundle)
    }
    const first = this.#slot + KEY_BYTES
    const [second, third] = [first + DES_SCHEDULE_BYTES, first + 2 * DES_SCHEDULE_BYTES]
    this.#forward = this.#single ? [first, 0, 0, 8] : [first, second + LAST_ROUND_KEYS, third, 8]
    this.#backward = this.#single
      ? [first + LAST_ROUND_KEYS, 0, 0, -8]
      : [third + LAST_ROUND_KEYS, second, first + LAST_ROUND_KEYS, -8]
  }

  encipher(blocks: Uint8Array): Uint8Array {
    return this.#made(blocks, out => this.encipherInto(blocks, out))
  }

  encipherInto(blocks: Uint8Array, out: Uint8Array): void {
    if (blocks.length === BLOCK_BYTES) this.#one(blocks, out, this.#forward)
    else this.#inMemory(blocks, out, count => this.#ecb(count, true))
  }

  decipher(blocks: Uint8Array): Uint8Array {
    return this.#made(blocks, out => {
      if (blocks.length === BLOCK_BYTES) this.#one(blocks, out, this.#backward)
      else this.#inMemory(blocks, out, count => this.#ecb(count, false))
    })
  }

  /** What `fill` writes, in memory of its own. */
  #made({ length }: Uint8Array, fill: (out: Uint8Array) => void): Uint8Array {
    const out = secretBytes(length)
    fill(out)
    return out
  }

  /** Deciphers here and enciphers under `to` in one pass: what is clear never leaves the planes it is in. */
  reencipher(to: TdeaCipher, blocks: Uint8Array): Uint8Array | undefined {
    const out = secretBytes(blocks.length)
    return this.reencipherInto(to, blocks, out) ? out : undefined
  }

  reencipherInto(to: TdeaCipher, blocks: Uint8Array, out: Uint8Array): boolean {
    if (!(to instanceof BitsliceTdea) || to.#memory !== this.#memory) return false
    to.#requireOpen()
    if (blocks.length === BLOCK_BYTES) {
      this.#one(blocks, out, this.#backward, to.#forward)
      return true
    }
    const pass = (count: number): void => {
      const alone = this.#groups(count, at => {
        this.#slice(at, false)
        to.#slice(at, true)
      })
      if (alone === 0) return
      this.#scalar(BLOCKS + BLOCK_BYTES * (count - alone), alone, false)
      to.#scalar(BLOCKS + BLOCK_BYTES * (count - alone), alone, true)
    }
    this.#inMemory(blocks, out, pass)
    return true
  }

  encipherCbc(iv: Uint8Array, data: Uint8Array): Uint8Array {
    const { bytes } = this.#memory
    copyInto(bytes, iv, IV)
    try {
      return this.#made(data, out => this.#inMemory(data, out, count => this.#cbc(BLOCKS, count)))
    } finally {
      bytes.fill(0, IV, IV + BLOCK_BYTES)
    }
  }

  cbcLast(iv: Uint8Array, data: Uint8Array): Uint8Array {
    return this.#last(this, iv, data)
  }

  retailLast(chain: object, iv: Uint8Array, padded: Uint8Array): Uint8Array | undefined {
    return chain instanceof BitsliceTdea && chain.#memory === this.#memory
      ? this.#last(chain, iv, padded)
      : undefined
  }

  /** Chains all blocks but the last under `chain`, the last one here, and returns what comes of it. */
  #last(chain: BitsliceTdea, iv: Uint8Array, data: Uint8Array): Uint8Array {
    this.#requireOpen()
    chain.#requireOpen()
    requireWholeBlocks(data)
    const { bytes } = this.#memory
    const out = secretBytes(BLOCK_BYTES)
    let filled = 0
    try {
      move(iv, 0, bytes, IV)
      for (let from = 0; from < data.length; from += BLOCKS_BYTES) {
        const part = data.length <= BLOCKS_BYTES ? data : data.subarray(from, from + BLOCKS_BYTES)
        const count = part.length / BLOCK_BYTES
        const own = chain === this ? count : from + part.length === data.length ? 1 : 0
        filled = Math.max(filled, part.length)
        copyInto(bytes, part, BLOCKS)
        if (count > own) chain.#cbc(BLOCKS, count - own)
        if (own > 0) this.#cbc(BLOCKS + BLOCK_BYTES * (count - own), own)
      }
      move(bytes, IV, out, 0)
      return out
    } finally {
      bytes.fill(0, BLOCKS, BLOCKS + filled)
      for (let i = 0; i < BLOCK_BYTES; i++) bytes[IV + i] = 0
    }
  }

  /**
   * The last blocks of the CBC encryptions of many messages, 8 bytes each, one after the other; the messages are whole
   * blocks, none the first chaining value itself. They run side by side, the longest first, so that those still running
   * are always the first lanes.
   */
  cbcMacs(iv: Uint8Array, messages: readonly Uint8Array[]): Uint8Array {
    this.#requireOpen()
    const result = secretBytes(BLOCK_BYTES * messages.length)
    const order = [...messages.keys()].sort((a, b) => lengthAt(messages, b) - lengthAt(messages, a))
    for (const message of messages) if (message.length > 0) requireWholeBlocks(message)
    try {
      for (let from = 0; from < order.length; from += LANES) {
        const lanes = order.slice(from, from + LANES)
        this.#chains(
          iv,
          lanes.map(index => messages[index] as Uint8Array),
        )
        const { bytes } = this.#memory
        lanes.forEach((index, lane) => {
          move(bytes, STATE + BLOCK_BYTES * lane, result, BLOCK_BYTES * index)
        })
      }
      return result
    } finally {
      this.#memory.wipeChain()
    }
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    this.#memory.giveSlot(this.#slot)
  }

  /** One block, under one schedule or two, without the calls that cost more than the bytes they move. */
  #one(block: Uint8Array, out: Uint8Array, [k1, k2, k3, step]: Schedule, then?: Schedule): void {
    this.#requireOpen()
    const { bytes, functions } = this.#memory
    for (let i = 0; i < BLOCK_BYTES; i++) bytes[BLOCKS + i] = block[i] as number
    // Unlike the calls below, this one cannot fail between writing and wiping: all addresses are in the memory.
    functions.ecb(BLOCKS, 1, k1, k2, k3, step)
    if (then !== undefined) functions.ecb(BLOCKS, 1, then[0], then[1], then[2], then[3])
    for (let i = 0; i < BLOCK_BYTES; i++) {
      out[i] = bytes[BLOCKS + i] as number
      bytes[BLOCKS + i] = 0
    }
  }

  /** Hands blocks over to `use`, at BLOCKS, and takes what is there afterwards. Leaves nothing there. */
  #inMemory(blocks: Uint8Array, out: Uint8Array, use: (count: number) => void): void {
    this.#requireOpen()
    requireWholeBlocks(blocks)
    const { bytes } = this.#memory
    for (let from = 0; from < blocks.length; from += BLOCKS_BYTES) {
      const part = blocks.length <= BLOCKS_BYTES ? blocks : blocks.subarray(from, from + BLOCKS_BYTES)
      try {
        copyInto(bytes, part, BLOCKS)
        use(part.length / BLOCK_BYTES)
        copyInto(out, bytes.subarray(BLOCKS, BLOCKS + part.length), from)
      } finally {
        bytes.fill(0, BLOCKS, BLOCKS + GROUP_BYTES * Math.ceil(part.length / GROUP_BYTES))
      }
    }
  }

  /** Chains blocks in place, from IV; IV is then their last. */
  #cbc(at: number, count: number): void {
    const { bytes, functions } = this.#memory
    const [k1, k2, k3, step] = this.#forward
    functions.cbc(at, count, IV, k1, k2, k3, step)
    move(bytes, at + BLOCK_BYTES * (count - 1), bytes, IV)
  }

  #ecb(count: number, forward: boolean): void {
    const alone = this.#groups(count, at => this.#slice(at, forward))
    if (alone > 0) this.#scalar(BLOCKS + BLOCK_BYTES * (count - alone), alone, forward)
  }

  /** Runs groups through `use`, as planes, as long as one is worth it; returns how many blocks are left at the end. */
  #groups(count: number, use: (at: number) => void): number {
    const { functions } = this.#memory
    let left = count
    for (let at = BLOCKS; left >= WORTH_A_GROUP; at += GROUP_BYTES) {
      functions.transpose(at)
      use(at)
      functions.transpose(at)
      left = Math.max(0, left - LANES)
    }
    return left
  }

  /** TDEA on the planes at `at`. */
  #slice(at: number, forward: boolean): void {
    const { functions } = this.#memory
    const masks = this.#memory.masksOf(this.#slot)
    const pass = (key: number, onward: boolean): void => {
      const first = masks + key * DES_MASK_BYTES
      if (onward) functions.des(at, first, ROUND_MASK_BYTES)
      else functions.des(at, first + LAST_ROUND_MASKS, -ROUND_MASK_BYTES)
    }
    pass(forward ? 0 : 2, forward)
    if (this.#single) return
    pass(1, !forward)
    pass(forward ? 2 : 0, forward)
  }

  #scalar(at: number, count: number, forward: boolean): void {
    const [k1, k2, k3, step] = forward ? this.#forward : this.#backward
    this.#memory.functions.ecb(at, count, k1, k2, k3, step)
  }

  /** Chains up to 128 messages, the longest first; their last blocks are then at STATE, as blocks. */
  #chains(iv: Uint8Array, messages: readonly Uint8Array[]): void {
    const { bytes, functions } = this.#memory
    for (let lane = 0; lane < LANES; lane++) copyInto(bytes, iv, STATE + BLOCK_BYTES * lane)
    functions.transpose(STATE)
    const steps = lengthAt(messages, 0) / BLOCK_BYTES
    const atOnce = BLOCKS_BYTES / GROUP_BYTES
    for (let first = 0; first < steps; first += atOnce) {
      const end = Math.min(steps, first + atOnce)
      try {
        messages.forEach((message, lane) => {
          spread(message, BLOCK_BYTES * first, BLOCK_BYTES * end, bytes, BLOCKS + BLOCK_BYTES * lane)
        })
        for (let step = first; step < end; step++) {
          const at = BLOCKS + GROUP_BYTES * (step - first)
          functions.transpose(at)
          functions.mix(at, STATE)
          this.#slice(at, true)
          this.#maskLanes(messages, step)
          functions.take(STATE, at, LANE_MASK)
        }
      } finally {
        bytes.fill(0, BLOCKS, BLOCKS + GROUP_BYTES * (end - first))
      }
    }
    functions.transpose(STATE)
  }

  /** Sets the bits of the lanes whose message has a block at this step. Block n is bit n >> 1 of half n & 1. */
  #maskLanes(messages: readonly Uint8Array[], step: number): void {
    const { bytes } = this.#memory
    bytes.fill(0, LANE_MASK, LANE_MASK + 16)
    for (let n = 0; n < messages.length && lengthAt(messages, n) > BLOCK_BYTES * step; n++) {
      const at = LANE_MASK + 8 * (n & 1) + (n >> 4)
      bytes[at] = (bytes[at] as number) | (1 << ((n >> 1) & 7))
    }
  }

  /** The slot of a closed key may be another key's by now. */
  #requireOpen(): void {
    if (!this.#open) throw new BackendError('ERR_BACKEND_CLOSED', 'the key is closed')
  }
}

/** Copies one block: a call of the built-in ones takes longer than eight bytes. */
function move(from: Uint8Array, first: number, to: Uint8Array, at: number): void {
  for (let i = 0; i < BLOCK_BYTES; i++) to[at + i] = from[first + i] as number
}

function lengthAt(messages: readonly Uint8Array[], index: number): number {
  return (messages[index] as Uint8Array).length
}

/** Writes a message's blocks, from `first` to before `end` or its own, a group apart. */
function spread(message: Uint8Array, first: number, end: number, bytes: Uint8Array, at: number): void {
  const stop = Math.min(end, message.length)
  for (let block = first, to = at; block < stop; block += BLOCK_BYTES, to += GROUP_BYTES) {
    for (let i = 0; i < BLOCK_BYTES; i++) bytes[to + i] = message[block + i] as number
  }
}
