/**
 * Who calls, and for which issuers. Callers are configured: each is recognised by its client certificate, by its bearer
 * token, or by both, and speaks for the issuers that are named with it. Everybody else is nobody: a connection without
 * TLS, a certificate that TLS did not verify, one of the same CA that no caller has.
 *
 * That a certificate was signed by D1's CA says little: that CA signs every issuer's.
 */

import { X509Certificate } from 'node:crypto'
import { readOptions } from '../../base/arguments.js'
import { systemClock } from '../../base/deadline.js'
import { ArgumentError } from '../../base/errors.js'
import type { PinOperation } from '../contract.js'
import type { Facts } from './audit.js'
import type { AskedRequest } from './http.js'
import type { TokenVerdict, TokenVerifier } from './interfaces.js'
import {
  type Connection,
  type PeerCertificate,
  Peers,
  type Presented,
  readFingerprints,
  type TrustedProxy,
} from './peer.js'
import { Refusal, supplied } from './refusal.js'

/**
 * Which client certificate is a caller's:
 * - `sha256`: one of these (SHA-256 of the DER encoding, hex, colons allowed); name the next one before it is used.
 * - `ca`: one that one of these certificates signed itself (PEM), with this subject, this alternative name, or both. All
 *   that is named must be there.
 */
export type CertificateRule =
  | { readonly sha256: readonly string[] }
  | {
      readonly ca: string | readonly string[]
      /** Attributes by their short names, each exactly once in the certificate: `{ CN: 'd1', O: 'Thales' }`. */
      readonly subject?: Readonly<Record<string, string>>
      /** As `DNS:d1.example` or `URI:spiffe://d1`; the certificate may have others besides. */
      readonly san?: string
    }

/** Somebody who may call. */
export interface Caller {
  /** For the audit event: 1 to 64 printable characters. */
  readonly name: string
  /** The issuerIds it may speak for. */
  readonly issuers: readonly string[]
  /** Its client certificate. */
  readonly certificate?: CertificateRule
  /** The subjects (`sub`) of its bearer tokens. With `certificate` as well, both are asked for. */
  readonly tokenSubjects?: readonly string[]
  /** True: only tokens that are bound to the certificate they come with (RFC 8705, 3: `cnf` `x5t#S256`). */
  readonly boundTokens?: true
}

/**
 * Who may call the PIN operations. There is no default. `anyone-who-reaches-it`: whoever gets a request through to the
 * handler reads and sets every PIN; for tests, and where something in front of it knows every caller and lets nobody
 * else near.
 */
export type Authorization = 'anyone-who-reaches-it' | CallerAuthorization

/** Callers, what judges their tokens, and the proxies that state their certificates. */
export interface CallerAuthorization {
  readonly callers: readonly Caller[]
  /** Judges bearer tokens; needed where a caller has `tokenSubjects`. */
  readonly tokens?: TokenVerifier
  /** Where TLS ends before this service. */
  readonly proxies?: readonly TrustedProxy[]
  /** Milliseconds since 1970, for the validity of certificates; `Date.now` where absent. */
  readonly now?: () => number
}

/** Longer ones are refused unread. */
const MAX_TOKEN = 8192
/** RFC 6750, 2.1. The name of a scheme is the same in any case (RFC 9110, 11.1). */
const BEARER = /^bearer +([A-Za-z0-9._~+/-]+=*)$/i
const NAME = /^[\x21-\x7e]{1,64}$/
const REASON = /^[A-Za-z0-9_.-]{1,64}$/
/** An extended key usage that leaves out TLS clients makes the certificate none of a client (RFC 5280, 4.2.1.12). */
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'

/** A request, as far as it tells who it is from. */
interface Identity {
  readonly request: Pick<AskedRequest, 'headers'>
  readonly connection: Connection | undefined
  /** What is asked for; the issuerId is the path's, which may be of no issuer. */
  readonly operation: PinOperation
  readonly issuerId: string
  readonly signal: AbortSignal
  readonly facts: Facts
}

interface KnownCaller {
  readonly name: string
  readonly issuers: ReadonlySet<string>
  readonly fits: ((certificate: PeerCertificate) => boolean) | undefined
  readonly subjects: ReadonlySet<string> | undefined
  readonly bound: boolean
}

