import { openKeyStore } from 'issuer-pin-crypto/pkcs11'
import { TOKEN } from './open-keys.js'
import { TEST_KEYS } from './test-keys.js'

/** The same test keys, in the token. Clear keys go in only where `importClearKeys` says so, and no real key is ever clear. */
await using store = await openKeyStore({ ...TOKEN, importClearKeys: true })
for (const key of TEST_KEYS) {
  const hostDecipher = key.usage === 'pin-encryption'
  const { checkValue } = await store.importKey({ ...key, hostDecipher })
  console.log(key.kid, checkValue?.value)
}
