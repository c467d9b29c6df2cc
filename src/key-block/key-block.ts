/**
 * Key blocks: a key with what it may be used for, enciphered and authenticated together under a key block protection key
 * (ANSI X9.143; ASC X9 TR-31:2018). Versions D and B are written and read; A and C, whose keys are mere variants of the KBPK,
 * are read with a warning.
 *
 *     KBEK, KBAK = CMAC(KBPK, counter ‖ 0000 or 0001 ‖ 00 ‖ algorithm ‖ bits)      B and D
 *                = KBPK xor 45…45, KBPK xor 4D…4D                                  A and C
 *     block      = header ‖ hex(CBC-KBEK(bits of the key ‖ key ‖ padding)) ‖ hex(MAC-KBAK)
 *
 * B and D: the MAC is over the clear text and is the IV. A and C: over what is enciphered, and the header is the IV.
 */

import { requireHostDecipher } from '../backend/checks.js'
import { type Key, operationsOf, requireKey } from '../backend/key.js'
import { type CallOptions, readOptions } from '../base/arguments.js'
import {
  asciiBytes,
  concatBytes,
  equalBytes,
  fromHex,
  ownCopy,
  secretBytes,
  toHex,
  wipe,
} from '../base/bytes.js'
import { ArgumentError, KeyBlockError } from '../base/errors.js'
import type { CheckValue } from '../key/check-value.js'
import { type KeyMaterial, readMaterial } from '../key/material.js'
import { isKeyMode, isKeyUsage, type KeyMode, type KeyUsage, requireUse, USAGES } from '../key/usage.js'
import { isTdea, KEY_BYTES, type KeyAlgorithm } from '../primitives/algorithms.js'
import { cmac } from '../primitives/mac.js'
import type { KeyParity } from '../primitives/tdea.js'
import {
  type ClearCipher,
  type ClearKeyFacts,
  factsOfBytes,
  requireSound,
  requireSymmetric,
  type SymmetricAlgorithm,
  withCipher,
} from './clear-key.js'
import {
  CIPHER_BLOCK,
  type Exportability,
  type KeyBlockHeader,
  MAC_DIGITS,
  type OptionalBlock,
  readHeader,
  useOf,
  writeHeader,
} from './header.js'

/** Input of {@link openKeyBlock}. */
export interface OpenKeyBlockInput {
  /** The KBPK: usage `key-block-protection`, mode `B` or `D`, bound with `hostDecipher`. */
  readonly key: Key
  readonly block: string
  /** What the key inside is wanted for; a block that says otherwise is refused. */
  readonly usage: KeyUsage
  /** A narrower mode than the block's; the block's own where absent. */
  readonly mode?: KeyMode
}

/** A key that came in a key block. */
export interface OpenedKeyBlock {
  /** The clear key, in memory of its own. The caller wipes it. */
  readonly material: Uint8Array
  readonly algorithm: SymmetricAlgorithm
  readonly usage: KeyUsage
  readonly mode: KeyMode
  readonly checkValue: CheckValue
  readonly parity: KeyParity
  /** Authentic now. */
  readonly header: KeyBlockHeader
  /** What an officer should hear: a legacy version, a key that is stronger than what protects it. */
  readonly warnings: readonly string[]
}

/**
 * Opens a key block of version A, B, C or D under a KBPK, for one usage. The key stands in host memory, and so, for a moment,
 * do the keys derived from the KBPK: this is what `hostDecipher` of the KBPK allows. A and C need the KBPK in software.
 *
 * Errors: `ERR_KEY_BLOCK` (`entry` names the field; one message where it does not open), `ERR_KEY_USAGE`,
 * `ERR_HOST_DECIPHER`, `ERR_KEY_WEAK`, `ERR_UNSUPPORTED_BY_TOKEN`, `ERR_ARGUMENT`. Source: ANSI X9.143; TR-31:2018, A.
 *
 * @example
 * ```ts
 * const kbpk = await backend.bind({ kid: 'KBPK', usage: 'key-block-protection', hostDecipher: true })
 * const { material, checkValue } = await openKeyBlock({ key: kbpk, block: keyBlock, usage: 'pin-encryption' })
 * ```
 */
export async function openKeyBlock(input: OpenKeyBlockInput, options?: CallOptions): Promise<OpenedKeyBlock> {
  const { key, block, usage, mode } = readOptions(input, 'openKeyBlock', ['key', 'block', 'usage', 'mode'])
  const kbpk = requireKbpk(key, 'decipher')
  if (!isKeyUsage(usage)) throw new ArgumentError('usage must be one of the usage table')
  if (mode !== undefined && !isKeyMode(mode)) throw new ArgumentError('mode must be one of the usage table')
  const { header } = readHeader(block)
  requireFit(kbpk, header.version)
  const use = useOf(header, usage, mode)
  const { material, facts } = await openAny(kbpk, block, options)
  try {
    const { algorithm, checkValue, parity } = facts
    if (!USAGES[usage].algorithms.includes(algorithm))
      throw new KeyBlockError('algorithm', `is ${algorithm}, which ${usage} does not admit`)
    requireSound('in the block', algorithm, material)
    const warnings = warningsOf(kbpk, header.version, algorithm)
    return { material, algorithm, usage, mode: use, checkValue, parity, header, warnings }
  } catch (error) {
    wipe(material)
    throw error
  }
}

