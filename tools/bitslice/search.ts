/**
 * The search for small S-box circuits, by a way of our own: build one, then rebuild parts of it for ever.
 *
 * A *goal* is a truth table of 64 entries and a mask that says which of them matter. To reach a goal: take a wire that
 * has it already, or one gate on two wires, or two gates on three wires; else split by an input x, reach both halves
 * (each with half the mask), and join them by `select`, or by `a ^ (x & d)` where d is what is still to be changed.
 * A goal's mask shrinks with every split, so sooner or later a wire fits.
 *
 * To improve a circuit: pick a gate, flip it, and see for which inputs an output changes. Only those matter. Throw the
 * gate away with whatever only it used, and reach that goal anew from what is left, for no more than what was thrown away
 * (now and then for one more, so as to leave a dead end). The result is checked against the standard's table, always.
 */
import { type Circuit, COST, costOf, type Gate, INPUTS, type Operation, OUTPUTS } from './circuit.js'
import { substitute } from './tables.js'

/** A truth table, or a mask: entry i is bit i of `lo` for i below 32, else bit i - 32 of `hi`. */
interface Table {
  readonly lo: number
  readonly hi: number
}

const ALL: Table = { lo: -1, hi: -1 }
const MAX_WIRES = 256

const and = (a: Table, b: Table): Table => ({ lo: a.lo & b.lo, hi: a.hi & b.hi })
const xor = (a: Table, b: Table): Table => ({ lo: a.lo ^ b.lo, hi: a.hi ^ b.hi })
const not = (a: Table): Table => ({ lo: ~a.lo, hi: ~a.hi })
const isZero = (a: Table): boolean => (a.lo | a.hi) === 0
const same = (a: Table, b: Table): boolean => a.lo === b.lo && a.hi === b.hi

/** The table of a predicate on the six-bit input. */
function tabulate(of: (input: number) => number): Table {
  let [lo, hi] = [0, 0]
  for (let i = 0; i < 32; i++) {
    lo |= (of(i) & 1) << i
    hi |= (of(i + 32) & 1) << i
  }
  return { lo, hi }
}

/** Input wire w is the bit of weight 32 >> w. */
const INPUT_TABLES: readonly Table[] = Array.from({ length: INPUTS }, (_, w) => tabulate(i => i >> (5 - w)))

/** The four output tables of an S-box. */
export function outputTables(box: number): readonly Table[] {
  return Array.from({ length: OUTPUTS }, (_, w) => tabulate(i => substitute(box, i) >> (3 - w)))
}

function bits({ lo, hi }: Table): number {
  let count = 0
  for (let word of [lo, hi]) for (; word !== 0; word &= word - 1) count++
  return count
}

/** A small generator of uniform numbers, so that a search can be repeated (splitmix-like, 32 bits). */
export function generator(seed: number): (below: number) => number {
  let state = seed | 0
  return below => {
    state = (state + 0x9e3779b9) | 0
    let z = Math.imul(state ^ (state >>> 16), 0x21f0aaad)
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
    return ((z ^ (z >>> 15)) >>> 0) % below
  }
}

/** A growing list of gates with their truth tables. */
class Workbench {
  readonly gates: Gate[] = []
  readonly #lo = new Int32Array(MAX_WIRES)
  readonly #hi = new Int32Array(MAX_WIRES)
  readonly #random: (below: number) => number

  constructor(random: (below: number) => number) {
    this.#random = random
    INPUT_TABLES.forEach(({ lo, hi }, wire) => {
      this.#lo[wire] = lo
      this.#hi[wire] = hi
    })
  }

  get wires(): number {
    return INPUTS + this.gates.length
  }

