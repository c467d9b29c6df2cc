/**
 * TDEA by node-forge, in JavaScript: for OpenSSL builds that refuse TDEA, and as an independent second opinion.
 *
 * node-forge takes keys and blocks as strings, which nobody can wipe. So it gets neither: its rounds work on numbers in
 * memory of ours, and the key schedule is put together from the schedules of keys with one bit set. A DES key schedule
 * permutes bits (FIPS 46-3), so the schedule of a key is the XOR of those of its bits. The known answer that every engine
 * must give when a backend opens would find a node-forge in which this is no longer so.
 */
import forge from 'node-forge'
import { secretBytes } from '../../base/bytes.js'
import type { TdeaCipher, TdeaEngine } from './tdea-engine.js'

/** Three keys' rounds over one block, as two big-endian words. */
interface Rounds {
  encrypt(input: Int32Array, output: Int32Array): void
  decrypt(input: Int32Array, output: Int32Array): void
}

/** What the typings of node-forge leave out. */
interface Algorithm {
  initialize(options: { key: string }): void
  /** 32 numbers a key. */
  _keys: ArrayLike<number>
  readonly mode: Rounding
}
type Mode = typeof Rounding
const { des } = forge as unknown as { des: { Algorithm: new (name: string, mode: Mode) => Algorithm } }

const WORDS = 32
const BLOCK_BYTES = 8

export const forgeEngine: TdeaEngine = { name: 'node-forge', open: key => new ForgeTdea(key) }

class ForgeTdea implements TdeaCipher {
  readonly blockBytes = BLOCK_BYTES
  readonly #rounds: Rounds
  readonly #schedule: Int32Array<ArrayBuffer>
  readonly #words: Int32Array<ArrayBuffer> = secretWords(2)

  constructor(key: Uint8Array) {
    this.#schedule = secretWords(3 * WORDS)
    // node-forge takes three components; the 2-key bundle is K1, K2, K1.
    for (let part = 0; part < 3; part++) {
      const at = (part * BLOCK_BYTES) % key.length
      addSchedule(key.subarray(at, at + BLOCK_BYTES), this.#schedule.subarray(part * WORDS))
    }
    this.#rounds = roundsUnder(this.#schedule)
  }

  encipher(blocks: Uint8Array): Uint8Array {
    return this.#eachBlock(blocks, words => this.#rounds.encrypt(words, words))
  }

  decipher(blocks: Uint8Array): Uint8Array {
    return this.#eachBlock(blocks, words => this.#rounds.decrypt(words, words))
  }

  encipherCbc(iv: Uint8Array, data: Uint8Array): Uint8Array {
    const chain = wordsOf(iv)
    let [left, right] = [chain.getInt32(0), chain.getInt32(4)]
    return this.#eachBlock(data, words => {
      words[0] = word(words, 0) ^ left
      words[1] = word(words, 1) ^ right
      this.#rounds.encrypt(words, words)
      left = word(words, 0)
      right = word(words, 1)
    })
  }

  close(): void {
    this.#schedule.fill(0)
  }

  #eachBlock(blocks: Uint8Array, change: (words: Int32Array) => void): Uint8Array {
    const out = secretBytes(blocks.length)
    const [from, to] = [wordsOf(blocks), wordsOf(out)]
    const words = this.#words
    for (let at = 0; at < blocks.length; at += BLOCK_BYTES) {
      words[0] = from.getInt32(at)
      words[1] = from.getInt32(at + 4)
      change(words)
      to.setInt32(at, word(words, 0))
      to.setInt32(at + 4, word(words, 1))
    }
    words.fill(0)
    return out
  }
}

const word = (words: Int32Array, at: number): number => words[at] as number
const wordsOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
const secretWords = (count: number): Int32Array<ArrayBuffer> => new Int32Array(secretBytes(4 * count).buffer)

/** Does nothing but hold what node-forge gives to a mode. */
class Rounding {
  readonly cipher: Rounds

  constructor({ cipher }: { readonly cipher: Rounds }) {
    this.cipher = cipher
  }
}

/** node-forge's rounds, for three keys' schedules. */
function roundsUnder(schedule: Int32Array): Rounds {
  const algorithm = new des.Algorithm('3DES-ECB', Rounding)
  algorithm._keys = schedule
  return algorithm.mode.cipher
}

/** The schedule of one DES key, added to what is there; each bit costs the same, set or not. */
function addSchedule(key: Uint8Array, schedule: Int32Array): void {
  const rows = bitSchedules()
  for (let bit = 0; bit < rows.length; bit++) {
    const all = -(((key[bit >> 3] as number) >> (7 - (bit & 7))) & 1)
    const row = rows[bit] as ArrayLike<number>
    for (let i = 0; i < WORDS; i++) schedule[i] = word(schedule, i) ^ ((row[i] as number) & all)
  }
}

let bits: readonly ArrayLike<number>[] | undefined

/** The schedules of the 64 keys with one bit set, made once: they are public. */
function bitSchedules(): readonly ArrayLike<number>[] {
  bits ??= Array.from({ length: 64 }, (_, bit) => {
    const algorithm = new des.Algorithm('DES-ECB', Rounding)
    const key = Array.from({ length: 8 }, (_byte, i) => (i === bit >> 3 ? 0x80 >> (bit & 7) : 0))
    algorithm.initialize({ key: String.fromCharCode(...key) })
    return algorithm._keys
  })
  return bits
}
