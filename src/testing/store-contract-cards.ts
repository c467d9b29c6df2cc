/**
 * The store contract for cards: what a card is, found and changed; and the inputs that all its cases share.
 */
import assert from 'node:assert/strict'
import { AbortedError, type ErrorCode, isIssuerPinError } from '../base/errors.js'
import type {
  BlockRequest,
  Card,
  CardQuery,
  CardRef,
  StoredPinBlock,
  StoredPrw,
} from '../d1/endpoints/interfaces.js'
import { Pan } from '../primitives/pan.js'
import type { IssuerStore } from '../stores/issuer-store.js'

export const CARD_CHECKS: Readonly<Record<string, IssuerStoreCheck>> = {
  'a card that was never put is not found': async ({ one }) => {
    assert.equal(await one.cards.find(CARD), undefined)
    await one.cards.put(CARD, PLAIN)
    assert.equal(await one.cards.find({ ...CARD, cardId: 'card-0002' }), undefined)
    assert.equal(await one.cards.find({ ...CARD, cardId: 'Card-0001' }), undefined)
    assert.equal(await one.cards.find(OTHER_ISSUER), undefined)
  },

  'a card is found as it was put, with every member and no other': async ({ one, other }) => {
    for (const [name, card] of Object.entries(CARDS)) {
      await one.cards.put(CARD, card)
      assertCard(await one.cards.find(CARD), card, name)
      const query: CardQuery = { ...CARD, operation: 'getPIN' }
      assertCard(await other.cards.find(query, {}), card, name)
    }
  },

  'what was put is a copy, and so is what is found': async ({ one }) => {
    const bytes = Uint8Array.of(1, 2, 3)
    const types: 'ISO0'[] = ['ISO0']
    const seccos = { fields: { bytes } }
    await one.cards.put(CARD, { ...PLAIN, setPinTypes: types, seccos })
    bytes.fill(0)
    types.pop()
    const found = await one.cards.find(CARD)
    const expected = { ...PLAIN, seccos: { fields: { bytes: Uint8Array.of(1, 2, 3) } } }
    assertCard(found, expected, 'changed after put')
    const shown = found?.seccos?.fields?.['bytes'] as Uint8Array
    shown.fill(9)
    assertCard(await one.cards.find(CARD), expected, 'changed after find')
  },

  'two issuers may have cards of one id': async ({ one }) => {
    const theirs = { ...PLAIN, pan: Pan.from(OTHER_PAN), state: 'not-active' } as const
    await one.cards.put(CARD, PLAIN)
    await one.cards.put(OTHER_ISSUER, theirs)
    await one.pins.storeBlock(CARD, blockOf(1))
    await one.pins.storePrw(OTHER_ISSUER, prwOf(2))
    assertCard(await one.cards.find(CARD), PLAIN, 'ours')
    assertCard(await one.cards.find(OTHER_ISSUER), theirs, 'theirs')
    assertBlock(await one.pins.readBlock(CARD, {}), blockOf(1))
    assert.equal(await one.pins.readPrw(CARD), undefined)
    assert.equal(await one.pins.readBlock(OTHER_ISSUER, {}), undefined)
    assert.deepEqual(await one.pins.readPrw(OTHER_ISSUER), prwOf(2))
    await one.cards.remove(OTHER_ISSUER)
    assertCard(await one.cards.find(CARD), PLAIN, 'ours, theirs removed')
    assertBlock(await one.pins.readBlock(CARD, {}), blockOf(1))
  },

  'the state changes, and nothing else': async ({ one, other }) => {
    const card = { ...PLAIN, seccos: { fields: { psn: '01' } } }
    await one.cards.put(CARD, card)
    await one.pins.storeBlock(CARD, blockOf(1))
    for (const state of ['not-active', 'pin-change-forbidden', 'active'] as const) {
      await one.cards.setState(CARD, state)
      assertCard(await other.cards.find(CARD), { ...card, state }, state)
    }
    assertBlock(await one.pins.readBlock(CARD, {}), blockOf(1))
  },

  'the state of a card that is not there cannot change': async ({ one }) => {
    await one.cards.put(OTHER_ISSUER, PLAIN)
    await assertRefused(() => one.cards.setState(CARD, 'active'), 'ERR_BACKEND_FAILED', 'setState')
    assert.equal(await one.cards.find(CARD), undefined)
  },

  'a card that is put again keeps its PIN': async ({ one }) => {
    await one.cards.put(CARD, PLAIN)
    await one.pins.storeBlock(CARD, blockOf(1))
    await one.cards.put(CARD, { ...PLAIN, state: 'not-active' })
    assertBlock(await one.pins.readBlock(CARD, {}), blockOf(1))
  },

  'a removed card takes its PIN with it, and leaves the change counter': async ({ one, other }) => {
    const counter = one.counters(CARD.issuerId)
    assert.equal(await counter.compareAndSet('counted', undefined, 'counted'), true)
    for (const store of [
      () => one.pins.storeBlock(CARD, blockOf(1)),
      () => one.pins.storePrw(CARD, prwOf(5)),
    ]) {
      await one.cards.put(CARD, PLAIN)
      await store()
      await other.cards.remove(CARD)
      assert.equal(await one.cards.find(CARD), undefined)
      await one.cards.put(CARD, PLAIN)
      assert.equal(await one.pins.readBlock(CARD, {}), undefined)
      assert.equal(await one.pins.readPrw(CARD), undefined)
    }
    assert.equal((await other.counters(CARD.issuerId).read('counted'))?.value, 'counted')
    await one.cards.remove(CARD)
    await one.cards.remove(CARD)
  },

  'what is no card is refused before it is stored': async ({ one }) => {
    const wrong: Readonly<Record<string, unknown>> = {
      'no object': null,
      'an unknown member': { ...PLAIN, expiry: '2912' },
      'an unknown state': { ...PLAIN, state: 'blocked' },
      'an inherited state': { ...PLAIN, state: 'valueOf' },
      'a PAN as text': { ...PLAIN, pan: OTHER_PAN },
      'no list of types': { ...PLAIN, setPinTypes: 'ISO0' },
      'an unknown type': { ...PLAIN, setPinTypes: ['ISO1'] },
      'a PCC, which the counter alone has': { ...PLAIN, seccos: { pcc: '0001' } },
      'an unknown member of seccos': { ...PLAIN, seccos: { psn: '01' } },
      'fields that are no object': { ...PLAIN, seccos: { fields: 'psn' } },
      'a field that is a number': { ...PLAIN, seccos: { fields: { psn: 1 } } },
    }
    for (const [name, card] of Object.entries(wrong)) {
      await assertRefused(() => one.cards.put(CARD, card as never), 'ERR_ARGUMENT', name)
    }
    await assertRefused(() => one.cards.setState(CARD, 'blocked' as never), 'ERR_ARGUMENT', 'setState')
    assert.equal(await one.cards.find(CARD), undefined)
  },

  'a card is named by issuerId and cardId': async ({ one }) => {
    const wrong: readonly unknown[] = [
      undefined,
      {},
      { issuerId: 'is_tbank01' },
      { ...CARD, issuerId: 'short' },
      { ...CARD, issuerId: "is_tbank'1" },
      { ...CARD, cardId: '' },
      { ...CARD, cardId: 'a/b' },
      { ...CARD, cardId: 'x'.repeat(49) },
      { ...CARD, cardId: 1 },
    ]
    for (const card of wrong as never[]) {
      for (const call of [
        () => one.cards.find(card),
        () => one.cards.put(card, PLAIN),
        () => one.cards.setState(card, 'active'),
        () => one.cards.remove(card),
        () => one.pins.readBlock(card, {}),
        () => one.pins.readPrw(card),
        () => one.pins.storeBlock(card, blockOf(1)),
        () => one.pins.storePrw(card, prwOf(1)),
      ]) {
        await assertRefused(call, 'ERR_ARGUMENT', String(call))
      }
    }
    for (const issuerId of [undefined, '', 'is_tbank1', 'is_tbank/1', 'is_tbank001'] as never[]) {
      await assertRefused(() => one.counters(issuerId), 'ERR_ARGUMENT', `counters(${issuerId})`)
    }
  },

  'a signal that has fired stops a reading call': async ({ one }) => {
    await one.cards.put(CARD, PLAIN)
    const options = { signal: AbortSignal.abort(new Error('gone')) }
    for (const call of [
      () => one.cards.find(CARD, options),
      () => one.pins.readBlock(CARD, options),
      () => one.pins.readPrw(CARD, options),
    ]) {
      await assert.rejects(call, AbortedError)
    }
    assertCard(await one.cards.find(CARD, { signal: new AbortController().signal }), PLAIN, 'not aborted')
  },
}

