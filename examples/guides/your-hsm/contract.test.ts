import type { Backend, OpenerOptions } from 'issuer-pin-crypto'
import { openKeyStore, pkcs11Backend } from 'issuer-pin-crypto/pkcs11'
import { backendContract, CONTRACT_KEYS, type ContractKey } from 'issuer-pin-crypto/testing'
import { afterAll, test } from 'vitest'
import { TOKEN } from './token.js'

// Two empty test tokens (or partitions): one keeps its keys for the whole run, the other is emptied for each case.
const SHARED = { ...TOKEN, token: 'ipc-contract-shared', composedMac: true }
const SCRATCH = { ...TOKEN, token: 'ipc-contract-scratch', composedMac: true }

const contract = backendContract({
  open: (keys, opener) => provision({ ...(keys === CONTRACT_KEYS ? SHARED : SCRATCH), ...opener }, keys),
})
for (const { name, run } of contract.cases) test(name, run, 60_000)
afterAll(() => contract.close())

/** Empties the token and puts exactly these published test keys into it. */
async function provision(
  options: typeof SHARED & OpenerOptions,
  keys: readonly ContractKey[],
): Promise<Backend> {
  {
    await using store = await openKeyStore({ ...options, importClearKeys: true })
    for (const { kid, id } of await store.listKeys()) await store.deleteKey({ kid, id })
    for (const key of keys) await store.importKey(key)
  }
  return pkcs11Backend(options)
}
