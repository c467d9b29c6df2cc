import { readFile } from 'node:fs/promises'
import { openKeyStore } from 'issuer-pin-crypto/pkcs11'

const { PKCS11_MODULE = '', PKCS11_TOKEN = 'issuer', PKCS11_PIN_FILE = '/run/secrets/hsm-pin' } = process.env
const year = new Date().getFullYear()

/** The token makes the issuer's own keys; what is printed are the lines for the ceremony's record. */
await using store = await openKeyStore({
  module: PKCS11_MODULE,
  token: PKCS11_TOKEN,
  pin: async () => (await readFile(PKCS11_PIN_FILE, 'utf8')).trim(),
})
await store.generateKey({
  kid: `PEK-STORE-${year}`,
  usage: 'pin-encryption',
  algorithm: 'tdea-2key',
  // CKA_DECRYPT, for translations that are checked on the host. Leave it out where the token re-enciphers inside.
  hostDecipher: true,
})
await store.generateKey({
  kid: `ISSUER-JWE-${year}`,
  usage: 'jwe-key-agreement',
  algorithm: 'ec-p256',
})
for (const { kid, id, algorithm, checkValue, problem } of await store.listKeys()) {
  if (!kid.endsWith(`-${year}`)) continue
  const { method, value } = checkValue ?? {}
  console.log([kid, algorithm, method, value, `CKA_ID ${id}`, problem ?? 'fit for use'].join(', '))
}
