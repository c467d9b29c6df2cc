/**
 * The life of an intdatag: its states, and what each event does in each of them. Nothing is written down here but the
 * places: every cell and arrow is what the steps of the ledger answer when they are run.
 */
import { ChangeCounterError } from '../../src/base/errors.js'
import {
  type CardState,
  claimStep,
  confirmStep,
  expireStep,
  type Issued,
  issueStep,
  MAX_OPEN,
  supersedeStep,
} from '../../src/seccos/counter/state.js'
import { arrow, box, drawing, type Kind, label } from './kit.js'

type State = Issued['state'] | 'expired'
type Outcome = State | 'forgotten' | `no: ${string}`

const STATES: readonly State[] = ['open', 'claimed', 'spent', 'superseded', 'expired']
const LOOKS: Readonly<Record<State, Kind>> = {
  open: 'pan',
  claimed: 'key',
  spent: 'ok',
  superseded: 'plain',
  expired: 'plain',
}
const MEANS: Readonly<Record<State, string>> = {
  open: 'issued to D1',
  claimed: 'of one Set PIN',
  spent: 'stored, answered',
  superseded: 'of no use any more',
  expired: 'its time is over',
}

const NOW = 1000
const END = 2000
const POLICY = { rule: 'increment-on-accept', wrap: 'refuse' } as const
const request = { tag: 'A', pcc: 7, fingerprint: 'the first Set PIN' }

function cardWith(state: State): CardState {
  const issued = { tag: 'A', pcc: 7, expiresAt: state === 'expired' ? NOW : END }
  const { fingerprint } = request
  const entry: Issued =
    state === 'claimed' || state === 'spent'
      ? { ...issued, state, fingerprint, sequence: 1 }
      : { ...issued, state: state === 'superseded' ? state : 'open' }
  return { pcc: 7, sequence: 1, issued: [entry, { tag: 'B', pcc: 7, expiresAt: END, state: 'open' }] }
}

/** Newer intdatags, until one more than may be open. */
function issueMore(card: CardState): CardState {
  let next = card
  for (let i = 0; i < MAX_OPEN; i++) {
    next = issueStep(next, { tag: `N${i}`, expiresAt: END, now: NOW }, POLICY).next
  }
  return next
}

/** What happens, and the card after it; undefined: nothing is written. */
const EVENTS: readonly (readonly [name: string, step: (card: CardState) => CardState | undefined])[] = [
  ['a Set PIN with it, or the same again', card => claimStep(card, request, NOW, POLICY).next],
  [
    'another Set PIN with it',
    card => claimStep(card, { ...request, fingerprint: 'another' }, NOW, POLICY).next,
  ],
  ['what its Set PIN sets is stored', card => confirmStep(card, request)],
  [
    'a Set PIN with a newer one',
    card => claimStep(card, { ...request, tag: 'B', fingerprint: 'newer' }, NOW, POLICY).next,
  ],
  [`${MAX_OPEN} newer ones are issued`, issueMore],
  ['its time ends', card => expireStep(card, END)],
  ['an operator supersedes the card', card => supersedeStep(card, 0, POLICY)],
]

function outcome(state: State, step: (card: CardState) => CardState | undefined): Outcome {
  try {
    const next = step(cardWith(state))
    if (next === undefined) return state
    const entry = next.issued.find(({ tag }) => tag === 'A')
    if (entry === undefined) return 'forgotten'
    const isLive = entry.state === 'open' || entry.state === 'claimed'
    return isLive && entry.expiresAt <= NOW ? 'expired' : entry.state
  } catch (error) {
    if (error instanceof ChangeCounterError) return `no: ${error.reason}`
    throw error
  }
}

