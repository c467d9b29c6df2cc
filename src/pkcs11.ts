/**
 * The PKCS#11 backend, and the key store that makes keys with the attributes their usage needs. Loads the optional peer
 * `pkcs11js` when a token is opened.
 *
 * @module issuer-pin-crypto/pkcs11
 */
export { pkcs11Backend } from './backend/pkcs11/backend.js'
export { Pkcs11Error, type Pkcs11ErrorKind } from './backend/pkcs11/errors.js'
export type { ImportedKey, NewKey } from './backend/pkcs11/key-making.js'
export {
  type KeyStore,
  type KeyStoreOptions,
  type ListedKey,
  openKeyStore,
  type StoredTokenKey,
} from './backend/pkcs11/key-store.js'
export type { KeyLocation } from './backend/pkcs11/keys.js'
export type { Pkcs11Options } from './backend/pkcs11/options.js'
export type { TokenQuery } from './backend/pkcs11/token.js'
export type { RetailMacVendor } from './backend/pkcs11/vendors.js'
