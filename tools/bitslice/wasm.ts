/**
 * An assembler for the little of WebAssembly that is needed here: functions over i32, i64 and v128, one memory, data.
 * Source: WebAssembly Core Specification 2.0, 5 (binary format) and the SIMD opcodes there.
 */

export type ValueType = 'i32' | 'i64' | 'v128'

const TYPE: Readonly<Record<ValueType, number>> = { i32: 0x7f, i64: 0x7e, v128: 0x7b }

/** Instructions without immediate. */
const PLAIN = {
  return: [0x0f],
  drop: [0x1a],
  'i32.eqz': [0x45],
  'i32.ne': [0x47],
  'i32.lt_u': [0x49],
  'i32.add': [0x6a],
  'i32.sub': [0x6b],
  'i32.mul': [0x6c],
  'i32.and': [0x71],
  'i32.or': [0x72],
  'i32.xor': [0x73],
  'i32.shl': [0x74],
  'i32.shr_u': [0x76],
  'i32.rotl': [0x77],
  'i32.rotr': [0x78],
  'i64.and': [0x83],
  'i64.or': [0x84],
  'i64.xor': [0x85],
  'i64.shl': [0x86],
  'i64.shr_u': [0x88],
  'i32.wrap_i64': [0xa7],
  'i64.extend_i32_u': [0xad],
  'v128.not': [0xfd, 77],
  'v128.and': [0xfd, 78],
  'v128.andnot': [0xfd, 79],
  'v128.or': [0xfd, 80],
  'v128.xor': [0xfd, 81],
  'v128.bitselect': [0xfd, 82],
  'i64x2.shl': [0xfd, 0xcb, 0x01],
  'i64x2.shr_u': [0xfd, 0xcd, 0x01],
} as const

/** Loads and stores, with the exponent of their natural alignment. */
const MEMORY = {
  'i32.load': [[0x28], 2],
  'i32.load8_u': [[0x2d], 0],
  'i32.store': [[0x36], 2],
  'i64.load': [[0x29], 3],
  'i64.store': [[0x37], 3],
  'v128.load': [[0xfd, 0], 4],
  'v128.load32_splat': [[0xfd, 9], 2],
  'v128.store': [[0xfd, 11], 4],
} as const

/** Unsigned LEB128. */
function unsigned(value: number): number[] {
  const bytes = []
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 0x80) return [...bytes, rest]
    bytes.push((rest & 0x7f) | 0x80)
  }
}

/** Signed LEB128. */
function signed(value: bigint): number[] {
  const bytes = []
  for (let rest = value; ; rest >>= 7n) {
    const low = Number(rest & 0x7fn)
    const next = rest >> 7n
    if ((next === 0n && (low & 0x40) === 0) || (next === -1n && (low & 0x40) !== 0)) return [...bytes, low]
    bytes.push(low | 0x80)
  }
}

const vector = (items: readonly (readonly number[])[]): number[] => [
  ...unsigned(items.length),
  ...items.flat(),
]
const sized = (bytes: readonly number[]): number[] => [...unsigned(bytes.length), ...bytes]
const name = (text: string): number[] => sized([...Buffer.from(text)])

/** The body of a function while it is written: each method appends one instruction and returns the same object. */
export class Body {
  readonly #code: number[] = []
  readonly #locals: ValueType[]
  readonly #parameters: number

  constructor(parameters: readonly ValueType[]) {
    this.#parameters = parameters.length
    this.#locals = []
  }

  /** A new local variable. */
  local(type: ValueType): number {
    this.#locals.push(type)
    return this.#parameters + this.#locals.length - 1
  }

  op(...operations: readonly (keyof typeof PLAIN)[]): this {
    for (const operation of operations) this.#code.push(...PLAIN[operation])
    return this
  }

  memory(operation: keyof typeof MEMORY, offset: number): this {
    const [opcode, align] = MEMORY[operation]
    this.#code.push(...opcode, align, ...unsigned(offset))
    return this
  }

  i32(value: number): this {
    this.#code.push(0x41, ...signed(BigInt(value | 0)))
    return this
  }

