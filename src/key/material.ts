/** Reads clear key material into bytes of our own and checks it against the algorithm it is declared to be. */
import { createECDH, type ECDH, KeyObject } from 'node:crypto'
import { types } from 'node:util'
import {
  clearRegisters,
  decodeBase64url,
  equalBytes,
  fromHex,
  ownCopy,
  snapshot,
  wipe,
  withWiped,
} from '../base/bytes.js'
import { ArgumentError, KeyError } from '../base/errors.js'
import { isTdea, KEY_BYTES, type KeyAlgorithm } from '../primitives/algorithms.js'
import { pointOfJwk, scalarOfDer } from '../primitives/p256.js'
import { requireStrongTdea } from '../primitives/tdea.js'

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

/** Longest text of a key: hex of 32 bytes. */
const MAX_TEXT = 64
/** A private scalar that is no secret, to put in the place of one that is. */
const ONE: Uint8Array = fromHex('01'.padStart(64, '0'), 'one')

/**
 * The bytes of the material: for `ec-p256` the 32-byte private scalar. They are a copy, which the caller wipes.
 * Errors: `ERR_ARGUMENT` (no form of key material), `ERR_KEY_MATERIAL` (does not fit the algorithm).
 */
export function readMaterial(kid: string, material: KeyMaterial, algorithm: KeyAlgorithm): Uint8Array {
  const bytes = bytesOf(kid, material, algorithm)
  try {
    if (bytes.length !== KEY_BYTES[algorithm]) {
      throw unfit(kid, `${algorithm} takes ${KEY_BYTES[algorithm]} bytes`)
    }
    if (algorithm === 'ec-p256') requirePublicHalf(kid, bytes, material)
    return bytes
  } catch (error) {
    wipe(bytes)
    throw error
  }
}

function bytesOf(kid: string, material: KeyMaterial, algorithm: KeyAlgorithm): Uint8Array {
  if (types.isUint8Array(material)) return snapshot(material, 'material')
  if (typeof material === 'string') return hexBytes(kid, material)
  if (material instanceof KeyObject && material.type === 'secret')
    return bytesOfSecretKey(kid, material, algorithm)
  if (material instanceof KeyObject) return bytesOfPrivateKey(kid, material, algorithm)
  if (typeof material === 'object' && material !== null) return bytesOfJwk(kid, material, algorithm)
  throw new ArgumentError(`key ${kid}: material must be bytes, hex, a JWK or a KeyObject`)
}

function hexBytes(kid: string, hex: string): Uint8Array {
  try {
    if (hex.length <= MAX_TEXT) return fromHex(hex, 'material')
  } catch {
    // The reason is given below, without a word of the text.
  }
  throw unfit(kid, 'the material is not hex of a key')
}

function bytesOfSecretKey(kid: string, key: KeyObject, algorithm: KeyAlgorithm): Uint8Array {
  if (algorithm === 'ec-p256') throw unfit(kid, 'a secret KeyObject is no P-256 key')
  return withWiped(key.export(), exported => {
    clearRegisters()
    return ownCopy(exported)
  })
}

/**
 * By DER. A JWK would have the scalar as text on V8's heap; and Node (20.20) holds the key's lock while it makes the JWK's members:
 * where the collector then finds the job that generated the key, which takes the same lock, the process stands still for ever.
 */
function bytesOfPrivateKey(kid: string, key: KeyObject, algorithm: KeyAlgorithm): Uint8Array {
  if (key.type === 'public') throw unfit(kid, 'a public key is no key material')
  if (algorithm !== 'ec-p256') throw unfit(kid, 'a private KeyObject is no secret key')
  const der = exportDer(key)
  const scalar = der === undefined ? undefined : withWiped(der, scalarOfDer)
  if (scalar === undefined) throw unfit(kid, 'the KeyObject is of another type')
  return scalar
}

/** Undefined for a key of no curve: Node throws then. */
function exportDer(key: KeyObject): Uint8Array | undefined {
  try {
    return key.export({ format: 'der', type: 'sec1' })
  } catch {
    return undefined
  } finally {
    clearRegisters()
  }
}

function bytesOfJwk(kid: string, jwk: JsonWebKeyLike, algorithm: KeyAlgorithm): Uint8Array {
  const [kty, member] = algorithm === 'ec-p256' ? ['EC', 'd'] : ['oct', 'k']
  const text = readMember(jwk, member)
  if (readMember(jwk, 'kty') !== kty) throw unfit(kid, `the JWK is not of type ${kty}`)
  const bytes = typeof text === 'string' && text.length <= MAX_TEXT ? decodeBase64url(text) : undefined
  if (bytes === undefined) throw unfit(kid, 'the JWK holds no private or secret value')
  return bytes
}

function readMember(jwk: object, name: string): unknown {
  return Object.hasOwn(jwk, name) ? Reflect.get(jwk, name) : undefined
}

/** The scalar must be one; and where the material states the public half, the two must belong together. */
function requirePublicHalf(kid: string, scalar: Uint8Array, material: KeyMaterial): void {
  const point = publicPoint(kid, scalar)
  if (typeof material === 'string' || types.isUint8Array(material) || material instanceof KeyObject) return
  const stated = pointOfJwk(material)
  if (stated === undefined) throw unfit(kid, 'the JWK is not a P-256 key')
  if (!equalBytes(stated, point))
    throw unfit(kid, 'the private and the public half of the JWK do not belong together')
}

/** The 65-byte public point of a private scalar; `ERR_KEY_MATERIAL` for a scalar outside 1 to n − 1. */
export function publicPoint(kid: string, scalar: Uint8Array): Uint8Array {
  const ecdh = createECDH('prime256v1')
  try {
    ecdh.setPrivateKey(scalar)
    return ownCopy(ecdh.getPublicKey())
  } catch {
    throw unfit(kid, 'the private value is not a P-256 scalar')
  } finally {
    forgetScalar(ecdh)
  }
}

/** Puts another scalar in the place of a secret one, which OpenSSL then cleanses: ECDH objects cannot be closed. */
export function forgetScalar(ecdh: ECDH): void {
  ecdh.setPrivateKey(ONE)
}

/** Refuses what must not be bound although it has the right length: `ERR_KEY_WEAK` for TDEA. */
export function requireSoundMaterial(kid: string, bytes: Uint8Array, algorithm: KeyAlgorithm): void {
  if (isTdea(algorithm)) requireStrongTdea(kid, bytes)
}

function unfit(kid: string, reason: string): KeyError {
  return new KeyError('ERR_KEY_MATERIAL', `key ${kid}: ${reason}`, kid)
}
