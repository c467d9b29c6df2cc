/**
 * The JWT with which an issuer asks D1 for a token (RFC 7523): three segments of base64url, signed with ES256 by a key in
 * host memory or in a backend.
 */

import { KeyObject, randomUUID } from 'node:crypto'
import { isKey, type Key, operationsOf, requireKey } from '../../backend/key.js'
import {
  type CallOptions,
  readOptions,
  readOwn,
  requireKid,
  requireSignal,
  throwIfAborted,
} from '../../base/arguments.js'
import { encodeBase64url, requireBytes, snapshot, utf8Bytes, wipe } from '../../base/bytes.js'
import { systemClock } from '../../base/deadline.js'
import { DEFAULTS } from '../../base/defaults.js'
import { ArgumentError, BackendError, KeyError } from '../../base/errors.js'
import { type JsonWebKeyLike, readMaterial } from '../../key/material.js'
import { requireUse } from '../../key/usage.js'
import { es256PrivateKey, signEs256 } from '../../primitives/p256.js'
import { requireText } from './environment.js'

/** What signs an assertion: a software key, or a key in a token. */
export interface AssertionSigner {
  /** By which D1 finds the public key; it goes into the header. */
  readonly kid: string
  /** ECDSA on P-256 with SHA-256 over the input: 64 bytes, r then s, 32 bytes each (RFC 7518, 3.4). No DER. */
  sign(signingInput: Uint8Array, options?: CallOptions): Promise<Uint8Array>
}

/** What {@link makeAssertion} takes. */
export interface AssertionRequest {
  readonly signer: AssertionSigner
  /** `iss` and `sub`: the issuerId, or an aggregator's aggregatorId. */
  readonly issuer: string
  /** `aud`; left out where absent, as D1 allows. */
  readonly audience?: string
  /** 1 to 900 seconds; 300 where absent. At 900, D1 refuses as soon as our clock is ahead of its own. */
  readonly lifetimeSeconds?: number
  /** Milliseconds since 1970; the platform's clock where absent. */
  readonly now?: number
}

const SIGNATURE_BYTES = 64
/** D1's rule: `exp` at most 15 minutes from now. */
const MAX_LIFETIME_SECONDS = 900

/**
 * A signed assertion: header `alg` ES256, `kid`, `typ` JWT; claims `iss`, `sub`, `iat`, `exp`, a random `jti`, and `aud`
 * where given. It is a credential until it expires: it goes to D1's token endpoint and nowhere else.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_BACKEND_FAILED` (the signer did not return 64 bytes), `ERR_ABORTED`, and what the signer
 * raises. Source: RFC 7523, 2.1 and 3; RFC 7515, 5.1; D1, Get OAuth 2.0 access token.
 *
 * @example
 * ```ts
 * const assertion = await makeAssertion({ signer, issuer: 'is_mybank1' })
 * ```
 */
export async function makeAssertion(request: AssertionRequest, options?: CallOptions): Promise<string> {
  const { signer, kid, issuer, audience, lifetimeSeconds, now } = readRequest(request)
  const signal = requireSignal(options)
  throwIfAborted(signal)
  const iat = Math.floor(now / 1000)
  const header = { alg: 'ES256', kid, typ: 'JWT' }
  const claims = {
    iss: issuer,
    sub: issuer,
    aud: audience,
    iat,
    exp: iat + lifetimeSeconds,
    jti: randomUUID(),
  }
  const signingInput = `${segment(header)}.${segment(claims)}`
  const input = utf8Bytes(signingInput)
  const signature = snapshot(await signer.sign(input, signal && { signal }), 'the signature')
  if (signature.length !== SIGNATURE_BYTES) {
    throw new BackendError(
      'ERR_BACKEND_FAILED',
      `the signer returned ${signature.length} bytes in place of 64: r then s, 32 bytes each, not DER`,
    )
  }
  return `${signingInput}.${encodeBase64url(signature)}`
}

