/** An issuer to try the verbs with: a software backend, published test keys, and D1's part played by the issuer itself. */
import { generateKeyPairSync } from 'node:crypto'
import type { Backend } from '../backend/backend.js'
import type { Key } from '../backend/key.js'
import { softwareBackend } from '../backend/software/software.js'
import { BackendError } from '../base/errors.js'
import type { P256PublicJwk } from '../primitives/p256.js'

/** What {@link createTestIssuer} makes. */
export interface TestIssuer {
  readonly backend: Backend
  /** `PEK-TEST`, the issuer's own `pin-encryption` key. */
  readonly storage: Key
  /** `ZPK-TEST`, the `pin-encryption` key shared with D1. */
  readonly d1Zpk: Key
  /** `JWE-TEST`, the issuer's P-256 key: new for each test issuer. */
  readonly jweKey: Key
  /** The public key that stands for D1's: `JWE-TEST` again, so that the issuer can open what it sealed. */
  readonly d1PublicJwk: P256PublicJwk & { readonly kid: string }
}

/** Printed in many places, and therefore no secret at all. */
const PUBLISHED = { zpk: '0123456789ABCDEFFEDCBA9876543210', pek: '89E88CF7931444F334BD7547FC3F380C' }

/**
 * An issuer with everything the PIN calls need, for trying and for tests: 2-key TDEA keys that are published, so never
 * for a PIN that somebody uses. Close its backend when you are done.
 *
 * Errors: `ERR_UNSUPPORTED` (a runtime that has neither TDEA nor WebAssembly).
 *
 * @example
 * ```ts
 * const { backend, storage } = await createTestIssuer()
 * const block = await encipherPin({ pin, pan, format: 0, key: storage })
 * await backend.close()
 * ```
 */
export async function createTestIssuer(): Promise<TestIssuer> {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const tdea = { usage: 'pin-encryption', algorithm: 'tdea-2key' } as const
  const backend = await softwareBackend({
    keys: [
      { kid: 'ZPK-TEST', ...tdea, material: PUBLISHED.zpk },
      { kid: 'PEK-TEST', ...tdea, material: PUBLISHED.pek },
      { kid: 'JWE-TEST', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: privateKey },
    ],
  })
  const d1Zpk = await backend.bind({ kid: 'ZPK-TEST', usage: 'pin-encryption', hostDecipher: true })
  const storage = await backend.bind({ kid: 'PEK-TEST', usage: 'pin-encryption', hostDecipher: true })
  const jweKey = await backend.bind({ kid: 'JWE-TEST', usage: 'jwe-key-agreement' })
  const { publicJwk } = jweKey
  if (publicJwk === undefined) throw new BackendError('ERR_BACKEND_FAILED', 'the backend gave no public key')
  return { backend, storage, d1Zpk, jweKey, d1PublicJwk: { ...publicJwk, kid: jweKey.kid } }
}
