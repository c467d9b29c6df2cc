/** Child of the heap test: brings the canary keys into the token, in a process that is gone before the other starts. */
import { openKeyStore } from '../../src/pkcs11.js'
import { readSecrets } from './secrets.js'

const { module, token, userPin, tdea, jwk } = readSecrets()
await using store = await openKeyStore({
  module,
  token,
  pin: () => userPin,
  importClearKeys: true,
  composedMac: true,
})
await store.importKey({
  kid: 'PEK',
  usage: 'pin-encryption',
  algorithm: 'tdea-2key',
  material: tdea.pin,
  hostDecipher: true,
})
await store.importKey({ kid: 'MAC', usage: 'retail-mac', algorithm: 'tdea-2key', material: tdea.mac })
await store.importKey({ kid: 'JWE', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: jwk })
