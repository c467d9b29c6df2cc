/**
 * The PKCS#11 backend, and the key store that makes keys with the attributes their usage needs. Loads the optional peer
 * `pkcs11js` when a token is opened.
 *
 * @module issuer-pin-crypto/pkcs11
 */
export { pkcs11Backend } from './backend/pkcs11/backend.js'
export { Pkcs11Error, type Pkcs11ErrorKind } from './backend/pkcs11/binding/errors.js'
export {
  type KeyStore,
  type KeyStoreOptions,
  type ListedKey,
  openKeyStore,
  type StoredTokenKey,
} from './backend/pkcs11/key-store.js'
export type { ImportedKey, NewKey } from './backend/pkcs11/keys/key-making.js'
export type { KeyLocation } from './backend/pkcs11/keys/key-table.js'
export type { RetailMacVendor } from './backend/pkcs11/mechanisms/vendors.js'
export type { Pkcs11Options } from './backend/pkcs11/session/options.js'
export type { TokenQuery } from './backend/pkcs11/session/token.js'
