/**
 * Many at once, and all there is, up to the end of a storage key: bulk writes, lists by key, replacements, and cards that change under
 * a write.
 */
import assert from 'node:assert/strict'
import { systemClock } from '../base/deadline.js'
import { isIssuerPinError } from '../base/errors.js'
import type { CardAsFound } from '../d1/endpoints/interfaces.js'
import { Pan } from '../primitives/pan.js'
import type { Acceptance, ChangeCounter } from '../seccos/counter/counter.js'
import type { AcceptRequest } from '../seccos/counter/state.js'
import type { ClaimRecord } from '../seccos/counter/store.js'
import type { BulkResult, IssuerStore } from '../stores/issuer-store.js'
import {
  assertBlock,
  assertCard,
  assertRefused,
  blockOf,
  CARD,
  type IssuerStoreCheck,
  OTHER_ISSUER,
  OTHER_PAN,
  PLAIN,
  prwOf,
  requestOf,
} from './store-contract-cards.js'

import { counterOn, ROUNDS } from './store-contract-life.js'

/** As an entry of a record begins and ends. */
const TEXT_OF_A_CLAIM = JSON.stringify({ tag: '0'.repeat(64), pcc: 1 })

const MANY = 450
const cardOf = (i: number): { issuerId: string; cardId: string } => ({
  ...CARD,
  cardId: `card-${String(i).padStart(4, '0')}`,
})

async function collect<T>(results: AsyncIterable<T>): Promise<readonly T[]> {
  const all: T[] = []
  for await (const result of results) all.push(result)
  return all
}

/** Stores the PRW with this mark for a request that is accepted. */
const storing =
  (store: IssuerStore, mark: number) =>
  ({ sequence, claim }: Acceptance): Promise<void> =>
    store.pins.storePrw(CARD, prwOf(sequence, mark), claim)

async function asFound(store: IssuerStore): Promise<CardAsFound> {
  const revision = (await store.cards.find(CARD))?.revision
  assert.ok(revision !== undefined, 'the card is gone, or has no revision')
  return { ...CARD, revision }
}

const refusedOf = (results: readonly BulkResult[]): readonly (readonly [string, string])[] =>
  results.flatMap(result => {
    if (result.outcome === 'stored') return []
    assert.ok(isIssuerPinError(result.error), 'an uncoded error')
    return [[Object(result.card).cardId, result.error.code] as const]
  })

