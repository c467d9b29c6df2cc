import type { Backend } from 'issuer-pin-crypto'
import { softwareBackend } from 'issuer-pin-crypto/software'
import type { Folder } from './folder.js'
import { ISSUER_KEYS, ownMaterial, sharedMaterial } from './keys.js'

/** The test keys of the folder, in this process's memory. A service has an HSM here, and nothing else changes. */
export function openSoftwareKeys(folder: Folder): Promise<Backend> {
  return softwareBackend({
    keys: ISSUER_KEYS.map(({ file, ...key }) => ({
      ...key,
      material: file === undefined ? ownMaterial(folder, key.kid) : sharedMaterial(folder, file),
    })) as Parameters<typeof softwareBackend>[0]['keys'],
  })
}
