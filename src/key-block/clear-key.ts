/**
 * A clear symmetric key for a moment in host memory: its check value, its parity, a cipher under it. What takes a key in from
 * components or a key block works on this, and wipes it.
 */

import { chooseEngine } from '../backend/software/engine.js'
import { closeKey, factsOf, readyKey } from '../backend/software/keys.js'
import { readOptions } from '../base/arguments.js'
import { equalBytes, secretBytes, wipe, withWiped } from '../base/bytes.js'
import { ArgumentError, KeyError } from '../base/errors.js'
import {
  type CheckValue,
  type CheckValueMethod,
  methodOf,
  readCheckValue,
  requireCheckValue,
  snapshotCheckValue,
} from '../key/check-value.js'
import { type KeyMaterial, readMaterial, requireSoundMaterial } from '../key/material.js'
import { isKeyAlgorithm, isTdea, type KeyAlgorithm } from '../primitives/algorithms.js'
import type { BlockCipher } from '../primitives/iso9797.js'
import { adjustParity, type KeyParity, parityOf } from '../primitives/tdea.js'

/** The algorithms of keys that come as components or in a key block. */
export type SymmetricAlgorithm = Exclude<KeyAlgorithm, 'ec-p256'>

/** Those that are block ciphers: a KBPK and the keys derived from it. */
export type CipherAlgorithm = Exclude<SymmetricAlgorithm, 'hmac-sha256'>

/** What is done about the parity bits of a TDEA key: told, or set to odd as well. Neither changes what the key computes. */
export type ParityRule = 'report' | 'adjust'

/** A cipher with both directions; blocks by themselves (ECB), or one chain. */
export interface ClearCipher extends BlockCipher {
  encipher(blocks: Uint8Array): Uint8Array
  decipher(blocks: Uint8Array): Uint8Array
}

/** What `clearKeyFacts` says of a key. */
export interface ClearKeyFacts {
  readonly algorithm: SymmetricAlgorithm
  readonly checkValue: CheckValue
  readonly parity: KeyParity
}

/** Throws `ERR_ARGUMENT` unless the value names a symmetric algorithm. */
export function requireSymmetric(algorithm: unknown): asserts algorithm is SymmetricAlgorithm {
  if (isKeyAlgorithm(algorithm) && algorithm !== 'ec-p256') return
  throw new ArgumentError('algorithm must be tdea-2key, tdea-3key, aes-128, aes-192, aes-256 or hmac-sha256')
}

/** Hands `use` a cipher under clear key bytes, and closes it after. */
export async function withCipher<T>(
  algorithm: CipherAlgorithm,
  bytes: Uint8Array,
  use: (cipher: ClearCipher) => T,
): Promise<T> {
  const engine = await chooseEngine('auto')
  const ready = readyKey({ kid: 'clear', usage: 'cmac', mode: 'C', algorithm, bytes }, engine)
  try {
    return use((ready.tdea ?? ready.aes) as ClearCipher)
  } finally {
    closeKey(ready)
  }
}

/** Check value and parity of clear key bytes; weak keys have them too. */
export async function factsOfBytes(
  algorithm: SymmetricAlgorithm,
  bytes: Uint8Array,
  expected?: string | CheckValue,
  method: CheckValueMethod | undefined = methodOf(expected),
): Promise<ClearKeyFacts> {
  const engine = await chooseEngine('auto')
  const usage = algorithm === 'hmac-sha256' ? 'hmac' : 'cmac'
  const key = { kid: 'clear', usage, mode: 'C', algorithm, bytes } as const
  const ready = readyKey(key, engine)
  try {
    const { checkValue, parity } = factsOf(key, ready, method, expected)
    return { algorithm, checkValue, parity }
  } finally {
    closeKey(ready)
  }
}

/** Input of {@link keyCheckValue}. */
export interface KeyCheckValueInput {
  readonly material: KeyMaterial
  readonly algorithm: SymmetricAlgorithm
  /** The algorithm's usual method where absent: `encrypt-zero` for TDEA, `cmac` for AES, `hmac` for HMAC, which has no other. */
  readonly method?: 'encrypt-zero' | 'cmac' | 'hmac'
}

/**
 * The check value and the parity of a clear key: 3 bytes by `encrypt-zero`, 5 by `cmac` or `hmac`, upper-case hex. For test keys and key
 * officers; a production key is asked for its check value where it lives.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_KEY_MATERIAL`. Sources: ANSI X9.24-1; ISO 11568.
 *
 * @example
 * ```ts
 * const { checkValue } = await keyCheckValue({ material: testKeyHex, algorithm: 'tdea-2key' })
 * ```
 */
export async function keyCheckValue(input: KeyCheckValueInput): Promise<ClearKeyFacts> {
  const { material, algorithm, method } = readOptions(input, 'keyCheckValue', [
    'material',
    'algorithm',
    'method',
  ])
  requireSymmetric(algorithm)
  if (method !== undefined && method !== 'encrypt-zero' && method !== 'cmac' && method !== 'hmac')
    throw new ArgumentError('method must be encrypt-zero, cmac or hmac')
  return withWiped(readMaterial('clear', material, algorithm), bytes =>
    factsOfBytes(algorithm, bytes, undefined, method),
  )
}

/** Throws `ERR_KEY_CHECK_VALUE` unless the bytes have the expected check value. `name` is what the message calls them. */
export async function requireKcv(
  name: string,
  algorithm: SymmetricAlgorithm,
  bytes: Uint8Array,
  kcv: string | CheckValue,
): Promise<ClearKeyFacts> {
  const expected = snapshotCheckValue(kcv)
  const facts = await factsOfBytes(algorithm, bytes, expected)
  requireCheckValue(name, readCheckValue(expected, algorithm), facts.checkValue)
  return facts
}

/** Refuses what is no key although it has the length: `ERR_KEY_WEAK` for weak TDEA, and for a key of one byte repeated. */
export function requireSound(name: string, algorithm: SymmetricAlgorithm, bytes: Uint8Array): void {
  requireSoundMaterial(name, bytes, algorithm)
  const repeated = secretBytes(bytes.length).fill(bytes[0] as number)
  const same = equalBytes(repeated, bytes)
  wipe(repeated)
  if (same) throw new KeyError('ERR_KEY_WEAK', `key ${name}: one byte, repeated, is no key`, name)
}

/** The parity rule applied, in place: what the parity was before. */
export function applyParity(algorithm: SymmetricAlgorithm, bytes: Uint8Array, rule: ParityRule): KeyParity {
  if (!isTdea(algorithm)) return 'unknown'
  const before = parityOf(bytes)
  if (rule === 'adjust') adjustParity(bytes)
  return before
}

/** Throws `ERR_ARGUMENT` unless the value is a {@link ParityRule}. */
export function requireParityRule(rule: unknown): asserts rule is ParityRule {
  if (rule !== 'report' && rule !== 'adjust') throw new ArgumentError("parity must be 'report' or 'adjust'")
}
