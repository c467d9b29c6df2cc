/**
 * D1's public keys as a list that may change: out of a file, by a function, or as a JWK set over https. Kept for a while,
 * fetched anew without a restart, one fetch at a time; where a fetch fails, the last good key serves on, for so long.
 */
import { open } from 'node:fs/promises'
import { readOptions, requireMethods } from '../../base/arguments.js'
import { type Clock, systemClock } from '../../base/deadline.js'
import { DEFAULTS } from '../../base/defaults.js'
import { ArgumentError, BackendError, isIssuerPinError } from '../../base/errors.js'
import { isJsonObject, parseJsonObject } from '../../base/json.js'
import { importRecipient, type P256Recipient } from '../../jwe/recipient.js'

/** A list of JWKs, or a JWK set. */
export type D1KeyList = { readonly keys: readonly object[] } | readonly object[]

/** Options of {@link d1PublicKeys}. */
export interface D1PublicKeysOptions {
  /** An https URL of a JWK set; the path of a file with one; or a function that gives the list. */
  readonly from:
    | URL
    | string
    | ((options: { readonly signal: AbortSignal }) => D1KeyList | Promise<D1KeyList>)
  /** The key to seal to, by its kid; the first usable one of the list where absent. */
  readonly kid?: string
  /** How long a list is new: 300,000 ms where absent. An older one is used while a newer one is fetched. */
  readonly refreshMs?: number
  /** How long, beyond that, the last good list is used where none can be had: 86,400,000 ms where absent. */
  readonly staleMs?: number
  /** How long a fetch may take: 5000 ms where absent. */
  readonly timeoutMs?: number
  /** The platform's where absent. */
  readonly fetch?: typeof globalThis.fetch
  readonly clock?: Clock
}

const NAMES = ['from', 'kid', 'refreshMs', 'staleMs', 'timeoutMs', 'fetch', 'clock'] as const
const MAX_BYTES = 65_536
const MAX_KEYS = 64
const FIRST_BACK_OFF_MS = DEFAULTS.d1Keys.firstBackoffMs.value
const LONGEST_BACK_OFF_MS = DEFAULTS.d1Keys.longestBackoffMs.value

interface Held {
  readonly recipient: P256Recipient
  readonly at: number
}

/**
 * Makes the `d1PublicJwk` of `iso0` out of a list that may change: of its P-256 keys with a kid the one that `kid` names, or
 * the first. `readinessChecks` asks for it as `d1-key`.
 *
 * Errors: `ERR_ARGUMENT` when it is made. When it is asked: `ERR_BACKEND_BUSY` (no list to be had, and none that is not too
 * old), `ERR_JWE_RECIPIENT` (a list without a key that is meant): Get PIN is then 500.
 * Source: RFC 7517, 5 (JWK sets).
 *
 * @example
 * ```ts
 * const d1PublicJwk = d1PublicKeys({ from: new URL('https://d1.example/jwks.json'), kid: 'D1-2026' })
 * ```
 */
export function d1PublicKeys(options: D1PublicKeysOptions): () => Promise<P256Recipient> {
  const {
    from: given,
    kid,
    fetch = globalThis.fetch,
    clock = systemClock,
    ...more
  } = readOptions(options, 'd1PublicKeys', NAMES)
  const {
    refreshMs = DEFAULTS.d1Keys.refreshMs.value,
    staleMs = DEFAULTS.d1Keys.staleMs.value,
    timeoutMs = DEFAULTS.d1Keys.timeoutMs.value,
  } = more
  // A URL can be changed by whoever gave it.
  const from = given instanceof URL ? new URL(given) : given
  const isText = typeof from === 'string' && from !== ''
  if (!(isText || typeof from === 'function' || (from instanceof URL && from.protocol === 'https:'))) {
    throw new ArgumentError('from must be an https URL, the path of a file, or a function')
  }
  if (kid !== undefined && (typeof kid !== 'string' || kid === ''))
    throw new ArgumentError('kid must be a text')
  if (typeof fetch !== 'function') throw new ArgumentError('fetch must be a function')
  requireMethods(clock, 'clock', ['now', 'elapsed', 'after'])
  for (const [name, ms] of Object.entries({ refreshMs, staleMs, timeoutMs })) {
    if (!Number.isSafeInteger(ms) || ms < 1) throw new ArgumentError(`${name} must be a whole number from 1`)
  }
  const load = async (): Promise<unknown> => {
    const signal = AbortSignal.timeout(timeoutMs)
    if (typeof from === 'function') return from({ signal })
    return parseJsonObject(
      typeof from === 'string' ? await readText(from) : await fetchText(from, fetch, signal),
    )
  }
  let held: Held | undefined
  let running: Promise<P256Recipient> | undefined
  let [failures, notBefore] = [0, 0]

  async function renew(): Promise<P256Recipient> {
    try {
      const recipient = chosen(await load(), kid)
      held = { recipient, at: clock.elapsed() }
      failures = 0
      return recipient
    } catch (error) {
      notBefore = clock.elapsed() + Math.min(LONGEST_BACK_OFF_MS, FIRST_BACK_OFF_MS * 2 ** failures)
      failures++
      // What a loader throws may say anything: the operator finds it as the cause.
      throw isIssuerPinError(error) ? error : away(error)
    }
  }

  function renewed(): Promise<P256Recipient> {
    if (running === undefined && failures > 0 && clock.elapsed() < notBefore) return Promise.reject(away())
    running ??= renew().finally(() => {
      running = undefined
    })
    return running
  }

  return async () => {
    const age = held === undefined ? Number.POSITIVE_INFINITY : clock.elapsed() - held.at
    if (held === undefined || age >= refreshMs + staleMs) return renewed()
    if (age >= refreshMs) renewed().catch(() => {})
    return held.recipient
  }
}

function away(cause?: unknown): BackendError {
  return new BackendError('ERR_BACKEND_BUSY', 'D1’s public keys are out of reach', { retryable: true, cause })
}

/** The key that is meant; `ERR_JWE_RECIPIENT` where there is none. */
function chosen(list: unknown, kid: string | undefined): P256Recipient {
  const keys: unknown = isJsonObject(list) ? list['keys'] : list
  const jwks = Array.isArray(keys) && keys.length <= MAX_KEYS ? keys.filter(isJsonObject) : []
  const usable = jwks.filter(
    jwk =>
      jwk['kty'] === 'EC' &&
      jwk['crv'] === 'P-256' &&
      typeof jwk['kid'] === 'string' &&
      (jwk['use'] ?? 'enc') === 'enc' &&
      (kid === undefined || jwk['kid'] === kid),
  )
  // Without one, what `importRecipient` says of nothing at all is said.
  return importRecipient((usable[0] ?? {}) as never)
}

async function readText(path: string): Promise<string> {
  await using file = await open(path, 'r')
  const { size } = await file.stat()
  if (size > MAX_BYTES) throw unfit()
  return file.readFile('utf8')
}

async function fetchText(url: URL, fetch: typeof globalThis.fetch, signal: AbortSignal): Promise<string> {
  const headers = { accept: 'application/jwk-set+json, application/json' }
  // A redirect would be somewhere that nobody configured.
  const response = await fetch(url.href, { method: 'GET', headers, redirect: 'manual', signal })
  const text = response.status === 200 ? await response.text() : ''
  if (text === '' || text.length > MAX_BYTES) throw unfit()
  return text
}

function unfit(): BackendError {
  return new BackendError('ERR_BACKEND_FAILED', 'what was to hold D1’s public keys is no list of them')
}
