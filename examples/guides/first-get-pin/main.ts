import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { encipherPin, Pan, Pin } from 'issuer-pin-crypto'
import {
  getPinResponse,
  nodeListener,
  openSetPinRequestToClearPin,
  serverLimits,
  watchServer,
} from 'issuer-pin-crypto/d1'
import { softwareBackend } from 'issuer-pin-crypto/software'
import { makeIssuer } from './issuer.js'
import { openIssuerKeys } from './keys.js'

const zpk = randomBytes(16)
const pan = Pan.from('9999990123456789')

// D1, as far as it is needed here: the same ZPK, and a P-256 key of its own.
await using d1 = await softwareBackend({
  keys: [
    { kid: 'ZPK-D1', usage: 'pin-encryption', algorithm: 'tdea-2key', material: zpk },
    {
      kid: 'D1-JWE',
      usage: 'jwe-key-agreement',
      algorithm: 'ec-p256',
      material: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey,
    },
  ],
})
const d1Zpk = await d1.bind({ kid: 'ZPK-D1', usage: 'pin-encryption', hostDecipher: true })
const d1Jwe = await d1.bind({ kid: 'D1-JWE', usage: 'jwe-key-agreement' })

// The issuer, behind HTTP.
await using issuerKeys = await openIssuerKeys(zpk)
const handler = await makeIssuer(issuerKeys, { ...d1Jwe.publicJwk, kid: d1Jwe.kid })
const server = watchServer({ server: createServer({ ...serverLimits }, nodeListener(handler)), handler })
await once(server.listen(0, '127.0.0.1'), 'listening')
const { port } = server.address() as AddressInfo
const url = `http://127.0.0.1:${port}/cms/api/v1/issuers/is_tbank01/cards/card-0001/pin`

// Get PIN. The answer has the form of a Set PIN body, so the same function reads it.
console.log('the PIN is', await getPin())

// Set PIN: a block under the ZPK, in a JWE to the issuer.
const { publicJwk } = await issuerKeys.bind({ kid: 'ISSUER-JWE', usage: 'jwe-key-agreement' })
using wanted = Pin.from('0815')
const body = await getPinResponse({
  block: await encipherPin({ pin: wanted, pan, format: 0, key: d1Zpk }),
  from: d1Zpk,
  to: d1Zpk,
  pan,
  d1PublicJwk: { ...publicJwk, kid: 'ISSUER-JWE' },
})
const answer = await fetch(url, {
  method: 'PUT',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
})
console.log('Set PIN:', answer.status)
console.log('the PIN is', await getPin())
server.close()

async function getPin(): Promise<string> {
  const response = await fetch(url)
  const text = await response.text()
  using pin = await openSetPinRequestToClearPin({ body: text, jweKeys: d1Jwe, from: d1Zpk, pan })
  return pin.reveal()
}
