/**
 * Keys as components: full-length parts that each officer brings with a check value of its own, and whose XOR is the key
 * (ISO 11568, split knowledge). None of them says anything about the key; all of them together are it.
 */
import { readOptions, requireKid } from '../base/arguments.js'
import { equalBytes, ownCopy, randomSecret, secretBytes, wipe } from '../base/bytes.js'
import { ArgumentError, KeyError } from '../base/errors.js'
import { type CheckValue, snapshotCheckValue } from '../key/check-value.js'
import { type KeyMaterial, readMaterial } from '../key/material.js'
import type { KeyParity } from '../primitives/tdea.js'
import {
  applyParity,
  factsOfBytes,
  type ParityRule,
  requireKcv,
  requireParityRule,
  requireSound,
  requireSymmetric,
  type SymmetricAlgorithm,
} from './clear-key.js'

/** One officer's part. */
export interface KeyComponent {
  /** As long as the key: 16 or 24 bytes TDEA, 16, 24 or 32 bytes AES, 32 bytes HMAC. Copied. */
  readonly component: KeyMaterial
  /** The check value that came with it, by the algorithm's usual method unless it names another. */
  readonly kcv: string | CheckValue
}

/** Input of {@link combineComponents}. */
export interface CombineComponentsInput {
  /** What the key will be called: for messages. */
  readonly kid: string
  readonly algorithm: SymmetricAlgorithm
  /** Two to nine. */
  readonly components: readonly KeyComponent[]
  /** The check value of the key itself. */
  readonly kcv: string | CheckValue
  /** `report` leaves the parity bits of a TDEA key as they came, `adjust` sets them to odd. */
  readonly parity: ParityRule
}

/** A key made of its components. */
export interface CombinedKey {
  /** The clear key, in memory of its own. The caller wipes it. */
  readonly material: Uint8Array
  readonly algorithm: SymmetricAlgorithm
  readonly checkValue: CheckValue
  /** As the XOR gave it, before any adjustment; `unknown` for AES and HMAC. */
  readonly parity: KeyParity
}

const MIN_PARTS = 2
const MAX_PARTS = 9

/**
 * Combines two to nine components into a key. Each component's check value is compared before it is used, the key's at the
 * end; a component of zeros, one that is there twice, a weak or degenerate key is refused. Of what was given nothing is kept:
 * all copies but the result are wiped, on every path.
 *
 * Errors, each naming the entry: `ERR_KEY_MATERIAL` (length or form), `ERR_KEY_CHECK_VALUE` (`component 2`, or the key),
 * `ERR_KEY_WEAK`, `ERR_ARGUMENT`. Source: ISO 11568; ANSI X9.24-1.
 *
 * @example
 * ```ts
 * const { material, checkValue } = await combineComponents({
 *   kid: 'ZPK-D1', algorithm: 'tdea-2key', kcv: keyKcv, parity: 'report',
 *   components: [{ component: first, kcv: firstKcv }, { component: second, kcv: secondKcv }],
 * })
 * ```
 */
export async function combineComponents(input: CombineComponentsInput): Promise<CombinedKey> {
  const names = ['kid', 'algorithm', 'components', 'kcv', 'parity'] as const
  const { kid, algorithm, components, kcv, parity: rule } = readOptions(input, 'combineComponents', names)
  requireKid(kid)
  requireSymmetric(algorithm)
  requireParityRule(rule)
  if (!Array.isArray(components) || components.length < MIN_PARTS || components.length > MAX_PARTS)
    throw new ArgumentError(`components must be a list of ${MIN_PARTS} to ${MAX_PARTS}`)
  const expected = snapshotCheckValue(kcv)
  const parts: Uint8Array[] = []
  let key: Uint8Array | undefined
  try {
    for (const [i, entry] of components.entries()) {
      const name = `${kid}, component ${i + 1}`
      const { component, kcv: own } = readOptions(entry as KeyComponent, `component ${i + 1}`, [
        'component',
        'kcv',
      ])
      const part = readMaterial(name, component, algorithm)
      parts.push(part)
      await requireComponent(name, algorithm, part, own, parts.slice(0, -1))
    }
    key = xorOf(parts)
    requireSound(kid, algorithm, key)
    const { checkValue } = await requireKcv(kid, algorithm, key, expected)
    const parity = applyParity(algorithm, key, rule)
    return { material: ownCopy(key), algorithm, checkValue, parity }
  } finally {
    wipe(...parts, key)
  }
}

/** One component on its own, as an officer enters it: its check value, and that it adds something. */
export async function requireComponent(
  name: string,
  algorithm: SymmetricAlgorithm,
  part: Uint8Array,
  kcv: string | CheckValue,
  others: readonly Uint8Array[],
): Promise<CheckValue> {
  const { checkValue } = await requireKcv(name, algorithm, part, kcv)
  if (part.every(byte => byte === 0))
    throw new KeyError('ERR_KEY_WEAK', `key ${name}: a component of zeros adds nothing`, name)
  if (others.some(other => equalBytes(other, part)))
    throw new KeyError('ERR_KEY_WEAK', `key ${name}: the same component was given before`, name)
  return checkValue
}

function xorOf(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const key = secretBytes(Math.min(...parts.map(part => part.length)))
  for (const part of parts)
    for (let i = 0; i < key.length; i++) key[i] = (key[i] as number) ^ (part[i] as number)
  return key
}

/** Input of {@link splitKey}. */
export interface SplitKeyInput {
  readonly kid: string
  readonly algorithm: SymmetricAlgorithm
  readonly material: KeyMaterial
  /** How many components: 2 to 9. */
  readonly parts: number
}

/** A key in parts, to be handed to as many officers. */
export interface SplitKey {
  /** Each with its check value; the caller wipes them. */
  readonly components: readonly { readonly component: Uint8Array; readonly checkValue: CheckValue }[]
  readonly checkValue: CheckValue
}

/**
 * Splits a clear key into two to nine components, all but the last of them random (`node:crypto`), each with its check value.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_KEY_MATERIAL`, `ERR_KEY_WEAK`. Source: ISO 11568.
 *
 * @example
 * ```ts
 * const { components } = await splitKey({ kid: 'ZMK', algorithm: 'aes-256', material, parts: 3 })
 * ```
 */
export async function splitKey(input: SplitKeyInput): Promise<SplitKey> {
  const names = ['kid', 'algorithm', 'material', 'parts'] as const
  const { kid, algorithm, material, parts } = readOptions(input, 'splitKey', names)
  requireKid(kid)
  requireSymmetric(algorithm)
  if (!Number.isInteger(parts) || parts < MIN_PARTS || parts > MAX_PARTS)
    throw new ArgumentError(`parts must be ${MIN_PARTS} to ${MAX_PARTS}`)
  const key = readMaterial(kid, material, algorithm)
  const components: Uint8Array[] = []
  try {
    requireSound(kid, algorithm, key)
    const { checkValue } = await factsOfBytes(algorithm, key)
    for (let i = 1; i < parts; i++) components.push(randomSecret(key.length))
    components.push(xorOf([key, ...components]))
    const stated = await Promise.all(
      components.map(async component => {
        const { checkValue } = await factsOfBytes(algorithm, component)
        return { component, checkValue }
      }),
    )
    return { components: stated, checkValue }
  } catch (error) {
    wipe(...components)
    throw error
  } finally {
    wipe(key)
  }
}
