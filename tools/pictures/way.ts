/** The way of a PIN as a capsule that changes its shells: which key is around it at each stop, and where it is clear. */
import { arrow, box, drawing, type Kind, label } from './kit.js'

interface Stop {
  readonly place: string
  readonly below: string
  /** From the outside to the inside. */
  readonly shells: readonly { readonly text: string; readonly kind: Kind }[]
}

const STOPS: readonly Stop[] = [
  {
    place: 'D1',
    below: 'a secure device',
    shells: [
      { text: 'TLS', kind: 'plain' },
      { text: 'JWE to you', kind: 'pan' },
      { text: 'ZPK', kind: 'key' },
    ],
  },
  {
    place: 'Your service',
    below: 'opens the JWE',
    shells: [{ text: 'ZPK', kind: 'key' }],
  },
  {
    place: 'Where the keys are',
    below: 'host memory or token',
    shells: [],
  },
  {
    place: 'Your service',
    below: 'stores',
    shells: [{ text: 'PEK', kind: 'key' }],
  },
  {
    place: 'Database',
    below: 'at rest',
    shells: [{ text: 'PEK', kind: 'key' }],
  },
]

/** The drawing. */
export function wayOfPin(): string {
  const width = 176
  const gap = 26
  const top = 78
  const parts = STOPS.flatMap((stop, i) => {
    const x = 20 + i * (width + gap)
    const middle = x + width / 2
    const out = [
      label({ x: middle, y: 36, text: stop.place, classes: 'mid h' }),
      label({ x: middle, y: 56, text: stop.below, classes: 'mid m' }),
    ]
    stop.shells.forEach((shell, depth) => {
      const inset = depth * 16
      out.push(
        box({
          x: x + inset,
          y: top + depth * 24,
          width: width - 2 * inset,
          height: 176 - depth * 40,
          kind: shell.kind,
        }),
        label({ x: middle, y: top + depth * 24 + 17, text: shell.text, classes: 'mid s' }),
      )
    })
    out.push(
      box({
        x: middle - 38,
        y: 166,
        width: 76,
        height: 44,
        kind: 'pin',
        text: 'PIN block',
        classes: 's tpin',
      }),
    )
    if (stop.shells.length === 0)
      out.push(label({ x: middle, y: 234, text: 'clear, for one operation', classes: 'mid m' }))
    if (i > 0) out.push(arrow({ from: [x - gap + 3, 188], to: [x - 3, 188] }))
    return out
  })
  const all = 20 + STOPS.length * (width + gap)
  return drawing({
    width: all,
    height: 312,
    title: 'The way of a PIN through Set PIN (ISO0)',
    description:
      'The PIN block travels in shells: TLS, a JWE to the issuer, the key shared with D1 (ZPK). The service opens the JWE; the block changes from the ZPK to the storage key (PEK) where the keys are, which is the only place where it is clear; it is stored under the PEK.',
    parts: [
      ...parts,
      label({
        x: 20,
        y: 276,
        text: 'Get PIN is the same way back: PEK, clear for one operation, ZPK, JWE to D1, TLS.',
      }),
      label({
        x: 20,
        y: 298,
        text: 'Whose memory the one operation uses is your choice; SECURITY says what each choice means.',
        classes: 'm',
      }),
    ],
  })
}
