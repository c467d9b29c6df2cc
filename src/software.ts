/**
 * The software backend: keys in this process, for tests, development and integration. Not a secure cryptographic device.
 *
 * @module issuer-pin-crypto/software
 */
export type { EngineChoice } from './backend/software/engine.js'
export type { SoftwareKey } from './backend/software/keys.js'
export { type SoftwareBackendOptions, softwareBackend } from './backend/software/software.js'
export type { TdeaCipher, TdeaEngine } from './backend/software/tdea-engine.js'
export type { JsonWebKeyLike, KeyMaterial } from './key/material.js'
