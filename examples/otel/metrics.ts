/**
 * Metrics of the endpoints by OpenTelemetry: a histogram of durations and counters, fed by the channel on which every
 * request's event is published. Any SDK and exporter of yours; nothing of the service changes.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { Meter } from '@opentelemetry/api'
import type { AuditEvent } from 'issuer-pin-crypto/d1'

const CHANNEL = 'issuer-pin-crypto:d1.endpoints'
/** Seconds, as the semantic conventions for HTTP servers have them. */
const BOUNDARIES = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

/** Measures until the function that comes back is called. */
export function measureEndpoints(meter: Meter): () => void {
  const duration = meter.createHistogram('d1.request.duration', {
    description: 'How long a request of D1’s took',
    unit: 's',
    advice: { explicitBucketBoundaries: BOUNDARIES },
  })
  const refusals = meter.createCounter('d1.refusals', {
    description: 'Requests refused or failed, by reason',
  })
  const keyUses = meter.createCounter('d1.key.uses', { description: 'Requests that a key was used in' })
  const measure = (message: unknown): void => {
    const { operation = 'none', outcome, status, durationMs, issuerId, refusal, keys } = message as AuditEvent
    const of = { 'd1.operation': operation, ...(issuerId !== undefined && { 'd1.issuer.id': issuerId }) }
    // No cardId and no caller here: labels are few, and cards are many.
    duration.record(durationMs / 1000, { ...of, 'd1.outcome': outcome, 'http.response.status_code': status })
    if (refusal !== undefined) refusals.add(1, { ...of, 'd1.refusal.reason': refusal.reason })
    for (const { role, kid } of keys) keyUses.add(1, { 'd1.key.role': role, 'd1.key.id': kid })
  }
  subscribe(CHANNEL, measure)
  return () => void unsubscribe(CHANNEL, measure)
}
