/**
 * The usage table: what each kind of key is for, and nothing else. Every backend enforces it through
 * `backend/front.ts`, so a key refuses the same verbs wherever it lives (ISO 11568: one key, one purpose).
 */
import { deepFreeze } from '../base/arguments.js'
import type { KeyAlgorithm } from '../primitives/key-algorithm.js'
import type { MacAlgorithm } from '../primitives/mac-algorithm.js'

/** What a key may be used for. A key has one usage. */
export type KeyUsage =
  | 'pin-encryption'
  | 'cbc-mac'
  | 'retail-mac'
  | 'cmac'
  | 'prw-generate'
  | 'prw-verify'
  | 'jwe-key-agreement'
  | 'jwt-signing'

/** The port's operations that need a key. */
export type KeyOperation = 'encipher' | 'decipher' | 'reencipher' | 'mac' | 'deriveContentKey' | 'sign'

/** One row of the usage table. */
export interface UsageRule {
  /** Key usage code of a key block header (ANSI X9.143, ISO 20038). */
  readonly x9143: string
  /** Mode of use code of the same header: B both ways, C generate and verify, G generate, V verify, X derive, S sign. */
  readonly mode: string
  readonly algorithms: readonly KeyAlgorithm[]
  readonly operations: readonly KeyOperation[]
  /** For `mac`: the algorithms this key may compute. */
  readonly macs: readonly MacAlgorithm[]
}

const TDEA = ['tdea-2key', 'tdea-3key'] as const
const AES = ['aes-128', 'aes-192', 'aes-256'] as const
const MAC = ['mac'] as const
const EVERY_MAC = ['iso9797-1-alg1', 'iso9797-1-alg3', 'cmac'] as const

/** The usage table: for each usage the key block codes, and what a key of it may do. Frozen. */
export const USAGES: Readonly<Record<KeyUsage, UsageRule>> = deepFreeze({
  'pin-encryption': {
    x9143: 'P0',
    mode: 'B',
    algorithms: TDEA,
    operations: ['encipher', 'decipher', 'reencipher'],
    macs: [],
  },
  'cbc-mac': { x9143: 'M1', mode: 'C', algorithms: TDEA, operations: MAC, macs: ['iso9797-1-alg1'] },
  'retail-mac': { x9143: 'M3', mode: 'C', algorithms: TDEA, operations: MAC, macs: ['iso9797-1-alg3'] },
  cmac: { x9143: 'M6', mode: 'C', algorithms: [...TDEA, ...AES], operations: MAC, macs: ['cmac'] },
  'prw-generate': { x9143: 'V0', mode: 'G', algorithms: [...TDEA, ...AES], operations: MAC, macs: EVERY_MAC },
  // Mode V: the port computes, and only `verifyPrw` compares; no verb hands out what it computes.
  'prw-verify': { x9143: 'V0', mode: 'V', algorithms: [...TDEA, ...AES], operations: MAC, macs: EVERY_MAC },
  'jwe-key-agreement': {
    x9143: 'K3',
    mode: 'X',
    algorithms: ['ec-p256'],
    operations: ['deriveContentKey'],
    macs: [],
  },
  'jwt-signing': { x9143: 'S0', mode: 'S', algorithms: ['ec-p256'], operations: ['sign'], macs: [] },
})

/** True for a member of {@link KeyUsage}; own properties only, so that `constructor` is not a usage. */
export function isKeyUsage(value: unknown): value is KeyUsage {
  return typeof value === 'string' && Object.hasOwn(USAGES, value)
}
