/** Reads clear key material into bytes of our own and checks it against the algorithm it is declared to be. */
import { createECDH, KeyObject } from 'node:crypto'
import { equalBytes, fromHex, ownCopy, wipe } from '../bytes.js'
import { ArgumentError, KeyError } from '../errors.js'
import { pointOfJwk } from './p256.js'
import { requireStrongTdea } from './tdea.js'
import { isTdea, KEY_BYTES, type KeyAlgorithm } from './usage.js'

/** Clear key material: raw bytes, hex, a JWK (`oct`, or a private `EC` key), or a `KeyObject` (secret or private). */
export type KeyMaterial = Uint8Array | string | JsonWebKeyLike | KeyObject

/** The members of a JWK that are read; others are ignored. */
export interface JsonWebKeyLike {
  readonly kty?: string
  readonly k?: string
  readonly crv?: string
  readonly x?: string
  readonly y?: string
  readonly d?: string
}

/** Canonical unpadded base64url of 16 to 32 bytes, the sizes of a key. */
const BASE64URL = /^[A-Za-z0-9_-]{22,43}$/

/**
 * The bytes of the material: for `ec-p256` the 32-byte private scalar. They are a copy, which the caller wipes.
 * Errors: `ERR_ARGUMENT` (no form of key material), `ERR_KEY_MATERIAL` (does not fit the algorithm).
 */
export function readMaterial(kid: string, material: KeyMaterial, algorithm: KeyAlgorithm): Uint8Array {
  const bytes = bytesOf(kid, material, algorithm)
  if (bytes.length !== KEY_BYTES[algorithm]) {
    wipe(bytes)
    throw new KeyError(
      'ERR_KEY_MATERIAL',
      `key ${kid}: ${algorithm} takes ${KEY_BYTES[algorithm]} bytes`,
      kid,
    )
  }
  if (algorithm === 'ec-p256') publicPoint(kid, bytes)
  return bytes
}

function bytesOf(kid: string, material: KeyMaterial, algorithm: KeyAlgorithm): Uint8Array {
  if (material instanceof Uint8Array) return ownCopy(material)
  if (typeof material === 'string') return hexBytes(kid, material)
  if (material instanceof KeyObject) return bytesOfJwk(kid, exportJwk(kid, material), algorithm)
  if (typeof material === 'object' && material !== null) return bytesOfJwk(kid, material, algorithm)
  throw new ArgumentError(`key ${kid}: material must be bytes, hex, a JWK or a KeyObject`)
}

function hexBytes(kid: string, hex: string): Uint8Array {
  try {
    return fromHex(hex, 'material')
  } catch {
    throw unfit(kid, 'the material is not hex')
  }
}

function exportJwk(kid: string, key: KeyObject): JsonWebKeyLike {
  if (key.type === 'public') throw unfit(kid, 'a public key is no key material')
  try {
    return key.export({ format: 'jwk' })
  } catch {
    // An asymmetric key of a type that has no JWK.
    throw unfit(kid, 'the KeyObject is of another type')
  }
}

function bytesOfJwk(kid: string, jwk: JsonWebKeyLike, algorithm: KeyAlgorithm): Uint8Array {
  if (algorithm !== 'ec-p256') {
    if (jwk.kty !== 'oct') throw unfit(kid, 'the JWK is not an oct key')
    return base64urlBytes(kid, jwk.k)
  }
  const point = pointOfJwk(jwk)
  if (point === undefined) throw unfit(kid, 'the JWK is not a P-256 key')
  const scalar = base64urlBytes(kid, jwk.d)
  const matches = scalar.length === KEY_BYTES[algorithm] && equalBytes(publicPoint(kid, scalar), point)
  if (matches) return scalar
  wipe(scalar)
  throw unfit(kid, 'the private and the public half of the JWK do not belong together')
}

function base64urlBytes(kid: string, text: unknown): Uint8Array {
  if (typeof text !== 'string' || !BASE64URL.test(text))
    throw unfit(kid, 'the JWK holds no private or secret value')
  const decoded = Buffer.from(text, 'base64url')
  const bytes = ownCopy(decoded)
  wipe(decoded)
  return bytes
}

/** The 65-byte public point of a private scalar; `ERR_KEY_MATERIAL` for a scalar outside 1 to n − 1. */
export function publicPoint(kid: string, scalar: Uint8Array): Uint8Array {
  const ecdh = createECDH('prime256v1')
  try {
    ecdh.setPrivateKey(scalar)
    return ownCopy(ecdh.getPublicKey())
  } catch {
    throw unfit(kid, 'the private value is not a P-256 scalar')
  }
}

/** Refuses what must not be bound although it has the right length: `ERR_KEY_WEAK` for TDEA. */
export function requireSoundMaterial(kid: string, bytes: Uint8Array, algorithm: KeyAlgorithm): void {
  if (isTdea(algorithm)) requireStrongTdea(kid, bytes)
}

function unfit(kid: string, reason: string): KeyError {
  return new KeyError('ERR_KEY_MATERIAL', `key ${kid}: ${reason}`, kid)
}
