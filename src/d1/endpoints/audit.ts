/**
 * What the endpoints tell of each request, and a chain over it: each event carries the HMAC over it and the one
 * before.
 */
import { createHmac, type KeyObject } from 'node:crypto'
import type { Key } from '../../backend/key.js'
import { readOptions, readOwn, requireKid } from '../../base/arguments.js'
import {
  encodeBase64url,
  equalBytes,
  fromHex,
  ownCopy,
  snapshot,
  utf8Bytes,
  wipe,
  withWiped,
} from '../../base/bytes.js'
import { DEFAULTS } from '../../base/defaults.js'
import { ArgumentError, BackendError, isIssuerPinError } from '../../base/errors.js'
import { isJsonObject, member, parseJsonObject } from '../../base/json.js'
import {
  es256PublicKey,
  jwkOfPoint,
  type P256PublicJwk,
  pointOfJwk,
  SIGNATURE_BYTES,
  verifyEs256,
} from '../../primitives/p256.js'
import {
  type AuditKey,
  type AuditRefusal,
  type D1Event,
  type KeyRole,
  nameOfError,
  shownCardId,
  textOf,
} from '../audit.js'
import type { PinBlockType, PinOperation } from '../contract.js'
import type { Refusal, RefusalReason } from './refusal.js'

/*
 * The audit event: one for each request, whatever became of it, with everything an operator asks for and no secret.
 * What comes from outside is in it only where it has the form that it must have, so that nobody writes lines into
 * somebody's log: ids of the contract's patterns, constants, and names that are checked to be names.
 */

/** The operations by their operationId; `getToken` is POST /oauth2/token. */
export type Operation = PinOperation | 'getToken'

/** What happened. `issuerId`: one that the endpoints are configured for. */
export interface AuditEvent extends D1Event<RefusalReason> {
  /** Undefined where the request was for none. */
  readonly operation?: Operation
  readonly status: number
  /** Which event of this service it is, from 1: a gap is an event that is lost, or one of those that `omitted` counts. */
  readonly sequence: number
  /** When the request came: ISO 8601, UTC. */
  readonly time: string
  /** A name of our own for the request, which nobody outside can choose. */
  readonly requestId: string
  /** True: there was an x-correlation-id that breaks its pattern. It is ignored, and not repeated here. */
  readonly correlationIdIgnored?: true
  /** True: there was a query string. It is ignored, and not repeated here. */
  readonly queryIgnored?: true
  /** True: headers stated a client certificate on a connection that is no trusted proxy's. They are ignored. */
  readonly statedCertificateIgnored?: true
  /** The configured name of the caller, or the client that a token was issued to. */
  readonly caller?: string
  /** SHA-256 of the client certificate that the request came with: hex. */
  readonly callerCertificate?: string
  /** The subject of the bearer token, and its own name (`jti`). */
  readonly tokenSubject?: string
  readonly tokenId?: string
  /** The address of the other side of the connection, of a proxy where there is one. */
  readonly address?: string
  readonly pinType?: PinBlockType
  /** True: this very Set PIN had been accepted and stored before. */
  readonly replayed?: boolean
  /** Of an ISO0 Set PIN that is replayed: whether the card's PIN is still the one that it set. */
  readonly replayedIsCurrent?: boolean
  /**
   * So many requests are told by this event alone, for there were too many of callers that nobody knows
   * (`strangerEventsPerSecond`). `time` is when the first of them came, `durationMs` how long it was to the end of the last,
   * `status` the highest of theirs, and the reason `omitted`.
   */
  readonly omitted?: number
  /** The keys that were used, as far as it got. A message that is refused shows none: its kids are the sender's. */
  readonly keys: readonly AuditKey[]
}

/**
 * Takes audit events. `cause` is the error behind a refusal, for the operator's error tracker: an error of this library
 * holds no secret, but what your own directory and store throw is theirs to answer for.
 *
 * It is called before the answer goes out, and not waited for. What it throws does not change the answer: a PIN that
 * is stored is stored. The process is warned once (`process.emitWarning`).
 */
export type AuditHook = (event: AuditEvent, cause?: unknown) => void | Promise<void>

/** What becomes known of a request on its way. */
export interface Facts {
  operation?: Operation
  issuerId?: string
  cardId?: string
  cardKnown?: boolean
  correlationId?: string
  correlationIdIgnored?: true
  queryIgnored?: true
  statedCertificateIgnored?: true
  caller?: string
  callerCertificate?: string
  tokenSubject?: string
  tokenId?: string
  address?: string
  pinType?: PinBlockType
  replayed?: boolean
  replayedIsCurrent?: boolean
  omitted?: number
  /** Somebody who may call, or a client with its secret: no stranger. */
  isKnown?: true
  readonly sequence: number
  readonly time: string
  readonly requestId: string
  readonly keys: AuditKey[]
}

