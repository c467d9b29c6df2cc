/** The usage table as a drawing: for each kind of key its code, its modes, what carries it, and what a backend does under it. */
import { type KeyUsage, operationsFor, USAGES } from '../../src/key/usage.js'
import { box, drawing, type Kind, label } from './kit.js'

const ROW = 46
const TOP = 112
/** Places of the columns from the left, and the operations of the port under them. */
const AT = { usage: 24, code: 226, modes: 282, algorithms: 448, operations: 610 } as const
const OPERATION_WIDTH = 118

/** Colours as in the other drawings: red where a PIN comes out of it, yellow for keys, blue for what is D1's. */
const KIND: Readonly<Partial<Record<KeyUsage, Kind>>> = {
  'pin-encryption': 'pin',
  'prw-generate': 'pin',
  'prw-verify': 'pin',
  'visa-pvv': 'pin',
  'ibm-3624': 'pin',
  'jwe-key-agreement': 'pan',
  'jwt-signing': 'pan',
  'key-block-protection': 'key',
  'key-encryption': 'key',
}

const FAMILIES: readonly (readonly [prefix: string, name: string])[] = [
  ['tdea', 'TDEA'],
  ['aes', 'AES'],
  ['hmac', 'HMAC'],
  ['ec', 'P-256'],
]

function familiesOf(usage: KeyUsage): string {
  const { algorithms } = USAGES[usage]
  return FAMILIES.filter(([prefix]) => algorithms.some(name => name.startsWith(prefix)))
    .map(([, name]) => name)
    .join(', ')
}

/** Every operation that some key admits, in the order in which the table first has it. */
function columns(usages: readonly KeyUsage[]): readonly string[] {
  const all = usages.flatMap(usage => USAGES[usage].modes.flatMap(mode => [...operationsFor(usage, mode)]))
  return [...new Set(all)]
}

/** The drawing. */
export function usageTable(): string {
  const usages = Object.keys(USAGES) as KeyUsage[]
  const operations = columns(usages)
  const width = AT.operations + operations.length * OPERATION_WIDTH + 16
  const parts = [
    label({ x: AT.usage, y: 34, text: 'A key has one usage, and is bound in one mode of it', classes: 'h' }),
    label({
      x: AT.usage,
      y: 56,
      text: 'In a column: the modes in which a backend does this under the key. Verbs ask for the purpose besides: a PVV key enciphers, and is no PIN key.',
      classes: 'm',
    }),
    ...(
      [
        [AT.usage, 'usage'],
        [AT.code, 'X9.143'],
        [AT.modes, 'modes'],
        [AT.algorithms, 'keys'],
      ] as const
    ).map(([x, text]) => label({ x, y: TOP - 18, text, classes: 'm' })),
    ...operations.map((text, i) =>
      label({
        x: AT.operations + (i + 0.5) * OPERATION_WIDTH,
        y: TOP - 18,
        text,
        classes: 'mid c s',
      }),
    ),
  ]
  usages.forEach((usage, row) => {
    const y = TOP + row * ROW
    const { x9143, modes } = USAGES[usage]
    parts.push(`<path class="rule" d="M${AT.usage} ${y - 7}H${width - 24}"/>`)
    parts.push(box({ x: AT.usage, y, width: 184, height: 32, kind: KIND[usage] ?? 'plain', text: usage }))
    parts.push(label({ x: AT.code, y: y + 21, text: x9143, classes: 'c' }))
    modes.forEach((mode, i) => {
      const kind: Kind = i === 0 ? 'ok' : 'open'
      parts.push(
        box({ x: AT.modes + 36 * i, y: y + 2, width: 30, height: 28, kind, text: mode, classes: 'c' }),
      )
    })
    parts.push(label({ x: AT.algorithms, y: y + 21, text: familiesOf(usage), classes: 'm' }))
    operations.forEach((operation, i) => {
      const within = modes.filter(mode => [...operationsFor(usage, mode)].some(one => one === operation))
      if (within.length === 0) return
      const x = AT.operations + i * OPERATION_WIDTH + 6
      const text = within.join(' ')
      parts.push(
        box({ x, y: y + 2, width: OPERATION_WIDTH - 12, height: 28, kind: 'plain', text, classes: 'c' }),
      )
    })
  })
  return drawing({
    width,
    height: TOP + usages.length * ROW + 12,
    title: 'The usage table',
    description:
      'For each usage of a key: its X9.143 code, the modes it can be bound in (the usual one is filled), the ciphers, and in which modes a backend does which operation under it. ' +
      usages.map(usage => `${usage}: ${USAGES[usage].x9143}, ${USAGES[usage].modes.join(', ')}`).join('; '),
    parts,
  })
}
