/** The generator of the bitsliced engine: circuits against the standard's tables, text against the committed file. */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { costOf, formatCircuit, parseCircuit, run } from '../../tools/bitslice/circuit.js'
import { IP_EXCHANGES, keyBits, planeOf } from '../../tools/bitslice/emit.js'
import { generate, readCircuits, TARGET } from '../../tools/bitslice/generate.js'
import { computes, draw, generator, rebuild } from '../../tools/bitslice/search.js'
import { E, IP, P, PC1, PC2, S_BOXES, SHIFTS, substitute } from '../../tools/bitslice/tables.js'

const circuits = readCircuits()

test('the committed module is what the generator writes, to the last character', () => {
  expect(readFileSync(TARGET, 'utf8')).toBe(generate())
})

describe("the standard's tables", () => {
  const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1)
  const sorted = (table: readonly number[]): number[] => [...table].sort((a, b) => a - b)

  test('IP and P are permutations; E names each bit, the outer two of each four twice', () => {
    expect(sorted(IP)).toEqual(upTo(64))
    expect(sorted(P)).toEqual(upTo(32))
    expect(sorted(E)).toEqual(sorted([...upTo(32), ...upTo(32).filter(bit => bit % 4 < 2)]))
  })

  test('PC-1 leaves out every eighth bit; PC-2 takes 24 bits of each half; 28 shifts lead round once', () => {
    expect(sorted(PC1)).toEqual(upTo(64).filter(bit => bit % 8 !== 0))
    expect(new Set(PC2).size).toBe(48)
    expect(PC2.filter(bit => bit <= 28)).toHaveLength(24)
    expect(SHIFTS.reduce((a, b) => a + b)).toBe(28)
  })

  test('each row of an S-box is a permutation of 0 to 15', () => {
    for (const box of S_BOXES)
      for (let row = 0; row < 4; row++) expect(new Set(box.slice(16 * row, 16 * row + 16)).size).toBe(16)
    expect(() => substitute(8, 0)).toThrow(RangeError)
    expect(() => substitute(0, 64)).toThrow(RangeError)
  })
})

describe('circuits', () => {
  /** One bit a wire, as plain numbers: nothing of the search's own arithmetic. */
  const bit = {
    and: (a: number, b: number) => a & b,
    or: (a: number, b: number) => a | b,
    xor: (a: number, b: number) => a ^ b,
    andnot: (a: number, b: number) => a & (1 - b),
    not: (a: number) => 1 - a,
    select: (a: number, b: number, c: number) => (c === 1 ? a : b),
  }

  test.each([0, 1, 2, 3, 4, 5, 6, 7])('S%# gives the table for all 64 inputs', box => {
    const circuit = circuits[box]
    if (circuit === undefined) throw new Error('there are eight circuits')
    for (let input = 0; input < 64; input++) {
      const outputs = run(
        circuit,
        [5, 4, 3, 2, 1, 0].map(shift => (input >> shift) & 1),
        bit,
      )
      expect(outputs.reduce((value, output) => 2 * value + output)).toBe(substitute(box, input))
    }
  })

  test('there are eight, none of them long, none with a gate that nothing reads', () => {
    expect(circuits).toHaveLength(8)
    for (const circuit of circuits) {
      expect(costOf(circuit)).toBeLessThan(75)
      const read = new Set([...circuit.gates.flatMap(gate => gate.inputs), ...circuit.outputs])
      circuit.gates.forEach((_, gate) => {
        expect(read.has(6 + gate)).toBe(true)
      })
    }
  })

  test('text and circuit are the same; what is no circuit is refused', () => {
    for (const circuit of circuits) expect(parseCircuit(formatCircuit(circuit))).toEqual(circuit)
    for (const text of [
      '',
      'xor 0 1',
      'nand 0 1 -> 6 6 6 6',
      'xor 0 -> 6 6 6 6',
      'xor 0 6 -> 6 6 6 6',
      'xor 0 x -> 6 6 6 6',
      'xor 0 1 -> 6 6 6',
      'xor 0 1 -> 6 6 6 7',
    ])
      expect(() => parseCircuit(text), text).toThrow(SyntaxError)
  })

  test('the search draws and rebuilds circuits that compute, and knows one that does not', () => {
    const random = generator(1)
    let circuit = draw(3, random)
    for (let i = 0; circuit === undefined && i < 20; i++) circuit = draw(3, random)
    if (circuit === undefined) throw new Error('nothing was drawn')
    expect(computes(circuit, 3)).toBe(true)
    for (let i = 0; i < 60; i++) {
      const next = rebuild(circuit, random, 0)
      if (next === undefined) continue
      expect(costOf(next)).toBeLessThanOrEqual(costOf(circuit))
      expect(computes(next, 3)).toBe(true)
      circuit = next
    }
    expect(computes(circuit, 4)).toBe(false)
    for (const output of [0, 1, 2, 3]) {
      const outputs = circuit.outputs.map((wire, o) => (o === output ? 0 : wire))
      expect(computes({ ...circuit, outputs }, 3)).toBe(false)
    }
  })
})

describe('derived tables', () => {
  test('the planes of the bits: 1 is the top bit of the first byte, 64 the lowest of the last', () => {
    expect([1, 8, 9, 57, 64].map(planeOf)).toEqual([7, 0, 15, 63, 56])
  })

  test('the exchanges are IP: bit q of a little-endian word goes where the table says', () => {
    for (let i = 1; i <= 64; i++) {
      // Bit i of the permuted block: the left half is the low word, its bit 1 the top bit.
      const expected = i <= 32 ? 32 - i : 96 - i
      let bit = planeOf(IP[i - 1] ?? 0)
      for (const [high, low] of IP_EXCHANGES) {
        const [h, l] = [(bit >> high) & 1, (bit >> low) & 1]
        bit = (bit & ~((1 << high) | (1 << low))) | (l << high) | (h << low)
      }
      expect(bit).toBe(expected)
    }
  })

  test('key bits: 48 a round, 56 in all, no parity bit', () => {
    const bits = keyBits()
    expect(bits).toHaveLength(768)
    const uses = new Map<number, number>()
    for (const bit of bits) uses.set(bit, (uses.get(bit) ?? 0) + 1)
    expect(uses.size).toBe(56)
    for (const [bit, count] of uses) {
      expect(bit % 8).not.toBe(7)
      expect(count).toBeGreaterThanOrEqual(12)
    }
    // FIPS 46-3: round 1 takes C and D one bit to the left; PC-2's first bit is 14, so bit 15 of PC-1.
    expect(bits[0]).toBe((PC1[14] ?? 0) - 1)
  })
})
