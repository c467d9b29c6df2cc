import { encipherPin, Pan, Pin } from 'issuer-pin-crypto'
import { getPinResponse, openSetPinRequest } from 'issuer-pin-crypto/d1'
import { createTestIssuer } from 'issuer-pin-crypto/testing'

const { backend, storage, d1Zpk, jweKey, d1PublicJwk } = await createTestIssuer()
try {
  const pan = Pan.from('9999990123456789')
  const stored = await encipherPin({ pin: Pin.from('4711'), pan, format: 0, key: storage }) // what you keep
  const body = await getPinResponse({ block: stored, from: storage, to: d1Zpk, pan, d1PublicJwk }) // Get PIN
  const set = await openSetPinRequest({ body, jweKeys: jweKey, from: d1Zpk, to: storage, pan }) // Set PIN
  console.log(body.type, set.kid, Buffer.from(set.block).equals(stored)) // ISO0 PEK-TEST true
} finally {
  await backend.close()
}
