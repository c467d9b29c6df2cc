/**
 * Traces of the endpoints by OpenTelemetry: a span for each request, and within it one for each use of a key, fed by the
 * channels on which both are published. Any SDK and exporter of yours; nothing of the service changes.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { channel, subscribe, unsubscribe } from 'node:diagnostics_channel'
import {
  type Attributes,
  type Context,
  context,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from '@opentelemetry/api'
import { type AuditEvent, otelAttributes } from 'issuer-pin-crypto/d1'

const BEGUN = channel('issuer-pin-crypto:d1.endpoints.begun')
const ENDED = 'issuer-pin-crypto:d1.endpoints'
const KEYS = 'issuer-pin-crypto:keys'

/** What is published of a use of a key, or of a bind, when it has ended. */
interface Used {
  readonly event: string
  readonly kid: string
  readonly usage: string
  readonly operation?: string
  readonly blocks?: number
  readonly queue: number
  readonly outcome: 'success' | 'failed'
  readonly code?: string
  readonly durationMs: number
}

/** Traces until the function that comes back is called. */
export function traceEndpoints(tracer: Tracer): () => void {
  const current = new AsyncLocalStorage<Context>()
  const open = new Map<string, Span>()
  const begin = (): Span => tracer.startSpan('D1 request', { kind: SpanKind.SERVER })
  BEGUN.bindStore(current, message => {
    const span = begin()
    open.set((message as { readonly requestId: string }).requestId, span)
    return trace.setSpan(context.active(), span)
  })
  const ended = (message: unknown): void => {
    const event = message as AuditEvent
    // What Node’s parser refused has no beginning.
    const span = open.get(event.requestId) ?? begin()
    open.delete(event.requestId)
    if (event.operation !== undefined) span.updateName(event.operation)
    span.setAttributes({ ...otelAttributes(event) } as Attributes)
    if (event.outcome === 'failed') span.setStatus({ code: SpanStatusCode.ERROR })
    span.end()
  }
  const used = (message: unknown): void => {
    const { event, kid, usage, operation, blocks, queue, outcome, code, durationMs } = message as Used
    const parent = current.getStore()
    if (event !== 'used' || parent === undefined) return
    const end = Date.now()
    const attributes = {
      'd1.key.id': kid,
      'd1.key.usage': usage,
      'd1.key.blocks': blocks,
      'd1.key.queue': queue,
      'error.type': code,
    }
    const span = tracer.startSpan(
      `key ${operation} ${kid}`,
      { startTime: end - durationMs, attributes },
      parent,
    )
    if (outcome === 'failed') span.setStatus({ code: SpanStatusCode.ERROR })
    span.end(end)
  }
  subscribe(ENDED, ended)
  subscribe(KEYS, used)
  return () => {
    BEGUN.unbindStore(current)
    unsubscribe(ENDED, ended)
    unsubscribe(KEYS, used)
  }
}
