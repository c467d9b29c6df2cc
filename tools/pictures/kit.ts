/**
 * What all drawings share: one palette for light and dark, and the few shapes they are made of. A drawing is text, so
 * that a change shows in a diff; colours mean one thing each (red: the PIN, blue: D1 and the PAN, yellow: keys).
 */

const STYLE = `
 :root{--bg:#fff;--ink:#1b1f24;--mute:#59636e;--line:#c9d1d9;--lane:#f6f8fa;--pin:#b42318;--pinbg:#fff1f0;--pan:#0b6e99;--panbg:#e9f5fb;--key:#8a5a00;--keybg:#fff6e0;--ok:#1a7f37;--okbg:#ecf8ef}
 @media (prefers-color-scheme:dark){:root{--bg:#0d1117;--ink:#e6edf3;--mute:#9aa4af;--line:#3d444d;--lane:#151b23;--pin:#ff8077;--pinbg:#2d1614;--pan:#5fb8e0;--panbg:#0f2733;--key:#e3b341;--keybg:#2b2410;--ok:#56d364;--okbg:#10261a}}
 text{fill:var(--ink);font-size:14px} .m{fill:var(--mute);font-size:12.5px} .h{font-weight:650;font-size:15px} .c{font-family:ui-monospace,'SF Mono','DejaVu Sans Mono',monospace;font-size:12.5px} .s{font-size:11.5px}
 .mid{text-anchor:middle} .end{text-anchor:end}
 .plain{fill:var(--lane);stroke:var(--line)} .pin{fill:var(--pinbg);stroke:var(--pin)} .pan{fill:var(--panbg);stroke:var(--pan)} .key{fill:var(--keybg);stroke:var(--key)} .ok{fill:var(--okbg);stroke:var(--ok)} .open{fill:none;stroke:var(--line)} .ring{fill:var(--bg);stroke:var(--mute)}
 .tpin{fill:var(--pin)} .tpan{fill:var(--pan)} .tkey{fill:var(--key)} .tok{fill:var(--ok)}
 .line{stroke:var(--ink);stroke-width:1.6;fill:none} .line.pan{stroke:var(--pan)} .line.mute{stroke:var(--mute)} .dash{stroke-dasharray:6 4} .life{stroke:var(--line);stroke-width:1.5;stroke-dasharray:3 4} .rule{stroke:var(--line)}
 .halo{paint-order:stroke;stroke:var(--bg);stroke-width:5px;stroke-linejoin:round}`

/** The kinds of box; each has one meaning in every drawing. */
export type Kind = 'plain' | 'pin' | 'pan' | 'key' | 'ok' | 'open' | 'ring'

/** Text as it may appear in SVG. */
export function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}

/** A text: `classes` as in the style sheet (`m` muted, `h` heading, `c` code, `mid`, `end`). */
export function label(input: { x: number; y: number; text: string; classes?: string }): string {
  return `<text x="${input.x}" y="${input.y}" class="${input.classes ?? ''}">${escapeXml(input.text)}</text>`
}

/** A box with one line of text in its middle, or two. */
export function box(input: {
  x: number
  y: number
  width: number
  height: number
  kind: Kind
  text?: string
  below?: string
  classes?: string
}): string {
  const { x, y, width, height, kind, text, below } = input
  const middle = x + width / 2
  const first = below === undefined ? y + height / 2 + 5 : y + height / 2 - 3
  return [
    `<rect class="${kind}" x="${x}" y="${y}" width="${width}" height="${height}" rx="7"/>`,
    text === undefined ? '' : label({ x: middle, y: first, text, classes: `mid ${input.classes ?? ''}` }),
    below === undefined ? '' : label({ x: middle, y: first + 17, text: below, classes: 'mid m' }),
  ].join('')
}

/** A straight arrow; `dashed` for answers. */
export function arrow(input: {
  from: readonly [number, number]
  to: readonly [number, number]
  dashed?: boolean
  kind?: 'pan' | 'mute'
}): string {
  const classes = ['line', input.kind, input.dashed === true ? 'dash' : undefined].filter(Boolean).join(' ')
  return `<path class="${classes}" d="M${input.from.join(' ')}L${input.to.join(' ')}" marker-end="url(#a)"/>`
}

/** A whole drawing, with a title and a description for readers who do not see it. */
export function drawing(input: {
  width: number
  height: number
  title: string
  description: string
  parts: readonly string[]
}): string {
  const { width, height } = input
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-labelledby="t d" font-family="system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif">
<title id="t">${escapeXml(input.title)}</title>
<desc id="d">${escapeXml(input.description)}</desc>
<style>${STYLE}
</style>
<defs><marker id="a" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="context-stroke"/></marker></defs>
<rect width="${width}" height="${height}" fill="var(--bg)"/>
${input.parts.join('\n')}
</svg>
`
}

/** One line of a sequence: a message between two lanes, a note at a lane, or a rule across. */
export type Step =
  | {
      readonly from: number
      readonly to: number
      readonly text: string
      readonly answer?: boolean
      readonly code?: boolean
    }
  | { readonly at: number; readonly lines: readonly string[]; readonly kind: Kind; readonly width?: number }
  | { readonly rule: string }

/** A sequence diagram: lanes from left to right, time from top to bottom. */
export function sequence(input: {
  title: string
  description: string
  lanes: readonly { readonly name: string; readonly below: string; readonly kind: Kind }[]
  steps: readonly Step[]
}): string {
  const gap = 236
  const left = 110
  const x = (lane: number): number => left + lane * gap
  const parts: string[] = []
  let y = 104
  for (const step of input.steps) {
    if ('rule' in step) {
      parts.push(`<path class="rule" d="M24 ${y - 8}H${x(input.lanes.length - 1) + 86}"/>`)
      parts.push(label({ x: 24, y: y + 12, text: step.rule, classes: 'h' }))
      y += 46
    } else if ('at' in step) {
      const width = step.width ?? 246
      const height = 14 + 19 * step.lines.length
      parts.push(box({ x: x(step.at) - width / 2, y: y - 14, width, height, kind: step.kind }))
      step.lines.forEach((text, i) => {
        parts.push(label({ x: x(step.at), y: y + 5 + 19 * i, text, classes: `mid ${i === 0 ? '' : 'm'}` }))
      })
      y += height + 20
    } else {
      const down = step.to > step.from
      const fromX = x(step.from) + (down ? 4 : -4)
      const toX = x(step.to) + (down ? -6 : 6)
      parts.push(
        arrow({
          from: [fromX, y],
          to: [toX, y],
          dashed: step.answer === true,
          kind: step.answer === true ? 'mute' : 'pan',
        }),
      )
      parts.push(
        label({
          x: (fromX + toX) / 2,
          y: y - 7,
          text: step.text,
          classes: `mid halo ${step.code === true ? 'c' : ''}`,
        }),
      )
      y += 38
    }
  }
  const height = y + 10
  const lanes = input.lanes.flatMap((lane, i) => [
    `<path class="life" d="M${x(i)} 68V${height - 14}"/>`,
    box({
      x: x(i) - 86,
      y: 18,
      width: 172,
      height: 48,
      kind: lane.kind,
      text: lane.name,
      below: lane.below,
      classes: 'h',
    }),
  ])
  return drawing({
    width: x(input.lanes.length - 1) + 110,
    height,
    title: input.title,
    description: input.description,
    parts: [...lanes, ...parts],
  })
}
