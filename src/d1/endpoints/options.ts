/** What the endpoints are configured with, checked once, when the service starts. */

import { type Key, requireKeys } from '../../backend/key.js'
import { isKid, readOptions, requireMethods } from '../../base/arguments.js'
import type { Clock } from '../../base/deadline.js'
import { ArgumentError } from '../../base/errors.js'
import { importRecipient, P256Recipient, type PublicJwkLike } from '../../jwe/recipient.js'
import { type KeyUsage, unfit } from '../../key/usage.js'
import { FORMATS } from '../../pin/formats/formats.js'
import type { PinPolicy } from '../../pin/pin-policy.js'
import type { ChangeCounter } from '../../seccos/counter/counter.js'
import { macUsageOf, requireProfile, type SeccosProfile } from '../../seccos/profile/profile.js'
import { ISO0_FORMAT, ISSUER_ID } from '../contract.js'
import { readTranslation, requirePolicyWay, type Translation } from '../messages/set-pin.js'
import type { AuditHook } from './audit.js'
import type { RateLimiter } from './bounds.js'
import type { Authorization } from './callers.js'
import { PATH_CHARACTERS } from './http.js'
import type { CardDirectory, CardRef, PinStore } from './interfaces.js'
import type { TokenEndpointOptions } from './token-endpoint.js'

/** D1's public P-256 key, with its kid. */
export type D1PublicKey = PublicJwkLike | P256Recipient

/** Keys for Get PIN, and for Set PIN of type ISO0. All are bound: the endpoints hold handles and no key. */
export interface Iso0Options {
  /** `pin-encryption` keys shared with D1. Get PIN uses the first; a Set PIN names one. */
  readonly d1Zpk: Key | readonly Key[]
  /** The issuer's own `pin-encryption` keys. New blocks go under the first; a stored block names one. */
  readonly storage: Key | readonly Key[]
  /**
   * D1's public P-256 key, with its kid; or a function that gives the one of the moment, asked for each Get PIN: then the
   * key can be replaced without a restart. What it takes from a file or a URL is for it to keep.
   */
  readonly d1PublicJwk: D1PublicKey | (() => D1PublicKey | Promise<D1PublicKey>)
  /** How blocks move between the two; `checked` where absent. */
  readonly translation?: Translation
  /** Which PINs a Set PIN of type ISO0 may bring; all of 4 to 12 digits where absent. With `translation: 'checked'` only. */
  readonly pinPolicy?: PinPolicyOption
}

/** The issuer's rules for new PINs. SECCOS cannot have any: the issuer does not see the PIN. */
export interface PinPolicyOption {
  /** The policy, or a function that gives the one of a card's product. */
  readonly policy: PinPolicy | ((card: CardRef) => PinPolicy | Promise<PinPolicy>)
  /** What the outside sees of a PIN that is not taken: the contract's 400 or 403. The reason is in the audit event. */
  readonly status: 400 | 403
}

/** What Get PIN Change Counter, and Set PIN of type 3DES_SECCOS, need. */
export interface SeccosOptions {
  readonly profile: SeccosProfile
  /** Keys of the usage that the profile's MAC has. */
  readonly macKeys: Key | readonly Key[]
  /** The names of the PRW keys that are known here. */
  readonly prwKids: readonly string[]
  /** This issuer's own: two issuers may have cards of one id. */
  readonly counter: ChangeCounter
}

/** One issuer of the service. What it does not offer (`iso0`, `seccos`), its cards are refused (403). */
export interface IssuerOptions {
  readonly cards: CardDirectory
  readonly pins: PinStore
  /** The issuer's P-256 keys (`jwe-key-agreement`); a JWE's kid selects one. */
  readonly jweKeys: Key | readonly Key[]
  readonly iso0?: Iso0Options
  readonly seccos?: SeccosOptions
}

