import { readFile } from 'node:fs/promises'
import type { Backend } from 'issuer-pin-crypto'
import { type Pkcs11Options, pkcs11Backend } from 'issuer-pin-crypto/pkcs11'
import { softwareBackend } from 'issuer-pin-crypto/software'
import { TEST_KEYS } from './test-keys.js'

const { PKCS11_MODULE, PKCS11_TOKEN = 'issuer', PKCS11_PIN_FILE = '/run/secrets/hsm-pin' } = process.env

/** The token, told by its label. Its PIN is read late, for each login, and is not kept. */
export const TOKEN: Pkcs11Options = {
  module: PKCS11_MODULE ?? '',
  token: PKCS11_TOKEN,
  pin: async () => (await readFile(PKCS11_PIN_FILE, 'utf8')).trim(),
  sessions: { max: 4 },
}

/** The one statement that changes. Nothing below it knows where the keys live. */
export function openKeys(): Promise<Backend> {
  return PKCS11_MODULE === undefined ? softwareBackend({ keys: TEST_KEYS }) : pkcs11Backend(TOKEN)
}
