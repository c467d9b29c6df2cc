export {
  type BackendContract,
  backendContract,
  type ContractCase,
  type ContractHarness,
} from './contract.js'
export { CONTRACT_KEYS, type ContractKey } from './contract-keys.js'
