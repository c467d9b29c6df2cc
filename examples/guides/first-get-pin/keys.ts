import { generateKeyPairSync, randomBytes } from 'node:crypto'
import type { Backend } from 'issuer-pin-crypto'
import { softwareBackend } from 'issuer-pin-crypto/software'

/** The issuer's keys. The ZPK is the one that D1 has too; in life it comes out of a key ceremony. */
export function openIssuerKeys(zpk: Uint8Array): Promise<Backend> {
  return softwareBackend({
    keys: [
      { kid: 'ZPK-D1', usage: 'pin-encryption', algorithm: 'tdea-2key', material: zpk },
      { kid: 'PEK-STORE', usage: 'pin-encryption', algorithm: 'tdea-2key', material: randomBytes(16) },
      {
        kid: 'ISSUER-JWE',
        usage: 'jwe-key-agreement',
        algorithm: 'ec-p256',
        material: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey,
      },
    ],
  })
}