/** The key inside, whatever it is for: {@link openKeyBlock} before it asks. */
export async function openAny(
  kbpk: Key,
  block: string,
  options: CallOptions | undefined,
): Promise<{ material: Uint8Array; facts: ClearKeyFacts }> {
  const parts = readHeader(block)
  const payload = await decipherBlock(kbpk, parts, options)
  let bytes: Uint8Array | undefined
  try {
    const inside = keyInside(payload, parts.header)
    bytes = inside.bytes
    const facts = await factsOfBytes(inside.algorithm, bytes)
    await requireStatedKcv(parts.header, inside.algorithm, bytes)
    return { material: ownCopy(bytes), facts }
  } finally {
    wipe(payload, bytes)
  }
}

/** A KBPK for one of the two things it does. */
function requireKbpk(key: unknown, action: 'encipher' | 'decipher'): Key {
  requireKey(key, 'key')
  requireUse(key, 'key-block', action)
  requireHostDecipher(key)
  return key
}

/** Version D takes an AES KBPK, the others TDEA. */
function requireFit(kbpk: Key, version: KeyBlockHeader['version']): void {
  if (isTdea(kbpk.algorithm) === (version !== 'D')) return
  throw new KeyBlockError('version', `is ${version}, which does not go with a KBPK that is ${kbpk.algorithm}`)
}

const UNOPENED = (): KeyBlockError => new KeyBlockError('block', 'does not open under this KBPK')

async function decipherBlock(
  kbpk: Key,
  { header, text, body }: ReturnType<typeof readHeader>,
  options: CallOptions | undefined,
): Promise<Uint8Array> {
  const { version } = header
  const at = body.length - MAC_DIGITS[version]
  const mac = fromHex(body.slice(at), 'the MAC')
  const enciphered = fromHex(body.slice(0, at), 'the key')
  const head = asciiBytes(text)
  if (version === 'A' || version === 'C') {
    return decipherVariant(kbpk, head, enciphered, mac, options)
  }
  const { encipherment, authentication } = await protectionKeys(kbpk, options)
  let clear: Uint8Array | undefined
  let isRight = false
  try {
    const algorithm = kbpk.algorithm as SymmetricAlgorithm
    clear = await withCipher(algorithm, encipherment, cipher => decipherCbc(cipher, mac, enciphered))
    const made = await macOf(algorithm, authentication, head, clear)
    isRight = equalBytes(made, mac)
    if (!isRight) throw UNOPENED()
    return clear
  } finally {
    // Also where the MAC could not be computed at all.
    if (!isRight) wipe(clear)
    wipe(encipherment, authentication)
  }
}

async function macOf(
  algorithm: SymmetricAlgorithm,
  key: Uint8Array,
  head: Uint8Array,
  clear: Uint8Array,
): Promise<Uint8Array> {
  const message = concatBytes(head, clear)
  try {
    return await withCipher(algorithm, key, cipher => cmac(cipher, message))
  } finally {
    wipe(message)
  }
}

/** Variant binding (TR-31:2018, A.5.5): the MAC is looked at first, and the KBPK stays where it is. */
async function decipherVariant(
  kbpk: Key,
  head: Uint8Array,
  enciphered: Uint8Array,
  mac: Uint8Array,
  options: CallOptions | undefined,
): Promise<Uint8Array> {
  const operations = operationsOf(kbpk)
  const mask = (byte: number): Uint8Array => secretBytes(KEY_BYTES[kbpk.algorithm]).fill(byte)
  const derivation = [{ method: 'xor', data: mask(0x4d) }] as const
  const request = { algorithm: 'iso9797-1-alg1', padding: 1, derivation } as const
  const made = await operations.mac(request, concatBytes(head, enciphered), options)
  if (!equalBytes(made.subarray(0, mac.length), mac)) throw UNOPENED()
  const clear = await operations.decipherVariant(mask(0x45), enciphered, options)
  chain(clear, head.subarray(0, 8), enciphered)
  return clear
}

/** CBC out of ECB: each deciphered block XOR the block before it. */
function decipherCbc(cipher: ClearCipher, iv: Uint8Array, data: Uint8Array): Uint8Array {
  const clear = ownCopy(cipher.decipher(data))
  chain(clear, iv, data)
  return clear
}

function chain(clear: Uint8Array, iv: Uint8Array, data: Uint8Array): void {
  const before = concatBytes(iv, data)
  for (const [i, byte] of clear.entries()) clear[i] = byte ^ (before[i] ?? 0)
}

