/**
 * The issuer's side of D1's Outbound PIN Management API 1.0 as one Web-standard handler. It holds no cryptography: it
 * finds out what is asked, by whom and for which card, calls the verbs of this library, and answers as the contract has
 * it. The order is: route, authorization, ids, body, card and its state, what the message holds.
 */
import { channel } from 'node:diagnostics_channel'
import { Ending } from '../../base/deadline.js'
import { maskPans, nameOfError } from '../audit.js'
import { CORRELATION_ID, type PinOperation } from '../contract.js'
import { auditEvent, type End, type Facts } from './audit.js'
import type { Place } from './bounds.js'
import { type Answer, type AskedRequest, refused, type Written, written } from './http.js'
import { type Call, getPin, getPinChangeCounter, type PinCall, pinCall, setPin } from './operations.js'
import type { IssuerEndpointsOptions } from './options.js'
import type { Connection } from './peer.js'
import { Refusal, withDeadline } from './refusal.js'
import { openService, type Service } from './service.js'
import { getToken, type TokenService } from './token-endpoint.js'

/** A Web-standard request handler (Fetch API). It always resolves. */
export interface EndpointHandler {
  /** `connection`: the other end (`connectionOf`); without it, a request is from nobody. */
  (request: Request, connection?: Connection): Promise<Response>
  /**
   * Whether a path, without its query, is one of the handler's, so that all others can be left to an application. A
   * function of somebody's around a handler may have no such thing: it is given everything.
   */
  readonly takes?: (path: string) => boolean
  /** Resolves once no request is under way, and what was `omitted` is told: for a clean end, when the server takes no more of them. */
  readonly settled?: () => Promise<void>
  /**
   * Notes what came on a connection and was no HTTP, or not of a kind that the server's parser takes: one audit event. It
   * resolves with the status to answer with, once the event is recorded. `watchServer` and `nodeListener` call it.
   */
  readonly unreadable?: (connection: Connection, error: unknown) => Promise<400 | 500>
}

/** The handler's other form, without the platform's `Request` and `Response`: the same core. */
type DirectHandler = (request: AskedRequest, connection: Connection | undefined) => Promise<Written>

/**
 * The direct form of a handler of ours. Not a member of it: what somebody puts around a handler, with its members copied,
 * is not gone around.
 */
export const DIRECT: WeakMap<EndpointHandler, DirectHandler> = new WeakMap()

const PIN_OPERATIONS: Readonly<Record<PinOperation, (call: PinCall) => Promise<Answer>>> = {
  getPIN: getPin,
  SetPIN: setPin,
  getPINChangeCounter: getPinChangeCounter,
}

/**
 * Where every request's event is published once it has come to its end, for metrics: `node:diagnostics_channel`. A
 * subscriber sees the audit event, and nothing more; of strangers too, however many there are, and so no event (`omitted`) that
 * stands for others.
 */
const OPERATIONS = channel('issuer-pin-crypto:d1.endpoints')

/**
 * Where every request is published when it begins, `{ requestId, sequence, time }`, for traces: a store that is bound to this
 * channel (`bindStore`) holds for all that happens in the request, the uses of keys included.
 */
const BEGUN = channel('issuer-pin-crypto:d1.endpoints.begun')

/**
 * Makes the handler for Get PIN, Set PIN (ISO0 and 3DES_SECCOS), Get PIN Change Counter and, where configured,
 * POST /oauth2/token. Mount it with `nodeListener`, or as it is where Requests are native (Hono).
 *
 * Answers have the contract's statuses and bodies and nothing else: `{ error }` with the status in words, whatever
 * the reason; the reason is in the audit event. Everything inside a Set PIN message (JWE, PIN block, MAC, counter) is
 * one 400. A path that does not exist is 404; a wrong method, an escape in the path is 400. What D1 may add is ignored, and
 * noted where it shows: query strings, headers, media-type parameters, JSON members. An x-correlation-id that breaks its
 * pattern is ignored, and the event says so: the pattern is published for the other direction only, and a label for a log
 * is no reason to refuse a cardholder. Body limits: 16 KiB, 4 KiB for the token request. Limits of headers, and of how
 * long they may take, are the server's.
 *
 * Errors: `ERR_ARGUMENT` and `ERR_JWE_RECIPIENT`, when it is made. The handler itself never rejects.
 * Source: Outbound PIN Management API 1.0 (getPIN, SetPIN, getPINChangeCounter); D1 OAuth API 1.0 (Get Authorization
 * Token).
 *
 * @example
 * ```ts
 * const handler = issuerEndpoints({
 *   issuers: { is_tbank01: { cards, pins, jweKeys, iso0: { d1Zpk, storage, d1PublicJwk } } },
 *   authorization: {
 *     callers: [{ name: 'd1', issuers: ['is_tbank01'], certificate: { sha256: ['5F:0C:…'] } }],
 *   },
 *   audit: event => logger.info(otelAttributes(event)),
 * })
 * https.createServer({ ...tls, requestCert: true, rejectUnauthorized: true }, nodeListener(handler)).listen(8443)
 * ```
 */
