/** Test cards that nobody owns: the last digit of each number is wrong (ISO/IEC 7812-1, Luhn). */
import { encipherPin, type Key, Pan, Pin } from 'issuer-pin-crypto'
import type { Card, CardState, PinBlockType, StoredPinBlock } from 'issuer-pin-crypto/d1'

/** What the SECCOS profile has as its issuer. */
const ISSUER = 'is_tbank01'

/** A card, with what D1 knows of it. */
export interface TestCard {
  readonly cardId: string
  readonly pan: string
  readonly state: CardState
  readonly setPinTypes: readonly PinBlockType[]
  /** Its PIN when it is made; none for a card whose PIN is a PRW. */
  readonly pin?: string
  /** The fields of the SECCOS profile, from which D1 computes; the endpoints read them from the message. */
  readonly fields?: Readonly<Record<string, string>>
}

const FIELDS = { psn: '01', expiry: '2912', issuer: ISSUER }
const ISO0 = { state: 'active', setPinTypes: ['ISO0'] } as const
const SECCOS = { state: 'active', setPinTypes: ['3DES_SECCOS'], fields: FIELDS } as const
const BOTH = { setPinTypes: ['ISO0', '3DES_SECCOS'], fields: FIELDS } as const

const FIXED: readonly TestCard[] = [
  { cardId: 'card-0001', pan: panOf(1), ...ISO0, pin: '4711' },
  { cardId: 'card-0002', pan: panOf(2), ...ISO0, pin: '905238417655' },
  { cardId: 'card-0003', pan: panOf(3), ...SECCOS },
  { cardId: 'card-0004', pan: panOf(4), ...SECCOS },
  { cardId: 'card-0005', pan: panOf(5), ...BOTH, state: 'pin-change-forbidden', pin: '4712' },
  { cardId: 'card-0006', pan: panOf(6), ...BOTH, state: 'not-active', pin: '4713' },
  // A second card of the first one's PAN.
  { cardId: 'card-0007', pan: panOf(1), ...BOTH, state: 'active', pin: '4714' },
]

/** The card whose change counter shows what an expired intdatag does: the last one with SECCOS. */
export const EXPIRED_CARD = 'card-0004'
/** A cardId that no card has. */
export const ABSENT_CARD = 'card-9999'

/** The fixed cards, and so many more, in turn with one Set PIN type, the other, and both. */
export function testCards(extra: number): readonly TestCard[] {
  const more = Array.from({ length: extra }, (_, i): TestCard => {
    const number = 1001 + i
    const card = { cardId: `card-${number}`, pan: panOf(number) }
    if (i % 3 === 1) return { ...card, ...SECCOS }
    const pin = String(4000 + i)
    return i % 3 === 0 ? { ...card, ...ISO0, pin } : { ...card, ...BOTH, state: 'active', pin }
  })
  return [...FIXED, ...more]
}

/** What the endpoints are told of a card. */
export function recordOf({ pan, state, setPinTypes }: TestCard): Card {
  return { state, pan: Pan.from(pan), setPinTypes }
}

/** The first PIN of a card as it is stored. */
export async function firstBlock({ pan, pin }: TestCard, storage: Key): Promise<StoredPinBlock | undefined> {
  if (pin === undefined) return undefined
  using first = Pin.from(pin)
  const block = await encipherPin({ pin: first, pan: Pan.from(pan), format: 0, key: storage })
  return { block, kid: storage.kid }
}

/** 16 digits: an unassigned range, the number, and a check digit that is wrong. */
function panOf(number: number): string {
  const digits = `999999${String(number).padStart(9, '0')}`
  let sum = 0
  for (const [i, digit] of [...digits].reverse().entries()) {
    const doubled = Number(digit) * (i % 2 === 0 ? 2 : 1)
    sum += doubled > 9 ? doubled - 9 : doubled
  }
  return digits + ((15 - (sum % 10)) % 10)
}
