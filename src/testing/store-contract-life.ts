/** Change counters and tries of several issuers and replicas, what the database holds, closing and coming back. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { ChangeCounterError } from '../base/errors.js'
import { Pan } from '../primitives/pan.js'
import { ChangeCounter } from '../seccos/counter/counter.js'
import { TryCounter } from '../seccos/counter/tries.js'
import type { BulkResult, IssuerStore } from '../stores/issuer-store.js'
import {
  assertBlock,
  assertCard,
  assertRefused,
  blockOf,
  CARD,
  CARDS,
  type IssuerStoreCheck,
  OTHER_ISSUER,
  OTHER_PAN,
  PAN,
  PLAIN,
  prwOf,
  requestOf,
} from './store-contract-cards.js'

/** So often is tried what might go well once. */
export const ROUNDS = 8

/** A change counter on a store, as all checks have it. */
export function counterOn(
  store: IssuerStore,
  { issuerId }: { readonly issuerId: string } = CARD,
  now?: () => number,
): ChangeCounter {
  return new ChangeCounter({
    store: store.counters(issuerId),
    backend: { randomBytes: async length => Uint8Array.from(randomBytes(length)) },
    firstPcc: '0001',
    rule: 'increment-on-accept',
    wrap: 'refuse',
    ttlSeconds: 300,
    ...(now !== undefined && { now }),
  })
}

export const COUNTER_CHECKS: Readonly<Record<string, IssuerStoreCheck>> = {
  'the counters of two issuers do not meet': async ({ one, other }) => {
    const [ours, theirs] = [one.counters(CARD.issuerId), other.counters(OTHER_ISSUER.issuerId)]
    assert.equal(await ours.compareAndSet('card/a', undefined, 'ours', { expiresAt: 1 }), true)
    assert.equal(await theirs.read('card/a'), undefined)
    assert.equal(await theirs.compareAndSet('card/a', undefined, 'theirs', { expiresAt: 1 }), true)
    assert.equal((await ours.read('card/a'))?.value, 'ours')
    assert.equal(await ours.purge(1), 1)
    const record = await theirs.read('card/a')
    assert.equal(record?.value, 'theirs')
    assert.equal(await ours.compareAndSet('card/a', record.version, 'lost'), false)
    assert.equal(await ours.read('card/a'), undefined)
  },

  'two calls of counters are one counter': async ({ one }) => {
    assert.equal(await one.counters(CARD.issuerId).compareAndSet('card/a', undefined, 'x'), true)
    assert.equal((await one.counters(CARD.issuerId).read('card/a'))?.value, 'x')
  },

  'two replicas race for one intdatag with different requests: one is accepted, the other refused': async ({
    one,
    other,
  }) => {
    const { cardId } = CARD
    await one.cards.put(CARD, PLAIN)
    for (let round = 1; round <= ROUNDS; round++) {
      const { pcc, intdatag } = await counterOn(one).issue({ cardId })
      assert.equal(pcc, String(round).padStart(4, '0'), 'the PCC does not count the accepted requests')
      const stored: number[] = []
      const acceptAt = (store: IssuerStore, mark: number): Promise<unknown> =>
        counterOn(store).accept({
          request: { cardId, pcc, intdatag, fingerprint: new Uint8Array(32).fill(mark) },
          store: ({ sequence }) => {
            stored.push(mark)
            return store.pins.storePrw(CARD, prwOf(sequence, mark))
          },
        })
      const outcomes = await Promise.allSettled([acceptAt(one, 1), acceptAt(other, 2)])
      const refusals = outcomes.flatMap(outcome => (outcome.status === 'rejected' ? [outcome.reason] : []))
      assert.equal(refusals.length, 1, 'not exactly one was refused')
      assert.ok(refusals[0] instanceof ChangeCounterError, `refused by ${String(refusals[0])}`)
      const winner = 1 + outcomes.findIndex(({ status }) => status === 'fulfilled')
      assert.deepEqual(stored, [winner], 'a request that was refused got to be stored')
      assert.deepEqual(await one.pins.readPrw(CARD), prwOf(round, winner))
    }
  },

  'replicas that issue and accept at once: the PCC never goes back': async ({ one, other }) => {
    const counters = [counterOn(one), counterOn(other)]
    const { cardId } = CARD
    let last = 0
    for (let round = 0; round < ROUNDS; round++) {
      const issued = await Promise.all([...counters, ...counters].map(counter => counter.issue({ cardId })))
      for (const { pcc } of issued) assert.ok(Number(pcc) > last, `PCC ${pcc} after ${last} was accepted`)
      const outcomes = await Promise.allSettled(
        issued.map(({ pcc, intdatag }, i) =>
          counters[i % 2]?.accept({
            request: { cardId, pcc, intdatag, fingerprint: new Uint8Array(32).fill(i) },
            store: async () => {},
          }),
        ),
      )
      assert.ok(outcomes.some(({ status }) => status === 'fulfilled'))
      last = Number(issued[0]?.pcc)
    }
  },
}