export const ROTATION_CHECKS: Readonly<Record<string, IssuerStoreCheck>> = {
  'a card that changed since it was found takes no PIN that was meant for it': async ({ one, other }) => {
    // What each leaves of the PIN; a block of another PAN opens for nobody, and may stay or go.
    for (const [left, change] of [
      ['block', () => other.cards.setState(CARD, 'not-active')],
      ['either', () => other.cards.put(CARD, { ...PLAIN, pan: Pan.from(OTHER_PAN) })],
      [
        'nothing',
        async () => {
          await other.cards.remove(CARD)
          await other.cards.put(CARD, PLAIN)
        },
      ],
    ] as const) {
      await one.cards.put(CARD, PLAIN)
      await one.pins.storeBlock(await asFound(one), blockOf(1))
      await one.pins.storePrw(await asFound(one), prwOf(1))
      const last = await asFound(one)
      assert.equal((await one.pins.acceptBlock(last, blockOf(2), requestOf(1))).outcome, 'stored')
      const found = await asFound(one)
      await change()
      for (const store of [
        () => one.pins.storeBlock(found, blockOf(3)),
        () => one.pins.storePrw(found, prwOf(9)),
        () => one.pins.acceptBlock(found, blockOf(3), requestOf(2)),
      ]) {
        await assertRefused(store, 'ERR_BACKEND_BUSY', String(store))
      }
      const block = await one.pins.readBlock(CARD)
      if (block !== undefined) assertBlock(block, blockOf(2))
      if (left !== 'either') assert.equal(block === undefined, left === 'nothing')
      assert.equal(await one.pins.readPrw(CARD), undefined)
      const again = await asFound(one)
      assert.equal((await one.pins.acceptBlock(again, blockOf(3), requestOf(2))).outcome, 'stored')
      await one.cards.remove(CARD)
      const gone = { issuerIds: [CARD.issuerId], jweKids: ['JWE-NONE'] }
      assert.equal(await one.pins.forgetRequests(gone), 2)
    }
  },

  'of a card that is blocked while PINs are stored, none is stored after it was blocked': async ({
    one,
    other,
  }) => {
    await one.cards.put(CARD, PLAIN)
    const found = await asFound(one)
    const writes = Promise.allSettled(
      Array.from({ length: 12 }, (_, i) => one.pins.storeBlock(found, blockOf(i))),
    )
    await other.cards.setState(CARD, 'not-active')
    await other.pins.storeBlock(CARD, blockOf(99))
    for (const outcome of await writes) {
      const { status, reason }: { status: string; reason?: { code?: string } } = outcome
      assert.match(`${status} ${reason?.code}`, /^(?:fulfilled undefined|rejected ERR_BACKEND_BUSY)$/)
    }
    assertBlock(await one.pins.readBlock(CARD), blockOf(99))
  },

  'a list of blocks ends what was issued for the PINs before them, of every card and every issuer in it':
    async ({ one, other }) => {
      const cards = [OTHER_ISSUER, CARD, cardOf(2)]
      for (const card of cards) {
        await one.cards.put(card, PLAIN)
        await counterOn(one, card).issue({ cardId: card.cardId })
      }
      const stored = await collect(one.pins.storeBlocks(cards.map(card => ({ card, pin: blockOf(1) }))))
      assert.deepEqual(refusedOf(stored), [])
      for (const { issuerId, cardId } of cards) {
        const record = await other.counters(issuerId).read(`card/${cardId}`)
        const states = JSON.parse(String(record?.value)).issued.map(({ state }: { state: string }) => state)
        assert.deepEqual([...new Set(states)], ['superseded'], `${issuerId} ${cardId}`)
      }
    },

  'many that come in one object, which is filled anew for each, are stored each by its own card': async ({
    one,
    other,
  }) => {
    const OTHERS = Array.from({ length: 3 }, (_, i) => cardOf(i))
    const card = { issuerId: CARD.issuerId, cardId: 'none-yet' }
    const record = { ...PLAIN }
    const pin = { block: new Uint8Array(blockOf(1).block.length), kid: '' }
    const pans = [OTHER_PAN, '999999012345', '9999990123456789012'].map(pan => Pan.from(pan))
    // A row of a database driver, a line of a file: what is read of it later is the last one.
    async function* rows<T>(row: T) {
      for (const [i, { cardId }] of OTHERS.entries()) {
        Object.assign(card, { cardId })
        Object.assign(record, { pan: pans[i] })
        pin.block.set(blockOf(i + 1).block)
        Object.assign(pin, { kid: blockOf(i + 1).kid })
        yield row
      }
      pin.block.fill(0)
      Object.assign(card, { cardId: 'all-gone' })
    }
    const all = OTHERS.map(found => ({ card: found, outcome: 'stored' }))
    assert.deepEqual(await collect(one.cards.putMany(rows({ card, record }))), all, 'cards')
    for (const [i, ref] of OTHERS.entries())
      assertCard(await other.cards.find(ref), { ...PLAIN, pan: pans[i] ?? PLAIN.pan }, `card ${i + 1}`)
    assert.deepEqual(await collect(one.pins.storeBlocks(rows({ card, pin }))), all, 'blocks')
    for (const [i, ref] of OTHERS.entries()) assertBlock(await other.pins.readBlock(ref), blockOf(i + 1))
    // One that is refused is named by its card, too.
    Object.assign(record, { state: 'blocked' })
    const refused = await collect(one.cards.putMany(rows({ card, record })))
    assert.deepEqual(
      refusedOf(refused),
      OTHERS.map(({ cardId }) => [cardId, 'ERR_ARGUMENT']),
    )
  },

  'many cards and blocks are stored in batches, each with its result, and one that is refused stops no other':
    async ({ one, other }) => {
      const cards = Array.from({ length: MANY }, (_, i) => ({ card: cardOf(i), record: PLAIN }))
      const wrong = { card: cardOf(7000), record: { ...PLAIN, state: 'blocked' } as never }
      const put = await collect(one.cards.putMany([...cards.slice(0, 300), wrong, ...cards.slice(300)]))
      assert.equal(put.length, MANY + 1)
      assert.deepEqual(refusedOf(put), [['card-7000', 'ERR_ARGUMENT']])
      assertCard(await other.cards.find(cardOf(MANY - 1)), PLAIN, 'the last card')
      async function* blocks() {
        for (let i = 0; i < MANY; i++) yield { card: cardOf(i), pin: blockOf(i % 200) }
        yield { card: cardOf(8000), pin: blockOf(1) }
        yield { card: cardOf(0), pin: { ...blockOf(1), kid: '' } }
        yield { card: cardOf(0), pin: blockOf(42) }
      }
      const stored = await collect(one.pins.storeBlocks(blocks()))
      assert.equal(stored.length, MANY + 3)
      assert.deepEqual(refusedOf(stored), [
        ['card-8000', 'ERR_BACKEND_FAILED'],
        ['card-0000', 'ERR_ARGUMENT'],
      ])
      assertBlock(await other.pins.readBlock(cardOf(0)), blockOf(42))
      assertBlock(await other.pins.readBlock(cardOf(399)), blockOf(199))
      const controller = new AbortController()
      controller.abort()
      await assert.rejects(collect(one.cards.putMany(cards, { signal: controller.signal })))
      assert.deepEqual(await collect(one.pins.storeBlocks([])), [], 'of no block')
      const nothing = await collect(one.pins.storeBlocks([null as never]))
      assert.deepEqual(refusedOf(nothing), [[undefined, 'ERR_ARGUMENT']], 'of nothing that is a block')
      const revision = (await one.cards.find(cardOf(1)))?.revision
      assert.ok(revision !== undefined, 'the card is gone, or has no revision')
      await one.cards.setState(cardOf(1), 'not-active')
      const late = { ...cardOf(1), revision }
      const stale = await collect(
        one.pins.storeBlocks([
          null as never,
          { card: late, pin: blockOf(9) },
          { card: { ...cardOf(2), notAfter: 1 }, pin: blockOf(9) },
          { card: cardOf(3), pin: blockOf(9) },
        ]),
      )
      assert.deepEqual(refusedOf(stale), [
        [undefined, 'ERR_ARGUMENT'],
        ['card-0001', 'ERR_BACKEND_BUSY'],
        ['card-0002', 'ERR_BACKEND_BUSY'],
      ])
      assertBlock(await other.pins.readBlock(cardOf(2)), blockOf(2))
      assertBlock(await other.pins.readBlock(cardOf(3)), blockOf(9))
      assert.deepEqual(refusedOf(await collect(one.cards.putMany([7 as never]))), [
        [undefined, 'ERR_ARGUMENT'],
      ])
      for (const none of [undefined, 7, {}]) {
        await assertRefused(
          () => collect(one.cards.putMany(none as never)),
          'ERR_ARGUMENT',
          'no list of cards',
        )
        await assertRefused(() => collect(one.pins.storeBlocks(none as never)), 'ERR_ARGUMENT', 'no list')
      }
      // What is no refusal of one card ends the whole: nobody said what is wrong with it.
      const broken = new Error('the source of the cards broke')
      const breaks = (): never => {
        throw broken
      }
      const record = new Proxy(PLAIN, { get: breaks, ownKeys: breaks })
      const pin = new Proxy(blockOf(1), { get: breaks, ownKeys: breaks })
      await assert.rejects(collect(one.cards.putMany([{ card: CARD, record }])), broken)
      await assert.rejects(collect(one.pins.storeBlocks([{ card: cardOf(0), pin }])), broken)
    },

  'blocks are listed by their key in pages, and counted': async ({ one, other }) => {
    const refs = [CARD, OTHER_ISSUER, cardOf(2), cardOf(3), cardOf(4)]
    for (const card of refs) await one.cards.put(card, PLAIN)
    for (const [i, card] of refs.entries())
      await one.pins.storeBlock(card, blockOf(i, i === 3 ? 'PEK-ä' : 'PEK-1'))
    await one.pins.storePrw(cardOf(4), prwOf(1))
    assert.deepEqual(await other.pins.countBlocks(), [
      { kid: 'PEK-1', blocks: 3 },
      { kid: 'PEK-ä', blocks: 1 },
    ])
    const first = await other.pins.listBlocks({ kid: 'PEK-1', limit: 2 })
    assert.deepEqual(
      first.map(({ card }) => card),
      [CARD, cardOf(2)],
    )
    assertBlock(first[1], { ...blockOf(2, 'PEK-1') })
    const second = await other.pins.listBlocks({ kid: 'PEK-1', after: cardOf(2), limit: 2 })
    assert.deepEqual(
      second.map(({ card }) => card),
      [OTHER_ISSUER],
    )
    assert.deepEqual(await other.pins.listBlocks({ kid: 'PEK-9', limit: 2 }), [])
    for (const page of [
      { kid: 'PEK-1', limit: 0 },
      { kid: '', limit: 1 },
      { kid: 'PEK-1', limit: 8193 },
      {},
    ]) {
      await assertRefused(() => one.pins.listBlocks(page as never), 'ERR_ARGUMENT', JSON.stringify(page))
    }
  },

  'a block is replaced only where nobody wrote since it was listed': async ({ one, other }) => {
    await one.cards.put(CARD, PLAIN)
    assert.equal((await one.pins.acceptBlock(CARD, blockOf(1), requestOf(1))).outcome, 'stored')
    const listed = async (kid: string) => {
      const [block] = await one.pins.listBlocks({ kid, limit: 9 })
      assert.ok(block !== undefined, 'the block is gone')
      return block
    }
    const { version } = await listed('PEK-STORE')
    const replace = (mark: number, version: string) =>
      other.pins.replaceBlocks([{ card: CARD, pin: blockOf(mark, 'PEK-NEW'), version }])
    assert.deepEqual(await replace(2, version), [true])
    assert.deepEqual(await replace(3, version), [false], 'a version is good for one write')
    assertBlock(await one.pins.readBlock(CARD), blockOf(2, 'PEK-NEW'))
    assert.deepEqual(await one.pins.acceptBlock(CARD, blockOf(1), requestOf(1)), {
      outcome: 'replayed',
      current: true,
    })
    // The same block again, or the card again with the same block: others all the same.
    for (const write of [
      () => other.pins.storeBlock(CARD, blockOf(2, 'PEK-NEW')),
      () => other.pins.storePrw(CARD, prwOf(1)),
      async () => {
        await other.cards.remove(CARD)
        await other.cards.put(CARD, PLAIN)
        await other.pins.storeBlock(CARD, blockOf(2, 'PEK-NEW'))
      },
    ]) {
      await other.pins.storeBlock(CARD, blockOf(2, 'PEK-NEW'))
      const before = await listed('PEK-NEW')
      await write()
      assert.deepEqual(await replace(9, before.version), [false])
    }
    assertBlock(await one.pins.readBlock(CARD), blockOf(2, 'PEK-NEW'))
    assert.deepEqual(await one.pins.replaceBlocks([]), [])
    assert.deepEqual(await replace(9, 'never'), [false])
    // What became of each, in the order in which they were given, whatever order they are written in.
    const cards = ['card-c', 'card-a', 'card-b'].map(cardId => ({ ...CARD, cardId }))
    for (const card of cards) {
      await one.cards.put(card, PLAIN)
      await one.pins.storeBlock(card, blockOf(3, 'PEK-MANY'))
    }
    const many = await one.pins.listBlocks({ kid: 'PEK-MANY', limit: 9 })
    assert.equal(many.length, cards.length)
    const list = cards.map(card => {
      const found = many.find(({ card: { cardId } }) => cardId === card.cardId)
      const version = card.cardId === 'card-c' ? 'never' : String(found?.version)
      return { card, pin: blockOf(4, 'PEK-MANY'), version }
    })
    assert.deepEqual(await other.pins.replaceBlocks(list), [false, true, true], 'which of them were replaced')
    assertBlock(await one.pins.readBlock({ ...CARD, cardId: 'card-c' }), blockOf(3, 'PEK-MANY'))
  },

  'a write that hung does not come over a newer PIN; of two PRWs the sequence decides': async ({
    one,
    other,
  }) => {
    await one.cards.put(CARD, PLAIN)
    let request = 0
    const accept = (store: IssuerStore, card: CardAsFound) => {
      request++
      return store.pins.acceptBlock(card, blockOf(1), requestOf(request))
    }
    const newer: readonly (() => Promise<unknown>)[] = [
      () => other.pins.storeBlock(CARD, blockOf(2)),
      async () => {
        const found = await asFound(other)
        const accepted = await other.pins.acceptBlock(found, blockOf(2), requestOf(100 + request))
        assert.deepEqual(accepted, { outcome: 'stored' })
      },
    ]
    for (const write of newer) {
      const found = await asFound(one)
      await write()
      await assertRefused(() => one.pins.storePrw(found, prwOf(5)), 'ERR_BACKEND_BUSY', 'a late PRW')
      await assertRefused(() => accept(one, found), 'ERR_BACKEND_BUSY', 'a late block')
      await assertRefused(() => one.pins.storeBlock(found, blockOf(1)), 'ERR_BACKEND_BUSY', 'a late block')
      assertBlock(await one.pins.readBlock(CARD), blockOf(2))
    }
    const found = await asFound(one)
    await other.pins.storePrw(found, prwOf(7))
    await assertRefused(() => accept(one, found), 'ERR_BACKEND_BUSY', 'a block before a PRW')
    await one.pins.storePrw(found, prwOf(6))
    assert.deepEqual(await one.pins.readPrw(CARD), prwOf(7))
    await one.pins.storePrw(found, prwOf(8))
    assert.deepEqual(await other.pins.readPrw(CARD), prwOf(8))
    // A request that is repeated changes nothing, the revision included.
    assert.deepEqual(await accept(one, await asFound(one)), { outcome: 'stored' })
    const before = await asFound(one)
    request--
    assert.deepEqual(await accept(other, before), { outcome: 'replayed', current: true })
    assert.deepEqual(await asFound(one), before)
  },

  'a request that two replicas bring at once is a repeated one, before the card is one that changed': async ({
    one,
    other,
  }) => {
    await one.cards.put(CARD, PLAIN)
    await one.cards.put(OTHER_ISSUER, PLAIN)
    for (let round = 1; round <= ROUNDS; round++) {
      // Both found the card before either of them wrote.
      const found = await asFound(one)
      const answers = await Promise.all(
        [one, other].map(store => store.pins.acceptBlock(found, blockOf(round), requestOf(round))),
      )
      answers.sort((a, b) => a.outcome.localeCompare(b.outcome))
      assert.deepEqual(answers, [{ outcome: 'replayed', current: true }, { outcome: 'stored' }])
      const late = await other.pins.acceptBlock(found, blockOf(round), requestOf(round))
      assert.deepEqual(late, { outcome: 'replayed', current: true })
      const { revision = '' } = found
      const misdirected = await one.pins.acceptBlock(
        { ...OTHER_ISSUER, revision },
        blockOf(9),
        requestOf(round),
      )
      assert.deepEqual(misdirected, { outcome: 'misdirected' })
      assertBlock(await one.pins.readBlock(CARD), blockOf(round))
    }
    const nobody = { ...CARD, cardId: 'nobody' }
    await assertRefused(
      () => one.pins.acceptBlock(nobody, blockOf(1), requestOf(1)),
      'ERR_BACKEND_FAILED',
      'no such card, although the request is known',
    )
  },

  'what comes when its time is over is not written, by the clock of whoever writes': async ({
    one,
    other,
  }) => {
    await one.cards.put(CARD, PLAIN)
    const foundAt = (await one.cards.find(CARD))?.foundAt
    assert.ok(foundAt !== undefined, 'the card is gone, or was found at no time')
    const found = await asFound(one)
    for (const late of [
      { ...found, notAfter: foundAt },
      { ...CARD, notAfter: foundAt - 1000 },
    ]) {
      const writes: Readonly<Record<string, () => Promise<unknown>>> = {
        acceptBlock: () => other.pins.acceptBlock(late, blockOf(1), requestOf(1)),
        storeBlock: () => other.pins.storeBlock(late, blockOf(1)),
        storePrw: () => other.pins.storePrw(late, prwOf(1)),
      }
      for (const [name, write] of Object.entries(writes)) await assertRefused(write, 'ERR_BACKEND_BUSY', name)
    }
    assert.equal(await one.pins.readBlock(CARD), undefined)
    assert.equal(await one.pins.readPrw(CARD), undefined)
    assert.deepEqual(await asFound(one), found)
    const inTime = { ...found, notAfter: foundAt + 3_600_000 }
    await other.pins.storePrw(inTime, prwOf(1))
    assert.deepEqual(await one.pins.readPrw(CARD), prwOf(1))
    // A request that was stored in time may be repeated later: nothing is written for the card.
    const next = { ...(await asFound(one)), notAfter: foundAt + 3_600_000 }
    assert.equal((await one.pins.acceptBlock(next, blockOf(2), requestOf(2))).outcome, 'stored')
    const repeated = await other.pins.acceptBlock({ ...CARD, notAfter: foundAt }, blockOf(2), requestOf(2))
    assert.deepEqual(repeated, { outcome: 'replayed', current: true })
    const wrong = { ...CARD, notAfter: 0.5 }
    await assertRefused(() => one.pins.storeBlock(wrong, blockOf(1)), 'ERR_ARGUMENT', 'half a millisecond')
  },

  'a PRW ends its claim in the write that stores it, and is stored for no claim that has ended': async ({
    one,
    other,
  }) => {
    await one.cards.put(CARD, PLAIN)
    const { cardId } = CARD
    const key = `card/${cardId}`
    const record = async (): Promise<string> => String((await one.counters(CARD.issuerId).read(key))?.value)
    const ends: Readonly<Record<string, (counter: ChangeCounter) => Promise<unknown>>> = {
      'nothing ends it': async () => undefined,
      'another channel ends it': counter => counter.supersede({ cardId }),
      'another request ends it': async counter => {
        const issued = await counter.issue({ cardId })
        const request = { cardId, ...issued, fingerprint: new Uint8Array(32).fill(9) }
        await counter.accept({ request, store: async () => {} })
      },
      'its time ends it': async () => {
        const late = counterOn(other, CARD, () => systemClock.now() + 301_000)
        await assert.rejects(late.check(current), { reason: 'expired' })
      },
    }
    let current: AcceptRequest = { cardId, intdatag: '', pcc: '', fingerprint: new Uint8Array(32) }
    let mark = 0
    for (const [name, end] of Object.entries(ends)) {
      mark++
      const counter = counterOn(one)
      current = { cardId, ...(await counter.issue({ cardId })), fingerprint: new Uint8Array(32).fill(mark) }
      const before = await one.pins.readPrw(CARD)
      let claimEnds: ClaimRecord | undefined
      let [spentInTheWrite, refusal]: [boolean, unknown] = [false, undefined]
      const accepted = counter.accept({
        request: current,
        store: async ({ sequence, claim }) => {
          claimEnds = claim
          const prw = prwOf(sequence, mark)
          assert.ok((await record()).includes(claim.claimed), `${name}: no claim`)
          await end(counterOn(other))
          const read = await one.counters(CARD.issuerId).read(key)
          await one.pins.storePrw(CARD, prw, claim).catch(error => {
            refusal = error
            throw error
          })
          spentInTheWrite = (await record()).includes(claim.spent)
          // Whoever read the record before that write does not write over it.
          const late = other.counters(CARD.issuerId).compareAndSet(key, read?.version, String(read?.value))
          assert.equal(await late, false, 'the record has the version that it had before its claim was ended')
          // What the counter says is already so for another replica.
          assert.deepEqual(await counterOn(other).check(current), { replayed: true })
          await other.pins.storePrw(CARD, prw, claim)
        },
      })
      if (name === 'nothing ends it') {
        assert.equal((await accepted).replayed, false)
        assert.ok(spentInTheWrite, 'the claim is confirmed later than the PRW is stored')
        assert.equal((await one.pins.readPrw(CARD))?.pcc, prwOf(0, mark).pcc)
        continue
      }
      await assert.rejects(accepted)
      assert.ok(isIssuerPinError(refusal) && refusal.code === 'ERR_CHANGE_COUNTER', `${name}: ${refusal}`)
      assert.deepEqual(await other.pins.readPrw(CARD), before, name)
      assert.ok(!(await record()).includes(String(claimEnds?.spent)), name)
    }
    // Where the card has changed, the claim is as it was: the same request may come again.
    const counter = counterOn(one)
    const request = { cardId, ...(await counter.issue({ cardId })), fingerprint: new Uint8Array(32) }
    const stale = await asFound(one)
    await one.cards.put(CARD, PLAIN)
    const refused = counter.accept({
      request,
      store: ({ sequence, claim }) => other.pins.storePrw(stale, prwOf(sequence, 1), claim),
    })
    await assert.rejects(refused, { code: 'ERR_BACKEND_BUSY' })
    assert.equal((await counter.accept({ request, store: storing(other, 1) })).replayed, false)
    // A counter that is kept elsewhere has no record here, and the store takes no notice.
    await one.cards.put(OTHER_ISSUER, PLAIN)
    const elsewhere = { key: 'card/elsewhere', claimed: TEXT_OF_A_CLAIM, spent: TEXT_OF_A_CLAIM }
    await one.pins.storePrw(OTHER_ISSUER, prwOf(1), elsewhere)
    assert.deepEqual(await other.pins.readPrw(OTHER_ISSUER), prwOf(1))
    // Nor does it of one that is kept here, and is another issuer's.
    const ofAnother = { ...elsewhere, keptBy: one.counters(CARD.issuerId) }
    await one.pins.storePrw(OTHER_ISSUER, prwOf(1, 2), ofAnother)
    assert.deepEqual(
      await other.pins.readPrw(OTHER_ISSUER),
      prwOf(1, 2),
      'a claim of another issuer’s counter',
    )
    // One that is kept here, and has none, has lost it.
    const lost = { ...elsewhere, keptBy: one.counters(OTHER_ISSUER.issuerId) }
    const call = () => one.pins.storePrw(OTHER_ISSUER, prwOf(2), lost)
    await assertRefused(call, 'ERR_CHANGE_COUNTER', 'a claim whose record was lost')
    assert.deepEqual(await other.pins.readPrw(OTHER_ISSUER), prwOf(1, 2))
    for (const wrong of [{ key: '' }, { claimed: '{' }, { spent: '"state":"spent"' }]) {
      const call = () => one.pins.storePrw(CARD, prwOf(99), { ...elsewhere, ...wrong })
      await assertRefused(call, 'ERR_ARGUMENT', 'what is no claim')
    }
  },

  'a clock that goes back revives neither an intdatag nor a claim, on whatever replica': async ({
    one,
    other,
  }) => {
    await one.cards.put(CARD, PLAIN)
    const { cardId } = CARD
    let time = 1_800_000_000_000
    const [here, there] = [one, other].map(store => counterOn(store, CARD, () => time))
    assert.ok(here !== undefined && there !== undefined)
    const LATER = 301_000
    const issued = async (mark: number): Promise<AcceptRequest> => ({
      cardId,
      ...(await here.issue({ cardId })),
      fingerprint: new Uint8Array(32).fill(mark),
    })
    const never = storing(other, 99)
    const isOver = async (request: AcceptRequest, what: string): Promise<void> => {
      for (const counter of [here, there]) {
        await assert.rejects(counter.check(request), { reason: 'expired' }, what)
        await assert.rejects(counter.accept({ request, store: never }), { reason: 'expired' }, what)
      }
      assert.notEqual((await one.pins.readPrw(CARD))?.pcc, prwOf(0, 99).pcc, `${what}: stored`)
    }
    const seen = await issued(1)
    time += LATER
    await assert.rejects(there.check(seen), { reason: 'expired' })
    time -= LATER
    await isOver(seen, 'one that was looked at')
    const unseen = await issued(2)
    time += LATER
    await there.issue({ cardId })
    time -= LATER
    await isOver(unseen, 'one that another write came after')
    const claimed = await issued(3)
    const fails = async (): Promise<void> => assert.fail('the store is away')
    await assert.rejects(here.accept({ request: claimed, store: fails }), { message: 'the store is away' })
    time += LATER
    await assert.rejects(there.accept({ request: claimed, store: never }), { reason: 'expired' })
    time -= LATER
    await isOver(claimed, 'a claim')
    // A purge by a clock that is ahead deletes nothing by which a request is known.
    const spent = await issued(4)
    await here.accept({ request: spent, store: async () => {} })
    time += 1_000 * LATER
    await there.purge()
    time -= 1_000 * LATER
    assert.equal((await there.accept({ request: spent, store: never })).replayed, true)
    await assert.rejects(there.accept({ request: unseen, store: never }), { reason: 'superseded' })
  },

  'a block that comes by another way ends what is open in the card’s counter': async ({ one, other }) => {
    for (const card of [CARD, OTHER_ISSUER]) await one.cards.put(card, PLAIN)
    const store = (by: IssuerStore) => by.pins.storeBlock(CARD, blockOf(1))
    const storeMany = (by: IssuerStore) =>
      collect(by.pins.storeBlocks([CARD, OTHER_ISSUER].map(card => ({ card, pin: blockOf(1) }))))
    for (const put of [store, storeMany]) {
      const counter = counterOn(one)
      const issued = await counter.issue({ cardId: CARD.cardId })
      const request = { ...issued, cardId: CARD.cardId, fingerprint: new Uint8Array(32) }
      assert.deepEqual(await counter.check(request), { replayed: false })
      await put(other)
      await assert.rejects(counter.check(request), { reason: 'superseded' })
    }
    assert.equal(await one.counters(OTHER_ISSUER.issuerId).read(`card/${OTHER_ISSUER.cardId}`), undefined)
  },

  'cards are passed in pages to be sealed anew, and stay what they are': async ({ one, other }) => {
    const refs = [CARD, cardOf(2), OTHER_ISSUER]
    for (const card of refs) await one.cards.put(card, PLAIN)
    const before = await asFound(one)
    const first = await other.cards.reseal({ limit: 2 })
    assert.deepEqual(first, [CARD, cardOf(2)])
    assert.deepEqual(await other.cards.reseal({ after: cardOf(2), limit: 2 }), [OTHER_ISSUER])
    for (const card of refs) assertCard(await one.cards.find(card), PLAIN, card.cardId)
    assert.deepEqual(await asFound(one), before, 'the revision changed')
    await assertRefused(() => one.cards.reseal({ limit: 0 }), 'ERR_ARGUMENT', 'reseal')
    const aborted = AbortSignal.abort()
    await assertRefused(() => one.cards.reseal({ limit: 2 }, { signal: aborted }), 'ERR_ABORTED', 'reseal')
  },
}
