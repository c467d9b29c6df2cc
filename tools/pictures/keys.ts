/** Which party has which key, and what a storage key does in each phase of a rotation. */
import { type KeyUsage, USAGES } from '../../src/key/usage.js'
import { box, drawing, type Kind, label } from './kit.js'

type Part = 'secret' | 'private' | 'public' | undefined

const PARTIES = ['Thales D1', 'your service', 'your HSM', 'your database'] as const
/** What each party has of a key. A secret or private key that is in the HSM is nowhere else of yours. */
const KEYS: readonly {
  readonly name: string
  readonly usage: KeyUsage
  readonly has: readonly [Part, Part, Part, Part]
}[] = [
  { name: 'ZPK, shared with D1', usage: 'pin-encryption', has: ['secret', undefined, 'secret', undefined] },
  {
    name: 'PEK, for what is stored',
    usage: 'pin-encryption',
    has: [undefined, undefined, 'secret', undefined],
  },
  { name: 'JWE to you', usage: 'jwe-key-agreement', has: ['public', 'public', 'private', undefined] },
  { name: 'JWE to D1', usage: 'jwe-key-agreement', has: ['private', 'public', undefined, undefined] },
  { name: 'your signature at D1', usage: 'jwt-signing', has: ['public', undefined, 'private', undefined] },
  { name: 'PRW (SECCOS)', usage: 'prw-verify', has: ['secret', undefined, 'secret', undefined] },
  {
    name: 'MAC over the PRW (SECCOS)',
    usage: 'retail-mac',
    has: ['secret', undefined, 'secret', undefined],
  },
]
const LOOKS: Readonly<Record<NonNullable<Part>, Kind>> = { secret: 'key', private: 'key', public: 'pan' }

const PHASES = [
  { list: '[old]', old: 'stores', next: undefined },
  { list: '[old, new]', old: 'stores', next: 'is accepted' },
  { list: '[new, old]', old: 'is accepted', next: 'stores' },
  { list: 'storage rotate', old: 'moves away', next: 'stores' },
  { list: '[new]', old: undefined, next: 'stores' },
] as const

const LEFT = 24
const COLUMN = 158
const FIRST = 300
const TOP = 84
const ROW = 44

/** The drawing. */
export function keysAndRotation(): string {
  const width = FIRST + PARTIES.length * COLUMN + 20
  const parts = [label({ x: LEFT, y: 34, text: 'Who has which key', classes: 'h' })]
  PARTIES.forEach((name, i) => {
    parts.push(label({ x: FIRST + (i + 0.5) * COLUMN, y: 62, text: name, classes: 'mid h' }))
  })
  KEYS.forEach(({ name, usage, has }, row) => {
    const y = TOP + row * ROW
    parts.push(`<path class="rule" d="M${LEFT} ${y - 6}H${width - 20}"/>`)
    parts.push(label({ x: LEFT, y: y + 14, text: name }))
    parts.push(label({ x: LEFT, y: y + 31, text: `${usage}, ${USAGES[usage].x9143}`, classes: 'm s' }))
    has.forEach((part, i) => {
      if (part === undefined) return
      const x = FIRST + i * COLUMN + 22
      parts.push(box({ x, y: y + 2, width: COLUMN - 44, height: 28, kind: LOOKS[part], text: part }))
    })
  })
  const second = TOP + KEYS.length * ROW + 42
  const step = (width - LEFT - 20 - 96) / PHASES.length
  parts.push(
    label({ x: LEFT, y: second, text: 'The storage key changes, and every call is answered', classes: 'h' }),
  )
  parts.push(
    label({ x: LEFT, y: second + 66, text: 'old key' }),
    label({ x: LEFT, y: second + 106, text: 'new key' }),
  )
  PHASES.forEach(({ list, old, next }, i) => {
    const x = LEFT + 96 + i * step
    parts.push(label({ x: x + step / 2 - 4, y: second + 34, text: list, classes: 'mid c' }))
    for (const [what, y] of [
      [old, second + 46],
      [next, second + 86],
    ] as const) {
      if (what === undefined) continue
      const kind: Kind = what === 'stores' ? 'ok' : 'open'
      parts.push(box({ x, y, width: step - 8, height: 30, kind, text: what, classes: 's' }))
    }
  })
  return drawing({
    width,
    height: second + 136,
    title: 'Keys by party, and the phases of a rotation',
    description: `Who has which key: ${KEYS.map(
      ({ name, has }) =>
        `${name}: ${has
          .map((part, i) => (part === undefined ? '' : `${PARTIES[i]} ${part}`))
          .filter(Boolean)
          .join(', ')}`,
    ).join(
      '; ',
    )}. A storage key changes in the steps ${PHASES.map(({ list }) => list).join(', ')}; a block is stored under the first of the list.`,
    parts,
  })
}