/** One that is known by its token, alone or besides. */
interface TokenCaller extends KnownCaller {
  readonly subjects: ReadonlySet<string>
}

const byTokenToo = (caller: KnownCaller): caller is TokenCaller => caller.subjects !== undefined
const withoutToken = (caller: KnownCaller): boolean => !byTokenToo(caller)

/** The callers of a service, read. */
export class Callers {
  readonly #callers: readonly KnownCaller[]
  readonly #tokens: TokenVerifier | undefined
  readonly #peers: Peers
  readonly #now: () => number
  readonly #anyone: boolean

  /** Throws `ERR_ARGUMENT`. `issuerIds`: those of the service. */
  constructor(authorization: Authorization, issuerIds: ReadonlySet<string>) {
    this.#anyone = authorization === 'anyone-who-reaches-it'
    if (authorization === 'anyone-who-reaches-it') {
      this.#callers = []
      this.#peers = new Peers()
      this.#now = systemClock.now
      return
    }
    const {
      callers,
      tokens,
      proxies,
      now = systemClock.now,
    } = readOptions(authorization, "authorization other than 'anyone-who-reaches-it'", [
      'callers',
      'tokens',
      'proxies',
      'now',
    ])
    if (!Array.isArray(callers) || callers.length === 0) {
      throw new ArgumentError('authorization.callers must name at least one caller')
    }
    if (tokens !== undefined && typeof tokens?.verify !== 'function') {
      throw new ArgumentError('authorization.tokens must have the method verify')
    }
    if (typeof now !== 'function') throw new ArgumentError('authorization.now must be a function')
    this.#callers = callers.map(caller => readCaller(caller, issuerIds, tokens !== undefined))
    this.#tokens = tokens
    this.#peers = new Peers(proxies)
    this.#now = now
    if (tokens !== undefined && this.#callers.every(withoutToken)) {
      throw new ArgumentError('authorization.tokens: no caller has tokenSubjects')
    }
  }

  /** Whether somebody is known by a token. */
  get takeTokens(): boolean {
    return this.#tokens !== undefined
  }

  /**
   * The issuers that a request may be for; undefined: all. Refuses with 401, and one body for every reason, what is from
   * nobody who is known; with 500 where nobody can tell.
   */
  async recognise(identity: Identity): Promise<ReadonlySet<string> | undefined> {
    const presented = this.present(identity)
    if (this.#anyone) return undefined
    if ('problem' in presented && presented.problem === 'connection') throw new Refusal('connection')
    const certificate = 'certificate' in presented ? presented.certificate : undefined
    const now = this.#now()
    const inTime = certificate !== undefined && certificate.validFrom <= now && now <= certificate.validTo
    const byCertificate = this.#callers.filter(
      ({ fits }) => fits === undefined || (inTime && certificate !== undefined && fits(certificate)),
    )
    if (byCertificate.length === 0) {
      if ('problem' in presented) throw new Refusal(presented.problem)
      throw new Refusal('caller-unknown', inTime ? undefined : { detail: 'not-in-time' })
    }
    const verifier = this.#tokens
    const found =
      verifier === undefined || byCertificate.every(withoutToken)
        ? byCertificate.filter(withoutToken)
        : await this.#byToken(verifier, byCertificate, certificate, identity)
    return this.#note(found, identity)
  }

