/**
 * Histories of one card's ledger as fast-check makes them (issue, check, claim, store, confirm, the same again, another
 * request, supersede, a block by another way, a crash, the database opened anew), played against a store and against a
 * model that knows nothing of the code. After each step the store's PIN, and what each request is answered, are the model's.
 */
import fc from 'fast-check'
import { expect } from 'vitest'
import { ChangeCounterError, isIssuerPinError, Pan } from '../../src/index.js'
import type { IssuerStore } from '../../src/sqlite.js'
import { blockOf, counterOn, ISSUER, prwOf } from './store-fixtures.js'

/** A store with two handles on one database, and how it is opened anew. */
export interface World {
  readonly handles: [IssuerStore, IssuerStore]
  readonly reopen: () => Promise<[IssuerStore, IssuerStore]>
}

interface Tag {
  readonly intdatag: string
  readonly pcc: string
  state: 'open' | 'claimed' | 'spent' | 'superseded'
  by?: number
  sequence?: number
}

/** What a card's ledger is, said as simply as it can be. */
interface Model {
  readonly cardId: string
  pcc: number
  /** Acceptances, and epochs that an operator began. */
  acceptances: number
  epochs: number
  tags: Tag[]
  pin: string | undefined
}

type Step = fc.AsyncCommand<Model, World, false>
/** Where the issuer's own store fails, if it does: before or after it wrote. */
type Fails = 'no' | 'before' | 'after'

const MAX_OPEN = 8
const sequenceOf = ({ acceptances, epochs }: Model): number => epochs * 2 ** 32 + acceptances
const pccOf = ({ pcc }: Model): string => String(pcc).padStart(4, '0')
const refOf = (model: Model) => ({ issuerId: ISSUER, cardId: model.cardId })

function supersede(model: Model, except?: Tag): void {
  for (const tag of model.tags)
    if (tag !== except && (tag.state === 'open' || tag.state === 'claimed')) tag.state = 'superseded'
}

async function expectPin(model: Model, { handles }: World): Promise<void> {
  for (const { pins } of handles) {
    const prw = await pins.readPrw(refOf(model))
    const block = await pins.readBlock(refOf(model))
    const found = prw ? `prw ${Number(prw.prwValue)}` : block ? `block ${block.block[7]}` : undefined
    expect(found).toBe(model.pin)
  }
}

