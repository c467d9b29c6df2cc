/** The storage key ends while cardholders ask for their PINs: four steps, and a Get PIN between each of them. */
import { decipherPin, encipherPin, type Key, Pan, Pin, translatePinBlock } from 'issuer-pin-crypto'
import { memoryIssuerStore, rotateStorageKey } from 'issuer-pin-crypto/d1'
import { softwareBackend } from 'issuer-pin-crypto/software'

const tdea = { usage: 'pin-encryption', algorithm: 'tdea-2key' } as const
await using backend = await softwareBackend({
  keys: [
    { ...tdea, kid: 'PEK-2025', material: '0123456789ABCDEFFEDCBA9876543210' },
    { ...tdea, kid: 'PEK-2026', material: '89E88CF7931444F334BD7547FC3F380C' },
    { ...tdea, kid: 'ZPK-D1', material: '7CA110454A1A6E570131D9619DC1376E' },
  ],
})
const bind = (kid: string): Promise<Key> => backend.bind({ kid, usage: 'pin-encryption', hostDecipher: true })
const [old, next, zpk] = [await bind('PEK-2025'), await bind('PEK-2026'), await bind('ZPK-D1')]

const store = memoryIssuerStore()
const cards = Array.from({ length: 1000 }, (_, i) => ({
  ref: { issuerId: 'is_tbank01', cardId: `card-${i}` },
  pan: Pan.from(String(9_999_990_000_000_000n + BigInt(i))),
  pin: String(1000 + i),
}))
for (const { ref, pan, pin } of cards) {
  using first = Pin.from(pin)
  await store.cards.put(ref, { state: 'active', pan, setPinTypes: ['ISO0'] })
  await store.pins.storeBlock(ref, {
    block: await encipherPin({ pin: first, pan, format: 0, key: old }),
    kid: old.kid,
  })
}

/** Get PIN as the endpoints do it: whichever key the block names, as long as the service accepts it. */
async function getPin(i: number, accepted: readonly Key[]): Promise<boolean> {
  const card = cards[i]
  const stored = card && (await store.pins.readBlock(card.ref))
  if (card === undefined || stored === undefined) return false
  const from = accepted.find(key => key.kid === stored.kid)
  if (from === undefined) return false
  const { pan } = card
  const { block } = stored
  const answer = await translatePinBlock({ block, pan, fromFormat: 0, toFormat: 0, from, to: zpk })
  using pin = await decipherPin({ block: answer, pan, format: 0, key: zpk })
  return pin.reveal() === card.pin
}

console.log('1. storage: [old, new]    answered:', await getPin(7, [old, next]))
console.log('2. storage: [new, old]    answered:', await getPin(7, [next, old]))
let during = 0
const { moved, left } = await rotateStorageKey({
  store,
  from: old,
  to: next,
  batch: 100,
  onProgress: () => {
    during += 1
  },
})
console.log(`3. rotateStorageKey       moved ${moved} in ${during} steps, ${left} left`)
console.log('4. storage: [new]         answered:', await getPin(7, [next]))
console.log('under which keys:', await store.pins.countBlocks())