/** Options of `issuerEndpoints`. */
export interface IssuerEndpointsOptions {
  /** By issuerId: exactly 10 characters (letters, digits, `.`, `_`, `~`, `-`). */
  readonly issuers: Readonly<Record<string, IssuerOptions>>
  readonly authorization: Authorization
  /** Where absent, the path does not exist. */
  readonly tokenEndpoint?: TokenEndpointOptions
  /** Takes one event for each request. */
  readonly audit: AuditHook
  /**
   * True: no request is answered before `audit` has resolved; where it throws, rejects, or takes longer than `timeoutMs`,
   * the answer is 500, whatever was done. D1 repeats its request, and a Set PIN that is repeated is acknowledged then.
   */
  readonly auditRequired?: true
  /**
   * How many events a second there are, one by one, of requests that end before it is known who calls (broken HTTP, no or
   * another certificate, a bad token, a wrong client secret): 100 where absent. Those beyond are counted, and one event
   * (`omitted`) says how many. Where the caller was known by then, every request is an event; one that is refused before that,
   * for there is no room or a provider is away, counts as a stranger's.
   */
  readonly strangerEventsPerSecond?: number
  /** Before `/cms/api/v1/…`; nothing where absent. */
  readonly prefix?: string
  /** Before `/oauth2/token`; `/authz/d1/v1`, as published, where absent. */
  readonly tokenPrefix?: string
  /** How long a body may take to come: 10,000 ms where absent. */
  readonly bodyTimeoutMs?: number
  /** How long a request may take in all: 30,000 ms where absent. */
  readonly timeoutMs?: number
  /** How many requests may be under way at once: 512 where absent. One more is answered with 500 at once. */
  readonly maxConcurrent?: number
  /** And for one issuer: as many where absent. */
  readonly maxConcurrentPerIssuer?: number
  /**
   * Counts operations per card and caller: `memoryRates()`, or `PostgresIssuerStore.rates()` for all replicas together. What is
   * too much is 403. Where absent, nobody counts.
   */
  readonly rates?: RateLimiter
  /**
   * How long, in milliseconds, a Set PIN of type ISO0 that was accepted is known again at least: until the key that opened
   * it is no longer among `jweKeys`, where absent. After a shorter time the same request sets its PIN once more.
   */
  readonly requestRetentionMs?: number
  /**
   * How often the service deletes what has expired from its stores, in milliseconds: 1000 to 86,400,000 (a day), an hour where
   * absent. A request begins it, and none waits for it; in the stores of this library it goes in batches.
   */
  readonly tidyEveryMs?: number
  readonly clock?: Clock
}

/** An {@link IssuerOptions} that has been read: lists are lists, the recipient is checked. */
export interface Issuer {
  readonly cards: CardDirectory
  readonly pins: PinStore
  readonly jweKeys: readonly Key[]
  readonly iso0: Iso0 | undefined
  readonly seccos: (Omit<SeccosOptions, 'macKeys'> & { readonly macKeys: readonly Key[] }) | undefined
}

/** A key that was checked, and its kid. */
interface Recipient {
  readonly key: P256Recipient
  readonly kid: string
}

/** An {@link Iso0Options} that has been read. */
interface Iso0 {
  readonly d1Zpk: readonly [Key, ...Key[]]
  readonly storage: readonly [Key, ...Key[]]
  /** D1's key of the moment. Rejects with `ERR_JWE_RECIPIENT` or `ERR_ARGUMENT` where it is none. */
  readonly recipient: () => Promise<Recipient>
  readonly translation: Translation
  readonly pinPolicy: PinPolicyOption | undefined
}

const LONGEST_TIMEOUT = 600_000

