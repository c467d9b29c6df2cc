/**
 * Key blocks: a key with what it may be used for, enciphered and authenticated together under a key block protection key
 * (ANSI X9.143; ASC X9 TR-31:2018). Versions D and B are written and read; A and C, whose keys are mere variants of the KBPK,
 * are read with a warning. Here they are opened; `seal.ts` writes them.
 *
 *     KBEK, KBAK = CMAC(KBPK, counter ‖ 0000 or 0001 ‖ 00 ‖ algorithm ‖ bits)      B and D
 *                = KBPK xor 45…45, KBPK xor 4D…4D                                  A and C
 *     block      = header ‖ hex(CBC-KBEK(bits of the key ‖ key ‖ padding)) ‖ hex(MAC-KBAK)
 *
 * B and D: the MAC is over the clear text and is the IV. A and C: over what is enciphered, and the header is the IV.
 */

import { type Key, operationsOf } from '../backend/key.js'
import { type CallOptions, readOptions } from '../base/arguments.js'
import {
  asciiBytes,
  concatBytes,
  equalBytes,
  fromHex,
  ownCopy,
  secretBytes,
  wipe,
  withWiped,
} from '../base/bytes.js'
import { ArgumentError, KeyBlockError } from '../base/errors.js'
import type { CheckValue } from '../key/check-value.js'
import { isKeyMode, isKeyUsage, type KeyMode, type KeyUsage, USAGES } from '../key/usage.js'
import { KEY_BYTES } from '../primitives/algorithms.js'
import type { KeyParity } from '../primitives/tdea.js'
import {
  type CipherAlgorithm,
  type ClearCipher,
  type ClearKeyFacts,
  factsOfBytes,
  requireSound,
  type SymmetricAlgorithm,
  withCipher,
} from './clear-key.js'
import { type KeyBlockHeader, MAC_DIGITS, readHeader, requireHash, useOf } from './header.js'
import { isWeaker, macOf, protectionKeys, requireFit, requireKbpk } from './protection.js'

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
 * Opens a key block of version A, B, C or D under a KBPK, for one usage. The key is in host memory, and so is, for a moment,
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
  requireHash(parts.header.algorithm, parts.header.optionalBlocks)
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
    const algorithm = kbpk.algorithm as CipherAlgorithm
    clear = await withCipher(algorithm, encipherment, cipher => decipherCbc(cipher, mac, enciphered))
    isRight = withWiped(await macOf(algorithm, authentication, head, clear), made => equalBytes(made, mac))
    if (!isRight) throw UNOPENED()
    return clear
  } finally {
    // Also where the MAC could not be computed at all.
    if (!isRight) wipe(clear)
    wipe(encipherment, authentication)
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
  // Wiped: it is the MAC that whoever forged the block looks for.
  if (!withWiped(made, right => equalBytes(right.subarray(0, mac.length), mac))) throw UNOPENED()
  const clear = await operations.decipherVariant(mask(0x45), enciphered, options)
  chain(clear, head.subarray(0, 8), enciphered)
  return clear
}

/** CBC out of ECB: each deciphered block XOR the block before it. */
function decipherCbc(cipher: ClearCipher, iv: Uint8Array, data: Uint8Array): Uint8Array {
  const clear = cipher.decipher(data)
  chain(clear, iv, data)
  return clear
}

function chain(clear: Uint8Array, iv: Uint8Array, data: Uint8Array): void {
  const before = concatBytes(iv, data)
  for (const [i, byte] of clear.entries()) clear[i] = byte ^ (before[i] as number)
}

/** Key lengths in bits that a payload may state, by the header's algorithm. */
const LENGTHS: Readonly<Record<string, Readonly<Record<number, SymmetricAlgorithm>>>> = {
  T: { 16: 'tdea-2key', 24: 'tdea-3key' },
  A: { 16: 'aes-128', 24: 'aes-192', 32: 'aes-256' },
  H: { 32: 'hmac-sha256' },
}

/** The key of an authentic payload, of which whoever made the block may still have made nonsense. */
function keyInside(
  payload: Uint8Array,
  header: KeyBlockHeader,
): { bytes: Uint8Array; algorithm: SymmetricAlgorithm } {
  const bits = ((payload[0] as number) << 8) | (payload[1] as number)
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
  if (algorithm === 'hmac-sha256')
    throw new KeyBlockError('optional block KC', 'is there, and X9.143 has no check value of an HMAC key')
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
