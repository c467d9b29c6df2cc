/**
 * MACs that are asked for in one turn of the event loop, computed side by side where the engine can: a thousand messages
 * under one key cost little more than the longest of them. What is asked for first in a turn is computed at once: who
 * awaits one MAC after the other waits for nothing, and nothing is copied for it.
 */
import { secretBytes, wipe } from '../../base/bytes.js'
import { type BlockCipher, cbcMac, padMessage, retailMac } from '../../primitives/iso9797.js'
import { computeMac, type MacCiphers, type MacComputation } from '../../primitives/mac.js'
import type { MaybePromise } from '../driver.js'
import type { TdeaCipher } from './tdea-engine.js'

/** A TDEA cipher that can chain many messages side by side. */
type ManyChains = TdeaCipher & Required<Pick<TdeaCipher, 'cbcMacs'>>

/** The ciphers of a key whose MACs can be batched; `chain` for the retail MAC. */
interface BatchCiphers {
  readonly last: ManyChains
  readonly chain: ManyChains | undefined
}

interface Waiting {
  readonly ciphers: BatchCiphers
  readonly request: MacComputation
  /** Padded, and in memory of ours: the caller's message is the caller's again. */
  readonly padded: Uint8Array
  readonly resolve: (mac: Uint8Array) => void
  readonly reject: (error: unknown) => void
}

const BLOCK_BYTES = 8
/** Fewer are computed one by one: 128 chains take as long as some twenty of them. */
const WORTH_TOGETHER = 20

/** The ciphers, where both can do many chains; undefined where one cannot, or the algorithm is another. */
export function batchCiphers(
  { last, chain }: MacCiphers,
  algorithm: MacComputation['algorithm'],
): BatchCiphers | undefined {
  if (!hasManyChains(last)) return undefined
  if (algorithm === 'iso9797-1-alg1') return { last, chain: undefined }
  return algorithm === 'iso9797-1-alg3' && chain !== undefined && hasManyChains(chain)
    ? { last, chain }
    : undefined
}

function hasManyChains(cipher: BlockCipher): cipher is ManyChains {
  return 'cbcMacs' in cipher
}

/** Most bytes of messages that are padded into one piece of memory. */
const ROOM_BYTES = 65_536

/**
 * Zeroed memory for the messages of a turn, one behind the other: memory of its own for each takes longer than its MAC. Whoever
 * has a part of it wipes it before {@link reuse}.
 */
class Room {
  #bytes = secretBytes(0)
  #used = 0
  readonly take = (length: number): Uint8Array<ArrayBuffer> => {
    if (length > this.#bytes.length - this.#used) {
      this.#bytes = secretBytes(Math.max(ROOM_BYTES, length))
      this.#used = 0
    }
    const from = this.#used
    this.#used += length
    return this.#bytes.subarray(from, this.#used)
  }

  /** From the beginning again. What a long message took is not kept. */
  reuse(): void {
    this.#used = 0
    if (this.#bytes.length > ROOM_BYTES) this.#bytes = secretBytes(0)
  }
}

/** The MACs of one backend that wait for the end of this turn. */
export class MacBatch {
  readonly #room = new Room()
  #waiting: Waiting[] = []
  #isFirst = true
  readonly #endOfTurn = (): void => this.#run()

  /** The full-length MAC: now, or at the end of this turn where another one came first. The message is read now. */
  add(ciphers: BatchCiphers, request: MacComputation, message: Uint8Array): MaybePromise<Uint8Array> {
    if (this.#isFirst) {
      this.#isFirst = false
      queueMicrotask(this.#endOfTurn)
      return computeMac(request, ciphers, message)
    }
    const padded = padMessage(request.padding, message, BLOCK_BYTES, this.#room.take)
    return new Promise((resolve, reject) => {
      this.#waiting.push({ ciphers, request, padded, resolve, reject })
    })
  }

  #run(): void {
    this.#isFirst = true
    const waiting = this.#waiting
    if (waiting.length === 0) return
    this.#waiting = []
    const groups: [Waiting, ...Waiting[]][] = []
    for (const one of waiting) {
      const group = groups.find(([first]) => belongsWith(first, one))
      if (group === undefined) groups.push([one])
      else group.push(one)
    }
    for (const group of groups) settle(group)
    this.#room.reuse()
  }
}

function belongsWith(a: Waiting, b: Waiting): boolean {
  return (
    a.ciphers.last === b.ciphers.last &&
    a.request.algorithm === b.request.algorithm &&
    a.request.padding === b.request.padding &&
    a.request.iv === undefined &&
    b.request.iv === undefined
  )
}

function settle(group: readonly [Waiting, ...Waiting[]]): void {
  try {
    const macs = group.length < WORTH_TOGETHER ? group.map(alone) : sideBySide(group, group[0])
    macs.forEach((mac, i) => {
      group[i]?.resolve(mac)
    })
  } catch (error) {
    for (const { reject } of group) reject(error)
  } finally {
    for (const { padded } of group) wipe(padded)
  }
}

const ZERO_IV: Uint8Array = secretBytes(BLOCK_BYTES)

function alone({ ciphers: { last, chain }, request: { iv = ZERO_IV }, padded }: Waiting): Uint8Array {
  return chain === undefined ? cbcMac(last, iv, padded) : retailMac({ chain, last }, iv, padded)
}

/**
 * Algorithm 1 is the chain's last block; algorithm 3 is the chain under K1 for all blocks but the last, and then one
 * encipherment of the last block, for all messages at once (as {@link retailMac} has it for one).
 */
function sideBySide(group: readonly Waiting[], { ciphers: { last, chain } }: Waiting): Uint8Array[] {
  const padded = group.map(one => one.padded)
  let states: Uint8Array | undefined
  let macs: Uint8Array | undefined
  try {
    if (chain === undefined) {
      macs = last.cbcMacs(ZERO_IV, padded)
    } else {
      states = chain.cbcMacs(
        ZERO_IV,
        padded.map(bytes => bytes.subarray(0, -BLOCK_BYTES)),
      )
      mixIn(states, padded)
      macs = last.encipher(states)
    }
    const all = macs
    return group.map((_, i) => blockAt(all, BLOCK_BYTES * i))
  } finally {
    wipe(states, macs)
  }
}

function blockAt(blocks: Uint8Array, at: number): Uint8Array {
  const block = secretBytes(BLOCK_BYTES)
  for (let i = 0; i < BLOCK_BYTES; i++) block[i] = blocks[at + i] as number
  return block
}

/** Each state ^= the last block of its message. */
function mixIn(states: Uint8Array, padded: readonly Uint8Array[]): void {
  padded.forEach((bytes, i) => {
    for (let b = 0; b < BLOCK_BYTES; b++) {
      const at = BLOCK_BYTES * i + b
      states[at] = (states[at] as number) ^ (bytes[bytes.length - BLOCK_BYTES + b] as number)
    }
  })
}
