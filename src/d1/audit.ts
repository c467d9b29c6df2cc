/**
 * What both directions tell an operator: the endpoints of every request that D1 made, the client of every call that it
 * made to D1. One shape, one way to hand it over, one set of OpenTelemetry names.
 */
import { ownMembers } from '../base/arguments.js'
import type { PinBlockType } from './contract.js'

/** What a key did in an operation. */
export type KeyRole = 'jwe' | 'd1-zpk' | 'storage' | 'prw-mac' | 'd1-public' | 'assertion'

/** A key by its name and check value. D1's public key, a signer's key, and a PRW key that is not here, have none. */
export interface AuditKey {
  readonly role: KeyRole
  readonly kid: string
  readonly checkValue?: string
}

/** Why it was refused, or failed. */
export interface AuditRefusal<Reason extends string = string> {
  readonly reason: Reason
  /** The code of this library's error, or the code or name of a foreign one. */
  readonly code?: string
  /** The member of the message, or the field of the data set. */
  readonly field?: string
  /** The change counter's reason, the token verifier's, a PKCS#11 return value, or the kid of a key that is refused. */
  readonly detail?: string
}

/** What the events of both directions have. */
export interface D1Event<Reason extends string = string> {
  readonly operation?: string
  /** `refused`: 4xx. `failed`: everything else that is no success. */
  readonly outcome: 'success' | 'refused' | 'failed'
  readonly status?: number
  readonly issuerId?: string
  /** Left out where it looks like a PAN and is not known to be a card's. */
  readonly cardId?: string
  readonly correlationId?: string
  readonly refusal?: AuditRefusal<Reason>
  readonly keys: readonly AuditKey[]
  readonly durationMs: number
}

