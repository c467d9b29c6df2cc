/**
 * What protects a key block: the KBPK, and the two keys derived from it for versions B and D (ANSI X9.143, key derivation binding).
 *
 *     KBEK, KBAK = CMAC(KBPK, counter ‖ 0000 or 0001 ‖ 00 ‖ algorithm ‖ bits)
 */
import { requireHostDecipher } from '../backend/checks.js'
import { type Key, operationsOf, requireKey } from '../backend/key.js'
import type { CallOptions } from '../base/arguments.js'
import { concatBytes, ownCopy, secretBytes, wipe } from '../base/bytes.js'
import { KeyBlockError } from '../base/errors.js'
import { requireUse } from '../key/usage.js'
import { isTdea, KEY_BYTES, type KeyAlgorithm } from '../primitives/algorithms.js'
import { cmac } from '../primitives/mac.js'
import { type CipherAlgorithm, type SymmetricAlgorithm, withCipher } from './clear-key.js'
import type { KeyBlockHeader } from './header.js'

/** A KBPK for one of the two things it does. */
export function requireKbpk(key: unknown, action: 'encipher' | 'decipher'): Key {
  requireKey(key, 'key')
  requireUse(key, 'key-block', action)
  requireHostDecipher(key)
  return key
}

/** Version D takes an AES KBPK, the others TDEA. */
export function requireFit(kbpk: Key, version: KeyBlockHeader['version']): void {
  if (isTdea(kbpk.algorithm) === (version !== 'D')) return
  throw new KeyBlockError('version', `is ${version}, which does not go with a KBPK that is ${kbpk.algorithm}`)
}

/** The MAC of versions B and D: over header and clear payload. */
export async function macOf(
  algorithm: CipherAlgorithm,
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

/** The two keys of versions B and D, by CMACs that the KBPK makes where it lives (X9.143, key derivation binding). */
export async function protectionKeys(
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

const DERIVATION_CODES: Readonly<Record<CipherAlgorithm, number>> = {
  'tdea-2key': 0,
  'tdea-3key': 1,
  'aes-128': 2,
  'aes-192': 3,
  'aes-256': 4,
}

async function protectionKey(kbpk: Key, use: 0 | 1, options: CallOptions | undefined): Promise<Uint8Array> {
  const bytes = KEY_BYTES[kbpk.algorithm]
  const code = DERIVATION_CODES[kbpk.algorithm as CipherAlgorithm]
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

/** By length and cipher: TDEA below AES, an HMAC key as long as AES-256 beside it (NIST SP 800-57 Part 1, tables 2 and 3). */
export function isWeaker(kbpk: KeyAlgorithm, algorithm: SymmetricAlgorithm): boolean {
  const order: readonly KeyAlgorithm[] = ['tdea-2key', 'tdea-3key', 'aes-128', 'aes-192', 'aes-256']
  return order.indexOf(kbpk) < order.indexOf(algorithm === 'hmac-sha256' ? 'aes-256' : algorithm)
}