/** Throws `ERR_ARGUMENT` unless the value has a kid and a `sign`. */
export function requireSigner(value: unknown): asserts value is AssertionSigner {
  if (typeof value !== 'object' || value === null || typeof Reflect.get(value, 'sign') !== 'function') {
    throw new ArgumentError('signer must be { kid, sign }: softwareSigner, or one of your own')
  }
  requireKid(Reflect.get(value, 'kid'))
}

/** Throws `ERR_ARGUMENT` unless the value is a lifetime that D1 accepts. */
export function requireLifetime(seconds: number): void {
  if (!Number.isInteger(seconds) || seconds < 1 || seconds > MAX_LIFETIME_SECONDS) {
    throw new ArgumentError(`lifetimeSeconds must be 1 to ${MAX_LIFETIME_SECONDS}`)
  }
}

function readRequest(request: AssertionRequest) {
  const names = ['signer', 'issuer', 'audience', 'lifetimeSeconds', 'now'] as const
  const given = readOptions(request, 'makeAssertion', names)
  const {
    signer,
    issuer,
    audience,
    lifetimeSeconds = DEFAULTS.client.assertionLifetimeSeconds.value,
    now = systemClock.now(),
  } = given
  requireSigner(signer)
  requireText('issuer', issuer)
  if (audience !== undefined) requireText('audience', audience)
  requireLifetime(lifetimeSeconds)
  if (!Number.isFinite(now)) throw new ArgumentError('now must be milliseconds since 1970')
  return { signer, kid: signer.kid, issuer, audience, lifetimeSeconds, now }
}

function segment(object: object): string {
  return encodeBase64url(utf8Bytes(JSON.stringify(object)))
}

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

/** Shows its kid; the key is in a private field and nowhere else. */
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
 * A signer whose private key is in host memory, for tests, development, and issuers whose policy allows it. Use a
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

const JWK_MEMBERS = ['kty', 'crv', 'x', 'y', 'd', 'use', 'alg', 'key_ops'] as const

function importJwk(kid: string, jwk: PrivateJwkLike): KeyObject {
  const { kty, crv, x, y, d, use, alg, key_ops: operations } = readOwn(jwk, 'privateKey', JWK_MEMBERS)
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

/** What {@link backendSigner} takes where D1 knows the key by another name. */
export interface BackendSignerOptions {
  /** A key bound for `jwt-signing`. */
  readonly key: Key
  /** By which D1 knows the public key; the key's own kid where absent. */
  readonly kid?: string
}

/**
 * A signer whose private key lives in a backend: with PKCS#11 it does not leave the token. What D1 registers is
 * `key.publicJwk` with the signer's kid.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_KEY_USAGE` (the key is for something else). Signing raises what the backend raises, such
 * as `ERR_UNSUPPORTED_BY_TOKEN` and `ERR_BACKEND_CLOSED`; the signer does not close the backend.
 * Source: RFC 7518, 3.4.
 *
 * @example
 * ```ts
 * const signer = backendSigner(await hsm.bind({ kid: 'ISSUER-SIGN-2026', usage: 'jwt-signing' }))
 * const d1 = d1Client({ environment, issuerId, signer, fetch })
 * ```
 */
export function backendSigner(key: Key | BackendSignerOptions): AssertionSigner {
  const { key: signing, kid } = isKey(key) ? { key, kid: key.kid } : readSigner(key)
  requireUse(signing, 'signature', 'sign')
  return Object.freeze({
    kid,
    sign: (signingInput: Uint8Array, options?: CallOptions) =>
      operationsOf(signing).sign(signingInput, options),
  })
}

function readSigner(options: BackendSignerOptions): Required<BackendSignerOptions> {
  const { key, kid } = readOptions(options, 'backendSigner', ['key', 'kid'])
  requireKey(key, 'key')
  if (kid === undefined) return { key, kid: key.kid }
  requireKid(kid)
  return { key, kid }
}
