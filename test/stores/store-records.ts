/** What is written into a store by its tests, and by the processes that they start. */
import type { StoredPinBlock, StoredPrw } from '../../src/d1.js'

export const ISSUER = 'is_tbank01'
export const SEAL_KEY: Uint8Array = new Uint8Array(32).fill(0x5a)

/** A store, as a process is told of it. */
export type Where =
  | { readonly path: string; readonly driver: string }
  | { readonly connectionString: string; readonly schema: string }

export function blockOf(mark: number): StoredPinBlock {
  const block = new Uint8Array(8)
  new DataView(block.buffer).setUint32(4, mark)
  return { block, kid: 'PEK-STORE' }
}

export function prwOf(sequence: number, mark: number = sequence): StoredPrw {
  return {
    prwValue: String(mark).padStart(16, '0'),
    prwKid: 'PRW-1',
    prwDataSet: '00'.repeat(123),
    pcc: '0001',
    sequence,
    profile: { name: 'test', version: '1' },
    provenance: 'illustrative',
  }
}
