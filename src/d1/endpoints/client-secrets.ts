/**
 * Client authentication at the token endpoint: HTTP Basic (RFC 7617), as D1 and as OAuth libraries write it, and what
 * becomes of somebody who tries secrets.
 */

import { createHash } from 'node:crypto'
import { readOptions } from '../../base/arguments.js'
import { base64urlBytes, bufferOf, equalBytes, secretBytes, withWiped } from '../../base/bytes.js'
import { type Clock, delay } from '../../base/deadline.js'
import { DEFAULTS } from '../../base/defaults.js'
import { ArgumentError } from '../../base/errors.js'
import { Refusal } from './refusal.js'

/** A client of the token endpoint. Two with one id are a secret that is being replaced. */
export interface TokenClient {
  /** 1 to 255 characters, whatever they are but control characters. */
  readonly clientId: string
  /** 16 to 255 characters. */
  readonly clientSecret: string
}

/** A client whose id and secret are there as SHA-256 values only. */
export interface KnownClient {
  readonly clientId: string
  readonly idHash: Uint8Array
  readonly secretHash: Uint8Array
}

const MAX_HEADER = 4096
/** Either alphabet, padded or not: D1's text says base64url, its example is padded base64. */
const BASIC = /^basic +([A-Za-z0-9+/]+|[A-Za-z0-9_-]+)(={0,2})$/i
const CREDENTIAL = /^[^\p{Cc}\p{Cs}]{1,255}$/u
const MIN_SECRET = 16
const UTF_8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Id and secret of an Authorization header; undefined for whatever is not exactly that. */
export function readBasic(header: string | null): { id: string; secret: string } | undefined {
  if (header === null || header.length > MAX_HEADER) return undefined
  const [, text = '', padding = ''] = BASIC.exec(header) ?? []
  const whole = text.length + padding.length
  if (text === '' || text.length % 4 === 1 || (padding !== '' && whole % 4 !== 0)) return undefined
  try {
    // Buffer's base64 reads both alphabets.
    const bytes = secretBytes(base64urlBytes(text))
    bufferOf(bytes).write(text, 'base64')
    const pair = withWiped(bytes, whole => UTF_8.decode(whole))
    const colon = pair.indexOf(':')
    return colon < 0 ? undefined : { id: pair.slice(0, colon), secret: pair.slice(colon + 1) }
  } catch {
    return undefined
  }
}

/** Throws `ERR_ARGUMENT` unless each client has an id and a secret of a length that cannot be guessed. */
export function readClients(clients: readonly TokenClient[]): readonly KnownClient[] {
  if (!Array.isArray(clients) || clients.length === 0) {
    throw new ArgumentError('tokenEndpoint.clients must name at least one client')
  }
  return clients.map((client: TokenClient) => {
    const { clientId, clientSecret } = readOptions(client, 'a client', ['clientId', 'clientSecret'])
    for (const text of [clientId, clientSecret]) {
      if (typeof text === 'string' && CREDENTIAL.test(text)) continue
      throw new ArgumentError('clientId and clientSecret are 1 to 255 characters, no control characters')
    }
    if (clientSecret.length < MIN_SECRET) {
      throw new ArgumentError(`clientSecret must be at least ${MIN_SECRET} characters`)
    }
    return { clientId, idHash: sha256(clientId), secretHash: sha256(clientSecret) }
  })
}

/**
 * The id of the client that these credentials are of, as they are or form-encoded (RFC 6749, 2.3.1): of two client
 * libraries, one does it and one does not. Every client is compared, in full, by hashes of one length: the time it takes
 * tells neither which id is known nor how much of a secret is right.
 */
export function authenticate(clients: readonly KnownClient[], header: string | null): string | undefined {
  return clientOf(clients, readBasic(header))
}

/** {@link authenticate} for credentials that were read. */
export function clientOf(
  clients: readonly KnownClient[],
  given: ReturnType<typeof readBasic>,
): string | undefined {
  const forms = [identity, formDecoded].map(read => ({
    id: sha256(read(given?.id ?? '')),
    secret: sha256(read(given?.secret ?? '')),
  }))
  let found: string | undefined
  for (const client of clients) {
    for (const { id, secret } of forms) {
      const sameId = equalBytes(client.idHash, id)
      const sameSecret = equalBytes(client.secretHash, secret)
      if (sameId && sameSecret) found = client.clientId
    }
  }
  return found
}

const identity = (text: string): string => text

function formDecoded(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '))
  } catch {
    // Not encoded: the other reading is the one that counts.
    return text
  }
}

function sha256(text: string): Uint8Array {
  return createHash('sha256').update(text, 'utf8').digest()
}

/** So many wrong secrets in a row are answered, each later than the one before; after that, nothing is looked at. */
const MAX_WRONG = DEFAULTS.tokens.wrongSecrets.value
const FIRST_DELAY_MS = DEFAULTS.tokens.wrongSecretDelayMs.value
const FIRST_LOCK_MS = DEFAULTS.tokens.wrongSecretLockMs.value
const LONGEST_LOCK_MS = DEFAULTS.tokens.wrongSecretLongestLockMs.value
/** Sources that are remembered; the oldest gives way. */
const MAX_SOURCES = 10_000

/**
 * Slows down whoever tries secrets, by where the requests come from (certificate, else address): by the client's name
 * anybody could lock D1 out. A right secret ends it.
 */
export class WrongSecrets {
  readonly #clock: Clock
  readonly #sources = new Map<string, { count: number; lockedUntil: number }>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Refuses (`client-locked`) a source that has tried too much. */
  requireOpen(source: string): void {
    const lockedUntil = this.#sources.get(source)?.lockedUntil
    if (lockedUntil !== undefined && this.#clock.elapsed() < lockedUntil) throw new Refusal('client-locked')
  }

  /** Forgets what was wrong before. */
  right(source: string): void {
    this.#sources.delete(source)
  }

  /** Remembers a wrong secret, and resolves when it is time to answer, or when the signal fires. */
  wrong(source: string, signal: AbortSignal): Promise<void> {
    const count = (this.#sources.get(source)?.count ?? 0) + 1
    const lock = count < MAX_WRONG ? 0 : Math.min(LONGEST_LOCK_MS, FIRST_LOCK_MS * 2 ** (count - MAX_WRONG))
    this.#sources.delete(source)
    this.#sources.set(source, { count, lockedUntil: this.#clock.elapsed() + lock })
    for (const oldest of this.#sources.keys()) {
      if (this.#sources.size <= MAX_SOURCES) break
      this.#sources.delete(oldest)
    }
    return delay(this.#clock, FIRST_DELAY_MS * 2 ** (Math.min(count, MAX_WRONG) - 1), signal)
  }
}
