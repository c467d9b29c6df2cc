/**
 * The contracts of backends and stores as executable cases, for whoever writes one.
 *
 * @module issuer-pin-crypto/testing
 */

export {
  noSuchCard,
  readCard,
  readPinBlock,
  readPrw,
  readRef,
  requireIssuerId,
  requireState,
  storeClosed,
} from './stores/records.js'
export {
  changeCounterStoreContract,
  type StoreContractCase,
  type StoreHarness,
} from './testing/change-counter-contract.js'
export { type BackendContract, backendContract } from './testing/contract.js'
export type { ContractCase, ContractHarness } from './testing/contract-helpers.js'
export { CONTRACT_KEYS, type ContractKey } from './testing/contract-helpers.js'
export {
  createTestIssuer,
  type MakeSeccosSetPinRequestInput,
  makeSeccosSetPinRequest,
  type TestIssuer,
} from './testing/issuer.js'
export { type IssuerStoreHarness, issuerStoreContract } from './testing/store-contract.js'
export type { IssuerStoreContext } from './testing/store-contract-cards.js'