/* What a case of the contract of the issuer's stores is given and writes: a database, cards, blocks, PRWs. */

/** A database of its own for one case. */
export interface IssuerStoreContext {
  readonly one: IssuerStore
  /** Another handle on the same database, as a replica has it; the same object where there can be only one. */
  readonly other: IssuerStore
  /** A further handle, as after a restart. Left out where the store ends with its process. */
  readonly reopen?: () => Promise<IssuerStore>
  /** Everything that is in the database, in whatever form it is dumped. Left out where nothing leaves the process. */
  readonly stored?: () => Promise<Uint8Array>
}

/** One rule, given all that a context may have. */
export type IssuerStoreCheck = (context: Required<IssuerStoreContext>) => Promise<void>

export const CARD: CardRef = { issuerId: 'is_tbank01', cardId: 'card-0001' }
export const OTHER_ISSUER: CardRef = { issuerId: 'is_tbank02', cardId: 'card-0001' }

/** Nobody's: they fail the Luhn check. */
export const PAN = '9999990123456789'
export const OTHER_PAN = '9999980000000012'

/** A card with nothing that may be left out. */
export const PLAIN: Card = { state: 'active', pan: Pan.from(PAN), setPinTypes: ['ISO0'] }

/** Cards that differ in every member, by what they try. */
export const CARDS: Readonly<Record<string, Card>> = {
  'no more than it must have': PLAIN,
  'another state, no way to set a PIN': {
    state: 'pin-change-forbidden',
    pan: Pan.from('999999012345'),
    setPinTypes: [],
  },
  'a PAN of 19 digits, both ways to set a PIN': {
    state: 'not-active',
    pan: Pan.from('9999990123456789012'),
    setPinTypes: ['3DES_SECCOS', 'ISO0'],
  },
  'SECCOS with nothing': { ...PLAIN, setPinTypes: ['3DES_SECCOS'], seccos: {} },
  'SECCOS with fields of text and of bytes': {
    ...PLAIN,
    setPinTypes: ['3DES_SECCOS'],
    seccos: {
      fields: {
        psn: '01',
        empty: '',
        quoted: '\'";-- \\ \u0000 ä \u{1F511} {"hex":"00"}',
        bytes: Uint8Array.of(0, 1, 0x7f, 0x80, 0xff),
        none: new Uint8Array(0),
      },
    },
  },
}

