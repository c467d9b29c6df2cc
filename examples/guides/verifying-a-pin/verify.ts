/** The PIN of a switch's authorisation request, verified against what the issuer keeps, with the try counted first. */
import {
  type Backend,
  encipherPin,
  generatePvv,
  memoryStore,
  Pan,
  Pin,
  TryCounter,
  translatePinBlock,
  verifyPinBlock,
} from 'issuer-pin-crypto'
import { softwareBackend } from 'issuer-pin-crypto/software'

/** Test keys. In production they are in a token, and the opener's key ring says what may be bound. */
const backend: Backend = await softwareBackend({
  keys: [
    {
      kid: 'ZPK-SWITCH',
      usage: 'pin-encryption',
      algorithm: 'tdea-2key',
      material: '0123456789ABCDEFFEDCBA9876543210',
    },
    {
      kid: 'STORE',
      usage: 'pin-encryption',
      algorithm: 'aes-128',
      material: 'AF8CB133A78F8DC2D1359F18527593FB',
    },
    { kid: 'PVK-1', usage: 'visa-pvv', algorithm: 'tdea-2key', material: '89E88CF7931444F334BD7547FC3F380C' },
  ],
})
const zpk = await backend.bind({ kid: 'ZPK-SWITCH', usage: 'pin-encryption', hostDecipher: true })
const storage = await backend.bind({ kid: 'STORE', usage: 'pin-encryption', hostDecipher: true })
const pvk = await backend.bind({ kid: 'PVK-1', usage: 'visa-pvv', pinValue: { pvki: 1 } })

/** In production: `store.counters(issuerId)` of `openPostgresIssuerStore`, which all replicas share. */
const counter = new TryCounter({
  store: memoryStore(),
  products: { debit: { limit: 3, afterSuccess: 'reset' } },
  onEvent: ({ event, left }) => console.log(`audit: ${event}, ${left} left`),
})
const tries = { counter, cardId: 'card-1', product: 'debit' }
const pan = Pan.from('4000001234567899')

/** What the terminal sends, by way of the switch: format 0 under its ZPK. */
async function typed(digits: string): Promise<Uint8Array> {
  using pin = Pin.from(digits)
  return await encipherPin({ pin, pan, format: 0, key: zpk })
}

// At issuance: the PIN at rest is a format 4 block under AES, and a PVV is kept beside the card.
const first = await typed('2846')
const stored = await translatePinBlock({
  block: first,
  pan,
  fromFormat: 0,
  toFormat: 4,
  from: zpk,
  to: storage,
})
const pvv = await generatePvv({ block: first, pan, format: 0, from: zpk, key: pvk })

// At authorisation.
const block = await typed('2847')
const against = { kind: 'block', block: stored, format: 4, key: storage } as const
const wrong = await verifyPinBlock({ block, pan, format: 0, from: zpk, against, tries })
console.log(`verified ${wrong.verified}, tries left ${wrong.triesLeft}`)

const right = await typed('2846')
const byPvv = { kind: 'pvv', pvv, key: pvk } as const
const verdict = await verifyPinBlock({ block: right, pan, format: 0, from: zpk, against: byPvv, tries })
console.log(`verified ${verdict.verified}, tries left ${verdict.triesLeft}`)
await backend.close()
