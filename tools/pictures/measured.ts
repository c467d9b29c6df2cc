/** What was measured, as plots: each reads the table of its page under docs/measurements, so that the two cannot differ. */
import { readFileSync } from 'node:fs'
import { drawing, type Kind, label } from './kit.js'

const page = (name: string): string =>
  readFileSync(new URL(`../../docs/measurements/${name}.md`, import.meta.url), 'utf8')

/** The cells of a table's rows, without its head. */
function rowsOf(table: string): readonly (readonly string[])[] {
  return table
    .split('\n')
    .filter(line => line.startsWith('|'))
    .slice(2)
    .map(line =>
      line
        .split('|')
        .slice(1, -1)
        .map(cell => cell.trim()),
    )
}

const numberOf = (cell: string | undefined): number => Number(cell?.replaceAll(',', ''))

/** Powers of ten from left to right. */
function axis(input: { left: number; width: number; from: number; to: number; top: number; bottom: number }) {
  const { left, width, from, to, top, bottom } = input
  const at = (value: number): number =>
    Math.round(left + (width * (Math.log10(Math.max(value, 10 ** from)) - from)) / (to - from))
  const decades = Array.from({ length: to - from + 1 }, (_, i) => from + i)
  const lines = decades.map(power => `<path class="rule" d="M${at(10 ** power)} ${top}V${bottom}"/>`)
  return { at, decades, lines }
}

const dot = (x: number, y: number, kind: Kind): string =>
  `<circle class="${kind}" cx="${x}" cy="${y}" r="5"/>`

