/**
 * From the standard's tables and the S-box circuits to a WebAssembly module. What it exports, all on its own memory:
 *
 *     transpose(at)                          128 blocks of 8 bytes at `at` <-> 64 bit planes of 128 lanes; its own inverse
 *     des(at, masks, step)                   one DES of the planes at `at`; step > 0 enciphers, step < 0 deciphers
 *     mix(to, from)                          planes at `to` ^= planes at `from`
 *     take(to, from, lanes)                  planes at `to` = planes at `from`, in the lanes whose bit is one
 *     expand(key, masks)                     the round keys of an 8-byte key as 768 masks of 32 bits, for `des`
 *     schedule(key, to)                      the round keys as 16 pairs of 32-bit words, for `ecb` and `cbc`
 *     ecb(at, blocks, k1, k2, k3, step)      TDEA, one block after the other, in place; k2 = 0: DES under k1 alone
 *     cbc(at, blocks, iv, k1, k2, k3, step)  the same, chained; `iv` is where the first chaining value is
 *
 * **Planes.** After `transpose`, plane q (16 bytes at `at + 16q`) has bit q of all blocks, where bit q is bit q & 7 (the
 * rightmost is 0) of byte q >> 3. FIPS 46-3 numbers from the left, so its bit b is plane 8·⌊(b−1)/8⌋ + 7 − (b−1) mod 8.
 * The initial permutation then costs nothing: IP's left half is the even planes, its right half the odd ones, and it only
 * says which offset a bit is at. The same holds for E and P: they are addresses.
 */
import { type Circuit, type Gate, INPUTS } from './circuit.js'
import { E, IP, P, PC1, PC2, SHIFTS, substitute } from './tables.js'
import { type Body, Module } from './wasm.js'

const BOXES = 8
const ROUNDS = 16
const ROUND_BITS = 48
const PLANE_BYTES = 16
const PLANES = 64

/** Where things are in the module's memory; what is above `free` belongs to whoever uses it. */
export const LAYOUT = { tables: 0, keyBits: 2048, free: 4096 } as const

function at(table: readonly number[], index: number): number {
  const value = table[index]
  if (value === undefined) throw new RangeError('no such table entry')
  return value
}

/** The plane of a bit as FIPS 46-3 numbers the bits of a block. */
export function planeOf(bit: number): number {
  return 8 * Math.floor((bit - 1) / 8) + 7 - ((bit - 1) % 8)
}

/** Offset of bit i (1 to 32) of the left half after IP; the right half's is one plane further. */
function halfOffset(i: number): number {
  const left = planeOf(at(IP, i - 1))
  if (planeOf(at(IP, 31 + i)) !== left + 1) throw new Error('the halves are not neighbours')
  return PLANE_BYTES * left
}

/** Which bit of the key (0 to 63, from the left) is bit i of each round's key: PC-1, the shifts, PC-2, put together. */
export function keyBits(): number[] {
  let shifted = 0
  return SHIFTS.flatMap(shift => {
    shifted += shift
    return PC2.map(bit => {
      const half = bit > 28 ? 28 : 0
      return at(PC1, half + ((bit - 1 - half + shifted) % 28)) - 1
    })
  })
}

/** The module's bytes. */
export function emit(circuits: readonly Circuit[]): Uint8Array {
  const module = new Module()
  const bits = keyBits()
  module.data(LAYOUT.tables, substitutionTables())
  module.data(LAYOUT.keyBits, bits)
  defineTranspose(module)
  defineDes(module, circuits)
  definePlaneOperations(module)
  defineKeys(module)
  defineScalar(module)
  return module.assemble(1)
}

/**
 * Exchanges bit k of the register number with bit k of the bit position, for k = 0 to 5, on 64 registers of two 64-bit
 * halves: the transposition of two 64 × 64 matrices. Three of the six steps fit eight registers that differ in three bits
 * of their number, so there are two sweeps of eight times eight registers.
 */
