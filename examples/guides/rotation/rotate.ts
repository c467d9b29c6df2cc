/** The storage key ends while D1 calls: the service is deployed four times, and no Get PIN or Set PIN goes wrong meanwhile. */
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { encipherPin, type Key, Pan, Pin } from 'issuer-pin-crypto'
import {
  getPinResponse,
  issuerEndpoints,
  memoryIssuerStore,
  nodeListener,
  openSetPinRequestToClearPin,
  rotateStorageKey,
} from 'issuer-pin-crypto/d1'
import { softwareBackend } from 'issuer-pin-crypto/software'

const tdea = { usage: 'pin-encryption', algorithm: 'tdea-2key' } as const
const jwe = { usage: 'jwe-key-agreement', algorithm: 'ec-p256' } as const
const newPrivateKey = () => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
await using backend = await softwareBackend({
  keys: [
    { ...tdea, kid: 'PEK-2025', material: '0123456789ABCDEFFEDCBA9876543210' },
    { ...tdea, kid: 'PEK-2026', material: '89E88CF7931444F334BD7547FC3F380C' },
    { ...tdea, kid: 'ZPK-D1', material: '7CA110454A1A6E570131D9619DC1376E' },
    { ...jwe, kid: 'ISSUER-JWE', material: newPrivateKey() },
    { ...jwe, kid: 'D1-JWE', material: newPrivateKey() },
  ],
})
const bind = (kid: string): Promise<Key> => backend.bind({ kid, usage: 'pin-encryption', hostDecipher: true })
const [old, next, d1Zpk] = [await bind('PEK-2025'), await bind('PEK-2026'), await bind('ZPK-D1')]
const jweKey = await backend.bind({ kid: 'ISSUER-JWE', usage: 'jwe-key-agreement' })
// This program is D1 as well, so it has D1's private key, too.
const d1Jwe = await backend.bind({ kid: 'D1-JWE', usage: 'jwe-key-agreement' })

const store = memoryIssuerStore()
const cards = Array.from({ length: 1000 }, (_, i) => ({
  ref: { issuerId: 'is_tbank01', cardId: `card-${i}` },
  pan: Pan.from(String(9_999_990_000_000_000n + BigInt(i))),
  pin: String(1000 + i),
}))
type Card = (typeof cards)[number]
for (const { ref, pan, pin } of cards) {
  using first = Pin.from(pin)
  await store.cards.put(ref, { state: 'active', pan, setPinTypes: ['ISO0'] })
  const block = await encipherPin({ pin: first, pan, format: 0, key: old })
  await store.pins.storeBlock(ref, { block, kid: old.kid })
}

/** The service with this list of storage keys: the first stores, all are accepted. */
function deploy(storage: readonly Key[]): RequestListener {
  const iso0 = { d1Zpk, storage, d1PublicJwk: { ...d1Jwe.publicJwk, kid: d1Jwe.kid } }
  const issuer = { cards: store.cards, pins: store.pins, jweKeys: jweKey, iso0 }
  const authorization = 'anyone-who-reaches-it' // A test on one machine. In life: the guide "Who calls".
  return nodeListener(issuerEndpoints({ issuers: { is_tbank01: issuer }, authorization, audit: () => {} }))
}
let deployed = deploy([old])
const server = createServer((request, response) => deployed(request, response))
await once(server.listen(0, '127.0.0.1'), 'listening')
const { port } = server.address() as AddressInfo

/** What D1 does for a cardholder: Get PIN, then Set PIN to another one. True where both are as they must be. */
async function cardholder(card: Card): Promise<boolean> {
  const { ref, pan } = card
  const url = `http://127.0.0.1:${port}/cms/api/v1/issuers/${ref.issuerId}/cards/${ref.cardId}/pin`
  const got = await fetch(url)
  if (got.status !== 200) return false
  using seen = await openSetPinRequestToClearPin({
    body: await got.text(),
    jweKeys: d1Jwe,
    from: d1Zpk,
    pan,
  })
  if (seen.reveal() !== card.pin) return false
  const wanted = String(9999 - Number(card.pin)).padStart(4, '0')
  using pin = Pin.from(wanted)
  const block = await encipherPin({ pin, pan, format: 0, key: d1Zpk })
  const d1PublicJwk = { ...jweKey.publicJwk, kid: jweKey.kid }
  const body = JSON.stringify(await getPinResponse({ block, from: d1Zpk, to: d1Zpk, pan, d1PublicJwk }))
  const set = await fetch(url, { method: 'PUT', headers: { 'content-type': 'application/json' }, body })
  await set.arrayBuffer()
  card.pin = wanted
  return set.status === 204
}

/** Cardholders one after the other, in the order of their cards, until `done`: how many went well, and how many wrong. */
let turn = 0
async function cardholders(done: (calls: number) => boolean, count = { well: 0, wrong: 0 }) {
  while (!done(count.well + count.wrong)) {
    const card = cards[turn++ % cards.length]
    if (card !== undefined) count[(await cardholder(card)) ? 'well' : 'wrong'] += 1
  }
  return count
}
const twenty = (calls: number): boolean => calls === 20

deployed = deploy([old, next])
console.log('1. storage: [old, new]   ', await cardholders(twenty))
deployed = deploy([next, old])
console.log('2. storage: [new, old]   ', await cardholders(twenty))

let moving = true
const count = { well: 0, wrong: 0 }
const meanwhile = cardholders(() => !moving, count)
const servedBy: number[] = []
const { left } = await rotateStorageKey({
  store: { pins: slowly(store.pins) },
  from: old,
  to: next,
  batch: 50,
  onProgress: () => servedBy.push(count.well),
})
moving = false
const { wrong } = await meanwhile
console.log(
  '3. rotateStorageKey      ',
  { left, wrong },
  // By the last batch more cardholders had been served than by the first.
  Number(servedBy.at(-1)) > Number(servedBy[0]) ? 'others were served' : 'nobody was served',
)

deployed = deploy([next])
console.log('4. storage: [new]        ', await cardholders(twenty))
console.log('under which keys:', await store.pins.countBlocks())
server.close()
server.closeAllConnections()

/** A store in memory is through before the first call arrives. A database takes its time. */
function slowly(pins: typeof store.pins): typeof store.pins {
  return { ...pins, listBlocks: async (...page) => wait(20).then(() => pins.listBlocks(...page)) }
}
