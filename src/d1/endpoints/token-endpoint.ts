/**
 * The token endpoint, POST /oauth2/token: the client credentials grant (RFC 6749, 4.4), as D1's OAuth API 1.0 has it.
 * Clients authenticate with HTTP Basic (RFC 7617), as D1 and as OAuth libraries write it; whoever tries secrets is answered
 * later each time, and then not at all.
 */

import { createHash } from 'node:crypto'
import { readOptions, requireMethods } from '../../base/arguments.js'
import { base64urlBytes, equalBytes, secretBytes, withWiped, writeText } from '../../base/bytes.js'
import { type Clock, delay } from '../../base/deadline.js'
import { DEFAULTS } from '../../base/defaults.js'
import { ArgumentError } from '../../base/errors.js'
import type { Facts } from './audit.js'
import { type Callers, thumbprint } from './callers.js'
import { type Answer, type AskedRequest, FORM_BODY, readBody } from './http.js'
import type { TokenIssuer } from './interfaces.js'
import type { Connection } from './peer.js'
import { Refusal, supplied, withDeadline } from './refusal.js'

/** POST /oauth2/token, where D1 fetches its tokens from the issuer. */
export interface TokenEndpointOptions {
  readonly tokens: TokenIssuer
  readonly clients: readonly TokenClient[]
  /** What every token is granted; none where absent. A scope that D1 asks for is checked for its form, no more. */
  readonly scopes?: readonly string[]
  /** True: a token is bound to the client certificate it is fetched with (RFC 8705, 3), and without one there is none. */
  readonly bindToCertificate?: true
}

/** A client of the token endpoint. Two with one id are a secret that is being replaced. */
export interface TokenClient {
  /** 1 to 255 characters, whatever they are but control characters. */
  readonly clientId: string
  /** 16 to 255 characters. */
  readonly clientSecret: string
}

/** A client whose id and secret are there as SHA-256 values only. */
interface KnownClient {
  readonly clientId: string
  readonly idHash: Uint8Array
  readonly secretHash: Uint8Array
}

/** What the token endpoint works with. */
export interface TokenService {
  readonly tokens: TokenIssuer
  readonly clients: readonly KnownClient[]
  readonly scopes: readonly string[]
  /** Tokens are bound to the certificate of whoever fetches them. */
  readonly bind: boolean
  readonly wrongSecrets: WrongSecrets
}

/** What it needs to know of a request, and of the service that it belongs to. */
interface TokenCall {
  readonly service: { readonly callers: Callers; readonly clock: Clock; readonly bodyTimeoutMs: number }
  readonly request: AskedRequest
  readonly connection: Connection | undefined
  readonly signal: AbortSignal
  readonly facts: Facts
}

const MAX_HEADER = 4096
/** Either alphabet, padded or not: D1's text says base64url, its example is padded base64. */
const BASIC = /^basic +([A-Za-z0-9+/]+|[A-Za-z0-9_-]+)(={0,2})$/i
const CREDENTIAL = /^[^\p{Cc}\p{Cs}]{1,255}$/u
const MIN_SECRET = 16
const UTF_8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
/** RFC 6749, 3.3. */
export const SCOPE: RegExp = /^[\x21\x23-\x5b\x5d-\x7e]{1,256}$/
/** Other ways to authenticate (RFC 6749, 2.3.1; RFC 7521, 4.2): one request has one. */
const OTHER_METHODS: readonly string[] = ['client_secret', 'client_assertion', 'client_assertion_type']

/** The token endpoint of some options; undefined where there is none. */
export function readTokenEndpoint(
  given: TokenEndpointOptions | undefined,
  callers: Callers,
  clock: Clock,
): TokenService | undefined {
  if (given === undefined) return undefined
  const { tokens, clients, scopes, bindToCertificate } = readOptions(given, 'tokenEndpoint', [
    'tokens',
    'clients',
    'scopes',
    'bindToCertificate',
  ])
  if (!callers.takeTokens) {
    throw new ArgumentError('tokenEndpoint: tokens that nobody asks for, as no caller has tokenSubjects')
  }
  requireMethods(tokens, 'tokenEndpoint.tokens', ['issue'])
  const list = scopes ?? []
  if (!Array.isArray(list) || list.some(scope => typeof scope !== 'string' || !SCOPE.test(scope))) {
    throw new ArgumentError('tokenEndpoint.scopes must be scope names')
  }
  if (bindToCertificate !== undefined && bindToCertificate !== true) {
    throw new ArgumentError('tokenEndpoint.bindToCertificate must be true, or absent')
  }
  return {
    tokens,
    clients: readClients(clients),
    scopes: [...list],
    bind: bindToCertificate === true,
    wrongSecrets: new WrongSecrets(clock),
  }
}

