/**
 * Sealing a key block, and moving a key from one KBPK to another: versions B and D of ANSI X9.143, whose layout and derived keys are
 * drawn at the head of `key-block.ts`.
 */

import { type Key, operationsOf } from '../backend/key.js'
import { type CallOptions, readOptions } from '../base/arguments.js'
import { asciiBytes, copyInto, toHex, wipe } from '../base/bytes.js'
import { ArgumentError, KeyBlockError } from '../base/errors.js'
import type { CheckValue } from '../key/check-value.js'
import { type KeyMaterial, readMaterial } from '../key/material.js'
import { isKeyMode, isKeyUsage, type KeyMode, type KeyUsage, USAGES } from '../key/usage.js'
import { isTdea } from '../primitives/algorithms.js'
import {
  type CipherAlgorithm,
  factsOfBytes,
  requireSound,
  requireSymmetric,
  type SymmetricAlgorithm,
  withCipher,
} from './clear-key.js'
import {
  CIPHER_BLOCK,
  type Exportability,
  type OptionalBlock,
  readHeader,
  withHash,
  writeHeader,
} from './header.js'
import { openKeyBlock } from './key-block.js'
import { isWeaker, macOf, protectionKeys, requireFit, requireKbpk } from './protection.js'

/** Input of {@link sealKeyBlock}. */
export interface SealKeyBlockInput {
  /** The KBPK: usage `key-block-protection`, mode `B` or `E`, bound with `hostDecipher`. */
  readonly key: Key
  /** `D` under an AES KBPK, `B` under TDEA. */
  readonly version: 'B' | 'D'
  /** The clear key. Copied. */
  readonly material: KeyMaterial
  readonly algorithm: SymmetricAlgorithm
  readonly usage: KeyUsage
  readonly mode: KeyMode
  readonly exportability: Exportability
  /** Two characters; `00` where absent: no version. */
  readonly keyVersion?: string
  /** Written in this order; padding, dates and, for an HMAC key, the hash (`HM`) are added. */
  readonly optionalBlocks?: readonly OptionalBlock[]
  /** Whole hours; written as payShield writes them, in optional blocks 03 and 04. */
  readonly validFrom?: Date
  readonly validTo?: Date
}

/** A key block, and what to compare with the other side. */
export interface SealedKeyBlock {
  readonly block: string
  readonly checkValue: CheckValue
}

/**
 * Seals a clear key into a key block of version B or D. The length of the key is hidden: the padding goes up to the longest key
 * of its cipher. A KBPK that is weaker than the key is refused.
 *
 * Errors: `ERR_KEY_BLOCK` (the `entry` that cannot be written), `ERR_KEY_USAGE`, `ERR_HOST_DECIPHER`, `ERR_KEY_MATERIAL`,
 * `ERR_KEY_WEAK`, `ERR_ARGUMENT`. Source: ANSI X9.143, 6; TR-31:2018, A.
 *
 * @example
 * ```ts
 * const sealed = await sealKeyBlock({
 *   key: kbpk, version: 'D', material, algorithm: 'tdea-2key', usage: 'pin-encryption', mode: 'E', exportability: 'N',
 * })
 * ```
 */
