/**
 * What the endpoints tell of each request, and a chain over it: each event carries the HMAC over it and the one
 * before.
 */
import { createHmac } from 'node:crypto'
import type { Key } from '../../backend/key.js'
import { readOptions } from '../../base/arguments.js'
import { equalBytes, fromHex, snapshot, withWiped } from '../../base/bytes.js'
import { ArgumentError, isIssuerPinError } from '../../base/errors.js'
import { isJsonObject, member, parseJsonObject } from '../../base/json.js'
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
  /** Which event of this service it is, from 1: a gap is an event that is lost. */
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

/** The event of a request that has come to its end. */
export function auditEvent({ cardKnown, cardId, keys, ...facts }: Facts, end: End): AuditEvent {
  const { status, refusal, durationMs } = end
  return {
    ...facts,
    ...shownCardId(cardId, cardKnown === true),
    outcome: status < 400 ? 'success' : status < 500 ? 'refused' : 'failed',
    status,
    ...(refusal !== undefined && { refusal: describe(refusal) }),
    keys: [...keys],
    durationMs,
  }
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
 * then.
 */

/** Options of {@link chainedAudit}. */
export interface ChainedAuditOptions {
  /** The HMAC key: 32 bytes or more, which are copied; known to whoever verifies, and to nobody who can write the lines. */
  readonly key: Uint8Array
  /** Takes a line, without its end. Resolved means durable, where that is asked for (`auditRequired`). */
  readonly write: (line: string) => void | Promise<void>
  /** The last line of before, where the chain goes on; absent where it begins. */
  readonly after?: string
}

const MIN_KEY_BYTES = 32
/** Before the first line. */
const START = '0'.repeat(64)
const MAC = /^([\s\S]*),"mac":"([0-9a-f]{64})"\}$/
/** An audit event has no more than a kilobyte or two. */
const MAX_LINE = 65_536

/**
 * An {@link AuditHook} that writes each event as one line of a chain. Lines are written one after the other, in the order of
 * the chain; where one cannot be written, the hook rejects and the next line takes its place.
 *
 * Errors: `ERR_ARGUMENT` (the key, `write`, a last line that is none of this chain). Later: what `write` rejects with.
 * Source: RFC 2104 (HMAC).
 *
 * @example
 * ```ts
 * const audit = chainedAudit({ key: new Uint8Array(32), write: line => console.log(line) })
 * ```
 */
export function chainedAudit(options: ChainedAuditOptions): AuditHook {
  const { key: given, write, after } = readOptions(options, 'chainedAudit', ['key', 'write', 'after'])
  const key = readKey(given)
  if (typeof write !== 'function') throw new ArgumentError('write must be a function')
  let previous = START
  if (after !== undefined) {
    const found = readLine(after, key)
    if (found === undefined) throw new ArgumentError('after is no line of a chain under this key')
    previous = found.mac
  }
  let tail: Promise<void> = Promise.resolve()
  return (event: AuditEvent) => {
    const mine = tail.then(async () => {
      const text = `{"chain":1,"previous":"${previous}","event":${JSON.stringify(event)}`
      const mac = macOf(key, text)
      await write(`${text},"mac":"${mac}"}`)
      previous = mac
    })
    tail = mine.catch(() => {})
    return mine
  }
}

/** What {@link verifyAuditChain} finds. */
export type ChainVerdict =
  | { readonly intact: true; readonly lines: number; readonly last: string | undefined }
  | { readonly intact: false; readonly line: number; readonly problem: 'not-a-line' | 'mac' | 'order' }

/**
 * Reads the lines of a chain, from its beginning, and says whether they are as they were written; else which line (from
 * 1) is the first that is not. Empty lines are passed over. `last`: the last line's HMAC, to be compared with what was kept
 * elsewhere.
 *
 * Errors: `ERR_ARGUMENT`.
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
  readonly key: Uint8Array
}): Promise<ChainVerdict> {
  const { lines, key } = readOptions(input, 'verifyAuditChain', ['lines', 'key'])
  const secret = readKey(key)
  let previous = START
  let count = 0
  let line = 0
  for await (const text of lines) {
    line++
    if (text.trim() === '') continue
    if (MAC.exec(text) === null) return { intact: false, line, problem: 'not-a-line' }
    const found = readLine(text, secret)
    if (found === undefined) return { intact: false, line, problem: 'mac' }
    if (found.previous !== previous) return { intact: false, line, problem: 'order' }
    previous = found.mac
    count++
  }
  return { intact: true, lines: count, last: count === 0 ? undefined : previous }
}

function readLine(line: unknown, key: Uint8Array): { previous: string; mac: string } | undefined {
  if (typeof line !== 'string' || line.length > MAX_LINE) return undefined
  const [, text = '', mac = ''] = MAC.exec(line) ?? []
  const stated = fromHex(mac, 'mac')
  // Wiped: it is the MAC that whoever forged the line looks for.
  if (!withWiped(fromHex(macOf(key, text), 'mac'), right => equalBytes(right, stated))) return undefined
  const parsed = parseJsonObject(`${text}}`)
  const previous = isJsonObject(parsed) ? member(parsed, 'previous') : undefined
  return typeof previous === 'string' ? { previous, mac } : undefined
}

function macOf(key: Uint8Array, text: string): string {
  return createHmac('sha256', key).update(text, 'utf8').digest('hex')
}

function readKey(key: Uint8Array): Uint8Array {
  const copy = snapshot(key, 'key')
  if (copy.length < MIN_KEY_BYTES) throw new ArgumentError(`key must be at least ${MIN_KEY_BYTES} bytes`)
  return copy
}