  /** Puts what is known of the other end into the event, and gives the certificate that the request comes with. */
  present({
    request: { headers },
    connection,
    facts,
  }: Pick<Identity, 'request' | 'connection' | 'facts'>): Presented {
    const proxy = this.#peers.proxyOf(connection)
    if (connection?.address !== undefined) facts.address = connection.address
    if (proxy === undefined && this.#peers.states(headers)) facts.statedCertificateIgnored = true
    const presented = this.#peers.presented(connection, proxy, headers)
    if ('certificate' in presented) facts.callerCertificate = presented.certificate.sha256
    return presented
  }

  /** Refuses with 401 what comes neither over TLS nor from a trusted proxy: a secret must not be sent so. */
  requireEncrypted(connection: Connection | undefined): void {
    if (this.#anyone || connection?.encrypted === true || this.#peers.proxyOf(connection)) return
    throw new Refusal('connection')
  }

  /** Those of the candidates that the token is of, and those that need none. */
  async #byToken(
    verifier: TokenVerifier,
    candidates: readonly KnownCaller[],
    certificate: PeerCertificate | undefined,
    identity: Identity,
  ): Promise<readonly KnownCaller[]> {
    const token = bearerToken(identity.request.headers.get('authorization'))
    const without = candidates.filter(withoutToken)
    if (token === undefined) {
      if (without.length > 0) return without
      throw new Refusal('token-missing')
    }
    const { subject, tokenId, confirmation } = await this.#verdict(verifier, token, certificate, identity)
    const { facts } = identity
    if (tokenId !== undefined && NAME.test(tokenId)) facts.tokenId = tokenId
    if (subject !== undefined && NAME.test(subject)) facts.tokenSubject = subject
    // Whoever bound it wants it bound, whether or not it is asked for here.
    if (confirmation !== undefined && confirmation !== thumbprint(certificate)) {
      throw new Refusal('token-binding')
    }
    const named = candidates
      .filter(byTokenToo)
      .filter(({ subjects }) => subject !== undefined && subjects.has(subject))
    const found = [...without, ...named.filter(({ bound }) => !bound || confirmation !== undefined)]
    if (found.length === 0 && named.length > 0) throw new Refusal('token-binding')
    return found
  }

  async #verdict(
    verifier: TokenVerifier,
    token: string,
    certificate: PeerCertificate | undefined,
    identity: Identity,
  ) {
    const { signal, operation, issuerId, connection } = identity
    const verdict: TokenVerdict = await supplied('verifier-failed', () =>
      verifier.verify(token, {
        signal,
        operation,
        issuerId,
        ...(certificate !== undefined && { certificateSha256: certificate.sha256 }),
        ...(connection?.address !== undefined && { address: connection.address }),
      }),
    )
    if (verdict.verified === true) return verdict
    const { reason } = verdict
    throw new Refusal('token-invalid', REASON.test(reason) ? { detail: reason } : undefined)
  }

  /** The issuers of all callers that it may be; nobody is refused. The event names the one that speaks for the issuer of the path. */
  #note(found: readonly KnownCaller[], { issuerId, facts }: Identity): ReadonlySet<string> {
    const named = found.find(({ issuers }) => issuers.has(issuerId)) ?? found[0]
    if (named === undefined) throw new Refusal('caller-unknown')
    facts.caller = named.name
    if (found.length === 1) return named.issuers
    return new Set(found.flatMap(({ issuers }) => [...issuers]))
  }
}

/** RFC 8705, 3.1: the SHA-256 of the certificate, in base64url. */
export function thumbprint(certificate: PeerCertificate | undefined): string | undefined {
  return certificate && Buffer.from(certificate.sha256, 'hex').toString('base64url')
}

/** The token of an Authorization header. Two such headers reach us as one with a comma, which no token has. */
function bearerToken(header: string | null): string | undefined {
  if (header === null || header.length > MAX_TOKEN) return undefined
  return BEARER.exec(header)?.[1]
}

const NAMES = ['name', 'issuers', 'certificate', 'tokenSubjects', 'boundTokens'] as const

function readCaller(caller: Caller, known: ReadonlySet<string>, hasTokens: boolean): KnownCaller {
  const { name, issuers, certificate, tokenSubjects, boundTokens } = readOptions(caller, 'a caller', NAMES)
  if (typeof name !== 'string' || !NAME.test(name)) {
    throw new ArgumentError('a caller must have a name of 1 to 64 printable characters')
  }
  if (!isTexts(issuers)) throw new ArgumentError('issuers of a caller must name at least one issuerId')
  if (issuers.some(issuerId => !known.has(issuerId))) {
    throw new ArgumentError('issuers of a caller must be issuerIds that the service has')
  }
  if (certificate === undefined && tokenSubjects === undefined) {
    throw new ArgumentError('a caller must have certificate, tokenSubjects or both')
  }
  if (tokenSubjects !== undefined) {
    if (!isTexts(tokenSubjects)) throw new ArgumentError('tokenSubjects must name at least one subject')
    if (!hasTokens) throw new ArgumentError('tokenSubjects: authorization.tokens must judge the tokens')
  }
  if (boundTokens !== undefined && (boundTokens !== true || tokenSubjects === undefined)) {
    throw new ArgumentError('boundTokens must be true, or absent, and needs tokenSubjects')
  }
  return {
    name,
    issuers: new Set(issuers),
    fits: certificate && readCertificate(certificate),
    subjects: tokenSubjects && new Set(tokenSubjects),
    bound: boundTokens === true,
  }
}

