/**
 * The WebAssembly module of the bitsliced engine and the memory it works on: one of each a thread, made when first needed.
 * Keys, key masks and blocks have places of their own in it, and every place is wiped when it is done with.
 *
 *     FREE        iv, lane mask, chaining planes
 *     MASKS       key masks of the keys used last, 9 KiB each
 *     BLOCKS      64 KiB in which blocks are worked on, wiped after each call
 *     KEYS        a slot a key: 24 bytes of key, 3 × 128 bytes of round keys; grows
 */
import { clearRegisters, copyInto } from '../../base/bytes.js'
import { FREE, WASM } from './bitslice-wasm.js'

/** The functions of the module; what they do is told at the head of `tools/bitslice/emit.ts`. */
interface BitsliceFunctions {
  readonly memory: { readonly buffer: ArrayBuffer; grow(pages: number): number }
  transpose(at: number): void
  des(at: number, masks: number, step: number): void
  mix(to: number, from: number): void
  take(to: number, from: number, lanes: number): void
  expand(key: number, masks: number): void
  schedule(key: number, to: number): void
  ecb(at: number, blocks: number, k1: number, k2: number, k3: number, step: number): void
  cbc(at: number, blocks: number, iv: number, k1: number, k2: number, k3: number, step: number): void
}

/** What is used of the WebAssembly API, which Node 20's types leave out. */
interface WebAssemblyApi {
  readonly Module: new (bytes: Uint8Array) => object
  readonly Instance: new (module: object) => { readonly exports: object }
  validate(bytes: Uint8Array): boolean
}

/** Blocks that are worked on at the same time: the lanes of a vector. */
export const LANES = 128
export const GROUP_BYTES: number = 8 * LANES
/** Round keys of one DES as masks: 16 rounds of 48 words. */
export const ROUND_MASK_BYTES = 192
export const DES_MASK_BYTES: number = 16 * ROUND_MASK_BYTES
/** Round keys of one DES for the scalar function: 16 pairs of words. */
export const DES_SCHEDULE_BYTES = 128
export const KEY_BYTES = 24

const PAGE_BYTES = 65_536
const MASK_BYTES = 3 * DES_MASK_BYTES
/** Masks are cheap to make (2 µs) next to what they are for (4 µs a group): enough for a few keys in turn. */
const MASK_PLACES = 8
const SLOT_BYTES = KEY_BYTES + 3 * DES_SCHEDULE_BYTES + 8

export const IV: number = FREE
export const LANE_MASK: number = FREE + 16
export const STATE: number = FREE + 64
const MASKS = FREE + 64 + GROUP_BYTES
export const BLOCKS: number = MASKS + MASK_PLACES * MASK_BYTES
/** Most bytes of blocks that are in the memory at once. */
export const BLOCKS_BYTES = 65_536
const KEYS = BLOCKS + BLOCKS_BYTES

/** The one memory of this thread. */
let shared: BitsliceMemory | undefined

/** The memory of this thread. Throws where there is no WebAssembly, or one without SIMD. */
export function bitsliceMemory(): BitsliceMemory {
  shared ??= new BitsliceMemory()
  return shared
}

export class BitsliceMemory {
  readonly functions: BitsliceFunctions
  /** The whole memory. Read it anew after {@link takeSlot}, which may have moved it. */
  bytes: Uint8Array
  readonly #idleSlots: number[] = []
  #nextSlot: number = KEYS
  /** Whose masks are where; 0 for nobody's. */
  readonly #owners = new Array<number>(MASK_PLACES).fill(0)
  #turn = 0

  constructor() {
    const api = (globalThis as { WebAssembly?: WebAssemblyApi }).WebAssembly
    const code = Buffer.from(WASM, 'base64')
    if (api?.validate(code) !== true) throw new Error('this runtime has no WebAssembly with SIMD')
    this.functions = new api.Instance(new api.Module(code)).exports as BitsliceFunctions
    this.bytes = new Uint8Array(this.functions.memory.buffer)
    this.#growTo(KEYS)
  }

  /** Keeps a key of 24 bytes, makes its round keys, and returns its slot. */
  takeSlot(key: Uint8Array): number {
    const slot = this.#idleSlots.pop() ?? this.#newSlot()
    copyInto(this.bytes, key, slot)
    for (let k = 0; k < 3; k++)
      this.functions.schedule(slot + 8 * k, slot + KEY_BYTES + k * DES_SCHEDULE_BYTES)
    clearRegisters()
    return slot
  }

  /** Wipes a key with all that was made of it. */
  giveSlot(slot: number): void {
    this.bytes.fill(0, slot, slot + SLOT_BYTES)
    const place = this.#owners.indexOf(slot)
    if (place >= 0) this.#wipeMasks(place)
    this.#idleSlots.push(slot)
  }

  /** The masks of a slot's key: three times sixteen rounds. Those of two keys asked for in turn are there together. */
  masksOf(slot: number): number {
    let place = this.#owners.indexOf(slot)
    if (place < 0) {
      place = this.#turn
      this.#turn = (place + 1) % MASK_PLACES
      this.#owners[place] = slot
      for (let k = 0; k < 3; k++)
        this.functions.expand(slot + 8 * k, MASKS + place * MASK_BYTES + k * DES_MASK_BYTES)
      clearRegisters()
    }
    return MASKS + place * MASK_BYTES
  }

  /** Wipes the first chaining value and the chaining planes. */
  wipeChain(): void {
    this.bytes.fill(0, FREE, MASKS)
  }

  #wipeMasks(place: number): void {
    this.#owners[place] = 0
    this.bytes.fill(0, MASKS + place * MASK_BYTES, MASKS + (place + 1) * MASK_BYTES)
  }

  #newSlot(): number {
    const slot = this.#nextSlot
    this.#growTo(slot + SLOT_BYTES)
    this.#nextSlot = slot + SLOT_BYTES
    return slot
  }

  #growTo(bytes: number): void {
    const missing = Math.ceil(bytes / PAGE_BYTES) - this.bytes.length / PAGE_BYTES
    if (missing <= 0) return
    this.functions.memory.grow(missing)
    this.bytes = new Uint8Array(this.functions.memory.buffer)
  }
}