function defineTranspose(module: Module): void {
  module.define({ export: 'transpose', parameters: ['i32'] }, (body, [start = 0]) => {
    const registers = Array.from({ length: 8 }, () => body.local('v128'))
    const [spare, mask] = [body.local('v128'), body.local('v128')]
    const [counter, pointer] = [body.local('i32'), body.local('i32')]
    for (const sweep of [
      { next: 8 * PLANE_BYTES, stride: PLANE_BYTES, first: 0 },
      { next: PLANE_BYTES, stride: 8 * PLANE_BYTES, first: 3 },
    ]) {
      body.get(start).set(pointer)
      body.repeat(counter, 8, () => {
        registers.forEach((register, i) => {
          body
            .get(pointer)
            .memory('v128.load', i * sweep.stride)
            .set(register)
        })
        for (let k = 0; k < 3; k++) exchange(body, registers, k, sweep.first + k)
        registers.forEach((register, i) => {
          body
            .get(pointer)
            .get(register)
            .memory('v128.store', i * sweep.stride)
        })
        body.increase(pointer, sweep.next)
      })
    }

    /** Between registers whose number differs in bit k: the positions with bit `position` set against those without. */
    function exchange(to: Body, all: readonly number[], k: number, position: number): void {
      const distance = 1 << position
      to.v128(positionsWithout(position)).set(mask)
      all.forEach((low, i) => {
        if ((i >> k) & 1) return
        const high = at(all, i + (1 << k))
        // spare = ((low >> distance) ^ high) & mask; high ^= spare; low ^= spare << distance
        to.get(low)
          .i32(distance)
          .op('i64x2.shr_u')
          .get(high)
          .op('v128.xor')
          .get(mask)
          .op('v128.and')
          .set(spare)
        to.get(high, spare).op('v128.xor').set(high)
        to.get(low, spare).i32(distance).op('i64x2.shl', 'v128.xor').set(low)
      })
    }
  })
}

/** The 64-bit word whose bit p is set where bit `position` of the number p is not. */
function positionsWithout(position: number): bigint {
  let word = 0n
  for (let p = 0; p < 64; p++) if (((p >> position) & 1) === 0) word |= 1n << BigInt(p)
  return word
}

/** Sixteen rounds, two written out, and the exchange of the halves that ends DES (FIPS 46-3: the preoutput is R16 L16). */
function defineDes(module: Module, circuits: readonly Circuit[]): void {
  module.define(
    { export: 'des', parameters: ['i32', 'i32', 'i32'] },
    (body, [start = 0, masks = 0, step = 0]) => {
      const counter = body.local('i32')
      const pool = new Pool(body)
      body.repeat(counter, ROUNDS / 2, () => {
        for (const right of [true, false]) {
          for (let box = 0; box < BOXES; box++) writeBox(box, right)
          body.get(masks, step).op('i32.add').set(masks)
        }
      })
      const [left, right] = [pool.take(), pool.take()]
      for (let i = 1; i <= 32; i++) {
        const offset = halfOffset(i)
        body.get(start).memory('v128.load', offset).set(left)
        body
          .get(start)
          .memory('v128.load', offset + PLANE_BYTES)
          .set(right)
        body.get(start, right).memory('v128.store', offset)
        body.get(start, left).memory('v128.store', offset + PLANE_BYTES)
      }

      /** One half ^= P(S_box(E(other half) ^ round key)). `fromRight`: the other half is the right one. */
      function writeBox(box: number, fromRight: boolean): void {
        const [source, target] = fromRight ? [PLANE_BYTES, 0] : [0, PLANE_BYTES]
        const circuit = circuits[box]
        if (circuit === undefined) throw new RangeError('there are eight circuits')
        const inputs = Array.from({ length: INPUTS }, (_, w) => {
          const bit = 6 * box + w
          const wire = pool.take()
          body.get(start).memory('v128.load', halfOffset(at(E, bit)) + source)
          body.get(masks).memory('v128.load32_splat', 4 * bit)
          body.op('v128.xor').set(wire)
          return wire
        })
        writeCircuit(body, pool, circuit, inputs, (output, wire) => {
          const offset = halfOffset(P.indexOf(4 * box + output + 1) + 1) + target
          body
            .get(start, start)
            .memory('v128.load', offset)
            .get(wire)
            .op('v128.xor')
            .memory('v128.store', offset)
        })
      }
    },
  )
}