/** Issues a token to a client that has shown its secret. Who it is, is settled before a byte of the body is read. */
export async function getToken(call: TokenCall, service: TokenService): Promise<Answer> {
  const { tokens, scopes, bind } = service
  const { callers } = call.service
  const presented = callers.present(call)
  callers.requireEncrypted(call.connection)
  const certificate = 'certificate' in presented ? presented.certificate : undefined
  if (bind && certificate === undefined) throw new Refusal('certificate-missing')
  const subject = await requireClient(call, service, certificate?.sha256 ?? call.facts.address ?? '')
  const asked = requireGrant(readForm(await bodyOf(call)), subject)
  const confirmation = bind ? thumbprint(certificate) : undefined
  const { token, expiresInSeconds, expiresAt } = await supplied('token-issuer-failed', () =>
    tokens.issue({ subject, scopes, ...(confirmation !== undefined && { confirmation }) }),
  )
  const granted = scopes.join(' ')
  return {
    status: 200,
    body: {
      access_token: token,
      token_type: 'Bearer',
      // A string: the published schema and its example («900») have it so, unlike RFC 6749.
      expires_in: String(expiresInSeconds),
      expires_at: new Date(expiresAt).toISOString(),
      // RFC 6749, 5.1: required where it is not what was asked for.
      ...((granted !== '' || asked !== '') && { scope: granted }),
    },
  }
}

async function requireClient({ request, signal, facts }: TokenCall, service: TokenService, source: string) {
  const { clients, wrongSecrets } = service
  wrongSecrets.requireOpen(source)
  const given = readBasic(request.headers.get('authorization'))
  const subject = clientOf(clients, given)
  if (subject === undefined) {
    // What does not even read is no guess.
    if (given !== undefined) await wrongSecrets.wrong(source, signal)
    throw new Refusal('client-credentials')
  }
  wrongSecrets.right(source)
  facts.caller = subject
  facts.isKnown = true
  return subject
}

function bodyOf({ service, request, signal }: TokenCall): Promise<Uint8Array> {
  const { clock, bodyTimeoutMs: milliseconds } = service
  return withDeadline({ clock, milliseconds, reason: 'body-timeout', parent: signal }, inTime =>
    readBody(request, FORM_BODY, inTime),
  )
}

/** RFC 6749, 3.2: a parameter twice is an error, one without a value counts as absent, an unknown one is ignored. */
function readForm(bytes: Uint8Array): ReadonlyMap<string, string> {
  const form = new Map<string, string>()
  for (const [name, value] of new URLSearchParams(decoded(bytes))) {
    if (form.has(name)) throw new Refusal('token-request')
    form.set(name, value)
  }
  return form
}

/** The scope that is asked for; empty where none is. */
function requireGrant(form: ReadonlyMap<string, string>, clientId: string): string {
  if (OTHER_METHODS.some(name => (form.get(name) ?? '') !== '')) throw new Refusal('token-request')
  const named = form.get('client_id') ?? ''
  if (named !== '' && named !== clientId) throw new Refusal('token-request')
  const grantType = form.get('grant_type') ?? ''
  if (grantType === '') throw new Refusal('token-request')
  if (grantType !== 'client_credentials') throw new Refusal('grant-type')
  const scope = form.get('scope') ?? ''
  if (scope !== '' && !scope.split(' ').every(name => SCOPE.test(name))) throw new Refusal('scope')
  return scope
}

function decoded(bytes: Uint8Array): string {
  try {
    return UTF_8.decode(bytes)
  } catch {
    throw new Refusal('token-request')
  }
}

/** Id and secret of an Authorization header; undefined for whatever is not exactly that. */
export function readBasic(header: string | null): { id: string; secret: string } | undefined {
  if (header === null || header.length > MAX_HEADER) return undefined
  const [, text = '', padding = ''] = BASIC.exec(header) ?? []
  const whole = text.length + padding.length
  if (text === '' || text.length % 4 === 1 || (padding !== '' && whole % 4 !== 0)) return undefined
  try {
    // Buffer's base64 reads both alphabets.
    const bytes = secretBytes(base64urlBytes(text))
    writeText(bytes, text, 'base64')
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
const MAX_WAITING = DEFAULTS.tokens.wrongSecretsWaiting.value
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
  #waiting = 0

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

  /**
   * Remembers a wrong secret, and resolves when it is time to answer, or when the signal fires. So many wait at once: each
   * keeps a place of the service, and guesses from many sources must not take them all. One more does not wait, and its source is
   * locked as soon as any other.
   */
  async wrong(source: string, signal: AbortSignal): Promise<void> {
    const count = (this.#sources.get(source)?.count ?? 0) + 1
    const lock = count < MAX_WRONG ? 0 : Math.min(LONGEST_LOCK_MS, FIRST_LOCK_MS * 2 ** (count - MAX_WRONG))
    this.#sources.delete(source)
    this.#sources.set(source, { count, lockedUntil: this.#clock.elapsed() + lock })
    for (const oldest of this.#sources.keys()) {
      if (this.#sources.size <= MAX_SOURCES) break
      this.#sources.delete(oldest)
    }
    if (this.#waiting >= MAX_WAITING) return
    this.#waiting++
    try {
      await delay(this.#clock, FIRST_DELAY_MS * 2 ** (Math.min(count, MAX_WRONG) - 1), signal)
    } finally {
      this.#waiting--
    }
  }
}