/** How long calls took, from the fastest half to the slowest one, by set-up. */
export function loadPercentiles(): string {
  const [head = '', ...setups] = page('load').split(/\n### /)
  const date = /(\d{4}-\d\d-\d\d)/.exec(head)?.[1] ?? ''
  const groups = setups.map(text => ({
    name: text.slice(0, text.indexOf('\n')),
    rate: /\*\*(\d+) a second\*\*, (\d+) wrong/.exec(text),
    rows: rowsOf(text.slice(0, text.indexOf('\n## ') + 1 || undefined).split(/\n\n(?=\w)/, 2)[1] ?? text),
  }))
  const left = 232
  const width = 470
  const row = 24
  const height = 96 + groups.reduce((sum, { rows }) => sum + 46 + rows.length * row, 0)
  const scale = axis({ left, width, from: 2, to: 4, top: 74, bottom: height - 20 })
  const parts = [
    label({ x: 24, y: 34, text: 'How long a call takes under load', classes: 'h' }),
    label({
      x: 24,
      y: 54,
      text: `Ends of the bar: half of the calls, and 99 of 100. Mark: 90 of 100. Ring: the slowest. ${date}, a busy machine.`,
      classes: 'm',
    }),
    ...scale.lines,
    ...scale.decades.map(power =>
      label({
        x: scale.at(10 ** power),
        y: height - 4,
        text: power < 3 ? `${10 ** power} ms` : `${10 ** (power - 3)} s`,
        classes: 'mid m s',
      }),
    ),
  ]
  let y = 92
  for (const { name, rate, rows } of groups) {
    parts.push(
      label({ x: 24, y, text: name, classes: 'h' }),
      label({
        x: left + width,
        y,
        text: `${rate?.[1]} calls a second, ${rate?.[2]} wrong`,
        classes: 'end m halo',
      }),
    )
    y += 26
    for (const [call = '', , p50, p90, p99, longest] of rows) {
      const [from, mark, to, last] = [p50, p90, p99, longest].map(cell => scale.at(numberOf(cell)))
      parts.push(
        label({ x: left - 12, y: y + 4, text: call, classes: 'end' }),
        `<rect class="ok" x="${from}" y="${y - 6}" width="${(to ?? 0) - (from ?? 0)}" height="12" rx="3"/>`,
        `<path class="line" d="M${mark} ${y - 6}v12"/>`,
        dot(last ?? 0, y, 'ring'),
      )
      y += row
    }
    y += 20
  }
  return drawing({
    width: left + width + 40,
    height,
    title: 'How long a call takes under load',
    description: groups
      .map(
        ({ name, rows }) =>
          `${name}: ${rows.map(([call, , p50, p90, p99, last]) => `${call} ${p50}, ${p90}, ${p99}, ${last} ms`).join('; ')}`,
      )
      .join('. '),
    parts,
  })
}

const VERDICTS: readonly (readonly [begins: string, kind: Kind, says: string])[] = [
  ['seen', 'pan', 'a control that must be seen'],
  ['differs', 'key', 'differs, as stated'],
  ['not', 'ok', 'not told apart'],
  ['beyond', 'ring', 'below 1 ns: not told from none'],
]

/** Which differences in time were looked for, how small a one would have been seen, and what was seen. */
export function timingEffects(): string {
  const text = page('timing')
  const rows = rowsOf(text.slice(text.indexOf('| measurement |'), text.indexOf('\n\nThe smallest effect')))
  const left = 420
  const width = 460
  const row = 25
  const top = 124
  const bottom = top + rows.length * row
  const scale = axis({ left, width, from: -2, to: 5, top: top - 16, bottom })
  const parts = [
    label({ x: 24, y: 34, text: 'Does the time of a call tell what it should not?', classes: 'h' }),
    label({
      x: 24,
      y: 54,
      text: 'Line: what would have been seen, from its left end on. Dot: the difference that was measured. A dot left of its line is noise.',
      classes: 'm',
    }),
    ...VERDICTS.flatMap(([, kind, says], i) => [
      dot(30 + i * 214, 80, kind),
      label({ x: 42 + i * 214, y: 84, text: says, classes: 'm' }),
    ]),
    ...scale.lines,
    ...scale.decades.map(power =>
      label({
        x: scale.at(10 ** power),
        y: bottom + 16,
        text: power < 0 ? `${10 ** power} ns` : power < 3 ? `${10 ** power} ns` : `${10 ** (power - 3)} µs`,
        classes: 'mid m s',
      }),
    ),
  ]
  rows.forEach(([name = '', , difference, smallest, verdict = ''], i) => {
    const y = top + i * row
    const kind = VERDICTS.find(([begins]) => verdict.startsWith(begins))?.[1]
    if (kind === undefined) throw new Error(`timing.md: no such verdict: ${verdict}`)
    parts.push(
      label({ x: left - 14, y: y + 4, text: name, classes: 'end s' }),
      `<path class="line mute" d="M${scale.at(numberOf(smallest))} ${y}H${left + width}"/>`,
      dot(scale.at(Math.abs(numberOf(difference))), y, kind),
    )
  })
  return drawing({
    width: left + width + 30,
    height: bottom + 30,
    title: 'Does the time of a call tell what it should not?',
    description: rows
      .map(
        ([name, , difference, smallest, verdict]) =>
          `${name}: ${difference} ns of ${smallest} ns, ${verdict}`,
      )
      .join('; '),
    parts,
  })
}

/** How long it takes after a fault until calls are answered again. */
export function faultRecovery(): string {
  const text = page('pkcs11-faults')
  const between = (from: string, to: string): readonly (readonly string[])[] => {
    const begin = text.indexOf(from)
    return rowsOf(text.slice(begin, text.indexOf(to, begin)))
  }
  const groups = [
    {
      name: 'Until the keys work again after a fault',
      below: 'return values, delays, hangs, lost logins and sessions, a token away',
      rows: between('| executor, binding |', '\n\nWhile').map(([what = '', , , , , , , ...times]) => ({
        what,
        times: times.slice(0, 3).map(numberOf),
      })),
    },
    {
      name: 'Until the first right answer after a kill',
      below: 'the child process of the library, or the process behind p11-kit',
      rows: between('| what | times |', '\n\n## ').map(([what = '', , ...times]) => ({
        what,
        times: times.map(numberOf),
      })),
    },
  ]
  const left = 232
  const width = 470
  const row = 24
  const top = 74
  const height = 100 + groups.reduce((sum, { rows }) => sum + 66 + rows.length * row, 0)
  const scale = axis({ left, width, from: 0, to: 4, top, bottom: height - 20 })
  const parts = [
    label({ x: 24, y: 34, text: 'How long it takes a token to be back', classes: 'h' }),
    label({
      x: 24,
      y: 54,
      text: 'Bar: from half of the times to 95 of 100. Ring: the longest. At the left edge: a millisecond or less.',
      classes: 'm',
    }),
    ...scale.lines,
    ...scale.decades.map(power =>
      label({
        x: scale.at(10 ** power),
        y: height - 4,
        text: power < 3 ? `${10 ** power} ms` : `${10 ** (power - 3)} s`,
        classes: 'mid m s',
      }),
    ),
  ]
  let y = 98
  for (const { name, below, rows } of groups) {
    parts.push(label({ x: 24, y, text: name, classes: 'h halo' }))
    parts.push(label({ x: 24, y: y + 18, text: below, classes: 'm halo' }))
    y += 44
    for (const { what, times } of rows) {
      const [from = 0, to = 0, longest = 0] = times.map(scale.at)
      parts.push(
        label({ x: left - 12, y: y + 4, text: what, classes: 'end' }),
        `<rect class="ok" x="${from}" y="${y - 6}" width="${Math.max(to - from, 3)}" height="12" rx="3"/>`,
        dot(longest, y, 'ring'),
      )
      y += row
    }
    y += 22
  }
  return drawing({
    width: left + width + 40,
    height,
    title: 'How long it takes a token to be back',
    description: groups
      .map(
        ({ name, rows }) =>
          `${name}: ${rows.map(({ what, times }) => `${what} ${times.join(', ')} ms`).join('; ')}`,
      )
      .join('. '),
    parts,
  })
}
