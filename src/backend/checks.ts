/**
 * The checks of the port's arguments, for the front and for the verbs above it. What comes from the caller is read once
 * and handed on as a fresh, plain value: what was checked is what is used. Each throws a coded error or nothing.
 */

import { hasExactly, readOptions, requireKid } from '../base/arguments.js'
import { isPlainBytes, snapshot } from '../base/bytes.js'
import { ArgumentError, InputError, KeyError } from '../base/errors.js'
import { type CheckValue, snapshotCheckValue } from '../key/check-value.js'
import { type KeyPeriod, readPeriod } from '../key/period.js'
import { type PinValueRule, readPinValueRule } from '../key/pin-value.js'
import {
  isKeyMode,
  isKeyUsage,
  type KeyMode,
  type KeyUsage,
  refusedUse,
  requireUse,
  USAGES,
  usualMode,
} from '../key/usage.js'
import { FORMATS, requireFormat, type SupportedFormat } from '../pin/formats/formats.js'
import type { PinRule, PinVerification } from '../pin/formats/verification.js'
import { CONTENT_KEY_BYTES, IV_BYTES, type SealedContent, TAG_BYTES } from '../primitives/a256gcm.js'
import {
  blockBytesOf,
  isEncipherment,
  isKeyAlgorithm,
  isTdea,
  KEY_BYTES,
  type KeyAlgorithm,
  MAC_PADDINGS,
  type MacAlgorithm,
  type MacPadding,
} from '../primitives/algorithms.js'
import { macBytes } from '../primitives/mac.js'
import { isP256Point } from '../primitives/p256.js'
import type { BindSpec } from './backend.js'
import type { ContentKeyRequest, KeyDerivation, MacRequest } from './driver.js'
import type { KeyFacts } from './key.js'

/** Longest input of one call: 8192 PIN blocks, and far more than any message that is MACed here. */
export const MAX_INPUT_BYTES = 65_536
const MAX_OTHER_INFO_BYTES = 1024
const DERIVED_BYTES: readonly number[] = [16, 24, 32, 64]
/** Of a content, and of what is authenticated with it: as many as a JWE has characters. */
const MAX_CONTENT_BYTES = 8192

/** A {@link BindSpec} that has been read. */
export interface ReadSpec {
  readonly kid: string
  readonly usage: KeyUsage
  readonly mode: KeyMode
  readonly algorithm: KeyAlgorithm | undefined
  readonly kcv: string | CheckValue | undefined
  readonly hostDecipher: boolean
  readonly period: KeyPeriod
  readonly pinValue: PinValueRule | undefined
}

export function readSpec(spec: BindSpec, what = 'bind'): ReadSpec {
  const names = [
    'kid',
    'usage',
    'mode',
    'algorithm',
    'kcv',
    'hostDecipher',
    'validFrom',
    'validTo',
    'pinValue',
  ] as const
  const read = readOptions(spec, what, names)
  const { kid, usage, mode: given, algorithm, kcv, hostDecipher = false } = read
  requireKid(kid)
  if (!isKeyUsage(usage)) throw new ArgumentError(`usage must be one of ${Object.keys(USAGES).join(', ')}`)
  if (algorithm !== undefined && !isKeyAlgorithm(algorithm)) {
    throw new ArgumentError('algorithm is not one this library knows')
  }
  const mode = readMode(usage, given)
  if (typeof hostDecipher !== 'boolean') throw new ArgumentError('hostDecipher must be a boolean')
  if (hostDecipher && mode === 'E' && USAGES[usage].purpose === 'pin-block')
    throw new ArgumentError('a key in mode E deciphers nothing: hostDecipher is no use')
  return {
    kid,
    usage,
    mode,
    algorithm,
    kcv: kcv === undefined ? undefined : snapshotCheckValue(kcv),
    hostDecipher,
    period: readPeriod(read),
    pinValue: readPinValueRule(usage, read.pinValue),
  }
}

/** The mode of a key of this usage, the usual one where none is given; `ERR_ARGUMENT` for one that the usage has not. */
export function readMode(usage: KeyUsage, mode: unknown): KeyMode {
  if (mode === undefined) return usualMode(usage)
  if (isKeyMode(mode) && USAGES[usage].modes.includes(mode)) return mode
  throw new ArgumentError(`mode of a ${usage} key must be one of ${USAGES[usage].modes.join(', ')}`)
}