export function issuerEndpoints(options: IssuerEndpointsOptions): EndpointHandler {
  const service = openService(options)
  const underWay = new Set<Promise<Written>>()
  const direct: DirectHandler = async (request, connection) => {
    const answer = handle(service, request, connection ?? undefined)
    underWay.add(answer)
    try {
      return await answer
    } finally {
      underWay.delete(answer)
    }
  }
  const answer = async (request: Request, connection?: Connection): Promise<Response> => {
    const { status, headers, text = null } = await direct(request, connection)
    return new Response(text, { status, headers })
  }
  const handler = Object.assign(answer, {
    takes: (path: string) => service.router.takes(path),
    settled: async () => {
      while (underWay.size > 0) await Promise.allSettled(underWay)
      await service.strangers.tellOmitted()
      // And what was counted while an earlier one was being recorded.
      await service.strangers.tellOmitted()
    },
    unreadable: (connection: Connection, error: unknown) => noteUnreadable(service, connection, error),
  })
  DIRECT.set(handler, direct)
  return handler
}

async function noteUnreadable(service: Service, connection: Connection, error: unknown): Promise<400 | 500> {
  const facts = service.newFacts()
  const { address } = Object(connection)
  if (typeof address === 'string') facts.address = address
  const detail = nameOfError(error)
  const refusal = new Refusal('not-http', detail === undefined ? {} : { detail })
  return (await recorded(service, facts, { status: 400, refusal, durationMs: 0 })) ? 400 : 500
}

function handle(
  service: Service,
  request: AskedRequest,
  connection: Connection | undefined,
): Promise<Written> {
  const facts = service.newFacts()
  if (!BEGUN.hasSubscribers) return handled(service, request, connection, facts)
  const { requestId, sequence, time } = facts
  return BEGUN.runStores({ requestId, sequence, time }, () => handled(service, request, connection, facts))
}

async function handled(
  service: Service,
  request: AskedRequest,
  connection: Connection | undefined,
  facts: Facts,
): Promise<Written> {
  const { clock, timeoutMs: milliseconds } = service
  const started = clock.elapsed()
  let refusal: Refusal | undefined
  let answer: Answer
  let place: Place | undefined
  const parent = request.gone instanceof Ending ? request.gone : request.signal
  const bounded = <T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> =>
    withDeadline({ clock, milliseconds, reason: 'timeout', parent }, ({ signal }) => work(signal))
  try {
    const entered = service.gate.enter()
    place = entered
    answer = await bounded(signal =>
      entered.keep(operate(service, { request, connection, signal, endsAt: started + milliseconds, facts })),
    )
  } catch (error) {
    refusal = error instanceof Refusal ? error : new Refusal('service-failed', { cause: error })
    answer = refused(facts.operation, refusal)
  }
  const end = { status: answer.status, refusal, durationMs: clock.elapsed() - started }
  service.tidy()
  // What hangs there keeps its place, too; who found none has had nothing done, and does not wait.
  const isRecorded = recorded(service, facts, end, place)
  place?.[Symbol.dispose]()
  if (place !== undefined && !(await isRecorded))
    answer = refused(facts.operation, new Refusal('audit-failed'))
  return written(facts.operation, answer)
}

/** Publishes the event, and hands it over unless it is one of too many. False: it had to be durable before the answer, and is not. */
async function recorded(service: Service, facts: Facts, end: End, place?: Place): Promise<boolean> {
  if (OPERATIONS.hasSubscribers) OPERATIONS.publish(auditEvent(facts, end))
  if (facts.isKnown !== true && !service.strangers.hasRoom(facts, end)) return true
  return service.tell(facts, end, place)
}

interface Asked {
  readonly request: AskedRequest
  readonly connection: Connection | undefined
  readonly signal: AbortSignal
  readonly endsAt: number
  readonly facts: Facts
}

async function operate(service: Service, asked: Asked): Promise<Answer> {
  const { request, connection, signal, endsAt, facts } = asked
  noteCorrelationId(request.headers.get('x-correlation-id'), facts)
  const matched = service.router.find(request)
  const { operation, issuerId } = matched
  facts.operation = operation
  if (matched.hasQuery) facts.queryIgnored = true
  const call: Call = { service, request, connection, matched, signal, endsAt, facts }
  // The route is there only where the service is.
  if (operation === 'getToken') return getToken(call, service.tokens as TokenService)
  const speaksFor = await service.callers.recognise({
    request,
    connection,
    signal,
    facts,
    operation,
    issuerId,
  })
  facts.isKnown = true
  const pin = pinCall(call, operation, speaksFor)
  await service.requireRate({ issuerId, cardId: pin.card.cardId, operation, caller: facts.caller }, signal)
  return pin.issuer.gate.run(() => PIN_OPERATIONS[operation](pin))
}

function noteCorrelationId(id: string | null, facts: Facts): void {
  if (id === null) return
  if (CORRELATION_ID.test.test(id)) facts.correlationId = maskPans(id)
  else facts.correlationIdIgnored = true
}