/** The issuers by id; `ERR_ARGUMENT`, `ERR_KEY_USAGE` (one key for two things), and what `importRecipient` reports. */
export function readIssuers(issuers: IssuerEndpointsOptions['issuers']): ReadonlyMap<string, Issuer> {
  if (typeof issuers !== 'object' || issuers === null) throw new ArgumentError('issuers must be an object')
  const counters = new Set<ChangeCounter>()
  const read = new Map<string, Issuer>()
  for (const [issuerId, options] of Object.entries(issuers)) {
    if (!ISSUER_ID.test.test(issuerId)) {
      throw new ArgumentError(`an issuerId must be ${ISSUER_ID.shape}`)
    }
    const issuer = readIssuer(options)
    if (issuer.seccos !== undefined && counters.size === counters.add(issuer.seccos.counter).size) {
      throw new ArgumentError('each issuer must have a change counter of its own')
    }
    read.set(issuerId, issuer)
  }
  if (read.size === 0) throw new ArgumentError('issuers must name at least one')
  return read
}

function readIssuer(options: IssuerOptions): Issuer {
  const names = ['cards', 'pins', 'jweKeys', 'iso0', 'seccos'] as const
  const { cards, pins, jweKeys, iso0, seccos } = readOptions(options, 'an issuer', names)
  requireMethods(cards, 'cards', ['find'])
  requireMethods(pins, 'pins', ['readBlock', 'acceptBlock', 'storePrw'])
  if (iso0 === undefined && seccos === undefined) {
    throw new ArgumentError('an issuer must have iso0, seccos or both')
  }
  const ownKeys = readKeys(jweKeys, 'jweKeys', 'jwe-key-agreement')
  return {
    cards,
    pins,
    jweKeys: ownKeys,
    iso0: iso0 && readIso0(iso0, ownKeys, pins),
    seccos: seccos && readSeccos(seccos),
  }
}

function readIso0(options: Iso0Options, jweKeys: readonly Key[], pins: PinStore): Iso0 {
  const names = ['d1Zpk', 'storage', 'd1PublicJwk', 'translation', 'pinPolicy'] as const
  const { d1Zpk, storage, d1PublicJwk, translation: way, pinPolicy } = readOptions(options, 'iso0', names)
  const translation = readTranslation(way)
  const shared = readBlockKeys(d1Zpk, 'd1Zpk')
  const own = readKeys(storage, 'storage', 'pin-encryption')
  for (const key of own) {
    const twin = shared.find(other => isSameKey(key, other))
    if (twin === undefined) continue
    throw unfit(key.kid, `it stores blocks and is ${twin.kid}, which D1 has: they need two keys`)
  }
  const recipient = recipientOf(d1PublicJwk, given => readRecipientKey(given, jweKeys))
  const policy = pinPolicy === undefined ? undefined : readPinPolicy(pinPolicy, translation)
  if (policy !== undefined && (typeof policy.policy === 'function' || policy.policy.notBefore))
    requireMethods(pins, 'pins, for a PIN policy with notBefore,', ['knowsRequest'])
  return { d1Zpk: shared, storage: own, recipient, translation, pinPolicy: policy }
}

function readPinPolicy(option: PinPolicyOption, translation: Translation): PinPolicyOption {
  const { policy, status } = readOptions(option, 'pinPolicy', ['policy', 'status'])
  if (status !== 400 && status !== 403) throw new ArgumentError('pinPolicy: status must be 400 or 403')
  if (typeof policy !== 'function') requirePolicyWay(policy, translation)
  else if (translation !== 'checked') throw new ArgumentError("pinPolicy takes translation: 'checked'")
  return { policy, status }
}

/** One handle, or one check value as far as both are known: keys of two backends are compared, too. */
function isSameKey(a: Key, b: Key): boolean {
  if (a === b) return true
  const digits = Math.min(a.checkValue.value.length, b.checkValue.value.length)
  return (
    a.checkValue.method === b.checkValue.method &&
    a.checkValue.value.slice(0, digits) === b.checkValue.value.slice(0, digits)
  )
}

