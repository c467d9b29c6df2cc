/**
 * The contracts of backends and stores as executable cases, for whoever writes one.
 *
 * @module issuer-pin-crypto/testing
 */
export {
  changeCounterStoreContract,
  type StoreContractCase,
  type StoreHarness,
} from '../seccos/change-counter-contract.js'
export {
  type BackendContract,
  backendContract,
  type ContractCase,
  type ContractHarness,
} from './contract.js'
export { CONTRACT_KEYS, type ContractKey } from './contract-keys.js'
export {
  type IssuerStoreContext,
  type IssuerStoreHarness,
  issuerStoreContract,
} from './store-contract.js'
