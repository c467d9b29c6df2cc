/**
 * `npm run dashboard`: a minute of an issuer's life, in short: Get PINs, Set PINs of both types, some that are wrong, measured by
 * the real OpenTelemetry SDK through examples/otel. What it collects goes to docs/measurements/dashboard.json, of which
 * `npm run pictures` makes the picture.
 */
import { writeFileSync } from 'node:fs'
import { type Histogram, MeterProvider, MetricReader } from '@opentelemetry/sdk-metrics'
import { measureEndpoints } from '../../examples/otel/metrics.js'
import { counterPath, JSON_TYPE, pinPath, World } from '../../test/d1/endpoints/support/world.js'

/** What is drawn: by operation, how many requests fell below which bound; and how many were refused for what. */
export interface Dashboard {
  readonly date: string
  readonly bounds: readonly number[]
  readonly operations: readonly {
    readonly name: string
    readonly count: number
    readonly counts: readonly number[]
  }[]
  readonly refusals: readonly { readonly reason: string; readonly count: number }[]
}

class OnDemand extends MetricReader {
  protected override async onForceFlush(): Promise<void> {}
  protected override async onShutdown(): Promise<void> {}
}

/** Runs it, and gives what the SDK collected. */
export async function record(rounds: number): Promise<Dashboard> {
  const reader = new OnDemand()
  const provider = new MeterProvider({ readers: [reader] })
  const stop = measureEndpoints(provider.getMeter('issuer'))
  await using world = await World.open()
  const handler = world.handler({ audit: () => {} })
  const headers = await world.authorized(JSON_TYPE)
  const ask = async (path: string, init: RequestInit = {}): Promise<Response> =>
    handler(new Request(`https://issuer.test${path}`, { headers, ...init }))
  for (let i = 0; i < rounds; i++) {
    for (let j = 0; j < 4; j++) await ask(pinPath(j % 2 === 0 ? 'card-1' : 'card-2'))
    await ask(pinPath('card-1'), { method: 'PUT', body: await world.iso0() })
    const counter = (await (await ask(counterPath('seccos-only'))).json()) as {
      pcc: string
      intdatag: string
    }
    const body = await world.d1.seal('3DES_SECCOS', world.seccosContent(counter))
    await ask(pinPath('seccos-only'), { method: 'PUT', body })
    if (i % 4 === 0) await ask(pinPath('card-9'))
    if (i % 5 === 0) await ask(pinPath('card-1'), { method: 'PUT', body: '{}' })
    if (i % 10 === 0) await ask(pinPath('card-1'), { headers: {} })
  }
  stop()
  const { resourceMetrics } = await reader.collect()
  await provider.shutdown()
  const metrics = resourceMetrics.scopeMetrics.flatMap(scope => scope.metrics)
  const operations = new Map<string, { count: number; counts: number[] }>()
  const refusals = new Map<string, number>()
  let bounds: readonly number[] = []
  for (const { descriptor, dataPoints } of metrics) {
    for (const { attributes, value } of dataPoints) {
      if (descriptor.name === 'd1.request.duration') {
        const { buckets, count } = value as Histogram
        const name = String(attributes['d1.operation'])
        const known = operations.get(name) ?? { count: 0, counts: buckets.counts.map(() => 0) }
        bounds = buckets.boundaries
        operations.set(name, {
          count: known.count + count,
          counts: known.counts.map((sum, i) => sum + (buckets.counts[i] ?? 0)),
        })
      }
      if (descriptor.name === 'd1.refusals') {
        const reason = String(attributes['d1.refusal.reason'])
        refusals.set(reason, (refusals.get(reason) ?? 0) + Number(value))
      }
    }
  }
  return {
    date: new Date().toISOString().slice(0, 10),
    bounds,
    operations: [...operations].sort().map(([name, rest]) => ({ name, ...rest })),
    refusals: [...refusals].sort().map(([reason, count]) => ({ reason, count })),
  }
}

if (process.argv[1]?.endsWith('record-dashboard.ts')) {
  record(100).then(
    found => {
      const file = new URL('../../docs/measurements/dashboard.json', import.meta.url)
      writeFileSync(file, `${JSON.stringify(found, null, 2)}\n`)
    },
    error => {
      console.error(error)
      process.exitCode = 1
    },
  )
}
