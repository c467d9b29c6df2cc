/**
 * The life of a key: the ways it comes into being, its cryptoperiod, and its end. What works in each phase is not written
 * down here: every cell is what the usage table answers for a key of that phase.
 */
import { DEFAULTS } from '../../src/base/defaults.js'
import { KeyError } from '../../src/base/errors.js'
import type { KeyPeriod } from '../../src/key/period.js'
import {
  allows,
  type KeyAction,
  type KeyMode,
  type KeyUsage,
  requireUse,
  USAGES,
} from '../../src/key/usage.js'
import { arrow, box, drawing, type Kind, label } from './kit.js'

const PAST = '1970-01-02T00:00:00.000Z'
const FUTURE = '9998-01-01T00:00:00.000Z'
const PHASES: readonly {
  readonly name: string
  readonly means: string
  readonly kind: Kind
  readonly period: KeyPeriod
}[] = [
  { name: 'not yet', means: 'before validFrom', kind: 'plain', period: { validFrom: FUTURE } },
  { name: 'for new data', means: 'its period', kind: 'ok', period: { validFrom: PAST, validTo: FUTURE } },
  { name: 'for old data only', means: 'from validTo on', kind: 'key', period: { validTo: PAST } },
]

const ORIGINS = [
  ['generated in the HSM', 'generateKey'],
  ['components, in the HSM', 'assembleKey'],
  ['key block, opened', 'unwrapKey, importKeyBlock'],
] as const
const ON_THE_WAY = [
  ['Made: its check value is compared with', 'the other side’s, and put on record.'],
  ['Bound: kid, usage, mode and period must', 'be what the token shows.'],
  [
    `Health warns ${DEFAULTS.keys.expiryWarningDays.value} days before its end:`,
    '[new, old] stores under the next one.',
  ],
  ['storage rotate moves what is stored;', 'then deleteKey, and nothing is left to open.'],
] as const

/** What verbs do, and how it is said for a key whose usage is for it. */
const ACTIONS: readonly (readonly [KeyAction, string])[] = [
  ['encipher', 'encipher a PIN or key block'],
  ['generate', 'generate a MAC, PRW, PVV or offset'],
  ['sign', 'sign an assertion'],
  ['decipher', 'decipher or translate, verify a PIN'],
  ['verify', 'verify a MAC, PRW, PVV or offset'],
  ['derive', 'open a JWE'],
]

/** The answer of the usage table for every usage that has the action; they must not differ. */
function outcome(action: KeyAction, period: KeyPeriod): string {
  const answers = new Set<string>()
  for (const [usage, { purpose, modes }] of Object.entries(USAGES) as [
    KeyUsage,
    (typeof USAGES)[KeyUsage],
  ][]) {
    for (const mode of modes as readonly KeyMode[]) {
      if (!allows({ usage, mode }, purpose, action)) continue
      try {
        requireUse({ kid: 'K', usage, mode, ...period }, purpose, action)
        answers.add('yes')
      } catch (error) {
        if (!(error instanceof KeyError)) throw error
        answers.add(error.code)
      }
    }
  }
  const [answer, ...others] = answers
  if (answer === undefined || others.length > 0) throw new Error(`${action}: ${[...answers].join(' or ')}`)
  return answer
}

const LEFT = 24
const WIDTH = 190
const STEP = 252
const TOP = 78

/** The drawing. */
export function keyLife(): string {
  const at = (column: number): number => LEFT + column * STEP
  const middle = TOP + 74
  const destroyed = { name: 'destroyed', means: 'in every token and backup', kind: 'open' as const }
  const parts = [
    label({ x: LEFT, y: 34, text: 'The life of a key', classes: 'h' }),
    label({
      x: LEFT,
      y: 56,
      text: 'One key has one usage, from its making to its end; the clock moves it on.',
      classes: 'm',
    }),
  ]
  ORIGINS.forEach(([text, below], i) => {
    const y = TOP + i * 52
    parts.push(box({ x: LEFT, y, width: WIDTH, height: 44, kind: 'pan', text, below }))
    parts.push(arrow({ from: [LEFT + WIDTH + 3, y + 22], to: [at(1) - 4, middle - 8 + i * 8], kind: 'mute' }))
  })
  ;[...PHASES, destroyed].forEach(({ name, means, kind }, i) => {
    parts.push(
      box({
        x: at(i + 1),
        y: middle - 28,
        width: WIDTH,
        height: 56,
        kind,
        text: name,
        below: means,
        classes: 'h',
      }),
    )
    if (i > 0) parts.push(arrow({ from: [at(i) + WIDTH + 3, middle], to: [at(i + 1) - 4, middle] }))
  })
  ON_THE_WAY.forEach((lines, i) => {
    lines.forEach((text, line) => {
      parts.push(label({ x: at(i), y: TOP + 184 + line * 17, text, classes: 'm s' }))
    })
  })
  const table = TOP + 250
  const first = at(1)
  parts.push(label({ x: LEFT, y: table, text: 'What a verb does', classes: 'h' }))
  PHASES.forEach(({ name }, i) => {
    parts.push(label({ x: first + i * STEP + WIDTH / 2, y: table, text: name, classes: 'mid h' }))
  })
  const rows = ACTIONS.map(([action, words]) => ({
    words,
    cells: PHASES.map(({ period }) => outcome(action, period)),
  }))
  rows.forEach(({ words, cells }, row) => {
    const y = table + 16 + row * 38
    parts.push(`<path class="rule" d="M${LEFT} ${y - 4}H${at(4) - 56}"/>`)
    parts.push(label({ x: LEFT, y: y + 20, text: words, classes: 's' }))
    cells.forEach((text, i) => {
      const kind: Kind = text === 'yes' ? 'ok' : 'pin'
      parts.push(box({ x: first + i * STEP, y, width: WIDTH, height: 28, kind, text, classes: 's' }))
    })
  })
  const gone = label({ x: at(4), y: table, text: 'destroyed', classes: 'h' })
  const after = label({ x: at(4), y: table + 36, text: 'nothing: ERR_KEY_NOT_FOUND', classes: 'm s' })
  return drawing({
    width: at(4) + WIDTH + 24,
    height: table + 16 + rows.length * 38 + 14,
    title: 'The life of a key',
    description: `A key is ${ORIGINS.map(([text]) => text).join(', or ')}; then it is ${PHASES.map(({ name, means }) => `${name} (${means})`).join(', ')}, and destroyed. ${rows
      .map(
        ({ words, cells }) => `${words}: ${cells.map((cell, i) => `${PHASES[i]?.name} ${cell}`).join(', ')}`,
      )
      .join('. ')}.`,
    parts: [...parts, gone, after],
  })
}