export function requireLength(what: string, length: number, min: number, max: number): void {
  if (length < min || length > max) {
    throw new InputError('ERR_LENGTH', `${what}: ${length} bytes, expected ${min} to ${max}`)
  }
}

/** A copy of one or more blocks of the key's cipher, 65,536 bytes at most. */
export function readBlocks(blocks: Uint8Array, algorithm: KeyAlgorithm): Uint8Array {
  const copy = snapshot(blocks, 'blocks')
  requireBlockLength(copy.length, algorithm)
  return copy
}

/** {@link readBlocks}, but the blocks themselves where nothing about them can be other than it seems. */
export function readBlocksInPlace(blocks: Uint8Array, algorithm: KeyAlgorithm): Uint8Array {
  if (!isPlainBytes(blocks)) return readBlocks(blocks, algorithm)
  requireBlockLength(blocks.length, algorithm)
  return blocks
}

function requireBlockLength(length: number, algorithm: KeyAlgorithm): void {
  const blockBytes = blockBytesOf(algorithm)
  requireLength('blocks', length, blockBytes, MAX_INPUT_BYTES)
  if (length % blockBytes === 0) return
  throw new InputError('ERR_LENGTH', `blocks: ${length} bytes, expected a multiple of ${blockBytes}`)
}

/** A copy of a message of at most 65,536 bytes. */
export function readMessage(message: Uint8Array): Uint8Array {
  const copy = snapshot(message, 'message')
  requireLength('message', copy.length, 0, MAX_INPUT_BYTES)
  return copy
}

/** {@link readMessage}, but the message itself where nothing about it can be other than it seems. */
export function readMessageInPlace(message: Uint8Array): Uint8Array {
  if (!isPlainBytes(message)) return readMessage(message)
  requireLength('message', message.length, 0, MAX_INPUT_BYTES)
  return message
}

/** A verification between these two keys, its byte arrays copied. The rule has been read by whoever made it of a key's own. */
export function readVerification(
  first: KeyFacts,
  second: KeyFacts,
  request: PinVerification,
): PinVerification {
  const { format, rule } = request
  requirePinKey(first, format)
  if (rule.kind === 'block') requirePinKey(second, rule.format)
  else requireUse(second, rule.kind === 'pvv' ? 'pvv' : 'pin-offset', 'verify')
  const { bytes } = FORMATS[format]
  requireLength('block', request.block.length, bytes, bytes)
  const [least, most] = keptBytes(rule)
  requireLength('kept', request.kept.length, least, most)
  const pan = snapshot(request.pan, 'pan')
  return { block: snapshot(request.block, 'block'), pan, kept: snapshot(request.kept, 'kept'), format, rule }
}

/** How many bytes there are of what is kept: a block, four digits, as many as a PIN has. */
function keptBytes(rule: PinRule): readonly [least: number, most: number] {
  if (rule.kind === 'pvv') return [4, 4]
  if (rule.kind === 'offset') return [4, 12]
  const { bytes } = FORMATS[rule.format]
  return [bytes, bytes]
}

/** A key whose blocks may be opened here, and whose cipher is the format's, which is bound to the PAN. */
function requirePinKey(key: KeyFacts, format: SupportedFormat): void {
  requireUse(key, 'pin-block', 'decipher')
  requireFormat(format, 'format')
  const { algorithms, bound } = FORMATS[format]
  if (!bound) throw new ArgumentError('a PIN is verified in a format that is bound to the PAN')
  if (!algorithms.includes(key.algorithm))
    throw new KeyError(
      'ERR_KEY_ALGORITHM',
      `key ${key.kid} is ${key.algorithm}: not for format ${format}`,
      key.kid,
    )
  requireHostDecipher(key)
}

