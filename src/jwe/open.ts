/** Opening: the recipient's side of ECDH-ES, with the private key wherever its backend keeps it. */

import type { MaybePromise } from '../backend/driver.js'
import { type Key, operationsOf, requireKeys } from '../backend/key.js'
import {
  type CallOptions,
  hasExactly,
  readOptions,
  requireSignal,
  throwIfAborted,
} from '../base/arguments.js'
import { ArgumentError, isIssuerPinError, JweError } from '../base/errors.js'
import { requireUse } from '../key/usage.js'
import { CONTENT_KEY_BYTES } from '../primitives/a256gcm.js'
import { parseCompact } from './compact.js'
import { contentKeyInfo, type JweHeader } from './header.js'

const NAMES = ['jwe', 'keys'] as const

/** What {@link openJwe} takes. */
export interface OpenRequest {
  /** The compact JWE. */
  readonly jwe: string
  /**
   * The `jwe-key-agreement` key, or several, of one or more backends, while keys are being rotated. The header's kid
   * picks one, by its exact text. A header without a kid is accepted where one key is given.
   */
  readonly keys: Key | readonly Key[]
}

/** What {@link openJwe} gives. */
export interface OpenedJwe {
  /** The content, in memory of its own, which the caller wipes. */
  readonly plaintext: Uint8Array
  /** The kid of the key that opened it. */
  readonly kid: string
  /** What else the header says. It has not been altered, but anybody who has the public key could have written it. */
  readonly header: JweHeader
}

/**
 * Opens a compact JWE (`ECDH-ES` direct, `A256GCM`, P-256) of at most 8192 characters, of which the protected header,
 * in base64url, has at most 2048.
 *
 * Everything that can be checked is checked before the key is used: form, lengths, canonical base64url, strict header
 * JSON, algorithms, and that the ephemeral key is on the curve. Whatever is wrong with the JWE, the kid that no key
 * has and the wrong tag included, is the one error `ERR_JWE` with one message: which check failed is an oracle.
 * The content key is wiped on every path.
 *
 * Errors: `ERR_JWE`; `ERR_ARGUMENT` and `ERR_KEY_USAGE` for a mistake of the calling program; what the backend raises
 * (`ERR_ABORTED`, `ERR_BACKEND_CLOSED`, …) under its own code. Source: RFC 7516, 5.2; RFC 7518, 4.6 and 5.3.
 *
 * @example
 * ```ts
 * const key = await backend.bind({ kid: 'ISSUER-2026', usage: 'jwe-key-agreement' })
 * const { plaintext } = await openJwe({ jwe: request.encryptedPinBlock, keys: key })
 * ```
 */
export function openJwe(request: OpenRequest, options?: CallOptions): Promise<OpenedJwe> {
  try {
    const opened = openChecked(requireRequest(request), options)
    return opened instanceof Promise ? opened : Promise.resolve(opened)
  } catch (error) {
    return Promise.reject(error)
  }
}

/**
 * {@link openJwe} on values that have been checked: a string, and keys that {@link requireOpeningKeys} has seen. In one go, from the
 * text to the content, where the key is one that answers at once: throws and gives what it gives there and then.
 */
export function openChecked(
  { jwe, keys }: { readonly jwe: string; readonly keys: readonly Key[] },
  options: CallOptions | undefined,
): MaybePromise<OpenedJwe> {
  throwIfAborted(requireSignal(options))
  const parsed = parseCompact(jwe)
  const key = parsed && selectKey(keys, parsed.header.kid)
  if (parsed === undefined || key === undefined) throw doesNotOpen()
  const { ephemeralPublicKey, header } = parsed
  const request = { ephemeralPublicKey, otherInfo: contentKeyInfo(header), length: CONTENT_KEY_BYTES }
  const opened = (plaintext: Uint8Array | undefined): OpenedJwe => {
    if (plaintext === undefined) throw doesNotOpen()
    return { plaintext, kid: key.kid, header }
  }
  try {
    const plaintext = operationsOf(key).openContent(request, parsed, options)
    if (plaintext instanceof Promise) return plaintext.then(opened).catch(refuse)
    return opened(plaintext)
  } catch (error) {
    return refuse(error)
  }
}

/** The point has passed our own checks; a backend that still finds fault with it must not become an oracle. */
function refuse(error: unknown): never {
  throw isIssuerPinError(error) && error.code === 'ERR_POINT' ? doesNotOpen() : error
}

/** The one error, made in one place: whatever is wrong with a JWE, it says the same. */
function doesNotOpen(): JweError {
  return new JweError('ERR_JWE', 'the JWE does not open')
}

function selectKey(keys: readonly Key[], kid: string | undefined): Key | undefined {
  return kid === undefined && keys.length === 1 ? keys[0] : keys.find(key => key.kid === kid)
}

function requireRequest(request: OpenRequest): { jwe: string; keys: readonly Key[] } {
  const { jwe, keys: given } = hasExactly(request, NAMES) ? request : readOptions(request, 'openJwe', NAMES)
  if (typeof jwe !== 'string') throw new ArgumentError('jwe must be a string')
  return { jwe, keys: requireOpeningKeys(given, 'keys') }
}

/** One key or several, as a list of keys that each may open a JWE. Errors: `ERR_ARGUMENT`, `ERR_KEY_USAGE`. */
export function requireOpeningKeys(given: Key | readonly Key[], name: string): readonly Key[] {
  const keys = requireKeys(given, name)
  for (const key of keys) requireUse(key, 'content-key', 'derive')
  return keys
}
