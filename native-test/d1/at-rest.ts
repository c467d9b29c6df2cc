/** What stands in the folder of a `serve` that does not run: each card's PIN against what D1 sent. */

import { decipherPin, Pan, Pin, verifyPrw } from 'issuer-pin-crypto'
import { softwareBackend } from 'issuer-pin-crypto/software'
import { Folder } from '../../examples/serve/folder.js'
import { PROFILE } from '../../examples/serve/issuer.js'
import { PRW } from '../../examples/serve/keys.js'
import { identityIn } from '../../examples/serve/onboarded.js'
import type { BackendOptions, StoreOptions } from '../../examples/serve/options.js'
import { openSoftwareKeys } from '../../examples/serve/software-keys.js'
import { openStore } from '../../examples/serve/stores.js'
import { openTokenKeys } from '../../examples/serve/token-keys.js'
import type { Known, Sent } from './traffic.js'

export interface Place {
  readonly dir: string
  readonly backend: BackendOptions
  readonly store: StoreOptions
}

/**
 * What is wrong: a card whose PIN is neither the last acknowledged one nor one that was sent after it; a PIN that is
 * there in both forms; a PRW that does not verify. Cards settle: what is found counts as the last one sent.
 */
export async function checkAtRest(
  { dir, backend: keys, store: place }: Place,
  cards: readonly Known[],
): Promise<string[]> {
  const wrong: string[] = []
  const folder = Folder.open(dir, { backend: keys.kind, store: place.kind }, () => [])
  const { issuerId, jweKid } = identityIn(folder, undefined)
  await using backend = await (keys.kind === 'software'
    ? openSoftwareKeys(folder, jweKid)
    : openTokenKeys(folder, keys.own, jweKid))
  await using verifier = await softwareBackend({
    keys: [
      { kid: PRW.kid, usage: 'prw-verify', algorithm: 'tdea-2key', material: folder.read(PRW.file).trim() },
    ],
  })
  await using store = await openStore(folder, place)
  const storage = await backend.bind({ kid: 'PEK-STORE', usage: 'pin-encryption', hostDecipher: true })
  const prwKey = await verifier.bind({ kid: PRW.kid, usage: 'prw-verify' })

  for (const { card, sent, first } of cards) {
    const ref = { issuerId, cardId: card.cardId }
    const pan = Pan.from(card.pan)
    const block = await store.pins.readBlock(ref)
    const prw = await store.pins.readPrw(ref)
    if (block !== undefined && prw !== undefined) wrong.push(`${card.cardId} has a block and a PRW`)
    const from = sent.findLastIndex(one => one.acknowledged)
    const candidates: Sent[] = sent.slice(Math.max(0, from))
    const initial = from < 0
    let found: Sent | undefined
    if (block !== undefined) {
      using pin = await decipherPin({ block: block.block, pan, format: 0, key: storage })
      const digits = pin.reveal()
      found = candidates.find(one => one.type === 'ISO0' && one.pin === digits)
      if (found === undefined && !(initial && digits === first))
        wrong.push(`${card.cardId}: not a PIN that can be`)
    } else if (prw !== undefined) {
      for (const one of candidates.filter(
        ({ type, counter }) => type === '3DES_SECCOS' && counter?.pcc === prw.pcc,
      )) {
        using pin = Pin.from(one.pin)
        const dataSet = Uint8Array.from(Buffer.from(prw.prwDataSet, 'hex'))
        const { verified } = await verifyPrw({
          key: prwKey,
          profile: PROFILE,
          pin,
          pan,
          dataSet,
          prwValue: prw.prwValue,
        })
        if (verified) found = one
      }
      if (found === undefined) wrong.push(`${card.cardId}: a PRW that does not verify with a PIN that can be`)
    } else if (!(initial && first === undefined)) wrong.push(`${card.cardId}: its PIN is gone`)
    settle(sent, found)
  }
  return wrong
}

/** What was sent after the PIN that is there has not been done. */
function settle(sent: Sent[], found: Sent | undefined): void {
  sent.length = found === undefined ? 0 : sent.indexOf(found) + 1
  if (found !== undefined) found.acknowledged = true
}