export function requireHostDecipher(key: KeyFacts): void {
  if (key.hostDecipher) return
  if (USAGES[key.usage].purpose === 'key-block') {
    throw new KeyError(
      'ERR_HOST_DECIPHER',
      `key ${key.kid}: its key blocks must not be sealed or opened in host memory. Bind the key with ` +
        'hostDecipher: true if your policy allows',
      key.kid,
    )
  }
  throw new KeyError(
    'ERR_HOST_DECIPHER',
    `key ${key.kid}: its blocks must not be deciphered in host memory. Re-encipher inside a token that can ` +
      '(reencipherPinBlock), or bind the key with hostDecipher: true if your policy allows',
    key.kid,
  )
}

const MAC_REQUEST = ['algorithm', 'padding', 'iv', 'derivation'] as const
const PLAIN_MAC: readonly string[] = ['algorithm', 'padding']

/** Each member read once; by names that are written out where there is neither IV nor derivation. */
function readMacParameters(request: MacRequest): MacRequest {
  if (!hasExactly(request, PLAIN_MAC)) return readOptions(request, 'mac', MAC_REQUEST)
  const { algorithm, padding } = request
  return { algorithm, padding, iv: undefined, derivation: undefined }
}

export function readMacRequest(key: KeyFacts, request: MacRequest): MacRequest {
  const { algorithm, padding, iv, derivation } = readMacParameters(request)
  const paddings = isEncipherment(algorithm) ? ENCIPHERMENT_PADDINGS : macPaddings(algorithm)
  if (!paddings.includes(padding)) {
    throw new ArgumentError(`padding for ${algorithm} must be one of ${paddings.join(', ')}`)
  }
  const allowed = isEncipherment(algorithm)
    ? ENCIPHERING.includes(key.usage)
    : USAGES[key.usage].macs.includes(algorithm) ||
      // Key block versions A and C: a CBC-MAC under a variant of the KBPK.
      (key.usage === 'key-block-protection' && algorithm === 'iso9797-1-alg1' && derivation !== undefined)
  if (!allowed) {
    throw refusedUse(key, algorithm)
  }
  if (algorithm.startsWith('iso9797') && !isTdea(key.algorithm)) {
    throw new KeyError('ERR_KEY_ALGORITHM', `key ${key.kid}: ${algorithm} takes a TDEA key`, key.kid)
  }
  if ((algorithm === 'hmac-sha256') !== (key.algorithm === 'hmac-sha256')) {
    const wanted = algorithm === 'hmac-sha256' ? 'an hmac-sha256 key' : 'the key of a cipher'
    throw new KeyError('ERR_KEY_ALGORITHM', `key ${key.kid}: ${algorithm} takes ${wanted}`, key.kid)
  }
  if (derivation !== undefined && key.algorithm === 'hmac-sha256') {
    throw new KeyError(
      'ERR_KEY_ALGORITHM',
      `key ${key.kid}: only the key of a cipher is derived from`,
      key.kid,
    )
  }
  const derived = derivation === undefined ? undefined : readDerivation(key, derivation)
  if (iv === undefined) return { algorithm, padding, iv, derivation: derived }
  if (algorithm === 'cmac' || algorithm === 'hmac-sha256') {
    throw new ArgumentError(`${algorithm === 'cmac' ? 'CMAC' : 'HMAC'} takes no iv`)
  }
  if (algorithm === 'encipher-ecb') throw new ArgumentError('ECB takes no iv')
  const first = snapshot(iv, 'iv')
  const block = macBytes(key.algorithm)
  requireLength('iv', first.length, block, block)
  return { algorithm, padding, iv: first, derivation: derived }
}

/** Bytes that `mac` gives for a message. */
export function macOutputBytes(
  key: KeyFacts,
  { algorithm, padding }: MacRequest,
  messageBytes: number,
): number {
  const block = macBytes(key.algorithm)
  if (!isEncipherment(algorithm)) return block
  const whole = Math.floor(messageBytes / block) * block
  if (padding === 2 || messageBytes === 0) return whole + block
  return whole === messageBytes ? whole : whole + block
}

const ENCIPHERMENT_PADDINGS: readonly MacPadding[] = [1, 2]
/** PRWs may be encipherments. A MAC key enciphers nothing: its MACs could be made out of that. */
const ENCIPHERING: readonly KeyUsage[] = ['prw-generate', 'prw-verify']

