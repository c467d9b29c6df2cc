/**
 * Traces of the ledger's formal model (`native-test/model/counter.pml`, as spin simulates it) played to a store: each step of
 * the model is that step of the real counter and the real store, in the model's order, and what comes of it is the model's.
 */
import fc from 'fast-check'
import { expect } from 'vitest'
import { ChangeCounterError, Pan } from '../../src/index.js'
import type { IssuerStore } from '../../src/sqlite.js'
import { counterOn, ISSUER, prwOf } from './store-fixtures.js'

/** A step of a trace: two requests, of PIN 1 and PIN 2, answer one intdatag. */
export interface TraceStep {
  /** `ship`: the standby gets all that the primary has. `failover`: it takes the primary's place. */
  readonly step: 'claim' | 'store' | 'confirm' | 'ship' | 'failover'
  /** Which process does it. */
  readonly by: number
  /** 0: a step of no request. */
  readonly pin: 0 | 1 | 2
  readonly outcome: 'claimed' | 'replayed' | 'refused' | 'accepted' | 'done'
  /** The card's PIN after it; 0: none. */
  readonly card: number
}

const STEP = /^\s*step (claim|store|confirm|ship|failover) (\d+) ([012]) (\w+) ([012])$/

/** The steps that a simulation printed. */
export function stepsOf(printed: string): readonly TraceStep[] {
  return printed.split('\n').flatMap((line): TraceStep[] => {
    const [, step, by, pin, outcome, card] = STEP.exec(line) ?? []
    if (step === undefined) return []
    return [{ step, by: Number(by), pin: Number(pin), outcome, card: Number(card) } as TraceStep]
  })
}

/** One request under way: it stops before and after its PRW is stored, until the trace goes on with it. */
interface UnderWay {
  readonly outcome: Promise<string>
  readonly store: () => Promise<void>
  readonly confirm: () => void
}

/** A card whose trace is being played. */
export interface TraceCard {
  readonly store: IssuerStore
  readonly card: { readonly issuerId: string; readonly cardId: string }
  readonly issued: { readonly pcc: string; readonly intdatag: string }
  readonly underWay: Map<number, UnderWay>
}

function gate(): { readonly open: () => void; readonly opened: Promise<void> } {
  let open = (): void => {}
  const opened = new Promise<void>(resolve => {
    open = resolve
  })
  return { open, opened }
}

/** Begins it: its outcome, or what goes on once its claim stands. */
async function claim({ store, card, issued }: TraceCard, pin: number): Promise<string | UnderWay> {
  const [claimed, go, stored, end] = [gate(), gate(), gate(), gate()]
  const request = { ...issued, cardId: card.cardId, fingerprint: new Uint8Array(32).fill(pin) }
  const outcome = counterOn(store)
    .accept({
      request,
      // Without the claim: in the model the confirmation is a step of its own.
      store: async ({ sequence }) => {
        claimed.open()
        await go.opened
        await store.pins.storePrw(card, prwOf(sequence, pin))
        stored.open()
        await end.opened
      },
    })
    .then(
      ({ replayed }) => (replayed ? 'replayed' : 'accepted'),
      error => {
        if (error instanceof ChangeCounterError) return 'refused'
        throw error
      },
    )
  const first = await Promise.race([outcome, claimed.opened])
  if (first !== undefined) return first
  return {
    outcome,
    store: async () => {
      go.open()
      await Promise.race([stored.opened, outcome])
    },
    confirm: end.open,
  }
}

class Played implements fc.AsyncCommand<object, TraceCard, false> {
  readonly #step: TraceStep
  constructor(step: TraceStep) {
    this.#step = step
  }
  check = (): boolean => true
  async run(_: object, real: TraceCard): Promise<void> {
    const { card, outcome } = this.#step
    expect(await this.#play(real)).toBe(outcome)
    const prw = await real.store.pins.readPrw(real.card)
    expect(prw === undefined ? 0 : Number(prw.prwValue)).toBe(card)
  }
  async #play(real: TraceCard): Promise<string> {
    const { step, by, pin } = this.#step
    // The world's own steps are done by who plays the trace; here is seen what they did to the card.
    if (step === 'ship' || step === 'failover') return 'done'
    if (step === 'claim') {
      const begun = await claim(real, pin)
      if (typeof begun === 'string') return begun
      real.underWay.set(by, begun)
      return 'claimed'
    }
    const request = real.underWay.get(by) ?? expect.unreachable('nothing is under way')
    if (step === 'store') {
      await request.store()
      return 'done'
    }
    request.confirm()
    return request.outcome
  }
  toString = (): string => Object.values(this.#step).join(' ')
}

/** A card of its own for a trace, with the intdatag that its requests answer. */
export async function beginTrace(store: IssuerStore, cardId: string): Promise<TraceCard> {
  const card = { issuerId: ISSUER, cardId }
  const record = { state: 'active', pan: Pan.from('9999990123456789'), setPinTypes: ['3DES_SECCOS'] } as const
  await store.cards.put(card, record)
  const issued = await counterOn(store).issue({ cardId })
  return { store, card, issued, underWay: new Map() }
}

/** Plays steps of a trace: what comes of each is what came of it in the model. */
export async function playSteps(real: TraceCard, steps: readonly TraceStep[]): Promise<void> {
  await fc.asyncModelRun(
    () => ({ model: {}, real }),
    steps.map(step => new Played(step)),
  )
}

/** Plays a trace on a card of its own. */
export async function playTrace(
  store: IssuerStore,
  cardId: string,
  trace: readonly TraceStep[],
): Promise<void> {
  await playSteps(await beginTrace(store, cardId), trace)
}
