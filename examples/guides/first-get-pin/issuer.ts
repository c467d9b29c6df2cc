import { type Backend, encipherPin, Pan, Pin, type PublicJwkLike } from 'issuer-pin-crypto'
import {
  type Card,
  type EndpointHandler,
  issuerEndpoints,
  memoryIssuerStore,
  memoryRates,
  otelAttributes,
} from 'issuer-pin-crypto/d1'

/** What your database holds: the card's facts, and its PIN block under your own key. Here it is this process's memory. */
const STORE = memoryIssuerStore()
const CARD = { issuerId: 'is_tbank01', cardId: 'card-0001' }
const RECORD: Card = { state: 'active', pan: Pan.from('9999990123456789'), setPinTypes: ['ISO0'] }

export async function makeIssuer(backend: Backend, d1PublicJwk: PublicJwkLike): Promise<EndpointHandler> {
  // Bound once, at the start: a wrong key ends the start and not a request.
  const d1Zpk = await backend.bind({ kid: 'ZPK-D1', usage: 'pin-encryption', hostDecipher: true })
  const storage = await backend.bind({ kid: 'PEK-STORE', usage: 'pin-encryption', hostDecipher: true })
  const jweKeys = await backend.bind({ kid: 'ISSUER-JWE', usage: 'jwe-key-agreement' })

  // The card is issued: a PIN becomes a PIN block under the storage key.
  using pin = Pin.from('4711')
  const block = await encipherPin({ pin, pan: RECORD.pan, format: 0, key: storage })
  await STORE.cards.put(CARD, RECORD)
  await STORE.pins.storeBlock(CARD, { block, kid: storage.kid })

  return issuerEndpoints({
    issuers: {
      is_tbank01: { cards: STORE.cards, pins: STORE.pins, jweKeys, iso0: { d1Zpk, storage, d1PublicJwk } },
    },
    // The TLS connection is the only proof of who calls. Here there is none: this is a test on one machine.
    authorization: 'anyone-who-reaches-it',
    rates: memoryRates(),
    audit: event => console.log(JSON.stringify(otelAttributes(event))),
  })
}