function macPaddings(algorithm: unknown): readonly MacPadding[] {
  if (typeof algorithm === 'string' && Object.hasOwn(MAC_PADDINGS, algorithm)) {
    return MAC_PADDINGS[algorithm as MacAlgorithm]
  }
  throw new ArgumentError(`MAC algorithm must be one of ${Object.keys(MAC_PADDINGS).join(', ')}`)
}

const MAX_DERIVATION_STEPS = 4
const DERIVATION_METHODS: readonly KeyDerivation['method'][] = ['encipher', 'xor', 'cmac-counter']

function readDerivation(key: KeyFacts, steps: readonly KeyDerivation[]): KeyDerivation[] {
  if (!Array.isArray(steps) || steps.length === 0 || steps.length > MAX_DERIVATION_STEPS) {
    throw new ArgumentError(`derivation must be a list of 1 to ${MAX_DERIVATION_STEPS} steps`)
  }
  return steps.map((step: KeyDerivation): KeyDerivation => {
    if (typeof step !== 'object' || step === null || !DERIVATION_METHODS.includes(step.method)) {
      throw new ArgumentError(`a derivation step must be one of ${DERIVATION_METHODS.join(', ')}`)
    }
    const data = snapshot(step.data, 'derivation data')
    const keyBytes = KEY_BYTES[key.algorithm]
    if (step.method === 'xor') {
      requireLength('derivation data', data.length, keyBytes, keyBytes)
      return { method: 'xor', data }
    }
    if (step.method === 'encipher') {
      const block = macBytes(key.algorithm)
      const bytes = Math.ceil(keyBytes / block) * block
      requireLength('derivation data', data.length, bytes, bytes)
      return { method: 'encipher', data }
    }
    if (![1, 2, 4].includes(step.counterBytes)) throw new ArgumentError('counterBytes must be 1, 2 or 4')
    requireLength('derivation data', data.length, 0, 4096)
    return { method: 'cmac-counter', counterBytes: step.counterBytes, data }
  })
}

/** A content that A256GCM may open under the key that is asked for: `ERR_LENGTH`, `ERR_ARGUMENT`. */
export function readSealedContent(
  { length }: ContentKeyRequest,
  content: SealedContent,
  inPlace: boolean,
): SealedContent {
  if (length !== CONTENT_KEY_BYTES)
    throw new ArgumentError(`A256GCM takes a key of ${CONTENT_KEY_BYTES} bytes`)
  const read = (name: keyof SealedContent, least: number, most: number): Uint8Array => {
    const given = Object.hasOwn(content, name) ? content[name] : undefined
    const bytes = inPlace && isPlainBytes(given) ? given : snapshot(given, name)
    requireLength(name, bytes.length, least, most)
    return bytes
  }
  return {
    aad: read('aad', 0, MAX_CONTENT_BYTES),
    iv: read('iv', IV_BYTES, IV_BYTES),
    ciphertext: read('ciphertext', 0, MAX_CONTENT_BYTES),
    tag: read('tag', TAG_BYTES, TAG_BYTES),
  }
}

const CONTENT_KEY = ['ephemeralPublicKey', 'otherInfo', 'length'] as const

export function readContentKeyRequest(request: ContentKeyRequest, inPlace: boolean): ContentKeyRequest {
  const given = hasExactly(request, CONTENT_KEY)
    ? request
    : readOptions(request, 'deriveContentKey', CONTENT_KEY)
  const { ephemeralPublicKey: point, otherInfo: info, length } = given
  const read = (bytes: Uint8Array, name: string): Uint8Array =>
    inPlace && isPlainBytes(bytes) ? bytes : snapshot(bytes, name)
  const ephemeralPublicKey = read(point, 'ephemeralPublicKey')
  const otherInfo = read(info, 'otherInfo')
  requireLength('otherInfo', otherInfo.length, 0, MAX_OTHER_INFO_BYTES)
  if (!DERIVED_BYTES.includes(length)) {
    throw new ArgumentError(`length must be one of ${DERIVED_BYTES.join(', ')}`)
  }
  if (!isP256Point(ephemeralPublicKey)) {
    throw new InputError('ERR_POINT', 'ephemeralPublicKey is not an uncompressed point on P-256')
  }
  return { ephemeralPublicKey, otherInfo, length }
}
