/**
 * A test card and its first PIN, put into the store where they are not there.
 *
 * For one process at a time: the store has no «only if there is none», so of two first starts on an empty database, the
 * slower may put a first PIN over one that D1 has set through the faster. Let one replica listen, then start the others:
 * they find a PIN for every card, and write none.
 */
import { isIssuerPinError } from 'issuer-pin-crypto'
import type { Card, CardRef, StoredPinBlock } from 'issuer-pin-crypto/d1'
import type { IssuerStore } from 'issuer-pin-crypto/sqlite'
import { UsageError } from './options.js'

const OTHER_FOLDER =
  'the database was filled from another folder, whose key its PANs are sealed under: take that --dir, or an empty database'

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
  const found = await cards.find(ref).catch((error: unknown) => {
    if (!isIssuerPinError(error) || !error.message.startsWith('the sealed PAN')) throw error
    throw new UsageError(OTHER_FOLDER)
  })
  if (found === undefined) await cards.put(ref, card)
  if ((await pins.readBlock(ref)) ?? (await pins.readPrw(ref))) return
  const pin = await first()
  if (pin !== undefined) await pins.storeBlock(ref, pin)
}