export function blockOf(mark: number, kid: string = 'PEK-STORE'): StoredPinBlock {
  return { block: Uint8Array.of(mark, 0, 0xff, 0x80, 0x27, 0x5c, 0x0a, mark), kid }
}

/** A Set PIN request that a block came with. */
export function requestOf(mark: number, more: Partial<BlockRequest> = {}): BlockRequest {
  return { digest: new Uint8Array(32).fill(mark), jweKid: 'JWE-1', acceptedAt: 1_000 * mark, ...more }
}

export function prwOf(sequence: number, mark: number = sequence): StoredPrw {
  return {
    prwValue: String(mark).padStart(16, '0'),
    prwKid: 'PRW-1',
    prwDataSet: mark.toString(16).toUpperCase().padStart(2, '0').repeat(123),
    pcc: String(mark).padStart(4, '0'),
    sequence,
    profile: { name: 'contract "profile"', version: '1.0' },
    provenance: 'illustrative',
    evidence: { macValue: '0123456789ABCDEF', macKid: 'MAC-1', intdatag: 'contract intdatag 01' },
  }
}

/** Asserts a card as it was put, PAN and field bytes included. */
export function assertCard(actual: Card | undefined, expected: Card, what: string): void {
  assert.ok(actual !== undefined, `${what}: the card is gone`)
  const { pan, revision, foundAt, ...rest } = actual
  assert.ok(typeof revision === 'string', `${what}: no revision`)
  assert.ok(Number.isSafeInteger(foundAt), `${what}: no time at which it was found`)
  const { pan: expectedPan, foundAt: _, ...expectedRest } = expected
  assert.ok(pan.reveal() === expectedPan.reveal(), `${what}: another PAN`)
  // Strict: a Buffer is no plain Uint8Array.
  assert.deepEqual(rest, expectedRest, what)
}

/** Asserts a block, and that it is a plain `Uint8Array`. */
export function assertBlock(actual: StoredPinBlock | undefined, expected: StoredPinBlock): void {
  assert.ok(actual !== undefined, 'the block is gone')
  const { block, kid } = actual
  assert.deepEqual({ block, kid }, expected)
}

/** Asserts a refusal by one of our codes. */
export async function assertRefused(call: () => unknown, code: ErrorCode, what: string): Promise<void> {
  await assert.rejects(
    async () => call(),
    (error: unknown) => {
      assert.ok(isIssuerPinError(error), `${what}: an uncoded error`)
      assert.equal(error.code, code, what)
      return true
    },
    `${what}: not refused`,
  )
}
