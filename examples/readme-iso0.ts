import { generateKeyPairSync } from 'node:crypto'
import { encipherPin, Pan, Pin } from 'issuer-pin-crypto'
import { getPinResponse, openSetPinRequest } from 'issuer-pin-crypto/d1'
import { softwareBackend } from 'issuer-pin-crypto/software'

await using backend = await softwareBackend({
  keys: [
    {
      kid: 'ZPK-D1',
      usage: 'pin-encryption',
      algorithm: 'tdea-2key',
      material: '0123456789ABCDEFFEDCBA9876543210',
    },
    {
      kid: 'PEK-STORE',
      usage: 'pin-encryption',
      algorithm: 'tdea-2key',
      material: '89E88CF7931444F334BD7547FC3F380C',
    },
    {
      kid: 'ISSUER-JWE',
      usage: 'jwe-key-agreement',
      algorithm: 'ec-p256',
      material: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey,
    },
  ],
})

// A key is bound by its name and for one usage. hostDecipher allows checked translations on the host.
const d1Zpk = await backend.bind({
  kid: 'ZPK-D1',
  usage: 'pin-encryption',
  kcv: '08D7B4',
  hostDecipher: true,
})
const storage = await backend.bind({ kid: 'PEK-STORE', usage: 'pin-encryption', hostDecipher: true })
const jweKey = await backend.bind({ kid: 'ISSUER-JWE', usage: 'jwe-key-agreement' })

// A card is issued: what you store is a PIN block under your own key.
const pan = Pan.from('9999990123456789')
using pin = Pin.from('4711')
const stored = await encipherPin({ pin, pan, format: 0, key: storage })

// Get PIN: what you answer. (Here D1's public key is our own, so that the example can go on.)
const d1PublicJwk = { ...jweKey.publicJwk, kid: jweKey.kid }
const body = await getPinResponse({ block: stored, from: storage, to: d1Zpk, pan, d1PublicJwk })
console.log(body.type, body.encryptedPinBlock.length)

// Set PIN: what you do with a request body. The result goes into your database; nobody saw the PIN.
const opened = await openSetPinRequest({
  body: JSON.stringify(body),
  jweKeys: jweKey,
  from: d1Zpk,
  to: storage,
  pan,
})
console.log(opened.kid, Buffer.from(opened.block).equals(stored)) // PEK-STORE true
