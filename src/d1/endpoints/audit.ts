/**
 * The audit event: one for each request, whatever became of it, with everything an operator asks for and no secret.
 * What comes from outside is in it only where it has the form that it must have, so that nobody writes lines into
 * somebody's log: ids of the contract's patterns, constants, and names that are checked to be names.
 */

import type { Key } from '../../backend/key.js'
import { isIssuerPinError } from '../../base/errors.js'
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
