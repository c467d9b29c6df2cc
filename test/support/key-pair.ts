import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'

/**
 * A new key pair whose halves may be exported as JWKs. Those of `generateKeyPairSync` may not: Node (20.20) holds a key's lock
 * while it makes a JWK of it, and if the collector then finds the job that generated the key, which takes the same lock, the process
 * stands still for ever: once in some thousand exports.
 */
export function ecKeyPair(namedCurve = 'P-256'): {
  readonly privateKey: KeyObject
  readonly publicKey: KeyObject
} {
  const { privateKey: der } = generateKeyPairSync('ec', {
    namedCurve,
    privateKeyEncoding: { format: 'der', type: 'sec1' },
    publicKeyEncoding: { format: 'der', type: 'spki' },
  })
  const privateKey = createPrivateKey({ key: der, format: 'der', type: 'sec1' })
  return { privateKey, publicKey: createPublicKey(privateKey) }
}
