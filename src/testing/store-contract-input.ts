/** What a case of the contract of the issuer's stores is given and writes: a database, cards, blocks, PRWs. */
import assert from 'node:assert/strict'
import { type ErrorCode, isIssuerPinError } from '../base/errors.js'
import type { BlockRequest, Card, CardRef, StoredPinBlock, StoredPrw } from '../d1/endpoints/interfaces.js'
import { Pan } from '../primitives/pan.js'
import type { IssuerStore } from '../stores/issuer-store.js'

/** A database of its own for one case. */
export interface IssuerStoreContext {
  readonly one: IssuerStore
  /** Another handle on the same database, as a replica has it; the same object where there can be only one. */
  readonly other: IssuerStore
  /** A further handle, as after a restart. Left out where the store ends with its process. */
  readonly reopen?: () => Promise<IssuerStore>
  /** Everything that stands in the database, in whatever form it is dumped. Left out where nothing leaves the process. */
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
  'SECCOS with a PCC': { ...PLAIN, setPinTypes: ['3DES_SECCOS'], seccos: { pcc: '0007' } },
  'SECCOS with fields of text and of bytes': {
    ...PLAIN,
    setPinTypes: ['3DES_SECCOS'],
    seccos: {
      pcc: '9999',
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
  }
}

/** Asserts a card as it was put, PAN and field bytes included. */
export function assertCard(actual: Card | undefined, expected: Card, what: string): void {
  assert.ok(actual !== undefined, `${what}: the card is gone`)
  const { pan, revision, ...rest } = actual
  assert.ok(typeof revision === 'string', `${what}: no revision`)
  const { pan: expectedPan, ...expectedRest } = expected
  assert.ok(pan.reveal() === expectedPan.reveal(), `${what}: another PAN`)
  assert.deepEqual(rest, expectedRest, what)
  for (const value of Object.values(rest.seccos?.fields ?? {})) {
    assert.ok(typeof value === 'string' || !Buffer.isBuffer(value), `${what}: a Buffer where bytes were put`)
  }
}

/** Asserts a block, and that it is a plain `Uint8Array`. */
export function assertBlock(actual: StoredPinBlock | undefined, expected: StoredPinBlock): void {
  assert.ok(actual !== undefined, 'the block is gone')
  assert.deepEqual(
    { block: Array.from(actual.block), kid: actual.kid },
    { ...expected, block: [...expected.block] },
  )
  assert.ok(!Buffer.isBuffer(actual.block), 'a Buffer where a Uint8Array is due')
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
