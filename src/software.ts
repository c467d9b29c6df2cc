export type { EngineChoice } from './backend/software/engine.js'
export type { SoftwareKey } from './backend/software/keys.js'
export { type SoftwareBackendOptions, softwareBackend } from './backend/software/software.js'
export type { JsonWebKeyLike, KeyMaterial } from './key/material.js'
