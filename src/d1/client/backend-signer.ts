import { isKey, type Key, operationsOf, requireKey } from '../../backend/key.js'
import { type CallOptions, readOptions, requireKid } from '../../base/arguments.js'
import { KeyError } from '../../base/errors.js'
import type { AssertionSigner } from './assertion.js'

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
  if (signing.usage !== 'jwt-signing') {
    throw new KeyError(
      'ERR_KEY_USAGE',
      `key ${signing.kid} is for ${signing.usage}: signing is refused`,
      signing.kid,
    )
  }
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
