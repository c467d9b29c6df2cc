/**
 * The audit event: one for each request, whatever became of it, with everything an operator asks for and no secret.
 * What comes from outside is in it only where it has the form that it must have, so that nobody writes lines into
 * somebody's log: ids of the contract's patterns, constants, and names that are checked to be names.
 */
import { isIssuerPinError } from '../../errors.js'
import type { Key } from '../../key/key.js'
import type { PinBlockType } from '../pin-block.js'
import type { PinOperation } from './interfaces.js'
import type { Refusal, RefusalReason } from './refusal.js'

/** The operations by their operationId; `getToken` is POST /oauth2/token. */
export type Operation = PinOperation | 'getToken'

/** What a key did in an operation. */
export type KeyRole = 'jwe' | 'd1-zpk' | 'storage' | 'prw-mac' | 'd1-public'

/** A key by its name and check value. D1's public key, and a PRW key that is not here, have none. */
export interface AuditKey {
  readonly role: KeyRole
  readonly kid: string
  readonly checkValue?: string
}

/** Why it was refused, or failed. */
export interface AuditRefusal {
  readonly reason: RefusalReason
  /** The code of this library's error, or the code or name of a foreign one. */
  readonly code?: string
  /** The member of the message, or the field of the data set. */
  readonly field?: string
  /** The change counter's reason, the token verifier's, a PKCS#11 return value, or the kid of a key that is refused. */
  readonly detail?: string
}

/** What happened. */
export interface AuditEvent {
  /** Undefined where the request was for none. */
  readonly operation?: Operation
  /** `refused`: 4xx. `failed`: 500. */
  readonly outcome: 'success' | 'refused' | 'failed'
  readonly status: number
  /** One that the endpoints are configured for. */
  readonly issuerId?: string
  /** Left out for a card that is not known here where it looks like a PAN. */
  readonly cardId?: string
  readonly correlationId?: string
  /** True: there was an x-correlation-id that breaks its pattern. It is ignored, and not repeated here. */
  readonly correlationIdIgnored?: true
  /** The subject of the bearer token, or the client that a token was issued to. */
  readonly caller?: string
  readonly pinType?: PinBlockType
  /** True: this very Set PIN had been accepted and stored before. */
  readonly replayed?: boolean
  readonly refusal?: AuditRefusal
  /** The keys that were used, as far as it got. A message that is refused shows none: its kids are the sender's. */
  readonly keys: readonly AuditKey[]
  readonly durationMs: number
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
  caller?: string
  pinType?: PinBlockType
  replayed?: boolean
  readonly keys: AuditKey[]
}

/** How it ended. */
export interface End {
  readonly status: number
  readonly refusal: Refusal | undefined
  readonly durationMs: number
}

const MAY_BE_PAN = /^[0-9]{12,19}$/
const NAME = /^[A-Za-z0-9_]{1,64}$/
/** SQLSTATE has five digits; a longer number would be data. */
const DATA = /[0-9]{6}/

/** The event of a request that has come to its end. */
export function auditEvent({ cardKnown, cardId, keys, ...facts }: Facts, end: End): AuditEvent {
  const { status, refusal, durationMs } = end
  const showCard = cardId !== undefined && (cardKnown === true || !MAY_BE_PAN.test(cardId))
  return {
    ...facts,
    ...(showCard && { cardId }),
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

/** Makes events and calls the hook, as {@link AuditHook} says. */
export function auditor(hook: AuditHook): (facts: Facts, end: End) => void {
  let warned = false
  const warn = (): void => {
    if (warned) return
    warned = true
    process.emitWarning('the audit hook of the issuer endpoints failed', 'IssuerPinWarning')
  }
  return (facts, end) => {
    try {
      Promise.resolve(hook(auditEvent(facts, end), end.refusal?.cause)).catch(warn)
    } catch {
      warn()
    }
  }
}

/** How OpenTelemetry would have the members called; arrays side by side, as attributes hold no objects. */
const ATTRIBUTES: Readonly<Record<string, (event: AuditEvent) => unknown>> = {
  'd1.operation': event => event.operation,
  'd1.outcome': event => event.outcome,
  'http.response.status_code': event => event.status,
  'd1.issuer.id': event => event.issuerId,
  'd1.card.id': event => event.cardId,
  'd1.correlation.id': event => event.correlationId,
  'd1.correlation.ignored': event => event.correlationIdIgnored,
  'd1.caller': event => event.caller,
  'd1.pin.type': event => event.pinType,
  'd1.pin.replayed': event => event.replayed,
  'd1.refusal.reason': event => event.refusal?.reason,
  'd1.refusal.field': event => event.refusal?.field,
  'd1.refusal.detail': event => event.refusal?.detail,
  'error.type': event => event.refusal?.code ?? event.refusal?.reason,
  'd1.key.role': event => event.keys.map(key => key.role),
  'd1.key.id': event => event.keys.map(key => key.kid),
  'd1.key.check_value': event => event.keys.map(key => key.checkValue ?? ''),
  'd1.duration_ms': event => event.durationMs,
}

/** A value that an OpenTelemetry attribute can have. */
export type AttributeValue = string | number | boolean | readonly string[]

/**
 * The event as a flat set of OpenTelemetry attributes, without what is undefined. Names of the semantic conventions
 * where there are some (`http.response.status_code`, `error.type`), else under `d1.`.
 *
 * @example
 * ```ts
 * audit: event => logger.emit({ eventName: 'd1.pin', attributes: otelAttributes(event) })
 * ```
 */
export function otelAttributes(event: AuditEvent): Readonly<Record<string, AttributeValue>> {
  const attributes: Record<string, AttributeValue> = {}
  for (const [name, read] of Object.entries(ATTRIBUTES)) {
    const value = read(event)
    if (value !== undefined) attributes[name] = value as AttributeValue
  }
  return attributes
}

/** Names and codes of an error, never its message: a database puts parameters there. */
function describe({ reason, detail, cause }: Refusal): AuditRefusal {
  const read = (name: string): string | undefined => {
    const value = typeof cause === 'object' && cause !== null ? Reflect.get(cause, name) : undefined
    return typeof value === 'string' ? value : undefined
  }
  const code = [read('code'), read('name')].find(
    text => text !== undefined && NAME.test(text) && !DATA.test(text),
  )
  const own = isIssuerPinError(cause)
  const field = own ? read('field') : undefined
  const more = detail ?? (own ? (read('reason') ?? read('returnValueName') ?? read('kid')) : undefined)
  return {
    reason,
    ...(code !== undefined && { code }),
    ...(field !== undefined && { field }),
    ...(more !== undefined && { detail: more }),
  }
}