export async function sealKeyBlock(input: SealKeyBlockInput, options?: CallOptions): Promise<SealedKeyBlock> {
  const given = readOptions(input, 'sealKeyBlock', SEAL_NAMES)
  const kbpk = requireKbpk(given.key, 'encipher')
  const { version, algorithm, usage, mode, material } = given
  if (version !== 'B' && version !== 'D') throw new ArgumentError('version must be B or D')
  requireSymmetric(algorithm)
  if (!isKeyUsage(usage)) throw new ArgumentError('usage must be one of the usage table')
  requireFit(kbpk, version)
  if (!isKeyMode(mode) || !USAGES[usage].modes.includes(mode))
    throw new KeyBlockError('mode', `must be one that a ${usage} key has`)
  if (!USAGES[usage].algorithms.includes(algorithm))
    throw new KeyBlockError('algorithm', `is ${algorithm}, which ${usage} does not admit`)
  if (isWeaker(kbpk.algorithm, algorithm))
    throw new KeyBlockError(
      'algorithm',
      `is ${algorithm}, which is stronger than the KBPK (${kbpk.algorithm})`,
    )
  const { keyVersion = '00', exportability, validFrom, validTo } = given
  const code = isTdea(algorithm) ? 'T' : algorithm === 'hmac-sha256' ? 'H' : 'A'
  const optionalBlocks = withHash(code, given.optionalBlocks ?? [])
  const block = CIPHER_BLOCK[version]
  const payloadBytes = Math.ceil((2 + (code === 'T' ? 24 : 32)) / block) * block
  const head = writeHeader(
    {
      version,
      usage: USAGES[usage].x9143,
      algorithm: code,
      mode,
      keyVersion,
      exportability,
      optionalBlocks,
      validFrom,
      validTo,
    },
    payloadBytes,
  )
  const bytes = readMaterial('in the block', material, algorithm)
  let payload: Uint8Array | undefined
  try {
    requireSound('in the block', algorithm, bytes)
    const { checkValue } = await factsOfBytes(algorithm, bytes)
    payload = await operationsOf(kbpk).randomBytes(payloadBytes, options)
    payload.set([(8 * bytes.length) >> 8, (8 * bytes.length) & 0xff])
    copyInto(payload, bytes, 2)
    return { block: `${head}${await encipherBlock(kbpk, head, payload, options)}`, checkValue }
  } finally {
    wipe(bytes, payload)
  }
}

const SEAL_NAMES = [
  'key',
  'version',
  'material',
  'algorithm',
  'usage',
  'mode',
  'exportability',
  'keyVersion',
  'optionalBlocks',
  'validFrom',
  'validTo',
] as const

async function encipherBlock(
  kbpk: Key,
  head: string,
  payload: Uint8Array,
  options: CallOptions | undefined,
): Promise<string> {
  const { encipherment, authentication } = await protectionKeys(kbpk, options)
  try {
    const algorithm = kbpk.algorithm as CipherAlgorithm
    const mac = await macOf(algorithm, authentication, asciiBytes(head), payload)
    const body = await withCipher(algorithm, encipherment, cipher => cipher.encipherCbc(mac, payload))
    return toHex(body) + toHex(mac)
  } finally {
    wipe(encipherment, authentication)
  }
}

/** Input of {@link translateKeyBlock}. */
export interface TranslateKeyBlockInput {
  /** The KBPK of the block. */
  readonly from: Key
  /** The KBPK of the result. */
  readonly to: Key
  readonly block: string
  readonly usage: KeyUsage
  readonly version: 'B' | 'D'
}

/**
 * Moves a key from under one KBPK to under another, with all its header says. A block that says `N` is not exportable, and
 * is refused.
 *
 * Errors: as {@link openKeyBlock} and {@link sealKeyBlock}; `ERR_KEY_BLOCK` with entry `exportability`.
 *
 * @example
 * ```ts
 * const moved = await translateKeyBlock({
 *   from: zmk, to: kbpk, block: keyBlock, usage: 'pin-encryption', version: 'D',
 * })
 * ```
 */
export async function translateKeyBlock(
  input: TranslateKeyBlockInput,
  options?: CallOptions,
): Promise<SealedKeyBlock> {
  const names = ['from', 'to', 'block', 'usage', 'version'] as const
  const { from, to, block, usage, version } = readOptions(input, 'translateKeyBlock', names)
  const { exportability } = readHeader(block).header
  if (exportability === 'N')
    throw new KeyBlockError('exportability', 'is N: this key may not be moved under another')
  const { material, algorithm, mode, header } = await openKeyBlock({ key: from, block, usage }, options)
  try {
    const { optionalBlocks, keyVersion } = header
    return await sealKeyBlock(
      { key: to, version, material, algorithm, usage, mode, exportability, keyVersion, optionalBlocks },
      options,
    )
  } finally {
    wipe(material)
  }
}
