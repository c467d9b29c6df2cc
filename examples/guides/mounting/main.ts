/** D1's routes in a server that has routes of its own: D1's paths first, and nothing before them that reads the body. */
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { encipherPin, Pan, Pin } from 'issuer-pin-crypto'
import {
  issuerEndpoints,
  memoryIssuerStore,
  memoryRates,
  nodeListener,
  serverLimits,
  watchServer,
} from 'issuer-pin-crypto/d1'
import { createTestIssuer } from 'issuer-pin-crypto/testing'

const { backend, d1Zpk, storage, jweKey } = await createTestIssuer()
// In life D1 hands you its public key. Here it is that of another test issuer: an issuer's own is refused.
const { d1PublicJwk } = await createTestIssuer()
const store = memoryIssuerStore()
const card = { issuerId: 'is_tbank01', cardId: 'card-0001' }
const pan = Pan.from('9999990123456789')
await store.cards.put(card, { state: 'active', pan, setPinTypes: ['ISO0'] })
using pin = Pin.from('4711')
const block = await encipherPin({ pin, pan, format: 0, key: storage })
await store.pins.storeBlock(card, { block, kid: storage.kid })

const handler = issuerEndpoints({
  issuers: {
    is_tbank01: {
      cards: store.cards,
      pins: store.pins,
      jweKeys: jweKey,
      iso0: { d1Zpk, storage, d1PublicJwk },
    },
  },
  authorization: 'anyone-who-reaches-it', // A test on one machine. In life: the guide "Who calls".
  rates: memoryRates(),
  audit: ({ operation, status }) => console.log('audit:', operation, status),
})
const forD1 = nodeListener(handler)

/** Your own routes. */
const app: RequestListener = (request, response) => {
  if (request.url === '/hello') response.end('a route of your own\n')
  else response.writeHead(404).end()
}

/** D1's paths are answered before anything reads the body; every other request goes on to your routes. */
export const listener: RequestListener = (request, response) =>
  forD1(request, response, () => app(request, response))

const server = watchServer({ server: createServer({ ...serverLimits }, listener), handler })
await once(server.listen(0, '127.0.0.1'), 'listening')
const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`

const ask = async (path: string): Promise<{ status: number; text: string }> => {
  const answer = await fetch(origin + path)
  return { status: answer.status, text: await answer.text() }
}
console.log('/hello:', (await ask('/hello')).text.trim())
const pinPath = '/cms/api/v1/issuers/is_tbank01/cards/card-0001/pin'
const { status, text } = await ask(pinPath)
console.log('Get PIN:', status, Object.keys(JSON.parse(text)).join(', '))
console.log('a card that is not there:', (await ask(pinPath.replace('0001', '0002'))).status)
server.close()
await handler.settled?.()
await backend.close()