/** The two keys of versions B and D, by CMACs that the KBPK makes where it lives (X9.143, key derivation binding). */
async function protectionKeys(
  kbpk: Key,
  options: CallOptions | undefined,
): Promise<{ encipherment: Uint8Array; authentication: Uint8Array }> {
  const encipherment = await protectionKey(kbpk, 0, options)
  try {
    return { encipherment, authentication: await protectionKey(kbpk, 1, options) }
  } catch (error) {
    wipe(encipherment)
    throw error
  }
}

const DERIVATION_CODES: Readonly<Record<SymmetricAlgorithm, number>> = {
  'tdea-2key': 0,
  'tdea-3key': 1,
  'aes-128': 2,
  'aes-192': 3,
  'aes-256': 4,
}

async function protectionKey(kbpk: Key, use: 0 | 1, options: CallOptions | undefined): Promise<Uint8Array> {
  const bytes = KEY_BYTES[kbpk.algorithm]
  const code = DERIVATION_CODES[kbpk.algorithm as SymmetricAlgorithm]
  const bits = 8 * bytes
  const blocks: Uint8Array[] = []
  try {
    for (let counter = 1; blocks.reduce((sum, { length }) => sum + length, 0) < bytes; counter++) {
      const data = secretBytes(8)
      data.set([counter, 0, use, 0, 0, code, bits >> 8, bits & 0xff])
      blocks.push(await operationsOf(kbpk).mac({ algorithm: 'cmac', padding: 'none' }, data, options))
    }
    const whole = concatBytes(...blocks)
    const key = ownCopy(whole.subarray(0, bytes))
    wipe(whole)
    return key
  } finally {
    wipe(...blocks)
  }
}

/** Key lengths in bits that a payload may state, by the header's algorithm. */
const LENGTHS: Readonly<Record<string, Readonly<Record<number, SymmetricAlgorithm>>>> = {
  T: { 16: 'tdea-2key', 24: 'tdea-3key' },
  A: { 16: 'aes-128', 24: 'aes-192', 32: 'aes-256' },
}

/** The key of an authentic payload, of which whoever made the block may still have made nonsense. */
function keyInside(
  payload: Uint8Array,
  header: KeyBlockHeader,
): { bytes: Uint8Array; algorithm: SymmetricAlgorithm } {
  const bits = ((payload[0] ?? 0) << 8) | (payload[1] ?? 0)
  const bytes = bits / 8
  if (!Number.isInteger(bytes) || bytes === 0 || bytes + 2 > payload.length) throw UNOPENED()
  const algorithm = LENGTHS[header.algorithm]?.[bytes]
  if (algorithm === undefined)
    throw new KeyBlockError('algorithm', `is ${header.algorithm} with ${bits} bits, which is not known here`)
  return { bytes: ownCopy(payload.subarray(2, 2 + bytes)), algorithm }
}

/** Optional block KC: `00` and a TDEA-style check value, or `01` and one by CMAC, of the key inside. */
async function requireStatedKcv(
  { optionalBlocks }: KeyBlockHeader,
  algorithm: SymmetricAlgorithm,
  bytes: Uint8Array,
): Promise<void> {
  const stated = optionalBlocks.find(({ id }) => id === 'KC')
  if (stated === undefined) return
  const [, method, value = ''] = /^(00|01)((?:[0-9A-F]{2}){2,5})$/.exec(stated.data) ?? []
  if (method === undefined) throw new KeyBlockError('optional block KC', 'is not a check value')
  const by = method === '00' ? 'encrypt-zero' : 'cmac'
  const { checkValue } = await factsOfBytes(algorithm, bytes, { method: by, value })
  const want = fromHex(value, 'KC')
  if (!equalBytes(fromHex(checkValue.value, 'KC').subarray(0, want.length), want))
    throw new KeyBlockError('optional block KC', 'is not the check value of the key inside')
}

function warningsOf(kbpk: Key, version: KeyBlockHeader['version'], algorithm: SymmetricAlgorithm): string[] {
  const warnings: string[] = []
  if (version === 'A' || version === 'C')
    warnings.push(
      `version ${version} is legacy: its keys are variants of the KBPK and its MAC has four bytes. Ask for version B or D`,
    )
  if (isWeaker(kbpk.algorithm, algorithm))
    warnings.push(`the KBPK (${kbpk.algorithm}) is weaker than the key it protects (${algorithm})`)
  return warnings
}

/** By length and cipher: TDEA below AES (NIST SP 800-57 Part 1, table 2). */
function isWeaker(kbpk: KeyAlgorithm, algorithm: SymmetricAlgorithm): boolean {
  const order: readonly KeyAlgorithm[] = ['tdea-2key', 'tdea-3key', 'aes-128', 'aes-192', 'aes-256']
  return order.indexOf(kbpk) < order.indexOf(algorithm)
}

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
  /** Written in this order; padding and dates are added. */
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
  const { keyVersion = '00', exportability, optionalBlocks = [], validFrom, validTo } = given
  const code = isTdea(algorithm) ? 'T' : 'A'
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
    payload.set(bytes, 2)
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
    const algorithm = kbpk.algorithm as SymmetricAlgorithm
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
