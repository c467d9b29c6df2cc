import { afterAll, describe, test } from 'vitest'
import type { Capabilities, KeyQuery, MacRequest, MaybePromise } from '../../src/backend/driver.js'
import { openBackend } from '../../src/backend/front.js'
import { nodeEngine } from '../../src/backend/software/engine-node.js'
import { type ReadyKey, type SoftwareKey, storeKeys } from '../../src/backend/software/keys.js'
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

/** And one that has CMAC alone. */
class WithCmacAlone extends SoftwareDriver {
  override capabilities(): Capabilities {
    const { macs, ...others } = super.capabilities()
    return { ...others, macs: { ...macs, 'iso9797-1-alg1': 'none', 'iso9797-1-alg3': 'none' } }
  }

  override mac(ref: ReadyKey, request: MacRequest, message: Uint8Array): MaybePromise<Uint8Array> {
    if (request.algorithm.startsWith('iso9797')) throw UNSUPPORTED
    return super.mac(ref, request, message)
  }
}

const UNSUPPORTED = new BackendError('ERR_UNSUPPORTED', 'this backend does not do that')

/**
 * A token that holds PIN keys and does little else: it says so, and refuses the rest with a code. It looks at a key when
 * that is bound, so of two by one value the second is refused then.
 */
class WithPinsAlone extends SoftwareDriver {
  readonly #keys: readonly SoftwareKey[]
  readonly #asked = new Set<string>()

  constructor(keys: readonly SoftwareKey[]) {
    super(storeKeys([]), nodeEngine)
    this.#keys = keys
  }

  override find(query: KeyQuery): ReturnType<SoftwareDriver['find']> {
    this.#asked.add(query.kid)
    const keys = storeKeys(this.#keys.filter(({ kid }) => this.#asked.has(kid)))
    return new SoftwareDriver(keys, nodeEngine).find(query)
  }

  override capabilities(): Capabilities {
    const macs = {
      'iso9797-1-alg1': 'none',
      'iso9797-1-alg3': 'none',
      cmac: 'none',
      'hmac-sha256': 'none',
    } as const
    return { ...super.capabilities(), macs, keyAgreement: 'none', signing: 'none', derivation: 'none' }
  }

  override mac(): never {
    throw UNSUPPORTED
  }

  override deriveContentKey(): never {
    throw UNSUPPORTED
  }

  override openContent(): never {
    throw UNSUPPORTED
  }

  override sign(): never {
    throw UNSUPPORTED
  }
}

const DRIVERS = {
  'without CMAC': (keys: readonly SoftwareKey[]) => new WithoutCmac(storeKeys(keys), nodeEngine),
  'with CMAC alone': (keys: readonly SoftwareKey[]) => new WithCmacAlone(storeKeys(keys), nodeEngine),
  'with PIN keys alone': (keys: readonly SoftwareKey[]) => new WithPinsAlone(keys),
}

for (const [name, make] of Object.entries(DRIVERS)) {
  const contract = backendContract({
    open: async (keys, opener) => {
      const declared = keys.map(({ hostDecipher: _, derives: _derives, ...key }) => key)
      return openBackend(make(declared), opener)
    },
  })
  describe(name, () => {
    test.each(contract.cases.map(({ name, run }) => [name, run] as const))('%s', (_name, run) => run())
    afterAll(() => contract.close())
  })
}
