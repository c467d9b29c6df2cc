/**
 * The backend contract as executable cases, for any test runner: each case is a name and an async function that
 * throws (from `node:assert`) where the backend breaks the contract. The same cases run against the software
 * backend with both engines and against PKCS#11 tokens.
 */
import type { Backend } from '../backend/backend.js'
import { bindCases } from './contract-bind.js'
import { derivationCases } from './contract-derivation.js'
import {
  CONTRACT_KEYS,
  type ContractCase,
  type ContractContext,
  type ContractHarness,
} from './contract-helpers.js'
import { inputCases } from './contract-input.js'
import { keyBlockCases } from './contract-key-blocks.js'
import { lifeCases } from './contract-life.js'
import { operationCases } from './contract-operations.js'
import { signingCases } from './contract-signing.js'
import { verificationCases } from './contract-verification.js'

/** The cases, and the call that closes the backend they share. */
export interface BackendContract {
  readonly cases: readonly ContractCase[]
  /** Closes the backend that the cases shared. */
  close(): Promise<void>
}

/**
 * The whole contract for one backend. Cases may run in any order, one at a time; one that fails throws node:assert's
 * error.
 *
 * @example
 * ```ts
 * import { backendContract } from 'issuer-pin-crypto/testing'
 *
 * const contract = backendContract({ open: (keys, options) => openMyBackend(keys, options) })
 * for (const { name, run } of contract.cases) test(name, run)
 * afterAll(() => contract.close())
 * ```
 */
export function backendContract(harness: ContractHarness): BackendContract {
  let shared: Promise<Backend> | undefined
  const context: ContractContext = {
    open: (keys, options) => harness.open(keys, options),
    shared: () => {
      shared ??= harness.open(CONTRACT_KEYS)
      return shared
    },
  }
  const cases = [
    bindCases,
    operationCases,
    verificationCases,
    derivationCases,
    signingCases,
    keyBlockCases,
    inputCases,
    lifeCases,
  ].flatMap(make => make(context))
  return {
    cases,
    close: async () => {
      const backend = await shared
      await backend?.close()
    },
  }
}
