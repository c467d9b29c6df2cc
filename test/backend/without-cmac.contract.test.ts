import { afterAll, test } from 'vitest'
import type { Capabilities, MacRequest, MaybePromise } from '../../src/backend/driver.js'
import { openBackend } from '../../src/backend/front.js'
import { nodeEngine } from '../../src/backend/software/engine-node.js'
import { type ReadyKey, storeKeys } from '../../src/backend/software/keys.js'
import { SoftwareDriver } from '../../src/backend/software/software.js'
import { BackendError } from '../../src/base/errors.js'
import { backendContract } from '../../src/testing.js'

/** Many tokens have no CMAC: such a backend says so, refuses it with a code, and keeps the contract otherwise. */
class WithoutCmac extends SoftwareDriver {
  override capabilities(): Capabilities {
    const { macs, ...others } = super.capabilities()
    return { ...others, macs: { ...macs, cmac: 'none' } }
  }

  override mac(ref: ReadyKey, request: MacRequest, message: Uint8Array): MaybePromise<Uint8Array> {
    if (request.algorithm === 'cmac') throw new BackendError('ERR_UNSUPPORTED', 'this backend has no CMAC')
    return super.mac(ref, request, message)
  }
}

const contract = backendContract({
  open: async (keys, opener) => {
    const declared = keys.map(({ hostDecipher: _, derives: _derives, ...key }) => key)
    return openBackend(new WithoutCmac(storeKeys(declared), nodeEngine), opener)
  },
})
test.each(contract.cases.map(({ name, run }) => [name, run] as const))('%s', (_name, run) => run())
afterAll(() => contract.close())