/** Twelve digits and more, with or without separators between them: in a longer run, a PAN is as easily found. */
const MAY_BE_PAN = /[0-9](?:[_-]*[0-9]){11,}/g
/** Of a version and the variant of RFC 9562 (4.1, 4.2), and with a letter: digits in the same groups may be a PAN. */
const UUID = /^(?=.*[a-f])[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i
const NAME = /^[A-Za-z0-9_]{1,64}$/
/** SQLSTATE has five digits; a longer number would be data. */
const DATA = /[0-9]{6}/

/** The cardId as an event may show it. */
export function shownCardId(cardId: string | undefined, known: boolean): { readonly cardId?: string } {
  return cardId === undefined || (!known && maskPans(cardId) !== cardId) ? {} : { cardId }
}

/** A text of somebody else's with what may be a PAN in it written as asterisks. A UUID is not one, whatever its digits. */
export function maskPans(text: string): string {
  return UUID.test(text) ? text : text.replaceAll(MAY_BE_PAN, digits => '*'.repeat(digits.length))
}

/** The code or the name of an error, where it is one. Never its message: a database puts parameters there. */
export function nameOfError(error: unknown): string | undefined {
  return ['code', 'name']
    .map(name => textOf(error, name))
    .find(text => text !== undefined && NAME.test(text) && !DATA.test(text))
}

/** A member of an error, where it is text. What somebody else threw may throw again when it is looked at. */
export function textOf(error: unknown, name: string): string | undefined {
  try {
    const value = typeof error === 'object' && error !== null ? Reflect.get(error, name) : undefined
    return typeof value === 'string' ? value : undefined
  } catch {
    return undefined
  }
}

/**
 * Makes the function that hands events to a hook. The hook is not waited for; what it throws, or what making the event
 * from a foreign error throws, changes nothing: the process is warned once.
 */
export function auditor<Event>(
  hook: (event: Event, cause?: unknown) => void | Promise<void>,
  whose: string,
): (makeEvent: () => Event, cause: unknown) => void {
  let warned = false
  const warn = (): void => {
    if (warned) return
    warned = true
    process.emitWarning(`the audit hook of ${whose} failed`, 'IssuerPinWarning')
  }
  return (makeEvent, cause) => {
    try {
      Promise.resolve(hook(makeEvent(), cause)).catch(warn)
    } catch {
      warn()
    }
  }
}

/** Either event, as the table below reads it: what one direction alone has is optional. */
export interface AnyD1Event extends D1Event {
  readonly time?: string
  readonly sequence?: number
  readonly requestId?: string
  readonly correlationIdIgnored?: true
  readonly queryIgnored?: true
  readonly statedCertificateIgnored?: true
  readonly caller?: string
  readonly callerCertificate?: string
  readonly tokenSubject?: string
  readonly tokenId?: string
  readonly address?: string
  readonly replayedIsCurrent?: boolean
  readonly pinType?: PinBlockType
  readonly replayed?: boolean
  readonly omitted?: number
  readonly errorCode?: string
  readonly delivery?: string
  readonly requests?: number
  readonly tokenFetched?: boolean
}

/** How OpenTelemetry would have the members called; arrays side by side, as attributes hold no objects. */
const ATTRIBUTES: Readonly<Record<string, (event: AnyD1Event) => unknown>> = {
  'd1.operation': event => event.operation,
  'd1.outcome': event => event.outcome,
  'http.response.status_code': event => event.status,
  'http.request.resend_count': ({ requests = 0 }) => (requests > 1 ? requests - 1 : undefined),
  'd1.issuer.id': event => event.issuerId,
  'd1.card.id': event => event.cardId,
  'd1.correlation.id': event => event.correlationId,
  'd1.correlation.ignored': event => event.correlationIdIgnored,
  'd1.query.ignored': event => event.queryIgnored,
  'd1.stated_certificate.ignored': event => event.statedCertificateIgnored,
  'd1.request.id': event => event.requestId,
  'd1.request.time': event => event.time,
  'd1.sequence': event => event.sequence,
  'd1.caller': event => event.caller,
  'd1.token.subject': event => event.tokenSubject,
  'd1.token.id': event => event.tokenId,
  'tls.client.hash.sha256': event => event.callerCertificate,
  'client.address': event => event.address,
  'd1.pin.type': event => event.pinType,
  'd1.pin.replayed': event => event.replayed,
  'd1.pin.replayed_is_current': event => event.replayedIsCurrent,
  'd1.omitted': event => event.omitted,
  'd1.token.fetched': event => event.tokenFetched,
  'd1.refusal.reason': event => event.refusal?.reason,
  'd1.refusal.field': event => event.refusal?.field,
  'd1.refusal.detail': event => event.refusal?.detail,
  'd1.error_code': event => event.errorCode,
  'd1.delivery': event => event.delivery,
  'error.type': event => event.refusal?.code ?? event.refusal?.reason,
  'd1.key.role': event => event.keys.map(key => key.role),
  'd1.key.id': event => event.keys.map(key => key.kid),
  'd1.key.check_value': event => event.keys.map(key => key.checkValue ?? ''),
  'd1.duration_ms': event => event.durationMs,
}

/** A value that an OpenTelemetry attribute can have. */
export type AttributeValue = string | number | boolean | readonly string[]

/**
 * An event, of the endpoints or of the client, as a flat set of OpenTelemetry attributes, without what is undefined.
 * Take events of either: `AuditEvent` and `ClientAuditEvent`. Names of the semantic conventions where there are some (`http.response.status_code`, `http.request.resend_count`,
 * `error.type`), else under `d1.`.
 *
 * @example
 * ```ts
 * const audit: AuditHook = event => logger.emit({ eventName: 'd1.pin', attributes: otelAttributes(event) })
 * ```
 */
export function otelAttributes(event: AnyD1Event): Readonly<Record<string, AttributeValue>> {
  const own = ownMembers(event)
  const attributes: Record<string, AttributeValue> = {}
  for (const [name, read] of Object.entries(ATTRIBUTES)) {
    const value = read(own)
    if (value !== undefined) attributes[name] = value as AttributeValue
  }
  return attributes
}