class Issue implements Step {
  readonly #handle: 0 | 1
  constructor(handle: 0 | 1) {
    this.#handle = handle
  }
  check = (): boolean => true
  async run(model: Model, { handles }: World): Promise<void> {
    const { pcc, intdatag } = await counterOn(handles[this.#handle]).issue({ cardId: model.cardId })
    expect(pcc).toBe(pccOf(model))
    model.tags.push({ intdatag, pcc, state: 'open' })
    const open = model.tags.filter(({ state }) => state === 'open')
    if (open.length > MAX_OPEN && open[0] !== undefined) open[0].state = 'superseded'
  }
  toString = (): string => `issue(${this.#handle})`
}

class Accept implements Step {
  readonly #of: { readonly tag: number; readonly by: number; readonly handle: 0 | 1; readonly fails: Fails }
  constructor(of: {
    readonly tag: number
    readonly by: number
    readonly handle: 0 | 1
    readonly fails: Fails
  }) {
    this.#of = of
  }
  check = ({ tags }: Readonly<Model>): boolean => tags.length > 0
  async run(model: Model, world: World): Promise<void> {
    const { by, handle, fails } = this.#of
    // The last few: older ones may be forgotten.
    const recent = model.tags.slice(-6)
    const tag = recent[this.#of.tag % recent.length] ?? expect.unreachable()
    const counter = counterOn(world.handles[handle])
    const request = {
      cardId: model.cardId,
      intdatag: tag.intdatag,
      pcc: tag.pcc,
      fingerprint: new Uint8Array(32).fill(by),
    }
    const mark = model.tags.indexOf(tag) * 10 + by
    const expected = this.#expected(model, tag)
    const checked = await outcomeOf(() => counter.check(request))
    expect(checked).toBe(expected)
    const failure = new Error('the issuer fails')
    const outcome = await outcomeOf(() =>
      counter.accept({
        request,
        store: async ({ sequence }) => {
          if (fails === 'before') throw failure
          await world.handles[handle].pins.storePrw(refOf(model), prwOf(sequence, mark))
          if (fails === 'after') throw failure
        },
      }),
    )
    if (expected !== 'accepted') return expect(outcome).toBe(expected)
    if (tag.state === 'open') {
      model.acceptances++
      model.pcc++
      supersede(model, tag)
      Object.assign(tag, { state: 'claimed', by, sequence: sequenceOf(model) })
    }
    if (fails !== 'before') model.pin = `prw ${mark}`
    expect(outcome).toBe(fails === 'no' ? 'accepted' : 'the issuer fails')
    if (fails === 'no') tag.state = 'spent'
    await expectPin(model, world)
  }
  #expected(_: Model, tag: Tag): string {
    if (tag.state === 'superseded') return 'superseded'
    if (tag.state === 'open') return 'accepted'
    if (tag.by !== this.#of.by) return 'spent'
    return tag.state === 'spent' ? 'replayed' : 'accepted'
  }
  toString = (): string => `accept(${JSON.stringify(this.#of)})`
}

class Supersede implements Step {
  check = ({ tags }: Readonly<Model>): boolean => tags.length > 0
  async run(model: Model, world: World): Promise<void> {
    expect(await counterOn(world.handles[0]).supersede({ cardId: model.cardId })).toBe(true)
    supersede(model)
    model.epochs++
    await expectPin(model, world)
  }
  toString = (): string => 'supersede'
}

/** A branch sets a PIN: what was under way for the card before is over. */
class StoreBlock implements Step {
  readonly #mark: number
  constructor(mark: number) {
    this.#mark = mark
  }
  check = (): boolean => true
  async run(model: Model, world: World): Promise<void> {
    await world.handles[1].pins.storeBlock(refOf(model), blockOf(this.#mark))
    if (model.tags.length > 0) {
      supersede(model)
      model.epochs++
    }
    model.pin = `block ${this.#mark}`
    await expectPin(model, world)
  }
  toString = (): string => `storeBlock(${this.#mark})`
}

/** The processes die, and others open the database. */
class Reopen implements Step {
  check = (): boolean => true
  async run(model: Model, world: World): Promise<void> {
    world.handles.splice(0, 2, ...(await world.reopen()))
    await expectPin(model, world)
  }
  toString = (): string => 'reopen'
}

async function outcomeOf(call: () => Promise<{ readonly replayed: boolean }>): Promise<string> {
  try {
    return (await call()).replayed ? 'replayed' : 'accepted'
  } catch (error) {
    if (error instanceof ChangeCounterError) return error.reason
    if (isIssuerPinError(error)) throw error
    return (error as Error).message
  }
}

const handle = fc.constantFrom(0 as const, 1 as const)
const STEPS: readonly fc.Arbitrary<Step>[] = [
  handle.map(of => new Issue(of)),
  fc
    .record({
      tag: fc.nat(5),
      by: fc.integer({ min: 1, max: 3 }),
      handle,
      fails: fc.constantFrom<Fails>('no', 'no', 'before', 'after'),
    })
    .map(of => new Accept(of)),
  fc.constant(new Supersede()),
  fc.integer({ min: 1, max: 99 }).map(mark => new StoreBlock(mark)),
  fc.constant(new Reopen()),
]

/** Plays histories on what this opens: two handles at a time on one database, which are closed when it is opened again and at the end. */
export async function expectHistoriesOn(
  open: () => Promise<IssuerStore>,
  how: Parameters<typeof expectHistories>[1],
): Promise<void> {
  const both = async () => [await open(), await open()] as [IssuerStore, IssuerStore]
  const world: World = {
    handles: await both(),
    reopen: async () => {
      await Promise.all(world.handles.map(store => store.close()))
      return both()
    },
  }
  await expectHistories(world, how)
  await Promise.all(world.handles.map(store => store.close()))
}

/** Plays histories: each on a card of its own, all on one database. */
export async function expectHistories(
  world: World,
  { runs, seed, size }: { readonly runs: number; readonly seed: number; readonly size?: 'small' | 'medium' },
): Promise<void> {
  let cards = 0
  await fc.assert(
    fc.asyncProperty(
      fc.commands<Model, World, false>([...STEPS], { maxCommands: 40, size: size ?? 'medium' }),
      async steps => {
        const model: Model = {
          cardId: `history-${++cards}`,
          pcc: 1,
          acceptances: 0,
          epochs: 0,
          tags: [],
          pin: undefined,
        }
        await world.handles[0].cards.put(refOf(model), {
          state: 'active',
          pan: Pan.from('9999990123456789'),
          setPinTypes: ['ISO0', '3DES_SECCOS'],
        })
        await fc.asyncModelRun(() => ({ model, real: world }), steps)
      },
    ),
    { numRuns: runs, seed, endOnFailure: false },
  )
}
