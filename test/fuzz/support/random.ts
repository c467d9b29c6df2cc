/** A small seeded generator (sfc32), so that a seed and a number give the same input everywhere. Not for secrets. */
export class Random {
  readonly #state: Uint32Array

  constructor(...seed: readonly number[]) {
    this.#state = Uint32Array.from([...seed, 0, 0, 0].slice(0, 3).concat(1))
    for (let i = 0; i < 12; i++) this.next()
  }

  /** 32 bits. */
  next(): number {
    const state = this.#state
    const [a = 0, b = 0, c = 0, counter = 0] = state
    const result = (a + b + counter) | 0
    state[0] = b ^ (b >>> 9)
    state[1] = c + (c << 3)
    state[2] = ((c << 21) | (c >>> 11)) + result
    state[3] = counter + 1
    return result >>> 0
  }

  /** 0 to `end` − 1. */
  below(end: number): number {
    return this.next() % Math.max(1, end)
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T
  }

  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length)
    for (let i = 0; i < length; i++) bytes[i] = this.next()
    return bytes
  }
}
