import type { Backend } from 'issuer-pin-crypto'
import { softwareBackend } from 'issuer-pin-crypto/software'
import type { Folder } from './folder.js'
import { issuerKeys, ownMaterial, sharedMaterial } from './keys.js'

/** The test keys of the folder, in this process's memory. A service has an HSM here, and nothing else changes. */
export function openSoftwareKeys(folder: Folder, jweKid: string): Promise<Backend> {
  return softwareBackend({
    keys: issuerKeys(jweKid).map(({ file, ...key }) => ({
      ...key,
      material: file === undefined ? ownMaterial(folder, key.kid) : sharedMaterial(folder, file),
    })) as Parameters<typeof softwareBackend>[0]['keys'],
  })
}
