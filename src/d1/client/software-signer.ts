import { KeyObject } from 'node:crypto'
import {
  type CallOptions,
  readOptions,
  requireKid,
  requireSignal,
  throwIfAborted,
} from '../../base/arguments.js'
import { requireBytes, wipe } from '../../base/bytes.js'
import { ArgumentError, KeyError } from '../../base/errors.js'
import { type JsonWebKeyLike, readMaterial } from '../../key/material.js'
import { es256PrivateKey, signEs256 } from '../../primitives/es256.js'
import type { AssertionSigner } from './assertion.js'

/** A private JWK; `use`, `alg` and `key_ops` must admit signing with ES256 where they are present. */
export interface PrivateJwkLike extends JsonWebKeyLike {
  readonly use?: string
  readonly alg?: string
  readonly key_ops?: readonly string[]
}

/** What {@link softwareSigner} takes. */
export interface SoftwareSignerOptions {
  /** By which D1 knows the public key. */
  readonly kid: string
  /** A private P-256 key: a `KeyObject` (`createPrivateKey(pem)`), or a JWK. */
  readonly privateKey: KeyObject | PrivateJwkLike
}

/** Shows its kid; the key stands in a private field and nowhere else. */
class SoftwareSigner implements AssertionSigner {
  readonly kid: string
  readonly #key: KeyObject

  constructor(kid: string, key: KeyObject) {
    this.kid = kid
    this.#key = key
    Object.freeze(this)
  }

  async sign(signingInput: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    requireBytes(signingInput, 'signingInput')
    throwIfAborted(requireSignal(options))
    return signEs256(this.#key, signingInput)
  }
}

/**
 * A signer whose private key stands in host memory, for tests, development, and issuers whose policy allows it. Use a
 * key that does nothing else: not the one that opens JWEs.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_KEY_MATERIAL` (public, of another type or curve, halves that do not belong together, or
 * for another use). Source: RFC 7518, 3.4.
 *
 * @example
 * ```ts
 * const signer = softwareSigner({ kid: 'ISSUER-SIGN-2026', privateKey: createPrivateKey(pem) })
 * ```
 */
export function softwareSigner(options: SoftwareSignerOptions): AssertionSigner {
  const { kid, privateKey } = readOptions(options, 'softwareSigner', ['kid', 'privateKey'])
  requireKid(kid)
  if (privateKey instanceof KeyObject) return new SoftwareSigner(kid, requireP256(kid, privateKey))
  if (typeof privateKey === 'object' && privateKey !== null) {
    return new SoftwareSigner(kid, importJwk(kid, privateKey))
  }
  throw new ArgumentError('privateKey must be a KeyObject or a private JWK')
}

function requireP256(kid: string, key: KeyObject): KeyObject {
  if (key.type === 'private' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1') return key
  throw unfit(kid, 'the KeyObject is not a private P-256 key')
}

function importJwk(kid: string, jwk: PrivateJwkLike): KeyObject {
  const { kty, crv, x, y, d, use, alg, key_ops: operations } = jwk
  const signs = operations === undefined || (Array.isArray(operations) && operations.includes('sign'))
  if ((use ?? 'sig') !== 'sig' || (alg ?? 'ES256') !== 'ES256' || !signs) {
    throw unfit(kid, 'the JWK is for another use than ES256 signatures')
  }
  // OpenSSL would take halves that do not belong together; D1 would then refuse every assertion.
  const checked = Object.fromEntries(
    Object.entries({ kty, crv, x, y, d }).filter(([, value]) => value !== undefined),
  )
  const scalar = readMaterial(kid, checked, 'ec-p256')
  try {
    return es256PrivateKey(scalar)
  } finally {
    wipe(scalar)
  }
}

function unfit(kid: string, reason: string): KeyError {
  return new KeyError('ERR_KEY_MATERIAL', `key ${kid}: ${reason}`, kid)
}