/** How it ended. */
export interface End {
  readonly status: number
  readonly refusal: Refusal | undefined
  readonly durationMs: number
}

/** Members of the facts that are not in the event as they are. */
const SHOWN_APART: ReadonlySet<string> = new Set([
  'cardKnown',
  'isKnown',
  'cardId',
  'keys',
] satisfies (keyof Facts)[])

/** The event of a request that has come to its end. Its members are copied one by one: to take three out and spread the rest takes 8 µs. */
export function auditEvent(facts: Facts, end: End): AuditEvent {
  const { status, refusal, durationMs } = end
  const event: Record<string, unknown> = {}
  for (const name of Object.keys(facts)) {
    if (!SHOWN_APART.has(name)) event[name] = facts[name as keyof Facts]
  }
  Object.assign(event, shownCardId(facts.cardId, facts.cardKnown === true))
  event['outcome'] = status < 400 ? 'success' : status < 500 ? 'refused' : 'failed'
  event['status'] = status
  if (refusal !== undefined) event['refusal'] = describe(refusal)
  event['keys'] = [...facts.keys]
  event['durationMs'] = durationMs
  return event as unknown as AuditEvent
}

/** A key for the event. */
export function auditKey(role: KeyRole, key: Key): AuditKey {
  return { role, kid: key.kid, checkValue: key.checkValue.value }
}

/** Names and codes of an error, never its message. */
function describe({ reason, detail, cause }: Refusal): AuditRefusal<RefusalReason> {
  const code = nameOfError(cause)
  const read = (name: string): string | undefined =>
    isIssuerPinError(cause) ? textOf(cause, name) : undefined
  const field = read('field')
  const more = detail ?? read('reason') ?? read('returnValueName') ?? read('kid')
  return {
    reason,
    ...(code !== undefined && { code }),
    ...(field !== undefined && { field }),
    ...(more !== undefined && { detail: more }),
  }
}

/*
 * Audit lines that cannot be changed, left out or put in another order without showing: each holds the HMAC of the one
 * before, and its own HMAC over all of it.
 *
 *     {"chain":1,"previous":"<HMAC of line 0>","event":{…},"mac":"<HMAC-SHA-256 of the line up to ,\"mac\">"}
 *
 * What was cut off at the end shows only against a line, or a number, that was kept elsewhere: ship the last one now and
 * then. Whoever has the HMAC key to verify could also forge. So a line may be signed, too: then the public key is enough to
 * verify, and the HMAC and all before it are under the signature.
 *
 *     {"chain":1,"previous":"…","event":{…},"kid":"<of the key>","mac":"…","signature":"<ES256 of the line up to ,\"signature\">"}
 */

/** Options of {@link chainedAudit}. */
export interface ChainedAuditOptions {
  /** The HMAC key: 32 bytes or more, which are copied; known to whoever verifies, and to nobody who can write the lines. */
  readonly key: Uint8Array
  /** Takes a line, without its end. Resolved means durable, where that is asked for (`auditRequired`). */
  readonly write: (line: string) => void | Promise<void>
  /** The last line of before, where the chain goes on; absent where it begins. */
  readonly after?: string
  /** Signs each line with ES256, besides: `backendSigner` of a key of a backend, for one. 64 bytes, r then s. */
  readonly signer?: AuditSigner
}

/** What signs audit lines: a kid of printable characters, and ES256 over bytes. */
export interface AuditSigner {
  readonly kid: string
  /** The signature over these bytes: 64 bytes, r ‖ s (RFC 7518, 3.4). */
  sign(line: Uint8Array): Promise<Uint8Array>
}

/** A public key that audit lines are verified with. */
export interface AuditPublicKey extends P256PublicJwk {
  readonly kid: string
}

const MIN_KEY_BYTES = 32
/** Before the first line. */
const START = '0'.repeat(64)
const LINE = /^(([\s\S]*),"mac":"([0-9a-f]{64})")(?:,"signature":"([A-Za-z0-9_-]{86})")?\}$/
/** An audit event has no more than a kilobyte or two. */
const MAX_LINE = 65_536
const MAX_WAITING = DEFAULTS.endpoints.auditLinesWaiting.value

/**
 * An {@link AuditHook} that writes each event as one line of a chain. Lines are written one after the other, in the order of
 * the chain; where one cannot be written, the hook rejects. It may be there all the same (a time that ran out, a connection that broke
 * after it): the next line goes on from it, and names the last one that is known to be there (`confirmed`) and the first that is not
 * (`first`), so that the chain is whole with it and without it.
 *
 * Errors: `ERR_ARGUMENT` (the key, `write`, a last line of another chain). Later: what `write` rejects with, and `ERR_BACKEND_BUSY`
 * where too many lines wait for it.
 * Source: RFC 2104 (HMAC).
 *
 * @example
 * ```ts
 * const audit = chainedAudit({ key: new Uint8Array(32), write: line => console.log(line) })
 * ```
 */
