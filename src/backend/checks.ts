/** The checks of the port's arguments, for the front and for the verbs above it. Each throws a coded error or nothing. */
import { requireOptions } from '../arguments.js'
import { requireBytes } from '../bytes.js'
import { AbortedError, ArgumentError, InputError, KeyError } from '../errors.js'
import { requireCheckValueShape } from '../key/check-value.js'
import type { Key } from '../key/key.js'
import { isP256Point } from '../key/p256.js'
import { isKeyAlgorithm, isKeyUsage, USAGES } from '../key/usage.js'
import { MAC_PADDINGS } from '../mac/algorithm.js'
import type { BindSpec, CallOptions, ContentKeyRequest, MacRequest } from './backend.js'

/** Longest input of one call: 8192 PIN blocks, and far more than any message that is MACed here. */
export const MAX_INPUT_BYTES = 65_536
const TDEA_BLOCK_BYTES = 8
const MAX_KID_CHARACTERS = 128
const MAX_OTHER_INFO_BYTES = 1024
const CONTENT_KEY_BYTES: readonly number[] = [16, 24, 32, 64]

export function requireSpec(spec: BindSpec): BindSpec {
  requireOptions(spec, 'bind', ['kid', 'usage', 'algorithm', 'kcv', 'hostDecipher'])
  requireKid(spec.kid)
  if (!isKeyUsage(spec.usage))
    throw new ArgumentError(`usage must be one of ${Object.keys(USAGES).join(', ')}`)
  if (spec.algorithm !== undefined && !isKeyAlgorithm(spec.algorithm)) {
    throw new ArgumentError('algorithm is not one this library knows')
  }
  if (spec.kcv !== undefined) requireCheckValueShape(spec.kcv)
  if (spec.hostDecipher !== undefined && typeof spec.hostDecipher !== 'boolean') {
    throw new ArgumentError('hostDecipher must be a boolean')
  }
  return spec
}

/** True for a kid: 1 to 128 characters of well-formed Unicode, none of them a control character. */
export function isKid(kid: unknown): kid is string {
  return (
    typeof kid === 'string' &&
    kid.length >= 1 &&
    kid.length <= MAX_KID_CHARACTERS &&
    !/[\p{Cc}\p{Cs}]/u.test(kid)
  )
}

/** Throws `ERR_ARGUMENT` unless the value is a kid. */
export function requireKid(kid: unknown): asserts kid is string {
  if (!isKid(kid)) throw new ArgumentError('kid must be 1 to 128 characters without control characters')
}

/** The signal of a call's options, or `ERR_ARGUMENT` where the options are not what they should be. */
export function requireSignal(options: CallOptions | undefined): AbortSignal | undefined {
  if (options === undefined) return undefined
  if (typeof options !== 'object') throw new ArgumentError('options must be an object')
  const signal: unknown = options?.signal
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new ArgumentError('options.signal must be an AbortSignal')
  }
  return signal
}

/** Throws `ERR_ABORTED` once the signal has fired. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw new AbortedError(signal.reason)
}

export function requireLength(what: string, length: number, min: number, max: number): void {
  if (length < min || length > max) {
    throw new InputError('ERR_LENGTH', `${what}: ${length} bytes, expected ${min} to ${max}`)
  }
}

export function requireBlocks(blocks: Uint8Array): void {
  requireBytes(blocks, 'blocks')
  requireLength('blocks', blocks.length, TDEA_BLOCK_BYTES, MAX_INPUT_BYTES)
  if (blocks.length % TDEA_BLOCK_BYTES !== 0) {
    throw new InputError('ERR_LENGTH', `blocks: ${blocks.length} bytes, expected a multiple of 8`)
  }
}

export function requireHostDecipher(key: Key): void {
  if (key.hostDecipher) return
  throw new KeyError(
    'ERR_HOST_DECIPHER',
    `key ${key.kid}: deciphering in host memory is not allowed; bind it with hostDecipher: true if it should be`,
    key.kid,
  )
}

export function requireMacRequest(key: Key, request: MacRequest): void {
  if (typeof request !== 'object' || request === null)
    throw new ArgumentError('mac takes { algorithm, padding }')
  const { algorithm, padding, iv } = request
  if (typeof algorithm !== 'string' || !Object.hasOwn(MAC_PADDINGS, algorithm)) {
    throw new ArgumentError(`MAC algorithm must be one of ${Object.keys(MAC_PADDINGS).join(', ')}`)
  }
  if (!MAC_PADDINGS[algorithm].includes(padding)) {
    throw new ArgumentError(`padding for ${algorithm} must be one of ${MAC_PADDINGS[algorithm].join(', ')}`)
  }
  if (!USAGES[key.usage].macs.includes(algorithm)) {
    throw new KeyError(
      'ERR_KEY_USAGE',
      `key ${key.kid} is for ${key.usage}: ${algorithm} is refused`,
      key.kid,
    )
  }
  if (algorithm !== 'cmac' && !key.algorithm.startsWith('tdea')) {
    throw new KeyError('ERR_KEY_ALGORITHM', `key ${key.kid}: ${algorithm} takes a TDEA key`, key.kid)
  }
  if (iv === undefined) return
  requireBytes(iv, 'iv')
  if (algorithm === 'cmac') throw new ArgumentError('CMAC takes no iv')
  requireLength('iv', iv.length, TDEA_BLOCK_BYTES, TDEA_BLOCK_BYTES)
}

export function requireContentKeyRequest(request: ContentKeyRequest): void {
  if (typeof request !== 'object' || request === null) {
    throw new ArgumentError('deriveContentKey takes { ephemeralPublicKey, otherInfo, length }')
  }
  requireBytes(request.ephemeralPublicKey, 'ephemeralPublicKey')
  requireBytes(request.otherInfo, 'otherInfo')
  requireLength('otherInfo', request.otherInfo.length, 0, MAX_OTHER_INFO_BYTES)
  if (!CONTENT_KEY_BYTES.includes(request.length)) {
    throw new ArgumentError(`length must be one of ${CONTENT_KEY_BYTES.join(', ')}`)
  }
  if (!isP256Point(request.ephemeralPublicKey)) {
    throw new InputError('ERR_POINT', 'ephemeralPublicKey is not an uncompressed point on P-256')
  }
}
