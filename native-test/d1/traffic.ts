/**
 * Get PIN and Set PIN, both types, over many cards at once, each answer checked: a Get PIN must show the PIN that was
 * set last for the card. One chain of calls a card, so that there is one right answer; the cards side by side.
 */
import { randomInt } from 'node:crypto'
import type { Caller, CallerCard, Counter } from './caller.js'

export type Operation = 'getPIN' | 'SetPIN ISO0' | 'SetPIN 3DES_SECCOS' | 'getPINChangeCounter'

/** A Set PIN that was sent. */
export interface Sent {
  readonly type: 'ISO0' | '3DES_SECCOS'
  readonly pin: string
  readonly body: string
  readonly counter?: Counter
  /** True: answered with 204. */
  acknowledged: boolean
}

/** What D1 knows of a card. */
export interface Known {
  readonly card: CallerCard
  readonly sent: Sent[]
  readonly counters: Counter[]
  /** The PIN when the card was new. */
  readonly first: string | undefined
  /** Set PINs that were acknowledged, and the highest PCC among them. */
  done: number
  highest: number
}

export interface Traffic {
  readonly cards: readonly Known[]
  /** Milliseconds, by operation. */
  readonly times: Readonly<Record<Operation, number[]>>
  readonly wrong: string[]
}

export function newTraffic(caller: Caller): Traffic {
  return {
    cards: caller.cards.map(card => ({ card, sent: [], counters: [], first: card.pin, done: 0, highest: 0 })),
    times: { getPIN: [], 'SetPIN ISO0': [], 'SetPIN 3DES_SECCOS': [], getPINChangeCounter: [] },
    wrong: [],
  }
}

/** How much is to be done, over all cards. */
export interface Work {
  gets: number
  sets: number
}

/** Runs the chains of all cards until the work is done, or a call fails. Connection errors are the caller's to judge. */
export async function run(caller: Caller, traffic: Traffic, work: Work): Promise<void> {
  const chains = traffic.cards.map(async known => {
    while (work.gets > 0 || work.sets > 0) {
      const last = known.sent.at(-1)
      const shows = (last?.type ?? (known.first === undefined ? '3DES_SECCOS' : 'ISO0')) === 'ISO0'
      if (shows && work.gets > 0 && (work.sets === 0 || randomInt(work.gets + work.sets) < work.gets)) {
        work.gets--
        await get(caller, traffic, known)
      } else if (work.sets > 0) {
        work.sets--
        await set(caller, traffic, known)
      } else return
    }
  })
  await Promise.all(chains)
}

/** Get PIN, and whether it is the PIN that must be. */
export async function get(
  caller: Caller,
  { times, wrong }: Traffic,
  { card, sent, first }: Known,
): Promise<void> {
  const due = sent.at(-1)?.pin ?? first
  const { status, pin } = await timed(times.getPIN, () => caller.getPin(card))
  if (status !== 200 || pin !== due)
    wrong.push(`Get PIN of ${card.cardId}: ${status}, not the PIN that was set`)
}

/** Set PIN, of a type that the card takes. It is noted before it is sent. */
export async function set(caller: Caller, { times, wrong }: Traffic, known: Known): Promise<void> {
  const { card, sent, counters } = known
  const type = card.setPinTypes[randomInt(card.setPinTypes.length)] as Sent['type']
  const pin = String(randomInt(10_000, 10 ** 12))
  let counter: Counter | undefined
  if (type === '3DES_SECCOS') {
    counter = await timed(times.getPINChangeCounter, () => caller.counter(card))
    counters.push(counter)
  }
  const body = await (counter === undefined ? caller.iso0(card, pin) : caller.seccos(card, pin, counter))
  const one: Sent = { type, pin, body, ...(counter && { counter }), acknowledged: false }
  sent.push(one)
  const status = await timed(times[`SetPIN ${type}`], () => caller.setPin(card, body))
  if (status === 204) {
    one.acknowledged = true
    known.done++
    known.highest = Math.max(known.highest, Number(counter?.pcc ?? 0))
  } else wrong.push(`Set PIN of ${card.cardId} (${type}): ${status}`)
}

async function timed<T>(times: number[], call: () => Promise<T>): Promise<T> {
  const start = performance.now()
  const result = await call()
  times.push(performance.now() - start)
  return result
}