export function chainedAudit(options: ChainedAuditOptions): AuditHook {
  const names = ['key', 'write', 'after', 'signer'] as const
  const { key: given, write, after, signer } = readOptions(options, 'chainedAudit', names)
  if (typeof write !== 'function') throw new ArgumentError('write must be a function')
  const signing = signer === undefined ? undefined : readSigner(signer)
  const key = readKey(given)
  let previous = START
  if (after !== undefined) {
    const found = readLine(after)
    if (found === undefined || !isOf(found, key)) {
      wipe(key)
      throw new ArgumentError('after is no line of a chain under this key')
    }
    previous = found.mac
  }
  // The last line that `write` has answered for. Another than the one before, where what came since may be there or not.
  let confirmed = previous
  let first = ''
  let unanswered = 0
  let waiting = 0
  let tail: Promise<void> = Promise.resolve()
  return (event: AuditEvent) => {
    // A disk that hangs must not have events pile up in memory: what is left out is a number that is missing.
    if (waiting >= MAX_WAITING) return Promise.reject(busy())
    waiting++
    const mine = tail.then(async () => {
      const named = signing === undefined ? '' : `,"kid":${JSON.stringify(signing.kid)}`
      const since =
        unanswered === 0 ? '' : `,"confirmed":"${confirmed}","first":"${first}","since":${unanswered}`
      const text = `{"chain":1,"previous":"${previous}"${since},"event":${JSON.stringify(event)}${named}`
      const mac = macOf(key, text)
      const line = `${text},"mac":"${mac}"`
      const whole = signing === undefined ? `${line}}` : `${line},"signature":"${await signing.sign(line)}"}`
      previous = mac
      if (unanswered === 0) first = mac
      unanswered++
      await write(whole)
      confirmed = mac
      unanswered = 0
    })
    const leave = (): void => {
      waiting--
    }
    tail = mine.then(leave, leave)
    return mine
  }
}

function busy(): BackendError {
  return new BackendError('ERR_BACKEND_BUSY', `${MAX_WAITING} audit lines wait to be written`, {
    retryable: true,
  })
}

/** What {@link verifyAuditChain} finds. */
export type ChainVerdict =
  | { readonly intact: true; readonly lines: number; readonly last: string | undefined }
  | {
      readonly intact: false
      readonly line: number
      readonly problem: 'not-a-line' | 'mac' | 'signature' | 'order'
    }

/**
 * Reads the lines of a chain, from its beginning, and says whether they are as they were written; else which line (from
 * 1) is the first that is not. Empty lines are passed over. `last`: the last line's HMAC, to be compared with what was kept
 * elsewhere. By the HMAC key, by public keys, or by both: with public keys every line must be signed by one of them; without,
 * signatures are not looked at. With public keys alone whoever verifies cannot forge.
 *
 * Errors: `ERR_ARGUMENT`.
 * Source: RFC 7518, 3.4 (ES256).
 *
 * @example
 * ```ts
 * const verdict = await verifyAuditChain({ lines: '… the lines …'.split('\n'), key: new Uint8Array(32) })
 * if (!verdict.intact) console.log(`line ${verdict.line}: ${verdict.problem}`)
 * ```
 */
export async function verifyAuditChain(input: {
  readonly lines: Iterable<string> | AsyncIterable<string>
  /** The key that {@link chainedAudit} had. */
  readonly key?: Uint8Array
  /** The public keys of its signers, by kid: one for each key that the lines were signed with. */
  readonly publicKeys?: readonly AuditPublicKey[]
}): Promise<ChainVerdict> {
  const { lines, key, publicKeys } = readOptions(input, 'verifyAuditChain', ['lines', 'key', 'publicKeys'])
  if (key === undefined && publicKeys === undefined) throw new ArgumentError('verifyAuditChain needs a key')
  const signers = publicKeys === undefined ? undefined : readPublicKeys(publicKeys)
  const secret = key === undefined ? undefined : readKey(key)
  try {
    return await verified(lines, secret, signers)
  } finally {
    wipe(secret)
  }
}

async function verified(
  lines: Iterable<string> | AsyncIterable<string>,
  secret: Uint8Array | undefined,
  signers: ReadonlyMap<string, KeyObject> | undefined,
): Promise<ChainVerdict> {
  let last: Place = { mac: START, first: START, since: 0 }
  let count = 0
  let line = 0
  for await (const text of lines) {
    line++
    if (text.trim() === '') continue
    const found = readLine(text)
    if (found === undefined) return { intact: false, line, problem: 'not-a-line' }
    if (secret !== undefined && !isOf(found, secret)) return { intact: false, line, problem: 'mac' }
    if (signers !== undefined && !isSigned(found, signers))
      return { intact: false, line, problem: 'signature' }
    if (!follows(found, last)) return { intact: false, line, problem: 'order' }
    last = found
    count++
  }
  return { intact: true, lines: count, last: count === 0 ? undefined : last.mac }
}

