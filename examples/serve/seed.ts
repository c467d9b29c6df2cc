/**
 * A test card and its first PIN, put into the store where they are not there.
 *
 * For one process at a time: the store has no «only if there is none», so of two first starts on an empty database, the
 * slower may put a first PIN over one that D1 has set through the faster. Let one replica listen, then start the others:
 * they find a PIN for every card, and write none.
 */
import type { Card, CardRef, StoredPinBlock } from 'issuer-pin-crypto/d1'
import type { IssuerStore } from 'issuer-pin-crypto/sqlite'

/**
 * A start may have been killed between the two, so a card that is there tells nothing of its PIN; and a PIN that is
 * there stays, whoever stored it. `first` gives undefined for a card that has no PIN at first.
 */
export async function seed(
  { cards, pins }: Pick<IssuerStore, 'cards' | 'pins'>,
  ref: CardRef,
  card: Card,
  first: () => Promise<StoredPinBlock | undefined>,
): Promise<void> {
  if ((await cards.find(ref)) === undefined) await cards.put(ref, card)
  if ((await pins.readBlock(ref)) ?? (await pins.readPrw(ref))) return
  const pin = await first()
  if (pin !== undefined) await pins.storeBlock(ref, pin)
}