/** Locals for vectors, used again as soon as what they held is read for the last time. */
class Pool {
  readonly #body: Body
  readonly #idle: number[] = []

  constructor(body: Body) {
    this.#body = body
  }

  take(): number {
    return this.#idle.pop() ?? this.#body.local('v128')
  }

  give(local: number): void {
    this.#idle.push(local)
  }
}

/** A circuit, gate by gate, on locals; each output is handed over as soon as it is there. */
function writeCircuit(
  body: Body,
  pool: Pool,
  circuit: Circuit,
  inputs: readonly number[],
  use: (output: number, local: number) => void,
): void {
  const locals = [...inputs]
  const readers = new Map<number, number>()
  const count = (wire: number): void => {
    readers.set(wire, (readers.get(wire) ?? 0) + 1)
  }
  for (const gate of circuit.gates) gate.inputs.forEach(count)
  circuit.outputs.forEach(count)
  const release = (wire: number): void => {
    const left = (readers.get(wire) ?? 0) - 1
    readers.set(wire, left)
    if (left === 0) pool.give(at(locals, wire))
  }
  const finish = (wire: number): void => {
    circuit.outputs.forEach((from, output) => {
      if (from !== wire) return
      use(output, at(locals, wire))
      release(wire)
    })
  }
  circuit.gates.forEach((gate, index) => {
    writeGate(
      body,
      gate,
      gate.inputs.map(wire => at(locals, wire)),
    )
    gate.inputs.forEach(release)
    const local = pool.take()
    body.set(local)
    locals.push(local)
    finish(INPUTS + index)
  })
}

function writeGate(body: Body, { op }: Gate, locals: readonly number[]): void {
  body.get(...locals).op(op === 'select' ? 'v128.bitselect' : `v128.${op}`)
}

function definePlaneOperations(module: Module): void {
  const parameters = ['i32', 'i32'] as const
  module.define({ export: 'mix', parameters }, (body, [to = 0, from = 0]) => {
    for (let offset = 0; offset < PLANES * PLANE_BYTES; offset += PLANE_BYTES) {
      body.get(to, to).memory('v128.load', offset).get(from).memory('v128.load', offset)
      body.op('v128.xor').memory('v128.store', offset)
    }
  })
  module.define(
    { export: 'take', parameters: [...parameters, 'i32'] },
    (body, [to = 0, from = 0, lanes = 0]) => {
      const mask = body.local('v128')
      body.get(lanes).memory('v128.load', 0).set(mask)
      for (let offset = 0; offset < PLANES * PLANE_BYTES; offset += PLANE_BYTES) {
        body.get(to, from).memory('v128.load', offset).get(to).memory('v128.load', offset)
        body.get(mask).op('v128.bitselect').memory('v128.store', offset)
      }
    },
  )
}