/**
 * Whether a line comes next. One that was written after others had failed may stand behind any of those, or behind the last
 * that was confirmed: what is missing then was never said to be there. A line that was confirmed cannot be missing, no line can
 * come twice or before its time, and none of another chain under the same key can take the place of one that is missing.
 */
function follows(line: ChainLine, before: Place): boolean {
  if (line.previous === before.mac) return true
  return line.confirmed === before.mac || (line.first === before.first && line.since > before.since)
}

/** Where a line stands in its chain. */
interface Place {
  readonly mac: string
  /** The first line that was not known to be there when this one was written: this one itself where nothing had failed. */
  readonly first: string
  /** How many before it are of that kind. */
  readonly since: number
}

/** A line as it is read: nothing of it is verified. */
interface ChainLine extends Place {
  /** What the HMAC is over, and what the signature is over. */
  readonly text: string
  readonly signed: string
  readonly signature: string | undefined
  readonly previous: string
  /** The last line that was known to be there: the previous one where nothing had failed. */
  readonly confirmed: string
  readonly kid: unknown
}

function readLine(line: unknown): ChainLine | undefined {
  if (typeof line !== 'string' || line.length > MAX_LINE) return undefined
  const [, signed = '', text = '', mac = '', signature] = LINE.exec(line) ?? []
  const parsed = parseJsonObject(`${text}}`)
  if (!isJsonObject(parsed)) return undefined
  const previous = member(parsed, 'previous')
  if (typeof previous !== 'string') return undefined
  // Told only where something has failed.
  const {
    confirmed = previous,
    first = mac,
    since = 0,
  } = {
    confirmed: member(parsed, 'confirmed'),
    first: member(parsed, 'first'),
    since: member(parsed, 'since'),
  }
  if (typeof confirmed !== 'string' || typeof first !== 'string' || typeof since !== 'number')
    return undefined
  return { text, signed, mac, signature, previous, confirmed, first, since, kid: member(parsed, 'kid') }
}

function isOf({ text, mac }: ChainLine, key: Uint8Array): boolean {
  const stated = fromHex(mac, 'mac')
  // Wiped: it is the MAC that whoever forged the line looks for.
  return withWiped(fromHex(macOf(key, text), 'mac'), right => equalBytes(right, stated))
}

function isSigned({ signed, signature, kid }: ChainLine, keys: ReadonlyMap<unknown, KeyObject>): boolean {
  const key = keys.get(kid)
  if (key === undefined || signature === undefined) return false
  return verifyEs256(key, utf8Bytes(signed), ownCopy(Buffer.from(signature, 'base64url')))
}

function readPublicKeys(given: readonly AuditPublicKey[]): ReadonlyMap<string, KeyObject> {
  if (!Array.isArray(given) || given.length === 0)
    throw new ArgumentError('publicKeys must be a list of keys')
  const keys = new Map<string, KeyObject>()
  for (const jwk of given) {
    const { kid } = readOwn(jwk, 'a public key', ['kid'])
    requireKid(kid)
    const point = pointOfJwk(jwk)
    if (point === undefined) throw new ArgumentError(`publicKeys: ${kid} is no P-256 public key`)
    if (keys.has(kid)) throw new ArgumentError(`publicKeys: two keys by the kid ${kid}`)
    keys.set(kid, es256PublicKey(jwkOfPoint(point)))
  }
  return keys
}

function readSigner(signer: AuditSigner): { readonly kid: string; sign(line: string): Promise<string> } {
  const { kid } = Object(signer)
  if (typeof signer?.sign !== 'function') throw new ArgumentError('signer must be { kid, sign }')
  requireKid(kid)
  return {
    kid,
    sign: async line => {
      const signature = snapshot(await signer.sign(utf8Bytes(line)), 'the signature')
      if (signature.length === SIGNATURE_BYTES) return encodeBase64url(signature)
      throw new BackendError(
        'ERR_BACKEND_FAILED',
        `the signer returned ${signature.length} bytes in place of 64`,
      )
    },
  }
}

function macOf(key: Uint8Array, text: string): string {
  return createHmac('sha256', key).update(text, 'utf8').digest('hex')
}

function readKey(key: Uint8Array): Uint8Array {
  const copy = snapshot(key, 'key')
  if (copy.length >= MIN_KEY_BYTES) return copy
  wipe(copy)
  throw new ArgumentError(`key must be at least ${MIN_KEY_BYTES} bytes`)
}