function isTexts(list: unknown): list is readonly string[] {
  return Array.isArray(list) && list.length > 0 && list.every(text => typeof text === 'string' && text !== '')
}

function readCertificate(rule: CertificateRule): (certificate: PeerCertificate) => boolean {
  const { sha256, ca, subject, san } = readOptions<AnyRule>(rule, 'certificate of a caller', [
    'sha256',
    'ca',
    'subject',
    'san',
  ])
  if (sha256 !== undefined) {
    if (ca !== undefined || subject !== undefined || san !== undefined) {
      throw new ArgumentError('certificate of a caller must have either sha256 or ca')
    }
    const known = new Set(readFingerprints(sha256, 'sha256 of a caller'))
    return certificate => known.has(certificate.sha256)
  }
  const authorities = readAuthorities(ca)
  if (subject === undefined && san === undefined) {
    throw new ArgumentError('certificate of a caller: ca needs subject or san, as a CA signs for many')
  }
  const attributes = readSubject(subject)
  if (san !== undefined && !/^(?:DNS|URI|IP Address|email):./.test(san)) {
    throw new ArgumentError('san must be such as DNS:name or URI:name')
  }
  const judged = new WeakMap<PeerCertificate, boolean>()
  const judge = ({ x509 }: PeerCertificate): boolean =>
    x509 !== undefined &&
    isOfClient(x509) &&
    hasSubject(x509, attributes) &&
    (san === undefined || alternativeNames(x509).includes(san)) &&
    authorities.some(authority => x509.checkIssued(authority) && x509.verify(authority.publicKey))
  return certificate => {
    const known = judged.get(certificate)
    if (known !== undefined) return known
    const verdict = judge(certificate)
    judged.set(certificate, verdict)
    return verdict
  }
}

/** All members a {@link CertificateRule} may have, of either kind. */
interface AnyRule {
  readonly sha256?: readonly string[]
  readonly ca?: string | readonly string[]
  readonly subject?: Readonly<Record<string, string>>
  readonly san?: string
}

function readAuthorities(ca: string | readonly string[] | undefined): readonly X509Certificate[] {
  const list: readonly unknown[] = Array.isArray(ca) ? ca : [ca]
  if (list.length === 0) throw new ArgumentError('ca must name at least one certificate')
  return list.map(pem => {
    if (typeof pem === 'string') {
      try {
        const authority = new X509Certificate(pem)
        if (authority.ca) return authority
      } catch {
        // One message for whatever is wrong with it.
      }
    }
    throw new ArgumentError('ca must be certificates of certification authorities, in PEM')
  })
}

function readSubject(subject: Readonly<Record<string, string>> | undefined): readonly [string, string][] {
  if (subject === undefined) return []
  const entries = typeof subject === 'object' && subject !== null ? Object.entries(subject) : []
  if (entries.length === 0 || entries.some(([, value]) => typeof value !== 'string' || value === '')) {
    throw new ArgumentError("subject must be attributes such as { CN: 'd1' }")
  }
  return entries
}

function isOfClient({ keyUsage, ca }: X509Certificate): boolean {
  // Node calls the extended key usage so, and gives its object identifiers.
  const usages: unknown = keyUsage
  return !ca && (usages === undefined || (Array.isArray(usages) && usages.includes(CLIENT_AUTH)))
}

/** An attribute that is there twice is a list here, and equal to nothing. */
function hasSubject(x509: X509Certificate, attributes: readonly [string, string][]): boolean {
  const subject: unknown = x509.toLegacyObject().subject
  return attributes.every(
    ([name, value]) =>
      typeof subject === 'object' &&
      subject !== null &&
      Object.hasOwn(subject, name) &&
      Reflect.get(subject, name) === value,
  )
}

/** Node puts names with odd characters into quotes: what is in quotes is one name, commas and all. */
function alternativeNames({ subjectAltName = '' }: X509Certificate): readonly string[] {
  return Array.from(subjectAltName.matchAll(/(?:[^,"]|"(?:[^"\\]|\\.)*")+/g), ([name]) => name.trim())
}
