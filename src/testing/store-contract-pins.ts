/** PINs: a card has one, and the last one that may count is it. */
import assert from 'node:assert/strict'
import type { BlockAcceptance } from '../d1/endpoints/interfaces.js'
import type { IssuerStore } from '../stores/issuer-store.js'
import {
  assertBlock,
  assertRefused,
  blockOf,
  CARD,
  type IssuerStoreCheck,
  OTHER_ISSUER,
  PLAIN,
  prwOf,
  requestOf,
} from './store-contract-cards.js'

const WRITERS = 24

/** What a card has: a block or a PRW; both at once break the contract. */
async function pinOf({ pins }: IssuerStore): Promise<'none' | 'block' | 'prw'> {
  const [block, prw] = [await pins.readBlock(CARD, {}), await pins.readPrw(CARD)]
  assert.ok(block === undefined || prw === undefined, 'a block and a PRW are there at once')
  if (block !== undefined) return 'block'
  return prw === undefined ? 'none' : 'prw'
}

export const PIN_CHECKS: Readonly<Record<string, IssuerStoreCheck>> = {
  'a card without a PIN has none to read': async ({ one }) => {
    assert.equal(await pinOf(one), 'none')
    await one.cards.put(CARD, PLAIN)
    assert.equal(await pinOf(one), 'none')
  },

  'a PIN cannot be stored for a card that is not there': async ({ one, other }) => {
    await one.cards.put(OTHER_ISSUER, PLAIN)
    for (const store of [
      () => one.pins.storeBlock(CARD, blockOf(1)),
      () => other.pins.storePrw(CARD, prwOf(1)),
    ]) {
      await assertRefused(store, 'ERR_BACKEND_FAILED', String(store))
      assert.equal(await pinOf(one), 'none')
    }
    await one.cards.put(CARD, PLAIN)
    assert.equal(await pinOf(one), 'none')
    await other.pins.storeBlock(CARD, blockOf(1))
    assertBlock(await one.pins.readBlock(CARD, {}), blockOf(1))
  },

  'a block is read as it was stored, and the same block again is no error': async ({ one, other }) => {
    await one.cards.put(CARD, PLAIN)
    const long = { ...blockOf(4), block: Uint8Array.from({ length: 16 }, (_, i) => 255 - i) }
    const more = { ...blockOf(3), more: 'ignored' }
    for (const pin of [blockOf(1), blockOf(1), blockOf(2, 'PEK-ä "2"'), more, long]) {
      await one.pins.storeBlock(CARD, pin)
      const { block, kid } = pin
      assert.deepEqual(await other.pins.readBlock(CARD, {}), { block, kid })
    }
  },

  'what was stored is a copy, and so is what is read': async ({ one }) => {
    await one.cards.put(CARD, PLAIN)
    const pin = blockOf(1)
    await one.pins.storeBlock(CARD, pin)
    pin.block.fill(0)
    const read = await one.pins.readBlock(CARD, {})
    assertBlock(read, blockOf(1))
    read?.block.fill(0)
    assertBlock(await one.pins.readBlock(CARD, {}), blockOf(1))
  },

  'a PRW is read as it was stored': async ({ one, other }) => {
    await one.cards.put(CARD, PLAIN)
    const { evidence: _, ...proofless } = prwOf(2)
    const bound = { ...prwOf(3), intdatag: 'contract intdatag 02' }
    const last = { ...prwOf(Number.MAX_SAFE_INTEGER, 0xfa), more: 'ignored' }
    for (const prw of [prwOf(1), proofless, bound, last]) {
      await one.pins.storePrw(CARD, prw)
      const { more: _, ...expected } = { more: undefined, ...prw }
      assert.deepEqual(await other.pins.readPrw(CARD), expected)
    }
  },

  'a block and a PRW take each other’s place': async ({ one, other }) => {
    await one.cards.put(CARD, PLAIN)
    for (let sequence = 1; sequence <= 3; sequence++) {
      await one.pins.storeBlock(CARD, blockOf(sequence))
      assertBlock(await other.pins.readBlock(CARD), blockOf(sequence))
      assert.equal(await other.pins.readPrw(CARD), undefined)
      await other.pins.storePrw(CARD, prwOf(sequence))
      assert.deepEqual(await one.pins.readPrw(CARD), prwOf(sequence))
      assert.equal(await one.pins.readBlock(CARD), undefined)
    }
  },

  'a PRW does not write over one of a higher sequence': async ({ one, other }) => {
    await one.cards.put(CARD, PLAIN)
    let kept = prwOf(10)
    await one.pins.storePrw(CARD, kept)
    for (const [sequence, mark, stays] of [
      [9, 99, true],
      [2, 98, true],
      [10, 97, false],
      [11, 11, false],
      [10, 96, true],
      [100, 100, false],
      [99, 95, true],
    ] as const) {
      const prw = prwOf(sequence, mark)
      await other.pins.storePrw(CARD, prw)
      if (!stays) kept = prw
      assert.deepEqual(await one.pins.readPrw(CARD), kept, `after sequence ${sequence}`)
    }
  },

  'a PRW that comes late does not write over the block that replaced a later one': async ({ one }) => {
    await one.cards.put(CARD, PLAIN)
    await one.pins.storePrw(CARD, prwOf(5))
    await one.pins.storeBlock(CARD, blockOf(1))
    // The very PRW that the block replaced, too: whoever repeats that request must not bring an older PIN back.
    for (const sequence of [4, 5]) {
      await one.pins.storePrw(CARD, prwOf(sequence))
      assertBlock(await one.pins.readBlock(CARD, {}), blockOf(1))
    }
    await one.pins.storePrw(CARD, prwOf(6))
    assert.deepEqual(await one.pins.readPrw(CARD), prwOf(6))
  },

  'what is no PIN is refused, and what was there stays': async ({ one }) => {
    await one.cards.put(CARD, PLAIN)
    await one.pins.storeBlock(CARD, blockOf(1))
    const blocks: Readonly<Record<string, unknown>> = {
      'no object': undefined,
      'a block of 7 bytes': { ...blockOf(2), block: new Uint8Array(7) },
      'a block of 15 bytes': { ...blockOf(2), block: new Uint8Array(15) },
      'a block as hex': { ...blockOf(2), block: '0000000000000000' },
      'no kid': { block: blockOf(2).block },
      'a kid with a line feed': { ...blockOf(2), kid: 'a\nb' },
    }
    for (const [name, block] of Object.entries(blocks)) {
      await assertRefused(() => one.pins.storeBlock(CARD, block as never), 'ERR_ARGUMENT', name)
    }
    const prws: Readonly<Record<string, unknown>> = {
      'no object': null,
      'no value': { ...prwOf(2), prwValue: '' },
      'a value with a NUL': { ...prwOf(2), prwValue: 'a\0' },
      'no kid': { ...prwOf(2), prwKid: undefined },
      'a short data set': { ...prwOf(2), prwDataSet: '00' },
      'a PCC of five digits': { ...prwOf(2), pcc: '00001' },
      'a sequence as text': { ...prwOf(2), sequence: '2' },
      'a broken sequence': { ...prwOf(2), sequence: 1.5 },
      'a negative sequence': { ...prwOf(2), sequence: -1 },
      'a sequence of nothing': { ...prwOf(2), sequence: 0 },
      'no profile': { ...prwOf(2), profile: undefined },
      'a profile without version': { ...prwOf(2), profile: { name: 'x' } },
      'an unknown provenance': { ...prwOf(2), provenance: 'public' },
      'an intdatag of 19 characters': { ...prwOf(2), intdatag: 'x'.repeat(19) },
    }
    for (const [name, prw] of Object.entries(prws)) {
      await assertRefused(() => one.pins.storePrw(CARD, prw as never), 'ERR_ARGUMENT', name)
    }
    assertBlock(await one.pins.readBlock(CARD, {}), blockOf(1))
  },

  'of many blocks stored at once, one is there, whole': async ({ one, other }) => {
    await one.cards.put(CARD, PLAIN)
    await Promise.all(
      Array.from({ length: WRITERS }, (_, i) =>
        (i % 2 === 0 ? one : other).pins.storeBlock(CARD, blockOf(i, `PEK-${i}`)),
      ),
    )
    const read = await one.pins.readBlock(CARD, {})
    assert.ok(read !== undefined, 'there is no block')
    const mark = Buffer.from(read.block).readUInt8(0)
    assertBlock(read, blockOf(mark, `PEK-${mark}`))
    assertBlock(await other.pins.readBlock(CARD, {}), blockOf(mark, `PEK-${mark}`))
  },

  'of many PRWs stored at once, the one of the highest sequence is there': async ({ one, other }) => {
    await one.cards.put(CARD, PLAIN)
    // 7 is prime to 24: every sequence once, in disorder.
    const sequences = Array.from({ length: WRITERS }, (_, i) => ((i * 7) % WRITERS) + 1)
    await Promise.all(
      sequences.map((sequence, i) => (i % 2 === 0 ? one : other).pins.storePrw(CARD, prwOf(sequence))),
    )
    assert.deepEqual(await one.pins.readPrw(CARD), prwOf(WRITERS))
  },

  'blocks and PRWs stored at once leave one PIN, while others read': async ({ one, other }) => {
    await one.cards.put(CARD, PLAIN)
    const writes = Array.from({ length: WRITERS }, (_, i) =>
      i % 2 === 0 ? one.pins.storeBlock(CARD, blockOf(i)) : other.pins.storePrw(CARD, prwOf(i)),
    )
    await Promise.all(writes)
    let kind: 'block' | 'prw' | undefined
    for (const { pins } of [one, other]) {
      const [block, prw] = [await pins.readBlock(CARD), await pins.readPrw(CARD)]
      assert.notEqual(block === undefined, prw === undefined, 'one PIN, and not both or none')
      const here = block === undefined ? 'prw' : 'block'
      kind ??= here
      assert.equal(here, kind, 'both handles read the same')
      // Whichever came last, it is one of those that were stored, whole.
      if (block !== undefined) assertBlock(block, blockOf(Buffer.from(block.block).readUInt8(0)))
      if (prw !== undefined) assert.deepEqual(prw, prwOf(prw.sequence))
    }
  },

  'a card that is removed while PINs are stored leaves no PIN behind': async ({ one, other }) => {
    for (let round = 0; round < 5; round++) {
      await one.cards.put(CARD, PLAIN)
      const stores = Array.from({ length: 8 }, (_, i) => other.pins.storeBlock(CARD, blockOf(i)))
      const outcomes = await Promise.allSettled([one.cards.remove(CARD), ...stores])
      assert.equal(outcomes[0]?.status, 'fulfilled')
      assert.equal(await pinOf(one), 'none')
    }
  },
}