const CLASSIC = { cardId: CARD.cardId, product: 'classic' } as const

function triesOn(store: IssuerStore): TryCounter {
  const products = { classic: { limit: 5, afterSuccess: 'reset' } } as const
  return new TryCounter({ store: store.counters(CARD.issuerId), products })
}

export const TRIES_CHECKS: Readonly<Record<string, IssuerStoreCheck>> = {
  'of many tries at once as many count as the limit says, and none comes back': async ({ one, other }) => {
    await one.cards.put(CARD, PLAIN)
    const counters = [triesOn(one), triesOn(other)] as const
    const tried = await Promise.all(
      Array.from({ length: 20 }, (_, i) => counters[i % 2 ? 1 : 0].begin(CLASSIC)),
    )
    assert.equal(tried.filter(({ blocked }) => !blocked).length, 5)
    assert.equal(await counters[1].left(CLASSIC), 0)
    assert.equal(await counters[1].left({ ...CLASSIC, cardId: 'card-0002' }), 5, 'of another card')
    // They are the card's, and outlive it.
    await other.cards.remove(CARD)
    await one.cards.put(CARD, PLAIN)
    assert.deepEqual(await counters[0].begin(CLASSIC), { blocked: true })
    await counters[1].unblock(CLASSIC)
    const again = await counters[0].begin(CLASSIC)
    assert.equal(await counters[1].left(CLASSIC), 4)
    assert.ok(!again.blocked, 'what was unblocked is blocked')
    assert.equal(await again.succeed(), 5)
  },
}

/** Every call that the store has. */
const CALLS: readonly ((store: IssuerStore) => Promise<unknown>)[] = [
  ({ cards }) => cards.find(CARD),
  ({ cards }) => cards.put(CARD, PLAIN),
  ({ cards }) => cards.setState(CARD, 'active'),
  ({ cards }) => cards.remove(CARD),
  ({ pins }) => pins.readBlock(CARD, {}),
  ({ pins }) => pins.readPrw(CARD),
  ({ pins }) => pins.storeBlock(CARD, blockOf(1)),
  ({ pins }) => pins.storePrw(CARD, prwOf(1)),
  ({ pins }) => pins.acceptBlock(CARD, blockOf(1), requestOf(1)),
  ({ pins }) => pins.knowsRequest(requestOf(1).digest),
  ({ pins }) => pins.forgetRequests({ issuerIds: [CARD.issuerId], jweKids: ['JWE-NONE'] }),
  ({ cards }) => cards.reseal({ limit: 9 }),
  ({ pins }) => pins.listBlocks({ kid: 'PEK-STORE', limit: 9 }),
  ({ pins }) => pins.countBlocks(),
  ({ pins }) => pins.replaceBlocks([{ card: CARD, pin: blockOf(1), version: 'any' }]),
  ({ cards }) => firstOf(cards.putMany([{ card: CARD, record: PLAIN }])),
  ({ pins }) => firstOf(pins.storeBlocks([{ card: CARD, pin: blockOf(1) }])),
]

async function firstOf(results: AsyncIterable<BulkResult>): Promise<void> {
  for await (const result of results) {
    if (result.outcome === 'refused') throw result.error
    return
  }
}

