/**
 * Structures of C, written and read by hand in memory of ours, in the widths of the platform: CK_ULONG is an
 * `unsigned long`, structures are aligned naturally, and packed on Windows (PKCS#11 Base Specification v3.1, 2 and A.2).
 * What a structure points to lies in the same block of memory.
 */
import { bufferOf, copyInto, secretBytes } from '../../../base/bytes.js'
import { asBuffer, trimmed } from './values.js'

/** What tells where memory is: koffi. */
interface Addresses {
  address(bytes: Uint8Array): bigint
}

/** Widths and alignment of this platform's CK_ULONG and pointers. */
export interface Layout {
  readonly ulong: number
  readonly pointer: number
  readonly packed: boolean
}

/** A block of memory of one call: structures and what they point to, written one behind the other. */
export class Block {
  readonly bytes: Buffer
  readonly #layout: Layout
  readonly #base: bigint
  #end = 0

  constructor(koffi: Addresses, layout: Layout, size: number) {
    // One byte more, so that the address of an empty thing at the end lies inside.
    this.bytes = bufferOf(secretBytes(size + 1))
    this.#layout = layout
    this.#base = koffi.address(this.bytes)
  }

  /** Room for so many bytes, at an address that suits every type. */
  reserve(size: number): number {
    const at = this.#end
    this.#end = at + aligned(size)
    return at
  }

  address(at: number): bigint {
    return this.#base + BigInt(at)
  }

  /** Puts bytes down; gives their place. */
  put(bytes: Uint8Array): number {
    const at = this.reserve(bytes.length)
    copyInto(this.bytes, bytes, at)
    return at
  }

  /** Fields of a structure from a place on: a number is a CK_ULONG, a bigint an address. */
  write(start: number, fields: readonly (number | bigint)[]): void {
    let at = start
    for (const field of fields) {
      const width = typeof field === 'bigint' ? this.#layout.pointer : this.#layout.ulong
      if (!this.#layout.packed) at = Math.ceil(at / width) * width
      if (width === 8) this.bytes.writeBigUInt64LE(BigInt(field), at)
      else this.bytes.writeUInt32LE(Number(field), at)
      at += width
    }
  }
}

/** Eight bytes suit every type there is. */
export function aligned(size: number): number {
  return Math.ceil(size / 8) * 8
}

/** Reads the fields of a structure one after the other. */
export class Fields {
  readonly #bytes: Buffer
  readonly #layout: Layout
  #at = 0

  constructor(bytes: Buffer, layout: Layout) {
    this.#bytes = bytes
    this.#layout = layout
  }

  ulong(): number {
    const { ulong, packed } = this.#layout
    if (!packed) this.#at = Math.ceil(this.#at / ulong) * ulong
    const value = readUlong(this.#bytes, this.#at, ulong)
    this.#at += ulong
    return Number(value)
  }

  text(length: number): string {
    const text = this.#bytes.toString('utf8', this.#at, this.#at + length)
    this.#at += length
    return trimmed(text)
  }

  byte(): number {
    return this.#bytes.readUInt8(this.#at++)
  }
}

export function readUlong(bytes: Uint8Array, at: number, width: number): number | bigint {
  const buffer = asBuffer(bytes)
  const low = buffer.readUInt32LE(at)
  if (width === 4) return low
  const high = buffer.readUInt32LE(at + 4)
  return high < 0x20_0000 ? high * 0x1_0000_0000 + low : buffer.readBigUInt64LE(at)
}