/** FIPS 46-3's key schedule only selects: the table of {@link keyBits} is all of it. */
function defineKeys(module: Module): void {
  // The bit (0 or 1) of the key at `key` whose number is byte `index` of the table.
  const bit = module.define(
    { parameters: ['i32', 'i32'], results: ['i32'] },
    (body, [key = 0, index = 0]) => {
      const number = body.local('i32')
      body.get(index).memory('i32.load8_u', LAYOUT.keyBits).set(number)
      body.get(key, number).i32(3).op('i32.shr_u', 'i32.add').memory('i32.load8_u', 0)
      body.i32(7).get(number).i32(7).op('i32.and', 'i32.sub', 'i32.shr_u').i32(1).op('i32.and')
    },
  )
  module.define({ export: 'expand', parameters: ['i32', 'i32'] }, (body, [key = 0, masks = 0]) => {
    const index = body.local('i32')
    body.repeat(index, ROUNDS * ROUND_BITS, () => {
      body.get(masks).i32(0).get(key, index).call(bit).op('i32.sub').memory('i32.store', 0)
      body.increase(masks, 4)
    })
  })
  // Boxes 1, 3, 5, 7 in one word, 2, 4, 6, 8 in the other, which is turned right by 4: six bits at the top of each byte.
  module.define({ export: 'schedule', parameters: ['i32', 'i32'] }, (body, [key = 0, to = 0]) => {
    const [round, index] = [body.local('i32'), body.local('i32')]
    const words = [body.local('i32'), body.local('i32')]
    body.repeat(round, ROUNDS, () => {
      for (const word of words) body.i32(0).set(word)
      for (let i = 0; i < ROUND_BITS; i++) {
        const [box, place] = [Math.floor(i / 6), i % 6]
        const word = at(words, box & 1)
        const shift = 31 - 8 * (box >> 1) - place
        body.get(word, key, index).call(bit).i32(shift).op('i32.shl', 'i32.or').set(word)
        body.increase(index, 1)
      }
      words.forEach((word, w) => {
        body.get(to, word)
        if (w === 1) body.i32(4).op('i32.rotr')
        body.memory('i32.store', 4 * w)
      })
      body.increase(to, 8)
    })
  })
}

/**
 * The tables of the scalar function: for each box and input, what P makes of the box's output, turned right by one bit as
 * the halves are kept. Eight tables of 64 words.
 */
function substitutionTables(): number[] {
  const words = Array.from({ length: BOXES * 64 }, (_, entry) => {
    const [box, input] = [entry >> 6, entry & 63]
    const output = substitute(box, input)
    let word = 0
    P.forEach((bit, i) => {
      const inBox = bit - 1 - 4 * box
      if (inBox >= 0 && inBox < 4 && (output >> (3 - inBox)) & 1) word |= 1 << (31 - i)
    })
    return (word >>> 1) | (word << 31)
  })
  return [...new Uint8Array(Int32Array.from(words).buffer)]
}

/**
 * IP on a block that was loaded as a little-endian word: bit q of the word becomes bit h·32 + (bit of the half, from the
 * right), h = 0 for the left half. As a change of the six bits of q it is `yyyzzh -> hzzyyy`, five exchanges of two of them.
 */
export const IP_EXCHANGES: readonly (readonly [high: number, low: number])[] = [
  [5, 0],
  [4, 2],
  [3, 1],
  [2, 0],
  [1, 0],
]