export const LIFE_CHECKS: Readonly<Record<string, IssuerStoreCheck>> = {
  'after close every call is refused, of counters handed out before too': async ({ one }) => {
    await one.cards.put(CARD, PLAIN)
    const counter = one.counters(CARD.issuerId)
    await one.close()
    await one.close()
    await one[Symbol.asyncDispose]()
    const calls = [
      ...CALLS.map(call => () => call(one)),
      () => counter.read('card/a'),
      () => counter.compareAndSet('card/a', undefined, 'x'),
      () => counter.compareAndSet('card/a', '1', 'x'),
      () => counter.purge(0),
      () => counter.keys({ prefix: 'card/', limit: 9 }),
      () =>
        counter.compareAndSetAll?.([{ key: 'card/a', expected: undefined, value: 'x' }]) ?? counter.read('a'),
      () => one.counters(OTHER_ISSUER.issuerId).read('card/a'),
    ]
    for (const call of calls) await assertRefused(call, 'ERR_BACKEND_CLOSED', String(call))
  },

  'close waits for what has begun: what is stored is told so, to its last step': async ({ one, other }) => {
    for (const card of [CARD, OTHER_ISSUER]) {
      await one.cards.put(card, PLAIN)
      await counterOn(one, card).issue({ cardId: card.cardId })
    }
    const settled: string[] = []
    const begun = [
      one.pins.storeBlock(CARD, blockOf(1)),
      one.pins.acceptBlock(OTHER_ISSUER, blockOf(3), requestOf(1)),
      one.cards.reseal({ limit: 9 }),
    ].map(async (call, i) => {
      const answer = await call
      settled.push(`call ${i}`)
      return answer
    })
    const outcomes = Promise.allSettled(begun)
    await Promise.all([one.close(), one.close()]).then(() => settled.push('closed'))
    const failed = (await outcomes).filter(({ status }) => status === 'rejected')
    assert.deepEqual(failed, [], 'a call that had begun was refused')
    assert.equal(settled.at(-1), 'closed')
    const [, accepted, resealed] = await Promise.all<unknown>(begun)
    assert.deepEqual(accepted, { outcome: 'stored' })
    assert.deepEqual(resealed, [CARD, OTHER_ISSUER])
    if (one === other) return
    assertBlock(await other.pins.readBlock(CARD), blockOf(1))
    const record = await other.counters(CARD.issuerId).read(`card/${CARD.cardId}`)
    assert.deepEqual(
      JSON.parse(String(record?.value)).issued.map(({ state }: { state: string }) => state),
      ['superseded'],
    )
  },
}

/** For stores that outlive their process. */
export const DURABLE_CHECKS: Readonly<Record<string, IssuerStoreCheck>> = {
  'everything is there again after closing and opening': async ({ one, other, reopen }) => {
    const issued = await counterOn(one).issue({ cardId: CARD.cardId })
    const cards = Object.entries(CARDS).map(([name, card], i) => ({
      ...CARD,
      cardId: `card-${i}`,
      name,
      card,
    }))
    for (const { card, ...ref } of cards) await one.cards.put(ref, card)
    await one.pins.storeBlock({ ...CARD, cardId: 'card-0' }, blockOf(1))
    await one.pins.storePrw({ ...CARD, cardId: 'card-1' }, prwOf(7))
    await one.close()
    await other.close()
    const again = await reopen()
    for (const { card, name, ...ref } of cards) assertCard(await again.cards.find(ref), card, name)
    assertBlock(await again.pins.readBlock({ ...CARD, cardId: 'card-0' }, {}), blockOf(1))
    const prwCard = { ...CARD, cardId: 'card-1' }
    assert.deepEqual(await again.pins.readPrw(prwCard), prwOf(7))
    await again.pins.storePrw(prwCard, prwOf(6))
    assert.deepEqual(await again.pins.readPrw(prwCard), prwOf(7))
    const request = { ...issued, cardId: CARD.cardId, fingerprint: new Uint8Array(32) }
    assert.equal((await counterOn(again).accept({ request, store: async () => {} })).replayed, false)
    assert.equal((await counterOn(again).issue({ cardId: CARD.cardId })).pcc, '0002')
  },

  'a handle goes on while another one closes': async ({ one, other }) => {
    await one.cards.put(CARD, PLAIN)
    await one.close()
    await other.pins.storeBlock(CARD, blockOf(1))
    assertBlock(await other.pins.readBlock(CARD, {}), blockOf(1))
  },

  'no PAN stands in what is stored, as text, hex or base64': async ({ one, stored }) => {
    await one.cards.put(CARD, PLAIN)
    await one.cards.put(OTHER_ISSUER, { ...PLAIN, pan: Pan.from(OTHER_PAN) })
    await one.cards.put(CARD, { ...PLAIN, setPinTypes: ['3DES_SECCOS'], seccos: { fields: { psn: '4711' } } })
    await one.pins.storeBlock(CARD, blockOf(1, 'PEK-CANARY'))
    const bytes = Buffer.from(await stored())
    // A dump that shows nothing would hide a PAN too.
    assert.ok(holds(bytes, Buffer.from('PEK-CANARY')), 'what is stored does not show the kid of the block')
    for (const digits of [PAN, OTHER_PAN]) {
      const text = Buffer.from(digits)
      for (const form of [text, Buffer.from(digits, 'hex'), Buffer.from(text.toString('base64'))]) {
        assert.ok(!holds(bytes, form), 'a PAN is stored in the clear')
      }
    }
  },
}

/** True where the bytes are in the dump: as they are, or in hex of either case (as `bytea` is dumped). */
function holds(dump: Buffer, bytes: Buffer): boolean {
  const hex = bytes.toString('hex')
  return [bytes, Buffer.from(hex), Buffer.from(hex.toUpperCase())].some(form => dump.includes(form))
}
