/**
 * A store that is right but for one thing: in its database, in a handle on it (a replica), or in what is there after a restart. It is
 * one in memory that outlives its handles, so that every rule of the contract has it to look at.
 */
import { AssertionError } from 'node:assert'
import type { ErrorCode } from '../../src/index.js'
import { isIssuerPinError } from '../../src/index.js'
import type { ChangeCounterStore, ClaimRecord } from '../../src/seccos/counter/store.js'
import type { CardPinStore, CardStore, IssuerStore } from '../../src/stores/issuer-store.js'
import { memoryIssuerStore } from '../../src/stores/memory.js'
import { storeClosed } from '../../src/stores/records.js'
import { CARD, OTHER_ISSUER } from '../../src/testing/store-contract-cards.js'
import { type IssuerStoreHarness, issuerStoreContract } from '../../src/testing.js'

/** What a store does in place of what a good one does. */
export interface Wrong {
  readonly cards?: Partial<CardStore>
  readonly pins?: Partial<CardPinStore>
  readonly counter?: (good: ChangeCounterStore, issuerId: string) => Partial<ChangeCounterStore>
  readonly counters?: IssuerStore['counters']
  readonly close?: () => Promise<void>
  readonly dispose?: () => Promise<void>
}

export type Plant = (good: IssuerStore) => Wrong

/** Handles on the database by their names in the contract; `again` are those after a restart. */
type Handle = 'one' | 'other' | 'again'

export interface Fault {
  /** Wrong in the database: seen through every handle. */
  readonly database?: Plant
  /** Wrong in these handles alone. */
  readonly handles?: Partial<Readonly<Record<Handle, Plant>>>
  /** What a dump shows in place of what it should; `pans` are those of the contract's cards, by their issuers. */
  readonly stored?: (dump: Uint8Array, pans: ReadonlyMap<string, string>) => Uint8Array
}

/** By the rule that must fail, or its beginning: what each fault is called, and is. A plant alone is one of the database. */
export type Faults = Readonly<Record<string, Readonly<Record<string, Plant | Fault>>>>

const right: Plant = () => ({})

export const inOne = (plant: Plant): Fault => ({ handles: { one: plant } })
export const inOther = (plant: Plant): Fault => ({ handles: { other: plant } })
export const afterRestart = (plant: Plant): Fault => ({ handles: { again: plant } })

/** A call that does not refuse what it must refuse by this code. */
export const lenient =
  (part: 'cards' | 'pins', name: string, code: ErrorCode): Plant =>
  good => ({ [part]: { [name]: taking(good[part], name, code) } })

/** The same of a counter's call. */
export const lenientCounter =
  (name: string, code: ErrorCode): Plant =>
  () => ({ counter: good => ({ [name]: taking(good, name, code) }) })

/** A call of this name, whatever it takes. */
export function callOf(calls: object, name: string): (...given: readonly unknown[]) => Promise<never> {
  return Reflect.get(calls, name)
}

function taking(calls: object, name: string, code: ErrorCode): () => Promise<never> {
  const call = callOf(calls, name)
  return (...given) =>
    call(...given).catch(error => {
      if (!isIssuerPinError(error) || error.code !== code) throw error
      return undefined as never
    })
}

/** Runs the rule on a store with this fault: true where the rule says what is wrong, and not a slip of the fault itself. */
export async function isNoticed(rule: string, fault: Plant | Fault): Promise<boolean> {
  const cases = issuerStoreContract(faultyStores(fault)).filter(({ name }) => name.startsWith(rule))
  const [found] = cases
  if (found === undefined || cases.length > 1) throw new Error(`${cases.length} rules are called ${rule}`)
  try {
    await found.run()
    return false
  } catch (error) {
    if (error instanceof AssertionError || isIssuerPinError(error)) return true
    throw error
  }
}

export function faultyStores(fault: Plant | Fault = {}): IssuerStoreHarness {
  const { database = right, handles = {}, stored } = typeof fault === 'function' ? { database: fault } : fault
  return {
    durable: true,
    open: async () => {
      const kept = wrong(memoryIssuerStore(), database)
      const handle = (name: Handle): IssuerStore => wrong(wrong(kept, asHandle), handles[name] ?? right)
      return {
        one: handle('one'),
        other: handle('other'),
        reopen: async () => handle('again'),
        stored: async () => {
          const dump = Buffer.from(JSON.stringify(await kept.pins.countBlocks()))
          const pans = new Map<string, string>()
          for (const card of [CARD, OTHER_ISSUER]) {
            const found = await kept.cards.find(card)
            if (found !== undefined) pans.set(card.issuerId, found.pan.reveal())
          }
          return stored?.(dump, pans) ?? dump
        },
      }
    },
  }
}

function wrong(good: IssuerStore, plant: Plant): IssuerStore {
  const close = () => good.close()
  // A claim names the counter that it was given: the store below knows its own.
  const below = new Map<unknown, ChangeCounterStore>()
  const storePrw: CardPinStore['storePrw'] = (card, prw, claim?: ClaimRecord) => {
    const keptBy = below.get(claim?.keptBy) ?? claim?.keptBy
    return good.pins.storePrw(card, prw, keptBy === undefined ? claim : claim && { ...claim, keptBy })
  }
  const { cards, pins, counter, counters, ...others } = plant({
    ...good,
    close,
    pins: { ...good.pins, storePrw },
    counters: good.counters,
    [Symbol.asyncDispose]: close,
  })
  const made = new Map<string, ChangeCounterStore>()
  return {
    cards: { ...good.cards, ...cards },
    pins: { ...good.pins, storePrw, ...pins },
    counters:
      counters ??
      (issuerId => {
        const under = good.counters(issuerId)
        const known = made.get(issuerId) ?? { ...under, ...counter?.(under, issuerId) }
        made.set(issuerId, known)
        below.set(known, under)
        return known
      }),
    close: others.close ?? close,
    [Symbol.asyncDispose]: others.dispose ?? others.close ?? close,
  }
}

/** What makes a handle of a store: it can be closed, and the store goes on. */
const asHandle: Plant = ({ cards, pins }) => {
  const underWay = new Set<Promise<unknown>>()
  let isClosed = false
  const whileOpen = <T extends object>(calls: T): T =>
    Object.fromEntries(
      Object.entries(calls).map(([name, call]) => [
        name,
        (...given: readonly unknown[]) => {
          if (isClosed) return name === 'putMany' || name === 'storeBlocks' ? refuseMany() : refuse()
          const answer: unknown = call(...given)
          if (!(answer instanceof Promise)) return answer
          const settled = answer.catch(() => {}).finally(() => underWay.delete(settled))
          underWay.add(settled)
          return answer
        },
      ]),
    ) as T
  return {
    cards: whileOpen(cards),
    pins: whileOpen(pins),
    counter: whileOpen,
    close: async () => {
      isClosed = true
      await Promise.allSettled(underWay)
    },
  }
}

const refuse = async (): Promise<never> => {
  throw storeClosed()
}

// biome-ignore lint/correctness/useYield: it ends before its first result
async function* refuseMany(): AsyncGenerator<never> {
  throw storeClosed()
}