  i64(value: bigint): this {
    this.#code.push(0x42, ...signed(BigInt.asIntN(64, value)))
    return this
  }

  /** Both halves the same 64 bits. */
  v128(half: bigint): this {
    const bytes = Array.from({ length: 8 }, (_, i) => Number((half >> BigInt(8 * i)) & 0xffn))
    this.#code.push(0xfd, 12, ...bytes, ...bytes)
    return this
  }

  get(...locals: readonly number[]): this {
    for (const local of locals) this.#code.push(0x20, ...unsigned(local))
    return this
  }

  set(local: number): this {
    this.#code.push(0x21, ...unsigned(local))
    return this
  }

  call(index: number): this {
    this.#code.push(0x10, ...unsigned(index))
    return this
  }

  /** `local += amount` for an i32. */
  increase(local: number, amount: number): this {
    return this.get(local).i32(amount).op('i32.add').set(local)
  }

  /** Runs the body as long as the condition that it leaves on the stack is not zero. */
  loop(write: () => void): this {
    this.#code.push(0x03, 0x40)
    write()
    this.#code.push(0x0d, 0, 0x0b)
    return this
  }

  /** Runs the body so many times; `counter` is a local that it may read: 0, 1, … */
  repeat(counter: number, times: number, write: () => void): this {
    this.i32(0).set(counter)
    return this.loop(() => {
      write()
      this.increase(counter, 1).get(counter).i32(times).op('i32.lt_u')
    })
  }

  /** Runs the body where the value on the stack is not zero. */
  when(write: () => void): this {
    this.#code.push(0x04, 0x40)
    write()
    this.#code.push(0x0b)
    return this
  }

  bytes(): number[] {
    const locals = this.#locals.map(type => [1, TYPE[type]])
    return sized([...vector(locals), ...this.#code, 0x0b])
  }
}

interface Defined {
  readonly parameters: readonly ValueType[]
  readonly results: readonly ValueType[]
  readonly body: Body
  readonly exported: string | undefined
}

/** A module of one memory, `memory`. */
export class Module {
  readonly #functions: Defined[] = []
  readonly #data: { at: number; bytes: readonly number[] }[] = []

  /** Adds a function and returns its index; `write` is given its body and the numbers of its parameters. */
  define(
    signature: { export?: string; parameters: readonly ValueType[]; results?: readonly ValueType[] },
    write: (body: Body, parameters: readonly number[]) => void,
  ): number {
    const { parameters, results = [] } = signature
    const body = new Body(parameters)
    write(
      body,
      parameters.map((_, i) => i),
    )
    this.#functions.push({ parameters, results, body, exported: signature.export })
    return this.#functions.length - 1
  }

  data(at: number, bytes: readonly number[]): void {
    this.#data.push({ at, bytes })
  }

  /** The binary module, its memory `pages` of 64 KiB at first. */
  assemble(pages: number): Uint8Array {
    const section = (id: number, items: readonly (readonly number[])[]): number[] => [
      id,
      ...sized(vector(items)),
    ]
    const types = this.#functions.map(({ parameters, results }) => [
      0x60,
      ...vector(parameters.map(type => [TYPE[type]])),
      ...vector(results.map(type => [TYPE[type]])),
    ])
    const exports = this.#functions.flatMap(({ exported }, index) =>
      exported === undefined ? [] : [[...name(exported), 0, ...unsigned(index)]],
    )
    return Uint8Array.from([
      ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
      ...section(1, types),
      ...section(
        3,
        types.map((_, index) => unsigned(index)),
      ),
      ...section(5, [[0x00, ...unsigned(pages)]]),
      ...section(7, [[...name('memory'), 2, 0], ...exports]),
      ...section(
        10,
        this.#functions.map(({ body }) => body.bytes()),
      ),
      ...section(
        11,
        this.#data.map(({ at, bytes }) => [0x00, 0x41, ...signed(BigInt(at)), 0x0b, ...sized(bytes)]),
      ),
    ])
  }
}
