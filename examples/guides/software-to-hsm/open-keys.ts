import { readFile } from 'node:fs/promises'
import type { Backend } from 'issuer-pin-crypto'
import { pkcs11Backend } from 'issuer-pin-crypto/pkcs11'
import { softwareBackend } from 'issuer-pin-crypto/software'
import { TEST_KEYS } from './test-keys.js'

/** The one statement that changes. Nothing below it knows where the keys live. */
export function openKeys(environment: NodeJS.ProcessEnv = process.env): Promise<Backend> {
  const { PKCS11_MODULE, PKCS11_TOKEN = 'issuer', PKCS11_PIN_FILE = '/run/secrets/hsm-pin' } = environment
  if (PKCS11_MODULE === undefined) return softwareBackend({ keys: TEST_KEYS })
  return pkcs11Backend({
    module: PKCS11_MODULE,
    token: PKCS11_TOKEN,
    pin: async () => (await readFile(PKCS11_PIN_FILE, 'utf8')).trim(),
    sessions: { max: 4 },
  })
}
