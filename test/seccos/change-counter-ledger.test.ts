/**
 * Random histories of one card against the real counter: issues, requests that come again, stores that fail or hang, two
 * replicas, failovers to an older copy of the database. What must hold does so after each.
 */
import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ChangeCounter, ChangeCounterError, type ChangeCounterStore } from '../../src/index.js'

const CARD = 'card-1'

/** A database of one card and its standby: a failover goes back to what was shipped, on another instance. */
class Cluster {
  records = new Map<string, { value: string; version: string }>()
  pin: { mark: number; sequence: number } | undefined
  #shipped: Pick<Cluster, 'records' | 'pin'> = { records: new Map(), pin: undefined }
  #versions = 0
  #instance = 1

  ship(): void {
    this.#shipped = { records: new Map(this.records), pin: this.pin }
  }

  failOver(): void {
    this.records = new Map(this.#shipped.records)
    this.pin = this.#shipped.pin
    this.#instance++
  }

  readonly store: ChangeCounterStore = {
    read: async key => {
      const record = this.records.get(key)
      return record && { ...record, instance: String(this.#instance) }
    },
    compareAndSet: async (key, expected, value, options) => {
      if (this.records.get(key)?.version !== expected) return false
      if (options?.instance !== undefined && options.instance !== String(this.#instance)) return false
      this.records.set(key, { value, version: String(++this.#versions) })
      return true
    },
    purge: async () => 0,
    keys: async () => [],
    instance: async () => String(this.#instance),
  }

  /** As the stores do it: never over a higher sequence. */
  storePin(mark: number, sequence: number): void {
    if (this.pin === undefined || this.pin.sequence <= sequence) this.pin = { mark, sequence }
  }
}

type Step =
  | { readonly do: 'issue' | 'ship' | 'fail over' | 'supersede' }
  | { readonly do: 'accept'; readonly tag: number; readonly mark: number; readonly fails: boolean }
  | { readonly do: 'race'; readonly tag: number }

const tag = fc.nat(5)
const STEP: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.constant<Step>({ do: 'issue' }) },
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant('accept' as const), tag, mark: fc.nat(2), fails: fc.boolean() }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('race' as const), tag }) },
  { weight: 2, arbitrary: fc.constant<Step>({ do: 'ship' }) },
  { weight: 1, arbitrary: fc.constant<Step>({ do: 'fail over' }) },
  { weight: 1, arbitrary: fc.constant<Step>({ do: 'supersede' }) },
)

async function play(steps: readonly Step[], fenced: boolean): Promise<void> {
  const cluster = new Cluster()
  const { instance, ...rest } = cluster.store
  const unfenced: ChangeCounterStore = {
    ...rest,
    read: async key => {
      const record = cluster.records.get(key)
      return record && { ...record }
    },
    compareAndSet: (key, expected, value) => cluster.store.compareAndSet(key, expected, value),
  }
  const newCounter = (): ChangeCounter =>
    new ChangeCounter({
      store: fenced ? { ...rest, ...(instance !== undefined && { instance }) } : unfenced,
      backend: { randomBytes: async length => Uint8Array.from(randomBytes(length)) },
      firstPcc: '0001',
      rule: 'increment-on-accept',
      wrap: 'refuse',
      ttlSeconds: 300,
      now: () => 1_000_000,
    })
  const replicas = [newCounter(), newCounter()] as const
  const issued: { pcc: string; intdatag: string }[] = []
  /** Which request was acknowledged for which intdatag. */
  const acknowledged = new Map<string, number>()
  const accept = async (counter: ChangeCounter, at: number, mark: number, fails: boolean): Promise<void> => {
    const open = issued[at % Math.max(issued.length, 1)]
    if (open === undefined) return
    const request = { ...open, cardId: CARD, fingerprint: new Uint8Array(32).fill(mark) }
    const down = new Error('down')
    try {
      await counter.accept({
        request,
        store: async ({ sequence }) => {
          if (fails) throw down
          cluster.storePin(mark, sequence)
        },
      })
    } catch (error) {
      if (error !== down && !(error instanceof ChangeCounterError)) throw error
      return
    }
    // One accepted request for an intdatag, whatever was lost.
    expect(acknowledged.get(open.intdatag) ?? mark).toBe(mark)
    acknowledged.set(open.intdatag, mark)
  }
  let stored = 0
  for (const [i, step] of steps.entries()) {
    const counter = replicas[i % 2 === 0 ? 0 : 1]
    if (step.do === 'issue') issued.push(await counter.issue({ cardId: CARD }))
    else if (step.do === 'ship') cluster.ship()
    else if (step.do === 'supersede') await counter.supersede({ cardId: CARD })
    else if (step.do === 'accept') await accept(counter, step.tag, step.mark, step.fails)
    else if (step.do === 'race') {
      await Promise.all(replicas.map((replica, mark) => accept(replica, step.tag, mark, false)))
    } else {
      cluster.failOver()
      stored = cluster.pin?.sequence ?? 0
    }
    // On one server the sequence that is stored never goes back.
    expect(cluster.pin?.sequence ?? 0).toBeGreaterThanOrEqual(stored)
    stored = cluster.pin?.sequence ?? 0
  }
}

describe('the ledger of a card', () => {
  test('keeps its invariants through crashes, repetitions, replicas and failovers', () =>
    fc.assert(
      fc.asyncProperty(fc.array(STEP, { maxLength: 40 }), steps => play(steps, true)),
      { numRuns: 400 },
    ))

  test('without the fence a history is found that breaks them', async () => {
    const { failed } = await fc.check(
      fc.asyncProperty(fc.array(STEP, { maxLength: 40 }), steps => play(steps, false)),
      // To its end, also where properties are cut short (`tools/mutation/setup.mjs`).
      { numRuns: 5000, seed: 7, interruptAfterTimeLimit: 600_000 },
    )
    expect(failed).toBe(true)
  })
})
