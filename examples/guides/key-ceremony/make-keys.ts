import { openKeyStore, type Pkcs11Options } from 'issuer-pin-crypto/pkcs11'

/** Has the token make the issuer's own keys, and returns the lines for the ceremony's record. */
export async function makeKeys(token: Pkcs11Options, year: number): Promise<string[]> {
  await using store = await openKeyStore(token)
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
  const keys = await store.listKeys()
  return keys.map(({ kid, id, algorithm, checkValue, problem }) =>
    [kid, algorithm, checkValue?.method, checkValue?.value, `CKA_ID ${id}`, problem ?? 'fit for use'].join(
      ', ',
    ),
  )
}