const OTHER_CARD = { ...CARD, cardId: 'card-0002' }
const STORED: BlockAcceptance = { outcome: 'stored' }
const MISDIRECTED: BlockAcceptance = { outcome: 'misdirected' }
const replayed = (current: boolean): BlockAcceptance => ({ outcome: 'replayed', current })

/** Set PIN requests (ISO0): each stores its block once. */
export const REQUEST_CHECKS: Readonly<Record<string, IssuerStoreCheck>> = {
  'a request stores its block once; the same again says whether its PIN is the card’s still': async ({
    one,
    other,
  }) => {
    await one.cards.put(CARD, PLAIN)
    assert.deepEqual(await one.pins.acceptBlock(CARD, blockOf(1), requestOf(1)), STORED)
    assert.deepEqual(await other.pins.acceptBlock(CARD, blockOf(1), requestOf(1)), replayed(true))
    assert.deepEqual(await other.pins.acceptBlock(CARD, blockOf(2), requestOf(2)), STORED)
    // The block of a repetition may differ: it was enciphered anew.
    assert.deepEqual(await one.pins.acceptBlock(CARD, blockOf(3), requestOf(1)), replayed(false))
    assertBlock(await one.pins.readBlock(CARD), blockOf(2))
  },

  'a request that was for one card changes no other, of this issuer or another': async ({ one, other }) => {
    for (const card of [CARD, OTHER_CARD, OTHER_ISSUER]) await one.cards.put(card, PLAIN)
    assert.deepEqual(await one.pins.acceptBlock(CARD, blockOf(1), requestOf(1)), STORED)
    for (const card of [OTHER_CARD, OTHER_ISSUER]) {
      assert.deepEqual(await other.pins.acceptBlock(card, blockOf(1), requestOf(1)), MISDIRECTED)
      assert.equal(await other.pins.readBlock(card), undefined)
    }
    assert.deepEqual(await one.pins.acceptBlock(CARD, blockOf(1), requestOf(1)), replayed(true))
  },

  'a block or a PRW that comes by another way makes a request’s PIN an old one': async ({ one, other }) => {
    await one.cards.put(CARD, PLAIN)
    assert.deepEqual(await one.pins.acceptBlock(CARD, blockOf(1), requestOf(1)), STORED)
    await other.pins.storeBlock(CARD, blockOf(1))
    assert.deepEqual(await one.pins.acceptBlock(CARD, blockOf(1), requestOf(1)), replayed(false))
    assert.deepEqual(await one.pins.acceptBlock(CARD, blockOf(2), requestOf(2)), STORED)
    await other.pins.storePrw(CARD, prwOf(1))
    assert.deepEqual(await one.pins.acceptBlock(CARD, blockOf(2), requestOf(2)), replayed(false))
    assert.deepEqual(await one.pins.readPrw(CARD), prwOf(1))
    assert.equal(await one.pins.readBlock(CARD), undefined)
    assert.deepEqual(await one.pins.acceptBlock(CARD, blockOf(3), requestOf(3)), STORED)
    assertBlock(await other.pins.readBlock(CARD), blockOf(3))
    assert.equal(await other.pins.readPrw(CARD), undefined)
    await one.pins.storePrw(CARD, prwOf(1))
    assertBlock(await other.pins.readBlock(CARD), blockOf(3))
    assert.equal(await other.pins.readPrw(CARD), undefined)
  },

  'whether a request is known is asked of any card’s, and changes nothing': async ({ one, other }) => {
    await one.cards.put(CARD, PLAIN)
    const { digest } = requestOf(1)
    assert.equal(await one.pins.knowsRequest(digest), false)
    assert.equal(await other.pins.knowsRequest(digest), false)
    assert.deepEqual(await one.pins.acceptBlock(CARD, blockOf(1), requestOf(1)), STORED)
    assert.equal(await other.pins.knowsRequest(digest), true)
    assert.equal(await other.pins.knowsRequest(requestOf(2).digest), false)
    assert.deepEqual(await one.pins.acceptBlock(CARD, blockOf(2), requestOf(2)), STORED)
    await one.cards.remove(CARD)
    assert.equal(await one.pins.knowsRequest(digest), true)
    await assertRefused(() => one.pins.knowsRequest(digest.slice(1)), 'ERR_ARGUMENT', 'a digest of 31 bytes')
    const aborted = AbortSignal.abort()
    await assertRefused(() => one.pins.knowsRequest(digest, { signal: aborted }), 'ERR_ABORTED', 'aborted')
  },

  'a request is remembered longer than its card, and not where nothing was stored': async ({ one }) => {
    await assertRefused(
      () => one.pins.acceptBlock(CARD, blockOf(1), requestOf(1)),
      'ERR_BACKEND_FAILED',
      'no such card',
    )
    await one.cards.put(CARD, PLAIN)
    assert.deepEqual(await one.pins.acceptBlock(CARD, blockOf(1), requestOf(1)), STORED)
    await one.cards.remove(CARD)
    await one.cards.put(CARD, PLAIN)
    assert.deepEqual(await one.pins.acceptBlock(CARD, blockOf(1), requestOf(1)), replayed(false))
    assert.equal(await pinOf(one), 'none')
  },

  'of many at once with one request, one stores': async ({ one, other }) => {
    for (const card of [CARD, OTHER_CARD]) await one.cards.put(card, PLAIN)
    const answers = await Promise.all(
      Array.from({ length: WRITERS }, (_, i) =>
        (i % 2 ? one : other).pins.acceptBlock(i % 3 ? CARD : OTHER_CARD, blockOf(1), requestOf(1)),
      ),
    )
    const first = answers.findIndex(({ outcome }) => outcome === 'stored')
    assert.notEqual(first, -1, 'none stored')
    const isOfFirst = (i: number): boolean => (i % 3 === 0) === (first % 3 === 0)
    for (const [i, answer] of answers.entries()) {
      if (i !== first) assert.deepEqual(answer, isOfFirst(i) ? replayed(true) : MISDIRECTED, `call ${i}`)
    }
    const [its, not] = first % 3 ? [CARD, OTHER_CARD] : [OTHER_CARD, CARD]
    assertBlock(await one.pins.readBlock(its), blockOf(1))
    assert.equal(await one.pins.readBlock(not), undefined)
  },

  'requests are forgotten when their key is gone or their time is over, those of an issuer alone': async ({
    one,
    other,
  }) => {
    for (const card of [CARD, OTHER_ISSUER]) await one.cards.put(card, PLAIN)
    assert.deepEqual(await one.pins.acceptBlock(CARD, blockOf(1), requestOf(1, { jweKid: 'JWE-0' })), STORED)
    assert.deepEqual(await one.pins.acceptBlock(CARD, blockOf(2), requestOf(2)), STORED)
    assert.deepEqual(await one.pins.acceptBlock(CARD, blockOf(3), requestOf(3)), STORED)
    assert.deepEqual(
      await one.pins.acceptBlock(OTHER_ISSUER, blockOf(4), requestOf(4, { jweKid: 'JWE-0' })),
      STORED,
    )
    const which = { issuerIds: [CARD.issuerId], jweKids: ['JWE-1', 'JWE-2'] }
    assert.equal(await other.pins.forgetRequests(which), 1)
    assert.equal(await other.pins.forgetRequests({ ...which, acceptedBefore: 3_000 }), 1)
    assert.equal(await other.pins.forgetRequests({ ...which, issuerIds: [], acceptedBefore: 9_000 }), 0)
    assertBlock(await one.pins.readBlock(CARD), blockOf(3))
    assert.deepEqual(await one.pins.acceptBlock(CARD, blockOf(3), requestOf(3)), replayed(true))
    assert.deepEqual(await one.pins.acceptBlock(OTHER_ISSUER, blockOf(4), requestOf(4)), replayed(true))
    assert.deepEqual(await one.pins.acceptBlock(CARD, blockOf(2), requestOf(2)), STORED)
  },

  'something other than a request is refused': async ({ one }) => {
    await one.cards.put(CARD, PLAIN)
    for (const wrong of [
      requestOf(1, { digest: new Uint8Array(31) }),
      requestOf(1, { jweKid: '' }),
      requestOf(1, { acceptedAt: 0.5 }),
    ]) {
      await assertRefused(() => one.pins.acceptBlock(CARD, blockOf(1), wrong), 'ERR_ARGUMENT', 'a request')
    }
    for (const wrong of [
      { issuerIds: ['short'], jweKids: ['JWE-1'] },
      { issuerIds: [CARD.issuerId], jweKids: [] },
      { issuerIds: [CARD.issuerId], jweKids: [''] },
      { issuerIds: CARD.issuerId as never, jweKids: ['JWE-1'] },
      { issuerIds: [], jweKids: ['JWE-1'], acceptedBefore: Number.NaN },
    ]) {
      await assertRefused(() => one.pins.forgetRequests(wrong), 'ERR_ARGUMENT', 'what to forget')
    }
    assert.equal(await pinOf(one), 'none')
  },
}