/** Where the states stand, and the way of an arrow between two of them. */
const WIDTH = 148
const HEIGHT = 52
const AT: Readonly<Record<State, readonly [x: number, y: number]>> = {
  open: [24, 84],
  claimed: [290, 84],
  spent: [556, 84],
  superseded: [157, 216],
  expired: [423, 216],
}
type Side = 'left' | 'right' | 'bottom-left' | 'bottom' | 'bottom-right' | 'top-left' | 'top-right'
const OFFSETS: Readonly<Record<Side, readonly [number, number]>> = {
  left: [-3, HEIGHT / 2],
  right: [WIDTH + 3, HEIGHT / 2],
  'bottom-left': [40, HEIGHT + 3],
  bottom: [WIDTH / 2, HEIGHT + 3],
  'bottom-right': [WIDTH - 40, HEIGHT + 3],
  'top-left': [40, -3],
  'top-right': [WIDTH - 40, -3],
}
const ARROWS: readonly (readonly [from: State, leaves: Side, to: State, arrives: Side])[] = [
  ['open', 'right', 'claimed', 'left'],
  ['claimed', 'right', 'spent', 'left'],
  ['open', 'bottom', 'superseded', 'top-left'],
  ['claimed', 'bottom-left', 'superseded', 'top-right'],
  ['open', 'bottom-right', 'expired', 'top-left'],
  ['claimed', 'bottom-right', 'expired', 'top-right'],
  ['expired', 'left', 'superseded', 'right'],
]

function place(state: State, side: Side): readonly [number, number] {
  return [AT[state][0] + OFFSETS[side][0], AT[state][1] + OFFSETS[side][1]]
}

/** The drawing. Throws where the ledger has a way that no arrow shows, or an arrow a way that the ledger has not. */
export function intdatagStates(): string {
  const rows = EVENTS.map(([name, step]) => ({ name, cells: STATES.map(state => outcome(state, step)) }))
  const moves = new Set(
    rows.flatMap(({ cells }) =>
      cells.flatMap((to, i) =>
        to === STATES[i] || to === 'forgotten' || to.startsWith('no: ') ? [] : [`${STATES[i]} ${to}`],
      ),
    ),
  )
  const drawn = new Set(ARROWS.map(([from, , to]) => `${from} ${to}`))
  const differ = [...moves, ...drawn].filter(way => !moves.has(way) || !drawn.has(way))
  if (differ.length > 0) throw new Error(`arrows and ledger differ: ${differ.join(', ')}`)
  const parts = [
    label({ x: 24, y: 34, text: 'The states of an intdatag', classes: 'h' }),
    label({
      x: 24,
      y: 56,
      text: 'Each Get PIN Change Counter opens one; one Set PIN can have it.',
      classes: 'm',
    }),
    ...ARROWS.map(([from, leaves, to, arrives]) =>
      arrow({ from: place(from, leaves), to: place(to, arrives) }),
    ),
    ...STATES.map(state => {
      const [x, y] = AT[state]
      return box({ x, y, width: WIDTH, height: HEIGHT, kind: LOOKS[state], text: state, below: MEANS[state] })
    }),
  ]
  const first = 286
  const column = 104
  const top = 312
  STATES.forEach((state, i) => {
    parts.push(label({ x: first + (i + 0.5) * column, y: top, text: state, classes: 'mid h' }))
  })
  rows.forEach(({ name, cells }, row) => {
    const y = top + 18 + row * 40
    parts.push(`<path class="rule" d="M24 ${y - 4}H${first + STATES.length * column}"/>`)
    parts.push(label({ x: 24, y: y + 20, text: name }))
    cells.forEach((to, i) => {
      const x = first + i * column + 3
      if (to === STATES[i]) {
        parts.push(label({ x: x + column / 2 - 3, y: y + 20, text: 'as it is', classes: 'mid m s' }))
        return
      }
      const kind: Kind = to in LOOKS ? LOOKS[to as State] : to === 'forgotten' ? 'open' : 'pin'
      const text = to.startsWith('no: ') ? to.slice(4) : to
      parts.push(box({ x, y, width: column - 6, height: 30, kind, text, classes: 's' }))
    })
  })
  const end = top + 18 + rows.length * 40
  parts.push(
    label({
      x: 24,
      y: end + 20,
      text: 'Red: refused, the same 400 for D1; the word is the reason in the audit event. “As it is”: nothing is written,',
      classes: 'm',
    }),
    label({
      x: 24,
      y: end + 38,
      text: 'and a Set PIN that was stored before is answered 204 again.',
      classes: 'm',
    }),
  )
  return drawing({
    width: first + STATES.length * column + 20,
    height: end + 54,
    title: 'The states of an intdatag',
    description: rows
      .map(({ name, cells }) => `${name}: ${cells.map((to, i) => `${STATES[i]} → ${to}`).join(', ')}`)
      .join('. '),
    parts,
  })
}
