import { readFileSync } from 'node:fs'

export interface Vector {
  readonly id: string
  readonly operation: string
  readonly inputs: Readonly<Record<string, unknown>>
  readonly expect: 'accept' | 'reject'
  readonly outputs?: Readonly<Record<string, unknown>>
  readonly reason?: string
  readonly flags?: readonly string[]
}

/** The vectors of one file of `vectors/`, of one operation. Fails where there are none: an empty table tests nothing. */
export function vectorsOf(file: string, operation: string, expect?: 'accept' | 'reject'): readonly Vector[] {
  const text = readFileSync(new URL(`../../vectors/${file}.json`, import.meta.url), 'utf8')
  const { vectors } = JSON.parse(text) as { vectors: readonly Vector[] }
  const found = vectors.filter(
    vector => vector.operation === operation && (expect === undefined || vector.expect === expect),
  )
  if (found.length === 0) throw new Error(`no ${operation} vectors in ${file}`)
  return found
}

/** A text member that the schema makes obligatory for the operation. */
export function field(value: unknown): string {
  if (typeof value !== 'string') throw new Error('the vector lacks a text field')
  return value
}

export function bytes(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex, 'hex'))
}

export function hex(data: Uint8Array): string {
  return Buffer.from(data).toString('hex').toUpperCase()
}
