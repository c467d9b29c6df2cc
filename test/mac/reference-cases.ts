/** The MACs of `vectors/seccos-reference.json`, and the usage under which each is made: for software and for tokens. */
import type { KeyUsage } from '../../src/key/usage.js'
import type { KeyAlgorithm, MacAlgorithm, MacPadding } from '../../src/primitives/algorithms.js'
import reference from '../../vectors/seccos-reference.json' with { type: 'json' }

export interface ReferenceCase {
  readonly id: string
  readonly algorithm: MacAlgorithm
  readonly padding: MacPadding
  readonly cipher: KeyAlgorithm
  readonly usage: KeyUsage
  /** Hex, as the MAC; the data too. */
  readonly key: string
  readonly data: string
  readonly mac: string
}

const USAGE: Readonly<Record<MacAlgorithm, KeyUsage>> = {
  'iso9797-1-alg1': 'cbc-mac',
  'iso9797-1-alg3': 'retail-mac',
  cmac: 'cmac',
  'hmac-sha256': 'hmac',
}

export const REFERENCE_CASES: readonly ReferenceCase[] = reference.vectors.flatMap(
  ({ id, operation, inputs, outputs }) => {
    if (operation !== 'mac.iso9797' && operation !== 'cmac') return []
    const iso: MacAlgorithm = inputs.algorithm === 1 ? 'iso9797-1-alg1' : 'iso9797-1-alg3'
    const algorithm: MacAlgorithm = operation === 'cmac' ? 'cmac' : iso
    const aes: KeyAlgorithm = inputs.key.length === 64 ? 'aes-256' : 'aes-128'
    const cipher: KeyAlgorithm = inputs.cipher === 'AES' ? aes : 'tdea-2key'
    const padding = (inputs.padding ?? 'none') as MacPadding
    const { key, data = '' } = inputs
    return [{ id, algorithm, padding, cipher, usage: USAGE[algorithm], key, data, mac: outputs.mac ?? '' }]
  },
)