/** A key that does not change is checked here; one that may is checked when it is another object than before. */
function recipientOf(
  source: Iso0Options['d1PublicJwk'],
  read: (given: D1PublicKey) => Recipient,
): Iso0['recipient'] {
  if (typeof source !== 'function') {
    const recipient = read(source)
    return async () => recipient
  }
  let last: { readonly given: D1PublicKey; readonly recipient: Recipient } | undefined
  return async () => {
    const given = await source()
    if (last?.given !== given) last = { given, recipient: read(given) }
    return last.recipient
  }
}

/** D1's public key; one of the issuer's own would seal PIN blocks to the issuer, and show that two parties share a key. */
function readRecipientKey(given: D1PublicKey, jweKeys: readonly Key[]): Recipient {
  const key = given instanceof P256Recipient ? given : importRecipient(given)
  if (key.kid === undefined) throw new ArgumentError('d1PublicJwk must have a kid: D1 finds its key by it')
  const own = jweKeys.find(({ publicJwk }) => publicJwk?.x === key.publicJwk.x)
  if (own !== undefined)
    throw unfit(own.kid, `it is the issuer's own, and d1PublicJwk (${key.kid}) is its public key`)
  return { key, kid: key.kid }
}

function readSeccos(options: SeccosOptions): Issuer['seccos'] {
  const names = ['profile', 'macKeys', 'prwKids', 'counter'] as const
  const { profile, macKeys: given, prwKids, counter } = readOptions(options, 'seccos', names)
  requireProfile(profile)
  requireMethods(counter, 'counter', ['issue', 'check', 'accept', 'pccOf'])
  if (!Array.isArray(prwKids) || prwKids.length === 0 || !prwKids.every(isKid)) {
    throw new ArgumentError('prwKids must name at least one key, each by its kid')
  }
  const macKeys = readKeys(given, 'macKeys', macUsageOf(profile))
  return { profile, prwKids: [...prwKids], counter, macKeys }
}

/** Keys of the ciphers that the format of type ISO0 takes. The issuer's own may be AES keys. */
function readBlockKeys(value: unknown, name: string): readonly [Key, ...Key[]] {
  const keys = readKeys(value, name, 'pin-encryption')
  const { algorithms } = FORMATS[ISO0_FORMAT]
  if (keys.every(({ algorithm }) => algorithms.includes(algorithm))) return keys
  throw new ArgumentError(`${name}: keys must be ${algorithms.join(' or ')}`)
}

/** A key for something else would fail with the first request; it is better to fail with the first start. */
function readKeys(value: unknown, name: string, usage: KeyUsage): readonly [Key, ...Key[]] {
  const [first, ...others] = requireKeys(value, name)
  const keys: readonly [Key, ...Key[]] = [first as Key, ...others]
  if (keys.some(key => key.usage !== usage)) throw new ArgumentError(`${name}: keys must be for ${usage}`)
  return keys
}

/** A path in front of others: empty, or a slash and something; `ERR_ARGUMENT`. */
export function readPrefix(prefix: string, name: string): string {
  const sound = typeof prefix === 'string' && PATH_CHARACTERS.test(prefix) && !prefix.includes('//')
  if (sound && (prefix === '' || (prefix.startsWith('/') && !prefix.endsWith('/')))) return prefix
  throw new ArgumentError(`${name} must begin with a slash, and end without one`)
}

/** A number of places; `ERR_ARGUMENT`. */
export function readCount(count: number, name: string): number {
  if (Number.isSafeInteger(count) && count >= 1) return count
  throw new ArgumentError(`${name} must be a whole number from 1`)
}

/** A number of milliseconds up to ten minutes; `ERR_ARGUMENT`. */
export function readTimeout(milliseconds: number, name: string): number {
  if (Number.isInteger(milliseconds) && milliseconds >= 1 && milliseconds <= LONGEST_TIMEOUT) {
    return milliseconds
  }
  throw new ArgumentError(`${name} must be a whole number from 1 to ${LONGEST_TIMEOUT}`)
}
