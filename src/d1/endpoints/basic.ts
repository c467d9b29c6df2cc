/** Client authentication at the token endpoint: HTTP Basic (RFC 7617), as D1 writes it. */
import { createHash } from 'node:crypto'
import { equalBytes } from '../../base/bytes.js'
import { ArgumentError } from '../../base/errors.js'

/** A client of the token endpoint. Two with one id are a secret that is being replaced. */
export interface TokenClient {
  readonly clientId: string
  /** At least 16 characters. */
  readonly clientSecret: string
}

/** A client whose id and secret are there as SHA-256 values only. */
export interface KnownClient {
  readonly clientId: string
  readonly idHash: Uint8Array
  readonly secretHash: Uint8Array
}

const MAX_HEADER = 1024
/** Either alphabet, padded or not: D1's text says base64url, its example is padded base64. */
const BASIC = /^basic +([A-Za-z0-9+/]+|[A-Za-z0-9_-]+)(={0,2})$/i
/** What form encoding (RFC 6749, 2.3.1) leaves as it is, so that it does not matter whether D1 applies it. */
const CREDENTIAL = /^[A-Za-z0-9._-]+$/
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
    const pair = UTF_8.decode(Buffer.from(text, 'base64'))
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
  return clients.map(({ clientId, clientSecret }: TokenClient) => {
    for (const text of [clientId, clientSecret]) {
      if (typeof text === 'string' && CREDENTIAL.test(text)) continue
      throw new ArgumentError('clientId and clientSecret are made of A-Z a-z 0-9 . _ -')
    }
    if (clientSecret.length < MIN_SECRET) {
      throw new ArgumentError(`clientSecret must be at least ${MIN_SECRET} characters`)
    }
    return { clientId, idHash: sha256(clientId), secretHash: sha256(clientSecret) }
  })
}

/**
 * The id of the client that these credentials are of. Every client is compared, in full, by hashes of one length: the
 * time it takes tells neither which id is known nor how much of a secret is right.
 */
export function authenticate(clients: readonly KnownClient[], header: string | null): string | undefined {
  const given = readBasic(header)
  const idHash = sha256(given?.id ?? '')
  const secretHash = sha256(given?.secret ?? '')
  let found: string | undefined
  for (const client of clients) {
    const sameId = equalBytes(client.idHash, idHash)
    const sameSecret = equalBytes(client.secretHash, secretHash)
    if (sameId && sameSecret) found = client.clientId
  }
  return found
}

function sha256(text: string): Uint8Array {
  return createHash('sha256').update(text, 'utf8').digest()
}
