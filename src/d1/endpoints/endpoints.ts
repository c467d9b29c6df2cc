/**
 * The issuer's side of D1's Outbound PIN Management API 1.0 as one Web-standard handler. It holds no cryptography: it
 * finds out what is asked, by whom and for which card, calls the verbs of this library, and answers as the contract has
 * it. The order is: route, authorization, ids, body, card and its state, what the message holds.
 */
import { CORRELATION_ID, type PinOperation } from '../contract.js'
import { type Answer, refused, responseOf } from './answer.js'
import type { Facts } from './audit.js'
import { type Call, type PinCall, pinCall } from './call.js'
import { authorize } from './callers.js'
import { withDeadline } from './deadline.js'
import { getPin, getPinChangeCounter, setPin } from './operations.js'
import type { IssuerEndpointsOptions } from './options.js'
import { Refusal } from './refusal.js'
import { openService, type Service, type TokenService } from './service.js'
import { getToken } from './token-operation.js'

/** A Web-standard request handler (Fetch API). It always resolves. */
export type EndpointHandler = (request: Request) => Promise<Response>

const PIN_OPERATIONS: Readonly<Record<PinOperation, (call: PinCall) => Promise<Answer>>> = {
  getPIN: getPin,
  SetPIN: setPin,
  getPINChangeCounter: getPinChangeCounter,
}

/**
 * Makes the handler for Get PIN, Set PIN (ISO0 and 3DES_SECCOS), Get PIN Change Counter and, where configured,
 * POST /oauth2/token. Mount it with `nodeListener`, or as it is where Requests are native (Hono).
 *
 * Answers have the contract's statuses and bodies and nothing beside: `{ error }` with the status in words, whatever
 * the reason; the reason is in the audit event. Everything inside a Set PIN message (JWE, PIN block, MAC, counter) is
 * one 400. A path that does not exist is 404; a wrong method, a query string, an escape in the path is 400. An
 * x-correlation-id that breaks its pattern is ignored, and the event says so: the pattern is published for the other
 * direction only, and a label for a log is no reason to refuse a cardholder. Body limits: 16 KiB, 4 KiB for the token
 * request. Limits of headers, and of how long they may take, are the server's.
 *
 * Errors: `ERR_ARGUMENT` and `ERR_JWE_RECIPIENT`, when it is made. The handler itself never rejects.
 * Source: Outbound PIN Management API 1.0 (getPIN, SetPIN, getPINChangeCounter); D1 OAuth API 1.0 (Get Authorization
 * Token).
 *
 * @example
 * ```ts
 * const handler = issuerEndpoints({
 *   issuers: { is_tbank01: { cards, pins, jweKeys, iso0: { d1Zpk, storage, d1PublicJwk } } },
 *   authorization: 'mtls-only',
 *   audit: event => logger.info(otelAttributes(event)),
 * })
 * https.createServer({ ...tls, requestCert: true, rejectUnauthorized: true }, nodeListener(handler)).listen(8443)
 * ```
 */
export function issuerEndpoints(options: IssuerEndpointsOptions): EndpointHandler {
  const service = openService(options)
  return request => handle(service, request)
}

async function handle(service: Service, request: Request): Promise<Response> {
  const { clock, timeoutMs: milliseconds } = service
  const started = clock.now()
  const facts: Facts = { keys: [] }
  let refusal: Refusal | undefined
  let answer: Answer
  try {
    answer = await withDeadline(
      { clock, milliseconds, reason: 'timeout', parent: request.signal },
      async signal => operate(service, request, signal, facts),
    )
  } catch (error) {
    refusal = error instanceof Refusal ? error : new Refusal('service-failed', { cause: error })
    answer = refused(facts.operation, refusal)
  }
  service.audit(facts, { status: answer.status, refusal, durationMs: clock.now() - started })
  return responseOf(facts.operation, answer)
}

async function operate(
  service: Service,
  request: Request,
  signal: AbortSignal,
  facts: Facts,
): Promise<Answer> {
  noteCorrelationId(request.headers.get('x-correlation-id'), facts)
  const matched = service.route(request)
  const { operation } = matched
  facts.operation = operation
  const call: Call = { service, request, matched, signal, facts }
  // The route is there only where the service is.
  if (operation === 'getToken') return getToken(call, service.tokens as TokenService)
  await authorize(service.authorization, request.headers, signal, facts)
  return PIN_OPERATIONS[operation](pinCall(call, operation))
}

function noteCorrelationId(id: string | null, facts: Facts): void {
  if (id === null) return
  if (CORRELATION_ID.test.test(id)) facts.correlationId = id
  else facts.correlationIdIgnored = true
}
