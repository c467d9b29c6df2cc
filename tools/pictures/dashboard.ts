/** A dashboard of an issuer, out of what the OpenTelemetry SDK measured: docs/measurements/dashboard.json. */
import { readFileSync } from 'node:fs'
import { drawing, label } from './kit.js'
import type { Dashboard } from './record-dashboard.js'

const PANEL = 360
const BAR = 22

const ms = (seconds: number): string => `${seconds * 1000} ms`

/** One panel: a bar for each bound, as long as its share. */
function panel(
  x: number,
  { name, count, counts }: Dashboard['operations'][number],
  bounds: readonly number[],
  rows: number,
): string[] {
  const most = Math.max(1, ...counts)
  const parts = [label({ x, y: 40, text: `${name}: ${count} requests`, classes: 'h' })]
  for (const [i, n] of counts.slice(0, rows).entries()) {
    const y = 60 + i * BAR
    const bound = bounds[i]
    const text = bound === undefined ? `> ${ms(bounds.at(-1) ?? 0)}` : `≤ ${ms(bound)}`
    const width = Math.round((n / most) * 170)
    parts.push(label({ x: x + 80, y: y + 14, text, classes: 'm end' }))
    if (n > 0)
      parts.push(`<rect x="${x + 90}" y="${y + 2}" width="${width}" height="${BAR - 6}" class="box ok"/>`)
    if (n > 0) parts.push(label({ x: x + 98 + width, y: y + 14, text: String(n), classes: 'm' }))
  }
  return parts
}

export function dashboard(): string {
  const file = new URL('../../docs/measurements/dashboard.json', import.meta.url)
  const { operations, refusals, bounds, date } = JSON.parse(readFileSync(file, 'utf8')) as Dashboard
  const named = operations.filter(({ name }) => name !== 'none')
  // Bounds that no request reached, in any panel, are left out.
  const rows = Math.max(...named.map(({ counts }) => counts.findLastIndex(count => count > 0))) + 1
  const below = 60 + rows * BAR + 30
  const parts = named.flatMap((operation, i) => panel(20 + i * PANEL, operation, bounds, rows))
  parts.push(label({ x: 20, y: below, text: 'Refused, by reason', classes: 'h' }))
  for (const [i, { reason, count }] of refusals.entries()) {
    parts.push(label({ x: 20 + i * 240, y: below + 24, text: `${reason}: ${count}`, classes: '' }))
  }
  return drawing({
    width: 40 + named.length * PANEL,
    height: below + 44,
    title: 'A dashboard of an issuer',
    description: `Durations by operation and refusals by reason, as the OpenTelemetry SDK measured them on ${date}`,
    parts,
  })
}
