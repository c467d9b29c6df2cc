/**
 * Boolean circuits of an S-box: straight-line code over whole vectors. Wires 0 to 5 are the inputs, leftmost bit first;
 * each gate adds one wire; four wires are the outputs, leftmost bit first.
 */

/** What a gate does; each is one WebAssembly instruction on `v128` (`select` is `v128.bitselect`). */
export type Operation = 'and' | 'or' | 'xor' | 'andnot' | 'not' | 'select'

/** `a op b`; `andnot` is `a & ~b`; `not` has `a` only; `select` is `c ? a : b`, bit by bit. */
export interface Gate {
  readonly op: Operation
  readonly inputs: readonly number[]
}

/** A circuit of six inputs and four outputs. */
export interface Circuit {
  readonly gates: readonly Gate[]
  readonly outputs: readonly number[]
}

export const INPUTS = 6
export const OUTPUTS = 4

/**
 * Instructions that V8 emits for a gate on x64 with AVX: `not` needs a register of ones first, and there is no
 * instruction for `select`, which is two ands and an or. (ARM has one for each.)
 */
export const COST: Readonly<Record<Operation, number>> = {
  and: 1,
  or: 1,
  xor: 1,
  andnot: 1,
  not: 2,
  select: 3,
}

const ARITY: Readonly<Record<Operation, number>> = { and: 2, or: 2, xor: 2, andnot: 2, not: 1, select: 3 }

export function costOf(circuit: Circuit): number {
  return circuit.gates.reduce((sum, { op }) => sum + COST[op], 0)
}

/** Any kind of vector that a gate works on: numbers, bigints, names of registers. */
export interface Algebra<T> {
  readonly and: (a: T, b: T) => T
  readonly or: (a: T, b: T) => T
  readonly xor: (a: T, b: T) => T
  readonly andnot: (a: T, b: T) => T
  readonly not: (a: T) => T
  readonly select: (a: T, b: T, c: T) => T
}

/** Runs a circuit gate by gate and returns its four outputs. */
export function run<T>(circuit: Circuit, inputs: readonly T[], algebra: Algebra<T>): T[] {
  const wires = [...inputs]
  const wire = (index: number | undefined): T => {
    const value = index === undefined ? undefined : wires[index]
    if (value === undefined) throw new RangeError('a gate reads a wire that is not there yet')
    return value
  }
  for (const { op, inputs: from } of circuit.gates) {
    const [a, b, c] = from
    if (op === 'not') wires.push(algebra.not(wire(a)))
    else if (op === 'select') wires.push(algebra.select(wire(a), wire(b), wire(c)))
    else wires.push(algebra[op](wire(a), wire(b)))
  }
  return circuit.outputs.map(wire)
}

/** One line of text a circuit, as it is kept: `xor 0 3; select 6 1 2; … -> 9 12 20 31`. */
export function formatCircuit({ gates, outputs }: Circuit): string {
  const body = gates.map(({ op, inputs }) => [op, ...inputs].join(' ')).join('; ')
  return `${body} -> ${outputs.join(' ')}`
}

/** The inverse of {@link formatCircuit}; throws for anything that is not a circuit. */
export function parseCircuit(text: string): Circuit {
  const [body = '', tail = ''] = text.split(' -> ')
  const gates = body.split('; ').map((gate, index) => {
    const [op = '', ...inputs] = gate.split(' ')
    if (!isOperation(op) || inputs.length !== ARITY[op]) throw new SyntaxError(`gate ${index}: ${gate}`)
    return { op, inputs: inputs.map(text => wireNumber(text, INPUTS + index)) }
  })
  const outputs = tail.split(' ').map(text => wireNumber(text, INPUTS + gates.length))
  if (outputs.length !== OUTPUTS) throw new SyntaxError(`a circuit has ${OUTPUTS} outputs`)
  return { gates, outputs }
}

function isOperation(op: string): op is Operation {
  return Object.hasOwn(ARITY, op)
}

function wireNumber(text: string, below: number): number {
  const wire = Number(text)
  if (!/^\d+$/.test(text) || wire >= below) throw new SyntaxError(`wire ${text} is not there yet`)
  return wire
}