function defineScalar(module: Module): void {
  // Sixteen rounds on two halves turned right by one bit, so that E is two words: the half, and the half turned left by 4.
  // The second is not made: its round keys are turned right by 4 instead, and its groups found four places further on.
  const rounds = module.define(
    { parameters: ['i32', 'i32', 'i32', 'i32'], results: ['i32', 'i32'] },
    (body, [left = 0, right = 0, key = 0, step = 0]) => {
      const counter = body.local('i32')
      const words = [body.local('i32'), body.local('i32')]
      /** Six bits, already times four: the offset of a word in the table of a box, 0 for S1. */
      const lookUp = (box: number): void => {
        const [odd, i] = [box & 1, box >> 1]
        const shift = 24 - 8 * i - 4 * odd
        body.get(at(words, odd))
        if (shift > 0) body.i32(shift).op('i32.shr_u')
        if (shift < 0) body.i32(-shift).op('i32.rotl')
        body
          .i32(0xfc)
          .op('i32.and')
          .memory('i32.load', LAYOUT.tables + 256 * box)
      }
      body.repeat(counter, ROUNDS / 2, () => {
        for (const [target, source] of [
          [left, right],
          [right, left],
        ] as const) {
          words.forEach((word, odd) => {
            body
              .get(source, key)
              .memory('i32.load', 4 * odd)
              .op('i32.xor')
              .set(word)
          })
          // As a tree: the longest way through a round is what it costs, and a chain of eight would be a third of it.
          body.get(target)
          lookUp(0)
          body.op('i32.xor')
          lookUp(1)
          lookUp(2)
          body.op('i32.xor', 'i32.xor')
          lookUp(3)
          lookUp(4)
          body.op('i32.xor')
          lookUp(5)
          lookUp(6)
          body.op('i32.xor', 'i32.xor', 'i32.xor')
          lookUp(7)
          body.op('i32.xor').set(target)
          body.get(key, step).op('i32.add').set(key)
        }
      })
      body.get(right, left)
    },
  )
  const parameters = ['i64', 'i32', 'i32', 'i32', 'i32'] as const
  const block = module.define(
    { parameters, results: ['i64'] },
    (body, [word = 0, k1 = 0, k2 = 0, k3 = 0, step = 0]) => {
      const [left, right, spare] = [body.local('i32'), body.local('i32'), body.local('i64')]
      const pass = (key: number, writeStep: () => void): void => {
        body.get(left, right, key)
        writeStep()
        body.call(rounds).set(right).set(left)
      }
      for (const bits of IP_EXCHANGES) writeExchange(body, word, spare, bits)
      body.get(word).op('i32.wrap_i64').i32(1).op('i32.rotr').set(left)
      body.get(word).i64(32n).op('i64.shr_u', 'i32.wrap_i64').i32(1).op('i32.rotr').set(right)
      pass(k1, () => body.get(step))
      body.get(k2).when(() => {
        pass(k2, () => body.i32(0).get(step).op('i32.sub'))
        pass(k3, () => body.get(step))
      })
      body.get(left).i32(1).op('i32.rotl', 'i64.extend_i32_u')
      body.get(right).i32(1).op('i32.rotl', 'i64.extend_i32_u').i64(32n).op('i64.shl', 'i64.or').set(word)
      for (const bits of [...IP_EXCHANGES].reverse()) writeExchange(body, word, spare, bits)
      body.get(word)
    },
  )
  const keys = ['i32', 'i32', 'i32', 'i32'] as const
  module.define(
    { export: 'ecb', parameters: ['i32', 'i32', ...keys] },
    (body, [start = 0, blocks = 0, ...schedule]) => {
      body.loop(() => {
        body
          .get(start, start)
          .memory('i64.load', 0)
          .get(...schedule)
          .call(block)
          .memory('i64.store', 0)
        body.increase(start, 8).increase(blocks, -1).get(blocks)
      })
    },
  )
  module.define(
    { export: 'cbc', parameters: ['i32', 'i32', 'i32', ...keys] },
    (body, [start = 0, blocks = 0, iv = 0, ...schedule]) => {
      const state = body.local('i64')
      body.get(iv).memory('i64.load', 0).set(state)
      body.loop(() => {
        body
          .get(start)
          .memory('i64.load', 0)
          .get(state)
          .op('i64.xor')
          .get(...schedule)
          .call(block)
          .set(state)
        body.get(start, state).memory('i64.store', 0)
        body.increase(start, 8).increase(blocks, -1).get(blocks)
      })
    },
  )
}

/** Exchanges two bits of the position of every bit of a 64-bit word. */
function writeExchange(
  body: Body,
  word: number,
  spare: number,
  [high, low]: readonly [number, number],
): void {
  const distance = BigInt((1 << high) - (1 << low))
  const mask = positionsWithout(high) & ~positionsWithout(low)
  body.get(word).i64(distance).op('i64.shr_u').get(word).op('i64.xor').i64(mask).op('i64.and').set(spare)
  body.get(word, spare).op('i64.xor').get(spare).i64(distance).op('i64.shl', 'i64.xor').set(word)
}