  table(wire: number | undefined): Table {
    return { lo: this.#lo[wire ?? 0] as number, hi: this.#hi[wire ?? 0] as number }
  }

  /** Adds a gate and returns its wire. */
  add(op: Operation, ...inputs: number[]): number {
    const [a, b, c] = inputs.map(wire => this.table(wire))
    const wire = this.wires
    const { lo, hi } = evaluate(op, a ?? ALL, b ?? ALL, c ?? ALL)
    this.#lo[wire] = lo
    this.#hi[wire] = hi
    this.gates.push({ op, inputs })
    return wire
  }

  /** Reaches a goal for at most `budget`, and returns the wire that has it; undefined, and nothing added, if it cannot. */
  reach(goal: Table, mask: Table, free: readonly number[], budget: number): number | undefined {
    if (budget < 0 || this.wires > MAX_WIRES - 40) return undefined
    const found = this.#wire(goal, mask)
    if (found !== undefined) return found
    if (budget >= 1) {
      const gate = this.#pair(goal, mask)
      if (gate !== undefined) return this.add(gate.op, ...gate.inputs)
    }
    if (budget < 2) return undefined
    const opposite = this.#wire(not(goal), mask)
    if (opposite !== undefined) return this.add('not', opposite)
    const two = this.#triple(goal, mask)
    if (two !== undefined || budget < 3) return two
    return this.#split(goal, mask, free, budget)
  }

  #wire(goal: Table, mask: Table): number | undefined {
    for (let w = 0; w < this.wires; w++) {
      if (
        ((((this.#lo[w] as number) ^ goal.lo) & mask.lo) |
          (((this.#hi[w] as number) ^ goal.hi) & mask.hi)) ===
        0
      )
        return w
    }
    return undefined
  }

  /** One gate on two wires. Where the search begins is drawn, so that equals take turns. */
  #pair(goal: Table, mask: Table): Gate | undefined {
    const n = this.wires
    const [lo, hi] = [this.#lo, this.#hi]
    const [goalLo, goalHi, maskLo, maskHi] = [goal.lo, goal.hi, mask.lo, mask.hi]
    const start = this.#random(n)
    for (let s = 0; s < n; s++) {
      const i = s + start < n ? s + start : s + start - n
      const [aLo, aHi] = [lo[i] as number, hi[i] as number]
      for (let j = 0; j < i; j++) {
        const bLo = lo[j] as number
        const bHi = hi[j] as number
        const xLo = (aLo ^ bLo ^ goalLo) & maskLo
        const xHi = (aHi ^ bHi ^ goalHi) & maskHi
        if ((xLo | xHi) === 0) return { op: 'xor', inputs: [i, j] }
        const cLo = aLo & bLo
        const cHi = aHi & bHi
        if ((((cLo ^ goalLo) & maskLo) | ((cHi ^ goalHi) & maskHi)) === 0)
          return { op: 'and', inputs: [i, j] }
        // a | b = a ^ b ^ ab; a & ~b = a ^ ab; ~a & b = b ^ ab
        if (((xLo ^ (cLo & maskLo)) | (xHi ^ (cHi & maskHi))) === 0) return { op: 'or', inputs: [i, j] }
        if ((((aLo ^ cLo ^ goalLo) & maskLo) | ((aHi ^ cHi ^ goalHi) & maskHi)) === 0)
          return { op: 'andnot', inputs: [i, j] }
        if ((((bLo ^ cLo ^ goalLo) & maskLo) | ((bHi ^ cHi ^ goalHi) & maskHi)) === 0)
          return { op: 'andnot', inputs: [j, i] }
      }
    }
    return undefined
  }

  /** Two gates on three wires: the outer one with each wire in turn, which leaves a goal for the inner one. */
  #triple(goal: Table, mask: Table): number | undefined {
    const n = this.wires
    const start = this.#random(n)
    for (let s = 0; s < n; s++) {
      const w = (s + start) % n
      const wire = this.table(w)
      const inner = this.#pair(xor(goal, wire), mask)
      if (inner !== undefined) return this.add('xor', this.add(inner.op, ...inner.inputs), w)
      const [inside, outside] = [and(mask, wire), and(mask, not(wire))]
      // goal ⊆ wire: an `and` with the wire, or the wire `andnot` something.
      if (isZero(and(goal, outside))) {
        const g = this.#pair(goal, inside)
        if (g !== undefined) return this.add('and', this.add(g.op, ...g.inputs), w)
        const h = this.#pair(not(goal), inside)
        if (h !== undefined) return this.add('andnot', w, this.add(h.op, ...h.inputs))
      }
      // wire ⊆ goal: an `or`. goal ⊆ ~wire: something `andnot` the wire.
      if (isZero(and(not(goal), inside))) {
        const g = this.#pair(goal, outside)
        if (g !== undefined) return this.add('or', this.add(g.op, ...g.inputs), w)
      }
      if (isZero(and(goal, inside))) {
        const g = this.#pair(goal, outside)
        if (g !== undefined) return this.add('andnot', this.add(g.op, ...g.inputs), w)
      }
    }
    return undefined
  }

  #split(goal: Table, mask: Table, free: readonly number[], budget: number): number | undefined {
    const wide = bits(mask) > 16
    const order = [...free].sort(() => this.#random(3) - 1)
    const base = this.gates.length
    let best: { gates: Gate[]; cost: number; wire: number } | undefined
    // Wide goals: one or two guesses. Narrow ones: every input, the cheapest way.
    for (const x of wide ? order.slice(0, 1) : order) {
      for (const way of wide ? [this.#random(3)] : [0, 1, 2]) {
        const limit = best === undefined ? budget : best.cost - 1
        const wire = this.#join(goal, mask, x, way, free, limit)
        if (wire === undefined) continue
        const gates = this.gates.splice(base)
        best = { gates, cost: costOfGates(gates), wire }
      }
    }
    for (const { op, inputs } of best?.gates ?? []) this.add(op, ...inputs)
    return best?.wire
  }

  /** Way 0: select. Way 1: reach the half where x is 0, then flip what is wrong where x is 1. Way 2: the other way round. */
  #join(
    goal: Table,
    mask: Table,
    x: number,
    way: number,
    free: readonly number[],
    budget: number,
  ): number | undefined {
    const base = this.gates.length
    const left = (): number => budget - costOfGates(this.gates, base)
    const rest = free.filter(wire => wire !== x)
    const [one, zero] = [and(mask, this.table(x)), and(mask, not(this.table(x)))]
    const [firstMask, secondMask] = way === 2 ? [one, zero] : [zero, one]
    const price = way === 0 ? COST.select : COST.and + COST.xor
    const first = this.reach(goal, firstMask, rest, left() - price)
    if (first !== undefined) {
      const wanted = way === 0 ? goal : xor(goal, this.table(first))
      const second = this.reach(wanted, secondMask, rest, left() - price)
      if (second !== undefined) {
        if (way === 0) return this.add('select', second, first, x)
        return this.add('xor', first, this.add(way === 1 ? 'and' : 'andnot', second, x))
      }
    }
    this.gates.length = base
    return undefined
  }
}

function evaluate(op: Operation, a: Table, b: Table, c: Table): Table {
  if (op === 'and') return and(a, b)
  if (op === 'or') return not(and(not(a), not(b)))
  if (op === 'xor') return xor(a, b)
  if (op === 'andnot') return and(a, not(b))
  if (op === 'not') return not(a)
  return xor(and(a, c), and(b, not(c)))
}

function costOfGates(gates: readonly Gate[], from = 0): number {
  let sum = 0
  for (let i = from; i < gates.length; i++) sum += COST[gates[i]?.op ?? 'select']
  return sum
}

const ALL_INPUTS = [0, 1, 2, 3, 4, 5]

/** A first circuit of an S-box, by drawing; undefined where the draw came out too long. */
export function draw(box: number, random: (below: number) => number): Circuit | undefined {
  const bench = new Workbench(random)
  const goals = outputTables(box)
  const outputs = [0, 0, 0, 0]
  for (const o of [0, 1, 2, 3].sort(() => random(3) - 1)) {
    const wire = bench.reach(goals[o] ?? ALL, ALL, ALL_INPUTS, 100)
    if (wire === undefined) return undefined
    outputs[o] = wire
  }
  return sweep({ gates: bench.gates, outputs })
}

/** Leaves out gates that no output needs. */
function sweep({ gates, outputs }: Circuit): Circuit {
  const used = new Set(outputs)
  for (let g = gates.length - 1; g >= 0; g--) {
    if (used.has(INPUTS + g)) for (const wire of gates[g]?.inputs ?? []) used.add(wire)
  }
  const kept = gates.flatMap((gate, g) => (used.has(INPUTS + g) ? [{ gate, wire: INPUTS + g }] : []))
  const names = new Map<number, number>(ALL_INPUTS.map(wire => [wire, wire]))
  kept.forEach(({ wire }, place) => {
    names.set(wire, INPUTS + place)
  })
  const rename = (wire: number): number => names.get(wire) ?? -1
  return {
    gates: kept.map(({ gate }) => ({ op: gate.op, inputs: gate.inputs.map(rename) })),
    outputs: outputs.map(rename),
  }
}

/** The wires' tables, with one of them forced to another value. */
function simulate({ gates }: Circuit, forced?: { wire: number; value: Table }): Table[] {
  const tables = [...INPUT_TABLES]
  for (const { op, inputs } of gates) {
    const [a, b, c] = inputs.map(wire => tables[wire])
    const wire = tables.length
    tables.push(forced?.wire === wire ? forced.value : evaluate(op, a ?? ALL, b ?? ALL, c ?? ALL))
  }
  return tables
}

/** Rebuilds one gate, drawn; the circuit that results, or undefined where nothing was found within the slack. */
export function rebuild(
  circuit: Circuit,
  random: (below: number) => number,
  slack: number,
): Circuit | undefined {
  const { gates, outputs } = circuit
  const target = INPUTS + random(gates.length)
  const tables = simulate(circuit)
  const value = tables[target] ?? ALL
  const flipped = simulate(circuit, { wire: target, value: not(value) })
  let care: Table = { lo: 0, hi: 0 }
  for (const o of outputs) {
    const change = xor(tables[o] ?? ALL, flipped[o] ?? ALL)
    care = not(and(not(care), not(change)))
  }
  const above = new Set([target])
  gates.forEach(({ inputs }, g) => {
    if (inputs.some(wire => above.has(wire))) above.add(INPUTS + g)
  })
  // What is left when the gate is gone, and what was only there for it.
  const withoutIt = gates.map((gate, g) => (INPUTS + g === target ? { ...gate, inputs: [] } : gate))
  const needed = new Set(outputs)
  for (let g = gates.length - 1; g >= 0; g--) {
    if (needed.has(INPUTS + g)) for (const wire of withoutIt[g]?.inputs ?? []) needed.add(wire)
  }
  const bench = new Workbench(random)
  const names = new Map<number, number>(ALL_INPUTS.map(wire => [wire, wire]))
  const rename = (wire: number): number => names.get(wire) ?? -1
  let freed = COST[gates[target - INPUTS]?.op ?? 'select']
  gates.forEach(({ op, inputs }, g) => {
    const wire = INPUTS + g
    if (above.has(wire)) return
    if (needed.has(wire)) names.set(wire, bench.add(op, ...inputs.map(rename)))
    else freed += COST[op]
  })
  const wire = bench.reach(value, care, ALL_INPUTS, freed + slack)
  if (wire === undefined) return undefined
  names.set(target, wire)
  gates.forEach(({ op, inputs }, g) => {
    if (above.has(INPUTS + g) && INPUTS + g !== target)
      names.set(INPUTS + g, bench.add(op, ...inputs.map(rename)))
  })
  return sweep({ gates: bench.gates, outputs: outputs.map(rename) })
}

/** True where the circuit computes the S-box for all 64 inputs. */
export function computes(circuit: Circuit, box: number): boolean {
  const tables = simulate(circuit)
  const goals = outputTables(box)
  return goals.every((goal, o) => same(goal, tables[circuit.outputs[o] ?? -1] ?? not(goal)))
}

/** Searches for so many seconds, from a given circuit or from nothing, and returns the cheapest circuit found. */
export function search(box: number, seconds: number, seed: number, from?: Circuit): Circuit {
  const random = generator(seed)
  let current = from
  while (current === undefined) current = draw(box, random)
  let best = current
  const end = Date.now() + seconds * 1000
  for (let stuck = 0; Date.now() < end; stuck++) {
    if (stuck > 4000) {
      // Back to the best, or, one time in four, to something new.
      current = random(4) === 0 ? (draw(box, random) ?? best) : best
      stuck = 0
    }
    const next = rebuild(current, random, random(12) === 0 ? 1 : 0)
    if (next === undefined || !computes(next, box)) continue
    if (costOf(next) < costOf(current)) stuck = 0
    current = next
    if (costOf(current) < costOf(best)) best = current
  }
  return best
}
