/**
 * The PKCS#11 backend, and the key store that makes keys with the attributes their usage needs. Loads the optional peer
 * `pkcs11js` when a token is opened.
 *
 * @module issuer-pin-crypto/pkcs11
 */
export { pkcs11Backend } from './backend/pkcs11/backend.js'
export type { BindingChoice } from './backend/pkcs11/binding/binding.js'
export { Pkcs11Error, type Pkcs11ErrorKind } from './backend/pkcs11/binding/errors.js'
export {
  type GroupEvent,
  type MemberState,
  type Pkcs11GroupOptions,
  pkcs11Group,
} from './backend/pkcs11/group.js'
export {
  type AssembledKey,
  type Combined,
  type KeyStore,
  type KeyStoreOptions,
  type ListOptions,
  openKeyStore,
  type StoredTokenKey,
  type WrappedKey,
} from './backend/pkcs11/key-store.js'
export type { Acceptance } from './backend/pkcs11/keys/key-checks.js'
export type { ListedKey } from './backend/pkcs11/keys/key-listing.js'
export type { ImportedKey, NewKey, Wrapping } from './backend/pkcs11/keys/key-making.js'
export type { KeyLocation } from './backend/pkcs11/keys/key-table.js'
export type { RetailMacVendor, Vendor } from './backend/pkcs11/mechanisms/plan.js'
export type { ProbeKind } from './backend/pkcs11/probe/known-answers.js'
export type { BackendEvent, BackendState, Pkcs11Options } from './backend/pkcs11/session/options.js'
export type { LoginPolicy, TokenQuery } from './backend/pkcs11/session/token.js'
export {
  type CeremonyEntry,
  type CeremonyRecord,
  type CeremonyResult,
  type ImportedKeyBlock,
  type ImportKeyBlockInput,
  importKeyBlock,
  type KeyCeremonyInput,
  keyCeremony,
  type OpenCeremonyRecordInput,
  openCeremonyRecord,
  type SealCeremonyRecordInput,
  sealCeremonyRecord,
} from './key-block/ceremony.js'
