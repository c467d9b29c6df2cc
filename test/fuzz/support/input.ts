/** Bytes of the fuzzer as arguments of a function: read one after the other, zero where there are no more. */

/** How text stands in an input. UTF-16 is there for lone surrogates, which UTF-8 does not have. */
const DECODERS: readonly ((bytes: Buffer) => string)[] = [
  bytes => bytes.toString('utf8'),
  bytes => bytes.toString('latin1'),
  bytes => bytes.toString('utf16le'),
]

export class Input {
  readonly #bytes: Uint8Array
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  byte(): number {
    return this.#bytes[this.#at++] ?? 0
  }

  pick<T>(list: readonly T[]): T {
    return list[this.byte() % list.length] as T
  }

  /** So many bytes, fewer at the end. */
  take(length: number): Uint8Array {
    const part = Uint8Array.from(this.#bytes.subarray(this.#at, this.#at + length))
    this.#at += length
    return part
  }

  rest(): Uint8Array {
    return this.take(Math.max(0, this.#bytes.length - this.#at))
  }

  /** Everything that is left as text, by the encoding that the next byte names. */
  text(): string {
    return this.pick(DECODERS)(Buffer.from(this.rest()))
  }
}

/** An input that {@link Input.text} reads back, after the bytes before it. */
export function textInput(text: string, ...before: readonly number[]): Uint8Array {
  const encoding = /\p{Cs}/u.test(text) ? 2 : 0
  return Uint8Array.from([...before, encoding, ...Buffer.from(text, encoding === 2 ? 'utf16le' : 'utf8')])
}

/** An input of bytes, numbers and ASCII text. */
export function bytesInput(...parts: readonly (number | string | Uint8Array)[]): Uint8Array {
  return Uint8Array.from(
    Buffer.concat(parts.map(part => (typeof part === 'number' ? Buffer.of(part) : Buffer.from(part)))),
  )
}

export const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'hex'))
